//! How a cost grows with a size that it does not depend on to first order.

use super::interval::student_t_975;
use super::{Interval, SplitMix64};

/// `ratio = (size / base)^exponent`: the power through points of which the base's own is 1.
///
/// Nothing gets cheaper with the size. So where the points do not show that it gets dearer (the interval reaches zero or below, or, of a
/// single point, the power itself), the ratio is 1: a power that is noise would be multiplied up by every extrapolation. What is
/// not known of it stays: the ratio's ends go from the one end of the interval to the other, and over 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth {
    /// The size at which the ratio is 1.
    pub base: f64,
    /// The power; 0 for no growth.
    pub exponent: f64,
    /// Its 95 % interval, from Student's t; `None` below two points.
    pub exponent_interval: Option<Interval>,
    error: Option<f64>,
    degrees: usize,
}

impl Growth {
    /// The power through `(size, ratio)` points: least squares of the logarithms, through `(base, 1)`. Points of the base itself say
    /// nothing. `shared_error` is the standard error, as a share, that all ratios have in common, since they are ratios to one thing.
    /// `None` without a usable point.
    pub fn fit(base: f64, points: &[(f64, f64)], shared_error: f64) -> Option<Growth> {
        let logs: Vec<(f64, f64)> = points
            .iter()
            .map(|(size, ratio)| ((size / base).ln(), ratio.ln()))
            .filter(|(x, y)| x.is_finite() && *x != 0.0 && y.is_finite())
            .collect();
        let squares: f64 = logs.iter().map(|(x, _)| x * x).sum();
        if logs.is_empty() {
            return None;
        }
        let exponent = logs.iter().map(|(x, y)| x * y).sum::<f64>() / squares;
        let degrees = logs.len() - 1;
        let left: f64 = logs.iter().map(|(x, y)| (y - exponent * x).powi(2)).sum();
        let shared = shared_error * logs.iter().map(|(x, _)| x).sum::<f64>().abs() / squares;
        let error = (degrees > 0).then(|| (left / degrees as f64 / squares).sqrt().hypot(shared));
        let exponent_interval = error.map(|error| {
            let reach = student_t_975(degrees) * error;
            Interval { low: exponent - reach, high: exponent + reach }
        });
        Some(Growth { base, exponent, exponent_interval, error, degrees })
    }

    /// Whether the points show a growth.
    pub fn is_shown(&self) -> bool {
        self.exponent_interval.map_or(self.exponent, |interval| interval.low) > 0.0
    }

    /// The exponent that the ratio has: the measured one where it shows a growth, else 0.
    pub fn exponent_taken(&self) -> f64 {
        if self.is_shown() { self.exponent } else { 0.0 }
    }

    /// The ratio at a size.
    pub fn at(&self, size: f64) -> f64 {
        (size / self.base).powf(self.exponent_taken())
    }

    /// Between which shares of [`Growth::at`] the ratio at a size lies in 95 % of cases. `None` where that is not known; at the base it is all.
    pub fn ends(&self, size: f64) -> Option<[f64; 2]> {
        if size == self.base {
            return Some([1.0, 1.0]);
        }
        let (taken, Interval { low, high }) = (self.exponent_taken(), self.exponent_interval?);
        let share = |exponent: f64| (size / self.base).powf(exponent - taken);
        let [a, b] = [share(low.min(taken)), share(high.max(taken))];
        Some([a.min(b), a.max(b)])
    }

