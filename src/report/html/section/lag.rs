//! The distribution of the commit lag as a percentile spectrum, and the share of time beyond an objective.

use super::{followers, in_full, legend, rows_over, seconds_axis, section, sinks};
use crate::report::html::block::{Block, Figure, Row, Section, Table, View, id_of};
use crate::report::html::chart::{Axis, Plot, Point, Pointing, Scale, Series, Style};
use crate::report::html::palette::color_of;
use crate::report::html::say;
use crate::report::result::{Case, RunResult};
use crate::stats::Histogram;

/// Points of a spectrum: enough that its line is smooth.
const POINTS: u32 = 60;
/// What the smallest lags are drawn at.
const LEAST_S: f64 = 1e-5;
const TABLE: [f64; 8] = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0];

/// A share as its percentile is called: with as many digits as it has nines.
fn percentile(p: f64) -> String {
    if p >= 1.0 {
        return "max".to_owned();
    }
    let digits = (-(1.0 - p).log10()).ceil().clamp(1.0, 4.0) as usize;
    let text = format!("{:.digits$}", p * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.').trim_start_matches('-'))
}

/// A spectrum's points up to the last observation, those that were censored apart.
fn spectrum(histogram: &Histogram, censored: u64) -> (Vec<Point>, Vec<Point>) {
    let n = histogram.len() as f64;
    let known = 1.0 - censored as f64 / n.max(1.0);
    let nines = n.max(10.0).log10();
    let (mut seen, mut at_least) = (Vec::new(), Vec::new());
    for step in 0..=POINTS {
        let p = 1.0 - 10f64.powf(-nines * f64::from(step) / f64::from(POINTS));
        let Some(lag) = histogram.quantile(p).map(|lag| lag.as_secs_f64()) else { continue };
        let point = Point::at(p, lag);
        if p <= known || censored == 0 {
            seen.push(point);
        } else {
            at_least.push(Point { tip: Some(format!("more than {}", say::seconds(lag))), ..point });
        }
    }
    if let (Some(last), false) = (seen.last().cloned(), at_least.is_empty()) {
        at_least.insert(0, last);
    }
    (seen, at_least)
}

/// A distribution of lags: its title, and its histogram's id.
type Lag = (&'static str, &'static str);

const INSIDE: Lag = ("Commit lag", "freshness.commit_lag");
const OUTSIDE: Lag = ("Until others can read it", "freshness.readable_lag");

fn decoded(case: &Case, id: &str, sink: &str) -> Option<(Histogram, u64)> {
    let hist = case.histograms.iter().find(|h| h.id == id && h.sink.as_deref() == Some(sink))?;
    // A histogram that can't be read leaves a gap in this chart; its quantiles are among the figures.
    let histogram = Histogram::decode(&hist.data).ok().filter(|histogram| !histogram.is_empty())?;
    Some((histogram, hist.censored))
}

fn spectrum_figure(cases: &[&Case], lag: Lag, sink: &str, prefix: &str) -> Option<Figure> {
    let mut series = Vec::new();
    let mut most = 1.0f64;
    let mut columns = Vec::new();
    let mut head = vec!["percentile"];
    for case in cases {
        let Some((histogram, censored)) = decoded(case, lag.1, sink) else { continue };
        most = most.max((histogram.len() as f64).log10());
        let (seen, at_least) = spectrum(&histogram, censored);
        let color = color_of(&case.name);
        let line = |name: String, points, faint| Series { name, color, points, style: Style::Line, faint };
        series.push(line(case.name.clone(), seen, false));
        if !at_least.is_empty() {
            series.push(line(format!("{} (at least)", case.name), at_least, true));
        }
        head.push(&case.name);
        let known = 1.0 - censored as f64 / histogram.len() as f64;
        let quantile = |p: f64| {
            let more = if p > known && censored > 0 { "> " } else { "" };
            histogram.quantile(p).map_or("-".to_owned(), |lag| format!("{more}{}", say::seconds(lag.as_secs_f64())))
        };
        columns.push(TABLE.map(quantile).to_vec());
    }
    if series.is_empty() {
        return None;
    }
    let lags = || series.iter().flat_map(|series| series.points.iter().map(|point| point.y));
    let title = format!("{}: {}", lag.0, in_full(sink));
    let table = Table::of(title.clone(), &head, rows_over(TABLE.map(percentile).to_vec(), &columns));
    let said = head.iter().skip(1).zip(&columns).map(|(name, column)| {
        let at = |n: usize| column.get(n).map_or("-", String::as_str);
        format!("{name}: half of the commits within {}, 99 % within {}, all within {}", at(0), at(4), at(7))
    });
    let plot = Plot {
        said: format!("{title}, by percentile. {}", said.collect::<Vec<_>>().join("; ")),
        x: Axis {
            label: "share of the commits, by log 1/(1-p)".to_owned(),
            scale: Scale::Nines { most },
            tick: percentile,
            say: percentile,
        },
        y: seconds_axis("visible within", Scale::decades(lags(), LEAST_S)),
        series,
        marks: Vec::new(),
        pointing: Pointing::Column,
        height: 300.0,
    };
    let mut figure = super::figure(
        format!("{prefix}{}-{}", if lag == INSIDE { "lag" } else { "readable" }, id_of(sink)),
        title,
        "",
        vec![View::plot("", &plot)],
        table,
    );
    figure.legend = legend(cases);
    Some(figure)
}

fn slo_figure(cases: &[&Case], sink: &str, prefix: &str) -> Option<Figure> {
    let beyond = |case: &&Case| {
        let within = case.metrics.iter().filter(|m| m.id == "freshness.within_slo" && m.sink.as_deref() == Some(sink));
        let points: Vec<Point> = within.filter_map(|m| Some(Point::at(m.theta_s?, 1.0 - m.value?))).collect();
        let (name, color) = (case.name.clone(), color_of(&case.name));
        (!points.is_empty()).then_some(Series { name, color, points, style: Style::Line, faint: false })
    };
    let series: Vec<Series> = cases.iter().filter_map(beyond).collect();
    let thetas: Vec<f64> = series.first()?.points.iter().map(|point| point.x).collect();
    let (low, high) = (thetas.iter().copied().fold(f64::MAX, f64::min), thetas.iter().copied().fold(0.0, f64::max));
    let title = format!("Time beyond an objective: {}", in_full(sink));
    let rows = thetas.iter().enumerate().map(|(n, theta)| {
        let share = |series: &Series| series.points.get(n).map_or("-".to_owned(), |point| say::percent(point.y));
        Row::of(format!("> {}", say::seconds_tick(*theta)), series.iter().map(share).collect::<Vec<_>>())
    });
    let mut head = vec!["age"];
    head.extend(series.iter().map(|series| series.name.as_str()));
    let table = Table::of("Share of time with an age beyond the objective", &head, rows.collect());
    let said = series.iter().map(|series| {
        let at_a_second =
            series.points.iter().find(|point| point.x == 1.0).map_or("-".to_owned(), |p| say::percent(p.y));
        format!("{} {at_a_second} of the time beyond 1 s", series.name)
    });
    let plot = Plot {
        said: format!("{title}. {}", said.collect::<Vec<_>>().join("; ")),
        x: seconds_axis("objective for the age", Scale::Log { low, high: high.max(low * 10.0) }),
        y: Axis {
            label: "share of time beyond it".to_owned(),
            scale: Scale::Linear { low: 0.0, high: 1.0 },
            tick: say::percent_tick,
            say: say::percent,
        },
        series,
        marks: Vec::new(),
        pointing: Pointing::Column,
        height: 230.0,
    };
    let mut figure =
        super::figure(format!("{prefix}slo-{}", id_of(sink)), title, "", vec![View::plot("", &plot)], table);
    figure.legend = legend(cases);
    Some(figure)
}

/// The section.
pub fn lag(run: &RunResult, prefix: &str) -> Section {
    let cases = followers(run);
    let mut blocks = vec![Block::Text(
        "Commit lag: from the acknowledgement of a commit until a read in this process would show it, of every commit of the window; \
         readers in other processes wait for the checkpoint that brings it into the folder. \
         To the right each step is a nine more: nine in ten, 99 in a hundred. Dotted: not visible when the run ended, so known \
         only to be at least so long."
            .to_owned(),
    )];
    for sink in sinks(run) {
        let order = if run.config.is_foreign() { [OUTSIDE, INSIDE] } else { [INSIDE, OUTSIDE] };
        let [first, second] = order.map(|lag| spectrum_figure(&cases, lag, sink, prefix));
        let figures = [first, second, slo_figure(&cases, sink, prefix)];
        blocks.extend(figures.into_iter().flatten().map(|figure| Block::Figure(Box::new(figure))));
    }
    section(prefix, "lag", "Lag", "Commit lag, and time within an objective", blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_spectrum_ends_with_its_last_observation_and_shows_the_censored_apart() {
        let mut histogram = Histogram::new();
        for ms in 1..=100 {
            histogram.record(Duration::from_millis(ms));
        }
        let (seen, at_least) = spectrum(&histogram, 10);
        assert!((seen[0].y - 0.001).abs() < 1e-5);
        assert!(seen.iter().all(|point| point.x <= 0.9 + 1e-9) && seen.iter().any(|point| point.x > 0.88));
        let last = at_least.last().unwrap();
        assert!((last.x - 0.99).abs() < 1e-9 && (last.y - 0.099).abs() < 2e-3, "{last:?}");
        assert!(last.tip.as_deref().unwrap().starts_with("more than "));
        assert_eq!(spectrum(&histogram, 0).1.len(), 0);
    }

    #[test]
    fn percentiles_are_called_as_people_do() {
        assert_eq!(
            [0.0, 0.5, 0.9, 0.999, 0.9999, 1.0].map(percentile),
            ["0 %", "50 %", "90 %", "99.9 %", "99.99 %", "max"]
        );
    }
}
