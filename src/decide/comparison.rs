//! The comparison of two configurations, builds or stored results: `comparison.json`.

use super::alike::figures_differ;
use super::judged::{Series, series_of};
use super::verdict::{CONFIDENCE, Evidence, FALSE_DISCOVERIES, Verdict, overall};
use crate::report::{Direction, GitState, RunResult};
use crate::stats::{Interval, SignedRank, TwoSamples, benjamini_hochberg, median};
use serde::{Deserialize, Serialize};

/// The schema's name, in every file.
pub const SCHEMA: &str = "freshbench.comparison";
/// The schema's version.
pub const SCHEMA_VERSION: &str = "1.0";
/// The fewest repetitions of a side before stored results are judged at all.
pub const REPS_MIN: usize = 10;
/// Resamples of the bootstrap, and its seed.
const RESAMPLES: (usize, u64) = (9_999, 1);

/// One of the two that are compared.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Side {
    /// What was run, as a command.
    pub command: String,
    /// The configuration's hash.
    pub config_hash: String,
    /// The state of the source tree.
    pub git: GitState,
}

impl Side {
    /// The side that a result is of.
    pub fn of(result: &RunResult) -> Side {
        Side {
            command: result.config.command.clone(),
            config_hash: result.config.hash.clone(),
            git: result.git.clone(),
        }
    }
}

/// The verdict on one figure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JudgedMetric {
    /// The figure.
    pub id: String,
    /// The strategy.
    pub strategy: String,
    /// The sink; none for figures of the whole.
    pub sink: Option<String>,
    /// Its unit.
    pub unit: String,
    /// Which way it is better.
    pub direction: Direction,
    /// The median at A, in the unit.
    pub a: Option<f64>,
    /// The median at B.
    pub b: Option<f64>,
    /// How many pairs, or values of the smaller side, it rests on.
    pub n: usize,
    /// The estimate of `ln(B / A)`; none when it can't be taken.
    pub estimate_ln: Option<f64>,
    /// Its 99 % interval.
    pub ci_ln: Option<[f64; 2]>,
    /// The two-sided p of no difference.
    pub p: Option<f64>,
    /// The same, adjusted for all figures of this comparison (Benjamini & Hochberg).
    pub p_adjusted: Option<f64>,
    /// The relative change that matters.
    pub margin: f64,
    /// The change that matters, in the unit.
    pub floor: f64,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it could not be judged, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A second A against A: nothing may differ.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Control {
    /// The pairs.
    pub pairs: usize,
    /// Whether a figure was called a regression or an improvement.
    pub fired: bool,
    /// The figures as judged, A and the second A in the places of A and B.
    pub metrics: Vec<JudgedMetric>,
}

/// A comparison and its verdict.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// See [`SCHEMA_VERSION`].
    pub schema_version: String,
    /// `signed-rank` of pairs, or `bootstrap-t` of stored repetitions.
    pub method: String,
    /// The one that stands.
    pub a: Side,
    /// The one in question.
    pub b: Side,
    /// Pairs, or repetitions of the smaller side.
    pub pairs: usize,
    /// Every figure that was judged.
    pub metrics: Vec<JudgedMetric>,
    /// The A/A control, if it was run.
    pub control: Option<Control>,
    /// What a reader must know.
    pub warnings: Vec<String>,
    /// The verdict on all.
    pub verdict: Verdict,
}

/// The values of one figure on both sides, and what it takes to judge them.
struct Values<'a> {
    series: &'a Series,
    margin: f64,
    floor: f64,
    unit: String,
    direction: Direction,
    a: Vec<f64>,
    b: Vec<f64>,
    /// Why the two sides are not one series, if so.
    apart: Option<String>,
}

/// What a test says of `ln(B / A)`: estimate, interval, p.
type Test = (f64, Option<Interval>, f64);

