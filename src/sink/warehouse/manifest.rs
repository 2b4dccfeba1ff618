//! The manifest: the one file that says what the warehouse is. A new one replaces the old by a rename.
//!
//! Format: a header line, `freshbench.warehouse <version> <xxh3-128 of the body, hex>`, then the body in JSON. The
//! version stands in front so that a build can refuse a newer format before it reads anything else.

use super::chunk::Ranges;
use super::counters::Written;
use super::{WarehouseError, segment};
use crate::model::{Catalog, Key, KeyRef};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_128;

const MAGIC: &str = "freshbench.warehouse";
/// The oldest and the newest format this build reads; it writes the newest.
pub(super) const READABLE: (u64, u64) = (1, 1);
const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// What the warehouse is: its tables, their segments, and how far it is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Complete through this commit.
    pub(super) watermark: u64,
    /// Counts the commits of this folder.
    pub(super) commit: u64,
    /// The number of the next file. Numbers are not used twice, but for orphans that were removed.
    pub(super) next_file: u64,
    pub(super) catalog: Catalog,
    /// The segments of each table of the catalog.
    pub(super) tables: Vec<Vec<SegmentEntry>>,
}

/// A segment as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SegmentEntry {
    pub(super) file: u64,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// xxh3-128 of the file, in hexadecimal.
    pub(super) hash: String,
    pub(super) key_min: KeyText,
    pub(super) key_max: KeyText,
    /// The smallest and largest value of each integer-like column, where known.
    pub(super) ranges: Ranges,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) deleted: Option<DeletedEntry>,
}

/// Where a segment's deletion vector is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeletedEntry {
    pub(super) file: u64,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    /// xxh3-128 of the vector, in hexadecimal.
    pub(super) hash: String,
}

/// A key as JSON has it: an integer, or the order-preserving encoding in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KeyText {
    Int(i64),
    Hex(String),
}

