//! One table as its writer has it: slots in address order, and the key index.

use super::WarehouseError;
use super::addresses::Addresses;
use super::chunk::{Chunk, Keys, Slot, locate};
use super::columns::TableShape;
use super::index::{Address, KeyIndex};
use super::merged::Merged;
use crate::apply::edits::TableEdits;
use crate::model::{KeyColumn, KeyRef, Value};
use arrow_array::types::Int64Type;
use arrow_array::{Array, PrimitiveArray};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use xxhash_rust::xxh3::xxh3_64;

/// How many keys, or addresses, are touched ahead of their searches; their cache lines fit the first-level cache.
const TOUCH_AHEAD: usize = 128;

/// The word the index keeps for a key.
pub(super) fn word_of(key: KeyRef<'_>) -> u64 {
    match key {
        KeyRef::Int(key) => key as u64,
        KeyRef::Encoded(bytes) => xxh3_64(bytes),
    }
}

/// The index that the writer keeps up to date and that readers may ask, with the writer's progress.
#[derive(Debug, Default)]
pub(super) struct SharedIndex(RwLock<IndexState>);

/// What is behind the lock of a [`SharedIndex`].
#[derive(Debug, Default)]
pub(super) struct IndexState {
    /// `None` until somebody needs it.
    pub(super) index: Option<KeyIndex>,
    /// Counts the writer's changes to the table. A version of the same generation has the very rows the index has.
    pub(super) generation: u64,
}

impl SharedIndex {
    // A panic of another thread can't leave the index half changed in a way that matters: every answer is
    // checked against the version it is given for.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, IndexState> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, IndexState> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's table.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) shape: Arc<TableShape>,
    pub(super) slots: Vec<Slot>,
    pub(super) next: Address,
    pub(super) shared: Arc<SharedIndex>,
    /// Changed since the last publish.
    pub(super) changed: bool,
    /// Merged chunks that wait for a publish to take the places of their sources.
    pub(super) waiting: Vec<Arc<Merged>>,
    /// Chunks that become one take no more bytes than this.
    pub(super) chunk_bytes_max: usize,
}

impl Table {
    pub(super) fn new(shape: Arc<TableShape>, slots: Vec<Slot>, next: Address, chunk_bytes_max: usize) -> Table {
        let (shared, changed, waiting) = (Arc::default(), false, Vec::new());
        Table { shape, slots, next, shared, changed, waiting, chunk_bytes_max }
    }

    /// Live rows.
    pub(super) fn rows(&self) -> u64 {
        self.slots.iter().map(|slot| slot.live() as u64).sum()
    }

    /// The table's chunks, and those that are waiting to come in.
    pub(super) fn chunks(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        self.slots.iter().map(|slot| &slot.chunk).chain(self.waiting.iter().map(|merged| &merged.chunk))
    }

    /// Checks that the edits fit the table, before anything of the edit set is accepted.
    pub(super) fn check(&self, edits: &TableEdits) -> Result<(), WarehouseError> {
        let name = self.shape.name();
        let (keys, rows) = (edits.upsert_keys.len(), edits.upserts.num_rows());
        if keys != rows {
            return Err(WarehouseError::mismatch(name, format!("{rows} upserted rows came with {keys} keys")));
        }
        let int = self.shape.schema.has_int_key();
        for keys in [&edits.deletes, &edits.upsert_keys] {
            if int != matches!(keys, KeyColumn::Int(_)) && !keys.is_empty() {
                return Err(WarehouseError::mismatch(name, "keys of another kind than the table's came with edits"));
            }
        }
        if rows == 0 {
            return Ok(());
        }
        let batch = self.shape.conform(&edits.upserts)?;
        let ints = self.shape.int_key_column().and_then(|at| batch.columns().get(at));
        let ints = ints.and_then(|column| column.as_any().downcast_ref::<PrimitiveArray<Int64Type>>());
        match (&edits.upsert_keys, ints) {
            (KeyColumn::Int(keys), Some(column)) if keys.as_slice() != &column.values()[..] => {
                Err(WarehouseError::mismatch(name, "upserted rows came with the keys of other rows"))
            }
            _ => Ok(()),
        }
    }

