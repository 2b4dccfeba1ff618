//! Kept versions and verification of whole folders.

use super::super::counters::Written;
use super::super::manifest::Manifest;
use super::super::{VersionAt, Warehouse, WarehouseError, WarehouseOptions, WarehouseReader, verify, versions};
use super::support::*;
use crate::model::{Key, Lsn, TableId};
use crate::sink::Sink;
use crate::storage::Disk;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const T: TableId = TableId(0);

fn keeping(versions_kept: usize) -> WarehouseOptions {
    WarehouseOptions { versions_kept, ..small() }
}

fn step(warehouse: &mut Warehouse, lsn: u64) -> Rows {
    let first = lsn as i64 * 3 % 40;
    let deletes = [Key::Int(first + 1), Key::Int(first + 30)];
    let rows = int_rows(first + 5..first + 25, lsn as i64);
    warehouse.apply(&edit_set(lsn, vec![edits(&catalog(), T, false, &deletes, &rows)])).expect("apply");
    warehouse.publish(Lsn(lsn)).expect("publish");
    warehouse.checkpoint().expect("checkpoint");
    scanned(&warehouse.reader().version(), T)
}

fn commits(dir: &Path) -> Vec<u64> {
    versions(dir).expect("versions").iter().map(|version| version.commit).collect()
}

#[test]
fn the_last_commits_stay_as_they_were() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let mut warehouse = Warehouse::create(dir, &catalog(), keeping(3)).expect("a warehouse");
    let mut states = BTreeMap::new();
    let mut held = Vec::new();
    for lsn in 1..=12 {
        states.insert(lsn, step(&mut warehouse, lsn));
        // Commits are counted from the folder's making, which is commit 0.
        let expected: Vec<u64> = (lsn.saturating_sub(2)..=lsn).collect();
        assert_eq!(commits(dir), expected);
        for info in versions(dir).expect("versions").iter().filter(|info| info.commit > 0) {
            let at = WarehouseReader::open_at(dir, VersionAt::Commit(info.commit)).expect("a kept version");
            let found = scanned(&at.version(), T);
            assert_eq!((&found, found.len() as u64), (&states[&info.watermark.0], info.rows), "at {}", info.watermark);
            assert!(info.committed_at_us.is_some_and(|us| us > 1_600_000_000_000_000) && info.bytes > 0);
            assert_eq!(info.is_current, info.commit == lsn);
        }
        held.push((lsn, WarehouseReader::open(dir).expect("open")));
        if lsn == 7 {
            drop(warehouse);
            warehouse = Warehouse::open(dir, keeping(3)).expect("open");
        }
    }
    assert_eq!(verify(dir).expect("a verification").faults, []);
    let by_watermark = WarehouseReader::open_at(dir, VersionAt::Watermark(Lsn(11))).expect("a version");
    assert_eq!(by_watermark.version().watermark(), Lsn(11));
    let gone = WarehouseReader::open_at(dir, VersionAt::Commit(4)).expect_err("an expired version");
    assert!(matches!(&gone, WarehouseError::NoVersion { kept, .. } if *kept == [10, 11, 12]), "{gone}");
    assert!(gone.to_string().contains("has no commit 4; it keeps commits 10, 11, 12"), "{gone}");
    // Readers with file handles of their own, as another process has them: the files lost their names long ago.
    for (lsn, reader) in held {
        assert_eq!(scanned(&reader.version(), T), states[&lsn], "held since {lsn}");
    }
    drop(warehouse);
    drop(Warehouse::open(dir, keeping(1)).expect("open"));
    assert_eq!(commits(dir), [12]);
    assert!(
        fs::read_dir(dir)
            .expect("a folder")
            .all(|entry| { !entry.expect("an entry").file_name().to_string_lossy().starts_with("version-") })
    );
    assert_eq!(scanned(&WarehouseReader::open(dir).expect("open").version(), T), states[&12]);
}

