//! Stored results that are no series: another unit, direction, schema or hash, one run twice, two benches of one name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

fn freshbench(folder: &Path, arguments: &[&str], code: i32) -> (String, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_freshbench")).current_dir(folder).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, said) = (text(&ran.stdout), text(&ran.stderr));
    assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {out}{said}");
    (out, said)
}

/// The run that is kept in the repository, ten repetitions a figure, changed.
fn result(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/example/result.json");
    let mut result: Value = serde_json::from_slice(&fs::read(example).unwrap()).unwrap();
    for metric in figures(&mut result) {
        if let Some(value) = metric["value"].as_f64() {
            metric["reps"] = json!((0..10).map(|n| value * (1.0 + 0.001 * f64::from(n))).collect::<Vec<f64>>());
        }
    }
    result["run_id"] = json!(name);
    result["strategies"].as_array_mut().unwrap().truncate(2);
    for case in result["strategies"].as_array_mut().unwrap() {
        case["histograms"] = json!([]);
        case["timeseries"] = json!({ "t_s": [], "age_s": {}, "backlog": [], "changes_per_s": [] });
    }
    change(&mut result);
    fs::write(folder.join(name), serde_json::to_vec(&result).unwrap()).unwrap();
}

fn figures(result: &mut Value) -> impl Iterator<Item = &mut Value> {
    let cases = result["strategies"].as_array_mut().unwrap().iter_mut();
    cases.flat_map(|case| case["metrics"].as_array_mut().unwrap().iter_mut())
}

fn scaled(value: &Value, factor: f64) -> Value {
    value.as_f64().map_or(Value::Null, |value| json!(value * factor))
}

/// Seconds as milliseconds; the figures times `factor`.
fn in_ms(result: &mut Value, factor: f64) {
    for metric in figures(result).filter(|metric| metric["unit"] == "s") {
        metric["unit"] = json!("ms");
        let value = scaled(&metric["value"], factor);
        metric["value"] = value;
        metric["reps"] =
            metric["reps"].as_array().unwrap_or(&Vec::new()).iter().map(|value| scaled(value, factor)).collect();
    }
}

#[test]
fn another_unit_or_direction_is_never_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    result(at, "s.json", |_| {});
    result(at, "ms.json", |result| in_ms(result, 1000.0));
    result(at, "named.json", |result| in_ms(result, 1.0));
    result(at, "turned.json", |result| {
        for metric in figures(result) {
            let turned = match metric["direction"].as_str() {
                Some("lower") => "higher",
                Some("higher") => "lower",
                _ => "neutral",
            };
            metric["direction"] = json!(turned);
        }
    });
    for other in ["ms.json", "named.json", "turned.json"] {
        for pair in [["s.json", other], [other, "s.json"]] {
            let (out, _) =
                freshbench(at, &["compare", pair[0], pair[1], "--format", "json", "--fail-on", "regression"], 4);
            let comparison: Value = serde_json::from_str(&out).unwrap();
            let mut apart = 0;
            for metric in comparison["metrics"].as_array().unwrap() {
                assert!(["inconclusive", "no-regression"].contains(&metric["verdict"].as_str().unwrap()), "{metric}");
                if metric["note"].as_str().is_some_and(|note| note.starts_with("not compared: ")) {
                    assert_eq!((&metric["verdict"], &metric["b"]), (&json!("inconclusive"), &Value::Null), "{metric}");
                    apart += 1;
                }
            }
            assert!(apart > 5, "{other}: {apart} of {out}");
        }
    }
    // The same twice is equal, of either unit.
    freshbench(at, &["compare", "ms.json", "ms.json", "--fail-on", "regression"], 0);
}

#[test]
fn what_changed_its_meaning_is_shown_and_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let version = |number: &'static str| move |result: &mut Value| result["schema_version"] = json!(number);
    result(at, "old.json", version("1.3"));
    result(at, "older.json", version("1.1"));
    result(at, "new.json", version("2.0"));
    result(at, "unknown.json", version("3.0"));
    let (_, said) = freshbench(at, &["compare", "old.json", "new.json", "--different-config"], 2);
    assert!(said.contains("version 1.3 of the schema and version 2.0"), "{said}");
    freshbench(at, &["compare", "old.json", "older.json"], 0);
    freshbench(at, &["report", "old.json", "new.json", "-o", "page.html"], 0);
    freshbench(at, &["export", "old.json", "--to", "csv"], 0);
    let (_, said) = freshbench(at, &["export", "old.json", "new.json", "--to", "otava"], 2);
    assert!(said.contains("schema"), "{said}");
    for refused in [&["compare", "unknown.json", "new.json"][..], &["report", "unknown.json", "-o", "p.html"]] {
        assert!(freshbench(at, refused, 2).1.contains("\"3.0\""));
    }
}

#[test]
fn an_older_hash_is_said_to_be_older() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    result(at, "old.json", |_| {});
    let hashed = |hash: &'static str, memory: &'static str| {
        move |result: &mut Value| {
            result["config"]["hash"] = json!(hash);
            result["config"]["hash_version"] = json!(2);
            result["config"]["settings"] = json!({ "rate": "500", "warehouse.memory_bytes": memory });
        }
    };
    result(at, "a.json", hashed("a", "no limit"));
    result(at, "b.json", hashed("b", "1000"));
    let (_, said) = freshbench(at, &["compare", "old.json", "a.json"], 2);
    assert!(said.contains("older") && !said.contains("different configurations"), "{said}");
    let (_, said) = freshbench(at, &["compare", "a.json", "b.json"], 2);
    assert!(said.contains("different configurations: warehouse.memory_bytes no limit | 1000 ("), "{said}");
    let (out, _) = freshbench(at, &["compare", "a.json", "b.json", "--different-config"], 0);
    assert!(out.contains("warning: ") && out.contains("warehouse.memory_bytes no limit | 1000"), "{out}");
}