    /// The ratio at a size for one draw of what the exponent may as well be.
    pub fn drawn(&self, size: f64, random: &mut SplitMix64) -> f64 {
        let Some(error) = self.error else { return self.at(size) };
        let t = random.student_scale(self.degrees) * random.normal();
        let drawn = self.exponent + error * t;
        (size / self.base).powf(if self.is_shown() { drawn } else { drawn.max(0.0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_by_hand() {
        // ln ratios 0.2 and 0.4 at ln 10, 0.9 at 2 ln 10: (0.2 + 0.4 + 2 * 0.9) / (1 + 1 + 4) / ln 10 = 0.4 / ln 10.
        let points = [(100.0, 0.2f64.exp()), (100.0, 0.4f64.exp()), (1000.0, 0.9f64.exp()), (10.0, 5.0)];
        let growth = Growth::fit(10.0, &points, 0.0).unwrap();
        assert!((growth.exponent - 0.4 / 10f64.ln()).abs() < 1e-12, "{growth:?}");
        // Left over: -0.2, 0, 0.1; squares 0.05 of 2 degrees, over 6 ln(10)^2; Student's t for 2 degrees is 4.3027.
        let error = (0.05f64 / 2.0 / 6.0).sqrt() / 10f64.ln();
        let interval = growth.exponent_interval.unwrap();
        assert!((interval.high - growth.exponent - 4.3027 * error).abs() < 1e-4, "{growth:?}");
        assert!((growth.at(1000.0) - 0.8f64.exp()).abs() < 1e-12 && (growth.at(10.0) - 1.0).abs() < 1e-12);
        assert!(growth.is_shown() && growth.ends(10.0) == Some([1.0, 1.0]));
        // Ten times the base, and a tenth: to the power of what the exponent may be off by.
        for size in [100.0, 1.0] {
            let [low, high] = growth.ends(size).unwrap();
            let reach = (4.3027 * error * 10f64.ln()).exp();
            assert!((high - reach).abs() < 1e-4 && (low - 1.0 / reach).abs() < 1e-4, "{size}");
        }
        // An error that all have in common comes through as it would for one point: 5 % of (1 + 1 + 2) / 6 / ln 10.
        let shared = Growth::fit(10.0, &points, 0.05).unwrap().exponent_interval.unwrap();
        let error = error.hypot(0.05 * 4.0 / 6.0 / 10f64.ln());
        assert!((shared.high - growth.exponent - 4.3027 * error).abs() < 1e-4, "{shared:?}");
    }

    #[test]
    fn few_points_have_no_interval_and_none_no_power() {
        let growth = Growth::fit(10.0, &[(20.0, 2.0)], 0.0).unwrap();
        assert!((growth.exponent - 1.0).abs() < 1e-12 && growth.exponent_interval.is_none());
        assert_eq!((growth.ends(1e9), growth.ends(10.0)), (None, Some([1.0, 1.0])));
        // One point that is dearer is all that is known; one that is cheaper shows no growth.
        assert!((growth.at(40.0) - 4.0).abs() < 1e-12);
        assert_eq!(Growth::fit(10.0, &[(20.0, 0.5)], 0.0).map(|growth| growth.at(40.0)), Some(1.0));
        assert_eq!(Growth::fit(10.0, &[(10.0, 2.0)], 0.0), None);
        assert_eq!(Growth::fit(10.0, &[], 0.0), None);
    }

    #[test]
    fn what_is_not_shown_is_not_taken_but_stays_possible() {
        // 0.9 and 1.2 at ten times the base: the mean of the logarithms is above zero, and its interval about it.
        let growth = Growth::fit(10.0, &[(100.0, 0.9), (100.0, 1.2)], 0.0).unwrap();
        let Interval { low, high } = growth.exponent_interval.unwrap();
        assert!(low < 0.0 && growth.exponent > 0.0 && !growth.is_shown());
        assert_eq!((growth.exponent_taken(), growth.at(1e6)), (0.0, 1.0));
        let [least, most] = growth.ends(1000.0).unwrap();
        assert!((least - 100f64.powf(low)).abs() < 1e-9 && (most - 100f64.powf(high)).abs() < 1e-6);
        // All of the interval below zero: from there to 1.
        let growth = Growth::fit(10.0, &[(100.0, 0.80), (100.0, 0.81)], 0.0).unwrap();
        assert!(growth.exponent_interval.unwrap().high < 0.0);
        assert_eq!(growth.ends(1000.0).unwrap()[1], 1.0);
        let mut random = SplitMix64::new(5);
        assert!((0..1000).all(|_| growth.drawn(1000.0, &mut random) >= 1.0));
    }

    /// With growths from none to one that is nearly always shown.
    #[test]
    fn the_ends_hold_as_often_as_they_say() {
        let mut random = SplitMix64::new(11);
        for truth in [0.0, 0.03, 0.06, 0.2] {
            let mut held = 0;
            for _ in 0..2_000 {
                let points: Vec<(f64, f64)> =
                    (0..6).map(|_| (100.0, 10f64.powf(truth) * (0.1 * random.normal()).exp())).collect();
                let growth = Growth::fit(10.0, &points, 0.0).unwrap();
                let ratio = 100f64.powf(truth) / growth.at(1000.0);
                held += usize::from(growth.ends(1000.0).is_some_and(|[low, high]| low <= ratio && ratio <= high));
            }
            assert!(held >= 1_880, "{held} of 2,000 for an exponent of {truth}");
        }
    }

    #[test]
    fn draws_spread_as_the_interval_says() {
        let points = [(100.0, 1.1), (100.0, 1.2), (100.0, 1.0), (1000.0, 1.3)];
        let growth = Growth::fit(10.0, &points, 0.0).unwrap();
        let mut random = SplitMix64::new(3);
        let mut drawn: Vec<f64> = (0..20_000).map(|_| growth.drawn(100.0, &mut random).ln() / 10f64.ln()).collect();
        drawn.sort_by(f64::total_cmp);
        let Interval { low, high } = growth.exponent_interval.unwrap();
        assert!((drawn[500] - low).abs() < 0.05 * (high - low) && (drawn[19_500] - high).abs() < 0.05 * (high - low));
    }
}
