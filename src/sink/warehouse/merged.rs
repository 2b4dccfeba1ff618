//! Chunks out of chunks. The work is done on what never changes, so any thread may do it.

use super::WarehouseError;
use super::chunk::{Chunk, Slot};
use super::columns::TableShape;
use super::deleted::Deleted;
use super::index::Address;
use super::table::word_of;
use crate::model::key::KeyError;
use crate::model::{KeyColumn, TableId};
use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use std::sync::Arc;

/// What becomes of the dead rows and of the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Neighbours become one chunk, dead rows and all: every row keeps its address, and the key index is left alone.
    Join,
    /// Only live rows go on, to new addresses.
    Rewrite,
}

/// Chunks of one table that are to become one, each with its dead rows as they were when the job was made.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) shape: Arc<TableShape>,
    pub(super) sources: Vec<Slot>,
    pub(super) way: Way,
    /// Where the rows go, if that is settled already.
    pub(super) start: Option<Address>,
}

/// One chunk in place of others, and how to get there from them.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) table: TableId,
    pub(super) way: Way,
    pub(super) sources: Vec<Arc<Chunk>>,
    pub(super) chunk: Arc<Chunk>,
    /// Whether the chunk's addresses are settled.
    pub(super) placed: bool,
    /// Of each row of the chunk, where it was and its index word; nothing for a join.
    pub(super) from: Vec<Address>,
    pub(super) words: Vec<u64>,
}

impl Job {
    /// Rows that it writes.
    pub(super) fn rows(&self) -> usize {
        let count = |slot: &Slot| if self.way == Way::Join { slot.chunk.rows } else { slot.live() };
        self.sources.iter().map(count).sum()
    }

    /// The chunks that it is made of.
    pub(super) fn chunks(&self) -> Vec<Arc<Chunk>> {
        self.sources.iter().map(|slot| slot.chunk.clone()).collect()
    }

    /// Makes the chunk.
    ///
    /// # Errors
    /// When rows can't be read from their segment or joined.
    pub(super) fn run(&self) -> Result<Merged, WarehouseError> {
        let batch = self.batch()?;
        let start = match self.way {
            Way::Join => self.sources.first().map(|slot| slot.chunk.start),
            Way::Rewrite => self.start,
        };
        let rewritten = self.sources.iter().map(|slot| self.rewritten(slot)).sum();
        let chunk = Chunk::of_rows(&self.shape, start.unwrap_or_default(), batch, rewritten);
        self.carry_keys(&chunk)?;
        let (mut from, mut words) = (Vec::new(), Vec::new());
        if self.way == Way::Rewrite {
            from.reserve_exact(chunk.rows);
            for slot in &self.sources {
                from.extend(live_rows(slot).map(|row| slot.chunk.start + row as Address));
            }
            words = chunk.keys()?.iter().map(word_of).collect();
        }
        Ok(Merged {
            table: self.shape.id,
            way: self.way,
            sources: self.sources.iter().map(|slot| slot.chunk.clone()).collect(),
            chunk: Arc::new(chunk),
            placed: start.is_some(),
            from,
            words,
        })
    }

    fn keeps_dead(&self, slot: &Slot) -> bool {
        self.way == Way::Join || slot.deleted.count() == 0
    }

    fn batch(&self) -> Result<RecordBatch, WarehouseError> {
        let name = self.shape.name();
        let mut parts = Vec::with_capacity(self.sources.len());
        for slot in &self.sources {
            let batch = slot.chunk.batch_once()?;
            if self.keeps_dead(slot) {
                parts.push((*batch).clone());
            } else {
                let live = BooleanArray::new(slot.deleted.live_mask(slot.chunk.rows), None);
                let live = filter_record_batch(&batch, &live)
                    .map_err(WarehouseError::columnar("drop dead rows of table", name))?;
                parts.push(live);
            }
        }
        concat_batches(&self.shape.arrow, &parts).map_err(WarehouseError::columnar("merge rows of table", name))
    }

