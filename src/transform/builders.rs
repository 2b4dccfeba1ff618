//! Rows become record batches.

use super::column::ColumnBuilder;
use super::error::{TransformError, ValueFault};
use super::expr::{Expr, Scratch};
use super::table::TableTransform;
use crate::model::{CodecError, RowRef, RowValues, Value, ValueRef};
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
    /// Every column passes as it is, and every row.
    straight: bool,
    scratch: Scratch,
}

impl RowBuilders {
    pub(super) fn new(transform: TableTransform, capacity: usize) -> RowBuilders {
        let columns =
            transform.inner.output.columns.iter().map(|c| ColumnBuilder::new(c.column_type, capacity)).collect();
        let straight = transform.is_identity();
        RowBuilders { transform, columns, rows: 0, poisoned: false, straight, scratch: Scratch::default() }
    }

    /// Transforms one source row (all of its columns, in order) and adds it.
    ///
    /// # Errors
    /// [`TransformError`] naming table, column and key; the batch is then poisoned.
    #[inline]
    pub fn push(&mut self, row: &[ValueRef<'_>]) -> Result<Kept, TransformError> {
        let compiled = &*self.transform.inner;
        if row.len() != compiled.source.columns.len() {
            return Err(self.width_error(row.len()));
        }
        if let Some(filter) = &compiled.filter {
            match filter.passes(row.get(filter.column).copied().unwrap_or(ValueRef::Unchanged)) {
                Ok(true) => {}
                Ok(false) => return Ok(Kept::FilteredOut),
                Err(fault) => return Err(self.filter_error(row, fault)),
            }
        }
        let targets = self.columns.iter_mut().zip(&compiled.output.columns);
        for (place, (expr, (builder, column))) in compiled.columns.iter().zip(targets).enumerate() {
            let added = match expr.value(row, &mut self.scratch) {
                Ok(value) => builder.append(value, column.nullable),
                Err(fault) => Err(fault),
            };
            if let Err(fault) = added {
                return Err(self.row_error(place, row, fault));
            }
        }
        self.rows += 1;
        Ok(Kept::Yes)
    }

    /// As [`RowBuilders::push`], for an encoded row. Where all passes as it is, its values go from the bytes to the
    /// builders, with no row in between.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are no row, else as [`RowBuilders::push`]; the batch is then poisoned.
    #[inline]
    pub fn push_encoded(&mut self, row: RowRef<'_>) -> Result<Result<Kept, TransformError>, CodecError> {
        if !self.straight {
            return Ok(self.push(&row.values()?));
        }
        // Until the whole row is in.
        let was_poisoned = std::mem::replace(&mut self.poisoned, true);
        let mut values = row.each_value()?;
        if values.len() != self.columns.len() {
            return Ok(Err(self.width_error(values.len())));
        }
        let compiled = &*self.transform.inner;
        let targets = self.columns.iter_mut().zip(&compiled.output.columns);
        for (place, (builder, column)) in targets.enumerate() {
            if let Err(fault) = builder.append_next(&mut values, column.nullable)? {
                return Ok(Err(self.row_error(place, &row.values()?, fault)));
            }
        }
        self.poisoned = was_poisoned;
        self.rows += 1;
        Ok(Ok(Kept::Yes))
    }

    /// Like [`RowBuilders::push`], for a row with values that were not sent because they did not change
    /// ([`ValueRef::Unchanged`]); `current` is the sink's row as it was, in the output's columns.
    ///
    /// An output column none of whose inputs was sent keeps the sink's value. Else an input that was not sent is
    /// taken from an output column that passes it through. A row that the sink does not have and whose filter column
    /// was not sent stays filtered out.
    ///
    /// # Errors
    /// As [`RowBuilders::push`]; [`ValueFault::Unresolved`] for a value that is nowhere to be found.
    pub fn push_over(&mut self, row: &[ValueRef<'_>], current: Option<&[Value]>) -> Result<Kept, TransformError> {
        let compiled = &*self.transform.inner;
        if row.len() != compiled.source.columns.len() {
            return Err(self.width_error(row.len()));
        }
        let is_open = |column: usize| row.get(column) == Some(&ValueRef::Unchanged);
        if let Some(filter) = &compiled.filter {
            // A row is in the sink if and only if it passed before, and what was not sent did not change.
            let passed = match row.get(filter.column) {
                None | Some(ValueRef::Unchanged) => Ok(current.is_some()),
                Some(&value) => filter.passes(value),
            };
            match passed {
                Ok(true) => {}
                Ok(false) => return Ok(Kept::FilteredOut),
                Err(fault) => return Err(self.filter_error(row, fault)),
            }
        }
        let kept_value =
            |place: usize| current.and_then(|current| current.get(place)).map_or(ValueRef::Unchanged, Value::as_ref);
        let mut filled = RowValues::from_slice(row);
        for (place, expr) in compiled.columns.iter().enumerate() {
            if let Expr::Column(source) = expr
                && let Some(value @ ValueRef::Unchanged) = filled.get_mut(*source)
            {
                *value = kept_value(place);
            }
        }
        let targets = self.columns.iter_mut().zip(&compiled.output.columns);
        for (place, (expr, (builder, column))) in compiled.columns.iter().zip(targets).enumerate() {
            let keeps = expr.inputs().next().is_some() && expr.inputs().all(is_open);
            let value = if keeps { Ok(kept_value(place)) } else { expr.value(&filled, &mut self.scratch) };
            if let Err(fault) = value.and_then(|value| builder.append(value, column.nullable)) {
                return Err(self.row_error(place, row, fault));
            }
        }
        self.rows += 1;
        Ok(Kept::Yes)
    }

    #[cold]
    fn width_error(&mut self, found: usize) -> TransformError {
        self.poisoned = true;
        let source = &self.transform.inner.source;
        TransformError::RowWidth { table: source.name.clone(), found, wanted: source.columns.len() }
    }

    #[cold]
    fn filter_error(&mut self, row: &[ValueRef<'_>], fault: ValueFault) -> TransformError {
        self.poisoned = true;
        let compiled = &*self.transform.inner;
        let column = compiled.filter.as_ref().and_then(|filter| compiled.source.columns.get(filter.column));
        TransformError::Row {
            table: compiled.source.name.clone(),
            column: column.map(|c| c.name.clone()).unwrap_or_default(),
            key: compiled.key_text(row),
            fault,
        }
    }

    #[cold]
    fn row_error(&mut self, place: usize, row: &[ValueRef<'_>], fault: ValueFault) -> TransformError {
        self.poisoned = true;
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
