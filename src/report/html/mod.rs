//! The page that people look at: one HTML file with everything in it, which asks the network for nothing.

mod block;
pub mod chart;
mod index;
pub mod input;
mod live;
mod palette;
#[cfg(test)]
pub(in crate::report) mod sample;
mod say;
mod section;

pub use index::{Listed, OtherListed, index};
pub use input::{Input, InputError};
pub use live::{Live, live_charts, live_page};
pub use palette::color_of;

use self::block::{Block, Group, Section};
use super::headline::count;
use super::result::RunResult;
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The largest page, in bytes: a mail takes it, and a phone opens it.
pub const PAGE_BYTES_MAX: usize = 1_500_000;
/// Runs that are shown in full on one page; of more, the newest.
const FULL_RUNS_MAX: usize = 3;

const STYLE: &str = include_str!("templates/style.css");
const HOVER: &str = include_str!("templates/hover.js");

/// A page.
#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    policy: String,
    version: &'a str,
    title: &'a str,
    lead: &'a str,
    alarms: &'a [String],
    style: &'a str,
    script: &'a str,
    groups: &'a [Group],
    foot: &'a str,
    live: bool,
}

/// The charts of a page alone, for one that is on the screen already.
#[derive(Template)]
#[template(path = "fragment.html")]
struct Fragment<'a> {
    groups: &'a [Group],
}

/// What a page says besides its groups.
struct Frame<'a> {
    title: &'a str,
    lead: &'a str,
    alarms: &'a [String],
    foot: &'a str,
    /// A script of its own behind the one for values under the pointer; the page may then ask the place it came from.
    more: Option<&'a str>,
}

/// The browser may run this very script and use this very style, and nothing that came in with data.
fn policy(style: &str, script: &str, live: bool) -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    let connect = if live { "; connect-src 'self'" } else { "" };
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'{connect}",
        hash(style),
        hash(script)
    )
}

fn page(frame: &Frame<'_>, groups: &[Group]) -> String {
    let script = format!("{HOVER}{}", frame.more.unwrap_or(""));
    let page = Page {
        policy: policy(STYLE, &script, frame.more.is_some()),
        version: env!("CARGO_PKG_VERSION"),
        title: frame.title,
        lead: frame.lead,
        alarms: frame.alarms,
        style: STYLE,
        script: &script,
        groups,
        foot: frame.foot,
        live: frame.more.is_some(),
    };
    // Writing to a string does not fail.
    page.render().unwrap_or_default()
}

/// What a run was, in a few facts.
fn facts(run: &RunResult) -> Vec<String> {
    let config = &run.config;
    if config.is_foreign() {
        return vec![
            format!("{} on {}", config.workload, config.source),
            format!("{} measured", say::seconds_tick(config.duration_s)),
            format!("{}, {} cores", run.env.cpu_model, run.env.cores),
            run.started_at.clone(),
        ];
    }
    vec![
        format!("{} on {}", config.workload, config.source),
        format!("{} rows", count(config.rows as f64)),
        format!("{} transactions/s offered by {} clients", count(config.rate), config.clients),
        format!("{} measured", say::seconds_tick(config.duration_s)),
        format!("batches every {}", say::seconds_tick(config.batch_interval_s)),
        format!("seed {}", config.seed),
        format!("{}, {} cores", run.env.cpu_model, run.env.cores),
        run.started_at.clone(),
    ]
}

/// Everything about one run.
fn group(run: &RunResult, prefix: &str) -> Group {
    let mut sections = vec![
        section::verdict::verdict(run, prefix),
        section::score::score(run, prefix),
        section::cost::cost(&[run], prefix),
        section::age::age(run, prefix),
        section::lag::lag(run, prefix),
    ];
    sections.extend(section::stages::stages(run, prefix));
    sections.push(section::divergence::divergence(run, prefix));
    sections.push(section::about::about(run, prefix));
    // A run that has no strategy yet has nothing to draw.
    sections.retain(|section| !section.blocks.is_empty());
    Group { id: format!("{prefix}run"), title: run.run_id.clone(), facts: facts(run), sections }
}

/// Sections that belong to no single run.
fn shared(id: &str, title: &str, sections: Vec<Section>) -> Group {
    Group { id: id.to_owned(), title: title.to_owned(), facts: Vec::new(), sections }
}

/// One page about all that is given.
///
/// Several runs are set side by side and one after the other; the newest of them are shown in full.
pub fn report(inputs: &[Input]) -> String {
    let mut runs: Vec<&RunResult> =
        inputs.iter().filter_map(|input| if let Input::Run(run) = input { Some(&**run) } else { None }).collect();
    runs.sort_by(|a, b| (&a.started_at, &a.run_id).cmp(&(&b.started_at, &b.run_id)));
    let alarms: Vec<String> = runs.iter().flat_map(|run| section::verdict::alarms(run)).collect();
    let mut shown = runs.len().min(FULL_RUNS_MAX);
    loop {
        let groups = groups(inputs, &runs, shown);
        let title = title(&runs, inputs);
        let lead = "How a warehouse, a search index and a cache are best fed from a database: freshness, cost and consistency, measured side by side.";
        let foot = if shown < runs.len() {
            format!("Of {} runs the newest {shown} are shown in full.", runs.len())
        } else {
            "It asks the network for nothing.".to_owned()
        };
        let html = page(&Frame { title: &title, lead, alarms: &alarms, foot: &foot, more: None }, &groups);
        // A page that is too long shows fewer runs in full, not less of one.
        if html.len() <= PAGE_BYTES_MAX || shown <= 1 {
            return html;
        }
        shown -= 1;
    }
}

fn title(runs: &[&RunResult], inputs: &[Input]) -> String {
    match (runs, inputs) {
        ([run], _) => format!("{} on {}", run.config.workload, run.config.source),
        ([], [Input::Sweep(_)]) => "Break-even".to_owned(),
        ([], [Input::Comparison(_)]) => "Comparison".to_owned(),
        ([], [Input::History(_)]) => "History".to_owned(),
        ([], _) => "freshbench".to_owned(),
        (runs, _) => format!("{} runs", runs.len()),
    }
}

fn groups(inputs: &[Input], runs: &[&RunResult], shown: usize) -> Vec<Group> {
    let mut groups = Vec::new();
    if runs.len() > 1 {
        let mut sections = section::runs::sections(runs);
        sections.insert(1, section::cost::cost(runs, "all-"));
        groups.push(shared("runs", "All runs", sections));
    }
    let full = runs.iter().rev().take(shown);
    groups.extend(full.enumerate().map(|(n, run)| {
        let prefix = if runs.len() > 1 { format!("r{}-", n + 1) } else { String::new() };
        group(run, &prefix)
    }));
    let mut others = Vec::new();
    for (n, input) in inputs.iter().enumerate() {
        match input {
            Input::Run(_) => {}
            Input::Sweep(sweep) => others.push(section::sweep::sweep(sweep, n)),
            Input::Comparison(comparison) => others.push(section::comparison::comparison(comparison, n)),
            Input::History(history) => others.push(section::history::history(history, n)),
        }
    }
    if !others.is_empty() {
        let title = match others.as_slice() {
            [only] => only.short,
            _ => "Sweeps, comparisons and history",
        };
        groups.push(shared("more", title, others));
    }
    groups.push(shared("words", "What the figures mean", vec![section::about::definitions()]));
    groups
}

#[cfg(test)]
mod tests;