    /// How many of the slot's rows that go on were in a segment before.
    fn rewritten(&self, slot: &Slot) -> usize {
        let rows = if self.keeps_dead(slot) { slot.chunk.rows } else { slot.live() };
        if slot.chunk.is_written() { rows } else { slot.chunk.rewritten.min(rows) }
    }

    /// Gives the chunk the encoded keys of those it came from, which are dearer to make than to copy.
    fn carry_keys(&self, chunk: &Chunk) -> Result<(), WarehouseError> {
        if self.shape.schema.has_int_key() {
            return Ok(());
        }
        let mut carried = KeyColumn::for_table(&self.shape.schema);
        for slot in &self.sources {
            for (row, key) in slot.chunk.keys()?.iter().enumerate() {
                if self.way == Way::Join || !slot.deleted.contains(row) {
                    let wrong = |error: KeyError| WarehouseError::mismatch(self.shape.name(), error.to_string());
                    carried.push(key).map_err(wrong)?;
                }
            }
        }
        chunk.set_keys(carried);
        Ok(())
    }
}

fn live_rows(slot: &Slot) -> impl Iterator<Item = usize> {
    (0..slot.chunk.rows).filter(|&row| !slot.deleted.contains(row))
}

impl Merged {
    /// Settles where the rows go: at `next`, which moves on behind them, unless that is settled.
    pub(super) fn place(&mut self, next: &mut Address) {
        if self.placed {
            return;
        }
        // Nobody else has the chunk yet. If somebody had, it would keep its place, and its users theirs.
        if let Some(chunk) = Arc::get_mut(&mut self.chunk) {
            chunk.start = *next;
            *next = chunk.end();
            self.placed = true;
        }
    }

    /// Sources may have come into a segment while the merge went on.
    pub(super) fn count_rewritten(&mut self) {
        if self.sources.iter().any(|source| source.is_written())
            && let Some(chunk) = Arc::get_mut(&mut self.chunk)
        {
            let unwritten = self.sources.iter().filter(|source| !source.is_written());
            let fresh: usize = unwritten.map(|source| source.rows.saturating_sub(source.rewritten)).sum();
            chunk.rewritten = chunk.rewritten.max(chunk.rows.saturating_sub(fresh));
        }
    }

    /// The places of the sources among `slots`, if all of them are there.
    pub(super) fn sources_in(&self, slots: &[Slot]) -> Option<Vec<usize>> {
        self.sources.iter().map(|source| super::chunk::place_of(slots, source)).collect()
    }

    /// The dead rows of the chunk when the sources are at `places` of `slots`.
    pub(super) fn deleted_as_in(&self, slots: &[Slot], places: &[usize]) -> Deleted {
        let sources = || places.iter().filter_map(|&place| slots.get(place));
        match self.way {
            Way::Join => sources()
                .flat_map(|slot| {
                    let offset = (slot.chunk.start - self.chunk.start) as usize;
                    slot.deleted.iter().map(move |row| offset + row)
                })
                .collect(),
            Way::Rewrite => {
                let mut rows = self.from.iter().enumerate().peekable();
                let mut dead = Deleted::default();
                for slot in sources() {
                    while let Some((row, from)) = rows.next_if(|(_, from)| **from < slot.chunk.end()) {
                        if slot.deleted.contains((from - slot.chunk.start) as usize) {
                            dead.mark(row);
                        }
                    }
                }
                dead
            }
        }
    }

    /// `slots` with the chunk in place of its sources; `None` when it is not theirs.
    pub(super) fn put_into(&self, slots: &[Slot]) -> Option<Vec<Slot>> {
        let places = self.sources_in(slots)?;
        let merged = Slot::of(self.chunk.clone(), self.deleted_as_in(slots, &places));
        let others =
            slots.iter().enumerate().filter(|(place, _)| !places.contains(place)).map(|(_, slot)| slot.clone());
        let mut all: Vec<Slot> = others.collect();
        let place = all.partition_point(|slot| slot.chunk.start < merged.chunk.start);
        all.insert(place, merged);
        Some(all)
    }
}
