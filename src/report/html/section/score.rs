//! The score card: every strategy by figure, with intervals, the best marked.

use super::{counts, followers, in_full, interval, section, sinks};
use crate::report::html::block::{Block, Cell, Row, Section, Table};
use crate::report::html::say;
use crate::report::result::{Case, Direction, Metric, RunResult};
use crate::report::standing::Standing;

/// A row of the card: its label, the figure's id, the objective of a share, and how it is said.
type Figure = (&'static str, &'static str, Option<f64>, fn(f64) -> String);

/// At each sink.
const AT_SINKS: &[Figure] = &[
    ("age, mean", "freshness.age.mean", None, say::seconds),
    ("age, p99", "freshness.age.p99", None, say::seconds),
    ("age without lost commits, mean", "freshness.age_without_lost.mean", None, say::seconds),
    ("commit lag, p50", "freshness.commit_lag.p50", None, say::seconds),
    ("commit lag, p99", "freshness.commit_lag.p99", None, say::seconds),
    ("commit lag, max", "freshness.commit_lag.max", None, say::seconds),
    ("time within 1 s", "freshness.within_slo", Some(1.0), say::percent),
    ("readable by others, p50", "freshness.readable_lag.p50", None, say::seconds),
    ("readable by others, p99", "freshness.readable_lag.p99", None, say::seconds),
    ("readable by others, max", "freshness.readable_lag.max", None, say::seconds),
    ("age of what others read, mean", "freshness.readable_age.mean", None, say::seconds),
    ("staleness of a query, p50", "freshness.query_staleness.p50", None, say::seconds),
    ("stale reads, share of hits", "cache.stale_read_share", None, say::percent),
    ("torn or broken reads per 1,000", "consistency.torn_reads", None, say::short),
    ("rows that differ at the end", "consistency.divergent", None, say::short),
];

/// Of the whole.
const OF_ALL: &[Figure] = &[
    ("CPU of following, cores", "cost.cpu_cores", None, say::short),
    ("CPU of following, 1,000 changes", "cost.cpu_s_per_1k_changes", None, say::seconds),
    ("source commit p99, against the control run", "cost.source_overhead", None, say::times),
    ("CPU of the source, 1,000 changes", "cost.source_cpu_s_per_1k_changes", None, say::seconds),
    ("bytes read for a change", "cost.read_bytes_per_change", None, crate::report::headline::bytes),
    ("bytes written for a change", "cost.write_bytes_per_change", None, crate::report::headline::bytes),
    ("write amplification", "cost.write_amplification", None, say::times),
    ("peak memory", "cost.peak_rss_bytes", None, crate::report::headline::bytes),
];

/// The metric of a figure at a sink, or of the whole.
fn find<'a>(case: &'a Case, figure: &Figure, sink: Option<&str>) -> Option<&'a Metric> {
    let same = |metric: &&Metric| metric.id == figure.1 && metric.theta_s == figure.2 && metric.sink.as_deref() == sink;
    case.metrics.iter().find(same)
}

fn may_be_best(case: &Case) -> bool {
    Standing::of(case).may_be_best()
}

/// Whether `a` is better than `b`.
fn better(direction: Direction, a: f64, b: f64) -> bool {
    match direction {
        Direction::Lower => a < b,
        Direction::Higher => a > b,
        Direction::Neutral => false,
    }
}

/// The best of a row among those that may be it: its value and interval.
fn best<'a>(row: &[(&'a Case, Option<&'a Metric>)]) -> Option<(f64, Option<[f64; 2]>)> {
    let able = row.iter().filter(|(case, _)| may_be_best(case)).filter_map(|(_, metric)| *metric);
    let known: Vec<(&Metric, f64)> = able
        .filter(|m| !m.lower_bound && m.direction != Direction::Neutral)
        .filter_map(|m| Some((m, m.value?)))
        .collect();
    // The best of one, and one that is no better than the worst, says nothing.
    let (first, rest) = known.split_first()?;
    if rest.iter().all(|(_, value)| *value == first.1) {
        return None;
    }
    let best =
        rest.iter().fold(*first, |best, next| if better(best.0.direction, next.1, best.1) { *next } else { best });
    Some((best.1, interval(best.0)))
}

