//! A strategy at work: its threads, its goal and what it left to measure.

use super::sinks::SinkReaders;
use super::{Setting, StrategyError};
use crate::capture::SourceSnapshot;
use crate::clock::Clock;
use crate::model::{Lsn, Moment};
use crate::probe::{Arrival, CaptureTimes, Publish, StageTimes, VisibilityRecorder};
use crate::sink::{DurableWatch, Outside, Sink, SinkKind};
use crate::source::{Application, Positions};
use crate::workload::ClientId;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How far one sink is, whether it is held, and what it has cost so far.
#[derive(Debug, Default)]
struct Seen {
    visible: AtomicU64,
    held: AtomicBool,
    /// Bytes that were read from the source for it alone, and written to it, so far.
    read: AtomicU64,
    written: AtomicU64,
}

/// What a strategy has read and written, its initial load included. Each count only grows, by whole batches and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes read from the source, for all sinks.
    pub read_bytes: u64,
    /// Bytes written to the log, what was prepared included.
    pub log_bytes: u64,
    /// Bytes written to each sink.
    pub sink_bytes: BTreeMap<SinkKind, u64>,
}

impl Traffic {
    /// What was added since `before`.
    #[must_use]
    pub fn since(&self, before: &Traffic) -> Traffic {
        let of = |sink: &SinkKind| before.sink_bytes.get(sink).copied().unwrap_or(0);
        Traffic {
            read_bytes: self.read_bytes.saturating_sub(before.read_bytes),
            log_bytes: self.log_bytes.saturating_sub(before.log_bytes),
            sink_bytes: self.sink_bytes.iter().map(|(sink, bytes)| (*sink, bytes.saturating_sub(of(sink)))).collect(),
        }
    }

    /// Bytes that went to a disk: what is put into a cache does not.
    pub fn disk_bytes(&self) -> u64 {
        let disks = self.sink_bytes.iter().filter(|(sink, _)| **sink != SinkKind::Cache);
        self.log_bytes + disks.map(|(_, bytes)| bytes).sum::<u64>()
    }
}

/// What a strategy's threads share with the one who started them.
#[derive(Debug)]
pub(super) struct Shared {
    goal: AtomicU64,
    /// The sinks that are fed.
    sinks: BTreeMap<SinkKind, Seen>,
    /// CPU that clients spent on writing to sinks themselves.
    client_cpu_ns: AtomicU64,
    /// Bytes read from the source for all sinks together, and written to the log, so far.
    read: AtomicU64,
    logged: AtomicU64,
    abort: AtomicBool,
    /// Changes that were taken from the source, each counted before it is visible anywhere.
    changes: AtomicU64,
    /// Whether nothing more is to be taken from the source for now, and whether that is so.
    source_held: AtomicBool,
    source_rests: AtomicBool,
}

impl Shared {
    pub(super) fn new(setting: &Setting) -> Arc<Shared> {
        let sinks = setting.sinks.iter().map(|&kind| (kind, Seen::default())).collect();
        let goal = AtomicU64::new(u64::MAX);
        let [client_cpu_ns, read, logged, changes] = [(); 4].map(|()| AtomicU64::new(0));
        let [abort, source_held, source_rests] = [(); 3].map(|()| AtomicBool::new(false));
        Arc::new(Shared { goal, sinks, client_cpu_ns, read, logged, abort, changes, source_held, source_rests })
    }

    /// Whether a thread that has come through `reached` may end.
    pub(super) fn may_end(&self, reached: Lsn) -> bool {
        self.aborted() || reached >= self.goal()
    }

    /// Whether nothing more is to be taken from the source for now. Says by the way that it is so.
    pub(super) fn source_is_held(&self) -> bool {
        // Taken back before it is asked: whoever holds again at this very instant must not find the rest of the last time.
        self.source_rests.store(false, Ordering::SeqCst);
        let held = self.source_held.load(Ordering::SeqCst);
        if held {
            self.source_rests.store(true, Ordering::SeqCst);
        }
        held
    }

