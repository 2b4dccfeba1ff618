//! Crashes: whatever is in the folder at the time, opening finds the last checkpoint.

use super::super::manifest::{READABLE, manifest_path};
use super::super::{Warehouse, WarehouseError};
use super::support::*;
use crate::model::{Key, Lsn, TableId, Value};
use crate::sink::Sink;
use std::fs;
use std::path::{Path, PathBuf};

const T: TableId = TableId(0);

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths.filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    paths.sort();
    paths
}

fn step(warehouse: &mut Warehouse, lsn: u64) {
    let id = lsn as i64;
    let deletes = [Key::Int(id - 3)];
    let rows = int_rows(
        [id, id * 7 % 50 + 1_000, id * 3 % 50 + 1_000].into_iter().collect::<std::collections::BTreeSet<_>>(),
        id,
    );
    warehouse.apply(&edit_set(lsn, vec![edits(&catalog(), T, false, &deletes, &rows)])).expect("apply");
    warehouse.publish(Lsn(lsn)).expect("publish");
}

#[test]
fn a_copy_taken_at_any_step_opens_at_its_last_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("w");
    let mut warehouse = create(&dir);
    let (mut durable, mut expected) = (Lsn(0), Rows::new());
    for lsn in 1..80 {
        step(&mut warehouse, lsn);
        if lsn % 4 == 0 {
            durable = warehouse.checkpoint().expect("checkpoint");
            expected = scanned(&warehouse.reader().version(), T);
        }
        let crashed = folder.path().join(format!("crash-{lsn}"));
        copy(&dir, &crashed);
        // What an unfinished commit leaves behind: files no manifest names, whole or cut, and half a manifest.
        fs::write(crashed.join("segment-9999999999.parquet"), b"PAR1 half a file").expect("an orphan");
        fs::write(crashed.join("deleted-9999999999.bin"), b"").expect("an orphan");
        fs::write(crashed.join("MANIFEST.new"), b"freshbench.warehouse 1 00").expect("half a manifest");
        for _ in 0..2 {
            let opened = Warehouse::open(&crashed, small()).expect("open");
            assert_eq!((opened.visible(), opened.durable()), (durable, durable));
            assert_eq!(scanned(&opened.reader().version(), T), expected, "copied after {lsn}");
            opened.verify().expect("sound");
        }
        assert!(files(&crashed, "9999999999.parquet").is_empty() && files(&crashed, ".new").is_empty());
    }
}

#[test]
fn edits_applied_again_after_opening_do_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = create(folder.path());
    for lsn in 1..30 {
        step(&mut warehouse, lsn);
        if lsn == 20 {
            warehouse.checkpoint().expect("checkpoint");
        }
    }
    let expected = scanned(&warehouse.reader().version(), T);
    drop(warehouse);
    let mut warehouse = Warehouse::open(folder.path(), small()).expect("open");
    assert_eq!(warehouse.durable(), Lsn(20));
    for lsn in 21..30 {
        for _ in 0..2 {
            step(&mut warehouse, lsn);
        }
    }
    assert_eq!(scanned(&warehouse.reader().version(), T), expected);
    let back = warehouse.publish(Lsn(3)).expect_err("a watermark that goes back").to_string();
    assert!(back.contains("watermark 3 lies before 29"), "{back}");
}

/// A folder with a checkpoint that has segments and a deletion vector.
fn checkpointed() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = create(folder.path());
    warehouse.apply(&edit_set(1, vec![edits(&catalog(), T, false, &[], &int_rows(0..64, 1))])).expect("apply");
    warehouse.publish(Lsn(1)).expect("publish");
    warehouse.checkpoint().expect("checkpoint");
    warehouse.apply(&edit_set(2, vec![edits(&catalog(), T, false, &[Key::Int(5)], &[])])).expect("apply");
    warehouse.publish(Lsn(2)).expect("publish");
    warehouse.checkpoint().expect("checkpoint");
    folder
}