fn cell(case: &Case, metric: Option<&Metric>, say: fn(f64) -> String, best: Option<(f64, Option<[f64; 2]>)>) -> Cell {
    let Some((metric, value)) = metric.and_then(|metric| Some((metric, metric.value?))) else { return Cell::text("-") };
    let more = if metric.lower_bound { "> " } else { "" };
    let range = interval(metric);
    let mut cell = Cell::text(format!("{more}{}", say(value)));
    cell.sub = range.map(|[low, high]| format!("{} – {}", say(low.max(0.0)), say(high)));
    if !counts(case) {
        cell.class = "failed";
    } else if let Some((best, best_range)) = best.filter(|_| may_be_best(case) && !metric.lower_bound) {
        let overlaps = range.zip(best_range).is_some_and(|(own, best)| own[0] <= best[1] && best[0] <= own[1]);
        if value == best {
            (cell.class, cell.badge) = ("best", Some("best"));
        } else if overlaps {
            (cell.class, cell.badge) = ("tie", Some("as good"));
        }
    }
    cell
}

fn rows(cases: &[&Case], figures: &[Figure], sink: Option<&str>) -> Vec<Row> {
    let mut rows = Vec::new();
    for figure in figures {
        let found: Vec<(&Case, Option<&Metric>)> = cases.iter().map(|case| (*case, find(case, figure, sink))).collect();
        if found.iter().all(|(_, metric)| metric.is_none_or(|metric| metric.value.is_none())) {
            continue;
        }
        let best = best(&found);
        let cells = found.into_iter().map(|(case, metric)| cell(case, metric, figure.3, best)).collect();
        rows.push(Row { head: Cell::text(figure.0), cells, group: false });
    }
    rows
}

/// The table.
pub fn card(run: &RunResult) -> Table {
    let cases = followers(run);
    let mut all = Vec::new();
    let mut figures = AT_SINKS.to_vec();
    if run.config.is_foreign() {
        // Its readers are in other processes.
        figures.sort_by_key(|figure| !figure.1.contains(".readable_"));
    }
    for sink in sinks(run) {
        let at_sink = rows(&cases, &figures, Some(sink));
        if !at_sink.is_empty() {
            all.push(Row::group(format!("Freshness: {}", in_full(sink))));
            all.extend(at_sink);
        }
    }
    all.push(Row::group("Cost"));
    all.extend(rows(&cases, OF_ALL, None));
    let mut head = vec![String::new()];
    head.extend(cases.iter().map(|case| match Standing::of(case) {
        Standing::Failed => format!("{} (failed)", case.name),
        Standing::Differs => format!("{} (differs)", case.name),
        Standing::Partial => format!("{} (changed rows only)", case.name),
        Standing::EqualThisTime { .. } => format!("{} (equal this time)", case.name),
        Standing::Alone | Standing::Equal => case.name.clone(),
    }));
    Table { caption: caption(run), head, rows: all, class: "score" }
}

fn caption(run: &RunResult) -> String {
    let ranges = if run.config.reps > 1 {
        format!("Medians of {} repetitions; below them the smallest and the largest.", run.config.reps)
    } else {
        "Below a figure: its 95 % interval, where one can be given.".to_owned()
    };
    let left_out = followers(run).iter().any(|case| !may_be_best(case));
    let left_out =
        if left_out { " Only strategies that promise equality and kept it all along can be best." } else { "" };
    format!("{ranges} \u{201c}As good\u{201d}: the interval meets that of the best.{left_out}")
}

/// The section.
pub fn score(run: &RunResult, prefix: &str) -> Section {
    section(prefix, "score", "Score card", "Score card", vec![Block::Table(card(run))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::sample;

    fn marks(table: &Table, label: &str) -> Vec<Option<&'static str>> {
        let row = table.rows.iter().find(|row| row.head.text == label).unwrap();
        row.cells.iter().map(|cell| cell.badge).collect()
    }

    #[test]
    fn the_best_is_marked_and_those_that_can_not_be_told_from_it() {
        let run = sample::run(&[("full-refresh", 2.0), ("cdc-trigger", 0.100), ("outbox", 0.101)]);
        assert_eq!(marks(&card(&run), "age, mean"), [None, Some("best"), Some("as good")]);
    }

    #[test]
    fn one_that_failed_or_differs_is_never_best() {
        let mut run =
            sample::run(&[("full-refresh", 2.0), ("cdc-trigger", 0.1), ("incremental", 0.01), ("outbox", 1.0)]);
        run.strategies[1].validation.passed = false;
        run.strategies[2].validation.equal = false;
        let table = card(&run);
        assert_eq!(marks(&table, "age, mean"), [None, None, None, Some("best")]);
        let row = table.rows.iter().find(|row| row.head.text == "age, mean").unwrap();
        assert_eq!(row.cells[1].class, "failed");
        assert!(table.head[2].contains("(failed)"));
    }

    #[test]
    fn a_lower_bound_is_never_best() {
        let mut run = sample::run(&[("full-refresh", 2.0), ("cdc-trigger", 0.1)]);
        for metric in &mut run.strategies[1].metrics {
            metric.lower_bound = true;
        }
        assert_eq!(marks(&card(&run), "age, mean"), [None, None]);
    }
}
