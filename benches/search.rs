//! The search index: keyed edits with a commit for each group, reads, and rebuilds.
//!
//! `FRESHBENCH_BENCH_ROWS` sets the documents that are there before (100,000 unless told). A document is small: a key
//! and a note of five words, 32 characters. A group is what an apply stage that commits every 100 ms has to get done
//! in that time: 5,000 documents a group are 50,000 a second. Each case checks its answer before it is timed.
//! `cargo bench --bench search -- --test` runs each once, on few documents.

#![allow(missing_docs, clippy::expect_used)]

mod allocator;
#[path = "rows/mod.rs"]
mod rows;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use criterion::{BatchSize, Criterion, SamplingMode, Throughput};
use freshbench::apply::edits::{EditSet, TableEdits};
use freshbench::model::{Catalog, Column, ColumnType, KeyColumn, KeyRef, Lsn, TableId, TableSchema, Value};
use freshbench::sink::{Bulk, SearchIndex, SearchOptions, Sink};
use freshbench::stats::SplitMix64;
use rows::rows_asked;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TABLE: TableId = TableId(0);
const WORDS: [&str; 16] = [
    "amber", "birch", "cedar", "delta", "ember", "flint", "grove", "hazel", "ivory", "jetty", "knoll", "larch",
    "maple", "north", "olive", "pearl",
];

fn catalog() -> Catalog {
    let columns = vec![Column::required("id", ColumnType::Int64), Column::nullable("note", ColumnType::Text)];
    Catalog { tables: vec![TableSchema::new("notes", columns, vec![0]).expect("a schema")] }
}

fn mix(seed: u64) -> u64 {
    SplitMix64::new(seed).next_u64()
}

/// Four common words and one of many: 32 characters.
fn note(id: i64, round: u64) -> String {
    let seed = mix(id as u64 ^ (round << 40));
    let word = |at: u64| WORDS[(seed >> (4 * at)) as usize % WORDS.len()];
    format!("{} {} {} {} {:08x}", word(0), word(1), word(2), word(3), seed >> 32)
}

