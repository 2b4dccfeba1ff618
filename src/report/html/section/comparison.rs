//! Two configurations or results against each other, as a forest plot.

use super::{in_full, section};
use crate::report::html::block::{Block, Cell, Item, Row, Section, Table, View};
use crate::report::html::chart::{Forest, Lean};
use crate::report::html::input::{Compared, Comparison, Control, in_words};
use crate::report::html::say;
use serde_json::Value;

/// A ratio's logarithm as people say a change: `+12 %`.
fn change(ln: f64) -> String {
    // Beyond e^14, a million times, nothing is known.
    if ln.abs() > 14.0 {
        return "no bound".to_owned();
    }
    let share = ln.exp() - 1.0;
    if share >= 99.0 {
        return say::times(share + 1.0);
    }
    let sign = if share > 0.0 { "+" } else { "" };
    format!("{sign}{}", say::percent(share))
}

fn name(metric: &Compared) -> String {
    let sink = metric.sink.as_deref().map(in_full);
    let parts = [metric.strategy.as_deref(), sink, Some(metric.id.as_str())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn ends(metric: &Compared) -> Option<[f64; 2]> {
    // An end that the file does not tell is one without bound.
    let [low, high] = metric.ci_ln.filter(|ends| ends.iter().any(Option::is_some))?;
    Some([low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY)])
}

fn class_of(verdict: &str) -> &'static str {
    match verdict {
        "improvement" | "no-regression" => "good",
        "regression" => "failed",
        "" => "plain",
        _ => "differs",
    }
}

/// A verdict as people say it.
fn in_words_of(verdict: &str) -> String {
    verdict.replace('-', " ")
}

fn p_value(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}

fn row(metric: &Compared) -> Row {
    let value =
        |value: Option<f64>| Cell::text(value.map_or("-".to_owned(), |value| say::in_unit(value, &metric.unit)));
    let range = ends(metric).map_or("-".to_owned(), |[low, high]| format!("{} – {}", change(low), change(high)));
    let margin = metric.margin.map_or("-".to_owned(), |margin| format!("±{}", say::percent(margin)));
    let verdict = in_words_of(metric.verdict.as_deref().unwrap_or("-"));
    let cells = vec![
        value(metric.a),
        value(metric.b),
        Cell::text(metric.estimate_ln.map_or("-".to_owned(), change)),
        Cell::text(range),
        Cell::text(metric.p_adjusted.or(metric.p).map_or("-".to_owned(), p_value)),
        Cell::text(margin),
        Cell { sub: metric.note.clone(), ..Cell::text(verdict) },
    ];
    let better = metric.direction.as_deref().filter(|way| *way == "higher").map(|_| "more is better".to_owned());
    Row { head: Cell { sub: better, ..Cell::text(name(metric)) }, cells, group: false }
}

fn lean(metric: &Compared) -> Lean {
    let verdict = metric.verdict.as_deref().unwrap_or_default();
    let said = in_words_of(verdict);
    Lean {
        name: name(metric),
        estimate: metric.estimate_ln.unwrap_or(f64::NAN),
        range: ends(metric),
        margin: metric.margin.map(|share| (1.0 + share.abs()).ln()),
        said: format!("{} {said}", metric.estimate_ln.map_or("-".to_owned(), change)),
        class: class_of(verdict),
        tip: format!(
            "{}: {}{}, {said}",
            name(metric),
            metric.estimate_ln.map_or("not known".to_owned(), change),
            ends(metric).map_or(String::new(), |[low, high]| format!(" ({} – {})", change(low), change(high)))
        ),
    }
}

/// What a side was: its command, and the source tree that it came from.
fn side(letter: &str, given: &Value) -> Item {
    let git = given.get("git").map(in_words).unwrap_or_default();
    let git: String = git.chars().take(12).collect();
    let at = if git.is_empty() || git.starts_with('{') { String::new() } else { format!(", at {git}") };
    Item {
        color: None,
        term: letter.to_owned(),
        class: "plain",
        badge: String::new(),
        text: format!("{}{at}", in_words(given)),
    }
}

