//! The page of a report in a real browser: drawn, legible, silent, and without the network.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/chromium.rs"]
mod chromium;

use chromium::Chromium;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const CHECKS: &str = include_str!("support/page_checks.js");
const PAGE_BYTES_MAX: u64 = 1_500_000;
const DESK: (u32, u32) = (1100, 900);
const PHONE: (u32, u32) = (380, 780);

fn freshbench(arguments: &[&Path]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.arg("report").args(arguments).output().unwrap()
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/example")
}

/// The page of some inputs in a folder, as a URL.
fn page(folder: &Path, inputs: &[PathBuf]) -> String {
    let file = folder.join("page.html");
    let mut arguments: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    arguments.extend([Path::new("-o"), &file]);
    let output = freshbench(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let size = std::fs::metadata(&file).unwrap().len();
    eprintln!("the page has {size} bytes");
    assert!(size <= PAGE_BYTES_MAX);
    format!("file://{}", file.display())
}

/// Saves a picture where somebody wants to look at it.
fn keep(chromium: &mut Chromium, name: &str, whole: bool) {
    use base64::Engine;
    let Some(folder) = std::env::var_os("FRESHBENCH_SCREENSHOTS") else { return };
    let bytes = base64::engine::general_purpose::STANDARD.decode(chromium.picture(whole)).unwrap();
    std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
}

fn check(chromium: &mut Chromium, what: &str) {
    let wrong = chromium.evaluate(CHECKS);
    assert_eq!(wrong, json!([]), "{what}: {wrong:#}");
    assert_eq!(chromium.complaints(), Vec::<String>::new(), "{what}");
}

/// Points at the middle of each kind of chart and reads what is said there.
fn hover(chromium: &mut Chromium, selector: &str) -> String {
    let place = chromium.evaluate(&format!(
        "(async () => {{ const view = document.querySelector({selector:?}); view.scrollIntoView({{block: 'center', behavior: 'instant'}}); \
         for (let n = 0; n < 3; n += 1) await new Promise(requestAnimationFrame); \
         const svg = [...view.querySelectorAll('svg')].find((one) => one.getClientRects().length); \
         const mark = svg.querySelector('.part, .cell, .catch'); const box = (mark || svg).getBoundingClientRect(); \
         return [box.left + box.width / 2, box.top + box.height / 2]; }})()"
    ));
    chromium.point_at(1.0, 1.0);
    chromium.point_at(place[0].as_f64().unwrap(), place[1].as_f64().unwrap());
    let told =
        chromium.evaluate("document.getElementById('tip').hidden ? '' : document.getElementById('tip').innerText");
    told.as_str().unwrap().to_owned()
}

#[test]
fn a_report_is_drawn_and_legible_on_every_screen() {
    let Some(mut chromium) = Chromium::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = page(folder.path(), &[example()]);
    chromium.call(
        "Network.emulateNetworkConditions",
        json!({"offline": true, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}),
    );
    for (name, size) in [("desk", DESK), ("phone", PHONE)] {
        for scheme in ["light", "dark"] {
            chromium.look(size, scheme);
            chromium.open(&url);
            check(&mut chromium, &format!("{name}, {scheme}"));
            assert_eq!(chromium.asked(), std::slice::from_ref(&url), "it asks for itself alone");
            let dark = chromium.evaluate("getComputedStyle(document.body).backgroundColor");
            assert_eq!(dark == json!("rgb(255, 255, 255)"), scheme == "light", "{dark}");
            let drawn = chromium.evaluate(
                "[...document.querySelectorAll('figure svg')].filter((one) => one.getClientRects().length && one.querySelector('path,rect')).length",
            );
            assert!(drawn.as_u64().unwrap() >= 12, "{name}: {drawn} charts");
            keep(&mut chromium, &format!("report-{name}-{scheme}"), true);
            let told = hover(&mut chromium, "#age-warehouse .view0");
            assert!(
                told.contains("cdc-trigger: ") && told.contains("full-refresh: ") && told.contains(" s"),
                "{told:?}"
            );
            keep(&mut chromium, &format!("report-hover-{name}-{scheme}"), false);
            assert!(hover(&mut chromium, "#stages-chart .view").contains("cdc-trigger, "), "bars");
            assert!(hover(&mut chromium, "#cost-warehouse .view").contains("CPU "), "points");
            assert_eq!(chromium.complaints(), Vec::<String>::new());
        }
    }
}

#[test]
fn the_keys_read_values_and_the_axis_can_be_chosen() {
    let Some(mut chromium) = Chromium::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = page(folder.path(), &[example()]);
    chromium.look(DESK, "light");
    chromium.open(&url);
    let press =
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))";
    chromium.evaluate(&format!("document.querySelector('#age-cache .view0').focus(); {press}; {press}"));
    let told = chromium.evaluate("document.getElementById('tip').innerText");
    assert!(told.as_str().unwrap().contains("cdc-trigger: "), "{told}");
    let shown =
        "['view0', 'view1'].map((name) => document.querySelector('#age-cache .' + name).getClientRects().length > 0)";
    assert_eq!(chromium.evaluate(shown), json!([true, false]));
    chromium.evaluate("document.querySelector('#age-cache input[value=\"1\"]').click()");
    assert_eq!(chromium.evaluate(shown), json!([false, true]));
    chromium.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })");
    check(&mut chromium, "with every table open");
    let rows = chromium.evaluate("document.querySelectorAll('#age-cache-table tbody tr').length");
    assert_eq!(rows, json!(200));
}

