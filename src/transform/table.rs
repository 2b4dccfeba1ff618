//! The compiled transform of one table.

use super::builders::RowBuilders;
use super::column::arrow_field;
use super::compile;
use super::error::TransformError;
use super::expr::Expr;
use super::filter::Filter;
use crate::model::{TableId, TableSchema, ValueRef, text};
use crate::workload::TransformSpec;
use arrow_schema::{Schema, SchemaRef};
use std::sync::Arc;

/// How the rows of one source table become rows of one sink table. Cheap to clone.
///
/// Row-local and deterministic: the same source row always gives the same output row. The key columns of the
/// output are those of the source, with the same values in the same key order.
#[derive(Clone, Debug)]
pub struct TableTransform {
    pub(super) inner: Arc<Compiled>,
}

/// What [`TableTransform`] shares.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) table: TableId,
    pub(super) source: TableSchema,
    pub(super) output: TableSchema,
    pub(super) columns: Vec<Expr>,
    pub(super) filter: Option<Filter>,
    pub(super) arrow: SchemaRef,
}

impl TableTransform {
    /// The transform that changes nothing.
    pub fn identity(table: TableId, source: &TableSchema) -> TableTransform {
        let columns = (0..source.columns.len()).map(Expr::Column).collect();
        TableTransform::from_parts(table, source, source.clone(), columns, None)
    }

    /// The transform that `spec` defines; the identity if there is none.
    ///
    /// # Errors
    /// [`TransformError::Definition`] naming the place and the remedy: an unknown column, a type that an operation
    /// does not take, a key column that is dropped, hashed or cast.
    pub fn compile(
        table: TableId,
        source: &TableSchema,
        spec: Option<&TransformSpec>,
    ) -> Result<TableTransform, TransformError> {
        match spec {
            None => Ok(TableTransform::identity(table, source)),
            Some(spec) => compile::compile(table, source, spec),
        }
    }

    pub(super) fn from_parts(
        table: TableId,
        source: &TableSchema,
        output: TableSchema,
        columns: Vec<Expr>,
        filter: Option<Filter>,
    ) -> TableTransform {
        let fields: Vec<_> = output.columns.iter().map(arrow_field).collect();
        let arrow = Arc::new(Schema::new(fields));
        TableTransform { inner: Arc::new(Compiled { table, source: source.clone(), output, columns, filter, arrow }) }
    }

    /// The table's number, in the source's and the output's catalog alike.
    pub fn table(&self) -> TableId {
        self.inner.table
    }

    /// The source table.
    pub fn source(&self) -> &TableSchema {
        &self.inner.source
    }

    /// The sink table.
    pub fn output(&self) -> &TableSchema {
        &self.inner.output
    }

    /// The Arrow schema of the batches: the output's columns in order, see [`super::arrow_type`].
    pub fn arrow_schema(&self) -> SchemaRef {
        self.inner.arrow.clone()
    }

    /// Whether every source column passes as it is, in its place, and no row is filtered out.
    pub fn is_identity(&self) -> bool {
        let straight = self.inner.columns.iter().enumerate().all(|(place, expr)| *expr == Expr::Column(place));
        straight && self.inner.filter.is_none() && self.inner.columns.len() == self.inner.source.columns.len()
    }

    /// Whether rows may be filtered out.
    pub fn has_filter(&self) -> bool {
        self.inner.filter.is_some()
    }

    /// For an output column that passes one source column through as it is, that column's place.
    pub fn passes_through(&self, output_column: usize) -> Option<usize> {
        match self.inner.columns.get(output_column) {
            Some(Expr::Column(source)) => Some(*source),
            _ => None,
        }
    }

    /// Builders for a batch of about `capacity` rows.
    pub fn builders(&self, capacity: usize) -> RowBuilders {
        RowBuilders::new(self.clone(), capacity)
    }
}

impl Compiled {
    /// The key values of a source row, for a message.
    pub(super) fn key_text(&self, row: &[ValueRef<'_>]) -> String {
        text::describe_values(self.source.key.iter().filter_map(|&place| row.get(place).copied()))
    }
}
