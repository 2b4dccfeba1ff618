//! One verdict from an interval, a margin and a floor.
//!
//! All values are `d = ln(B / A)`, turned so that more is worse. With an interval of 99 %:
//!
//! * **regression**: the whole interval is above zero, its adjusted p is at most 1 %, and the estimate is beyond margin and floor;
//! * **improvement**: the same on the other side;
//! * **no regression**: the interval's upper end is below the margin, or below the floor;
//! * **inconclusive**: everything else. More pairs, longer runs or a quieter machine would decide it.
//!
//! A regression needs more than an interval beyond zero, since a tiny difference that is certain is nobody's concern, and less
//! than an interval beyond the margin, or a difference just above the margin would never be called one.

use crate::stats::Interval;
use serde::{Deserialize, Serialize};

/// The confidence of every interval that is judged.
pub const CONFIDENCE: f64 = 0.99;
/// The largest share of false discoveries among the figures of one comparison (Benjamini & Hochberg).
pub const FALSE_DISCOVERIES: f64 = 0.01;

/// What a comparison of one figure, or of all, comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// B is better by more than the margin.
    Improvement,
    /// B is not worse by more than the margin.
    NoRegression,
    /// Nothing can be said.
    Inconclusive,
    /// The control raised an alarm where there is no difference: the machine is too unquiet for any verdict.
    Unproven,
    /// B is worse by more than the margin.
    Regression,
}

impl Verdict {
    /// Its name for people.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Improvement => "improvement",
            Verdict::NoRegression => "no regression",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Unproven => "unproven",
            Verdict::Regression => "REGRESSION",
        }
    }
}

/// What a verdict is given on.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    /// The estimate of d.
    pub estimate: f64,
    /// Its interval of [`CONFIDENCE`]; none when there are too few pairs for it.
    pub interval: Option<Interval>,
    /// The p, adjusted for the number of figures.
    pub p_adjusted: f64,
    /// The relative margin.
    pub margin: f64,
    /// The floor in the figure's unit.
    pub floor: f64,
    /// The figure's size at A, in its unit.
    pub base: f64,
    /// Whether the figure is one of which more is better, so that `d` was turned.
    pub turned: bool,
}

impl Evidence {
    /// The change in the figure's unit that a worsening of d comes to.
    fn change(&self, d: f64) -> f64 {
        let factor = if self.turned { (-d).exp() } else { d.exp() };
        self.base * (factor - 1.0).abs()
    }

    /// How far d may go before it matters. A throughput is worse by 5 % when it is down to 95 % of what it was.
    fn margin_ln(&self) -> f64 {
        if self.turned { -(-self.margin).ln_1p() } else { self.margin.ln_1p() }
    }

    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        let Some(interval) = self.interval else { return Verdict::Inconclusive };
        let certain = self.p_adjusted <= FALSE_DISCOVERIES;
        let matters = |d: f64, margin: f64| d.abs() > margin && self.change(d) > self.floor;
        if certain && interval.low > 0.0 && matters(self.estimate, self.margin_ln()) {
            return Verdict::Regression;
        }
        if certain && interval.high < 0.0 && matters(self.estimate, self.margin.ln_1p()) {
            return Verdict::Improvement;
        }
        let below_floor = interval.high > 0.0 && self.change(interval.high) < self.floor;
        if interval.high < self.margin_ln() || below_floor { Verdict::NoRegression } else { Verdict::Inconclusive }
    }
}

