//! Several runs side by side, and one after the other in time.

use super::{counts, followers, in_full, interval, section, sinks};
use crate::report::html::block::{Block, Cell, Figure, Row, Section, Table, View, id_of};
use crate::report::html::chart::{Axis, Plot, Point, Pointing, Scale, Series, Style};
use crate::report::html::palette::color_of;
use crate::report::html::say;
use crate::report::result::{Case, RunResult};

/// Figures that runs are compared by, at each sink (true) or of the whole.
const FIGURES: &[(&str, &str, bool)] = &[
    ("readable by others, p99", "freshness.readable_lag.p99", true),
    ("mean age", "freshness.age.mean", true),
    ("commit lag, p50", "freshness.commit_lag.p50", true),
    ("commit lag, p99", "freshness.commit_lag.p99", true),
    ("CPU of following, 1,000 changes", "cost.cpu_s_per_1k_changes", false),
    ("source commit, p99", "source.commit_latency.p99", false),
    ("changes/s at the source", "throughput.changes_per_s", false),
];

/// Names of the strategies of all runs, in the order in which they first come.
fn names<'a>(runs: &[&'a RunResult]) -> Vec<&'a str> {
    let mut names = Vec::new();
    for case in runs.iter().flat_map(|run| followers(run)) {
        if !names.contains(&case.name.as_str()) {
            names.push(case.name.as_str());
        }
    }
    names
}

fn cell(case: Option<&Case>, id: &str, sink: Option<&str>) -> Cell {
    let Some((case, metric)) = case.and_then(|case| Some((case, case.metric_at(id, sink)?))) else {
        return Cell::text("-");
    };
    let Some(value) = metric.value else { return Cell::text("-") };
    let more = if metric.lower_bound { "> " } else { "" };
    Cell {
        text: format!("{more}{}", say::in_unit(value, &metric.unit)),
        sub: interval(metric)
            .map(|[a, b]| format!("{} – {}", say::in_unit(a, &metric.unit), say::in_unit(b, &metric.unit))),
        class: if counts(case) { "" } else { "failed" },
        ..Cell::default()
    }
}

/// A column a run, a row a strategy and figure.
fn side_by_side(runs: &[&RunResult]) -> Table {
    let mut rows = Vec::new();
    let first_sink = runs.iter().flat_map(|run| sinks(run)).next();
    for name in names(runs) {
        rows.push(Row::group(name));
        for (label, id, at_sink) in FIGURES {
            let sink = first_sink.filter(|_| *at_sink);
            let cells: Vec<Cell> = runs.iter().map(|run| cell(run.case(name), id, sink)).collect();
            if cells.iter().any(|cell| cell.text != "-") {
                let label = sink.map_or((*label).to_owned(), |sink| format!("{label}, {}", in_full(sink)));
                rows.push(Row { head: Cell::text(label), cells, group: false });
            }
        }
    }
    let mut head = vec![String::new()];
    head.extend(runs.iter().map(|run| run.run_id.clone()));
    Table { caption: "Below a figure: its interval".to_owned(), head, rows, class: "score" }
}

/// What somebody else offers nobody knows.
fn offered(run: &RunResult, said: String) -> String {
    if run.config.is_foreign() { "-".to_owned() } else { said }
}

/// What is not the same in all runs: a difference in a figure may come from there.
fn differences(runs: &[&RunResult]) -> Option<Table> {
    type Pick = fn(&RunResult) -> String;
    let facts: [(&str, Pick); 11] = [
        ("configuration", |run| run.config.hash.chars().take(12).collect()),
        ("stream", |run| run.config.stream_digest.chars().take(12).collect()),
        ("workload", |run| run.config.workload.clone()),
        ("rows", |run| offered(run, say::in_unit(run.config.rows as f64, "rows"))),
        ("transactions/s offered", |run| offered(run, say::short(run.config.rate))),
        ("batches every", |run| say::seconds_tick(run.config.batch_interval_s)),
        ("record system", |run| run.config.source.clone()),
        ("processor", |run| format!("{}, {} cores", run.env.cpu_model, run.env.cores)),
        ("file system", |run| run.env.fs.clone()),
        ("source tree", |run| run.git.commit.as_deref().unwrap_or("not known").chars().take(12).collect()),
        ("build", |run| format!("{} ({})", run.env.freshbench, run.env.profile)),
    ];
    let rows = facts.iter().filter_map(|(name, pick)| {
        let cells: Vec<String> = runs.iter().map(|run| pick(run)).collect();
        let same = cells.windows(2).all(|pair| pair.first() == pair.last());
        (!same).then(|| Row::of(*name, cells))
    });
    let rows: Vec<Row> = rows.collect();
    let mut head = vec!["what differs"];
    head.extend(runs.iter().map(|run| run.run_id.as_str()));
    (!rows.is_empty()).then(|| Table::of("What is not the same in these runs", &head, rows))
}

