//! How much memory decoded rows may take, over all tables of a warehouse.
//!
//! A chunk counts its rows here while it holds them, for as long as anybody (a version, a reader) holds the chunk. Rows
//! without a segment are always held: only a checkpoint can let them go. Keys and indexes are not rows: they stay.

use super::chunk::Chunk;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Room that is made when the limit is passed, as a part of the limit, so that not every publish has to make some.
const ROOM_PART: u64 = 8;

/// Counts the bytes of rows that are held.
#[derive(Debug)]
pub(super) struct RowMemory {
    bytes_max: u64,
    held: AtomicU64,
    /// The most bytes that somebody read and could not leave here since the last look.
    refused: AtomicU64,
    /// Counts the writer's looks: the time in which "least recently read" is measured.
    looks: AtomicU64,
}

impl Default for RowMemory {
    fn default() -> RowMemory {
        RowMemory::new(None)
    }
}

impl RowMemory {
    /// `None` is no limit.
    pub(super) fn new(bytes_max: Option<u64>) -> RowMemory {
        RowMemory {
            bytes_max: bytes_max.unwrap_or(u64::MAX),
            held: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            looks: AtomicU64::new(0),
        }
    }

    /// Whether rows that are in a segment may be kept.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.held() + bytes as u64 <= self.bytes_max
    }

    /// Whether rows that somebody read from a segment may be kept. If not, the next look makes room for the next reader.
    pub(super) fn admits(&self, bytes: usize) -> bool {
        let admitted = self.has_room(bytes);
        if !admitted && bytes as u64 <= self.bytes_max {
            self.refused.fetch_max(bytes as u64, Ordering::Relaxed);
        }
        admitted
    }

    /// Whether rows were refused since the last look.
    pub(super) fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed) > 0
    }

    pub(super) fn add(&self, bytes: usize) {
        self.held.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn sub(&self, bytes: usize) {
        self.held.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(super) fn now(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// Whether rows without a segment take so much of the limit that a checkpoint is due.
    pub(super) fn is_full_of_unwritten(&self, bytes: u64) -> bool {
        bytes > self.bytes_max / 2
    }

    /// Whether rows that can't be let go take more than the limit.
    pub(super) fn is_passed_by(&self, bytes: u64) -> bool {
        bytes > self.bytes_max
    }

    /// When the limit is passed, or rows were refused for it, lets go of rows that are in segments, those first that were not
    /// read for longest.
    pub(super) fn make_room<'c>(&self, chunks: impl Iterator<Item = &'c Arc<Chunk>>) {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let refused = self.refused.swap(0, Ordering::Relaxed);
        if self.held() <= self.bytes_max && refused == 0 {
            return;
        }
        let wanted = self.bytes_max.saturating_sub(refused.max(self.bytes_max / ROOM_PART));
        let can_go = chunks.filter(|chunk| chunk.is_loaded() && chunk.segment().is_some());
        let mut can_go: Vec<&Arc<Chunk>> = can_go.collect();
        can_go.sort_by_key(|chunk| chunk.read_at());
        for chunk in can_go {
            if self.held() <= wanted {
                break;
            }
            chunk.let_go();
        }
    }
}
