//! When transactions should start.

use super::elementary::ln;
use super::random::{Purpose, Random};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How the intended starts are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// Evenly: transaction i at i / rate.
    Fixed,
    /// As independent users would: a Poisson process, exponential gaps of mean 1 / rate.
    Poisson,
}

/// The intended starts, one after the other. They depend on nothing that happens in the run (open loop).
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    arrivals: Arrivals,
    rate_per_s: f64,
    random: Random,
    index: u64,
    elapsed_s: f64,
}

impl Schedule {
    pub(super) fn new(arrivals: Arrivals, rate_per_s: f64, seed: u64) -> Schedule {
        Schedule { arrivals, rate_per_s, random: Random::new(seed, Purpose::Arrivals, 0), index: 0, elapsed_s: 0.0 }
    }

    /// The next intended start, as an offset from the start of the run, in whole nanoseconds.
    pub(super) fn next(&mut self) -> Duration {
        let offset_s = match self.arrivals {
            Arrivals::Fixed => self.index as f64 / self.rate_per_s,
            Arrivals::Poisson => {
                // 1 - unit is in (0, 1], so the logarithm is finite.
                self.elapsed_s -= ln(1.0 - self.random.unit()) / self.rate_per_s;
                self.elapsed_s
            }
        };
        self.index += 1;
        Duration::from_nanos((offset_s * 1e9) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_arrivals_do_not_drift() {
        let mut schedule = Schedule::new(Arrivals::Fixed, 3.0, 1);
        let starts: Vec<u128> = (0..4).map(|_| schedule.next().as_nanos()).collect();
        assert_eq!(starts, [0, 333_333_333, 666_666_666, 1_000_000_000]);
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_variance_of_poisson() {
        let seed = 42;
        let mut schedule = Schedule::new(Arrivals::Poisson, 1_000.0, seed);
        let mut counts = vec![0f64; 2_000];
        let mut before = Duration::ZERO;
        loop {
            let start = schedule.next();
            assert!(start >= before, "seed {seed}: {start:?} after {before:?}");
            before = start;
            match counts.get_mut((start.as_secs_f64() * 100.0) as usize) {
                Some(count) => *count += 1.0,
                None => break,
            }
        }
        // Counts in 2,000 windows of 10 ms: mean 10 and variance 10. The mean's standard error is 0.07, that of
        // the variance 0.32; four of each.
        let mean = counts.iter().sum::<f64>() / 2_000.0;
        let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / 1_999.0;
        assert!((mean - 10.0).abs() < 0.28, "seed {seed}: mean {mean}");
        assert!((variance - 10.0).abs() < 1.3, "seed {seed}: variance {variance}");
    }
}