fn batch(ids: &[i64], round: u64) -> RecordBatch {
    let notes: StringArray = ids.iter().map(|&id| Some(note(id, round))).collect();
    let columns: [(&str, ArrayRef); 2] = [("id", Arc::new(Int64Array::from(ids.to_vec()))), ("note", Arc::new(notes))];
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

/// `size` different ones of `rows` keys, spread over all of them.
fn some_ids(rows: i64, size: usize, round: u64) -> Vec<i64> {
    let first = (mix(round) % rows as u64) as i64;
    // A prime step that does not divide the number of rows visits each key once.
    (0..size.min(rows as usize) as i64).map(|at| (first + at * 7_919) % rows).collect()
}

fn loaded(dir: &Path, rows: i64) -> SearchIndex {
    let mut index = SearchIndex::create(dir, &catalog(), SearchOptions::default()).expect("an index");
    let bulk = index.bulk().expect("a bulk load");
    for first in (0..rows).step_by(8_192) {
        let ids: Vec<i64> = (first..rows.min(first + 8_192)).collect();
        Bulk::write(&bulk, TABLE, batch(&ids, 0)).expect("written");
    }
    index.install(bulk, Lsn(0)).expect("installed");
    index
}

fn commit(index: &mut SearchIndex, edits: &EditSet) {
    index.apply(edits).expect("applied");
    index.publish(edits.through).expect("published");
}

/// Applies one group and looks its rows up again.
fn check(index: &mut SearchIndex, edits: &EditSet, ids: &[i64], rows: i64) {
    commit(index, edits);
    let view = index.reader().view();
    assert_eq!((view.doc_count(), view.watermark()), (rows as u64, edits.through));
    for &id in ids.iter().take(100) {
        assert_eq!(view.hits(TABLE, KeyRef::Int(id)).expect("hits"), 1);
        let expected = [Value::Int(id), Value::text(note(id, edits.through.0))];
        assert_eq!(view.row(TABLE, KeyRef::Int(id)).expect("a row").expect("a row"), expected);
    }
}

/// Times groups of new keys, or of keys that are there.
fn bench_groups(criterion: &mut Criterion, name: &str, size: usize, rows: i64, new: bool, quick: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut index = loaded(&folder.path().join("s"), rows);
    let (mut round, mut docs) = (1, rows);
    let ids = |round: u64, docs: i64| -> Vec<i64> {
        if new { (docs..docs + size as i64).collect() } else { some_ids(rows, size, round) }
    };
    let first = ids(round, docs);
    docs += if new { size as i64 } else { 0 };
    check(&mut index, &group(&first, round), &first, docs);
    let (mut slowest, mut segments) = (Duration::ZERO, 0);
    let mut bench = criterion.benchmark_group(format!("search/{name}"));
    bench.throughput(Throughput::Elements(first.len() as u64));
    bench.bench_function(size.to_string(), |bencher| {
        bencher.iter_batched(
            || {
                round += 1;
                let edits = group(&ids(round, docs), round);
                docs += if new { size as i64 } else { 0 };
                edits
            },
            |edits| {
                let started = Instant::now();
                commit(&mut index, &edits);
                slowest = slowest.max(started.elapsed());
                segments = segments.max(index.reader().view().segment_count());
                edits
            },
            BatchSize::PerIteration,
        );
    });
    bench.finish();
    assert_eq!(index.reader().view().doc_count(), docs as u64);
    if !quick {
        eprintln!("slowest group of {round}: {slowest:?}, {segments} segments at most; {:?}", index.counters());
    }
}

fn bench_reads(criterion: &mut Criterion, rows: i64) {
    let folder = tempfile::tempdir().expect("a folder");
    let index = loaded(&folder.path().join("s"), rows);
    let view = index.reader().view();
    let mut id = 0;
    let mut next = || {
        id = (id + 7_919) % rows;
        id
    };
    let rare = note(4_711 % rows, 0);
    assert!(view.search(&rare, 10).expect("a search").iter().any(|(_, key)| key.as_ref() == KeyRef::Int(4_711 % rows)));
    let common = (0..rows).filter(|&id| note(id, 0).split(' ').any(|word| word == WORDS[0])).count();
    assert_eq!(view.count_matches(WORDS[0]).expect("a count"), common as u64);
    let mut bench = criterion.benchmark_group("search/read");
    bench.bench_function(format!("key/{rows}"), |bencher| {
        bencher.iter(|| assert_eq!(view.hits(TABLE, KeyRef::Int(next())).expect("hits"), 1));
    });
    bench.bench_function(format!("five_words/{rows}"), |bencher| bencher.iter(|| view.search(&rare, 10)));
    bench.bench_function(format!("common_word/{rows}"), |bencher| bencher.iter(|| view.search(WORDS[0], 10)));
    bench.finish();
}

fn bench_rebuild(criterion: &mut Criterion, rows: i64) {
    let batches: Vec<RecordBatch> =
        (0..rows).step_by(8_192).map(|first| batch(&(first..rows.min(first + 8_192)).collect::<Vec<_>>(), 0)).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let mut index = SearchIndex::create(folder.path(), &catalog(), SearchOptions::default()).expect("an index");
    let mut round = 0;
    let mut rebuild = || {
        round += 1;
        let bulk = index.bulk().expect("a bulk load");
        batches.iter().for_each(|batch| Bulk::write(&bulk, TABLE, batch.clone()).expect("written"));
        index.install(bulk, Lsn(round)).expect("installed");
        index.reader().view().doc_count()
    };
    assert_eq!(rebuild(), rows as u64);
    let mut bench = criterion.benchmark_group("search/rebuild");
    bench.throughput(Throughput::Elements(rows as u64)).sampling_mode(SamplingMode::Flat);
    bench.bench_function(rows.to_string(), |bencher| bencher.iter(&mut rebuild));
    bench.finish();
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--test");
    let rows = i64::try_from(rows_asked(100_000)).expect("a number of rows");
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for size in [100, 5_000] {
        bench_groups(&mut criterion, "apply_commit", size, rows, true, quick);
        bench_groups(&mut criterion, "update_commit", size, rows, false, quick);
    }
    bench_reads(&mut criterion, rows);
    bench_rebuild(&mut criterion, rows);
    criterion.final_summary();
}
