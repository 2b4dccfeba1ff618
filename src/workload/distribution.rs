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
    let hash = value
        .to_le_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
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
