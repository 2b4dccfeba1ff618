//! What `freshbench run` writes and prints is what `reports/result.schema.json` publishes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use freshbench::stats::Histogram;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const FAMILIES: [&str; 9] =
    ["freshness.", "source.", "throughput.", "cost.", "consistency.", "stage.", "batch.", "cache.", "harness."];
const CASES: [&str; 5] = ["control", "full-refresh", "incremental", "cdc-trigger", "dual-write"];

fn validator() -> Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/result.schema.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(jsonschema::draft202012::meta::is_valid(&schema), "not a schema of draft 2020-12");
    jsonschema::draft202012::new(&schema).unwrap()
}

fn check(validator: &Validator, result: &Value, what: &str) {
    let errors: Vec<String> =
        validator.iter_errors(result).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{what}:\n{}", errors.join("\n"));
}

fn run(out: &Path, more: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.args(["run", "--quick", "--duration", "600ms", "--warmup", "200ms", "--batch-interval", "200ms"]);
    command.args(["--rows", "500", "--format", "json", "--out"]).arg(out).args(more);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a Vec<Value> {
    value[field].as_array().unwrap_or_else(|| panic!("{field} is no array"))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} is no text"))
}

#[test]
fn a_run_writes_what_the_schema_says() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("result");
    let printed = run(&out, &[]);
    let validator = validator();
    check(&validator, &printed, "stdout");
    let saved: Value = serde_json::from_slice(&std::fs::read(out.join("result.json")).unwrap()).unwrap();
    check(&validator, &saved, "result.json");
    assert_eq!(printed, saved);
    assert!(std::fs::read_to_string(out.join("summary.md")).unwrap().contains("cdc-trigger"));
    let names: Vec<&str> = list(&saved, "strategies").iter().map(|case| text(case, "name")).collect();
    assert_eq!(names, CASES);
    assert_eq!(saved["complete"], json!(true));
    for case in list(&saved, "strategies") {
        metrics(case);
        histograms(case);
        series(case);
    }
    spoiled(&validator, &saved);
}

#[test]
fn repetitions_are_in_the_schema_too() {
    let folder = tempfile::tempdir().unwrap();
    let result = run(folder.path(), &["--strategies", "cdc-trigger", "--reps", "2", "--quiet"]);
    check(&validator(), &result, "stdout");
    let case = list(&result, "strategies").iter().find(|case| case["name"] == "cdc-trigger").unwrap();
    let lag = list(case, "metrics").iter().find(|metric| metric["id"] == "freshness.commit_lag.p50").unwrap();
    assert_eq!(list(lag, "reps").len(), 2);
    series(case);
}

fn metrics(case: &Value) {
    let mut seen = std::collections::BTreeSet::new();
    for metric in list(case, "metrics") {
        let id = text(metric, "id");
        assert!(FAMILIES.iter().any(|family| id.starts_with(family)), "{id}");
        let key = (id, metric["sink"].as_str(), metric["theta_s"].to_string());
        assert!(seen.insert(key), "{id} of {} is there twice", case["name"]);
    }
}

fn histograms(case: &Value) {
    let histograms = list(case, "histograms");
    // The source's own, one for each of three sinks, and one for each of the two that other processes can read.
    assert_eq!(histograms.len(), if case["name"] == "control" { 1 } else { 6 }, "{}", case["name"]);
    for histogram in histograms {
        let decoded = Histogram::decode(text(histogram, "data")).unwrap();
        let id = format!("{}.p50", text(histogram, "id"));
        let same = |metric: &&Value| metric["id"] == id.as_str() && metric["sink"] == histogram["sink"];
        let metric = list(case, "metrics").iter().find(same).unwrap_or_else(|| panic!("no metric {id}"));
        assert!(!decoded.is_empty(), "{id} of {}", case["name"]);
        assert_eq!(json!(decoded.len()), metric["n"], "{id} of {}", case["name"]);
        for part in ["censored", "negative"] {
            assert!(histogram[part].as_u64().unwrap() <= decoded.len(), "{part} of {id}");
        }
    }
}

fn series(case: &Value) {
    let series = &case["timeseries"];
    let points = list(series, "t_s").len();
    assert!(points > 0);
    assert_eq!(list(series, "changes_per_s").len(), points);
    let ages = series["age_s"].as_object().unwrap();
    // The control run has no sink, and so neither ages nor a backlog.
    let control = case["name"] == "control";
    assert_eq!(list(series, "backlog").len(), if control { 0 } else { points });
    assert_eq!(ages.is_empty(), control);
    assert_eq!(list(series, "resident_bytes").len(), points);
    for field in ["warehouse_files", "warehouse_bytes"] {
        assert_eq!(series[field].as_array().map_or(0, Vec::len), if control { 0 } else { points }, "{field}");
    }
    for (sink, age) in ages {
        assert_eq!(age.as_array().unwrap().len(), points, "{sink} of {}", case["name"]);
    }
}

/// Each of these changes makes a valid result an invalid one.
fn spoiled(validator: &Validator, result: &Value) {
    let refused = |what: &str, spoil: &dyn Fn(&mut Value)| {
        let mut other = result.clone();
        spoil(&mut other);
        assert_ne!(&other, result, "{what} changes nothing");
        assert!(!validator.is_valid(&other), "{what} is accepted");
    };
    for field in result.as_object().unwrap().keys() {
        refused(&format!("no {field}"), &|other| drop(other.as_object_mut().unwrap().remove(field)));
    }
    let required = [
        ("/git", "commit"),
        ("/env", "cores"),
        ("/config", "stream_digest"),
        ("/strategies/0", "sentence"),
        ("/strategies/1/metrics/0", "ci"),
        ("/strategies/1/histograms/0", "encoding"),
        ("/strategies/1/timeseries", "backlog"),
        ("/strategies/1/phases/0", "duration_s"),
        ("/strategies/1/validation", "failures"),
        ("/strategies/1/validation/sinks/0", "digest"),
        ("/strategies/4/divergence/0", "races_permanent"),
    ];
    for (place, field) in required {
        let object = |other: &mut Value, change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
            change(other.pointer_mut(place).and_then(Value::as_object_mut).unwrap_or_else(|| panic!("no {place}")));
        };
        refused(&format!("no {place}/{field}"), &|other| object(other, &|map| drop(map.remove(field))));
        refused(&format!("more in {place}"), &|other| object(other, &|map| drop(map.insert("x".into(), json!(1)))));
    }
    let replaced = [
        ("/schema", json!("another.result")),
        ("/schema_version", json!("3.0")),
        ("/complete", json!("yes")),
        ("/env/mem_bytes", json!(-1)),
        ("/config/seed", json!(1.5)),
        ("/config/arrivals", json!("bursty")),
        ("/strategies/1/metrics/0/direction", json!("sideways")),
        ("/strategies/1/metrics/0/value", json!("1")),
        ("/strategies/1/metrics/0/ci", json!([1.0])),
        ("/strategies/1/metrics/0/id", json!("fresh.commit_lag")),
        ("/strategies/1/histograms/0/encoding", json!("hex")),
        ("/strategies/1/timeseries/t_s/0", Value::Null),
        ("/strategies/1/timeseries/age_s/warehouse", json!(1.0)),
        ("/strategies/1/validation/promise", json!("hope")),
        ("/strategies/1/validation/passed", Value::Null),
    ];
    for (place, value) in replaced {
        refused(&format!("{place} = {value}"), &|other| {
            *other.pointer_mut(place).unwrap_or_else(|| panic!("no {place}")) = value.clone();
        });
    }
}
