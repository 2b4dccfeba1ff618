//! `full-refresh`: the whole of every table at fixed times, swapped in at once.

use super::load::load_tables;
use super::running::{Batch, Outcome, Running, Shared};
use super::{Setting, StrategyError};
use crate::capture::Snapshot;
use crate::probe::VisibilityRecorder;
use crate::sink::{Sink, Warehouse};

pub(super) fn start(setting: &Setting) -> Result<Running, StrategyError> {
    let mut warehouse = Warehouse::create(&setting.warehouse_folder(), setting.output(), setting.warehouse.clone())?;
    let shared = Shared::new();
    let mut running = Running::new(warehouse.reader(), shared);
    let mut outcome = Outcome::default();
    let mut recorder = VisibilityRecorder::new();
    let begun = setting.clock.now();
    outcome.initial_rows = refresh(setting, &mut warehouse, &mut recorder)?.0.rows;
    let setting = setting.clone();
    running.spawn("app-refresh", move |shared| {
        let written_before = warehouse.counters().bytes_written;
        let mut due = begun;
        while !shared.may_end(warehouse.visible()) {
            // The next time on the grid; a refresh that overran its interval lets the missed ones go.
            while due <= setting.clock.now() {
                due = due.after(setting.batch_interval);
            }
            shared.sleep_until(&setting.clock, due);
            if shared.aborted() {
                break;
            }
            let (batch, bytes) = refresh(&setting, &mut warehouse, &mut recorder)?;
            shared.set_visible(warehouse.visible());
            outcome.bytes_read += bytes;
            outcome.rows += batch.rows;
            outcome.batches.push(batch);
        }
        outcome.bytes_written = warehouse.counters().bytes_written - written_before;
        outcome.publishes = recorder.into_publishes();
        Ok(outcome)
    })?;
    Ok(running)
}

fn refresh(
    setting: &Setting,
    warehouse: &mut Warehouse,
    recorder: &mut VisibilityRecorder,
) -> Result<(Batch, u64), StrategyError> {
    let snapshot = Snapshot::begin(&setting.source, setting.pool.current_num_threads(), &setting.clock)?;
    let loaded = load_tables(setting, &snapshot, warehouse)?;
    let published_at = setting.clock.now();
    recorder.published(published_at, snapshot.position());
    Ok((Batch { taken_at: snapshot.taken_at(), published_at, rows: loaded.rows }, loaded.bytes))
}
