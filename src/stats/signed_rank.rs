//! Paired comparison without a supposition about the shape of the noise: the signed-rank test (Wilcoxon 1945), its exact
//! distribution, the Hodges-Lehmann estimate (Hodges & Lehmann 1963) and the exact interval that belongs to it.
//!
//! The differences are supposed to be independent and symmetric about one centre. For `ln(B/A)` of pairs whose order is
//! drawn by lot both hold whatever the noise of one run looks like, as long as A and B differ by a factor alone: then
//! exchanging the two runs of a pair turns the sign of its noise.

use super::Interval;

/// More pairs than this are refused: the exact distribution takes `n^3` steps.
pub const PAIRS_MAX: usize = 400;

/// What a paired comparison says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignedRank {
    /// The median of the Walsh averages, in the unit of the differences.
    pub estimate: f64,
    /// The interval of the centre; `None` when there are too few pairs for the confidence.
    pub interval: Option<Interval>,
    /// The two-sided exact p of "the centre is zero".
    pub p: f64,
    /// How many differences were not zero.
    pub used: usize,
}

impl SignedRank {
    /// Judges `differences` at this two-sided `confidence`, such as 0.99. `None` for no difference, more than
    /// [`PAIRS_MAX`], or one that is not a finite number.
    pub fn of(differences: &[f64], confidence: f64) -> Option<SignedRank> {
        if differences.is_empty() || differences.len() > PAIRS_MAX || !differences.iter().all(|d| d.is_finite()) {
            return None;
        }
        let walsh = walsh_averages(differences);
        let (p, used) = p_two_sided(differences);
        Some(SignedRank {
            estimate: median_of_sorted(&walsh)?,
            interval: interval(&walsh, differences, confidence),
            p,
            used,
        })
    }
}

/// All averages of two differences, one with itself included, ascending: `n (n + 1) / 2` of them.
fn walsh_averages(differences: &[f64]) -> Vec<f64> {
    let mut averages = Vec::with_capacity(differences.len() * (differences.len() + 1) / 2);
    for (place, first) in differences.iter().enumerate() {
        averages.extend(differences.iter().skip(place).map(|second| (first + second) / 2.0));
    }
    averages.sort_unstable_by(f64::total_cmp);
    averages
}

/// The middle of sorted values, the mean of the two middle ones for an even count.
pub fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted.get(sorted.len() / 2 - 1)? + upper) / 2.0)
}

/// The middle of values in any order.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    median_of_sorted(&sorted)
}

/// From the `(k + 1)`-th smallest to the `(k + 1)`-th largest Walsh average, where `k` is the largest number with
/// `P(W <= k) <= (1 - confidence) / 2` (Hollander & Wolfe, *Nonparametric Statistical Methods*, 3.4). The distribution is that
/// of differences without ties; equal differences make the true confidence larger, never smaller.
fn interval(walsh: &[f64], differences: &[f64], confidence: f64) -> Option<Interval> {
    let doubled: Vec<usize> = (1..=differences.len()).map(|rank| 2 * rank).collect();
    let tail = (1.0 - confidence) / 2.0;
    let mut below = 0.0;
    let mut outside = None;
    for (sum, share) in distribution(&doubled).into_iter().enumerate().step_by(2) {
        below += share;
        // The sums of many halves are exact in binary, so the comparison needs no slack.
        if below > tail {
            break;
        }
        outside = Some(sum / 2);
    }
    let outside = outside?;
    Some(Interval { low: *walsh.get(outside)?, high: *walsh.get(walsh.len().checked_sub(outside + 1)?)? })
}

/// The exact two-sided p, given the ranks that were seen: zero differences are left out, equal ones share the mean of their
/// ranks, and of all `2^n` ways of giving signs those are counted that are as far out. Also the number of ranks.
fn p_two_sided(differences: &[f64]) -> (f64, usize) {
    let mut sizes: Vec<(f64, bool)> =
        differences.iter().filter(|d| **d != 0.0).map(|d| (d.abs(), d.is_sign_positive())).collect();
    sizes.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the rank, so that shared ranks stay whole.
    let mut doubled = Vec::with_capacity(sizes.len());
    let mut positive = 0;
    let mut from = 0;
    for group in sizes.chunk_by(|a, b| a.0 == b.0) {
        let rank = 2 * from + group.len() + 1;
        positive += rank * group.iter().filter(|(_, positive)| *positive).count();
        doubled.extend(std::iter::repeat_n(rank, group.len()));
        from += group.len();
    }
    let shares = distribution(&doubled);
    let below: f64 = shares.iter().take(positive + 1).sum();
    let above: f64 = shares.iter().skip(positive).sum();
    ((2.0 * below.min(above)).min(1.0), doubled.len())
}

