//! How keys and sizes are drawn.

use super::elementary::{exp, ln, pow};
use super::random::Random;
use serde::{Deserialize, Serialize};

/// Which keys are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyDistribution {
    /// Every key is as likely as any other.
    Uniform,
    /// The key of rank r (from 1, in key order) with probability proportional to 1 / r^theta.
    Zipfian,
    /// Zipfian, with the popular keys spread over the whole key space by a hash.
    ScrambledZipfian,
    /// Zipfian in age: the newest key is the most popular.
    Latest,
}

/// How many rows one transaction writes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowsPerTxn {
    /// Always this many.
    Fixed(u32),
    /// Every number from `min` to `max` is as likely as any other.
    Uniform {
        /// The least.
        min: u32,
        /// The most.
        max: u32,
    },
    /// Heavy-tailed: a Pareto distribution bounded to `min..max + 1`, rounded down. Small `alpha`, heavy tail.
    Pareto {
        /// The least.
        min: u32,
        /// The most.
        max: u32,
        /// The tail's exponent.
        alpha: f64,
    },
}

impl RowsPerTxn {
    /// Draws a number of rows, at least 1.
    pub(super) fn draw(self, random: &mut Random) -> u32 {
        match self {
            RowsPerTxn::Fixed(rows) => rows,
            RowsPerTxn::Uniform { min, max } => random.between(u64::from(min), u64::from(max)) as u32,
            RowsPerTxn::Pareto { min, max, alpha } => {
                let (low, high) = (f64::from(min), f64::from(max) + 1.0);
                // Inverse of the bounded Pareto's distribution function.
                let cut = 1.0 - pow(low / high, alpha);
                let x = low * pow(1.0 - random.unit() * cut, -1.0 / alpha);
                (x as u32).clamp(min, max)
            }
        }
    }

    /// The most it can draw.
    pub fn max(self) -> u32 {
        match self {
            RowsPerTxn::Fixed(rows) => rows,
            RowsPerTxn::Uniform { max, .. } | RowsPerTxn::Pareto { max, .. } => max,
        }
    }
}

/// Zipfian ranks 0..n by Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD 1994), as
/// YCSB does it. Ranks 0 and 1 have exactly their probability, the others a continuous approximation of it.
#[derive(Clone, Debug)]
pub(super) struct Zipfian {
    items: u64,
    theta: f64,
    alpha: f64,
    zeta_n: f64,
    eta: f64,
    second: f64,
}

impl Zipfian {
    /// Ranks 0..`items`; `items` at least 1, theta in (0, 1).
    pub(super) fn new(items: u64, theta: f64) -> Zipfian {
        let items = items.max(1);
        let mut zipfian = Zipfian {
            items,
            theta,
            alpha: 1.0 / (1.0 - theta),
            zeta_n: zeta(items, theta),
            eta: 0.0,
            second: 1.0 + pow(2.0, -theta),
        };
        zipfian.set_eta();
        zipfian
    }

    fn set_eta(&mut self) {
        let n = self.items as f64;
        self.eta = (1.0 - pow(2.0 / n, 1.0 - self.theta)) / (1.0 - self.second / self.zeta_n);
    }

    /// One more rank; the constant grows by one term instead of being summed anew.
    pub(super) fn grow(&mut self) {
        self.items += 1;
        self.zeta_n += pow(self.items as f64, -self.theta);
        self.set_eta();
    }

    /// Draws a rank.
    #[inline]
    pub(super) fn draw(&self, random: &mut Random) -> u64 {
        let u = random.unit();
        let scaled = u * self.zeta_n;
        if scaled < 1.0 || self.items == 1 {
            return 0;
        }
        if scaled < self.second || self.items == 2 {
            return 1;
        }
        let rank = self.items as f64 * exp(self.alpha * ln(self.eta * u - self.eta + 1.0));
        (rank as u64).min(self.items - 1)
    }
}

