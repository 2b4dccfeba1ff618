//! What killed processes leave at a server, and `freshbench cleanup`: by a killed run and a killed attach next to live ones and to
//! things of other people with names like ours.

use crate::server::PgServer;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn freshbench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.args(arguments);
    command
}

fn said(ran: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
}

fn cleanup(server: &PgServer, database: &str, work: &Path, more: &[&str]) -> String {
    let url = server.url(database);
    let ran = freshbench(&["cleanup", "--source", &url, "--folder"]).arg(work).args(more).output().unwrap();
    assert!(ran.status.success(), "{}", said(&ran));
    said(&ran)
}

fn start_quiet(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(90);
    while !done() {
        assert!(Instant::now() < until, "{what}: never");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Databases of the process with this number.
fn databases_of(server: &PgServer, process: u32) -> Vec<String> {
    let sql = format!("SELECT datname FROM pg_database WHERE datname LIKE 'freshbench\\_%\\_{process}\\_%' ORDER BY 1");
    server.psql("postgres", &sql).lines().map(str::to_owned).collect()
}

/// What other people may have, with names that begin like ours.
const DECOYS: &str = "CREATE PUBLICATION freshbench_mine;

    CREATE SCHEMA _freshbench; CREATE TABLE _freshbench.changelog_notes(x int);
    CREATE FUNCTION _freshbench.capture_me() RETURNS int LANGUAGE sql AS 'SELECT 1'";

fn decoys(server: &PgServer) -> String {
    let sql = "SELECT pubname::text FROM pg_publication UNION ALL SELECT slot_name::text FROM pg_replication_slots
        UNION ALL SELECT oid::regclass::text FROM pg_class WHERE relname = 'changelog_notes'
        UNION ALL SELECT proname::text FROM pg_proc WHERE proname = 'capture_me'
        UNION ALL SELECT datname::text FROM pg_database WHERE datname LIKE 'freshbench%'";
    server.psql("postgres", sql)
}

#[test]
fn a_killed_run_is_removed_and_a_live_one_goes_on() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", "CREATE DATABASE freshbench_prod");
    server.psql("postgres", "CREATE DATABASE freshbench_19acf0e1b2c_4711_0_base");
    server.psql("postgres", DECOYS);
    server.psql("postgres", "SELECT pg_create_logical_replication_slot('freshbench_theirs', 'pgoutput')");
    let before = decoys(&server);
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, duration: &str| {
        let url = server.url("postgres");
        let sized =
            ["--rows", "500", "--rate", "100", "--warmup", "100ms", "--sinks", "warehouse", "--duration", duration];
        let mut command = freshbench(&["-q", "run", "--no-control", "--strategies", "cdc-log", "--source", &url]);
        command.args(sized).arg("--out").arg(folder.path().join(name));
        start_quiet(&mut command)
    };
    let (dead, mut live) = (run("dead", "300s"), run("live", "12s"));
    let (dead_id, live_id) = (dead.id(), live.id());
    let slot_of = |database: &str| {
        server.psql("postgres", &format!("SELECT slot_name FROM pg_replication_slots WHERE database = '{database}'"))
    };
    wait("the killed run's slot", || databases_of(&server, dead_id).iter().any(|name| !slot_of(name).is_empty()));
    wait("the live run's databases", || databases_of(&server, live_id).len() == 2);
    kill(dead);
    let work = std::fs::read_dir(folder.path().join("dead")).unwrap().flatten().map(|entry| entry.path());
    let work = work.into_iter().find(|path| path.is_dir()).unwrap();
    let (dead_has, live_has) = (databases_of(&server, dead_id), databases_of(&server, live_id));
    assert_eq!(dead_has.len(), 2, "{dead_has:?}");

    let listed = cleanup(&server, "postgres", folder.path(), &["--dry-run"]);
    assert_eq!(databases_of(&server, dead_id), dead_has, "a dry run removed something: {listed}");
    assert!(work.exists());
    for name in &dead_has {
        assert!(listed.contains(&format!("database {name}: left behind")), "{listed}");
    }
    for name in &live_has {
        assert!(listed.contains(&format!("database {name}: stays: a run is using it")), "{listed}");
    }
    assert!(listed.contains("slot freshbench_theirs: stays: nothing shows that freshbench made it"), "{listed}");
    assert!(listed.contains("publication freshbench_mine: stays"), "{listed}");
    assert!(!listed.contains("freshbench_prod"), "{listed}");

    // From another folder and another database: the databases say where the folder is.
    let removed = cleanup(&server, "template1", &folder.path().join("nowhere"), &[]);
    assert_eq!(databases_of(&server, dead_id), [""; 0], "{removed}");
    assert!(!work.exists(), "{removed}");
    assert!(live.wait().unwrap().success(), "the live run was disturbed: {removed}");
    assert_eq!(decoys(&server), before, "{removed}");
    assert!(cleanup(&server, "postgres", folder.path(), &[]).ends_with("nothing to remove\n"));
}

#[test]
fn a_killed_attach_is_removed_and_a_live_one_goes_on() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", "CREATE TABLE t(id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)");
    server.psql("postgres", DECOYS);
    server.psql("postgres", "SELECT pg_create_logical_replication_slot('freshbench_theirs', 'pgoutput')");
    let before = decoys(&server);
    let folder = tempfile::tempdir().unwrap();
    let attach = |name: &str, strategy: &str| {
        let url = server.url("postgres");
        let mut command = freshbench(&["-q", "attach", "--source", &url, "--tables", "t", "--strategy", strategy]);
        command.args(["--duration", "300s"]).arg("--warehouse").arg(folder.path().join(name));
        start_quiet(command.arg("--out").arg(folder.path().join(format!("{name}-result"))))
    };
    let count = |what: &str| server.psql("postgres", what).trim().parse::<usize>().unwrap();
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name <> 'freshbench_theirs' AND active";
    let (dead, live) = (attach("dead", "cdc-log"), attach("live", "cdc-log"));
    wait("two slots in use", || count(slots) == 2);
    kill(dead);
    wait("one slot in use", || count(slots) == 1);
    let removed = cleanup(&server, "postgres", folder.path(), &[]);
    assert_eq!(removed.matches("removed slot").count(), 1, "{removed}");
    assert_eq!(removed.matches("removed publication").count(), 1, "{removed}");
    assert_eq!(removed.matches("stays: it is in use").count(), 2, "{removed}");
    assert_eq!(count(slots), 1, "{removed}");
    kill(live);
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '\\_freshbench%'";
    let live = attach("triggers", "cdc-trigger");
    wait("triggers", || count(triggers) == 4);
    wait("no slot in use", || count(slots) == 0);
    let removed = cleanup(&server, "postgres", folder.path(), &[]);
    assert!(removed.contains("the changelog and its triggers: stays: it is in use"), "{removed}");
    assert_eq!((count(triggers), removed.matches("removed slot").count()), (4, 1), "{removed}");
    kill(live);
    wait("the triggers' removal", || {
        cleanup(&server, "postgres", folder.path(), &[]);
        count(triggers) == 0
    });
    assert_eq!(decoys(&server), before);
    server.psql("postgres", "INSERT INTO t VALUES (101)");
}

#[test]
fn a_file_of_sqlite_needs_no_cleanup() {
    let ran = freshbench(&["cleanup", "--source", "orders.db"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(2), "{}", said(&ran));
    assert!(said(&ran).contains("SQLite"), "{}", said(&ran));
}
