//! Making a version durable: segments for chunks that have none, changed deletion vectors, then the manifest.
//!
//! Order: every data file is written and fsynced, the folder is fsynced, the manifest is written under another name, fsynced and
//! renamed, the folder is fsynced again. The watermark is in the manifest, so it can't be durable without the data.

use super::chunk::{Chunk, Slot};
use super::counters::Written;
use super::manifest::{DeletedEntry, Manifest, SegmentEntry, deletions_path, hash_text};
use super::segment::{Segment, write_segment};
use super::vectors::VectorFile;
use super::version::Version;
use super::{WarehouseError, WarehouseOptions};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The durable state of a folder and the means of replacing it. One a folder.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) dir: PathBuf,
    pub(super) options: WarehouseOptions,
    /// The manifest on disk.
    pub(super) manifest: Manifest,
    /// The segments that the manifest names.
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
    /// The number of the next file.
    pub(super) files: Arc<AtomicU64>,
    pub(super) written: Arc<Written>,
    pub(super) bytes: BytesByKind,
    /// An earlier failure left it open what is on the disk.
    pub(super) poisoned: bool,
}

/// Bytes written, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BytesByKind {
    pub(super) segments: u64,
    pub(super) merges: u64,
    pub(super) vectors: u64,
    pub(super) manifests: u64,
}

impl Durable {
    pub(super) fn check(&self) -> Result<(), WarehouseError> {
        if self.poisoned { Err(WarehouseError::Poisoned { path: self.dir.clone() }) } else { Ok(()) }
    }

    /// Makes `version` what [`super::Warehouse::open`] finds.
    ///
    /// # Errors
    /// The folder then still holds the version before, unless the error came from making something durable: then
    /// that is open, and every further call is refused.
    pub(super) fn commit(&mut self, version: &Version) -> Result<(), WarehouseError> {
        self.check()?;
        let outcome = self.try_commit(version);
        if let Err(WarehouseError::Io { operation: "make durable" | "rename", .. }) = &outcome {
            self.poisoned = true;
        }
        outcome
    }

    fn try_commit(&mut self, version: &Version) -> Result<(), WarehouseError> {
        self.write_segments(version)?;
        let known: BTreeMap<u64, DeletedEntry> = self
            .manifest
            .tables
            .iter()
            .flatten()
            .filter_map(|entry| Some((entry.file, entry.deleted.clone()?)))
            .collect();
        let mut vectors = VectorFile::new(self.files.fetch_add(1, Ordering::Relaxed));
        let mut segments = BTreeMap::new();
        let mut tables = Vec::with_capacity(version.tables.len());
        for table in &version.tables {
            let mut entries = Vec::with_capacity(table.slots.len());
            for slot in table.slots.iter().filter(|slot| slot.live() > 0) {
                let Some(segment) = slot.chunk.segment() else { continue };
                segments.insert(segment.id, segment.clone());
                entries.push(entry(slot, segment, known.get(&segment.id), &mut vectors)?);
            }
            tables.push(entries);
        }
        if !vectors.is_empty() {
            self.bytes.vectors += vectors.write(&self.dir, &self.written)?;
        }
        let manifest = Manifest {
            watermark: version.watermark.0,
            commit: self.manifest.commit + 1,
            next_file: self.files.load(Ordering::Relaxed),
            catalog: (*version.catalog).clone(),
            tables,
        };
        self.bytes.manifests += manifest.commit(&self.dir, &self.written)?;
        self.retire(manifest, segments);
        Ok(())
    }

    /// Writes the chunks that have live rows and no segment, on several threads.
    fn write_segments(&mut self, version: &Version) -> Result<(), WarehouseError> {
        let slots = version.tables.iter().flat_map(|table| &table.slots);
        let unwritten: Vec<&Arc<Chunk>> =
            slots.filter(|slot| slot.live() > 0 && slot.chunk.segment().is_none()).map(|slot| &slot.chunk).collect();
        let (dir, options, files, written) = (&self.dir, &self.options, &self.files, &self.written);
        let outcomes: Vec<Result<u64, WarehouseError>> =
            unwritten.par_iter().map(|chunk| write_chunk(dir, files, chunk, options, written)).collect();
        // Every outcome is looked at before the first error is given: bytes were written either way.
        let mut failed = None;
        for (outcome, chunk) in outcomes.into_iter().zip(&unwritten) {
            match outcome {
                Ok(bytes) => {
                    let again = bytes * chunk.rewritten as u64 / (chunk.rows as u64).max(1);
                    self.bytes.merges += again;
                    self.bytes.segments += bytes - again;
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Puts the new manifest in place of the old and lets go of the files that only the old one named.
    fn retire(&mut self, manifest: Manifest, segments: BTreeMap<u64, Arc<Segment>>) {
        let named = |manifest: &Manifest| -> BTreeSet<u64> {
            manifest.tables.iter().flatten().filter_map(|entry| Some(entry.deleted.as_ref()?.file)).collect()
        };
        for file in named(&self.manifest).difference(&named(&manifest)) {
            // Vectors are read at opening only. What can't be removed now goes as an orphan at the next opening.
            let _ = std::fs::remove_file(deletions_path(&self.dir, *file));
        }
        // A merged chunk half on its way into the tables may have had no live row in the version before.
        segments.values().for_each(|segment| segment.keep());
        for (id, segment) in std::mem::replace(&mut self.segments, segments) {
            if !self.segments.contains_key(&id) {
                segment.retire();
            }
        }
        self.manifest = manifest;
    }
}

/// Writes one chunk and notes its segment. Returns the bytes written.
pub(super) fn write_chunk(
    dir: &Path,
    files: &AtomicU64,
    chunk: &Chunk,
    options: &WarehouseOptions,
    written: &Written,
) -> Result<u64, WarehouseError> {
    let id = files.fetch_add(1, Ordering::Relaxed);
    let batch = chunk.batch()?;
    let segment = write_segment(dir, id, &chunk.shape, &batch, options, written)?;
    let bytes = segment.bytes;
    chunk.ranges()?;
    chunk.set_segment(Arc::new(segment));
    Ok(bytes)
}

fn entry(
    slot: &Slot,
    segment: &Segment,
    known: Option<&DeletedEntry>,
    vectors: &mut VectorFile,
) -> Result<SegmentEntry, WarehouseError> {
    let deleted = match slot.deleted.count() {
        0 => None,
        _ => Some(vectors.push_unless_known(&slot.deleted, slot.chunk.rows, known)),
    };
    let (key_min, key_max) = slot.chunk.key_range()?.clone();
    Ok(SegmentEntry {
        file: segment.id,
        rows: segment.rows as u64,
        bytes: segment.bytes,
        hash: hash_text(segment.hash),
        key_min,
        key_max,
        ranges: slot.chunk.ranges()?.clone(),
        deleted,
    })
}