/// Judges all figures together, each by `test` of its logarithms.
fn judge(all: Vec<Values<'_>>, test: impl Fn(&[f64], &[f64]) -> Result<Test, String>) -> Vec<JudgedMetric> {
    let logs = |values: &[f64]| values.iter().map(|value| value.ln()).collect::<Vec<f64>>();
    let tests: Vec<Result<Test, String>> = all
        .iter()
        .map(|values| {
            if let Some(why) = &values.apart {
                return Err(why.clone());
            }
            if values.a.iter().chain(&values.b).any(|value| *value <= 0.0) {
                return Err("a value is zero or less, so that there is no ratio".to_owned());
            }
            test(&logs(&values.a), &logs(&values.b))
        })
        .collect();
    let ps: Vec<f64> = tests.iter().filter_map(|test| test.as_ref().ok().map(|(_, _, p)| *p)).collect();
    let mut adjusted = benjamini_hochberg(&ps).into_iter();
    let each = |(values, test): (Values<'_>, Result<Test, String>)| {
        let mut metric = JudgedMetric {
            id: values.series.id.clone(),
            strategy: values.series.strategy.clone(),
            sink: values.series.sink.clone(),
            unit: values.unit,
            direction: values.direction,
            a: median(&values.a),
            // In another unit than the one that is named it would be read as a figure 1,000 times too large.
            b: if values.apart.is_some() { None } else { median(&values.b) },
            n: values.a.len().min(values.b.len()),
            estimate_ln: None,
            ci_ln: None,
            p: None,
            p_adjusted: None,
            margin: values.margin,
            floor: values.floor,
            verdict: Verdict::Inconclusive,
            note: None,
        };
        match test {
            Err(why) => {
                // Nothing happened on either side, twice: that is no reason to doubt B.
                if values.apart.is_none() && values.a == values.b && !values.a.is_empty() {
                    metric.verdict = Verdict::NoRegression;
                }
                metric.note = Some(why);
            }
            Ok((estimate, interval, p)) => {
                let p_adjusted = adjusted.next().unwrap_or(1.0);
                let turned = values.direction == Direction::Higher;
                let worse = |d: f64| if turned { -d } else { d };
                let turn = |i: Interval| if turned { Interval { low: -i.high, high: -i.low } } else { i };
                let evidence = Evidence {
                    estimate: worse(estimate),
                    interval: interval.map(turn),
                    p_adjusted,
                    margin: values.margin,
                    floor: values.floor,
                    base: metric.a.unwrap_or(0.0),
                    turned,
                };
                metric.verdict = evidence.verdict();
                metric.estimate_ln = Some(estimate);
                metric.ci_ln = interval.map(|interval| [interval.low, interval.high]);
                metric.p = Some(p);
                metric.p_adjusted = Some(p_adjusted);
            }
        }
        metric
    };
    all.into_iter().zip(tests).map(each).collect()
}

/// The verdicts on pairs of results that ran side by side; `chosen` names figures, or is empty for the usual ones.
pub fn judge_pairs(pairs: &[(RunResult, RunResult)], chosen: &[String]) -> Vec<JudgedMetric> {
    let Some((first, _)) = pairs.first() else { return Vec::new() };
    let series = series_of(first, chosen);
    let values = series.iter().filter_map(|(of, margin, floor)| {
        let both = pairs.iter().filter_map(|(a, b)| Some((of.find(a)?.value?, of.find(b)?.value?)));
        let (a, b): (Vec<f64>, Vec<f64>) = both.unzip();
        let known = of.find(first)?;
        let (unit, direction) = (known.unit.clone(), known.direction);
        let mut others = pairs.iter().flat_map(|(a, b)| [of.find(a), of.find(b)]).flatten();
        let apart = others.find_map(|other| figures_differ(known, other));
        Some(Values { series: of, margin: *margin, floor: *floor, unit, direction, a, b, apart })
    });
    judge(values.collect(), |a, b| {
        if a.len() < pairs.len() {
            return Err(format!("only {} of {} pairs have a value on both sides", a.len(), pairs.len()));
        }
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
        let ranks = SignedRank::of(&differences, CONFIDENCE).ok_or("too few or too many pairs")?;
        Ok((ranks.estimate, ranks.interval, ranks.p))
    })
}

/// Every repetition's figure; a single repetition is its own.
fn repetitions(metric: Option<&crate::report::Metric>) -> Vec<f64> {
    let Some(metric) = metric else { return Vec::new() };
    if metric.reps.is_empty() { metric.value.into_iter().collect() } else { metric.reps.clone() }
}

