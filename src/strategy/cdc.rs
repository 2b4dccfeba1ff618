//! `cdc-trigger`: triggers fill a changelog, a tailer moves it into the log, an applier moves the log into the sink.

use super::load::load_tables;
use super::running::{Outcome, Running, Shared};
use super::{PlantedFault, Setting, StrategyError};
use crate::apply::Folder;
use crate::capture::{Snapshot, TriggerCapture};
use crate::clock::Clock;
use crate::log::{Log, LogHandle, LogOptions, LogReader, Offset};
use crate::model::{ChangeBuf, ChangeRef, Lsn, Moment, Transaction};
use crate::probe::{StageTimes, VisibilityRecorder};
use crate::sink::{Sink, Warehouse, WarehouseReader};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often the tailer looks for new commits; a look without news costs a few microseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Changes of one poll, and of one commit group of the applier.
const GROUP_CHANGES_MAX: u64 = 50_000;
/// How often the tailer prunes the changelog and the log.
const PRUNE_INTERVAL: Duration = Duration::from_secs(1);

/// When the transactions through a commit were captured and logged.
#[derive(Clone, Copy, Debug)]
struct Logged {
    last: Lsn,
    captured_at: Moment,
    logged_at: Moment,
}

/// What the tailer and the applier tell each other.
#[derive(Debug, Default)]
struct Between {
    /// When which commits were captured and logged, in order.
    logged: Mutex<Vec<Logged>>,
    /// The first record that the warehouse still needs after a crash.
    needed: AtomicU64,
}

fn log_options(setting: &Setting) -> LogOptions {
    LogOptions { fsync: setting.log_fsync, clock: setting.clock.clone(), ..LogOptions::default() }
}

pub(super) fn start(setting: &Setting) -> Result<Running, StrategyError> {
    TriggerCapture::setup(&setting.source)?;
    // So that the snapshot's position is at least 1, and a watermark of 0 means that nothing was ever loaded.
    setting.source.write_marker()?;
    let mut warehouse = Warehouse::create(&setting.warehouse_folder(), setting.output(), setting.warehouse.clone())?;
    let snapshot = Snapshot::begin(&setting.source, setting.pool.current_num_threads(), &setting.clock)?;
    let initial_rows = load_tables(setting, &snapshot, &mut warehouse)?.rows;
    let position = snapshot.position();
    drop(snapshot);
    let (log, _) = Log::open(setting.log_folder(), log_options(setting))?;
    let capture = TriggerCapture::resume(&setting.source, position)?;
    let mut recorder = VisibilityRecorder::new();
    recorder.published(setting.clock.now(), position);
    follow(setting, capture, log, warehouse, recorder, initial_rows)
}

/// A warehouse that was brought to the end of its log again.
#[derive(Debug)]
pub struct Restarted {
    /// The warehouse's state.
    pub reader: WarehouseReader,
    /// The watermark that its manifest held.
    pub checkpoint: Lsn,
    /// The watermark after the log was replayed.
    pub watermark: Lsn,
    /// Bytes that were torn off the log's tail.
    pub torn_bytes: u64,
}

/// Restarts after a crash without following on: opens the manifest's state and replays the log behind it.
///
/// # Errors
/// [`StrategyError`] when the folder holds no warehouse and log, or they are damaged.
pub fn restart(setting: &Setting) -> Result<Restarted, StrategyError> {
    let mut warehouse = Warehouse::open(&setting.warehouse_folder(), setting.warehouse.clone())?;
    let checkpoint = warehouse.visible();
    if checkpoint == Lsn::ZERO {
        return Err(StrategyError::NotLoaded { folder: setting.folder.clone() });
    }
    let (log, recovery) = Log::open(setting.log_folder(), log_options(setting))?;
    let mut reader = log.handle().reader_after(checkpoint)?;
    let mut folder = Folder::new(Arc::clone(&setting.transforms));
    while let Some(last) = fold_group(&mut reader, &mut folder, None)? {
        let edits = folder.finish(&warehouse)?;
        warehouse.apply(&edits)?;
        warehouse.publish(last)?;
    }
    warehouse.checkpoint()?;
    Ok(Restarted {
        reader: warehouse.reader(),
        checkpoint,
        watermark: warehouse.visible(),
        torn_bytes: recovery.torn_bytes,
    })
}

