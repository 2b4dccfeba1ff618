//! Draining PostgreSQL's log: `cdc-log`'s capture beside `pg_recvlogical`, over the socket and over TCP, in one run.
//!
//! `cargo bench --bench pg_stream` measures; `cargo bench --bench pg_stream -- --test` runs each once, small. Without a
//! `FRESHBENCH_IN_TURN=1` runs everybody in turn, five rounds, and prints the medians. Without a
//! server installed it says so and measures nothing. The backlog is of one-row transactions, and of updates of many rows
//! in a transaction; both drains ask for the same stream (protocol 2, streaming, binary), and pg_recvlogical throws
//! it away. Ours decodes and encodes every row, and is checked by the number of changes and their order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

mod allocator;
#[path = "../tests/postgres/server.rs"]
mod server;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use freshbench::capture::postgres::{LogCapture, LogCaptureOptions, LogSetup, parse_lsn};
use freshbench::clock::Clock;
use freshbench::model::Lsn;
use freshbench::source::postgres::{Mode, PgOptions, PgTableName, Wire};
use server::PgServer;
use std::path::Path;
use std::time::{Duration, Instant};

fn smoke() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

fn scaled(full: u64) -> u64 {
    if smoke() { full / 100 } else { full }
}

const TABLE: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint, state text, amount numeric(12,2), \
    items int, note text, made timestamptz, changed timestamptz)";
const ROW: &str = "g, g % 1000, 'open', g * 0.01, g % 7, md5(g::text), now(), now()";

struct Backlog {
    options: LogCaptureOptions,
    setup: LogSetup,
    changes: u64,
    transactions: u64,
    end: Lsn,
}

/// A slot, and behind it what `sql` does.
fn backlog(server: &PgServer, name: &str, folder: &Path, sql: &[String], expected: (u64, u64)) -> Backlog {
    let options = LogCaptureOptions::new(server.options("postgres"), name, folder.join(name), Clock::monotonic());
    let setup = LogCapture::setup(&options, &[PgTableName::parse("orders").unwrap()]).unwrap();
    for sql in sql {
        server.psql("postgres", sql);
    }
    server.psql("postgres", "CHECKPOINT");
    let end = parse_lsn(server.psql("postgres", "SELECT pg_current_wal_lsn()").trim()).unwrap();
    let (transactions, changes) = expected;
    Backlog { options, setup, changes, transactions, end }
}

/// Reads all of it, and forgets nothing at the server.
fn drain(backlog: &Backlog, url: &str) -> Duration {
    let server = PgOptions::parse_in(url, &|_| None).unwrap();
    let options = LogCaptureOptions { server, ..backlog.options.clone() };
    let mut capture =
        LogCapture::resume(&options, backlog.setup.tables.clone(), backlog.setup.exported.position).unwrap();
    let (mut transactions, mut changes, mut out) = (0, 0, Vec::new());
    let begun = Instant::now();
    while transactions < backlog.transactions {
        let polled = capture.poll(50_000, &mut out).unwrap();
        transactions += polled.transactions;
        changes += polled.changes;
        out.clear();
        if !polled.more {
            capture.wait(Duration::from_millis(10)).unwrap();
        }
    }
    let spent = begun.elapsed();
    assert_eq!((transactions, changes), (backlog.transactions, backlog.changes));
    spent
}

/// Reads the same bytes and throws them away: what the server can send at most.
fn discard(server: &PgServer, backlog: &Backlog, url: &str) -> Duration {
    let (slot, publication) = (&backlog.options.slot, &backlog.options.publication);
    server.psql("postgres", &format!("SELECT pg_copy_logical_replication_slot('{slot}', 'discard')"));
    let mut wire = Wire::connect(&PgOptions::parse_in(url, &|_| None).unwrap(), Mode::Replication).unwrap();
    let pause = Duration::from_micros(if wire.is_unix_socket() { 100 } else { 1_500 });
    let begun = Instant::now();
    wire.start_replication(&format!(
        "START_REPLICATION SLOT discard LOGICAL 0/0 (proto_version '2', publication_names '{publication}', \
         streaming 'true', messages 'true', binary 'true')"
    ))
    .unwrap();
    let mut seen = 0;
    while seen < backlog.end.0 {
        while let Some(message) = wire.next_buffered().unwrap() {
            // Keepalives alone name the end of the log that they come from; the rest is not looked at.
            if let Some((b'k', rest)) = message.split_first() {
                seen = u64::from_be_bytes(*rest.first_chunk().unwrap());
            }
        }
        // Never asleep in the kernel while bytes come: a reader that each message wakes slows the server down.
        if wire.read(Duration::from_millis(10)).unwrap() > 0 {
            std::thread::sleep(pause);
        }
    }
    let spent = begun.elapsed();
    drop(wire);
    let left = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'discard'";
    while server.psql("postgres", left).trim() != "0" {
        // Once the server has noticed that the reader is gone.
        let free = "slot_name = 'discard' AND NOT active";
        server.psql(
            "postgres",
            &format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE {free}"),
        );
    }
    spent
}

