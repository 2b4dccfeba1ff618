//! Several connections that read one and the same state of a database, in parallel, range by range.

use super::error::SourceError;
use super::queue::WriterQueue;
use super::table::{SourceTable, quote};
use crate::model::ValueRef;
use rusqlite::types::Value as Bound;
use rusqlite::{Connection, params_from_iter};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Files up to this size are checked as SQLite checks them, beside the counting: it reads the table once more.
const CHECK_BYTES_MAX: i64 = 256 << 20;

/// A part of a table: the rows whose rowid (or, in a WITHOUT ROWID table, first key column) is at least `low` and
/// below `high`. The ranges that [`Readers::ranges`] gives cover every row once; neither can be NULL there. A table whose
/// rowid has no name left is one range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowRange {
    low: Option<Bound>,
    high: Option<Bound>,
}

impl RowRange {
    /// The whole table.
    pub const ALL: RowRange = RowRange { low: None, high: None };
}

/// Connections inside read transactions that all see the same commits.
///
/// `Sync`: each reader is used by one thread at a time, different readers by different threads.
#[derive(Debug)]
pub struct Readers {
    path: PathBuf,
    connections: Vec<Mutex<Connection>>,
}

impl Readers {
    /// Begins a read transaction on `count` (at least 1) connections while `guard` holds SQLite's write lock
    /// for an instant, so that no commit can come between them. `open` opens one reader. `locked` is called
    /// while the lock is held and the readers have begun; what it writes through the guard, the readers do not see.
    ///
    /// # Errors
    /// When a connection can't be opened, or the write lock is not to be had.
    pub fn begin(
        path: &Path,
        count: usize,
        guard: &Connection,
        queue: &WriterQueue,
        open: &dyn Fn() -> Result<Connection, SourceError>,
        locked: &mut dyn FnMut(&Connection) -> rusqlite::Result<()>,
    ) -> Result<Readers, SourceError> {
        let connections = (0..count.max(1)).map(|_| open()).collect::<Result<Vec<_>, _>>()?;
        let failed = |operation| SourceError::sqlite(operation, path.display());
        let _turn = queue.take();
        guard.execute_batch("BEGIN IMMEDIATE").map_err(failed("take the write lock of"))?;
        let begun = connections.iter().try_for_each(|connection| begin_read(connection, path));
        let before = guard.total_changes();
        let done = locked(guard);
        // Without WAL even an empty commit would wait for the very readers that have just begun.
        let wrote = guard.total_changes() > before;
        let end = if begun.is_ok() && done.is_ok() && wrote { "COMMIT" } else { "ROLLBACK" };
        let released = guard.execute_batch(end);
        begun.and(done.and(released).map_err(failed("release the write lock of")))?;
        Ok(Readers { path: path.to_owned(), connections: connections.into_iter().map(Mutex::new).collect() })
    }

    /// One reader, which needs no lock to agree with itself.
    ///
    /// # Errors
    /// When the read transaction can't begin.
    pub fn single(path: &Path, connection: Connection) -> Result<Readers, SourceError> {
        begin_read(&connection, path)?;
        Ok(Readers { path: path.to_owned(), connections: vec![Mutex::new(connection)] })
    }

    /// How many readers there are.
    pub fn count(&self) -> usize {
        self.connections.len()
    }

