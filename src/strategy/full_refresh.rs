//! `full-refresh`: the whole of every table at fixed times, swapped in at once.

use super::load::load_tables;
use super::running::{Batch, Outcome, Running, Shared, in_batches};
use super::{Setting, StrategyError};
use crate::capture::Snapshot;
use crate::probe::VisibilityRecorder;
use crate::sink::Warehouse;

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
        in_batches(shared, &setting, begun, (warehouse, recorder, outcome), |warehouse, recorder| {
            refresh(&setting, warehouse, recorder)
        })
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
