//! The transforms of a whole catalog.

use super::error::TransformError;
use super::table::TableTransform;
use crate::model::{Catalog, TableId};

/// One transform a table. A table has the same number in the source's catalog and in the output's.
#[derive(Clone, Debug)]
pub struct TransformSet {
    tables: Vec<TableTransform>,
    output: Catalog,
}

impl TransformSet {
    /// Transforms that change nothing.
    pub fn identity(catalog: &Catalog) -> TransformSet {
        TransformSet::from_tables(catalog.iter().map(|(id, table)| TableTransform::identity(id, table)).collect())
    }

    pub(super) fn from_tables(tables: Vec<TableTransform>) -> TransformSet {
        let output = Catalog { tables: tables.iter().map(|t| t.output().clone()).collect() };
        TransformSet { tables, output }
    }

    /// The sinks' tables.
    pub fn output(&self) -> &Catalog {
        &self.output
    }

    /// The transform of a table.
    ///
    /// # Errors
    /// [`TransformError::UnknownTable`].
    pub fn table(&self, table: TableId) -> Result<&TableTransform, TransformError> {
        self.tables.get(table.index()).ok_or(TransformError::UnknownTable { table: table.0 })
    }

    /// All transforms, by table number.
    pub fn iter(&self) -> impl Iterator<Item = &TableTransform> {
        self.tables.iter()
    }
}
