//! Comparisons, histories and exports from outside: what is refused, what is written, and the exit codes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use assert_cmd::Command;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

fn freshbench(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_freshbench"))
        .current_dir(folder)
        .env_remove("GITHUB_STEP_SUMMARY")
        .args(arguments)
        .timeout(Duration::from_secs(120))
        .output()
        .expect("freshbench starts")
}

/// Asserts the exit code, and gives stdout and stderr.
fn exits(folder: &Path, arguments: &[&str], code: i32) -> (String, String) {
    let output = freshbench(folder, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{said}");
    (out, said)
}

/// Asserts exit 2 with one line on stderr that holds every one of `words`, and nothing on stdout.
fn refused(folder: &Path, arguments: &[&str], words: &[&str]) {
    let (out, said) = exits(folder, arguments, 2);
    assert!(out.is_empty(), "{arguments:?}: wrote to stdout");
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: {word:?} is not in {said}");
    }
}

/// The run that is kept in the repository, changed, and each of its figures with ten repetitions about `factor` times its value.
fn result(folder: &Path, name: &str, factor: f64, change: impl FnOnce(&mut Value)) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/example/result.json");
    let mut result: Value = serde_json::from_slice(&fs::read(example).unwrap()).unwrap();
    for case in result["strategies"].as_array_mut().unwrap() {
        for metric in case["metrics"].as_array_mut().unwrap() {
            if let Some(value) = metric["value"].as_f64() {
                // Ten values 0.1 % apart.
                let reps: Vec<f64> = (0..10).map(|n| value * factor * (1.0 + 0.001 * f64::from(n))).collect();
                metric["reps"] = json!(reps);
            }
        }
    }
    change(&mut result);
    fs::write(folder.join(name), serde_json::to_vec(&result).unwrap()).unwrap();
}

const METRIC: &str = "cost.cpu_s_per_1k_changes";

#[test]
fn a_comparison_of_stored_results_has_a_verdict_and_an_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    result(at, "a.json", 1.0, |_| {});
    result(at, "same.json", 1.0, |_| {});
    result(at, "worse.json", 1.2, |_| {});
    let compare = |b: &str, code| {
        let arguments = ["compare", "a.json", b, "--metrics", METRIC, "--fail-on", "regression", "--out", "c.json"];
        exits(at, &arguments, code);
        let comparison: Value = serde_json::from_slice(&fs::read(at.join("c.json")).unwrap()).unwrap();
        assert_eq!(comparison["schema"], "freshbench.comparison");
        assert!(at.join("c.md").exists());
        let page = fs::read_to_string(at.join("c.html")).unwrap();
        assert!(page.contains(METRIC) && page.contains(&comparison["verdict"].as_str().unwrap().replace('-', " ")));
        comparison
    };
    assert_eq!(compare("same.json", 0)["verdict"], "no-regression");
    let worse = compare("worse.json", 3);
    assert_eq!(worse["verdict"], "regression");
    let metric = &worse["metrics"][0];
    assert!((metric["estimate_ln"].as_f64().unwrap() - 1.2_f64.ln()).abs() < 1e-9, "{metric}");
    assert_eq!((metric["id"].as_str(), metric["direction"].as_str()), (Some(METRIC), Some("lower")));
    // The other way round it is an improvement, which is no reason to fail.
    let better = ["compare", "worse.json", "a.json", "--metrics", METRIC, "--fail-on", "regression"];
    assert!(exits(at, &better, 0).0.contains("improved"));
    // One repetition proves nothing.
    result(at, "once.json", 1.0, |result| {
        for case in result["strategies"].as_array_mut().unwrap() {
            case["metrics"].as_array_mut().unwrap().iter_mut().for_each(|metric| metric["reps"] = json!([]));
        }
    });
    assert_eq!(compare("once.json", 4)["verdict"], "inconclusive");
    let without_fail_on = ["compare", "a.json", "once.json", "--metrics", METRIC];
    assert!(exits(at, &without_fail_on, 0).0.contains("too few"));
}

