//! The tables that a person decides from, in the terminal and in `summary.md`.

use super::headline::{bytes, count, seconds, sinks};
use super::result::{Case, Config, Metric, RunResult};
use crate::foreign::{markdown as markdown_text, markdown_code, terminal as safe};
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use std::fmt::Write;

/// How one row of a table is called, found and said.
struct Figure {
    label: &'static str,
    id: &'static str,
    theta_s: Option<f64>,
    say: fn(f64) -> String,
}

const fn figure(label: &'static str, id: &'static str, say: fn(f64) -> String) -> Figure {
    Figure { label, id, theta_s: None, say }
}

/// At each sink, for those who read it from other processes: first where they are the only ones.
const READABLE: &[Figure] = &[
    figure("readable by others, p50", "freshness.readable_lag.p50", seconds),
    figure("readable by others, p99", "freshness.readable_lag.p99", seconds),
    figure("readable by others, max", "freshness.readable_lag.max", seconds),
    figure("age of what others read, mean", "freshness.readable_age.mean", seconds),
    figure("age of what others read, p99", "freshness.readable_age.p99", seconds),
    Figure {
        label: "time others read within 1 s",
        id: "freshness.readable_within_slo",
        theta_s: Some(1.0),
        say: percent,
    },
];

/// At each sink; the rows that no strategy has there are left out.
const FRESHNESS: &[Figure] = &[
    figure("age, mean", "freshness.age.mean", seconds),
    figure("age, p99", "freshness.age.p99", seconds),
    figure("age without lost commits, mean", "freshness.age_without_lost.mean", seconds),
    figure("D + P/2 (predicted mean age)", "freshness.age.predicted_mean", seconds),
    figure("commit lag, p50", "freshness.commit_lag.p50", seconds),
    figure("commit lag, p99", "freshness.commit_lag.p99", seconds),
    figure("commit lag, max", "freshness.commit_lag.max", seconds),
    figure("age without stalls, mean", "freshness.age_without_stalls.mean", seconds),
    figure("commit lag without stalls, p99", "freshness.commit_lag_without_stalls.p99", seconds),
    Figure { label: "time within 100 ms", id: "freshness.within_slo", theta_s: Some(0.1), say: percent },
    Figure { label: "time within 1 s", id: "freshness.within_slo", theta_s: Some(1.0), say: percent },
    figure("staleness of a query, p50", "freshness.query_staleness.p50", seconds),
    figure("reaction (staleness + query), p50", "freshness.reaction.p50", seconds),
    figure("torn or broken reads per 1,000", "consistency.torn_reads", count),
    figure("hits, share of reads", "cache.hit_share", percent),
    figure("stale reads, share of hits", "cache.stale_read_share", percent),
    figure("age of a key that is read, p99", "cache.key_age.p99", seconds),
];

/// At each sink: figures that are read together stand in one cell.
const AGREEMENT: &[(&str, &[Figure])] = &[
    (
        "rows missing / extra / wrong",
        &[
            figure("", "consistency.missing", count),
            figure("", "consistency.extra", count),
            figure("", "consistency.wrong", count),
        ],
    ),
    ("came apart, per million writes", &[figure("", "consistency.diverged", count)]),
    (
        "  raced: put right / for good",
        &[
            figure("", "consistency.diverged.race.transient", count),
            figure("", "consistency.diverged.race.permanent", count),
        ],
    ),
    (
        "  client died: put right / for good",
        &[
            figure("", "consistency.diverged.partial_failure.transient", count),
            figure("", "consistency.diverged.partial_failure.permanent", count),
        ],
    ),
];

/// Of the whole.
const BETWEEN: &[Figure] = &[figure("keys on which sinks disagree", "consistency.disagreements", count)];

