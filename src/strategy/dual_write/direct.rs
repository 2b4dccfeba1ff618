//! One sink that many clients write to.

use crate::apply::Folder;
use crate::clock::Clock;
use crate::model::{ChangeBuf, ChangeRef, Key, Lsn, Moment, TableId, Transaction, ValueRef};
use crate::probe::{Arrival, VisibilityRecorder};
use crate::sink::{Sink, SinkKind};
use crate::strategy::running::{ReadableRecorder, SinkOutcome};
use crate::strategy::{Setting, StrategyError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Transactions that a sink collects before its clients have to wait for it.
const WAITING_MAX: usize = 10_000;

/// A sink as the application calls it.
pub(super) trait DirectSink: Send + Sync {
    fn kind(&self) -> SinkKind;

    /// Writes the rows of one transaction. When it returns they are accepted, in the order of the calls, and visible
    /// unless the sink collects.
    fn write(&self, rows: &Transaction) -> Result<(), StrategyError>;

    /// Makes visible what was accepted.
    fn flush(&self) -> Result<(), StrategyError>;

    /// Makes durable what is visible.
    fn checkpoint(&self) -> Result<(), StrategyError>;

    /// The clients have ended: moves the watermark on to `goal`.
    fn complete(&self, goal: Lsn) -> Result<(), StrategyError>;

    /// Bytes written to it so far.
    fn written(&self) -> u64;

    /// Hands over what was measured, once.
    fn finish(&self) -> Result<SinkOutcome, StrategyError>;
}

/// Writes in the order of their arrival. Accepting is apart from applying, so that a sink which collects (a search
/// index between two commits) keeps no client waiting.
pub(super) struct Direct<S> {
    accepted: Mutex<Accepted>,
    applied: Mutex<Applied<S>>,
    collects: bool,
    clock: Clock,
}

#[derive(Default)]
struct Accepted {
    /// The newest commit that was written for each key, where the sink compares positions.
    versions: Option<HashMap<(TableId, Key), Lsn>>,
    waiting: Vec<Transaction>,
}

struct Applied<S> {
    sink: S,
    folder: Folder,
    newest: Lsn,
    outcome: SinkOutcome,
    recorder: VisibilityRecorder,
    readable: ReadableRecorder,
    written_before: u64,
}

impl<S: Sink> Direct<S> {
    pub(super) fn new(
        setting: &Setting,
        (sink, readable): (S, ReadableRecorder),
        versioned: bool,
        loaded: (Moment, Lsn),
    ) -> Direct<S> {
        let mut recorder = VisibilityRecorder::new();
        recorder.published(loaded.0, loaded.1);
        let versions = versioned.then(HashMap::new);
        let written_before = sink.counters().bytes_written;
        let folder = Folder::new(Arc::clone(&setting.transforms));
        let (newest, outcome) = (loaded.1, SinkOutcome::default());
        Direct {
            accepted: Mutex::new(Accepted { versions, ..Accepted::default() }),
            applied: Mutex::new(Applied { sink, folder, newest, outcome, recorder, readable, written_before }),
            collects: S::KIND == SinkKind::Search,
            clock: setting.clock.clone(),
        }
    }

    fn applied(&self) -> MutexGuard<'_, Applied<S>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Sink> DirectSink for Direct<S> {
    fn kind(&self) -> SinkKind {
        S::KIND
    }

    fn write(&self, rows: &Transaction) -> Result<(), StrategyError> {
        let waiting = {
            let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
            accepted.accept(rows)?;
            accepted.waiting.len()
        };
        // Whoever gets the lock first applies for all that wait, so every call's rows are visible when it returns.
        if self.collects && waiting < WAITING_MAX { Ok(()) } else { self.flush() }
    }

    fn flush(&self) -> Result<(), StrategyError> {
        let mut applied = self.applied();
        let waiting = std::mem::take(&mut self.accepted.lock().unwrap_or_else(PoisonError::into_inner).waiting);
        if waiting.is_empty() { Ok(()) } else { applied.apply(&waiting, &self.clock) }
    }

    fn checkpoint(&self) -> Result<(), StrategyError> {
        self.applied().sink.checkpoint()?;
        Ok(())
    }

    fn complete(&self, goal: Lsn) -> Result<(), StrategyError> {
        let mut applied = self.applied();
        let goal = goal.max(applied.newest);
        applied.sink.publish(goal)?;
        applied.sink.checkpoint()?;
        Ok(())
    }

    fn written(&self) -> u64 {
        self.applied().sink.counters().bytes_written
    }

    fn finish(&self) -> Result<SinkOutcome, StrategyError> {
        let written = self.written();
        let mut applied = self.applied();
        let mut outcome = std::mem::take(&mut applied.outcome);
        outcome.bytes_written = written - applied.written_before;
        outcome.publishes = std::mem::take(&mut applied.recorder).into_publishes();
        outcome.readable = applied.readable.take();
        Ok(outcome)
    }
}

impl Accepted {
    /// Takes a transaction's rows in; without those that are older than what was written before, if positions are compared.
    fn accept(&mut self, rows: &Transaction) -> Result<(), StrategyError> {
        let Some(versions) = &mut self.versions else {
            self.waiting.push(rows.clone());
            return Ok(());
        };
        let mut kept = Transaction { changes: ChangeBuf::new(), ..rows.clone() };
        for change in rows.changes.iter() {
            let change = change?;
            let (key, row) = match change {
                ChangeRef::Update { old_key: Some(key), row, .. } => (key.values()?, Some(row.values()?)),
                ChangeRef::Delete { key, .. } => (key.values()?, None),
                // `push_row` makes no other changes.
                ChangeRef::Insert { .. } | ChangeRef::Update { .. } | ChangeRef::Truncate { .. } => continue,
            };
            let table = change.table();
            let version = versions.entry((table, Key::from_values(&key)?)).or_default();
            if *version > rows.lsn {
                continue;
            }
            *version = rows.lsn;
            push_row(&mut kept.changes, table, &key, row.as_deref())?;
        }
        self.waiting.push(kept);
        Ok(())
    }
}

/// A row as a client writes it: its key beside it, so that a sink can compare positions by key.
pub(super) fn push_row(
    changes: &mut ChangeBuf,
    table: TableId,
    key: &[ValueRef<'_>],
    row: Option<&[ValueRef<'_>]>,
) -> Result<(), crate::model::CodecError> {
    match row {
        Some(row) => changes.push_update(table, Some(key), row.iter().copied()),
        None => changes.push_delete(table, key.iter().copied()),
    }
}

impl<S: Sink> Applied<S> {
    fn apply(&mut self, waiting: &[Transaction], clock: &Clock) -> Result<(), StrategyError> {
        for rows in waiting {
            // Each on its own: they come in no order of commits, and a cache keeps the position of each entry.
            self.folder.reset();
            self.folder.push(rows)?;
            self.outcome.rows += self.folder.changes();
            let edits = self.folder.finish(&self.sink)?;
            self.sink.apply(&edits)?;
            self.newest = self.newest.max(rows.lsn);
        }
        self.sink.publish(self.newest)?;
        let at = clock.now();
        self.outcome.arrivals.extend(waiting.iter().map(|rows| Arrival { lsn: rows.lsn, at }));
        Ok(())
    }
}
