//! Every kind of statement, one by one.

use crate::follow::Followed;
use freshbench::capture::{CaptureError, TriggerCapture};
use freshbench::model::{ChangeRef, Lsn, Value};
use freshbench::source::SourceError;

const TWO: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, n INT, s TEXT); \
    CREATE TABLE w(a TEXT, b INT, v REAL, PRIMARY KEY(b, a)) WITHOUT ROWID;";

fn two() -> Followed {
    let mut followed = Followed::new(TWO, &["t", "w"]);
    followed.commit_and_check(
        "INSERT INTO t VALUES(1, 10, 'one'), (2, 20, 'two'), (3, 30, 'three'); \
         INSERT INTO w VALUES('x', 1, 0.5), ('y', 1, 1.5), ('x', 2, 2.5)",
    );
    followed
}

#[test]
fn insert_and_delete_of_one_key() {
    let mut followed = two();
    let both = followed.commit_and_check("INSERT INTO t VALUES(9, 1, 'x'); DELETE FROM t WHERE id = 9");
    assert_eq!(both.changes.len(), 2);
    followed.commit("INSERT INTO t VALUES(9, 1, 'x')");
    followed.commit("DELETE FROM t WHERE id = 9");
    assert_eq!(followed.check(), 2);
    followed.commit_and_check("DELETE FROM t WHERE id = 1; INSERT INTO t VALUES(1, 11, 'again')");
    followed.commit_and_check(
        "DELETE FROM t WHERE id = 2; INSERT INTO t VALUES(2, 1, ''); UPDATE t SET n = 2 WHERE id = 2; \
         DELETE FROM t WHERE id = 2; INSERT INTO t VALUES(2, 3, 'z'); UPDATE t SET n = 4 WHERE id = 2",
    );
    assert_eq!(followed.row(0, &[Value::Int(2)]).unwrap()[1], Value::Int(4));
}

#[test]
fn keys_change_and_swap() {
    let mut followed = two();
    let moved = followed.commit_and_check("UPDATE t SET id = 7 WHERE id = 1").changes.clone();
    let Some(Ok(ChangeRef::Update { old_key: Some(_), .. })) = moved.iter().next() else { panic!("{moved:?}") };
    followed.commit_and_check(
        "UPDATE t SET id = -1 WHERE id = 2; UPDATE t SET id = 2 WHERE id = 3; UPDATE t SET id = 3 WHERE id = -1",
    );
    assert_eq!(followed.row(0, &[Value::Int(2)]).unwrap()[2], Value::text("three"));
    followed.commit_and_check("UPDATE t SET id = -id");
    followed.commit_and_check("UPDATE w SET a = a || '\u{1F600}', b = b + 10");
    followed.commit_and_check("UPDATE OR REPLACE t SET id = -7 WHERE id = -2");
    followed.commit_and_check("UPDATE OR IGNORE t SET id = -7");
}

#[test]
fn replace_and_upsert() {
    let mut followed = Followed::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE, n INT); INSERT INTO t VALUES(1,'a',1),(2,'b',2),(3,'c',3)",
        &["t"],
    );
    followed.commit_and_check("REPLACE INTO t VALUES(1, 'a', 5)");
    followed.commit_and_check("INSERT OR REPLACE INTO t VALUES(1, 'b', 6)"); // displaces 1 by its key and 2 by `u`
    assert_eq!(followed.replay.tables[0].len(), 2);
    followed.commit_and_check("UPDATE OR REPLACE t SET u = 'c' WHERE id = 1");
    assert_eq!(followed.replay.tables[0].len(), 1);
    followed
        .commit_and_check("INSERT INTO t VALUES(1, 'q', 0) ON CONFLICT(id) DO UPDATE SET n = n + 1, u = excluded.u");
    followed.commit_and_check("INSERT INTO t VALUES(8, 'q', 0) ON CONFLICT(u) DO UPDATE SET id = 9");
    followed.commit_and_check("INSERT INTO t VALUES(9, 'q', 0) ON CONFLICT DO NOTHING");
    followed.commit_and_check("INSERT OR IGNORE INTO t VALUES(9, 'r', 0), (10, 's', 0)");
}