const COST: &[Figure] = &[
    figure("changes/s at the source", "throughput.changes_per_s", count),
    figure("source commit, p50 from intended", "source.commit_latency.p50", seconds),
    figure("source commit, p99 from intended", "source.commit_latency.p99", seconds),
    figure("  p99 against the control run", "cost.source_overhead", times),
    figure("  p99 without stalls", "source.commit_latency_without_stalls.p99", seconds),
    figure("  the same against the control run", "cost.source_overhead_without_stalls", times),
    figure("stalls of freshbench itself", "harness.stalled_time", seconds),
    figure("rows/s of copies and batches", "throughput.rows_per_s", count),
    figure("CPU of following, cores", "cost.cpu_cores", count),
    figure("CPU of following, 1,000 changes", "cost.cpu_s_per_1k_changes", seconds),
    figure("CPU of the source, 1,000 changes", "cost.source_cpu_s_per_1k_changes", seconds),
    figure("CPU of its server, 1,000 changes", "cost.server_cpu_s_per_1k_changes", seconds),
    figure("CPU of its server, cores", "cost.server_cpu_share", count),
    figure("log that it kept for us, at the most", "cost.retained_log_bytes.max", bytes),
    figure("bytes read for a change", "cost.read_bytes_per_change", bytes),
    figure("bytes written for a change", "cost.write_bytes_per_change", bytes),
    figure("write amplification", "cost.write_amplification", times),
    figure("peak memory", "cost.peak_rss_bytes", bytes),
    figure("measuring, share of all CPU", "cost.measuring_share", percent),
];

/// One row of a table: a label, and what each case says.
struct Line {
    label: String,
    cells: Vec<String>,
}

/// One table: a title, and rows of the same cases.
struct Sheet {
    title: String,
    lines: Vec<Line>,
}

fn percent(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

fn times(value: f64) -> String {
    format!("{value:.2}x")
}

fn find<'a>(case: &'a Case, figure: &Figure, sink: Option<&str>) -> Option<&'a Metric> {
    let same =
        |metric: &&Metric| metric.id == figure.id && metric.theta_s == figure.theta_s && metric.sink.as_deref() == sink;
    case.metrics.iter().find(same)
}

fn said(case: &Case, figure: &Figure, sink: Option<&str>) -> String {
    match find(case, figure, sink) {
        Some(metric) => match metric.value {
            Some(value) if metric.lower_bound => format!("> {}", (figure.say)(value)),
            Some(value) => (figure.say)(value),
            None => "-".to_owned(),
        },
        None => "-".to_owned(),
    }
}

/// The figures that at least one case has, at a sink or (for `None`) of the whole.
fn lines(cases: &[&Case], figures: &[Figure], sink: Option<&str>) -> Vec<Line> {
    let known = |case: &&Case, figure: &Figure| find(case, figure, sink).is_some_and(|metric| metric.value.is_some());
    // Without a stall these say the same as their neighbours.
    let stalls = cases.iter().filter_map(|case| case.metric("harness.stalls"));
    // Of several repetitions the value is the median, and one of them may have had all the stalls.
    let stalled = stalls.flat_map(|metric| metric.value.iter().chain(&metric.reps)).any(|stalls| *stalls > 0.0);
    let of_stalls = |figure: &&Figure| figure.id.contains("_without_stalls") || figure.id.starts_with("harness.");
    let figures = figures.iter().filter(|figure| stalled || !of_stalls(figure));
    let shown = figures.filter(|figure| cases.iter().any(|case| known(case, figure)));
    shown
        .map(|figure| Line {
            label: figure.label.to_owned(),
            cells: cases.iter().map(|case| said(case, figure, sink)).collect(),
        })
        .collect()
}

/// Figures of a sink that are read together, in one cell a case.
fn joined(cases: &[&Case], sink: &str) -> Vec<Line> {
    let cell = |case: &Case, figures: &[Figure]| {
        let known = figures.iter().any(|figure| find(case, figure, Some(sink)).is_some());
        let said: Vec<String> = figures.iter().map(|figure| said(case, figure, Some(sink))).collect();
        if known { said.join(" / ") } else { "-".to_owned() }
    };
    let lines = AGREEMENT.iter().map(|(label, figures)| Line {
        label: format!("{sink}: {label}"),
        cells: cases.iter().map(|case| cell(case, figures)).collect(),
    });
    lines.filter(|line| line.cells.iter().any(|cell| cell != "-")).collect()
}

