//! `incremental`: rows whose cursor moved, merged at fixed times.

use super::load::{load_tables, width};
use super::running::{Batch, Outcome, Running, Shared, in_batches};
use super::{Setting, StrategyError};
use crate::apply::Folder;
use crate::capture::{CursorCapture, Snapshot};
use crate::model::{Key, TableId, Transaction};
use crate::probe::VisibilityRecorder;
use crate::sink::{Sink, Warehouse};
use std::sync::Arc;

pub(super) fn start(setting: &Setting) -> Result<Running, StrategyError> {
    CursorCapture::setup(&setting.source, &setting.cursor_columns)?;
    let mut warehouse = Warehouse::create(&setting.warehouse_folder(), setting.output(), setting.warehouse.clone())?;
    let begun = setting.clock.now();
    let snapshot = Snapshot::begin(&setting.source, setting.pool.current_num_threads(), &setting.clock)?;
    let mut capture = CursorCapture::begin_after(&snapshot, &setting.cursor_columns, &setting.clock)?;
    let mut outcome = Outcome::default();
    let mut recorder = VisibilityRecorder::new();
    outcome.initial_rows = load_tables(setting, &snapshot, &mut warehouse)?.rows;
    recorder.published(setting.clock.now(), snapshot.position());
    drop(snapshot);
    let mut running = Running::new(warehouse.reader(), Shared::new());
    let setting = setting.clone();
    running.spawn("app-merge", move |shared| {
        let mut folder = Folder::new(Arc::clone(&setting.transforms));
        in_batches(shared, &setting, begun, (warehouse, recorder, outcome), |warehouse, recorder| {
            merge(&setting, &mut capture, &mut folder, warehouse, recorder)
        })
    })?;
    Ok(running)
}

/// One micro-batch: read, merge, publish, make durable.
fn merge(
    setting: &Setting,
    capture: &mut CursorCapture,
    folder: &mut Folder,
    warehouse: &mut Warehouse,
    recorder: &mut VisibilityRecorder,
) -> Result<(Batch, u64), StrategyError> {
    let mut rows = Transaction::default();
    let mut keys: Vec<(TableId, Key)> = Vec::new();
    let mut bytes = 0;
    let batch = capture.poll::<StrategyError>(&mut |table, row| {
        let schema = setting.source.table(table)?.schema();
        keys.push((table, Key::of_row(schema, row)?));
        bytes += width(row);
        rows.changes.push_update(table, None, row.iter().copied())?;
        Ok(())
    })?;
    rows.lsn = batch.position;
    folder.push(&rows)?;
    let edits = folder.finish(warehouse)?;
    warehouse.apply(&edits)?;
    warehouse.publish(batch.position)?;
    let published_at = setting.clock.now();
    recorder.delivered(published_at, batch.position, keys);
    setting.pool.install(|| warehouse.checkpoint())?;
    Ok((Batch { taken_at: batch.taken_at, published_at, rows: batch.rows }, bytes))
}
