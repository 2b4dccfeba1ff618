//! One table of a record database: its schema, how its values are stored, and the SQL that reads it.

use super::error::SourceError;
use super::value::{self, Coding};
use crate::model::{ColumnType, RowValues, SchemaError, TableSchema, ValueRef};
use rusqlite::Row;
use std::fmt::Write as _;

/// Tables whose names begin so belong to this program: they are never captured, and never taken for a user's.
pub const OWN_PREFIX: &str = "_freshbench_";

/// An identifier, quoted for SQL.
pub fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A table as it lies in SQLite.
#[derive(Clone, Debug)]
pub struct SourceTable {
    schema: TableSchema,
    codings: Vec<Coding>,
    columns: Vec<usize>,
    rowid: Option<String>,
    /// The key of the tree that holds the rows of a WITHOUT ROWID table, else nothing.
    tree_key: Vec<usize>,
    any_as_text: bool,
}

impl SourceTable {
    /// A table whose columns hold exactly what the schema says. `rowid` is a name by which SQL reaches its rowid,
    /// `None` for a WITHOUT ROWID table.
    ///
    /// # Errors
    /// [`SchemaError`] when the schema breaks its rules.
    pub fn new(schema: TableSchema, codings: Vec<Coding>, rowid: Option<String>) -> Result<SourceTable, SchemaError> {
        schema.check()?;
        let columns = (0..schema.columns.len()).collect();
        let any_as_text = codings.contains(&Coding::AsText);
        let tree_key = if rowid.is_none() { schema.key.clone() } else { Vec::new() };
        Ok(SourceTable { schema, codings, columns, rowid, tree_key, any_as_text })
    }

    /// The same table, whose rows lie in a tree by these columns, whatever tells rows apart downstream. None: it has a
    /// rowid that no SQL can name, since columns took all of its names.
    pub(crate) fn in_tree_of(self, tree_key: Vec<usize>) -> SourceTable {
        SourceTable { rowid: None, tree_key, ..self }
    }

    /// A table that [`create_sql`] makes.
    ///
    /// # Errors
    /// [`SchemaError`] when the schema breaks its rules.
    pub fn of_schema(schema: &TableSchema) -> Result<SourceTable, SchemaError> {
        let codings = schema.columns.iter().map(|column| Coding::Exact(column.column_type)).collect();
        let rowid = match layout(schema) {
            Layout::KeyIsRowid => schema.key_columns().next().map(|column| column.name.clone()),
            Layout::Rowid(alias) => Some(alias.to_owned()),
            Layout::Clustered => None,
        };
        SourceTable::new(schema.clone(), codings, rowid)
    }

    /// Columns, types and key.
    pub fn schema(&self) -> &TableSchema {
        &self.schema
    }

    /// The columns by which the rows of a WITHOUT ROWID table lie in its tree, in that order, as [`Self::key_sql`]; none
    /// of them is ever NULL. Empty for a table with a rowid.
    pub(crate) fn tree_sql(&self) -> Vec<String> {
        self.tree_key.iter().map(|&index| self.column_sql(index)).collect()
    }

    /// The name by which SQL reaches the rowid, unquoted; `None` for a WITHOUT ROWID table, and where columns took all
    /// of its names.
    pub fn rowid(&self) -> Option<&str> {
        self.rowid.as_deref()
    }

    /// How each column's values are stored.
    pub fn codings(&self) -> &[Coding] {
        &self.codings
    }

    /// The table's name, quoted.
    pub(crate) fn quoted(&self) -> String {
        quote(&self.schema.name)
    }

    /// A column, quoted and qualified by the alias `t`, so that SQLite can't take a misspelt one for a string.
    pub(crate) fn column_sql(&self, index: usize) -> String {
        format!("t.{}", quote(self.schema.columns.get(index).map_or("", |column| &column.name)))
    }

    /// `SELECT` of all columns in schema order `FROM "table" AS t`.
    pub(crate) fn select_sql(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(|&index| self.column_sql(index)).collect();
        format!("SELECT {} FROM {} AS t", columns.join(", "), self.quoted())
    }

    /// The key columns in key order, for `ORDER BY` and row values.
    pub(crate) fn key_sql(&self) -> String {
        let columns: Vec<String> = self.schema.key.iter().map(|&index| self.column_sql(index)).collect();
        columns.join(", ")
    }

