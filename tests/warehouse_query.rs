//! `freshbench warehouse query` from outside: with the feature `sql` what it answers, without it what it says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use assert_cmd::Command;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

fn query(folder: &Path, arguments: &[&str], stdin: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_freshbench"))
        .current_dir(folder)
        .args(["warehouse", "query"])
        .args(arguments)
        .write_stdin(stdin)
        .timeout(Duration::from_secs(60))
        .output()
        .expect("freshbench starts")
}

#[test]
fn threads_and_memory_have_bounds() {
    let folder = tempfile::tempdir().expect("a folder");
    for (flag, value) in [("--threads", "100000"), ("--threads", "65"), ("--memory-mib", "0")] {
        let output = query(folder.path(), &["w", "--sql", "SELECT 1", flag, value], "");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("invalid value '{value}' for '{flag}")), "{said}");
    }
}

/// One line on stderr with every one of `words`, nothing on stdout.
fn fails(folder: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let output = query(folder, arguments, "");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty() && said.lines().count() == 1, "{arguments:?}: {said}");
    for word in words {
        assert!(said.contains(word), "{arguments:?}: {word:?} is not in {said}");
    }
}

#[cfg(not(feature = "sql"))]
#[test]
fn a_build_without_sql_says_how_to_get_one_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    fails(folder.path(), &["w", "--sql", "SELECT 1"], 2, &["--features sql"]);
}

#[cfg(feature = "sql")]
mod with_sql {
    use super::*;
    use rusqlite::Connection;
    use serde_json::Value;

    fn loaded() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let database = Connection::open(folder.path().join("shop.db")).expect("a database");
        database
            .execute_batch(
                "CREATE TABLE \"Items\" (id INTEGER PRIMARY KEY, price DECIMAL(10,2), name TEXT, data BLOB);
                 INSERT INTO \"Items\" VALUES (1, 10.5, 'one', NULL), (2, NULL, 'two, ' || char(10) || 'lines', x'00ff'),
                     (9223372036854775807, 0.1, '', NULL);",
            )
            .expect("rows");
        drop(database);
        let load = ["load", "--source", "shop.db", "--table", "Items", "--warehouse", "w"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
        command.current_dir(folder.path()).args(load).assert().success();
        folder
    }

    fn answer(folder: &Path, arguments: &[&str], stdin: &str) -> String {
        let output = query(folder, arguments, stdin);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    #[test]
    fn rows_come_as_csv_as_json_and_as_a_table() {
        let folder = loaded();
        let folder = folder.path();
        let all = "SELECT id, name, data FROM \"Items\" ORDER BY id";
        let csv = "1,one,\n2,\"two, \nlines\",\\x00ff\n9223372036854775807,\"\",\n";
        assert_eq!(answer(folder, &["w", "--sql", all, "--format", "csv"], ""), csv);
        assert_eq!(
            answer(folder, &["w", "--sql", all, "--format", "csv", "--header"], ""),
            format!("id,name,data\n{csv}")
        );
        assert_eq!(answer(folder, &["w", "--file", "-", "--format", "csv"], all), csv);
        std::fs::write(folder.join("q.sql"), format!("-- all of them\n{all};\n")).expect("a file");
        assert_eq!(answer(folder, &["w", "--file", "q.sql", "--format", "csv"], ""), csv);
        let twice = "SELECT a.id, b.id FROM \"Items\" a JOIN \"Items\" b ON a.id = b.id WHERE a.id > 2";
        let json = answer(folder, &["w", "--sql", twice, "--format", "json"], "");
        assert_eq!(json, "{\"id\":9223372036854775807,\"id:1\":9223372036854775807}\n");
        let sum = "SELECT sum(id) AS total FROM \"Items\"";
        assert_eq!(answer(folder, &["w", "--sql", sum, "--format", "json"], ""), "{\"total\":9223372036854775810}\n");
        let json = answer(folder, &["w", "--sql", all, "--format", "json"], "");
        let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!((lines[1]["name"].as_str(), lines[2]["id"].as_i64()), (Some("two, \nlines"), Some(i64::MAX)));
        let table = answer(folder, &["w", "--sql", all], "");
        assert!(
            table.contains("9223372036854775807") && table.contains("NULL") && table.ends_with("3 rows\n"),
            "{table}"
        );
        let many = answer(folder, &["w", "--sql", "SELECT * FROM generate_series(1, 5000)"], "");
        assert!(many.ends_with("the first 1000 rows; --format csv or json gives all\n"));
    }

    #[test]
    fn what_is_asked_wrongly_is_exit_2() {
        let folder = loaded();
        let folder = folder.path();
        fails(folder, &["w", "--sql", "SELECT 1 FROM items"], 2, &["\"items\"", "\"Items\""]);
        fails(folder, &["w", "--sql", "SELEC 1"], 2, &["line 1, column 1"]);
        fails(folder, &["w", "--sql", "DROP TABLE \"Items\""], 2, &["DROP TABLE is refused"]);
        fails(folder, &["w", "--file", "absent.sql"], 2, &["absent.sql"]);
        fails(folder, &["absent", "--sql", "SELECT 1"], 2, &["absent", "check the folder"]);
        fails(folder, &["w", "--sql", "SELECT 1", "--at", "77"], 2, &["77"]);
        let sorted = "SELECT a.value FROM generate_series(1, 1000000) a ORDER BY -a.value";
        fails(folder, &["w", "--sql", sorted, "--memory-mib", "1"], 1, &["--memory-mib"]);
        assert_eq!(
            answer(folder, &["w", "--sql", "SELECT count(*) FROM \"Items\"", "--at", "1", "--format", "csv"], ""),
            "3\n"
        );
    }
}
