//! Where the time between commit and visible goes.
//!
//! The way of a commit group has six marks; between them lie the five stages. *Capture* is from the commit until
//! its group was read out of the source, *queue* until the applier took it from the log (the append and its fsync
//! among it), *transform* until it was turned into edits, *apply* until they were applied, *publish* until readers
//! see them. The stages of a commit add up to its commit lag, exactly. (At a sink that is not complete through its
//! watermark they are those of the commits that were brought in time: a lost commit has no stages.)

use super::freshness::Window;
use super::visibility::Commit;
use crate::model::{Lsn, Moment};
use crate::stats::Histogram;
use std::time::Duration;

/// The marks of one commit group. A strategy without a log sets `logged_at` and `read_at` to `captured_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageTimes {
    /// The first commit of the group.
    pub first: Lsn,
    /// The last commit of the group.
    pub last: Lsn,
    /// The group was read out of the source.
    pub captured_at: Moment,
    /// It was durable in the log.
    pub logged_at: Moment,
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
    /// How long a commit acknowledged at `committed` spent in each stage, in the order of [`Stage::ALL`].
    ///
    /// The sum is the commit lag, zero for a commit published before its acknowledgement: a mark before the
    /// acknowledgement, or before an earlier mark, counts as being at it.
    pub fn breakdown(&self, committed: Moment) -> [Duration; 5] {
        let mut from = committed;
        [self.captured_at, self.read_at, self.folded_at, self.applied_at, self.published_at].map(|mark| {
            let length = mark.since(from);
            from = from.max(mark);
            length
        })
    }

    /// How long the commit waited for its group to be durable in the log: a part of [`Stage::Queue`].
    pub fn logging(&self, committed: Moment) -> Duration {
        self.logged_at.min(self.read_at).since(self.captured_at.max(committed))
    }

    /// Whether the marks are in order. If not, two clocks or a swapped stamp are at work.
    pub fn in_order(&self) -> bool {
        [self.captured_at, self.logged_at, self.read_at, self.folded_at, self.applied_at, self.published_at].is_sorted()
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
    /// Breaks the lag of every commit acknowledged in `window` down. `groups` in the order in which they were
    /// published, `commits` in any; a commit belongs to the first group that reaches it.
    pub fn of(commits: &[Commit], groups: &[StageTimes], window: Window) -> StageFigures {
        let mut figures = StageFigures {
            out_of_order: groups.iter().filter(|group| !group.in_order()).count() as u64,
            ..StageFigures::default()
        };
        for commit in commits.iter().filter(|commit| window.contains(commit.committed)) {
            let group = groups.get(groups.partition_point(|group| group.last < commit.lsn));
            match group.filter(|group| group.first <= commit.lsn) {
                Some(group) => figures.add(group, commit.committed),
                None => figures.unassigned += 1,
            }
        }
        figures
    }

    fn add(&mut self, group: &StageTimes, committed: Moment) {
        let lengths = group.breakdown(committed);
        for (histogram, length) in self.stages.iter_mut().zip(lengths) {
            histogram.record(length);
        }
        self.logging.record(group.logging(committed));
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

    fn group(first: u64, last: u64, marks: [u64; 6]) -> StageTimes {
        let [captured_at, logged_at, read_at, folded_at, applied_at, published_at] = marks.map(at);
        StageTimes {
            first: Lsn(first),
            last: Lsn(last),
            captured_at,
            logged_at,
            read_at,
            folded_at,
            applied_at,
            published_at,
        }
    }

    fn commit(lsn: u64, committed: u64) -> Commit {
        Commit { lsn: Lsn(lsn), committed: at(committed), intended: at(committed) }
    }

    #[test]
    fn the_stages_by_hand() {
        let times = group(1, 3, [110, 130, 150, 160, 190, 200]);
        assert_eq!(times.breakdown(at(100)).map(|d| d.as_nanos()), [10, 40, 10, 30, 10]);
        assert_eq!(times.logging(at(100)).as_nanos(), 20);
        // Captured and logged before its client heard of it: only what came after counts.
        assert_eq!(times.breakdown(at(155)).map(|d| d.as_nanos()), [0, 0, 5, 30, 10]);
        assert_eq!(times.logging(at(155)).as_nanos(), 0);
        assert_eq!(times.breakdown(at(300)).map(|d| d.as_nanos()), [0; 5]);
    }

    #[test]
    fn each_commit_belongs_to_the_first_group_that_reaches_it() {
        let groups = [group(1, 2, [10, 10, 10, 10, 10, 20]), group(4, 6, [40, 41, 42, 43, 39, 60])];
        let commits = [commit(1, 5), commit(2, 8), commit(3, 12), commit(4, 30), commit(7, 35), commit(8, 99)];
        let figures = StageFigures::of(&commits, &groups, Window { start: at(0), end: at(90) });
        assert_eq!((figures.lag.len(), figures.unassigned, figures.out_of_order), (3, 2, 1));
        // Lags 15, 12, 30.
        assert_eq!(figures.lag.mean(), Some(Duration::from_nanos(19)));
        assert_eq!(figures.means()[0], (Stage::Capture, Duration::from_nanos((5 + 2 + 10) / 3)));
    }

    #[test]
    fn the_stages_always_add_up_to_the_lag() {
        for seed in 0..500 {
            let mut random = SplitMix64::new(seed);
            let times = group(1, 1, [0; 6].map(|_: u64| random.below(1000)));
            let committed = at(random.below(1000));
            let sum: Duration = times.breakdown(committed).iter().sum();
            let [.., last] = {
                let mut marks =
                    [times.captured_at, times.read_at, times.folded_at, times.applied_at, times.published_at];
                marks.sort_unstable();
                marks
            };
            assert_eq!(sum, last.since(committed), "seed {seed}");
        }
    }
}
