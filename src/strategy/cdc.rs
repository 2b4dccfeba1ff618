//! `cdc-trigger` and `outbox`: a changelog table in the record system, a tailer that moves it into the log, and one
//! consumer of the log for each sink.
//!
//! The two differ in who fills the changelog: triggers, or the application inside its own transactions. Consumers share
//! nothing but the log: each has its place in it, its own fold and its own pace, so a slow sink holds up no other. A
//! consumer holds one commit group in memory; what it has not read yet lies on the disk. When the slowest is more than
//! [`BACKLOG_BYTES_MAX`] behind, the tailer waits, and changes stay in the changelog.

use super::checkpoints::Checkpoints;
use super::load::load_tables;
use super::planted::Planted;
use super::running::{Outcome, ReadableRecorder, Running, Shared, SinkOutcome};
use super::sinks::{ForEachSink, SinkReaders, Sinks};
use super::{Setting, StrategyError};
use crate::apply::Folder;
pub use crate::capture::postgres::CanGoOn;
use crate::capture::postgres::{LogCapture, LogCaptureOptions, PgSnapshot};
use crate::capture::{CaptureError, ChangeCapture, SourceSnapshot};
use crate::clock::Clock;
use crate::log::{Log, LogHandle, LogOptions, LogReader, Offset};
use crate::model::{Lsn, Transaction};
use crate::probe::{CaptureTimes, StageTimes, VisibilityRecorder};
use crate::sink::{Bulk, Cache, SearchIndex, Sink, SinkError, SinkKind, Warehouse, WarehouseReader};
use crate::source::RecordSystem;
use crate::source::postgres::{PgCut, PgKept, PgSource, RECONNECT_PATIENCE, RECONNECT_PAUSE};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the tailer looks for new commits; a look without news costs a few microseconds. Half of it brings the median
/// lag down by a quarter of a millisecond, and the clients' p99 up, since each look with news is an fsync of the log.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Changes of one poll, and of one commit group of a consumer.
const GROUP_CHANGES_MAX: u64 = 50_000;
/// How often the tailer prunes the changelog and the log, unless checkpoints come more often.
const PRUNE_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of log that the slowest consumer may lie behind before the tailer waits for it.
const BACKLOG_BYTES_MAX: u64 = 4 << 30;

/// What the tailer and the consumers tell each other.
#[derive(Debug, Default)]
struct Between {
    /// How far each sink's consumer is.
    consumers: BTreeMap<SinkKind, Consumer>,
}

/// How far one consumer is.
#[derive(Debug, Default)]
struct Consumer {
    /// The first record that its sink still needs after a crash.
    needed: AtomicU64,
    /// Bytes of log that it has read.
    bytes_read: AtomicU64,
}

impl Between {
    /// The first record that some sink still needs.
    fn needed(&self) -> Offset {
        Offset(self.consumers.values().map(|c| c.needed.load(Ordering::Acquire)).min().unwrap_or(u64::MAX))
    }

    /// Bytes that the slowest consumer has read.
    fn bytes_read(&self) -> u64 {
        self.consumers.values().map(|c| c.bytes_read.load(Ordering::Relaxed)).min().unwrap_or(u64::MAX)
    }
}

fn log_options(setting: &Setting) -> LogOptions {
    LogOptions { fsync: setting.log_fsync, clock: setting.clock.clone(), ..LogOptions::default() }
}

/// Follows a changelog that was set up in the source: loads every sink from one snapshot, then starts the tailer and the
/// consumers.
pub(super) fn start(setting: &Setting) -> Result<Running, StrategyError> {
    // So that the snapshot's position is at least 1, and a watermark of 0 means that nothing was ever loaded.
    if !setting.attached {
        setting.source.write_marker()?;
    }
    let sinks = Sinks::create(setting)?;
    let snapshot = SourceSnapshot::begin_copied(&setting.source, setting.pool.current_num_threads(), &setting.clock)?;
    let capture = ChangeCapture::resume(&setting.source, &snapshot)?;
    follow(setting, sinks, &From::Rows(Box::new(snapshot)), capture)
}

/// As [`start_log`], with sinks that begin empty.
pub(super) fn start_log_empty(setting: &Setting) -> Result<Running, StrategyError> {
    let (source, options) = log_source(setting, Slot::New)?;
    let sinks = Sinks::create(setting)?;
    let made = LogCapture::setup_tables(&options, source.tables())?;
    let begin = || {
        LogCapture::begin_empty(&options, &made)?;
        let (position, tables) = (made.exported.position, made.tables.clone());
        let capture = ChangeCapture::of_log(LogCapture::resume(&options, tables, position)?, &options)?;
        follow(setting, sinks, &From::Nothing(position), capture)
    };
    begin().inspect_err(|_| tear_down_after(setting))
}

