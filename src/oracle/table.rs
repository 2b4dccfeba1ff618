//! Expected rows, by key.

use super::error::OracleError;
use crate::model::{Catalog, Key, TableId, TableSchema, Value, ValueRef, text};
use std::collections::BTreeMap;

/// The rows that one table should have.
#[derive(Clone, Debug)]
pub struct ExpectedTable {
    /// The table's columns and key.
    pub schema: TableSchema,
    /// Its rows by key, each in column order.
    pub rows: BTreeMap<Key, Vec<Value>>,
}

/// The rows that every table of a database should have.
#[derive(Clone, Debug)]
pub struct ExpectedState {
    tables: Vec<ExpectedTable>,
}

impl ExpectedTable {
    /// A table without rows.
    pub fn new(schema: &TableSchema) -> ExpectedTable {
        ExpectedTable { schema: schema.clone(), rows: BTreeMap::new() }
    }

    /// The key of a row of this table.
    pub(super) fn key_of(&self, row: &[Value]) -> Result<Key, OracleError> {
        key_of(&self.schema, row)
    }
}

impl ExpectedState {
    /// The state without rows.
    pub fn new(catalog: &Catalog) -> ExpectedState {
        ExpectedState { tables: catalog.tables.iter().map(ExpectedTable::new).collect() }
    }

    /// Adds rows that were there before the first commit.
    ///
    /// # Errors
    /// [`OracleError::NoKey`] for a row whose key is NULL, missing, or there already.
    pub fn load(&mut self, table: TableId, rows: impl IntoIterator<Item = Vec<Value>>) -> Result<(), OracleError> {
        let Some(table) = self.tables.get_mut(table.index()) else { return Ok(()) };
        for row in rows {
            let key = table.key_of(&row)?;
            if table.rows.contains_key(&key) {
                return Err(no_key(&table.schema, &row));
            }
            table.rows.insert(key, row);
        }
        Ok(())
    }

    /// The table with this number.
    pub fn table(&self, id: TableId) -> Option<&ExpectedTable> {
        self.tables.get(id.index())
    }

    pub(super) fn table_mut(&mut self, id: TableId) -> Option<&mut ExpectedTable> {
        self.tables.get_mut(id.index())
    }

    /// Every table with its number.
    pub fn iter(&self) -> impl Iterator<Item = (TableId, &ExpectedTable)> {
        self.tables.iter().enumerate().map(|(index, table)| (TableId(index as u32), table))
    }
}

pub(super) fn key_of(schema: &TableSchema, row: &[Value]) -> Result<Key, OracleError> {
    let values: Vec<ValueRef<'_>> = schema.key.iter().filter_map(|&c| row.get(c)).map(Value::as_ref).collect();
    if values.len() != schema.key.len() {
        return Err(no_key(schema, row));
    }
    Key::from_values(&values).map_err(|_| no_key(schema, row))
}

fn no_key(schema: &TableSchema, row: &[Value]) -> OracleError {
    OracleError::NoKey { table: schema.name.clone(), key: key_text(schema, row) }
}

/// The key values of a row, for people.
pub(super) fn key_text(schema: &TableSchema, row: &[Value]) -> String {
    text::describe_values(schema.key.iter().filter_map(|&c| row.get(c)).map(Value::as_ref))
}
