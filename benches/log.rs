//! How fast the embedded log takes and gives transactions of 100 bytes.
//!
//! `append_fsync` commits groups of 5,000, each with one write and one fdatasync; `append_nosync` never waits for the
//! disk; `read` borrows records from the page cache's copy; `read_transaction` makes checked transactions of them in
//! reused memory, as the apply path does.

mod allocator;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use freshbench::log::{Fsync, Log, LogError, LogOptions, Offset};
use freshbench::model::{CommitTime, Lsn, TableId, Transaction, ValueRef};
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

const PAYLOAD_BYTES: usize = 100;
const GROUP: u64 = 5_000;
const GROUPS_READ: u64 = 40;

/// A transaction of one insert whose encoding is exactly 100 bytes long.
fn transaction() -> Transaction {
    let mut made = Transaction { lsn: Lsn(1), committed_at: CommitTime(1_700_000_000_000_000), ..Default::default() };
    let text = "x".repeat(PAYLOAD_BYTES - 25);
    let pushed = made.changes.push_insert(TableId(0), [ValueRef::Int(42), ValueRef::Text(&text)]);
    assert!(pushed.is_ok() && made.changes.as_bytes().len() == PAYLOAD_BYTES, "{}", made.changes.as_bytes().len());
    made
}

fn append_group(log: &mut Log, transaction: &mut Transaction) -> Result<Offset, LogError> {
    for _ in 0..GROUP {
        transaction.lsn.0 += 1;
        log.append_transaction(transaction)?;
    }
    log.sync()
}

/// A log that holds `GROUPS_READ` groups, read back and compared before anything is timed.
fn checked_log(folder: &Path, fsync: Fsync) -> Result<Log, LogError> {
    let (mut log, _) = Log::open(folder, LogOptions { fsync, ..LogOptions::default() })?;
    let mut sent = transaction();
    for _ in 0..GROUPS_READ {
        append_group(&mut log, &mut sent)?;
    }
    let mut expected = transaction();
    let mut reader = log.reader(Offset(0))?;
    let mut read = Transaction::default();
    while let Some(offset) = reader.next_transaction_into(&mut read)? {
        expected.lsn.0 += 1;
        assert_eq!(read, expected, "record {offset}");
    }
    assert_eq!(reader.next_offset(), Offset(GROUP * GROUPS_READ));
    Ok(log)
}

fn append(criterion: &mut Criterion, name: &str, fsync: Fsync) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut log = checked_log(folder.path(), fsync)?;
    let mut sent = Transaction { lsn: Lsn(GROUP * GROUPS_READ + 1), ..transaction() };
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::ElementsAndBytes { elements: GROUP, bytes: GROUP * PAYLOAD_BYTES as u64 });
    group.bench_function(format!("{name}/{PAYLOAD_BYTES}"), |bencher| {
        bencher.iter(|| append_group(&mut log, &mut sent).and_then(|next| log.retain_from(next)));
    });
    group.finish();
    log.close()?;
    Ok(())
}

fn read(criterion: &mut Criterion) -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let log = checked_log(folder.path(), Fsync::None)?;
    let elements = GROUP * GROUPS_READ;
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::ElementsAndBytes { elements, bytes: elements * PAYLOAD_BYTES as u64 });
    group.bench_function(format!("read/{PAYLOAD_BYTES}"), |bencher| {
        bencher.iter(|| -> Result<u64, LogError> {
            let (mut reader, mut bytes) = (log.reader(Offset(0))?, 0);
            while let Some(record) = reader.next()? {
                bytes += black_box(record.payload).len() as u64;
            }
            Ok(bytes)
        });
    });
    group.bench_function(format!("read_transaction/{PAYLOAD_BYTES}"), |bencher| {
        let mut transaction = Transaction::default();
        bencher.iter(|| -> Result<u64, LogError> {
            let (mut reader, mut changes) = (log.reader(Offset(0))?, 0);
            while reader.next_transaction_into(&mut transaction)?.is_some() {
                changes += black_box(&transaction).changes.len() as u64;
            }
            Ok(changes)
        });
    });
    group.finish();
    Ok(())
}

fn all(criterion: &mut Criterion) {
    let outcome = append(criterion, "append_fsync", Fsync::Always)
        .and_then(|()| append(criterion, "append_nosync", Fsync::None))
        .and_then(|()| read(criterion));
    assert!(outcome.is_ok(), "{outcome:?}");
}

/// Shorter than criterion's own times, so that all benches together take minutes.
fn short() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3))
}

criterion_group! {
    name = benches;
    config = short();
    targets = all
}
criterion_main!(benches);