/// The verdict on all figures together: the worst.
pub fn overall(verdicts: impl IntoIterator<Item = Verdict>) -> Verdict {
    verdicts
        .into_iter()
        .map(|v| if v == Verdict::Improvement { Verdict::NoRegression } else { v })
        .max()
        .unwrap_or(Verdict::Inconclusive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{SignedRank, SplitMix64, benjamini_hochberg};

    fn evidence(estimate: f64, low: f64, high: f64) -> Evidence {
        Evidence {
            estimate,
            interval: Some(Interval { low, high }),
            p_adjusted: 0.001,
            margin: 0.05,
            floor: 0.001,
            base: 1.0,
            turned: false,
        }
    }

    #[test]
    fn verdicts_by_hand() {
        // ln 1.05 = 0.04879.
        assert_eq!(evidence(0.10, 0.06, 0.14).verdict(), Verdict::Regression);
        assert_eq!(evidence(0.06, 0.01, 0.11).verdict(), Verdict::Regression);
        assert_eq!(evidence(-0.10, -0.14, -0.06).verdict(), Verdict::Improvement);
        assert_eq!(evidence(0.0, -0.02, 0.02).verdict(), Verdict::NoRegression);
        assert_eq!(evidence(0.03, 0.02, 0.04).verdict(), Verdict::NoRegression, "certain, and too small to matter");
        assert_eq!(evidence(0.04, 0.02, 0.06).verdict(), Verdict::Inconclusive);
        assert_eq!(evidence(0.10, -0.02, 0.22).verdict(), Verdict::Inconclusive);
        assert_eq!(Evidence { interval: None, ..evidence(0.1, 0.0, 0.0) }.verdict(), Verdict::Inconclusive);
        assert_eq!(Evidence { p_adjusted: 0.02, ..evidence(0.1, 0.06, 0.14) }.verdict(), Verdict::Inconclusive);
    }

    #[test]
    fn below_the_floor_nothing_matters() {
        // 0.4 ms that became 0.44 to 0.56: less than one millisecond more.
        let small = Evidence { base: 0.0004, ..evidence(0.2, 0.1, 0.33) };
        assert_eq!(small.verdict(), Verdict::NoRegression);
        assert_eq!(Evidence { base: 0.4, ..small }.verdict(), Verdict::Regression);
    }

    #[test]
    fn throughput_is_turned() {
        // Down to 94 %: d = -ln 0.94 = 0.0619 > -ln 0.95 = 0.0513. Down to 95.1 %: 0.0502 is not beyond.
        let down = Evidence { turned: true, base: 1000.0, ..evidence(0.0619, 0.06, 0.063) };
        assert_eq!(down.verdict(), Verdict::Regression);
        assert_eq!(
            Evidence { estimate: 0.0502, interval: Some(Interval { low: 0.049, high: 0.051 }), ..down }.verdict(),
            Verdict::NoRegression
        );
    }

    #[test]
    fn the_worst_decides_and_nothing_is_inconclusive() {
        use Verdict::{Improvement, Inconclusive, NoRegression, Regression};
        assert_eq!(overall([Improvement, NoRegression]), NoRegression);
        assert_eq!(overall([Inconclusive, NoRegression]), Inconclusive);
        assert_eq!(overall([Inconclusive, Regression]), Regression);
        assert_eq!(overall([]), Inconclusive);
    }

    /// Runs of a machine that drifts: a random walk of 1 % a run, a slow wave of 5 %, noise of 3 % a run, and one run in fifty
    /// up by 30 % because something else ran. The order within a pair is drawn by lot. Gives `d` of `pairs` pairs.
    fn drifting_pairs(random: &mut SplitMix64, pairs: usize, shift: f64) -> Vec<f64> {
        let normal = |random: &mut SplitMix64| (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
        let (mut walk, mut time) = (0.0, random.below(100) as f64);
        let mut run = |random: &mut SplitMix64| {
            walk += 0.01 * normal(random);
            time += 1.0;
            let burst = if random.below(50) == 0 { 0.3 } else { 0.0 };
            walk + 0.05 * (time / 9.0).sin() + 0.03 * normal(random) + burst
        };
        (0..pairs)
            .map(|_| {
                let a_first = random.below(2) == 0;
                let (first, second) = (run(random), run(random));
                shift + if a_first { second - first } else { first - second }
            })
            .collect()
    }

    /// Verdicts on `figures` figures that all have this shift.
    fn judged(random: &mut SplitMix64, figures: usize, pairs: usize, shift: f64) -> Vec<Verdict> {
        let ranks: Vec<SignedRank> =
            (0..figures).map(|_| SignedRank::of(&drifting_pairs(random, pairs, shift), CONFIDENCE).unwrap()).collect();
        let adjusted = benjamini_hochberg(&ranks.iter().map(|rank| rank.p).collect::<Vec<_>>());
        let of = |(rank, p): (&SignedRank, &f64)| Evidence {
            estimate: rank.estimate,
            interval: rank.interval,
            p_adjusted: *p,
            ..evidence(0.0, 0.0, 0.0)
        };
        ranks.iter().zip(&adjusted).map(|pair| of(pair).verdict()).collect()
    }

    /// Of 2,000 comparisons of equal things with seven figures each, at most 1 % may raise any alarm at all.
    #[test]
    fn equal_things_seldom_raise_an_alarm() {
        for pairs in [12, 16] {
            let seed = 101;
            let mut random = SplitMix64::new(seed);
            let mut alarms = 0;
            for _ in 0..2000 {
                let verdicts = judged(&mut random, 7, pairs, 0.0);
                alarms += usize::from(verdicts.iter().any(|v| matches!(v, Verdict::Regression | Verdict::Improvement)));
            }
            assert!(alarms <= 20, "seed {seed}: {alarms} of 2000 with {pairs} pairs");
            println!("A/A, {pairs} pairs: {alarms} alarms in 2000 comparisons");
        }
    }

    /// Of 1,000 comparisons with a shift of 10 % at least 90 % must call it a regression, with 16 pairs.
    #[test]
    fn a_shift_of_ten_per_cent_is_found_on_a_drifting_machine() {
        let seed = 102;
        let mut random = SplitMix64::new(seed);
        let mut found = 0;
        for _ in 0..1000 {
            found += usize::from(judged(&mut random, 1, 16, 1.1_f64.ln()) == [Verdict::Regression]);
        }
        assert!(found >= 900, "seed {seed}: {found} of 1000");
        println!("A/B of 10 %, 16 pairs: {found} of 1000 found");
    }
}
