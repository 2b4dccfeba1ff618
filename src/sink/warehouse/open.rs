//! Opening a folder: lock, manifest, sizes, deletion vectors.
//!
//! What opening checks: the manifest's hash, that every file it names is there and as long as it says, and the hashes
//! of the deletion vectors. A segment's hash is checked whenever it is read, before a row of it is decoded; so no row
//! is served from a file that is not as it was written. `warehouse verify` reads and checks everything at once.

use super::WarehouseError;
use super::chunk::{Chunk, Known, Slot};
use super::columns::TableShape;
use super::index::Address;
use super::manifest::{Manifest, SegmentEntry};
use super::segment::Segment;
use super::table::SharedIndex;
use super::vectors::read_vector;
use super::version::{TableVersion, Version};
use super::versions::{self, VersionAt};
use crate::model::Lsn;
use crate::storage::{self, Disk, FolderFault, LockFault, Storage};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// How often a reader starts over when the writer replaced the manifest under its hands.
const ATTEMPTS: usize = 20;

/// Takes the folder's write lock; see [`storage::lock`].
pub(super) fn lock(dir: &Path) -> Result<File, WarehouseError> {
    storage::lock(&dir.join("LOCK")).map_err(|fault| match fault {
        LockFault::Held { path, holder } => WarehouseError::Locked { path, holder },
        LockFault::Io { operation, path, cause } => WarehouseError::io(operation, &path)(cause),
    })
}

/// Makes the folder if need be, its name durable in any case; for a folder that has no manifest yet.
pub(super) fn create_folder(storage: &dyn Storage, dir: &Path) -> Result<(), WarehouseError> {
    storage::create_folder(storage, dir)
        .map_err(|FolderFault { operation, path, cause }| WarehouseError::io(operation, &path)(cause))
}

/// A table's slots, and the next free address.
pub(super) struct Loaded {
    pub(super) shape: Arc<TableShape>,
    pub(super) slots: Vec<Slot>,
    pub(super) next: Address,
}

/// Makes the tables of a manifest, checking that every file is there and as long as it should be. With `hold` the
/// files stay open.
pub(super) fn load(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    manifest: &Manifest,
    hold: bool,
) -> Result<Vec<Loaded>, WarehouseError> {
    let mut tables = Vec::with_capacity(manifest.tables.len());
    for ((id, schema), entries) in manifest.catalog.iter().zip(&manifest.tables) {
        let shape = Arc::new(TableShape::new(id, schema)?);
        let (mut slots, mut next) = (Vec::with_capacity(entries.len()), 0);
        for entry in entries {
            let slot = load_slot(storage, dir, entry, &shape, (next, hold))?;
            next = slot.chunk.end();
            slots.push(slot);
        }
        tables.push(Loaded { shape, slots, next });
    }
    Ok(tables)
}

fn load_slot(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    entry: &SegmentEntry,
    shape: &Arc<TableShape>,
    (start, hold): (Address, bool),
) -> Result<Slot, WarehouseError> {
    let mut segment = Segment::of_entry(storage, dir, entry)?;
    segment.check_length(hold)?;
    let rows = segment.rows;
    let known = Known { key_range: (entry.key_min.clone(), entry.key_max.clone()), ranges: entry.ranges.clone() };
    let mut slot = Slot::new(Chunk::of_segment(shape, start, Arc::new(segment), known));
    if let Some(deleted) = &entry.deleted {
        slot.deleted = read_vector(&**storage, dir, deleted, rows)?;
    }
    Ok(slot)
}

/// The version wanted, for a reader that is not the writer; `None` is the newest. Its files stay open.
pub(super) fn read_version(dir: &Path, at: Option<VersionAt>) -> Result<Version, WarehouseError> {
    let storage: Arc<dyn Storage> = Arc::new(Disk);
    with_manifest(&*storage, dir, at, |manifest| Ok(version_of(manifest, load(&storage, dir, manifest, true)?)))
}

/// Calls `each` with the manifest of the version wanted, and again when the writer replaced it under its hands: a file may go
/// between the reading of the manifest and its opening, but only with a new manifest.
pub(super) fn with_manifest<T>(
    storage: &dyn Storage,
    dir: &Path,
    at: Option<VersionAt>,
    each: impl Fn(&Manifest) -> Result<T, WarehouseError>,
) -> Result<T, WarehouseError> {
    let mut attempt = 0;
    loop {
        let manifest = match at {
            Some(at) => versions::find(storage, dir, at)?,
            None => Manifest::read(storage, dir)?,
        };
        let is_newest = || match at {
            Some(_) => Ok(()),
            None => versions::check_newest(storage, dir, &versions::list(storage, dir)?, manifest.commit),
        };
        match is_newest().and_then(|()| each(&manifest)) {
            Ok(done) => return Ok(done),
            Err(error) => {
                attempt += 1;
                if attempt >= ATTEMPTS || Manifest::read(storage, dir)?.commit == manifest.commit {
                    return Err(error);
                }
            }
        }
    }
}

fn version_of(manifest: &Manifest, tables: Vec<Loaded>) -> Version {
    let tables = tables.into_iter().map(|table| {
        let rows = table.slots.iter().map(|slot| slot.live() as u64).sum();
        let shared = Arc::new(SharedIndex::default());
        Arc::new(TableVersion { shape: table.shape, slots: table.slots, rows, generation: 0, shared })
    });
    Version {
        watermark: Lsn(manifest.watermark),
        catalog: Arc::new(manifest.catalog.clone()),
        tables: tables.collect(),
    }
}