#[test]
fn it_prints_whole() {
    let Some(mut chromium) = Chromium::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = page(folder.path(), &[example()]);
    chromium.look(DESK, "dark");
    chromium.open(&url);
    let sheets = chromium.call("Page.printToPDF", json!({"preferCSSPageSize": true, "printBackground": true}));
    assert!(sheets["data"].as_str().unwrap().len() > 50_000);
    chromium.call(
        "Emulation.setEmulatedMedia",
        json!({"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}),
    );
    let seen = chromium.evaluate(
        "[getComputedStyle(document.body).backgroundColor, document.querySelector('nav').getClientRects().length, \
         [...document.querySelectorAll('figure .wide svg')].filter((one) => one.getClientRects().length).length > 11]",
    );
    assert_eq!(seen, json!(["rgb(255, 255, 255)", 0, true]));
    keep(&mut chromium, "report-print", true);
}

fn write(folder: &Path, name: &str, value: &Value) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, value.to_string()).unwrap();
    path
}

/// A sweep, a comparison and a history as the other commands write them, with names that would do harm as markup.
fn others(folder: &Path) -> Vec<PathBuf> {
    let mut cells = Vec::new();
    let mut map = Vec::new();
    for rows in [10_000, 100_000, 1_000_000] {
        for rate in [10, 100, 1000] {
            let cheapest = if rows > 10_000 * rate { "cdc-log" } else { "full-refresh" };
            cells.push(json!({"rows": rows, "change_rate": rate, "strategy": cheapest, "interval_s": 5.0, "measured": rate < 1000,
                "cost_cpu_s_per_s": 0.01 * f64::from(rate) / 10.0, "freshness_p99_s": 2.0}));
            map.push(
                json!({"target_p99_s": 10.0, "rows": rows, "change_rate": rate, "cheapest": cheapest, "interval_s": 5.0,
                "cost_cpu_s_per_s": 0.1, "measured": rate < 1000}),
            );
        }
    }
    let sweep = json!({"schema": "freshbench.sweep", "schema_version": "1.0", "target_p99_s": [10.0], "cells": cells, "map": map,
        "break_even": [{"rows": 10_000, "interval_s": 5.0, "changed_fraction": 0.2, "ci": [0.15, 0.26]},
                       {"rows": 1_000_000, "interval_s": 5.0, "changed_fraction": 0.05, "ci": [0.04, 0.07]}], "models": []});
    let metric = |id: &str, ln: f64, verdict: &str| {
        json!({"id": id, "strategy": "cdc-trigger", "sink": "warehouse", "unit": "s",
        "direction": "lower", "estimate_ln": ln, "ci_ln": [ln - 0.05, ln + 0.05], "p": 0.01, "margin": 0.05, "verdict": verdict})
    };
    let comparison = json!({"schema": "freshbench.comparison", "schema_version": "1.0", "a": {"command": "<img src=x onerror=alert(1)>"}, "b": {"command": "new", "git": {"commit": "abcdef"}},
        "pairs": 12, "metrics": [metric("freshness.commit_lag.p99", 0.2, "regression"), metric("freshness.age.mean", -0.1, "improvement"),
        metric("</script><script>alert(2)</script>", 0.0, "no-regression")], "control": {"pairs": 12, "fired": false, "metrics": []}, "verdict": "regression"});
    let points: Vec<Value> = (0..30)
        .map(|n| json!({"time": format!("2026-01-{:02}", n + 1), "git": "abcdef", "value": if n < 18 { 0.01 } else { 0.02 } + f64::from(n % 3) * 1e-3}))
        .collect();
    let history = json!({"schema": "freshbench.history-analysis", "schema_version": "1.0", "series": [{"id": "orders/cdc-trigger/freshness.commit_lag.p99/warehouse", "unit": "s", "points": points,
        "change_points": [{"index": 18, "p": 0.001, "before": 0.011, "after": 0.021}]}]});
    vec![
        write(folder, "sweep.json", &sweep),
        write(folder, "comparison.json", &comparison),
        write(folder, "history.json", &history),
    ]
}

