//! Figures of whole runs, held against what must be so whatever the machine does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn freshbench(out: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.args(["run", "--quiet", "--rows", "500"]).args(arguments).arg("--out").arg(out);
    command.stdin(Stdio::null());
    command
}

fn run(out: &Path, arguments: &[&str]) -> (Value, String) {
    let output = freshbench(out, arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}: {errors}", output.status);
    (saved(out), String::from_utf8(output.stdout).unwrap())
}

fn saved(out: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(out.join("result.json")).unwrap()).unwrap()
}

fn case<'a>(result: &'a Value, name: &str) -> &'a Value {
    result["strategies"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap()
}

fn metric<'a>(case: &'a Value, id: &str, sink: Option<&str>) -> &'a Value {
    let same = |metric: &&Value| metric["id"] == id && metric["sink"].as_str() == sink;
    case["metrics"].as_array().unwrap().iter().find(same).unwrap_or_else(|| panic!("no {id} at {sink:?}"))
}

fn value(case: &Value, id: &str, sink: Option<&str>) -> f64 {
    metric(case, id, sink)["value"].as_f64().unwrap_or_else(|| panic!("{id} at {sink:?} has no value"))
}

/// The sinks share one tailer, so they have one capture; what they differ in is how long they let a commit wait. And the stages
/// add up to the mean of the commit lag, which comes from other code.
#[test]
fn sinks_that_share_a_tailer_have_one_capture() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--strategies", "cdc-trigger", "--no-control", "--duration", "1500ms", "--warmup", "300ms"];
    let (result, _) = run(folder.path(), &[&arguments[..], &["--rate", "200", "--search-interval", "200ms"]].concat());
    let case = case(&result, "cdc-trigger");
    let stage = |stage: &str, sink| value(case, &format!("stage.{stage}.mean"), Some(sink));
    let captures = ["warehouse", "search", "cache"].map(|sink| stage("capture", sink));
    assert!(captures[0] > 0.0 && captures.iter().all(|capture| *capture == captures[0]), "{captures:?}");
    for sink in ["warehouse", "search", "cache"] {
        let sum: f64 = ["capture", "queue", "transform", "apply", "publish"].map(|name| stage(name, sink)).iter().sum();
        let histogram = case["histograms"].as_array().unwrap().iter();
        let lag = histogram
            .filter(|h| h["id"] == "freshness.commit_lag" && h["sink"] == sink)
            .find_map(|h| freshbench::stats::Histogram::decode(h["data"].as_str()?).ok()?.mean());
        // The histogram keeps three digits.
        let lag = lag.unwrap().as_secs_f64();
        assert!((sum - lag).abs() <= 0.01 * lag, "{sink}: stages {sum} s, lag {lag} s");
    }
}

/// Far more is offered than one file can take in full durability: what is reported as throughput was acknowledged in the window,
/// as the lags' own count says, and what was offered has its own name.
#[test]
fn an_overload_shows_what_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--strategies", "cdc-trigger", "--no-control", "--sinks", "warehouse", "--arrivals", "fixed"];
    let times = ["--rate", "20000", "--duration", "500ms", "--warmup", "100ms", "--clients", "1"];
    let (result, _) = run(folder.path(), &[&arguments[..], &times].concat());
    let case = case(&result, "cdc-trigger");
    let (offered, acknowledged) =
        (value(case, "throughput.offered_per_s", None), value(case, "throughput.transactions_per_s", None));
    assert!((19_990.0..=20_010.0).contains(&offered), "one each 50 us: {offered}");
    let seen = metric(case, "freshness.commit_lag.p50", Some("warehouse"))["n"].as_f64().unwrap();
    assert_eq!(acknowledged, seen * 2.0, "commits acknowledged in a window of half a second");
    assert!(acknowledged < offered / 2.0, "{acknowledged} of {offered}: this machine is no overload");
    let warnings = result["warnings"].to_string();
    assert!(warnings.contains("did not keep up") && warnings.contains("were acknowledged in it"), "{warnings}");
}

/// What can't be in the window by the plan is refused, or has no figure and says so before all others.
#[test]
fn costs_are_over_whole_periods_or_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--strategies", "full-refresh,incremental", "--batch-interval", "20s", "--duration", "3s"];
    let output = freshbench(&folder.path().join("refused"), &arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--batch-interval 20s") && said.contains("--duration 40s"), "{said}");
    assert!(!folder.path().join("refused").exists());

    let arguments =
        ["--strategies", "cdc-trigger,full-refresh", "--no-control", "--rate", "200", "--sinks", "warehouse"];
    let times = ["--warmup", "300ms", "--duration", "1300ms", "--batch-interval", "500ms"];
    let more = ["--checkpoint-interval", "60s"];
    let (result, printed) = run(&folder.path().join("out"), &[&arguments[..], &times, &more].concat());
    let stream = case(&result, "cdc-trigger");
    let ids = ["cpu_s_per_1k_changes", "read_bytes_per_change", "write_bytes_per_change", "write_amplification"];
    let costs = |case: &Value| ids.map(|id| metric(case, &format!("cost.{id}"), None)["value"].clone());
    assert!(costs(stream).iter().all(Value::is_null), "{stream:#}");
    let caveat = caveat(stream, "no costs are given");
    assert!(leads(&printed, caveat) && printed.matches(caveat).count() == 1, "{printed}");
    assert!(result["warnings"].as_array().unwrap().iter().any(|warning| warning == caveat));
    // Two whole intervals of the 1.3 s.
    let refresh = case(&result, "full-refresh");
    assert_eq!(value(refresh, "cost.measured_time", None), 1.0);
    assert_eq!(value(stream, "cost.measured_time", None), 1.3);
    let changes: Vec<u64> = ids.map(|id| metric(refresh, &format!("cost.{id}"), None)["n"].as_u64().unwrap()).to_vec();
    assert!(changes.iter().all(|n| *n == changes[0]), "CPU and bytes are for the same changes: {changes:?}");
}

