//! The race of dual writes under a schedule that is decided beforehand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use freshbench::plan::RawPlan;
use freshbench::run::race::{Ending, simulated, textbook};
use freshbench::workload::{KeyDistribution, Overrides, Workload};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

fn all(value: &str) -> BTreeMap<String, String> {
    ["warehouse", "search", "cache"].map(|sink| (sink.to_owned(), value.to_owned())).into()
}

/// The case as the textbook tells it: the record system ends with B, and an index that is written to in the
/// other order with A. Any call that failed would make `textbook` an error.
#[test]
fn the_textbooks_race_ends_with_a_in_the_index_and_b_in_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let book = textbook(folder.path()).unwrap();
    let [naive, versioned, stream] = book.endings.as_slice() else { panic!("three ways: {book:?}") };
    let ending = |ending: &Ending| (ending.source.clone(), ending.sinks.clone());
    assert_eq!(ending(naive), ("B".to_owned(), all("A")));
    assert_eq!(naive.raced.len(), 3, "{naive:?}");
    assert_eq!(ending(versioned), ("B".to_owned(), all("B")));
    assert_eq!(ending(stream), ("B".to_owned(), all("B")));
    assert!(versioned.raced.is_empty() && stream.raced.is_empty());
    assert_eq!(book.steps.first().unwrap(), "client 1 commits X=A");
    assert_eq!(book.steps.last().unwrap(), "client 1 writes X=A to the cache");
}

fn workload(clients: u32) -> Workload {
    let overrides = Overrides {
        rows: Some(300),
        rate_per_s: Some(1000.0),
        duration: Some(Duration::from_secs(3)),
        clients: Some(clients),
        keys: Some(KeyDistribution::ScrambledZipfian),
        ..Overrides::default()
    };
    Workload::load("ycsb-a", &overrides).unwrap()
}

fn race(clients: u32, crash_rate: f64, versioned: bool) -> freshbench::run::race::RaceRow {
    let folder = tempfile::tempdir().unwrap();
    let raw = RawPlan { crash_rate: Some(crash_rate), workload: Some("ycsb-a".to_owned()), ..RawPlan::default() };
    let plan = raw.resolve(String::new()).unwrap();
    simulated(&plan, &workload(clients), &folder.path().join("race"), versioned).unwrap()
}

/// Every simulated race is also compared row by row with the record system, and a row that differs without an event that
/// accounts for it is an error of `simulated`.
#[test]
fn many_clients_race_reproducibly_and_one_does_not() {
    let eight = race(8, 0.0, false);
    assert_eq!(eight, race(8, 0.0, false), "the same seed gives the same race");
    for (sink, count) in &eight.sinks {
        assert!(count.races[0] + count.races[1] > 0, "{sink}: no race among 8 clients on hot keys: {count:?}");
        assert_eq!(count.partial_failures, [0, 0], "{sink}");
    }
    let alone = race(1, 0.0, false);
    assert!(alone.commits > 1000);
    for (sink, count) in &alone.sinks {
        assert_eq!((count.races, count.partial_failures, count.rows_differing), ([0; 2], [0; 2], 0), "{sink}");
    }
}

#[test]
fn a_version_check_ends_the_races_but_not_the_deaths() {
    let checked = race(8, 0.0, true);
    let dying = race(8, 0.02, true);
    for (sink, count) in &checked.sinks {
        assert_eq!((count.races, count.rows_differing), ([0; 2], 0), "{sink}");
    }
    for (sink, count) in &dying.sinks {
        assert_eq!(count.races, [0; 2], "{sink}");
        assert!(count.partial_failures[0] + count.partial_failures[1] > 0, "{sink}: nobody died: {count:?}");
        // A row differs only when its last writes were lost; several of them may be.
        assert!((1..=count.partial_failures[1]).contains(&count.rows_differing), "{sink}: {count:?}");
    }
    // A client that dies before the first sink writes to none of the others either.
    let lost = |sink: &str| dying.sinks[sink].partial_failures.iter().sum::<u64>();
    assert!(lost("warehouse") < lost("search") && lost("search") < lost("cache"));
}

/// Real threads in real time: what comes out differs each time, but not whether clients race.
#[test]
fn eight_threads_race_in_real_time_and_one_does_not() {
    let run = |strategies: &str, clients: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
        command.args(["run", "--quick", "--quiet", "--no-control", "--strategies", strategies, "--clients", clients]);
        command.args(["--workload", "ycsb-a", "--rows", "20", "--rate", "600", "--duration", "2s", "--think", "1ms"]);
        command.args(["--format", "json", "--out"]).arg(folder.path().join("out"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["strategies"].clone()
    };
    let events = |sink: &serde_json::Value| {
        let count = |field: &str| sink[field].as_u64().unwrap_or_else(|| panic!("no {field} in {sink}"));
        assert!(count("writes") > 100, "{sink}");
        assert_eq!(count("partial_failures_transient") + count("partial_failures_permanent"), 0, "{sink}");
        count("races_transient") + count("races_permanent")
    };
    let eight = run("dual-write,dual-write-versioned,cdc-trigger", "8");
    let sinks = eight.as_array().unwrap().iter().find(|case| case["name"] == "dual-write").unwrap();
    let sinks = sinks["divergence"].as_array().unwrap();
    assert_eq!(sinks.len(), 3);
    for sink in sinks {
        assert!(events(sink) > 0, "8 clients on 20 keys did not race: {sink}");
    }
    for case in eight.as_array().unwrap().iter().filter(|case| case["name"] != "dual-write") {
        assert_eq!(case["validation"]["equal"], true, "{}", case["name"]);
    }
    let alone = run("dual-write", "1");
    for sink in alone[0]["divergence"].as_array().unwrap() {
        assert_eq!(events(sink), 0, "{sink}");
    }
    assert_eq!(alone[0]["validation"]["equal"], true);
}

#[test]
fn the_command_tells_the_race_and_gives_the_same_figures_for_a_seed() {
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
        command.args([
            "race",
            "--quiet",
            "--rows",
            "200",
            "--duration",
            "500ms",
            "--clients",
            "1,4",
            "--format",
            "json",
        ]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let first = run();
    assert_eq!(first, run());
    assert_eq!(first["textbook"]["endings"][0]["sinks"]["search"], "A");
    assert_eq!(first["simulated"].as_array().unwrap().len(), 4);
}
