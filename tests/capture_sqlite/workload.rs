//! The driver's clients, and captures that run beside them.

use crate::follow::{Replay, Rows, truth};
use freshbench::capture::{CaptureError, Snapshot, TriggerCapture};
use freshbench::clock::Clock;
use freshbench::model::{Lsn, Moment, TableId, Transaction, Value};
use freshbench::source::{Application, Driver, Durability, Outcome, SourceOptions, SqliteSource, drive};
use freshbench::workload::{ClientId, Overrides, PlannedTxn, TxnIndex, Workload};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

fn loaded(name: &str, rows: u64) -> (TempDir, Arc<Workload>, SqliteSource) {
    let overrides = Overrides { rows: Some(rows), ..Overrides::default() };
    let workload = Workload::load(name, &overrides).unwrap();
    let dir = TempDir::new().unwrap();
    let options = SourceOptions { durability: Durability::Off, ..SourceOptions::default() };
    let source = SqliteSource::create(&dir.path().join("record.db"), workload.catalog(), options).unwrap();
    let mut heard = 0;
    let count = source.load(&workload, &mut |rows| heard = rows).unwrap();
    let expected: u64 = workload.catalog().iter().map(|(id, _)| workload.initial_row_count(id)).sum();
    assert_eq!((count, heard), (expected, expected));
    (dir, Arc::new(workload), source)
}

fn initial(workload: &Workload) -> Vec<Rows> {
    let rows = |(id, schema): (TableId, &freshbench::model::TableSchema)| {
        workload
            .initial_rows(id)
            .map(|row| (schema.key.iter().map(|&column| row[column].clone()).collect(), row))
            .collect()
    };
    workload.catalog().iter().map(rows).collect()
}

fn collect(snapshot: &Snapshot, source: &SqliteSource, parts: usize) -> Vec<Rows> {
    let table = |(id, schema): (TableId, &freshbench::model::TableSchema)| {
        let mut rows = Rows::new();
        for (part, range) in snapshot.ranges(id, parts).unwrap().iter().enumerate() {
            let mut count = 0;
            let mut each = |values: &[freshbench::model::ValueRef<'_>]| {
                let row: Vec<Value> = values.iter().map(|value| value.to_value().unwrap()).collect();
                let key = schema.key.iter().map(|&column| row[column].clone()).collect();
                assert!(rows.insert(key, row).is_none(), "a row twice");
                count += 1;
                Ok::<_, CaptureError>(())
            };
            let read = snapshot.scan(part, id, range, &mut each).unwrap();
            assert_eq!(read, count);
        }
        rows
    };
    source.catalog().iter().map(table).collect()
}

