//! The index of a folder of runs: a line and a small chart each.

use super::block::{Block, Cell, Group, Row, Table};
use super::chart::sparkline;
use super::palette::color_of;
use super::section::{self, followers, sinks, verdict::standing};
use super::{Frame, page, say};
use crate::report::html::input::Input;
use crate::report::result::RunResult;

/// What the index knows of a run.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its page or its result, relative to the index.
    pub link: String,
    /// Its result.
    pub run: RunResult,
}

/// What the index knows of a sweep, a comparison or a history.
#[derive(Clone, Debug)]
pub struct OtherListed {
    /// What it is called.
    pub name: String,
    /// Its page or its file, relative to the index.
    pub link: String,
    /// What it is.
    pub kind: &'static str,
    /// What it says, in a few words.
    pub told: String,
}

impl OtherListed {
    /// What is to be said of it.
    pub fn of(input: &Input, name: String, link: String) -> OtherListed {
        let (kind, told) = match input {
            Input::Run(run) => ("run", run.run_id.clone()),
            Input::Sweep(sweep) => ("sweep", sweep.command.clone().unwrap_or_default()),
            Input::Comparison(comparison) => ("comparison", comparison.verdict.replace('-', " ")),
            Input::History(history) => ("history", format!("{} figures", history.series.len())),
        };
        OtherListed { name, link, kind, told }
    }

    fn row(&self) -> Row {
        let head = Cell { text: self.name.clone(), link: Some(in_url(&self.link)), ..Cell::default() };
        Row {
            head,
            cells: vec![Cell::text(self.kind), Cell { class: "words", ..Cell::text(self.told.clone()) }],
            group: false,
        }
    }
}

fn row(listed: &Listed) -> Row {
    let run = &listed.run;
    let first = sinks(run).first().copied().unwrap_or("warehouse").to_owned();
    let cases = followers(run);
    let lines: Vec<(usize, Vec<f64>)> = cases
        .iter()
        .filter_map(|case| Some((color_of(&case.name), case.timeseries.age_s.get(&first)?.clone())))
        .collect();
    let said = format!(
        "Age of the {} over time: {}",
        section::in_full(&first),
        cases.iter().map(|case| case.name.as_str()).collect::<Vec<_>>().join(", ")
    );
    let passed = run.strategies.iter().all(|case| case.validation.passed);
    let (class, badge) = match (passed, run.complete) {
        (false, _) => ("failed", "validation failed"),
        (true, false) => ("differs", "incomplete"),
        (true, true) => ("good", "passed"),
    };
    let ages = cases.iter().map(|case| {
        let outside = case.metric_at("freshness.readable_age.mean", Some(&first)).filter(|_| run.config.is_foreign());
        let age = outside.or_else(|| case.metric_at("freshness.age.mean", Some(&first)));
        let age = age.and_then(|metric| metric.value);
        let (_, stands) = standing(case);
        let mark = if stands == "equals the source" { String::new() } else { format!(" ({stands})") };
        format!("{} {}{mark}", case.name, age.map_or("-".to_owned(), say::seconds))
    });
    let load = match run.config.is_foreign() {
        true => "the load of others".to_owned(),
        false => format!("{} rows, {}/s", say::count_tick(run.config.rows as f64), say::short(run.config.rate)),
    };
    Row {
        head: Cell {
            text: run.run_id.clone(),
            sub: Some(run.started_at.clone()),
            link: Some(in_url(&listed.link)),
            ..Cell::default()
        },
        cells: vec![
            Cell { class, badge: Some(badge), ..Cell::default() },
            Cell { drawing: Some(sparkline(&lines, &said)), ..Cell::default() },
            Cell { class: "words", ..Cell::text(ages.collect::<Vec<_>>().join(", ")) },
            Cell::text(load),
        ],
        group: false,
    }
}

/// A path as it may stand in a link.
fn in_url(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_./".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The page; the newest run first.
pub fn index(runs: &[Listed], others: &[OtherListed]) -> String {
    let mut ordered: Vec<&Listed> = runs.iter().collect();
    ordered.sort_by(|a, b| (&b.run.started_at, &b.link).cmp(&(&a.run.started_at, &a.link)));
    let mut names: Vec<&str> = Vec::new();
    for case in ordered.iter().flat_map(|listed| followers(&listed.run)) {
        if !names.contains(&case.name.as_str()) {
            names.push(&case.name);
        }
    }
    let key = names.iter().map(|name| (color_of(name), (*name).to_owned())).collect();
    let table = Table::of(
        "The small charts show the age over time at the first sink, each from 0 to its own largest",
        &["run", "validation", "age over time", "mean age at the first sink", "load"],
        ordered.iter().map(|listed| row(listed)).collect(),
    );
    let mut sections = Vec::new();
    if !runs.is_empty() {
        let blocks = vec![Block::Key(key), Block::Table(table)];
        sections.push(section::section("", "list", "Runs", "All runs, the newest first", blocks));
    }
    if !others.is_empty() {
        let rows = others.iter().map(OtherListed::row).collect();
        let of = Table::of("What other commands left in this folder", &["name", "kind", "what it says"], rows);
        let table = Table { class: "words", ..of };
        let title = "Sweeps, comparisons and histories";
        sections.push(section::section("", "others", "Others", title, vec![Block::Table(table)]));
    }
    let title = if runs.len() == 1 { "1 run".to_owned() } else { format!("{} runs", runs.len()) };
    let groups = [Group { id: "runs".to_owned(), title, facts: Vec::new(), sections }];
    let frame = Frame {
        title: "freshbench reports",
        lead: "Every run of this folder.",
        alarms: &[],
        foot: "It asks the network for nothing.",
        more: None,
    };
    page(&frame, &groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::sample;

    #[test]
    fn every_run_has_a_line_and_hostile_names_stay_names() {
        let listed = |link: &str| Listed { link: link.to_owned(), run: sample::run(&[("cdc-trigger", 0.1)]) };
        let mut hostile = listed("a\"onclick=x' b/report.html");
        hostile.run.run_id = "<script>alert(1)</script>".to_owned();
        let other = OtherListed {
            name: "<b>".to_owned(),
            link: "s/sweep.html".to_owned(),
            kind: "sweep",
            told: "<i>".to_owned(),
        };
        let html = index(&[listed("one/result.json"), hostile], &[other]);
        assert!(html.contains("href=\"s/sweep.html\"") && !html.contains("<b></") && !html.contains("<i>"));
        assert!(html.contains("href=\"one/result.json\""));
        assert!(html.contains("href=\"a%22onclick%3Dx%27%20b/report.html\""), "{html}");
        assert!(!html.contains("<script>alert"));
        assert_eq!(html.matches("Age of the warehouse over time").count(), 2);
    }
}
