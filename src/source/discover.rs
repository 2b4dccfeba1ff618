//! Tables of any SQLite database, read from its schema.
//!
//! SQLite derives a column's affinity from the letters of its declared type; the catalog's type follows it:
//!
//! | declared type contains | catalog type |
//! |---|---|
//! | `INT` | Int64 |
//! | `CHAR`, `CLOB`, `TEXT` | Text |
//! | `REAL`, `FLOA`, `DOUB` | Float64 |
//! | `BLOB` | Bytes |
//! | `BOOL` | Bool (0 and 1) |
//! | anything else, or nothing (`NUMERIC`, `DECIMAL(p,s)`, `DATE`, `DATETIME`, ...) | Text, see [`Coding::AsText`] |
//!
//! The key is the declared primary key. A table without one gets its rowid as a first column (named `rowid`, or
//! `_rowid_` or `oid` if that is taken) and as its key; such rowids last until the file is VACUUMed.

use super::error::SourceError;
use super::table::{OWN_PREFIX, SourceTable, rowid_alias};
use super::value::Coding;
use crate::model::{Column, ColumnType, TableSchema};
use rusqlite::Connection;
use std::path::Path;

/// The names of all ordinary tables, in order of their names; SQLite's own and this program's are left out.
///
/// # Errors
/// [`SourceError::Sqlite`] when the schema can't be read.
pub(crate) fn table_names(connection: &Connection, path: &Path) -> Result<Vec<String>, SourceError> {
    let sql = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' ORDER BY name";
    let read = || -> rusqlite::Result<Vec<String>> {
        connection.prepare(sql)?.query_map([], |row| row.get::<_, String>(0))?.collect()
    };
    let mut names = read().map_err(SourceError::sqlite("read the schema of", path.display()))?;
    names.retain(|name| !name.starts_with("sqlite_") && !name.starts_with(OWN_PREFIX));
    Ok(names)
}

/// Everything about one table. The name is matched exactly first, then as SQLite does, without regard to case.
///
/// # Errors
/// [`SourceError::NoTable`], or [`SourceError::Schema`] when the table can't be followed.
pub(crate) fn table(connection: &Connection, path: &Path, name: &str) -> Result<SourceTable, SourceError> {
    let known = table_names(connection, path)?;
    let found = known
        .iter()
        .find(|other| *other == name)
        .or_else(|| known.iter().find(|other| other.eq_ignore_ascii_case(name)));
    let Some(name) = found.cloned() else {
        return Err(SourceError::NoTable { table: name.to_owned(), path: path.to_owned(), known });
    };
    let declared = columns(connection, &name).map_err(SourceError::sqlite("read the schema of table", &name))?;
    let without_rowid: bool = connection
        .query_row("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1", [&name], |row| row.get(0))
        .map_err(SourceError::sqlite("read the schema of table", &name))?;
    assemble(&name, &declared, without_rowid)
}