    /// The last commit of the run, once it is known.
    pub(super) fn goal(&self) -> Lsn {
        Lsn(self.goal.load(Ordering::Acquire))
    }

    pub(super) fn aborted(&self) -> bool {
        self.abort.load(Ordering::Relaxed)
    }

    pub(super) fn abort(&self) {
        self.abort.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_visible(&self, sink: SinkKind, lsn: Lsn) {
        if let Some(seen) = self.sinks.get(&sink) {
            seen.visible.store(lsn.0, Ordering::Release);
        }
    }

    /// More was read from the source for one sink.
    pub(super) fn add_read(&self, sink: SinkKind, bytes: u64) {
        if let Some(seen) = self.sinks.get(&sink) {
            seen.read.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// This much was written to a sink so far, its loading included.
    pub(super) fn set_written(&self, sink: SinkKind, bytes: u64) {
        if let Some(seen) = self.sinks.get(&sink) {
            seen.written.store(bytes, Ordering::Relaxed);
        }
    }

    /// This much was read from the source for all sinks together, and written to the log, so far.
    pub(super) fn set_log(&self, read: u64, logged: u64) {
        self.read.store(read, Ordering::Relaxed);
        self.logged.store(logged, Ordering::Relaxed);
    }

    fn visible(&self, sink: SinkKind) -> Lsn {
        Lsn(self.sinks.get(&sink).map_or(0, |seen| seen.visible.load(Ordering::Acquire)))
    }

    /// The watermark that every sink has reached.
    fn visible_everywhere(&self) -> Lsn {
        self.sinks.keys().map(|&sink| self.visible(sink)).min().unwrap_or(Lsn(u64::MAX))
    }

    /// Sleeps while the sink is held, as if it were that slow.
    pub(super) fn wait_while_held(&self, sink: SinkKind) {
        while !self.aborted() && self.sinks.get(&sink).is_some_and(|seen| seen.held.load(Ordering::Acquire)) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the last commit of the run is known: the clients have ended.
    pub(super) fn goal_is_set(&self) -> bool {
        self.goal() != Lsn(u64::MAX)
    }

    fn traffic(&self) -> Traffic {
        let of_sinks: u64 = self.sinks.values().map(|seen| seen.read.load(Ordering::Relaxed)).sum();
        let written = |(sink, seen): (&SinkKind, &Seen)| (*sink, seen.written.load(Ordering::Relaxed));
        Traffic {
            read_bytes: self.read.load(Ordering::Relaxed) + of_sinks,
            log_bytes: self.logged.load(Ordering::Relaxed),
            sink_bytes: self.sinks.iter().map(written).collect(),
        }
    }

    pub(super) fn add_changes(&self, changes: u64) {
        self.changes.fetch_add(changes, Ordering::AcqRel);
    }

    pub(super) fn add_client_cpu(&self, used: Duration) {
        self.client_cpu_ns.fetch_add(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Sleeps until `due` or until the clients have ended, whichever comes first.
    pub(super) fn sleep_while_fed(&self, clock: &Clock, due: Moment) {
        const STEP: Duration = Duration::from_millis(2);
        while !self.aborted() && !self.goal_is_set() && clock.now() < due {
            clock.sleep_until(due.min(clock.now().after(STEP)));
        }
    }

    /// Sleeps until `due`, in steps short enough that an abort is heard.
    pub(super) fn sleep_until(&self, clock: &Clock, due: Moment) {
        const STEP: Duration = Duration::from_millis(10);
        while !self.aborted() && clock.now() < due {
            clock.sleep_until(due.min(clock.now().after(STEP)));
        }
    }
}

/// Bytes that a strategy moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Of rows and changes, read from the source.
    pub read: u64,
    /// Written to the log and the sinks.
    pub written: u64,
}

/// Counts the bytes that a strategy moves.
#[derive(Clone, Debug)]
pub struct ByteCounter(Arc<Shared>);

impl ByteCounter {
    /// Those that were moved so far, the initial load included.
    pub fn so_far(&self) -> Bytes {
        let moved = self.0.traffic();
        Bytes { read: moved.read_bytes, written: moved.log_bytes + moved.sink_bytes.values().sum::<u64>() }
    }
}

impl Bytes {
    /// What came since then.
    pub fn since(self, before: Bytes) -> Bytes {
        Bytes { read: self.read.saturating_sub(before.read), written: self.written.saturating_sub(before.written) }
    }
}

/// One batch of a batch strategy: from its snapshot to its swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// When its snapshot was taken.
    pub taken_at: Moment,
    /// When it became visible.
    pub published_at: Moment,
    /// Rows it brought.
    pub rows: u64,
}

/// When other processes could read what a sink showed.
#[derive(Clone, Debug, Default)]
pub enum Readable {
    /// Never: it lived in this process.
    #[default]
    Never,
    /// Whatever was visible.
    WithPublish,
    /// Each version that became durable in the sink's folder, and when, in order; the first is the initial load.
    Durable(Vec<Publish>),
}

/// Records when versions of a sink become durable, whichever thread makes them so.
#[derive(Debug)]
pub(super) struct ReadableRecorder {
    outside: Outside,
    durable: Arc<Mutex<VisibilityRecorder>>,
}

impl ReadableRecorder {
    /// From now on; what is durable already is so now.
    pub(super) fn of<S: Sink>(sink: &mut S, setting: &Setting) -> ReadableRecorder {
        let durable = Arc::new(Mutex::new(VisibilityRecorder::new()));
        let (heard, clock, meter) = (Arc::clone(&durable), setting.clock.clone(), setting.meter.clone());
        let hear = move |watermark| match &meter {
            Some(meter) => meter.readable(clock.now(), watermark),
            None => {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                heard.published(clock.now(), watermark);
            }
        };
        if sink.durable() > Lsn::ZERO {
            hear(sink.durable());
        }
        sink.watch_durable(DurableWatch::new(hear));
        ReadableRecorder { outside: sink.outside(), durable }
    }

    /// What was recorded.
    pub(super) fn take(&self) -> Readable {
        match self.outside {
            Outside::Never => Readable::Never,
            Outside::WithPublish => Readable::WithPublish,
            Outside::OnceDurable => {
                let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
                Readable::Durable(std::mem::take(&mut *durable).into_publishes())
            }
        }
    }
}

/// What happened at one sink.
#[derive(Clone, Debug, Default)]
pub struct SinkOutcome {
    /// Every publish, in order; the first is the initial load.
    pub publishes: Vec<Publish>,
    /// When other processes could read it.
    pub readable: Readable,
    /// The stages of each commit group, for strategies that have them.
    pub stages: Vec<StageTimes>,
    /// Each batch, for strategies that work in batches.
    pub batches: Vec<Batch>,
    /// The application's own writes in the order in which they took effect, for dual writes.
    pub arrivals: Vec<Arrival>,
    /// Bytes read from the source for this sink since the initial load.
    pub bytes_read: u64,
    /// Bytes written to the sink since the initial load.
    pub bytes_written: u64,
    /// Rows or changes brought to the sink since the initial load.
    pub rows: u64,
}

/// What a strategy did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// By sink.
    pub sinks: BTreeMap<SinkKind, SinkOutcome>,
    /// Bytes read from the source for all sinks together since the initial load.
    pub bytes_read: u64,
    /// Bytes written to the log, what was prepared included.
    pub log_bytes: u64,
    /// Rows of the initial load, of all sinks.
    pub initial_rows: u64,
    /// When the tailer had which commits, in order; the same for every sink. Not kept where the source is somebody else's.
    pub captures: Vec<CaptureTimes>,
    /// What the positions of its publishes are.
    pub positions: Positions,
    /// The state that the sinks ended with, where it was asked for.
    pub last_state: Option<Arc<SourceSnapshot>>,
    /// The most bytes of its log that the database kept for the strategy, where it does.
    pub retained_log_bytes: Option<u64>,
}

impl Outcome {
    /// What one sink's thread did.
    pub(super) fn of(sink: SinkKind, outcome: SinkOutcome, initial_rows: u64) -> Outcome {
        Outcome { sinks: BTreeMap::from([(sink, outcome)]), initial_rows, ..Outcome::default() }
    }

    /// Adds another thread's part; a sink has one thread.
    pub(super) fn merge(mut self, other: Outcome) -> Outcome {
        self.sinks.extend(other.sinks);
        self.bytes_read += other.bytes_read;
        self.log_bytes += other.log_bytes;
        self.initial_rows += other.initial_rows;
        self.captures.extend(other.captures);
        self.positions = self.positions.merge(other.positions);
        self.last_state = self.last_state.or(other.last_state);
        self.retained_log_bytes = self.retained_log_bytes.max(other.retained_log_bytes);
        self
    }
}

/// Makes a batch for one sink at each time of the grid that began at `begun`, until the goal is visible there. A batch that
/// overruns its interval lets the missed times go. `make` gives the batch and the bytes that it read from the source.
pub(super) fn in_batches<S: Sink>(
    shared: &Shared,
    setting: &Setting,
    begun: Moment,
    (mut sink, mut recorder, readable): (S, VisibilityRecorder, ReadableRecorder),
    mut make: impl FnMut(&mut S, &mut VisibilityRecorder) -> Result<(Batch, u64), StrategyError>,
) -> Result<SinkOutcome, StrategyError> {
    let mut outcome = SinkOutcome::default();
    let written_before = sink.counters().bytes_written;
    let mut due = begun;
    // Where others go on writing, the last batch is one that began when the end was known.
    let mut ended = !setting.attached;
    while !(shared.aborted() || ended && shared.may_end(sink.visible())) {
        ended |= shared.goal_is_set();
        while due <= setting.clock.now() {
            due = due.after(setting.batch_interval);
        }
        shared.sleep_until(&setting.clock, due);
        shared.wait_while_held(S::KIND);
        if shared.aborted() {
            break;
        }
        let (batch, bytes) = match make(&mut sink, &mut recorder) {
            // The user does not wait for it; what was visible before still is.
            Err(cause) if cause.is_stopped() => break,
            made => made?,
        };
        shared.set_visible(S::KIND, sink.visible());
        shared.add_read(S::KIND, bytes);
        shared.set_written(S::KIND, sink.counters().bytes_written);
        outcome.bytes_read += bytes;
        outcome.rows += batch.rows;
        match &setting.meter {
            Some(meter) => meter.batch(batch.published_at, batch.rows, batch.published_at.since(batch.taken_at)),
            None => outcome.batches.push(batch),
        }
    }
    outcome.bytes_written = sink.counters().bytes_written - written_before;
    outcome.publishes = recorder.into_publishes();
    outcome.readable = readable.take();
    Ok(outcome)
}

struct AbortUnlessDone<'a>(&'a Shared);

impl Drop for AbortUnlessDone<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Worker = (String, JoinHandle<Result<Outcome, StrategyError>>);

/// Gives each client its part of the strategy, for those in which the application itself takes part.
pub(super) type Applications = Box<dyn Fn(ClientId) -> Box<dyn Application> + Send + Sync>;

/// A strategy that follows the source. Dropping it aborts its threads and waits for them.
pub struct Running {
    readers: SinkReaders,
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    applications: Option<Applications>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Running {
    pub(super) fn new(readers: SinkReaders, shared: Arc<Shared>) -> Running {
        Running { readers, shared, workers: Vec::new(), applications: None }
    }

    pub(super) fn with_applications(mut self, applications: Applications) -> Running {
        self.applications = Some(applications);
        self
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Runs `work` on a thread called `name` (at most 15 bytes, or the kernel cuts it). Its failure aborts the others.
    pub(super) fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(&Shared) -> Result<Outcome, StrategyError> + Send + 'static,
    ) -> Result<(), StrategyError> {
        let shared = Arc::clone(&self.shared);
        let run = move || {
            // A panic must abort the others too, so the guard does it unless it is told that all went well.
            let guard = AbortUnlessDone(&shared);
            let result = work(&shared);
            if result.is_ok() {
                std::mem::forget(guard);
            }
            result
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(StrategyError::Thread)?;
        self.workers.push((name.to_owned(), thread));
        Ok(())
    }

    /// Reads the sinks.
    pub fn readers(&self) -> &SinkReaders {
        &self.readers
    }

    /// What a client does besides its transactions, when the application takes part in the strategy.
    pub fn application(&self, client: ClientId) -> Option<Box<dyn Application>> {
        self.applications.as_ref().map(|make| make(client))
    }

    /// The newest commit that is visible at a sink.
    pub fn visible(&self, sink: SinkKind) -> Lsn {
        self.shared.visible(sink)
    }

    /// Changes, or rows that moved, that were taken from the source so far; a strategy that reads whole states counts none.
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Acquire)
    }

    /// Counts the bytes that are moved, also after the end.
    pub fn byte_counter(&self) -> ByteCounter {
        ByteCounter(Arc::clone(&self.shared))
    }

    /// CPU that the clients have spent so far on writing to the sinks themselves.
    pub fn client_cpu(&self) -> Duration {
        Duration::from_nanos(self.shared.client_cpu_ns.load(Ordering::Relaxed))
    }

    /// What has been read and written so far.
    pub fn traffic(&self) -> Traffic {
        self.shared.traffic()
    }

    /// Stops feeding a sink, as if it had become that slow, or goes on with it. For tests.
    pub fn hold(&self, sink: SinkKind, held: bool) {
        if let Some(seen) = self.shared.sinks.get(&sink) {
            seen.held.store(held, Ordering::Release);
        }
    }

    /// Takes nothing more from the source, or goes on. Returns when it is so, at most after `patience`; false if it is not.
    pub fn hold_source(&self, held: bool, patience: Duration) -> bool {
        self.shared.source_held.store(held, Ordering::SeqCst);
        let deadline = std::time::Instant::now() + patience;
        while self.shared.source_rests.load(Ordering::SeqCst) != held {
            if self.shared.aborted() || std::time::Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Whether a thread has ended before its goal was set, which means that it failed.
    pub fn has_failed(&self) -> bool {
        self.shared.aborted()
    }

    /// Says where the strategy is to end, without waiting for it.
    pub fn end_at(&self, goal: Lsn) {
        self.shared.goal.store(goal.0, Ordering::Release);
    }

    /// Lets the strategy end once `goal` is visible at every sink; waits for that, for at most `patience`. True if it came.
    pub fn drain(&self, goal: Lsn, clock: &Clock, patience: Duration) -> bool {
        self.end_at(goal);
        let deadline = clock.now().after(patience);
        while self.shared.visible_everywhere() < goal && !self.shared.aborted() && clock.now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let reached = self.shared.visible_everywhere() >= goal;
        if !reached {
            self.shared.abort();
        }
        reached
    }

    /// Waits for the threads' ends and gathers what they measured.
    ///
    /// # Errors
    /// The first failure of a thread.
    pub fn finish(mut self) -> Result<Outcome, StrategyError> {
        let mut outcome = Outcome::default();
        let mut failure = None;
        for (name, thread) in std::mem::take(&mut self.workers) {
            match thread.join() {
                Ok(Ok(part)) => outcome = outcome.merge(part),
                Ok(Err(error)) => failure = failure.or(Some(error)),
                Err(_) => failure = failure.or(Some(StrategyError::Died { thread: name })),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(outcome),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.abort();
        for (_, thread) in std::mem::take(&mut self.workers) {
            let _ = thread.join();
        }
    }
}
