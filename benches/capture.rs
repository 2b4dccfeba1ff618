//! What the record system and the captures take. Every answer is checked before it is timed.
//!
//! `cargo bench --bench capture` measures; `cargo bench --bench capture -- --test` runs each once, small.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod allocator;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use freshbench::capture::{CaptureError, CursorCapture, Snapshot, TriggerCapture};
use freshbench::clock::Clock;
use freshbench::model::{Lsn, Moment, TableId, ValueRef};
use freshbench::source::{ClientLog, Durability, LedgerEntry, Outcome, SourceOptions, SqliteSource, drive};
use freshbench::workload::{ClientId, Overrides, TxnIndex, Workload};
use std::hint::black_box;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TABLE: TableId = TableId(0);

fn smoke() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

fn scaled(full: u64) -> u64 {
    if smoke() { full / 100 } else { full }
}

fn workload(name: &str, rows: u64) -> Workload {
    let overrides = Overrides { rows: Some(rows), rate_per_s: Some(1000.0), ..Overrides::default() };
    Workload::load(name, &overrides).unwrap()
}

fn loaded(workload: &Workload, durability: Durability) -> (TempDir, SqliteSource) {
    let dir = TempDir::new().unwrap();
    let options = SourceOptions { durability, ..SourceOptions::default() };
    let source = SqliteSource::create(&dir.path().join("record.db"), workload.catalog(), options).unwrap();
    source.load(workload, &mut |_| {}).unwrap();
    (dir, source)
}

fn columns(workload: &Workload) -> Vec<usize> {
    workload.catalog().iter().map(|(id, _)| workload.cursor_column(id)).collect()
}

fn bench_load(c: &mut Criterion) {
    let mut group = c.benchmark_group("source/load");
    let rows = scaled(100_000);
    let workload = workload("ycsb-a", rows);
    group.throughput(Throughput::Elements(rows)).sample_size(10);
    group.bench_function(BenchmarkId::from_parameter(rows), |b| {
        b.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            for _ in 0..count {
                let dir = TempDir::new().unwrap();
                let path = dir.path().join("record.db");
                let source = SqliteSource::create(&path, workload.catalog(), SourceOptions::default()).unwrap();
                let begun = Instant::now();
                assert_eq!(source.load(&workload, &mut |_| {}).unwrap(), rows);
                spent += begun.elapsed();
            }
            spent
        });
    });
    let (dir, source) = loaded(&workload, Durability::Full);
    let mut number = 0;
    group.bench_function(BenchmarkId::new("copy", rows), |b| {
        b.iter(|| {
            number += 1;
            source.copy_to(&dir.path().join(format!("{number}.db"))).unwrap()
        });
    });
}

fn bench_commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("source/commit");
    // One iteration a sample: before each a database is loaded, which takes longer than what is timed.
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let workload = workload("orders", scaled(20_000));
    for (name, durability) in [("full", Durability::Full), ("off", Durability::Off)] {
        for clients in [1, 4] {
            // A second of offered load, as fast as the clients can.
            let until = Duration::from_millis(scaled(1000));
            let txns = workload.stream().take_while(|txn| txn.intended < until).count() as u64;
            group.throughput(Throughput::Elements(txns));
            group.bench_function(BenchmarkId::new(name, clients), |b| {
                b.iter_custom(|count| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..count {
                        let (_dir, source) = loaded(&workload, durability);
                        let (clock, stop) = (Clock::by_hand(), AtomicBool::new(false));
                        let begun = Instant::now();
                        let ledger = drive(&source, &workload, clients, &clock, Moment::ORIGIN, &stop, until).unwrap();
                        spent += begun.elapsed();
                        assert_eq!(ledger.commits().len() as u64, txns);
                    }
                    spent
                });
            });
        }
    }
}

fn bench_ledger(c: &mut Criterion) {
    let mut group = c.benchmark_group("source/ledger");
    let entries = scaled(1_000_000);
    group.throughput(Throughput::Elements(entries));
    group.bench_function(BenchmarkId::new("push", entries), |b| {
        b.iter(|| {
            let mut log = ClientLog::default();
            for txn in 0..entries {
                let outcome = black_box(Outcome::Committed { lsn: Lsn(txn), changes: 3 });
                let moment = Moment::from_nanos(txn);
                let (intended, started, acknowledged) = (moment, moment, moment);
                let (txn, client) = (TxnIndex(txn), ClientId(1));
                log.entries.push(LedgerEntry { txn, client, intended, started, acknowledged, outcome });
            }
            log.entries.len()
        });
    });
}