/// The caveat of a case that has these words. A busy machine may add others.
fn caveat<'a>(case: &'a Value, words: &str) -> &'a str {
    let mut caveats = case["caveats"].as_array().unwrap().iter().filter_map(Value::as_str);
    caveats.find(|caveat| caveat.contains(words)).unwrap_or_else(|| panic!("no caveat says {words}: {case:#}"))
}

/// Whether a report begins with cautions, this one among them.
fn leads(printed: &str, caveat: &str) -> bool {
    printed.lines().take_while(|line| line.starts_with("CAUTION: ")).any(|line| line.ends_with(caveat))
}

fn signal(id: u32, name: &str) {
    assert!(Command::new("kill").args([name, &id.to_string()]).status().unwrap().success());
}

/// Each case begins with as much in memory as the one before did, whatever that left: the same strategy in the first and in the
/// fifth place. With the cases in one process, as beside a live view, what was left is reported.
#[test]
fn what_a_case_finds_in_memory_does_not_depend_on_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--strategies", "cdc-trigger", "--no-control", "--rate", "200", "--reps", "5"];
    let times = ["--warmup", "100ms", "--duration", "400ms"];
    let arguments = [&arguments[..], &times].concat();
    let at_start = |result: &Value| -> Vec<f64> {
        let reps = metric(case(result, "cdc-trigger"), "cost.rss_at_start_bytes", None)["reps"].as_array().unwrap();
        reps.iter().map(|bytes| bytes.as_f64().unwrap()).collect()
    };
    let warned = |result: &Value| result["warnings"].to_string().contains("earlier cases left in this process");
    let (result, _) = run(&folder.path().join("fresh"), &arguments);
    let found = at_start(&result);
    assert_eq!((found.len(), result["complete"].as_bool(), warned(&result)), (5, Some(true), false));
    let (least, most) =
        found.iter().fold((f64::MAX, 0.0f64), |(least, most), bytes| (least.min(*bytes), most.max(*bytes)));
    assert!(most <= least * 1.1, "{found:?}");
    let (result, _) = run(&folder.path().join("shared"), &[&arguments[..], &["--live", "0"]].concat());
    let found = at_start(&result);
    assert!(warned(&result) && found[4] > found[0] * 1.1, "{found:?}");
}

/// The whole process is stopped for half a second while it measures: that is found, marked, said first, and left out beside.
#[test]
fn a_stall_of_the_harness_is_not_the_strategys() {
    const STALL: Duration = Duration::from_millis(500);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let arguments = ["--strategies", "cdc-trigger", "--no-control", "--sinks", "warehouse", "--rate", "200"];
    let mut command = freshbench(&out, &[&arguments[..], &["--warmup", "0ms", "--duration", "6s"]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Its log is made just before the clients start.
    let deadline = Instant::now() + Duration::from_secs(120);
    let work = |entry: std::fs::DirEntry| entry.path().join("cdc-trigger-0/log").exists();
    while !std::fs::read_dir(&out).is_ok_and(|entries| entries.flatten().any(work)) {
        assert!(Instant::now() < deadline, "the run does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_secs(2));
    signal(child.id(), "-STOP");
    std::thread::sleep(STALL);
    signal(child.id(), "-CONT");
    let output = child.wait_with_output().unwrap();
    let (said, printed) = (String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{said}");
    let result = saved(&out);
    let case = case(&result, "cdc-trigger");
    let stalls = case["timeseries"]["stalls"].as_array().expect("stalls in the series");
    let stopped = stalls.iter().filter(|stall| stall["cause"] == "stopped");
    let longest = stopped.filter_map(|stall| stall["duration_s"].as_f64()).fold(0.0, f64::max);
    // Less the 10 ms that the thread would have slept.
    assert!(longest >= STALL.as_secs_f64() - 0.01, "{stalls:?}");
    assert!(value(case, "harness.longest_stall", None) >= longest);
    assert!(leads(&printed, caveat(case, "stood still")), "{printed}");
    let figures = [
        ("source.commit_latency", "source.commits_in_stalls", None),
        ("freshness.commit_lag", "freshness.commits_in_stalls", Some("warehouse")),
    ];
    for (id, left_out, sink) in figures {
        let n = |id: String| metric(case, &id, sink)["n"].as_u64().unwrap();
        let out = value(case, left_out, sink);
        assert!(out > 0.0, "{id}");
        assert_eq!(n(format!("{id}.p50")), n(format!("{id}_without_stalls.p50")) + out as u64, "{id}");
    }
    // Transactions were due all through the stall.
    let without = value(case, "source.commit_latency_without_stalls.max", None);
    let with = value(case, "source.commit_latency.max", None);
    assert!(with >= STALL.as_secs_f64() - 0.02 && with > without, "{with} and {without} without");
}
