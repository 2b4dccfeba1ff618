//! Exact quantiles of durations of which some are right-censored.

use super::interval::quantile_ranks;
use super::{nanos, nearest_rank};
use std::time::Duration;

/// A sample of durations. Of a right-censored one only is known that it is at least its recorded length.
///
/// Quantiles are by nearest rank: the `ceil(q * n)`-th smallest of `n`. Censored values keep their places by
/// their recorded lengths, which bounds every quantile from below; for the bound from above they are put behind
/// all the others. None is ever left out.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Every value in ns, ascending.
    all: Vec<u64>,
    /// The values that are not censored, ascending.
    exact: Vec<u64>,
}

/// A quantile of a sample that may hold censored values: it lies between the two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantile {
    /// The quantile with censored values at their recorded lengths: it is at least this.
    pub value: Duration,
    /// The quantile with censored values at infinity: it is at most this. `None`: no upper bound is known.
    pub at_most: Option<Duration>,
}

impl Quantile {
    /// Whether the rank falls among the censored, so that `value` is only a lower bound.
    pub fn is_lower_bound(&self) -> bool {
        self.at_most.is_none()
    }

    /// Whether no censored value has an influence.
    pub fn is_exact(&self) -> bool {
        self.at_most == Some(self.value)
    }
}

/// A 95 % confidence interval of a quantile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuantileInterval {
    /// The lower end.
    pub low: Duration,
    /// The upper end; `None` when it falls among the censored.
    pub high: Option<Duration>,
}

/// What gives quantiles of lengths of time, some of which may be censored.
pub trait Quantiles {
    /// How many values, the censored ones among them.
    fn count(&self) -> u64;

    /// The quantile `q` in `0..=1`; `None` when there is no value.
    fn quantile(&self, q: f64) -> Option<Quantile>;

    /// The 95 % interval of the quantile `q`, where one can be given.
    fn quantile_interval(&self, q: f64) -> Option<QuantileInterval>;
}

impl Quantiles for Samples {
    fn count(&self) -> u64 {
        self.len() as u64
    }

    fn quantile(&self, q: f64) -> Option<Quantile> {
        Samples::quantile(self, q)
    }

    fn quantile_interval(&self, q: f64) -> Option<QuantileInterval> {
        Samples::quantile_interval(self, q)
    }
}

impl Samples {
    /// The sample of these `(length, censored)` pairs, in any order.
    pub fn new(values: impl IntoIterator<Item = (Duration, bool)>) -> Samples {
        let mut samples = Samples::default();
        for (length, censored) in values {
            samples.all.push(nanos(length));
            if !censored {
                samples.exact.push(nanos(length));
            }
        }
        samples.all.sort_unstable();
        samples.exact.sort_unstable();
        samples
    }

    /// How many values, the censored ones among them.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many values are censored.
    pub fn censored(&self) -> usize {
        self.all.len() - self.exact.len()
    }

    /// The quantile `q` in `0..=1`; `None` when the sample is empty.
    pub fn quantile(&self, q: f64) -> Option<Quantile> {
        let rank = nearest_rank(q, self.len());
        let value = ranked(&self.all, rank)?;
        Some(Quantile { value, at_most: ranked(&self.exact, rank) })
    }

    /// The largest value: a lower bound if anything is censored.
    pub fn max(&self) -> Option<Quantile> {
        self.quantile(1.0)
    }

    /// The mean with censored values at their recorded lengths: a lower bound if anything is censored.
    pub fn mean(&self) -> Option<Duration> {
        let sum: u128 = self.all.iter().map(|&ns| u128::from(ns)).sum();
        let mean = sum.checked_div(self.all.len() as u128)?;
        Some(Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX)))
    }

    /// The 95 % interval of quantile `q` by order statistics (see [`quantile_ranks`]); `None` when the sample is
    /// too small for one. It supposes independent values; lags of neighbouring commits are not quite that.
    pub fn quantile_interval(&self, q: f64) -> Option<QuantileInterval> {
        let ranks = quantile_ranks(q, self.len(), 0.95)?;
        Some(QuantileInterval { low: ranked(&self.all, ranks.low)?, high: ranked(&self.exact, ranks.high) })
    }

    /// Every value in seconds, ascending.
    pub fn seconds(&self) -> impl Iterator<Item = f64> + '_ {
        self.all.iter().map(|&ns| ns as f64 / 1e9)
    }
}

fn ranked(ascending: &[u64], rank: usize) -> Option<Duration> {
    ascending.get(rank.checked_sub(1)?).map(|&ns| Duration::from_nanos(ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn quantiles_of_ten_values_by_hand() {
        let samples = Samples::new([7, 3, 10, 1, 9, 2, 8, 4, 6, 5].map(|n| (ms(n), false)));
        for (q, wanted) in [(0.0, 1), (0.1, 1), (0.11, 2), (0.5, 5), (0.9, 9), (0.99, 10), (1.0, 10)] {
            let seen = samples.quantile(q).unwrap();
            assert_eq!((seen.value, seen.is_exact()), (ms(wanted), true), "q {q}");
        }
        assert_eq!(samples.mean(), Some(Duration::from_micros(5500)));
        // P(2 <= Bin(10, 1/2) <= 8) = 1 - 22/1024 = 0.979: the classic ranks 2 and 9.
        assert_eq!(samples.quantile_interval(0.5), Some(QuantileInterval { low: ms(2), high: Some(ms(9)) }));
        assert_eq!(samples.quantile_interval(0.99), None);
    }

    #[test]
    fn a_quantile_among_the_censored_is_a_lower_bound() {
        let samples = Samples::new((1..=10).map(|n| (ms(n), n > 8)));
        assert_eq!(samples.censored(), 2);
        assert!(samples.quantile(0.8).unwrap().is_exact());
        let p90 = samples.quantile(0.9).unwrap();
        assert_eq!((p90.value, p90.is_lower_bound()), (ms(9), true));
        assert!(samples.max().unwrap().is_lower_bound());
    }

    #[test]
    fn a_young_censored_value_only_widens_the_quantiles_above_it() {
        // Censored at 2 ms, it may be anything from there on: the median lies between 3 and 4.
        let samples = Samples::new([(ms(1), false), (ms(2), true), (ms(3), false), (ms(4), false), (ms(5), false)]);
        assert!(samples.quantile(0.2).unwrap().is_exact());
        assert_eq!(samples.quantile(0.5), Some(Quantile { value: ms(3), at_most: Some(ms(4)) }));
        assert!(samples.quantile(0.9).unwrap().is_lower_bound());
    }

    #[test]
    fn an_empty_sample_has_no_quantile() {
        assert_eq!(Samples::default().quantile(0.5), None);
        assert_eq!(Samples::default().mean(), None);
        assert_eq!(Samples::default().quantile_interval(0.5), None);
    }
}
