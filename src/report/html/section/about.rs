//! Environment, configuration, definitions and warnings: what a reader must know before quoting a figure.

use super::section;
use crate::report::headline::{bytes, count};
use crate::report::html::block::{Block, Row, Section, Table};
use crate::report::html::say;
use crate::report::result::{Config, RunResult};

fn terms(pairs: &[(&str, String)]) -> Block {
    let known = pairs.iter().filter(|(_, value)| !value.is_empty());
    Block::Terms(known.map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn environment(run: &RunResult) -> Block {
    let env = &run.env;
    let commit = run.git.commit.as_deref().unwrap_or("not known");
    let dirty = if run.git.dirty == Some(true) { ", with uncommitted changes" } else { "" };
    let calibration = env.calibration.iter().map(|(name, value)| {
        let seconds = name.strip_suffix("_s");
        let said = seconds.map_or_else(|| say::short(*value), |_| say::seconds(*value));
        format!("{} {said}", seconds.unwrap_or(name).replace('_', " "))
    });
    terms(&[
        ("processor", format!("{}, {} cores", env.cpu_model, env.cores)),
        ("memory", bytes(env.mem_bytes as f64)),
        ("file system", env.fs.clone()),
        ("kernel", env.os.clone()),
        ("freshbench", format!("{} ({}), {}, allocator: {}", env.freshbench, env.profile, env.rustc, env.allocator)),
        ("source tree", format!("{commit}{dirty}")),
        ("measured before the run", calibration.collect::<Vec<_>>().join(", ")),
    ])
}

fn configuration(run: &RunResult) -> Block {
    let config = &run.config;
    let said = if config.is_foreign() { of_attach(config) } else { of_workload(config) };
    let mut terms: Vec<(&str, String)> = said;
    terms.extend([
        ("durability", config.durability.clone()),
        ("configuration", config.hash.clone()),
        ("run it again", config.command.clone()),
    ]);
    self::terms(&terms)
}

/// Where the transactions are somebody else's there is no seed, no client and no rate to tell.
fn of_attach(config: &Config) -> Vec<(&'static str, String)> {
    vec![
        ("followed", config.workload.clone()),
        ("record system", config.source.clone()),
        ("load", "the transactions of others, whatever they were".to_owned()),
        ("measured", say::seconds_tick(config.duration_s)),
        ("batches of full-refresh and incremental every", say::seconds_tick(config.batch_interval_s)),
        ("sinks", config.sinks.join(", ")),
    ]
}

fn of_workload(config: &Config) -> Vec<(&'static str, String)> {
    vec![
        ("workload", format!("{}, seed {}, stream {}", config.workload, config.seed, config.stream_digest)),
        (
            "record system",
            format!("{}, {} rows before the first transaction", config.source, count(config.rows as f64)),
        ),
        (
            "load",
            format!(
                "{} transactions/s offered, {} arrivals, {} clients",
                count(config.rate),
                config.arrivals,
                config.clients
            ),
        ),
        (
            "measured",
            format!(
                "{} after {} of warm-up, {} repetitions",
                say::seconds_tick(config.duration_s),
                say::seconds_tick(config.warmup_s),
                config.reps
            ),
        ),
        ("batches every", say::seconds_tick(config.batch_interval_s)),
        ("sinks", config.sinks.join(", ")),
        ("search index commits every", say::seconds_tick(config.search_interval_s)),
        ("cache", config.cache.clone()),
        (
            "dual write",
            format!(
                "clients think {} before each write, die with probability {}",
                say::seconds(config.think_s),
                config.crash_rate
            ),
        ),
    ]
}

fn phases(run: &RunResult) -> Table {
    let mut rows = Vec::new();
    for case in &run.strategies {
        rows.push(Row::group(case.name.clone()));
        rows.extend(case.phases.iter().map(|phase| {
            let none = || "-".to_owned();
            let size = |bytes: Option<u64>| bytes.map_or_else(none, |b| crate::report::headline::bytes(b as f64));
            Row::of(
                phase.name.clone(),
                [
                    say::seconds(phase.start_s),
                    say::seconds(phase.duration_s),
                    phase.rows.map_or_else(none, |rows| count(rows as f64)),
                    size(phase.bytes_in),
                    size(phase.bytes_out),
                    phase.cpu_s.map_or_else(none, say::seconds),
                ],
            )
        }));
    }
    Table::of("Stretches of work", &["", "from", "length", "rows", "bytes read", "bytes written", "CPU"], rows)
}

/// Every figure of a run, so that none is only in a chart.
fn all_figures(run: &RunResult) -> Table {
    let mut rows = Vec::new();
    for case in &run.strategies {
        rows.push(Row::group(case.name.clone()));
        rows.extend(case.metrics.iter().filter_map(|metric| {
            let value = metric.value?;
            let theta = metric.theta_s.map_or(String::new(), |theta| format!(", {}", say::seconds_tick(theta)));
            let more = if metric.lower_bound { "> " } else { "" };
            let range = super::interval(metric).map_or("-".to_owned(), |[low, high]| {
                format!("{} – {}", say::in_unit(low, &metric.unit), say::in_unit(high, &metric.unit))
            });
            let cells = [
                metric.sink.clone().unwrap_or_else(|| "-".to_owned()),
                format!("{more}{}", say::in_unit(value, &metric.unit)),
                range,
                count(metric.n as f64),
            ];
            Some(Row::of(format!("{}{theta}", metric.id), cells))
        }));
    }
    Table::of("Every figure", &["figure", "sink", "value", "interval", "observations"], rows)
}

/// The section of a run.
pub fn about(run: &RunResult, prefix: &str) -> Section {
    let mut blocks = Vec::new();
    for warning in &run.warnings {
        blocks.push(Block::Alarm(format!("Warning: {warning}")));
    }
    if run.warnings.is_empty() {
        blocks.push(Block::Text("The run has no warnings.".to_owned()));
    }
    blocks.push(environment(run));
    blocks.push(configuration(run));
    blocks.push(Block::Folded("Stretches of work".to_owned(), phases(run)));
    blocks.push(Block::Folded("Every figure".to_owned(), all_figures(run)));
    section(prefix, "about", "About the run", "Environment, configuration and warnings", blocks)
}

/// What the figures mean, once a page.
pub fn definitions() -> Section {
    let terms = [
        (
            "commit lag",
            "From the instant at which a client hears that its commit is done until a read at the sink would show it. Of every commit of the measured window. One that is not visible when the run ends counts in the tail with the time it was watched, and the figure is marked >.",
        ),
        (
            "readable by others",
            "From the same instant until another process that opens the sink's folder, or asks its server, would see the commit: the end of the checkpoint that brought it there, durably. The last checkpoint comes with the end of the run. A cache in the process can't be read from outside.",
        ),
        (
            "age",
            "At an instant: 0 if nothing committed is missing at the sink, else the time since the oldest missing commit. Exact, from events; means and quantiles are weighted by time. A full refresh every P that takes D has the mean age D + P/2.",
        ),
        ("time within an objective", "The share of time with an age of at most the objective."),
        ("staleness of a query", "The age at the instant of a real read, on a Poisson schedule."),
        ("backlog", "Commits that the source has acknowledged and the slowest sink does not show yet."),
        (
            "CPU of following",
            "CPU time of the threads that capture, move and apply, and of clients while they write to sinks themselves, for 1,000 rows changed at the source (not rows copied), and in cores: CPU seconds a second. What triggers cost is in the CPU of the source. Like bytes per change it is taken over whole intervals between batches or checkpoints, at the end of the measured time (cost.measured_time); where not even one fits, it is not given.",
        ),
        (
            "throughput",
            "What was acknowledged in the measured time. What was due in it is the offered rate (throughput.offered_per_s).",
        ),
        (
            "without stalls",
            "The same figure without the commits that were under way while freshbench itself stood still: a thread that wakes each 10 ms came 50 ms late or more, and the process used less than a fifth of a core meanwhile, or the machine slept. A stall lasts until all clients are on time again. When its threads ran and had to wait for a core, it is starved: reported, and not left out.",
        ),
        (
            "peak memory",
            "The most that was resident in the measured time. Each case has a process of its own, unless there is a live view or the source is a server; then what was resident when the case began (cost.rss_at_start_bytes) is in it.",
        ),
        (
            "against the control run",
            "The 99th percentile of the source's commit latency, from the intended start, over that of a run that nothing follows.",
        ),
        ("write amplification", "Bytes written to log, warehouse and search index over the bytes of the changed rows."),
        (
            "validation",
            "The expected rows are replayed from the ledger of acknowledged commits by code that shares nothing with what is measured, and compared with the source and each sink by key and content. A strategy that breaks its promise is named before any figure and is never marked best.",
        ),
        (
            "differs",
            "The strategy promises no equality, and every difference that was found could be explained by its way of working.",
        ),
        (
            "raced",
            "A write that reached a sink behind a newer one of its key. Put right: a later write covered it. For good: none did.",
        ),
    ];
    let terms = terms.map(|(term, meaning)| (term.to_owned(), meaning.to_owned())).to_vec();
    section("", "definitions", "Definitions", "Definitions", vec![Block::Terms(terms)])
}
