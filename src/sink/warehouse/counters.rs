//! What the warehouse wrote and holds, by kind: the ground for the cost figures.

use super::chunk::Slot;
use super::writer::Warehouse;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a warehouse wrote since it was opened, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarehouseCounters {
    /// Bytes of segments with rows that were written for the first time.
    pub segment_bytes: u64,
    /// Bytes of segments with rows that were in a segment before (merges and compaction), by share of rows.
    pub merge_bytes: u64,
    /// Bytes of deletion vectors.
    pub deletion_vector_bytes: u64,
    /// Bytes of manifests.
    pub manifest_bytes: u64,
    /// Files written, of every kind.
    pub files_written: u64,
    /// Calls of fsync, on files and folders.
    pub fsyncs: u64,
    /// Rows copied by merges of chunks, of every kind.
    pub rows_merged: u64,
    /// Those of them that were copied to be rid of dead rows.
    pub rows_purged: u64,
    /// Live rows visible to readers now.
    pub rows_live: u64,
    /// Rows held in memory now, dead ones included.
    pub rows_in_memory: u64,
    /// Segments that the last manifest names.
    pub segments: u64,
    /// Bytes of those segments.
    pub segment_bytes_on_disk: u64,
    /// Chunks a scan of all tables goes through.
    pub chunks: u64,
    /// Bytes of memory held by decoded rows, those included that only old versions still have.
    pub row_bytes: u64,
    /// Bytes held by keys besides the rows.
    pub key_bytes: u64,
    /// Bytes held by key indexes, and by what finds a row by its address.
    pub index_bytes: u64,
    /// Bytes held by the bitmaps of dead rows.
    pub vector_bytes: u64,
}

impl WarehouseCounters {
    /// The memory held by rows, keys, indexes and bitmaps, in bytes. An estimate.
    pub fn memory_bytes(&self) -> u64 {
        self.row_bytes + self.key_bytes + self.index_bytes + self.vector_bytes
    }
}

impl Warehouse {
    /// What it wrote since it was opened and what it holds now. Walks over all chunks, and waits for a checkpoint that is
    /// being written.
    pub fn storage(&self) -> WarehouseCounters {
        let durable = self.lock_durable();
        let (bytes, written) = (durable.bytes, &durable.written);
        let slots = || self.tables.iter().flat_map(|table| &table.slots);
        let sum = |of: &dyn Fn(&Slot) -> usize| slots().map(of).sum::<usize>() as u64;
        let indexes = self.tables.iter().map(|table| {
            let state = table.shared.read();
            state.index.as_ref().map_or(0, |index| index.memory_bytes() as u64)
        });
        WarehouseCounters {
            segment_bytes: bytes.segments,
            merge_bytes: bytes.merges,
            deletion_vector_bytes: bytes.vectors,
            manifest_bytes: bytes.manifests,
            files_written: written.files(),
            fsyncs: written.fsyncs(),
            rows_merged: self.budget.merged,
            rows_purged: self.budget.purged,
            rows_live: self.reader.version().tables.iter().map(|table| table.rows).sum(),
            rows_in_memory: sum(&|slot| if slot.chunk.is_loaded() { slot.chunk.rows } else { 0 }),
            segments: durable.segments.len() as u64,
            segment_bytes_on_disk: durable.segments.values().map(|segment| segment.bytes).sum(),
            chunks: slots().count() as u64,
            row_bytes: self.memory.held(),
            key_bytes: sum(&|slot| slot.chunk.key_bytes()),
            index_bytes: indexes.sum::<u64>() + sum(&|slot| slot.chunk.addresses.memory_bytes()),
            vector_bytes: sum(&|slot| slot.deleted.memory_bytes()),
        }
    }
}

/// Counts that writers on several threads add to.
#[derive(Debug, Default)]
pub(super) struct Written {
    bytes: AtomicU64,
    files: AtomicU64,
    fsyncs: AtomicU64,
}

impl Written {
    /// One file of `bytes` bytes, made durable.
    pub(super) fn file(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.files.fetch_add(1, Ordering::Relaxed);
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
    }

    /// One fsync of a folder.
    pub(super) fn folder(&self) {
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    pub(super) fn fsyncs(&self) -> u64 {
        self.fsyncs.load(Ordering::Relaxed)
    }
}
