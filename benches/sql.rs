//! SQL over the warehouse, beside the warehouse's own aggregates: what does the way through DataFusion cost?
//!
//! `FRESHBENCH_BENCH_ROWS` sets the rows of the table (200,000 unless told). Each case checks its answer before it
//! is timed. `cargo bench --features sql --bench sql -- --test` runs each once, on a small table.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

mod allocator;
#[path = "rows/mod.rs"]
mod rows;

use arrow_array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};
use criterion::{BenchmarkId, Criterion, Throughput};
use freshbench::apply::edits::{EditSet, TableEdits};
use freshbench::model::{Catalog, Column, ColumnType, KeyColumn, Lsn, TableId, TableSchema, Value};
use freshbench::sink::warehouse::sql::{SqlOptions, SqlSession};
use freshbench::sink::warehouse::{Aggregate, Comparison, Condition, Filter, Version};
use freshbench::sink::{Sink, Warehouse, WarehouseOptions};
use freshbench::stats::SplitMix64;
use rows::rows_asked;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

const TABLE: TableId = TableId(0);
const AMOUNT: usize = 3;
const QUANTITY: usize = 4;
const STATUS: [&str; 4] = ["placed", "paid", "shipped", "cancelled"];
const SUMS: &str = "SELECT sum(amount), sum(quantity) FROM orders";

fn catalog() -> Catalog {
    let int = |name| Column::required(name, ColumnType::Int64);
    let text = |name| Column::required(name, ColumnType::Text);
    let columns = vec![int("id"), int("customer_id"), text("status"), int("amount"), int("quantity"), text("note")];
    Catalog { tables: vec![TableSchema::new("orders", columns, vec![0]).expect("a schema")] }
}

fn mix(seed: u64) -> u64 {
    SplitMix64::new(seed).next_u64()
}

/// What the column with this salt is made of.
fn value(id: i64, round: u64, salt: u64) -> u64 {
    mix(id as u64 ^ (round << 32) ^ (salt << 56))
}

