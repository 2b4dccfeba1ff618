//! The manifest: the one file that says what the warehouse is. A new one replaces the old by a rename.
//!
//! Format: a header line, `freshbench.warehouse <version> <xxh3-128 of the body, hex>`, then the body in JSON. The
//! version stands in front so that a build can refuse a newer format before it reads anything else. Format 2 added the
//! time of the commit and the hashes of the segments' blocks; without them a manifest of format 1 is as good.

use super::WarehouseError;
use super::chunk::Ranges;
use super::counters::Written;
use crate::model::{Catalog, Key, KeyRef};
use crate::storage::{Mistake, Storage};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_128;

const MAGIC: &str = "freshbench.warehouse";
/// The oldest and the newest format this build reads; it writes the newest.
pub(super) const READABLE: (u64, u64) = (1, 2);
const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// What the warehouse is: its tables, their segments, and how far it is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// Complete through this commit.
    pub(super) watermark: u64,
    /// Counts the commits of this folder.
    pub(super) commit: u64,
    /// When, in microseconds of Unix time; 0 where it is not known.
    #[serde(default)]
    pub(super) committed_at_us: i64,
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
    /// Bytes that its rows take in memory; 0 where an older build wrote it.
    #[serde(skip_serializing_if = "is_unknown", default)]
    pub(super) row_bytes: u64,
    /// xxh3-128 of the file, in hexadecimal.
    pub(super) hash: String,
    /// Hashes of its blocks (see `damage`); none in format 1.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub(super) blocks: String,
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

fn is_unknown(bytes: &u64) -> bool {
    *bytes == 0
}

/// A 128-bit hash in hexadecimal.
pub(super) fn hash_text(hash: u128) -> String {
    format!("{hash:032x}")
}

/// The hash that [`hash_text`] wrote, and no other writing of it: a changed letter case is damage too.
pub(super) fn hash_of(text: &str) -> Option<u128> {
    let hash = if text.len() == 32 { u128::from_str_radix(text, 16).ok()? } else { return None };
    (hash_text(hash) == text).then_some(hash)
}

pub(super) fn manifest_path(dir: &Path) -> PathBuf {
    dir.join("MANIFEST")
}

pub(super) fn temporary_path(dir: &Path) -> PathBuf {
    dir.join("MANIFEST.new")
}

pub(super) fn deletions_path(dir: &Path, file: u64) -> PathBuf {
    dir.join(format!("deleted-{file:010}.bin"))
}

/// Whether the folder has a manifest.
pub(super) fn exists(storage: &dyn Storage, dir: &Path) -> Result<bool, WarehouseError> {
    let path = manifest_path(dir);
    match storage.open(&path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(WarehouseError::io("open", &path)(error)),
    }
}

impl Manifest {
    /// That of a new folder.
    pub(super) fn empty(catalog: &Catalog) -> Manifest {
        let tables = vec![Vec::new(); catalog.tables.len()];
        Manifest { watermark: 0, commit: 0, committed_at_us: 0, next_file: 0, catalog: catalog.clone(), tables }
    }

    /// Reads and checks the manifest of `dir`.
    pub(super) fn read(storage: &dyn Storage, dir: &Path) -> Result<Manifest, WarehouseError> {
        Manifest::read_file(storage, &manifest_path(dir))
    }

