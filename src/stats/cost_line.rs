//! A straight cost model through measured points, with what it does not know: intervals of its coefficients and of a forecast.

use super::{Interval, SplitMix64};

/// `y = intercept + slope * x`, fitted so that *relative* errors are least (weights `1 / y^2`): costs of a small and of a large
/// table are off by the same share, not by the same seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct CostLine {
    /// y at x = 0, held at zero or above: nothing costs less than nothing.
    pub intercept: f64,
    /// Units of y a unit of x.
    pub slope: f64,
    /// The 95 % interval of the intercept, from Student's t; `None` below three points.
    pub intercept_interval: Option<Interval>,
    /// The 95 % interval of the slope; `None` below three points.
    pub slope_interval: Option<Interval>,
    /// `(x, y, (y - fitted) / y)` of each point.
    pub residuals: Vec<(f64, f64, f64)>,
    /// Relative spread of points about the line; `None` below three points.
    pub spread: Option<f64>,
    /// Points less coefficients that were fitted.
    pub degrees: usize,
    /// Covariance of intercept and slope, up to the spread squared: `(ii, is, ss)`.
    shape: (f64, f64, f64),
}

impl CostLine {
    /// The line through `(x, y)` points with `y > 0`. With one x only, or when the best intercept is below zero, the line goes through the
    /// origin. `None` without a usable point.
    pub fn fit(points: &[(f64, f64)]) -> Option<CostLine> {
        let usable: Vec<(f64, f64)> =
            points.iter().copied().filter(|(x, y)| x.is_finite() && *x >= 0.0 && y.is_finite() && *y > 0.0).collect();
        let weighed = |f: fn(f64, f64) -> f64| usable.iter().map(|&(x, y)| f(x, y) / (y * y)).sum::<f64>();
        let (sw, sx, sxx) = (weighed(|_, _| 1.0), weighed(|x, _| x), weighed(|x, _| x * x));
        let (sy, sxy) = (weighed(|_, y| y), weighed(|x, y| x * y));
        if usable.is_empty() || sxx <= 0.0 {
            return None;
        }
        let det = sw * sxx - sx * sx;
        let whole = (det > 1e-9 * sw * sxx)
            .then(|| ((sxx * sy - sx * sxy) / det, (sw * sxy - sx * sy) / det))
            .filter(|(intercept, _)| *intercept >= 0.0);
        let (intercept, slope, shape, fitted) = match whole {
            Some((intercept, slope)) => (intercept, slope, (sxx / det, -sx / det, sw / det), 2),
            None => (0.0, sxy / sxx, (0.0, 0.0, 1.0 / sxx), 1),
        };
        let residuals: Vec<(f64, f64, f64)> =
            usable.iter().map(|&(x, y)| (x, y, (y - intercept - slope * x) / y)).collect();
        let degrees = usable.len().saturating_sub(fitted);
        let squares: f64 = residuals.iter().map(|(_, _, r)| r * r).sum();
        let spread = (degrees > 0 && usable.len() > 2).then(|| (squares / degrees as f64).sqrt());
        let about = |middle: f64, variance: f64| {
            let reach = spread? * variance.sqrt() * super::interval::student_t_975(degrees);
            Some(Interval { low: middle - reach, high: middle + reach })
        };
        let (intercept_interval, slope_interval) = (about(intercept, shape.0), about(slope, shape.2));
        Some(CostLine { intercept, slope, intercept_interval, slope_interval, residuals, spread, degrees, shape })
    }

    /// y at x.
    pub fn at(&self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }

    /// The 95 % interval of one new measurement at x: what the coefficients do not know and the spread of a point together. `None`
    /// below three points. It supposes that the line goes on as it is, which beyond the points nothing shows.
    pub fn forecast(&self, x: f64) -> Option<Interval> {
        let spread = self.spread?;
        let y = self.at(x);
        let reach = super::interval::student_t_975(self.degrees) * spread * (self.shape_at(x) + y * y).sqrt();
        Some(Interval { low: (y - reach).max(0.0), high: y + reach })
    }

    /// The standard error of the line at x, as a share of y: what the coefficients do not know. `None` below three points.
    pub fn error_at(&self, x: f64) -> Option<f64> {
        Some(self.spread? * self.shape_at(x).max(0.0).sqrt() / self.at(x))
    }

    /// The variance of the line at x, up to the spread squared.
    fn shape_at(&self, x: f64) -> f64 {
        let (ii, is, ss) = self.shape;
        ii + 2.0 * x * is + x * x * ss
    }