/// The tables about those that follow: freshness a sink, then whether they agree.
fn follower_sheets(cases: &[&Case], foreign: bool) -> Vec<Sheet> {
    let mut names: Vec<&str> = Vec::new();
    for sink in cases.iter().flat_map(|case| sinks(case)) {
        if !names.contains(&sink) {
            names.push(sink);
        }
    }
    let mut sheets: Vec<Sheet> = names
        .iter()
        .map(|sink| {
            let order = if foreign { [READABLE, FRESHNESS] } else { [FRESHNESS, READABLE] };
            let lines = order.into_iter().flat_map(|figures| lines(cases, figures, Some(sink))).collect();
            Sheet { title: format!("Freshness: {sink}"), lines }
        })
        .collect();
    let mut agreement: Vec<Line> = names.iter().flat_map(|sink| joined(cases, sink)).collect();
    agreement.extend(lines(cases, BETWEEN, None));
    sheets.push(Sheet { title: "Do they agree?".to_owned(), lines: agreement });
    sheets
}

/// Examples of what differs, a strategy and sink at a time: events that tell who raced, else the rows.
fn examples(cases: &[&Case]) -> Vec<String> {
    const EACH: usize = 2;
    let mut out = Vec::new();
    for case in cases {
        for divergence in &case.divergence {
            let told = divergence.examples.iter().take(EACH);
            out.extend(told.map(|example| format!("{}, {}: {example}", case.name, divergence.sink)));
        }
        if case.divergence.is_empty() {
            for sink in sinks(case) {
                let rows = case.validation.sinks.iter().filter(|entry| entry.sink == sink);
                let rows = rows.flat_map(|entry| entry.examples.iter()).take(EACH);
                out.extend(rows.map(|example| format!("{}, {sink}: {example}", case.name)));
            }
        }
    }
    out
}

/// Why figures are not there, a line a reason.
fn absent(cases: &[&Case]) -> Vec<String> {
    let mut said: Vec<(String, String, Vec<&str>)> = Vec::new();
    for case in cases {
        for metric in case.metrics.iter().filter(|metric| metric.value.is_none()) {
            // What leads the report already need not be said again.
            let Some(why) = metric.absent.as_ref().filter(|why| !case.caveats.contains(why)) else { continue };
            let place = metric.sink.as_ref().map_or(String::new(), |sink| format!(" ({sink})"));
            let what = format!("no {}{place}", metric.id);
            match said.iter_mut().find(|(known, because, _)| *known == what && because == why) {
                Some((_, _, names)) => names.push(&case.name),
                None => said.push((what, why.clone(), vec![&case.name])),
            }
        }
    }
    said.into_iter().map(|(what, why, names)| format!("{}: {what}: {why}", names.join(", "))).collect()
}

fn table(sheet: &Sheet, cases: &[&Case], color: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let bold = |text: &str| if color { Cell::new(text).add_attribute(Attribute::Bold) } else { Cell::new(text) };
    let mut header = vec![bold(&safe(&sheet.title))];
    for case in cases {
        let cell = bold(&safe(&case.name)).set_alignment(CellAlignment::Right);
        header.push(if color && !case.validation.passed { cell.fg(Color::Red) } else { cell });
    }
    table.set_header(header);
    for line in &sheet.lines {
        let mut row = vec![Cell::new(safe(&line.label))];
        row.extend(line.cells.iter().map(|cell| Cell::new(cell).set_alignment(CellAlignment::Right)));
        table.add_row(row);
    }
    table
}

fn followers(result: &RunResult) -> Vec<&Case> {
    result.strategies.iter().filter(|case| case.name != "control").collect()
}

/// One line about what was run: the load is the workload's, or somebody else's.
fn what_ran(config: &Config) -> String {
    if config.is_foreign() {
        return format!("{} on {}, followed for {}", config.workload, config.source, seconds(config.duration_s));
    }
    format!(
        "{} on {}: {} rows, {} transactions/s offered by {} clients for {}, batches every {}, seed {}",
        config.workload,
        config.source,
        count(config.rows as f64),
        count(config.rate),
        config.clients,
        seconds(config.duration_s),
        seconds(config.batch_interval_s),
        config.seed
    )
}

