//! Bencher Metric Format: `{benchmark: {measure: {value, lower_value, upper_value}}}`
//! (<https://bencher.dev/docs/reference/bencher-metric-format/>). A benchmark is a workload, a strategy and a sink; a measure the figure, in
//! the words of a slug, with its unit last.

use super::{ExportError, Wanted, figures, json};
use crate::foreign::terminal;
use crate::report::RunResult;
use serde_json::{Map, Value};

pub(super) fn bmf(result: &RunResult, wanted: Wanted<'_>) -> Result<String, ExportError> {
    let mut benchmarks = Map::new();
    for figure in figures(result, wanted) {
        let sink = figure.metric.sink.as_deref().map_or(String::new(), |sink| format!("/{sink}"));
        let benchmark = terminal(&format!("{}/{}{sink}", result.config.workload, figure.case.name)).into_owned();
        let mut metric = Map::from_iter([("value".to_owned(), Value::from(figure.value))]);
        if let Some([low, high]) = figure.metric.ci.filter(|ci| ci.iter().all(|end| end.is_finite())) {
            metric.insert("lower_value".to_owned(), Value::from(low));
            metric.insert("upper_value".to_owned(), Value::from(high));
        }
        // The unit of a rate is in its name already.
        let unit = if figure.metric.unit == "1/s" { "" } else { figure.metric.unit.as_str() };
        let measure = slug(&format!("{} {unit}", figure.id()));
        let measures = benchmarks.entry(benchmark).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(measures) = measures {
            measures.insert(measure, Value::Object(metric));
        }
    }
    json(&benchmarks)
}

/// Small letters, digits and single hyphens.
fn slug(text: &str) -> String {
    let spelled = text.to_lowercase();
    let words = spelled.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}
