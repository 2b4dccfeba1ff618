//! How fast a PostgreSQL table gets into a new warehouse, as `freshbench load` does it, beside its parts: COPY's bytes
//! alone, and its rows as columns without Parquet.
//!
//! `FRESHBENCH_BENCH_ROWS` sets the rows of the table (200,000 unless told). The warehouse's answer is checked before
//! anything is timed. `cargo bench --bench pg_load -- --test` runs once, on a small table. Skips, loudly, where no server
//! is installed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod allocator;
#[allow(dead_code)]
#[path = "../tests/postgres/server.rs"]
mod server;

#[path = "rows/mod.rs"]
mod rows;

use criterion::{BenchmarkId, Criterion, Throughput};
use freshbench::capture::CaptureError;
use freshbench::capture::postgres::PgSnapshot;
use freshbench::clock::Clock;
use freshbench::model::TableId;
use freshbench::sink::warehouse::Aggregate;
use freshbench::sink::{Warehouse, WarehouseOptions};
use freshbench::source::SourceError;
use freshbench::source::postgres::{Mode, PgField, PgOptions, PgTableName, Wire};
use freshbench::strategy::{load_postgres, postgres_catalog};
use freshbench::transform::PgBatchStream;
use rows::rows_asked;
use server::PgServer;
use std::time::{Duration, Instant};

const TABLE: TableId = TableId(0);
const ORDERS: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint NOT NULL, status text NOT NULL, \
    amount numeric(12,2) NOT NULL, quantity int NOT NULL, note text, created_at timestamptz NOT NULL, \
    updated_at timestamptz NOT NULL); \
    INSERT INTO orders SELECT g, g * 7919 % 100000, (array['new','paid','shipped','done'])[1 + (g % 4)], \
    (g * 104729 % 100000) / 100.0, g % 10, md5(g::text), now() - (g || ' seconds')::interval, now() \
    FROM generate_series(1, ROWS) g";

fn snapshot(options: &PgOptions, readers: usize) -> PgSnapshot {
    PgSnapshot::begin(options, &[PgTableName::parse("orders").unwrap()], readers, &Clock::monotonic()).unwrap()
}

/// One load into a new warehouse, from connecting to the durable swap.
fn load(options: &PgOptions, readers: usize) -> (Duration, Warehouse, tempfile::TempDir) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let begun = Instant::now();
    let snapshot = snapshot(options, readers);
    let catalog = postgres_catalog(snapshot.tables());
    let mut warehouse =
        Warehouse::create(&folder.path().join("warehouse"), &catalog, WarehouseOptions::default()).unwrap();
    load_postgres(&snapshot, &mut warehouse).unwrap();
    (begun.elapsed(), warehouse, folder)
}

/// COPY's bytes by one connection, looked at by nobody.
fn raw(options: &PgOptions) -> Duration {
    let begun = Instant::now();
    let mut wire = Wire::connect(options, Mode::Query).unwrap();
    let copy = "COPY public.orders TO STDOUT (FORMAT binary)";
    let bytes = wire.copy_out::<SourceError>(copy, &mut |_| Ok(())).unwrap();
    assert!(bytes > 0);
    begun.elapsed()
}

/// Rows into record batches by one connection.
fn columns(options: &PgOptions, rows: u64) -> Duration {
    let begun = Instant::now();
    let snapshot = snapshot(options, 1);
    let mut found = 0;
    for range in snapshot.ranges(TABLE, 1).unwrap() {
        let mut stream = PgBatchStream::new(snapshot.table(TABLE).unwrap(), 16_384);
        let mut count = |fields: &[PgField<'_>]| -> Result<(), CaptureError> {
            found += stream.push(fields).unwrap().map_or(0, |batch| batch.num_rows());
            Ok(())
        };
        snapshot.copy(0, TABLE, &range, &mut count).unwrap();
        found += stream.finish().unwrap().map_or(0, |batch| batch.num_rows());
    }
    assert_eq!(found as u64, rows);
    begun.elapsed()
}

fn main() {
    let rows = rows_asked(200_000);
    let readers = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 64);
    let Some(server) = PgServer::start(&["fsync=off", "shared_buffers=512MB"]) else { return };
    server.psql("postgres", &ORDERS.replace("ROWS", &rows.to_string()));
    server.psql("postgres", "VACUUM ANALYZE orders");
    let options = PgOptions::parse_in(&server.socket_url("postgres"), &|_| None).unwrap();
    let (_, warehouse, _folder) = load(&options, readers);
    let version = warehouse.reader().version();
    assert_eq!(version.row_count(TABLE), rows);
    let sums = server.psql("postgres", "SELECT sum(id), sum(customer_id), sum(quantity) FROM orders");
    let wanted: Vec<Option<i128>> = sums.trim().split('|').map(|sum| sum.parse().ok()).collect();
    let found = version.aggregate(TABLE, &[Aggregate::Sum(0), Aggregate::Sum(1), Aggregate::Sum(4)]).unwrap();
    assert_eq!(found, wanted);
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let mut group = criterion.benchmark_group("pg_load");
    group.throughput(Throughput::Elements(rows));
    group.bench_function(BenchmarkId::new("raw_copy", rows), |bencher| {
        bencher.iter_custom(|count| (0..count).map(|_| raw(&options)).sum());
    });
    group.bench_function(BenchmarkId::new("columns", rows), |bencher| {
        bencher.iter_custom(|count| (0..count).map(|_| columns(&options, rows)).sum());
    });
    group.bench_function(BenchmarkId::new("warehouse", rows), |bencher| {
        bencher.iter_custom(|count| (0..count).map(|_| load(&options, readers).0).sum());
    });
    group.finish();
    criterion.final_summary();
}
