//! Chunks out of chunks. The work is done on what never changes, so any thread may do it. Rows keep their addresses, so
//! what comes of it takes the place of its sources whenever it is ready.

use super::WarehouseError;
use super::addresses::Addresses;
use super::chunk::{Chunk, Slot, place_of};
use super::columns::TableShape;
use super::deleted::Deleted;
use crate::model::key::KeyError;
use crate::model::{KeyColumn, TableId};
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use std::ops::Range;
use std::sync::Arc;

/// Neighbouring chunks of one table that are to become one.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) shape: Arc<TableShape>,
    pub(super) sources: Sources,
}

/// The chunks of a job, each with its dead rows as they were when the job was made.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    pub(super) slots: Vec<Slot>,
    /// Dead rows go on, too: joining whole chunks is cheaper than picking rows.
    pub(super) with_dead: bool,
}

/// One chunk in place of others.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) table: TableId,
    pub(super) sources: Sources,
    pub(super) chunk: Arc<Chunk>,
}

impl Sources {
    pub(super) fn chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        self.slots.iter().map(|slot| &slot.chunk)
    }

    /// Whether all rows of a source go on.
    fn keeps_all(&self, slot: &Slot) -> bool {
        self.with_dead || slot.deleted.count() == 0
    }

    /// How many rows of a source go on.
    fn kept(&self, slot: &Slot) -> usize {
        if self.keeps_all(slot) { slot.chunk.rows } else { slot.live() }
    }

    fn rows(&self) -> usize {
        self.slots.iter().map(|slot| self.kept(slot)).sum()
    }

    /// The addresses of the rows that go on.
    fn addresses(&self) -> Addresses {
        if let [first, ..] = self.slots.as_slice()
            && self.slots.iter().all(|slot| self.keeps_all(slot) && slot.chunk.addresses.is_gapless())
            && self.slots.windows(2).all(|pair| matches!(pair, [a, b] if a.chunk.end() == b.chunk.start()))
        {
            return Addresses::from(first.chunk.start(), self.rows());
        }
        let mut all = Vec::with_capacity(self.rows());
        for slot in &self.slots {
            let addresses = slot.chunk.addresses.iter();
            if self.keeps_all(slot) {
                all.extend(addresses);
            } else {
                all.extend(addresses.enumerate().filter(|(row, _)| !slot.deleted.contains(*row)).map(|(_, at)| at));
            }
        }
        Addresses::of(all)
    }

    fn batch(&self, shape: &TableShape) -> Result<RecordBatch, WarehouseError> {
        let mut parts = Vec::with_capacity(self.slots.len());
        for slot in self.slots.iter().filter(|slot| self.kept(slot) > 0) {
            let batch = slot.chunk.batch_once()?;
            if self.keeps_all(slot) {
                parts.push((*batch).clone());
            } else {
                let live = BooleanArray::new(slot.deleted.live_mask(slot.chunk.rows), None);
                let live = filter_record_batch(&batch, &live)
                    .map_err(WarehouseError::columnar("drop dead rows of table", shape.name()))?;
                parts.push(live);
            }
        }
        check_offsets(shape, &parts)?;
        concat_batches(&shape.arrow, &parts).map_err(WarehouseError::columnar("merge rows of table", shape.name()))
    }

    /// How many of the slot's rows that go on were in a segment before.
    fn rewritten(&self, slot: &Slot) -> usize {
        let rows = self.kept(slot);
        if slot.chunk.is_written() { rows } else { slot.chunk.rewritten.min(rows) }
    }

    /// Gives the chunk the encoded keys of those it came from, which are dearer to make than to copy.
    fn carry_keys(&self, chunk: &Chunk) -> Result<(), WarehouseError> {
        let shape = &chunk.shape;
        if shape.schema.has_int_key() {
            return Ok(());
        }
        let mut carried = KeyColumn::for_table(&shape.schema);
        for slot in self.slots.iter().filter(|slot| self.kept(slot) > 0) {
            for (row, key) in slot.chunk.keys()?.iter().enumerate() {
                if self.keeps_all(slot) || !slot.deleted.contains(row) {
                    let wrong = |error: KeyError| WarehouseError::mismatch(shape.name(), error.to_string());
                    carried.push(key).map_err(wrong)?;
                }
            }
        }
        chunk.set_keys(carried);
        Ok(())
    }

    /// The dead rows of what came of the sources, when these are now as in `slots`.
    fn dead_as_in(&self, slots: &[Slot]) -> Deleted {
        let mut dead = Deleted::default();
        let mut first = 0;
        for (source, now) in self.slots.iter().zip(slots) {
            if self.with_dead {
                now.deleted.iter().for_each(|row| _ = dead.mark(first + row));
            } else {
                now.deleted.since(&source.deleted).into_iter().for_each(|row| _ = dead.mark(first + row));
            }
            first += self.kept(source);
        }
        dead
    }
}

/// Which segments are joined goes by how large they are said to be; a column that would pass Arrow's offsets must not come
/// from a wrong guess.
fn check_offsets(shape: &TableShape, parts: &[RecordBatch]) -> Result<(), WarehouseError> {
    let width = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(usize::MAX);
    for (place, column) in shape.schema.columns.iter().enumerate() {
        let bytes = parts.iter().filter_map(|part| part.columns().get(place)).map(width);
        if bytes.fold(0, usize::saturating_add) > i32::MAX as usize && parts.len() > 1 {
            let what = format!("column {:?} has more than 2 GiB in segments that are to become one", column.name);
            return Err(WarehouseError::mismatch(shape.name(), what));
        }
    }
    Ok(())
}

impl Job {
    /// Rows that it writes.
    pub(super) fn rows(&self) -> usize {
        self.sources.rows()
    }

    /// Makes the chunk.
    ///
    /// # Errors
    /// When rows can't be read from their segment or joined.
    pub(super) fn run(self) -> Result<Merged, WarehouseError> {
        let Job { shape, sources } = self;
        let rewritten = sources.slots.iter().map(|slot| sources.rewritten(slot)).sum();
        let chunk = Chunk::of_rows(&shape, sources.addresses(), sources.batch(&shape)?, rewritten);
        sources.carry_keys(&chunk)?;
        Ok(Merged { table: shape.id, sources, chunk: Arc::new(chunk) })
    }
}

impl Merged {
    /// Sources may have come into a segment while the merge went on.
    pub(super) fn count_rewritten(&mut self) {
        if self.sources.chunks().any(|source| source.is_written())
            && let Some(chunk) = Arc::get_mut(&mut self.chunk)
        {
            let unwritten = self.sources.chunks().filter(|source| !source.is_written());
            let fresh: usize = unwritten.map(|source| source.rows.saturating_sub(source.rewritten)).sum();
            chunk.rewritten = chunk.rewritten.max(chunk.rows.saturating_sub(fresh));
        }
    }

    /// The places of the sources among `slots`, and what comes there instead; `None` if they are not there, or rows live
    /// there that were dead when the job was made: edits that nobody has seen are in the job then, but not in `slots`.
    pub(super) fn fits(&self, slots: &[Slot]) -> Option<(Range<usize>, Slot)> {
        let first = place_of(slots, self.sources.chunks().next()?)?;
        let places = first..first + self.sources.slots.len();
        let there = slots.get(places.clone())?;
        if !there.iter().zip(self.sources.chunks()).all(|(slot, source)| Arc::ptr_eq(&slot.chunk, source)) {
            return None;
        }
        let merged = Slot::of(self.chunk.clone(), self.sources.dead_as_in(there));
        let live: usize = there.iter().map(Slot::live).sum();
        (merged.live() == live).then_some((places, merged))
    }
}
