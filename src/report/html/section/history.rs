//! Figures over many results, with the points at which they changed.

use super::section;
use crate::report::html::block::{Block, Figure, Row, Section, Table, View, id_of};
use crate::report::html::chart::{Axis, Mark, Plot, Point, Pointing, Scale, Series, Style};
use crate::report::html::input::{History, HistoryPoint, HistorySeries, in_words};
use crate::report::html::palette::nth_color;
use crate::report::html::say;

/// Figures that are drawn; the others stay in their file.
const SERIES_MAX: usize = 24;

/// The unit that a figure's name says, for those that have one.
fn is_seconds(id: &str) -> bool {
    id.split(['/', '@', ',', ' ']).any(|part| {
        let timed = [
            "freshness.age",
            "freshness.commit_lag",
            "source.commit_latency",
            "freshness.query",
            "freshness.reaction",
            "stage.",
        ];
        timed.iter().any(|begin| part.starts_with(begin)) || part.starts_with("cost.cpu_s")
    })
}

fn place(point: &HistoryPoint) -> String {
    let git: String = in_words(&point.git).chars().take(10).collect();
    [in_words(&point.time), git].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn figure(series: &HistorySeries, n: usize) -> Option<Figure> {
    let seconds = is_seconds(&series.id);
    let say: fn(f64) -> String = if seconds { say::seconds } else { say::short };
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
            format!("{}{p}", step(change.before, change.after))
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
            label: if seconds { "time".to_owned() } else { "value".to_owned() },
            scale: Scale::around(points.iter().map(|point| point.y)),
            tick: if seconds { say::seconds_tick } else { say::count_tick },
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

/// The section.
pub fn history(given: &History, n: usize) -> Section {
    let mut blocks = vec![Block::Text("A tall stroke: from there on the figure is another.".to_owned())];
    let mut ordered: Vec<&HistorySeries> = given.series.iter().collect();
    // Those that changed are what a reader looks for.
    ordered.sort_by_key(|series| series.change_points.is_empty());
    let figures = ordered.iter().filter_map(|series| figure(series, n)).take(SERIES_MAX);
    blocks.extend(figures.map(|figure| Block::Figure(Box::new(figure))));
    if ordered.len() > SERIES_MAX {
        blocks.push(Block::Text(format!("{} more figures are in the file.", ordered.len() - SERIES_MAX)));
    }
    section("", &format!("history-{n}"), "History", "History", blocks)
}
