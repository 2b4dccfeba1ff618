//! Keyed changes through the apply path, and reads of the warehouse they leave.
//!
//! `FRESHBENCH_BENCH_ROWS` sets the rows of the `orders` table (200,000 unless told, 2,000 at the least). Every case compares the table with
//! what its changes must have made of it, before it is timed and after. `cargo bench --bench apply -- --test` runs each
//! once, on a small table.
//!
//! * `apply/WHAT/CHANGES`: transactions of so many changes; each is appended to the log, made durable by an fsync, read
//!   back, folded, applied and published, and then the next begins: nothing overlaps. `.../CHANGES_without_log` is the
//!   same without the log, and `.../CHANGES_overlapped` works on two threads, as tailer and consumer do: the next transaction is
//!   appended and made durable while one is applied; each is still published alone. Making the transactions is not timed; merges
//!   beside the writer are, since each 256,000 changes end when all that they began has ended.
//! * `apply/single/1`: transactions of one change, 1,000 of them to an fsync and a publish. That is how the pipeline
//!   groups them: the tailer appends all that a poll found, with one fsync, and a consumer folds all that the log has
//!   ready. At a million changes a second, a poll each millisecond finds 1,000.
//! * `scan/STATE/ROWS`: two sums over all rows, of the table as a bulk load leaves it (`compacted`), after 1,000,000
//!   updates in batches of 1,000 (`after_updates`), and after updates of so many rows that a third of each loaded
//!   chunk is dead (`third_dead`). The updates go through the log: that is how fast they come, and merges keep up with them.
//! * `get/KEY/ROWS`: one row by its key, from memory.
//!
//! Beside criterion's figures, each apply case says its slowest batch and what the key index holds a row.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../allocator/mod.rs"]
mod allocator;
mod expected;
#[path = "../orders/mod.rs"]
mod orders;
mod pipeline;
#[path = "../rows/mod.rs"]
mod rows;

use criterion::{Bencher, Criterion, SamplingMode, Throughput};
use expected::{Work, Zipf};
use freshbench::model::{Key, Transaction};
use freshbench::sink::Warehouse;
use orders::{KeyKind, SUMS, TABLE};
use pipeline::Pipeline;
use rows::rows_asked;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Changes that are made ahead of being timed. Merges that they began are waited for within the time.
const CHANGES_AHEAD: u64 = 256_000;
const BATCHES_AHEAD_MIN: u64 = 20;
const SINGLE_GROUP: u64 = 1_000;
/// With fewer, one batch of 1,000 deletes would take more than half of the rows.
const ROWS_MIN: u64 = 2_000;

/// How the log takes part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Log,
    Overlapped,
    WithoutLog,
}

/// What is timed at once.
#[derive(Clone, Copy)]
struct Batches {
    work: Work,
    transactions: u64,
    changes_each: u64,
    way: Way,
}

impl Batches {
    fn of(work: Work, changes_each: u64) -> Batches {
        Batches { work, transactions: 1, changes_each, way: Way::Log }
    }

    fn changes(&self) -> u64 {
        self.transactions * self.changes_each
    }

    fn make(&self, pipeline: &mut Pipeline) -> Vec<Transaction> {
        (0..self.transactions).map(|_| pipeline.expected.transaction(self.work, self.changes_each)).collect()
    }

    /// Runs the batches; gives the longest time from one publish to the next.
    fn run(&self, pipeline: &mut Pipeline, made: &[Vec<Transaction>]) -> Duration {
        let (mut published, mut slowest) = (Instant::now(), Duration::ZERO);
        let mut note = || {
            slowest = slowest.max(published.elapsed());
            published = Instant::now();
        };
        match self.way {
            Way::Overlapped => pipeline.overlapped(made, note),
            Way::Log => made.iter().for_each(|transactions| {
                pipeline.through_log(transactions);
                note();
            }),
            Way::WithoutLog => made.iter().for_each(|transactions| {
                pipeline.without_log(transactions);
                note();
            }),
        }
        slowest
    }

