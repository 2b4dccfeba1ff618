//! The incremental micro-batch: rows whose `updated_at` moved.

use super::error::CaptureError;
use super::snapshot::Snapshot;
use crate::clock::Clock;
use crate::model::{ColumnType, Lsn, Moment, TableId, ValueRef};
use crate::source::{SourceTable, SqliteSource, last_closed_lsn, quote};
use rusqlite::{Connection, Row};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use xxhash_rust::xxh3::xxh3_128;

/// Reads, table by table, the rows whose cursor column is beyond the greatest value seen.
///
/// # What it loses (the method's flaws, kept on purpose)
///
/// * Deletes: a row that is gone has no `updated_at`. A changed key looks like a new row, and the old one stays.
/// * Late commits: the application stamps a row when it takes the request. A transaction that commits after a poll
///   with a stamp before that poll's greatest is never seen.
/// * Versions in between: of several updates between two polls only the last is seen.
/// * Rows whose cursor is NULL, and updates that do not touch it.
///
/// Rows that share the greatest stamp are not lost: each poll reads that stamp's rows again and delivers those that
/// are new or different. A stamp shared by more rows than [`CursorCapture::BOUNDARY_ROWS_MAX`] (a bulk load's) is not
/// read again, or every poll would read the whole load.
#[derive(Debug)]
pub struct CursorCapture {
    source: SqliteSource,
    connection: Connection,
    tables: Vec<Follow>,
    data_version: Option<i64>,
    clock: Clock,
}

/// Where a cursor stands in every table; goes into JSON and back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorState {
    /// For each table, in the catalog's order: the greatest stamp seen in microseconds, `None` before the first row.
    pub tables: Vec<Option<i64>>,
}

/// Takes a table's row, in column order.
pub type EachRow<'a, E> = dyn FnMut(TableId, &[ValueRef<'_>]) -> Result<(), E> + 'a;

/// The greatest stamp, and what is known of its rows.
type Place = (Option<i64>, Boundary);

/// What one poll delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorBatch {
    /// The newest commit that the poll's read transaction could see.
    pub position: Lsn,
    /// When that read transaction had begun.
    pub taken_at: Moment,
    /// Rows delivered.
    pub rows: u64,
    /// Why nothing was delivered: what happened to a table that no cursor tells of, such as a partition that came or went. Its
    /// rows have to be loaded again, and the cursor begun behind that.
    pub moved: Option<String>,
}

#[derive(Debug)]
struct Follow {
    id: TableId,
    column: usize,
    sql: String,
    last: Option<i64>,
    boundary: Boundary,
}

/// Which rows of the greatest stamp were delivered, as hashes of their contents.
#[derive(Clone, Debug)]
enum Boundary {
    Rows(HashSet<u128>),
    TooMany,
}

impl CursorCapture {
    /// Rows of one stamp that are remembered; a stamp with more is not read again.
    pub const BOUNDARY_ROWS_MAX: usize = 10_000;

    /// Makes an index on each table's cursor column; `columns` has that column's place for every table of the
    /// catalog, in order.
    ///
    /// # Errors
    /// When a column is no Timestamp or Int64 column, or SQLite fails.
    pub fn setup(source: &SqliteSource, columns: &[usize]) -> Result<(), CaptureError> {
        let connection = source.connect()?;
        let _turn = source.queue().take();
        for follow in follows(source, columns)? {
            let schema = source.table(follow.id)?.schema();
            let column = schema.columns.get(follow.column).map_or("", |column| &column.name);
            let sql = format!(
                "CREATE INDEX IF NOT EXISTS _freshbench_cursor_{} ON {}({})",
                follow.id.0,
                quote(&schema.name),
                quote(column)
            );
            connection.execute_batch(&sql).map_err(CaptureError::sqlite("index table", &schema.name))?;
        }
        Ok(())
    }

    /// Removes the indexes of [`CursorCapture::setup`].
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn teardown(source: &SqliteSource) -> Result<(), CaptureError> {
        let connection = source.connect()?;
        let _turn = source.queue().take();
        let sql: String = (0..source.tables().len())
            .map(|number| format!("DROP INDEX IF EXISTS _freshbench_cursor_{number};"))
            .collect();
        connection.execute_batch(&sql).map_err(CaptureError::sqlite("remove indexes from", source.path().display()))
    }

