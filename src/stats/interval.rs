//! Confidence intervals.

use super::random::SplitMix64;
use super::{nearest_rank, trend::Summary};

/// A confidence interval: of 95 % unless something else is said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` lies in it, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// The ranks, from 1, of the two order statistics that enclose a quantile, and how surely they do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankInterval {
    /// The rank of the lower end.
    pub low: usize,
    /// The rank of the upper end.
    pub high: usize,
    /// The probability that they enclose the quantile: at least the confidence asked for.
    pub coverage: f64,
}

/// The order statistics that enclose quantile `q` of a continuous distribution with at least this `confidence`,
/// by the binomial distribution of the number of values below it (Conover, *Practical Nonparametric Statistics*,
/// "confidence interval for a quantile"). `low` is the largest rank with `P(B < low) <= (1 - confidence) / 2`,
/// `high` the smallest with `P(B >= high)` as small, `B ~ Binomial(count, q)`.
///
/// `None` when the sample is too small for such an interval, or `q` is not inside `(0, 1)`.
pub fn quantile_ranks(q: f64, count: usize, confidence: f64) -> Option<RankInterval> {
    if count == 0 || !(q > 0.0 && q < 1.0) {
        return None;
    }
    let tail = (1.0 - confidence) / 2.0;
    let deviation = (count as f64 * q * (1.0 - q)).sqrt();
    // Beyond ten deviations and twenty counts more a binomial tail is below 1e-9: no need to sum it.
    let reach = (10.0 * deviation) as usize + 20;
    let middle = (count as f64 * q) as usize;
    let (first, last) = (middle.saturating_sub(reach), (middle + reach).min(count));
    let (mut below, mut low, mut below_low) = (0.0, 0, 0.0);
    for k in first..=last {
        // `below` is P(B < k) here.
        if below <= tail {
            (low, below_low) = (k, below);
        }
        below += binomial(count, q, k);
        if 1.0 - below <= tail {
            let high = k + 1;
            let found = low >= 1 && high <= count;
            return found.then_some(RankInterval { low, high, coverage: below - below_low });
        }
    }
    None
}

/// `P(B = k)`, `B ~ Binomial(n, q)`, through logarithms.
fn binomial(n: usize, q: f64, k: usize) -> f64 {
    let choose = ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    (choose + k as f64 * q.ln() + (n - k) as f64 * (-q).ln_1p()).exp()
}

/// `ln n!`: summed up to 32, by Stirling's series above, where its error is below 1e-12.
fn ln_factorial(n: usize) -> f64 {
    if n <= 32 {
        return (2..=n).map(|i| (i as f64).ln()).sum();
    }
    let x = n as f64;
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5));
    x * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI * x).ln() + series
}