/// Brings the sinks to the end of their log, then goes on behind it.
pub(super) fn resume_log(setting: &Setting) -> Result<Running, StrategyError> {
    let (source, options) = log_source(setting, Slot::Kept)?;
    let restarted = restart(setting)?;
    let reached = restarted.sinks.values().map(|sink| sink.watermark).min().unwrap_or_default();
    drop(restarted);
    let capture = LogCapture::resume(&options, source.tables().to_vec(), reached)?;
    let capture = ChangeCapture::of_log(capture, &options)?;
    follow(setting, Sinks::open(setting)?, &From::Kept, capture)
}

/// See [`LogCapture::empty_since`].
pub(super) fn empty_since(setting: &Setting) -> Result<Option<PgCut>, StrategyError> {
    Ok(LogCapture::empty_since(&log_source(setting, Slot::Kept)?.1)?)
}

/// See [`LogCapture::altered`].
pub(super) fn altered(setting: &Setting) -> Result<Option<String>, StrategyError> {
    let (source, options) = log_source(setting, Slot::Kept)?;
    Ok(LogCapture::altered(&options, source.tables())?)
}

/// Drops slot and publication.
pub(super) fn tear_down_log(setting: &Setting) -> Result<(), StrategyError> {
    Ok(LogCapture::teardown(&log_source(setting, Slot::Kept)?.1)?)
}

/// Which slot is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// One that is not there yet.
    New,
    /// The one that the folder remembers.
    Kept,
}

fn log_source(setting: &Setting, slot: Slot) -> Result<(&PgSource, LogCaptureOptions), StrategyError> {
    let RecordSystem::Postgres(source) = &setting.source else {
        let reason = "the database does not show its log; use cdc-trigger".to_owned();
        return Err(CaptureError::Unfit { table: setting.source.place(), reason }.into());
    };
    let folder = setting.folder.join("capture");
    // Several warehouses may follow one database, and a folder is the same wherever it is moved to.
    let place = if setting.attached { format!("_{}", setting.token) } else { String::new() };
    let name = format!("{}{place}", source.slot_name());
    let options = LogCaptureOptions::new(source.options().clone(), &name, folder, setting.clock.clone());
    let options = if setting.attached && slot == Slot::Kept { options.of_folder()? } else { options };
    Ok((source, options))
}

/// The name of the slot.
pub(super) fn slot_of(setting: &Setting, kept: bool) -> Result<String, StrategyError> {
    Ok(log_source(setting, if kept { Slot::Kept } else { Slot::New })?.1.slot)
}

/// See [`super::can_go_on`].
pub(super) fn can_go_on(setting: &Setting) -> CanGoOn {
    log_source(setting, Slot::Kept).map_or(CanGoOn::Unknown, |(_, options)| LogCapture::can_go_on(&options))
}

/// Follows the database's own log, from where a slot begins: the sinks are loaded from the very state at that position.
pub(super) fn start_log(setting: &Setting) -> Result<Running, StrategyError> {
    let (source, options) = log_source(setting, Slot::New)?;
    let sinks = Sinks::create(setting)?;
    let made = LogCapture::setup_tables(&options, source.tables())?;
    let begin = || {
        let readers = setting.pool.current_num_threads();
        let snapshot = PgSnapshot::of_source(source, PgKept::Logged, readers, &setting.clock, Some(&made.exported))?;
        let (position, tables) = (made.exported.position, made.tables.clone());
        // Nothing is read before the rows are loaded: until then the server keeps its log.
        let capture = ChangeCapture::of_log(LogCapture::resume(&options, tables, position)?, &options)?;
        follow(setting, sinks, &From::Rows(Box::new(SourceSnapshot::of_postgres(snapshot))), capture)
    };
    begin().inspect_err(|_| tear_down_after(setting))
}

/// What was made for a beginning that failed is of no use.
fn tear_down_after(setting: &Setting) {
    setting.say_what_stays(tear_down_log(setting));
}

/// What the sinks begin with.
enum From {
    /// All rows of one state.
    Rows(Box<SourceSnapshot>),
    /// No row, at this position.
    Nothing(Lsn),
    /// What they hold durably.
    Kept,
}

