//! Verifying a folder: everything that a manifest says is held against the files, and every fault is listed.
//!
//! Needs no lock: it reads one version, whose files it holds open, while a writer goes on.

use super::chunk::Ranges;
use super::columns::{TableShape, integer_range};
use super::deleted::Deleted;
use super::manifest::{KeyText, Manifest, SegmentEntry, deletions_path, manifest_path};
use super::segment::{Segment, segment_path};
use super::vectors::read_vector;
use super::versions;
use super::{WarehouseError, open};
use crate::model::{KeyColumn, KeyRef};
use crate::storage::{Disk, Storage};
use arrow_array::RecordBatch;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// Something that is not as the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyFault {
    /// The commit whose version it spoils.
    pub commit: u64,
    /// The file.
    pub path: PathBuf,
    /// Where in it, as near as can be said.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// The newest commit.
    pub commit: u64,
    /// Its watermark.
    pub watermark: u64,
    /// Versions looked at, the newest among them.
    pub versions: usize,
    /// Files read: manifests, segments, deletion vectors.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Live rows of the newest version.
    pub rows: u64,
    /// All that is wrong; empty: the folder is sound.
    pub faults: Vec<VerifyFault>,
}

/// Checks every version of the folder: manifest, lengths, hashes, row counts, ranges, deletion vectors, and that no key is there twice.
///
/// # Errors
/// When there is no warehouse, its format is newer than this build, or the system does not let files be read. Damage is
/// no error but a fault in the answer.
pub fn verify(dir: &Path) -> Result<Verification, WarehouseError> {
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    let newest = open::with_manifest(&*storage, dir, None, |manifest| {
        let mut check = Check::new(&storage, dir, manifest.commit);
        let held = check.hold(manifest)?;
        // A file that is missing or cut because the writer went on is none; then all begins again with the new manifest.
        if !check.found.faults.is_empty() && Manifest::read(&*storage, dir)?.commit != manifest.commit {
            return Err(WarehouseError::corrupt(&manifest_path(dir), "it was replaced while it was read"));
        }
        Ok((check, held, manifest.clone()))
    });
    let (mut check, held, manifest) = match newest {
        Ok(found) => found,
        Err(WarehouseError::Corrupt { path, offset, what }) => {
            let faults = vec![VerifyFault { commit: 0, path, offset, what }];
            return Ok(Verification { files: 1, faults, ..Verification::default() });
        }
        Err(error) => return Err(error),
    };
    check.found.commit = manifest.commit;
    check.found.watermark = manifest.watermark;
    check.version(&manifest_path(dir), &manifest, held)?;
    check.older(manifest.commit)?;
    Ok(check.found)
}

struct Check<'a> {
    storage: &'a Arc<dyn Storage>,
    dir: &'a Path,
    /// The commit of the version that is looked at.
    commit: u64,
    /// Files that were read already, for an earlier version.
    seen: BTreeSet<PathBuf>,
    found: Verification,
}

/// A table's segments with their files open, and their dead rows.
type Held = Vec<Vec<(Segment, Deleted)>>;

