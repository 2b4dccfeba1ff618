//! The custom formats of github-action-benchmark: arrays of `{name, unit, value, range, extra}`
//! (<https://github.com/benchmark-action/github-action-benchmark#examples>). The tool knows one direction a file, so there are two:
//! `customSmallerIsBetter` and `customBiggerIsBetter`.

use super::{ExportError, ExportFile, Wanted, figures, is_lower, json};
use crate::foreign::terminal;
use crate::report::RunResult;
use serde::Serialize;

#[derive(Serialize)]
struct Entry {
    name: String,
    unit: String,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    extra: String,
}

pub(super) fn files(result: &RunResult, wanted: Wanted<'_>) -> Result<Vec<ExportFile>, ExportError> {
    let mut files = Vec::new();
    for (lower, name) in [(true, "custom-smaller-is-better.json"), (false, "custom-bigger-is-better.json")] {
        let chosen = figures(result, wanted).filter(|figure| is_lower(figure.metric.direction) == Some(lower));
        let entries: Vec<Entry> = chosen
            .map(|figure| Entry {
                name: terminal(format!("{} {} {}", figure.case.name, figure.id(), figure.sink()).trim_end())
                    .into_owned(),
                unit: terminal(&figure.metric.unit).into_owned(),
                value: figure.value,
                range: figure.metric.ci.map(|[low, high]| format!("{low:.6} .. {high:.6}")),
                extra: format!(
                    "workload {}\nn {}\nconfig {}",
                    terminal(&result.config.workload),
                    figure.metric.n,
                    result.config.hash
                ),
            })
            .collect();
        // The tool takes an empty file for a mistake.
        if !entries.is_empty() {
            files.push(ExportFile { name: name.to_owned(), text: json(&entries)? });
        }
    }
    Ok(files)
}
