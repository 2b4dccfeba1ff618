//! Bulk loads of batches that are in memory already, two threads writing. Keyed changes and reads are in `benches/apply`.
//!
//! `FRESHBENCH_BENCH_ROWS` sets the rows of the table (200,000 unless told). The answer is checked before it is timed.
//! `cargo bench --bench warehouse -- --test` runs it once, on a small table.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing)]

mod allocator;
#[path = "orders/mod.rs"]
mod orders;
#[path = "rows/mod.rs"]
mod rows;

use arrow_array::RecordBatch;
use criterion::{Criterion, Throughput};
use freshbench::model::Lsn;
use freshbench::sink::{Warehouse, WarehouseOptions};
use orders::{KeyKind, Orders, SUMS, TABLE, catalog, measures};
use rows::rows_asked;
use std::time::Duration;

fn bench_bulk_load(criterion: &mut Criterion, rows: u64) {
    let mut batches: Vec<RecordBatch> = Vec::new();
    Orders::new(KeyKind::Int).batches(rows, |batch| batches.push(batch));
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let options = WarehouseOptions::default();
    let mut warehouse = Warehouse::create(folder.path(), &catalog(KeyKind::Int), options).expect("a warehouse");
    let load = |warehouse: &mut Warehouse, round: u64| {
        use rayon::prelude::*;
        let load = warehouse.bulk();
        batches.par_chunks(16).for_each(|part| {
            part.iter().for_each(|batch| load.write(TABLE, batch.clone()).expect("write"));
        });
        load.publish(warehouse, Lsn(round)).expect("publish").rows
    };
    assert_eq!(load(&mut warehouse, 1), rows);
    let sums = warehouse.reader().version().aggregate(TABLE, &SUMS).expect("sums");
    let sum = |at: usize| Some((0..rows).map(|id| i128::from(measures(id, 0)[at])).sum::<i128>());
    assert_eq!(sums, [sum(0), sum(1)]);
    let mut round = 1;
    let mut group = criterion.benchmark_group("bulk_load/memory");
    group.throughput(Throughput::Elements(rows)).sample_size(10);
    group.bench_function(rows.to_string(), |bencher| {
        bencher.iter(|| {
            round += 1;
            load(&mut warehouse, round)
        });
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .configure_from_args();
    bench_bulk_load(&mut criterion, rows_asked(200_000));
    criterion.final_summary();
}
