//! A strategy at work: its threads, its goal and what it left to measure.

use super::{Setting, StrategyError};
use crate::clock::Clock;
use crate::model::{Lsn, Moment};
use crate::probe::{Publish, StageTimes, VisibilityRecorder};
use crate::sink::{Sink, Warehouse, WarehouseReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a strategy's threads share with the one who started them.
#[derive(Debug)]
pub(super) struct Shared {
    goal: AtomicU64,
    visible: AtomicU64,
    abort: AtomicBool,
}

impl Shared {
    pub(super) fn new() -> Arc<Shared> {
        let shared =
            Shared { goal: AtomicU64::new(u64::MAX), visible: AtomicU64::new(0), abort: AtomicBool::new(false) };
        Arc::new(shared)
    }

    /// Whether a thread that has come through `reached` may end.
    pub(super) fn may_end(&self, reached: Lsn) -> bool {
        self.aborted() || reached.0 >= self.goal.load(Ordering::Acquire)
    }

    pub(super) fn aborted(&self) -> bool {
        self.abort.load(Ordering::Relaxed)
    }

    pub(super) fn abort(&self) {
        self.abort.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_visible(&self, lsn: Lsn) {
        self.visible.store(lsn.0, Ordering::Release);
    }

    pub(super) fn visible(&self) -> Lsn {
        Lsn(self.visible.load(Ordering::Acquire))
    }

    /// Sleeps until `due`, in steps short enough that an abort is heard.
    pub(super) fn sleep_until(&self, clock: &Clock, due: Moment) {
        const STEP: Duration = Duration::from_millis(10);
        while !self.aborted() && clock.now() < due {
            clock.sleep_until(due.min(clock.now().after(STEP)));
        }
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

/// What a strategy did.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Every publish, in order; the first is the initial load.
    pub publishes: Vec<Publish>,
    /// The stages of each commit group, for strategies that have them.
    pub stages: Vec<StageTimes>,
    /// Each batch, for strategies that work in batches.
    pub batches: Vec<Batch>,
    /// Bytes read from the source since the initial load.
    pub bytes_read: u64,
    /// Bytes written to the log and the sinks since the initial load.
    pub bytes_written: u64,
    /// Of those, written to the log.
    pub log_bytes: u64,
    /// Rows of the initial load.
    pub initial_rows: u64,
    /// Rows or changes brought to the sinks since then.
    pub rows: u64,
}

impl Outcome {
    /// Adds another thread's part.
    pub(super) fn merge(mut self, other: Outcome) -> Outcome {
        self.publishes.extend(other.publishes);
        self.stages.extend(other.stages);
        self.batches.extend(other.batches);
        self.bytes_read += other.bytes_read;
        self.bytes_written += other.bytes_written;
        self.log_bytes += other.log_bytes;
        self.initial_rows += other.initial_rows;
        self.rows += other.rows;
        self
    }
}

/// Makes a batch at each time of the grid that began at `begun`, until the goal is visible. A batch that overruns its
/// interval lets the missed times go. `make` gives the batch and the bytes that it read from the source.
pub(super) fn in_batches(
    shared: &Shared,
    setting: &Setting,
    begun: Moment,
    (mut warehouse, mut recorder, mut outcome): (Warehouse, VisibilityRecorder, Outcome),
    mut make: impl FnMut(&mut Warehouse, &mut VisibilityRecorder) -> Result<(Batch, u64), StrategyError>,
) -> Result<Outcome, StrategyError> {
    let written_before = warehouse.counters().bytes_written;
    let mut due = begun;
    while !shared.may_end(warehouse.visible()) {
        while due <= setting.clock.now() {
            due = due.after(setting.batch_interval);
        }
        shared.sleep_until(&setting.clock, due);
        if shared.aborted() {
            break;
        }
        let (batch, bytes) = make(&mut warehouse, &mut recorder)?;
        shared.set_visible(warehouse.visible());
        outcome.bytes_read += bytes;
        outcome.rows += batch.rows;
        outcome.batches.push(batch);
    }
    outcome.bytes_written = warehouse.counters().bytes_written - written_before;
    outcome.publishes = recorder.into_publishes();
    Ok(outcome)
}

struct AbortUnlessDone<'a>(&'a Shared);

impl Drop for AbortUnlessDone<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Worker = (String, JoinHandle<Result<Outcome, StrategyError>>);

/// A strategy that follows the source. Dropping it aborts its threads and waits for them.
#[derive(Debug)]
pub struct Running {
    reader: WarehouseReader,
    shared: Arc<Shared>,
    workers: Vec<Worker>,
}

impl Running {
    pub(super) fn new(reader: WarehouseReader, shared: Arc<Shared>) -> Running {
        Running { reader, shared, workers: Vec::new() }
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

    /// Reads the warehouse.
    pub fn reader(&self) -> &WarehouseReader {
        &self.reader
    }

    /// A view of the newest visible commit, for samplers.
    pub fn visible(&self) -> impl Fn() -> Lsn + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.visible()
    }

    /// Whether a thread has ended before its goal was set, which means that it failed.
    pub fn has_failed(&self) -> bool {
        self.shared.aborted()
    }

    /// Lets the strategy end once `goal` is visible; waits for that, for at most `patience`. True if it came.
    pub fn drain(&self, goal: Lsn, clock: &Clock, patience: Duration) -> bool {
        self.shared.goal.store(goal.0, Ordering::Release);
        let deadline = clock.now().after(patience);
        while self.shared.visible() < goal && !self.shared.aborted() && clock.now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let reached = self.shared.visible() >= goal;
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