/// The ledger against the database's own list of commits.
fn check_ledger(source: &SqliteSource, ledger: &freshbench::source::Ledger) {
    let connection = Connection::open(source.path()).unwrap();
    let mut statement =
        connection.prepare("SELECT lsn, txn FROM _freshbench_commit WHERE txn >= 0 ORDER BY lsn").unwrap();
    let durable: Vec<(u64, u64)> = statement
        .query_map([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let told: Vec<(u64, u64)> = ledger.commits().map(|(lsn, entry)| (lsn.0, entry.txn.0)).collect();
    assert_eq!(told, durable);
}

fn shared_work(clients: u32) {
    let (_dir, workload, source) = loaded("orders", 300);
    assert_eq!(truth(&source), initial(&workload));
    let start = TriggerCapture::setup(&source).unwrap();
    let until = Duration::from_millis(900);
    let (clock, stop) = (Clock::by_hand(), AtomicBool::new(false));
    let ledger = drive(&source, &workload, clients, &clock, Moment::ORIGIN, &stop, until).unwrap();
    let offered: Vec<PlannedTxn> = workload.stream().take_while(|txn| txn.intended < until).collect();
    assert!(offered.len() > 300);
    assert_eq!(ledger.entries().len(), offered.len());
    for (entry, txn) in ledger.entries().iter().zip(&offered) {
        assert_eq!((entry.txn, entry.client), (txn.index, txn.client(clients)));
        assert_eq!(entry.intended, Moment::ORIGIN.after(txn.intended));
        assert!(matches!(entry.outcome, Outcome::Committed { .. }), "{entry:?}");
    }
    check_ledger(&source, &ledger);
    let mut transactions = Vec::new();
    let mut capture = TriggerCapture::resume(&source, start).unwrap();
    capture.poll(u64::MAX, &mut transactions).unwrap();
    assert_eq!(transactions.len(), ledger.commits().len());
    let mut replay = Replay { tables: initial(&workload), strict: true };
    for (transaction, (lsn, entry)) in transactions.iter().zip(ledger.commits()) {
        assert_eq!(transaction.lsn, lsn);
        let Outcome::Committed { changes, .. } = entry.outcome else { panic!("{entry:?}") };
        assert_eq!(transaction.changes.len(), changes as usize);
        replay.apply(&source, transaction);
    }
    assert_eq!(replay.tables, truth(&source));
}

#[test]
fn one_client_and_three_leave_what_the_ledger_says() {
    shared_work(1);
    shared_work(3);
}

#[test]
fn snapshots_and_polls_beside_the_writers_are_consistent() {
    let (_dir, workload, source) = loaded("orders", 200);
    TriggerCapture::setup(&source).unwrap();
    let clock = Clock::monotonic();
    let driver = Driver::start(&source, &workload, 3, &clock, clock.now(), Duration::from_secs(3600)).unwrap();
    let mut capture = TriggerCapture::resume(&source, Lsn::ZERO).unwrap();
    let mut transactions: Vec<Transaction> = Vec::new();
    let mut snapshots = Vec::new();
    while driver.progress().committed() < 300 {
        capture.poll(50, &mut transactions).unwrap();
        if snapshots.len() < 4 && driver.progress().committed() > 60 * snapshots.len() as u64 {
            let snapshot = Snapshot::begin(&source, 2, &clock).unwrap();
            snapshots.push((snapshot.position(), collect(&snapshot, &source, 3)));
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    driver.stop();
    let progress = Arc::clone(driver.progress());
    let ledger = driver.join().unwrap();
    assert_eq!(progress.last_lsn(), ledger.last_lsn());
    assert_eq!(progress.offered(), ledger.entries().len() as u64);
    check_ledger(&source, &ledger);
    while capture.poll(50, &mut transactions).unwrap().more {}
    assert_eq!(transactions.len(), ledger.commits().len());
    assert_eq!(source.last_lsn().unwrap(), ledger.last_lsn());
    let mut replay = Replay { tables: initial(&workload), strict: true };
    let mut states = BTreeMap::from([(Lsn::ZERO, replay.clone())]);
    for transaction in &transactions {
        replay.apply(&source, transaction);
        states.insert(transaction.lsn, replay.clone());
    }
    assert_eq!(replay.tables, truth(&source));
    assert_eq!(snapshots.len(), 4);
    for (position, tables) in snapshots {
        assert_eq!(states[&position].tables, tables, "snapshot at {position}");
    }
}

#[test]
fn a_copy_is_equal_and_goes_its_own_way() {
    let (dir, workload, source) = loaded("ycsb-a", 500);
    let copy = source.copy_to(&dir.path().join("copy.db")).unwrap();
    assert_eq!(truth(&copy), truth(&source));
    assert!(source.copy_to(copy.path()).is_err());
    let (clock, stop) = (Clock::by_hand(), AtomicBool::new(false));
    let until = Duration::from_millis(500);
    let first = drive(&source, &workload, 2, &clock, Moment::ORIGIN, &stop, until).unwrap();
    let second = drive(&copy, &workload, 1, &clock, Moment::ORIGIN, &stop, until).unwrap();
    assert!(first.counts().read > 0);
    assert_eq!(first.counts().committed, second.counts().committed);
    assert_eq!(second.commits().next().map(|(lsn, _)| lsn), Some(Lsn(1)));
    let reopened = SqliteSource::open(copy.path(), SourceOptions::default()).unwrap();
    assert_eq!(reopened.catalog(), workload.catalog());
    let mut keys = Vec::new();
    let mut each = |row: &[freshbench::model::ValueRef<'_>]| {
        keys.push(row[0].to_value().unwrap());
        Ok::<_, freshbench::source::SourceError>(())
    };
    let rows = reopened.rows(TableId(0), &mut each).unwrap();
    assert_eq!(rows, truth(&copy)[0].len() as u64);
    assert!(keys.is_sorted());
}

struct Count(Arc<AtomicU64>);

impl Application for Count {
    fn ended(&mut self, _: &PlannedTxn, outcome: &Outcome) {
        if matches!(outcome, Outcome::Committed { .. }) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn what_was_due_at_a_stop_is_counted_and_hooks_hear_every_commit() {
    let (_dir, workload, source) = loaded("orders", 100);
    let clock = Clock::monotonic();
    let heard = Arc::new(AtomicU64::new(0));
    let mut after = |_: ClientId| Some(Box::new(Count(Arc::clone(&heard))) as Box<dyn Application>);
    let (start, hour) = (clock.now(), Duration::from_secs(3600));
    let driver = Driver::start_with(&source, &workload, 2, &clock, start, hour, &mut after).unwrap();
    while driver.progress().committed() < 20 {
        std::thread::sleep(Duration::from_millis(1));
    }
    driver.stop();
    let ledger = driver.join().unwrap();
    let counts = ledger.counts();
    assert_eq!(heard.load(Ordering::Relaxed), counts.committed);
    let due = clock.now().since(start);
    let offered = workload.stream().take_while(|txn| txn.intended <= due).count() as u64;
    assert!(ledger.entries().len() as u64 + counts.shed <= offered);
    // Each client ran its own share in order and left nothing out before its last.
    for client in 0..2 {
        let ran: Vec<TxnIndex> =
            ledger.entries().iter().filter(|entry| entry.client == ClientId(client)).map(|entry| entry.txn).collect();
        let share = workload.stream().filter(|txn| txn.client(2) == ClientId(client)).map(|txn| txn.index);
        assert_eq!(ran, share.take(ran.len()).collect::<Vec<_>>());
    }
}
