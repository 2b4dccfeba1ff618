//! Every I/O step of the log fails in every way: what was acknowledged is there afterwards, and nothing but what was
//! appended. `FRESHBENCH_FAULTS=step,kind` runs one case of a matrix alone.

use super::*;
use crate::storage::faulty::{Fault, FaultyDisk};

/// What is appended, and to what.
#[derive(Clone, Copy)]
struct Shape {
    segment_bytes_max: u64,
    record_bytes_max: u32,
    payload_bytes: usize,
    groups: usize,
    /// How many records each group has more than the one before; the first has one.
    growth: usize,
    prepared_bytes_max: usize,
    /// Part of the name of the test that plays it.
    test: &'static str,
}

/// Segments begin and end all the time.
const SHORT: Shape = Shape {
    segment_bytes_max: 250,
    record_bytes_max: 4_096,
    payload_bytes: 30,
    groups: 4,
    growth: 1,
    prepared_bytes_max: 0,
    test: "fault_matrix_of_the_log",
};

/// Each segment has several entries in its index, so that a part of the last one is known to have been fsynced.
const LONG: Shape = Shape {
    segment_bytes_max: 1 << 20,
    record_bytes_max: 64 << 10,
    payload_bytes: 40 << 10,
    groups: 3,
    growth: 1,
    prepared_bytes_max: 0,
    test: "fault_matrix_of_long_records",
};

/// Records are written over space that was prepared, and a segment is filled with some of it left.
const PREPARED: Shape = Shape {
    segment_bytes_max: 1_540,
    record_bytes_max: 4_096,
    payload_bytes: 30,
    groups: 38,
    growth: 0,
    prepared_bytes_max: 2_000,
    test: "fault_matrix_of_prepared_space",
};

impl Shape {
    fn options(self) -> LogOptions {
        let Shape { segment_bytes_max, record_bytes_max, prepared_bytes_max, .. } = self;
        LogOptions { segment_bytes_max, record_bytes_max, prepared_bytes_max, ..LogOptions::default() }
    }
}

#[derive(Default)]
struct Ledger {
    /// The offset behind the last record that was acknowledged.
    acknowledged: u64,
    /// Records that were handed over, acknowledged or not.
    appended: u64,
    /// Retention may have deleted what is below.
    retained: u64,
    errors: Vec<String>,
}

fn heard<T>(ledger: &mut Ledger, outcome: Result<T, LogError>) -> Option<T> {
    outcome.map_err(|error| ledger.errors.push(error.to_string())).ok()
}

/// Opens, trying a second time as a user would. Nothing that was acknowledged may be missing; what is found then is as
/// good as acknowledged.
fn begin(folder: &Path, disk: &FaultyDisk, shape: Shape, ledger: &mut Ledger) -> Option<Log> {
    for _ in 0..2 {
        let opened = Log::open_on(folder, shape.options(), Box::new(disk.clone()));
        if let Some((log, recovery)) = heard(ledger, opened) {
            assert!(recovery.next.0 >= ledger.acknowledged, "acknowledged records are missing");
            (ledger.appended, ledger.acknowledged) = (recovery.next.0, recovery.next.0);
            return Some(log);
        }
    }
    None
}

/// Appends groups of records, lets retention delete, opens anew twice.
fn play(folder: &Path, disk: &FaultyDisk, shape: Shape, ledger: &mut Ledger) {
    for opening in 0..3 {
        let Some(mut log) = begin(folder, disk, shape, ledger) else { return };
        for group in 0..shape.groups {
            for _ in 0..=group * shape.growth {
                let number = ledger.appended;
                let payload = payload(number, shape.payload_bytes);
                let record = Record {
                    lsn: Lsn(number),
                    committed_at: CommitTime(number as i64),
                    kind: RecordKind::Note,
                    payload: &payload,
                };
                if heard(ledger, log.append(&record)).is_some() {
                    ledger.appended += 1;
                }
            }
            // After a failure this must go on failing: nothing is tried again as if it had worked.
            let synced = log.sync();
            if let Some(Offset(next)) = heard(ledger, synced) {
                assert_eq!(next, ledger.appended, "more or less than what was appended was acknowledged");
                ledger.acknowledged = next;
            }
        }
        if opening == 1 {
            ledger.retained = ledger.acknowledged / 2;
            let retained = log.retain_from(Offset(ledger.retained));
            heard(ledger, retained);
        }
        if opening == 2 {
            heard(ledger, log.close());
        }
    }
}

