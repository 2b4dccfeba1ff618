//! Every row of one state of a record system, whichever database it is.

use super::cursor::{CursorBatch, CursorCapture, EachRow};
use super::error::CaptureError;
use super::postgres::{PgCursorCapture, PgRange, PgSnapshot};
use super::snapshot::Snapshot;
use crate::clock::Clock;
use crate::model::{Lsn, Moment, TableId, ValueRef};
use crate::source::postgres::{PgCut, PgKept};
use crate::source::{Positions, RecordSystem, RowRange};

/// Readers that all see the same state. It is `Sync`: give each thread its own reader.
#[derive(Debug)]
pub struct SourceSnapshot {
    kind: Kind,
    position: Lsn,
}

#[derive(Debug)]
enum Kind {
    Sqlite(Snapshot),
    Postgres(Box<PgSnapshot>),
}

/// A part of a table.
#[derive(Clone, Debug)]
pub enum Part {
    /// Keys or rowids from here to there.
    Sqlite(RowRange),
    /// Pages from here to there.
    Postgres(PgRange),
}

impl SourceSnapshot {
    /// The snapshot of PostgreSQL, where it is one.
    pub fn postgres(&self) -> Option<&PgSnapshot> {
        match &self.kind {
            Kind::Sqlite(_) => None,
            Kind::Postgres(snapshot) => Some(snapshot),
        }
    }

    /// Begins a snapshot with `readers` connections (at least 1). Its tables have to have kept their names, and columns that go
    /// where those of the start went.
    ///
    /// # Errors
    /// When the source can't be read.
    pub fn begin(source: &RecordSystem, readers: usize, clock: &Clock) -> Result<SourceSnapshot, CaptureError> {
        SourceSnapshot::begin_of(source, PgKept::Name, readers, clock)
    }

    /// As [`SourceSnapshot::begin`], of the very tables that a changelog was made for.
    ///
    /// # Errors
    /// When the source can't be read.
    pub fn begin_copied(source: &RecordSystem, readers: usize, clock: &Clock) -> Result<SourceSnapshot, CaptureError> {
        SourceSnapshot::begin_of(source, PgKept::Copied, readers, clock)
    }

    fn begin_of(
        source: &RecordSystem,
        kept: PgKept,
        readers: usize,
        clock: &Clock,
    ) -> Result<SourceSnapshot, CaptureError> {
        let kind = match source {
            RecordSystem::Sqlite(source) => Kind::Sqlite(Snapshot::begin(source, readers, clock)?),
            RecordSystem::Postgres(source) => {
                Kind::Postgres(Box::new(PgSnapshot::of_source(source, kept, readers, clock, None)?))
            }
        };
        Ok(SourceSnapshot::of(kind))
    }

    /// Takes over a snapshot that was made elsewhere, such as where a replication slot begins.
    pub fn of_postgres(snapshot: PgSnapshot) -> SourceSnapshot {
        SourceSnapshot::of(Kind::Postgres(Box::new(snapshot)))
    }

    fn of(kind: Kind) -> SourceSnapshot {
        let position = match &kind {
            Kind::Sqlite(snapshot) => snapshot.position(),
            Kind::Postgres(snapshot) => snapshot.position(),
        };
        SourceSnapshot { kind, position }
    }

    /// The same state under another position, for those who reckon by commit numbers.
    #[must_use]
    pub fn reckoned(self, position: Lsn) -> SourceSnapshot {
        SourceSnapshot { position, ..self }
    }

    /// Its position.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// When it was taken.
    pub fn taken_at(&self) -> Moment {
        match &self.kind {
            Kind::Sqlite(snapshot) => snapshot.taken_at(),
            Kind::Postgres(snapshot) => snapshot.taken_at(),
        }
    }

    /// Which transactions it includes, where the database says so.
    pub fn cut(&self) -> Option<&PgCut> {
        match &self.kind {
            Kind::Sqlite(_) => None,
            Kind::Postgres(snapshot) => snapshot.cut(),
        }
    }

    /// What its position is, for a strategy whose positions are states.
    pub fn positions(&self) -> Positions {
        self.cut().map_or(Positions::Numbers, |cut| Positions::Cuts(vec![(self.position, cut.clone())]))
    }

    /// How many readers it has.
    pub fn readers(&self) -> usize {
        match &self.kind {
            Kind::Sqlite(snapshot) => snapshot.readers(),
            Kind::Postgres(snapshot) => snapshot.readers(),
        }
    }

    /// About how many rows the table has, by the database's statistics, where it keeps any.
    ///
    /// # Errors
    /// When the table can't be read.
    pub fn estimated_rows(&self, table: TableId) -> Result<u64, CaptureError> {
        self.postgres().map_or(Ok(0), |snapshot| snapshot.estimated_rows(table))
    }

    /// At most `parts` parts of about equal size that cover the table.
    ///
    /// # Errors
    /// When the table can't be read.
    pub fn ranges(&self, table: TableId, parts: usize) -> Result<Vec<Part>, CaptureError> {
        Ok(match &self.kind {
            Kind::Sqlite(snapshot) => snapshot.ranges(table, parts)?.into_iter().map(Part::Sqlite).collect(),
            Kind::Postgres(snapshot) => snapshot.ranges(table, parts)?.into_iter().map(Part::Postgres).collect(),
        })
    }

