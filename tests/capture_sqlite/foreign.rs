//! Writers that number no commit.

use crate::follow::{Followed, truth};
use freshbench::capture::{Snapshot, TriggerCapture};
use freshbench::clock::Clock;
use freshbench::model::Lsn;
use rusqlite::Connection;

fn followed() -> (Followed, Connection) {
    let mut followed = Followed::new("CREATE TABLE t(id INTEGER PRIMARY KEY, n INT)", &["t"]);
    followed.commit_and_check("INSERT INTO t VALUES(1, 1)");
    let foreign = Connection::open(followed.source.path()).unwrap();
    (followed, foreign)
}

#[test]
fn a_foreign_transaction_is_one_of_its_own() {
    let (mut followed, foreign) = followed();
    foreign.execute_batch("BEGIN; INSERT INTO t VALUES(2, 2); UPDATE t SET n = 9 WHERE id = 1; COMMIT").unwrap();
    followed.commit("INSERT INTO t VALUES(3, 3)");
    foreign.execute_batch("DELETE FROM t WHERE id = 3").unwrap();
    assert_eq!(followed.check(), 3);
    assert!(followed.delivered.iter().all(|transaction| transaction.committed_at.0 > 0));
    // Delivered ones never grow: later foreign changes come under a number of their own.
    foreign.execute_batch("INSERT INTO t VALUES(4, 4)").unwrap();
    assert_eq!(followed.check(), 1);
    foreign.execute_batch("INSERT INTO t VALUES(5, 5); INSERT INTO t VALUES(6, 6)").unwrap();
    assert_eq!(followed.check(), 1, "two in a row are delivered as one");
    let lsns: Vec<u64> = followed.delivered.iter().map(|transaction| transaction.lsn.0).collect();
    assert_eq!(lsns, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_snapshot_between_foreign_transactions_loses_none() {
    let (mut followed, foreign) = followed();
    foreign.execute_batch("INSERT INTO t VALUES(2, 2)").unwrap();
    let snapshot = Snapshot::begin(&followed.source, 2, &Clock::monotonic()).unwrap();
    assert_eq!(snapshot.position(), Lsn(2));
    let at_snapshot = truth(&followed.source);
    foreign.execute_batch("INSERT INTO t VALUES(3, 3)").unwrap();
    let mut capture = TriggerCapture::resume(&followed.source, snapshot.position()).unwrap();
    let mut out = Vec::new();
    capture.poll(10, &mut out).unwrap();
    assert_eq!(out.iter().map(|transaction| transaction.lsn.0).collect::<Vec<_>>(), [3]);
    followed.replay.tables = at_snapshot;
    followed.replay.apply(&followed.source, &out[0]);
    assert_eq!(followed.replay.tables, truth(&followed.source));
}