    /// Does what checked edits say.
    pub(super) fn apply(&mut self, edits: &TableEdits) -> Result<(), WarehouseError> {
        if edits.is_empty() {
            return Ok(());
        }
        self.changed = true;
        let shared = self.shared.clone();
        let mut state = shared.write();
        state.generation += 1;
        if edits.truncate {
            self.slots.clear();
            state.index = Some(KeyIndex::with_capacity(0));
        }
        let index = match &mut state.index {
            Some(index) => index,
            vacant => vacant.insert(build_index(&self.shape, &self.slots)?),
        };
        let mut gone = Vec::with_capacity(edits.len());
        let places = Places::of(&self.slots);
        in_pieces(Keys::of(&edits.deletes), index, &places, |index, _, word, key| {
            gone.extend(index.remove(word, |at| places.has_key(at, key))?);
            Ok(())
        })?;
        if edits.upserts.num_rows() > 0 {
            let start = self.next;
            let addresses = Addresses::from(start, edits.upserts.num_rows());
            let chunk = Chunk::of_rows(&self.shape, addresses, self.shape.conform(&edits.upserts)?, 0);
            if let KeyColumn::Encoded { .. } = edits.upsert_keys {
                chunk.set_keys(edits.upsert_keys.clone());
            }
            self.next = chunk.end();
            self.slots.push(Slot::new(chunk));
            let places = Places::of(&self.slots);
            in_pieces(Keys::of(&edits.upsert_keys), index, &places, |index, row, word, key| {
                let address = start + row as Address;
                gone.extend(index.insert(word, address, |at| places.has_key(at, key))?);
                Ok(())
            })?;
        }
        self.mark_dead(&gone);
        Ok(())
    }

    /// Marks the rows at these addresses dead. What is looked up in memory that is far away is touched first, as in [`in_pieces`].
    fn mark_dead(&mut self, gone: &[Address]) {
        let starts = Places::of(&self.slots).starts;
        let mut piece = Vec::with_capacity(TOUCH_AHEAD);
        for addresses in gone.chunks(TOUCH_AHEAD) {
            piece.clear();
            piece.extend(addresses.iter().filter_map(|&address| Some((place_in(&starts, address)?, address))));
            let slot_of = |place: usize| self.slots.get(place);
            let touched = piece.iter().filter_map(|&(place, address)| slot_of(place)?.chunk.addresses.touch(address));
            std::hint::black_box(touched.fold(0, |all, word| all ^ word));
            for &(place, address) in &piece {
                if let Some(slot) = self.slots.get_mut(place)
                    && let Some(row) = slot.chunk.addresses.row_at(address)
                {
                    slot.deleted.mark(row);
                }
            }
        }
    }

    /// The row with this key as of the edits applied last.
    pub(super) fn current_row(&self, key: KeyRef<'_>) -> Result<Option<Vec<Value>>, WarehouseError> {
        let mut state = self.shared.write();
        let index = match &mut state.index {
            Some(index) => index,
            vacant => vacant.insert(build_index(&self.shape, &self.slots)?),
        };
        let found = index.get(word_of(key), |at| has_key(&self.slots, at, key))?;
        // Reading a segment takes long; no lookup has to wait for it.
        drop(state);
        let Some((place, row)) = found.and_then(|address| locate(&self.slots, address)) else { return Ok(None) };
        let Some(slot) = self.slots.get(place) else { return Ok(None) };
        let batch = slot.chunk.batch()?;
        Ok(Some(super::columns::row_values(&batch, row)))
    }
}

/// Slots with their first addresses side by side, so that finding the slot of an address reads one short run of memory.
struct Places<'a> {
    starts: Vec<Address>,
    slots: &'a [Slot],
}

