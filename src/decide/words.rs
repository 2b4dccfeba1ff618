//! A comparison as tables: for the terminal and as Markdown.

use super::comparison::{Comparison, JudgedMetric};
use super::verdict::Verdict;
use crate::foreign::{markdown_code, terminal};
use crate::report::headline::{bytes, count, seconds};
use comfy_table::{Cell, CellAlignment, Table, presets};
use std::fmt::Write as _;

/// A value with its unit, as people say it.
pub fn said(value: f64, unit: &str) -> String {
    match unit {
        "s" => seconds(value),
        "bytes" => bytes(value),
        "1/s" => format!("{}/s", count(value)),
        "ratio" => format!("{value:.3}"),
        _ => count(value),
    }
}

/// A change of a logarithm as a percentage with its sign.
pub fn percent(ln: f64) -> String {
    format!("{:+.1} %", ln.exp_m1() * 100.0)
}

struct Row {
    name: String,
    a: String,
    b: String,
    change: String,
    interval: String,
    p: String,
    verdict: String,
}

fn row(metric: &JudgedMetric) -> Row {
    let value = |value: Option<f64>| value.map_or("-".to_owned(), |value| said(value, &metric.unit));
    let sink = metric.sink.as_deref().map_or(String::new(), |sink| format!(", {sink}"));
    let better = match metric.direction {
        crate::report::Direction::Higher => " (more is better)",
        _ => "",
    };
    Row {
        name: format!("{}: {}{sink}{better}", metric.strategy, metric.id),
        a: value(metric.a),
        b: value(metric.b),
        change: metric.estimate_ln.map_or("-".to_owned(), percent),
        interval: metric.ci_ln.map_or("-".to_owned(), |[low, high]| format!("{} to {}", percent(low), percent(high))),
        p: metric
            .p_adjusted
            .map_or("-".to_owned(), |p| if p < 0.0001 { "<0.0001".to_owned() } else { format!("{p:.4}") }),
        verdict: metric.verdict.words().to_owned(),
    }
}

/// The one sentence that it comes to.
pub fn sentence(comparison: &Comparison) -> String {
    let named = |verdict: Verdict| {
        let of = comparison.metrics.iter().filter(|metric| metric.verdict == verdict);
        let names = of.map(|m| {
            format!("{} {}{}", m.strategy, m.id, m.sink.as_deref().map_or(String::new(), |s| format!(" ({s})")))
        });
        names.collect::<Vec<_>>().join(", ")
    };
    match comparison.verdict {
        Verdict::Regression => format!("REGRESSION: {}", named(Verdict::Regression)),
        Verdict::Unproven => {
            "UNPROVEN: the control, A against A, raised an alarm: this machine is too unquiet for a verdict".to_owned()
        }
        Verdict::Inconclusive if comparison.metrics.is_empty() => "INCONCLUSIVE: no figure could be judged".to_owned(),
        Verdict::Inconclusive => {
            format!(
                "INCONCLUSIVE: no regression is proven, and for these none is ruled out: {}",
                named(Verdict::Inconclusive)
            )
        }
        Verdict::NoRegression | Verdict::Improvement => {
            let better = named(Verdict::Improvement);
            if better.is_empty() { "No regression".to_owned() } else { format!("No regression; improved: {better}") }
        }
    }
}

fn method(comparison: &Comparison) -> String {
    let of = if comparison.method == "signed-rank" {
        format!("{} interleaved pairs, exact signed-rank intervals of 99 %", comparison.pairs)
    } else {
        format!("{} repetitions, bootstrap-t intervals of 99 %", comparison.pairs)
    };
    let control = match &comparison.control {
        None => "no A/A control".to_owned(),
        Some(control) if control.fired => "the A/A control FIRED".to_owned(),
        Some(control) => format!("A/A control of {} pairs quiet", control.pairs),
    };
    let control = if comparison.method == "signed-rank" { format!("; {control}") } else { String::new() };
    format!("{of}; p adjusted for {} figures{control}", comparison.metrics.len())
}

const HEADER: [&str; 7] = ["figure", "A", "B", "B against A", "99 % interval", "p", "verdict"];

/// Tables for a terminal.
pub fn human(comparison: &Comparison) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).force_no_tty();
    let right = |text: &str| Cell::new(text).set_alignment(CellAlignment::Right);
    table.set_header(HEADER.iter().enumerate().map(|(n, name)| if n == 0 { Cell::new(name) } else { right(name) }));
    for row in comparison.metrics.iter().map(row) {
        let cells = [&row.a, &row.b, &row.change, &row.interval, &row.p, &row.verdict].map(|text| right(text));
        table.add_row(std::iter::once(Cell::new(terminal(&row.name))).chain(cells));
    }
    let mut out = format!(
        "{}\n\nA: {}\nB: {}\n{}\n\n{table}\n",
        terminal(&sentence(comparison)),
        terminal(&comparison.a.command),
        terminal(&comparison.b.command),
        method(comparison)
    );
    for metric in comparison.metrics.iter().filter(|metric| metric.note.is_some()) {
        let line = format!("{} {}: {}", metric.strategy, metric.id, metric.note.as_deref().unwrap_or_default());
        let _ = writeln!(out, "{}", terminal(&line));
    }
    for warning in &comparison.warnings {
        let _ = writeln!(out, "warning: {}", terminal(warning));
    }
    out
}

/// The same as Markdown, for a pull request.
pub fn markdown(comparison: &Comparison) -> String {
    let cell = crate::foreign::markdown;
    let mut out = format!("### freshbench: {}\n\n{}.\n\n", cell(&sentence(comparison)), method(comparison));
    let _ = writeln!(out, "| {} |\n|---|---:|---:|---:|---:|---:|---|", HEADER.join(" | "));
    for row in comparison.metrics.iter().map(row) {
        let cells =
            [&row.name, &row.a, &row.b, &row.change, &row.interval, &row.p, &row.verdict].map(|text| cell(text));
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    let _ =
        writeln!(out, "\nA: {}  \nB: {}", markdown_code(&comparison.a.command), markdown_code(&comparison.b.command));
    for warning in &comparison.warnings {
        let _ = writeln!(out, "\n> {}", cell(warning));
    }
    out
}
