//! Statistics: histograms, quantiles of samples that may be censored, intervals, time-weighted curves, trends,
//! comparisons and change points.
//!
//! Pure: no clock, no I/O, and no randomness but from a seed. Lengths of time are [`std::time::Duration`]s;
//! what has no unit of its own is `f64`.

pub mod age_curve;
pub mod change_point;
pub mod cost_line;
pub mod growth;
pub mod histogram;
pub mod interval;
pub mod multiple;
pub mod random;
pub mod samples;
pub mod signed_rank;
pub mod sketch;
pub mod trend;
pub mod two_samples;

pub use age_curve::{AgeCurve, AgeDistribution, AgeSegment, Slope};
pub use change_point::{ChangePoint, ChangePointOptions, change_points};
pub use cost_line::CostLine;
pub use growth::Growth;
pub use histogram::{Histogram, HistogramError};
pub use interval::{Interval, RankInterval, mean_interval_batches, mean_interval_bootstrap, quantile_ranks};
pub use multiple::benjamini_hochberg;
pub use random::SplitMix64;
pub use samples::{Quantile, QuantileInterval, Quantiles, Samples};
pub use signed_rank::{SignedRank, median};
pub use sketch::{AgeSketch, Sketch};
pub use trend::{Line, Summary};
pub use two_samples::TwoSamples;

use std::time::Duration;

/// A length of time in nanoseconds, saturating at `u64::MAX` (584 years).
pub fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

/// The nearest rank, from 1, of quantile `q` among `count` ordered things: `ceil(q * count)`, held to `1..=count`.
///
/// The product is lowered by 1e-9 before it is rounded up, so that `0.07 * 100` (7.000000000000001 in floating
/// point) is rank 7. Zero when `count` is zero.
pub fn nearest_rank(q: f64, count: usize) -> usize {
    let rank = (q * count as f64 - 1e-9).ceil();
    (rank.max(1.0) as usize).min(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_ranks_by_hand() {
        assert_eq!(nearest_rank(0.5, 0), 0);
        assert_eq!(nearest_rank(0.5, 1), 1);
        assert_eq!(nearest_rank(0.5, 4), 2);
        assert_eq!(nearest_rank(0.5, 5), 3);
        assert_eq!(nearest_rank(0.07, 100), 7);
        assert_eq!(nearest_rank(0.99, 100), 99);
        assert_eq!(nearest_rank(0.999, 100), 100);
        assert_eq!(nearest_rank(0.0, 9), 1);
        assert_eq!(nearest_rank(1.0, 9), 9);
    }
}