    /// Begins before the first row: the first poll delivers every row.
    ///
    /// # Errors
    /// As [`CursorCapture::setup`].
    pub fn begin(source: &SqliteSource, columns: &[usize], clock: &Clock) -> Result<CursorCapture, CaptureError> {
        let (tables, connection) = (follows(source, columns)?, source.connect()?);
        Ok(CursorCapture { source: source.clone(), connection, tables, data_version: None, clock: clock.clone() })
    }

    /// Begins behind a snapshot: delivers what moved since, and of the rows with a table's greatest stamp those that
    /// differ from the snapshot's.
    ///
    /// # Errors
    /// As [`CursorCapture::setup`].
    pub fn begin_after(snapshot: &Snapshot, columns: &[usize], clock: &Clock) -> Result<CursorCapture, CaptureError> {
        let source = snapshot.source();
        let mut capture = CursorCapture::begin(source, columns, clock)?;
        for follow in &mut capture.tables {
            let table = source.table(follow.id)?;
            let read = snapshot.with_reader(|connection| follow.catch_up(connection, table));
            read.unwrap_or(Ok(())).map_err(CaptureError::sqlite("read table", &table.schema().name))?;
        }
        Ok(capture)
    }

    /// Goes on from a kept state. The rows of each table's greatest stamp are delivered once more.
    ///
    /// # Errors
    /// As [`CursorCapture::setup`], and when the state is of another number of tables.
    pub fn restore(
        source: &SqliteSource,
        columns: &[usize],
        state: &CursorState,
        clock: &Clock,
    ) -> Result<CursorCapture, CaptureError> {
        let mut capture = CursorCapture::begin(source, columns, clock)?;
        if state.tables.len() != capture.tables.len() {
            let reason = "the cursor kept is of other tables; begin with a full load".to_owned();
            return Err(CaptureError::Unfit { table: source.path().display().to_string(), reason });
        }
        for (follow, last) in capture.tables.iter_mut().zip(&state.tables) {
            follow.last = *last;
        }
        Ok(capture)
    }

    /// Where the cursor stands.
    pub fn state(&self) -> CursorState {
        CursorState { tables: self.tables.iter().map(|follow| follow.last).collect() }
    }

    /// Hands every row that moved to `each`, table by table in order of the stamp, all from one read transaction.
    /// When nothing was committed since the last poll nothing is read.
    ///
    /// # Errors
    /// When SQLite fails, a value is not of its column's type, or `each` fails. The cursor then stays where it was.
    pub fn poll<E: From<CaptureError>>(&mut self, each: &mut EachRow<'_, E>) -> Result<CursorBatch, E> {
        let failed = || CaptureError::sqlite("poll", self.source.path().display());
        let version: i64 = query_one(&self.connection, "PRAGMA data_version").map_err(failed())?;
        self.connection.execute_batch("BEGIN").map_err(failed())?;
        let read = self.read(self.data_version == Some(version), each);
        let ended = self.connection.execute_batch("COMMIT").map_err(failed());
        let (batch, moved) = read?;
        ended?;
        for (follow, (last, boundary)) in self.tables.iter_mut().zip(moved) {
            (follow.last, follow.boundary) = (last, boundary);
        }
        self.data_version = Some(version);
        Ok(batch)
    }

    fn read<E: From<CaptureError>>(
        &self,
        idle: bool,
        each: &mut EachRow<'_, E>,
    ) -> Result<(CursorBatch, Vec<Place>), E> {
        let position = last_closed_lsn(&self.connection)
            .map_err(CaptureError::sqlite("read the position of", self.source.path().display()))?;
        let mut batch = CursorBatch { position, taken_at: self.clock.now(), rows: 0, moved: None };
        let mut moved = Vec::with_capacity(self.tables.len());
        if !idle {
            for follow in &self.tables {
                let table = self.source.table(follow.id).map_err(CaptureError::from)?;
                moved.push(follow.read(&self.connection, table, &mut batch.rows, each)?);
            }
        }
        Ok((batch, moved))
    }
}

