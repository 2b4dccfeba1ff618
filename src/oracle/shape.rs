//! The oracle's own reading of transform definitions: what a source row should look like in a derived system.

use super::civil::{day_of_text, microsecond_of_text, year_of_day};
use super::error::OracleError;
use super::number::Number;
use super::table::{ExpectedTable, key_text};
use crate::model::{Catalog, Column, ColumnType, TableId, TableSchema, Value, text};
use crate::workload::{ColumnSpec, Comparison, Derive, FilterSpec, FilterTest, Literal, TransformSpec};
use sha2::{Digest, Sha256};
use std::cmp::Ordering;

/// What the derived systems should hold for each table: the workload's transform definitions, read column by column
/// and row by row, as plainly as possible. Slow on purpose.
#[derive(Clone, Debug)]
pub struct Shape {
    specs: Vec<Option<TransformSpec>>,
}

impl Shape {
    /// Reads the definitions. A table without one keeps its rows as they are.
    pub fn new(catalog: &Catalog, specs: &[TransformSpec]) -> Shape {
        let find = |table: &TableSchema| specs.iter().find(|spec| spec.table == table.name).cloned();
        Shape { specs: catalog.tables.iter().map(find).collect() }
    }

    /// What a derived system should hold, given what the record system holds.
    ///
    /// # Errors
    /// [`OracleError::Transform`] for a row that has no such form, [`OracleError::NoKey`].
    pub fn apply(&self, id: TableId, source: &ExpectedTable) -> Result<ExpectedTable, OracleError> {
        let Some(Some(spec)) = self.specs.get(id.index()) else { return Ok(source.clone()) };
        let schema = &source.schema;
        let mut rows = Vec::new();
        let mut columns = None;
        for row in source.rows.values() {
            let wrong = |reason| OracleError::Transform { table: schema.name.clone(), key: key_text(schema, row), reason };
            if !passes(spec.filter.as_ref(), schema, row).map_err(wrong)? {
                continue;
            }
            let cells = sink_row(spec, schema, row).map_err(wrong)?;
            columns.get_or_insert_with(|| cells.iter().map(|cell| cell.column.clone()).collect::<Vec<_>>());
            rows.push(cells.into_iter().map(|cell| cell.value).collect::<Vec<_>>());
        }
        let columns = match columns {
            Some(columns) => columns,
            None => return Ok(ExpectedTable::new(schema)),
        };
        let key = schema.key.iter().map(|&place| kept_place(spec, schema, place)).collect();
        let name = spec.rename_table.as_ref().unwrap_or(&schema.name).clone();
        let mut table = ExpectedTable::new(&TableSchema { name, columns, key });
        for row in rows {
            let key = table.key_of(&row)?;
            table.rows.insert(key, row);
        }
        Ok(table)
    }
}
