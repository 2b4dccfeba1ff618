//! Changed bits: found wherever they are, with the file and the place; and nothing of it reaches a reader.

use super::super::damage::BLOCK_BYTES;
use super::super::manifest::{Manifest, deletions_path, manifest_path};
use super::super::segment::{Segment, segment_path};
use super::super::vectors::read_vector;
use super::super::{Warehouse, WarehouseError, WarehouseOptions, WarehouseReader, verify};
use super::support::*;
use crate::model::{Key, Lsn, TableId, Value};
use crate::sink::Sink;
use crate::storage::{Disk, Storage};
use std::fs;
use std::path::Path;
use std::sync::Arc;

const T: TableId = TableId(0);

/// A folder with one segment of `rows` rows and a deletion vector.
fn folder_of(rows: i64) -> (tempfile::TempDir, Manifest) {
    let folder = tempfile::tempdir().expect("a folder");
    let options = WarehouseOptions { chunk_rows_max: 1 << 20, ..small() };
    let mut warehouse = Warehouse::create(folder.path(), &catalog(), options).expect("a warehouse");
    let dead: Vec<Key> = (0..rows).step_by(7).map(Key::Int).collect();
    let mut random = Random(rows as u64);
    let mut upserts = int_rows(0..rows, 1);
    // Text that can't be packed.
    upserts.iter_mut().for_each(|row| row[2] = Value::text(format!("{:x}{:x}", random.next(), random.next())));
    for (lsn, deletes, rows) in [(1, &[][..], upserts), (2, &dead[..], Vec::new())] {
        warehouse.apply(&edit_set(lsn, vec![edits(&catalog(), T, false, deletes, &rows)])).expect("apply");
        warehouse.publish(Lsn(lsn)).expect("publish");
        warehouse.checkpoint().expect("checkpoint");
    }
    drop(warehouse);
    let manifest = Manifest::read(&Disk, folder.path()).expect("a manifest");
    assert_eq!(manifest.tables[0].len(), 1);
    assert!(manifest.tables[0][0].deleted.is_some());
    (folder, manifest)
}

/// Calls `each` with every place in `places`, one bit of the file's byte there changed.
fn flip(path: &Path, places: impl Iterator<Item = usize>, random: &mut Random, mut each: impl FnMut(usize)) {
    let good = fs::read(path).expect("the file");
    let mut bytes = good.clone();
    for at in places {
        bytes[at] ^= 1 << random.below(8);
        fs::write(path, &bytes).expect("a changed file");
        each(at);
        bytes[at] = good[at];
    }
    fs::write(path, &good).expect("the file as it was");
}

fn offset_of(error: &WarehouseError, file: &Path) -> usize {
    match error {
        WarehouseError::Corrupt { path, offset, .. } if path == file => offset.expect("an offset") as usize,
        other => panic!("{other}"),
    }
}

#[test]
fn every_byte_of_small_files_counts() {
    let (folder, manifest) = folder_of(50);
    let (dir, entry) = (folder.path(), &manifest.tables[0][0]);
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let mut random = Random(5);
    let path = segment_path(dir, entry.file);
    flip(&path, 0..entry.bytes as usize, &mut random, |at| {
        let segment = Segment::of_entry(&storage, dir, entry).expect("a sound entry");
        let error = segment.verify().expect_err("a changed byte");
        assert_eq!(offset_of(&error, &path), at - at % BLOCK_BYTES);
    });
    let vector = entry.deleted.as_ref().expect("a vector");
    let path = deletions_path(dir, vector.file);
    flip(&path, 0..vector.bytes as usize, &mut random, |at| {
        let error = read_vector(&Disk, dir, vector, entry.rows as usize).expect_err("a changed byte");
        let offset = offset_of(&error, &path);
        assert!((offset..offset + vector.bytes as usize).contains(&at), "{error}");
        assert!(WarehouseReader::open(dir).is_err());
    });
    assert_eq!(verify(dir).expect("a verification").faults, []);
}