    /// One draw of what intercept and slope may as well be: their covariance, and Student's t for the few points. Without a spread
    /// always the fitted ones.
    pub fn drawn(&self, random: &mut SplitMix64) -> (f64, f64) {
        let Some(spread) = self.spread else { return (self.intercept, self.slope) };
        let scale = spread * random.student_scale(self.degrees);
        let (first, second) = (random.normal(), random.normal());
        let (ii, is, ss) = self.shape;
        // The Cholesky factor of the covariance, with the slope first.
        let root = ss.sqrt();
        let (along, own) = if root > 0.0 { (is / root, (ii - is * is / ss).max(0.0).sqrt()) } else { (0.0, 0.0) };
        (self.intercept + scale * (along * first + own * second), self.slope + scale * root * first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_noise_comes_back() {
        let points: Vec<(f64, f64)> = [1.0, 10.0, 100.0, 1000.0].iter().map(|x| (*x, 0.5 + 0.02 * x)).collect();
        let line = CostLine::fit(&points).unwrap();
        assert!((line.intercept - 0.5).abs() < 1e-9 && (line.slope - 0.02).abs() < 1e-12, "{line:?}");
        assert!(line.spread.unwrap() < 1e-9);
        let forecast = line.forecast(10_000.0).unwrap();
        assert!((forecast.low - 200.5).abs() < 1e-3 && (forecast.high - 200.5).abs() < 1e-3);
    }

    #[test]
    fn weighed_least_squares_by_hand() {
        // Points (1,1) (2,2) (4,5), weights 1, 1/4, 1/25: sw 1.29, sx 1.66, sxx 2.64, sy 1.7, sxy 2.8; det 0.65;
        // intercept (2.64 * 1.7 - 1.66 * 2.8) / 0.65 = -0.24615: below zero, so through the origin: 2.8 / 2.64.
        let line = CostLine::fit(&[(1.0, 1.0), (2.0, 2.0), (4.0, 5.0)]).unwrap();
        assert_eq!(line.intercept, 0.0);
        assert!((line.slope - 2.8 / 2.64).abs() < 1e-12, "{line:?}");
        // Points (1,2) (2,3) (4,4): weights 1/4, 1/9, 1/16; numpy 2: numpy.polyfit(x, y, 1, w=1/y) = [0.69026549, 1.38053097].
        let line = CostLine::fit(&[(1.0, 2.0), (2.0, 3.0), (4.0, 4.0)]).unwrap();
        assert!((line.slope - POLYFIT.0).abs() < 1e-8 && (line.intercept - POLYFIT.1).abs() < 1e-8, "{line:?}");
    }

    const POLYFIT: (f64, f64) = (0.690_265_49, 1.380_530_97);

    #[test]
    fn one_size_gives_a_line_through_the_origin_and_nothing_gives_none() {
        let line = CostLine::fit(&[(10.0, 2.0), (10.0, 2.0)]).unwrap();
        assert_eq!((line.intercept, line.slope, line.spread), (0.0, 0.2, None));
        assert_eq!(CostLine::fit(&[]), None);
        assert_eq!(CostLine::fit(&[(0.0, 1.0)]), None);
        assert_eq!(CostLine::fit(&[(1.0, 0.0)]), None);
    }

    #[test]
    fn a_forecast_holds_as_often_as_it_says() {
        // Noise of 5 % about 0.2 + 0.003 x at five sizes; the forecast of ten times the largest must hold in about 95 %.
        let seed = 5;
        let mut random = SplitMix64::new(seed);
        let mut held = 0;
        for _ in 0..1000 {
            let mut noisy = |x: f64| (0.2 + 0.003 * x) * (1.0 + 0.05 * random.normal());
            let points: Vec<(f64, f64)> = [10.0, 30.0, 100.0, 300.0, 1000.0].map(|x| (x, noisy(x))).into();
            let seen = noisy(10_000.0);
            held += usize::from(CostLine::fit(&points).unwrap().forecast(10_000.0).unwrap().contains(seen));
        }
        assert!((920..=985).contains(&held), "seed {seed}: {held} of 1000");
    }

    #[test]
    fn draws_spread_as_the_intervals_say() {
        let points = [(1.0, 1.02), (2.0, 1.95), (4.0, 4.1), (8.0, 7.9), (16.0, 16.5), (32.0, 31.0)];
        let line = CostLine::fit(&points).unwrap();
        let mut random = SplitMix64::new(9);
        let mut slopes: Vec<f64> = (0..20_000).map(|_| line.drawn(&mut random).1).collect();
        slopes.sort_by(f64::total_cmp);
        let interval = line.slope_interval.unwrap();
        let width = interval.high - interval.low;
        assert!((slopes[500] - interval.low).abs() < 0.05 * width, "{} {interval:?}", slopes[500]);
        assert!((slopes[19_500] - interval.high).abs() < 0.05 * width, "{} {interval:?}", slopes[19_500]);
    }
}
