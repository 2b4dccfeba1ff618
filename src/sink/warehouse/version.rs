//! Versions: what readers see. One version covers all tables and never changes.

use super::WarehouseError;
use super::chunk::{Slot, locate};
use super::columns::{TableShape, row_values};
use super::table::{SharedIndex, build_index, has_key, word_of};
use crate::model::{Catalog, KeyRef, Lsn, TableId, Value};
use std::sync::Arc;

/// The state of all tables, complete through [`Version::watermark`] and nothing beyond.
///
/// Immutable: a reader that holds a version sees the same rows for as long as it holds it, whatever the writer
/// does meanwhile.
#[derive(Debug)]
pub struct Version {
    pub(super) watermark: Lsn,
    pub(super) catalog: Arc<Catalog>,
    pub(super) tables: Vec<Arc<TableVersion>>,
}

/// One table in one version.
#[derive(Clone, Debug)]
pub(super) struct TableVersion {
    pub(super) shape: Arc<TableShape>,
    pub(super) slots: Vec<Slot>,
    pub(super) rows: u64,
    pub(super) generation: u64,
    pub(super) shared: Arc<SharedIndex>,
}

impl Version {
    /// The commit through which this version is complete.
    pub fn watermark(&self) -> Lsn {
        self.watermark
    }

    /// The tables and their columns.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// How many rows the table has; 0 for a table that does not exist.
    pub fn row_count(&self, table: TableId) -> u64 {
        self.tables.get(table.index()).map_or(0, |table| table.rows)
    }

    /// How many chunks a scan of the table goes through.
    pub fn chunk_count(&self, table: TableId) -> usize {
        self.tables.get(table.index()).map_or(0, |table| table.slots.len())
    }

    /// The row with this key, in the table's columns.
    ///
    /// Takes the table's index lock for an instant. When the index has moved on from this version and can't answer for it,
    /// the key columns of this version are searched: exact, but milliseconds instead of microseconds. The first call
    /// after opening or after a bulk load builds the index.
    ///
    /// # Errors
    /// When there is no such table, or rows can't be read from their segment.
    pub fn get(&self, table: TableId, key: KeyRef<'_>) -> Result<Option<Vec<Value>>, WarehouseError> {
        let table = self.table(table)?;
        if table.shape.schema.has_int_key() != matches!(key, KeyRef::Int(_)) {
            return Err(WarehouseError::mismatch(table.shape.name(), "the key asked for is of another kind"));
        }
        let Some((slot, row)) = table.find(key)? else { return Ok(None) };
        let batch = slot.chunk.batch()?;
        Ok(Some(row_values(&batch, row)))
    }

    pub(super) fn table(&self, table: TableId) -> Result<&Arc<TableVersion>, WarehouseError> {
        self.tables.get(table.index()).ok_or(WarehouseError::NoTable { table: table.0 })
    }
}

impl TableVersion {
    fn find(&self, key: KeyRef<'_>) -> Result<Option<(&Slot, usize)>, WarehouseError> {
        {
            let state = self.shared.read();
            let current = state.generation == self.generation;
            if let Some(index) = &state.index {
                // Addresses are never used twice: a live row of this version at an address that the index has
                // for the key is the key's row, even if the index is ahead of this version.
                let found = index.get(word_of(key), |at| has_key(&self.slots, at, key))?;
                if let Some(place) = found.and_then(|address| self.live_at(address)) {
                    return Ok(Some(place));
                }
                if current {
                    return Ok(None);
                }
            }
            if !current {
                drop(state);
                return self.search(key);
            }
        }
        self.build_shared_index()?;
        self.find(key)
    }

    fn build_shared_index(&self) -> Result<(), WarehouseError> {
        let mut state = self.shared.write();
        if state.index.is_none() && state.generation == self.generation {
            state.index = Some(build_index(&self.shape, &self.slots)?);
        }
        Ok(())
    }

    fn live_at(&self, address: u64) -> Option<(&Slot, usize)> {
        let (place, row) = locate(&self.slots, address)?;
        let slot = self.slots.get(place)?;
        (!slot.deleted.contains(row)).then_some((slot, row))
    }

    /// Looks through the key columns.
    fn search(&self, key: KeyRef<'_>) -> Result<Option<(&Slot, usize)>, WarehouseError> {
        for slot in &self.slots {
            let keys = slot.chunk.keys()?;
            let row = match (keys.ints(), key) {
                (Some(ints), KeyRef::Int(key)) => live_position(ints.iter().map(|&other| other == key), slot),
                _ => live_position(keys.iter().map(|other| other == key), slot),
            };
            if let Some(row) = row {
                return Ok(Some((slot, row)));
            }
        }
        Ok(None)
    }
}

fn live_position(equal: impl Iterator<Item = bool>, slot: &Slot) -> Option<usize> {
    equal.enumerate().find(|&(row, equal)| equal && !slot.deleted.contains(row)).map(|(row, _)| row)
}
