//! The search for the highest rate that holds: bracket by doubling, then halve on a logarithmic scale. What "holds" means is judged by
//! [`Trial::judge`]; the search itself is pure and asks for one trial after the other.

use crate::report::Case;
use crate::stats::Line;
use serde::{Deserialize, Serialize};

/// The backlog may grow by this share of the rate.
const SLOPE_SHARE_MAX: f64 = 0.01;
/// Transactions that may be short of those offered besides: some are always under way at the window's ends.
const UNDER_WAY_MAX: f64 = 5.0;
/// Latency from the intended start beyond this, and beyond five times the service time, says that the source did not keep up.
const SOURCE_LATE_S: f64 = 0.010;

/// Why a rate does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// The 99th percentile of the commit lag is beyond the objective.
    Lag,
    /// The backlog grows.
    Backlog,
    /// The source itself does not keep up with its clients.
    Source,
    /// Something was lost, or the sinks do not equal the source.
    Lost,
}

/// One run at one rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// Transactions offered a second.
    pub rate: f64,
    /// Measured seconds.
    pub duration_s: f64,
    /// Whether it was a long run that confirms.
    pub confirming: bool,
    /// p99 commit lag at the slowest sink, in seconds.
    pub lag_p99_s: Option<f64>,
    /// Growth of the backlog, commits a second.
    pub backlog_slope: Option<f64>,
    /// Transactions that were due in the measured window, a second; the arrivals make it differ from [`Trial::rate`].
    #[serde(default)]
    pub offered_per_s: Option<f64>,
    /// Commits acknowledged in the window, a second.
    pub committed_per_s: Option<f64>,
    /// Changes acknowledged a second.
    pub changes_per_s: Option<f64>,
    /// Whether the backlog grew beyond what is allowed.
    pub backlog_grew: bool,
    /// What it failed on; none when the rate holds.
    pub limit: Option<Limit>,
}

impl Trial {
    /// Judges one case against the objective: nothing lost, the source kept up (and acknowledged what was offered, less 1 %), backlog slope
    /// at most 1 % of the rate, p99 commit lag at the slowest sink within `theta_s`.
    ///
    /// The slope is by least squares over the measured window. Where the backlog is a sawtooth of batches the line through it also leans by
    /// where the teeth begin, so it counts as growing only if it rises by more than twice its standard error.
    pub fn judge(case: &Case, (rate, duration_s, confirming): (f64, f64, bool), theta_s: f64) -> Trial {
        // A time in which freshbench itself stood still says nothing of the rate.
        let largest = |id: &str| {
            let found = case.metrics.iter().filter(|metric| metric.id == id);
            found.filter_map(|metric| metric.value).max_by(f64::total_cmp)
        };
        let lag = largest("freshness.commit_lag_without_stalls.p99").or_else(|| largest("freshness.commit_lag.p99"));
        let censored = case.metrics.iter().any(|m| m.id == "freshness.commit_lag.p99" && m.lower_bound);
        let lost: f64 = case.metrics.iter().filter(|m| m.id == "freshness.lost_commits").filter_map(|m| m.value).sum();
        let points: Vec<(f64, f64)> =
            case.timeseries.t_s.iter().copied().zip(case.timeseries.backlog.iter().copied()).collect();
        let line = Line::fit(&points);
        let grows = line.is_some_and(|line| {
            line.slope > SLOPE_SHARE_MAX * rate && line.slope > 2.0 * line.slope_error.unwrap_or(0.0)
        });
        let latency = case.value("source.commit_latency_without_stalls.p50");
        let latency = latency.or_else(|| case.value("source.commit_latency.p50"));
        let service = case.value("source.service_time.p50");
        let late =
            latency.zip(service).is_none_or(|(latency, service)| latency > SOURCE_LATE_S && latency > 5.0 * service);
        let (offered, committed) =
            (case.value("throughput.offered_per_s"), case.value("throughput.transactions_per_s"));
        // A rate that is offered and not acknowledged is not sustained, however fast what got through was.
        let short = offered.zip(committed).is_some_and(|(offered, committed)| {
            let allowed = SLOPE_SHARE_MAX * offered * duration_s + UNDER_WAY_MAX;
            (offered - committed) * duration_s > allowed
        });
        let limit = if !case.validation.passed || lost > 0.0 || censored {
            Some(Limit::Lost)
        } else if late || short {
            Some(Limit::Source)
        } else if lag.is_none_or(|lag| lag > theta_s) {
            Some(Limit::Lag)
        } else if grows {
            Some(Limit::Backlog)
        } else {
            None
        };
        Trial {
            rate,
            duration_s,
            confirming,
            lag_p99_s: lag,
            backlog_slope: line.map(|line| line.slope),
            backlog_grew: grows,
            offered_per_s: offered,
            committed_per_s: committed,
            changes_per_s: case.value("throughput.changes_per_s"),
            limit,
        }
    }

