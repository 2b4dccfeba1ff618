//! What an application does besides the statements of its transactions, to keep other systems in step itself.

use super::error::SourceError;
use super::ledger::Outcome;
use super::postgres::{PgSource, Session, TableReader};
use super::record_system::RecordSystem;
use super::sqlite::{SqliteSource, last_lsn};
use super::table::SourceTable;
use super::value;
use crate::model::{CommitTime, Lsn, RowValues, TableId, TableSchema, Value, ValueRef};
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
pub struct Inside<'a> {
    place: Place<'a>,
    lsn: Lsn,
    now: CommitTime,
}

enum Place<'a> {
    Sqlite { source: &'a SqliteSource, connection: &'a Connection },
    Postgres { source: &'a PgSource, session: &'a Session },
}

impl<'a> Inside<'a> {
    pub(super) fn sqlite(
        source: &'a SqliteSource,
        connection: &'a Connection,
        (lsn, now): (Lsn, CommitTime),
    ) -> Inside<'a> {
        Inside { place: Place::Sqlite { source, connection }, lsn, now }
    }

    pub(super) fn postgres(source: &'a PgSource, session: &'a Session, (lsn, now): (Lsn, CommitTime)) -> Inside<'a> {
        Inside { place: Place::Postgres { source, session }, lsn, now }
    }

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
        table: TableId,
        key: &[Value],
        each: impl FnOnce(Option<&RowValues<'_>>) -> T,
    ) -> Result<T, SourceError> {
        match &self.place {
            Place::Sqlite { source, connection } => read_row(connection, source.table(table)?, key, each),
            Place::Postgres { source, session } => session.row(&TableReader::new(source.table(table)?), key, each),
        }
    }

    /// Runs one statement of the application's own with these parameters.
    ///
    /// # Errors
    /// When the database refuses it.
    pub fn execute<'v>(&self, sql: &str, parameters: impl Iterator<Item = ValueRef<'v>>) -> Result<(), SourceError> {
        match &self.place {
            Place::Sqlite { connection, .. } => {
                let failed = |error| SourceError::sqlite("run", sql)(error);
                let mut prepared = connection.prepare_cached(sql).map_err(failed)?;
                for (place, value) in parameters.enumerate() {
                    prepared.raw_bind_parameter(place + 1, value::encode(value)?).map_err(failed)?;
                }
                prepared.raw_execute().map(drop).map_err(failed)
            }
            Place::Postgres { session, .. } => {
                session.execute(sql, parameters).map(drop).map_err(SourceError::postgres("run", sql))
            }
        }
    }

    /// The schema of a table.
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn schema(&self, table: TableId) -> Result<&TableSchema, SourceError> {
        match &self.place {
            Place::Sqlite { source, .. } => source.table(table).map(SourceTable::schema),
            Place::Postgres { source, .. } => source.table(table).map(|table| &table.schema),
        }
    }
}

/// Reads single rows, each with the position of the state that it belongs to: what an application does when it misses
/// something in a cache.
pub struct PointReader(PointPlace);

enum PointPlace {
    Sqlite { source: SqliteSource, connection: Connection },
    Postgres { source: PgSource, session: Box<Session> },
}

impl std::fmt::Debug for PointReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PointReader")
    }
}

impl PointReader {
    /// Opens a connection.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub fn connect(source: impl Into<RecordSystem>) -> Result<PointReader, SourceError> {
        Ok(PointReader(match source.into() {
            RecordSystem::Sqlite(source) => PointPlace::Sqlite { connection: source.connect()?, source },
            RecordSystem::Postgres(source) => {
                PointPlace::Postgres { session: Box::new(Session::new(source.connect()?)), source }
            }
        }))
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
        match &self.0 {
            PointPlace::Sqlite { source, connection } => {
                let failed = |error| SourceError::sqlite("read a row of", source.path().display())(error);
                connection.execute_batch("BEGIN").map_err(failed)?;
                let read = last_lsn(connection)
                    .map_err(failed)
                    .and_then(|lsn| read_row(connection, source.table(table)?, key, |row| each(row, lsn)));
                connection.execute_batch("COMMIT").map_err(failed)?;
                read
            }
            PointPlace::Postgres { source, session } => {
                let (position, reader) = (session.state(source)?, TableReader::new(source.table(table)?));
                let read = session.row(&reader, key, |row| each(row, position));
                session.end(source)?;
                read
            }
        }
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