/// Fills the sinks, then starts the tailer and the consumers.
fn follow(setting: &Setting, sinks: Sinks, from: &From, capture: ChangeCapture) -> Result<Running, StrategyError> {
    let readers = sinks.readers();
    let mut loading = Loading { setting, from, loaded: Vec::new() };
    sinks.each(&mut loading)?;
    let Loading { loaded, .. } = loading;
    let (log, _) = Log::open(setting.log_folder(), log_options(setting))?;
    let consumer = || Consumer { needed: AtomicU64::new(log.next_offset().0), ..Consumer::default() };
    let consumers = setting.sinks.iter().map(|&kind| (kind, consumer())).collect();
    let between = Arc::new(Between { consumers });
    let mut running = Running::new(readers, Shared::new(setting));
    for start in loaded {
        start(&mut running, log.handle(), Arc::clone(&between))?;
    }
    let (setting, clock) = (setting.clone(), setting.clock.clone());
    let work = move |shared: &Shared| tail(shared, &setting, &clock, capture, log, &between);
    running.spawn("cap-tailer", work)?;
    Ok(running)
}

/// Starts the consumer of one sink that has been loaded.
type StartConsumer = Box<dyn FnOnce(&mut Running, LogHandle, Arc<Between>) -> Result<(), StrategyError>>;

struct Loading<'a> {
    setting: &'a Setting,
    from: &'a From,
    loaded: Vec<StartConsumer>,
}

impl ForEachSink for Loading<'_> {
    fn sink<S: Sink>(&mut self, mut sink: S) -> Result<(), StrategyError> {
        let readable = ReadableRecorder::of(&mut sink, self.setting);
        let mut bytes = 0;
        let initial_rows = match self.from {
            From::Rows(snapshot) => {
                let loaded = load_tables(self.setting, snapshot, &mut sink)?;
                bytes = loaded.bytes;
                loaded.rows
            }
            From::Nothing(position) => {
                let bulk = sink.bulk()?;
                self.setting.output().iter().try_for_each(|(table, _)| bulk.include(table))?;
                sink.install(bulk, *position)?;
                0
            }
            From::Kept => 0,
        };
        let mut recorder = self.setting.recorder();
        recorder.published(self.setting.clock.now(), sink.visible());
        let setting = self.setting.clone();
        self.loaded.push(Box::new(move |running, handle, between| {
            running.shared().set_visible(S::KIND, sink.visible());
            running.shared().add_read(S::KIND, bytes);
            running.shared().set_written(S::KIND, sink.counters().bytes_written);
            running.spawn(&format!("app-{}", S::KIND.name()), move |shared| {
                let outcome = consume(shared, &setting, &handle, (sink, recorder, readable), &between)?;
                Ok(Outcome::of(S::KIND, outcome, initial_rows))
            })
        }));
        Ok(())
    }
}

/// Sinks that were brought to the end of their log again.
#[derive(Debug)]
pub struct Restarted {
    /// Their states.
    pub readers: SinkReaders,
    /// What each sink still held, and how far the log brought it.
    pub sinks: BTreeMap<SinkKind, RestartedSink>,
    /// Bytes that were torn off the log's tail.
    pub torn_bytes: u64,
}

/// One sink after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartedSink {
    /// The watermark that it held.
    pub checkpoint: Lsn,
    /// The watermark after the log was replayed.
    pub watermark: Lsn,
}

/// Restarts after a crash without following on: opens each sink's last durable state and replays the log behind it.
///
/// An in-process cache holds nothing after a crash. It is refilled from the warehouse, when there is one, else it begins
/// empty: what is not in a cache is not wrong.
///
/// # Errors
/// [`StrategyError`] when the folder holds no sinks and log, or they are damaged.
pub fn restart(setting: &Setting) -> Result<Restarted, StrategyError> {
    let (log, recovery) = Log::open(setting.log_folder(), log_options(setting))?;
    let handle = log.handle();
    let mut restarted =
        Restarted { readers: SinkReaders::default(), sinks: BTreeMap::new(), torn_bytes: recovery.torn_bytes };
    let mut replay = Replay { setting, handle, sinks: &mut restarted.sinks };
    for kind in &setting.sinks {
        match kind {
            SinkKind::Warehouse => {
                let sink = Warehouse::open(&setting.warehouse_folder(), setting.warehouse.clone())?;
                restarted.readers.warehouse = Some(replay.sink(sink)?);
            }
            SinkKind::Search => {
                let sink = SearchIndex::open(&setting.search_folder(), setting.search.clone());
                restarted.readers.search = Some(replay.sink(sink.map_err(SinkError::from)?)?);
            }
            SinkKind::Cache => {
                let sink = refilled_cache(setting)?;
                restarted.readers.cache = Some(replay.sink(sink)?);
            }
        }
    }
    Ok(restarted)
}

