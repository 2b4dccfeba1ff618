//! Several connections that read one and the same state of a database, in parallel, range by range.

use super::error::SourceError;
use super::queue::WriterQueue;
use super::table::{SourceTable, quote};
use crate::model::ValueRef;
use rusqlite::types::Value as Bound;
use rusqlite::{Connection, params_from_iter};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// A part of a table: the rows whose rowid (or, in a WITHOUT ROWID table, first key column) is at least `low` and
/// below `high`. The ranges that [`Readers::ranges`] gives cover every row once.
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
        let axis = axis(table);
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
        let order = if table.rowid().is_some() { axis(table) } else { table.key_sql() };
        let scanned = self.with(reader, |connection| scan(connection, table, range, &order, each, wrap));
        scanned.unwrap_or_else(|| Err(wrap(self.no_reader())))
    }

    /// Reads a whole table in key order. Returns how many rows.
    ///
    /// # Errors
    /// As [`Readers::scan`].
    pub fn scan_by_key<E>(
        &self,
        table: &SourceTable,
        each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
        wrap: fn(SourceError) -> E,
    ) -> Result<u64, E> {
        let order = table.key_sql();
        let scanned = self.with(0, |connection| scan(connection, table, &RowRange::ALL, &order, each, wrap));
        scanned.unwrap_or_else(|| Err(wrap(self.no_reader())))
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

// What ranges are made of.
fn axis(table: &SourceTable) -> String {
    match (table.rowid(), table.schema().key.first()) {
        (None, Some(&first)) => table.column_sql(first),
        (rowid, _) => format!("t.{}", quote(rowid.unwrap_or("rowid"))),
    }
}

fn scan<E>(
    connection: &Connection,
    table: &SourceTable,
    range: &RowRange,
    order: &str,
    each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
    wrap: fn(SourceError) -> E,
) -> Result<u64, E> {
    let axis = axis(table);
    let mut sql = table.select_sql();
    let mut bounds = Vec::with_capacity(2);
    for (bound, operator) in [(&range.low, ">="), (&range.high, "<")] {
        if let Some(bound) = bound {
            bounds.push(bound);
            let word = if bounds.len() == 1 { "WHERE" } else { "AND" };
            sql.push_str(&format!(" {word} {axis} {operator} ?{}", bounds.len()));
        }
    }
    sql.push_str(&format!(" ORDER BY {order}"));
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