#[test]
fn what_does_not_compare_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    result(at, "a.json", 1.0, |_| {});
    result(at, "config.json", 1.0, |result| result["config"]["hash"] = json!("other"));
    result(at, "machine.json", 1.0, |result| result["env"]["cores"] = json!(64));
    fs::write(at.join("text.json"), "no JSON").unwrap();
    fs::write(at.join("other.json"), "{\"schema\": \"something\"}").unwrap();
    refused(at, &["compare", "a.json", "config.json"], &["different configurations", "--different-config"]);
    refused(at, &["compare", "a.json", "machine.json"], &["64 cores", "--different-machine"]);
    refused(at, &["compare", "a.json", "text.json"], &["text.json", "no JSON"]);
    refused(at, &["compare", "a.json", "other.json"], &["other.json", "something"]);
    refused(at, &["compare", "a.json", "gone.json"], &["gone.json"]);
    refused(at, &["compare", "a.json", "a.json", "--metrics", "no.such"], &["--metrics"]);
    refused(at, &["compare", "a.json", "a.json", "--out", "c.html"], &["--out c.html", ".json"]);
    assert!(!at.join("c.html").exists());
    refused(at, &["compare", "a.json", "a.json", "--github-summary"], &["GITHUB_STEP_SUMMARY"]);
    exits(at, &["compare", "a.json", "machine.json", "--different-machine"], 0);
    result(at, "failed.json", 1.0, |result| result["strategies"][1]["validation"]["passed"] = json!(false));
    exits(at, &["compare", "a.json", "failed.json"], 5);
}

#[test]
fn pairs_that_can_prove_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    refused(at, &["ab", "--pairs", "3"], &["--pairs 3", "12"]);
    refused(at, &["ab", "--a", "--rows '5k"], &["--a ", "quote"]);
    refused(at, &["ab", "--b-bin", "no-such-binary"], &["--b-bin no-such-binary"]);
    refused(at, &["ab", "--", "--out", "somewhere"], &["--out"]);
    refused(at, &["ab", "--quiet", "--a", "--rows many", "--b", "--rows many"], &["the run of ", "--rows many"]);
}

#[test]
fn a_place_that_can_not_be_foretold_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    refused(at, &["sweep", "--predict", "rows=1e9"], &["--predict rows=1e9", "rows=1e9,rate=5000,interval=1h"]);
    refused(at, &["sweep", "--rows", "some"], &["--rows some"]);
    refused(at, &["sweep", "--strategies", "dual-write"], &["--strategies dual-write"]);
    refused(at, &["run", "--find-rate", "--slo", "p50=1ms"], &["--slo p50=1ms", "p99="]);
    assert!(!at.join("reports").exists(), "something was begun");
}

#[test]
fn a_history_grows_and_is_analyzed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for n in 0..24 {
        let name = format!("{n:02}.json");
        // Up by a fifth from the seventeenth on.
        let factor = if n < 16 { 1.0 } else { 1.2 } * (1.0 + 0.003 * f64::from(n % 5));
        result(at, &name, 1.0, |result| {
            result["run_id"] = json!(name);
            result["started_at"] = json!(format!("2026-01-{:02}T00:00:00Z", n + 1));
            result["git"]["commit"] = json!(format!("{n:040}"));
            for case in result["strategies"].as_array_mut().unwrap() {
                for metric in case["metrics"].as_array_mut().unwrap().iter_mut().filter(|m| m["id"] == METRIC) {
                    metric["value"] = json!(metric["value"].as_f64().unwrap() * factor);
                }
            }
        });
        exits(at, &["history", "add", &name, "--history", "h.jsonl"], 0);
    }
    refused(at, &["history", "add", "03.json", "--history", "h.jsonl"], &["h.jsonl", "already"]);
    let analyze = ["history", "analyze", "--history", "h.jsonl", "--out", "analysis.json"];
    let (said, _) = exits(at, &analyze, 0);
    assert!(said.contains("WORSE") && said.contains(METRIC), "{said}");
    exits(at, &[&analyze[..], &["--fail-on", "regression"]].concat(), 3);
    // A change that is older than the last results is no news.
    exits(at, &[&analyze[..], &["--fail-on", "regression", "--recent", "2"]].concat(), 0);
    let analysis: Value = serde_json::from_slice(&fs::read(at.join("analysis.json")).unwrap()).unwrap();
    let changed: Vec<&Value> =
        analysis["series"].as_array().unwrap().iter().filter(|s| s["change_points"] != json!([])).collect();
    assert!(!changed.is_empty());
    for series in changed {
        assert!(series["id"].as_str().unwrap().contains(METRIC), "{}", series["id"]);
        assert_eq!(series["change_points"][0]["index"], 16, "{}", series["id"]);
    }
    let page = fs::read_to_string(at.join("analysis.html")).unwrap();
    assert!(page.contains("1 change point") && page.contains(METRIC));
    // The history itself can be looked at as well, and so can a folder that holds one.
    fs::create_dir(at.join("kept")).unwrap();
    fs::copy(at.join("h.jsonl"), at.join("kept/history.jsonl")).unwrap();
    assert_eq!(exits(at, &["report", "kept"], 0).0.trim(), Path::new("kept").join("history.html").to_string_lossy());
    let page = fs::read_to_string(at.join("kept/history.html")).unwrap();
    assert!(page.contains("24 results") && page.contains(METRIC));
    exits(at, &["export", "h.jsonl", "--to", "otava", "--out", "otava"], 0);
    let csv = fs::read_to_string(at.join("otava/otava.csv")).unwrap();
    assert_eq!(csv.lines().count(), 25);
    refused(at, &["export", "h.jsonl", "--to", "csv"], &["h.jsonl", "otava"]);
    fs::write(at.join("short.jsonl"), fs::read_to_string(at.join("h.jsonl")).unwrap().lines().next().unwrap()).unwrap();
    exits(at, &["history", "analyze", "--history", "short.jsonl", "--fail-on", "regression"], 4);
}

