//! Apache Otava (formerly Hunter): a CSV with a time, attributes and a column a figure, and the test that reads it, in YAML
//! (<https://otava.apache.org/docs/csv/>). A result is a row; several results, or a history, make the series that it analyses.

use super::{ExportFile, Wanted, figures, is_lower};
use crate::report::RunResult;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// One row of the series.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// RFC 3339, UTC.
    pub time: String,
    /// The commit, or nothing.
    pub commit: String,
    /// By name of the figure: whether less is better, and its value.
    pub values: BTreeMap<String, (bool, f64)>,
}

/// The row of a result.
pub fn point_of(result: &RunResult, wanted: Wanted<'_>) -> Point {
    let named = figures(result, wanted).filter_map(|figure| {
        let place = if figure.sink().is_empty() { String::new() } else { format!(".{}", figure.sink()) };
        let name = format!("{}.{}{place}", figure.case.name, figure.id());
        Some((name, (is_lower(figure.metric.direction)?, figure.value)))
    });
    Point {
        time: result.started_at.clone(),
        commit: result.git.commit.clone().unwrap_or_default(),
        values: named.collect(),
    }
}

/// `otava.csv` and `otava.yaml` of these rows, which are put in the order of time.
pub fn files(benchmark: &str, points: &[Point]) -> Vec<ExportFile> {
    let mut points: Vec<&Point> = points.iter().collect();
    points.sort_by(|a, b| a.time.cmp(&b.time));
    let columns: BTreeSet<(&String, bool)> =
        points.iter().flat_map(|point| point.values.iter().map(|(name, (lower, _))| (name, *lower))).collect();
    let mut csv = String::from("time,commit");
    for (name, _) in &columns {
        let _ = write!(csv, ",{}", super::tables::quoted(name));
    }
    csv.push('\n');
    for point in points {
        let _ = write!(csv, "{},{}", point.time, super::tables::quoted(&point.commit));
        for (name, _) in &columns {
            // What was not measured is an empty field.
            let _ = match point.values.get(*name) {
                Some((_, value)) => write!(csv, ",{value}"),
                None => write!(csv, ","),
            };
        }
        csv.push('\n');
    }
    let test: String = benchmark.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let mut yaml = format!(
        "tests:\n  freshbench_{test}:\n    type: csv\n    file: otava.csv\n    time_column: time\n    attributes: [commit]\n    \
         csv_options:\n      delimiter: ','\n      quote_char: '\"'\n    metrics:\n"
    );
    for (name, lower) in &columns {
        let direction = if *lower { -1 } else { 1 };
        let _ = writeln!(
            yaml,
            "      {name:?}:\n        column: {name:?}\n        direction: {direction}\n        scale: 1"
        );
    }
    vec![
        ExportFile { name: "otava.csv".to_owned(), text: csv },
        ExportFile { name: "otava.yaml".to_owned(), text: yaml },
    ]
}