    /// How many batches are made ahead at once. Deletes come back only after a round, and a round leaves half of the rows.
    fn ahead(&self, live: u64) -> u64 {
        let changes = match self.work {
            Work::Delete => CHANGES_AHEAD.min(live / 2),
            _ => CHANGES_AHEAD,
        };
        // Of few, a large part would be the first append and the last apply, which overlap with nothing.
        (changes / self.changes()).max(if self.way == Way::Overlapped { BATCHES_AHEAD_MIN } else { 1 })
    }

    /// Times `count` batches; also gives the slowest.
    fn time(&self, pipeline: &mut Pipeline, mut count: u64) -> (Duration, Duration) {
        let (mut total, mut slowest) = (Duration::ZERO, Duration::ZERO);
        while count > 0 {
            let now = count.min(self.ahead(pipeline.expected.live()));
            count -= now;
            let made: Vec<_> = (0..now).map(|_| self.make(pipeline)).collect();
            let started = Instant::now();
            let slow = self.run(pipeline, &made);
            pipeline.settle();
            total += started.elapsed();
            slowest = slowest.max(slow);
            if let Some(inserts) = pipeline.expected.revive() {
                pipeline.without_log(&[inserts]);
                pipeline.settle();
            }
        }
        (total, slowest)
    }
}

/// A table that is loaded when a case first needs it.
struct Table {
    kind: KeyKind,
    rows: u64,
    loaded: Option<Pipeline>,
}

impl Table {
    fn of(kind: KeyKind, rows: u64) -> Table {
        Table { kind, rows, loaded: None }
    }

    fn pipeline(&mut self) -> &mut Pipeline {
        self.loaded.get_or_insert_with(|| Pipeline::loaded(self.kind, self.rows))
    }
}

fn bench_apply(criterion: &mut Criterion, (group, id): (&str, &str), table: &mut Table, batches: Batches) {
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(batches.changes())).sampling_mode(SamplingMode::Flat);
    let (mut slowest, mut ran) = (Duration::ZERO, false);
    group.bench_function(id, |bencher: &mut Bencher| {
        let pipeline = table.pipeline();
        if !ran {
            batches.time(pipeline, 3);
            pipeline.check();
        }
        ran = true;
        bencher.iter_custom(|count| {
            let (total, slow) = batches.time(pipeline, count);
            slowest = slowest.max(slow);
            total
        });
    });
    group.finish();
    if ran {
        let pipeline = table.pipeline();
        pipeline.check();
        let index = pipeline.warehouse.storage().index_bytes as f64 / pipeline.expected.live() as f64;
        println!("    slowest batch {slowest:.1?}, index {index:.1} bytes a row, {}", state_of(&pipeline.warehouse));
    }
}

fn state_of(warehouse: &Warehouse) -> String {
    let storage = warehouse.storage();
    format!("{} live rows of {} in {} chunks", storage.rows_live, storage.rows_in_memory, storage.chunks)
}

