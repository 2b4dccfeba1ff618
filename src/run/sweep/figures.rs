//! From the result of a run to what a sweep needs of it.

use super::{Place, SweepRun};
use crate::report::{Case, RunResult};
use std::time::Duration;

/// What a run says of cost and freshness.
pub(super) fn figures(
    place: &Place,
    (result, case): (&RunResult, &Case),
    (rows_total, interval, window): (u64, Duration, Duration),
    took: Duration,
) -> SweepRun {
    let value = |id: &str| case.value(id).unwrap_or(0.0);
    let change_rate = value("throughput.changes_per_s");
    let each = |case: &Case, id: &str| case.value(id).unwrap_or(0.0) * change_rate / 1000.0;
    let own = each(case, "cost.source_cpu_s_per_1k_changes");
    // Triggers and indexes work inside the source's own threads: what the control run does without them is not the strategy's. Below zero
    // it is noise, which would not even out if it were cut off there.
    let burden = result.case("control").map_or(0.0, |control| own - each(control, "cost.source_cpu_s_per_1k_changes"));
    // A refresh costs what it does where nothing changed, too; then there is no cost a change.
    let following = match case.value("cost.cpu_s_per_1k_changes") {
        Some(_) => each(case, "cost.cpu_s_per_1k_changes"),
        None => value("cost.cpu_cores"),
    };
    let cost = following + burden;
    let worst = |id: &str| case.metrics.iter().filter(|m| m.id == id).filter_map(|m| m.value).max_by(f64::total_cmp);
    let refresh_s = worst("batch.duration.mean").filter(|_| place.strategy == "full-refresh");
    let longest = worst("batch.duration.max").unwrap_or(0.0);
    let seconds = window.as_secs_f64();
    // One that overran its interval let the next one go: then those that ended are counted.
    let batches = case.metrics.iter().filter(|m| m.id == "batch.duration.mean").map(|m| m.n).max().unwrap_or(0);
    let overran = longest > interval.as_secs_f64();
    let refreshes = if overran { batches as f64 } else { seconds / interval.as_secs_f64() };
    let interval_s = if overran && batches > 0 { seconds / batches as f64 } else { interval.as_secs_f64() };
    SweepRun {
        strategy: place.strategy.clone(),
        rows: place.rows,
        rows_total,
        change_rate,
        asked_rate: place.rate,
        interval_s,
        cost_cpu_s_per_s: cost,
        cpu_s_per_refresh: refresh_s.filter(|_| refreshes > 0.0).map(|_| cost * seconds / refreshes),
        refresh_s,
        freshness_p99_s: worst("freshness.commit_lag.p99"),
        took_s: took.as_secs_f64(),
    }
}