impl KeyText {
    pub(super) fn of(key: KeyRef<'_>) -> KeyText {
        match key {
            KeyRef::Int(key) => KeyText::Int(key),
            KeyRef::Encoded(bytes) => KeyText::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    pub(super) fn key(&self) -> Option<Key> {
        match self {
            KeyText::Int(key) => Some(Key::Int(*key)),
            KeyText::Hex(text) => {
                let digit = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
                let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(digit).collect();
                bytes.map(|bytes| Key::Encoded(bytes.into()))
            }
        }
    }
}

/// A 128-bit hash in hexadecimal.
pub(super) fn hash_text(hash: u128) -> String {
    format!("{hash:032x}")
}

/// The hash that [`hash_text`] wrote.
pub(super) fn hash_of(text: &str) -> Option<u128> {
    if text.len() == 32 { u128::from_str_radix(text, 16).ok() } else { None }
}

pub(super) fn manifest_path(dir: &Path) -> PathBuf {
    dir.join("MANIFEST")
}

fn temporary_path(dir: &Path) -> PathBuf {
    dir.join("MANIFEST.new")
}

pub(super) fn deletions_path(dir: &Path, file: u64) -> PathBuf {
    dir.join(format!("deleted-{file:010}.bin"))
}

impl Manifest {
    /// Reads and checks the manifest of `dir`.
    pub(super) fn read(dir: &Path) -> Result<Manifest, WarehouseError> {
        let path = manifest_path(dir);
        let file = File::open(&path).map_err(WarehouseError::io("open", &path))?;
        let length = file.metadata().map_err(WarehouseError::io("read", &path))?.len();
        if length > MANIFEST_BYTES_MAX {
            return Err(WarehouseError::corrupt(&path, format!("it has {length} bytes, and 1 GiB is the limit")));
        }
        let mut bytes = Vec::new();
        file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes).map_err(WarehouseError::io("read", &path))?;
        Manifest::parse(&bytes, &path)
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Manifest, WarehouseError> {
        let corrupt = |what: &str| WarehouseError::corrupt(path, what);
        let end = bytes.iter().position(|&byte| byte == b'\n').ok_or_else(|| corrupt("it has no header line"))?;
        let (header, body) = bytes.split_at(end);
        let body = body.get(1..).unwrap_or_default();
        let header = std::str::from_utf8(header).map_err(|_| corrupt("its header is not text"))?;
        let mut words = header.split(' ');
        if words.next() != Some(MAGIC) {
            return Err(corrupt("it is not a freshbench warehouse's manifest"));
        }
        let version = words.next().and_then(|word| word.parse::<u64>().ok());
        let found = version.ok_or_else(|| corrupt("its header has no version"))?;
        if !(READABLE.0..=READABLE.1).contains(&found) {
            return Err(WarehouseError::UnsupportedVersion { path: path.to_owned(), found, readable: READABLE });
        }
        if words.next().and_then(hash_of) != Some(xxh3_128(body)) {
            return Err(corrupt("its checksum does not fit its content"));
        }
        let manifest: Manifest =
            serde_json::from_slice(body).map_err(WarehouseError::columnar("parse", path.display()))?;
        if manifest.tables.len() != manifest.catalog.tables.len() {
            return Err(corrupt("it has another number of tables than its catalog"));
        }
        Ok(manifest)
    }

    /// Makes this the folder's manifest: atomic, and durable when it returns. Every file it names must be durable
    /// already; their folder entries are made so here. Returns the manifest's length in bytes.
    pub(super) fn commit(&self, dir: &Path, written: &Written) -> Result<u64, WarehouseError> {
        let place = dir.display();
        let body = serde_json::to_vec(self).map_err(WarehouseError::columnar("write the manifest of", place))?;
        let header = format!("{MAGIC} {} {}\n", READABLE.1, hash_text(xxh3_128(&body)));
        let (path, temporary) = (manifest_path(dir), temporary_path(dir));
        let mut file = File::create(&temporary).map_err(WarehouseError::io("create", &temporary))?;
        file.write_all(header.as_bytes()).map_err(WarehouseError::io("write", &temporary))?;
        file.write_all(&body).map_err(WarehouseError::io("write", &temporary))?;
        file.sync_all().map_err(WarehouseError::io("make durable", &temporary))?;
        let bytes = (header.len() + body.len()) as u64;
        written.file(bytes);
        sync_folder(dir, written)?;
        fs::rename(&temporary, &path).map_err(WarehouseError::io("rename", &temporary))?;
        sync_folder(dir, written)?;
        Ok(bytes)
    }

    /// Removes every file of the warehouse's kind that this manifest does not name: what a crash left behind.
    pub(super) fn remove_orphans(&self, dir: &Path) -> Result<usize, WarehouseError> {
        let mut named = std::collections::BTreeSet::new();
        for entry in self.tables.iter().flatten() {
            named.insert(segment::segment_path(dir, entry.file));
            named.extend(entry.deleted.iter().map(|deleted| deletions_path(dir, deleted.file)));
        }
        let mut removed = 0;
        for entry in fs::read_dir(dir).map_err(WarehouseError::io("list", dir))? {
            let path = entry.map_err(WarehouseError::io("list", dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let ours = (name.starts_with("segment-") && name.ends_with(".parquet"))
                || (name.starts_with("deleted-") && name.ends_with(".bin"))
                || path == temporary_path(dir);
            if ours && !named.contains(&path) {
                match fs::remove_file(&path) {
                    Ok(()) => removed += 1,
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(WarehouseError::io("remove", &path)(error)),
                }
            }
        }
        Ok(removed)
    }
}

fn sync_folder(dir: &Path, written: &Written) -> Result<(), WarehouseError> {
    let folder = File::open(dir).map_err(WarehouseError::io("open", dir))?;
    folder.sync_all().map_err(WarehouseError::io("make durable", dir))?;
    written.folder();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest { watermark: 7, commit: 2, next_file: 3, catalog: Catalog::default(), tables: Vec::new() }
    }

    #[test]
    fn it_comes_back_and_damage_is_found() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        manifest().commit(dir.path(), &Written::default())?;
        assert_eq!(Manifest::read(dir.path())?, manifest());
        let path = manifest_path(dir.path());
        let good = fs::read(&path)?;
        for cut in 0..good.len() {
            fs::write(&path, &good[..cut])?;
            let error = Manifest::read(dir.path()).expect_err("a cut manifest");
            assert!(error.to_string().contains("MANIFEST is damaged"), "cut at {cut}: {error}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad)?;
            assert!(Manifest::read(dir.path()).is_err(), "byte {at}");
        }
        Ok(())
    }

    #[test]
    fn a_newer_format_is_refused_by_naming_the_range() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        fs::write(manifest_path(dir.path()), format!("{MAGIC} 9 0\nwhatever"))?;
        let error = Manifest::read(dir.path()).expect_err("a newer format");
        assert!(error.to_string().contains("format version 9, and this build reads versions 1 to 1"), "{error}");
        Ok(())
    }

    #[test]
    fn keys_come_back_from_their_text() {
        for key in [Key::Int(i64::MIN), Key::Encoded([0, 255, 16].into())] {
            assert_eq!(KeyText::of(key.as_ref()).key(), Some(key));
        }
        assert_eq!(KeyText::Hex("0".into()).key(), None);
    }
}
