//! The cache in process: edits to visible entries, and lookups.
//!
//! Each case checks its answer before it is timed. `cargo bench --bench cache -- --test` runs each once, small.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

mod allocator;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use criterion::{BatchSize, Criterion, Throughput};
use freshbench::apply::edits::{EditSet, TableEdits};
use freshbench::model::{Catalog, Column, ColumnType, KeyColumn, KeyRef, Lsn, TableId, TableSchema, Value};
use freshbench::sink::{Bulk, Cache, CacheFill, CacheOptions, Lookup, Sink};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const TABLE: TableId = TableId(0);
const BATCH_SIZES: [usize; 2] = [1_000, 50_000];
/// Odd, so that it has no factor in common with the number of keys, and a stride through them meets each once.
const STRIDE: i64 = 7_919;

fn catalog() -> Catalog {
    let columns = vec![
        Column::required("id", ColumnType::Int64),
        Column::required("customer_id", ColumnType::Int64),
        Column::nullable("status", ColumnType::Text),
        Column::required("amount", ColumnType::Int64),
        Column::required("updated_at", ColumnType::Timestamp),
    ];
    Catalog { tables: vec![TableSchema::new("orders", columns, vec![0]).expect("a schema")] }
}

/// Rows with these ids as of `round`.
fn batch(ids: &[i64], round: i64) -> RecordBatch {
    let status = ["placed", "paid", "shipped", "cancelled"];
    let times = TimestampMicrosecondArray::from_iter_values(ids.iter().map(|id| 1_700_000_000_000_000 + id + round));
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(Int64Array::from(ids.to_vec()))),
        ("customer_id", Arc::new(ids.iter().map(|id| id * 31 % 10_007).collect::<Int64Array>())),
        ("status", Arc::new(ids.iter().map(|id| Some(status[(id + round) as usize % 4])).collect::<StringArray>())),
        ("amount", Arc::new(ids.iter().map(|id| id ^ round).collect::<Int64Array>())),
        ("updated_at", Arc::new(times.with_timezone("UTC"))),
    ];
    RecordBatch::try_from_iter(columns).expect("a batch")
}

/// `size` different keys of `keys`, spread over all of them.
fn group(keys: i64, size: usize, round: i64) -> EditSet {
    let first = round * size as i64;
    let ids: Vec<i64> = (0..size as i64).map(|place| (first + place) * STRIDE % keys).collect();
    let edits = TableEdits {
        table: TABLE,
        truncate: false,
        deletes: KeyColumn::Int(Vec::new()),
        upserts: batch(&ids, round),
        upsert_keys: KeyColumn::Int(ids),
    };
    EditSet { through: Lsn(round as u64), changes: size as u64, tables: vec![edits] }
}

fn loaded(keys: i64, fill: CacheFill) -> Cache {
    let options = CacheOptions { fill, ..CacheOptions::default() };
    let mut cache = Cache::create(&catalog(), options).expect("a cache");
    let load = cache.bulk().expect("a generation");
    let ids: Vec<i64> = (0..keys).collect();
    for ids in ids.chunks(8_192) {
        load.write(TABLE, batch(ids, 0)).expect("write");
    }
    cache.install(load, Lsn(0)).expect("install");
    cache
}

fn put(cache: &mut Cache, set: &EditSet) {
    cache.apply(set).expect("apply");
    cache.publish(set.through).expect("publish");
}

/// Every row of `set` is there at its position.
fn check(cache: &Cache, set: &EditSet) {
    let reader = cache.reader();
    let edits = &set.tables[0];
    let amounts = edits.upserts.column(3).as_any().downcast_ref::<Int64Array>().expect("integers");
    for (row, key) in edits.upsert_keys.iter().enumerate() {
        let Lookup::Hit { position, row: Some(found) } = reader.get(TABLE, key).expect("get") else {
            panic!("a miss of {key:?}")
        };
        assert_eq!((position, &found[3]), (set.through, &Value::Int(amounts.value(row))));
    }
}

fn apply_publish(criterion: &mut Criterion, keys: i64) {
    for (kind, fill) in [("apply_publish", CacheFill::Stream), ("apply_invalidate", CacheFill::Aside)] {
        let mut cases = criterion.benchmark_group(format!("cache/{kind}"));
        for size in BATCH_SIZES.map(|size| size.min(keys as usize)) {
            let mut cache = loaded(keys, fill);
            let mut round = 1;
            let first = group(keys, size, round);
            put(&mut cache, &first);
            match fill {
                CacheFill::Stream => check(&cache, &first),
                CacheFill::Aside => {
                    let known = |key| cache.reader().get_position(TABLE, key).expect("get_position");
                    assert!(first.tables[0].upsert_keys.iter().all(|key| known(key).is_none()));
                }
            }
            cases.throughput(Throughput::Elements(size as u64)).bench_function(size.to_string(), |bencher| {
                let next = || {
                    round += 1;
                    group(keys, size, round)
                };
                bencher.iter_batched(next, |set| put(&mut cache, &set), BatchSize::PerIteration);
            });
        }
        cases.finish();
    }
}

fn new_keys(criterion: &mut Criterion, size: usize) {
    let mut cases = criterion.benchmark_group("cache/apply_new_keys");
    let set = group(size as i64, size, 1);
    cases.throughput(Throughput::Elements(size as u64)).bench_function(size.to_string(), |bencher| {
        let empty = || Cache::create(&catalog(), CacheOptions::default()).expect("a cache");
        let fill = |mut cache: Cache| {
            put(&mut cache, &set);
            cache
        };
        check(&fill(empty()), &set);
        bencher.iter_batched(empty, fill, BatchSize::PerIteration);
    });
    cases.finish();
}

fn get(criterion: &mut Criterion, keys: i64) {
    let cache = loaded(keys, CacheFill::Stream);
    let reader = cache.reader();
    let mut id = 0;
    let mut next = move || {
        id = (id + STRIDE) % keys;
        KeyRef::Int(id)
    };
    assert!((0..keys).all(|id| reader.get_position(TABLE, KeyRef::Int(id)).expect("get") == Some(Lsn(0))));
    assert_eq!(reader.get(TABLE, KeyRef::Int(keys)).expect("get"), Lookup::Miss);
    let mut cases = criterion.benchmark_group("cache/get");
    cases.throughput(Throughput::Elements(1));
    cases.bench_function("row", |bencher| bencher.iter(|| black_box(reader.get(TABLE, next()).expect("get"))));
    cases.bench_function("position", |bencher| {
        bencher.iter(|| black_box(reader.get_position(TABLE, next()).expect("get_position")));
    });
    cases.finish();
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--test");
    let keys = if smoke { 2_000 } else { 200_000 };
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    apply_publish(&mut criterion, keys);
    new_keys(&mut criterion, keys as usize / 4);
    get(&mut criterion, keys);
    criterion.final_summary();
}