impl Comparison {
    /// From pairs that ran interleaved, and from pairs of A with a second A, if there are any. `commands` say what A and B are.
    pub fn of_pairs(
        commands: [String; 2],
        pairs: &[(RunResult, RunResult)],
        control: Option<&[(RunResult, RunResult)]>,
        chosen: &[String],
        mut warnings: Vec<String>,
    ) -> Comparison {
        let metrics = judge_pairs(pairs, chosen);
        let judged = metrics.iter().filter(|metric| metric.p.is_some()).count();
        // The least p that n pairs can show, against what the first step of the adjustment asks for.
        let least = 2.0 * 0.5_f64.powi(i32::try_from(pairs.len()).unwrap_or(i32::MAX));
        if judged > 0 && least > FALSE_DISCOVERIES / judged as f64 {
            warnings.push(format!(
                "{} pairs can't prove a change of one figure among {judged}: use more pairs, or name fewer figures with --metrics",
                pairs.len()
            ));
        }
        let control = control.map(|pairs| {
            let metrics = judge_pairs(pairs, chosen);
            let alarm = |metric: &JudgedMetric| matches!(metric.verdict, Verdict::Regression | Verdict::Improvement);
            Control { pairs: pairs.len(), fired: metrics.iter().any(alarm), metrics }
        });
        let fired = control.as_ref().is_some_and(|control| control.fired);
        let verdict = if fired { Verdict::Unproven } else { overall(metrics.iter().map(|metric| metric.verdict)) };
        let side = |command, pick: fn(&(RunResult, RunResult)) -> &RunResult| {
            let side = pairs.first().map(|pair| Side::of(pick(pair))).unwrap_or_default();
            Side { command, ..side }
        };
        let [a, b] = commands;
        let (a, b) = (side(a, |pair| &pair.0), side(b, |pair| &pair.1));
        Comparison::new("signed-rank", (a, b), pairs.len(), metrics, control, warnings, verdict)
    }

    /// From the repetitions of two stored results. Fewer than [`REPS_MIN`] on a side make every figure inconclusive.
    pub fn of_stored(a: &RunResult, b: &RunResult, chosen: &[String], mut warnings: Vec<String>) -> Comparison {
        let series = series_of(a, chosen);
        let mut fewest = usize::MAX;
        let values = series.iter().filter_map(|(of, margin, floor)| {
            let known = of.find(a)?;
            let (unit, direction) = (known.unit.clone(), known.direction);
            let other = of.find(b);
            let (first, second) = (repetitions(Some(known)), repetitions(other));
            fewest = fewest.min(first.len()).min(second.len());
            let apart = other.and_then(|other| figures_differ(known, other));
            Some(Values { series: of, margin: *margin, floor: *floor, unit, direction, a: first, b: second, apart })
        });
        let metrics = judge(values.collect(), |a, b| {
            if a.len().min(b.len()) < REPS_MIN {
                return Err(format!("{} and {} repetitions; {REPS_MIN} on either side at the least", a.len(), b.len()));
            }
            let seen = TwoSamples::of(a, b, CONFIDENCE, RESAMPLES).ok_or("too few values")?;
            Ok((seen.estimate, Some(seen.interval), seen.p))
        });
        let fewest = if fewest == usize::MAX { 0 } else { fewest };
        if fewest < REPS_MIN {
            warnings.push(format!(
                "{fewest} repetitions are too few to judge: run both with --reps {REPS_MIN} or more, or use freshbench ab"
            ));
        } else {
            warnings.push(
                "the two results were measured one after the other: a drift of the machine between them looks like a change; \
                 freshbench ab interleaves"
                    .to_owned(),
            );
        }
        let verdict = overall(metrics.iter().map(|metric| metric.verdict));
        Comparison::new("bootstrap-t", (Side::of(a), Side::of(b)), fewest, metrics, None, warnings, verdict)
    }

    fn new(
        method: &str,
        (a, b): (Side, Side),
        pairs: usize,
        metrics: Vec<JudgedMetric>,
        control: Option<Control>,
        warnings: Vec<String>,
        verdict: Verdict,
    ) -> Comparison {
        let (schema, schema_version, method) = (SCHEMA.to_owned(), SCHEMA_VERSION.to_owned(), method.to_owned());
        Comparison { schema, schema_version, method, a, b, pairs, metrics, control, warnings, verdict }
    }
}
