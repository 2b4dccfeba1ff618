//! Figures over many results, with the points at which they changed.

use super::section;
use crate::report::headline::bytes;
use crate::report::html::block::{Block, Figure, Row, Section, Table, View, id_of};
use crate::report::html::chart::{Axis, Mark, Plot, Point, Pointing, Scale, Series, Style};
use crate::report::html::input::{ChangePoint, History, HistoryPoint, HistorySeries, in_words};
use crate::report::html::palette::nth_color;
use crate::report::html::say;

/// Figures that are drawn; the others stay in their file.
const SERIES_MAX: usize = 24;

/// Results that are drawn of each, the newest; a page must stay one that opens.
const POINTS_MAX: usize = 100;
/// What a reader looks for first. Cost has no sink, so it leaves room for the others.
const FIRST: [&str; 8] = [
    "cost.cpu_s_per_1k_changes",
    "freshness.commit_lag.p50",
    "freshness.commit_lag.p99",
    "freshness.age.mean",
    "throughput.",
    "source.",
    "batch.",
    "freshness.",
];

/// How the values of a unit are said, and how its axis is labelled.
struct Unit {
    say: fn(f64) -> String,
    tick: fn(f64) -> String,
    label: String,
}

fn unit_of(series: &HistorySeries) -> Unit {
    match series.unit.as_deref().unwrap_or("") {
        "s" => Unit { say: say::seconds, tick: say::seconds_tick, label: "time".to_owned() },
        "bytes" => Unit { say: bytes, tick: bytes, label: "bytes".to_owned() },
        "share" => Unit { say: say::percent, tick: say::percent_tick, label: "share".to_owned() },
        "" => Unit { say: say::short, tick: say::count_tick, label: "value".to_owned() },
        other => Unit { say: say::short, tick: say::count_tick, label: other.to_owned() },
    }
}

/// The series as it is drawn: without what is older than its newest points.
fn newest(series: &HistorySeries) -> HistorySeries {
    let cut = series.points.len().saturating_sub(POINTS_MAX);
    let changes = series.change_points.iter().filter(|change| change.index >= cut);
    HistorySeries {
        points: series.points.iter().skip(cut).cloned().collect(),
        change_points: changes.map(|change| ChangePoint { index: change.index - cut, ..change.clone() }).collect(),
        ..series.clone()
    }
}

/// The values, and above them room for what is written at a change.
fn with_room(points: &[Point], changed: bool) -> Vec<f64> {
    let mut values: Vec<f64> = points.iter().map(|point| point.y).collect();
    let (low, high) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(*y), high.max(*y)));
    if changed {
        values.push(high + (high - low) * 0.2);
    }
    values
}

