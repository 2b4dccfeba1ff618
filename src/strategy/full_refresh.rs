//! `full-refresh`: the whole of every table at fixed times, built beside the old state and swapped in at once.
//!
//! Each sink has a job of its own, with its own snapshot: a slow rebuild does not keep another sink waiting.

use super::load::replace_tables;
use super::running::{Batch, Outcome, ReadableRecorder, Running, Shared, in_batches};
use super::sinks::{ForEachSink, Sinks};
use super::{Setting, StrategyError};
use crate::capture::SourceSnapshot;
use crate::model::Moment;
use crate::probe::VisibilityRecorder;
use crate::sink::Sink;
use crate::source::Positions;
use std::sync::Arc;

pub(super) fn start(setting: &Setting) -> Result<Running, StrategyError> {
    let sinks = Sinks::create(setting)?;
    let running = Running::new(sinks.readers(), Shared::new(setting));
    let mut jobs = Jobs { setting, running, begun: setting.clock.now() };
    sinks.each(&mut jobs)?;
    Ok(jobs.running)
}

struct Jobs<'a> {
    setting: &'a Setting,
    running: Running,
    begun: Moment,
}

impl ForEachSink for Jobs<'_> {
    fn sink<S: Sink>(&mut self, mut sink: S) -> Result<(), StrategyError> {
        let readable = ReadableRecorder::of(&mut sink, self.setting);
        let mut recorder = self.setting.recorder();
        let (mut positions, mut last_state) = (Positions::default(), None);
        let (_, initial_rows, (_, bytes)) = refresh(self.setting, (&mut sink, true), (&mut recorder, &mut positions))?;
        self.running.shared().add_read(S::KIND, bytes);
        self.running.shared().set_written(S::KIND, sink.counters().bytes_written);
        let (setting, begun) = (self.setting.clone(), self.begun);
        self.running.spawn(&format!("app-{}", S::KIND.name()), move |shared| {
            let outcome = in_batches(shared, &setting, begun, (sink, recorder, readable), |sink, recorder| {
                // It keeps old rows from being vacuumed away, and others' locks waiting: the last one alone is kept.
                let is_last = setting.attached && shared.goal_is_set();
                let (snapshot, _, batch) = refresh(&setting, (sink, false), (recorder, &mut positions))?;
                last_state = is_last.then(|| Arc::new(snapshot));
                Ok(batch)
            })?;
            Ok(Outcome { positions, last_state, ..Outcome::of(S::KIND, outcome, initial_rows) })
        })
    }
}

fn refresh<S: Sink>(
    setting: &Setting,
    (sink, counted): (&mut S, bool),
    (recorder, positions): (&mut VisibilityRecorder, &mut Positions),
) -> Result<(SourceSnapshot, u64, (Batch, u64)), StrategyError> {
    let snapshot = SourceSnapshot::begin(&setting.source, setting.pool.current_num_threads(), &setting.clock)?;
    let loaded = replace_tables(setting, &snapshot, sink, counted)?;
    let published_at = setting.clock.now();
    recorder.published(published_at, snapshot.position());
    // Only a ledger is brought to them.
    if setting.meter.is_none() {
        *positions = std::mem::take(positions).merge(snapshot.positions());
    }
    let batch = Batch { taken_at: snapshot.taken_at(), published_at, rows: loaded.rows };
    Ok((snapshot, loaded.rows, (batch, loaded.bytes)))
}
