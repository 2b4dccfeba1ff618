//! How fast a table of any SQLite database gets into a new warehouse, as `freshbench load` does it.
//!
//! `FRESHBENCH_BENCH_ROWS` sets the rows of the table (200,000 unless told). The warehouse's answer is checked before
//! anything is timed. `cargo bench --bench bulk_load -- --test` runs once, on a small table.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod allocator;
#[path = "rows/mod.rs"]
mod rows;

use criterion::{BenchmarkId, Criterion, Throughput};
use freshbench::model::TableId;
use freshbench::sink::warehouse::Aggregate;
use freshbench::sink::{Warehouse, WarehouseOptions};
use freshbench::source::DynSqlite;
use freshbench::stats::SplitMix64;
use freshbench::strategy::{file_catalog, load_file};
use rows::rows_asked;
use rusqlite::Connection;
use std::path::Path;
use std::time::{Duration, Instant};

const TABLE: TableId = TableId(0);
const STATUS: [&str; 4] = ["placed", "paid", "shipped", "cancelled"];
const BASE_US: i64 = 1_700_000_000_000_000;
const SCHEMA: &str = "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, status TEXT NOT NULL, \
     amount INTEGER NOT NULL, quantity INTEGER NOT NULL, note TEXT NOT NULL, created_at INTEGER NOT NULL, \
     updated_at INTEGER NOT NULL)";

fn mix(seed: u64) -> u64 {
    SplitMix64::new(seed).next_u64()
}

/// Makes the database; the sums of id, amount and quantity.
fn make(path: &Path, rows: i64) -> [i128; 3] {
    let mut connection = Connection::open(path).unwrap();
    connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF").unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    let transaction = connection.transaction().unwrap();
    let mut sums = [0; 3];
    {
        let mut insert = transaction.prepare("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?)").unwrap();
        for id in 0..rows {
            let value = |salt: u64, modulus: u64| (mix(id as u64 ^ (salt << 56)) % modulus) as i64;
            let (amount, quantity) = (value(3, 1_000_000), value(4, 100));
            let note = format!("{:016x}{:016x}", mix(id as u64), mix(!id as u64));
            let (created, status) = (BASE_US + id * 1_000, STATUS[value(2, 4) as usize]);
            let row = (id, value(1, 100_000), status, amount, quantity, note, created, created + value(7, 1_000_000));
            insert.execute(row).unwrap();
            for (sum, value) in sums.iter_mut().zip([id, amount, quantity]) {
                *sum += i128::from(value);
            }
        }
    }
    transaction.commit().unwrap();
    sums
}

/// One load into a new warehouse, from opening the file to the durable swap.
fn load(path: &Path, readers: usize) -> (Duration, Warehouse, tempfile::TempDir) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let begun = Instant::now();
    let source = DynSqlite::open(path).unwrap();
    let table = source.table("orders").unwrap();
    let target = folder.path().join("warehouse");
    let mut warehouse = Warehouse::create(&target, &file_catalog(&table), WarehouseOptions::default()).unwrap();
    load_file(&source, &table, readers, &mut warehouse).unwrap();
    (begun.elapsed(), warehouse, folder)
}

fn main() {
    let rows = i64::try_from(rows_asked(200_000)).expect("a number of rows");
    let readers = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 64);
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("orders.db");
    let sums = make(&path, rows);
    let (_, warehouse, _folder) = load(&path, readers);
    let version = warehouse.reader().version();
    assert_eq!(version.row_count(TABLE), rows as u64);
    let found = version.aggregate(TABLE, &[Aggregate::Sum(0), Aggregate::Sum(3), Aggregate::Sum(4)]).unwrap();
    assert_eq!(found, sums.map(Some));
    let mut group = criterion.benchmark_group("bulk_load/sqlite");
    group.throughput(Throughput::Elements(rows as u64));
    group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
        bencher.iter_custom(|count| (0..count).map(|_| load(&path, readers).0).sum());
    });
    group.finish();
    criterion.final_summary();
}
