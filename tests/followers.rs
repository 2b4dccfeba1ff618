//! Three sinks that follow one source: each at its own pace, each in commit order, each equal to the ledger.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use freshbench::clock::Clock;
use freshbench::model::{Catalog, Column, ColumnType, Key, Lsn, Moment, TableId, TableSchema, Value, ValueRef};
use freshbench::sink::{Lookup, SinkKind};
use freshbench::source::{Client, Driver, Outcome, SourceOptions, SqliteSource};
use freshbench::strategy::{self, Running, Setting, SinkReaders, StrategyKind};
use freshbench::transform::TransformSet;
use freshbench::workload::{Assign, Overrides, PlannedTxn, Statement, TxnIndex, Workload};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::assert_equal;

const PATIENCE: Duration = Duration::from_secs(60);

fn setting(workload: &Workload, folder: &Path) -> Setting {
    let source = SqliteSource::create(&folder.join("source.db"), workload.catalog(), SourceOptions::default()).unwrap();
    source.load(workload, &mut |_| {}).unwrap();
    let transforms = TransformSet::compile(workload.catalog(), workload.transforms()).unwrap();
    let setting = Setting::new(&source, transforms, folder, &Clock::monotonic()).unwrap();
    let cursor_columns = workload.catalog().iter().map(|(table, _)| workload.cursor_column(table)).collect();
    Setting { cursor_columns, batch_interval: Duration::from_millis(200), ..setting }
}

fn small(duration: Duration) -> Workload {
    let overrides =
        Overrides { rows: Some(400), rate_per_s: Some(1000.0), duration: Some(duration), ..Overrides::default() };
    Workload::load("orders", &overrides).unwrap()
}

