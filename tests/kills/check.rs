//! What a killed child left, held against the ledger: in a copy, so that the next child finds what the kill left.

use crate::child::{has_warehouse, log_options, rows, totals, warehouse_options};
use crate::ledger::{Ledger, ORDERS, Row, Rows, catalog};
use freshbench::apply::Folder;
use freshbench::log::{Log, LogReader, Offset};
use freshbench::model::{KeyRef, Lsn, Transaction, Value};
use freshbench::sink::{Sink, Warehouse, WarehouseError, WarehouseVersion};
use freshbench::transform::TransformSet;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one folder must hold, and what its children said so far.
#[derive(Clone, Debug)]
pub struct Known {
    /// At the highest durable watermark seen.
    pub durable: Ledger,
    /// A child said that the warehouse has the first so many for good.
    pub checkpointed: u64,
    /// The first so many transactions were acknowledged.
    pub acknowledged: u64,
    /// The first so many were fsynced.
    pub synced: u64,
}

/// What a check met.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    pub torn: bool,
    pub orphans: bool,
    /// The log held transactions that the durable warehouse did not.
    pub replayed: bool,
    /// The log held transactions that nobody had heard of.
    pub unheard: bool,
    pub deleted_rows: bool,
    pub segments: usize,
}

fn said<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

pub fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?
        } else {
            fs::copy(entry.path(), target).map(drop)?
        }
    }
    Ok(())
}

/// The log's segment files, in order.
pub fn segments(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder.join("log")) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    paths.sort();
    paths
}

/// The byte behind the last that is not zero: prepared space is behind it, or the end.
pub fn content_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

/// The byte behind the last whole record below `limit` in a segment, by the format alone (`src/log/frame.rs`).
pub fn end_of_records(bytes: &[u8], limit: u64) -> usize {
    let (mut at, mut end) = (32, 32);
    while let Some(head) = bytes.get(at..at + 44) {
        let crc = u32::from_le_bytes(head[..4].try_into().expect("four bytes"));
        let length = u32::from_le_bytes(head[4..8].try_into().expect("four bytes")) as usize;
        let offset = u64::from_le_bytes(head[8..16].try_into().expect("eight bytes"));
        // In prepared space the zeros that end a torn record can't be told from it by lengths.
        let is_whole = bytes.get(at + 4..at + 44 + length).is_some_and(|covered| crc32c::crc32c(covered) == crc);
        if !is_whole || offset >= limit {
            break;
        }
        at += 44 + length;
        if head[40] & 1 == 0 {
            end = at;
        }
    }
    end
}

/// Everything acknowledged is there, the warehouse is the ledger at exactly its watermark, and the log brings it to its end.
///
/// # Errors
/// What is wrong, with table and key.
pub fn check(folder: &Path, known: &mut Known, twice: bool) -> Result<Found, String> {
    let scratch = tempfile::tempdir().map_err(said)?;
    copy(folder, scratch.path()).map_err(said)?;
    let folder = scratch.path();
    let mut found = Found { segments: segments(folder).len(), ..Found::default() };
    let log = check_log(folder, known, &mut found)?;
    if !has_warehouse(folder) {
        // No checkpoint was ever durable.
        return if known.durable.next == 0 && known.checkpointed == 0 {
            Ok(found)
        } else {
            Err("the warehouse's manifest is gone".to_owned())
        };
    }
    let place = folder.join("warehouse");
    let before = files(&place)?;
    let mut warehouse = Warehouse::open(&place, warehouse_options()).map_err(said)?;
    found.orphans = files(&place)? < before;
    found.deleted_rows = fs::read_dir(&place)
        .map_err(said)?
        .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("deleted-")));
    warehouse.verify().map_err(|error| format!("verify: {error}"))?;
    let Lsn(watermark) = warehouse.visible();
    if watermark < known.durable.next {
        return Err(format!("the durable watermark went back from {} to {watermark}", known.durable.next));
    }
    if watermark < known.checkpointed {
        return Err(format!("{} was checkpointed, and the warehouse is at {watermark}", known.checkpointed));
    }
    if watermark > log.next_offset().0 {
        return Err(format!("the warehouse is at {watermark}, and the log ends at {}", log.next_offset()));
    }
    while known.durable.next < watermark {
        known.durable.step();
    }
    compare(&warehouse.reader().version(), &known.durable)?;
    found.replayed = watermark < log.next_offset().0;
    let mut end = known.durable.clone();
    replay(&mut warehouse, log.reader(Offset(watermark)).map_err(said)?, &mut end)?;
    if twice {
        warehouse.checkpoint().map_err(said)?;
        drop(warehouse);
        let warehouse = open_again(&place)?;
        compare(&warehouse.reader().version(), &end).map_err(|what| format!("opened again: {what}"))?;
    }
    Ok(found)
}

/// Opens what was open until now. A process that is being started has a copy of the lock until it runs its own program.
fn open_again(place: &Path) -> Result<Warehouse, String> {
    let begun = Instant::now();
    loop {
        match Warehouse::open(place, warehouse_options()) {
            Err(WarehouseError::Locked { .. }) if begun.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened.map_err(said),
        }
    }
}

