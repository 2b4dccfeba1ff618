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
use super::table::{OWN_PREFIX, ROWID_NAMES, SourceTable, rowid_alias};
use super::value::Coding;
use crate::model::{Column, ColumnType, TableSchema};
use rusqlite::{Connection, OptionalExtension};
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

/// Everything about one table. The name is matched exactly first, then as SQLite does, without regard to case. `key` are
/// the columns to tell rows apart by (or a name of the rowid); empty: the declared primary key.
///
/// # Errors
/// [`SourceError::NoTable`], [`SourceError::NotASource`] when it is no ordinary table or lacks a column of `key`, or
/// [`SourceError::Schema`] when the table can't be followed.
pub(crate) fn table(
    connection: &Connection,
    path: &Path,
    name: &str,
    key: &[String],
) -> Result<SourceTable, SourceError> {
    let known = table_names(connection, path)?;
    let find = |wanted: &str| {
        let exact = known.iter().find(|other| *other == wanted);
        exact.or_else(|| known.iter().find(|other| other.eq_ignore_ascii_case(wanted))).cloned()
    };
    let Some(name) = find(name) else {
        if let Some(reason) = other_kind(connection, path, name)? {
            return Err(SourceError::NotASource { path: path.to_owned(), reason });
        }
        return Err(SourceError::NoTable { table: name.to_owned(), path: path.to_owned(), known });
    };
    let failed = || SourceError::sqlite("read the schema of table", &name);
    let declared = columns(connection, &name).map_err(failed())?;
    let without_rowid: bool = connection
        .query_row("SELECT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1", [&name], |row| row.get(0))
        .map_err(failed())?;
    // A key that is the rowid has no index. The words of the declaration don't tell: INTEGER PRIMARY KEY is the rowid,
    // INTEGER PRIMARY KEY DESC is not, PRIMARY KEY(x DESC) is again.
    let indexed_keys: i64 = connection
        .query_row("SELECT count(*) FROM pragma_index_list(?1) WHERE origin = 'pk'", [&name], |row| row.get(0))
        .map_err(failed())?;
    let rows = Rows { without_rowid, key_is_rowid: !without_rowid && indexed_keys == 0 };
    assemble(path, &name, &declared, rows, key)
}