    /// Reads the whole row that stands in `row` from column `first` on. `scratch` is memory for the text of
    /// numbers; what it held is lost.
    ///
    /// # Errors
    /// [`SourceError::Value`] when a value is not of its column's type.
    #[inline]
    pub fn decode<'r>(
        &self,
        row: &'r Row<'_>,
        first: usize,
        scratch: &'r mut String,
    ) -> Result<RowValues<'r>, SourceError> {
        self.decode_columns(&self.columns, row, first, scratch)
    }

    /// Reads the key that stands in `row` from column `first` on.
    ///
    /// # Errors
    /// As [`SourceTable::decode`].
    pub fn decode_key<'r>(
        &self,
        row: &'r Row<'_>,
        first: usize,
        scratch: &'r mut String,
    ) -> Result<RowValues<'r>, SourceError> {
        self.decode_columns(&self.schema.key, row, first, scratch)
    }

    fn decode_columns<'r>(
        &self,
        columns: &[usize],
        row: &'r Row<'_>,
        first: usize,
        scratch: &'r mut String,
    ) -> Result<RowValues<'r>, SourceError> {
        let scratch: &'r str = if self.any_as_text { self.numbers(columns, row, first, scratch)? } else { "" };
        let mut rest = scratch;
        let mut values = RowValues::new();
        for (place, &column) in columns.iter().enumerate() {
            let stored = self.stored(row, first + place)?;
            let coding = self.codings.get(column).copied().unwrap_or(Coding::AsText);
            let decoded = match coding.decode(stored) {
                Some(ValueRef::Null) if self.schema.key.contains(&column) => None,
                None if coding == Coding::AsText && is_number(stored) => rest.split_once('\0').map(|(number, tail)| {
                    rest = tail;
                    ValueRef::Text(number)
                }),
                decoded => decoded,
            };
            match decoded {
                Some(decoded) => values.push(decoded),
                None => return Err(self.misfit(columns, row, first, column, stored)),
            }
        }
        Ok(values)
    }

    // The text of all numbers in AsText columns, each ended by NUL, in column order.
    fn numbers<'r>(
        &self,
        columns: &[usize],
        row: &Row<'_>,
        first: usize,
        scratch: &'r mut String,
    ) -> Result<&'r str, SourceError> {
        scratch.clear();
        for (place, &column) in columns.iter().enumerate() {
            if self.codings.get(column) == Some(&Coding::AsText)
                && value::number_as_text(self.stored(row, first + place)?, scratch)
            {
                scratch.push('\0');
            }
        }
        Ok(scratch)
    }

    fn stored<'r>(&self, row: &'r Row<'_>, place: usize) -> Result<rusqlite::types::ValueRef<'r>, SourceError> {
        row.get_ref(place).map_err(|source| SourceError::Sqlite {
            operation: "read table",
            place: self.schema.name.clone(),
            source,
        })
    }

    fn misfit(
        &self,
        columns: &[usize],
        row: &Row<'_>,
        first: usize,
        column: usize,
        stored: rusqlite::types::ValueRef<'_>,
    ) -> SourceError {
        let mut key = String::new();
        for &part in &self.schema.key {
            let name = self.schema.columns.get(part).map_or("", |c| c.name.as_str());
            let value = columns.iter().position(|&c| c == part).and_then(|place| row.get_ref(first + place).ok());
            let shown = value.map_or_else(|| "?".to_owned(), value::describe);
            // Writing to a String can't fail.
            let _ = write!(key, "{}{name}={shown}", if key.is_empty() { "" } else { ", " });
        }
        let is_null = self.schema.key.contains(&column) && stored == rusqlite::types::ValueRef::Null;
        let wanted = self.codings.get(column).map_or_else(String::new, |coding| coding.wanted());
        let remedy = match (is_null, self.tree_key.is_empty()) {
            (false, _) => "correct the row, or declare the column with a type that holds it",
            (true, true) if self.rowid.is_some() => {
                "give the row a value there, or load by the rowid instead: --key rowid (or _rowid_, oid)"
            }
            (true, _) => "give the row a value there, or choose other columns with --key",
        };
        let never = if is_null { ", never NULL since it is in the key" } else { "" };
        SourceError::Value {
            table: self.schema.name.clone(),
            column: self.schema.columns.get(column).map_or_else(String::new, |c| c.name.clone()),
            key,
            found: value::describe(stored),
            wanted: format!("{wanted}{never}; {remedy}"),
        }
    }
}

fn is_number(stored: rusqlite::types::ValueRef<'_>) -> bool {
    matches!(stored, rusqlite::types::ValueRef::Integer(_) | rusqlite::types::ValueRef::Real(_))
}

