//! How a cost grows with a size that it does not depend on to first order.

use super::interval::student_t_975;
use super::{Interval, SplitMix64};

/// `ratio = (size / base)^exponent`: the power through points of which the base's own is 1.
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

    /// The ratio at a size.
    pub fn at(&self, size: f64) -> f64 {
        (size / self.base).powf(self.exponent)
    }

    /// How far the ratio at a size may be off, as a share of it, in 95 % of cases: what the exponent does not know. `None` where that is not
    /// known, 0 at the base.
    pub fn reach(&self, size: f64) -> Option<f64> {
        let distance = (size / self.base).ln().abs();
        let error = if distance == 0.0 { 0.0 } else { self.error? };
        Some((student_t_975(self.degrees.max(1)) * error * distance).exp_m1())
    }

    /// The ratio at a size for one draw of what the exponent may as well be.
    pub fn drawn(&self, size: f64, random: &mut SplitMix64) -> f64 {
        let Some(error) = self.error else { return self.at(size) };
        let t = random.student_scale(self.degrees) * random.normal();
        (size / self.base).powf(self.exponent + error * t)
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
        assert_eq!(growth.reach(10.0), Some(0.0));
        assert!((growth.reach(100.0).unwrap() - (4.3027 * error * 10f64.ln()).exp_m1()).abs() < 1e-4);
        // An error that all have in common comes through as it would for one point: 5 % of (1 + 1 + 2) / 6 / ln 10.
        let shared = Growth::fit(10.0, &points, 0.05).unwrap().exponent_interval.unwrap();
        let error = error.hypot(0.05 * 4.0 / 6.0 / 10f64.ln());
        assert!((shared.high - growth.exponent - 4.3027 * error).abs() < 1e-4, "{shared:?}");
    }

    #[test]
    fn few_points_have_no_interval_and_none_no_power() {
        let growth = Growth::fit(10.0, &[(20.0, 2.0)], 0.0).unwrap();
        assert!((growth.exponent - 1.0).abs() < 1e-12 && growth.exponent_interval.is_none());
        assert_eq!((growth.reach(1e9), growth.reach(10.0)), (None, Some(0.0)));
        assert_eq!(Growth::fit(10.0, &[(10.0, 2.0)], 0.0), None);
        assert_eq!(Growth::fit(10.0, &[], 0.0), None);
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
