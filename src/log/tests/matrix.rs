//! Every I/O step of the log fails in every way: what was acknowledged is there afterwards, and nothing but what was
//! appended. `FRESHBENCH_FAULTS=step,kind` runs one case alone.

use super::*;
use crate::storage::faulty::{Fault, FaultyDisk};

fn options() -> LogOptions {
    LogOptions { segment_bytes_max: 250, record_bytes_max: 4_096, ..LogOptions::default() }
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

/// Opens, trying a second time as a user would. Nothing that was acknowledged may be missing.
fn begin(folder: &Path, disk: &FaultyDisk, ledger: &mut Ledger) -> Option<Log> {
    for _ in 0..2 {
        if let Some((log, recovery)) = heard(ledger, Log::open_on(folder, options(), Box::new(disk.clone()))) {
            assert!(recovery.next.0 >= ledger.acknowledged, "acknowledged records are missing");
            ledger.appended = recovery.next.0;
            return Some(log);
        }
    }
    None
}

/// Appends groups of records, lets retention delete, opens anew twice.
fn play(folder: &Path, disk: &FaultyDisk, ledger: &mut Ledger) {
    for opening in 0..3 {
        let Some(mut log) = begin(folder, disk, ledger) else { return };
        for group in 0..4 {
            for _ in 0..=group {
                let number = ledger.appended;
                let payload = payload(number, 30);
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
    }
}

fn check(step: usize, fault: Fault) -> Result<(), String> {
    let folder = small_folder();
    let path = folder.path().join("log");
    let disk = FaultyDisk::new(Some((step, fault)), None);
    let mut ledger = Ledger::default();
    play(&path, &disk, &mut ledger);
    let hit = disk.hit().ok_or("the step was never reached")?;
    if ledger.errors.is_empty() {
        return Err(format!("{hit} failed, and no error was reported"));
    }
    let clear = |error: &String| error.lines().count() == 1 && error.contains(&*folder.path().to_string_lossy());
    if let Some(error) = ledger.errors.iter().find(|error| !clear(error)) {
        return Err(format!("{hit}: the error is not one clear line: {error}"));
    }
    if fault == Fault::KillThenPowerCut {
        disk.revive();
        drop(Log::open_on(&path, options(), Box::new(disk.clone())));
    }
    let mut state = step as u64 + 1;
    disk.settle(&path, || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    });
    for _ in 0..2 {
        let (mut log, recovery) = Log::open(&path, options()).map_err(|error| format!("{hit}: {error}"))?;
        let (lowest, next) = (recovery.lowest.0, recovery.next.0);
        if next < ledger.acknowledged || lowest > ledger.retained {
            return Err(format!("{hit}: {lowest}..{next} is there, and {} was acknowledged", ledger.acknowledged));
        }
        let mut reader = log.reader(Offset(lowest)).map_err(|error| format!("{hit}: {error}"))?;
        let found = read_all(&mut reader).map_err(|error| format!("{hit}: {error}"))?;
        if found != expected(lowest, &vec![30; (next - lowest) as usize]) {
            return Err(format!("{hit}: other records than those appended"));
        }
        append(&mut log, next, 30);
        log.sync().map_err(|error| format!("{hit}: it does not go on: {error}"))?;
        ledger.acknowledged = next + 1;
    }
    Ok(())
}

#[test]
fn the_fault_matrix_of_the_log_finds_nothing() {
    let folder = small_folder();
    let disk = FaultyDisk::new(None, None);
    let mut ledger = Ledger::default();
    play(&folder.path().join("log"), &disk, &mut ledger);
    assert!(ledger.errors.is_empty(), "{:?}", ledger.errors);
    let steps = disk.trace();
    let named = std::env::var("FRESHBENCH_FAULTS").ok();
    let (mut cases, mut found) = (0, Vec::new());
    for (step, name) in steps.iter().enumerate() {
        for fault in Fault::ALL {
            let id = format!("{step},{fault:?}");
            let fits = fault != Fault::ShortWrite || name.starts_with("write");
            if fits && named.as_ref().is_none_or(|named| *named == id) {
                cases += 1;
                let replay = format!("FRESHBENCH_FAULTS={id} cargo test --lib fault_matrix_of_the_log");
                found.extend(check(step, fault).err().map(|what| format!("{what}\n  replay: {replay}")));
            }
        }
    }
    assert!(found.is_empty(), "{} of {cases} cases:\n{}", found.len(), found.join("\n"));
    println!("{} steps, {cases} cases", steps.len());
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
