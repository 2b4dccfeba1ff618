//! Every row of one consistent state.

use super::error::CaptureError;
use crate::clock::Clock;
use crate::model::{Lsn, Moment, TableId, ValueRef};
use crate::source::{CLOSE_FOREIGN, Readers, RowRange, SqliteSource, last_lsn};

/// Readers that all see the same commits: exactly those up to [`Snapshot::position`].
///
/// It is `Sync`: give each thread its own reader. As long as it lives the source can't shrink its WAL.
#[derive(Debug)]
pub struct Snapshot {
    source: SqliteSource,
    readers: Readers,
    position: Lsn,
    taken_at: Moment,
}

impl Snapshot {
    /// Begins a snapshot with `readers` connections (at least 1). Writers wait for an instant, not for the reading.
    ///
    /// # Errors
    /// When the source can't be read, or its write lock is not to be had.
    pub fn begin(source: &SqliteSource, readers: usize, clock: &Clock) -> Result<Snapshot, CaptureError> {
        let guard = source.connect()?;
        let mut taken_at = clock.now();
        let mut locked = |guard: &rusqlite::Connection| {
            // While nobody can commit: what was acknowledged before this moment is in, nothing after it is.
            taken_at = clock.now();
            // What a foreign transaction's commit row stands for must not grow behind the snapshot's back.
            guard.execute(CLOSE_FOREIGN, []).map(drop)
        };
        let open = || source.connect();
        let readers = Readers::begin(source.path(), readers, &guard, source.queue(), &open, &mut locked)?;
        let positions = (0..readers.count())
            .filter_map(|reader| readers.with(reader, last_lsn))
            .collect::<rusqlite::Result<Vec<Lsn>>>()
            .map_err(CaptureError::sqlite("read the position of", source.path().display()))?;
        match positions.split_first() {
            Some((&position, others)) if others.iter().all(|&other| other == position) => {
                Ok(Snapshot { source: source.clone(), readers, position, taken_at })
            }
            _ => Err(CaptureError::Inconsistent { positions }),
        }
    }

    /// The newest commit that it includes.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// When it was taken.
    pub fn taken_at(&self) -> Moment {
        self.taken_at
    }

    /// How many readers it has.
    pub fn readers(&self) -> usize {
        self.readers.count()
    }

    /// At most `parts` ranges of about equal key width that cover the table; see [`Readers::ranges`].
    ///
    /// # Errors
    /// When the table can't be read.
    pub fn ranges(&self, table: TableId, parts: usize) -> Result<Vec<RowRange>, CaptureError> {
        Ok(self.readers.ranges(self.source.table(table)?, parts)?)
    }

    /// Reads the rows of a range with reader `reader` and hands each to `each`, in column order. Returns how many.
    ///
    /// # Errors
    /// When SQLite fails, a value is not of its column's type, or `each` fails.
    pub fn scan<E: From<CaptureError>>(
        &self,
        reader: usize,
        table: TableId,
        range: &RowRange,
        each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let table = self.source.table(table).map_err(CaptureError::from)?;
        self.readers.scan(reader, table, range, each, |error| E::from(CaptureError::from(error)))
    }

    /// Holds the number of rows that were read of a whole table against the database's own; see [`Readers::check_count`].
    ///
    /// # Errors
    /// When they differ, or the table can't be read.
    pub fn check_count(&self, table: TableId, read: u64) -> Result<(), CaptureError> {
        Ok(self.readers.check_count(self.source.table(table)?, read)?)
    }

    pub(super) fn source(&self) -> &SqliteSource {
        &self.source
    }

    /// Lends the first reader's connection.
    pub(super) fn with_reader<T>(&self, work: impl FnOnce(&rusqlite::Connection) -> T) -> Option<T> {
        self.readers.with(0, work)
    }
}
