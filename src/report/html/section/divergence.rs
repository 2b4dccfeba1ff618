//! Whether the followers agree with the source and with each other, and the race that drove them apart.

use super::{followers, in_full, section, sinks};
use crate::report::html::block::{Block, Cell, Item, Row, Section, Table};
use crate::report::html::chart::{Anchor, Svg, Width};
use crate::report::html::palette::color_of;
use crate::report::html::say;
use crate::report::result::{Case, RunResult};
use crate::report::standing::Standing;

/// Examples that are told of each strategy and sink.
const EXAMPLES: usize = 2;

/// Missing, extra and wrong rows by strategy and sink.
fn rows(run: &RunResult) -> Table {
    let mut rows = Vec::new();
    for case in followers(run) {
        for sink in sinks(run) {
            let tables: Vec<_> = case.validation.sinks.iter().filter(|entry| entry.sink == sink).collect();
            if tables.is_empty() {
                continue;
            }
            let sum =
                |pick: fn(&crate::report::SinkValidation) -> u64| tables.iter().map(|entry| pick(entry)).sum::<u64>();
            let counts = [sum(|e| e.rows), sum(|e| e.missing), sum(|e| e.extra), sum(|e| e.wrong)];
            let mut cells: Vec<Cell> =
                counts.iter().map(|count| Cell::text(say::in_unit(*count as f64, "rows"))).collect();
            let differs = counts.iter().skip(1).any(|count| *count > 0);
            let badge = match Standing::of(case) {
                _ if differs => ("differs", "differs"),
                Standing::EqualThisTime { .. } => ("differs", "equal at the end"),
                _ => ("good", "equal"),
            };
            cells.push(Cell { class: badge.0, badge: Some(badge.1), ..Cell::default() });
            rows.push(Row { head: Cell::text(format!("{}, {}", case.name, in_full(sink))), cells, group: false });
        }
    }
    let caption = "Rows compared at one position after the last transaction, by key and content";
    Table::of(caption, &["", "rows", "missing", "extra", "wrong", ""], rows)
}

/// Races and half-done writes of strategies in which the application writes itself.
fn races(run: &RunResult) -> Option<Table> {
    let mut rows = Vec::new();
    for case in followers(run) {
        for sink in &case.divergence {
            let n = |count: u64| say::in_unit(count as f64, "count");
            let cells = [
                n(sink.writes),
                format!("{} / {}", n(sink.races_transient), n(sink.races_permanent)),
                format!("{} / {}", n(sink.partial_failures_transient), n(sink.partial_failures_permanent)),
                sink.per_million_writes.map_or("-".to_owned(), |rate| say::in_unit(rate.round(), "count")),
            ];
            rows.push(Row::of(format!("{}, {}", case.name, in_full(&sink.sink)), cells));
        }
    }
    let head =
        ["", "rows written", "raced: put right / for good", "client died: put right / for good", "per million writes"];
    let caption = "How often a key came apart because clients write to each sink themselves";
    (!rows.is_empty()).then(|| Table::of(caption, &head, rows))
}

fn causes(case: &Case) -> String {
    let each = case.validation.causes.iter().map(|(cause, n)| format!("{} {cause}", say::in_unit(*n as f64, "count")));
    each.collect::<Vec<_>>().join(", ")
}

fn examples(run: &RunResult) -> Vec<Item> {
    let mut items = Vec::new();
    for case in followers(run) {
        let told = case
            .divergence
            .iter()
            .flat_map(|sink| sink.examples.iter().take(EXAMPLES).map(|e| (sink.sink.as_str(), e)));
        let compared = || {
            sinks(run).into_iter().flat_map(|sink| {
                let entries = case.validation.sinks.iter().filter(move |entry| entry.sink == sink);
                entries.flat_map(|entry| entry.examples.iter()).take(EXAMPLES).map(move |example| (sink, example))
            })
        };
        let told: Vec<(&str, &String)> = if case.divergence.is_empty() { compared().collect() } else { told.collect() };
        items.extend(told.into_iter().map(|(sink, example)| Item {
            color: Some(color_of(&case.name)),
            term: format!("{}, {}", case.name, in_full(sink)),
            class: "plain",
            badge: String::new(),
            text: example.clone(),
        }));
    }
    items
}

/// Two clients' writes that met in the wrong order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Race {
    key: String,
    sink: String,
    newer: (String, String),
    older: (String, String),
    put_right: bool,
}

/// Reads what `run` tells of a race; other texts tell of none.
fn race_of(told: &str) -> Option<Race> {
    fn commit(text: &str) -> Option<((String, String), &str)> {
        let (number, rest) = text.split_once(" (")?;
        let (inside, rest) = rest.split_once(')')?;
        let client = inside.rsplit_once("client ")?.1;
        Some(((number.to_owned(), client.to_owned()), rest))
    }
    const OVERTAKEN: &str = " first and was overwritten by the older commit ";
    let (key, rest) = told.rsplit_once(": commit ")?;
    let (newer, rest) = commit(rest)?;
    let (sink, rest) = rest.strip_prefix(" reached the ")?.split_once(OVERTAKEN)?;
    let (older, end) = commit(rest)?;
    Some(Race { key: key.to_owned(), sink: sink.to_owned(), newer, older, put_right: end.contains("put it right") })
}