    /// Reads and checks the manifest at `path`.
    pub(super) fn read_file(storage: &dyn Storage, path: &Path) -> Result<Manifest, WarehouseError> {
        let file = storage.open(path).map_err(WarehouseError::io("open", path))?;
        let length = file.bytes().map_err(WarehouseError::io("read", path))?;
        if length > MANIFEST_BYTES_MAX {
            return Err(WarehouseError::corrupt(path, format!("it has {length} bytes, and 1 GiB is the limit")));
        }
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, 0).map_err(WarehouseError::io("read", path))?;
        Manifest::parse(&bytes, path)
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Manifest, WarehouseError> {
        let corrupt = |what: &str| WarehouseError::corrupt_at(path, 0, what);
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
        let hash = words.next().and_then(hash_of).ok_or_else(|| corrupt("its header has no checksum"))?;
        if hash != xxh3_128(body) {
            let what = format!("its checksum does not fit its content (bytes {} to {})", end + 1, bytes.len());
            return Err(WarehouseError::corrupt_at(path, end as u64 + 1, what));
        }
        let manifest: Manifest =
            serde_json::from_slice(body).map_err(WarehouseError::columnar("parse", path.display()))?;
        if manifest.tables.len() != manifest.catalog.tables.len() {
            let what = "it has another number of tables than its catalog";
            return Err(WarehouseError::corrupt_at(path, end as u64 + 1, what));
        }
        Ok(manifest)
    }

    /// Makes this the folder's manifest: atomic, and durable when it returns. Every file it names must be durable
    /// already; their folder entries are made so here. `before_rename` is called when the new manifest has no more to do but take
    /// the old one's name. Returns the manifest's length in bytes.
    pub(super) fn commit(
        &self,
        storage: &dyn Storage,
        dir: &Path,
        written: &Written,
        before_rename: impl FnOnce() -> Result<(), WarehouseError>,
    ) -> Result<u64, WarehouseError> {
        let place = dir.display();
        let body = serde_json::to_vec(self).map_err(WarehouseError::columnar("write the manifest of", place))?;
        let mut bytes = format!("{MAGIC} {} {}\n", READABLE.1, hash_text(xxh3_128(&body))).into_bytes();
        bytes.extend_from_slice(&body);
        let (path, temporary) = (manifest_path(dir), temporary_path(dir));
        let mut file = storage.create(&temporary).map_err(WarehouseError::io("create", &temporary))?;
        file.append(&bytes).map_err(WarehouseError::io("write", &temporary))?;
        file.sync().map_err(WarehouseError::io("make durable", &temporary))?;
        written.file(bytes.len() as u64);
        before_rename()?;
        sync_folder(storage, dir, written)?;
        storage.rename(&temporary, &path).map_err(WarehouseError::io("rename", &temporary))?;
        if !storage.plants(Mistake::FolderNotSynced) {
            sync_folder(storage, dir, written)?;
        }
        Ok(bytes.len() as u64)
    }
}

pub(super) fn sync_folder(storage: &dyn Storage, dir: &Path, written: &Written) -> Result<(), WarehouseError> {
    storage.sync_folder(dir).map_err(WarehouseError::io("make durable", dir))?;
    written.folder();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;
    use std::fs;

    fn manifest() -> Manifest {
        Manifest { watermark: 7, commit: 2, next_file: 3, ..Manifest::empty(&Catalog::default()) }
    }

    #[test]
    fn it_comes_back_and_damage_is_found() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        manifest().commit(&Disk, dir.path(), &Written::default(), || Ok(()))?;
        assert_eq!(Manifest::read(&Disk, dir.path())?, manifest());
        let path = manifest_path(dir.path());
        let good = fs::read(&path)?;
        for cut in 0..good.len() {
            fs::write(&path, &good[..cut])?;
            let error = Manifest::read(&Disk, dir.path()).expect_err("a cut manifest");
            assert!(error.to_string().contains("MANIFEST is damaged"), "cut at {cut}: {error}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad)?;
            assert!(Manifest::read(&Disk, dir.path()).is_err(), "byte {at}");
        }
        Ok(())
    }

    #[test]
    fn a_newer_format_is_refused_by_naming_the_range() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        fs::write(manifest_path(dir.path()), format!("{MAGIC} 9 0\nwhatever"))?;
        let error = Manifest::read(&Disk, dir.path()).expect_err("a newer format");
        assert!(error.to_string().contains("format version 9, and this build reads versions 1 to 2"), "{error}");
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
