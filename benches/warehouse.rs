//! The warehouse: keyed updates, scans and bulk loads.
//!
//! `FRESHBENCH_BENCH_ROWS` sets the rows of the table (200,000 unless told). Each case checks its answer before it
//! is timed. `cargo bench --bench warehouse -- --test` runs each once, on a small table.

#![allow(missing_docs, clippy::expect_used)]

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use criterion::{BatchSize, Criterion, Throughput};
use freshbench::apply::edits::{EditSet, TableEdits};
use freshbench::model::{Catalog, Column, ColumnType, KeyColumn, KeyRef, Lsn, TableId, TableSchema, Value};
use freshbench::sink::warehouse::Aggregate;
use freshbench::sink::{Sink, Warehouse, WarehouseOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TABLE: TableId = TableId(0);
const AMOUNT: usize = 3;
const QUANTITY: usize = 4;
const SUMS: [Aggregate; 2] = [Aggregate::Sum(AMOUNT), Aggregate::Sum(QUANTITY)];
const STATUS: [&str; 4] = ["placed", "paid", "shipped", "cancelled"];
const BASE_US: i64 = 1_700_000_000_000_000;

fn catalog() -> Catalog {
    let column = |name, column_type| Column::required(name, column_type);
    let columns = vec![
        column("id", ColumnType::Int64),
        column("customer_id", ColumnType::Int64),
        column("status", ColumnType::Text),
        column("amount", ColumnType::Int64),
        column("quantity", ColumnType::Int64),
        column("note", ColumnType::Text),
        column("created_at", ColumnType::Timestamp),
        column("updated_at", ColumnType::Timestamp),
    ];
    Catalog { tables: vec![TableSchema::new("orders", columns, vec![0]).expect("a schema")] }
}

fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Rows with these ids as of `round`.
fn batch(ids: &[i64], round: u64) -> RecordBatch {
    let value = |id: i64, salt: u64| mix(id as u64 ^ (round << 32) ^ (salt << 56));
    let ints = |salt: u64, modulus: u64| -> ArrayRef {
        Arc::new(ids.iter().map(|&id| (value(id, salt) % modulus) as i64).collect::<Int64Array>())
    };
    let times = |salt: u64| -> ArrayRef {
        let times = ids.iter().map(|&id| BASE_US + (value(id, salt) % 1_000_000_000) as i64);
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let status: StringArray = ids.iter().map(|&id| Some(STATUS[value(id, 2) as usize % 4])).collect();
    let note: StringArray =
        ids.iter().map(|&id| Some(format!("{:016x}{:016x}", value(id, 5), value(id, 15)))).collect();
    let columns: [(&str, ArrayRef); 8] = [
        ("id", Arc::new(Int64Array::from(ids.to_vec()))),
        ("customer_id", ints(1, 100_000)),
        ("status", Arc::new(status)),
        ("amount", ints(3, 1_000_000)),
        ("quantity", ints(4, 100)),
        ("note", Arc::new(note)),
        ("created_at", times(6)),
        ("updated_at", times(7)),
    ];
    RecordBatch::try_from_iter(columns).expect("a batch")
}

fn group(ids: &[i64], round: u64) -> EditSet {
    let edits = TableEdits {
        table: TABLE,
        truncate: false,
        deletes: KeyColumn::Int(Vec::new()),
        upsert_keys: KeyColumn::Int(ids.to_vec()),
        upserts: batch(ids, round),
    };
    EditSet { through: Lsn(round), changes: ids.len() as u64, tables: vec![edits] }
}

fn loaded(dir: &Path, rows: i64) -> Warehouse {
    let mut warehouse = Warehouse::create(dir, &catalog(), WarehouseOptions::default()).expect("a warehouse");
    let load = warehouse.bulk();
    for first in (0..rows).step_by(8_192) {
        let ids: Vec<i64> = (first..rows.min(first + 8_192)).collect();
        load.write(TABLE, batch(&ids, 0)).expect("write");
    }
    load.publish(&mut warehouse, Lsn(0)).expect("publish");
    warehouse
}

/// Groups of distinct keys; `skew` draws them from a few hot ones most of the time.
fn groups(rows: i64, size: usize, skew: bool, count: u64, first_round: u64) -> Vec<EditSet> {
    let mut seed = first_round.wrapping_mul(0x1234_5678_9abc);
    (0..count)
        .map(|round| {
            let mut ids = std::collections::BTreeSet::new();
            let mut order = Vec::with_capacity(size);
            let mut draws = 0;
            while order.len() < size.min(rows as usize) && draws < size * 20 {
                draws += 1;
                seed = mix(seed);
                let uniform = (seed >> 11) as f64 / (1u64 << 53) as f64;
                // Zipf with exponent 1, by inversion of the continuous form: rank = rows^u.
                let rank = if skew { (rows as f64).powf(uniform) - 1.0 } else { uniform * rows as f64 };
                let id = (rank as i64).wrapping_mul(7_919) % rows;
                if ids.insert(id) {
                    order.push(id);
                }
            }
            group(&order, first_round + round)
        })
        .collect()
}

fn sums(warehouse: &Warehouse) -> [i128; 2] {
    let answer = warehouse.reader().version().aggregate(TABLE, &SUMS).expect("sums");
    [answer[0].unwrap_or_default(), answer[1].unwrap_or_default()]
}

/// Applies one small group and looks the rows up again.
fn check_apply(warehouse: &mut Warehouse, edits: &EditSet, rows: i64) {
    warehouse.apply(edits).expect("apply");
    warehouse.publish(edits.through).expect("publish");
    let version = warehouse.reader().version();
    assert_eq!(version.row_count(TABLE), rows as u64);
    let upserts = &edits.tables[0].upserts;
    let (ids, amounts) = (column(upserts, 0), column(upserts, AMOUNT));
    for row in 0..upserts.num_rows().min(100) {
        let found = version.get(TABLE, KeyRef::Int(ids[row])).expect("get").expect("the row");
        assert_eq!(found[AMOUNT], Value::Int(amounts[row]));
    }
}

fn column(batch: &RecordBatch, at: usize) -> &[i64] {
    batch.column(at).as_any().downcast_ref::<Int64Array>().expect("integers").values()
}

fn bench_apply(criterion: &mut Criterion, rows: i64, quick: bool) {
    for (name, size, skew) in [("uniform", 1_000, false), ("uniform", 50_000, false), ("zipf", 1_000, true)] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut warehouse = loaded(&folder.path().join("w"), rows);
        let first = groups(rows, size, skew, 1, 1);
        check_apply(&mut warehouse, &first[0], rows);
        let mut round = 1;
        let mut slowest = Duration::ZERO;
        let mut group = criterion.benchmark_group(format!("apply/{name}"));
        group.throughput(Throughput::Elements(first[0].changes));
        group.bench_function(size.to_string(), |bencher| {
            bencher.iter_batched(
                || {
                    round += 1;
                    groups(rows, size, skew, 1, round).remove(0)
                },
                |edits| {
                    let started = Instant::now();
                    warehouse.apply(&edits).expect("apply");
                    warehouse.publish(edits.through).expect("publish");
                    slowest = slowest.max(started.elapsed());
                    edits
                },
                BatchSize::PerIteration,
            );
        });
        group.finish();
        assert_eq!(warehouse.reader().version().row_count(TABLE), rows as u64);
        if !quick {
            eprintln!("slowest group of {round}: {slowest:?}; {:?}", warehouse.storage());
        }
    }
}

fn bench_scan(criterion: &mut Criterion, rows: i64, quick: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = loaded(&folder.path().join("w"), rows);
    let mut expected: Vec<(i64, i64)> = Vec::with_capacity(rows as usize);
    let all: Vec<i64> = (0..rows).collect();
    let first = batch(&all, 0);
    expected.extend(column(&first, AMOUNT).iter().copied().zip(column(&first, QUANTITY).iter().copied()));
    let compacted = format!("scan/compacted/{rows}");
    bench_sums(criterion, &compacted, &warehouse, &expected);
    for edits in groups(rows, 1_000, false, if quick { 3 } else { 500 }, 1) {
        warehouse.apply(&edits).expect("apply");
        warehouse.publish(edits.through).expect("publish");
        let upserts = &edits.tables[0].upserts;
        for (row, &id) in column(upserts, 0).iter().enumerate() {
            expected[id as usize] = (column(upserts, AMOUNT)[row], column(upserts, QUANTITY)[row]);
        }
    }
    bench_sums(criterion, &format!("scan/after_updates/{rows}"), &warehouse, &expected);
}

fn bench_sums(criterion: &mut Criterion, name: &str, warehouse: &Warehouse, expected: &[(i64, i64)]) {
    let total = |pick: fn(&(i64, i64)) -> i64| expected.iter().map(|row| i128::from(pick(row))).sum::<i128>();
    assert_eq!(sums(warehouse), [total(|row| row.0), total(|row| row.1)]);
    let (group_name, id) = name.rsplit_once('/').expect("a name with a slash");
    let mut group = criterion.benchmark_group(group_name);
    group.throughput(Throughput::Elements(expected.len() as u64));
    group.bench_function(id, |bencher| bencher.iter(|| sums(warehouse)));
    group.finish();
}

fn bench_bulk_load(criterion: &mut Criterion, rows: i64) {
    let batches: Vec<RecordBatch> =
        (0..rows).step_by(8_192).map(|first| batch(&(first..rows.min(first + 8_192)).collect::<Vec<_>>(), 0)).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = Warehouse::create(folder.path(), &catalog(), WarehouseOptions::default()).expect("a warehouse");
    let mut load = |round: u64| {
        use rayon::prelude::*;
        let load = warehouse.bulk();
        batches.par_chunks(16).for_each(|part| {
            part.iter().for_each(|batch| load.write(TABLE, batch.clone()).expect("write"));
        });
        load.publish(&mut warehouse, Lsn(round)).expect("publish").rows
    };
    assert_eq!(load(1), rows as u64);
    let mut round = 1;
    let mut group = criterion.benchmark_group("bulk_load/memory");
    group.throughput(Throughput::Elements(rows as u64)).sample_size(10);
    group.bench_function(rows.to_string(), |bencher| {
        bencher.iter_batched(
            || (),
            |()| {
                round += 1;
                load(round)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--test");
    let rows = std::env::var("FRESHBENCH_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok());
    let rows: i64 = rows.unwrap_or(if quick { 20_000 } else { 200_000 });
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .configure_from_args();
    bench_apply(&mut criterion, rows, quick);
    bench_scan(&mut criterion, rows, quick);
    bench_bulk_load(&mut criterion, rows);
    criterion.final_summary();
}