/// The sum of 1 / i^theta for i from 1 to n: term by term at first, the rest by the Euler-Maclaurin formula, whose
/// error here is below 1e-14; so that a billion keys cost no more than a thousand.
pub(super) fn zeta(n: u64, theta: f64) -> f64 {
    const SUMMED: u64 = 1_000;
    let head: f64 = (1..=n.min(SUMMED)).rev().map(|i| pow(i as f64, -theta)).sum();
    if n <= SUMMED {
        return head;
    }
    let (a, b) = (SUMMED as f64, n as f64);
    let integral = (pow(b, 1.0 - theta) - pow(a, 1.0 - theta)) / (1.0 - theta);
    let ends = (pow(b, -theta) - pow(a, -theta)) / 2.0;
    let slopes = theta * (pow(a, -theta - 1.0) - pow(b, -theta - 1.0)) / 12.0;
    head + integral + ends + slopes
}

/// FNV-1a, 64 bits, over the eight bytes of a number, lowest first; the sign bit cleared, as YCSB does.
pub(super) fn fnv1a(value: u64) -> u64 {
    const PRIME: u64 = 1_099_511_628_211;
    // What four bytes of zero do: nearly every number that is hashed here ends in them, and each of the
    // multiplications waits for the one before.
    const FOUR_ZEROS: u64 = PRIME.wrapping_pow(4);
    let [low @ .., b4, b5, b6, b7] = value.to_le_bytes();
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    let hash = low.into_iter().fold(0xcbf2_9ce4_8422_2325, step);
    let hash =
        if value >> 32 == 0 { hash.wrapping_mul(FOUR_ZEROS) } else { [b4, b5, b6, b7].into_iter().fold(hash, step) };
    (hash as i64).unsigned_abs()
}

/// YCSB draws scrambled ranks out of this many items whatever the table's size.
const SCRAMBLED_ITEMS: u64 = 10_000_000_000;

/// How often a key that does not exist (yet, or any more) is drawn again before a uniform one is taken.
const REDRAWS: u32 = 64;

/// Draws existing keys `low..high` of a key space that may still grow.
#[derive(Clone, Debug)]
pub(super) struct KeyChooser {
    kind: KeyDistribution,
    zipfian: Zipfian,
    /// Keys that are spread over: those there are and those expected, so that a popular key stays where it is.
    space: u64,
}

impl KeyChooser {
    /// `keys` keys exist, `expected` more are expected.
    pub(super) fn new(kind: KeyDistribution, theta: f64, keys: u64, expected: u64) -> KeyChooser {
        let space = keys.saturating_add(expected).max(1);
        let items = match kind {
            KeyDistribution::Uniform => 1,
            KeyDistribution::Zipfian => space,
            KeyDistribution::ScrambledZipfian => SCRAMBLED_ITEMS,
            KeyDistribution::Latest => keys,
        };
        KeyChooser { kind, zipfian: Zipfian::new(items, theta), space }
    }

    /// One more key exists.
    pub(super) fn grow(&mut self) {
        if self.kind == KeyDistribution::Latest {
            self.zipfian.grow();
        }
    }

