//! Freshness against cost: where each strategy stands, with the batch interval beside those that have one.

use super::{counts, followers, in_full, interval, seconds_axis, section, sinks};
use crate::report::html::block::{Block, Cell, Figure, Row, Section, Table, View};
use crate::report::html::chart::{Plot, Point, Pointing, Scale, Series, Style};
use crate::report::html::palette::color_of;
use crate::report::html::say;
use crate::report::result::{Case, RunResult};

const COST: &str = "cost.cpu_s_per_1k_changes";
const AGE: &str = "freshness.age.mean";
/// Where a strategy is known to lose commits their age grows for ever, and says more of the run's length than of it.
const AGE_OF_THE_REST: &str = "freshness.age_without_lost.mean";

/// A case of a run at one sink, as far as this chart needs it.
struct Place<'a> {
    case: &'a Case,
    interval_s: Option<f64>,
    cost_s: f64,
    age_s: f64,
    range: Option<[f64; 2]>,
    without_lost: bool,
}

fn in_batches(name: &str) -> bool {
    matches!(name, "full-refresh" | "incremental")
}

fn places<'a>(runs: &[&'a RunResult], sink: &str) -> Vec<Place<'a>> {
    let of_run = |run: &&'a RunResult| {
        let run = *run;
        followers(run).into_iter().filter_map(move |case| {
            let rest = case.metric_at(AGE_OF_THE_REST, Some(sink));
            let age = rest.or_else(|| case.metric_at(AGE, Some(sink)))?;
            Some(Place {
                case,
                interval_s: in_batches(&case.name).then_some(run.config.batch_interval_s),
                cost_s: case.value(COST)?,
                age_s: age.value?,
                range: interval(age),
                without_lost: rest.is_some(),
            })
        })
    };
    runs.iter().flat_map(of_run).collect()
}

fn point(place: &Place<'_>) -> Point {
    let every = place.interval_s.map_or(String::new(), |s| format!(", every {}", say::seconds_tick(s)));
    let judged = if !counts(place.case) {
        " (failed)"
    } else if place.case.validation.equal {
        ""
    } else if place.case.validation.is_partial() {
        " (changed rows only)"
    } else {
        " (differs)"
    };
    let range = place
        .range
        .map_or(String::new(), |[low, high]| format!(" ({} – {})", say::seconds(low.max(0.0)), say::seconds(high)));
    Point {
        x: place.cost_s,
        y: place.age_s,
        y_range: place.range.map(|[low, high]| [low.max(1e-9), high]),
        tip: Some(format!(
            "age {}{range}, CPU {} for 1,000 changes{every}{judged}",
            say::seconds(place.age_s),
            say::seconds(place.cost_s)
        )),
        label: Some(format!("{}{every}{judged}", place.case.name)),
    }
}

fn plot(places: &[Place<'_>], sink: &str) -> Plot {
    let mut names: Vec<&str> = Vec::new();
    for place in places {
        if !names.contains(&place.case.name.as_str()) {
            names.push(&place.case.name);
        }
    }
    let series = names.iter().map(|name| {
        let mut points: Vec<Point> = places.iter().filter(|place| place.case.name == *name).map(point).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let failed = places.iter().any(|place| place.case.name == *name && !counts(place.case));
        Series { name: (*name).to_owned(), color: color_of(name), points, style: Style::Points, faint: failed }
    });
    let ages = || places.iter().flat_map(|p| [Some(p.age_s), p.range.map(|r| r[0]), p.range.map(|r| r[1])]).flatten();
    Plot {
        said: format!(
            "Mean age of the {} against CPU for 1,000 changes: {}",
            in_full(sink),
            places
                .iter()
                .filter_map(|p| point(p).label.zip(point(p).tip))
                .map(|(l, t)| format!("{l}: {t}"))
                .collect::<Vec<_>>()
                .join("; ")
        ),
        x: seconds_axis(
            "CPU of following for 1,000 changes (less is better)",
            Scale::factors(places.iter().map(|p| p.cost_s), 1e-5),
        ),
        y: seconds_axis("mean age (less is better)", Scale::decades(ages(), 1e-4)),
        series: series.collect(),
        marks: Vec::new(),
        pointing: Pointing::Nearest,
        height: 300.0,
    }
}

fn figure(places: &[Place<'_>], sink: &str, prefix: &str) -> Figure {
    let rows = places.iter().map(|place| {
        let age = Cell {
            text: say::seconds(place.age_s),
            sub: place.range.map(|[low, high]| format!("{} – {}", say::seconds(low.max(0.0)), say::seconds(high))),
            ..Cell::default()
        };
        let cells = vec![
            Cell::text(place.interval_s.map_or("-".to_owned(), say::seconds_tick)),
            Cell::text(say::seconds(place.cost_s)),
            age,
        ];
        let lost = if place.without_lost { ", age without lost commits" } else { "" };
        Row { head: Cell::text(format!("{}{lost}", place.case.name)), cells, group: false }
    });
    let title = format!("Freshness against cost: {}", in_full(sink));
    let table =
        Table::of(title.clone(), &["strategy", "batches every", "CPU, 1,000 changes", "mean age"], rows.collect());
    super::figure(
        format!("{prefix}cost-{}", crate::report::html::block::id_of(sink)),
        title,
        "",
        vec![View::plot("", &plot(places, sink))],
        table,
    )
}

/// The section; several runs stand in one chart each sink.
pub fn cost(runs: &[&RunResult], prefix: &str) -> Section {
    let mut blocks = vec![Block::Text(
        "Nearer to the lower left corner is better; both axes are logarithmic. The CPU is that of capturing, moving and \
         applying to all sinks together. For a strategy that loses commits the age is that of what does arrive."
            .to_owned(),
    )];
    let mut names: Vec<&str> = Vec::new();
    for sink in runs.iter().flat_map(|run| sinks(run)) {
        if !names.contains(&sink) {
            names.push(sink);
        }
    }
    for sink in names {
        let places = places(runs, sink);
        if !places.is_empty() {
            blocks.push(Block::Figure(Box::new(figure(&places, sink, prefix))));
        }
    }
    section(prefix, "cost", "Cost", "Freshness against cost", blocks)
}
