//! A disk that fails: a clear error, nothing acknowledged, nothing retried.

use super::*;
use crate::clock::Clock;
use crate::log::Fsync;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What shall fail, and what was asked for.
#[derive(Default)]
struct Faults {
    /// Appends beyond so many bytes write a part and fail with ENOSPC; 0: none.
    bytes_max: AtomicU64,
    bytes: AtomicU64,
    fail_syncs: AtomicU64,
    syncs: AtomicU64,
    fail_removes: AtomicU64,
    calls: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Faulty(Arc<Faults>);

struct FaultyFile(Box<dyn SegmentFile>, Arc<Faults>);

fn fails(counter: &AtomicU64) -> bool {
    counter.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl SegmentFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (before, most) = (self.1.bytes.fetch_add(bytes.len() as u64, SeqCst), self.1.bytes_max.load(SeqCst));
        if most > 0 && before + bytes.len() as u64 > most {
            let part = most.saturating_sub(before) as usize;
            self.0.append(&bytes[..part])?;
            return Err(io::Error::from_raw_os_error(28));
        }
        self.0.append(bytes)
    }

    fn prepare(&mut self, bytes: usize) -> io::Result<()> {
        self.0.prepare(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.1.syncs.fetch_add(1, SeqCst);
        if fails(&self.1.fail_syncs) { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

impl Faulty {
    fn note(&self, call: &str, path: &Path) {
        let name = path.file_name().unwrap().to_str().unwrap();
        self.0.calls.lock().unwrap().push(format!("{call} {}", name.trim_start_matches('0')));
    }
}

impl Storage for Faulty {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        self.note("create", path);
        Ok(Box::new(FaultyFile(Disk.create(path)?, Arc::clone(&self.0))))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename to", to);
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if fails(&self.0.fail_removes) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.note("remove", path);
        Disk.remove(path)
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        Disk.truncate(path, bytes)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        Disk.sync_file(path)
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.0.calls.lock().unwrap().push("sync folder".to_owned());
        Ok(())
    }
}

fn open_faulty(folder: &Path, options: LogOptions) -> (Log, Arc<Faults>) {
    let faults = Arc::new(Faults::default());
    (Log::open_on(folder, options, Box::new(Faulty(Arc::clone(&faults)))).unwrap().0, faults)
}

#[test]
fn a_failed_fsync_acknowledges_nothing_and_is_never_tried_again() {
    let folder = small_folder();
    let (mut log, faults) = open_faulty(folder.path(), LogOptions::default());
    append(&mut log, 0, 10);
    assert_eq!(log.sync().unwrap(), Offset(1));
    append(&mut log, 1, 10);
    let syncs = faults.syncs.load(SeqCst);
    faults.fail_syncs.store(1, SeqCst);
    let error = log.sync().unwrap_err();
    assert!(matches!(error, LogError::Io { operation: "fsync", .. }), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    for _ in 0..3 {
        let error = log.sync().unwrap_err();
        assert!(matches!(error, LogError::Poisoned { operation: "fsync", .. }), "{error}");
    }
    let record = Record { lsn: Lsn(9), committed_at: CommitTime(0), kind: RecordKind::Note, payload: b"" };
    assert!(matches!(log.append(&record), Err(LogError::Poisoned { .. })));
    assert!(matches!(log.sync_durable(), Err(LogError::Poisoned { .. })));
    assert_eq!(faults.syncs.load(SeqCst), syncs + 1);
    assert_eq!((log.durable_offset(), log.handle().visible_offset()), (Offset(1), Offset(1)));
    let mut reader = log.reader(Offset(0)).unwrap();
    assert_eq!(read_all(&mut reader).unwrap(), expected(0, &[10]));
    assert!(log.close().is_err());
}

#[test]
fn a_full_disk_acknowledges_nothing_and_leaves_whole_records() {
    for room in 0..200 {
        let folder = small_folder();
        let (mut log, faults) = open_faulty(folder.path(), LogOptions::default());
        append(&mut log, 0, 10);
        log.sync().unwrap();
        faults.bytes_max.store(faults.bytes.load(SeqCst) + room, SeqCst);
        (1..6).for_each(|number| _ = append(&mut log, number, 10));
        let error = log.sync().unwrap_err();
        assert!(matches!(error, LogError::Io { operation: "write to", position: Some(_), .. }), "{error}");
        assert!(error.to_string().contains("free some space"), "{error}");
        assert_eq!(log.handle().visible_offset(), Offset(1));
        drop(log);
        let left = fs::read(segments(folder.path()).pop().unwrap()).unwrap();
        let torn_bytes = torn::torn(&left[left.len() - room as usize % 54..]);
        let (log, recovery) = open(folder.path(), &LogOptions::default()).unwrap();
        assert_eq!((recovery.next.0, recovery.torn_bytes), (1 + room / 54, torn_bytes), "room {room}");
        let records = read_all(&mut log.reader(Offset(0)).unwrap()).unwrap();
        assert_eq!(records, expected(0, &vec![10; recovery.next.0 as usize]));
    }
}

#[test]
fn a_failed_fsync_of_a_filled_segment_poisons_too() {
    let folder = small_folder();
    let options = LogOptions { segment_bytes_max: 100, fsync: Fsync::None, ..LogOptions::default() };
    let (mut log, faults) = open_faulty(folder.path(), options);
    append(&mut log, 0, 60);
    faults.fail_syncs.store(1, SeqCst);
    let record = Record { lsn: Lsn(1), committed_at: CommitTime(0), kind: RecordKind::Note, payload: b"" };
    assert!(matches!(log.append(&record), Err(LogError::Io { operation: "fsync", .. })));
    assert!(matches!(log.sync(), Err(LogError::Poisoned { .. })));
    assert_eq!(log.handle().visible_offset(), Offset(0));
}

#[test]
fn each_policy_fsyncs_as_it_says() {
    let every = Duration::from_millis(10);
    for (fsync, expected_syncs, durable) in [(Fsync::Always, 6, 6), (Fsync::Interval(every), 2, 5), (Fsync::None, 0, 0)]
    {
        let folder = small_folder();
        let clock = Clock::by_hand();
        let options = LogOptions { fsync, clock: clock.clone(), ..LogOptions::default() };
        let (mut log, faults) = open_faulty(folder.path(), options);
        let before = faults.syncs.load(SeqCst);
        for number in 0..6 {
            append(&mut log, number, 10);
            assert_eq!(log.sync().unwrap(), Offset(number + 1));
            assert_eq!(log.handle().visible_offset(), Offset(number + 1));
            log.sync().unwrap();
            clock.advance(Duration::from_millis(6));
        }
        assert_eq!(log.counters().fsyncs, expected_syncs, "{fsync:?}");
        assert_eq!(faults.syncs.load(SeqCst) - before, expected_syncs, "{fsync:?}");
        assert_eq!(log.durable_offset(), Offset(durable), "{fsync:?}");
        log.sync_durable().unwrap();
        assert_eq!(log.durable_offset(), Offset(6), "{fsync:?}");
        let counters = log.counters();
        assert_eq!((counters.records, counters.bytes_written), (6, 32 + 6 * 54));
    }
}

#[test]
fn folders_are_fsynced_after_every_creation_and_deletion() {
    let folder = small_folder();
    let (mut log, faults) = open_faulty(folder.path(), LogOptions { segment_bytes_max: 100, ..LogOptions::default() });
    (0..3).for_each(|number| _ = append(&mut log, number, 60));
    log.sync().unwrap();
    faults.calls.lock().unwrap().clear();
    append(&mut log, 3, 60);
    log.sync().unwrap();
    faults.fail_removes.store(1, SeqCst);
    assert!(matches!(log.retain_from(Offset(2)), Err(LogError::Io { operation: "delete", .. })));
    assert_eq!(log.retain_from(Offset(2)).unwrap(), Offset(2));
    let wanted = [
        "create 3.log.new",
        "rename to 3.log",
        "sync folder",
        "remove .log",
        "sync folder",
        "remove 1.log",
        "sync folder",
    ];
    assert_eq!(*faults.calls.lock().unwrap(), wanted);
    drop(log);
    let (_, recovery) = open(folder.path(), &LogOptions::default()).unwrap();
    assert_eq!((recovery.lowest, recovery.next), (Offset(2), Offset(4)));
}