/// `P(sum of the ranks with a positive sign = s)` for each s, every sign as likely as the other.
fn distribution(ranks: &[usize]) -> Vec<f64> {
    let mut shares = vec![1.0];
    for &rank in ranks {
        let mut next = vec![0.0; shares.len() + rank];
        for (sum, share) in shares.iter().enumerate() {
            for place in [sum, sum + rank] {
                if let Some(slot) = next.get_mut(place) {
                    *slot += share / 2.0;
                }
            }
        }
        shares = next;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::SplitMix64;

    fn close(seen: f64, wanted: f64) {
        assert!((seen - wanted).abs() < 1e-12, "{seen} is not {wanted}");
    }

    #[test]
    fn three_differences_by_hand() {
        // Walsh averages of 1, 2, 6: 1 1.5 2 3.5 4 6, median 2.75. All positive: p = 2 / 2^3.
        let seen = SignedRank::of(&[1.0, 6.0, 2.0], 0.99).unwrap();
        close(seen.estimate, 2.75);
        close(seen.p, 0.25);
        assert_eq!(seen.interval, None, "three pairs can't give 99 %");
        // P(W <= 0) = 1/8 is the tail of a 75 % interval: the whole range.
        let wide = SignedRank::of(&[1.0, 6.0, 2.0], 0.75).unwrap();
        assert_eq!(wide.interval, Some(Interval { low: 1.0, high: 6.0 }));
    }

    #[test]
    fn the_interval_begins_where_the_tables_say() {
        // The critical values of the two-sided 1 % test, as printed in every table: 0 (n = 8), 7 (12), 19 (16), 37 (20).
        for (n, critical) in [(8, 0), (12, 7), (16, 19), (20, 37)] {
            let differences: Vec<f64> = (0..n).map(|i| f64::from(i) * f64::from(i)).collect();
            let walsh = walsh_averages(&differences);
            let seen = interval(&walsh, &differences, 0.99).unwrap();
            assert_eq!((seen.low, seen.high), (walsh[critical], walsh[walsh.len() - 1 - critical]), "n = {n}");
        }
        assert_eq!(SignedRank::of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 0.99).unwrap().interval, None);
    }

    #[test]
    fn exact_p_as_scipy_has_it() {
        // scipy 1.16: scipy.stats.wilcoxon(d, method="exact").pvalue
        // d = [0.12, -0.05, 0.31, 0.08, -0.02, 0.27, 0.15, 0.44, -0.09, 0.21]
        let d = [0.12, -0.05, 0.31, 0.08, -0.02, 0.27, 0.15, 0.44, -0.09, 0.21];
        close(SignedRank::of(&d, 0.95).unwrap().p, WITHOUT_TIES);
        // With ties: scipy.stats.wilcoxon(d, method=scipy.stats.PermutationMethod(n_resamples=10**9)), which goes through
        // all 2^8 signs. d = [1, 1, 2, -2, 3, 4, -1, 5]
        let tied = [1.0, 1.0, 2.0, -2.0, 3.0, 4.0, -1.0, 5.0];
        close(SignedRank::of(&tied, 0.95).unwrap().p, WITH_TIES);
        // A zero is left out.
        let with_zero = [1.0, 1.0, 2.0, 0.0, -2.0, 3.0, 4.0, -1.0, 5.0];
        let seen = SignedRank::of(&with_zero, 0.95).unwrap();
        close(seen.p, WITH_TIES);
        assert_eq!(seen.used, 8);
    }

    const WITHOUT_TIES: f64 = 0.037_109_375;
    const WITH_TIES: f64 = 0.132_812_5;

    #[test]
    fn nothing_can_be_said_of_nothing() {
        assert_eq!(SignedRank::of(&[], 0.99), None);
        assert_eq!(SignedRank::of(&[f64::NAN], 0.99), None);
        assert_eq!(SignedRank::of(&vec![1.0; PAIRS_MAX + 1], 0.99), None);
        let zeros = SignedRank::of(&[0.0; 16], 0.99).unwrap();
        assert_eq!((zeros.estimate, zeros.p), (0.0, 1.0));
        assert_eq!(zeros.interval, Some(Interval { low: 0.0, high: 0.0 }));
    }

    #[test]
    fn the_interval_holds_the_centre_as_often_as_it_says() {
        // 4,000 samples of 16 heavy-tailed, symmetric differences about 0.3: at least 99 % of the intervals must hold it;
        // three standard errors of a share of 0.99 are 0.0047.
        let seed = 20_260_101;
        let mut random = SplitMix64::new(seed);
        let mut held = 0;
        for _ in 0..4000 {
            let sign = |random: &mut SplitMix64| if random.below(2) == 0 { 1.0 } else { -1.0 };
            let d: Vec<f64> = (0..16).map(|_| 0.3 - sign(&mut random) * random.unit().ln()).collect();
            held += usize::from(SignedRank::of(&d, 0.99).unwrap().interval.unwrap().contains(0.3));
        }
        assert!(held as f64 / 4000.0 > 0.9853, "seed {seed}: {held} of 4000");
    }
}
