//! The index of a folder of runs: a line and a small chart each.

use super::block::{Block, Cell, Group, Row, Table};
use super::chart::sparkline;
use super::palette::color_of;
use super::section::{self, followers, sinks, verdict::standing};
use super::{Frame, page, say};
use crate::report::result::RunResult;

/// What the index knows of a run.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its folder, relative to the index.
    pub folder: String,
    /// Whether it has a page of its own.
    pub has_page: bool,
    /// Its result.
    pub run: RunResult,
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
        let age = case.metric_at("freshness.age.mean", Some(&first)).and_then(|metric| metric.value);
        let (_, stands) = standing(case);
        let mark = if stands == "equals the source" { String::new() } else { format!(" ({stands})") };
        format!("{} {}{mark}", case.name, age.map_or("-".to_owned(), say::seconds))
    });
    let link = if listed.has_page {
        format!("{}/report.html", listed.folder)
    } else {
        format!("{}/result.json", listed.folder)
    };
    Row {
        head: Cell {
            text: run.run_id.clone(),
            sub: Some(run.started_at.clone()),
            link: Some(in_url(&link)),
            ..Cell::default()
        },
        cells: vec![
            Cell { class, badge: Some(badge), ..Cell::default() },
            Cell { drawing: Some(sparkline(&lines, &said)), ..Cell::default() },
            Cell { class: "words", ..Cell::text(ages.collect::<Vec<_>>().join(", ")) },
            Cell::text(format!("{} rows, {}/s", say::count_tick(run.config.rows as f64), say::short(run.config.rate))),
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
pub fn index(runs: &[Listed]) -> String {
    let mut ordered: Vec<&Listed> = runs.iter().collect();
    ordered.sort_by(|a, b| (&b.run.started_at, &b.folder).cmp(&(&a.run.started_at, &a.folder)));
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
    let blocks = vec![Block::Key(key), Block::Table(table)];
    let section = section::section("", "list", "Runs", "All runs, the newest first", blocks);
    let groups = [Group {
        id: "runs".to_owned(),
        title: format!("{} runs", runs.len()),
        facts: Vec::new(),
        sections: vec![section],
    }];
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
        let listed = |folder: &str, has_page| Listed {
            folder: folder.to_owned(),
            has_page,
            run: sample::run(&[("cdc-trigger", 0.1)]),
        };
        let mut hostile = listed("a\"onclick=x' b", true);
        hostile.run.run_id = "<script>alert(1)</script>".to_owned();
        let html = index(&[listed("one", false), hostile]);
        assert!(html.contains("href=\"one/result.json\""));
        assert!(html.contains("href=\"a%22onclick%3Dx%27%20b/report.html\""), "{html}");
        assert!(!html.contains("<script>alert"));
        assert_eq!(html.matches("Age of the warehouse over time").count(), 2);
    }
}
