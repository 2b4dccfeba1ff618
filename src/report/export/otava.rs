//! Apache Otava (formerly Hunter): a CSV with a time, attributes and a column a figure, and the test that reads it, in YAML
//! (<https://otava.apache.org/docs/csv/>). A result is a row; several results, or a history, make the series that it analyses.

use super::{ExportFile, Wanted, figures, is_lower};
use crate::foreign::{csv_field, csv_quoted, csv_text, yaml_string};
use crate::report::RunResult;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// One row of the series.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// RFC 3339, UTC.
    pub time: String,
    /// The commit, or nothing.
    pub commit: String,
    /// The figures.
    pub values: Vec<PointValue>,
}

/// One figure of a row. Name, unit and direction together are a column.
#[derive(Clone, Debug, PartialEq)]
pub struct PointValue {
    /// The figure's name, with strategy and sink.
    pub name: String,
    /// Its unit.
    pub unit: String,
    /// Whether less is better.
    pub is_lower: bool,
    /// The figure.
    pub value: f64,
}

/// Name, unit, and whether less is better.
type Column<'a> = (&'a str, &'a str, bool);

impl PointValue {
    fn column(&self) -> Column<'_> {
        (&self.name, &self.unit, self.is_lower)
    }
}

/// What a column is called: its name, with what tells it from another of that name.
fn title(column: &Column<'_>, columns: &BTreeSet<Column<'_>>) -> String {
    let (name, unit, lower) = *column;
    let others: Vec<&Column<'_>> = columns.iter().filter(|other| other.0 == name && *other != column).collect();
    let mut title = name.to_owned();
    if others.iter().any(|other| other.1 != unit) {
        let _ = write!(title, " ({unit})");
    }
    if others.iter().any(|other| other.1 == unit && other.2 != lower) {
        title.push_str(if lower { " (less is better)" } else { " (more is better)" });
    }
    title
}

/// The row of a result.
pub fn point_of(result: &RunResult, wanted: Wanted<'_>) -> Point {
    let named = figures(result, wanted).filter_map(|figure| {
        let place = if figure.sink().is_empty() { String::new() } else { format!(".{}", figure.sink()) };
        Some(PointValue {
            name: format!("{}.{}{place}", figure.case.name, figure.id()),
            unit: figure.metric.unit.clone(),
            is_lower: is_lower(figure.metric.direction)?,
            value: figure.value,
        })
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
    let columns: BTreeSet<Column<'_>> =
        points.iter().flat_map(|point| point.values.iter().map(PointValue::column)).collect();
    let titles: Vec<String> = columns.iter().map(|column| csv_text(&title(column, &columns)).into_owned()).collect();
    let mut csv = String::from("time,commit");
    for title in &titles {
        let _ = write!(csv, ",{}", csv_quoted(title));
    }
    csv.push('\n');
    for point in points {
        let _ = write!(csv, "{},{}", csv_field(&point.time), csv_field(&point.commit));
        for column in &columns {
            // What was not measured is an empty field.
            let _ = match point.values.iter().find(|value| value.column() == *column) {
                Some(found) => write!(csv, ",{}", found.value),
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
    for (title, (_, _, lower)) in titles.iter().zip(&columns) {
        let (name, direction) = (yaml_string(title), if *lower { -1 } else { 1 });
        let _ =
            writeln!(yaml, "      {name}:\n        column: {name}\n        direction: {direction}\n        scale: 1");
    }
    vec![
        ExportFile { name: "otava.csv".to_owned(), text: csv },
        ExportFile { name: "otava.yaml".to_owned(), text: yaml },
    ]
}