/// Reads the whole table with as many threads as there are readers; the count and the sum of the bytes of text.
fn read_all(source: &SqliteSource, readers: usize) -> (u64, u64) {
    let snapshot = Snapshot::begin(source, readers, &Clock::monotonic()).unwrap();
    let ranges = snapshot.ranges(TABLE, readers).unwrap();
    std::thread::scope(|scope| {
        let (snapshot, mut threads) = (&snapshot, Vec::new());
        for (reader, range) in ranges.iter().enumerate() {
            threads.push(scope.spawn(move || {
                let mut bytes = 0;
                let mut each = |row: &[ValueRef<'_>]| {
                    bytes +=
                        row.iter().map(|v| if let ValueRef::Text(t) = v { t.len() as u64 } else { 0 }).sum::<u64>();
                    Ok::<_, CaptureError>(())
                };
                (snapshot.scan(reader, TABLE, range, &mut each).unwrap(), bytes)
            }));
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    })
}

fn bench_snapshot(c: &mut Criterion) {
    let mut group = c.benchmark_group("capture/snapshot");
    group.sample_size(10);
    let rows = scaled(200_000);
    let workload = workload("ycsb-a", rows);
    let (_dir, source) = loaded(&workload, Durability::Full);
    group.throughput(Throughput::Elements(rows));
    let mut bytes = 0;
    for row in workload.initial_rows(TABLE) {
        bytes += row.iter().map(|v| if let ValueRef::Text(t) = v.as_ref() { t.len() as u64 } else { 0 }).sum::<u64>();
    }
    for readers in [1, 2] {
        assert_eq!(read_all(&source, readers), (rows, bytes));
        let name = if readers == 1 { "1-reader" } else { "2-readers" };
        group.bench_function(BenchmarkId::new(name, rows), |b| b.iter(|| read_all(&source, readers)));
    }
}

fn bench_trigger(c: &mut Criterion) {
    let mut group = c.benchmark_group("capture/trigger");
    group.sample_size(10);
    let workload = workload("orders", scaled(20_000));
    let (_dir, source) = loaded(&workload, Durability::Off);
    let start = TriggerCapture::setup(&source).unwrap();
    let until = Duration::from_millis(scaled(20_000));
    let (clock, stop) = (Clock::by_hand(), AtomicBool::new(false));
    let ledger = drive(&source, &workload, 1, &clock, Moment::ORIGIN, &stop, until).unwrap();
    let changes: u64 = ledger
        .commits()
        .map(|(_, entry)| if let Outcome::Committed { changes, .. } = entry.outcome { u64::from(changes) } else { 0 })
        .sum();
    group.throughput(Throughput::Elements(changes));
    group.bench_function(BenchmarkId::new("poll", changes), |b| {
        b.iter(|| {
            let mut capture = TriggerCapture::resume(&source, start).unwrap();
            let (mut total, mut out) = (0, Vec::new());
            loop {
                out.clear();
                let polled = capture.poll(4096, &mut out).unwrap();
                total += polled.changes;
                if !polled.more {
                    break;
                }
            }
            assert_eq!(total, changes);
        });
    });
    let mut idle = TriggerCapture::resume(&source, ledger.last_lsn()).unwrap();
    let mut out = Vec::new();
    idle.poll(1, &mut out).unwrap();
    group.throughput(Throughput::Elements(1));
    group.bench_function("idle-poll", |b| b.iter(|| idle.poll(4096, &mut out).unwrap()));
}

fn bench_cursor(c: &mut Criterion) {
    let mut group = c.benchmark_group("capture/cursor");
    group.sample_size(10);
    let rows = scaled(100_000);
    let workload = workload("ycsb-a", rows);
    let (_dir, source) = loaded(&workload, Durability::Full);
    let columns = columns(&workload);
    CursorCapture::setup(&source, &columns).unwrap();
    let clock = Clock::monotonic();
    group.throughput(Throughput::Elements(rows));
    group.bench_function(BenchmarkId::from_parameter(rows), |b| {
        b.iter(|| {
            let mut cursor = CursorCapture::begin(&source, &columns, &clock).unwrap();
            let batch = cursor.poll(&mut |_, row| {
                black_box(row);
                Ok::<_, CaptureError>(())
            });
            assert_eq!(batch.unwrap().rows, rows);
        });
    });
}

/// Shorter than criterion's own times, so that all benches together take minutes.
fn short() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3))
}

criterion_group! {
    name = source;
    config = short();
    targets = bench_load, bench_commit, bench_ledger
}
criterion_group! {
    name = capture;
    config = short();
    targets = bench_snapshot, bench_trigger, bench_cursor
}
criterion_main!(source, capture);
