//! Freshness against cost: where each strategy stands, with the batch interval beside those that have one.

use super::{counts, followers, in_full, interval, seconds_axis, section, sinks};
use crate::report::html::block::{Block, Cell, Figure, Row, Section, Table, View};
use crate::report::html::chart::{Axis, Plot, Point, Pointing, Scale, Series, Style};
use crate::report::html::palette::color_of;
use crate::report::html::say;
use crate::report::result::{Case, RunResult};
use crate::report::standing::Standing;

/// What a cost is reckoned by: one that depends on how much is changed, and one that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    /// CPU seconds for 1,000 changes at the source.
    PerChange,
    /// CPU seconds a second.
    Cores,
}

impl Measure {
    fn id(self) -> &'static str {
        match self {
            Measure::PerChange => "cost.cpu_s_per_1k_changes",
            Measure::Cores => "cost.cpu_cores",
        }
    }

    fn said(self, value: f64) -> String {
        match self {
            Measure::PerChange => format!("{} for 1,000 changes", say::seconds(value)),
            Measure::Cores => format!("{} cores", say::short(value)),
        }
    }

    fn title(self) -> &'static str {
        match self {
            Measure::PerChange => "CPU for 1,000 changes",
            Measure::Cores => "cores used",
        }
    }
}

const AGE: &str = "freshness.age.mean";
/// Of an attach the readers are in other processes.
const AGE_OUTSIDE: &str = "freshness.readable_age.mean";
/// Where a strategy is known to lose commits their age grows for ever, and says more of the run's length than of it.
const AGE_OF_THE_REST: &str = "freshness.age_without_lost.mean";

/// A case of a run at one sink, as far as this chart needs it.
struct Place<'a> {
    case: &'a Case,
    interval_s: Option<f64>,
    cost: f64,
    age_s: f64,
    range: Option<[f64; 2]>,
    without_lost: bool,
}

fn in_batches(name: &str) -> bool {
    matches!(name, "full-refresh" | "incremental")
}

fn places<'a>(runs: &[&'a RunResult], sink: &str, measure: Measure) -> Vec<Place<'a>> {
    let of_run = |run: &&'a RunResult| {
        let run = *run;
        followers(run).into_iter().filter_map(move |case| {
            let rest = case.metric_at(AGE_OF_THE_REST, Some(sink));
            let outside = case.metric_at(AGE_OUTSIDE, Some(sink)).filter(|_| run.config.is_foreign());
            let rest = rest.filter(|_| outside.is_none());
            let age = outside.or(rest).or_else(|| case.metric_at(AGE, Some(sink)))?;
            Some(Place {
                case,
                interval_s: in_batches(&case.name).then_some(run.config.batch_interval_s),
                cost: case.value(measure.id())?,
                age_s: age.value?,
                range: interval(age),
                without_lost: rest.is_some(),
            })
        })
    };
    runs.iter().flat_map(of_run).collect()
}

fn point(place: &Place<'_>, measure: Measure) -> Point {
    let every = place.interval_s.map_or(String::new(), |s| format!(", every {}", say::seconds_tick(s)));
    let judged = match Standing::of(place.case) {
        Standing::Failed => " (failed)",
        Standing::Differs => " (differs)",
        Standing::Partial => " (changed rows only)",
        Standing::EqualThisTime { .. } => " (equal this time)",
        Standing::Alone | Standing::Equal => "",
    };
    let range = place
        .range
        .map_or(String::new(), |[low, high]| format!(" ({} – {})", say::seconds(low.max(0.0)), say::seconds(high)));
    Point {
        x: place.cost,
        y: place.age_s,
        y_range: place.range.map(|[low, high]| [low.max(1e-9), high]),
        tip: Some(format!("age {}{range}, CPU {}{every}{judged}", say::seconds(place.age_s), measure.said(place.cost))),
        label: Some(format!("{}{every}{judged}", place.case.name)),
    }
}