    /// Whether the rate holds.
    pub fn holds(&self) -> bool {
        self.limit.is_none()
    }

    /// The lag of a run that kept up and was late all the same.
    fn late_without_load(&self) -> Option<f64> {
        self.lag_p99_s.filter(|_| self.limit == Some(Limit::Lag) && !self.backlog_grew)
    }
}

/// Whether the objective is out of reach at any rate: the last run kept up and was too late, and so was one at twice its rate or more, by no
/// more than a quarter. Then the lag does not come from the load (an interval between batches is such a cause), and a lower rate helps nothing.
pub fn is_out_of_reach(trials: &[Trial]) -> bool {
    let Some((last, earlier)) = trials.split_last() else { return false };
    let Some(lag) = last.late_without_load() else { return false };
    earlier.iter().any(|trial| {
        trial.rate >= 2.0 * last.rate && trial.late_without_load().is_some_and(|before| before <= 1.25 * lag)
    })
}

/// What the search asks for next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// A short run at this rate.
    Try(f64),
    /// A long run at this rate.
    Confirm(f64),
    /// The rate is found.
    Found(f64),
    /// Not even the least rate holds.
    NoneHolds,
}

/// Where the search is.
#[derive(Clone, Debug)]
pub struct RateSearch {
    next: f64,
    holds: Option<f64>,
    fails: Option<f64>,
    confirmed: bool,
    refuted: u32,
    step: f64,
}

/// The ends of the search: below and above them no rate is tried.
pub const RATES: std::ops::RangeInclusive<f64> = 1.0..=1e6;
/// Confirming runs that may fail before the search ends at a rate that it can't confirm.
const REFUTED_MAX: u32 = 6;

impl RateSearch {
    /// A search that begins at `start` and ends when the rate is known to a share of `precision`, such as 0.05.
    pub fn new(start: f64, precision: f64) -> RateSearch {
        let next = start.clamp(*RATES.start(), *RATES.end());
        RateSearch { next, holds: None, fails: None, confirmed: false, refuted: 0, step: 1.0 + precision.max(0.001) }
    }

    /// What to do next.
    pub fn next(&self) -> Next {
        if self.confirmed || (self.refuted >= REFUTED_MAX && self.holds.is_some()) {
            return self.holds.map_or(Next::NoneHolds, Next::Found);
        }
        match (self.holds, self.fails) {
            (None, Some(fails)) if fails <= *RATES.start() => Next::NoneHolds,
            (Some(holds), Some(fails)) if fails / holds <= self.step => Next::Confirm(holds),
            (Some(holds), None) if holds >= *RATES.end() => Next::Confirm(holds),
            _ => Next::Try(self.next),
        }
    }

