//! Change points of a series: E-divisive (Matteson & James 2014) with a permutation test that keeps blocks of neighbours
//! together, since results of one machine drift and lean on the ones before.

use super::SplitMix64;

/// More points than this are not looked at: the search takes `n^2` steps a permutation. Older ones are left out first.
pub const POINTS_MAX: usize = 400;

/// How change points are looked for.
#[derive(Clone, Copy, Debug)]
pub struct ChangePointOptions {
    /// The fewest points on either side of a change; at least 2.
    pub side_min: usize,
    /// Largest p of a change that is kept.
    pub p_max: f64,
    /// Permutations a test. The least p that they can show is 1 / (this + 1).
    pub permutations: usize,
    /// The seed of the permutations.
    pub seed: u64,
}

impl Default for ChangePointOptions {
    fn default() -> Self {
        ChangePointOptions { side_min: 5, p_max: 0.01, permutations: 499, seed: 1 }
    }
}

/// A change in the distribution of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChangePoint {
    /// The place of the first point behind it.
    pub index: usize,
    /// The permutation p of the change, in the part of the series in which it was found.
    pub p: f64,
}

/// Sums of distances `|x_i - x_j|` over rectangles, each in four look-ups.
struct Distances {
    size: usize,
    /// `sums[i][j]`: over all pairs before i and before j.
    sums: Vec<f64>,
}

impl Distances {
    fn of(values: &[f64]) -> Distances {
        let size = values.len() + 1;
        let mut sums = vec![0.0; size * size];
        for (i, a) in values.iter().enumerate() {
            let mut row = 0.0;
            for (j, b) in values.iter().enumerate() {
                row += (a - b).abs();
                sums[(i + 1) * size + j + 1] = sums[i * size + j + 1] + row;
            }
        }
        Distances { size, sums }
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        self.sums.get(i * self.size + j).copied().unwrap_or(0.0)
    }

    fn rectangle(&self, (from, to): (usize, usize), (low, high): (usize, usize)) -> f64 {
        self.at(to, high) - self.at(from, high) - self.at(to, low) + self.at(from, low)
    }

    /// `Q(X, Y) = nm / (n + m) * (2 mean |x - y| - mean |x - x'| - mean |y - y'|)`, X = `[0, split)`, Y = `[split, end)`, the means
    /// within a part over its pairs of different points (equations 5 and 6 of the paper, with exponent 1).
    fn energy(&self, split: usize, end: usize) -> f64 {
        let (n, m) = (split as f64, (end - split) as f64);
        let between = self.rectangle((0, split), (split, end)) * 2.0 / (n * m);
        let within_x = self.rectangle((0, split), (0, split)) / (n * (n - 1.0));
        let within_y = self.rectangle((split, end), (split, end)) / (m * (m - 1.0));
        n * m / (n + m) * (between - within_x - within_y)
    }

    /// The split with the largest energy, over every end of the part behind it, so that a later change can't hide one.
    fn best(&self, side_min: usize) -> Option<(usize, f64)> {
        let count = self.size - 1;
        let mut best: Option<(usize, f64)> = None;
        for split in side_min..=count.checked_sub(side_min)? {
            for end in (split + side_min)..=count {
                let energy = self.energy(split, end);
                if best.is_none_or(|(_, largest)| energy > largest) {
                    best = Some((split, energy));
                }
            }
        }
        best
    }
}

/// The points in another order: whole blocks change places, a circular shift draws where blocks begin.
fn permuted(values: &[f64], block: usize, random: &mut SplitMix64) -> Vec<f64> {
    let shift = random.below(block as u64) as usize;
    let mut turned = values.to_vec();
    turned.rotate_left(shift.min(values.len()));
    let mut blocks: Vec<&[f64]> = turned.chunks(block).collect();
    for place in (1..blocks.len()).rev() {
        blocks.swap(place, random.below(place as u64 + 1) as usize);
    }
    blocks.concat()
}

/// The length of a block: `n^(1/3)`, the order that keeps the error of a block resampling least (Künsch 1989).
fn block_length(count: usize) -> usize {
    ((count as f64).cbrt().round() as usize).max(1)
}

