//! Commit lag and age of one sink, from the commits and the instants at which they became visible.
//!
//! * *Commit lag* of a commit is the time from its acknowledgement until it is visible; zero if it was visible
//!   before its client heard of it. One that is not visible when the observation ends is right-censored there.
//! * *Age* at an instant is the time since the commit time of the oldest commit that is missing then; zero if
//!   none is.

use super::visibility::Commit;
use crate::model::Moment;
use crate::stats::{AgeCurve, AgeDistribution, Histogram, Interval, Quantile, QuantileInterval, Samples, Slope};
use std::time::Duration;

/// The measured part of a run: `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Where it begins: after the warm-up.
    pub start: Moment,
    /// Where it ends.
    pub end: Moment,
}

impl Window {
    /// Whether `moment` lies in it.
    pub fn contains(&self, moment: Moment) -> bool {
        self.start <= moment && moment < self.end
    }

    /// How long it is.
    pub fn length(&self) -> Duration {
        self.end.since(self.start)
    }
}

/// The ages for which the share of time within them is reported.
pub const SLO_THETAS: [Duration; 14] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(120),
    Duration::from_secs(300),
];

/// A commit visible by more than this before its acknowledgement points to a clock fault.
pub const LEAD_MAX: Duration = Duration::from_millis(5);

/// How many equally long parts of the window the interval of the mean age is taken from.
const AGE_PARTS: u32 = 20;

/// What freshness is computed from.
#[derive(Clone, Copy, Debug)]
pub struct FreshnessInput<'a> {
    /// Every commit of the run, also of warm-up and drain.
    pub commits: &'a [Commit],
    /// When each of them became visible, in the same order; `None` for never, and also where the list is too short.
    pub visible: &'a [Option<Moment>],
    /// The measured window.
    pub window: Window,
    /// Until when the sink was watched: at or after the window's end, normally the end of the drain.
    pub observed_until: Moment,
}

/// The freshness of one sink.
#[derive(Clone, Debug)]
pub struct Freshness {
    /// From acknowledgement to visible, of the commits acknowledged in the window.
    pub lag: LagFigures,
    /// From the intended instant to visible, of the commits intended in the window.
    pub lag_from_intended: LagFigures,
    /// How many commits of the window were visible before their acknowledgement. Their lag is zero.
    pub early: u64,
    /// The largest time by which one was early; see [`Freshness::clock_fault`].
    pub largest_lead: Duration,
    /// Commits of the window that were not visible when the observation ended.
    pub lost: u64,
    /// The age over the window.
    pub age: AgeFigures,
    /// The age over the window without the commits of the run that never became visible; `None` if there is none.
    pub age_without_lost: Option<AgeFigures>,
}

/// Lags of commits.
#[derive(Clone, Debug, Default)]
pub struct LagFigures {
    /// Every lag, for exact quantiles.
    pub samples: Samples,
    /// Every lag, for storing. Its negative count is that of the early commits.
    pub histogram: Histogram,
}

impl LagFigures {
    /// The quantile `q` of the lag.
    pub fn quantile(&self, q: f64) -> Option<Quantile> {
        self.samples.quantile(q)
    }

    /// The 95 % interval of the quantile `q`.
    pub fn interval(&self, q: f64) -> Option<QuantileInterval> {
        self.samples.quantile_interval(q)
    }
}

/// The age over a window.
#[derive(Clone, Debug)]
pub struct AgeFigures {
    /// Age over time.
    pub curve: AgeCurve,
    /// How its values are distributed over time.
    pub distribution: AgeDistribution,
    /// The integral divided by the length.
    pub mean: Duration,
    /// The 95 % interval of the mean in seconds, by the means of 20 equal parts of the window.
    pub mean_interval: Option<Interval>,
    /// Time-weighted median.
    pub p50: Duration,
    /// Time-weighted 99th percentile.
    pub p99: Duration,
    /// The largest age.
    pub max: Duration,
}

impl AgeFigures {
    /// The figures of this curve.
    pub fn of(curve: AgeCurve) -> AgeFigures {
        let distribution = curve.distribution();
        AgeFigures {
            mean: curve.mean().unwrap_or_default(),
            mean_interval: curve.mean_interval(AGE_PARTS),
            p50: distribution.quantile(0.5).unwrap_or_default(),
            p99: distribution.quantile(0.99).unwrap_or_default(),
            max: curve.max().unwrap_or_default(),
            distribution,
            curve,
        }
    }

