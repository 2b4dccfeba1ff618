//! The sections of a page, each from results to blocks.

pub mod about;
pub mod age;
pub mod comparison;
pub mod cost;
pub mod divergence;
mod forecast;
pub mod history;
pub mod lag;
pub mod runs;
pub mod score;
pub mod stages;
pub mod sweep;
pub mod verdict;

use super::block::{Block, Figure, Row, Section, Table, View};
use super::chart::{Axis, Scale};
use super::palette::color_of;
use super::say;
use crate::report::result::{Case, Metric, RunResult};

/// The cases that follow the source: all but the control run.
pub(super) fn followers(run: &RunResult) -> Vec<&Case> {
    run.strategies.iter().filter(|case| case.name != "control").collect()
}

/// The sinks of a run, in the order in which they were compared.
pub(super) fn sinks(run: &RunResult) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let compared = run.strategies.iter().flat_map(|case| case.validation.sinks.iter().map(|sink| sink.sink.as_str()));
    let measured = run.strategies.iter().flat_map(|case| case.timeseries.age_s.keys().map(String::as_str));
    for sink in compared.chain(measured) {
        if !names.contains(&sink) {
            names.push(sink);
        }
    }
    names
}

/// A sink as a sentence names it.
pub(super) fn in_full(sink: &str) -> &str {
    if sink == "search" { "search index" } else { sink }
}

/// Whether a case's figures may be held against those of others: it kept its promise.
pub(super) fn counts(case: &Case) -> bool {
    case.validation.passed
}

/// The interval of a figure: its confidence interval, else the spread of its repetitions.
pub(super) fn interval(metric: &Metric) -> Option<[f64; 2]> {
    metric.ci.or_else(|| {
        let (low, high) =
            (metric.reps.iter().copied().reduce(f64::min)?, metric.reps.iter().copied().reduce(f64::max)?);
        (metric.reps.len() > 1).then_some([low, high])
    })
}

/// An axis of seconds.
pub(super) fn seconds_axis(label: &str, scale: Scale) -> Axis {
    Axis { label: label.to_owned(), scale, tick: say::seconds_tick, say: say::seconds }
}

/// The legend of some cases.
pub(super) fn legend(cases: &[&Case]) -> Vec<(usize, String)> {
    cases.iter().map(|case| (color_of(&case.name), case.name.clone())).collect()
}

/// A section of one run; `prefix` keeps its name apart from those of other runs.
pub(super) fn section(prefix: &str, id: &str, short: &'static str, title: &str, blocks: Vec<Block>) -> Section {
    Section { id: format!("{prefix}{id}"), title: title.to_owned(), short, blocks }
}

/// A figure of one plot or several views of it.
pub(super) fn figure(id: String, title: String, note: &str, views: Vec<View>, table: Table) -> Figure {
    Figure { id, title, note: note.to_owned(), legend: Vec::new(), unlabelled: false, views, table }
}

/// A column of values over a common one, as the rows of a table.
pub(super) fn rows_over(heads: Vec<String>, columns: &[Vec<String>]) -> Vec<Row> {
    let cell = |column: &Vec<String>, row: usize| column.get(row).cloned().unwrap_or_else(|| "-".to_owned());
    heads
        .into_iter()
        .enumerate()
        .map(|(n, head)| Row::of(head, columns.iter().map(|column| cell(column, n)).collect::<Vec<_>>()))
        .collect()
}