/// The 95 % interval of a mean by the percentile bootstrap with `resamples` resamples from this seed.
/// `None` for fewer than two values or no resample. Supposes independent values.
pub fn mean_interval_bootstrap(values: &[f64], resamples: usize, seed: u64) -> Option<Interval> {
    if values.len() < 2 || resamples == 0 {
        return None;
    }
    let mut random = SplitMix64::new(seed);
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| {
            let draw = |_| values.get(random.below(values.len() as u64) as usize).copied().unwrap_or_default();
            (0..values.len()).map(draw).sum::<f64>() / values.len() as f64
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    let at = |q| means.get(nearest_rank(q, means.len()).saturating_sub(1)).copied();
    Some(Interval { low: at(0.025)?, high: at(0.975)? })
}

/// The 95 % interval of a mean by the means of consecutive batches and Student's t: right also for values that
/// depend on their neighbours, as long as a batch is much longer than the dependence reaches.
///
/// `values` are in order of time; they are cut into `batches` runs of equal length, and what is left over goes to
/// the last. `None` for fewer than two batches or fewer values than batches.
pub fn mean_interval_batches(values: &[f64], batches: usize) -> Option<Interval> {
    if batches < 2 || values.len() < batches {
        return None;
    }
    let length = values.len() / batches;
    let means: Vec<f64> = (0..batches)
        .filter_map(|batch| {
            let end = if batch + 1 == batches { values.len() } else { (batch + 1) * length };
            values.get(batch * length..end).map(|part| part.iter().sum::<f64>() / part.len() as f64)
        })
        .collect();
    mean_interval_of_batch_means(&means)
}

/// The 95 % interval of a mean from the means of equally long batches; `None` for fewer than two.
pub fn mean_interval_of_batch_means(means: &[f64]) -> Option<Interval> {
    let summary = Summary::of(means)?;
    let error = summary.standard_deviation? / (means.len() as f64).sqrt();
    let reach = student_t_975(means.len() - 1) * error;
    Some(Interval { low: summary.mean - reach, high: summary.mean + reach })
}

/// The 97.5 % quantile of Student's t: a table to 30 degrees of freedom, above it the Cornish-Fisher expansion
/// (Abramowitz and Stegun 26.7.5), whose error is there below 0.0002.
pub(super) fn student_t_975(degrees: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
        2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    ];
    let index = degrees.max(1) - 1;
    TABLE.get(index).copied().unwrap_or_else(|| {
        let (z, n) = (1.959_963_985_f64, degrees as f64);
        let first = (z.powi(3) + z) / 4.0;
        let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
        z + first / n + second / (n * n)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_of_the_median_as_the_tables_have_them() {
        // 1 - 2/32 = 0.9375 < 0.95: five values are too few.
        assert_eq!(quantile_ranks(0.5, 5, 0.95), None);
        // 1 - 2/64 = 0.96875.
        let six = quantile_ranks(0.5, 6, 0.95).unwrap();
        assert_eq!((six.low, six.high), (1, 6));
        assert!((six.coverage - 0.96875).abs() < 1e-12, "{six:?}");
        let ten = quantile_ranks(0.5, 10, 0.95).unwrap();
        assert_eq!((ten.low, ten.high), (2, 9));
        assert!((ten.coverage - (1.0 - 22.0 / 1024.0)).abs() < 1e-12, "{ten:?}");
        let hundred = quantile_ranks(0.5, 100, 0.95).unwrap();
        assert_eq!((hundred.low, hundred.high), (40, 61));
        assert!((hundred.coverage - 0.9648).abs() < 1e-4, "{hundred:?}");
    }

    #[test]
    fn a_high_quantile_needs_a_large_sample() {
        // The upper end needs 0.99^n <= 0.025, n >= 367.04.
        assert_eq!(quantile_ranks(0.99, 367, 0.95), None);
        assert_eq!(quantile_ranks(0.99, 368, 0.95).map(|r| r.high), Some(368));
        assert_eq!(quantile_ranks(1.0, 1000, 0.95), None);
        // For many values: n q -+ 1.96 sqrt(n q (1 - q)) = 990000 -+ 195.
        let million = quantile_ranks(0.99, 1_000_000, 0.95).unwrap();
        assert!(million.low.abs_diff(989_805) <= 2 && million.high.abs_diff(990_196) <= 2, "{million:?}");
    }

    #[test]
    fn batch_means_by_hand() {
        // Batch means 2, 4, 6: mean 4, deviation 2, t(2) = 4.303, so 4 -+ 4.303 * 2 / sqrt 3.
        let interval = mean_interval_batches(&[1.0, 3.0, 4.0, 4.0, 5.0, 7.0], 3).unwrap();
        let reach = 4.303 * 2.0 / 3.0_f64.sqrt();
        assert!((interval.low - (4.0 - reach)).abs() < 1e-9 && (interval.high - (4.0 + reach)).abs() < 1e-9);
        assert_eq!(mean_interval_batches(&[1.0], 2), None);
        assert_eq!(mean_interval_batches(&[1.0, 2.0], 1), None);
    }

    #[test]
    fn students_t_goes_on_where_the_table_ends() {
        assert!((student_t_975(40) - 2.0211).abs() < 2e-4, "{}", student_t_975(40));
        assert!((student_t_975(120) - 1.9799).abs() < 1e-4);
    }

    #[test]
    fn the_bootstrap_finds_the_normal_interval() {
        // Even in 0..1: mean 1/2, deviation 1/sqrt 12; the interval of 400 values is 0.5 -+ 1.96 * 0.01443.
        let values: Vec<f64> = (0..400).map(|n| (f64::from(n) + 0.5) / 400.0).collect();
        let interval = mean_interval_bootstrap(&values, 2000, 42).unwrap();
        assert!((interval.low - 0.4717).abs() < 0.003 && (interval.high - 0.5283).abs() < 0.003, "{interval:?}");
        assert_eq!(mean_interval_bootstrap(&values, 2000, 42), Some(interval));
        assert_eq!(mean_interval_bootstrap(&[1.0], 100, 1), None);
    }
}
