//! What an attach says of changes, costs, clocks and readers, against what was really done.

use crate::server::PgServer;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn server() -> Option<PgServer> {
    let server = PgServer::start(&["fsync=off"])?;
    server.psql(
        "postgres",
        "CREATE TABLE noted(id bigint PRIMARY KEY, v int, updated_at timestamptz NOT NULL DEFAULT now()); \
         INSERT INTO noted SELECT n, 0 FROM generate_series(1, 5000) n",
    );
    Some(server)
}

fn attach(server: &PgServer, folder: &Path, strategy: &str, seconds: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.args(["-q", "attach", "--source", &server.url("postgres"), "--tables", "noted", "--strategy", strategy]);
    command.args(["--duration", seconds, "--batch-interval", "500ms", "--warehouse"]).arg(folder.join("warehouse"));
    command.arg("--out").arg(folder.join("result")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Until the first state is in the folder.
fn wait_for_load(folder: &Path) {
    let until = Instant::now() + Duration::from_secs(60);
    let loaded = || {
        let reader = freshbench::sink::WarehouseReader::open(&folder.join("warehouse")).ok()?;
        (reader.version().watermark().0 > 0).then_some(())
    };
    while loaded().is_none() {
        assert!(Instant::now() < until, "nothing was loaded");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn result(folder: &Path) -> Value {
    let result: Value = serde_json::from_slice(&std::fs::read(folder.join("result/result.json")).unwrap()).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../../reports/result.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&result).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    result
}

fn metric<'a>(result: &'a Value, id: &str) -> &'a Value {
    let metrics = result["strategies"][0]["metrics"].as_array().unwrap();
    metrics.iter().find(|metric| metric["id"] == id).unwrap_or_else(|| panic!("no {id}"))
}

fn phase<'a>(result: &'a Value, name: &str) -> &'a Value {
    let phases = result["strategies"][0]["phases"].as_array().unwrap();
    phases.iter().find(|phase| phase["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn copied_rows_are_no_changes() {
    let Some(server) = server() else { return };
    for strategy in ["full-refresh", "incremental", "cdc-log"] {
        let folder = tempfile::tempdir().unwrap();
        assert!(attach(&server, folder.path(), strategy, "3s").wait().unwrap().success());
        let result = result(folder.path());
        let changes = metric(&result, "throughput.changes_per_s");
        assert_eq!((&changes["value"], &changes["n"]), (&0.0.into(), &0.into()), "{strategy}: an idle table");
        let each = metric(&result, "cost.cpu_s_per_1k_changes");
        assert!(each["value"].is_null() && each["absent"].is_string(), "{strategy}: {each}");
        assert!(metric(&result, "cost.cpu_cores")["value"].as_f64().unwrap() > 0.0, "{strategy}");
        let series = result["strategies"][0]["timeseries"]["changes_per_s"].as_array().unwrap();
        assert!(series.iter().all(|rate| *rate == 0.0), "{strategy}");
        if strategy == "full-refresh" {
            let rows = metric(&result, "throughput.rows_per_s");
            assert!(rows["n"].as_u64().unwrap() >= 5000, "{rows}");
        }
        let load = phase(&result, "initial load");
        assert_eq!(load["rows"], 5000);
        // A row has at least its key and its instant.
        assert!(load["bytes_in"].as_u64().unwrap() >= 5000 * 16 && load["bytes_out"].as_u64().unwrap() > 0, "{load}");
        let warnings = result["warnings"].to_string();
        assert!(!warnings.contains("clock"), "{warnings}");
    }
}

#[test]
fn changes_are_those_of_the_source_whatever_follows_it() {
    let Some(server) = server() else { return };
    for strategy in ["full-refresh", "incremental", "cdc-log", "cdc-trigger"] {
        let folder = tempfile::tempdir().unwrap();
        let child = attach(&server, folder.path(), strategy, "8s");
        wait_for_load(folder.path());
        // The window begins when the load is over; each psql is a session that reports as it ends.
        std::thread::sleep(Duration::from_secs(2));
        server.psql("postgres", "UPDATE noted SET v = v + 1, updated_at = clock_timestamp() WHERE id <= 500");
        server.psql("postgres", "UPDATE noted SET v = v + 1, updated_at = clock_timestamp() WHERE id <= 200");
        let ran = child.wait_with_output().unwrap();
        assert!(ran.status.success(), "{strategy}: {}", String::from_utf8_lossy(&ran.stderr));
        let result = result(folder.path());
        assert_eq!(metric(&result, "throughput.changes_per_s")["n"], 700, "{strategy}");
        let each = metric(&result, "cost.cpu_s_per_1k_changes");
        assert!(each["n"] == 700 && each["value"].as_f64().unwrap() > 0.0, "{strategy}: {each}");
        // Nobody outside reads before it is visible within, where the folder lags behind the memory.
        if strategy.starts_with("cdc") {
            for q in ["p50", "p99", "max"] {
                let within = metric(&result, &format!("freshness.commit_lag.{q}"))["value"].as_f64().unwrap();
                let outside = metric(&result, &format!("freshness.readable_lag.{q}"))["value"].as_f64().unwrap();
                assert!(outside >= within, "{strategy}: {q}: {outside} < {within}");
            }
            let follow = phase(&result, "follow");
            assert!(follow["bytes_in"].as_u64().unwrap() > 700 * 8, "{follow}");
        }
        let sentence = result["strategies"][0]["sentence"].as_str().unwrap();
        if strategy != "incremental" {
            let (outside, within) =
                (sentence.find("readable by other processes"), sentence.find("visible in this one"));
            assert!(outside.is_some() && outside < within, "{sentence}");
        }
        assert!(result["config"]["command"].as_str().unwrap().starts_with("freshbench "));
        let page = std::fs::read_to_string(folder.path().join("result/report.html")).unwrap();
        assert!(!page.contains("0 clients") && !page.contains("seed 0"), "{strategy}");
    }
}

/// What is said of a table that is followed by `strategy` while `work` is done.
fn figures_of(server: &PgServer, strategy: &str, work: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let child = attach(server, folder.path(), strategy, "8s");
    wait_for_load(folder.path());
    std::thread::sleep(Duration::from_secs(2));
    work.iter().for_each(|sql| drop(server.psql("postgres", sql)));
    let ran = child.wait_with_output().unwrap();
    assert!(ran.status.success(), "{strategy}: {}", String::from_utf8_lossy(&ran.stderr));
    result(folder.path())
}

#[test]
fn a_count_that_can_not_be_trusted_is_no_figure() {
    let Some(server) = server() else { return };
    let update = "UPDATE noted SET v = v + 1, updated_at = clock_timestamp() WHERE id <= 500";
    for (work, why) in [
        (vec![update, "SELECT pg_stat_reset()"], "reset"),
        (vec![update, "BEGIN; DELETE FROM noted; ROLLBACK"], "rolled back"),
        (vec!["CREATE TABLE kept AS TABLE noted", "TRUNCATE noted", "INSERT INTO noted TABLE kept"], "truncated"),
        (
            vec!["ALTER SYSTEM SET track_counts = off", "SELECT pg_reload_conf()", "SELECT pg_sleep(1)", update],
            "track_counts",
        ),
    ] {
        let result = figures_of(&server, "full-refresh", &work);
        for id in ["throughput.changes_per_s", "cost.cpu_s_per_1k_changes"] {
            let metric = metric(&result, id);
            assert!(metric["value"].is_null(), "{why}: {metric}");
            assert!(metric["absent"].as_str().unwrap().contains(why), "{why}: {metric}");
        }
        let series = &result["strategies"][0]["timeseries"]["changes_per_s"];
        assert!(series.as_array().is_none_or(Vec::is_empty), "{why}: {series}");
    }
}

#[test]
fn rows_of_a_new_partition_are_counted() {
    let Some(server) = server() else { return };
    server.psql(
        "postgres",
        "ALTER TABLE noted RENAME TO plain; \
         CREATE TABLE noted(LIKE plain INCLUDING DEFAULTS, PRIMARY KEY (id)) PARTITION BY RANGE (id); \
         CREATE TABLE low PARTITION OF noted FOR VALUES FROM (0) TO (10000); INSERT INTO noted TABLE plain",
    );
    let work = [
        "CREATE TABLE high PARTITION OF noted FOR VALUES FROM (10000) TO (20000); \
         INSERT INTO noted SELECT n, 0, clock_timestamp() FROM generate_series(10000, 10299) n",
        "UPDATE noted SET v = 1, updated_at = clock_timestamp() WHERE id <= 7",
    ];
    let result = figures_of(&server, "full-refresh", &work);
    assert_eq!(metric(&result, "throughput.changes_per_s")["n"], 307);
}
