//! The break-even map of a sweep: the cheapest strategy by table size and change rate, and where CDC begins to cost more.

use super::section;
use crate::report::html::block::{Block, Figure, Row, Section, Table, View};
use crate::report::html::chart::{Axis, Grid, GridCell, Plot, Point, Pointing, Scale, Series, Style};
use crate::report::html::input::{MapCell, Sweep, SweepPoint};
use crate::report::html::palette::{color_of, nth_color};
use crate::report::html::say;

/// Values in ascending order, each once.
fn steps(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut steps: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    steps.sort_by(f64::total_cmp);
    steps.dedup();
    steps
}

fn every(interval_s: Option<f64>) -> String {
    interval_s.map_or(String::new(), |s| format!("every {}", say::seconds_tick(s)))
}

/// The interval of a strategy that has one; that of a change stream in a sweep is only what it is held against.
fn own_interval(strategy: Option<&str>, interval_s: Option<f64>) -> Option<f64> {
    interval_s.filter(|_| strategy == Some("full-refresh"))
}

fn interval_of(cell: &MapCell) -> Option<f64> {
    own_interval(cell.cheapest.as_deref(), cell.interval_s)
}

fn map_figure(sweep: &Sweep, target: Option<f64>, n: usize) -> Option<Figure> {
    let cells: Vec<&MapCell> = sweep.map.iter().filter(|cell| cell.target_p99_s == target).collect();
    let (columns, rows) = (steps(cells.iter().map(|c| c.rows)), steps(cells.iter().map(|c| c.change_rate)));
    if columns.is_empty() {
        return None;
    }
    let title = target.map_or("The cheapest strategy".to_owned(), |s| {
        format!("The cheapest strategy with p99 commit lag within {}", say::seconds_tick(s))
    });
    let told = |cell: &MapCell| {
        let Some(name) = &cell.cheapest else {
            return format!(
                "{} rows, {} changes/s: none is known to reach it",
                say::count_tick(cell.rows),
                say::short(cell.change_rate)
            );
        };
        let name = [name.as_str(), &every(interval_of(cell))].join(" ").trim_end().to_owned();
        let cost = cell.cost_cpu_s_per_s.map_or(String::new(), |cost| format!(", {} of a core", say::percent(cost)));
        let how = if cell.measured { "" } else { ", by the model" };
        format!("{} rows, {} changes/s: {name}{cost}{how}", say::count_tick(cell.rows), say::short(cell.change_rate))
    };
    let drawn = cells.iter().filter_map(|cell| {
        let name = cell.cheapest.as_deref().unwrap_or("none");
        Some(GridCell {
            column: columns.iter().position(|rows| *rows == cell.rows)?,
            row: rows.iter().position(|rate| *rate == cell.change_rate)?,
            color: if cell.cheapest.is_some() { color_of(name) } else { 0 },
            lines: vec![name.to_owned(), every(interval_of(cell))],
            tip: told(cell),
            modelled: cell.cheapest.is_some() && !cell.measured,
        })
    });
    let grid = Grid {
        said: format!("{title}. {}", cells.iter().map(|cell| told(cell)).collect::<Vec<_>>().join("; ")),
        x: "rows of the table".to_owned(),
        y: "changes/s".to_owned(),
        columns: columns.iter().map(|rows| say::count_tick(*rows)).collect(),
        rows: rows.iter().map(|rate| say::count_tick(*rate)).collect(),
        cells: drawn.collect(),
    };
    let table_rows = cells.iter().map(|cell| {
        Row::of(
            say::count_tick(cell.rows),
            [
                say::short(cell.change_rate),
                cell.cheapest.clone().unwrap_or_else(|| "none".to_owned()),
                interval_of(cell).map_or("-".to_owned(), say::seconds_tick),
                cell.cost_cpu_s_per_s.map_or("-".to_owned(), say::percent),
                match (&cell.cheapest, cell.measured) {
                    (None, _) => "-",
                    (_, true) => "measured",
                    (_, false) => "model",
                }
                .to_owned(),
            ],
        )
    });
    let head = ["rows", "changes/s", "cheapest", "batches every", "of a core", "how known"];
    let table = Table::of(title.clone(), &head, table_rows.collect());
    let mut names: Vec<&str> = cells.iter().filter_map(|cell| cell.cheapest.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    let note = "Pale with a dashed border: computed by the model, not measured.";
    let mut figure = super::figure(format!("sweep-map-{n}"), title, note, vec![View::grid(&grid)], table);
    figure.legend = names.into_iter().map(|name| (color_of(name), name.to_owned())).collect();
    Some(figure)
}

fn break_even_figure(sweep: &Sweep) -> Option<Figure> {
    let intervals = steps(sweep.break_even.iter().map(|point| point.interval_s.unwrap_or(0.0)));
    let series = intervals.iter().enumerate().map(|(n, interval)| {
        let of_interval = sweep.break_even.iter().filter(|point| point.interval_s.unwrap_or(0.0) == *interval);
        let points = of_interval.filter_map(|point| {
            let share = point.changed_fraction?;
            let range = point.ci.and_then(|[low, high]| Some([low?, high?]));
            let between =
                range.map_or(String::new(), |[low, high]| format!(" ({} – {})", say::percent(low), say::percent(high)));
            let tip = format!("{} rows: {}{between}", say::count_tick(point.rows), say::percent(share));
            Some(Point { x: point.rows, y: share, y_range: range, tip: Some(tip), label: None })
        });
        let mut points: Vec<Point> = points.collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        Series { name: every(Some(*interval)), color: nth_color(n), points, style: Style::LineAndPoints, faint: false }
    });
    let series: Vec<Series> = series.filter(|series| !series.points.is_empty()).collect();
    let points = || series.iter().flat_map(|series| series.points.iter());
    points().next()?;
    let title =
        "Break-even: the share of rows changed in an interval at which a change stream costs as much as a full refresh"
            .to_owned();
    let rows = sweep.break_even.iter().map(|point| {
        let range = point.ci.and_then(|[low, high]| Some(format!("{} – {}", say::percent(low?), say::percent(high?))));
        Row::of(
            say::count_tick(point.rows),
            [
                point.interval_s.map_or("-".to_owned(), say::seconds_tick),
                point.changed_fraction.map_or("always dearer".to_owned(), say::percent),
                range.unwrap_or_else(|| "-".to_owned()),
            ],
        )
    });
    let table = Table::of(title.clone(), &["rows", "batches every", "changed share", "95 % interval"], rows.collect());
    let ends = || points().flat_map(|p| [Some(p.y), p.y_range.map(|r| r[0]), p.y_range.map(|r| r[1])]).flatten();
    let said = format!("{title}. {}", points().filter_map(|p| p.tip.clone()).collect::<Vec<_>>().join("; "));
    let x = Axis {
        label: "rows of the table".to_owned(),
        scale: Scale::factors(points().map(|point| point.x), 1.0),
        tick: say::count_tick,
        say: say::count_tick,
    };
    let y = Axis {
        label: "share of rows changed".to_owned(),
        scale: Scale::factors(ends(), 1e-6),
        tick: say::percent_tick,
        say: say::percent,
    };
    let legend = series.iter().map(|series| (series.color, series.name.clone())).collect();
    let plot = Plot { said, x, y, series, marks: Vec::new(), pointing: Pointing::Nearest, height: 260.0 };
    let note = "Below a line the change stream is cheaper, above it the full refresh. Above 100 % each row changes more than once in an interval.";
    let mut figure = super::figure("sweep-break-even".to_owned(), title, note, vec![View::plot("", &plot)], table);
    figure.legend = legend;
    Some(figure)
}

/// The runs of a sweep; of older files, which name none, the cells that were measured.
fn points(sweep: &Sweep) -> Vec<SweepPoint> {
    if !sweep.runs.is_empty() {
        return sweep.runs.clone();
    }
    let mut points: Vec<SweepPoint> = Vec::new();
    for cell in sweep.cells.iter().filter(|cell| cell.measured) {
        let point = SweepPoint {
            strategy: cell.strategy.clone(),
            rows: cell.rows,
            change_rate: cell.change_rate,
            interval_s: cell.interval_s.unwrap_or_default(),
            cost_cpu_s_per_s: cell.cost_cpu_s_per_s,
            freshness_p99_s: cell.freshness_p99_s,
        };
        // A stream stands in the file once for each interval that it is held against.
        let same = |other: &SweepPoint| {
            (&other.strategy, other.rows, other.change_rate) == (&point.strategy, point.rows, point.change_rate)
                && (other.cost_cpu_s_per_s, other.freshness_p99_s) == (point.cost_cpu_s_per_s, point.freshness_p99_s)
        };
        if !points.iter().any(same) {
            points.push(point);
        }
    }
    points
}

/// Every point of the sweep, freshness against cost, an interval beside those that have one.
fn points_figure(sweep: &Sweep) -> Option<Figure> {
    let measured = points(sweep);
    let points: Vec<(&SweepPoint, f64, f64)> =
        measured.iter().filter_map(|run| Some((run, run.cost_cpu_s_per_s?, run.freshness_p99_s?))).collect();
    let interval = |cell: &SweepPoint| own_interval(Some(&cell.strategy), Some(cell.interval_s));
    let known = || points.iter().copied();
    known().next()?;
    let told = |cell: &SweepPoint, cost: f64, p99: f64| {
        let (rows, rate) = (say::count_tick(cell.rows), say::short(cell.change_rate));
        format!(
            "{rows} rows, {rate} changes/s{}: p99 {}, {} of a core",
            interval(cell).map_or(String::new(), |s| format!(" {}", every(Some(s)))),
            say::seconds(p99),
            say::percent(cost)
        )
    };
    let mut names: Vec<&str> = Vec::new();
    for (cell, ..) in known() {
        if !names.contains(&cell.strategy.as_str()) {
            names.push(&cell.strategy);
        }
    }
    let series = names.iter().map(|name| Series {
        name: (*name).to_owned(),
        color: color_of(name),
        points: known()
            .filter(|(cell, ..)| cell.strategy == *name)
            .map(|(cell, cost, p99)| Point { x: cost, y: p99, tip: Some(told(cell, cost, p99)), ..Point::default() })
            .collect(),
        style: Style::Points,
        faint: false,
    });
    let rows = known().map(|(cell, cost, p99)| {
        let interval = interval(cell).map_or("-".to_owned(), say::seconds_tick);
        Row::of(
            cell.strategy.clone(),
            [say::count_tick(cell.rows), say::short(cell.change_rate), interval, say::percent(cost), say::seconds(p99)],
        )
    });
    let title = "Freshness against cost, every measured point".to_owned();
    let head = ["strategy", "rows", "changes/s", "batches every", "of a core", "p99 commit lag"];
    let table = Table::of(title.clone(), &head, rows.collect());
    let axis = |label: &str, scale, tick, say| Axis { label: label.to_owned(), scale, tick, say };
    let plot = Plot {
        said: format!("{title}: {} points of {}", known().count(), names.join(", ")),
        x: axis(
            "CPU, share of a core (less is better)",
            Scale::decades(known().map(|(_, cost, _)| cost), 1e-6),
            say::percent_tick,
            say::percent,
        ),
        y: axis(
            "p99 commit lag (less is better)",
            Scale::decades(known().map(|(.., p99)| p99), 1e-5),
            say::seconds_tick,
            say::seconds,
        ),
        series: series.collect(),
        marks: Vec::new(),
        pointing: Pointing::Nearest,
        height: 300.0,
    };
    let mut figure = super::figure("sweep-points".to_owned(), title, "", vec![View::plot("", &plot)], table);
    figure.legend = names.iter().map(|name| (color_of(name), (*name).to_owned())).collect();
    figure.unlabelled = true;
    Some(figure)
}

/// The section; `n` keeps several apart.
pub fn sweep(given: &Sweep, n: usize) -> Section {
    let mut targets: Vec<Option<f64>> = Vec::new();
    for cell in &given.map {
        if !targets.contains(&cell.target_p99_s) {
            targets.push(cell.target_p99_s);
        }
    }
    let maps = targets.iter().enumerate().filter_map(|(at, target)| map_figure(given, *target, n * 100 + at));
    let mut figures: Vec<Figure> = maps.collect();
    figures.extend(break_even_figure(given));
    figures.extend(points_figure(given));
    for figure in &mut figures {
        figure.id = format!("{}-{n}", figure.id);
    }
    let mut blocks: Vec<Block> = given.warnings.iter().map(|told| Block::Text(format!("Warning: {told}"))).collect();
    blocks.extend(given.command.iter().map(|command| Block::Text(format!("Measured by: {command}"))));
    let drawn = !figures.is_empty();
    blocks.extend(figures.into_iter().map(|figure| Block::Figure(Box::new(figure))));
    if !drawn {
        blocks.push(Block::Text("The sweep holds no point that could be drawn.".to_owned()));
    }
    blocks.extend(super::forecast::blocks(given));
    section("", &format!("sweep-{n}"), "Break-even", "Break-even map", blocks)
}