fn bench_int_keys(criterion: &mut Criterion, rows: u64) {
    let table = &mut Table::of(KeyKind::Int, rows);
    let (uniform, zipf) = (Work::Uniform, Work::Zipf(Zipf::new(rows)));
    let thousand = |work| Batches::of(work, 1_000);
    let overlapped = |batches| Batches { way: Way::Overlapped, ..batches };
    let without_log = |batches| Batches { way: Way::WithoutLog, ..batches };
    bench_apply(criterion, ("apply/uniform", "1000"), table, thousand(uniform));
    bench_apply(criterion, ("apply/uniform", "1000_overlapped"), table, overlapped(thousand(uniform)));
    bench_apply(criterion, ("apply/uniform", "1000_without_log"), table, without_log(thousand(uniform)));
    bench_apply(criterion, ("apply/zipf", "1000"), table, thousand(zipf));
    bench_apply(criterion, ("apply/zipf", "1000_without_log"), table, without_log(thousand(zipf)));
    let large = |work| Batches::of(work, 50_000);
    bench_apply(criterion, ("apply/uniform", "50000"), table, large(uniform));
    bench_apply(criterion, ("apply/uniform", "50000_overlapped"), table, overlapped(large(uniform)));
    bench_apply(criterion, ("apply/uniform", "50000_without_log"), table, without_log(large(uniform)));
    bench_apply(criterion, ("apply/zipf", "50000"), table, large(zipf));
    bench_apply(criterion, ("apply/zipf", "50000_without_log"), table, without_log(large(zipf)));
    let single = Batches { work: uniform, transactions: SINGLE_GROUP, changes_each: 1, way: Way::Log };
    bench_apply(criterion, ("apply/single", "1"), table, single);
    bench_apply(criterion, ("apply/delete", "1000"), table, thousand(Work::Delete));
    bench_apply(criterion, ("apply/delete", "1000_overlapped"), table, overlapped(thousand(Work::Delete)));
    bench_apply(criterion, ("apply/insert", "1000"), table, thousand(Work::Insert));
    bench_apply(criterion, ("apply/insert", "1000_overlapped"), table, overlapped(thousand(Work::Insert)));
}

fn bench_scan(criterion: &mut Criterion, state: &str, rows: u64, updates: u64) {
    let name = format!("scan/{state}");
    let mut group = criterion.benchmark_group(&name);
    group.throughput(Throughput::Elements(rows));
    let mut pipeline = None;
    group.bench_function(rows.to_string(), |bencher: &mut Bencher| {
        let pipeline = pipeline.get_or_insert_with(|| {
            let mut pipeline = Pipeline::loaded(KeyKind::Int, rows);
            for _ in 0..updates / 1_000 {
                let transaction = pipeline.expected.transaction(Work::Uniform, 1_000);
                pipeline.through_log(&[transaction]);
            }
            pipeline.check();
            pipeline
        });
        let version = pipeline.warehouse.reader().version();
        bencher.iter(|| version.aggregate(TABLE, black_box(&SUMS)).expect("sums"));
    });
    group.finish();
    if let Some(mut pipeline) = pipeline {
        pipeline.check();
        println!("    {}", state_of(&pipeline.warehouse));
    }
}

fn bench_get(criterion: &mut Criterion, name: &str, table: &mut Table) {
    let mut group = criterion.benchmark_group(name);
    group.bench_function(table.rows.to_string(), |bencher: &mut Bencher| {
        let pipeline = table.pipeline();
        pipeline.check();
        let keys: Vec<Key> = (0..100_000).map(|_| pipeline.expected.any_key()).collect();
        let version = pipeline.warehouse.reader().version();
        let mut keys = keys.iter().cycle();
        bencher.iter(|| keys.next().map(|key| version.get(TABLE, key.as_ref()).expect("get").expect("the row")));
    });
    group.finish();
}

fn main() {
    let rows = rows_asked(200_000);
    assert!(
        rows >= ROWS_MIN,
        "FRESHBENCH_BENCH_ROWS={rows}: expected {ROWS_MIN} or more, of which a batch deletes 1,000"
    );
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .configure_from_args();
    bench_int_keys(&mut criterion, rows);
    for (kind, name) in [(KeyKind::Text, "text_key"), (KeyKind::Composite, "composite_key")] {
        let table = &mut Table::of(kind, rows);
        bench_apply(&mut criterion, (&format!("apply/{name}"), "1000"), table, Batches::of(Work::Uniform, 1_000));
        bench_get(&mut criterion, &format!("get/{name}"), table);
    }
    bench_get(&mut criterion, "get/int_key", &mut Table::of(KeyKind::Int, rows));
    for (state, updates) in [("compacted", 0), ("third_dead", rows * 2 / 5), ("after_updates", 1_000_000)] {
        bench_scan(&mut criterion, state, rows, updates);
    }
    criterion.final_summary();
}
