//! When another process can read a commit, held against a reader that opens the folder again and again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use freshbench::clock::Clock;
use freshbench::model::{Lsn, Moment};
use freshbench::sink::{SearchReader, SinkKind, WarehouseReader};
use freshbench::source::{Driver, SourceOptions, SqliteSource};
use freshbench::strategy::{self, Readable, Setting, StrategyKind};
use freshbench::transform::TransformSet;
use freshbench::workload::{Overrides, Workload};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// One look at a folder: when it began, when it had ended, and the watermark that it found.
struct Look {
    begun: Moment,
    ended: Moment,
    watermark: Lsn,
}

/// Opens the folder as another process would, until told to stop; the last look comes after that.
fn looks(clock: &Clock, stop: &AtomicBool, open: impl Fn() -> Option<Lsn>) -> Vec<Look> {
    let mut looks = Vec::new();
    loop {
        let last = stop.load(Ordering::Acquire);
        let begun = clock.now();
        if let Some(watermark) = open() {
            looks.push(Look { begun, ended: clock.now(), watermark });
        }
        if last {
            return looks;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn warehouse(folder: &Path) -> Option<Lsn> {
    // A folder that is being made has no manifest yet, and files may go between its reading and theirs.
    WarehouseReader::open(folder).ok().map(|reader| reader.version().watermark())
}

fn search(folder: &Path) -> Option<Lsn> {
    SearchReader::open(folder).ok().map(|reader| reader.view().watermark())
}

/// What was recorded and what was seen must be one story.
fn assert_agree(what: &str, seen: &[Look], readable: &Readable) {
    let Readable::Durable(recorded) = readable else { panic!("{what}: {readable:?}") };
    assert!(recorded.len() > 2, "{what}: {} versions became readable", recorded.len());
    assert!(recorded.is_sorted_by_key(|version| version.at), "{what}");
    let marks: BTreeSet<Lsn> = recorded.iter().map(|version| version.watermark).collect();
    let mut different = BTreeSet::new();
    for look in seen {
        let reached =
            |by: Moment| recorded.iter().filter(|v| v.at <= by).map(|v| v.watermark).max().unwrap_or_default();
        // What is said to be readable is read by whoever opens the folder after that.
        assert!(look.watermark >= reached(look.begun), "{what}: said to be readable, and was not there");
        // What is read was recorded. It may be the next version, whose name is in place and not yet durable.
        let ahead = recorded.iter().filter(|v| v.at > look.ended && v.watermark <= look.watermark);
        let ahead: BTreeSet<Lsn> = ahead.map(|v| v.watermark).filter(|mark| *mark > reached(look.ended)).collect();
        assert!(ahead.len() <= 1, "{what}: read long before it was recorded");
        if look.watermark > Lsn::ZERO {
            assert!(marks.contains(&look.watermark), "{what}: {} was never recorded", look.watermark);
            different.insert(look.watermark);
        }
    }
    assert!(different.len() > 2, "{what}: the reader saw {} versions", different.len());
    assert_eq!(different.last(), marks.last(), "{what}: the last version");
}

#[test]
fn what_is_said_to_be_readable_is_what_another_reader_finds() {
    for kind in
        [StrategyKind::CdcTrigger, StrategyKind::FullRefresh, StrategyKind::Incremental, StrategyKind::DualWrite]
    {
        let folder = tempfile::tempdir().unwrap();
        let overrides = Overrides {
            rows: Some(400),
            rate_per_s: Some(500.0),
            duration: Some(Duration::from_secs(2)),
            ..Overrides::default()
        };
        let workload = Workload::load("orders", &overrides).unwrap();
        let path = folder.path().join("source.db");
        let source = SqliteSource::create(&path, workload.catalog(), SourceOptions::default()).unwrap();
        source.load(&workload, &mut |_| {}).unwrap();
        let transforms = TransformSet::compile(workload.catalog(), workload.transforms()).unwrap();
        let clock = Clock::monotonic();
        let made = Setting::new(&source, transforms, folder.path(), &clock).unwrap();
        let cursor_columns = workload.catalog().iter().map(|(table, _)| workload.cursor_column(table)).collect();
        let every = Duration::from_millis(200);
        let setting = Setting { cursor_columns, batch_interval: every, checkpoint_interval: every, ..made };
        let stop = Arc::new(AtomicBool::new(false));
        let look = |name: &'static str, open: fn(&Path) -> Option<Lsn>| {
            let (clock, stop, folder) = (clock.clone(), Arc::clone(&stop), folder.path().join(name));
            std::thread::spawn(move || looks(&clock, &stop, || open(&folder)))
        };
        let (in_warehouse, in_search) = (look("warehouse", warehouse), look("search", search));
        let running = strategy::start(kind, &setting).unwrap().expect("a strategy that follows");
        let until = workload.settings().duration;
        let mut application = |client| running.application(client);
        let driver = Driver::start_with(
            &setting.source,
            &Arc::new(workload.clone()),
            2,
            &clock,
            clock.now(),
            until,
            &mut application,
        );
        let ledger = driver.unwrap().join().unwrap();
        let marker = setting.source.write_marker().unwrap();
        let goal = if kind.follows_source() { marker.log } else { marker.number };
        assert!(running.drain(goal, &clock, Duration::from_secs(60)), "{}", kind.name());
        let outcome = running.finish().unwrap();
        stop.store(true, Ordering::Release);
        assert!(ledger.counts().committed > 100);
        let readable = |sink: SinkKind| &outcome.sinks[&sink].readable;
        assert_agree(
            &format!("{}, warehouse", kind.name()),
            &in_warehouse.join().unwrap(),
            readable(SinkKind::Warehouse),
        );
        assert_agree(&format!("{}, search", kind.name()), &in_search.join().unwrap(), readable(SinkKind::Search));
        // A cache in the process is readable nowhere else.
        assert!(matches!(readable(SinkKind::Cache), Readable::Never), "{}", kind.name());
        if kind == StrategyKind::CdcTrigger {
            let sink = &outcome.sinks[&SinkKind::Warehouse];
            let Readable::Durable(durable) = &sink.readable else { panic!() };
            for version in durable.iter().skip(1) {
                let shown = sink.publishes.iter().find(|publish| publish.watermark >= version.watermark).unwrap();
                assert!(
                    shown.watermark == version.watermark && shown.at <= version.at,
                    "durable before it was visible"
                );
            }
        }
    }
}
