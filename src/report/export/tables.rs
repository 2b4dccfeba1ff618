//! CSV (RFC 4180, but for line ends) and Markdown: one row a figure.

use super::{Wanted, figures};
use crate::foreign::{csv_field, markdown as safe, markdown_code};
use crate::report::RunResult;
use crate::report::headline::{bytes, count, seconds};
use std::fmt::Write as _;

const COLUMNS: &str = "run_id,started_at,commit,config_hash,workload,strategy,sink,id,theta_s,unit,direction,value,ci_low,ci_high,n,lower_bound";

pub(super) fn csv(result: &RunResult, wanted: Wanted<'_>) -> String {
    let mut text = format!("{COLUMNS}\n");
    let run = [
        &result.run_id,
        &result.started_at,
        result.git.commit.as_ref().unwrap_or(&String::new()),
        &result.config.hash,
        &result.config.workload,
    ]
    .map(|field| csv_field(field))
    .join(",");
    for figure in figures(result, wanted) {
        let metric = figure.metric;
        let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let (low, high) = (metric.ci.map(|[low, _]| low), metric.ci.map(|[_, high]| high));
        let _ = writeln!(
            text,
            "{run},{},{},{},{},{},{},{},{},{},{},{}",
            csv_field(&figure.case.name),
            csv_field(figure.sink()),
            csv_field(&metric.id),
            number(metric.theta_s),
            csv_field(&metric.unit),
            format!("{:?}", metric.direction).to_lowercase(),
            figure.value,
            number(low),
            number(high),
            metric.n,
            metric.lower_bound
        );
    }
    text
}

pub(super) fn markdown(result: &RunResult, wanted: Wanted<'_>) -> String {
    let mut text = format!("### freshbench: {}, {}\n\n", safe(&result.config.workload), safe(&result.started_at));
    for case in &result.strategies {
        let _ = writeln!(text, "* **{}**: {}", safe(&case.name), safe(&case.sentence));
    }
    text.push_str("\n| strategy | sink | figure | value | 95 % interval |\n|---|---|---|---:|---:|\n");
    for figure in figures(result, wanted) {
        let said = |value: f64| match figure.metric.unit.as_str() {
            "s" => seconds(value),
            "bytes" => bytes(value),
            "1/s" => format!("{}/s", count(value)),
            "ratio" => format!("{value:.3}"),
            unit => format!("{} {}", count(value), safe(unit)),
        };
        let interval =
            figure.metric.ci.map_or("-".to_owned(), |[low, high]| format!("{} to {}", said(low), said(high)));
        let more = if figure.metric.lower_bound { "> " } else { "" };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {more}{} | {interval} |",
            safe(&figure.case.name),
            safe(figure.sink()),
            safe(&figure.id()),
            said(figure.value)
        );
    }
    let _ = writeln!(text, "\n{}", markdown_code(&result.config.command));
    text
}