/// A cache with the rows that the warehouse has durably, complete through the same commit.
fn refilled_cache(setting: &Setting) -> Result<Cache, StrategyError> {
    // One with a place of its own may have outlived us.
    let open = if setting.cache.prefix.is_some() { Cache::open } else { Cache::create };
    let mut cache = open(setting.output(), setting.cache.clone()).map_err(SinkError::from)?;
    if setting.sinks.contains(&SinkKind::Warehouse) && cache.durable() == Lsn::ZERO {
        let version = WarehouseReader::open(&setting.warehouse_folder())?.version();
        let bulk = cache.bulk()?;
        for (table, _) in setting.output().iter() {
            bulk.include(table)?;
            for batch in version.scan(table, None, None) {
                bulk.write(table, batch?)?;
            }
        }
        cache.install(bulk, version.watermark())?;
    }
    Ok(cache)
}

struct Replay<'a> {
    setting: &'a Setting,
    handle: LogHandle,
    sinks: &'a mut BTreeMap<SinkKind, RestartedSink>,
}

impl Replay<'_> {
    fn sink<S: Sink>(&mut self, mut sink: S) -> Result<S::Reader, StrategyError> {
        let checkpoint = sink.visible();
        if checkpoint == Lsn::ZERO && S::KIND == SinkKind::Cache {
            // Nothing is in it, so nothing in it is wrong; the log alone would fill it with what changed since.
            self.sinks.insert(S::KIND, RestartedSink { checkpoint, watermark: checkpoint });
            return Ok(sink.reader());
        }
        if checkpoint == Lsn::ZERO {
            return Err(StrategyError::NotLoaded { folder: self.setting.folder.clone() });
        }
        let mut reader = self.handle.reader_after(checkpoint)?;
        let mut folder = Folder::new(Arc::clone(&self.setting.transforms));
        while let Some(last) = fold_group(&mut reader, &mut folder, None)? {
            let edits = folder.finish(&sink)?;
            sink.apply(&edits)?;
            sink.publish(last)?;
            // The log may hold more than memory does.
            if sink.checkpoint_is_due() {
                sink.checkpoint()?;
            }
        }
        sink.checkpoint()?;
        self.sinks.insert(S::KIND, RestartedSink { checkpoint, watermark: sink.visible() });
        Ok(sink.reader())
    }
}

/// Moves the changelog into the log, whole transactions in commit order, and prunes what is durable.
fn tail(
    shared: &Shared,
    setting: &Setting,
    clock: &Clock,
    mut capture: ChangeCapture,
    mut log: Log,
    between: &Between,
) -> Result<Outcome, StrategyError> {
    let prune_interval = PRUNE_INTERVAL.min(setting.checkpoint_interval);
    let mut transactions = Vec::new();
    let (mut outcome, mut retained, mut broken_at) = (Outcome::default(), None, None);
    let mut prune_due = clock.now().after(prune_interval);
    while !shared.may_end(capture.through()) {
        if shared.source_is_held() {
            std::thread::sleep(POLL_INTERVAL);
            continue;
        }
        if log.counters().bytes_written.saturating_sub(between.bytes_read()) > BACKLOG_BYTES_MAX {
            std::thread::sleep(POLL_INTERVAL);
            continue;
        }
        let polled = capture.poll(GROUP_CHANGES_MAX, shared.goal(), &mut transactions);
        let polled = match polled {
            Ok(polled) => {
                broken_at = None;
                polled
            }
            // A server that restarts is waited for; what was delivered is not delivered again.
            Err(error) => {
                let since = *broken_at.get_or_insert_with(|| clock.now());
                if clock.now().since(since) > RECONNECT_PATIENCE || !capture.reconnect(&error)? {
                    return Err(error.into());
                }
                std::thread::sleep(RECONNECT_PAUSE);
                continue;
            }
        };
        if let Some(last) = transactions.last().map(|transaction| transaction.lsn) {
            let captured_at = clock.now();
            for transaction in transactions.drain(..) {
                // One without a change is nobody's, or ours.
                if let Some(meter) = &setting.meter {
                    let changes = transaction.changes.len() as u64;
                    meter.transaction(transaction.lsn, transaction.committed_at, changes);
                }
                shared.add_changes(transaction.changes.len() as u64);
                outcome.bytes_read += transaction.changes.as_bytes().len() as u64;
                log.append_transaction(&transaction)?;
            }
            log.sync()?;
            // Stages are of runs, which end.
            if setting.meter.is_none() {
                outcome.captures.push(CaptureTimes { last, captured_at, logged_at: clock.now() });
            }
        }
        let logged = log.counters();
        shared.set_log(outcome.bytes_read, logged.bytes_written + logged.bytes_prepared);
        let now = clock.now();
        if now >= prune_due {
            prune_due = now.after(prune_interval);
            let durable = log.sync_durable()?;
            if durable == log.next_offset() {
                capture.release()?;
            }
            log.retain_from(between.needed())?;
            retained = retained.max(capture.retained_log_bytes()?);
            if setting.meter.is_some() {
                capture.forget_positions();
            }
        }
        if !polled.more {
            capture.wait(POLL_INTERVAL)?;
        }
    }
    if setting.attached && !shared.aborted() {
        outcome.last_state = capture.last_state(clock, &mut transactions)?.map(Arc::new);
        for transaction in transactions.drain(..) {
            log.append_transaction(&transaction)?;
        }
        log.sync()?;
    }
    outcome.retained_log_bytes = retained;
    outcome.log_bytes = log.counters().bytes_written + log.counters().bytes_prepared;
    outcome.positions = capture.into_positions();
    log.close()?;
    Ok(outcome)
}

