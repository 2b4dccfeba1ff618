//! The compiled transform of one table.

use super::builders::RowBuilders;
use super::column::arrow_field;
use super::error::TransformError;
use crate::model::{TableId, TableSchema, ValueRef, text};
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
    pub(super) arrow: SchemaRef,
}

/// Where an output column's value comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// A source column as it is.
    Column(usize),
}

impl TableTransform {
    /// The transform that changes nothing.
    pub fn identity(table: TableId, source: &TableSchema) -> TableTransform {
        let columns = (0..source.columns.len()).map(Expr::Column).collect();
        TableTransform::from_parts(table, source, source.clone(), columns)
    }

    pub(super) fn from_parts(
        table: TableId,
        source: &TableSchema,
        output: TableSchema,
        columns: Vec<Expr>,
    ) -> TableTransform {
        let fields: Vec<_> = output.columns.iter().map(arrow_field).collect();
        let arrow = Arc::new(Schema::new(fields));
        TableTransform { inner: Arc::new(Compiled { table, source: source.clone(), output, columns, arrow }) }
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
        straight && self.inner.columns.len() == self.inner.source.columns.len()
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
