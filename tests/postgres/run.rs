//! Every strategy on PostgreSQL, held against the ledger by the run's own verification.

use crate::server::PgServer;
use assert_cmd::Command;
use serde_json::Value;

fn run(server: &PgServer, arguments: &[&str]) -> Value {
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::cargo_bin("freshbench").unwrap();
    command.args(["-q", "run", "--source", &server.url("postgres"), "--out"]).arg(out.path().join("run"));
    let ran = command.args(arguments).output().unwrap();
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&std::fs::read(out.path().join("run/result.json")).unwrap()).unwrap()
}

fn metric(case: &Value, id: &str) -> Option<f64> {
    case["metrics"].as_array().unwrap().iter().find(|metric| metric["id"] == id)?["value"].as_f64()
}

#[test]
fn every_strategy_runs_and_leaves_nothing_behind() {
    let Some(server) = PgServer::start(&[]) else { return };
    let strategies = "full-refresh,incremental,cdc-trigger,cdc-log,dual-write,dual-write-versioned,outbox";
    let arguments = ["--quick", "--rows", "2k", "--rate", "200", "--duration", "1500ms", "--strategies", strategies];
    let result = run(&server, &arguments);
    let cases = result["strategies"].as_array().unwrap();
    assert_eq!(cases.len(), 8);
    for case in cases {
        assert_eq!(case["validation"]["passed"], true, "{}", case["validation"]);
        assert!(metric(case, "throughput.changes_per_s").unwrap() > 0.0);
        // The server is on this machine, so its processes can be seen.
        assert!(metric(case, "cost.server_cpu_s_per_1k_changes").is_some());
        let equal = case["validation"]["promise"] == "equality";
        assert!(!equal || case["validation"]["equal"] == true);
    }
    let log = cases.iter().find(|case| case["name"] == "cdc-log").unwrap();
    assert!(metric(log, "cost.retained_log_bytes.max").is_some());
    let left = "SELECT datname FROM pg_database WHERE datname LIKE 'freshbench%' UNION ALL \
        SELECT slot_name FROM pg_replication_slots";
    assert_eq!(server.psql("postgres", left), "");
}

#[test]
fn several_clients_on_hot_keys_end_equal() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    for (workload, seed) in [("ycsb-a", "1"), ("orders", "2"), ("ycsb-f", "3")] {
        let arguments = [
            "--quick",
            "--workload",
            workload,
            "--seed",
            seed,
            "--rows",
            "300",
            "--rate",
            "1500",
            "--clients",
            "8",
            "--duration",
            "1500ms",
            "--sinks",
            "warehouse",
            "--strategies",
            "full-refresh,cdc-trigger,cdc-log,outbox",
        ];
        for case in run(&server, &arguments)["strategies"].as_array().unwrap() {
            assert_eq!(case["validation"]["passed"], true, "{workload} {seed}: {}", case["validation"]);
        }
    }
}

#[test]
fn a_result_and_a_refusal_never_show_the_password() {
    let refused = |url: &str| {
        let mut command = Command::cargo_bin("freshbench").unwrap();
        let ran = command.args(["-q", "run", "--quick", "--source", url]).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(!said.contains("topsecret"), "{said}");
        assert_eq!(said.trim().lines().count(), 1, "{said}");
        (ran.status.code(), said)
    };
    assert_eq!(refused("postgres://u:topsecret@127.0.0.1:1/d").0, Some(1));
    assert_eq!(refused("postgres://u:topsecret@127.0.0.1:1/d?sslmode=topmost").0, Some(2));
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql("postgres", "CREATE ROLE maker LOGIN CREATEDB REPLICATION PASSWORD 'topsecret'");
    let out = tempfile::tempdir().unwrap();
    let url = format!("postgres://maker:topsecret@127.0.0.1:{}/postgres", server.port());
    let mut command = Command::cargo_bin("freshbench").unwrap();
    command.args(["run", "--quick", "--rows", "500", "--rate", "50", "--duration", "500ms", "--strategies", "cdc-log"]);
    let ran = command.args(["--source", &url, "--out"]).arg(out.path().join("run")).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut shown = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    for file in ["result.json", "summary.md"] {
        shown.push_str(&std::fs::read_to_string(out.path().join("run").join(file)).unwrap());
    }
    assert!(!shown.contains("topsecret") && shown.contains("postgres://maker@127.0.0.1"), "{shown}");
}