fn batch(ids: &[i64], round: u64) -> RecordBatch {
    let value = |id: i64, salt: u64| value(id, round, salt);
    let ints = |salt: u64, modulus: u64| -> ArrayRef {
        Arc::new(ids.iter().map(|&id| (value(id, salt) % modulus) as i64).collect::<Int64Array>())
    };
    let status: StringArray = ids.iter().map(|&id| Some(STATUS[value(id, 2) as usize % 4])).collect();
    let note: StringArray = ids.iter().map(|&id| Some(format!("{:016x}", value(id, 5)))).collect();
    let columns: [(&str, ArrayRef); 6] = [
        ("id", Arc::new(Int64Array::from(ids.to_vec()))),
        ("customer_id", ints(1, 100_000)),
        ("status", Arc::new(status)),
        ("amount", ints(3, 1_000_000)),
        ("quantity", ints(4, 100)),
        ("note", Arc::new(note)),
    ];
    RecordBatch::try_from_iter(columns).expect("a batch")
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

/// Replaces every tenth row, so that most batches have dead rows.
fn update(warehouse: &mut Warehouse, rows: i64) {
    for (round, first) in (0..rows).step_by(10_000).enumerate() {
        let ids: Vec<i64> = (first..rows.min(first + 10_000)).step_by(10).collect();
        let round = round as u64 + 1;
        let edits = TableEdits {
            table: TABLE,
            truncate: false,
            deletes: KeyColumn::Int(Vec::new()),
            upsert_keys: KeyColumn::Int(ids.clone()),
            upserts: batch(&ids, round),
        };
        let set = EditSet { through: Lsn(round), changes: ids.len() as u64, tables: vec![edits] };
        warehouse.apply(&set).expect("apply");
        warehouse.publish(Lsn(round)).expect("publish");
    }
}

/// The sums of both columns, by the rows' making alone; `updated` after [`update`].
fn made(rows: i64, updated: bool) -> Vec<Option<i128>> {
    let round = |id: i64| if updated && id % 10 == 0 { id as u64 / 10_000 + 1 } else { 0 };
    let sum = |salt, modulus| Some((0..rows).map(|id| i128::from(value(id, round(id), salt) % modulus)).sum::<i128>());
    vec![sum(3, 1_000_000), sum(4, 100)]
}

fn sums(version: &Version) -> Vec<Option<i128>> {
    version.aggregate(TABLE, &[Aggregate::Sum(AMOUNT), Aggregate::Sum(QUANTITY)]).expect("sums")
}

/// Sum and count of `amount` where the status is `paid`, by the warehouse's scan.
fn filtered(version: &Version) -> Vec<Option<i128>> {
    let literal = Value::text("paid");
    let filter = Filter { conditions: vec![Condition { column: 2, comparison: Comparison::Equal, literal }] };
    let (mut sum, mut count) = (0i128, 0i128);
    for batch in version.scan(TABLE, Some(&[AMOUNT]), Some(&filter)) {
        let batch = batch.expect("a batch");
        let amounts = batch.column(0).as_any().downcast_ref::<Int64Array>().expect("integers");
        sum += amounts.values().iter().map(|&amount| i128::from(amount)).sum::<i128>();
        count += amounts.len() as i128;
    }
    vec![Some(sum), Some(count)]
}

/// The one row of an answer, of integers.
fn asked(session: &SqlSession, sql: &str) -> Vec<Option<i128>> {
    let rows = session.query(sql).expect("a query");
    let batches = rows.map(|batch| batch.expect("a batch")).filter(|batch| batch.num_rows() > 0).collect::<Vec<_>>();
    let [batch] = batches.as_slice() else { panic!("{} batches", batches.len()) };
    let integer = |column: &ArrayRef| match column.as_any().downcast_ref::<Decimal128Array>() {
        Some(sums) => Some(sums.value(0)),
        None => column.as_any().downcast_ref::<Int64Array>().map(|counts| i128::from(counts.value(0))),
    };
    batch.columns().iter().map(integer).collect()
}

/// The same question, asked of the warehouse itself.
type Own = fn(&Version) -> Vec<Option<i128>>;

fn compare(c: &mut Criterion, version: &Arc<Version>, table: &str, rows: i64) {
    let filter = "SELECT sum(amount), count(*) FROM orders WHERE status = 'paid'";
    let cases: [(&str, &str, Own); 2] = [("two_sums", SUMS, sums), ("filtered", filter, filtered)];
    for (name, sql, own) in cases {
        let mut group = c.benchmark_group(format!("sql/{name}/{table}"));
        group.throughput(Throughput::Elements(rows as u64));
        let sessions = [1, 2].map(|threads| {
            let options = SqlOptions { threads, ..SqlOptions::default() };
            let session = SqlSession::new(version, &[], options).expect("a session");
            assert_eq!(asked(&session, sql), own(version), "{sql}");
            (threads, session)
        });
        group.bench_with_input(BenchmarkId::new("own", rows), version, |b, version| b.iter(|| black_box(own(version))));
        for (threads, session) in &sessions {
            group.bench_with_input(BenchmarkId::new(format!("sql_{threads}_threads"), rows), sql, |b, sql| {
                b.iter(|| black_box(asked(session, sql)));
            });
        }
        group.finish();
    }
}

fn main() {
    let rows = i64::try_from(rows_asked(200_000)).expect("a number of rows");
    let folder = tempfile::tempdir().expect("a folder");
    let mut c = Criterion::default().configure_from_args();
    let mut warehouse = loaded(folder.path(), rows);
    let version = warehouse.reader().version();
    // Decoded once, as for a warehouse that is being written: then both sides read memory.
    for batch in version.scan(TABLE, None, None) {
        batch.expect("a batch");
    }
    assert_eq!(sums(&version), made(rows, false));
    compare(&mut c, &version, "loaded", rows);
    drop(version);
    update(&mut warehouse, rows);
    let version = warehouse.reader().version();
    assert_eq!(sums(&version), made(rows, true));
    compare(&mut c, &version, "updated", rows);
    c.final_summary();
}
