//! The command line from outside: exit codes, messages, and what lies on disk afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use assert_cmd::Command;
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Runs freshbench in `folder`, so that relative names in arguments lie in it.
fn freshbench(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_freshbench"))
        .current_dir(folder)
        .args(arguments)
        .timeout(Duration::from_secs(60))
        .output()
        .expect("freshbench starts")
}

fn succeeded(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = freshbench(folder, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Asserts exit 2 with nothing on stdout and one line on stderr that holds every one of `words`.
fn refused(folder: &Path, arguments: &[&str], words: &[&str]) {
    let output = freshbench(folder, arguments);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}: wrote to stdout");
    assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: {word:?} is not in {said}");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries.map(|e| e.expect("an entry").file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn result(out: &Path) -> Value {
    let text = fs::read(out.join("result.json")).expect("a result");
    serde_json::from_slice(&text).expect("JSON")
}

fn case<'a>(result: &'a Value, name: &str) -> &'a Value {
    let cases = result["strategies"].as_array().expect("cases");
    cases.iter().find(|case| case["name"] == name).unwrap_or_else(|| panic!("no case {name} in {cases:?}"))
}

fn run_arguments<'a>(strategies: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["run", "--quick", "--quiet", "--out", "out", "--rows", "500", "--strategies", strategies];
    arguments.extend(["--duration", "600ms", "--warmup", "200ms", "--batch-interval", "150ms", "--rate", "500"]);
    arguments.extend(more);
    arguments
}

#[test]
fn a_planted_fault_is_found() {
    let folder = folder();
    let output = freshbench(folder.path(), &run_arguments("cdc-trigger", &["--plant", "drop-change"]));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(5), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("VALIDATION FAILED"), "{said}");
    assert!(said.contains("table ") && said.contains(" key "), "{said}");
    let result = result(&folder.path().join("out"));
    let validation = &case(&result, "cdc-trigger")["validation"];
    assert_eq!(validation["passed"], false);
    assert_eq!(validation["source_equals_ledger"], true, "the fault lies behind the source");
    let failures = validation["failures"].as_array().expect("failures");
    let named = failures.iter().any(|f| f.as_str().is_some_and(|f| f.contains("table ") && f.contains(" key ")));
    assert!(named, "{failures:?}");
}

#[test]
fn without_a_fault_the_warehouse_equals_the_source() {
    let folder = folder();
    succeeded(folder.path(), &run_arguments("cdc-trigger,full-refresh", &[]));
    let result = result(&folder.path().join("out"));
    assert_eq!(result["complete"], true);
    for name in ["control", "full-refresh", "cdc-trigger"] {
        let validation = &case(&result, name)["validation"];
        assert_eq!(validation["passed"], true, "{validation}");
        assert_eq!(validation["source_equals_ledger"], true, "{validation}");
        assert_eq!(validation["equal"], name != "control", "{validation}");
    }
    assert_eq!(
        names(&folder.path().join("out")),
        ["report.html", "result.json", "summary.md"],
        "the working folder is gone"
    );
}

#[test]
fn incremental_loses_deletes_and_says_so() {
    let folder = folder();
    succeeded(folder.path(), &run_arguments("incremental", &[]));
    let result = result(&folder.path().join("out"));
    let validation = &case(&result, "incremental")["validation"];
    assert_eq!(validation["equal"], false, "{validation}");
    let causes = validation["causes"].as_object().expect("causes");
    assert!(causes.get("lost delete").and_then(Value::as_u64).is_some_and(|count| count > 0), "{causes:?}");
    assert!(!causes.contains_key("unexplained"), "{causes:?}");
}

#[test]
fn the_stream_does_not_depend_on_the_number_of_clients() {
    let digest = |clients| {
        let folder = folder();
        succeeded(folder.path(), &run_arguments("control", &["--seed", "7", "--clients", clients]));
        result(&folder.path().join("out"))["config"]["stream_digest"].as_str().expect("a digest").to_owned()
    };
    let one = digest("1");
    assert!(!one.is_empty());
    assert_eq!(one, digest("4"));
}

