//! Merging chunks, so that a scan after millions of small groups meets few of them.
//!
//! A chunk's *tier* is the power of eight its row count lies in. Eight or more of the youngest chunks become one
//! when the oldest of them is not larger than the others together: so a copied row is in a chunk at least twice as
//! large (with groups of even size: eight times), and beside its full chunks a table has few others. A merge that keeps dead rows keeps all addresses and leaves the key index
//! alone. A merge that drops them gives its rows fresh addresses and tells the index. Nothing runs at the side: merges are
//! done by the writer between two versions, so no delete can slip in between.

use super::WarehouseError;
use super::chunk::{Chunk, Slot};
use super::index::Address;
use super::table::{Table, word_of};
use crate::model::KeyColumn;
use crate::model::key::KeyError;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;

const FANOUT: usize = 8;

/// Which chunks a merge may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Only those that are not durable yet: nothing has to be written again.
    Memory,
    /// Also small segments.
    Segments,
}

fn tier(rows: usize) -> u32 {
    rows.max(1).ilog2() / FANOUT.ilog2()
}

impl Table {
    /// Merges what has become too many small chunks. Returns how many rows were copied.
    pub(super) fn merge_small(&mut self, chunk_rows_max: usize, reach: Reach) -> Result<usize, WarehouseError> {
        let mut copied = 0;
        while let Some(from) = self.merge_from(chunk_rows_max, reach) {
            copied += self.merge_tail(from, chunk_rows_max, reach)?;
        }
        Ok(copied)
    }

    /// Makes the chunks that are not durable yet into as few as can be, without dead rows.
    pub(super) fn merge_unwritten(&mut self, chunk_rows_max: usize) -> Result<usize, WarehouseError> {
        let from = self.slots.partition_point(|slot| slot.chunk.segment().is_some());
        let tail = self.slots.get(from..).unwrap_or_default();
        let small = |slot: &Slot| slot.chunk.rows < chunk_rows_max / 2;
        if tail.iter().all(|slot| slot.deleted.count() == 0) && tail.iter().filter(|slot| small(slot)).count() <= 1 {
            return Ok(0);
        }
        let tail = self.slots.split_off(from);
        let (mut whole, part): (Vec<_>, Vec<_>) =
            tail.into_iter().partition(|slot| !small(slot) && slot.deleted.count() * 8 < slot.chunk.rows);
        let copied = part.iter().map(Slot::live).sum();
        self.slots.append(&mut whole);
        self.rewrite(&part, chunk_rows_max)?;
        Ok(copied)
    }

    /// Rewrites chunks of which more than half is dead: at most about `chunk_rows_max` live rows, to bound the pause.
    pub(super) fn purge_dead(&mut self, chunk_rows_max: usize) -> Result<usize, WarehouseError> {
        let mostly_dead = |slot: &Slot| slot.deleted.count() * 2 > slot.chunk.rows;
        if !self.slots.iter().any(|slot| mostly_dead(slot) && (slot.chunk.rows >= 64 || slot.live() == 0)) {
            return Ok(0);
        }
        let (mut kept, mut taken, mut live) = (Vec::with_capacity(self.slots.len()), Vec::new(), 0);
        for slot in self.slots.drain(..) {
            if mostly_dead(&slot) && live + slot.live() <= chunk_rows_max {
                live += slot.live();
                taken.push(slot);
            } else {
                kept.push(slot);
            }
        }
        self.slots = kept;
        self.rewrite(&taken, chunk_rows_max)?;
        Ok(live)
    }

    /// Where the youngest run of chunks that are worth merging begins: eight or more, the oldest of them not larger
    /// than all the others together, with all that follow of no higher tier.
    fn merge_from(&self, chunk_rows_max: usize, reach: Reach) -> Option<usize> {
        let full = chunk_rows_max / 4;
        let within =
            |slot: &&Slot| slot.chunk.rows < full && (reach == Reach::Segments || slot.chunk.segment().is_none());
        let (mut run, mut younger_rows, mut highest, mut from) = (0, 0, 0, None);
        for slot in self.slots.iter().rev().take_while(within) {
            let (rows, tier) = (slot.chunk.rows, tier(slot.chunk.rows));
            if from.is_some() && tier > highest {
                break;
            }
            run += 1;
            highest = highest.max(tier);
            if run >= FANOUT && (from.is_some() || rows <= younger_rows) {
                from = Some(self.slots.len() - run);
            }
            younger_rows += rows;
        }
        from
    }

    fn merge_tail(&mut self, from: usize, chunk_rows_max: usize, reach: Reach) -> Result<usize, WarehouseError> {
        let tail = self.slots.split_off(from);
        let rows: usize = tail.iter().map(|slot| slot.chunk.rows).sum();
        let dead: usize = tail.iter().map(|slot| slot.deleted.count()).sum();
        let in_one_piece = tail.windows(2).all(|pair| matches!(pair, [a, b] if a.chunk.end() == b.chunk.start));
        if reach == Reach::Memory && dead * 4 <= rows && in_one_piece && rows <= chunk_rows_max {
            let merged = self.join(&tail)?;
            self.slots.push(merged);
        } else {
            self.rewrite(&tail, chunk_rows_max)?;
        }
        Ok(rows)
    }

