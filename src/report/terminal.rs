//! The tables that a person decides from, in the terminal and in `summary.md`.

use super::headline::{bytes, count, seconds};
use super::result::{Case, Metric, RunResult};
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

const FRESHNESS: &[Figure] = &[
    figure("age, mean", "freshness.age.mean", seconds),
    figure("age, p99", "freshness.age.p99", seconds),
    figure("age without lost commits, mean", "freshness.age_without_lost.mean", seconds),
    figure("D + P/2 (predicted mean age)", "freshness.age.predicted_mean", seconds),
    figure("commit lag, p50", "freshness.commit_lag.p50", seconds),
    figure("commit lag, p99", "freshness.commit_lag.p99", seconds),
    figure("commit lag, max", "freshness.commit_lag.max", seconds),
    Figure { label: "time within 100 ms", id: "freshness.within_slo", theta_s: Some(0.1), say: percent },
    Figure { label: "time within 1 s", id: "freshness.within_slo", theta_s: Some(1.0), say: percent },
    figure("staleness of a query, p50", "freshness.query_staleness.p50", seconds),
    figure("reaction (staleness + query), p50", "freshness.reaction.p50", seconds),
];

const COST: &[Figure] = &[
    figure("rows missing", "consistency.missing", count),
    figure("rows extra", "consistency.extra", count),
    figure("rows wrong", "consistency.wrong", count),
    figure("torn or broken reads per 1,000", "consistency.torn_reads", count),
    figure("changes/s at the source", "throughput.changes_per_s", count),
    figure("source commit, p50 from intended", "source.commit_latency.p50", seconds),
    figure("source commit, p99 from intended", "source.commit_latency.p99", seconds),
    figure("  p99 against the control run", "cost.source_overhead", times),
    figure("CPU of following, 1,000 changes", "cost.cpu_s_per_1k_changes", seconds),
    figure("CPU of the source, 1,000 changes", "cost.source_cpu_s_per_1k_changes", seconds),
    figure("bytes read for a change", "cost.read_bytes_per_change", bytes),
    figure("bytes written for a change", "cost.write_bytes_per_change", bytes),
    figure("write amplification", "cost.write_amplification", times),
    figure("peak memory", "cost.peak_rss_bytes", bytes),
    figure("measuring, share of all CPU", "cost.measuring_share", percent),
];

fn percent(value: f64) -> String {
    format!("{:.1} %", value * 100.0)
}

fn times(value: f64) -> String {
    format!("{value:.2}x")
}

fn find<'a>(case: &'a Case, figure: &Figure) -> Option<&'a Metric> {
    case.metrics.iter().find(|metric| metric.id == figure.id && metric.theta_s == figure.theta_s)
}

fn said(case: &Case, figure: &Figure) -> String {
    match find(case, figure) {
        Some(metric) => match metric.value {
            Some(value) if metric.lower_bound => format!("> {}", (figure.say)(value)),
            Some(value) => (figure.say)(value),
            None => "-".to_owned(),
        },
        None => "-".to_owned(),
    }
}

/// The rows of a table for which at least one case has a figure.
fn shown<'a>(cases: &'a [&'a Case], figures: &'a [Figure]) -> impl Iterator<Item = &'a Figure> {
    figures.iter().filter(|figure| cases.iter().any(|case| find(case, figure).is_some()))
}

fn table(title: &str, cases: &[&Case], figures: &[Figure], color: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    if color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let bold = |text: &str| if color { Cell::new(text).add_attribute(Attribute::Bold) } else { Cell::new(text) };
    let mut header = vec![bold(title)];
    for case in cases {
        let cell = bold(&case.name).set_alignment(CellAlignment::Right);
        header.push(if color && !case.validation.passed { cell.fg(Color::Red) } else { cell });
    }
    table.set_header(header);
    for figure in shown(cases, figures) {
        let mut row = vec![Cell::new(figure.label)];
        row.extend(cases.iter().map(|case| Cell::new(said(case, figure)).set_alignment(CellAlignment::Right)));
        table.add_row(row);
    }
    table
}

