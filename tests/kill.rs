//! `kill -9` in the middle of `cdc-trigger`: after a restart every sink equals the source at its watermark.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use freshbench::clock::Clock;
use freshbench::model::Lsn;
use freshbench::sink::SinkKind;
use freshbench::source::{SourceOptions, SqliteSource};
use freshbench::stats::SplitMix64;
use freshbench::strategy::{RestartedSink, Setting, restart};
use freshbench::transform::TransformSet;
use freshbench::workload::{Overrides, TxnIndex, Workload};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::assert_equal;

const KILLS: u64 = 50;
const SIDE_BY_SIDE: u64 = 2;
/// Even kills come so early that the first checkpoint may not be there yet, odd ones when there have been several.
const EARLY_KILL_MS: u64 = 400;
const LATEST_KILL_MS: u64 = 1_500;
/// Short, so that a run of about a second has checkpoints, and prunes its changelog after each.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(150);

/// What 50 kills met, so that the test can't pass by always killing too early.
#[derive(Debug, Default)]
struct Met {
    tries_too_early: AtomicU64,
    committed: AtomicU64,
    later_checkpoint: AtomicU64,
    pruned: AtomicU64,
    beyond_checkpoint: AtomicU64,
    search_beyond_checkpoint: AtomicU64,
    behind_source: AtomicU64,
    torn: AtomicU64,
}

fn spawn(folder: &Path, seed: u64) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.args(["run", "--no-control", "--strategies", "cdc-trigger", "--quick", "--quiet", "--rows", "500"]);
    command.args(["--rate", "800", "--duration", "5s", "--warmup", "200ms", "--clients", "4"]);
    command.arg("--checkpoint-interval").arg(format!("{}ms", CHECKPOINT_INTERVAL.as_millis()));
    command.arg("--seed").arg(seed.to_string());
    command.arg("--work").arg(folder.join("work")).arg("--out").arg(folder.join("out"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the child starts")
}

fn setting(workload: &Workload, folder: &Path) -> Setting {
    let source = SqliteSource::open(&folder.join("source.db"), SourceOptions::default()).expect("the source opens");
    let transforms = TransformSet::compile(workload.catalog(), workload.transforms()).expect("transforms");
    Setting::new(&source, transforms, folder, &Clock::monotonic()).expect("a setting")
}

/// The source as a kill left it.
struct Left {
    /// The commits of the workload in commit order.
    commits: Vec<(Lsn, TxnIndex)>,
    /// The last number of any commit.
    last: Lsn,
    /// The changelog holds the changes of all commits after this one; those before it may have been pruned.
    complete_after: Lsn,
}

fn left(path: &Path) -> Left {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).expect("the source opens");
    let mut statement =
        connection.prepare("SELECT lsn, txn FROM _freshbench_commit WHERE txn >= 0 ORDER BY lsn").expect("a query");
    let numbers = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let found = statement.query_map([], numbers).expect("rows").map(|row| {
        let (lsn, txn) = row.expect("a row");
        (Lsn(u64::try_from(lsn).expect("a number")), TxnIndex(u64::try_from(txn).expect("a number")))
    });
    let commits: Vec<_> = found.collect();
    let number = |sql: &str| {
        let number: i64 = connection.query_row(sql, [], |row| row.get(0)).expect("a number");
        Lsn(u64::try_from(number).expect("a number"))
    };
    let last = number("SELECT coalesce(max(lsn), 0) FROM _freshbench_commit");
    let complete_after = number("SELECT value FROM _freshbench_meta WHERE name = 'changelog_complete_after'");
    Left { commits, last, complete_after }
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
    let Left { commits, last, complete_after } = left(&case.join("source.db"));
    let first = restart(&setting).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (sink, state) in &first.sinks {
        let name = sink.name();
        assert!(state.checkpoint <= state.watermark, "{what}: {name}: {state:?}");
        assert!(state.watermark <= last, "{what}: the {name} is ahead of the source's {last}: {state:?}");
        // The prune waited until the log was durable: nothing is in neither of them.
        assert!(complete_after <= state.watermark, "{what}: {name}: pruned to {complete_after}, log lost: {state:?}");
    }
    assert_equal(&workload, &commits, |sink| first.sinks[&sink].watermark, &first.readers, what);
    let before = first.sinks.clone();
    let RestartedSink { checkpoint, watermark } = before[&SinkKind::Warehouse];
    let search = before[&SinkKind::Search];
    let torn = first.torn_bytes;
    drop(first);

    let second = restart(&setting).unwrap_or_else(|error| panic!("{what}, second restart: {error}"));
    for (sink, state) in &second.sinks {
        // The cache begins where the warehouse is, since it holds nothing itself.
        let reached = before[sink].watermark;
        let there = RestartedSink { checkpoint: reached, watermark: reached };
        assert_eq!(*state, there, "{what}: the second restart moved the {}", sink.name());
    }
    assert_eq!(second.torn_bytes, 0, "{what}: the first restart left a torn tail");
    assert_equal(&workload, &commits, |sink| second.sinks[&sink].watermark, &second.readers, what);

    let count = |counter: &AtomicU64, is: bool| counter.fetch_add(u64::from(is), Ordering::Relaxed);
    count(&met.committed, watermark > Lsn(0));
    // The clients begin after the initial load, whose position is thus before their first commit.
    let beyond_load = |lsn: Lsn| commits.first().is_some_and(|(first, _)| lsn >= *first);
    count(&met.later_checkpoint, beyond_load(checkpoint));
    count(&met.pruned, beyond_load(complete_after));
    count(&met.beyond_checkpoint, watermark > checkpoint);
    count(&met.search_beyond_checkpoint, search.watermark > search.checkpoint);
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
                        let (from, to) =
                            if kill.is_multiple_of(2) { (0, EARLY_KILL_MS) } else { (EARLY_KILL_MS, LATEST_KILL_MS) };
                        let ms = from + SplitMix64::at(seed, kill * 100 + attempt) % (to - from + 1);
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
    assert!(met.search_beyond_checkpoint.load(Ordering::Relaxed) > KILLS / 5, "no log for the search index: {met:?}");
    assert!(met.later_checkpoint.load(Ordering::Relaxed) > KILLS / 5, "no checkpoint but the first: {met:?}");
    assert!(met.pruned.load(Ordering::Relaxed) > KILLS / 5, "no changelog was pruned: {met:?}");
}