#[test]
fn criterion_results_join_the_history() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let new = at.join("criterion/log/append/64/new");
    fs::create_dir_all(&new).unwrap();
    fs::write(new.join("benchmark.json"), "{\"full_id\": \"log/append/64\"}").unwrap();
    fs::write(new.join("estimates.json"), "{\"median\": {\"point_estimate\": 1500.0}}").unwrap();
    exits(at, &["history", "add", "--criterion", "criterion", "--history", "h.jsonl"], 0);
    let line: Value = serde_json::from_str(fs::read_to_string(at.join("h.jsonl")).unwrap().trim()).unwrap();
    assert_eq!(line["benchmark"], "criterion");
    assert!((line["metrics"]["log/append/64"]["value"].as_f64().unwrap() - 1.5e-6).abs() < 1e-15);
    fs::write(new.join("estimates.json"), "{}").unwrap();
    refused(at, &["history", "add", "--criterion", "criterion", "--history", "h.jsonl"], &["median"]);
    refused(at, &["history", "add", "--history", "h.jsonl"], &["--criterion"]);
}

#[test]
fn every_format_leaves_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    result(at, "a.json", 1.0, |_| {});
    let formats = [
        ("bmf", vec!["bmf.json"]),
        ("github-action-benchmark", vec!["custom-bigger-is-better.json", "custom-smaller-is-better.json"]),
        ("otava", vec!["otava.csv", "otava.yaml"]),
        ("csv", vec!["result.csv"]),
        ("markdown", vec!["result.md"]),
        ("openmetrics", vec!["result.prom"]),
        ("hlog", vec!["result.hlog"]),
    ];
    for (format, wanted) in formats {
        exits(at, &["export", "a.json", "--to", format, "--out", format], 0);
        let mut names: Vec<String> =
            fs::read_dir(at.join(format)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, wanted);
    }
    let (csv, _) = exits(at, &["export", "a.json", "--to", "csv", "--metrics", METRIC], 0);
    assert!(csv.lines().skip(1).all(|line| line.contains(METRIC)) && csv.lines().count() > 2, "{csv}");
}

#[test]
fn planted_faults_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let faults =
        [("lose-delete", "extra"), ("swap-updates", "wrong"), ("off-by-one", "missing"), ("swallow-error", "missing")];
    for (fault, what) in faults {
        let run = ["run", "--quiet", "--out", fault, "--strategies", "cdc-trigger", "--no-control", "--plant", fault];
        let sized =
            ["--rows", "500", "--rate", "1000", "--duration", "1500ms", "--warmup", "300ms", "--sinks", "warehouse"];
        exits(at, &[&run[..], &sized[..], &["--durability", "off", "--log-fsync", "none"]].concat(), 5);
        let result: Value = serde_json::from_slice(&fs::read(at.join(fault).join("result.json")).unwrap()).unwrap();
        let sinks = result["strategies"][0]["validation"]["sinks"].as_array().unwrap();
        let sum = |kind: &str| sinks.iter().map(|sink| sink[kind].as_u64().unwrap()).sum::<u64>();
        assert!(sum(what) > 0, "{fault}: {sinks:?}");
        let examples: Vec<&Value> = sinks.iter().flat_map(|sink| sink["examples"].as_array().unwrap()).collect();
        let names = |example: &Value| {
            let (table, _) = example.as_str().unwrap().split_once(" key ").unwrap_or_default();
            ["customers", "products", "orders", "order_items"].contains(&table)
        };
        assert!(examples.iter().any(|example| names(example)), "{fault}: {examples:?}");
    }
}
