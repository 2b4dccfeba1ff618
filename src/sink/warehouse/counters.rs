//! What the warehouse wrote and holds, by kind: the ground for the cost figures.

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
    /// Rows copied in memory by merges of chunks.
    pub rows_merged_in_memory: u64,
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
    /// Bytes of memory held by the key indexes.
    pub index_bytes: u64,
    /// Estimate of the memory held by rows, bitmaps, keys and indexes, in bytes.
    pub memory_bytes: u64,
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