/// One figure of all strategies, run after run.
fn over_runs(runs: &[&RunResult], (label, id, at_sink): (&str, &str, bool), sink: &str) -> Option<Figure> {
    let at = at_sink.then_some(sink);
    let series = names(runs).into_iter().filter_map(|name| {
        let points = runs.iter().enumerate().filter_map(|(n, run)| {
            let case = run.case(name).filter(|case| counts(case))?;
            let metric = case.metric_at(id, at)?;
            let value = metric.value?;
            let range = interval(metric);
            let tip = format!("{}, {}: {}", name, run.run_id, say::in_unit(value, &metric.unit));
            Some(Point { x: n as f64 + 1.0, y: value, y_range: range, tip: Some(tip), label: None })
        });
        let points: Vec<Point> = points.collect();
        let color = color_of(name);
        (!points.is_empty()).then(|| Series {
            name: name.to_owned(),
            color,
            points,
            style: Style::LineAndPoints,
            faint: false,
        })
    });
    let series: Vec<Series> = series.collect();
    if series.is_empty() {
        return None;
    }
    let unit =
        runs.iter().flat_map(|run| &run.strategies).find_map(|case| Some(case.metric_at(id, at)?.unit.clone()))?;
    let title = if at_sink { format!("{label}: {}", in_full(sink)) } else { label.to_owned() };
    let values = || series.iter().flat_map(|series| series.points.iter().map(|point| point.y));
    let seconds = unit == "s";
    let rows = runs.iter().enumerate().map(|(n, run)| {
        let at_run = |series: &Series| {
            series.points.iter().find(|point| point.x == n as f64 + 1.0).map(|point| say::in_unit(point.y, &unit))
        };
        Row::of(
            format!("{}: {}", n + 1, run.run_id),
            series.iter().map(|s| at_run(s).unwrap_or("-".to_owned())).collect::<Vec<_>>(),
        )
    });
    let mut head = vec!["run"];
    head.extend(series.iter().map(|series| series.name.as_str()));
    let table = Table::of(title.clone(), &head, rows.collect());
    let plot = Plot {
        said: format!("{title} in {} runs, from the oldest to the newest", runs.len()),
        x: Axis {
            label: "run, from the oldest to the newest".to_owned(),
            scale: Scale::Linear { low: 0.6, high: runs.len() as f64 + 0.4 },
            tick: |run| if run.fract() == 0.0 { say::short(run) } else { String::new() },
            say: |run| say::short(run),
        },
        y: Axis {
            label: if seconds { format!("{label}, logarithmic") } else { label.to_owned() },
            scale: if seconds { Scale::decades(values(), 1e-5) } else { Scale::from_zero(values()) },
            tick: if seconds { say::seconds_tick } else { say::count_tick },
            say: if seconds { say::seconds } else { say::short },
        },
        series,
        marks: Vec::new(),
        pointing: Pointing::Nearest,
        height: 240.0,
    };
    let id = format!("runs-{}-{}", id_of(id), id_of(sink));
    Some(super::figure(id, title, "", vec![View::plot("", &plot)], table))
}

/// The sections about several runs; `runs` from the oldest to the newest.
pub fn sections(runs: &[&RunResult]) -> Vec<Section> {
    let mut beside = Vec::new();
    beside.extend(differences(runs).map(Block::Table));
    beside.push(Block::Table(side_by_side(runs)));
    let mut sections = vec![section("", "side-by-side", "Side by side", "Side by side", beside)];
    let mut over =
        vec![Block::Text("Only strategies whose validation passed. Whiskers: the interval of a figure.".to_owned())];
    let first_sink = runs.iter().flat_map(|run| sinks(run)).next().unwrap_or("warehouse");
    for figure in FIGURES {
        over.extend(over_runs(runs, *figure, first_sink).map(|figure| Block::Figure(Box::new(figure))));
    }
    sections.push(section("", "over-time", "Run after run", "Run after run", over));
    sections
}
