//! Each format against its own definition, on the run that is kept in the repository.

use super::*;
use std::collections::BTreeSet;
use std::path::Path;

fn example() -> RunResult {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/example/result.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn exported(format: Format) -> Vec<ExportFile> {
    export(&example(), format, &|_| true).unwrap()
}

#[test]
fn bmf_is_two_levels_of_objects_with_a_value() {
    let files = exported(Format::Bmf);
    let all: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&files[0].text).unwrap();
    assert!(all.contains_key("orders/cdc-trigger/warehouse"), "{:?}", all.keys());
    for (benchmark, measures) in &all {
        for (measure, metric) in measures.as_object().unwrap() {
            assert!(measure.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{measure}");
            let metric = metric.as_object().unwrap();
            assert!(metric["value"].is_f64() || metric["value"].is_u64(), "{benchmark} {measure}");
            assert!(metric.keys().all(|key| ["value", "lower_value", "upper_value"].contains(&key.as_str())));
        }
    }
}

#[test]
fn github_action_benchmark_gets_one_direction_a_file() {
    let files = exported(Format::GithubActionBenchmark);
    assert_eq!(files.len(), 2);
    let names = |file: &ExportFile| -> BTreeSet<String> {
        let entries: Vec<serde_json::Value> = serde_json::from_str(&file.text).unwrap();
        for entry in &entries {
            assert!(entry["name"].is_string() && entry["unit"].is_string() && entry["value"].is_number(), "{entry}");
        }
        let names: Vec<String> = entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect();
        let unique: BTreeSet<String> = names.iter().cloned().collect();
        assert_eq!(unique.len(), names.len(), "a name is a series of its own");
        unique
    };
    let (smaller, bigger) = (names(&files[0]), names(&files[1]));
    assert!(smaller.contains("cdc-trigger freshness.commit_lag.p99 warehouse"));
    assert!(bigger.contains("cdc-trigger throughput.changes_per_s"));
    assert!(smaller.is_disjoint(&bigger));
}

#[test]
fn openmetrics_keeps_families_together_and_ends() {
    let text = &exported(Format::OpenMetrics)[0].text;
    assert!(text.ends_with("# EOF\n"));
    let mut families = BTreeSet::new();
    let mut current = String::new();
    let mut samples = BTreeSet::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(current.clone()), "{current} begins twice");
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').unwrap();
            assert!(name == current && name.ends_with(&format!("_{unit}")), "{line}");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&current), "{line} is not of {current}");
            assert!(samples.insert(line.rsplit_once(' ').unwrap().0.to_owned()), "{line} comes twice");
        }
    }
}

#[test]
fn hlog_lines_hold_the_histograms() {
    let text = &exported(Format::Hlog)[0].text;
    assert!(text.starts_with("#[Histogram log format version 1.3]\n"));
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("Tag=")).collect();
    assert!(lines.len() >= 4);
    for line in lines {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), 5, "{line}");
        let max_ms: f64 = fields[3].parse().unwrap();
        let histogram = crate::stats::Histogram::decode(fields[4]).unwrap();
        assert!((histogram.max().unwrap_or_default().as_secs_f64() * 1e3 - max_ms).abs() < 1e-6);
    }
}

#[test]
fn every_csv_row_has_every_column() {
    let text = &exported(Format::Csv)[0].text;
    let columns = text.lines().next().unwrap().split(',').count();
    for line in text.lines() {
        assert_eq!(line.split(',').count(), columns, "{line}");
    }
}

#[test]
fn otava_gets_rows_in_the_order_of_time() {
    let point = |time: &str, value: f64| Point {
        time: time.to_owned(),
        commit: "c".to_owned(),
        values: vec![value_of("x.p99", "s", true, value)],
    };
    let mut second = point("2026-01-02T00:00:00Z", 2.0);
    second.values.push(value_of("y", "s", false, 3.0));
    let files = files_of(&[second, point("2026-01-01T00:00:00Z", 1.0)]);
    assert_eq!(files[0], "time,commit,x.p99,y\n2026-01-01T00:00:00Z,c,1,\n2026-01-02T00:00:00Z,c,2,3\n");
    assert!(files[1].contains("\"x.p99\":\n        column: \"x.p99\"\n        direction: -1"), "{}", files[1]);
    assert!(files[1].contains("\"y\":\n        column: \"y\"\n        direction: 1"), "{}", files[1]);
}

fn value_of(name: &str, unit: &str, is_lower: bool, value: f64) -> PointValue {
    PointValue { name: name.to_owned(), unit: unit.to_owned(), is_lower, value }
}

#[test]
fn otava_gets_a_column_for_each_unit_and_direction() {
    let point = |n: u32, value: PointValue| Point {
        time: format!("2026-01-0{n}T00:00:00Z"),
        commit: String::new(),
        values: vec![value],
    };
    let points = [
        point(1, value_of("x", "s", true, 1.0)),
        point(2, value_of("x", "ms", true, 1000.0)),
        point(3, value_of("x", "s", false, 2.0)),
    ];
    let files = files_of(&points);
    let lines: Vec<&str> = files[0].lines().collect();
    assert_eq!(lines[0], "time,commit,x (ms),x (s) (more is better),x (s) (less is better)");
    assert!(lines[1].ends_with(",,,1") && lines[2].ends_with(",1000,,") && lines[3].ends_with(",,2,"), "{lines:?}");
}

fn files_of(points: &[Point]) -> Vec<String> {
    otava_files("orders", points).into_iter().map(|file| file.text).collect()
}

#[test]
fn what_did_not_pass_is_not_exported() {
    let mut result = example();
    for case in &mut result.strategies {
        case.validation.passed = case.name == "control";
    }
    let files = export(&result, Format::Csv, &|_| true).unwrap();
    assert!(!files[0].text.contains(",cdc-trigger,") && files[0].text.contains(",control,"));
    for case in &mut result.strategies {
        case.validation.passed = false;
    }
    for format in [Format::Csv, Format::Bmf, Format::Hlog, Format::OpenMetrics] {
        assert!(export(&result, format, &|_| true).is_err());
    }
}
