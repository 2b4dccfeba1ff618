//! Bringing merged chunks into the writer's table, a bounded number of rows at a time.
//!
//! A chunk whose rows have new addresses comes in with all of them dead. Step by step rows die in their old places and come
//! to life in the new one, where the index is told; a row that died since the merge began stays dead. So after each step
//! every live row is there exactly once, and between two steps anything may happen to the table.

use super::chunk::{Slot, place_of};
use super::deleted::Deleted;
use super::index::{Address, KeyIndex};
use super::merged::{Merged, Way};
use super::table::{TOUCH_AHEAD, Table};
use std::collections::VecDeque;
use std::sync::Arc;

/// So many rows get new places in the index at once: lookups wait for no more of them.
const LOCKED_ROWS: usize = 2_048;

/// Merged chunks on their way into a table, the first of them perhaps half in.
#[derive(Debug, Default)]
pub(super) struct Moves {
    waiting: VecDeque<Arc<Merged>>,
    /// Rows of the first that have moved; `None` until it has begun.
    moved: Option<usize>,
}

impl Moves {
    pub(super) fn push(&mut self, merged: Arc<Merged>) {
        self.waiting.push_back(merged);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Merged>> {
        self.waiting.iter()
    }

    /// Those of which no version shows anything yet.
    pub(super) fn not_begun(&self) -> impl Iterator<Item = &Arc<Merged>> {
        self.waiting.iter().skip(usize::from(self.moved.is_some()))
    }

    fn pop(&mut self) {
        self.waiting.pop_front();
        self.moved = None;
    }
}

impl Table {
    /// Moves at most `rows_max` rows. Returns how many addresses it looked at.
    pub(super) fn step_moves(&mut self, rows_max: usize) -> usize {
        let mut left = rows_max;
        while left > 0
            && let Some(merged) = self.moves.waiting.front().cloned()
        {
            let cost = match (merged.way, self.moves.moved) {
                (Way::Join, _) => self.install_joined(&merged),
                (Way::Rewrite, None) => self.begin_move(&merged),
                (Way::Rewrite, Some(moved)) => self.go_on_moving(&merged, moved, left),
            };
            self.changed = true;
            left = left.saturating_sub(cost.max(1));
        }
        rows_max - left
    }

    fn install_joined(&mut self, merged: &Arc<Merged>) -> usize {
        self.moves.pop();
        let Some(places) = merged.sources_in(&self.slots) else {
            self.give_back(&merged.sources);
            return 0;
        };
        let Some((&first, &last)) = places.first().zip(places.last()) else { return 0 };
        let deleted = merged.deleted_as_in(&self.slots, &places);
        let marked = deleted.count();
        self.slots.splice(first..=last, [Slot::of(merged.chunk.clone(), deleted)]);
        self.shared.write().generation += 1;
        // Marking a row costs about a quarter of moving one.
        marked / 4
    }

    fn begin_move(&mut self, merged: &Arc<Merged>) -> usize {
        if merged.sources_in(&self.slots).is_none() {
            // Truncated or loaded anew meanwhile: there is nothing left to move.
            self.moves.pop();
            self.give_back(&merged.sources);
            return 0;
        }
        let mut slot = Slot::of(merged.chunk.clone(), Deleted::all(merged.chunk.rows));
        slot.taken = true;
        let place = self.slots.partition_point(|other| other.chunk.start < slot.chunk.start);
        self.slots.insert(place, slot);
        self.moves.moved = Some(0);
        0
    }

    fn go_on_moving(&mut self, merged: &Arc<Merged>, moved: usize, rows_max: usize) -> usize {
        let Some(target) = place_of(&self.slots, &merged.chunk) else {
            self.moves.pop();
            self.give_back(&merged.sources);
            return 0;
        };
        let end = merged.from.len().min(moved.saturating_add(rows_max));
        let mut alive = std::mem::take(&mut self.slots[target].deleted);
        let shared = self.shared.clone();
        shared.write().generation += 1;
        let mut source = 0;
        let mut going = Vec::with_capacity(LOCKED_ROWS.min(end - moved));
        for first in (moved..end).step_by(LOCKED_ROWS) {
            // The slots are the writer's own, so this half is done without the lock, which lookups get meanwhile.
            let rows = first..end.min(first + LOCKED_ROWS);
            let words = merged.words.get(rows.clone()).unwrap_or_default();
            going.clear();
            for (row, &word) in rows.zip(words) {
                let from = merged.from[row];
                if self.die_at(from, &mut source) {
                    alive.revive(row);
                    going.push((word, from, merged.chunk.start + row as Address));
                }
            }
            if let Some(index) = &mut shared.write().index {
                relocate(index, &going);
            }
        }
        self.slots[target].deleted = alive;
        self.moves.moved = Some(end);
        if end == merged.from.len() {
            self.slots[target].taken = false;
            self.slots.retain(|slot| !merged.sources.iter().any(|source| Arc::ptr_eq(source, &slot.chunk)));
            self.moves.pop();
        }
        end - moved
    }

    /// Marks the row at an address dead; false if it is dead or gone. `hint` is the slot of the address before.
    fn die_at(&mut self, address: Address, hint: &mut usize) -> bool {
        let within = |slot: &Slot| slot.chunk.start <= address && address < slot.chunk.end();
        if !self.slots.get(*hint).is_some_and(within) {
            *hint = self.slots.partition_point(|slot| slot.chunk.end() <= address);
        }
        match self.slots.get_mut(*hint) {
            Some(slot) if within(slot) => slot.deleted.mark((address - slot.chunk.start) as usize),
            _ => false,
        }
    }
}

/// Tells the index of rows' words, old and new places.
fn relocate(index: &mut KeyIndex, going: &[(u64, Address, Address)]) {
    for piece in going.chunks(TOUCH_AHEAD) {
        std::hint::black_box(piece.iter().fold(0, |all, &(word, _, _)| all ^ index.touch(word)));
        for &(word, from, to) in piece {
            index.relocate(word, from, to);
        }
    }
}