/// Runs a case: whether a torn tail was found afterwards; `Err` says what is wrong with what it left.
fn check(shape: Shape, step: usize, fault: Fault) -> Result<bool, String> {
    let folder = small_folder();
    let path = folder.path().join("log");
    let disk = FaultyDisk::new(Some((step, fault)), None);
    let mut ledger = Ledger::default();
    play(&path, &disk, shape, &mut ledger);
    let hit = disk.hit().ok_or("the step was never reached")?;
    let is_needless = hit.starts_with("prepare") && !fault.ends_all();
    if ledger.errors.is_empty() != is_needless {
        if is_needless {
            return Err(format!("{hit} failed, and was not passed over: {:?}", ledger.errors));
        }
        return Err(format!("{hit} failed, and no error was reported"));
    }
    let clear = |error: &String| error.lines().count() == 1 && error.contains(&*folder.path().to_string_lossy());
    if let Some(error) = ledger.errors.iter().find(|error| !clear(error)) {
        return Err(format!("{hit}: the error is not one clear line: {error}"));
    }
    if fault == Fault::KillThenPowerCut {
        disk.revive();
        if let Ok((_, recovery)) = Log::open_on(&path, shape.options(), Box::new(disk.clone())) {
            ledger.acknowledged = ledger.acknowledged.max(recovery.next.0);
        }
    }
    let mut state = step as u64 + 1;
    disk.settle(&path, || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    });
    let mut is_torn = false;
    for _ in 0..2 {
        let (mut log, recovery) = Log::open(&path, shape.options()).map_err(|error| format!("{hit}: {error}"))?;
        is_torn |= recovery.torn_bytes > 0;
        let (lowest, next) = (recovery.lowest.0, recovery.next.0);
        if next < ledger.acknowledged || lowest > ledger.retained {
            return Err(format!("{hit}: {lowest}..{next} is there, and {} was acknowledged", ledger.acknowledged));
        }
        let mut reader = log.reader(Offset(lowest)).map_err(|error| format!("{hit}: {error}"))?;
        let found = read_all(&mut reader).map_err(|error| format!("{hit}: {error}"))?;
        if found != expected(lowest, &vec![shape.payload_bytes; (next - lowest) as usize]) {
            return Err(format!("{hit}: other records than those appended"));
        }
        append(&mut log, next, shape.payload_bytes);
        log.sync().map_err(|error| format!("{hit}: it does not go on: {error}"))?;
        ledger.acknowledged = next + 1;
    }
    Ok(is_torn)
}

/// Every step times every kind of fault that means something there; the steps when nothing fails.
fn run_matrix(shape: Shape) -> Vec<String> {
    let folder = small_folder();
    let disk = FaultyDisk::new(None, None);
    let mut ledger = Ledger::default();
    play(&folder.path().join("log"), &disk, shape, &mut ledger);
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors);
    let steps = disk.trace();
    let named = std::env::var("FRESHBENCH_FAULTS").ok();
    let (mut cases, mut torn_by_power_cuts, mut found) = (0, 0, Vec::new());
    for (step, name) in steps.iter().enumerate() {
        for fault in Fault::ALL {
            let id = format!("{step},{fault:?}");
            let fits = fault != Fault::ShortWrite || name.starts_with("write") || name.starts_with("prepare");
            if fits && named.as_ref().is_none_or(|named| *named == id) {
                cases += 1;
                let replay = format!("FRESHBENCH_FAULTS={id} cargo test --lib {}", shape.test);
                match check(shape, step, fault) {
                    Ok(is_torn) => torn_by_power_cuts += u64::from(is_torn && fault == Fault::PowerCutPartly),
                    Err(what) => found.push(format!("{what}\n  replay: {replay}")),
                }
            }
        }
    }
    assert!(found.is_empty(), "{} of {cases} cases:\n{}", found.len(), found.join("\n"));
    assert!(cases > 0, "FRESHBENCH_FAULTS={} names no case", named.unwrap_or_default());
    assert!(named.is_some() || torn_by_power_cuts > 0, "no power cut left a torn tail");
    println!("{} steps, {cases} cases, {torn_by_power_cuts} tails torn by power cuts", steps.len());
    steps
}

#[test]
fn the_fault_matrix_of_the_log_finds_nothing() {
    run_matrix(SHORT);
}

#[test]
fn the_fault_matrix_of_long_records_finds_nothing() {
    let steps = run_matrix(LONG);
    let from = |step: &String| step.strip_prefix("rewrite from ")?.split(' ').next()?.parse::<u64>().ok();
    let rewrites: Vec<u64> = steps.iter().filter_map(from).collect();
    // Behind the header of 32 bytes nothing would be known.
    assert!(rewrites.iter().any(|&from| from > 32), "{rewrites:?}");
}

#[test]
fn the_fault_matrix_of_prepared_space_finds_nothing() {
    let steps = run_matrix(PREPARED);
    let count = |operation: &str| steps.iter().filter(|step| step.starts_with(operation)).count();
    // Of 21 records the first 16 are appended, the others written over what is prepared, and 8 bytes of it are left. So each opening fills
    // a segment and ends in another with space left, of which two are dropped and the last one is closed.
    assert_eq!((count("prepare"), count("truncate")), (6, 6), "{steps:#?}");
}

#[test]
fn a_folder_that_an_ended_process_left_has_its_name_made_durable() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("log");
    let open = |disk: &FaultyDisk| Log::open_on(&folder, LogOptions::default(), Box::new(disk.clone())).map(drop);
    let killed = FaultyDisk::new(Some((2, Fault::Kill)), None);
    open(&killed).unwrap_err();
    assert!(killed.trace()[1].starts_with("create folder") && folder.is_dir(), "{:?}", killed.trace());
    let name = format!("fsync folder {}", above.path().file_name().unwrap().to_string_lossy());
    // Until it has a segment.
    let disks = [FaultyDisk::new(None, None), FaultyDisk::new(None, None)];
    disks.iter().for_each(|disk| open(disk).unwrap());
    assert_eq!(disks.map(|disk| disk.trace().contains(&name)), [true, false]);
}