fn followers(result: &RunResult) -> Vec<&Case> {
    result.strategies.iter().filter(|case| case.name != "control").collect()
}

/// The whole result for a terminal: failures first, a sentence a strategy, then freshness and cost side by side.
pub fn human(result: &RunResult, color: bool) -> String {
    let mut out = String::new();
    for line in verdicts(result) {
        let _ = writeln!(out, "{line}");
    }
    let config = &result.config;
    let _ = writeln!(
        out,
        "{} on {}: {} rows, {} transactions/s offered by {} clients for {}, batches every {}, seed {}\n",
        config.workload,
        config.source,
        count(config.rows as f64),
        count(config.rate),
        config.clients,
        seconds(config.duration_s),
        seconds(config.batch_interval_s),
        config.seed
    );
    for case in &result.strategies {
        let name = if color { format!("\u{1b}[1m{}\u{1b}[0m", case.name) } else { case.name.clone() };
        let _ = writeln!(out, "{name}: {}", case.sentence);
    }
    let followers = followers(result);
    if !followers.is_empty() {
        let _ = writeln!(out, "\n{}", table("Freshness (warehouse)", &followers, FRESHNESS, color));
    }
    let all: Vec<&Case> = result.strategies.iter().collect();
    let _ = writeln!(out, "\n{}", table("Consistency and cost", &all, COST, color));
    for warning in &result.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

/// What has to be said before any figure: strategies that broke their promise.
fn verdicts(result: &RunResult) -> Vec<String> {
    let mut lines = Vec::new();
    for case in result.strategies.iter().filter(|case| !case.validation.passed) {
        lines.push(format!("VALIDATION FAILED: {}: its figures are not worth comparing", case.name));
        for failure in &case.validation.failures {
            lines.push(format!("  {failure}"));
        }
    }
    if !result.complete {
        lines.push(
            "INCOMPLETE: this run was interrupted or is still going on; it holds the cases that finished".to_owned(),
        );
    }
    lines
}

/// The same for `summary.md`.
pub fn markdown(result: &RunResult) -> String {
    let mut out = format!("# {}\n\n", result.run_id);
    for line in verdicts(result) {
        let _ = writeln!(out, "**{}**\n", line.trim());
    }
    for case in &result.strategies {
        let _ = writeln!(out, "* **{}**: {}", case.name, case.sentence);
    }
    let followers = followers(result);
    markdown_table(&mut out, "Freshness (warehouse)", &followers, FRESHNESS);
    let all: Vec<&Case> = result.strategies.iter().collect();
    markdown_table(&mut out, "Consistency and cost", &all, COST);
    let config = &result.config;
    let env = &result.env;
    let _ = writeln!(
        out,
        "\nMeasured on {} ({} cores, {}), {}, {}; freshbench {} ({}). Run it again: `{}`",
        env.cpu_model,
        env.cores,
        bytes(env.mem_bytes as f64),
        env.fs,
        env.os,
        env.freshbench,
        env.profile,
        config.command
    );
    if !result.warnings.is_empty() {
        out.push('\n');
    }
    for warning in &result.warnings {
        let _ = writeln!(out, "* Warning: {warning}");
    }
    out
}

fn markdown_table(out: &mut String, title: &str, cases: &[&Case], figures: &[Figure]) {
    if cases.is_empty() {
        return;
    }
    let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    let _ = writeln!(out, "\n| {title} | {} |", names.join(" | "));
    let _ = writeln!(out, "|---|{}", "---:|".repeat(cases.len()));
    for figure in shown(cases, figures) {
        let cells: Vec<String> = cases.iter().map(|case| said(case, figure)).collect();
        let _ = writeln!(out, "| {} | {} |", figure.label.trim(), cells.join(" | "));
    }
}