/// By these SQL knows the rowid, unless a column has the name.
pub(crate) const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];

/// A name of the rowid that is no column's.
pub(crate) fn rowid_alias<'a>(columns: impl Iterator<Item = &'a str> + Clone) -> Option<&'static str> {
    let taken = |alias: &str| columns.clone().any(|column| column.eq_ignore_ascii_case(alias));
    ROWID_NAMES.into_iter().find(|alias| !taken(alias))
}

enum Layout {
    KeyIsRowid,
    Rowid(&'static str),
    Clustered,
}

/// WITHOUT ROWID suits narrow rows: one of more than a quarter of a page spills into a page of its own there.
fn layout(schema: &TableSchema) -> Layout {
    let wide = |column: &crate::model::Column| matches!(column.column_type, ColumnType::Text | ColumnType::Bytes);
    match rowid_alias(schema.columns.iter().map(|column| column.name.as_str())) {
        _ if schema.has_int_key() => Layout::KeyIsRowid,
        Some(alias) if schema.columns.iter().any(wide) => Layout::Rowid(alias),
        _ => Layout::Clustered,
    }
}

/// The `CREATE TABLE` for a catalog's table. One integer key column becomes the rowid; another key clusters a table of
/// numbers (WITHOUT ROWID) and has an index of its own where there are texts or bytes.
///
/// # Errors
/// [`SourceError::Unstorable`] for names that SQLite or this program keeps for itself.
pub fn create_sql(schema: &TableSchema) -> Result<String, SourceError> {
    check_name(&schema.name)?;
    let inline_key = schema.has_int_key();
    let mut parts = Vec::with_capacity(schema.columns.len() + 1);
    for (index, column) in schema.columns.iter().enumerate() {
        check_name(&column.name)?;
        let name = quote(&column.name);
        if inline_key && schema.key.contains(&index) {
            parts.push(format!("{name} INTEGER PRIMARY KEY"));
        } else {
            let not_null = if column.nullable { "" } else { " NOT NULL" };
            parts.push(format!("{name} {}{not_null}", declared_type(column.column_type)));
        }
    }
    if !inline_key {
        let key: Vec<String> = schema.key_columns().map(|column| quote(&column.name)).collect();
        parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    }
    let suffix = if matches!(layout(schema), Layout::Clustered) { " WITHOUT ROWID" } else { "" };
    Ok(format!("CREATE TABLE {} ({}){suffix}", quote(&schema.name), parts.join(", ")))
}

fn check_name(name: &str) -> Result<(), SourceError> {
    let reserved = name.starts_with(OWN_PREFIX) || name.to_ascii_lowercase().starts_with("sqlite_");
    if reserved || name.contains('\0') {
        let what = format!("the name {name:?} is kept for SQLite's or this program's own tables; choose another");
        return Err(SourceError::Unstorable { what });
    }
    Ok(())
}

fn declared_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Bool
        | ColumnType::Int64
        | ColumnType::Date
        | ColumnType::Timestamp
        | ColumnType::LocalTimestamp => "INTEGER",
        // REAL affinity would turn -0.0 into 0.0. A type with BLOB in its name has no affinity and keeps every bit.
        ColumnType::Float64 | ColumnType::Float32 => "REAL BLOB",
        ColumnType::Decimal { .. } | ColumnType::Text => "TEXT",
        ColumnType::Bytes => "BLOB",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Column;

    #[test]
    fn names_are_data() {
        let columns = vec![Column::required("a\"b; --", ColumnType::Text), Column::nullable("größe", ColumnType::Bool)];
        let schema = TableSchema::new("x\"y z", columns, vec![0]).unwrap();
        assert_eq!(
            create_sql(&schema).unwrap(),
            "CREATE TABLE \"x\"\"y z\" (\"a\"\"b; --\" TEXT NOT NULL, \"größe\" INTEGER, \
             PRIMARY KEY (\"a\"\"b; --\"))"
        );
        let numbers = vec![Column::required("a", ColumnType::Int64), Column::required("b", ColumnType::Int64)];
        let items = TableSchema::new("items", numbers, vec![0, 1]).unwrap();
        assert!(create_sql(&items).unwrap().ends_with("PRIMARY KEY (\"a\", \"b\")) WITHOUT ROWID"));
        let own = TableSchema { name: "_freshbench_commit".to_owned(), ..schema };
        assert!(create_sql(&own).is_err());
    }
}