#[test]
fn delete_without_where() {
    let mut followed = two();
    followed.commit_and_check("DELETE FROM t; DELETE FROM w");
    assert!(followed.replay.tables.iter().all(|rows| rows.is_empty()));
    followed.commit_and_check("INSERT INTO t VALUES(1, 1, 'new'); DELETE FROM t; INSERT INTO t VALUES(5, 5, 'only')");
    assert_eq!(followed.replay.tables[0].len(), 1);
}

#[test]
fn rollbacks_leave_nothing() {
    let mut followed = two();
    followed.writer.execute_batch("BEGIN IMMEDIATE; DELETE FROM t; ROLLBACK").unwrap();
    assert_eq!(followed.check(), 0);
    let kept = followed.commit_and_check(
        "INSERT INTO t VALUES(50, 0, ''); SAVEPOINT a; DELETE FROM t; SAVEPOINT b; INSERT INTO t VALUES(51, 0, ''); \
         ROLLBACK TO b; RELEASE b; ROLLBACK TO a; INSERT INTO t VALUES(52, 0, ''); RELEASE a",
    );
    assert_eq!(kept.changes.len(), 2);
    // A failing statement takes its own changes back and leaves the transaction's others.
    let failing = "BEGIN IMMEDIATE; INSERT INTO _freshbench_commit(txn, committed_at) VALUES(8, 0); \
         INSERT INTO t VALUES(60, 0, ''); INSERT INTO t VALUES(61, 0, ''), (60, 0, '')";
    assert!(followed.writer.execute_batch(failing).is_err());
    followed.writer.execute_batch("UPDATE _freshbench_commit SET committed_at = 5 WHERE txn = 8; COMMIT").unwrap();
    assert_eq!(followed.check(), 1);
    assert_eq!(followed.delivered.last().unwrap().changes.len(), 1);
}

#[test]
fn foreign_keys_cascade() {
    let mut followed = Followed::new(
        "CREATE TABLE p(id INTEGER PRIMARY KEY); \
         CREATE TABLE c(id INTEGER PRIMARY KEY, p INT REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE); \
         CREATE TABLE g(id INTEGER PRIMARY KEY, c INT REFERENCES c ON DELETE SET NULL); \
         INSERT INTO p VALUES(1),(2); INSERT INTO c VALUES(10,1),(11,1),(20,2); INSERT INTO g VALUES(100,10),(200,20)",
        &["p", "c", "g"],
    );
    followed.commit_and_check("UPDATE p SET id = 5 WHERE id = 2");
    let deleted = followed.commit_and_check("DELETE FROM p WHERE id = 1");
    assert_eq!(deleted.changes.len(), 4);
    assert_eq!(followed.row(2, &[Value::Int(100)]).unwrap()[1], Value::Null);
}

#[test]
fn triggers_that_were_there_before() {
    let mut followed = Followed::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, n INT, twice INT); CREATE TABLE audit(id INTEGER PRIMARY KEY, t INT); \
         CREATE TRIGGER a AFTER INSERT ON t BEGIN UPDATE t SET twice = 2 * NEW.n WHERE id = NEW.id; \
         INSERT INTO audit(t) VALUES(NEW.id); END; \
         CREATE TRIGGER b BEFORE DELETE ON t BEGIN DELETE FROM audit WHERE t = OLD.id; END;",
        &["t", "audit"],
    );
    followed.commit_and_check("INSERT INTO t VALUES(1, 21, NULL), (2, 4, NULL)");
    assert_eq!(followed.row(0, &[Value::Int(1)]).unwrap()[2], Value::Int(42));
    followed.commit_and_check("DELETE FROM t WHERE id = 2");
}

