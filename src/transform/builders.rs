//! Rows become record batches.

use super::column::ColumnBuilder;
use super::error::{TransformError, ValueFault};
use super::table::{Expr, TableTransform};
use crate::model::ValueRef;
use arrow_array::{RecordBatch, RecordBatchOptions};

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is in the batch.
    Yes,
    /// The filter refused it: the sink must not have a row with this key.
    FilteredOut,
}

/// Transformed rows on their way to a record batch: one typed builder a column.
///
/// After an error of [`RowBuilders::push`] the batch can't be finished: the rows pushed before are lost, and the
/// caller must not go on as if only the one row were missing.
#[derive(Debug)]
pub struct RowBuilders {
    transform: TableTransform,
    columns: Vec<ColumnBuilder>,
    rows: usize,
    poisoned: bool,
}

impl RowBuilders {
    pub(super) fn new(transform: TableTransform, capacity: usize) -> RowBuilders {
        let columns = transform.inner.output.columns.iter().map(|c| ColumnBuilder::new(c.column_type, capacity)).collect();
        RowBuilders { transform, columns, rows: 0, poisoned: false }
    }

    /// Transforms one source row (all of its columns, in order) and adds it.
    ///
    /// # Errors
    /// [`TransformError`] naming table, column and key; the batch is then poisoned.
    #[inline]
    pub fn push(&mut self, row: &[ValueRef<'_>]) -> Result<Kept, TransformError> {
        let compiled = &*self.transform.inner;
        if row.len() != compiled.source.columns.len() {
            self.poisoned = true;
            let table = compiled.source.name.clone();
            return Err(TransformError::RowWidth { table, found: row.len(), wanted: compiled.source.columns.len() });
        }
        let targets = self.columns.iter_mut().zip(&compiled.output.columns);
        for (place, (expr, (builder, column))) in compiled.columns.iter().zip(targets).enumerate() {
            let added = match expr {
                Expr::Column(source) => {
                    builder.append(row.get(*source).copied().unwrap_or(ValueRef::Unchanged), column.nullable)
                }
            };
            if let Err(fault) = added {
                self.poisoned = true;
                return Err(self.row_error(place, row, fault));
            }
        }
        self.rows += 1;
        Ok(Kept::Yes)
    }

    #[cold]
    fn row_error(&self, place: usize, row: &[ValueRef<'_>], fault: ValueFault) -> TransformError {
        let compiled = &*self.transform.inner;
        TransformError::Row {
            table: compiled.source.name.clone(),
            column: compiled.output.columns.get(place).map(|c| c.name.clone()).unwrap_or_default(),
            key: compiled.key_text(row),
            fault,
        }
    }

    /// Rows in the batch so far (filtered rows are not counted).
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The batch of all rows kept since the last time, without copying; the builders start again.
    ///
    /// # Errors
    /// [`TransformError::Poisoned`] after an error of [`RowBuilders::push`].
    pub fn finish(&mut self) -> Result<RecordBatch, TransformError> {
        let poisoned = || TransformError::Poisoned { table: self.transform.inner.source.name.clone() };
        if self.poisoned {
            return Err(poisoned());
        }
        let arrays = self.columns.iter_mut().map(ColumnBuilder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        RecordBatch::try_new_with_options(self.transform.arrow_schema(), arrays, &options).map_err(|_| poisoned())
    }
}
