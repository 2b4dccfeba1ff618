//! A table that the program follows while a test changes it, and what its warehouse holds in the end.

use crate::server::PgServer;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// `attach` at work on some tables.
pub struct Attached {
    child: Child,
    folder: tempfile::TempDir,
    deadline: Instant,
}

/// What came of it.
pub struct Ended {
    pub folder: tempfile::TempDir,
    pub code: Option<i32>,
    pub said: String,
}

/// How long a step of a test may take before it is given up: not a figure, only a guard against waiting without an end.
const GIVEN_UP: Duration = Duration::from_secs(120);

impl Attached {
    /// Begins to follow, and comes back when the first rows are loaded.
    pub fn begin(server: &PgServer, database: &str, tables: &str, strategy: &str, more: &[&str]) -> Attached {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
        command.args(["attach", "--source", &server.url(database), "--tables", tables, "--strategy", strategy]);
        command.arg("--warehouse").arg(folder.path().join("warehouse")).arg("--out").arg(folder.path().join("result"));
        command.args(["--idle-exit", "4s", "--batch-interval", "200ms"]).args(more);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut attached = Attached { child, folder, deadline: Instant::now() + GIVEN_UP };
        // Heartbeats begin when the rows are loaded.
        let beats = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%emit_message%' \
            AND application_name = 'freshbench' AND datname = current_database()";
        while attached.child.try_wait().unwrap().is_none() && server.psql(database, beats).trim() != "t" {
            attached.pause("begin");
        }
        attached
    }

    /// Waits for its end, which comes when nobody has written for some seconds: it drains, compares, and says whether all is equal.
    pub fn end(mut self) -> Ended {
        let said = |output: &Output| {
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        };
        while self.child.try_wait().unwrap().is_none() {
            self.pause("end");
        }
        let output = self.child.wait_with_output().unwrap();
        Ended { folder: self.folder, code: output.status.code(), said: said(&output) }
    }

    fn pause(&self, what: &str) {
        assert!(Instant::now() < self.deadline, "attach did not {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

impl Ended {
    pub fn warehouse(&self) -> PathBuf {
        self.folder.path().join("warehouse")
    }

    /// The one case of its result.
    pub fn case(&self) -> serde_json::Value {
        let text = std::fs::read(self.folder.path().join("result/result.json")).unwrap();
        let mut result: serde_json::Value = serde_json::from_slice(&text).unwrap();
        result["strategies"][0].take()
    }
}

/// The lines of two texts as bags.
pub fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.sort_unstable();
    lines
}

/// Asserts that a table of a warehouse holds the rows of a table, in any order.
pub fn assert_rows(server: &PgServer, database: &str, warehouse: &Path, table: &str, what: &str) {
    let found = crate::support::dumped(warehouse, table);
    let wanted = crate::support::copied(server, database, &format!("SELECT * FROM public.{table}"));
    let (found, wanted) = (sorted(&found), sorted(&wanted));
    let differing = found.iter().zip(&wanted).find(|(a, b)| a != b);
    assert!(found == wanted, "{what}: {} rows, not {}; {:.1500?}", found.len() - 1, wanted.len() - 1, differing);
}