fn follow(
    setting: &Setting,
    capture: TriggerCapture,
    log: Log,
    warehouse: Warehouse,
    recorder: VisibilityRecorder,
    initial_rows: u64,
) -> Result<Running, StrategyError> {
    let shared = Shared::new();
    shared.set_visible(warehouse.visible());
    let mut running = Running::new(warehouse.reader(), shared);
    let between = Arc::new(Between::default());
    between.needed.store(log.next_offset().0, Ordering::Release);
    let handle = log.handle();
    let (tail_clock, tail_between) = (setting.clock.clone(), Arc::clone(&between));
    running.spawn("cap-tailer", move |shared| tail(shared, &tail_clock, capture, log, &tail_between))?;
    let setting = setting.clone();
    running.spawn("app-apply", move |shared| {
        let mut outcome = apply(shared, &setting, &handle, warehouse, recorder, &between)?;
        outcome.initial_rows = initial_rows;
        Ok(outcome)
    })?;
    Ok(running)
}

/// Moves the changelog into the log, whole transactions in commit order, and prunes what is durable.
fn tail(
    shared: &Shared,
    clock: &Clock,
    mut capture: TriggerCapture,
    mut log: Log,
    between: &Between,
) -> Result<Outcome, StrategyError> {
    let mut transactions = Vec::new();
    let mut outcome = Outcome::default();
    let mut prune_due = clock.now().after(PRUNE_INTERVAL);
    while !shared.may_end(capture.through()) {
        let polled = capture.poll(GROUP_CHANGES_MAX, &mut transactions)?;
        if let Some(last) = transactions.last().map(|transaction| transaction.lsn) {
            let captured_at = clock.now();
            for transaction in transactions.drain(..) {
                outcome.bytes_read += transaction.changes.as_bytes().len() as u64;
                log.append_transaction(&transaction)?;
            }
            // The times must be known before the applier can see the records.
            let mut logged = between.logged.lock().unwrap_or_else(PoisonError::into_inner);
            log.sync()?;
            logged.push(Logged { last, captured_at, logged_at: clock.now() });
        }
        let now = clock.now();
        if now >= prune_due {
            prune_due = now.after(PRUNE_INTERVAL);
            let durable = log.sync_durable()?;
            if durable == log.next_offset() {
                while capture.prune(capture.through())? > 0 {}
            }
            log.retain_from(Offset(between.needed.load(Ordering::Acquire)))?;
        }
        if !polled.more {
            std::thread::sleep(POLL_INTERVAL);
        }
    }
    let counters = log.counters();
    outcome.log_bytes = counters.bytes_written;
    outcome.bytes_written = counters.bytes_written;
    log.close()?;
    Ok(outcome)
}

/// Moves the log into the warehouse, a commit group at a time.
fn apply(
    shared: &Shared,
    setting: &Setting,
    handle: &LogHandle,
    mut warehouse: Warehouse,
    mut recorder: VisibilityRecorder,
    between: &Between,
) -> Result<Outcome, StrategyError> {
    let clock = &setting.clock;
    let mut reader = handle.reader_after(warehouse.visible())?;
    let mut folder = Folder::new(Arc::clone(&setting.transforms));
    let mut planted = setting.planted.map(Planted::new);
    let mut outcome = Outcome::default();
    let written_before = warehouse.counters().bytes_written;
    let mut checkpoint_due = clock.now().after(setting.checkpoint_interval);
    while !shared.may_end(warehouse.visible()) {
        // Asked before the wait: what is visible after a "yes" is all that there will ever be.
        let closed = reader.is_closed();
        let ready = reader.wait(Duration::from_millis(5));
        let read_at = clock.now();
        let first = Lsn(warehouse.visible().0 + 1);
        if let Some(last) = fold_group(&mut reader, &mut folder, planted.as_mut())? {
            outcome.rows += folder.changes();
            let edits = folder.finish(&warehouse)?;
            let folded_at = clock.now();
            warehouse.apply(&edits)?;
            let applied_at = clock.now();
            warehouse.publish(last)?;
            let published_at = clock.now();
            shared.set_visible(last);
            recorder.published(published_at, last);
            let (captured_at, logged_at) = (read_at, read_at);
            outcome.stages.push(StageTimes {
                first,
                last,
                captured_at,
                logged_at,
                read_at,
                folded_at,
                applied_at,
                published_at,
            });
        } else if closed && !ready {
            break;
        }
        if clock.now() >= checkpoint_due {
            setting.pool.install(|| warehouse.checkpoint())?;
            between.needed.store(reader.next_offset().0, Ordering::Release);
            checkpoint_due = clock.now().after(setting.checkpoint_interval);
        }
    }
    setting.pool.install(|| warehouse.checkpoint())?;
    outcome.bytes_written = warehouse.counters().bytes_written - written_before;
    outcome.publishes = recorder.into_publishes();
    let logged = between.logged.lock().unwrap_or_else(PoisonError::into_inner);
    place_captures(&mut outcome.stages, &logged);
    Ok(outcome)
}