struct Declared {
    name: String,
    declared_type: String,
    not_null: bool,
    key_place: usize,
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Declared>> {
    // hidden = 1 are a virtual table's hidden columns; 2 and 3 are generated columns, which are read like others.
    let sql = "SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid";
    connection
        .prepare(sql)?
        .query_map([table], |row| {
            let key_place: i64 = row.get(3)?;
            Ok(Declared {
                name: row.get(0)?,
                declared_type: row.get(1)?,
                not_null: row.get(2)?,
                key_place: usize::try_from(key_place).unwrap_or(0),
            })
        })?
        .collect()
}

fn assemble(name: &str, declared: &[Declared], without_rowid: bool) -> Result<SourceTable, SourceError> {
    let alias = rowid_alias(declared.iter().map(|column| column.name.as_str()));
    let mut columns = Vec::with_capacity(declared.len() + 1);
    let mut codings = Vec::with_capacity(declared.len() + 1);
    let mut key: Vec<(usize, usize)> = Vec::new();
    for column in declared {
        if column.key_place > 0 {
            key.push((column.key_place, columns.len()));
        }
        let coding = coding(&column.declared_type);
        codings.push(coding);
        columns.push(Column {
            name: column.name.clone(),
            column_type: column_type(coding),
            nullable: !column.not_null && column.key_place == 0,
        });
    }
    key.sort_unstable();
    let mut key: Vec<usize> = key.into_iter().map(|(_, index)| index).collect();
    let mut rowid = alias.map(str::to_owned).filter(|_| !without_rowid);
    if key.is_empty()
        && let Some(alias) = &rowid
    {
        columns.insert(0, Column::required(alias, ColumnType::Int64));
        codings.insert(0, Coding::Exact(ColumnType::Int64));
        key.push(0);
    }
    if rowid.is_none() && !without_rowid {
        rowid = integer_key(declared);
    }
    let schema = TableSchema { name: name.to_owned(), columns, key };
    Ok(SourceTable::new(schema, codings, rowid)?)
}

// A column declared INTEGER PRIMARY KEY is another name of the rowid.
fn integer_key(declared: &[Declared]) -> Option<String> {
    let mut key = declared.iter().filter(|column| column.key_place > 0);
    match (key.next(), key.next()) {
        (Some(only), None) if only.declared_type.eq_ignore_ascii_case("INTEGER") => Some(only.name.clone()),
        _ => None,
    }
}

fn column_type(coding: Coding) -> ColumnType {
    match coding {
        Coding::Exact(column_type) => column_type,
        Coding::AsText => ColumnType::Text,
    }
}

fn coding(declared_type: &str) -> Coding {
    let upper = declared_type.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| upper.contains(word));
    if has(&["INT"]) {
        Coding::Exact(ColumnType::Int64)
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        Coding::Exact(ColumnType::Text)
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        // Before BLOB, which SQLite looks for first: this program declares its floats REAL BLOB.
        Coding::Exact(ColumnType::Float64)
    } else if has(&["BLOB"]) {
        Coding::Exact(ColumnType::Bytes)
    } else if has(&["BOOL"]) {
        Coding::Exact(ColumnType::Bool)
    } else {
        Coding::AsText
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discovered(sql: &str, name: &str) -> Result<SourceTable, SourceError> {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        table(&connection, Path::new("test.db"), name)
    }

    #[test]
    fn types_follow_affinity() {
        let sql = "CREATE TABLE t(a INTEGER PRIMARY KEY, b VARCHAR(10) NOT NULL, c DOUBLE PRECISION, d BLOB, \
                   e BOOLEAN, f DECIMAL(10,2), g DATETIME, h, i BIGINT, j TEXT GENERATED ALWAYS AS (b || 'x'))";
        let table = discovered(sql, "T").unwrap();
        let types: Vec<String> = table.schema().columns.iter().map(|c| c.column_type.to_string()).collect();
        let expected = ["int64", "text", "float64", "bytes", "bool", "text", "text", "text", "int64", "text"];
        assert_eq!(types, expected);
        assert_eq!(table.schema().key, [0]);
        assert!(!table.schema().columns[1].nullable);
        assert_eq!(table.codings()[5], Coding::AsText);
        assert_eq!(table.rowid(), Some("rowid"));
    }

    #[test]
    fn keys_are_found_in_their_own_order() {
        let table = discovered("CREATE TABLE t(a TEXT, b INT, PRIMARY KEY(b, a)) WITHOUT ROWID", "t").unwrap();
        assert_eq!((table.schema().key.as_slice(), table.rowid()), ([1, 0].as_slice(), None));
        let none = discovered("CREATE TABLE t(a TEXT, rowid INT)", "t").unwrap();
        assert_eq!((none.schema().columns[0].name.as_str(), none.rowid()), ("_rowid_", Some("_rowid_")));
        let hidden = discovered("CREATE TABLE t(rowid INT, _rowid_ INT, oid INTEGER PRIMARY KEY)", "t").unwrap();
        assert_eq!(hidden.rowid(), Some("oid"));
        let unreachable = discovered("CREATE TABLE t(rowid INT, _rowid_ INT, oid INT)", "t");
        assert!(matches!(unreachable, Err(SourceError::Schema(_))));
    }

    #[test]
    fn a_missing_table_is_named_with_those_that_exist() {
        let error = discovered("CREATE TABLE b(x); CREATE TABLE a(x); CREATE VIEW v AS SELECT 1", "zz").unwrap_err();
        assert_eq!(error.to_string(), "test.db has no table \"zz\"; it has: a, b");
    }
}
