//! Rows into Arrow batches, and commit groups folded by key. Elements are rows (`transform`) or changes (`fold`).
//!
//! Answers are checked before they are timed: transformed rows against the oracle's own reading of the definition,
//! folded groups against the last image of each key.

mod allocator;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use freshbench::apply::{BatchStream, Folder, NoCurrentRows};
use freshbench::model::{Catalog, KeyColumn, Lsn, RowValues, TableId, Transaction, Value, ValueRef};
use freshbench::oracle::{ExpectedState, Shape};
use freshbench::transform::TransformSet;
use freshbench::workload::{Overrides, Workload};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const ROWS: usize = 50_000;
const ROWS_PER_BATCH: usize = 8_192;
/// Changes of one commit group.
const CHANGES: usize = 1_000;
/// Keys that the changes are spread over.
const KEYS: u64 = 100_000;

fn orders() -> Workload {
    let overrides = Overrides { rows: Some(ROWS as u64), ..Overrides::default() };
    Workload::load("orders", &overrides).unwrap_or_else(|error| stop(&error.to_string()))
}

fn stop(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(1)
}

/// Every table of the `orders` workload through its transform, from values in memory.
fn transform(c: &mut Criterion) {
    let workload = orders();
    let set = TransformSet::compile(workload.catalog(), workload.transforms()).unwrap_or_else(|e| stop(&e.to_string()));
    let mut group = c.benchmark_group("transform");
    for (id, schema) in workload.catalog().iter() {
        let rows: Vec<Vec<Value>> = workload.initial_rows(id).take(ROWS).collect();
        check_transform(&workload, &set, id, &rows);
        let Ok(transform) = set.table(id) else { continue };
        group.throughput(Throughput::Elements(rows.len() as u64));
        group.bench_function(BenchmarkId::new(&schema.name, rows.len()), |b| {
            b.iter(|| {
                let mut stream = BatchStream::new(transform, ROWS_PER_BATCH);
                for row in &rows {
                    let values: RowValues<'_> = row.iter().map(Value::as_ref).collect();
                    black_box(stream.push(&values).ok());
                }
                stream.finish()
            });
        });
    }
    group.finish();
}

/// The sum over every integer column, and the number of rows, are those that the oracle expects.
fn check_transform(workload: &Workload, set: &TransformSet, id: TableId, rows: &[Vec<Value>]) {
    let mut state = ExpectedState::new(workload.catalog());
    let loaded = state.load(id, rows.iter().cloned());
    let shape = Shape::new(workload.catalog(), workload.transforms());
    let (Ok(()), Some(source), Ok(transform)) = (loaded, state.table(id), set.table(id)) else { stop("no such table") };
    let expected = shape.apply(id, source).unwrap_or_else(|error| stop(&error.to_string()));
    let mut builders = transform.builders(rows.len());
    for row in rows {
        let values: Vec<ValueRef<'_>> = row.iter().map(Value::as_ref).collect();
        builders.push(&values).unwrap_or_else(|error| stop(&error.to_string()));
    }
    let batch = builders.finish().unwrap_or_else(|error| stop(&error.to_string()));
    assert_eq!(batch.num_rows(), expected.rows.len());
    for (place, column) in batch.columns().iter().enumerate() {
        let Some(column) = column.as_primitive_opt::<Int64Type>() else { continue };
        let actual: i128 = column.iter().flatten().map(i128::from).sum();
        let ints = expected.rows.values().filter_map(|row| match row.get(place) {
            Some(Value::Int(v)) => Some(i128::from(*v)),
            _ => None,
        });
        assert_eq!(actual, ints.sum::<i128>(), "column {place} of table {}", expected.schema.name);
    }
}

/// A group of updates of whole rows of `orders`, folded into edits, keys drawn by `key`.
fn fold(c: &mut Criterion) {
    let workload = orders();
    let Some((id, _)) = workload.catalog().find("orders") else { stop("the workload has no table orders") };
    let Some(row) = workload.initial_rows(id).next() else { stop("the table orders is empty") };
    let identity = Arc::new(TransformSet::identity(workload.catalog()));
    let mut group = c.benchmark_group("fold");
    group.throughput(Throughput::Elements(CHANGES as u64));
    let mut random = Random(42);
    let uniform: Vec<i64> = (0..CHANGES).map(|_| (random.next() % KEYS) as i64).collect();
    // Log-uniform: rank r is drawn with a probability of about 1/r, which is Zipf's law with exponent 1.
    let zipf: Vec<i64> = (0..CHANGES).map(|_| (KEYS as f64).powf(random.unit()) as i64).collect();
    for (name, keys) in [("uniform", uniform), ("zipf", zipf)] {
        let txn = updates(id, &row, &keys);
        check_fold(workload.catalog(), id, &txn, &keys);
        let mut folder = Folder::new(identity.clone());
        group.bench_function(BenchmarkId::new(name, CHANGES), |b| {
            b.iter(|| {
                black_box(folder.push(&txn).ok());
                folder.finish(&NoCurrentRows)
            });
        });
    }
    group.finish();
}

/// One transaction that updates the rows with these keys; the second integer column says which update it was.
fn updates(table: TableId, row: &[Value], keys: &[i64]) -> Transaction {
    let mut txn = Transaction { lsn: Lsn(1), ..Transaction::default() };
    for (n, key) in (0i64..).zip(keys) {
        let values = row.iter().enumerate().map(|(place, value)| match place {
            0 => ValueRef::Int(*key),
            1 => ValueRef::Int(n),
            _ => value.as_ref(),
        });
        if txn.changes.push_update(table, None, values).is_err() {
            stop("a row is too long");
        }
    }
    txn
}

fn check_fold(catalog: &Catalog, table: TableId, txn: &Transaction, keys: &[i64]) {
    let last: BTreeMap<i64, i64> = keys.iter().copied().zip(0..).collect();
    let mut folder = Folder::new(Arc::new(TransformSet::identity(catalog)));
    let edits = folder.push(txn).and_then(|()| folder.finish(&NoCurrentRows));
    let edits = edits.unwrap_or_else(|error| stop(&error.to_string()));
    let Some(edits) = edits.tables.iter().find(|edits| edits.table == table) else { stop("no edits") };
    let KeyColumn::Int(edited) = &edits.upsert_keys else { stop("integer keys expected") };
    let updates = edits.upserts.column(1).as_primitive::<Int64Type>();
    assert_eq!((edited.len(), updates.len()), (last.len(), last.len()));
    for (key, n) in edited.iter().zip(updates.values()) {
        assert_eq!(last.get(key), Some(n), "key {key}");
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From 0 up to, but not including, 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Shorter than criterion's own times, so that all benches together take minutes.
fn short() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3))
}

criterion_group! {
    name = benches;
    config = short();
    targets = transform, fold
}
criterion_main!(benches);