/// The place of the slot that an address is in.
fn place_in(starts: &[Address], address: Address) -> Option<usize> {
    starts.partition_point(|&start| start <= address).checked_sub(1)
}

impl<'a> Places<'a> {
    fn of(slots: &'a [Slot]) -> Places<'a> {
        Places { starts: slots.iter().map(|slot| slot.chunk.start()).collect(), slots }
    }

    /// The key of the live row at an address.
    fn key(&self, address: Address) -> Result<Option<KeyRef<'a>>, WarehouseError> {
        let slot = place_in(&self.starts, address).and_then(|place| self.slots.get(place));
        let Some((slot, row)) = slot.and_then(|slot| Some((slot, slot.chunk.addresses.row_at(address)?))) else {
            return Ok(None);
        };
        Ok(slot.chunk.keys()?.get(row))
    }

    /// As [`has_key`].
    fn has_key(&self, address: Address, key: KeyRef<'_>) -> Result<bool, WarehouseError> {
        if let KeyRef::Int(_) = key {
            return Ok(true);
        }
        Ok(self.key(address)? == Some(key))
    }
}

/// Calls `each` with the row, the word and the key of every key in order. Before that it reads, for some keys at once,
/// the memory that their searches will wait for: the index, and the rows' own keys that have to be compared.
fn in_pieces<'k>(
    keys: Keys<'k>,
    index: &mut KeyIndex,
    places: &Places<'_>,
    mut each: impl FnMut(&mut KeyIndex, usize, u64, KeyRef<'k>) -> Result<(), WarehouseError>,
) -> Result<(), WarehouseError> {
    let compared = keys.ints().is_none();
    let mut piece = Vec::with_capacity(TOUCH_AHEAD);
    for first in (0..keys.len()).step_by(TOUCH_AHEAD) {
        let rows = first..keys.len().min(first + TOUCH_AHEAD);
        piece.clear();
        piece.extend(rows.filter_map(|row| keys.get(row)).map(|key| (word_of(key), key)));
        let mut touched = piece.iter().fold(0, |all, &(word, _)| all ^ index.touch(word));
        if compared {
            for address in piece.iter().filter_map(|&(word, _)| index.candidate(word)) {
                if let Some(KeyRef::Encoded(bytes)) = places.key(address)? {
                    touched ^= bytes.last().copied().map_or(0, Address::from);
                }
            }
        }
        std::hint::black_box(touched);
        for (offset, &(word, key)) in piece.iter().enumerate() {
            each(index, first + offset, word, key)?;
        }
    }
    Ok(())
}

/// Whether the row at `address` has `key`. An integer key's word is the key itself: no look is needed.
pub(super) fn has_key(slots: &[Slot], address: Address, key: KeyRef<'_>) -> Result<bool, WarehouseError> {
    if let KeyRef::Int(_) = key {
        return Ok(true);
    }
    match locate(slots, address) {
        Some((place, row)) => match slots.get(place) {
            Some(slot) => Ok(slot.chunk.keys()?.get(row) == Some(key)),
            None => Ok(false),
        },
        None => Ok(false),
    }
}

/// The index of the live rows.
///
/// # Errors
/// [`WarehouseError::DuplicateKey`] when two live rows have one key.
pub(super) fn build_index(shape: &TableShape, slots: &[Slot]) -> Result<KeyIndex, WarehouseError> {
    let mut index = KeyIndex::with_capacity(slots.iter().map(Slot::live).sum());
    let places = Places::of(slots);
    for slot in slots {
        let mut addresses = slot.chunk.addresses.iter();
        in_pieces(slot.chunk.keys()?, &mut index, &places, |index, row, word, key| {
            let Some(address) = addresses.next().filter(|_| !slot.deleted.contains(row)) else { return Ok(()) };
            match index.insert(word, address, |at| places.has_key(at, key))? {
                None => Ok(()),
                Some(_) => Err(WarehouseError::DuplicateKey { table: shape.name().to_owned(), key: key.describe() }),
            }
        })?;
    }
    Ok(index)
}