/// The change points of a series in order of time, found by halving: the best split of a part is tested against permutations of
/// that part's blocks, and if it stands its two sides are searched. Only the last [`POINTS_MAX`] points are looked at; indexes count from
/// the first of `values`. Values that are not finite numbers end up with no change at all.
pub fn change_points(values: &[f64], options: &ChangePointOptions) -> Vec<ChangePoint> {
    if !values.iter().all(|value| value.is_finite()) {
        return Vec::new();
    }
    let skipped = values.len().saturating_sub(POINTS_MAX);
    let mut random = SplitMix64::new(options.seed);
    let mut found = Vec::new();
    let mut parts = vec![(skipped, values.len())];
    let side_min = options.side_min.max(2);
    while let Some((from, to)) = parts.pop() {
        let part = values.get(from..to).unwrap_or_default();
        if part.len() < 2 * side_min {
            continue;
        }
        let Some((split, energy)) = Distances::of(part).best(side_min) else { continue };
        if energy <= 0.0 {
            continue;
        }
        let block = block_length(part.len());
        let mut as_large = 0_usize;
        for done in 0..options.permutations {
            let other = Distances::of(&permuted(part, block, &mut random)).best(side_min);
            as_large += usize::from(other.is_some_and(|(_, other)| other >= energy));
            // What can't become significant any more needs no further permutation.
            if done >= 20 && (as_large + 1) as f64 / (options.permutations + 1) as f64 > options.p_max {
                break;
            }
        }
        let p = (as_large + 1) as f64 / (options.permutations + 1) as f64;
        if p <= options.p_max {
            found.push(ChangePoint { index: from + split, p });
            parts.push((from, from + split));
            parts.push((from + split, to));
        }
    }
    found.sort_unstable_by_key(|point| point.index);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deviation 1, mean 0: twelve even numbers less six (Irwin-Hall).
    fn noise(random: &mut SplitMix64) -> f64 {
        (0..12).map(|_| random.unit()).sum::<f64>() - 6.0
    }

    #[test]
    fn energy_by_hand() {
        // X = 0 1, Y = 4 6: mean |x - y| = (4 + 6 + 3 + 5) / 4 = 4.5, within X 1, within Y 2; 2*2/4 * (9 - 1 - 2) = 6.
        let distances = Distances::of(&[0.0, 1.0, 4.0, 6.0]);
        assert!((distances.energy(2, 4) - 6.0).abs() < 1e-12, "{}", distances.energy(2, 4));
    }

    #[test]
    fn two_steps_are_found_where_they_are() {
        let seed = 3;
        let mut random = SplitMix64::new(seed);
        let series: Vec<f64> = (0..90).map(|place| 0.02 * noise(&mut random) + [1.0, 1.2, 0.9][place / 30]).collect();
        let found = change_points(&series, &ChangePointOptions::default());
        let places: Vec<usize> = found.iter().map(|point| point.index).collect();
        assert_eq!(places, [30, 60], "seed {seed}");
        assert!(found.iter().all(|point| point.p <= 0.01));
    }

    #[test]
    fn a_short_or_level_series_has_none() {
        assert!(change_points(&[], &ChangePointOptions::default()).is_empty());
        assert!(change_points(&[1.0, 2.0, 9.0], &ChangePointOptions::default()).is_empty());
        assert!(change_points(&[5.0; 40], &ChangePointOptions::default()).is_empty());
        assert!(change_points(&[f64::NAN; 40], &ChangePointOptions::default()).is_empty());
    }

    #[test]
    fn noise_that_leans_on_its_past_seldom_looks_like_a_change() {
        // 200 series of 40 points of an autoregressive noise (0.3 of the point before). Of 200 true nulls at p <= 0.01 two are
        // expected. Plain permutation, one point a block, raises more of them.
        let seed = 11;
        let mut random = SplitMix64::new(seed);
        let options = ChangePointOptions { permutations: 199, ..ChangePointOptions::default() };
        let mut alarms = 0;
        for _ in 0..200 {
            let mut before = 0.0;
            let series: Vec<f64> = (0..40)
                .map(|_| {
                    before = 0.3 * before + noise(&mut random);
                    before
                })
                .collect();
            alarms += usize::from(!change_points(&series, &options).is_empty());
        }
        assert!(alarms <= 8, "seed {seed}: {alarms} of 200");
    }

    #[test]
    fn a_step_of_ten_per_cent_in_noise_of_four_is_found() {
        // 100 series of 40 results, the last 20 of them 10 % up, noise of 4 %: found within two places in at least 90.
        let seed = 12;
        let mut random = SplitMix64::new(seed);
        let options = ChangePointOptions { permutations: 199, ..ChangePointOptions::default() };
        let mut hits = 0;
        for _ in 0..100 {
            let series: Vec<f64> =
                (0..40).map(|n| 0.04 * noise(&mut random) + if n < 20 { 1.0 } else { 1.1 }).collect();
            let found = change_points(&series, &options);
            hits += usize::from(found.iter().any(|point| point.index.abs_diff(20) <= 2));
        }
        assert!(hits >= 90, "seed {seed}: {hits} of 100");
    }
}
