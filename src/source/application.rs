//! What an application does besides the statements of its transactions, to keep other systems in step itself.

use super::error::SourceError;
use super::ledger::Outcome;
use super::sqlite::{SqliteSource, last_lsn};
use super::table::SourceTable;
use super::value;
use crate::model::{CommitTime, Lsn, RowValues, TableId, Value, ValueRef};
use crate::workload::PlannedTxn;
use rusqlite::Connection;

/// One client's application, on the client's own thread.
pub trait Application: Send {
    /// Inside the transaction, behind its last statement and before the commit. Not called for one that only reads.
    ///
    /// # Errors
    /// Whatever fails; the transaction is then rolled back.
    fn before_commit(&mut self, txn: &PlannedTxn, inside: &Inside<'_>) -> Result<(), SourceError> {
        let _ = (txn, inside);
        Ok(())
    }

    /// The transaction ended so. The acknowledge time of its commit was taken before; the client is busy until this returns.
    fn ended(&mut self, txn: &PlannedTxn, outcome: &Outcome);
}

/// The inside of a transaction that is about to commit.
#[derive(Debug)]
pub struct Inside<'a> {
    pub(super) source: &'a SqliteSource,
    pub(super) connection: &'a Connection,
    pub(super) lsn: Lsn,
    pub(super) now: CommitTime,
}

impl Inside<'_> {
    /// The place that the transaction will have in the commit order.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The application's wall clock.
    pub fn now(&self) -> CommitTime {
        self.now
    }

    /// Hands the row with this key, as the transaction leaves it, to `each`; `None` when there is no such row.
    ///
    /// # Errors
    /// When the table is not known, or the row can't be read.
    pub fn row<T>(
        &self,
        table: &SourceTable,
        key: &[Value],
        each: impl FnOnce(Option<&RowValues<'_>>) -> T,
    ) -> Result<T, SourceError> {
        read_row(self.connection, table, key, each)
    }

    /// Runs one statement of the application's own with these parameters.
    ///
    /// # Errors
    /// When SQLite refuses it.
    pub fn execute<'v>(&self, sql: &str, parameters: impl Iterator<Item = ValueRef<'v>>) -> Result<(), SourceError> {
        let failed = |error| SourceError::sqlite("run", sql)(error);
        let mut prepared = self.connection.prepare_cached(sql).map_err(failed)?;
        for (place, value) in parameters.enumerate() {
            prepared.raw_bind_parameter(place + 1, value::encode(value)?).map_err(failed)?;
        }
        prepared.raw_execute().map(drop).map_err(failed)
    }

    /// The source it is a transaction of.
    pub fn source(&self) -> &SqliteSource {
        self.source
    }
}

/// Reads single rows, each with the position of the state that it belongs to: what an application does when it misses
/// something in a cache.
#[derive(Debug)]
pub struct PointReader {
    source: SqliteSource,
    connection: Connection,
}

impl PointReader {
    /// Opens a connection.
    ///
    /// # Errors
    /// When SQLite can't.
    pub fn connect(source: &SqliteSource) -> Result<PointReader, SourceError> {
        Ok(PointReader { source: source.clone(), connection: source.connect()? })
    }

    /// Hands the row with this key (`None` if there is none) and the newest commit that its state includes to `each`.
    ///
    /// # Errors
    /// When the table is not known, or the row can't be read.
    pub fn read<T>(
        &self,
        table: TableId,
        key: &[Value],
        each: impl FnOnce(Option<&RowValues<'_>>, Lsn) -> T,
    ) -> Result<T, SourceError> {
        let failed = |error| SourceError::sqlite("read a row of", self.source.path().display())(error);
        self.connection.execute_batch("BEGIN").map_err(failed)?;
        let read = last_lsn(&self.connection)
            .map_err(failed)
            .and_then(|lsn| read_row(&self.connection, self.source.table(table)?, key, |row| each(row, lsn)));
        self.connection.execute_batch("COMMIT").map_err(failed)?;
        read
    }
}

fn read_row<T>(
    connection: &Connection,
    table: &SourceTable,
    key: &[Value],
    each: impl FnOnce(Option<&RowValues<'_>>) -> T,
) -> Result<T, SourceError> {
    let name = &table.schema().name;
    let failed = |error| SourceError::sqlite("read a row of table", name)(error);
    let places: Vec<&str> = key.iter().map(|_| "?").collect();
    let sql = format!("{} WHERE ({}) = ({})", table.select_sql(), table.key_sql(), places.join(", "));
    let mut prepared = connection.prepare_cached(&sql).map_err(failed)?;
    for (place, value) in key.iter().enumerate() {
        prepared.raw_bind_parameter(place + 1, value::encode(value.as_ref())?).map_err(failed)?;
    }
    let mut rows = prepared.raw_query();
    let mut scratch = String::new();
    match rows.next().map_err(failed)? {
        Some(row) => Ok(each(Some(&table.decode(row, 0, &mut scratch)?))),
        None => Ok(each(None)),
    }
}