fn place(point: &HistoryPoint) -> String {
    let git: String = in_words(&point.git).chars().take(10).collect();
    [in_words(&point.time), git].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn figure(series: &HistorySeries, n: usize) -> Option<Figure> {
    let Unit { say, tick, label } = unit_of(series);
    let known = || series.points.iter().enumerate().filter_map(|(n, point)| Some((n, point, point.value?)));
    let points: Vec<Point> = known()
        .map(|(n, point, value)| Point {
            x: n as f64 + 1.0,
            y: value,
            tip: Some(format!("{}: {}", place(point), say(value))),
            ..Point::default()
        })
        .collect();
    if points.is_empty() {
        return None;
    }
    let step = |from: Option<f64>, to: Option<f64>| {
        format!("{} to {}", from.map_or("?".to_owned(), say), to.map_or("?".to_owned(), say))
    };
    let marks = series.change_points.iter().map(|change| Mark {
        x: change.index as f64 + 0.5,
        color: 1,
        label: Some(step(change.before, change.after)),
        tall: true,
    });
    let rows = series.points.iter().enumerate().map(|(n, point)| {
        let change = series.change_points.iter().find(|change| change.index == n);
        let told = change.map_or("-".to_owned(), |change| {
            let p = change.p.map_or(String::new(), |p| format!(", p = {p:.4}"));
            let way = change.worse.map_or("", |worse| if worse { ", worse" } else { ", better" });
            format!("{}{way}{p}", step(change.before, change.after))
        });
        Row::of(place(point), [point.value.map_or("-".to_owned(), say), told])
    });
    let table = Table::of(series.id.clone(), &["result", "value", "change point"], rows.collect());
    let changes = match series.change_points.len() {
        0 => "no change point".to_owned(),
        1 => "1 change point".to_owned(),
        more => format!("{more} change points"),
    };
    let plot = Plot {
        said: format!("{}: {} results, {changes}", series.id, points.len()),
        x: Axis {
            label: "result, from the oldest to the newest".to_owned(),
            scale: Scale::Linear { low: 0.5, high: series.points.len() as f64 + 0.5 },
            tick: |n| if n.fract() == 0.0 { say::short(n) } else { String::new() },
            say: say::short,
        },
        y: Axis {
            label,
            scale: Scale::around(with_room(&points, !series.change_points.is_empty()).into_iter()),
            tick,
            say,
        },
        series: vec![Series {
            name: series.id.clone(),
            color: nth_color(0),
            points,
            style: Style::LineAndPoints,
            faint: false,
        }],
        marks: marks.collect(),
        pointing: Pointing::Nearest,
        height: 210.0,
    };
    let id = format!("history-{n}-{}", id_of(&series.id));
    let mut view = plot;
    // The title names the only line; a label at its end would take half of the width.
    if let Some(only) = view.series.first_mut() {
        only.name = String::new();
    }
    Some(super::figure(id, series.id.clone(), "", vec![View::plot("", &view)], table))
}

/// The place of a figure among those that a reader looks for.
fn rank(series: &HistorySeries) -> usize {
    FIRST.iter().position(|first| series.id.contains(first)).unwrap_or(FIRST.len())
}

/// The section.
pub fn history(given: &History, n: usize) -> Section {
    let lead = if given.bare {
        "Results as they were added. Changes are looked for by `freshbench history analyze --out FILE`, whose file a page shows as well."
    } else {
        "A tall stroke: from there on the figure is another."
    };
    let mut blocks = vec![Block::Text(lead.to_owned())];
    let mut ordered: Vec<&HistorySeries> = given.series.iter().collect();
    // Those that changed are what a reader looks for.
    ordered.sort_by_key(|series| (series.change_points.is_empty(), rank(series)));
    let figures = ordered.iter().take(SERIES_MAX).filter_map(|series| figure(&newest(series), n));
    blocks.extend(figures.map(|figure| Block::Figure(Box::new(figure))));
    let longest = given.series.iter().map(|series| series.points.len()).max().unwrap_or(0);
    let mut left_out = Vec::new();
    if ordered.len() > SERIES_MAX {
        left_out.push(format!("{} more figures are in the file.", ordered.len() - SERIES_MAX));
    }
    if longest > POINTS_MAX {
        left_out.push(format!("Of {longest} results the newest {POINTS_MAX} are drawn."));
    }
    if !left_out.is_empty() {
        blocks.push(Block::Text(left_out.join(" ")));
    }
    section("", &format!("history-{n}"), "History", "Figures over time", blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::Input;

    fn series(points: usize, change: usize) -> HistorySeries {
        HistorySeries {
            id: "orders/cdc-trigger/freshness.age.mean".to_owned(),
            unit: Some("s".to_owned()),
            points: (0..points).map(|n| HistoryPoint { value: Some(n as f64), ..HistoryPoint::default() }).collect(),
            change_points: vec![ChangePoint { index: change, ..ChangePoint::default() }],
        }
    }

    #[test]
    fn of_many_points_the_newest_are_drawn_and_changes_move_with_them() {
        let shown = newest(&series(POINTS_MAX + 30, 50));
        assert_eq!(
            (shown.points.len(), shown.points[0].value, shown.change_points[0].index),
            (POINTS_MAX, Some(30.0), 20)
        );
        assert!(newest(&series(POINTS_MAX + 30, 29)).change_points.is_empty());
        assert_eq!(newest(&series(3, 1)).points.len(), 3);
    }

    #[test]
    fn the_longest_history_stays_a_page_that_opens() {
        let all = (0..200).map(|n| HistorySeries { id: format!("a/b{n}/c"), ..series(1000, 990) }).collect();
        let page = crate::report::html::report(&[Input::History(History { series: all, bare: false })]);
        assert!(page.len() < crate::report::html::PAGE_BYTES_MAX, "{}", page.len());
    }
}
