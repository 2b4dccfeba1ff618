//! A live database with a foreign load: pgbench's TPC-B.

use crate::server::PgServer;
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const TABLES: &str = "public.pgbench_accounts,public.pgbench_branches,public.pgbench_tellers,public.pgbench_history";
const SUMS: &str = "pgbench_accounts.abalance,pgbench_tellers.tbalance,pgbench_branches.bbalance,pgbench_history.delta";

/// A server with pgbench's tables; its history gets a key, since rows without one can't be told apart.
fn bank() -> Option<PgServer> {
    let server = PgServer::start(&["fsync=off"])?;
    let made = server.program("pgbench").args(["-i", "-q", "-s", "1", "postgres"]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    server
        .psql("postgres", "ALTER TABLE pgbench_history ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY");
    Some(server)
}

fn pgbench(server: &PgServer, seconds: u32) -> Child {
    let mut command = server.program("pgbench");
    command.args(["-n", "-c", "4", "-T", &seconds.to_string(), "postgres"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn attach(server: &PgServer, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.args(["-q", "attach", "--source", &server.url("postgres"), "--tables", TABLES, "--warehouse"]);
    command.arg(folder.join("warehouse")).arg("--out").arg(folder.join("result")).args(arguments);
    command
}

fn output(mut command: Command) -> Output {
    command.output().unwrap()
}

pub(crate) fn said(ran: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
}

/// The one case of a result, which is of the published form.
pub(crate) fn case(folder: &Path) -> Value {
    let text = std::fs::read(folder.join("result/result.json")).unwrap();
    let mut result: Value = serde_json::from_slice(&text).unwrap();
    let schema: Value = serde_json::from_str(include_str!("../../reports/result.schema.json")).unwrap();
    let errors: Vec<String> =
        jsonschema::validator_for(&schema).unwrap().iter_errors(&result).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    result["strategies"][0].take()
}

fn metric(case: &Value, id: &str) -> f64 {
    let metrics = case["metrics"].as_array().unwrap();
    metrics.iter().find(|metric| metric["id"] == id).unwrap_or_else(|| panic!("no {id}"))["value"].as_f64().unwrap()
}

/// Slots, publications, triggers, schemas and indexes of this program's.
fn left_behind(server: &PgServer) -> String {
    let sql = "SELECT slot_name::text FROM pg_replication_slots UNION ALL SELECT pubname::text FROM pg_publication \
        UNION ALL SELECT tgname::text FROM pg_trigger WHERE tgname LIKE '\\_freshbench%' \
        UNION ALL SELECT nspname::text FROM pg_namespace WHERE nspname LIKE '\\_freshbench%' \
        UNION ALL SELECT relname::text FROM pg_class WHERE relname LIKE '\\_freshbench%'";
    server.psql("postgres", sql)
}

/// The warehouse's rows against the server's own CSV, when nobody writes any more.
fn assert_equal_now(server: &PgServer, folder: &Path) {
    for table in TABLES.split(',').map(|name| name.trim_start_matches("public.")) {
        let key = server.psql(
            "postgres",
            &format!(
                "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND \
                 a.attnum = i.indkey[0] WHERE i.indrelid = '{table}'::regclass AND i.indisprimary"
            ),
        );
        let copy = format!("COPY (SELECT * FROM {table} ORDER BY {}) TO STDOUT (FORMAT csv)", key.trim());
        // The server's clock of rows is shown in UTC, as the warehouse has it.
        let mut psql = server.program("psql");
        psql.args(["-X", "-q", "-d", "postgres", "-c", &copy]).env("PGTZ", "UTC");
        let theirs = psql.output().unwrap();
        let mut dump = Command::new(env!("CARGO_BIN_EXE_freshbench"));
        dump.args(["warehouse", "dump", "--format", "csv", "--table", table, "--warehouse"]);
        let ours = dump.arg(folder.join("warehouse")).output().unwrap();
        assert!(theirs.status.success() && ours.status.success(), "{}{}", said(&theirs), said(&ours));
        assert!(theirs.stdout == ours.stdout, "{table} differs");
    }
}

#[test]
fn four_clients_for_twenty_seconds_end_equal() {
    let Some(server) = bank() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut load = pgbench(&server, 20);
    let ran = output(attach(&server, folder.path(), &["--idle-exit", "3s", "--equal-sums", SUMS]));
    assert!(ran.status.success(), "{}", said(&ran));
    assert!(load.wait().unwrap().success());
    let case = case(folder.path());
    assert_eq!((&case["validation"]["passed"], &case["validation"]["equal"]), (&true.into(), &true.into()));
    assert_eq!(case["validation"]["sinks"].as_array().unwrap().len(), 4);
    let reads = case["metrics"].as_array().unwrap().iter().find(|m| m["id"] == "consistency.torn_reads").unwrap();
    assert!(reads["value"] == 0.0 && reads["n"].as_u64().unwrap() > 100, "{reads}");
    assert!(metric(&case, "freshness.commit_lag.p50") > 0.0);
    assert!(metric(&case, "freshness.heartbeat_lag.p50") > 0.0);
    assert_eq!(metric(&case, "freshness.lost_commits"), 0.0);
    // The log that the server kept for the slot stayed a small part of what it wrote.
    assert!(metric(&case, "cost.retained_log_bytes.max") < 256.0 * 1024.0 * 1024.0);
    assert_eq!(left_behind(&server), "");
    assert_equal_now(&server, folder.path());
}

#[test]
fn the_end_is_compared_while_others_go_on_writing() {
    let Some(server) = bank() else { return };
    for strategy in ["cdc-log", "cdc-trigger", "full-refresh"] {
        let folder = tempfile::tempdir().unwrap();
        let mut load = pgbench(&server, 120);
        let arguments = ["--strategy", strategy, "--duration", "3s", "--batch-interval", "1s", "--equal-sums", SUMS];
        let ran = output(attach(&server, folder.path(), &arguments));
        assert!(load.try_wait().unwrap().is_none(), "the load went on to the end");
        load.kill().unwrap();
        load.wait().unwrap();
        assert!(ran.status.success(), "{strategy}: {}", said(&ran));
        let case = case(folder.path());
        assert_eq!(case["validation"]["equal"], true, "{strategy}");
        assert!(metric(&case, "freshness.heartbeat_lag.p50") > 0.0, "{strategy}");
        assert_eq!(left_behind(&server), "", "{strategy}");
    }
}

#[test]
fn a_cursors_losses_are_counted() {
    let Some(server) = bank() else { return };
    server.psql(
        "postgres",
        "CREATE TABLE noted(id bigint PRIMARY KEY, v int, updated_at timestamptz NOT NULL DEFAULT now()); \
         INSERT INTO noted SELECT n, 0 FROM generate_series(1, 1000) n",
    );
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.args([
        "-q",
        "attach",
        "--source",
        &server.url("postgres"),
        "--tables",
        "noted",
        "--strategy",
        "incremental",
    ]);
    command.args(["--duration", "4s", "--batch-interval", "500ms", "--warehouse"]).arg(folder.path().join("warehouse"));
    let child = command.arg("--out").arg(folder.path().join("result")).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    server.psql(
        "postgres",
        "UPDATE noted SET v = 1, updated_at = now() WHERE id <= 10; DELETE FROM noted WHERE id > 990",
    );
    let ran = child.wait_with_output().unwrap();
    assert!(ran.status.success(), "{}", said(&ran));
    let sink = &case(folder.path())["validation"]["sinks"][0];
    assert_eq!((&sink["missing"], &sink["extra"], &sink["wrong"]), (&0.into(), &10.into(), &0.into()));
}

fn wait_for_slot(server: &PgServer) {
    wait_for(server, "SELECT count(*) FROM pg_replication_slots WHERE active");
}

/// Until the query says 1.
fn wait_for(server: &PgServer, query: &str) {
    let until = Instant::now() + Duration::from_secs(60);
    while server.psql("postgres", query).trim() != "1" {
        assert!(Instant::now() < until, "{query}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let Some(server) = bank() else { return };
    for strategy in ["cdc-log", "cdc-trigger"] {
        let folder = tempfile::tempdir().unwrap();
        let mut load = pgbench(&server, 120);
        let mut command = attach(&server, folder.path(), &["--strategy", strategy, "--duration", "60s"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Stopped before anything is measured, it would leave no result.
        wait_for(&server, HEARTBEATS);
        std::thread::sleep(Duration::from_secs(2));
        signal(&child, "-INT");
        assert_eq!(child.wait().unwrap().code(), Some(130), "{strategy}");
        assert_eq!(case(folder.path())["validation"]["passed"], false, "{strategy}");
        load.kill().unwrap();
        load.wait().unwrap();
        assert_eq!(left_behind(&server), "", "{strategy}");
    }
}

#[test]
fn killed_it_is_resumed_or_cleaned_up() {
    let Some(server) = bank() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut load = pgbench(&server, 12);
    let mut command = attach(&server, folder.path(), &["--duration", "60s"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // A first load that was killed can't be gone on with.
    wait_for(&server, HEARTBEATS);
    // Twice: the second time in the middle of what the first left.
    for pause in [1500, 1500] {
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut command = attach(&server, folder.path(), &["--duration", "60s", "--resume"]);
        child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    }
    std::thread::sleep(Duration::from_millis(1500));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(load.wait().unwrap().success());
    let ran = output(attach(&server, folder.path(), &["--idle-exit", "2s", "--resume"]));
    assert!(ran.status.success(), "{}", said(&ran));
    assert_eq!(left_behind(&server), "");
    assert_equal_now(&server, folder.path());

    for strategy in ["cdc-log", "cdc-trigger"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = attach(&server, folder.path(), &["--strategy", strategy, "--duration", "60s"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while left_behind(&server).is_empty() {
            assert!(Instant::now() < until, "{strategy} made nothing at the server");
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(1));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_ne!(left_behind(&server), "", "{strategy}");
        let until = Instant::now() + Duration::from_secs(30);
        // A walsender notices a while later that its client is gone.
        while !left_behind(&server).is_empty() {
            assert!(Instant::now() < until, "{strategy}: {}", left_behind(&server));
            let mut cleanup = Command::new(env!("CARGO_BIN_EXE_freshbench"));
            let ran = cleanup.args(["attach", "--cleanup", "--source", &server.url("postgres")]).output().unwrap();
            assert!(ran.status.success(), "{}", said(&ran));
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// The heartbeats begin when the rows are loaded.
const HEARTBEATS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%emit_message%' AND application_name = 'freshbench'";

#[test]
fn a_server_that_restarts_is_waited_for() {
    let Some(mut server) = bank() else { return };
    let folder = tempfile::tempdir().unwrap();
    // A server that is away is not idle, however long it takes to come back.
    let mut command = attach(&server, folder.path(), &["--idle-exit", "10s"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&server, HEARTBEATS);
    for (round, mode) in ["immediate", "fast"].into_iter().enumerate() {
        server.psql("postgres", &format!("UPDATE pgbench_accounts SET abalance = {round} WHERE aid <= 100"));
        server.stop(mode);
        server.start_again();
        server.psql("postgres", &format!("DELETE FROM pgbench_accounts WHERE aid = {}", round + 1));
    }
    let ran = child.wait_with_output().unwrap();
    assert!(ran.status.success(), "{}", said(&ran));
    assert_eq!(left_behind(&server), "");
    assert_equal_now(&server, folder.path());
}

#[test]
fn a_server_that_is_away_when_following_ends_is_waited_for() {
    let Some(mut server) = bank() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = attach(&server, folder.path(), &["--duration", "3s"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&server, HEARTBEATS);
    server.psql("postgres", "UPDATE pgbench_accounts SET abalance = 5 WHERE aid <= 100");
    server.stop("fast");
    std::thread::sleep(Duration::from_secs(5));
    assert!(child.try_wait().unwrap().is_none(), "it ended while the server was away");
    server.start_again();
    let ran = child.wait_with_output().unwrap();
    assert!(ran.status.success(), "{}", said(&ran));
    assert_eq!(left_behind(&server), "");
    assert_equal_now(&server, folder.path());
}

#[test]
fn a_failed_attach_leaves_an_earlier_ones_slot_alone() {
    let Some(server) = bank() else { return };
    let folder = tempfile::tempdir().unwrap();
    let kept = output(attach(&server, folder.path(), &["--duration", "1s", "--keep"]));
    assert!(kept.status.success(), "{}", said(&kept));
    let slot = left_behind(&server);
    assert_ne!(slot, "");
    // Without --resume there is a warehouse already; and elsewhere there is none to resume.
    let again = output(attach(&server, folder.path(), &["--duration", "1s"]));
    assert!(!again.status.success());
    let elsewhere = tempfile::tempdir().unwrap();
    let typo = output(attach(&server, elsewhere.path(), &["--duration", "1s", "--resume"]));
    assert!(!typo.status.success());
    assert_eq!(left_behind(&server), slot);
    server.psql("postgres", "UPDATE pgbench_tellers SET tbalance = 3");
    let resumed = output(attach(&server, folder.path(), &["--duration", "1s", "--resume"]));
    assert!(resumed.status.success(), "{}", said(&resumed));
    assert_eq!(left_behind(&server), "");
    assert_equal_now(&server, folder.path());
}

#[test]
fn without_a_snapshot_only_what_changes_arrives() {
    let Some(server) = bank() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = attach(&server, folder.path(), &["--no-snapshot", "--idle-exit", "3s"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_slot(&server);
    std::thread::sleep(Duration::from_millis(300));
    server.psql("postgres", "UPDATE pgbench_accounts SET abalance = 7 WHERE aid <= 5");
    let ran = child.wait_with_output().unwrap();
    assert!(ran.status.success(), "{}", said(&ran));
    let case = case(folder.path());
    let accounts = &case["validation"]["sinks"][0];
    assert_eq!((&accounts["rows"], &accounts["missing"], &accounts["wrong"]), (&5.into(), &0.into(), &0.into()));
}

#[test]
fn it_ends_at_a_position_of_the_log() {
    let Some(server) = bank() else { return };
    let folder = tempfile::tempdir().unwrap();
    server.psql("postgres", "UPDATE pgbench_tellers SET tbalance = 1");
    let position = server.psql("postgres", "SELECT pg_current_wal_lsn()");
    let ran = output(attach(&server, folder.path(), &["--until-lsn", position.trim()]));
    assert!(ran.status.success(), "{}", said(&ran));
    assert_equal_now(&server, folder.path());
}

#[test]
fn bad_input_gets_one_line_and_leaves_nothing() {
    let Some(server) = bank() else { return };
    server.psql("postgres", "CREATE TABLE keyless(v int)");
    let folder = tempfile::tempdir().unwrap();
    let warehouse = folder.path().join("warehouse");
    let refused = |arguments: &[&str], words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
        command.args(["-q", "attach", "--source", &server.url("postgres"), "--warehouse"]).arg(&warehouse);
        let ran = command.arg("--out").arg(folder.path().join("result")).args(arguments).output().unwrap();
        let said = said(&ran);
        assert_eq!((ran.status.code(), said.trim().lines().count()), (Some(2), 1), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert!(!warehouse.exists() && !folder.path().join("result").exists(), "{said}");
    };
    refused(&["--tables", "keyless"], &["keyless", "PRIMARY KEY"]);
    refused(&["--tables", "pgbench_acounts"], &["pgbench_acounts"]);
    refused(&["--tables", "pgbench_tellers", "--strategy", "dual-write"], &["dual-write", "cdc-log"]);
    refused(&["--tables", "pgbench_tellers", "--until-lsn", "12"], &["--until-lsn"]);
    refused(&["--tables", "pgbench_tellers", "--strategy", "incremental"], &["updated_at", "--cursor"]);
    refused(&["--tables", "pgbench_tellers", "--equal-sums", "a.b"], &["--equal-sums"]);
    refused(&["--tables", "pgbench_tellers", "--strategy", "cdc-trigger", "--keep"], &["--keep"]);
    assert_eq!(left_behind(&server), "");
}
