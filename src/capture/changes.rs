//! Changes out of a record system, whichever database it is and however they are had.

use super::error::CaptureError;
use super::postgres::{LogCapture, LogCaptureOptions, PgOutboxWriter, PgTriggerCapture, slot_health};
use super::source_snapshot::SourceSnapshot;
use super::trigger::{OutboxWriter, Polled, TriggerCapture};
use crate::clock::Clock;
use crate::model::{Lsn, TableId, Transaction, ValueRef};
use crate::source::postgres::PgOptions;
use crate::source::{Inside, Positions, RecordSystem, SourceError, wall_clock};
use ::postgres::Client;
use std::time::{Duration, Instant};

/// Whole transactions, each once, in an order in which every two that conflict stand as their commits do.
#[derive(Debug)]
pub enum ChangeCapture {
    /// A changelog in SQLite.
    Sqlite(Box<TriggerCapture>),
    /// A changelog in PostgreSQL.
    Postgres(Box<PgTriggerCapture>),
    /// PostgreSQL's own log.
    Log(Box<FollowedLog>),
}

/// A stream of the database's log that goes on through what it does not deliver.
pub struct FollowedLog {
    capture: LogCapture,
    /// Asks the server about the slot.
    client: Client,
    server: PgOptions,
    slot: String,
    /// The position that was handed on last: a transaction's, or one behind which nothing is missing.
    through: Lsn,
    moved_at: Instant,
    /// Whether the connection broke and could not be made again yet.
    broken: bool,
}

impl std::fmt::Debug for FollowedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FollowedLog")
            .field("capture", &self.capture)
            .field("through", &self.through)
            .finish_non_exhaustive()
    }
}

/// How long positions stand still while only other tables change.
const STEP_INTERVAL: Duration = Duration::from_millis(50);

impl FollowedLog {
    /// Opens stream and client again, behind what was delivered.
    fn take_up(&mut self) -> Result<(), CaptureError> {
        self.broken = true;
        self.capture.reconnect()?;
        self.client = self.server.connect()?;
        self.broken = false;
        Ok(())
    }

    fn poll(&mut self, max_changes: u64, limit: Lsn, out: &mut Vec<Transaction>) -> Result<Polled, CaptureError> {
        if self.broken {
            self.take_up()?;
        }
        let before = out.len();
        let polled = self.capture.poll(max_changes, out)?;
        // What committed behind the limit is for whoever goes on after it.
        while out.len() > before && out.last().is_some_and(|last| last.lsn > limit) {
            out.pop();
        }
        let complete = polled.through.min(limit);
        if let Some(last) = out.get(before..).and_then(<[Transaction]>::last) {
            (self.through, self.moved_at) = (last.lsn, Instant::now());
        }
        let ends = complete == limit && !polled.more;
        let idle = out.len() == before && self.moved_at.elapsed() >= STEP_INTERVAL;
        if complete > self.through && (ends || idle) {
            out.push(Transaction { lsn: complete, committed_at: wall_clock(), ..Transaction::default() });
            (self.through, self.moved_at) = (complete, Instant::now());
        }
        let taken = out.get(before..).unwrap_or_default();
        let changes = taken.iter().map(|transaction| transaction.changes.len() as u64).sum();
        Ok(Polled { through: self.through, transactions: taken.len() as u64, changes, more: polled.more })
    }
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

    /// Removes what [`ChangeCapture::setup`] made.
    ///
    /// # Errors
    /// When the database refuses.
    pub fn teardown(source: &RecordSystem) -> Result<(), CaptureError> {
        match source {
            RecordSystem::Sqlite(source) => TriggerCapture::teardown(source),
            RecordSystem::Postgres(source) => PgTriggerCapture::teardown(source),
        }
    }