/// The same by PostgreSQL's own client, on a copy of the slot since it confirms what it reads.
fn recvlogical(server: &PgServer, backlog: &Backlog, socket: Option<&Path>) -> Duration {
    let slot = &backlog.options.slot;
    server.psql("postgres", &format!("SELECT pg_copy_logical_replication_slot('{slot}', 'peer')"));
    let end = format!("{:X}/{:X}", backlog.end.0 >> 32, backlog.end.0 & 0xFFFF_FFFF);
    let publication = format!("publication_names={}", backlog.options.publication);
    let mut peer = server.program("pg_recvlogical");
    if let Some(folder) = socket {
        peer.env("PGHOST", folder);
    }
    peer.args(["-d", "postgres", "--slot", "peer", "--start", "--no-loop", "-f", "/dev/null", "--endpos", &end]);
    for option in ["proto_version=2", "streaming=true", "binary=true", "messages=true", &publication] {
        peer.args(["-o", option]);
    }
    let begun = Instant::now();
    let ran = peer.output().unwrap();
    let spent = begun.elapsed();
    assert!(ran.status.success(), "pg_recvlogical: {}", String::from_utf8_lossy(&ran.stderr));
    server.psql("postgres", "SELECT pg_drop_replication_slot('peer')");
    spent
}

fn socket_folder(server: &PgServer) -> std::path::PathBuf {
    let url = server.socket_url("postgres");
    url.split("host=").nth(1).and_then(|rest| rest.split('&').next()).map(Into::into).unwrap()
}

type Run<'a> = Box<dyn Fn() -> Duration + 'a>;

/// Five rounds, everybody once in each, so that what the machine does meanwhile meets all alike; and the medians.
fn in_turn(name: &str, runs: &[(&str, Run<'_>)], changes: u64) {
    let mut spent = vec![Vec::new(); runs.len()];
    for _ in 0..5 {
        for ((_, run), spent) in runs.iter().zip(&mut spent) {
            spent.push(run());
        }
    }
    for ((who, _), mut spent) in runs.iter().zip(spent) {
        spent.sort();
        let rate = |time: Duration| changes as f64 / time.as_secs_f64() / 1e3;
        let (slowest, median, fastest) = (rate(spent[4]), rate(spent[2]), rate(spent[0]));
        println!("pg_stream/{name}/{who}: median {median:.0} thousand/s ({slowest:.0} to {fastest:.0})");
    }
}

fn bench_drain(c: &mut Criterion) {
    let Some(server) = PgServer::start(&["synchronous_commit=off", "max_wal_size=8GB", "shared_buffers=256MB"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    server.psql("postgres", TABLE);
    let (one_row, rows) = (scaled(200_000), scaled(500_000));
    let loop_sql =
        format!("DO $$ BEGIN FOR g IN 1..{one_row} LOOP INSERT INTO orders VALUES ({ROW}); COMMIT; END LOOP; END $$");
    let one_row = backlog(&server, "one_row", folder.path(), &[loop_sql], (one_row, one_row));
    let many = 10;
    server.psql(
        "postgres",
        &format!("TRUNCATE orders; INSERT INTO orders SELECT {ROW} FROM generate_series(1, {}) g", rows / many),
    );
    let updates: Vec<String> = (0..many).map(|n| format!("UPDATE orders SET items = {n}, changed = now()")).collect();
    let large = backlog(&server, "large", folder.path(), &updates, (many, rows));
    let socket = socket_folder(&server);
    for (name, backlog) in [("one_row_transactions", &one_row), ("rows_in_large_transactions", &large)] {
        let mut group = c.benchmark_group(format!("pg_stream/{name}"));
        group.throughput(Throughput::Elements(backlog.changes));
        group.sample_size(10).sampling_mode(SamplingMode::Flat).warm_up_time(Duration::from_millis(1));
        let runs: [(&str, Run<'_>); 6] = [
            ("freshbench, socket", Box::new(|| drain(backlog, &server.socket_url("postgres")))),
            ("pg_recvlogical, socket", Box::new(|| recvlogical(&server, backlog, Some(&socket)))),
            ("thrown away, socket", Box::new(|| discard(&server, backlog, &server.socket_url("postgres")))),
            ("freshbench, tcp", Box::new(|| drain(backlog, &server.url("postgres")))),
            ("pg_recvlogical, tcp", Box::new(|| recvlogical(&server, backlog, None))),
            ("thrown away, tcp", Box::new(|| discard(&server, backlog, &server.url("postgres")))),
        ];
        if std::env::var_os("FRESHBENCH_IN_TURN").is_some() {
            in_turn(name, &runs, backlog.changes);
            continue;
        }
        for (who, run) in runs {
            group.bench_function(BenchmarkId::from_parameter(who), |b| {
                b.iter_custom(|count| (0..count).map(|_| run()).sum());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, bench_drain);
criterion_main!(benches);
