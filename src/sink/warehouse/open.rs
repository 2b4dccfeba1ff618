//! Opening a folder: lock, manifest, sizes, deletion vectors.

use super::WarehouseError;
use super::chunk::{Chunk, Known, Slot};
use super::columns::TableShape;
use super::index::Address;
use super::manifest::{Manifest, SegmentEntry, hash_of};
use super::segment::Segment;
use super::table::SharedIndex;
use super::vectors::read_vector;
use super::version::{TableVersion, Version};
use crate::model::Lsn;
use crate::sink::lock::{self, LockFault};
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

/// How often a reader starts over when the writer replaced the manifest under its hands.
const ATTEMPTS: usize = 20;

/// Takes the folder's write lock; see [`lock::lock`].
pub(super) fn lock(dir: &Path) -> Result<File, WarehouseError> {
    lock::lock(dir).map_err(|fault| match fault {
        LockFault::Held { path, holder } => WarehouseError::Locked { path, holder },
        LockFault::Io { operation, path, cause } => WarehouseError::io(operation, &path)(cause),
    })
}

/// A table's slots, and the next free address.
pub(super) struct Loaded {
    pub(super) shape: Arc<TableShape>,
    pub(super) slots: Vec<Slot>,
    pub(super) next: Address,
}

/// Makes the tables of a manifest, checking that every file is there and as long as it should be. With `hold` the
/// files stay open.
pub(super) fn load(dir: &Path, manifest: &Manifest, hold: bool) -> Result<Vec<Loaded>, WarehouseError> {
    let mut tables = Vec::with_capacity(manifest.tables.len());
    for ((id, schema), entries) in manifest.catalog.iter().zip(&manifest.tables) {
        let shape = Arc::new(TableShape::new(id, schema)?);
        let (mut slots, mut next) = (Vec::with_capacity(entries.len()), 0);
        for entry in entries {
            let slot = load_slot(dir, entry, &shape, next, hold)?;
            next = slot.chunk.end();
            slots.push(slot);
        }
        tables.push(Loaded { shape, slots, next });
    }
    Ok(tables)
}

fn load_slot(
    dir: &Path,
    entry: &SegmentEntry,
    shape: &Arc<TableShape>,
    start: Address,
    hold: bool,
) -> Result<Slot, WarehouseError> {
    let rows = usize::try_from(entry.rows).unwrap_or(usize::MAX);
    let hash = hash_of(&entry.hash);
    let mut segment = Segment::new(dir, entry.file, rows, entry.bytes, hash.unwrap_or_default());
    let path = segment.path.clone();
    if hash.is_none() || rows > u32::MAX as usize || entry.key_min.key().is_none() || entry.key_max.key().is_none() {
        return Err(WarehouseError::corrupt(&path, "the manifest's entry for it makes no sense"));
    }
    let file = File::open(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => WarehouseError::corrupt(&path, "the manifest names it, and it is missing"),
        _ => WarehouseError::io("open", &path)(error),
    })?;
    let length = file.metadata().map_err(WarehouseError::io("read", &path))?.len();
    if length != entry.bytes {
        let what = format!("it has {length} bytes, and the manifest says {}", entry.bytes);
        return Err(WarehouseError::corrupt(&path, what));
    }
    segment.file = hold.then_some(file);
    let known = Known { key_range: (entry.key_min.clone(), entry.key_max.clone()), ranges: entry.ranges.clone() };
    let mut slot = Slot::new(Chunk::of_segment(shape, start, Arc::new(segment), known));
    if let Some(deleted) = &entry.deleted {
        slot.deleted = read_vector(dir, deleted, rows)?;
    }
    Ok(slot)
}

/// The version a manifest describes, for a reader that is not the writer.
pub(super) fn read_version(dir: &Path) -> Result<Version, WarehouseError> {
    let mut attempt = 0;
    loop {
        let manifest = Manifest::read(dir)?;
        match load(dir, &manifest, true) {
            Ok(tables) => return Ok(version_of(&manifest, tables)),
            Err(error) => {
                attempt += 1;
                // A file may go between the reading of the manifest and its opening, but only with a new manifest.
                if attempt >= ATTEMPTS || Manifest::read(dir)?.commit == manifest.commit {
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
