//! Quantiles in bounded memory: of values some of which are right-censored, and of an age over time.
//!
//! Values fall into buckets that are a thousandth of themselves wide at most, so memory is bounded by the range of the values
//! and not by their number, and a quantile is right to that. Counts, sums and extremes are exact.

use super::age_curve::{AgeDistribution, AgeSegment, Slope};
use super::interval::quantile_ranks;
use super::samples::{Quantile, QuantileInterval, Quantiles};
use super::{nanos, nearest_rank};
use std::collections::BTreeMap;
use std::time::Duration;

/// Bits of a value that its bucket keeps: below 2,048 each value has its own.
const BITS: u32 = 11;

/// The bucket that holds `value`: its first value, and the first one after it.
fn bucket(value: u64) -> (u64, u64) {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(BITS);
    let first = (value >> shift) << shift;
    (first, first.saturating_add(1 << shift))
}

/// A sample of lengths of time (or other whole numbers), as [`super::Samples`], in bounded memory.
#[derive(Clone, Debug, Default)]
pub struct Sketch {
    /// By the first value of a bucket: how many, and how many of them are not censored.
    counts: BTreeMap<u64, (u64, u64)>,
    count: u64,
    exact: u64,
    max: u64,
    max_exact: u64,
}

impl Sketch {
    /// Adds a length; of a censored one only is known that it is at least so long.
    pub fn add(&mut self, length: Duration, censored: bool) {
        self.add_number(nanos(length), censored);
    }

    /// Adds a number.
    pub fn add_number(&mut self, number: u64, censored: bool) {
        let entry = self.counts.entry(bucket(number).0).or_default();
        entry.0 += 1;
        self.count += 1;
        self.max = self.max.max(number);
        if !censored {
            entry.1 += 1;
            self.exact += 1;
            self.max_exact = self.max_exact.max(number);
        }
    }

    /// How many values, the censored ones among them.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The quantile `q` in `0..=1`, to 0.1 %; `None` when the sample is empty.
    pub fn quantile(&self, q: f64) -> Option<Quantile> {
        let rank = nearest_rank(q, self.count as usize) as u64;
        let value = self.ranked(rank)?;
        Some(Quantile { value, at_most: self.ranked_exact(rank) })
    }

    /// The number at quantile `q`, to 0.1 %.
    pub fn number(&self, q: f64) -> Option<u64> {
        self.quantile(q).map(|quantile| nanos(quantile.value))
    }

    /// The 95 % interval of quantile `q`, as [`super::Samples::quantile_interval`].
    pub fn quantile_interval(&self, q: f64) -> Option<QuantileInterval> {
        let ranks = quantile_ranks(q, self.count as usize, 0.95)?;
        Some(QuantileInterval { low: self.ranked(ranks.low as u64)?, high: self.ranked_exact(ranks.high as u64) })
    }

    fn ranked(&self, rank: u64) -> Option<Duration> {
        find(&self.counts, rank, (self.count, self.max), |counts| counts.0)
    }

    fn ranked_exact(&self, rank: u64) -> Option<Duration> {
        find(&self.counts, rank, (self.exact, self.max_exact), |counts| counts.1)
    }
}

impl Quantiles for Sketch {
    fn count(&self) -> u64 {
        self.len()
    }

    fn quantile(&self, q: f64) -> Option<Quantile> {
        Sketch::quantile(self, q)
    }

    fn quantile_interval(&self, q: f64) -> Option<QuantileInterval> {
        Sketch::quantile_interval(self, q)
    }
}

fn find(
    counts: &BTreeMap<u64, (u64, u64)>,
    rank: u64,
    (count, max): (u64, u64),
    pick: fn(&(u64, u64)) -> u64,
) -> Option<Duration> {
    if rank == 0 || rank > count {
        return None;
    }
    if rank == count {
        return Some(Duration::from_nanos(max));
    }
    let mut below = 0;
    for (&first, counts) in counts {
        below += pick(counts);
        if below >= rank {
            return Some(Duration::from_nanos(first));
        }
    }
    None
}

/// How an age is distributed over time, as [`AgeDistribution`], in bounded memory. The integral, the largest age and the time within
/// given ages are exact.
#[derive(Clone, Debug)]
pub struct AgeSketch {
    /// By age: the time spent at it, and how many growing segments begin less end there.
    events: BTreeMap<u64, (u64, i64)>,
    twice_integral: u128,
    length_ns: u64,
    max_ns: u64,
    /// Ages, each with the time spent within it.
    within_ns: Vec<(Duration, u64)>,
}

impl AgeSketch {
    /// Nothing yet; the time within each of `thetas` is kept exactly.
    pub fn new(thetas: &[Duration]) -> AgeSketch {
        let within_ns = thetas.iter().map(|&theta| (theta, 0)).collect();
        AgeSketch { events: BTreeMap::new(), twice_integral: 0, length_ns: 0, max_ns: 0, within_ns }
    }

    /// Adds a piece of the curve.
    pub fn add(&mut self, segment: &AgeSegment) {
        let (from, length) = (nanos(segment.age), nanos(segment.length));
        let to = if segment.slope == Slope::Growing { from.saturating_add(length) } else { from };
        self.twice_integral += segment.twice_integral();
        self.length_ns += length;
        self.max_ns = self.max_ns.max(to);
        for (theta, within_ns) in &mut self.within_ns {
            let theta = nanos(*theta);
            *within_ns += match segment.slope {
                Slope::Level if from <= theta => length,
                Slope::Level => 0,
                Slope::Growing => theta.clamp(from, to) - from,
            };
        }
        match segment.slope {
            Slope::Level => self.level(from, length),
            Slope::Growing => self.grow(from, to),
        }
    }