#[test]
fn a_kept_manifest_that_is_damaged_spoils_no_other_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let mut warehouse = Warehouse::create(dir, &catalog(), keeping(3)).expect("a warehouse");
    (1..=5).for_each(|lsn| _ = step(&mut warehouse, lsn));
    drop(warehouse);
    fs::write(dir.join("version-0000000003.manifest"), b"nonsense").expect("a damaged manifest");
    let before = fs::read_dir(dir).expect("a folder").count();
    let faults = verify(dir).expect("a verification").faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].path.ends_with("version-0000000003.manifest") && faults[0].commit == 3);
    let mut warehouse = Warehouse::open(dir, keeping(3)).expect("open");
    assert_eq!(fs::read_dir(dir).expect("a folder").count(), before, "what it names is not known, so all stays");
    (6..=8).for_each(|lsn| _ = step(&mut warehouse, lsn));
    assert_eq!(commits(dir), [6, 7, 8]);
}

#[test]
fn a_kept_version_goes_by_its_own_number_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let mut warehouse = Warehouse::create(dir, &catalog(), keeping(4)).expect("a warehouse");
    (1..=5).for_each(|lsn| _ = step(&mut warehouse, lsn));
    drop(warehouse);
    let newest = commits(dir).last().copied().expect("a commit");
    let name = |commit: u64| dir.join(format!("version-{commit:010}.manifest"));
    let (first, second) = (name(newest - 3), name(newest - 2));
    let (third, manifest) = (name(newest - 1), dir.join("MANIFEST"));
    let good = fs::read(&first).expect("a manifest");
    let both = |error: &dyn std::fmt::Display| {
        let said = error.to_string();
        let (named, holds) = (format!("commit {}", newest - 3), format!("commit {}", newest - 2));
        assert!(said.contains(&named) && said.contains(&holds), "{said}");
    };
    fs::copy(&second, &first).expect("a copy");
    both(&versions(dir).expect_err("versions"));
    both(&WarehouseReader::open_at(dir, VersionAt::Commit(newest - 3)).expect_err("by its number"));
    both(&WarehouseReader::open_at(dir, VersionAt::Watermark(Lsn(2))).expect_err("by its watermark"));
    both(&Warehouse::open(dir, keeping(4)).expect_err("for writing"));
    let faults = verify(dir).expect("a verification").faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    both(&faults[0].what);
    // Renamed, and not only copied: the number asked for is gone, and the answer says where it went.
    fs::rename(&second, &first).expect("renamed");
    both(&WarehouseReader::open_at(dir, VersionAt::Commit(newest - 2)).expect_err("by its own number"));
    fs::rename(&first, &second).expect("renamed back");
    fs::write(&first, good).expect("as it was");
    assert_eq!(verify(dir).expect("a verification").faults, []);
    // A name that is not quite one is none.
    fs::copy(&second, dir.join(format!("version-{}.manifest", newest - 2))).expect("a copy");
    assert_eq!(commits(dir).len(), 4);
    // An older manifest in the place of the newest would have the later versions' files removed as leftovers.
    let newer = fs::read(&manifest).expect("the manifest");
    fs::copy(&second, &manifest).expect("a copy");
    let older = "an older manifest was put in its place";
    for error in [
        Warehouse::open(dir, keeping(4)).expect_err("for writing"),
        WarehouseReader::open(dir).expect_err("for reading"),
        versions(dir).expect_err("versions"),
    ] {
        assert!(error.to_string().contains(older), "{error}");
    }
    assert!(third.exists());
    assert!(verify(dir).expect("a verification").faults.iter().any(|fault| fault.what.contains("older manifest")));
    fs::write(&manifest, newer).expect("as it was");
    assert_eq!(verify(dir).expect("a verification").faults, []);
    // A stray file with a version's name is the fault, not MANIFEST.
    let stray = dir.join("version-0000099999.manifest");
    for content in [Vec::new(), fs::read(&second).expect("a version")] {
        fs::write(&stray, content).expect("a stray file");
        let error = WarehouseReader::open(dir).expect_err("for reading").to_string();
        assert!(error.contains("version-0000099999.manifest") && !error.contains(older), "{error}");
    }
    fs::remove_file(&stray).expect("as it was");
    assert_eq!(verify(dir).expect("a verification").faults, []);
}

