//! Real reads at a sink, at instants that depend on nothing in the system.
//!
//! Reads come by a Poisson process, so what they see is what any reader sees on average (PASTA: Poisson arrivals
//! see time averages). A read that is due while the one before still runs is made late, never left out.

use super::freshness::Window;
use super::visibility::Commit;
use super::{ProbeError, Worker};
use crate::clock::Clock;
use crate::model::{Lsn, Moment};
use crate::stats::{AgeCurve, Histogram, Samples, SplitMix64};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

/// What one read saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRead<'a> {
    /// The watermark of the version that was read.
    pub watermark: Lsn,
    /// The names of the invariants that did not hold in it.
    pub broken: Vec<&'a str>,
}

/// A sink that can be read, with the invariants that have to hold in every version of it.
pub trait ProbeTarget: Send {
    /// Reads one version: takes it, and checks the invariants on it.
    ///
    /// # Errors
    /// Whatever kept the read from being made; it is counted.
    fn read(&self) -> Result<ProbeRead<'_>, Box<dyn Error + Send + Sync>>;
}

/// How the prober reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProberOptions {
    /// The mean rate of reads, in reads per second; at most 100,000. None is made for zero or less.
    pub reads_per_s: f64,
    /// The seed of the schedule.
    pub seed: u64,
}

impl Default for ProberOptions {
    fn default() -> Self {
        ProberOptions { reads_per_s: 20.0, seed: 1 }
    }
}

/// The shortest mean gap between two reads, so that counting the missed ones ends.
const GAP_MIN: Duration = Duration::from_micros(10);

/// At most so many reads are kept; later ones are only counted as missed.
const READS_MAX: usize = 4_000_000;

/// Reads on a thread of its own, `prb-query`, until stopped.
#[derive(Debug)]
pub struct Prober {
    worker: Worker<ProbeRecord>,
}

impl Prober {
    /// Starts reading.
    ///
    /// # Errors
    /// [`ProbeError::Spawn`].
    pub fn start(target: Box<dyn ProbeTarget>, clock: &Clock, options: ProberOptions) -> Result<Prober, ProbeError> {
        let clock = clock.clone();
        let body = move |stopped: &Receiver<()>| probe(target.as_ref(), &clock, options, stopped);
        Ok(Prober { worker: Worker::start("prb-query", body)? })
    }

    /// Ends after the read that is under way, and hands over what was recorded.
    ///
    /// # Errors
    /// [`ProbeError::Died`] when the target panicked.
    pub fn stop(self) -> Result<ProbeRecord, ProbeError> {
        self.worker.finish()
    }
}

/// One read, or one that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSample {
    /// When it was scheduled.
    pub intended: Moment,
    /// When it began.
    pub started: Moment,
    /// When it was done.
    pub finished: Moment,
    /// The watermark it saw; `None` if it failed.
    pub watermark: Option<Lsn>,
    /// The broken invariants it saw.
    pub broken: Vec<String>,
}

/// Everything the prober recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeRecord {
    /// Every read, in order.
    pub samples: Vec<ProbeSample>,
    /// Reads that were due when the prober was stopped and were not made any more.
    pub missed: u64,
    /// The first error, with its causes.
    pub first_error: Option<String>,
}

fn probe(target: &dyn ProbeTarget, clock: &Clock, options: ProberOptions, stopped: &Receiver<()>) -> ProbeRecord {
    let gap = Duration::try_from_secs_f64(1.0 / options.reads_per_s).unwrap_or(Duration::MAX).max(GAP_MIN);
    let mut random = SplitMix64::new(options.seed);
    let mut record = ProbeRecord::default();
    let mut intended = clock.now().after(random.exponential(gap));
    while wait(clock, intended, stopped) {
        read(target, clock, intended, &mut record);
        intended = intended.after(random.exponential(gap).max(Duration::from_nanos(1)));
        if record.samples.len() >= READS_MAX {
            break;
        }
    }
    if record.samples.len() >= READS_MAX {
        let _ = stopped.recv();
    }
    let now = clock.now();
    while intended <= now {
        record.missed += 1;
        intended = intended.after(random.exponential(gap).max(Duration::from_nanos(1)));
    }
    record
}

/// Waits for `until`, finely over the last stretch; false if told to stop meanwhile.
fn wait(clock: &Clock, until: Moment, stopped: &Receiver<()>) -> bool {
    const LAST_STRETCH: Duration = Duration::from_micros(200);
    let left = until.since(clock.now()).saturating_sub(LAST_STRETCH);
    if stopped.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
        return false;
    }
    clock.sleep_until(until);
    true
}

