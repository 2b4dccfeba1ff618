//! Loading tables of a real server by the program itself, and what the server says that they hold.

use crate::server::PgServer;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder that goes with the value.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Runs freshbench.
pub fn freshbench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_freshbench")).args(arguments).output().expect("freshbench runs")
}

/// Loads a table into a new warehouse folder below `folder`; what the program said, when it failed.
pub fn load(url: &str, table: &str, folder: &Path, more: &[&str]) -> Result<PathBuf, (Option<i32>, String)> {
    let target = folder.join(format!("warehouse-{}", std::fs::read_dir(folder).unwrap().count()));
    let mut arguments = vec!["load", "--source", url, "--table", table, "--warehouse", target.to_str().unwrap()];
    arguments.extend(more);
    let output = freshbench(&arguments);
    if output.status.success() {
        return Ok(target);
    }
    assert!(!target.exists(), "a failed load left something behind");
    Err((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// The rows of a table of a warehouse, as CSV.
pub fn dumped(warehouse: &Path, table: &str) -> String {
    let arguments =
        ["warehouse", "dump", "--format", "csv", "--table", table, "--warehouse", warehouse.to_str().unwrap()];
    let output = freshbench(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What the server itself writes as CSV.
pub fn copied(server: &PgServer, database: &str, query: &str) -> String {
    let sql = format!("SET timezone = 'UTC'; SET search_path = pg_catalog; COPY ({query}) TO STDOUT (FORMAT csv)");
    server.psql(database, &sql)
}

/// Asserts that both are the same, showing the first line that is not.
pub fn assert_same(found: &str, wanted: &str) {
    if found == wanted {
        return;
    }
    let differing = found.split('\n').zip(wanted.split('\n')).enumerate().find(|(_, (a, b))| a != b);
    let cut = |text: &str| text.chars().take(2_000).collect::<String>();
    match differing {
        Some((line, (a, b))) => panic!("line {line}\n found {}\nwanted {}", cut(a), cut(b)),
        None => panic!("{} bytes found, {} wanted", found.len(), wanted.len()),
    }
}