    /// Takes in how the run that [`RateSearch::next`] asked for ended.
    pub fn heard(&mut self, held: bool) {
        match self.next() {
            Next::Try(rate) => {
                if held {
                    self.holds = Some(rate);
                } else {
                    self.fails = Some(rate);
                }
            }
            Next::Confirm(rate) => {
                if held {
                    self.confirmed = true;
                } else {
                    // A long run sees what a short one did not, so it is believed, and the search goes on a step below.
                    self.refuted += 1;
                    self.fails = Some(rate);
                    self.holds = None;
                    self.next = (rate / self.step).max(*RATES.start());
                    return;
                }
            }
            Next::Found(_) | Next::NoneHolds => return,
        }
        self.next = match (self.holds, self.fails) {
            (Some(holds), None) => (holds * 2.0).min(*RATES.end()),
            (None, Some(fails)) if self.refuted > 0 => (fails / self.step).max(*RATES.start()),
            (None, Some(fails)) => (fails / 2.0).max(*RATES.start()),
            (Some(holds), Some(fails)) => (holds * fails).sqrt(),
            (None, None) => self.next,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Series, Validation};

    /// Searches a pipeline that holds up to `short` in short runs and up to `long` in long ones: the rate and the runs it took.
    fn search(start: f64, short: f64, long: f64) -> (Next, u32) {
        let mut search = RateSearch::new(start, 0.05);
        for runs in 0..200 {
            match search.next() {
                Next::Try(rate) => search.heard(rate <= short),
                Next::Confirm(rate) => search.heard(rate <= long),
                end => return (end, runs),
            }
        }
        panic!("the search does not end");
    }

    #[test]
    fn the_edge_is_found_from_either_side() {
        for start in [1.0, 500.0, 100_000.0] {
            let (Next::Found(rate), runs) = search(start, 1234.0, 1234.0) else { panic!("not found from {start}") };
            assert!(rate <= 1234.0 && rate * 1.051 >= 1234.0, "{rate} from {start}");
            assert!(runs <= 20, "{runs} runs from {start}");
        }
    }

    #[test]
    fn a_long_run_is_believed() {
        let (Next::Found(rate), _) = search(500.0, 1000.0, 900.0) else { panic!("not found") };
        assert!((850.0..=900.0).contains(&rate), "{rate}");
    }

    #[test]
    fn the_ends_of_the_search() {
        assert_eq!(search(500.0, 0.5, 0.5).0, Next::NoneHolds);
        assert_eq!(search(500.0, 1e9, 1e9).0, Next::Found(1e6));
    }

    fn case(lag_s: f64, backlog: impl Fn(f64) -> f64) -> Case {
        let metric = |id: &str, value: f64| crate::report::Metric {
            id: id.to_owned(),
            sink: Some("warehouse".to_owned()),
            unit: "s".to_owned(),
            direction: crate::report::Direction::Lower,
            value: Some(value),
            absent: None,
            ci: None,
            n: 1,
            lower_bound: false,
            theta_s: None,
            reps: Vec::new(),
        };
        let t_s: Vec<f64> = (0..200).map(|n| f64::from(n) * 0.05).collect();
        Case {
            name: "cdc-trigger".to_owned(),
            sentence: String::new(),
            metrics: vec![
                metric("freshness.commit_lag.p99", lag_s),
                metric("source.commit_latency.p50", 0.001),
                metric("source.service_time.p50", 0.001),
            ],
            histograms: Vec::new(),
            timeseries: Series { backlog: t_s.iter().map(|t| backlog(*t)).collect(), t_s, ..Series::default() },
            phases: Vec::new(),
            validation: Validation { passed: true, ..Validation::default() },
            divergence: Vec::new(),
            caveats: Vec::new(),
        }
    }

    #[test]
    fn an_interval_that_is_too_long_ends_the_search() {
        let trial = |rate: f64, lag: f64, slope: f64| Trial::judge(&case(lag, |t| slope * t), (rate, 10.0, false), 0.1);
        // Both are late and neither is behind: halving the rate once more would not help.
        assert!(is_out_of_reach(&[trial(500.0, 1.1, 0.0), trial(250.0, 1.0, 0.0)]));
        // Falling lag, a backlog that grows, one run alone, a rate that holds: the search goes on.
        assert!(!is_out_of_reach(&[trial(500.0, 1.1, 0.0), trial(250.0, 0.5, 0.0)]));
        assert!(!is_out_of_reach(&[trial(500.0, 5.0, 200.0), trial(250.0, 5.0, 100.0)]));
        assert!(!is_out_of_reach(&[trial(500.0, 1.1, 0.0)]) && !is_out_of_reach(&[]));
        assert!(!is_out_of_reach(&[trial(500.0, 1.1, 0.0), trial(250.0, 0.05, 0.0)]));
    }

    #[test]
    fn each_limit_is_named() {
        // At 1,000 a second 1 % is 10 commits a second.
        let judged = |case: &Case| Trial::judge(case, (1000.0, 10.0, false), 0.1).limit;
        assert_eq!(judged(&case(0.05, |_| 3.0)), None);
        assert_eq!(judged(&case(0.05, |t| 5.0 * t)), None);
        assert_eq!(judged(&case(0.05, |t| 20.0 * t)), Some(Limit::Backlog));
        assert_eq!(judged(&case(0.2, |_| 3.0)), Some(Limit::Lag));
        let mut lost = case(0.05, |_| 3.0);
        lost.validation.passed = false;
        assert_eq!(judged(&lost), Some(Limit::Lost));
        let mut late = case(0.05, |_| 3.0);
        late.metrics[1].value = Some(0.5);
        assert_eq!(judged(&late), Some(Limit::Source));
    }

    /// 6,000 a second were offered for 10 s and 2,969 acknowledged: that rate is not sustained, though nothing that got through was late.
    #[test]
    fn what_is_not_acknowledged_is_not_sustained() {
        let with = |offered: f64, committed: f64| {
            let mut case = case(0.05, |_| 3.0);
            for (id, value) in [("throughput.offered_per_s", offered), ("throughput.transactions_per_s", committed)] {
                let metric = crate::report::Metric { id: id.to_owned(), value: Some(value), ..case.metrics[1].clone() };
                case.metrics.push(metric);
            }
            Trial::judge(&case, (6000.0, 10.0, false), 0.1)
        };
        let trial = with(5982.0, 2969.0);
        assert_eq!((trial.limit, trial.committed_per_s), (Some(Limit::Source), Some(2969.0)));
        // 10 s at 5,982: 598 and 5 more may be short.
        assert_eq!(with(5982.0, 5982.0 - 60.2).limit, None);
        assert_eq!(with(5982.0, 5982.0 - 60.4).limit, Some(Limit::Source));
        // More acknowledged than offered: a backlog of the warm-up.
        assert_eq!(with(5982.0, 6100.0).limit, None);
    }
}
