//! What the cursor sees, and what it does not.

use freshbench::capture::{CaptureError, CursorCapture, CursorState, Snapshot};
use freshbench::clock::Clock;
use freshbench::model::{Catalog, Column, ColumnType, Lsn, TableSchema, Value, ValueRef};
use freshbench::source::{SourceOptions, SqliteSource};
use rusqlite::Connection;
use tempfile::TempDir;

fn source() -> (TempDir, SqliteSource, Connection) {
    let columns = vec![
        Column::required("id", ColumnType::Int64),
        Column::nullable("ok", ColumnType::Bool),
        Column::nullable("price", ColumnType::Decimal { precision: 10, scale: 2 }),
        Column::nullable("at", ColumnType::Timestamp),
    ];
    let catalog = Catalog { tables: vec![TableSchema::new("t", columns, vec![0]).unwrap()] };
    let dir = TempDir::new().unwrap();
    let source = SqliteSource::create(&dir.path().join("c.db"), &catalog, SourceOptions::default()).unwrap();
    CursorCapture::setup(&source, &[3]).unwrap();
    let writer = source.connect().unwrap();
    (dir, source, writer)
}

fn commit(writer: &Connection, sql: &str) {
    let sql = format!("BEGIN; INSERT INTO _freshbench_commit(txn, committed_at) VALUES(1, 1); {sql}; COMMIT");
    writer.execute_batch(&sql).unwrap();
}

fn poll(cursor: &mut CursorCapture) -> (Vec<i64>, u64) {
    let mut ids = Vec::new();
    let mut each = |_, row: &[ValueRef<'_>]| {
        let Some(Value::Int(id)) = row[0].to_value() else { panic!("{row:?}") };
        ids.push(id);
        Ok::<_, CaptureError>(())
    };
    let batch = cursor.poll(&mut each).unwrap();
    assert_eq!(batch.rows, ids.len() as u64);
    (ids, batch.position.0)
}

#[test]
fn rows_come_by_their_stamp_and_equal_stamps_are_not_lost() {
    let (_dir, source, writer) = source();
    let clock = Clock::monotonic();
    let mut cursor = CursorCapture::begin(&source, &[3], &clock).unwrap();
    assert_eq!(poll(&mut cursor), (vec![], 0));
    commit(&writer, "INSERT INTO t VALUES(1, 1, '1.50', 300), (2, 0, NULL, 100), (3, NULL, '2', 200)");
    assert_eq!(poll(&mut cursor), (vec![2, 3, 1], 1));
    assert_eq!(poll(&mut cursor), (vec![], 1));
    commit(&writer, "INSERT INTO t VALUES(4, 1, '1.50', 300)");
    commit(&writer, "UPDATE t SET ok = 0 WHERE id = 1");
    let (mut ids, position) = poll(&mut cursor);
    ids.sort_unstable();
    assert_eq!((ids, position), (vec![1, 4], 3));
    // The flaws: a delete, a late commit with an earlier stamp, a row without a stamp.
    commit(&writer, "DELETE FROM t WHERE id = 2; INSERT INTO t VALUES(5, 1, '0', 299), (6, 1, '0', NULL)");
    assert_eq!(poll(&mut cursor), (vec![], 4));
    commit(&writer, "UPDATE t SET at = 400 WHERE id IN (3, 5)");
    let mut kept = CursorCapture::restore(&source, &[3], &cursor.state(), &clock).unwrap();
    assert_eq!(poll(&mut cursor), (vec![3, 5], 5));
    let (mut ids, _) = poll(&mut kept);
    ids.sort_unstable();
    assert_eq!(ids, [1, 3, 4, 5], "restored, it gives the greatest stamp's rows again");
    let json = serde_json::to_string(&kept.state()).unwrap();
    assert_eq!(serde_json::from_str::<CursorState>(&json).unwrap(), cursor.state());
    assert!(CursorCapture::restore(&source, &[3], &CursorState::default(), &clock).is_err());
    assert!(CursorCapture::begin(&source, &[1], &clock).is_err());
    CursorCapture::teardown(&source).unwrap();
}

#[test]
fn a_failing_consumer_gets_the_rows_again() {
    let (_dir, source, writer) = source();
    let mut cursor = CursorCapture::begin(&source, &[3], &Clock::monotonic()).unwrap();
    commit(&writer, "INSERT INTO t VALUES(1, 1, '1.50', 300), (2, 0, NULL, 400)");
    let refused = cursor.poll(&mut |_, _| Err(CaptureError::NotSetUp { reason: "a test".to_owned() }));
    assert!(refused.is_err());
    assert_eq!(poll(&mut cursor), (vec![1, 2], 1));
}

#[test]
fn behind_a_snapshot_only_what_moved() {
    let (_dir, source, writer) = source();
    let clock = Clock::monotonic();
    commit(&writer, "INSERT INTO t VALUES(1, 1, '1', 100), (2, 1, '1', 200), (3, 1, '1', 200)");
    let snapshot = Snapshot::begin(&source, 1, &clock).unwrap();
    assert_eq!(snapshot.position(), Lsn(1));
    commit(&writer, "UPDATE t SET ok = 0 WHERE id = 3; INSERT INTO t VALUES(4, 1, '1', 200), (5, 1, '1', 201)");
    let mut cursor = CursorCapture::begin_after(&snapshot, &[3], &clock).unwrap();
    assert_eq!(poll(&mut cursor), (vec![3, 4, 5], 2));
}
