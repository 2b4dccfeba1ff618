//! A small seeded generator for resampling and schedules.

use std::time::Duration;

/// What the state grows by from one number to the next.
const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). Equal seeds give equal sequences on every machine.
#[derive(Clone, Debug)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// A generator with this seed.
    pub fn new(seed: u64) -> SplitMix64 {
        SplitMix64 { state: seed }
    }

    /// The number at a place, from 0, of this seed's sequence, where a whole sequence would be too much.
    pub fn at(seed: u64, place: u64) -> u64 {
        SplitMix64::new(seed.wrapping_add(place.wrapping_mul(GAMMA))).next_u64()
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Evenly distributed in `0..bound`; 0 when `bound` is 0. The bias is below `bound / 2^64`.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Evenly distributed in `(0, 1]`.
    pub fn unit(&mut self) -> f64 {
        ((self.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Normally distributed with mean 0 and deviation 1 (Box & Muller 1958).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// What a normal number is multiplied with to be one of Student's t, with so many degrees of freedom.
    pub fn student_scale(&mut self, degrees: usize) -> f64 {
        let squares: f64 = (0..degrees).map(|_| self.normal().powi(2)).sum();
        (degrees as f64 / squares.max(f64::MIN_POSITIVE)).sqrt()
    }

    /// Exponentially distributed with this mean: the gap between two arrivals of a Poisson process.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        let ns = -self.unit().ln() * mean.as_nanos() as f64;
        Duration::from_nanos(ns as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence_of_seed_1234567() {
        // The reference values that implementations of SplitMix64 are commonly checked with.
        let mut random = SplitMix64::new(1_234_567);
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
        assert_eq!(SplitMix64::at(1_234_567, 0), 6_457_827_717_110_365_317);
        assert_eq!(SplitMix64::at(1_234_567, 1), 3_203_168_211_198_807_973);
    }

    #[test]
    fn exponential_gaps_have_their_mean() {
        let mut random = SplitMix64::new(7);
        let mean = Duration::from_millis(10);
        let sum: Duration = (0..20_000).map(|_| random.exponential(mean)).sum();
        let seen = sum.as_secs_f64() / 20_000.0;
        // The standard error is 10 ms / sqrt(20000) = 0.07 ms; the seed is fixed, so this can't flicker.
        assert!((seen - 0.010).abs() < 0.0003, "{seen}");
    }
}
