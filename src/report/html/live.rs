//! The page of a run in progress: the same charts, drawn anew each time they are asked for.

use super::block::{Block, Group, Item};
use super::palette::color_of;
use super::section::{self, age, divergence, lag, section, verdict};
use super::{Frame, facts, page, say};
use crate::report::result::{Case, RunResult};
use askama::Template;
use std::collections::BTreeMap;

const SCRIPT: &str = include_str!("templates/live.js");

/// What there is to see of a run in progress.
#[derive(Debug)]
pub struct Live<'a> {
    /// The cases that have finished, as they were saved.
    pub finished: Option<&'a RunResult>,
    /// The one that is running.
    pub running: Option<&'a Case>,
    /// The stretch of work that is going on.
    pub phase: &'a str,
    /// The running one's ages by sink, in seconds.
    pub ages_s: &'a BTreeMap<String, f64>,
    /// Commits that the slowest sink does not show yet.
    pub backlog: u64,
    /// Changes a second at the source.
    pub rate: f64,
}

fn status(live: &Live<'_>) -> Item {
    let ages =
        live.ages_s.iter().map(|(sink, age)| format!("{} {} behind", section::in_full(sink), say::seconds(*age)));
    let mut text: Vec<String> = ages.collect();
    if live.rate > 0.0 {
        text.push(format!("backlog {} commits", say::in_unit(live.backlog as f64, "count")));
        text.push(format!("{} changes/s", say::in_unit(live.rate.round(), "count")));
    }
    Item {
        color: live.running.map(|case| color_of(&case.name)),
        term: live.running.map_or("the run", |case| &case.name).to_owned(),
        class: "tie",
        badge: if live.phase.is_empty() { "between two cases".to_owned() } else { live.phase.to_owned() },
        text: text.join(", "),
    }
}

fn group(live: &Live<'_>) -> Group {
    let mut now = vec![Block::Items(vec![status(live)])];
    let complete = live.finished.is_some_and(|run| run.complete);
    if complete {
        now = vec![Block::Text("The run has ended; its page is report.html in its folder.".to_owned())];
    }
    let mut sections = vec![section("", "now", "Now", "Now", now)];
    let Some(finished) = live.finished else {
        return Group { id: "live".to_owned(), title: "A run in progress".to_owned(), facts: Vec::new(), sections };
    };
    let mut all = finished.clone();
    all.strategies.extend(live.running.cloned());
    let cases = section::followers(&all);
    let names = section::sinks(&all);
    let note = "A line that ends early is still being drawn. While a case runs its values are sampled, to within about 10 ms; \
                lags and ages of one that has finished are exact, from events. How old the data of a dual write is comes out only \
                when its case has ended.";
    let mut charts = vec![Block::Text(note.to_owned())];
    charts.extend(age::figures(&cases, &names, all.config.duration_s, ""));
    sections.push(section("", "age", "Age", "Age, backlog and rate", charts));
    if !finished.strategies.is_empty() {
        sections.push(verdict::verdict(finished, ""));
    }
    sections.push(lag::lag(&all, ""));
    if finished.strategies.iter().any(|case| !case.validation.sinks.is_empty()) {
        sections.push(divergence::divergence(finished, ""));
    }
    Group { id: "live".to_owned(), title: finished.run_id.clone(), facts: facts(finished), sections }
}

/// The whole page.
pub fn live_page(live: &Live<'_>) -> String {
    let frame = Frame {
        title: "freshbench, live",
        lead: "A run in progress, updated each second; what has finished stays beside what is running.",
        alarms: &[],
        foot: "For scrapers: /metrics.",
        more: Some(SCRIPT),
    };
    page(&frame, &[group(live)])
}

/// What changes in it: the contents of its main element.
pub fn live_charts(live: &Live<'_>) -> String {
    super::Fragment { groups: &[group(live)] }.render().unwrap_or_default()
}