/// The whole result for a terminal: failures first, a sentence a strategy, then freshness and cost side by side.
pub fn human(result: &RunResult, color: bool) -> String {
    let mut out = String::new();
    for line in verdicts(result) {
        let _ = writeln!(out, "{}", safe(&line));
    }
    let config = &result.config;
    let _ = writeln!(out, "{}\n", safe(&what_ran(config)));
    for case in &result.strategies {
        let name = safe(&case.name);
        let name = if color { format!("\u{1b}[1m{name}\u{1b}[0m") } else { name.into_owned() };
        let _ = writeln!(out, "{name}: {}", safe(&case.sentence));
    }
    let followers = followers(result);
    if !followers.is_empty() {
        for sheet in follower_sheets(&followers, result.config.is_foreign()) {
            let _ = writeln!(out, "\n{}", table(&sheet, &followers, color));
        }
        for example in examples(&followers) {
            let _ = writeln!(out, "  {}", safe(&example));
        }
        for note in absent(&followers) {
            let _ = writeln!(out, "  {}", safe(&note));
        }
    }
    let all: Vec<&Case> = result.strategies.iter().collect();
    let _ = writeln!(out, "\n{}", table(&cost_sheet(&all), &all, color));
    for warning in result.other_warnings() {
        let _ = writeln!(out, "warning: {}", safe(warning));
    }
    out
}

fn cost_sheet(cases: &[&Case]) -> Sheet {
    Sheet { title: "Cost".to_owned(), lines: lines(cases, COST, None) }
}

/// What has to be said before any figure: strategies that broke their promise, and warnings that change how figures are read.
fn verdicts(result: &RunResult) -> Vec<String> {
    let mut lines = Vec::new();
    for case in result.strategies.iter().filter(|case| !case.validation.passed) {
        lines.push(format!("VALIDATION FAILED: {}: its figures are not worth comparing", case.name));
        for failure in &case.validation.failures {
            lines.push(format!("  {failure}"));
        }
    }
    lines.extend(result.caveats().map(|caveat| format!("CAUTION: {caveat}")));
    if !result.complete {
        lines.push(
            "INCOMPLETE: this run was interrupted or is still going on; it holds the cases that finished".to_owned(),
        );
    }
    lines
}

/// The same for `summary.md`.
pub fn markdown(result: &RunResult) -> String {
    let mut out = format!("# {}\n\n", markdown_text(&result.run_id));
    for line in verdicts(result) {
        let _ = writeln!(out, "**{}**\n", markdown_text(line.trim()));
    }
    for case in &result.strategies {
        let _ = writeln!(out, "* **{}**: {}", markdown_text(&case.name), markdown_text(&case.sentence));
    }
    let followers = followers(result);
    if !followers.is_empty() {
        for sheet in follower_sheets(&followers, result.config.is_foreign()) {
            markdown_table(&mut out, &sheet, &followers);
        }
        for (place, example) in examples(&followers).iter().chain(&absent(&followers)).enumerate() {
            let _ = writeln!(out, "{}* {}", if place == 0 { "\n" } else { "" }, markdown_text(example));
        }
    }
    let all: Vec<&Case> = result.strategies.iter().collect();
    markdown_table(&mut out, &cost_sheet(&all), &all);
    let config = &result.config;
    let env = &result.env;
    let _ = writeln!(
        out,
        "\nMeasured on {} ({} cores, {}), {}, {}; freshbench {} ({}). Run it again: {}",
        markdown_text(&env.cpu_model),
        env.cores,
        bytes(env.mem_bytes as f64),
        markdown_text(&env.fs),
        markdown_text(&env.os),
        markdown_text(&env.freshbench),
        markdown_text(&env.profile),
        markdown_code(&config.command)
    );
    if !result.warnings.is_empty() {
        out.push('\n');
    }
    for warning in result.other_warnings() {
        let _ = writeln!(out, "* Warning: {}", markdown_text(warning));
    }
    out
}

fn markdown_table(out: &mut String, sheet: &Sheet, cases: &[&Case]) {
    let names: Vec<String> = cases.iter().map(|case| markdown_text(&case.name)).collect();
    let _ = writeln!(out, "\n| {} | {} |", markdown_text(&sheet.title), names.join(" | "));
    let _ = writeln!(out, "|---|{}", "---:|".repeat(cases.len()));
    for line in &sheet.lines {
        let _ = writeln!(out, "| {} | {} |", markdown_text(line.label.trim()), line.cells.join(" | "));
    }
}