    /// One chunk of neighbouring ones, dead rows and all: every row keeps its address.
    fn join(&self, slots: &[Slot]) -> Result<Slot, WarehouseError> {
        let mut batches = Vec::with_capacity(slots.len());
        for slot in slots {
            batches.push(slot.chunk.batch()?);
        }
        let batch = self.concat(&batches)?;
        let start = slots.first().map_or(self.next, |slot| slot.chunk.start);
        let rewritten = slots.iter().map(|slot| slot.chunk.rewritten).sum();
        let chunk = Chunk::of_rows(&self.shape, start, batch, rewritten);
        self.carry_keys(&chunk, slots.iter(), |_, _| true)?;
        let mut merged = Slot::new(chunk);
        for slot in slots {
            let offset = (slot.chunk.start - start) as usize;
            for row in slot.deleted.iter() {
                merged.deleted.mark(offset + row);
            }
        }
        Ok(merged)
    }

    fn concat(&self, batches: &[&RecordBatch]) -> Result<RecordBatch, WarehouseError> {
        concat_batches(&self.shape.arrow, batches.iter().copied())
            .map_err(WarehouseError::columnar("merge rows of table", self.shape.name()))
    }

    /// Writes the live rows of `slots`, which are no longer in the table, anew behind all others.
    fn rewrite(&mut self, slots: &[Slot], chunk_rows_max: usize) -> Result<(), WarehouseError> {
        let mut group = Vec::new();
        let mut rows = 0;
        for slot in slots {
            if rows > 0 && rows + slot.live() > chunk_rows_max {
                self.rewrite_group(&group)?;
                group.clear();
                rows = 0;
            }
            rows += slot.live();
            group.push(slot);
        }
        self.rewrite_group(&group)
    }

    fn rewrite_group(&mut self, slots: &[&Slot]) -> Result<(), WarehouseError> {
        let mut parts = Vec::with_capacity(slots.len());
        let mut rewritten = 0;
        for slot in slots.iter().filter(|slot| slot.live() > 0) {
            let batch = slot.chunk.batch()?;
            if slot.deleted.count() == 0 {
                parts.push(batch.clone());
            } else {
                let live = BooleanArray::new(slot.deleted.live_mask(slot.chunk.rows), None);
                let live = filter_record_batch(batch, &live)
                    .map_err(WarehouseError::columnar("drop dead rows of table", self.shape.name()))?;
                parts.push(live);
            }
            let durable = slot.chunk.segment().is_some();
            rewritten += if durable { slot.live() } else { slot.chunk.rewritten.min(slot.live()) };
        }
        if parts.is_empty() {
            return Ok(());
        }
        let batch = self.concat(&parts.iter().collect::<Vec<_>>())?;
        let chunk = Chunk::of_rows(&self.shape, self.next, batch, rewritten);
        self.next = chunk.end();
        self.carry_keys(&chunk, slots.iter().copied(), |slot, row| !slot.deleted.contains(row))?;
        self.tell_index(slots, &chunk)?;
        self.slots.push(Slot::new(chunk));
        Ok(())
    }

    /// Gives a merged chunk the encoded keys of the chunks it came from, which are dearer to make than to copy.
    fn carry_keys<'s>(
        &self,
        merged: &Chunk,
        slots: impl Iterator<Item = &'s Slot>,
        keep: impl Fn(&Slot, usize) -> bool,
    ) -> Result<(), WarehouseError> {
        if self.shape.schema.has_int_key() {
            return Ok(());
        }
        let mut carried = KeyColumn::for_table(&self.shape.schema);
        for slot in slots {
            for (row, key) in slot.chunk.keys()?.iter().enumerate() {
                if keep(slot, row) {
                    let wrong = |error: KeyError| WarehouseError::mismatch(self.shape.name(), error.to_string());
                    carried.push(key).map_err(wrong)?;
                }
            }
        }
        merged.set_keys(carried);
        Ok(())
    }

    fn tell_index(&self, slots: &[&Slot], chunk: &Chunk) -> Result<(), WarehouseError> {
        let mut state = self.shared.write();
        state.generation += 1;
        let Some(index) = &mut state.index else { return Ok(()) };
        let old = slots.iter().flat_map(|slot| {
            let live = (0..slot.chunk.rows).filter(|&row| !slot.deleted.contains(row));
            live.map(|row| slot.chunk.start + row as Address)
        });
        for ((row, key), from) in chunk.keys()?.iter().enumerate().zip(old) {
            index.relocate(word_of(key), from, chunk.start + row as Address);
        }
        Ok(())
    }
}
