//! A straight line through points, and the plain figures of a list of numbers.

use super::nearest_rank;

/// The least-squares line through points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Units of y a unit of x.
    pub slope: f64,
    /// y at x = 0.
    pub intercept: f64,
    /// The standard error of the slope, for independent errors; `None` below three points.
    pub slope_error: Option<f64>,
}

impl Line {
    /// The line through these `(x, y)` points; `None` when fewer than two different x are given.
    pub fn fit(points: &[(f64, f64)]) -> Option<Line> {
        let n = points.len() as f64;
        let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(sx, sy), &(x, y)| (sx + x, sy + y));
        let (mean_x, mean_y) = (sum_x / n, sum_y / n);
        // Centred first: instants are large numbers that differ little.
        let (sxx, sxy) = points
            .iter()
            .fold((0.0, 0.0), |(xx, xy), &(x, y)| (xx + (x - mean_x) * (x - mean_x), xy + (x - mean_x) * (y - mean_y)));
        if sxx.is_nan() || sxx <= 0.0 {
            return None;
        }
        let slope = sxy / sxx;
        let intercept = mean_y - slope * mean_x;
        let residual: f64 = points.iter().map(|&(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum();
        let slope_error = (points.len() > 2).then(|| (residual / (n - 2.0) / sxx).sqrt());
        Some(Line { slope, intercept, slope_error })
    }
}

/// The plain figures of a list of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their sample standard deviation (divided by n - 1); `None` for a single number.
    pub standard_deviation: Option<f64>,
    /// The smallest.
    pub min: f64,
    /// The median by nearest rank.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// The figures of `values`; `None` when there are none.
    pub fn of(values: &[f64]) -> Option<Summary> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len() as f64;
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = *sorted.get(nearest_rank(0.5, sorted.len()).saturating_sub(1))?;
        let mean = sorted.iter().sum::<f64>() / n;
        let squares: f64 = sorted.iter().map(|v| (v - mean).powi(2)).sum();
        let standard_deviation = (sorted.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        Some(Summary { count: sorted.len(), mean, standard_deviation, min, median, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_by_hand() {
        // Through (0,1) (1,3) (2,4) (3,6): mean 1.5 and 3.5, sxx 5, sxy 8, slope 1.6, intercept 1.1;
        // residuals -0.1 0.3 -0.3 0.1, squares 0.2, error sqrt(0.2 / 2 / 5).
        let line = Line::fit(&[(0.0, 1.0), (1.0, 3.0), (2.0, 4.0), (3.0, 6.0)]).unwrap();
        assert!((line.slope - 1.6).abs() < 1e-12 && (line.intercept - 1.1).abs() < 1e-12);
        assert!((line.slope_error.unwrap() - 0.02_f64.sqrt()).abs() < 1e-12);
        assert_eq!(Line::fit(&[(1.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(Line::fit(&[]), None);
    }

    #[test]
    fn a_summary_by_hand() {
        let summary = Summary::of(&[4.0, 2.0, 9.0, 5.0]).unwrap();
        assert_eq!((summary.count, summary.mean, summary.min, summary.median, summary.max), (4, 5.0, 2.0, 4.0, 9.0));
        assert!((summary.standard_deviation.unwrap() - (26.0_f64 / 3.0).sqrt()).abs() < 1e-12);
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0]).unwrap().standard_deviation, None);
    }
}