/// What it rests on.
fn method(given: &Comparison) -> String {
    let stored = given.method.starts_with("bootstrap");
    let of = match (given.pairs, stored) {
        (None, _) => String::new(),
        (Some(n), true) => format!("{n} stored repetitions of each, by bootstrap. "),
        (Some(n), false) => format!("{n} pairs of runs, interleaved in an order drawn by lot. "),
    };
    let control = match &given.control {
        None if stored => String::new(),
        None => "No control of A against A was run. ".to_owned(),
        Some(Control { fired: true, .. }) => {
            "The control, A against A, found a difference where there is none: this machine is too unquiet for a verdict. "
                .to_owned()
        }
        Some(Control { pairs, .. }) => {
            let of = pairs.map_or(String::new(), |pairs| format!(" of {pairs} pairs"));
            format!("The control{of}, A against A, found no difference, as it should. ")
        }
    };
    format!(
        "{of}{control}+10 % says that B has a tenth more than A. Lines are intervals of 99 %; between the dashed strokes a change counts as none."
    )
}

/// The section; `n` keeps several apart.
pub fn comparison(given: &Comparison, n: usize) -> Section {
    let verdict = Item {
        color: None,
        term: "Verdict".to_owned(),
        class: class_of(&given.verdict),
        badge: in_words_of(&given.verdict),
        text: method(given),
    };
    let mut blocks = vec![Block::Items(vec![verdict, side("A", &given.a), side("B", &given.b)])];
    blocks.extend(given.warnings.iter().map(|warning| Block::Text(format!("Warning: {warning}"))));
    let title = "Changes of B against A";
    let head = ["figure", "A", "B", "change", "99 % interval", "p, adjusted", "margin", "verdict"];
    let table = Table::of(title, &head, given.metrics.iter().map(row).collect());
    let leans: Vec<Lean> = given.metrics.iter().filter(|metric| metric.estimate_ln.is_some()).map(lean).collect();
    let unknown = given.metrics.len() - leans.len();
    if leans.is_empty() {
        blocks.push(Block::Table(table));
    } else {
        let said = leans.iter().map(|lean| lean.tip.clone()).collect::<Vec<_>>().join("; ");
        let forest = Forest { said: format!("{title}. {said}"), leans, tick: change };
        let note = match unknown {
            0 => String::new(),
            1 => "One figure could not be judged: it is in the table alone.".to_owned(),
            more => format!("{more} figures could not be judged: they are in the table alone."),
        };
        let id = format!("comparison-{n}-chart");
        let figure = super::figure(id, title.to_owned(), &note, vec![View::forest(&forest)], table);
        blocks.push(Block::Figure(Box::new(figure)));
    }
    section("", &format!("comparison-{n}"), "Comparison", "B against A", blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_said_as_a_share() {
        assert_eq!(change(1.1f64.ln()), "+10 %");
        assert_eq!(change(0.5f64.ln()), "-50 %");
        assert_eq!(change(0.0), "0 %");
        assert_eq!(change(500.0f64.ln()), "500x");
        assert_eq!((change(f64::INFINITY), change(-1e300)), ("no bound".to_owned(), "no bound".to_owned()));
    }

    #[test]
    fn every_verdict_has_its_colour_and_nulls_are_dashes() {
        let classes = ["improvement", "no-regression", "inconclusive", "unproven", "regression"].map(class_of);
        assert_eq!(classes, ["good", "good", "differs", "differs", "failed"]);
        let bare: Compared = serde_json::from_str(
            r#"{"id":"m","a":null,"b":1.0,"unit":"s","estimate_ln":null,"ci_ln":null,"p":null,"p_adjusted":null,"verdict":"inconclusive","note":"why"}"#,
        )
        .unwrap();
        let told: Vec<String> = row(&bare).cells.into_iter().map(|cell| cell.text).collect();
        assert_eq!(told, ["-", "1.00 s", "-", "-", "-", "-", "inconclusive"]);
    }
}
