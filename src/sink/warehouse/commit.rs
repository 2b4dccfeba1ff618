//! Making a version durable: segments for chunks that have none, changed deletion vectors, then the manifest.
//!
//! Order: every data file is written and fsynced, the folder is fsynced, the manifest is written under another name, fsynced and
//! renamed, the folder is fsynced again. The watermark is in the manifest, so it can't be durable without the data. Only
//! then do files go that no version names any more.

use super::chunk::{Chunk, Slot};
use super::counters::Written;
use super::manifest::{DeletedEntry, Manifest, SegmentEntry, deletions_path, hash_text};
use super::segment::{Segment, write_segment};
use super::vectors::VectorFile;
use super::version::Version;
use super::versions::{self, Kept, vectors_of};
use super::{WarehouseError, WarehouseOptions};
use crate::sink::DurableWatch;
use crate::storage::{Mistake, Storage};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The durable state of a folder and the means of replacing it. One a folder.
#[derive(Debug)]
pub(super) struct Durable {
    pub(super) dir: PathBuf,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) options: WarehouseOptions,
    /// The manifest on disk.
    pub(super) manifest: Manifest,
    /// The segments that the manifest names.
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
    /// The versions before it that stay readable, the oldest first.
    pub(super) kept: Vec<Kept>,
    /// The number of the next file.
    pub(super) files: Arc<AtomicU64>,
    pub(super) written: Arc<Written>,
    pub(super) bytes: BytesByKind,
    /// An earlier failure left it open what is on the disk.
    pub(super) poisoned: bool,
    /// Hears of each version that is on the disk.
    pub(super) watch: Option<DurableWatch>,
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
        match &outcome {
            Ok(()) => {}
            Err(WarehouseError::Io { operation: "make durable" | "rename", .. }) => self.poisoned = true,
            Err(_) => self.let_go(version),
        }
        outcome
    }

    /// Files of a version that certainly did not become the durable one go with their chunks, unless a later version names them.
    fn let_go(&self, version: &Version) {
        let slots = version.tables.iter().flat_map(|table| &table.slots);
        slots.filter_map(|slot| slot.chunk.segment()).filter(|of| !self.is_named(of.id)).for_each(|of| of.retire());
    }

    /// Whether the manifest on disk, or a version that is kept, names this segment.
    fn is_named(&self, id: u64) -> bool {
        self.segments.contains_key(&id) || self.kept.iter().any(|version| version.segments.contains_key(&id))
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
            self.bytes.vectors += vectors.write(&*self.storage, &self.dir, &self.written)?;
        }
        let manifest = Manifest {
            watermark: version.watermark.0,
            commit: self.manifest.commit + 1,
            committed_at_us: now_us(),
            next_file: self.files.load(Ordering::Relaxed),
            catalog: (*version.catalog).clone(),
            tables,
        };
        if self.storage.plants(Mistake::RemovedTooEarly) {
            self.remove_early(&segments);
        }
        let (storage, dir, old) = (&*self.storage, &self.dir, self.manifest.commit);
        let keep = || match self.options.versions_kept {
            0 | 1 => Ok(()),
            _ => versions::keep_manifest(storage, dir, old),
        };
        // What a checkpoint merged may not fit the writer's tables any more when it is done: then its sources, given up here, come back in
        // the version after. From the rename on their files are needed, also when its outcome is unknown.
        segments.values().for_each(|segment| segment.keep());
        self.bytes.manifests += manifest.commit(storage, dir, &self.written, keep)?;
        // Before old files go, which readers of the new version need not wait for.
        if let Some(watch) = &self.watch {
            watch.durable(version.watermark);
        }
        self.retire(manifest, segments);
        Ok(())
    }

    /// A mistake, for tests: what the manifest on disk still names goes before there is another.
    fn remove_early(&self, segments: &BTreeMap<u64, Arc<Segment>>) {
        for segment in self.segments.values().filter(|segment| !segments.contains_key(&segment.id)) {
            let _ = self.storage.remove(&segment.path);
        }
    }

    /// Writes the chunks that have live rows and no segment, on several threads.
    fn write_segments(&mut self, version: &Version) -> Result<(), WarehouseError> {
        let slots = version.tables.iter().flat_map(|table| &table.slots);
        let unwritten: Vec<&Arc<Chunk>> =
            slots.filter(|slot| slot.live() > 0 && slot.chunk.segment().is_none()).map(|slot| &slot.chunk).collect();
        let (dir, options, files, written) = (&self.dir, &self.options, &self.files, &self.written);
        let outcomes: Vec<Result<u64, WarehouseError>> =
            unwritten.par_iter().map(|chunk| write_chunk(&self.storage, dir, files, chunk, options, written)).collect();
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

    /// Puts the new manifest in place of the old and lets go of the files that no version names any more.
    fn retire(&mut self, manifest: Manifest, segments: BTreeMap<u64, Arc<Segment>>) {
        let old = std::mem::replace(&mut self.manifest, manifest);
        let segments = std::mem::replace(&mut self.segments, segments);
        self.kept.push(Kept { commit: old.commit, segments, vectors: vectors_of(&old) });
        let beside = self.options.versions_kept.saturating_sub(1);
        let expired: Vec<Kept> = self.kept.drain(..self.kept.len().saturating_sub(beside)).collect();
        if beside > 0 && !expired.is_empty() && !versions::forget(&*self.storage, &self.dir, &expired, &self.written) {
            return; // Their files go as orphans at the next opening.
        }
        let vectors: BTreeSet<u64> = self
            .kept
            .iter()
            .flat_map(|version| version.vectors.iter().copied())
            .chain(vectors_of(&self.manifest))
            .collect();
        for file in expired.iter().flat_map(|version| &version.vectors).filter(|file| !vectors.contains(file)) {
            // Vectors are read at opening only. What can't be removed now goes as an orphan at the next opening.
            let _ = self.storage.remove(&deletions_path(&self.dir, *file));
        }
        for (id, segment) in expired.iter().flat_map(|version| &version.segments) {
            if !self.is_named(*id) {
                segment.retire();
            }
        }
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Writes one chunk and notes its segment. Returns the bytes written.
pub(super) fn write_chunk(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    files: &AtomicU64,
    chunk: &Chunk,
    options: &WarehouseOptions,
    written: &Written,
) -> Result<u64, WarehouseError> {
    let id = files.fetch_add(1, Ordering::Relaxed);
    let batch = chunk.batch()?;
    let segment = write_segment(storage, dir, id, &chunk.shape, &batch, options, written)?;
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
        row_bytes: segment.row_bytes,
        hash: hash_text(segment.hash),
        blocks: segment.blocks.clone(),
        key_min,
        key_max,
        ranges: slot.chunk.ranges()?.clone(),
        deleted,
    })
}