    /// Draws one of the keys `low..high`; `low` if there is none.
    #[inline]
    pub(super) fn draw(&self, random: &mut Random, low: u64, high: u64) -> u64 {
        for _ in 0..REDRAWS {
            let key = match self.kind {
                KeyDistribution::Uniform => break,
                KeyDistribution::Zipfian => self.zipfian.draw(random),
                KeyDistribution::ScrambledZipfian => fnv1a(self.zipfian.draw(random)) % self.space,
                KeyDistribution::Latest => high.wrapping_sub(1 + self.zipfian.draw(random)),
            };
            if (low..high).contains(&key) {
                return key;
            }
        }
        low + random.below(high.saturating_sub(low))
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Purpose;
    use super::*;

    const SEED: u64 = 42;

    fn random() -> Random {
        Random::new(SEED, Purpose::Transactions, 0)
    }

    /// Chi-square over cells with their probabilities, as a z-score (Wilson and Hilferty): above 3.09 for one seed in
    /// a thousand.
    fn chi_square_z(counts: &[f64], probabilities: &[f64]) -> f64 {
        let total: f64 = counts.iter().sum();
        assert!(probabilities.iter().all(|p| p * total >= 5.0), "cells are too small for a chi-square");
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        let chi: f64 = counts.iter().zip(probabilities).map(|(c, p)| (c - p * total).powi(2) / (p * total)).sum();
        let freedom = counts.len() as f64 - 1.0;
        let spread = 2.0 / (9.0 * freedom);
        ((chi / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
    }

    #[test]
    fn zeta_is_the_sum_it_stands_for() {
        for theta in [0.01, 0.5, 0.99] {
            for n in [1u64, 2, 999, 1_000, 1_001, 250_000] {
                let summed: f64 = (1..=n).rev().map(|i| (i as f64).powf(-theta)).sum();
                assert!((zeta(n, theta) / summed - 1.0).abs() < 1e-12, "zeta({n}, {theta})");
            }
        }
        // The constant in YCSB's ScrambledZipfianGenerator, for 10^10 items and 0.99.
        assert!((zeta(SCRAMBLED_ITEMS, 0.99) - 26.469_028_202_302_18).abs() < 1e-6);
    }

    #[test]
    fn zipfian_draws_follow_the_inverse_they_are_made_by() {
        let (n, theta) = (200u64, 0.99);
        let zipfian = Zipfian::new(n, theta);
        let mut random = random();
        let mut counts = vec![0.0; n as usize];
        for _ in 0..400_000 {
            counts[zipfian.draw(&mut random) as usize] += 1.0;
        }
        // P(rank < k) of Gray's formula, with the standard library's functions: u at which n (eta u - eta + 1)^alpha = k.
        let zeta_n: f64 = (1..=n).map(|i| (i as f64).powf(-theta)).sum();
        let zeta_2 = 1.0 + 0.5f64.powf(theta);
        let eta = (1.0 - (2.0 / n as f64).powf(1.0 - theta)) / (1.0 - zeta_2 / zeta_n);
        let below = |k: u64| match k {
            0 => 0.0,
            1 => 1.0 / zeta_n,
            2 => zeta_2 / zeta_n,
            _ => (((k as f64 / n as f64).powf(1.0 - theta) - 1.0 + eta) / eta).clamp(zeta_2 / zeta_n, 1.0),
        };
        let probabilities: Vec<f64> = (0..n).map(|rank| below(rank + 1) - below(rank)).collect();
        let z = chi_square_z(&counts, &probabilities);
        assert!(z.abs() < 3.5, "seed {SEED}: z {z}");
        // And the first two ranks have exactly, the first ranks together nearly, what Zipf's law gives them.
        let share = |ranks: usize| counts.iter().take(ranks).sum::<f64>() / 400_000.0;
        let law = |ranks: u64| (1..=ranks).map(|i| (i as f64).powf(-theta)).sum::<f64>() / zeta_n;
        assert!((share(1) - law(1)).abs() < 0.003 && (share(2) - law(2)).abs() < 0.003, "seed {SEED}");
        for ranks in [10, 50, 100] {
            assert!((share(ranks as usize) / law(ranks) - 1.0).abs() < 0.06, "seed {SEED}: {ranks} ranks");
        }
    }

    #[test]
    fn a_grown_zipfian_is_the_one_made_anew() {
        let mut grown = Zipfian::new(1_500, 0.99);
        for _ in 0..500 {
            grown.grow();
        }
        let anew = Zipfian::new(2_000, 0.99);
        assert_eq!(grown.items, anew.items);
        assert!((grown.zeta_n / anew.zeta_n - 1.0).abs() < 1e-12 && (grown.eta / anew.eta - 1.0).abs() < 1e-9);
    }

    #[test]
    fn fnv_gives_the_known_values() {
        // FNV-1a over eight zero bytes, worked out step by step: the basis times the prime, eight times over.
        let expected = (0..8).fold(0xcbf2_9ce4_8422_2325_u64, |hash, _| hash.wrapping_mul(0x0000_0100_0000_01b3));
        assert_eq!(fnv1a(0), (expected as i64).unsigned_abs());
        // And over eight bytes one after the other, with and without zeros at the end.
        for value in [1, 255, 65_536, u64::from(u32::MAX), 1 << 32, 9_999_999_999, u64::MAX] {
            let hash = value.to_le_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            assert_eq!(fnv1a(value), (hash as i64).unsigned_abs(), "{value}");
        }
        // YCSB's first key with hashed inserts.
        assert_eq!(fnv1a(0), 6_284_781_860_667_377_211);
    }

    #[test]
    fn scrambled_popularity_is_spread_and_stays_where_it_is() {
        let n = 1_000u64;
        let chooser = KeyChooser::new(KeyDistribution::ScrambledZipfian, 0.99, n, 0);
        let mut random = random();
        let mut counts = vec![0.0; n as usize];
        let draws = 500_000.0;
        for _ in 0..500_000 {
            counts[chooser.draw(&mut random, 0, n) as usize] += 1.0;
        }
        // The hottest key has rank 0's probability, and its part of the tail that falls on every key.
        let hottest = (fnv1a(0) % n) as usize;
        let zeta_n = zeta(SCRAMBLED_ITEMS, 0.99);
        assert_eq!(counts.iter().copied().fold(0.0, f64::max), counts[hottest]);
        let share = counts[hottest] / draws;
        assert!(share > 1.0 / zeta_n && share < 1.0 / zeta_n + 0.004, "seed {SEED}: {share}");
        assert!(counts.iter().all(|&count| count > 0.0), "seed {SEED}: every key is drawn");
    }

    #[test]
    fn uniform_and_latest_draw_what_exists() {
        let mut random = random();
        let uniform = KeyChooser::new(KeyDistribution::Uniform, 0.99, 100, 0);
        let mut counts = vec![0.0; 80];
        for _ in 0..80_000 {
            counts[uniform.draw(&mut random, 20, 100) as usize - 20] += 1.0;
        }
        let z = chi_square_z(&counts, &[1.0 / 80.0; 80]);
        assert!(z.abs() < 3.5, "seed {SEED}: z {z}");
        let mut latest = KeyChooser::new(KeyDistribution::Latest, 0.99, 100, 10);
        let mut newest = 0;
        for step in 0..10_000 {
            let high = 100 + step / 100;
            if step % 100 == 0 && step > 0 {
                latest.grow();
            }
            let key = latest.draw(&mut random, 50, high);
            assert!((50..high).contains(&key));
            newest += u32::from(key == high - 1);
        }
        // One in zeta(150, 0.99) = 5.7 draws, and more, since keys below 50 are drawn again.
        assert!((1_500..3_000).contains(&newest), "seed {SEED}: {newest}");
    }

    #[test]
    fn heavy_tailed_rows_follow_the_bounded_pareto() {
        let (min, max, alpha) = (1u32, 20u32, 1.2f64);
        let rows = RowsPerTxn::Pareto { min, max, alpha };
        let mut random = random();
        let mut counts = vec![0.0; 20];
        for _ in 0..200_000 {
            counts[rows.draw(&mut random) as usize - 1] += 1.0;
        }
        let (low, high) = (f64::from(min), f64::from(max) + 1.0);
        let below = |x: f64| (1.0 - (low / x).powf(alpha)) / (1.0 - (low / high).powf(alpha));
        let probabilities: Vec<f64> = (1..=20).map(|k| below(f64::from(k) + 1.0) - below(f64::from(k))).collect();
        let z = chi_square_z(&counts, &probabilities);
        assert!(z.abs() < 3.5, "seed {SEED}: z {z}");
    }
}
