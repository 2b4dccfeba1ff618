use crate::log::{Log, LogOptions, Offset};
use crate::model::{CommitTime, Lsn, TableId, Transaction, ValueRef};

#[test]
fn transactions_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, recovery) = Log::open(folder.path(), LogOptions::default()).unwrap();
    assert_eq!((recovery.next, recovery.torn_bytes, recovery.epoch), (Offset(0), 0, 1));
    let mut sent = Transaction { lsn: Lsn(7), committed_at: CommitTime(-3), ..Transaction::default() };
    sent.changes.push_insert(TableId(0), [ValueRef::Int(1), ValueRef::Text("x")]).unwrap();
    assert_eq!(log.append_transaction(&sent).unwrap(), Offset(0));
    let mut reader = log.reader(Offset(0)).unwrap();
    assert_eq!(reader.next_transaction().unwrap(), None);
    assert_eq!(log.sync().unwrap(), Offset(1));
    assert_eq!(reader.next_transaction().unwrap(), Some((Offset(0), sent.clone())));
    assert_eq!(reader.next_transaction().unwrap(), None);
    drop(log);
    let (log, recovery) = Log::open(folder.path(), LogOptions::default()).unwrap();
    assert_eq!((recovery.next, recovery.last_lsn, recovery.epoch), (Offset(1), Some(Lsn(7)), 2));
    let mut reader = log.reader(Offset(0)).unwrap();
    assert_eq!(reader.next_transaction().unwrap(), Some((Offset(0), sent)));
}
