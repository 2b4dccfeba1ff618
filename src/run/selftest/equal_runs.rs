//! The comparison, of two things that are equal.

use super::super::{RunError, run};
use super::{Found, Silent, plan};
use crate::decide::{Comparison, Verdict};
use crate::report::RunResult;
use crate::stats::SplitMix64;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// As many as `freshbench ab` takes at the least.
const PAIRS: usize = 12;
/// Figures that hardly depend on what else the machine does: of these "no regression" must be proven. Of all others no change
/// may be claimed.
const STEADY: [&str; 2] = ["throughput.changes_per_s", "cost.write_bytes_per_change"];

/// Twelve interleaved pairs of one and the same configuration.
pub(super) fn equal_runs(folder: &Path, stop: &AtomicBool) -> Result<Found, RunError> {
    let mut random = SplitMix64::new(1);
    let mut pairs: Vec<(RunResult, RunResult)> = Vec::new();
    // The first pair warms up.
    for pair in 0..=PAIRS {
        let once = |which: u32| {
            let own = folder.join(format!("{pair}-{which}"));
            let plan = plan(&own, "cdc-trigger", |raw| {
                raw.rows = Some("200".to_owned());
                raw.rate = Some("200".to_owned());
                raw.duration = Some("800ms".to_owned());
                raw.warmup = Some("200ms".to_owned());
            })?;
            let finished = run(&plan, &Silent, stop)?;
            if finished.interrupted { Err(RunError::Interrupted) } else { Ok(finished.result) }
        };
        let (first, second) = (once(0)?, once(1)?);
        let both = if random.below(2) == 0 { (first, second) } else { (second, first) };
        if pair > 0 {
            pairs.push(both);
        }
    }
    let comparison = Comparison::of_pairs(Default::default(), &pairs, None, &[], Vec::new());
    let alarm = |verdict| matches!(verdict, Verdict::Regression | Verdict::Improvement);
    let alarms: Vec<String> = comparison
        .metrics
        .iter()
        .filter(|metric| alarm(metric.verdict))
        .map(|metric| format!("{} is called {}", metric.id, metric.verdict.words()))
        .collect();
    let steady: Vec<_> = comparison.metrics.iter().filter(|metric| STEADY.contains(&metric.id.as_str())).collect();
    let proven = steady.iter().filter(|metric| metric.verdict == Verdict::NoRegression).count();
    let all = comparison.metrics.iter().filter(|metric| metric.verdict == Verdict::NoRegression).count();
    let passed = alarms.is_empty() && proven == STEADY.len();
    let seen = if alarms.is_empty() {
        format!(
            "{PAIRS} pairs: no alarm in {} figures, {all} of them proven, {proven} of {} steady ones",
            comparison.metrics.len(),
            STEADY.len()
        )
    } else {
        alarms.join(", ")
    };
    Ok((passed, format!("no alarm, and no regression proven in {}", STEADY.join(" and ")), seen))
}
