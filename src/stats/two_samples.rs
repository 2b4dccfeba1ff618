//! Two samples that are not paired: the difference of their means by the studentised bootstrap.

use super::{Interval, SplitMix64, nearest_rank};

/// What a comparison of two samples says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TwoSamples {
    /// Mean of the second less mean of the first.
    pub estimate: f64,
    /// The interval of that difference.
    pub interval: Interval,
    /// The two-sided p of "there is no difference".
    pub p: f64,
}

/// A resample's standard error counts as at least this share of the samples' own. Where most values are equal, as of a figure that is
/// counted in whole units, some resamples hold hardly two different ones, and their tiny errors would make the interval endless.
const ERROR_SHARE_MIN: f64 = 0.25;

fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
}

impl TwoSamples {
    /// Compares `b` with `a` by the bootstrap-t (Efron & Tibshirani 1993, chapter 12): each sample is drawn anew with
    /// replacement, and the differences are measured in standard errors of their own, so that small samples keep their
    /// confidence, which the plain percentile bootstrap of ten values does not. `None` for fewer than two values in a sample,
    /// or no resample.
    pub fn of(a: &[f64], b: &[f64], confidence: f64, (resamples, seed): (usize, u64)) -> Option<TwoSamples> {
        if a.len() < 2 || b.len() < 2 || resamples == 0 || !a.iter().chain(b).all(|v| v.is_finite()) {
            return None;
        }
        let ((mean_a, square_a), (mean_b, square_b)) = (mean_and_error(a), mean_and_error(b));
        let (estimate, error) = (mean_b - mean_a, (square_a + square_b).sqrt());
        if error == 0.0 {
            let p = if estimate == 0.0 { 1.0 } else { 0.0 };
            return Some(TwoSamples { estimate, interval: Interval { low: estimate, high: estimate }, p });
        }
        let mut random = SplitMix64::new(seed);
        let mut draw = |from: &[f64]| -> Vec<f64> {
            let one = |_| from.get(random.below(from.len() as u64) as usize).copied().unwrap_or_default();
            (0..from.len()).map(one).collect()
        };
        let mut distances: Vec<f64> = (0..resamples)
            .map(|_| {
                let ((again_a, square_a), (again_b, square_b)) = (mean_and_error(&draw(a)), mean_and_error(&draw(b)));
                let own = (square_a + square_b).sqrt().max(error * ERROR_SHARE_MIN);
                (again_b - again_a - estimate) / own
            })
            .collect();
        let beyond = distances.iter().filter(|t| t.abs() >= (estimate / error).abs()).count();
        distances.sort_unstable_by(f64::total_cmp);
        let at = |q| distances.get(nearest_rank(q, distances.len()).saturating_sub(1)).copied();
        let tail = (1.0 - confidence) / 2.0;
        let interval = Interval { low: estimate - at(1.0 - tail)? * error, high: estimate - at(tail)? * error };
        Some(TwoSamples { estimate, interval, p: (beyond + 1) as f64 / (resamples + 1) as f64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_by_hand() {
        // Means 2 and 5; both variances 1, so the error is sqrt(1/3 + 1/3).
        let seen = TwoSamples::of(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0], 0.95, (2000, 1)).unwrap();
        assert!((seen.estimate - 3.0).abs() < 1e-12);
        let same = TwoSamples::of(&[2.0; 10], &[2.0; 10], 0.95, (2000, 1)).unwrap();
        assert_eq!((same.estimate, same.p, same.interval), (0.0, 1.0, Interval { low: 0.0, high: 0.0 }));
        assert_eq!(TwoSamples::of(&[1.0], &[1.0, 2.0], 0.95, (10, 1)), None);
    }

    #[test]
    fn many_values_give_the_normal_interval() {
        // 400 values even in 0..1 against the same moved by 0.1: the error is sqrt(2 / 12 / 400) = 0.02041, so that the
        // 99 % interval is 0.1 -+ 2.576 * 0.02041 = 0.1 -+ 0.0526.
        let a: Vec<f64> = (0..400).map(|n| (f64::from(n) + 0.5) / 400.0).collect();
        let b: Vec<f64> = a.iter().map(|v| v + 0.1).collect();
        let seen = TwoSamples::of(&a, &b, 0.99, (4000, 42)).unwrap();
        assert!((seen.interval.low - 0.0474).abs() < 0.006 && (seen.interval.high - 0.1526).abs() < 0.006, "{seen:?}");
        assert!(seen.p < 0.001, "{seen:?}");
    }

    #[test]
    fn a_figure_that_hardly_varies_has_an_end_to_its_interval() {
        // Nine equal values and one that differs: standard error 0.1 each, so the difference of 5 stands 35 errors off zero.
        let mut a = [10.0; 10];
        a[3] = 11.0;
        let b = a.map(|v| v + 5.0);
        let seen = TwoSamples::of(&a, &b, 0.99, (4000, 3)).unwrap();
        assert!((seen.estimate - 5.0).abs() < 1e-12, "{seen:?}");
        assert!(seen.interval.low > 3.5 && seen.interval.high < 6.5 && seen.p < 0.001, "{seen:?}");
    }

    #[test]
    fn whole_units_keep_their_confidence() {
        // Heads of six coins, in samples of ten: misses of the 99 % interval, as below.
        let seed = 11;
        let mut random = SplitMix64::new(seed);
        let mut missed = 0;
        for n in 0..1000 {
            let mut sample = || -> Vec<f64> {
                (0..10).map(|_| (0..6).map(|_| f64::from(u8::from(random.unit() < 0.5))).sum::<f64>()).collect()
            };
            let (a, b) = (sample(), sample());
            missed += usize::from(!TwoSamples::of(&a, &b, 0.99, (999, n)).unwrap().interval.contains(0.0));
        }
        assert!(missed <= 20, "seed {seed}: {missed} of 1000");
    }

    #[test]
    fn ten_values_keep_their_confidence() {
        // 1,000 pairs of samples of ten lognormal-like values: the 99 % interval must miss zero in about 1 %; three
        // standard errors of that share are 0.0094.
        let seed = 7;
        let mut random = SplitMix64::new(seed);
        let noise = |random: &mut SplitMix64| (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
        let mut missed = 0;
        for n in 0..1000 {
            let a: Vec<f64> = (0..10).map(|_| 0.05 * noise(&mut random)).collect();
            let b: Vec<f64> = (0..10).map(|_| 0.05 * noise(&mut random)).collect();
            missed += usize::from(!TwoSamples::of(&a, &b, 0.99, (999, n)).unwrap().interval.contains(0.0));
        }
        assert!(missed <= 20, "seed {seed}: {missed} of 1000");
    }
}
