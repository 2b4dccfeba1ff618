//! Changes out of a record system, whichever database it is and however they are had.

use super::error::CaptureError;
use super::postgres::{PgOutboxWriter, PgTriggerCapture};
use super::source_snapshot::SourceSnapshot;
use super::trigger::{OutboxWriter, Polled, TriggerCapture};
use crate::model::{Lsn, TableId, Transaction, ValueRef};
use crate::source::{Inside, Positions, RecordSystem, SourceError};

/// Whole transactions, each once, in an order in which every two that conflict stand as their commits do.
#[derive(Debug)]
pub enum ChangeCapture {
    /// A changelog in SQLite.
    Sqlite(Box<TriggerCapture>),
    /// A changelog in PostgreSQL.
    Postgres(Box<PgTriggerCapture>),
}

impl ChangeCapture {
    /// Makes a changelog that triggers fill.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn setup(source: &RecordSystem) -> Result<(), CaptureError> {
        match source {
            RecordSystem::Sqlite(source) => TriggerCapture::setup(source).map(drop),
            RecordSystem::Postgres(source) => PgTriggerCapture::setup(source),
        }
    }

    /// Makes a changelog that the application fills.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn setup_outbox(source: &RecordSystem) -> Result<(), CaptureError> {
        match source {
            RecordSystem::Sqlite(source) => TriggerCapture::setup_outbox(source).map(drop),
            RecordSystem::Postgres(source) => PgTriggerCapture::setup_outbox(source),
        }
    }

    /// Goes on behind a snapshot in the changelog.
    ///
    /// # Errors
    /// When the changelog was not set up, or does not reach back so far.
    pub fn resume(source: &RecordSystem, snapshot: &SourceSnapshot) -> Result<ChangeCapture, CaptureError> {
        let position = snapshot.position();
        match source {
            RecordSystem::Sqlite(source) => {
                Ok(ChangeCapture::Sqlite(Box::new(TriggerCapture::resume(source, position)?)))
            }
            RecordSystem::Postgres(source) => {
                let unknown = || CaptureError::NotSetUp { reason: "the snapshot's state is not known".to_owned() };
                let cut = snapshot.cut().ok_or_else(unknown)?.clone();
                let capture = PgTriggerCapture::resume(source, position, cut)?;
                Ok(ChangeCapture::Postgres(Box::new(capture)))
            }
        }
    }

    /// What was delivered last.
    pub fn through(&self) -> Lsn {
        match self {
            ChangeCapture::Sqlite(capture) => capture.through(),
            ChangeCapture::Postgres(capture) => capture.through(),
        }
    }

    /// Appends what is new to `out`, at most about `max_changes` where it can be had in parts.
    ///
    /// # Errors
    /// When the database fails or a value can't be held; the next poll then begins at the same place.
    pub fn poll(&mut self, max_changes: u64, out: &mut Vec<Transaction>) -> Result<Polled, CaptureError> {
        match self {
            ChangeCapture::Sqlite(capture) => capture.poll(max_changes, out),
            ChangeCapture::Postgres(capture) => capture.poll(out),
        }
    }

    /// All that was delivered is durable elsewhere: lets the database forget it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn release(&mut self) -> Result<(), CaptureError> {
        match self {
            ChangeCapture::Sqlite(capture) => {
                let through = capture.through();
                while capture.prune(through)? > 0 {}
                Ok(())
            }
            ChangeCapture::Postgres(capture) => capture.prune().map(drop),
        }
    }

    /// What the positions of the transactions are.
    pub fn into_positions(self) -> Positions {
        match self {
            ChangeCapture::Sqlite(_) => Positions::Numbers,
            ChangeCapture::Postgres(mut capture) => Positions::Cuts(capture.take_cuts()),
        }
    }
}

/// Appends to a changelog from inside an application's transaction.
#[derive(Clone, Debug)]
pub enum Outbox {
    /// In SQLite.
    Sqlite(OutboxWriter),
    /// In PostgreSQL.
    Postgres(PgOutboxWriter),
}

impl Outbox {
    /// A writer for the tables of `source`.
    pub fn new(source: &RecordSystem) -> Outbox {
        match source {
            RecordSystem::Sqlite(source) => Outbox::Sqlite(OutboxWriter::new(source)),
            RecordSystem::Postgres(source) => Outbox::Postgres(PgOutboxWriter::new(source)),
        }
    }

    /// The row is there, with these values.
    ///
    /// # Errors
    /// When the database refuses the insert.
    pub fn present(&self, inside: &Inside<'_>, table: TableId, row: &[ValueRef<'_>]) -> Result<(), SourceError> {
        match self {
            Outbox::Sqlite(writer) => writer.present(inside, table, row),
            Outbox::Postgres(writer) => writer.present(inside, table, row),
        }
    }

    /// There is no row with this key any more.
    ///
    /// # Errors
    /// When the database refuses the insert.
    pub fn absent<'v>(
        &self,
        inside: &Inside<'_>,
        table: TableId,
        key: impl Iterator<Item = ValueRef<'v>>,
    ) -> Result<(), SourceError> {
        match self {
            Outbox::Sqlite(writer) => writer.absent(inside, table, key),
            Outbox::Postgres(writer) => writer.absent(inside, table, key),
        }
    }
}
