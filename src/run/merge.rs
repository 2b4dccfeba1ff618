//! Repetitions into one case, and figures that compare a case with the control run.

use crate::report::{Case, Direction, Metric};

/// The case that stands for several repetitions: medians of the figures, the worst of the validations, and the first
/// one's series. `None` without a repetition.
pub(super) fn repetitions(cases: &[Case]) -> Option<Case> {
    let mut merged = cases.first()?.clone();
    let worst = cases.iter().min_by_key(|case| (case.validation.passed, case.validation.equal))?;
    merged.validation = worst.validation.clone();
    merged.divergence = worst.divergence.clone();
    if cases.len() == 1 {
        return Some(merged);
    }
    for caveat in cases.iter().flat_map(|case| &case.caveats) {
        if !merged.caveats.contains(caveat) {
            merged.caveats.push(caveat.clone());
        }
    }
    for metric in &mut merged.metrics {
        let same =
            |other: &&Metric| other.id == metric.id && other.sink == metric.sink && other.theta_s == metric.theta_s;
        let found: Vec<&Metric> = cases.iter().filter_map(|case| case.metrics.iter().find(same)).collect();
        let values: Vec<f64> = found.iter().filter_map(|metric| metric.value).collect();
        let (n, lower_bound) = (found.iter().map(|metric| metric.n).sum(), found.iter().any(|m| m.lower_bound));
        metric.value = median(&values);
        metric.ci = None;
        metric.n = n;
        metric.lower_bound = lower_bound;
        metric.reps = values;
    }
    Some(merged)
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 { Some(upper) } else { Some((upper + sorted.get(middle.checked_sub(1)?)?) / 2.0) }
}

/// Adds to each case what following costs the source: p99 commit latency with the strategy / without it.
pub(super) fn source_overhead(cases: &mut [Case]) {
    // Once as it was, and once without the times in which this process itself stood still, in either case.
    overhead(cases, "source.commit_latency.p99", "cost.source_overhead");
    overhead(cases, "source.commit_latency_without_stalls.p99", "cost.source_overhead_without_stalls");
}

fn overhead(cases: &mut [Case], latency: &str, id: &str) {
    let control =
        cases.iter().find(|case| case.name == "control" && case.validation.passed).and_then(|case| case.value(latency));
    for case in cases.iter_mut().filter(|case| case.name != "control") {
        let ratio = match (case.value(latency), control) {
            (Some(with), Some(without)) if without > 0.0 => Some(with / without),
            _ => None,
        };
        case.metrics.push(Metric {
            id: id.to_owned(),
            sink: None,
            unit: "ratio".to_owned(),
            direction: Direction::Lower,
            value: ratio,
            absent: None,
            ci: None,
            n: case.metric(latency).map_or(0, |metric| metric.n),
            lower_bound: false,
            theta_s: None,
            reps: Vec::new(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
