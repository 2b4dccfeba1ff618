//! `incremental`: rows whose cursor moved, merged at fixed times. Each sink has a job and a cursor of its own.

use super::load::{load_tables, width};
use super::running::{Batch, Outcome, ReadableRecorder, Running, Shared, in_batches};
use super::sinks::{ForEachSink, Sinks};
use super::{Setting, StrategyError};
use crate::apply::Folder;
use crate::capture::{MovedRows, SourceSnapshot};
use crate::model::{Key, Moment, TableId, Transaction, ValueRef};
use crate::probe::VisibilityRecorder;
use crate::sink::Sink;
use std::sync::Arc;

pub(super) fn start(setting: &Setting) -> Result<Running, StrategyError> {
    if !setting.attached {
        MovedRows::setup(&setting.source, &setting.cursor_columns)?;
    }
    let sinks = Sinks::create(setting)?;
    let running = Running::new(sinks.readers(), Shared::new(setting));
    let begun = setting.clock.now();
    let snapshot = SourceSnapshot::begin(&setting.source, setting.pool.current_num_threads(), &setting.clock)?;
    let mut jobs = Jobs { setting, running, begun, snapshot };
    sinks.each(&mut jobs)?;
    Ok(jobs.running)
}

struct Jobs<'a> {
    setting: &'a Setting,
    running: Running,
    begun: Moment,
    snapshot: SourceSnapshot,
}

impl ForEachSink for Jobs<'_> {
    fn sink<S: Sink>(&mut self, mut sink: S) -> Result<(), StrategyError> {
        let columns = &self.setting.cursor_columns;
        let mut capture = MovedRows::begin_after(&self.setting.source, &self.snapshot, columns, &self.setting.clock)?;
        let readable = ReadableRecorder::of(&mut sink, self.setting);
        let mut recorder = self.setting.recorder();
        let loaded = load_tables(self.setting, &self.snapshot, &mut sink)?;
        self.running.shared().add_read(S::KIND, loaded.bytes);
        self.running.shared().set_written(S::KIND, sink.counters().bytes_written);
        let initial_rows = loaded.rows;
        recorder.published(self.setting.clock.now(), self.snapshot.position());
        let (setting, begun) = (self.setting.clone(), self.begun);
        self.running.spawn(&format!("app-{}", S::KIND.name()), move |shared| {
            let mut folder = Folder::new(Arc::clone(&setting.transforms));
            let mut last_state = None;
            let outcome = in_batches(shared, &setting, begun, (sink, recorder, readable), |sink, recorder| {
                let last = setting.attached && shared.goal_is_set();
                // Only a ledger is brought to them.
                if setting.meter.is_some() {
                    capture.forget_positions();
                }
                let readers = setting.pool.current_num_threads();
                let state =
                    last.then(|| SourceSnapshot::begin(&setting.source, readers, &setting.clock)).transpose()?;
                let merged = merge(&setting, (&mut capture, state.as_ref()), &mut folder, (sink, recorder))?;
                if let Merged::Batch(batch, bytes) = merged {
                    last_state = state.map(Arc::new);
                    shared.add_changes(batch.rows);
                    return Ok((batch, bytes));
                }
                // What no cursor tells of: everything is loaded again.
                let state = match state {
                    Some(state) => state,
                    None => SourceSnapshot::begin(&setting.source, readers, &setting.clock)?,
                };
                let reloaded = reload(&setting, (&mut capture, &state), (sink, recorder))?;
                last_state = last.then(|| Arc::new(state));
                shared.add_changes(reloaded.0.rows);
                Ok(reloaded)
            })?;
            let positions = capture.into_positions();
            Ok(Outcome { positions, last_state, ..Outcome::of(S::KIND, outcome, initial_rows) })
        })
    }
}

/// What came of one poll.
enum Merged {
    /// Rows, and the bytes that were read.
    Batch(Batch, u64),
    /// Nothing: a table has other rows than its cursor tells of.
    Moved,
}

/// Loads every table again, and sets the cursor behind that.
fn reload<S: Sink>(
    setting: &Setting,
    (capture, state): (&mut MovedRows, &SourceSnapshot),
    (sink, recorder): (&mut S, &mut VisibilityRecorder),
) -> Result<(Batch, u64), StrategyError> {
    capture.restart_after(state)?;
    let loaded = load_tables(setting, state, sink)?;
    let published_at = setting.clock.now();
    recorder.published(published_at, state.position());
    Ok((Batch { taken_at: state.taken_at(), published_at, rows: loaded.rows }, loaded.bytes))
}

/// One micro-batch: read, merge, publish, make durable.
fn merge<S: Sink>(
    setting: &Setting,
    (capture, state): (&mut MovedRows, Option<&SourceSnapshot>),
    folder: &mut Folder,
    (sink, recorder): (&mut S, &mut VisibilityRecorder),
) -> Result<Merged, StrategyError> {
    let mut rows = Transaction::default();
    let mut keys: Vec<(TableId, Key)> = Vec::new();
    let mut bytes = 0;
    let mut each = |table, row: &[ValueRef<'_>]| -> Result<(), StrategyError> {
        let schema = setting.source.schema(table)?;
        keys.push((table, Key::of_row(schema, row)?));
        bytes += width(row);
        rows.changes.push_update(table, None, row.iter().copied())?;
        Ok(())
    };
    let batch = match state {
        Some(state) => capture.poll_state(state, &mut each)?,
        None => capture.poll(&mut each)?,
    };
    if batch.moved.is_some() {
        return Ok(Merged::Moved);
    }
    rows.lsn = batch.position;
    folder.push(&rows)?;
    let edits = folder.finish(sink)?;
    sink.apply(&edits)?;
    sink.publish(batch.position)?;
    let published_at = setting.clock.now();
    recorder.delivered(published_at, batch.position, keys);
    setting.pool.install(|| sink.checkpoint())?;
    Ok(Merged::Batch(Batch { taken_at: batch.taken_at, published_at, rows: batch.rows }, bytes))
}
