//! Where the time between commit and visible goes.
//!
//! The way of a commit has six marks; between them lie the five stages. *Capture* is from the commit until the tailer
//! had read it out of the source, *queue* until the applier took its group from the log (the append and its fsync
//! among it, and the wait for the others of the group), *transform* until it was turned into edits, *apply* until they
//! were applied, *publish* until readers see them. The stages of a commit add up to its commit lag, exactly. (At a sink
//! that is not complete through its watermark they are those of the commits that were brought in time: a lost commit has
//! no stages.)
//!
//! The first two marks are the commit's own and the same for every sink that shares the tailer; the others are those
//! of the group in which a sink took it, so a sink that collects for longer has a longer queue, not a slower capture.

use super::freshness::Window;
use super::visibility::Commit;
use crate::model::{Lsn, Moment};
use crate::stats::Histogram;
use std::time::Duration;

/// When the tailer had the commits through `last`, those after the entry before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaptureTimes {
    /// The last commit that it is about.
    pub last: Lsn,
    /// They were read out of the source.
    pub captured_at: Moment,
    /// They were durable in the log. A strategy without a log sets it to `captured_at`.
    pub logged_at: Moment,
}

/// The marks of one commit group at one sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageTimes {
    /// The first commit of the group.
    pub first: Lsn,
    /// The last commit of the group.
    pub last: Lsn,
    /// The applier had read it from the log.
    pub read_at: Moment,
    /// It was transformed and folded into edits.
    pub folded_at: Moment,
    /// The edits were applied.
    pub applied_at: Moment,
    /// Readers see them.
    pub published_at: Moment,
}

/// A stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Commit to captured.
    Capture,
    /// Captured to read from the log.
    Queue,
    /// Read to folded.
    Transform,
    /// Folded to applied.
    Apply,
    /// Applied to published.
    Publish,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Stage; 5] = [Stage::Capture, Stage::Queue, Stage::Transform, Stage::Apply, Stage::Publish];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Capture => "capture",
            Stage::Queue => "queue",
            Stage::Transform => "transform",
            Stage::Apply => "apply",
            Stage::Publish => "publish",
        }
    }
}

impl StageTimes {
    /// How long a commit acknowledged at `committed` and captured at `captured_at` spent in each stage, in the order of
    /// [`Stage::ALL`].
    ///
    /// The sum is the commit lag, zero for a commit published before its acknowledgement: a mark before the
    /// acknowledgement, or before an earlier mark, counts as being at it. (A group is read until nothing more is ready, so
    /// its last commits may be captured after its reading began: they have not queued.)
    pub fn breakdown(&self, committed: Moment, captured_at: Moment) -> [Duration; 5] {
        let mut from = committed;
        [captured_at, self.read_at, self.folded_at, self.applied_at, self.published_at].map(|mark| {
            let length = mark.since(from);
            from = from.max(mark);
            length
        })
    }

    /// How long the commit waited to be durable in the log: a part of [`Stage::Queue`].
    fn logging(&self, committed: Moment, capture: &CaptureTimes) -> Duration {
        capture.logged_at.min(self.read_at).since(capture.captured_at.max(committed))
    }

    /// Whether the marks are in order. If not, two clocks or a swapped stamp are at work.
    pub fn in_order(&self) -> bool {
        [self.read_at, self.folded_at, self.applied_at, self.published_at].is_sorted()
    }
}

/// The stages of the commits of a window.
#[derive(Clone, Debug, Default)]
pub struct StageFigures {
    /// For each stage of [`Stage::ALL`] the time that each commit spent in it. The means add up to that of `lag`.
    pub stages: [Histogram; 5],
    /// The part of the queue that was the log's append and fsync.
    pub logging: Histogram,
    /// The sums: the commit lags.
    pub lag: Histogram,
    /// Commits of the window that are in no group.
    pub unassigned: u64,
    /// Groups whose marks are not in order.
    pub out_of_order: u64,
}

impl StageFigures {
    /// Breaks the lag of every commit acknowledged in `window` down. `captures` and `groups` in the order in which they
    /// came, `commits` in any; a commit belongs to the first of each that reaches it. One without a capture counts as
    /// captured when its group was read.
    pub fn of(commits: &[Commit], captures: &[CaptureTimes], groups: &[StageTimes], window: Window) -> StageFigures {
        let mut figures = StageFigures {
            out_of_order: groups.iter().filter(|group| !group.in_order()).count() as u64,
            ..StageFigures::default()
        };
        for commit in commits.iter().filter(|commit| window.contains(commit.committed)) {
            let group = groups.get(groups.partition_point(|group| group.last < commit.lsn));
            match group.filter(|group| group.first <= commit.lsn) {
                Some(group) => {
                    let capture = captures.get(captures.partition_point(|capture| capture.last < commit.lsn));
                    figures.add(group, commit.committed, capture);
                }
                None => figures.unassigned += 1,
            }
        }
        figures
    }

    fn add(&mut self, group: &StageTimes, committed: Moment, capture: Option<&CaptureTimes>) {
        let lengths = group.breakdown(committed, capture.map_or(group.read_at, |capture| capture.captured_at));
        for (histogram, length) in self.stages.iter_mut().zip(lengths) {
            histogram.record(length);
        }
        self.logging.record(capture.map_or(Duration::ZERO, |capture| group.logging(committed, capture)));
        self.lag.record(lengths.iter().sum());
    }

