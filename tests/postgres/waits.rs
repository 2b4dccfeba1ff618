//! Others' open transactions and locks: they are named, a wait for them can be ended, and it leaves nothing.

use crate::server::PgServer;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Long enough for any machine; nothing is measured by it.
const LONG: Duration = Duration::from_secs(60);

/// A session of somebody else's that stays open.
pub(crate) struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    pub(crate) pid: String,
}

impl Session {
    pub(crate) fn open(server: &PgServer) -> Session {
        let mut psql = server.program("psql");
        psql.args(["-X", "-q", "-A", "-t", "-d", "postgres"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = psql.stderr(Stdio::null()).spawn().unwrap();
        let (stdin, lines) = (child.stdin.take(), lines(child.stdout.take().unwrap()));
        let mut session = Session { child, stdin, lines, pid: String::new() };
        session.pid = session.run("");
        session
    }

    /// Runs statements and waits for their end; gives the session's process.
    pub(crate) fn run(&mut self, sql: &str) -> String {
        self.begin(&format!("{sql}; SELECT pg_backend_pid();"));
        self.lines.recv_timeout(LONG).unwrap()
    }

    /// Waits until it says this.
    pub(crate) fn heard(&self, word: &str) {
        while self.lines.recv_timeout(LONG).unwrap() != word {}
    }

    /// Begins to run statements.
    pub(crate) fn begin(&mut self, sql: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{sql}").unwrap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    receive
}

/// An attach, and what it says on stderr.
pub(crate) struct Attach {
    child: Child,
    said: Receiver<String>,
    heard: String,
    pub(crate) folder: tempfile::TempDir,
}

impl Attach {
    pub(crate) fn begin(url: &str, tables: &str, arguments: &[&str]) -> Attach {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
        command.args(["-q", "attach", "--source", url, "--tables", tables, "--warehouse"]);
        command.arg(folder.path().join("warehouse")).arg("--out").arg(folder.path().join("result")).args(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = lines(child.stderr.take().unwrap());
        Attach { child, said, heard: String::new(), folder }
    }

    pub(crate) fn warehouse(&self) -> PathBuf {
        self.folder.path().join("warehouse")
    }

    /// Waits until it says something with this word.
    pub(crate) fn says(&mut self, word: &str) {
        while !self.heard.contains(word) {
            match self.said.recv_timeout(LONG) {
                Ok(line) => self.heard = format!("{}{line}\n", self.heard),
                Err(_) => panic!("it does not say {word:?}: {}", self.heard),
            }
        }
    }

    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    pub(crate) fn interrupt(&self) {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// How it ended, and all that it said.
    pub(crate) fn end(&mut self) -> (Option<i32>, String) {
        let until = Instant::now() + 2 * LONG;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it does not end: {}", self.heard);
            std::thread::sleep(Duration::from_millis(20));
        };
        while let Ok(line) = self.said.recv_timeout(LONG) {
            self.heard = format!("{}{line}\n", self.heard);
        }
        (status.code(), self.heard.clone())
    }

    /// Waits until it follows: the heartbeats begin when the rows are loaded.
    pub(crate) fn follows(&mut self, server: &PgServer) {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%emit_message%' AND application_name = 'freshbench'";
        let until = Instant::now() + LONG;
        while server.psql("postgres", sql).trim() != "1" {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {:?}", self.end());
            assert!(Instant::now() < until, "it does not follow");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Neither folder is there, nor anything at the server.
    pub(crate) fn leaves_nothing(&self, server: &PgServer) {
        assert_eq!(left_behind(server), "");
        let left: Vec<_> = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Drop for Attach {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Slots, publications, triggers and schemas of this program's.
pub(crate) fn left_behind(server: &PgServer) -> String {
    let sql = "SELECT slot_name::text FROM pg_replication_slots UNION ALL SELECT pubname::text FROM pg_publication \
        UNION ALL SELECT tgname::text FROM pg_trigger WHERE tgname LIKE '\\_freshbench%' \
        UNION ALL SELECT nspname::text FROM pg_namespace WHERE nspname LIKE '\\_freshbench%'";
    server.psql("postgres", sql)
}

pub(crate) fn dumped(warehouse: &Path, table: &str) -> Output {
    let mut dump = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    dump.args(["warehouse", "dump", "--format", "csv", "--table", table, "--warehouse"])
        .arg(warehouse)
        .output()
        .unwrap()
}

fn start() -> Option<PgServer> {
    let server = PgServer::start(&["fsync=off", "max_prepared_transactions=5"])?;
    server.psql(
        "postgres",
        "CREATE TABLE a (id int PRIMARY KEY, t text); INSERT INTO a VALUES (1, 'one'); CREATE TABLE other (id int)",
    );
    Some(server)
}

#[test]
fn a_slot_waits_for_an_open_transaction_and_names_it_and_ctrl_c_and_patience_end_that() {
    let Some(server) = start() else { return };
    let mut open = Session::open(&server);
    open.run("BEGIN; INSERT INTO other VALUES (1)");
    let mut attach = Attach::begin(&server.url("postgres"), "a", &["--duration", "1s"]);
    attach.says(&format!("waits for pid {}, role postgres, database postgres", open.pid));
    attach.interrupt();
    let (code, said) = attach.end();
    assert!(
        code == Some(130) && said.contains("interrupted") && said.contains("idle in transaction"),
        "{code:?} {said}"
    );
    attach.leaves_nothing(&server);
    // Nobody hears of it when patience is over, so it is said then.
    let mut attach = Attach::begin(&server.url("postgres"), "a", &["--duration", "1s", "--patience", "3s"]);
    let (code, said) = attach.end();
    let last = said.lines().last().unwrap();
    assert!(code == Some(1) && last.contains(&open.pid) && last.contains("--patience"), "{code:?} {said}");
    attach.leaves_nothing(&server);
    // And when it ends, all is well.
    let mut attach = Attach::begin(&server.url("postgres"), "a", &["--duration", "1s"]);
    attach.says(&open.pid);
    open.run("COMMIT");
    let (code, said) = attach.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(left_behind(&server), "");
}

#[test]
fn a_prepared_transaction_is_named_by_its_gid() {
    let Some(server) = start() else { return };
    server.psql("postgres", "BEGIN; INSERT INTO other VALUES (1); PREPARE TRANSACTION 'it''s forgotten'");
    let mut attach = Attach::begin(&server.url("postgres"), "a", &["--duration", "1s"]);
    attach.says("COMMIT PREPARED 'it''s forgotten'");
    server.psql("postgres", "ROLLBACK PREPARED 'it''s forgotten'");
    let (code, said) = attach.end();
    assert_eq!(code, Some(0), "{said}");
    // A lock on a table is held by one, too.
    server.psql("postgres", "BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE; PREPARE TRANSACTION 'locks'");
    let mut attach = Attach::begin(&server.url("postgres"), "a", &["--duration", "1s", "--strategy", "full-refresh"]);
    attach.says("ROLLBACK PREPARED");
    attach.interrupt();
    assert_eq!(attach.end().0, Some(130));
    attach.leaves_nothing(&server);
}

#[test]
fn what_is_hidden_from_a_role_is_said_to_be_and_no_literal_is_shown() {
    let Some(server) = start() else { return };
    server.psql(
        "postgres",
        "CREATE ROLE weak LOGIN REPLICATION; GRANT CREATE ON DATABASE postgres TO weak; ALTER TABLE a OWNER TO weak",
    );
    let mut open = Session::open(&server);
    open.run("BEGIN; CREATE ROLE x PASSWORD 'topsecret'");
    let url = server.url("postgres").replace("postgres@", "weak@");
    let mut attach = Attach::begin(&url, "a", &["--duration", "1s"]);
    attach.says(&format!("waits for pid {}", open.pid));
    attach.says("GRANT pg_read_all_stats TO \"weak\"");
    attach.interrupt();
    assert_eq!(attach.end().0, Some(130));
    attach.leaves_nothing(&server);
    // The statement that is shown is the last one.
    open.run("SELECT 'topsecret'");
    server.psql("postgres", "GRANT pg_read_all_stats TO weak");
    let mut attach = Attach::begin(&url, "a", &["--duration", "1s"]);
    attach.says("idle in transaction");
    attach.interrupt();
    let (_, said) = attach.end();
    assert!(!said.contains("topsecret"), "{said}");
}

#[test]
fn the_fence_waits_without_holding_the_stream() {
    let Some(server) = start() else { return };
    let mut open = Session::open(&server);
    let mut attach = Attach::begin(&server.url("postgres"), "a", &["--duration", "2s"]);
    attach.follows(&server);
    open.run("BEGIN; INSERT INTO other VALUES (1); INSERT INTO a VALUES (2, 'two')");
    attach.says(&format!("fixing the state to compare waits for pid {}", open.pid));
    // What is committed while it waits arrives while it waits.
    server.psql("postgres", "INSERT INTO a VALUES (3, 'three')");
    let until = Instant::now() + LONG;
    while !String::from_utf8_lossy(&dumped(&attach.warehouse(), "a").stdout).contains("3,three") {
        assert!(Instant::now() < until, "the row does not arrive");
        std::thread::sleep(Duration::from_millis(100));
    }
    open.run("COMMIT");
    let (code, said) = attach.end();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(left_behind(&server), "");
    let rows = String::from_utf8(dumped(&attach.warehouse(), "a").stdout).unwrap();
    assert_eq!(rows, server.psql("postgres", "COPY (SELECT * FROM a ORDER BY id) TO STDOUT (FORMAT csv)"));

    // Patience ends there, too, and what was not compared is not said to be equal; so does Ctrl-C.
    open.run("BEGIN; INSERT INTO other VALUES (1)");
    for interrupted in [false, true] {
        open.run("COMMIT");
        let mut attach = Attach::begin(&server.url("postgres"), "a", &["--duration", "2s", "--patience", "6s"]);
        attach.follows(&server);
        open.run("BEGIN; INSERT INTO other VALUES (1)");
        attach.says(&open.pid);
        if interrupted {
            attach.interrupt();
        }
        let (code, said) = attach.end();
        assert_eq!(code, Some(if interrupted { 130 } else { 5 }), "{said}");
        let result = std::fs::read_to_string(attach.folder.path().join("result/result.json")).unwrap();
        assert!(interrupted || result.contains(&format!("for pid {}", open.pid)), "{result}");
        assert!(!result.contains("\"passed\": true"), "{result}");
        assert_eq!(left_behind(&server), "");
    }
}

#[test]
fn triggers_and_readers_wait_for_locks_and_name_who_holds_them() {
    let Some(server) = start() else { return };
    let mut open = Session::open(&server);
    for (strategy, lock) in [
        ("cdc-trigger", "UPDATE a SET t = 'x'"),
        ("cdc-trigger", "LOCK TABLE a IN ACCESS EXCLUSIVE MODE"),
        ("full-refresh", "LOCK TABLE a IN ACCESS EXCLUSIVE MODE"),
        ("incremental", "LOCK TABLE a IN ACCESS EXCLUSIVE MODE"),
        ("cdc-log", "CREATE INDEX ON a (t)"),
    ] {
        let arguments = ["--duration", "1s", "--strategy", strategy, "--cursor", "id"];
        open.run(&format!("BEGIN; {lock}"));
        let mut attach = Attach::begin(&server.url("postgres"), "a", &arguments);
        attach.says(&format!("waits for pid {}", open.pid));
        attach.interrupt();
        let (code, said) = attach.end();
        assert_eq!(code, Some(130), "{strategy} {lock}: {said}");
        attach.leaves_nothing(&server);
        let mut attach = Attach::begin(&server.url("postgres"), "a", &[&arguments[..], &["--patience", "3s"]].concat());
        let (code, said) = attach.end();
        assert!(
            code == Some(1) && said.lines().last().unwrap().contains(&open.pid),
            "{strategy} {lock}: {code:?} {said}"
        );
        attach.leaves_nothing(&server);
        open.run("ROLLBACK");
    }
    // Who waits in front is named with whom it waits for itself.
    let mut waiting = Session::open(&server);
    open.run("BEGIN; LOCK TABLE a IN ACCESS SHARE MODE");
    waiting.begin("ALTER TABLE a SET (fillfactor = 90); DROP TABLE other; SELECT pg_backend_pid();");
    waiting.begin("BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE;");
    let until = Instant::now() + LONG;
    while server.psql("postgres", "SELECT count(*) FROM pg_locks WHERE NOT granted").trim() == "0" {
        assert!(Instant::now() < until);
    }
    let mut attach = Attach::begin(&server.url("postgres"), "a", &["--duration", "1s", "--strategy", "full-refresh"]);
    attach.says(&format!("waits for pid {}", waiting.pid));
    attach.says(&format!("waits itself for pid {}", open.pid));
    attach.interrupt();
    assert_eq!(attach.end().0, Some(130));
    attach.leaves_nothing(&server);
}

#[test]
fn a_lock_that_comes_while_it_follows_is_named_and_ctrl_c_is_heard() {
    let Some(server) = start() else { return };
    let mut open = Session::open(&server);
    for strategy in ["full-refresh", "incremental", "cdc-trigger"] {
        let arguments = ["--duration", "100s", "--strategy", strategy, "--cursor", "id", "--batch-interval", "200ms"];
        let mut attach = Attach::begin(&server.url("postgres"), "a", &arguments);
        attach.follows(&server);
        open.run("BEGIN; LOCK TABLE a IN ACCESS EXCLUSIVE MODE");
        if strategy != "cdc-trigger" {
            attach.says(&format!("waits for pid {}", open.pid));
        }
        attach.interrupt();
        let (code, said) = attach.end();
        assert_eq!(code, Some(130), "{strategy}: {said}");
        open.run("ROLLBACK");
        if strategy == "cdc-trigger" {
            // Triggers can't be removed under a lock; that is said, with the remedy.
            assert!(said.contains(&open.pid) && said.contains("freshbench cleanup --source"), "{said}");
            let mut cleanup = Command::new(env!("CARGO_BIN_EXE_freshbench"));
            assert!(
                cleanup.args(["attach", "--cleanup", "--source", &server.url("postgres")]).status().unwrap().success()
            );
        }
        assert_eq!(left_behind(&server), "");
    }
}