#[test]
fn names_are_data() {
    let long = "x".repeat(70);
    let sql = format!(
        "CREATE TABLE \"we \"\"ird\"(\"a \"\"key\" TEXT, \"größe µ\" INT, \"{long}\" TEXT, \"select\" REAL, [k'2] INT, \
         PRIMARY KEY(\"a \"\"key\", [k'2])); CREATE TABLE \"{long}\"(\"--\" INTEGER PRIMARY KEY, \"new.old\" BLOB)"
    );
    let mut followed = Followed::new(&sql, &["we \"ird", &long]);
    followed.commit_and_check(&format!(
        "INSERT INTO \"we \"\"ird\" VALUES('k', 1, 'v', 2.0, 3); INSERT INTO \"{long}\" VALUES(1, x'00ff'); \
         UPDATE \"we \"\"ird\" SET [k'2] = 4, \"{long}\" = 'w'; DELETE FROM \"{long}\""
    ));
}

#[test]
fn values_keep_every_bit() {
    let mut followed =
        Followed::new("CREATE TABLE v(id INTEGER PRIMARY KEY, i INT, r REAL BLOB, s TEXT, b BLOB, o BOOLEAN)", &["v"]);
    let big = "ä".repeat(50_000);
    followed.commit_and_check(&format!(
        "INSERT INTO v VALUES(1, 9223372036854775807, -0.0, '', x'', 1), (-9223372036854775808, \
         -9223372036854775808, 9e999, NULL, NULL, 0), (3, 0, -9e999, 'a' || char(0) || 'b', zeroblob(100000), NULL), \
         (4, NULL, 5e-324, '{big}', x'00', 1), (5, 1, 0.1, char(1114111) || '''\"', x'ff', 0)"
    ));
    let row = |id: i64| followed.row(0, &[Value::Int(id)]).unwrap().clone();
    assert_eq!(row(1)[2..5], [Value::Float(-0.0), Value::text(""), Value::Bytes([].into())]);
    assert_eq!(row(i64::MIN)[1..4], [Value::Int(i64::MIN), Value::Float(f64::INFINITY), Value::Null]);
    assert_eq!(row(3)[3], Value::text("a\0b"));
    followed.commit_and_check("UPDATE v SET i = i + 1 WHERE id = 4");
    // A NaN is NULL before SQLite stores it.
    followed.writer.execute_batch("BEGIN; INSERT INTO _freshbench_commit(txn, committed_at) VALUES(1, 0)").unwrap();
    followed.writer.execute("INSERT INTO v(id, r) VALUES(6, ?1)", [f64::NAN]).unwrap();
    followed.writer.execute_batch("UPDATE _freshbench_commit SET committed_at = 1 WHERE txn = 1; COMMIT").unwrap();
    followed.check();
    assert_eq!(followed.row(0, &[Value::Int(6)]).unwrap()[2], Value::Null);
}

#[test]
fn text_keys_differ_by_their_bytes() {
    let mut followed = Followed::new("CREATE TABLE t(k TEXT COLLATE NOCASE PRIMARY KEY, v INT)", &["t"]);
    followed.commit_and_check("INSERT INTO t VALUES('abc', 1), ('', 2), ('é' || char(0), 3)");
    followed.commit_and_check("UPDATE t SET k = 'ABC' WHERE k = 'abc'");
    assert!(followed.row(0, &[Value::text("ABC")]).is_some());
    followed.commit_and_check("REPLACE INTO t VALUES('aBc', 5)");
}

#[test]
fn a_table_without_a_key_is_followed_by_its_rowid() {
    let mut followed = Followed::new("CREATE TABLE t(a, b TEXT); INSERT INTO t VALUES('q', 'r')", &["t"]);
    followed.commit_and_check("INSERT INTO t VALUES('x', 'y'), ('x', 'y'); DELETE FROM t WHERE rowid = 2");
    followed.commit_and_check("UPDATE t SET b = 'z'; UPDATE t SET rowid = 40 WHERE rowid = 3");
    assert_eq!(followed.replay.tables[0].len(), 2);
}