    /// The share of time with an age of at most `theta`, for every theta of [`SLO_THETAS`].
    pub fn within_slo(&self) -> Vec<(Duration, f64)> {
        SLO_THETAS.iter().map(|&theta| (theta, self.distribution.share_within(theta).unwrap_or_default())).collect()
    }
}

impl Freshness {
    /// Whether a commit was visible so long before its acknowledgement that the clock, or a stamp, must be wrong.
    pub fn clock_fault(&self) -> bool {
        self.largest_lead > LEAD_MAX
    }

    /// Computes every figure. `O(n log n)` in the number of commits.
    pub fn of(input: &FreshnessInput<'_>) -> Freshness {
        let mut lag = Lags::default();
        let mut lag_from_intended = Lags::default();
        let (mut early, mut largest_lead) = (0, Duration::ZERO);
        for (commit, visible) in input.observed() {
            if input.window.contains(commit.committed) {
                lag.add(commit.committed, visible, input.observed_until);
                if let Some(lead) = visible.map(|v| commit.committed.since(v)).filter(|lead| !lead.is_zero()) {
                    early += 1;
                    largest_lead = largest_lead.max(lead);
                }
            }
            if input.window.contains(commit.intended) {
                lag_from_intended.add(commit.intended, visible, input.observed_until);
            }
        }
        let lag = lag.figures();
        let any_lost = input.observed().any(|(_, visible)| visible.is_none());
        Freshness {
            lost: lag.histogram.censored(),
            lag,
            lag_from_intended: lag_from_intended.figures(),
            early,
            largest_lead,
            age: AgeFigures::of(age_curve(input.observed(), input.window)),
            age_without_lost: any_lost.then(|| {
                let kept = input.observed().filter(|(_, visible)| visible.is_some());
                AgeFigures::of(age_curve(kept, input.window))
            }),
        }
    }
}

impl<'a> FreshnessInput<'a> {
    /// Commits and when they became visible, what came after the end of the observation being unknown.
    fn observed(&self) -> impl Iterator<Item = (Commit, Option<Moment>)> + use<'a> {
        let until = self.observed_until;
        let visible = self.visible.iter().map(move |visible| visible.filter(|&v| v <= until));
        self.commits.iter().copied().zip(visible.chain(std::iter::repeat(None)))
    }
}

#[derive(Default)]
struct Lags {
    values: Vec<(Duration, bool)>,
    histogram: Histogram,
}

impl Lags {
    fn add(&mut self, from: Moment, visible: Option<Moment>, observed_until: Moment) {
        match visible {
            Some(visible) if visible < from => self.histogram.record_negative(),
            Some(visible) => self.histogram.record(visible.since(from)),
            None => self.histogram.record_censored(observed_until.since(from)),
        }
        self.values.push((visible.unwrap_or(observed_until).since(from), visible.is_none()));
    }

    fn figures(self) -> LagFigures {
        LagFigures { samples: Samples::new(self.values), histogram: self.histogram }
    }
}

/// The age over `window`, exactly. `commits` in any order, each with the instant at which it became visible.
///
/// A commit is missing from its commit time until it is visible. Sorted by commit time, the oldest missing one is
/// the first that is not visible yet; it only ever moves on, since what is visible stays so. `O(n log n)`.
pub fn age_curve(commits: impl Iterator<Item = (Commit, Option<Moment>)>, window: Window) -> AgeCurve {
    let mut missing: Vec<(Moment, Moment)> = commits
        .map(|(commit, visible)| (commit.committed, visible.unwrap_or(Moment::FAR_FUTURE)))
        .filter(|&(from, until)| from < until)
        .collect();
    missing.sort_unstable();
    let mut missing = missing.into_iter().peekable();
    let mut curve = AgeCurve::new(window.start);
    let mut now = window.start;
    while now < window.end {
        while missing.next_if(|&(_, until)| until <= now).is_some() {}
        let until = match missing.peek() {
            Some(&(from, until)) if from <= now => {
                let until = until.min(window.end);
                curve.push(until.since(now), now.since(from), Slope::Growing);
                until
            }
            oldest => {
                let until = oldest.map_or(window.end, |&(from, _)| from.min(window.end));
                curve.push(until.since(now), Duration::ZERO, Slope::Level);
                until
            }
        };
        now = until;
    }
    curve
}

#[cfg(test)]
mod tests;