fn plot(places: &[Place<'_>], sink: &str, measure: Measure) -> Plot {
    let mut names: Vec<&str> = Vec::new();
    for place in places {
        if !names.contains(&place.case.name.as_str()) {
            names.push(&place.case.name);
        }
    }
    let series = names.iter().map(|name| {
        let mut points: Vec<Point> =
            places.iter().filter(|place| place.case.name == *name).map(|place| point(place, measure)).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let failed = places.iter().any(|place| place.case.name == *name && !counts(place.case));
        Series { name: (*name).to_owned(), color: color_of(name), points, style: Style::Points, faint: failed }
    });
    let ages = || places.iter().flat_map(|p| [Some(p.age_s), p.range.map(|r| r[0]), p.range.map(|r| r[1])]).flatten();
    Plot {
        said: format!(
            "Mean age of the {} against {}: {}",
            in_full(sink),
            measure.title(),
            places
                .iter()
                .filter_map(|p| point(p, measure).label.zip(point(p, measure).tip))
                .map(|(l, t)| format!("{l}: {t}"))
                .collect::<Vec<_>>()
                .join("; ")
        ),
        x: axis(measure, Scale::factors(places.iter().map(|p| p.cost), 1e-5)),
        y: seconds_axis("mean age (less is better)", Scale::decades(ages(), 1e-4)),
        series: series.collect(),
        marks: Vec::new(),
        pointing: Pointing::Nearest,
        height: 300.0,
    }
}

fn axis(measure: Measure, scale: Scale) -> Axis {
    match measure {
        Measure::PerChange => seconds_axis("CPU of following for 1,000 changes (less is better)", scale),
        Measure::Cores => Axis {
            label: "cores used by following (less is better)".to_owned(),
            scale,
            tick: say::short,
            say: |value| format!("{} cores", say::short(value)),
        },
    }
}

fn figure(runs: &[&RunResult], sink: &str, prefix: &str) -> Option<Figure> {
    let measures = [Measure::PerChange, Measure::Cores];
    let measured = measures.map(|measure| (measure, places(runs, sink, measure)));
    let cost_of = |place: &Place<'_>, measure: Measure| {
        place.case.value(measure.id()).map_or("-".to_owned(), |value| match measure {
            Measure::PerChange => say::seconds(value),
            Measure::Cores => say::short(value),
        })
    };
    // Those without a change at the source have cores alone, those of older results only the other.
    let [(_, per_change), (_, cores)] = &measured;
    let listed = if cores.len() >= per_change.len() { cores } else { per_change };
    if listed.is_empty() {
        return None;
    }
    let rows = listed.iter().map(|place| {
        let age = Cell {
            text: say::seconds(place.age_s),
            sub: place.range.map(|[low, high]| format!("{} – {}", say::seconds(low.max(0.0)), say::seconds(high))),
            ..Cell::default()
        };
        let cells = vec![
            Cell::text(place.interval_s.map_or("-".to_owned(), say::seconds_tick)),
            Cell::text(cost_of(place, Measure::PerChange)),
            Cell::text(cost_of(place, Measure::Cores)),
            age,
        ];
        let lost = if place.without_lost { ", age without lost commits" } else { "" };
        Row { head: Cell::text(format!("{}{lost}", place.case.name)), cells, group: false }
    });
    let title = format!("Freshness against cost: {}", in_full(sink));
    let table = Table::of(
        title.clone(),
        &["strategy", "batches every", "CPU, 1,000 changes", "cores", "mean age"],
        rows.collect(),
    );
    let drawn = measured.iter().filter(|(_, places)| !places.is_empty());
    let views = drawn.map(|(measure, places)| View::plot(measure.title(), &plot(places, sink, *measure))).collect();
    let id = format!("{prefix}cost-{}", crate::report::html::block::id_of(sink));
    Some(super::figure(id, title, "", views, table))
}

/// The section; several runs stand in one chart each sink.
pub fn cost(runs: &[&RunResult], prefix: &str) -> Section {
    let mut blocks = vec![Block::Text(
        "Nearer to the lower left corner is better; both axes are logarithmic. The CPU is that of capturing, moving and \
         applying to all sinks together: for each change at the source, however many rows are copied for it, and in cores, which \
         compare only at one load. For a strategy that loses commits the age is that of what does arrive; of an attach it is that of what other \
         processes read."
            .to_owned(),
    )];
    let mut names: Vec<&str> = Vec::new();
    for sink in runs.iter().flat_map(|run| sinks(run)) {
        if !names.contains(&sink) {
            names.push(sink);
        }
    }
    for sink in names {
        blocks.extend(figure(runs, sink, prefix).map(|figure| Block::Figure(Box::new(figure))));
    }
    section(prefix, "cost", "Cost", "Freshness against cost", blocks)
}