/// What is there by this name if it is no ordinary table, and what to do about it.
fn other_kind(connection: &Connection, path: &Path, name: &str) -> Result<Option<String>, SourceError> {
    let sql = "SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE \
               ORDER BY name <> ?1 LIMIT 1";
    let found = connection
        .query_row(sql, [name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .optional()
        .map_err(SourceError::sqlite("read the schema of", path.display()))?;
    let Some((name, kind)) = found else { return Ok(None) };
    Ok(Some(match kind.as_str() {
        "view" => {
            format!("{name:?} is a view, and only tables are read; CREATE TABLE ... AS SELECT makes a table of it")
        }
        "virtual" => {
            let module = virtual_module(connection, &name).map_or_else(String::new, |module| format!(" of {module}"));
            format!(
                "{name:?} is a virtual table{module}, whose rows are made by an extension, and only ordinary tables are \
                 read; load the table that it is made of, or CREATE TABLE ... AS SELECT makes one"
            )
        }
        "shadow" => format!(
            "{name:?} is a shadow table, in which a virtual table keeps its own data, and only ordinary tables are read"
        ),
        _ if name.to_ascii_lowercase().starts_with("sqlite_") => {
            format!("{name:?} is SQLite's own table; choose another")
        }
        _ if name.starts_with(OWN_PREFIX) => format!("{name:?} is freshbench's own table; choose another"),
        _ => return Ok(None),
    }))
}

/// `fts5` of `CREATE VIRTUAL TABLE name USING fts5(...)`.
fn virtual_module(connection: &Connection, name: &str) -> Option<String> {
    let sql: String =
        connection.query_row("SELECT sql FROM sqlite_schema WHERE name = ?1", [name], |row| row.get(0)).ok()?;
    let at = sql.to_ascii_lowercase().rfind(" using ")?;
    let module = sql.get(at + " using ".len()..)?.trim_start();
    let end = module.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(module.len());
    module.get(..end).filter(|module| !module.is_empty()).map(str::to_owned)
}

/// How a table's rows lie in the file.
#[derive(Clone, Copy)]
struct Rows {
    without_rowid: bool,
    /// The primary key, if there is one, is another name of the rowid.
    key_is_rowid: bool,
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

fn assemble(
    path: &Path,
    name: &str,
    declared: &[Declared],
    rows: Rows,
    wanted: &[String],
) -> Result<SourceTable, SourceError> {
    let alias = rowid_alias(declared.iter().map(|column| column.name.as_str())).filter(|_| !rows.without_rowid);
    let mut columns = Vec::with_capacity(declared.len() + 1);
    let mut codings = Vec::with_capacity(declared.len() + 1);
    let key = key_of(path, name, declared, (alias, wanted))?;
    for (place, column) in declared.iter().enumerate() {
        let coding = coding(&column.declared_type);
        codings.push(coding);
        // Of a key that is neither the rowid nor the order of the rows SQLite lets parts be NULL.
        let filled = column.key_place > 0 && (rows.without_rowid || rows.key_is_rowid);
        columns.push(Column {
            name: column.name.clone(),
            column_type: column_type(coding),
            nullable: !column.not_null && !filled && !matches!(&key, KeyBy::Columns(key) if key.contains(&place)),
        });
    }
    let key = match key {
        KeyBy::Columns(key) => key,
        KeyBy::Rowid(alias) => {
            columns.insert(0, Column::required(alias, ColumnType::Int64));
            codings.insert(0, Coding::Exact(ColumnType::Int64));
            vec![0]
        }
    };
    let key_column = || declared.iter().find(|column| column.key_place > 0).map(|column| column.name.clone());
    let rowid = match alias {
        Some(alias) => Some(alias.to_owned()),
        None if rows.key_is_rowid => key_column(),
        None => None,
    };
    let has_name = rowid.is_some();
    let table = SourceTable::new(TableSchema { name: name.to_owned(), columns, key }, codings, rowid)?;
    Ok(match (has_name, rows.without_rowid) {
        (true, _) => table,
        (false, true) => table.in_tree_of(declared_key(declared)),
        (false, false) => table.in_tree_of(Vec::new()),
    })
}

/// What tells rows apart: declared columns by their places, or the rowid as a column before them.
enum KeyBy<'a> {
    Columns(Vec<usize>),
    Rowid(&'a str),
}

/// The places of the primary key's columns, in the key's order.
fn declared_key(declared: &[Declared]) -> Vec<usize> {
    let parts = declared.iter().enumerate().filter(|(_, column)| column.key_place > 0);
    let mut parts: Vec<(usize, usize)> = parts.map(|(place, column)| (column.key_place, place)).collect();
    parts.sort_unstable();
    parts.into_iter().map(|(_, place)| place).collect()
}

fn key_of<'a>(
    path: &Path,
    name: &str,
    declared: &[Declared],
    (alias, wanted): (Option<&'static str>, &'a [String]),
) -> Result<KeyBy<'a>, SourceError> {
    let refused = |reason| SourceError::NotASource { path: path.to_owned(), reason };
    let find = |wanted: &str| {
        let exact = declared.iter().position(|column| column.name == wanted);
        exact.or_else(|| declared.iter().position(|column| column.name.eq_ignore_ascii_case(wanted)))
    };
    if wanted.is_empty() {
        let key = declared_key(declared);
        return match alias {
            _ if !key.is_empty() => Ok(KeyBy::Columns(key)),
            Some(alias) => Ok(KeyBy::Rowid(alias)),
            None => Err(refused(format!(
                "table {name:?} has no primary key, and its columns took all names of the rowid; say with --key which \
                 columns tell rows apart"
            ))),
        };
    }
    if let ([only], Some(_)) = (wanted, alias)
        && find(only).is_none()
        && ROWID_NAMES.iter().any(|other| other.eq_ignore_ascii_case(only))
    {
        return Ok(KeyBy::Rowid(only));
    }
    let mut key = Vec::with_capacity(wanted.len());
    for column in wanted {
        match find(column) {
            Some(place) if !key.contains(&place) => key.push(place),
            Some(_) => return Err(refused(format!("--key names column {column:?} of table {name:?} twice"))),
            None => {
                let known: Vec<&str> = declared.iter().map(|column| column.name.as_str()).collect();
                let known = known.join(", ");
                return Err(refused(format!("table {name:?} has no column {column:?} for --key; it has: {known}")));
            }
        }
    }
    Ok(KeyBy::Columns(key))
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
        table(&connection, Path::new("test.db"), name, &[])
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
        assert!(unreachable.unwrap_err().to_string().contains("--key"));
    }

    #[test]
    fn a_missing_table_is_named_with_those_that_exist() {
        let error = discovered("CREATE TABLE b(x); CREATE TABLE a(x); CREATE VIEW v AS SELECT 1", "zz").unwrap_err();
        assert_eq!(error.to_string(), "test.db has no table \"zz\"; it has: a, b");
    }
}
