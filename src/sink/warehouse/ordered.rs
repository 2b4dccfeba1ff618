//! Rows in key order, for dumps and for comparing row by row.

use super::WarehouseError;
use super::chunk::Slot;
use super::scan::projected_schema;
use super::version::{TableVersion, Version};
use crate::model::{KeyRef, TableId};
use arrow_array::{Array, ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow_schema::SchemaRef;
use arrow_select::interleave::interleave;
use std::collections::HashMap;
use std::sync::Arc;

const ROWS_A_BATCH: usize = 8_192;
/// A batch ends at the row that reaches so many bytes of text and bytes, though it might take more rows.
const BATCH_BYTES_MAX: usize = 32 << 20;

/// The rows of a table in key order, in batches. Holds the order (16 bytes a row) and shares the rows.
pub struct OrderedRows {
    table: Arc<TableVersion>,
    schema: SchemaRef,
    columns: Vec<usize>,
    order: Vec<(u32, u32)>,
    place: usize,
    bytes_max: usize,
}

impl Version {
    /// The live rows of `table` in key order, at most 8,192 a batch and fewer where they are wide, with the projected columns (`None` is all).
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
        Ok(OrderedRows { table, schema, columns, order, place: 0, bytes_max: BATCH_BYTES_MAX })
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

/// Bytes of a value that is as long as it is.
fn width(column: &ArrayRef, row: usize) -> usize {
    if let Some(text) = column.as_any().downcast_ref::<StringArray>() {
        text.value_length(row) as usize
    } else if let Some(bytes) = column.as_any().downcast_ref::<BinaryArray>() {
        bytes.value_length(row) as usize
    } else {
        0
    }
}

impl OrderedRows {
    /// The schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The same rows in batches that end at other sizes.
    #[cfg(test)]
    pub(super) fn with_batch_bytes(self, bytes_max: usize) -> OrderedRows {
        OrderedRows { bytes_max, ..self }
    }

    /// The first of `rows`, as many as a batch takes.
    fn batch(&self, rows: &[(u32, u32)]) -> Result<RecordBatch, WarehouseError> {
        // Chunks are read as their rows come, so that of wide ones no more are in memory than a batch needs.
        let mut used: HashMap<u32, usize> = HashMap::new();
        let mut batches = Vec::new();
        let mut places: Vec<(usize, usize)> = Vec::with_capacity(rows.len());
        let mut bytes = 0;
        for &(slot, row) in rows {
            if bytes >= self.bytes_max {
                break;
            }
            let place = match used.get(&slot) {
                Some(&place) => place,
                None => {
                    let Some(found) = self.table.slots.get(slot as usize) else { continue };
                    batches.push(found.chunk.batch()?);
                    used.insert(slot, batches.len() - 1);
                    batches.len() - 1
                }
            };
            let columns = batches.get(place).map(|batch| batch.columns()).unwrap_or_default();
            let widths = self.columns.iter().filter_map(|&column| columns.get(column));
            bytes += widths.map(|column| width(column, row as usize)).sum::<usize>();
            places.push((place, row as usize));
        }
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
        self.place = batch.as_ref().map_or(self.order.len(), |batch| self.place + batch.num_rows());
        Some(batch)
    }
}