#[test]
fn cut_missing_and_changed_files_are_found_and_named() {
    for suffix in [".parquet", ".bin", "MANIFEST"] {
        let folder = checkpointed();
        let [path] = files(folder.path(), suffix).try_into().expect("one file");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let good = fs::read(&path).expect("the file");
        for cut in [0, 1, good.len() / 2, good.len() - 1] {
            fs::write(&path, &good[..cut]).expect("a cut file");
            let error = Warehouse::open(folder.path(), small()).expect_err("a cut file");
            assert!(error.to_string().contains(&name), "{name} cut at {cut}: {error}");
        }
        for at in (0..good.len()).step_by(good.len() / 20 + 1) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, &bad).expect("a damaged file");
            let found = Warehouse::open(folder.path(), small()).and_then(|warehouse| warehouse.verify());
            let error = found.expect_err("a changed byte");
            assert!(error.to_string().contains(&name), "{name} changed at {at}: {error}");
        }
        fs::remove_file(&path).expect("removed");
        let error = Warehouse::open(folder.path(), small()).expect_err("a missing file");
        assert!(error.to_string().contains(&name), "{error}");
        fs::write(&path, &good).expect("restored");
        Warehouse::open(folder.path(), small()).and_then(|warehouse| warehouse.verify()).expect("sound again");
    }
}

#[test]
fn a_changed_segment_is_found_before_its_rows_are_used() {
    let folder = checkpointed();
    let [path] = files(folder.path(), ".parquet").try_into().expect("one segment");
    let mut bytes = fs::read(&path).expect("the file");
    bytes[40] ^= 1;
    fs::write(&path, &bytes).expect("a damaged file");
    let warehouse = Warehouse::open(folder.path(), small()).expect("the length fits");
    let error = warehouse.reader().version().scan(T, None, None).next().expect("an item").expect_err("damage");
    assert!(error.to_string().contains("its hash is not the one in the manifest"), "{error}");
}

#[test]
fn a_newer_format_is_refused() {
    let folder = checkpointed();
    let path = manifest_path(folder.path());
    let text = fs::read_to_string(&path).expect("the manifest");
    fs::write(&path, text.replacen("freshbench.warehouse 2 ", "freshbench.warehouse 3 ", 1)).expect("written");
    let error = Warehouse::open(folder.path(), small()).expect_err("a newer format");
    assert!(matches!(&error, WarehouseError::UnsupportedVersion { found: 3, readable, .. } if *readable == READABLE));
    assert!(!files(folder.path(), ".parquet").is_empty(), "nothing was removed");
}

#[test]
fn a_failing_write_acknowledges_nothing_and_names_the_file() {
    let folder = checkpointed();
    let mut warehouse = Warehouse::open(folder.path(), small()).expect("open");
    warehouse.apply(&edit_set(3, vec![edits(&catalog(), T, false, &[], &int_rows(100..140, 3))])).expect("apply");
    warehouse.publish(Lsn(3)).expect("publish");
    // A folder stands where the manifest's new file would go.
    fs::create_dir(folder.path().join("MANIFEST.new")).expect("a folder in the way");
    let error = warehouse.checkpoint().expect_err("no manifest can be written").to_string();
    assert!(error.contains("could not create") && error.contains("MANIFEST.new"), "{error}");
    assert_eq!((warehouse.visible(), warehouse.durable()), (Lsn(3), Lsn(2)));
    fs::remove_dir(folder.path().join("MANIFEST.new")).expect("out of the way");
    assert_eq!(warehouse.checkpoint().expect("the second try"), Lsn(3));
    let expected = scanned(&warehouse.reader().version(), T);
    drop(warehouse);
    let warehouse = Warehouse::open(folder.path(), small()).expect("open");
    assert_eq!(scanned(&warehouse.reader().version(), T), expected);
}

#[test]
fn edits_that_do_not_fit_are_refused_before_anything_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = create(folder.path());
    let good = edits(&catalog(), T, false, &[], &int_rows(0..3, 1));
    let mut other_keys = good.clone();
    other_keys.upsert_keys = crate::model::KeyColumn::Int(vec![7, 8, 9]);
    let mut other_table = good.clone();
    other_table.table = TableId(2);
    let mut unknown = good.clone();
    unknown.table = TableId(9);
    for bad in [other_keys, other_table, unknown] {
        warehouse.apply(&edit_set(1, vec![good.clone(), bad])).expect_err("edits that do not fit");
    }
    warehouse.publish(Lsn(1)).expect("publish");
    assert_eq!(warehouse.reader().version().row_count(T), 0);
    assert!(matches!(
        warehouse.reader().version().aggregate(T, &[super::super::Aggregate::Sum(2)]),
        Err(WarehouseError::Mismatch { .. })
    ));
    let wrong = super::super::Filter {
        conditions: vec![super::super::Condition {
            column: 0,
            comparison: super::super::Comparison::Equal,
            literal: Value::text("1"),
        }],
    };
    assert!(warehouse.reader().version().scan(T, None, Some(&wrong)).next().is_some_and(|item| item.is_err()));
}