    /// Lends the connection of reader `reader` (counted round when there are fewer).
    ///
    /// # Errors
    /// Whatever `work` gives.
    pub fn with<T>(&self, reader: usize, work: impl FnOnce(&Connection) -> T) -> Option<T> {
        let place = reader.checked_rem(self.connections.len())?;
        let connection = self.connections.get(place)?;
        // A panic in another scan leaves the connection itself whole.
        Some(work(&connection.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// At most `parts` ranges that cover `table`, of about equal width in key values. Where keys are dense, that is
    /// about equal in rows. A WITHOUT ROWID table whose first key column holds no integers is one range.
    ///
    /// # Errors
    /// When the table can't be read.
    pub fn ranges(&self, table: &SourceTable, parts: usize) -> Result<Vec<RowRange>, SourceError> {
        let Some(axis) = axis(table) else { return Ok(vec![RowRange::ALL]) };
        let sql = format!("SELECT min({axis}) FROM {table} AS t", table = table.quoted());
        let last = format!("SELECT max({axis}) FROM {table} AS t", table = table.quoted());
        let edges = self.with(0, |connection| -> rusqlite::Result<(Bound, Bound)> {
            Ok((connection.query_row(&sql, [], |row| row.get(0))?, connection.query_row(&last, [], |row| row.get(0))?))
        });
        let Some(edges) = edges else { return Ok(vec![RowRange::ALL]) };
        match edges.map_err(SourceError::sqlite("read the key range of table", &table.schema().name))? {
            (Bound::Integer(first), Bound::Integer(last)) => Ok(split(first, last, parts)),
            _ => Ok(vec![RowRange::ALL]),
        }
    }

    /// Reads the rows of one range with reader `reader`, in rowid or key order, and hands each to `each` in column
    /// order. Returns how many.
    ///
    /// # Errors
    /// When SQLite fails, a value is not of its column's type, or `each` fails.
    pub fn scan<E>(
        &self,
        reader: usize,
        table: &SourceTable,
        range: &RowRange,
        each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
        wrap: fn(SourceError) -> E,
    ) -> Result<u64, E> {
        let order = if table.rowid().is_some() { axis(table) } else { Some(table.tree_sql().join(", ")) };
        let order = order.filter(|order| !order.is_empty());
        let scanned = self.with(reader, |connection| scan(connection, table, range, order.as_deref(), each, wrap));
        scanned.unwrap_or_else(|| Err(wrap(self.no_reader())))
    }

    /// Reads a whole table in key order. Returns how many rows: as many as [`Readers::check_count`] wants.
    ///
    /// # Errors
    /// As [`Readers::scan`] and [`Readers::check_count`].
    pub fn scan_by_key<E>(
        &self,
        table: &SourceTable,
        each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
        wrap: fn(SourceError) -> E,
    ) -> Result<u64, E> {
        let order = table.key_sql();
        let scanned = self.with(0, |connection| scan(connection, table, &RowRange::ALL, Some(&order), each, wrap));
        let rows = scanned.unwrap_or_else(|| Err(wrap(self.no_reader())))?;
        self.check_count(table, rows).map_err(wrap)?;
        Ok(rows)
    }

    /// Holds the number of rows that were read of a whole table against what the database counts in the same state: in
    /// the tree of the rows, and in the index that `SELECT count(*)` takes. With keys told apart afterwards, that leaves no
    /// room for a row that was passed over, whatever the reason. Reads each leaf page once and no row of it.
    ///
    /// # Errors
    /// [`SourceError::Damaged`] when the numbers differ.
    pub fn check_count(&self, table: &SourceTable, read: u64) -> Result<(), SourceError> {
        let counted = self.with(0, |connection| -> Result<(), SourceError> {
            let in_tree = count(connection, table, "NOT INDEXED")?;
            if in_tree != read {
                return Err(damaged(table, &format!("{read} rows were read, and its tree holds {in_tree}"), RECOVER));
            }
            let counted = count(connection, table, "")?;
            if counted == read {
                return Ok(());
            }
            let what = format!("{read} rows were read, and SELECT count(*) gives {counted}, since an index differs");
            Err(damaged(table, &what, REINDEX))
        });
        counted.unwrap_or_else(|| Err(self.no_reader()))
    }

    /// As [`Readers::check_count`]; in files up to 256 MiB SQLite also checks the table's pages and counts its indexes
    /// (`PRAGMA quick_check`). What it says of values that break a constraint is no damage.
    ///
    /// # Errors
    /// [`SourceError::Damaged`].
    pub fn check(&self, table: &SourceTable, read: u64) -> Result<(), SourceError> {
        self.check_count(table, read)?;
        let checked = self.with(0, |connection| -> Result<(), SourceError> {
            let pages = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
            let bytes = pages("page_count").and_then(|count| Ok(count.saturating_mul(pages("page_size")?)));
            if bytes.map_err(SourceError::sqlite("read the size of", self.path.display()))? > CHECK_BYTES_MAX {
                return Ok(());
            }
            quick_check(connection, table)
        });
        checked.unwrap_or_else(|| Err(self.no_reader()))
    }

    fn no_reader(&self) -> SourceError {
        SourceError::NotASource { path: self.path.clone(), reason: "no reader is open".to_owned() }
    }
}

// A read transaction begins with its first read, not with BEGIN.
fn begin_read(connection: &Connection, path: &Path) -> Result<(), SourceError> {
    connection
        .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
        .map_err(SourceError::sqlite("begin to read", path.display()))
}

const RECOVER: &str =
    "the file is damaged: restore it from a backup, or make another with the sqlite3 shell's .recover";
const REINDEX: &str =
    "the file is damaged: run REINDEX and PRAGMA integrity_check in the sqlite3 shell, then load again";

fn damaged(table: &SourceTable, what: &str, remedy: &str) -> SourceError {
    SourceError::Damaged { table: table.schema().name.clone(), what: format!("{what}; {remedy}") }
}

/// The rows as SQLite counts them; `how` names where.
fn count(connection: &Connection, table: &SourceTable, how: &str) -> Result<u64, SourceError> {
    let sql = format!("SELECT count(*) FROM {} {how}", table.quoted());
    let rows = connection.query_row(&sql, [], |row| row.get::<_, i64>(0));
    rows.map(i64::unsigned_abs).map_err(SourceError::sqlite("count the rows of table", &table.schema().name))
}

fn quick_check(connection: &Connection, table: &SourceTable) -> Result<(), SourceError> {
    let name = table.schema().name.replace('\'', "''");
    let read = || -> rusqlite::Result<Vec<String>> {
        connection.prepare(&format!("PRAGMA quick_check('{name}')"))?.query_map([], |row| row.get(0))?.collect()
    };
    let told = match read() {
        Ok(told) => told,
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
            return Err(SourceError::sqlite("check table", &table.schema().name)(error));
        }
        // A collation or a function of the application's own, say; what was counted stands.
        Err(_) => return Ok(()),
    };
    let of_values = |line: &str| line.contains(" value in ") || line.starts_with("CHECK constraint failed");
    match told.iter().find(|line| *line != "ok" && !of_values(line)) {
        Some(line) => {
            let remedy = if line.contains(" index ") { REINDEX } else { RECOVER };
            Err(damaged(
                table,
                &format!("SQLite's own check says: {}", line.lines().last().unwrap_or_default()),
                remedy,
            ))
        }
        None => Ok(()),
    }
}

// What ranges are made of: the rowid, if SQL can name it, or the first column of the tree's key.
fn axis(table: &SourceTable) -> Option<String> {
    match table.rowid() {
        Some(rowid) => Some(format!("t.{}", quote(rowid))),
        None => table.tree_sql().into_iter().next(),
    }
}

fn scan<E>(
    connection: &Connection,
    table: &SourceTable,
    range: &RowRange,
    order: Option<&str>,
    each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
    wrap: fn(SourceError) -> E,
) -> Result<u64, E> {
    let axis = axis(table).unwrap_or_default();
    let mut sql = table.select_sql();
    if order.is_none_or(|order| order == axis) {
        // From the tree of the rows, never from an index that happens to hold all columns.
        sql.push_str(" NOT INDEXED");
    }
    let mut bounds = Vec::with_capacity(2);
    for (bound, operator) in [(&range.low, ">="), (&range.high, "<")] {
        if let Some(bound) = bound {
            bounds.push(bound);
            let word = if bounds.len() == 1 { "WHERE" } else { "AND" };
            sql.push_str(&format!(" {word} {axis} {operator} ?{}", bounds.len()));
        }
    }
    if let Some(order) = order {
        sql.push_str(&format!(" ORDER BY {order}"));
    }
    let failed =
        |source| wrap(SourceError::Sqlite { operation: "read table", place: table.schema().name.clone(), source });
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let mut rows = statement.query(params_from_iter(bounds)).map_err(failed)?;
    let mut scratch = String::new();
    let mut count = 0;
    while let Some(row) = rows.next().map_err(failed)? {
        each(&table.decode(row, 0, &mut scratch).map_err(wrap)?)?;
        count += 1;
    }
    Ok(count)
}

fn split(first: i64, last: i64, parts: usize) -> Vec<RowRange> {
    let width = i128::from(last) - i128::from(first) + 1;
    let parts = i128::try_from(parts.max(1)).unwrap_or(1).min(width.max(1));
    let cut = |part: i128| {
        let inner = part > 0 && part < parts;
        // Between first and last, hence an i64.
        i64::try_from(i128::from(first) + width * part / parts).ok().filter(|_| inner).map(Bound::Integer)
    };
    (0..parts).map(|part| RowRange { low: cut(part), high: cut(part + 1) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_meet_and_leave_nothing_out() {
        for (first, last, parts) in [(1, 10, 3), (i64::MIN, i64::MAX, 7), (5, 5, 4), (-3, 1, 100), (0, 9, 0)] {
            let ranges = split(first, last, parts);
            assert!(ranges.len() <= parts.max(1));
            assert_eq!(ranges.first().map(|r| &r.low), Some(&None));
            assert_eq!(ranges.last().map(|r| &r.high), Some(&None));
            for pair in ranges.windows(2) {
                assert!(pair[0].high.is_some());
                assert_eq!(pair[0].high, pair[1].low);
            }
        }
        let thirds = split(0, 8, 3);
        assert_eq!(thirds[1], RowRange { low: Some(Bound::Integer(3)), high: Some(Bound::Integer(6)) });
    }
}
