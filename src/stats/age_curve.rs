//! The age of a sink over time, and how its values are distributed over time.
//!
//! Age is piecewise linear: zero (or level) while nothing is missing, and growing by one second a second while
//! the oldest missing commit stays the same. So every figure is an exact sum over segments, in whole nanoseconds.

use super::interval::{Interval, mean_interval_of_batch_means};
use super::nanos;
use crate::model::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

/// How the age moves in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slope {
    /// It stays.
    Level,
    /// It grows one second a second.
    Growing,
}

/// One straight piece of the curve: `[start, start + length)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgeSegment {
    /// Where it begins.
    pub start: Moment,
    /// How long it is.
    pub length: Duration,
    /// The age at its begin.
    pub age: Duration,
    /// How the age moves in it.
    pub slope: Slope,
}

impl AgeSegment {
    pub(crate) fn end(&self) -> Moment {
        self.start.after(self.length)
    }

    /// The age at `moment`, which lies in the segment.
    pub(crate) fn age_at(&self, moment: Moment) -> Duration {
        match self.slope {
            Slope::Level => self.age,
            Slope::Growing => self.age + moment.since(self.start),
        }
    }

    /// Twice the integral of the age over the segment, in ns squared; twice, so that halves stay whole.
    pub(super) fn twice_integral(&self) -> u128 {
        let (length, age) = (u128::from(nanos(self.length)), u128::from(nanos(self.age)));
        let rise = if self.slope == Slope::Growing { length * length } else { 0 };
        2 * age * length + rise
    }

    /// The part of the segment inside `[from, to)`, if any.
    fn clip(&self, from: Moment, to: Moment) -> Option<AgeSegment> {
        let (start, end) = (self.start.max(from), self.end().min(to));
        (start < end).then(|| AgeSegment { start, length: end.since(start), age: self.age_at(start), ..*self })
    }
}

/// Age over time: segments one behind another without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgeCurve {
    start: Moment,
    end: Moment,
    segments: Vec<AgeSegment>,
}

impl AgeCurve {
    /// A curve of no length that begins at `start`.
    pub fn new(start: Moment) -> AgeCurve {
        AgeCurve { start, end: start, segments: Vec::new() }
    }

    /// Adds a segment at the end; one of no length is left out.
    pub fn push(&mut self, length: Duration, age: Duration, slope: Slope) {
        if !length.is_zero() {
            self.segments.push(AgeSegment { start: self.end, length, age, slope });
            self.end = self.end.after(length);
        }
    }

    /// Where the curve begins.
    pub fn start(&self) -> Moment {
        self.start
    }

    /// Where the curve ends.
    pub fn end(&self) -> Moment {
        self.end
    }

    /// How long the curve is.
    pub fn length(&self) -> Duration {
        self.end.since(self.start)
    }

    /// The segments in order of time.
    pub fn segments(&self) -> &[AgeSegment] {
        &self.segments
    }

    /// The age at `moment`; `None` outside the curve. At a break it is the value after it.
    pub fn at(&self, moment: Moment) -> Option<Duration> {
        let after = self.segments.partition_point(|segment| segment.start <= moment);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (moment < segment.end()).then(|| segment.age_at(moment))
    }

    /// The parts of the curve inside these times, one behind another as if nothing had been between them. The times are in
    /// order and do not overlap.
    pub fn within(&self, times: &[(Moment, Moment)]) -> AgeCurve {
        let mut joined = AgeCurve::new(self.start);
        for &(from, until) in times {
            let first = self.segments.partition_point(|segment| segment.end() <= from);
            let parts = self.segments.iter().skip(first).map_while(|segment| segment.clip(from, until));
            parts.for_each(|part| joined.push(part.length, part.age, part.slope));
        }
        joined
    }

