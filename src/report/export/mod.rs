//! Results in the formats of other tools.

mod bmf;
mod github_action_benchmark;
mod hlog;
mod openmetrics;
mod otava;
mod tables;

pub use otava::{Point, PointValue, files as otava_files, point_of};

use super::result::{Case, Direction, Metric, RunResult};
use std::fmt;

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Bencher Metric Format, JSON.
    Bmf,
    /// The two `custom*IsBetter` files of github-action-benchmark.
    GithubActionBenchmark,
    /// CSV and configuration of Apache Otava.
    Otava,
    /// One row a figure.
    Csv,
    /// Tables for people.
    Markdown,
    /// OpenMetrics 1.0 text, which Prometheus reads.
    OpenMetrics,
    /// The log of HdrHistogram, version 1.3.
    Hlog,
}

/// Text of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportFile {
    /// Its usual name.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Why a result can't be put into a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportError(String);

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ExportError {}

/// Which figures to export.
pub type Wanted<'a> = &'a dyn Fn(&Metric) -> bool;

/// A figure in its place. Cases whose validation did not pass have none: they are not worth comparing.
#[derive(Clone, Copy, Debug)]
struct Figure<'a> {
    case: &'a Case,
    metric: &'a Metric,
    value: f64,
}

fn figures<'a>(result: &'a RunResult, wanted: Wanted<'a>) -> impl Iterator<Item = Figure<'a>> {
    let passed = result.strategies.iter().filter(|case| case.validation.passed);
    passed.flat_map(move |case| {
        let metrics = case.metrics.iter().filter(move |metric| wanted(metric));
        metrics.filter_map(move |metric| Some(Figure { case, metric, value: metric.value.filter(|v| v.is_finite())? }))
    })
}

impl Figure<'_> {
    /// The id, with the objective where there is one: `freshness.within_slo.100ms`.
    fn id(&self) -> String {
        let theta = self.metric.theta_s.map(|theta| format!(".{}ms", (theta * 1000.0).round()));
        format!("{}{}", self.metric.id, theta.unwrap_or_default())
    }

    fn sink(&self) -> &str {
        self.metric.sink.as_deref().unwrap_or("")
    }
}

/// The files of `result` in a format.
///
/// # Errors
/// [`ExportError`] when nothing is left to export, or the result does not fit the format.
pub fn export(result: &RunResult, format: Format, wanted: Wanted<'_>) -> Result<Vec<ExportFile>, ExportError> {
    if format != Format::Hlog && figures(result, wanted).next().is_none() {
        let why = "no figure is left to export: no strategy passed its validation, or --metrics names none of them";
        return Err(ExportError(why.to_owned()));
    }
    let file = |name: &str, text: String| vec![ExportFile { name: name.to_owned(), text }];
    Ok(match format {
        Format::Bmf => file("bmf.json", bmf::bmf(result, wanted)?),
        Format::GithubActionBenchmark => github_action_benchmark::files(result, wanted)?,
        Format::Otava => otava::files(&result.config.workload, &[point_of(result, wanted)]),
        Format::Csv => file("result.csv", tables::csv(result, wanted)),
        Format::Markdown => file("result.md", tables::markdown(result, wanted)),
        Format::OpenMetrics => file("result.prom", openmetrics::openmetrics(result, wanted)),
        Format::Hlog => hlog::files(result)?,
    })
}

fn json(value: &impl serde::Serialize) -> Result<String, ExportError> {
    let text = serde_json::to_string_pretty(value).map_err(|cause| ExportError(cause.to_string()))?;
    Ok(text + "\n")
}

/// Whether less is better; figures without a direction are facts, and nothing to watch.
fn is_lower(direction: Direction) -> Option<bool> {
    match direction {
        Direction::Lower => Some(true),
        Direction::Higher => Some(false),
        Direction::Neutral => None,
    }
}

#[cfg(test)]
mod tests;