fn files(place: &Path) -> Result<usize, String> {
    Ok(fs::read_dir(place).map_err(said)?.count())
}

/// The log holds every acknowledged transaction as the ledger has it, and what it calls torn is what is no whole record, but for
/// zeros at the end: those it prepared.
fn check_log(folder: &Path, known: &Known, found: &mut Found) -> Result<Log, String> {
    let last = segments(folder).pop();
    let bytes = last.map_or(Ok(Vec::new()), fs::read).map_err(said)?;
    let tail = bytes.get(end_of_records(&bytes, u64::MAX)..).unwrap_or_default();
    let torn = content_end(tail);
    let (log, recovery) = Log::open(folder.join("log"), log_options()).map_err(said)?;
    if recovery.torn_bytes != torn as u64 {
        return Err(format!(
            "{torn} bytes of the log are no whole record, and {} were called torn",
            recovery.torn_bytes
        ));
    }
    if recovery.next.0 < known.acknowledged {
        return Err(format!(
            "{} transactions were acknowledged, and the log ends at {}",
            known.acknowledged, recovery.next
        ));
    }
    found.torn = torn > 0;
    found.unheard = recovery.next.0 > known.acknowledged;
    // Retention must have left what the last durable warehouse needs, if there is anything.
    let mut ledger = known.durable.clone();
    if recovery.lowest.0 > ledger.next && recovery.lowest < recovery.next && !has_warehouse(folder) {
        return Err(format!("the log begins at {}, and no warehouse is there", recovery.lowest));
    }
    let mut reader = log.reader(Offset(ledger.next.max(recovery.lowest.0))).map_err(said)?;
    while ledger.next < reader.next_offset().0 {
        ledger.step();
    }
    while let Some((_, transaction)) = reader.next_transaction().map_err(said)? {
        if transaction != ledger.step() {
            return Err(format!("the log's transaction {} is not the one that was committed", transaction.lsn));
        }
    }
    if ledger.next == recovery.next.0 {
        Ok(log)
    } else {
        Err(format!("the log was read to {} of {}", ledger.next, recovery.next))
    }
}

/// Replays in one group and compares at the end.
fn replay(warehouse: &mut Warehouse, mut reader: LogReader, ledger: &mut Ledger) -> Result<(), String> {
    let mut folder = Folder::new(Arc::new(TransformSet::identity(&catalog())));
    let mut transaction = Transaction::default();
    while reader.next_transaction_into(&mut transaction).map_err(said)?.is_some() {
        folder.push(&transaction).map_err(said)?;
        ledger.step();
    }
    let edits = folder.finish(warehouse).map_err(said)?;
    warehouse.apply(&edits).map_err(said)?;
    warehouse.publish(Lsn(ledger.next)).map_err(said)?;
    compare(&warehouse.reader().version(), ledger).map_err(|what| format!("the log replayed: {what}"))
}

/// A version against the ledger: every row by a scan, some by key, and the totals.
fn compare(version: &WarehouseVersion, ledger: &Ledger) -> Result<(), String> {
    let at = ledger.next;
    if version.watermark() != Lsn(at) {
        return Err(format!("the version is of {}, not of {at}", version.watermark()));
    }
    for (table, schema) in catalog().iter() {
        let name = &schema.name;
        let expected = ledger.rows(table);
        let scanned = rows(version, table).map_err(|error| format!("{name} at {at}: {error}"))?;
        if scanned.len() as u64 != version.row_count(table) {
            return Err(format!("{name} at {at}: {} rows, and it says {}", scanned.len(), version.row_count(table)));
        }
        let mut left = BTreeMap::new();
        for (key, row) in scanned {
            if left.insert(key.clone(), row).is_some() {
                return Err(format!("{name} at {at}: key {key:?} twice"));
            }
        }
        difference(expected, &left).map_or(Ok(()), |what| Err(format!("{name} at {at}: {what}")))?;
    }
    look_up(version, &ledger.orders).map_err(|what| format!("orders at {at}: {what}"))?;
    totals(version).map_err(|what| format!("torn at {at}: {what}"))
}

fn difference(expected: &Rows, actual: &Rows) -> Option<String> {
    let shown = |row: &Row| format!("({}, {:.30})", row.0, row.1);
    let lost =
        expected.iter().find(|(key, row)| actual.get(*key) != Some(row)).map(|(key, row)| match actual.get(key) {
            None => format!("key {key:?} is missing"),
            Some(other) => format!("key {key:?} is {}, and should be {}", shown(other), shown(row)),
        });
    lost.or_else(|| {
        actual.keys().find(|key| !expected.contains_key(*key)).map(|key| format!("key {key:?} should not be there"))
    })
}

/// Some orders through the index, those that are there and those that are not.
fn look_up(version: &WarehouseVersion, expected: &Rows) -> Result<(), String> {
    for id in (0..300).step_by(23) {
        let row = version.get(ORDERS, KeyRef::Int(id)).map_err(said)?;
        let number = row.and_then(|row| match row.get(1) {
            Some(Value::Int(total)) => Some(*total),
            _ => None,
        });
        if number != expected.get(&vec![id]).map(|row| row.0) {
            return Err(format!("key [{id}] is {number:?} by the index"));
        }
    }
    Ok(())
}