/// Moves the log into one sink, a commit group at a time.
fn consume<S: Sink>(
    shared: &Shared,
    setting: &Setting,
    handle: &LogHandle,
    (mut sink, mut recorder, readable): (S, VisibilityRecorder, ReadableRecorder),
    between: &Between,
) -> Result<SinkOutcome, StrategyError> {
    let clock = &setting.clock;
    let mut reader = handle.reader_after(sink.visible())?;
    let mut folder = Folder::new(Arc::clone(&setting.transforms));
    let mut planted = setting.planted.map(|fault| Planted::new(fault, &setting.transforms));
    let mut outcome = SinkOutcome::default();
    let written_before = sink.counters().bytes_written;
    let publish_interval = setting.publish_interval(S::KIND);
    let mut publish_due = clock.now();
    let mut checkpoints = Checkpoints::new(setting);
    // Where the source goes on without end, the log's end is the end.
    while !(if setting.attached { shared.aborted() } else { shared.may_end(sink.visible()) }) {
        shared.wait_while_held(S::KIND);
        // Asked before the wait: what is visible after a "yes" is all that there will ever be.
        let closed = reader.is_closed();
        let ready = reader.wait(Duration::from_millis(5));
        if ready {
            shared.sleep_while_fed(clock, publish_due);
        }
        let read_at = clock.now();
        let first = Lsn(sink.visible().0 + 1);
        if let Some(last) = fold_group(&mut reader, &mut folder, planted.as_mut())? {
            publish_due = read_at.after(publish_interval);
            if let Some(consumer) = between.consumers.get(&S::KIND) {
                consumer.bytes_read.store(reader.bytes_read(), Ordering::Relaxed);
            }
            outcome.rows += folder.changes();
            let edits = folder.finish(&sink)?;
            let folded_at = clock.now();
            sink.apply(&edits)?;
            let applied_at = clock.now();
            sink.publish(last)?;
            let published_at = clock.now();
            shared.set_visible(S::KIND, last);
            recorder.published(published_at, last);
            // Stages are of runs, which end.
            if setting.meter.is_none() {
                outcome.stages.push(StageTimes { first, last, read_at, folded_at, applied_at, published_at });
            }
        } else if closed && !ready {
            break;
        }
        if let Some(needed) = checkpoints.advance(setting, &mut sink, reader.next_offset())?
            && let Some(consumer) = between.consumers.get(&S::KIND)
        {
            consumer.needed.store(needed.0, Ordering::Release);
        }
        shared.set_written(S::KIND, sink.counters().bytes_written);
    }
    if let Some(planted) = planted.filter(|_| !shared.aborted()) {
        planted.check_taken()?;
    }
    setting.pool.install(|| sink.checkpoint())?;
    shared.set_written(S::KIND, sink.counters().bytes_written);
    outcome.bytes_written = sink.counters().bytes_written - written_before;
    outcome.publishes = recorder.into_publishes();
    outcome.readable = readable.take();
    Ok(outcome)
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
