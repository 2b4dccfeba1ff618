//! Two configurations or results against each other, as a forest plot.

use super::{in_full, section};
use crate::report::html::block::{Block, Cell, Item, Row, Section, Table, View};
use crate::report::html::chart::{Forest, Lean};
use crate::report::html::input::{Compared, Comparison, in_words};
use crate::report::html::say;

/// A ratio's logarithm as people say a change: `+12 %`.
fn change(ln: f64) -> String {
    let share = ln.exp() - 1.0;
    let sign = if share > 0.0 { "+" } else { "" };
    format!("{sign}{}", say::percent(share))
}

fn name(metric: &Compared) -> String {
    let sink = metric.sink.as_deref().map(in_full);
    let parts = [metric.strategy.as_deref(), sink, Some(metric.id.as_str())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn ends(metric: &Compared) -> Option<[f64; 2]> {
    let [low, high] = metric.ci_ln?;
    Some([low?, high?])
}

fn class_of(verdict: &str) -> &'static str {
    match verdict.to_ascii_lowercase().as_str() {
        "better" | "improved" | "improvement" | "faster" | "same" | "equal" | "equivalent" | "unchanged" | "ok"
        | "pass" => "good",
        "worse" | "regression" | "regressed" | "slower" | "fail" | "failed" => "failed",
        "" => "plain",
        _ => "differs",
    }
}

fn row(metric: &Compared) -> Row {
    let range = ends(metric).map(|[low, high]| format!("{} – {}", change(low), change(high)));
    let verdict = metric.verdict.clone().unwrap_or_default();
    let mut cells = vec![
        Cell::text(metric.estimate_ln.map_or("-".to_owned(), change)),
        Cell::text(range.unwrap_or_else(|| "-".to_owned())),
        Cell::text(metric.p.map_or("-".to_owned(), |p| format!("{p:.4}"))),
        Cell::text(metric.margin.map_or("-".to_owned(), say::percent)),
        Cell::text(metric.direction.as_deref().map_or("-".to_owned(), |way| format!("{way} is better"))),
    ];
    cells.push(Cell::text(if verdict.is_empty() { "-".to_owned() } else { verdict }));
    Row { head: Cell::text(name(metric)), cells, group: false }
}

fn lean(metric: &Compared) -> Lean {
    let verdict = metric.verdict.clone().unwrap_or_default();
    Lean {
        name: name(metric),
        estimate: metric.estimate_ln.unwrap_or(f64::NAN),
        range: ends(metric),
        margin: metric.margin.map(|share| (1.0 + share.abs()).ln()),
        said: format!("{} {verdict}", metric.estimate_ln.map_or("-".to_owned(), change)),
        class: class_of(&verdict),
        tip: format!(
            "{}: {}{} {verdict}",
            name(metric),
            metric.estimate_ln.map_or("not known".to_owned(), change),
            ends(metric).map_or(String::new(), |[low, high]| format!(" ({} – {})", change(low), change(high)))
        ),
    }
}

/// The section; `n` keeps several apart.
pub fn comparison(given: &Comparison, n: usize) -> Section {
    let (a, b) = (in_words(&given.a), in_words(&given.b));
    let verdict = in_words(&given.verdict);
    let class = class_of(&verdict);
    let pairs = given.pairs.map_or(String::new(), |pairs| format!("{pairs} pairs of runs. "));
    let mut blocks = vec![Block::Items(vec![Item {
        color: None,
        term: format!("{b} against {a}"),
        class,
        badge: verdict,
        text: format!(
            "{pairs}A change says how {b} differs from {a}: +10 % is a tenth more. Between the dashed strokes it counts as none."
        ),
    }])];
    let control = in_words(&given.control);
    if !control.is_empty() {
        blocks.push(Block::Text(format!("Control, the first against itself: {control}")));
    }
    let head = ["figure", "change", "95 % interval", "p", "margin", "", "verdict"];
    let table = Table::of(format!("{b} against {a}"), &head, given.metrics.iter().map(row).collect());
    let leans: Vec<Lean> = given.metrics.iter().filter(|metric| metric.estimate_ln.is_some()).map(lean).collect();
    if leans.is_empty() {
        blocks.push(Block::Table(table));
    } else {
        let said = leans.iter().map(|lean| lean.tip.clone()).collect::<Vec<_>>().join("; ");
        let forest = Forest { said: format!("Changes of {b} against {a}. {said}"), leans, tick: change };
        let title = format!("{b} against {a}");
        let figure = super::figure(format!("comparison-{n}-chart"), title, "", vec![View::forest(&forest)], table);
        blocks.push(Block::Figure(Box::new(figure)));
    }
    section("", &format!("comparison-{n}"), "Comparison", "Comparison", blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_said_as_a_share() {
        assert_eq!(change(1.1f64.ln()), "+10 %");
        assert_eq!(change(0.5f64.ln()), "-50 %");
        assert_eq!(change(0.0), "0 %");
    }
}