    fn level(&mut self, age: u64, length: u64) {
        self.events.entry(bucket(age).0).or_default().0 += length;
    }

    /// The time in the buckets at both ends, of which only a part is passed through, is spent at their first ages, so that none is lost.
    fn grow(&mut self, from: u64, to: u64) {
        let ((first, after), (last, _)) = (bucket(from), bucket(to));
        if first == last {
            return self.level(from, to - from);
        }
        let begin = if from == first { from } else { after };
        if begin > from {
            self.level(from, begin - from);
        }
        if to > last {
            self.level(last, to - last);
        }
        if begin < last {
            self.events.entry(begin).or_default().1 += 1;
            self.events.entry(last).or_default().1 -= 1;
        }
    }

    /// The integral divided by the length; `None` without a length.
    pub fn mean(&self) -> Option<Duration> {
        let mean = self.twice_integral.checked_div(2 * u128::from(self.length_ns))?;
        Some(Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX)))
    }

    /// The largest age.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// Time-weighted quantiles, to 0.1 %.
    pub fn distribution(&self) -> AgeDistribution {
        AgeDistribution::of_events(&self.events)
    }

    /// The share of time with an age of at most each of the given ones; zero without a length.
    pub fn within(&self) -> Vec<(Duration, f64)> {
        let length = self.length_ns.max(1) as f64;
        self.within_ns.iter().map(|&(theta, within)| (theta, within as f64 / length)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Moment;
    use crate::stats::{AgeCurve, Samples, SplitMix64};

    fn near(seen: Duration, wanted: Duration) -> bool {
        nanos(seen).abs_diff(nanos(wanted)) as f64 <= nanos(wanted) as f64 / 500.0 + 1.0
    }

    #[test]
    fn a_bucket_is_a_thousandth_wide_at_most() {
        assert_eq!(bucket(0), (0, 1));
        assert_eq!(bucket(2047), (2047, 2048));
        assert_eq!(bucket(2049), (2048, 2050));
        for shift in 0..64 {
            let value = 1u64 << shift;
            let (first, after) = bucket(value);
            assert!(first <= value && (after - first) as f64 <= (value as f64 / 1000.0).max(1.0), "{value}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_samples_to_a_thousandth() {
        let mut random = SplitMix64::new(7);
        let values: Vec<(Duration, bool)> =
            (0..20_000).map(|n| (Duration::from_nanos((random.unit() * 22.0).exp() as u64), n % 97 == 0)).collect();
        let mut sketch = Sketch::default();
        values.iter().for_each(|&(length, censored)| sketch.add(length, censored));
        let samples = Samples::new(values);
        assert_eq!(sketch.len(), samples.len() as u64);
        for q in [0.0, 0.1, 0.5, 0.9, 0.98, 0.99, 0.999, 1.0] {
            let (seen, wanted) = (sketch.quantile(q).unwrap(), samples.quantile(q).unwrap());
            assert!(near(seen.value, wanted.value), "{q}: {seen:?} {wanted:?}");
            assert_eq!(seen.is_lower_bound(), wanted.is_lower_bound(), "{q}");
            let (seen, wanted) = (sketch.quantile_interval(q), samples.quantile_interval(q));
            assert_eq!(seen.is_some(), wanted.is_some(), "{q}");
            if let Some((seen, wanted)) = seen.zip(wanted) {
                assert!(near(seen.low, wanted.low) && seen.high.is_some() == wanted.high.is_some(), "{q}");
            }
        }
    }

    #[test]
    fn an_age_in_few_buckets_is_that_of_the_curve() {
        let mut random = SplitMix64::new(11);
        // Also ages that lie behind by far, and move by less than a bucket is wide.
        for far in [0u64, 100_000_000_000] {
            let mut curve = AgeCurve::new(Moment::ORIGIN);
            for _ in 0..5_000 {
                let length = Duration::from_nanos((random.unit() * 4e6) as u64);
                let age = Duration::from_nanos(far + (random.unit() * 3e7) as u64);
                curve.push(length, age, if random.unit() < 0.3 { Slope::Level } else { Slope::Growing });
            }
            let thetas = [Duration::from_millis(10), Duration::from_millis(20), Duration::from_secs(200)];
            let mut sketch = AgeSketch::new(&thetas);
            curve.segments().iter().for_each(|segment| sketch.add(segment));
            let (exact, seen) = (curve.distribution(), sketch.distribution());
            assert_eq!(sketch.mean(), curve.mean());
            assert_eq!(Some(sketch.max()), curve.max());
            for q in [0.1, 0.5, 0.9, 0.99] {
                assert!(near(seen.quantile(q).unwrap(), exact.quantile(q).unwrap()), "{far} {q}");
            }
            for (theta, share) in sketch.within() {
                assert!((share - exact.share_within(theta).unwrap()).abs() < 1e-9, "{theta:?}");
            }
            assert!(sketch.events.len() < 6_000, "{}", sketch.events.len());
        }
    }
}