#[test]
fn a_value_of_another_type_is_an_error_that_names_it() {
    let mut followed = two();
    followed.commit("INSERT INTO t VALUES(4, 'not a number', NULL)");
    let before = followed.delivered.len();
    for _ in 0..2 {
        let error = followed.capture.poll(100, &mut followed.delivered).unwrap_err();
        let CaptureError::Source(SourceError::Value { table, column, key, .. }) = &error else { panic!("{error}") };
        assert_eq!((table.as_str(), column.as_str(), key.as_str()), ("t", "n", "id=integer 4"));
        assert_eq!(followed.delivered.len(), before);
    }
}

#[test]
fn empty_transactions_and_markers_are_transactions() {
    let mut followed = two();
    assert!(followed.commit_and_check("UPDATE t SET n = 0 WHERE id = 999").changes.is_empty());
    let marker = followed.source.write_marker().unwrap();
    assert_eq!(followed.check(), 1);
    assert_eq!(followed.capture.through(), marker);
}

#[test]
fn polls_are_bounded_and_resume_anywhere() {
    let mut followed = two();
    for id in 100..130 {
        followed.commit(&format!("INSERT INTO t VALUES({id}, 1, 's'), ({id} + 1000, 2, 's')"));
    }
    let mut out = Vec::new();
    let polled = followed.capture.poll(5, &mut out).unwrap();
    assert_eq!((polled.transactions, polled.changes, polled.more), (3, 6, true));
    followed.delivered.extend(out.iter().cloned());
    for transaction in &out {
        followed.replay.apply(&followed.source, transaction);
    }
    assert_eq!(followed.check_with(1), 27);
    assert_eq!(followed.capture.poll(5, &mut out).unwrap().transactions, 0);
    let all = followed.delivered.clone();
    for from in 0..=all.last().unwrap().lsn.0 {
        let mut again = TriggerCapture::resume(&followed.source, Lsn(from)).unwrap();
        let mut out = Vec::new();
        again.poll(u64::MAX, &mut out).unwrap();
        let expected: Vec<_> = all.iter().filter(|transaction| transaction.lsn.0 > from).cloned().collect();
        assert_eq!(out, expected, "from {from}");
    }
}

#[test]
fn pruning_keeps_what_is_behind_it() {
    let mut followed = two();
    for id in 100..200 {
        followed.commit(&format!("INSERT INTO t VALUES({id}, 1, 's')"));
    }
    followed.check();
    assert_eq!(followed.capture.prune(Lsn(51)).unwrap(), 6 + 50);
    assert_eq!(followed.capture.prune(Lsn(51)).unwrap(), 0);
    let gone = TriggerCapture::resume(&followed.source, Lsn(50)).unwrap_err();
    assert!(matches!(gone, CaptureError::Gone { complete_after: Lsn(51), .. }), "{gone}");
    let mut out = Vec::new();
    TriggerCapture::resume(&followed.source, Lsn(51)).unwrap().poll(u64::MAX, &mut out).unwrap();
    assert_eq!(out.first().map(|transaction| transaction.lsn), Some(Lsn(52)));
    // Everything goes; ids must not come back.
    followed.capture.prune(Lsn(u64::MAX)).unwrap();
    followed.commit_and_check("INSERT INTO t VALUES(300, 1, 's')");
    followed.capture = TriggerCapture::resume(&followed.source, followed.capture.through()).unwrap();
    followed.commit_and_check("INSERT INTO t VALUES(301, 1, 's')");
    // Set up again: what is there stays.
    assert_eq!(TriggerCapture::setup(&followed.source).unwrap(), Lsn(101));
    followed.commit_and_check("DELETE FROM t WHERE id = 301");
    TriggerCapture::teardown(&followed.source).unwrap();
    assert!(matches!(TriggerCapture::resume(&followed.source, Lsn(101)), Err(CaptureError::NotSetUp { .. })));
    followed.writer.execute_batch("DELETE FROM t").unwrap();
}