impl Follow {
    /// Takes the greatest stamp and the rows that have it as delivered.
    fn catch_up(&mut self, connection: &Connection, table: &SourceTable) -> rusqlite::Result<()> {
        let stamp = table.column_sql(self.column);
        let sql = format!("SELECT max({stamp}) FROM {} AS t", table.quoted());
        self.last = connection.query_row(&sql, [], |row| row.get(0))?;
        let mut statement = connection.prepare(&format!("{} WHERE {stamp} = ?1", table.select_sql()))?;
        let mut rows = statement.query([self.last])?;
        let mut encoded = Vec::new();
        while let Some(row) = rows.next()? {
            self.boundary.is_new(row, &mut encoded)?;
            if matches!(self.boundary, Boundary::TooMany) {
                break;
            }
        }
        Ok(())
    }

    fn read<E: From<CaptureError>>(
        &self,
        connection: &Connection,
        table: &SourceTable,
        rows_read: &mut u64,
        each: &mut EachRow<'_, E>,
    ) -> Result<Place, E> {
        let failed = |source| E::from(CaptureError::sqlite("read table", &table.schema().name)(source));
        let mut statement = connection.prepare_cached(&self.sql).map_err(failed)?;
        let from = match self.boundary {
            Boundary::Rows(_) => self.last,
            Boundary::TooMany => self.last.map(|last| last.saturating_add(1)),
        };
        let mut rows = statement.query([from.unwrap_or(i64::MIN)]).map_err(failed)?;
        let (mut last, mut boundary) = (self.last, self.boundary.clone());
        let (mut scratch, mut encoded) = (String::new(), Vec::new());
        while let Some(row) = rows.next().map_err(failed)? {
            let values = table.decode(row, 0, &mut scratch).map_err(CaptureError::from)?;
            let stamp = match values.get(self.column) {
                Some(ValueRef::Timestamp(stamp) | ValueRef::Int(stamp)) => *stamp,
                _ => continue,
            };
            if last != Some(stamp) {
                (last, boundary) = (Some(stamp), Boundary::Rows(HashSet::new()));
            }
            if boundary.is_new(row, &mut encoded).map_err(failed)? {
                each(self.id, &values)?;
                *rows_read += 1;
            }
        }
        Ok((last, boundary))
    }
}

impl Boundary {
    /// Remembers the row; `false` if the very same was there.
    fn is_new(&mut self, row: &Row<'_>, encoded: &mut Vec<u8>) -> rusqlite::Result<bool> {
        let Boundary::Rows(seen) = self else { return Ok(true) };
        encoded.clear();
        encode(row, encoded)?;
        let new = seen.insert(xxh3_128(encoded));
        if seen.len() > CursorCapture::BOUNDARY_ROWS_MAX {
            *self = Boundary::TooMany;
        }
        Ok(new)
    }
}

/// The row's stored values, each with its storage class and length.
fn encode(row: &Row<'_>, out: &mut Vec<u8>) -> rusqlite::Result<()> {
    use rusqlite::types::ValueRef as Stored;
    for column in 0..row.as_ref().column_count() {
        let (class, bytes) = match row.get_ref(column)? {
            Stored::Null => (0, &[][..]),
            Stored::Integer(v) => (1, &v.to_le_bytes()[..]),
            Stored::Real(v) => (2, &v.to_bits().to_le_bytes()[..]),
            Stored::Text(v) => (3, v),
            Stored::Blob(v) => (4, v),
        };
        out.push(class);
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(bytes);
    }
    Ok(())
}

fn query_one(connection: &Connection, sql: &str) -> rusqlite::Result<i64> {
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

fn follows(source: &SqliteSource, columns: &[usize]) -> Result<Vec<Follow>, CaptureError> {
    let unfit = |table: &str, reason: &str| CaptureError::Unfit { table: table.to_owned(), reason: reason.to_owned() };
    let mut follows = Vec::with_capacity(columns.len());
    for (id, schema) in source.catalog().iter() {
        let column = columns.get(id.index()).and_then(|&place| Some((place, schema.columns.get(place)?)));
        let Some((place, column)) = column else { return Err(unfit(&schema.name, "it has no cursor column")) };
        if !matches!(column.column_type, ColumnType::Timestamp | ColumnType::Int64) {
            return Err(unfit(&schema.name, "its cursor column is no timestamp and no integer"));
        }
        let table = source.table(id)?;
        let stamp = table.column_sql(place);
        let sql = format!("{} WHERE {stamp} >= ?1 ORDER BY {stamp}", table.select_sql());
        let boundary = Boundary::Rows(HashSet::new());
        follows.push(Follow { id, column: place, sql, last: None, boundary });
    }
    Ok(follows)
}