/// A history of 40 results, the later half changed.
fn history(folder: &Path, change: impl Fn(&mut Value)) -> Value {
    let mut names = Vec::new();
    for n in 0..40 {
        let name = format!("{n:02}.json");
        result(folder, &name, |result| {
            result["started_at"] = json!(format!("2026-01-01T00:{n:02}:00Z"));
            if n >= 20 {
                change(result);
            }
        });
        names.push(name);
    }
    let _ = fs::remove_file(folder.join("h.jsonl"));
    let add = ["history", "add", "--history", "h.jsonl"].into_iter().chain(names.iter().map(String::as_str));
    freshbench(folder, &add.collect::<Vec<_>>(), 0);
    analysis(folder)
}

fn analysis(folder: &Path) -> Value {
    let (out, _) = freshbench(folder, &["history", "analyze", "--history", "h.jsonl", "--format", "json"], 0);
    serde_json::from_str(&out).unwrap()
}

fn lengths_and_changes(analysis: &Value) -> (Vec<usize>, usize) {
    let series = analysis["series"].as_array().unwrap();
    let length = |one: &Value, field: &str| one[field].as_array().unwrap().len();
    let mut lengths: Vec<usize> = series.iter().map(|one| length(one, "points")).collect();
    lengths.sort_unstable();
    lengths.dedup();
    (lengths, series.iter().map(|one| length(one, "change_points")).sum())
}

#[test]
fn a_history_keeps_units_directions_and_schemas_apart() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // Figures in other units stay whole, those in seconds fall in two.
    assert_eq!(lengths_and_changes(&history(at, |result| in_ms(result, 1000.0))), (vec![20, 40], 0));
    assert_eq!(lengths_and_changes(&history(at, |result| in_ms(result, 1.0))), (vec![20, 40], 0));
    let doubled = |result: &mut Value| {
        for metric in figures(result) {
            metric["value"] = metric["value"].as_f64().map_or(Value::Null, |value| json!(value * 2.0));
        }
    };
    assert!(lengths_and_changes(&history(at, doubled)).1 > 5, "a change of the figures is one");
    let later = |result: &mut Value| {
        doubled(result);
        result["schema_version"] = json!("2.0");
    };
    assert_eq!(lengths_and_changes(&history(at, later)), (vec![20], 0));
}

#[test]
fn a_run_counts_once_however_it_came_in() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    result(at, "a.json", |_| {});
    fs::create_dir(at.join("copy")).unwrap();
    fs::copy(at.join("a.json"), at.join("copy/result.json")).unwrap();
    let add =
        |names: &[&str], code| freshbench(at, &[&["history", "add", "--history", "h.jsonl"], names].concat(), code);
    assert!(add(&["a.json", "copy"], 2).1.contains("twice"));
    add(&["a.json"], 0);
    assert!(add(&["copy"], 2).1.contains("already"));
    // Two histories that were put together by hand.
    let line = fs::read_to_string(at.join("h.jsonl")).unwrap();
    fs::write(at.join("h.jsonl"), format!("{line}{line}")).unwrap();
    assert_eq!(lengths_and_changes(&analysis(at)).0, [1]);
    freshbench(at, &["export", "h.jsonl", "--to", "otava", "--out", "otava"], 0);
    assert_eq!(fs::read_to_string(at.join("otava/otava.csv")).unwrap().lines().count(), 2);
    freshbench(at, &["export", "a.json", "copy", "--to", "otava", "--out", "two"], 0);
    assert_eq!(fs::read_to_string(at.join("two/otava.csv")).unwrap().lines().count(), 2);
}

#[test]
fn two_benches_of_one_name_are_refused_and_one_run_of_criterion_counts_once() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let bench = |place: &str, id: &str, ns: f64| {
        let new = at.join("criterion").join(place).join("new");
        fs::create_dir_all(&new).unwrap();
        fs::write(new.join("benchmark.json"), json!({ "full_id": id }).to_string()).unwrap();
        fs::write(new.join("estimates.json"), json!({ "median": { "point_estimate": ns } }).to_string()).unwrap();
    };
    bench("a_b/c", "a/b/c", 1500.0);
    let add = ["history", "add", "--criterion", "criterion", "--history", "h.jsonl"];
    freshbench(at, &add, 0);
    // Time passes, and nothing was measured.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert!(freshbench(at, &add, 2).1.contains("already"));
    bench("a_b/c", "a/b/c", 1600.0);
    freshbench(at, &add, 0);
    bench("a/b_c", "a/b/c", 7.0);
    let (_, said) = freshbench(at, &add, 2);
    assert!(said.contains("\"a/b/c\"") && said.contains("a_b/c") && said.contains("a/b_c"), "{said}");
    assert_eq!(fs::read_to_string(at.join("h.jsonl")).unwrap().lines().count(), 2);
}