    /// The mean of each stage, in order.
    pub fn means(&self) -> [(Stage, Duration); 5] {
        let mut stages = self.stages.iter();
        Stage::ALL.map(|stage| (stage, stages.next().and_then(Histogram::mean).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::SplitMix64;

    fn at(n: u64) -> Moment {
        Moment::from_nanos(n)
    }

    fn group(first: u64, last: u64, marks: [u64; 4]) -> StageTimes {
        let [read_at, folded_at, applied_at, published_at] = marks.map(at);
        StageTimes { first: Lsn(first), last: Lsn(last), read_at, folded_at, applied_at, published_at }
    }

    fn capture(last: u64, captured: u64, logged: u64) -> CaptureTimes {
        CaptureTimes { last: Lsn(last), captured_at: at(captured), logged_at: at(logged) }
    }

    fn commit(lsn: u64, committed: u64) -> Commit {
        Commit { lsn: Lsn(lsn), committed: at(committed), intended: at(committed) }
    }

    #[test]
    fn the_stages_by_hand() {
        let (times, captured) = (group(1, 3, [150, 160, 190, 200]), capture(3, 110, 130));
        assert_eq!(times.breakdown(at(100), at(110)).map(|d| d.as_nanos()), [10, 40, 10, 30, 10]);
        assert_eq!(times.logging(at(100), &captured).as_nanos(), 20);
        // Captured and logged before its client heard of it: only what came after counts.
        assert_eq!(times.breakdown(at(155), at(110)).map(|d| d.as_nanos()), [0, 0, 5, 30, 10]);
        assert_eq!(times.logging(at(155), &captured).as_nanos(), 0);
        assert_eq!(times.breakdown(at(300), at(110)).map(|d| d.as_nanos()), [0; 5]);
        // Captured while its group was being read.
        assert_eq!(times.breakdown(at(100), at(155)).map(|d| d.as_nanos()), [55, 0, 5, 30, 10]);
    }

    #[test]
    fn each_commit_belongs_to_the_first_group_that_reaches_it() {
        let groups = [group(1, 2, [10, 10, 10, 20]), group(4, 6, [42, 43, 39, 60])];
        let commits = [commit(1, 5), commit(2, 8), commit(3, 12), commit(4, 30), commit(7, 35), commit(8, 99)];
        let captures = [capture(2, 10, 10), capture(6, 40, 41)];
        let figures = StageFigures::of(&commits, &captures, &groups, Window { start: at(0), end: at(90) });
        assert_eq!((figures.lag.len(), figures.unassigned, figures.out_of_order), (3, 2, 1));
        // Lags 15, 12, 30.
        assert_eq!(figures.lag.mean(), Some(Duration::from_nanos(19)));
        assert_eq!(figures.means()[0], (Stage::Capture, Duration::from_nanos((5 + 2 + 10) / 3)));
    }

    /// One tailer that has three commits one after the other, a sink that takes each by itself and one that collects them:
    /// capture is the tailer's work, so both sinks have the same, and the wait for the group is queue.
    #[test]
    fn capture_is_the_tailers_whatever_a_sink_collects() {
        let window = Window { start: at(0), end: at(1000) };
        let commits = [commit(1, 100), commit(2, 110), commit(3, 190)];
        let captures = [capture(1, 101, 102), capture(2, 114, 116), capture(3, 191, 193)];
        let eager =
            [group(1, 1, [103, 104, 105, 106]), group(2, 2, [117, 118, 119, 120]), group(3, 3, [194, 195, 196, 197])];
        let collecting = [group(1, 3, [200, 210, 230, 260])];
        let of = |groups: &[StageTimes]| StageFigures::of(&commits, &captures, groups, window);
        let means = |figures: &StageFigures| figures.means().map(|(_, mean)| mean.as_nanos());
        let (eager, collecting) = (of(&eager), of(&collecting));
        // Captured after 1, 4 and 1; read after 2, 3 and 3 more by the one, after 99, 86 and 9 more by the other.
        assert_eq!(means(&eager), [2, 8 / 3, 1, 1, 1]);
        assert_eq!(means(&collecting), [2, 194 / 3, 10, 20, 30]);
        // Lags of 160, 150 and 70.
        assert_eq!(collecting.lag.mean(), Some(Duration::from_nanos(380 / 3)));
        assert_eq!(collecting.logging.mean(), Some(Duration::from_nanos(5 / 3)));
        // Without the tailer's stamps the wait can't be told apart: it is all before the reading.
        let unknown = StageFigures::of(&commits, &[], &[group(1, 3, [200, 210, 230, 260])], window);
        assert_eq!(means(&unknown), [200 / 3, 0, 10, 20, 30]);
    }

    #[test]
    fn the_stages_always_add_up_to_the_lag() {
        for seed in 0..500 {
            let mut random = SplitMix64::new(seed);
            let times = group(1, 1, [0; 4].map(|_: u64| random.below(1000)));
            let (committed, captured) = (at(random.below(1000)), at(random.below(1000)));
            let sum: Duration = times.breakdown(committed, captured).iter().sum();
            let marks = [captured, times.read_at, times.folded_at, times.applied_at, times.published_at];
            let last = marks.into_iter().max().unwrap();
            assert_eq!(sum, last.since(committed), "seed {seed}");
        }
    }
}