#[test]
fn versions_are_asked_for_by_commit_or_watermark() {
    assert_eq!("12".parse(), Ok(VersionAt::Commit(12)));
    assert_eq!("lsn:345".parse(), Ok(VersionAt::Watermark(Lsn(345))));
    assert!("yesterday".parse::<VersionAt>().is_err_and(|error| error.contains("a commit such as 12")));
}

/// A sound folder whose manifest is then changed by `lie` and written anew.
fn lied(lie: impl FnOnce(&Path, &mut Manifest)) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    // Dead rows stay where they are, so that there is a deletion vector to lie about.
    let options = WarehouseOptions { dead_percent_max: 100, ..small() };
    let mut warehouse = Warehouse::create(dir, &catalog(), options).expect("a warehouse");
    (1..=2).for_each(|lsn| _ = step(&mut warehouse, lsn));
    drop(warehouse);
    assert_eq!(verify(dir).expect("a verification").faults, []);
    let mut manifest = Manifest::read(&Disk, dir).expect("a manifest");
    lie(dir, &mut manifest);
    manifest.commit(&Disk, dir, &Written::default(), || Ok(())).expect("written");
    let faults = verify(dir).expect("a verification").faults;
    assert!(faults.iter().all(|fault| fault.path.starts_with(dir)), "{faults:?}");
    faults.into_iter().map(|fault| format!("{}: {}", fault.path.display(), fault.what)).collect()
}

#[test]
fn verify_holds_every_statement_of_the_manifest_against_the_rows() {
    let first = |manifest: &mut Manifest| manifest.tables[0][0].clone();
    let with = |change: fn(&mut super::super::manifest::SegmentEntry)| lied(move |_, m| change(&mut m.tables[0][0]));
    let said = |faults: Vec<String>, words: &str| {
        assert!(faults.iter().any(|fault| fault.contains(words)), "{words:?} is not in {faults:?}");
    };
    said(with(|entry| entry.rows += 1), "and the manifest says");
    said(with(|entry| entry.bytes += 1), "bytes, and the manifest says");
    said(with(|entry| entry.key_min = super::super::manifest::KeyText::Int(-9)), "least and greatest key");
    said(with(|entry| entry.ranges[1] = Some((0, 0))), "column \"n\" has the range");
    said(with(|entry| entry.hash = "0".repeat(32)), "its hash is not the one in the manifest");
    // Without its deletion vector, rows that were updated are there twice.
    said(with(|entry| entry.deleted = None), "has a key twice");
    said(with(|entry| entry.file = 77), "the manifest names it, and it is missing");
    let copied = lied(|dir, manifest| {
        let mut entry = first(manifest);
        fs::copy(dir.join(format!("segment-{:010}.parquet", entry.file)), dir.join("segment-0000000099.parquet"))
            .expect("a copy");
        entry.file = 99;
        manifest.tables[0].push(entry);
    });
    said(copied, "table \"by/int\" has a key twice");
}

#[test]
fn verify_is_right_while_a_writer_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let mut warehouse = Warehouse::create(dir, &catalog(), keeping(2)).expect("a warehouse");
    step(&mut warehouse, 1);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (2..60).for_each(|lsn| _ = step(&mut warehouse, lsn));
            done.store(true, Ordering::Release);
        });
        let mut last = 0;
        while !done.load(Ordering::Acquire) {
            let found = verify(dir).expect("a verification");
            assert_eq!(found.faults, []);
            assert!(found.commit >= last);
            last = found.commit;
            commits(dir);
        }
    });
}