/// Runs the workload as fast as two clients can, with what the strategy has them do besides.
fn run(setting: &Setting, workload: &Workload, running: &Running) -> Vec<(Lsn, TxnIndex)> {
    let (by_hand, workload) = (Clock::by_hand(), Arc::new(workload.clone()));
    let until = workload.settings().duration;
    let mut application = |client| running.application(client);
    let driver =
        Driver::start_with(&setting.source, &workload, 2, &by_hand, Moment::ORIGIN, until, &mut application).unwrap();
    let ledger = driver.join().unwrap();
    ledger.commits().map(|(lsn, entry)| (lsn, entry.txn)).collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn start(kind: StrategyKind, setting: &Setting) -> Running {
    strategy::start(kind, setting).unwrap().expect("a strategy that follows")
}

#[test]
fn every_strategy_that_promises_equality_keeps_it_at_all_three_sinks() {
    let kinds =
        [StrategyKind::FullRefresh, StrategyKind::CdcTrigger, StrategyKind::DualWriteVersioned, StrategyKind::Outbox];
    for kind in kinds {
        assert!(kind.promises_equality(0.0));
        let folder = tempfile::tempdir().unwrap();
        let workload = small(Duration::from_millis(500));
        let setting = setting(&workload, folder.path());
        let running = start(kind, &setting);
        let commits = run(&setting, &workload, &running);
        let goal = setting.source.write_marker().unwrap().log;
        assert!(running.drain(goal, &setting.clock, PATIENCE), "{} did not drain", kind.name());
        let readers = running.readers().clone();
        running.finish().unwrap();
        assert_equal(&workload, &commits, |_| goal, &readers, kind.name());
    }
}

#[test]
fn a_paused_sink_holds_up_no_other_and_catches_up() {
    for paused in SinkKind::ALL {
        let folder = tempfile::tempdir().unwrap();
        let workload = small(Duration::from_millis(500));
        let setting = setting(&workload, folder.path());
        let running = start(StrategyKind::CdcTrigger, &setting);
        running.hold(paused, true);
        // What the sink is in the middle of may still come through: after this nothing does.
        std::thread::sleep(Duration::from_millis(250));
        let before = running.visible(paused);
        let commits = run(&setting, &workload, &running);
        let goal = setting.source.write_marker().unwrap().log;
        let others: Vec<SinkKind> = SinkKind::ALL.into_iter().filter(|&kind| kind != paused).collect();
        until("the other sinks", || others.iter().all(|&kind| running.visible(kind) >= goal));
        assert_eq!(running.visible(paused), before, "{} is not paused", paused.name());
        let mut readers = running.readers().clone();
        match paused {
            SinkKind::Warehouse => readers.warehouse = None,
            SinkKind::Search => readers.search = None,
            SinkKind::Cache => readers.cache = None,
        }
        assert_equal(&workload, &commits, |_| goal, &readers, "the others");
        running.hold(paused, false);
        assert!(running.drain(goal, &setting.clock, PATIENCE), "{} did not catch up", paused.name());
        let readers = running.readers().clone();
        running.finish().unwrap();
        assert_equal(&workload, &commits, |_| goal, &readers, "all");
    }
}

const REGISTERS: TableId = TableId(0);
const KEYS: i64 = 8;

fn number(row: Option<Vec<Value>>) -> u64 {
    match row.expect("the row is there").into_iter().last() {
        Some(Value::Text(text)) => text.parse().expect("a number"),
        other => panic!("{other:?} is no number"),
    }
}

/// Reads every key at every sink until told to stop; panics when a key's number is less than it was.
fn watch(readers: &SinkReaders, stop: &AtomicBool) -> u64 {
    let mut reads = 0;
    let mut seen = vec![[0u64; 3]; KEYS as usize];
    while !stop.load(Ordering::Relaxed) {
        for id in 0..KEYS {
            let key = Key::from_values(&[ValueRef::Int(id)]).unwrap();
            let key = key.as_ref();
            let found = [
                number(readers.warehouse.as_ref().unwrap().version().get(REGISTERS, key).unwrap()),
                number(readers.search.as_ref().unwrap().view().row(REGISTERS, key).unwrap()),
                match readers.cache.as_ref().unwrap().get(REGISTERS, key).unwrap() {
                    Lookup::Hit { row, .. } => number(row),
                    Lookup::Miss => panic!("key {id} is not in the cache"),
                },
            ];
            for (sink, (before, now)) in SinkKind::ALL.iter().zip(seen[id as usize].iter_mut().zip(found)) {
                assert!(*before <= now, "{}: key {id} went back from {before} to {now}", sink.name());
                *before = now;
            }
            reads += 1;
        }
    }
    reads
}

#[test]
fn no_keys_version_goes_back_at_any_sink() {
    let folder = tempfile::tempdir().unwrap();
    let columns = vec![Column::required("id", ColumnType::Int64), Column::required("n", ColumnType::Text)];
    let catalog = Catalog { tables: vec![TableSchema::new("registers", columns, vec![0]).unwrap()] };
    let source = SqliteSource::create(&folder.path().join("source.db"), &catalog, SourceOptions::default()).unwrap();
    let mut client = Client::connect(&source).unwrap();
    let txn = |index: u64, statements: Vec<Statement>| PlannedTxn {
        index: TxnIndex(index),
        kind: "set",
        lane: None,
        intended: Duration::ZERO,
        statements,
    };
    let row = |id: i64| vec![Value::Int(id), Value::text("0")];
    let inserts = (0..KEYS).map(|id| Statement::Insert { table: REGISTERS, row: row(id) }).collect();
    assert!(matches!(client.execute(&txn(0, inserts)), Outcome::Committed { .. }));
    let setting = Setting::new(&source, TransformSet::identity(&catalog), folder.path(), &Clock::monotonic()).unwrap();
    let setting = Setting { search_interval: Duration::from_millis(5), ..setting };
    let running = start(StrategyKind::CdcTrigger, &setting);
    let (readers, stop) = (running.readers().clone(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&readers, &stop));
        for n in 1..=1500u64 {
            let set = |id: i64| Statement::Update {
                table: REGISTERS,
                key: vec![Value::Int(id)],
                set: vec![(1, Assign::Set(Value::text(n.to_string())))],
            };
            let id = (n as i64 * 5) % KEYS;
            assert!(matches!(client.execute(&txn(n, vec![set(id)])), Outcome::Committed { .. }));
        }
        let goal = source.write_marker().unwrap();
        assert!(running.drain(goal, &setting.clock, PATIENCE));
        stop.store(true, Ordering::Relaxed);
        assert!(watcher.join().unwrap() > 100, "too few reads to prove anything");
    });
}
