//! Age over time: the sawtooth of batches beside the line of a stream, the backlog below.

use super::{followers, in_full, legend, rows_over, seconds_axis, section, sinks};
use crate::report::html::block::{Block, Figure, Section, Table, View, id_of};
use crate::report::html::chart::{Axis, Mark, Plot, Point, Pointing, Scale, Series, Style};
use crate::report::html::palette::color_of;
use crate::report::html::say;
use crate::report::result::{Case, RunResult};

/// Over time, what `pick` takes of each case.
fn series<'a>(cases: &[&'a Case], pick: impl Fn(&'a Case) -> Option<&'a Vec<f64>>) -> Vec<Series> {
    let of_case = |case: &&'a Case| {
        let values = pick(case).filter(|values| !values.is_empty())?;
        let points = case.timeseries.t_s.iter().zip(values).map(|(t, value)| Point::at(*t, *value));
        Some(Series {
            name: case.name.clone(),
            color: color_of(&case.name),
            points: points.collect(),
            style: Style::Line,
            faint: false,
        })
    };
    cases.iter().filter_map(of_case).collect()
}

fn time_axis(cases: &[&Case], window_s: f64) -> Axis {
    let last = cases.iter().flat_map(|case| case.timeseries.t_s.last().copied()).fold(window_s, f64::max);
    seconds_axis(
        "time since the measuring began",
        Scale::Linear { low: 0.0, high: if last > 0.0 { last } else { 1.0 } },
    )
}

/// What happened at a sink, as short strokes at the bottom.
fn marks(cases: &[&Case], sink: &str) -> Vec<Mark> {
    let of_case = |case: &&Case| {
        let color = color_of(&case.name);
        let events = case.timeseries.events.iter().filter(|event| event.sink.as_deref().is_none_or(|at| at == sink));
        let events = events.map(move |event| Mark { x: event.t_s, color, label: None, tall: false });
        let stalls = case.timeseries.stalls.iter().filter(|stall| stall.cause != "starved");
        let stalls = stalls.map(move |stall| Mark {
            x: stall.t_s.max(0.0),
            color,
            // Several may be close together, and the page's head says how long they were.
            label: None,
            tall: true,
        });
        events.chain(stalls).collect::<Vec<_>>()
    };
    cases.iter().flat_map(of_case).collect()
}

fn table(title: &str, cases: &[&Case], series: &[Series], say: fn(f64) -> String) -> Table {
    let times: Vec<f64> =
        cases.iter().map(|case| &case.timeseries.t_s).max_by_key(|t| t.len()).cloned().unwrap_or_default();
    let columns: Vec<Vec<String>> =
        series.iter().map(|series| series.points.iter().map(|point| say(point.y)).collect()).collect();
    let mut head = vec!["time"];
    head.extend(series.iter().map(|series| series.name.as_str()));
    let times = times.into_iter().map(|t| format!("{t:.2} s")).collect();
    Table::of(title, &head, rows_over(times, &columns))
}

/// What the lines say, for those who can't see them.
fn said(title: &str, series: &[Series], say: fn(f64) -> String) -> String {
    let each = series.iter().map(|series| {
        let values = || series.points.iter().map(|point| point.y);
        let mean = values().sum::<f64>() / series.points.len().max(1) as f64;
        format!("{} {} on average, at most {}", series.name, say(mean), say(values().fold(0.0, f64::max)))
    });
    format!("{title} over time: {}", each.collect::<Vec<_>>().join("; "))
}

fn age_figure(cases: &[&Case], sink: &str, window_s: f64, prefix: &str) -> Option<Figure> {
    let series = series(cases, |case| case.timeseries.age_s.get(sink));
    if series.is_empty() {
        return None;
    }
    let ages = || series.iter().flat_map(|series| series.points.iter().map(|point| point.y));
    let title = format!("Age of the {}", in_full(sink));
    let marks = marks(cases, sink);
    let note = match (marks.iter().any(|mark| !mark.tall), marks.iter().any(|mark| mark.tall)) {
        (false, false) => "",
        (true, false) => "Strokes at the bottom: a batch became visible.",
        (false, true) => "Tall strokes: freshbench itself stood still.",
        (true, true) => "Strokes at the bottom: a batch became visible. Tall strokes: freshbench itself stood still.",
    };
    let table = table(&title, cases, &series, say::seconds);
    let said = said(&title, &series, say::seconds);
    let mut plot = Plot {
        said,
        x: time_axis(cases, window_s),
        y: seconds_axis("age", Scale::from_zero(ages())),
        series,
        marks,
        pointing: Pointing::Column,
        height: 290.0,
    };
    let linear = View::plot("linear", &plot);
    let scale = Scale::decades(plot.series.iter().flat_map(|series| series.points.iter().map(|point| point.y)), 1e-4);
    plot.y = seconds_axis("age, logarithmic", scale);
    let views = vec![linear, View::plot("logarithmic", &plot)];
    let mut figure = super::figure(format!("{prefix}age-{}", id_of(sink)), title, note, views, table);
    figure.legend = legend(cases);
    Some(figure)
}

fn count_figure(
    (cases, window_s): (&[&Case], f64),
    series: Vec<Series>,
    (id, title, label, note): (String, &str, &str, &str),
) -> Option<Figure> {
    if series.is_empty() {
        return None;
    }
    let values = || series.iter().flat_map(|series| series.points.iter().map(|point| point.y));
    let y = Axis {
        label: label.to_owned(),
        scale: Scale::from_zero(values()),
        tick: say::count_tick,
        say: |value| say::in_unit(value.round(), "count"),
    };
    let table = table(title, cases, &series, y.say);
    let plot = Plot {
        said: said(title, &series, y.say),
        x: time_axis(cases, window_s),
        y,
        series,
        marks: Vec::new(),
        pointing: Pointing::Column,
        height: 190.0,
    };
    let mut figure = super::figure(id, title.to_owned(), note, vec![View::plot("", &plot)], table);
    figure.legend = legend(cases);
    Some(figure)
}

/// The charts of cases, as many as there are values for: shared with the live view.
pub fn figures(cases: &[&Case], sinks: &[&str], window_s: f64, prefix: &str) -> Vec<Block> {
    let mut figures: Vec<Figure> = sinks.iter().filter_map(|sink| age_figure(cases, sink, window_s, prefix)).collect();
    let backlog = series(cases, |case| Some(&case.timeseries.backlog));
    let said = (
        format!("{prefix}backlog"),
        "Backlog",
        "commits",
        "Commits that the source has acknowledged and the slowest sink does not show yet.",
    );
    figures.extend(count_figure((cases, window_s), backlog, said));
    let rate = series(cases, |case| Some(&case.timeseries.changes_per_s));
    let said = (format!("{prefix}rate"), "Changes at the source", "changes/s", "");
    figures.extend(count_figure((cases, window_s), rate, said));
    figures.into_iter().map(|figure| Block::Figure(Box::new(figure))).collect()
}

/// The section.
pub fn age(run: &RunResult, prefix: &str) -> Section {
    let mut blocks = vec![Block::Text(
        "Age at an instant: 0 if nothing committed is missing at the sink, else the time since the oldest missing commit. \
         Batches make a sawtooth; a stream stays a line near zero; lost commits make a line that only rises."
            .to_owned(),
    )];
    blocks.extend(figures(&followers(run), &sinks(run), run.config.duration_s, prefix));
    section(prefix, "age", "Age", "Age over time", blocks)
}
