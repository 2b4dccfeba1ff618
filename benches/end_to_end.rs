//! From the first commit to the last one visible: transactions of the orders workload, executed by one client as fast as
//! it can, through triggers, changelog, log and applier into the warehouse. Elements are changes.
//!
//! The source runs without fsync, so that the pipeline is measured and not the source's disk; log and warehouse are
//! as durable as ever. Source and warehouse are compared with the replayed stream, row by row, before anything is timed.
//! `cargo bench --bench end_to_end -- --test` runs once, small.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod allocator;

use criterion::{BenchmarkId, Criterion, Throughput};
use freshbench::clock::Clock;
use freshbench::model::{Lsn, Moment, Value};
use freshbench::oracle::{Replay, Shape, diff};
use freshbench::sink::SinkKind;
use freshbench::sink::warehouse::{Version, WarehouseError, row_values};
use freshbench::source::{Durability, Ledger, Outcome, SourceOptions, SqliteSource, drive};
use freshbench::strategy::{self, Setting, StrategyKind};
use freshbench::transform::TransformSet;
use freshbench::workload::{Overrides, TxnIndex, Workload};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    workload: Workload,
    base: SqliteSource,
    sinks: Vec<SinkKind>,
    /// Transactions intended before this are run.
    until: Duration,
}

impl Bench {
    fn setting(&self, source: &SqliteSource, folder: &Path) -> Setting {
        let transforms = TransformSet::compile(self.workload.catalog(), self.workload.transforms()).unwrap();
        let setting = Setting::new(source, transforms, folder, &Clock::monotonic()).unwrap();
        Setting { sinks: self.sinks.clone(), ..setting }
    }

    /// One run on a copy of the source; `look` sees the ledger and the warehouse at its end.
    fn once(&self, look: impl FnOnce(&SqliteSource, &Ledger, &Version)) -> Duration {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let source = self.base.copy_to(&folder.path().join("source.db")).unwrap();
        let setting = self.setting(&source, folder.path());
        let running = strategy::start(StrategyKind::CdcTrigger, &setting).unwrap().expect("a strategy that follows");
        // A clock that nobody moves: the client never waits for an intended start.
        let (by_hand, stop) = (Clock::by_hand(), AtomicBool::new(false));
        let begun = Instant::now();
        let ledger = drive(&setting.source, &self.workload, 1, &by_hand, Moment::ORIGIN, &stop, self.until).unwrap();
        let reached = running.drain(ledger.last_lsn(), &setting.clock, PATIENCE);
        let took = begun.elapsed();
        let reader = running.readers().warehouse.clone().unwrap();
        running.finish().unwrap();
        assert!(reached, "the warehouse did not reach commit {}", ledger.last_lsn());
        look(&source, &ledger, &reader.version());
        took
    }

    /// Panics unless source and warehouse hold, row by row, what the acknowledged transactions make of the tables.
    fn check(&self, source: &SqliteSource, ledger: &Ledger, version: &Version) {
        let commits: Vec<(Lsn, TxnIndex)> = ledger.commits().map(|(lsn, entry)| (lsn, entry.txn)).collect();
        let mut replay = Replay::of_workload(&self.workload, &commits).unwrap();
        replay.advance(ledger.last_lsn(), &mut |_| {}).unwrap();
        let shape = Shape::new(self.workload.catalog(), self.workload.transforms());
        for (table, _) in self.workload.catalog().iter() {
            let expected = replay.state().table(table).unwrap();
            let mut rows: Vec<Vec<Value>> = Vec::new();
            let mut each = |row: &[freshbench::model::ValueRef<'_>]| {
                rows.push(row.iter().filter_map(|value| value.to_value()).collect());
                Ok::<_, freshbench::source::SourceError>(())
            };
            source.rows(table, &mut each).unwrap();
            let found = diff(expected, || rows.iter().cloned().map(Ok::<_, WarehouseError>)).unwrap();
            assert!(found.is_equal(), "the source: {found:?}");
            let expected = shape.apply(table, expected).unwrap();
            let rows: Vec<Vec<Value>> = version
                .scan(table, None, None)
                .map(Result::unwrap)
                .flat_map(|batch| (0..batch.num_rows()).map(|row| row_values(&batch, row)).collect::<Vec<_>>())
                .collect();
            assert_eq!(rows.len(), expected.rows.len());
            let found = diff(&expected, || rows.iter().cloned().map(Ok::<_, WarehouseError>)).unwrap();
            assert!(found.is_equal(), "the warehouse: {found:?}");
        }
    }
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let (rows, txns) = if quick { (500, 200) } else { (20_000, 5_000) };
    let overrides = Overrides { rows: Some(rows), rate_per_s: Some(1000.0), ..Overrides::default() };
    let workload = Workload::load("orders", &overrides).unwrap();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = SourceOptions { durability: Durability::Off, ..SourceOptions::default() };
    let base = SqliteSource::create(&folder.path().join("base.db"), workload.catalog(), options).unwrap();
    base.load(&workload, &mut |_| {}).unwrap();
    let until = workload.stream().nth(txns).unwrap().intended;
    let sinks = vec![SinkKind::Warehouse];
    let bench = Bench { workload, base, sinks, until };
    let mut changes = 0;
    bench.once(|source, ledger, version| {
        assert_eq!(ledger.entries().len(), txns);
        bench.check(source, ledger, version);
        let of = |outcome: &Outcome| if let Outcome::Committed { changes, .. } = outcome { *changes } else { 0 };
        changes = ledger.commits().map(|(_, entry)| u64::from(of(&entry.outcome))).sum();
    });
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let mut group = criterion.benchmark_group("end_to_end/cdc-trigger");
    group.throughput(Throughput::Elements(changes));
    group.bench_function(BenchmarkId::from_parameter(txns), |bencher| {
        bencher.iter_custom(|count| (0..count).map(|_| bench.once(|_, _, _| {})).sum());
    });
    group.finish();
    criterion.final_summary();
}
