//! A process killed at any instant leaves the commits, the tables and the changelog in agreement.

use crate::follow::{Replay, truth};
use freshbench::capture::TriggerCapture;
use freshbench::clock::Clock;
use freshbench::model::{Lsn, Moment};
use freshbench::source::{SourceOptions, SqliteSource, drive};
use freshbench::workload::{Overrides, Workload};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tempfile::TempDir;

const PATH: &str = "FRESHBENCH_CRASH_TEST_DATABASE";

fn workload() -> Workload {
    Workload::load("orders", &Overrides { rows: Some(50), ..Overrides::default() }).unwrap()
}

/// Not a test of its own: what the killed process does. Without the variable it does nothing.
#[test]
fn writer_that_gets_killed() {
    let Ok(path) = std::env::var(PATH) else { return };
    let source = SqliteSource::open(path.as_ref(), SourceOptions::default()).unwrap();
    let (clock, stop) = (Clock::by_hand(), AtomicBool::new(false));
    drive(&source, &workload(), 2, &clock, Moment::ORIGIN, &stop, Duration::from_secs(60)).unwrap();
}

#[test]
fn killed_in_the_middle() {
    for round in 0..3 {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("record.db");
        let source = SqliteSource::create(&path, workload().catalog(), SourceOptions::default()).unwrap();
        source.load(&workload(), &mut |_| {}).unwrap();
        let tables = truth(&source);
        TriggerCapture::setup(&source).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::writer_that_gets_killed"])
            .env(PATH, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while source.last_lsn().unwrap() < Lsn(40 + 25 * round) {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut capture = TriggerCapture::resume(&source, Lsn::ZERO).unwrap();
        let mut transactions = Vec::new();
        capture.poll(u64::MAX, &mut transactions).unwrap();
        let lsns: Vec<u64> = transactions.iter().map(|transaction| transaction.lsn.0).collect();
        assert_eq!(lsns, (1..=source.last_lsn().unwrap().0).collect::<Vec<_>>());
        let mut replay = Replay { tables, strict: true };
        transactions.iter().for_each(|transaction| replay.apply(&source, transaction));
        assert_eq!(replay.tables, truth(&source));
    }
}
