//! Rows in key order, for dumps and for comparing row by row.

use super::WarehouseError;
use super::chunk::Slot;
use super::scan::projected_schema;
use super::version::{TableVersion, Version};
use crate::model::{KeyRef, TableId};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use arrow_select::interleave::interleave;
use std::sync::Arc;

const ROWS_A_BATCH: usize = 8_192;

/// The rows of a table in key order, in batches. Holds the order (16 bytes a row) and shares the rows.
pub struct OrderedRows {
    table: Arc<TableVersion>,
    schema: SchemaRef,
    columns: Vec<usize>,
    order: Vec<(u32, u32)>,
    place: usize,
}

impl Version {
    /// The live rows of `table` in key order, at most 8,192 a batch, with the projected columns (`None` is all).
    ///
    /// # Errors
    /// When table or columns do not fit, or rows can't be read.
    pub fn rows_in_key_order(
        &self,
        table: TableId,
        projection: Option<&[usize]>,
    ) -> Result<OrderedRows, WarehouseError> {
        let table = self.table(table)?.clone();
        let schema = projected_schema(&table.shape, projection)?;
        let columns = projection.map_or_else(|| (0..table.shape.schema.columns.len()).collect(), <[usize]>::to_vec);
        let order = key_order(&table.slots)?;
        Ok(OrderedRows { table, schema, columns, order, place: 0 })
    }
}

/// The live rows as (slot, row), by key.
fn key_order(slots: &[Slot]) -> Result<Vec<(u32, u32)>, WarehouseError> {
    let mut rows: Vec<(KeyRef<'_>, u32, u32)> = Vec::with_capacity(slots.iter().map(Slot::live).sum());
    for (place, slot) in slots.iter().enumerate() {
        let keys = slot.chunk.keys()?;
        let live = keys.iter().enumerate().filter(|&(row, _)| !slot.deleted.contains(row));
        rows.extend(live.map(|(row, key)| (key, place as u32, row as u32)));
    }
    // Stable, since that sort makes use of the runs that are in order already; keys are all different.
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(rows.into_iter().map(|(_, slot, row)| (slot, row)).collect())
}

impl OrderedRows {
    /// The schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn batch(&self, rows: &[(u32, u32)]) -> Result<RecordBatch, WarehouseError> {
        let mut used: Vec<u32> = rows.iter().map(|&(slot, _)| slot).collect();
        used.sort_unstable();
        used.dedup();
        let mut batches = Vec::with_capacity(used.len());
        for slot in used.iter().filter_map(|&slot| self.table.slots.get(slot as usize)) {
            batches.push(slot.chunk.batch()?);
        }
        let place = |slot: u32| used.binary_search(&slot).unwrap_or_default();
        let places: Vec<(usize, usize)> = rows.iter().map(|&(slot, row)| (place(slot), row as usize)).collect();
        let failed = || WarehouseError::columnar("order the rows of table", self.table.shape.name());
        let mut columns = Vec::with_capacity(self.columns.len());
        for &column in &self.columns {
            let arrays: Vec<_> =
                batches.iter().filter_map(|batch| batch.columns().get(column)).map(|a| a.as_ref()).collect();
            columns.push(interleave(&arrays, &places).map_err(failed())?);
        }
        RecordBatch::try_new(self.schema.clone(), columns).map_err(failed())
    }
}

impl Iterator for OrderedRows {
    type Item = Result<RecordBatch, WarehouseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.order.get(self.place..)?;
        let rows = rest.get(..ROWS_A_BATCH.min(rest.len())).filter(|rows| !rows.is_empty())?;
        let batch = self.batch(rows);
        self.place = if batch.is_ok() { self.place + rows.len() } else { self.order.len() };
        Some(batch)
    }
}
