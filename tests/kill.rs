//! `kill -9` in the middle of `cdc-trigger`: after a restart the warehouse equals the source at its watermark.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use freshbench::clock::Clock;
use freshbench::log::Fsync;
use freshbench::model::{Lsn, TableId, Value};
use freshbench::oracle::{Replay, Shape, diff};
use freshbench::sink::warehouse::{Version, row_values};
use freshbench::sink::{WarehouseError, WarehouseOptions};
use freshbench::source::{SourceOptions, SqliteSource};
use freshbench::strategy::{Restarted, Setting, restart};
use freshbench::transform::TransformSet;
use freshbench::workload::{Overrides, TxnIndex, Workload};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const KILLS: u64 = 50;
const SIDE_BY_SIDE: u64 = 2;
const LATEST_KILL_MS: u64 = 400;

/// What 50 kills met, so that the test can't pass by always killing too early.
#[derive(Debug, Default)]
struct Met {
    tries_too_early: AtomicU64,
    committed: AtomicU64,
    beyond_checkpoint: AtomicU64,
    behind_source: AtomicU64,
    torn: AtomicU64,
}

/// SplitMix64, of a seed and a place.
fn drawn(seed: u64, place: u64) -> u64 {
    let mut z = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn spawn(folder: &Path, seed: u64) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.args(["run", "--no-control", "--strategies", "cdc-trigger", "--quick", "--quiet", "--rows", "500"]);
    command.args(["--rate", "800", "--duration", "5s", "--warmup", "200ms", "--clients", "4"]);
    command.arg("--seed").arg(seed.to_string());
    command.arg("--work").arg(folder.join("work")).arg("--out").arg(folder.join("out"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the child starts")
}

fn setting(workload: &Workload, folder: &Path) -> Setting {
    let source = SqliteSource::open(&folder.join("source.db"), SourceOptions::default()).expect("the source opens");
    let transforms = TransformSet::compile(workload.catalog(), workload.transforms()).expect("transforms");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    Setting {
        source,
        transforms: Arc::new(transforms),
        folder: folder.to_owned(),
        clock: Clock::monotonic(),
        batch_interval: Duration::from_millis(500),
        cursor_columns: workload.catalog().iter().map(|(table, _)| workload.cursor_column(table)).collect(),
        log_fsync: Fsync::Always,
        checkpoint_interval: Duration::from_secs(5),
        pool: Arc::new(pool),
        warehouse: WarehouseOptions::default(),
        planted: None,
    }
}

/// The commits of the workload in commit order, and the last number of any commit.
fn commits(path: &Path) -> (Vec<(Lsn, TxnIndex)>, Lsn) {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).expect("the source opens");
    let mut statement =
        connection.prepare("SELECT lsn, txn FROM _freshbench_commit WHERE txn >= 0 ORDER BY lsn").expect("a query");
    let numbers = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let found = statement.query_map([], numbers).expect("rows").map(|row| {
        let (lsn, txn) = row.expect("a row");
        (Lsn(u64::try_from(lsn).expect("a number")), TxnIndex(u64::try_from(txn).expect("a number")))
    });
    let found: Vec<_> = found.collect();
    let last: i64 = connection
        .query_row("SELECT coalesce(max(lsn), 0) FROM _freshbench_commit", [], |row| row.get(0))
        .expect("the last number");
    (found, Lsn(u64::try_from(last).expect("a number")))
}

fn rows(version: &Version, table: TableId) -> impl Iterator<Item = Result<Vec<Value>, WarehouseError>> + use<> {
    version.scan(table, None, None).flat_map(|batch| match batch {
        Ok(batch) => (0..batch.num_rows()).map(|row| Ok(row_values(&batch, row))).collect::<Vec<_>>(),
        Err(error) => vec![Err(error)],
    })
}

fn assert_equal(workload: &Workload, commits: &[(Lsn, TxnIndex)], restarted: &Restarted, what: &str) {
    let mut replay = Replay::of_workload(workload, commits).expect("a replay");
    replay.advance(restarted.watermark, &mut |_| {}).expect("the replay goes on");
    let shape = Shape::new(workload.catalog(), workload.transforms());
    let version = restarted.reader.version();
    for (table, schema) in workload.catalog().iter() {
        let expected = shape.apply(table, replay.state().table(table).expect("a table")).expect("a shape");
        let found = diff(&expected, || rows(&version, table)).expect("a comparison");
        assert!(found.is_equal(), "{what}: table {} at {}: {found:?}", schema.name, restarted.watermark);
    }
}

/// Kills a run `delay` after its log appeared and checks what is left; false if it was killed too early to tell.
fn kill_once(seed: u64, delay: Duration, met: &Met, what: &str) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let case = folder.path().join("work/cdc-trigger-0");
    let mut child = spawn(folder.path(), seed);
    let begun = Instant::now();
    while !case.join("log").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: no log after 30 s");
        assert!(child.try_wait().expect("a state").is_none(), "{what}: the child ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(delay);
    let ended = child.try_wait().expect("a state");
    child.kill().expect("SIGKILL");
    child.wait().expect("the child is gone");
    assert_eq!(ended, None, "{what}: the child ended before the kill");
    if !case.join("warehouse").exists() {
        return false;
    }

    let overrides = Overrides {
        rows: Some(500),
        rate_per_s: Some(800.0),
        clients: Some(4),
        duration: Some(Duration::from_secs(5)),
        seed: Some(seed),
        ..Overrides::default()
    };
    let workload = Workload::load("orders", &overrides).expect("the workload");
    let setting = setting(&workload, &case);
    let (commits, last) = commits(&case.join("source.db"));
    let first = restart(&setting).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(first.checkpoint <= first.watermark, "{what}: {first:?}");
    assert!(first.watermark <= last, "{what}: the warehouse is ahead of the source's {last}: {first:?}");
    assert_equal(&workload, &commits, &first, what);
    let (checkpoint, watermark, torn) = (first.checkpoint, first.watermark, first.torn_bytes);
    drop(first);

    let second = restart(&setting).unwrap_or_else(|error| panic!("{what}, second restart: {error}"));
    assert_eq!((second.checkpoint, second.watermark), (watermark, watermark), "{what}: the second restart moved");
    assert_eq!(second.torn_bytes, 0, "{what}: the first restart left a torn tail");
    assert_equal(&workload, &commits, &second, what);

    let count = |counter: &AtomicU64, is: bool| counter.fetch_add(u64::from(is), Ordering::Relaxed);
    count(&met.committed, watermark > Lsn(0));
    count(&met.beyond_checkpoint, watermark > checkpoint);
    count(&met.behind_source, watermark < last);
    count(&met.torn, torn > 0);
    true
}

#[test]
fn after_any_kill_a_restart_gives_the_source_at_the_watermark() {
    let seed = std::env::var("FRESHBENCH_SEED").map_or(42, |text| text.parse().expect("FRESHBENCH_SEED is a number"));
    println!("FRESHBENCH_SEED={seed}");
    let met = Met::default();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let kill = next.fetch_add(1, Ordering::Relaxed);
                    if kill >= KILLS {
                        break;
                    }
                    let done = (0..20).any(|attempt| {
                        let ms = drawn(seed, kill * 100 + attempt) % (LATEST_KILL_MS + 1);
                        let what = format!("seed {seed}, kill {kill}, {ms} ms");
                        let done = kill_once(42 + kill % 3, Duration::from_millis(ms), &met, &what);
                        met.tries_too_early.fetch_add(u64::from(!done), Ordering::Relaxed);
                        done
                    });
                    assert!(done, "seed {seed}, kill {kill}: always too early");
                }
            });
        }
    });
    println!("{KILLS} kills: {met:?}");
    assert!(met.committed.load(Ordering::Relaxed) > KILLS / 5, "the kills came too early: {met:?}");
    assert!(met.beyond_checkpoint.load(Ordering::Relaxed) > KILLS / 5, "no log was replayed: {met:?}");
}