/// Fills in when each group was captured and logged: a group is there when its last transaction is.
fn place_captures(stages: &mut [StageTimes], logged: &[Logged]) {
    for group in stages {
        let place = logged.partition_point(|entry| entry.last < group.last);
        if let Some(entry) = logged.get(place) {
            group.captured_at = entry.captured_at.min(group.read_at);
            group.logged_at = entry.logged_at.min(group.read_at);
        }
    }
}

/// Folds what the log has ready, up to a group's limit. `None` when it has nothing.
fn fold_group(
    reader: &mut LogReader,
    folder: &mut Folder,
    mut planted: Option<&mut Planted>,
) -> Result<Option<Lsn>, StrategyError> {
    let mut transaction = Transaction::default();
    let mut last = None;
    while reader.next_transaction_into(&mut transaction)?.is_some() {
        if let Some(planted) = planted.as_deref_mut() {
            planted.spoil(&mut transaction)?;
        }
        folder.push(&transaction)?;
        last = Some(transaction.lsn);
        if folder.changes() >= GROUP_CHANGES_MAX {
            break;
        }
    }
    Ok(last)
}

/// Of the transactions that insert, those from this one on are spoilt...
const FIRST_SPOILT: u32 = 50;
/// ...to this one.
const LAST_SPOILT: u32 = 70;

/// A deliberate fault at work.
#[derive(Debug)]
struct Planted {
    fault: PlantedFault,
    seen: u32,
}

impl Planted {
    fn new(fault: PlantedFault) -> Planted {
        Planted { fault, seen: 0 }
    }

    fn spoil(&mut self, transaction: &mut Transaction) -> Result<(), StrategyError> {
        let PlantedFault::DropChange = self.fault;
        if self.seen >= LAST_SPOILT || !transaction.changes.iter().any(|c| matches!(c, Ok(ChangeRef::Insert { .. }))) {
            return Ok(());
        }
        self.seen += 1;
        if self.seen < FIRST_SPOILT {
            return Ok(());
        }
        // The last insert is dropped: the loss of an update may be healed by the next one of its row, and so may that of
        // an order, while nothing updates the items that follow it. A cancel heals even that one, by deleting the row
        // in the source, so several transactions are spoilt.
        let inserts = transaction.changes.iter().filter(|c| matches!(c, Ok(ChangeRef::Insert { .. }))).count();
        let mut kept = ChangeBuf::new();
        let mut seen = 0;
        for change in transaction.changes.iter() {
            match change? {
                ChangeRef::Insert { table, row } => {
                    seen += 1;
                    if seen < inserts {
                        kept.push_insert(table, row.values()?)?;
                    }
                }
                ChangeRef::Update { table, old_key, row } => {
                    let old_key = old_key.map(|key| key.values()).transpose()?;
                    kept.push_update(table, old_key.as_deref(), row.values()?)?;
                }
                ChangeRef::Delete { table, key } => kept.push_delete(table, key.values()?)?,
                ChangeRef::Truncate { table } => kept.push_truncate(table),
            }
        }
        transaction.changes = kept;
        Ok(())
    }
}
