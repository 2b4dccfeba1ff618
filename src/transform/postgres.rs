//! PostgreSQL's rows as they arrive, straight into the column builders: no row objects in between.

use super::column::ColumnBuilder;
use super::error::{TransformError, ValueFault};
use super::table::TableTransform;
use crate::model::TableId;
use crate::source::postgres::{PgField, PgScratch, PgTable};
use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;

/// A batch ends when it has so many bytes, though it might take more rows: large values would make it gigabytes.
const BATCH_BYTES_MAX: usize = 32 << 20;

/// Cuts a stream of PostgreSQL rows into batches of a fixed number of rows, fewer where they are wide. The transform is
/// the identity.
///
/// After an error the stream can't be used any more: the row that failed is half in the batch.
#[derive(Debug)]
pub struct PgBatchStream<'t> {
    table: &'t PgTable,
    columns: Vec<ColumnBuilder>,
    arrow: SchemaRef,
    scratch: PgScratch,
    rows: usize,
    bytes: usize,
    rows_per_batch: usize,
}

impl<'t> PgBatchStream<'t> {
    /// A stream for the rows of one table. `rows_per_batch` of 0 counts as 1.
    pub fn new(table: &'t PgTable, rows_per_batch: usize) -> PgBatchStream<'t> {
        let rows_per_batch = rows_per_batch.max(1);
        let columns = &table.schema.columns;
        PgBatchStream {
            table,
            columns: columns.iter().map(|column| ColumnBuilder::new(column.column_type, rows_per_batch)).collect(),
            arrow: TableTransform::identity(TableId(0), &table.schema).arrow_schema(),
            scratch: PgScratch::default(),
            rows: 0,
            bytes: 0,
            rows_per_batch,
        }
    }

    /// Adds a row; gives a batch when it is full.
    ///
    /// # Errors
    /// [`TransformError`] naming table, column and key.
    #[inline]
    pub fn push(&mut self, fields: &[PgField<'_>]) -> Result<Option<RecordBatch>, TransformError> {
        if fields.len() != self.columns.len() {
            let (table, wanted) = (self.table.schema.name.clone(), self.columns.len());
            return Err(TransformError::RowWidth { table, found: fields.len(), wanted });
        }
        let of = self.table.columns.iter().zip(&self.table.schema.columns);
        for (place, ((builder, &field), (pg, column))) in self.columns.iter_mut().zip(fields).zip(of).enumerate() {
            if let PgField::Binary(bytes) | PgField::Text(bytes) = field {
                self.bytes += bytes.len();
            }
            let added = match pg.coding.value(field, &mut self.scratch) {
                Ok(value) => builder.append(value, column.nullable),
                Err(misfit) => Err(ValueFault::Misfit { found: misfit.found.into(), wanted: misfit.wanted.into() }),
            };
            if let Err(fault) = added {
                return Err(self.row_error(place, fields, fault));
            }
        }
        self.rows += 1;
        if self.rows < self.rows_per_batch && self.bytes < BATCH_BYTES_MAX {
            return Ok(None);
        }
        self.take().map(Some)
    }

    /// The rows that are left, if any.
    ///
    /// # Errors
    /// [`TransformError::Poisoned`] after an error of [`PgBatchStream::push`].
    pub fn finish(&mut self) -> Result<Option<RecordBatch>, TransformError> {
        if self.rows == 0 { Ok(None) } else { self.take().map(Some) }
    }

    fn take(&mut self) -> Result<RecordBatch, TransformError> {
        let arrays = self.columns.iter_mut().map(ColumnBuilder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        RecordBatch::try_new_with_options(self.arrow.clone(), arrays, &options)
            .map_err(|_| TransformError::Poisoned { table: self.table.schema.name.clone() })
    }

    #[cold]
    fn row_error(&self, place: usize, fields: &[PgField<'_>], fault: ValueFault) -> TransformError {
        TransformError::Row {
            table: self.table.schema.name.clone(),
            column: self.table.schema.columns.get(place).map(|column| column.name.clone()).unwrap_or_default(),
            key: self.table.key_text(fields),
            fault,
        }
    }
}