/// The race as a drawing: time goes to the right, the two arrows cross between the source and the sink.
fn draw_race(race: &Race, width: Width) -> String {
    let (wide, small) = (width.px(), width == Width::Narrow);
    let (left, right) = (if small { 66.0 } else { 110.0 }, wide - 10.0);
    let (top, bottom, height) = (46.0, 150.0, 196.0);
    let long = right - left;
    let ((newer, newer_client), (older, older_client)) = (&race.newer, &race.older);
    let said = format!(
        "{}: client {older_client} commits {older}, then client {newer_client} commits {newer}; at the {} {newer} arrives first and \
         {older} overwrites it",
        race.key, race.sink
    );
    let mut svg = Svg::new((wide, height), &said, [left, top, long, bottom - top]);
    for (y, name) in [(top, "database"), (bottom, race.sink.as_str())] {
        svg.text("name", (2.0, y + 4.0), Anchor::Start, name);
        svg.line("lane", [left, y, right, y]);
    }
    // The older commit comes first and arrives last.
    let arrows = [(1, older, older_client, 0.10, 0.80), (3, newer, newer_client, 0.34, 0.48)];
    for (color, commit, client, from, to) in arrows {
        let (x1, x2) = (left + from * long, left + to * long);
        svg.path(&format!("arrow c{color}"), &[(x1, top), (x2, bottom)]);
        svg.sign(&format!("sign c{color}"), 0, (x1, top), 10.0);
        svg.sign(&format!("sign c{color}"), 4, (x2, bottom - 6.0), 11.0);
        let who = if small { format!("client {client}") } else { format!("client {client} commits {commit}") };
        let at = if color == 1 { top - 12.0 } else { top - 28.0 };
        svg.text("name", (x1 - 4.0, at), Anchor::Start, &if small { format!("{who}: {commit}") } else { who });
    }
    svg.text("name", (left + 0.48 * long, bottom + 20.0), Anchor::Middle, &format!("shows {newer}"));
    let ends = if small { format!("ends with {older}") } else { format!("is overwritten with the older {older}") };
    svg.text("name", (right, bottom + 20.0), Anchor::End, &ends);
    svg.text("tick", (left, height - 4.0), Anchor::Start, "time, not to scale");
    svg.finish()
}

fn race_drawing(run: &RunResult) -> Option<Block> {
    let told = followers(run).into_iter().flat_map(|case| {
        case.divergence.iter().flat_map(move |sink| sink.examples.iter().map(move |example| (case, example)))
    });
    let (case, race) = told.filter_map(|(case, example)| Some((case, race_of(example)?))).next()?;
    let end = if race.put_right { "A later write put it right." } else { "Nothing put it right." };
    let title = format!("{}: the race for {}. No call returned an error. {end}", case.name, race.key);
    Some(Block::Drawing(title, vec![(draw_race(&race, Width::Wide), draw_race(&race, Width::Narrow))]))
}

/// The section.
pub fn divergence(run: &RunResult, prefix: &str) -> Section {
    let mut blocks = vec![Block::Table(rows(run))];
    for case in followers(run) {
        if !case.validation.causes.is_empty() {
            blocks.push(Block::Text(format!("{}: {}.", case.name, causes(case))));
        }
        if case.validation.disagreements > 0 {
            let n = say::in_unit(case.validation.disagreements as f64, "count");
            blocks.push(Block::Text(format!("{}: two sinks show {n} keys differently.", case.name)));
        }
    }
    blocks.extend(races(run).map(Block::Table));
    blocks.extend(race_drawing(run));
    let examples = examples(run);
    if !examples.is_empty() {
        blocks.push(Block::Text("Examples:".to_owned()));
        blocks.push(Block::Items(examples));
    }
    section(prefix, "divergence", "Divergence", "Do the followers agree?", blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_race_is_read_from_what_the_run_tells() {
        let told = "products key 108: commit 1273 (transaction 1271, client 3) reached the cache first and was overwritten by the \
                    older commit 1272 (transaction 1270, client 1); a later write put it right";
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let expected = Race {
            key: "products key 108".to_owned(),
            sink: "cache".to_owned(),
            newer: pair("1273", "3"),
            older: pair("1272", "1"),
            put_right: true,
        };
        assert_eq!(race_of(told), Some(expected));
        assert_eq!(race_of("orders key 1174 is extra: id should be nothing and is 1174"), None);
        assert_eq!(race_of("commit "), None);
    }
}
