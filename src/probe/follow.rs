//! Everything that an attach measures of what it follows, while it does: told of by the threads that do the work, and reckoned up
//! in bounded memory.

use super::bounded::{Bounded, BoundedFigures};
use super::freshness::Window;
use super::series::Halving;
use super::visibility::{Commit, VisibilityError};
use crate::model::{CommitTime, Lsn, Moment};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The moment at which the source's clock showed a time.
type ToMoment = Box<dyn Fn(CommitTime) -> Moment + Send + Sync>;

/// Hears of every commit and every version of one sink.
pub struct FollowMeter {
    moment: ToMoment,
    /// Whether the stream's times are those of the commits.
    true_times: bool,
    state: Mutex<State>,
}

impl fmt::Debug for FollowMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FollowMeter").finish_non_exhaustive()
    }
}

/// What is seen by readers in this process, and by those in others.
#[derive(Debug, Default)]
struct Both {
    inside: Bounded,
    outside: Bounded,
}

impl Both {
    fn each(&mut self, mut action: impl FnMut(&mut Bounded)) {
        action(&mut self.inside);
        action(&mut self.outside);
    }
}

#[derive(Debug)]
struct State {
    stream: Both,
    beats: Both,
    window: Option<Window>,
    counts: FollowCounts,
    /// Every commit that the figures are of, where reads are to be judged by them.
    kept: Option<Vec<Commit>>,
    failure: Option<VisibilityError>,
}

/// What was counted in the window.
#[derive(Clone, Debug)]
pub struct FollowCounts {
    /// Transactions that changed something.
    pub transactions: u64,
    /// Their changes.
    pub changes: u64,
    /// Changes by time.
    pub series: Halving,
    /// Batches that became visible.
    pub batches: u64,
    /// Rows that they brought.
    pub rows: u64,
    /// From snapshot to swap, all batches together.
    pub busy: Duration,
}

/// The figures of readers in this process, and of those in others.
#[derive(Clone, Debug)]
pub struct BothFigures {
    /// In this process.
    pub inside: BoundedFigures,
    /// In others.
    pub outside: BoundedFigures,
}

/// What was found at the end.
#[derive(Clone, Debug)]
pub struct FollowFigures {
    /// Of every commit of the stream; `None` where its times are not those of the commits.
    pub stream: Option<BothFigures>,
    /// Of the heartbeats.
    pub beats: BothFigures,
    /// What was counted.
    pub counts: FollowCounts,
    /// Every commit that the figures are of, where they were kept.
    pub kept: Option<Vec<Commit>>,
}

impl FollowMeter {
    /// Nothing was told yet. `true_times` says whether the stream tells the times of commits; with `keep` every commit is kept, which takes
    /// memory without a bound.
    pub fn new(true_times: bool, keep: bool, moment: impl Fn(CommitTime) -> Moment + Send + Sync + 'static) -> Self {
        let counts = FollowCounts {
            transactions: 0,
            changes: 0,
            series: Halving::sums(),
            batches: 0,
            rows: 0,
            busy: Duration::ZERO,
        };
        let state = State {
            stream: Both::default(),
            beats: Both::default(),
            window: None,
            counts,
            kept: keep.then(Vec::new),
            failure: None,
        };
        FollowMeter { moment: Box::new(moment), true_times, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The window begins.
    pub fn begin(&self, start: Moment) {
        let mut state = self.state();
        state.window = Some(Window { start, end: Moment::FAR_FUTURE });
        state.stream.each(|seen| seen.begin(start));
        state.beats.each(|seen| seen.begin(start));
    }

    /// The window has ended.
    pub fn end(&self, end: Moment) {
        let mut state = self.state();
        if let Some(window) = &mut state.window {
            window.end = end;
        }
        state.stream.each(|seen| seen.end(end));
        state.beats.each(|seen| seen.end(end));
    }

    /// A transaction was captured, in the order of commits; one without a change only tells how far the stream is.
    pub fn transaction(&self, lsn: Lsn, time: CommitTime, changes: u64) {
        let committed = (self.moment)(time);
        let mut state = self.state();
        if changes == 0 {
            state.stream.each(|seen| seen.known(committed));
            return;
        }
        if let Some(window) = state.window.filter(|window| window.contains(committed)) {
            state.counts.transactions += 1;
            state.counts.changes += changes;
            state.counts.series.add(window.start, committed, changes as f64);
        }
        if self.true_times {
            let commit = Commit { lsn, committed, intended: committed };
            state.stream.each(|seen| seen.committed(commit));
            if let Some(kept) = &mut state.kept {
                kept.push(commit);
            }
        }
    }

    /// A heartbeat was acknowledged.
    pub fn beat(&self, beat: Commit) {
        let mut state = self.state();
        state.beats.each(|seen| seen.committed(beat));
        if let Some(kept) = state.kept.as_mut().filter(|_| !self.true_times) {
            kept.push(beat);
        }
    }

    /// A version became visible in this process.
    pub fn published(&self, at: Moment, watermark: Lsn) {
        self.hear(|both| both.inside.published(at, watermark));
    }

    /// A version became readable by other processes.
    pub fn readable(&self, at: Moment, watermark: Lsn) {
        self.hear(|both| both.outside.published(at, watermark));
    }

    fn hear(&self, mut tell: impl FnMut(&mut Both) -> Result<(), VisibilityError>) {
        let mut state = self.state();
        let stream = if self.true_times { tell(&mut state.stream) } else { Ok(()) };
        let heard = stream.and(tell(&mut state.beats));
        state.failure = state.failure.take().or(heard.err());
    }

    /// A batch became visible.
    pub fn batch(&self, published_at: Moment, rows: u64, took: Duration) {
        let mut state = self.state();
        if state.window.is_some_and(|window| window.contains(published_at)) {
            state.counts.batches += 1;
            state.counts.rows += rows;
            state.counts.busy += took;
        }
    }

    /// What was found, of what was visible until the one instant and readable until the other. The meter is empty afterwards.
    ///
    /// # Errors
    /// [`VisibilityError`] when versions were not told of in the order of time.
    pub fn finish(&self, observed_until: Moment, readable_until: Moment) -> Result<FollowFigures, VisibilityError> {
        let mut state = self.state();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        let finish = |both: Both| -> Result<BothFigures, VisibilityError> {
            let (inside, outside) = (both.inside.finish(observed_until)?, both.outside.finish(readable_until)?);
            Ok(BothFigures { inside, outside })
        };
        let stream = finish(std::mem::take(&mut state.stream))?;
        let beats = finish(std::mem::take(&mut state.beats))?;
        let seen = !stream.inside.lag.sketch.is_empty();
        let kept = state.kept.take();
        Ok(FollowFigures {
            stream: (self.true_times && seen).then_some(stream),
            beats,
            counts: state.counts.clone(),
            kept,
        })
    }
}