    /// Reads the rows of a part with reader `reader` and hands each to `each`, in column order. Returns how many.
    ///
    /// # Errors
    /// When the source fails, a value is not of its column's type, or `each` fails.
    pub fn scan<E: From<CaptureError>>(
        &self,
        reader: usize,
        table: TableId,
        part: &Part,
        each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
    ) -> Result<u64, E> {
        match (&self.kind, part) {
            (Kind::Sqlite(snapshot), Part::Sqlite(range)) => snapshot.scan(reader, table, range, each),
            (Kind::Postgres(snapshot), Part::Postgres(range)) => snapshot.scan(reader, table, range, each),
            // Parts come from `ranges` of the same snapshot.
            _ => Ok(0),
        }
    }

    /// Holds the number of rows that were read of a whole table against what the database counts in the same state.
    ///
    /// # Errors
    /// When they differ, or the table can't be counted.
    pub fn check_count(&self, table: TableId, read: u64) -> Result<(), CaptureError> {
        match &self.kind {
            Kind::Sqlite(snapshot) => snapshot.check_count(table, read),
            Kind::Postgres(snapshot) => snapshot.check_count(table, read),
        }
    }
}

/// Rows whose cursor column moved, from whichever database.
#[derive(Debug)]
pub enum MovedRows {
    /// From SQLite.
    Sqlite(Box<CursorCapture>),
    /// From PostgreSQL.
    Postgres(Box<PgCursorCapture>),
}

impl MovedRows {
    /// Prepares the source; see [`CursorCapture::setup`].
    ///
    /// # Errors
    /// When a column is no timestamp and no integer, or the database refuses.
    pub fn setup(source: &RecordSystem, columns: &[usize]) -> Result<(), CaptureError> {
        match source {
            RecordSystem::Sqlite(source) => CursorCapture::setup(source, columns),
            RecordSystem::Postgres(source) => PgCursorCapture::setup(source, columns),
        }
    }

    /// Begins behind a snapshot.
    ///
    /// # Errors
    /// As [`MovedRows::setup`].
    pub fn begin_after(
        source: &RecordSystem,
        snapshot: &SourceSnapshot,
        columns: &[usize],
        clock: &Clock,
    ) -> Result<MovedRows, CaptureError> {
        Ok(match (&snapshot.kind, source) {
            (Kind::Postgres(snapshot), RecordSystem::Postgres(source)) => {
                MovedRows::Postgres(Box::new(PgCursorCapture::begin_after(source, snapshot, columns, clock)?))
            }
            (Kind::Sqlite(snapshot), _) => {
                MovedRows::Sqlite(Box::new(CursorCapture::begin_after(snapshot, columns, clock)?))
            }
            (Kind::Postgres(_), RecordSystem::Sqlite(_)) => {
                let reason = "the snapshot is another database's".to_owned();
                return Err(CaptureError::Unfit { table: source.place(), reason });
            }
        })
    }

    /// Hands every row that moved to `each`.
    ///
    /// # Errors
    /// As [`CursorCapture::poll`].
    pub fn poll<E: From<CaptureError>>(&mut self, each: &mut EachRow<'_, E>) -> Result<CursorBatch, E> {
        match self {
            MovedRows::Sqlite(cursor) => cursor.poll(each),
            MovedRows::Postgres(cursor) => cursor.poll(each),
        }
    }

    /// As [`MovedRows::poll`], of the state that `snapshot` reads.
    ///
    /// # Errors
    /// As [`MovedRows::poll`].
    pub fn poll_state<E: From<CaptureError>>(
        &mut self,
        snapshot: &SourceSnapshot,
        each: &mut EachRow<'_, E>,
    ) -> Result<CursorBatch, E> {
        match (self, snapshot.postgres()) {
            (MovedRows::Postgres(cursor), Some(snapshot)) => cursor.poll_state(snapshot, each),
            (cursor, _) => cursor.poll(each),
        }
    }

    /// Begins again behind a snapshot, from which everything was loaded once more; see [`CursorBatch::moved`].
    ///
    /// # Errors
    /// As [`MovedRows::begin_after`].
    pub fn restart_after(&mut self, snapshot: &SourceSnapshot) -> Result<(), CaptureError> {
        match (self, snapshot.postgres()) {
            (MovedRows::Postgres(cursor), Some(snapshot)) => cursor.restart_after(snapshot),
            _ => Ok(()),
        }
    }

    /// Lets go of what [`MovedRows::into_positions`] would tell of the batches so far: it grows with them.
    pub fn forget_positions(&mut self) {
        if let MovedRows::Postgres(cursor) = self {
            cursor.take_cuts();
        }
    }

    /// What the positions of its batches are.
    pub fn into_positions(self) -> Positions {
        match self {
            MovedRows::Sqlite(_) => Positions::Numbers,
            MovedRows::Postgres(mut cursor) => Positions::Cuts(cursor.take_cuts()),
        }
    }
}
