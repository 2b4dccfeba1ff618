//! Databases that somebody else made.

use freshbench::model::{Value, ValueRef};
use freshbench::source::{DynSqlite, RowRange, SourceError};
use rusqlite::Connection;
use std::path::PathBuf;
use tempfile::TempDir;

fn database(sql: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("theirs.db");
    Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    (dir, path)
}

fn read(database: &DynSqlite, table: &str, readers: usize) -> Result<Vec<Vec<Value>>, SourceError> {
    let table = database.table(table)?;
    let readers = database.read(readers)?;
    let mut rows = Vec::new();
    for (part, range) in readers.ranges(&table, 5)?.iter().enumerate() {
        let mut each = |row: &[ValueRef<'_>]| {
            rows.push(row.iter().map(|value| value.to_value().unwrap()).collect());
            Ok(())
        };
        readers.scan(part, &table, range, &mut each, |error| error)?;
    }
    Ok(rows)
}

#[test]
fn values_of_loose_columns_become_text_without_loss() {
    let (_dir, path) = database(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, d DECIMAL(10,2), n, day DATE, ok BOOLEAN); \
         INSERT INTO t VALUES(1, 12.5, 9223372036854775807, '2024-02-30', 1), (2, '1e2', 0.1, 20240101, NULL), \
         (3, 1e300, 'text', '', 0), (4, 9e999, -0.0, NULL, 1), (5, NULL, '7', '1.50', 1)",
    );
    let rows = read(&DynSqlite::open(&path).unwrap(), "T", 1).unwrap();
    let text = |row: usize, column: usize| match &rows[row][column] {
        Value::Text(text) => text.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(rows[0][0..1], [Value::Int(1)]);
    assert_eq!([text(0, 1), text(0, 2), text(0, 3)], ["12.5", "9223372036854775807", "2024-02-30"]);
    assert_eq!([text(1, 1), text(1, 2), text(1, 3)], ["100", "0.1", "20240101"]);
    assert_eq!([text(2, 1), text(2, 2), text(2, 3)], ["1e300", "text", ""]);
    assert_eq!([text(3, 1), text(3, 2), text(3, 3)], ["Inf", "-0.0", "Null"]);
    assert_eq!((text(4, 1), text(4, 2), text(4, 3)), ("Null".to_owned(), "7".to_owned(), "1.5".to_owned()));
    assert_eq!([&rows[0][4], &rows[1][4], &rows[2][4]], [&Value::Bool(true), &Value::Null, &Value::Bool(false)]);
}

#[test]
fn a_value_that_does_not_fit_is_named() {
    let (_dir, path) = database(
        "CREATE TABLE \"odd table\"(k TEXT PRIMARY KEY, n INT, any); \
         INSERT INTO \"odd table\" VALUES('a', 1, 1), ('b', 'many', 'x'); \
         CREATE TABLE blobs(id INTEGER PRIMARY KEY, any, num NUMERIC); INSERT INTO blobs VALUES(7, x'00', 5); \
         CREATE TABLE nokey(k TEXT PRIMARY KEY); INSERT INTO nokey VALUES(NULL)",
    );
    let database = DynSqlite::open(&path).unwrap();
    let message = |table: &str| read(&database, table, 1).unwrap_err().to_string();
    let odd = message("odd table");
    assert!(odd.contains("\"odd table\", column \"n\", row k=text \"b\": found text \"many\""), "{odd}");
    let blobs = message("blobs");
    assert!(blobs.contains("column \"any\", row id=integer 7: found blob of 1 bytes"), "{blobs}");
    assert!(message("nokey").contains("never NULL since it is in the key"));
}

#[test]
fn parallel_readers_see_one_state_and_every_row_once() {
    for journal in ["delete", "wal"] {
        let (_dir, path) = database(&format!(
            "PRAGMA journal_mode={journal}; CREATE TABLE t(a TEXT, b INT, PRIMARY KEY(b, a)) WITHOUT ROWID; \
             CREATE TABLE r(x TEXT); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
             INSERT INTO t SELECT 'v' || i, i * i FROM n; INSERT INTO r SELECT a FROM t"
        ));
        let database = DynSqlite::open(&path).unwrap();
        for table in ["t", "r"] {
            let one = read(&database, table, 1).unwrap();
            assert_eq!(one.len(), 1000);
            assert_eq!(read(&database, table, 3).unwrap(), one, "{journal}");
        }
        assert_eq!(database.read(3).unwrap().count(), 3);
        let readers = database.read(2).unwrap();
        if journal == "wal" {
            Connection::open(&path).unwrap().execute("DELETE FROM r", []).unwrap();
            for reader in 0..2 {
                let table = database.table("r").unwrap();
                let rows = readers.scan(reader, &table, &RowRange::ALL, &mut |_| Ok(()), |error| error).unwrap();
                assert_eq!(rows, 1000);
            }
        }
    }
}

#[test]
fn a_locked_or_read_only_file_has_one_reader() {
    let (_dir, path) =
        database("PRAGMA journal_mode=wal; CREATE TABLE t(id INTEGER PRIMARY KEY); INSERT INTO t VALUES(1)");
    let owner = Connection::open(&path).unwrap();
    owner.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES(2)").unwrap();
    let database = DynSqlite::open(&path).unwrap();
    assert_eq!(database.read(2).unwrap().count(), 1);
    assert_eq!(read(&database, "t", 2).unwrap(), [[Value::Int(1)]]);
}

#[test]
fn what_is_no_database_is_refused() {
    let dir = TempDir::new().unwrap();
    let text = dir.path().join("notes.txt");
    std::fs::write(&text, "dear diary, ".repeat(100)).unwrap();
    let error = DynSqlite::open(&text).unwrap_err().to_string();
    assert!(error.contains("notes.txt") && error.contains("give the path of a SQLite 3 database"), "{error}");
    assert!(DynSqlite::open(&dir.path().join("missing.db")).is_err());
}