fn read(target: &dyn ProbeTarget, clock: &Clock, intended: Moment, record: &mut ProbeRecord) {
    let started = clock.now();
    let result = target.read();
    let finished = clock.now();
    let (watermark, broken) = match result {
        Ok(read) => (Some(read.watermark), read.broken.into_iter().map(str::to_owned).collect()),
        Err(error) => {
            record.first_error.get_or_insert_with(|| with_causes(error.as_ref()));
            (None, Vec::new())
        }
    };
    record.samples.push(ProbeSample { intended, started, finished, watermark, broken });
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// How to find out how stale a read was.
#[derive(Clone, Copy, Debug)]
pub enum Staleness<'a> {
    /// By its watermark, which is true: the sink is complete through it. All commits of the run, sorted by position.
    ByWatermark(&'a [Commit]),
    /// By the sink's age when the read began: for a sink whose watermark can't be trusted.
    ByCurve(&'a AgeCurve),
}

impl Staleness<'_> {
    fn resolve(&self) -> Resolved<'_> {
        match self {
            Staleness::ByCurve(curve) => Resolved::Curve(curve),
            Staleness::ByWatermark(commits) => {
                let mut oldest = Moment::FAR_FUTURE;
                let mut oldest_from: Vec<Moment> = commits
                    .iter()
                    .rev()
                    .map(|commit| {
                        oldest = oldest.min(commit.committed);
                        oldest
                    })
                    .collect();
                oldest_from.reverse();
                Resolved::Watermark { commits, oldest_from }
            }
        }
    }
}

enum Resolved<'a> {
    Curve(&'a AgeCurve),
    /// Beside each commit the earliest commit time of it and all behind it.
    Watermark {
        commits: &'a [Commit],
        oldest_from: Vec<Moment>,
    },
}

impl Resolved<'_> {
    /// The age of what a read that began at `started` saw; `None` outside the curve.
    fn at(&self, started: Moment, watermark: Lsn) -> Option<Duration> {
        match self {
            Resolved::Curve(curve) => curve.at(started),
            Resolved::Watermark { commits, oldest_from } => {
                let missing = commits.partition_point(|commit| commit.lsn <= watermark);
                Some(oldest_from.get(missing).map_or(Duration::ZERO, |&oldest| started.since(oldest)))
            }
        }
    }
}

/// What the reads of a window saw.
#[derive(Clone, Debug, Default)]
pub struct ProbeFigures {
    /// Age of what was read, when the read began.
    pub staleness: LengthFigures,
    /// Staleness plus the read's latency: how long after an event an answer can contain it.
    pub reaction: LengthFigures,
    /// How long a read took from its begin (service time).
    pub latency: LengthFigures,
    /// How long a read took from the instant it was scheduled.
    pub latency_from_intended: LengthFigures,
    /// Reads that were made and did not fail.
    pub reads: u64,
    /// Reads that failed.
    pub failed: u64,
    /// Reads that saw at least one broken invariant.
    pub broken_reads: u64,
    /// How often each invariant was seen broken.
    pub broken: BTreeMap<String, u64>,
    /// Reads that saw a lower watermark than a read before.
    pub went_back: u64,
}

/// Lengths of time, exact and for storing.
#[derive(Clone, Debug, Default)]
pub struct LengthFigures {
    /// Exact.
    pub samples: Samples,
    /// For storing.
    pub histogram: Histogram,
}

impl LengthFigures {
    fn of(lengths: &[Duration]) -> LengthFigures {
        let mut histogram = Histogram::new();
        lengths.iter().for_each(|&length| histogram.record(length));
        LengthFigures { samples: Samples::new(lengths.iter().map(|&length| (length, false))), histogram }
    }
}

impl ProbeFigures {
    /// The figures of the reads scheduled in `window`.
    pub fn of(record: &ProbeRecord, staleness: Staleness<'_>, window: Window) -> ProbeFigures {
        let staleness = staleness.resolve();
        let mut figures = ProbeFigures::default();
        let [mut stale, mut reaction, mut latency, mut from_intended] = [const { Vec::new() }; 4];
        let mut highest = Lsn::ZERO;
        for sample in record.samples.iter().filter(|sample| window.contains(sample.intended)) {
            let Some(watermark) = sample.watermark else {
                figures.failed += 1;
                continue;
            };
            figures.count(sample, watermark < highest);
            highest = highest.max(watermark);
            let service = sample.finished.since(sample.started);
            latency.push(service);
            from_intended.push(sample.finished.since(sample.intended));
            if let Some(age) = staleness.at(sample.started, watermark) {
                stale.push(age);
                reaction.push(age + service);
            }
        }
        ProbeFigures {
            staleness: LengthFigures::of(&stale),
            reaction: LengthFigures::of(&reaction),
            latency: LengthFigures::of(&latency),
            latency_from_intended: LengthFigures::of(&from_intended),
            ..figures
        }
    }

    fn count(&mut self, sample: &ProbeSample, went_back: bool) {
        self.reads += 1;
        self.went_back += u64::from(went_back);
        self.broken_reads += u64::from(!sample.broken.is_empty());
        for name in &sample.broken {
            *self.broken.entry(name.clone()).or_default() += 1;
        }
    }

    /// Reads with a broken invariant per 1,000 reads; `None` without a read.
    pub fn broken_per_1000(&self) -> Option<f64> {
        (self.reads > 0).then(|| self.broken_reads as f64 * 1000.0 / self.reads as f64)
    }
}

#[cfg(test)]
mod tests;
