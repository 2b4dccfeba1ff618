//! Stdout and stderr that are full or that nobody reads, and inputs without an end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rusqlite::Connection;
use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The writing end of a pipe whose reader is gone.
fn nobody() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn run(folder: &Path, arguments: &[&str], stdout: Stdio, stderr: Stdio) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    let child = command.current_dir(folder).args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    child.spawn().unwrap().wait_with_output().unwrap()
}

/// A folder with a database, a warehouse of it and one that is damaged.
fn prepared() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let database = Connection::open(folder.path().join("a.db")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
             WHERE i < 5000) INSERT INTO t SELECT i, printf('%0100d', i) FROM n",
        )
        .unwrap();
    for warehouse in ["sound", "damaged"] {
        let loaded = run(
            folder.path(),
            &["load", "--source", "a.db", "--table", "t", "--warehouse", warehouse],
            Stdio::piped(),
            Stdio::piped(),
        );
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    }
    let segment = fs::read_dir(folder.path().join("damaged")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|end| end == "parquet")).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    fs::write(segment, bytes).unwrap();
    folder
}

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/reports/example");

/// Commands, and how each ends when all is well; `None` where a reader that is gone ends it early.
fn commands() -> Vec<(Vec<&'static str>, i32)> {
    let dump = ["warehouse", "dump", "--warehouse", "sound", "--table", "t", "--format"];
    let with = |format: &'static str| [&dump[..], &[format]].concat();
    vec![
        (with("csv"), 0),
        (with("json"), 0),
        (with("parquet"), 0),
        (vec!["warehouse", "versions", "sound"], 0),
        (vec!["warehouse", "verify", "sound"], 0),
        (vec!["warehouse", "verify", "damaged"], 5),
        (vec!["warehouse", "verify", "damaged", "--format", "json"], 5),
        (vec!["export", EXAMPLE, "--to", "csv"], 0),
        (vec!["compare", EXAMPLE, EXAMPLE], 0),
        (vec!["man"], 0),
        (vec!["completions", "bash"], 0),
        (vec!["--help"], 0),
        (vec!["run", "--help"], 0),
        (vec!["--version"], 0),
        (vec!["doctor", "--format", "json"], 0),
    ]
}

#[test]
fn a_reader_that_went_away_changes_no_exit_code_and_is_not_spoken_of() {
    let folder = prepared();
    for (arguments, code) in commands() {
        let ended = run(folder.path(), &arguments, nobody(), Stdio::piped());
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("roken pipe"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_full_disk_behind_stdout_is_an_error_in_one_line() {
    let folder = prepared();
    for (arguments, _) in commands() {
        let ended = run(folder.path(), &arguments, full(), Stdio::piped());
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("freshbench: can't write to stdout: No space left"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_stderr_that_takes_nothing_does_not_change_how_it_ends() {
    let folder = prepared();
    for stderr in [nobody, full] {
        let usage = run(
            folder.path(),
            &["load", "--source", "no.db", "--table", "t", "--warehouse", "w"],
            Stdio::piped(),
            stderr(),
        );
        assert_eq!(usage.status.code(), Some(2));
        let flag = run(folder.path(), &["--no-such-flag"], Stdio::piped(), stderr());
        assert_eq!(flag.status.code(), Some(2));
        let saved = run(folder.path(), &["export", EXAMPLE, "--to", "csv", "--out", "."], Stdio::piped(), stderr());
        assert_eq!(saved.status.code(), Some(0));
    }
}

#[test]
fn an_input_without_an_end_or_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap().success());
    File::create(folder.path().join("empty")).unwrap();
    for (input, words) in
        [("/dev/zero", "more than"), ("pipe", "nobody writes"), (".", "folder"), ("/proc/self/smaps", ":1:")]
    {
        let inputs: [&[&str]; 3] = [
            &["run", "--quick", "--workload", input, "--out", "out"],
            &["export", input, "--to", "csv"],
            &["history", "analyze", "--history", input],
        ];
        for arguments in inputs {
            let ended = run(folder.path(), arguments, Stdio::piped(), Stdio::piped());
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {said}");
            assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
            if arguments[0] == "run" {
                assert!(said.contains(words), "{arguments:?}: {said}");
            }
        }
    }
}

#[test]
fn a_transform_that_can_not_be_compiled_names_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let built_in = include_str!("../datasets/orders.toml");
    let without = built_in.split("[[transform]]").next().unwrap().to_owned();
    let line = without.lines().count() + 1;
    for (wrong, words) in [
        ("[[transform]]\ntable = \"orders\"\ncolumns = [{ column = \"id\", drop = true }]\n", "key"),
        ("[[transform]]\ntable = \"customers\"\nrename_table = \"orders\"\n", "\"orders\""),
        (
            "[[transform]]\ntable = \"orders\"\ncolumns = [{ column = \"status\", type = \"int64\", scaled = true }]\n",
            "status",
        ),
        ("[[transform]]\ntable = \"nowhere\"\n", "nowhere"),
    ] {
        fs::write(folder.path().join("own.toml"), format!("{without}{wrong}")).unwrap();
        let ended = run(
            folder.path(),
            &["run", "--quick", "--workload", "own.toml", "--out", "out"],
            Stdio::piped(),
            Stdio::piped(),
        );
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("own.toml:{line}")) && said.contains(words), "{wrong}: {said}");
        assert!(!folder.path().join("out").exists());
    }
}