#[test]
fn every_bit_of_the_manifest_counts() {
    let (folder, _) = folder_of(50);
    let dir = folder.path();
    let path = manifest_path(dir);
    let mut bytes = fs::read(&path).expect("the manifest");
    let body = bytes.iter().position(|&byte| byte == b'\n').expect("a header line") + 1;
    let version = "freshbench.warehouse ".len();
    let mut unsupported = 0;
    for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        bytes[at] ^= 1 << bit;
        fs::write(&path, &bytes).expect("a changed file");
        let error = Manifest::read(&Disk, dir).expect_err("a changed bit");
        match error {
            // Another digit is another format, as far as anybody can tell.
            WarehouseError::UnsupportedVersion { .. } if at == version => unsupported += 1,
            error => {
                let offset = offset_of(&error, &path);
                // A header that can be read says only what the body should be.
                let places = if at < body { [0, body] } else { [body, body] };
                assert!(places.contains(&offset), "bit {bit} of byte {at}: {error}");
            }
        }
        bytes[at] ^= 1 << bit;
    }
    // Of the bits of "2": "3", "0" and "6".
    assert_eq!(unsupported, 3);
}

#[test]
fn a_changed_bit_of_a_large_segment_is_placed_by_block_and_column() {
    let seed = seeds(1)[0];
    let (folder, manifest) = folder_of(20_000);
    let (dir, entry) = (folder.path(), &manifest.tables[0][0]);
    let path = segment_path(dir, entry.file);
    let length = entry.bytes as usize;
    assert!(length > 3 * BLOCK_BYTES, "{length} bytes are a small segment");
    let mut random = Random(seed);
    let places: Vec<usize> = (0..25).map(|_| random.below(length as u64) as usize).chain([0, length - 1]).collect();
    flip(&path, places.into_iter(), &mut random, |at| {
        let found = verify(dir).expect("a verification");
        let [fault] = found.faults.as_slice() else { panic!("seed {seed}, byte {at}: {:?}", found.faults) };
        assert_eq!((&fault.path, fault.offset), (&path, Some((at - at % BLOCK_BYTES) as u64)), "seed {seed}");
        let footer_is_sound = at < length - length % BLOCK_BYTES;
        assert_eq!(fault.what.contains("of column"), footer_is_sound, "seed {seed}, byte {at}: {}", fault.what);
        let reader = WarehouseReader::open(dir).expect("lengths and vectors are right");
        let row = reader.version().scan(T, None, None).next().expect("an item");
        assert!(row.expect_err("damage").to_string().contains("its hash is not the one in the manifest"));
    });
}

#[test]
fn a_folder_of_format_1_is_read_and_checked() {
    let (folder, mut manifest) = folder_of(50);
    let dir = folder.path();
    let expected = scanned(&WarehouseReader::open(dir).expect("open").version(), T);
    manifest.tables.iter_mut().flatten().for_each(|entry| entry.blocks.clear());
    let mut body: serde_json::Value = serde_json::to_value(&manifest).expect("JSON");
    body.as_object_mut().expect("an object").remove("committed_at_us");
    let body = serde_json::to_vec(&body).expect("JSON");
    let hash = xxhash_rust::xxh3::xxh3_128(&body);
    let text = [format!("freshbench.warehouse 1 {hash:032x}\n").as_bytes(), &body].concat();
    fs::write(manifest_path(dir), text).expect("a manifest of format 1");
    assert_eq!(scanned(&WarehouseReader::open(dir).expect("open").version(), T), expected);
    assert_eq!(verify(dir).expect("a verification").faults, []);
    let path = segment_path(dir, manifest.tables[0][0].file);
    flip(&path, [100].into_iter(), &mut Random(1), |_| {
        let found = verify(dir).expect("a verification");
        assert!(found.faults[0].what.contains("somewhere in bytes 0 to"), "{:?}", found.faults);
    });
    // The next checkpoint writes format 2.
    let mut warehouse = Warehouse::open(dir, small()).expect("open");
    warehouse.publish(Lsn(9)).expect("publish");
    warehouse.checkpoint().expect("checkpoint");
    assert!(fs::read_to_string(manifest_path(dir)).expect("text").starts_with("freshbench.warehouse 2 "));
}