#[test]
fn an_interrupted_run_keeps_what_had_finished() {
    let folder = folder();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_freshbench"))
        .current_dir(folder.path())
        .args(["run", "--quick", "--quiet", "--out", "out", "--work", "work", "--rows", "500"])
        .args(["--strategies", "cdc-trigger", "--duration", "2s", "--warmup", "200ms", "--rate", "200"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("freshbench starts");
    let begun = Instant::now();
    while !folder.path().join("work/cdc-trigger-0/log").exists() {
        assert!(begun.elapsed() < Duration::from_secs(40), "the second case did not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("SIGINT");
    let output = child.wait_with_output().expect("freshbench ends");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let result = result(&folder.path().join("out"));
    assert_eq!(result["complete"], false);
    let cases = result["strategies"].as_array().expect("cases");
    assert_eq!(cases.len(), 1, "only the first case had finished");
    assert_eq!(cases[0]["name"], "control");
    assert_eq!(cases[0]["validation"]["passed"], true);
}

/// The process is replaced by a fresh one before the first case, which must not forget the Ctrl-C.
#[test]
fn an_interrupt_while_the_source_is_loaded_ends_the_run() {
    let folder = folder();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_freshbench"))
        .current_dir(folder.path())
        .args(["run", "--quick", "--quiet", "--out", "out", "--work", "work", "--rows", "300000"])
        .args(["--strategies", "cdc-trigger", "--duration", "2s"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("freshbench starts");
    let begun = Instant::now();
    while !folder.path().join("work/base.db").exists() {
        assert!(begun.elapsed() < Duration::from_secs(40), "the load did not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!folder.path().join("work/control-0").exists());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("SIGINT");
    let output = child.wait_with_output().expect("freshbench ends");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!folder.path().join("work/control-0").exists(), "a case was begun");
    assert_eq!(result(&folder.path().join("out"))["complete"], false);
}

/// A pipe can be read once, and each case begins in a fresh process where that is possible.
#[test]
fn a_workload_from_a_pipe_is_run() {
    let folder = folder();
    let definition = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/orders.toml");
    let script = format!(
        "cat {definition} | {} run --quick --quiet --out out --rows 500 --strategies cdc-trigger --sinks warehouse \
         --duration 500ms --rate 100 --workload /dev/stdin",
        env!("CARGO_BIN_EXE_freshbench")
    );
    let output =
        std::process::Command::new("sh").current_dir(folder.path()).args(["-c", &script]).output().expect("sh");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(result(&folder.path().join("out"))["strategies"].as_array().expect("cases").len(), 2);
}

#[test]
fn a_refused_run_leaves_nothing() {
    let folder = folder();
    let definition = "about = \"x\"\norigin = \"x\"\nmodel = \"orders\"\nrows = 100\nspeed = 3\n";
    fs::write(folder.path().join("mine.toml"), definition).unwrap();
    let refusals: [(&[&str], &[&str]); 6] = [
        (&["--strategies", "cdc-triger"], &["--strategies", "cdc-triger", "did you mean cdc-trigger?"]),
        (&["--duration", "5"], &["--duration 5", "such as \"10s\""]),
        (&["--rate", "500/x"], &["--rate 500/x", "/s"]),
        (&["--workload", "ordres"], &["ordres", "orders"]),
        (&["--workload", "mine.toml"], &["mine.toml", "5", "speed"]),
        (&["--workload", "absent.toml"], &["absent.toml"]),
    ];
    for (arguments, words) in refusals {
        let all: Vec<&str> = ["run", "--quick"].iter().chain(arguments).copied().collect();
        refused(folder.path(), &all, words);
        let all: Vec<&str> = all.into_iter().chain(["--out", "out", "--work", "work"]).collect();
        refused(folder.path(), &all, words);
        assert_eq!(names(folder.path()), ["mine.toml"], "{arguments:?}");
    }
}

/// A database with every kind of value in `items`, and a composite key in `pairs`.
fn database(folder: &Path) {
    let connection = Connection::open(folder.join("shop.db")).unwrap();
    let sql = "CREATE TABLE items(id INTEGER PRIMARY KEY, amount REAL, name TEXT, data BLOB);
        CREATE TABLE pairs(b TEXT NOT NULL, note TEXT, a INTEGER NOT NULL, PRIMARY KEY(a, b));
        CREATE TABLE misfits(id INTEGER PRIMARY KEY, size INTEGER);
        INSERT INTO items VALUES
            (3, 1e300, 'say \"hi\"', x'00ff10'),
            (1, 1.5, 'plain', x''),
            (-7, 0.1, 'two' || char(10) || 'lines', NULL),
            (9223372036854775807, NULL, NULL, x'5c'),
            (2, -2, '', NULL),
            (5, 1e15, 'Zoë, 日本 🙂', x'c3'),
            (6, 0.00001, '\\.', NULL);
        INSERT INTO pairs VALUES('y', 'late', 1), ('x', '', 2), ('x', NULL, 1), ('X', 'a,b', 1);
        INSERT INTO misfits VALUES(1, 10), (2, 'large');";
    connection.execute_batch(sql).unwrap();
    // SQLite reads -0.0 in a REAL column back as 0.0: it stores whole numbers as integers there.
    connection.execute("INSERT INTO items VALUES(4, ?1, ' edge ', NULL)", [-0.0]).unwrap();
}

const ITEMS_CSV: &str = "-7,0.1,\"two\nlines\",\n\
    1,1.5,plain,\\x\n\
    2,-2,\"\",\n\
    3,1e+300,\"say \"\"hi\"\"\",\\x00ff10\n\
    4,0, edge ,\n\
    5,1e+15,\"Zoë, 日本 🙂\",\\xc3\n\
    6,1e-05,\\.,\n\
    9223372036854775807,,,\\x5c\n";

fn load(folder: &Path, table: &str) {
    succeeded(folder, &["load", "--source", "shop.db", "--table", table, "--warehouse", table]);
}

fn dump(folder: &Path, table: &str, more: &[&str]) -> Vec<u8> {
    let mut arguments = vec!["warehouse", "dump", "--warehouse", table, "--table", table];
    arguments.extend(more);
    succeeded(folder, &arguments)
}

fn dumped(folder: &Path, table: &str, more: &[&str]) -> String {
    String::from_utf8(dump(folder, table, more)).expect("text")
}

#[test]
fn a_dump_is_what_was_loaded_as_postgresql_writes_it() {
    let folder = folder();
    let folder = folder.path();
    database(folder);
    load(folder, "items");
    assert_eq!(dumped(folder, "items", &[]), ITEMS_CSV);
    assert_eq!(dumped(folder, "items", &["--header"]), format!("id,amount,name,data\n{ITEMS_CSV}"));
    let some = dumped(folder, "items", &["--header", "--columns", "data,id"]);
    assert!(some.starts_with("data,id\n,-7\n\\x,1\n,2\n\\x00ff10,3\n"), "{some}");

    let json = dumped(folder, "items", &["--format", "json"]);
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 8);
    assert_eq!(lines[0]["name"], "two\nlines");
    assert_eq!(lines[2]["name"], "");
    assert_eq!(lines[3]["amount"], 1e300);
    assert_eq!(lines[5]["name"], "Zoë, 日本 🙂");
    assert_eq!(lines[7]["id"], i64::MAX);
    assert_eq!(lines[7]["name"], Value::Null);

    let parquet = dump(folder, "items", &["--format", "parquet"]);
    assert!(parquet.len() > 12 && parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
}

#[test]
fn a_composite_key_orders_the_dump() {
    let folder = folder();
    database(folder.path());
    load(folder.path(), "pairs");
    assert_eq!(dumped(folder.path(), "pairs", &[]), "X,\"a,b\",1\nx,,1\ny,late,1\nx,\"\",2\n");
}

/// Names and contents of all files below a folder.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for name in names(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            all.extend(contents(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            all.push((name, fs::read(&path).unwrap()));
        }
    }
    all
}

#[test]
fn a_second_load_into_a_folder_is_refused_and_changes_nothing() {
    let folder = folder();
    let folder = folder.path();
    database(folder);
    load(folder, "items");
    let before = contents(&folder.join("items"));
    refused(folder, &["load", "--source", "shop.db", "--table", "pairs", "--warehouse", "items"], &["items"]);
    assert!(before == contents(&folder.join("items")), "the warehouse changed");
    assert_eq!(dumped(folder, "items", &[]), ITEMS_CSV);
}

#[test]
fn a_sound_folder_is_verified_and_a_changed_bit_is_named() {
    let folder = folder();
    let folder = folder.path();
    database(folder);
    let load = ["load", "--source", "shop.db", "--table", "items", "--warehouse", "items", "--keep-versions", "2"];
    succeeded(folder, &load);
    let said = String::from_utf8(succeeded(folder, &["warehouse", "verify", "items"])).expect("text");
    assert!(said.starts_with("items: sound; commit 1, "), "{said}");
    let json = succeeded(folder, &["warehouse", "versions", "items", "--format", "json"]);
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    let all = json["versions"].as_array().expect("versions");
    let facts: Vec<_> = all.iter().map(|version| (version["commit"].as_u64(), version["rows"].as_u64())).collect();
    assert_eq!(facts, [(Some(0), Some(0)), (Some(1), Some(8))]);
    assert_eq!(dumped(folder, "items", &["--at", "1"]), ITEMS_CSV);
    assert_eq!(dumped(folder, "items", &["--at", "0"]), "");
    let dump = ["warehouse", "dump", "--warehouse", "items", "--table", "items", "--at"];
    refused(folder, &[&dump[..], &["7"]].concat(), &["has no commit 7; it keeps commits 0, 1"]);
    refused(folder, &["warehouse", "verify", "absent"], &["absent", "create the warehouse first"]);

    let name = names(&folder.join("items")).into_iter().find(|name| name.ends_with(".parquet")).expect("a segment");
    let path = folder.join("items").join(&name);
    let mut bytes = fs::read(&path).expect("the segment");
    bytes[100] ^= 4;
    fs::write(&path, bytes).expect("a changed bit");
    let output = freshbench(folder, &["warehouse", "verify", "items"]);
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.starts_with(&format!("DAMAGED items/{name} at byte 0: ")) && said.contains("1 FAULT"), "{said}");
    let output = freshbench(folder, &["warehouse", "verify", "items", "--format", "json"]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((json["sound"].as_bool(), json["faults"][0]["offset"].as_u64()), (Some(false), Some(0)), "{json}");
    assert_eq!(output.status.code(), Some(5));
}

#[test]
fn a_failed_load_leaves_nothing() {
    let folder = folder();
    let folder = folder.path();
    database(folder);
    fs::write(folder.join("text.db"), "This is not a database, however long it may be.".repeat(100)).unwrap();
    let before = names(folder);
    let load = |source, table| ["load", "--source", source, "--table", table, "--warehouse", "w"];
    refused(folder, &load("absent.db", "items"), &["absent.db"]);
    refused(folder, &load("shop.db", "absent"), &["shop.db", "absent", "it has: items, misfits, pairs"]);
    refused(folder, &load("text.db", "items"), &["text.db"]);
    assert_eq!(names(folder), before);

    // The second row's value does not fit its column, and that is for the user to correct.
    refused(folder, &load("shop.db", "misfits"), &["\"misfits\"", "\"size\"", "id=integer 2"]);
    assert_eq!(names(folder), before, "half a warehouse was left behind");
}

#[test]
fn a_dump_of_what_is_not_there_is_refused() {
    let folder = folder();
    let folder = folder.path();
    database(folder);
    load(folder, "items");
    let before = names(folder);
    let dump = ["warehouse", "dump", "--warehouse"];
    let refuse = |more: &[&str], words: &[&str]| {
        let all: Vec<&str> = dump.iter().chain(more).copied().collect();
        refused(folder, &all, words);
    };
    refuse(&["absent", "--table", "items"], &["absent"]);
    refuse(&["items", "--table", "absent"], &["absent", "it has: items"]);
    refuse(&["items", "--table", "items", "--columns", "id,weight"], &["weight", "it has: id, amount, name, data"]);
    assert_eq!(names(folder), before);
}
