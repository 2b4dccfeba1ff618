//! Tables, columns and their types.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A table's number inside its [`Catalog`]. Folders and files are named by it, never by the table's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableId(pub u32);

impl TableId {
    /// The place in the catalog's list.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// true or false
    Bool,
    /// signed 64-bit integer
    Int64,
    /// 64-bit IEEE float
    Float64,
    /// 32-bit IEEE float
    Float32,
    /// exact decimal of at most 38 digits
    Decimal {
        /// digits in all
        precision: u8,
        /// digits behind the point
        scale: i8,
    },
    /// UTF-8 text
    Text,
    /// bytes
    Bytes,
    /// days since 1970-01-01
    Date,
    /// microseconds since 1970-01-01 00:00 UTC
    Timestamp,
    /// microseconds since 1970-01-01 00:00 on a clock of no particular time zone
    LocalTimestamp,
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnType::Bool => f.write_str("bool"),
            ColumnType::Int64 => f.write_str("int64"),
            ColumnType::Float64 => f.write_str("float64"),
            ColumnType::Float32 => f.write_str("float32"),
            ColumnType::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            ColumnType::Text => f.write_str("text"),
            ColumnType::Bytes => f.write_str("bytes"),
            ColumnType::Date => f.write_str("date"),
            ColumnType::Timestamp => f.write_str("timestamp"),
            ColumnType::LocalTimestamp => f.write_str("local_timestamp"),
        }
    }
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, as the record system spells it. Data, never a path or a piece of SQL.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Whether it may hold NULL.
    pub nullable: bool,
}

impl Column {
    /// A column that holds no NULL.
    pub fn required(name: &str, column_type: ColumnType) -> Column {
        Column { name: name.to_owned(), column_type, nullable: false }
    }

    /// A column that may hold NULL.
    pub fn nullable(name: &str, column_type: ColumnType) -> Column {
        Column { name: name.to_owned(), column_type, nullable: true }
    }
}

/// One table: its columns in order, and which of them make the primary key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// Its name, as the record system spells it.
    pub name: String,
    /// The columns, in the record system's order.
    pub columns: Vec<Column>,
    /// The primary key: places in `columns`, in the key's own order. Never empty.
    pub key: Vec<usize>,
}

impl TableSchema {
    /// A table, checked: at least one key column, no column named twice, key columns without NULL.
    ///
    /// # Errors
    /// Says which rule the schema breaks, naming table and column.
    pub fn new(name: &str, columns: Vec<Column>, key: Vec<usize>) -> Result<TableSchema, SchemaError> {
        let schema = TableSchema { name: name.to_owned(), columns, key };
        schema.check()?;
        Ok(schema)
    }

    /// Checks the rules of [`TableSchema::new`] (for a schema that came out of a file).
    ///
    /// # Errors
    /// Says which rule the schema breaks.
    pub fn check(&self) -> Result<(), SchemaError> {
        let table = || self.name.clone();
        if self.key.is_empty() {
            return Err(SchemaError::NoKey { table: table() });
        }
        for (place, column) in self.columns.iter().enumerate() {
            if self.columns.iter().take(place).any(|other| other.name == column.name) {
                return Err(SchemaError::ColumnTwice { table: table(), column: column.name.clone() });
            }
        }
        for (place, &index) in self.key.iter().enumerate() {
            match self.columns.get(index) {
                Some(column) if !column.nullable && !self.key[..place].contains(&index) => {}
                Some(column) => return Err(SchemaError::BadKeyColumn { table: table(), column: column.name.clone() }),
                None => return Err(SchemaError::BadKeyColumn { table: table(), column: format!("#{index}") }),
            }
        }
        Ok(())
    }

    /// The place of the column named `name`.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The key's columns, in key order.
    pub fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.key.iter().filter_map(|&index| self.columns.get(index))
    }

    /// Whether the key is one integer column, which is kept inline in every index.
    pub fn has_int_key(&self) -> bool {
        match self.key.as_slice() {
            [index] => self.columns.get(*index).is_some_and(|c| c.column_type == ColumnType::Int64),
            _ => false,
        }
    }
}

/// All the tables of a workload or a database; a table's [`TableId`] is its place in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// The tables.
    pub tables: Vec<TableSchema>,
}

impl Catalog {
    /// The table with this number.
    pub fn table(&self, id: TableId) -> Option<&TableSchema> {
        self.tables.get(id.index())
    }

    /// The table with this name, and its number.
    pub fn find(&self, name: &str) -> Option<(TableId, &TableSchema)> {
        self.iter().find(|(_, table)| table.name == name)
    }

    /// Every table with its number.
    pub fn iter(&self) -> impl Iterator<Item = (TableId, &TableSchema)> {
        self.tables.iter().enumerate().map(|(index, table)| (TableId(index as u32), table))
    }
}

/// What is wrong with a table's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaError {
    /// The table has no primary key.
    NoKey {
        /// The table.
        table: String,
    },
    /// Two columns have one name.
    ColumnTwice {
        /// The table.
        table: String,
        /// The name.
        column: String,
    },
    /// A key column is missing, named twice, or may hold NULL.
    BadKeyColumn {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SchemaError::NoKey { table } => {
                write!(f, "table {table:?} has no primary key: rows can't be followed without one; add a primary key")
            }
            SchemaError::ColumnTwice { table, column } => write!(f, "table {table:?} names column {column:?} twice"),
            SchemaError::BadKeyColumn { table, column } => write!(
                f,
                "table {table:?}: key column {column:?} is missing, named twice, or may be NULL; declare it NOT NULL once"
            ),
        }
    }
}

impl std::error::Error for SchemaError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_checked() {
        let id = || Column::required("id", ColumnType::Int64);
        assert!(TableSchema::new("t", vec![id()], vec![0]).is_ok_and(|t| t.has_int_key()));
        assert_eq!(TableSchema::new("t", vec![id()], vec![]), Err(SchemaError::NoKey { table: "t".into() }));
        assert!(matches!(TableSchema::new("t", vec![id(), id()], vec![0]), Err(SchemaError::ColumnTwice { .. })));
        assert!(matches!(TableSchema::new("t", vec![id()], vec![0, 0]), Err(SchemaError::BadKeyColumn { .. })));
        assert!(matches!(TableSchema::new("t", vec![id()], vec![1]), Err(SchemaError::BadKeyColumn { .. })));
        let nullable = Column::nullable("id", ColumnType::Int64);
        assert!(matches!(TableSchema::new("t", vec![nullable], vec![0]), Err(SchemaError::BadKeyColumn { .. })));
    }
}
