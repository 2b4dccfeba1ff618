//! Which figures are judged, and what difference of each would matter.

use crate::report::{Case, Direction, Metric, RunResult};
use std::time::Duration;

/// What would have to change for anybody to care.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// The figure's id.
    pub id: &'static str,
    /// The relative change that matters, such as 0.05.
    pub margin: f64,
    /// The change in the figure's own unit below which none matters, however large its share: a 100 us that became 130 us.
    pub floor: f64,
}

/// Changes of commit lag and age below this are the work of the scheduler, not of the pipeline.
const FRESHNESS_FLOOR: Duration = Duration::from_millis(1);
/// Changes of a commit's latency below this are within what an fsync differs by from one to the next.
const LATENCY_FLOOR: Duration = Duration::from_micros(50);

/// The figures that are judged when nobody chooses: few, since each further one makes all the others harder to prove.
pub const JUDGED: [Judged; 7] = [
    Judged { id: "freshness.commit_lag.p50", margin: 0.05, floor: FRESHNESS_FLOOR.as_nanos() as f64 * 1e-9 },
    Judged { id: "freshness.commit_lag.p99", margin: 0.10, floor: FRESHNESS_FLOOR.as_nanos() as f64 * 1e-9 },
    Judged { id: "freshness.age.mean", margin: 0.05, floor: FRESHNESS_FLOOR.as_nanos() as f64 * 1e-9 },
    Judged { id: "source.commit_latency.p50", margin: 0.05, floor: LATENCY_FLOOR.as_nanos() as f64 * 1e-9 },
    Judged { id: "throughput.changes_per_s", margin: 0.05, floor: 1.0 },
    Judged { id: "cost.cpu_s_per_1k_changes", margin: 0.05, floor: 0.001 },
    Judged { id: "cost.write_bytes_per_change", margin: 0.05, floor: 1.0 },
];

/// The figure of an attach that stands for `id`: whoever follows somebody's tables offers no reader in its own process, so freshness
/// is judged by what other processes can read.
fn as_read_by_others(id: &str) -> &str {
    match id {
        "freshness.commit_lag.p50" => "freshness.readable_lag.p50",
        "freshness.commit_lag.p99" => "freshness.readable_lag.p99",
        "freshness.age.mean" => "freshness.readable_age.mean",
        id => id,
    }
}

/// How a figure is judged when nobody chooses, if it is; `foreign` is a result of an attach.
pub fn judged(id: &str, foreign: bool) -> Option<&'static Judged> {
    JUDGED.iter().find(|judged| id == if foreign { as_read_by_others(judged.id) } else { judged.id })
}

/// The margin of a figure that is judged by name only: that of tails for a p99 and beyond, that of times and throughput else.
pub fn margin_of(id: &str) -> f64 {
    let tail = [".p99", ".p999", ".max"].iter().any(|end| id.contains(end));
    if tail { 0.10 } else { 0.05 }
}

/// One figure of one strategy at one sink.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// The strategy.
    pub strategy: String,
    /// The figure.
    pub id: String,
    /// The sink; none for figures of the whole.
    pub sink: Option<String>,
}

/// The figures to judge: of each strategy those in [`JUDGED`], or those named in `chosen`; each with margin and floor.
pub fn series_of(result: &RunResult, chosen: &[String]) -> Vec<(Series, f64, f64)> {
    let mut series = Vec::new();
    for case in &result.strategies {
        for metric in case.metrics.iter().filter(|metric| metric.direction != Direction::Neutral) {
            let known = judged(&metric.id, result.config.is_foreign());
            let wanted = if chosen.is_empty() { known.is_some() } else { chosen.contains(&metric.id) };
            // A share of time within an objective has one row an objective; its id alone does not name one.
            if wanted && metric.theta_s.is_none() {
                let (margin, floor) = known.map_or((margin_of(&metric.id), 0.0), |known| (known.margin, known.floor));
                let of = Series { strategy: case.name.clone(), id: metric.id.clone(), sink: metric.sink.clone() };
                series.push((of, margin, floor));
            }
        }
    }
    series
}

impl Series {
    /// This figure in a result.
    pub fn find<'a>(&self, result: &'a RunResult) -> Option<&'a Metric> {
        let case: &Case = result.case(&self.strategy)?;
        case.metrics.iter().find(|m| m.id == self.id && m.sink == self.sink && m.theta_s.is_none())
    }

    /// `cdc-trigger / freshness.commit_lag.p99 / warehouse`.
    pub fn name(&self) -> String {
        let sink = self.sink.as_deref().map_or(String::new(), |sink| format!(" / {sink}"));
        format!("{} / {}{sink}", self.strategy, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attach_is_judged_by_what_others_can_read() {
        let (of_run, of_attach) = ("freshness.commit_lag.p99", "freshness.readable_lag.p99");
        assert_eq!(judged(of_run, false).map(|judged| judged.margin), Some(0.10));
        assert_eq!(judged(of_attach, true), judged(of_run, false));
        assert_eq!((judged(of_run, true), judged(of_attach, false)), (None, None));
        assert_eq!(judged("throughput.changes_per_s", true), judged("throughput.changes_per_s", false));
    }
}