impl<'a> Check<'a> {
    fn new(storage: &'a Arc<dyn Storage>, dir: &'a Path, commit: u64) -> Check<'a> {
        Check { storage, dir, commit, seen: BTreeSet::new(), found: Verification::default() }
    }

    /// Notes damage; any other error ends the verification.
    fn note(&mut self, error: WarehouseError) -> Result<(), WarehouseError> {
        let (path, offset, what) = match error {
            WarehouseError::Corrupt { path, offset, what } => (path, offset, what),
            WarehouseError::Misnamed { path, named, holds } => {
                (path, None, format!("it has the name of commit {named} and holds the manifest of commit {holds}"))
            }
            error @ WarehouseError::Columnar { .. } => (self.dir.to_owned(), None, error.to_string()),
            error => return Err(error),
        };
        self.fault(path, offset, what);
        Ok(())
    }

    fn fault(&mut self, path: PathBuf, offset: Option<u64>, what: impl Into<String>) {
        let fault = VerifyFault { commit: self.commit, path, offset, what: what.into() };
        let same = |other: &&VerifyFault| other.path == fault.path && other.what == fault.what;
        // Versions share files: what is wrong with one is told once.
        if !self.found.faults.iter().any(|other| same(&other)) {
            self.found.faults.push(fault);
        }
    }

    fn count(&mut self, path: &Path) {
        if self.seen.insert(path.to_owned()) {
            self.found.files += 1;
            self.found.bytes += self.storage.open(path).and_then(|file| file.bytes()).unwrap_or(0);
        }
    }

    /// Opens every file of a version and reads the deletion vectors.
    fn hold(&mut self, manifest: &Manifest) -> Result<Held, WarehouseError> {
        let mut tables = Vec::with_capacity(manifest.tables.len());
        for entries in &manifest.tables {
            let mut held = Vec::with_capacity(entries.len());
            for entry in entries {
                match self.hold_one(entry) {
                    Ok(one) => held.push(one),
                    Err(error) => self.note(error)?,
                }
            }
            tables.push(held);
        }
        Ok(tables)
    }

    fn hold_one(&mut self, entry: &SegmentEntry) -> Result<(Segment, Deleted), WarehouseError> {
        let mut segment = Segment::of_entry(self.storage, self.dir, entry)?;
        segment.check_length(true)?;
        let Some(deleted) = &entry.deleted else { return Ok((segment, Deleted::default())) };
        self.count(&deletions_path(self.dir, deleted.file));
        // A segment whose vector is damaged is looked at all the same, as if no row were dead.
        match read_vector(&**self.storage, self.dir, deleted, segment.rows) {
            Ok(dead) => Ok((segment, dead)),
            Err(error) => {
                self.note(error)?;
                Ok((segment, Deleted::default()))
            }
        }
    }

    /// Reads a version's rows and holds them against its manifest, which is at `path`.
    fn version(&mut self, path: &Path, manifest: &Manifest, held: Held) -> Result<(), WarehouseError> {
        self.found.versions += 1;
        self.count(path);
        for (((id, schema), entries), segments) in manifest.catalog.iter().zip(&manifest.tables).zip(held) {
            let shape = TableShape::new(id, schema)?;
            let mut keys = LiveKeys::default();
            for (segment, deleted) in segments {
                if manifest.commit == self.found.commit {
                    self.found.rows += (segment.rows - deleted.count()) as u64;
                }
                let Some(entry) = entries.iter().find(|entry| entry.file == segment.id) else { continue };
                self.count(&segment.path);
                let rows = segment.read(&shape, None).and_then(|batch| self.rows(&shape, entry, &batch));
                match rows {
                    Ok(all) => keys.add(segment.id, &all, &deleted),
                    Err(error @ WarehouseError::Columnar { .. }) => {
                        self.fault(segment.path.clone(), None, error.to_string());
                    }
                    Err(error) => self.note(error)?,
                }
            }
            for [(file, row), (other, other_row)] in keys.twice() {
                let what = format!(
                    "table {:?} has a key twice: in row {row} here and in row {other_row} of segment {other}",
                    schema.name
                );
                self.fault(segment_path(self.dir, file), None, what);
            }
        }
        Ok(())
    }

    /// Holds what the manifest says of a segment's rows against them; gives their keys.
    fn rows(
        &mut self,
        shape: &TableShape,
        entry: &SegmentEntry,
        batch: &RecordBatch,
    ) -> Result<KeyColumn, WarehouseError> {
        let path = segment_path(self.dir, entry.file);
        let ranges: Ranges = batch.columns().iter().map(|column| integer_range(column)).collect();
        for (place, (range, said)) in ranges.iter().zip(&entry.ranges).enumerate() {
            if range != said {
                let name = shape.schema.columns.get(place).map_or("", |column| column.name.as_str());
                self.fault(
                    path.clone(),
                    None,
                    format!("column {name:?} has the range {range:?}, and the manifest says {said:?}"),
                );
            }
        }
        let columns: Vec<_> = shape.schema.key.iter().filter_map(|&at| batch.columns().get(at).cloned()).collect();
        let keys = shape.keys_of(&columns)?;
        let range = keys.iter().min().zip(keys.iter().max());
        let range = range.map(|(least, greatest)| (KeyText::of(least), KeyText::of(greatest)));
        if range.as_ref() != Some(&(entry.key_min.clone(), entry.key_max.clone())) {
            self.fault(path, None, "its least and greatest key are not those in the manifest");
        }
        Ok(keys)
    }

    /// The versions that are kept beside the newest. One that expires meanwhile is passed over.
    fn older(&mut self, newest: u64) -> Result<(), WarehouseError> {
        for (commit, path) in versions::kept_manifests(&**self.storage, self.dir, newest)? {
            let before = self.found.clone();
            self.commit = commit;
            match versions::read_kept(&**self.storage, self.dir, commit) {
                Ok(manifest) => {
                    let held = self.hold(&manifest)?;
                    self.version(&path, &manifest, held)?;
                }
                Err(WarehouseError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => continue,
                Err(error) => self.note(error)?,
            }
            if self.storage.open(&path).is_err_and(|cause| cause.kind() == ErrorKind::NotFound) {
                self.found = before;
            }
        }
        Ok(())
    }
}

/// The keys of a table's live rows: the integer, or a 128-bit hash that no two keys share; with segment and row.
#[derive(Default)]
struct LiveKeys(Vec<(u128, u64, usize)>);

impl LiveKeys {
    fn add(&mut self, segment: u64, keys: &KeyColumn, deleted: &Deleted) {
        let live = keys.iter().enumerate().filter(|(row, _)| !deleted.contains(*row));
        self.0.extend(live.map(|(row, key)| (word_of(key), segment, row)));
    }

    /// Where keys are that are there twice: two rows of each, and of no more than ten keys.
    fn twice(mut self) -> Vec<[(u64, usize); 2]> {
        self.0.sort_unstable();
        let pairs = self.0.windows(2).filter_map(|pair| match pair {
            [first, second] if first.0 == second.0 => Some([(first.1, first.2), (second.1, second.2)]),
            _ => None,
        });
        pairs.take(10).collect()
    }
}

fn word_of(key: KeyRef<'_>) -> u128 {
    match key {
        KeyRef::Int(key) => u128::from(key as u64),
        KeyRef::Encoded(bytes) => xxh3_128(bytes),
    }
}