    /// The integral over time divided by the length; `None` for a curve of no length.
    pub fn mean(&self) -> Option<Duration> {
        let twice: u128 = self.segments.iter().map(AgeSegment::twice_integral).sum();
        let mean = twice.checked_div(2 * u128::from(nanos(self.length())))?;
        Some(Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX)))
    }

    /// The 95 % interval of the mean, in seconds, by the means of `parts` equally long parts of the curve.
    pub fn mean_interval(&self, parts: u32) -> Option<Interval> {
        let part = self.length() / parts.max(1);
        let means: Vec<f64> = (0..parts)
            .filter_map(|n| {
                let from = self.start.after(part * n);
                self.clip(from, from.after(part)).mean().map(|mean| mean.as_secs_f64())
            })
            .collect();
        mean_interval_of_batch_means(&means)
    }

    /// The part of the curve inside `[from, to)`.
    #[must_use]
    pub fn clip(&self, from: Moment, to: Moment) -> AgeCurve {
        let (start, end) = (self.start.max(from), self.end.min(to));
        let first = self.segments.partition_point(|segment| segment.end() <= start);
        let rest = self.segments.get(first..).unwrap_or_default();
        let segments = rest.iter().map_while(|segment| segment.clip(start, end)).collect();
        AgeCurve { start, end: end.max(start), segments }
    }

    /// The age every `step` from the start on, for plotting; the last point is just before the end.
    /// Peaks between two points are not in it; [`AgeCurve::peaks`] has them. At most a million points.
    pub fn sampled(&self, step: Duration) -> Vec<(Moment, Duration)> {
        self.steps(step).filter_map(|moment| Some((moment, self.at(moment)?))).collect()
    }

    /// The largest age inside each `step`, by the instant at which the step begins. At most a million points.
    pub fn peaks(&self, step: Duration) -> Vec<(Moment, Duration)> {
        let peak = |from: Moment| Some((from, self.clip(from, from.after(step)).max()?));
        self.steps(step).filter_map(peak).collect()
    }

    fn steps(&self, step: Duration) -> impl Iterator<Item = Moment> + use<> {
        const POINTS_MAX: u128 = 1_000_000;
        let (start, length, step) = (self.start, self.length().as_nanos(), step.as_nanos().max(1));
        let points = length.div_ceil(step).min(POINTS_MAX);
        (0..points).map(move |n| start.after(Duration::from_nanos((n * step) as u64)))
    }

    /// The largest age (the least upper bound, which a growing segment reaches at its open end).
    pub fn max(&self) -> Option<Duration> {
        let top = |segment: &AgeSegment| match segment.slope {
            Slope::Level => segment.age,
            Slope::Growing => segment.age + segment.length,
        };
        self.segments.iter().map(top).max()
    }

    /// How the ages are distributed over time.
    pub fn distribution(&self) -> AgeDistribution {
        // By age: the time spent at exactly this age, and how many growing segments begin less end here.
        let mut events: BTreeMap<u64, (u64, i64)> = BTreeMap::new();
        for segment in &self.segments {
            let (age, length) = (nanos(segment.age), nanos(segment.length));
            match segment.slope {
                Slope::Level => events.entry(age).or_default().0 += length,
                Slope::Growing => {
                    events.entry(age).or_default().1 += 1;
                    events.entry(age.saturating_add(length)).or_default().1 -= 1;
                }
            }
        }
        AgeDistribution::of_events(&events)
    }
}

/// The share of time spent at each age. Exact: between two steps the time grows linearly with the age.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgeDistribution {
    steps: Vec<Step>,
    length_ns: u64,
}

impl AgeDistribution {
    /// By age: the time spent at exactly this age, and how many growing segments begin less end here.
    pub(super) fn of_events(events: &BTreeMap<u64, (u64, i64)>) -> AgeDistribution {
        let mut steps = Vec::with_capacity(events.len());
        let (mut within_ns, mut density, mut last_ns) = (0_u64, 0_i64, 0_u64);
        for (&age_ns, &(level_ns, begun)) in events {
            let below_ns = within_ns + density.unsigned_abs() * (age_ns - last_ns);
            within_ns = below_ns + level_ns;
            density += begun;
            steps.push(Step { age_ns, below_ns, within_ns, density: density.unsigned_abs() });
            last_ns = age_ns;
        }
        AgeDistribution { steps, length_ns: within_ns }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    age_ns: u64,
    /// Time spent below this age.
    below_ns: u64,
    /// Time spent at or below this age.
    within_ns: u64,
    /// How many growing segments pass through the ages just above.
    density: u64,
}

impl AgeDistribution {
    /// The smallest age that the sink was at or below for at least the share `q` of the time; `None` for a
    /// curve of no length.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let wanted_ns = ((q.clamp(0.0, 1.0) * self.length_ns as f64).ceil() as u64).clamp(1, self.length_ns.max(1));
        let index = self.steps.partition_point(|step| step.within_ns < wanted_ns);
        let step = self.steps.get(index)?;
        let before = index.checked_sub(1).and_then(|before| self.steps.get(before));
        let age_ns = match before {
            Some(before) if step.below_ns >= wanted_ns && before.density > 0 => {
                before.age_ns + (wanted_ns - before.within_ns).div_ceil(before.density)
            }
            _ => step.age_ns,
        };
        Some(Duration::from_nanos(age_ns))
    }

    /// The share of time with an age of at most `theta`; `None` for a curve of no length.
    pub fn share_within(&self, theta: Duration) -> Option<f64> {
        if self.length_ns == 0 {
            return None;
        }
        let theta_ns = nanos(theta);
        let after = self.steps.partition_point(|step| step.age_ns <= theta_ns);
        let within_ns = after.checked_sub(1).and_then(|at| self.steps.get(at)).map_or(0, |step| {
            // Behind the last step the density is zero, so a far theta adds nothing.
            step.within_ns + step.density.saturating_mul(theta_ns - step.age_ns)
        });
        Some(within_ns as f64 / self.length_ns as f64)
    }
}

#[cfg(test)]
mod tests;