#[test]
fn several_runs_a_sweep_a_comparison_and_a_history_come_on_one_page() {
    let Some(mut chromium) = Chromium::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut inputs = vec![example()];
    let result = std::fs::read_to_string(example().join("result.json")).unwrap();
    let mut second: Value = serde_json::from_str(&result).unwrap();
    second["run_id"] = json!("20990101T000000Z-orders");
    second["started_at"] = json!("2099-01-01T00:00:00Z");
    second["config"]["batch_interval_s"] = json!(5.0);
    second["strategies"][1]["validation"]["passed"] = json!(false);
    second["strategies"][1]["validation"]["failures"] = json!(["7 rows are <b>wrong</b>"]);
    inputs.push(write(folder.path(), "second.json", &second));
    inputs.extend(others(folder.path()));
    let url = page(folder.path(), &inputs);
    for (name, size, scheme) in [("desk", DESK, "light"), ("phone", PHONE, "dark")] {
        chromium.look(size, scheme);
        chromium.open(&url);
        check(&mut chromium, name);
        assert!(
            chromium
                .evaluate("document.querySelector('header .alarm').innerText")
                .as_str()
                .unwrap()
                .contains("7 rows are <b>wrong</b>")
        );
        assert!(hover(&mut chromium, "[id^=sweep-map] .view").contains("changes/s"));
        assert!(hover(&mut chromium, "[id^=comparison-][id$=chart] .view").contains('%'));
        assert!(hover(&mut chromium, "[id^=history-] .view").contains("ms"));
        assert_eq!(chromium.evaluate("document.images.length"), json!(0));
        keep(&mut chromium, &format!("many-{name}-{scheme}"), true);
    }
}

#[test]
fn an_index_lists_every_run() {
    let Some(mut chromium) = Chromium::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::copy(example().join("result.json"), folder.path().join(name).join("result.json")).unwrap();
    }
    let output = freshbench(&[Path::new("--index"), folder.path()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let url = format!("file://{}", folder.path().join("index.html").display());
    chromium.look(DESK, "light");
    chromium.open(&url);
    check(&mut chromium, "the index");
    assert_eq!(chromium.evaluate("document.querySelectorAll('tbody tr svg').length"), json!(2));
    keep(&mut chromium, "index", true);
}

#[test]
fn bad_input_is_told_in_one_line_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let nothing = write(folder.path(), "nothing.json", &json!({"schema": "something else"}));
    let missing = folder.path().join("missing");
    for (input, told) in [(&nothing, "no known \"schema\""), (&missing, "can't be read")] {
        let output = freshbench(&[&example(), input, Path::new("-o"), &page]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(
            errors.lines().count() == 1 && errors.contains(told) && errors.contains(&*input.to_string_lossy()),
            "{errors}"
        );
        assert!(!page.exists());
    }
    let output = freshbench(&[&example(), Path::new("-o"), &folder.path().join("no/such/folder/page.html")]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(freshbench(&[]).status.code(), Some(2));
}