    /// The state that was delivered last can't be had again: delivers one more, and keeps it to be read. `None` where it is
    /// to be had otherwise.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_state(
        &mut self,
        clock: &Clock,
        out: &mut Vec<Transaction>,
    ) -> Result<Option<SourceSnapshot>, CaptureError> {
        match self {
            ChangeCapture::Postgres(capture) => Ok(Some(SourceSnapshot::of_postgres(capture.last_state(clock, out)?))),
            ChangeCapture::Sqlite(_) | ChangeCapture::Log(_) => Ok(None),
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
            ChangeCapture::Log(log) => log.through,
        }
    }

    /// Follows the database's log.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub fn of_log(capture: LogCapture, options: &LogCaptureOptions) -> Result<ChangeCapture, CaptureError> {
        let (through, moved_at) = (capture.through(), Instant::now());
        let (client, server, slot) = (options.server.connect()?, options.server.clone(), options.slot.clone());
        Ok(ChangeCapture::Log(Box::new(FollowedLog {
            capture,
            client,
            server,
            slot,
            through,
            moved_at,
            broken: false,
        })))
    }

    /// The bytes of its log that the database keeps for this capture at present, where it does.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn retained_log_bytes(&mut self) -> Result<Option<u64>, CaptureError> {
        match self {
            ChangeCapture::Log(log) => match slot_health(&mut log.client, &log.slot) {
                Ok(health) => Ok(health.map(|health| health.retained_bytes)),
                // The stream itself sees to a server that went away.
                Err(error) if error.is_of_connection() => Ok(None),
                Err(error) => Err(error),
            },
            ChangeCapture::Sqlite(_) | ChangeCapture::Postgres(_) => Ok(None),
        }
    }

    /// Whether the stream could be taken up again after this error, or may be later: only an error of the connection is mended
    /// so, and only of the database's log, whose next part is asked for by position.
    ///
    /// # Errors
    /// When the database is back and refuses, as when the slot is lost.
    pub fn reconnect(&mut self, error: &CaptureError) -> Result<bool, CaptureError> {
        let ChangeCapture::Log(log) = self else { return Ok(false) };
        if !error.is_of_connection() {
            return Ok(false);
        }
        match log.take_up() {
            Ok(()) => Ok(true),
            Err(error) if error.is_of_connection() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Waits until there is something new, or for `interval`.
    ///
    /// # Errors
    /// When the database fails.
    pub fn wait(&mut self, interval: Duration) -> Result<(), CaptureError> {
        match self {
            ChangeCapture::Log(log) => log.capture.wait(interval),
            ChangeCapture::Sqlite(_) | ChangeCapture::Postgres(_) => {
                std::thread::sleep(interval);
                Ok(())
            }
        }
    }

    /// Appends what is new to `out`, at most about `max_changes` where it can be had in parts. From the database's log,
    /// nothing that committed behind `limit`.
    ///
    /// # Errors
    /// When the database fails or a value can't be held; the next poll then begins at the same place.
    pub fn poll(&mut self, max_changes: u64, limit: Lsn, out: &mut Vec<Transaction>) -> Result<Polled, CaptureError> {
        match self {
            // What did not fit at the beginning is bad input; what fits no more is the stream's end.
            ChangeCapture::Log(log) => log.poll(max_changes, limit, out).map_err(|error| match error {
                CaptureError::Unfit { table, reason } => {
                    CaptureError::Parted { slot: log.slot.clone(), reason: format!("table {table:?}: {reason}") }
                }
                other => other,
            }),
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
            ChangeCapture::Log(log) => match log.capture.acknowledge(log.through) {
                // It is said again when the stream has been taken up again.
                Err(error) if error.is_of_connection() => Ok(()),
                acknowledged => acknowledged,
            },
        }
    }

    /// Lets go of what [`ChangeCapture::into_positions`] would tell of the transactions so far: it grows with them.
    pub fn forget_positions(&mut self) {
        if let ChangeCapture::Postgres(capture) = self {
            capture.take_cuts();
        }
    }

    /// What the positions of the transactions are.
    pub fn into_positions(self) -> Positions {
        match self {
            ChangeCapture::Sqlite(_) => Positions::Numbers,
            ChangeCapture::Postgres(mut capture) => Positions::Cuts(capture.take_cuts()),
            ChangeCapture::Log(_) => Positions::Log,
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
