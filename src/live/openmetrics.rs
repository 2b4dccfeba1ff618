//! The feed as OpenMetrics 1.0 text (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).

use super::feed::Snapshot;
use crate::foreign::openmetrics_text;
use crate::report::Case;
use crate::stats::Histogram;
use std::fmt::Write;
use std::time::Duration;

/// The media type.
pub(super) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the lag's buckets, in seconds.
const BOUNDS_S: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0];

fn labels(strategy: &str, sink: Option<&str>, phase: &str) -> String {
    let sink = sink.map_or(String::new(), |sink| format!("sink=\"{}\",", openmetrics_text(sink)));
    format!("strategy=\"{}\",{sink}phase=\"{}\"", openmetrics_text(strategy), openmetrics_text(phase))
}

fn family(out: &mut String, name: &str, kind: &str, unit: &str, help: &str) {
    let _ = writeln!(out, "# TYPE {name} {kind}");
    if !unit.is_empty() {
        let _ = writeln!(out, "# UNIT {name} {unit}");
    }
    let _ = writeln!(out, "# HELP {name} {help}");
}

fn histogram(out: &mut String, labels: &str, lag: &Histogram) {
    const NAME: &str = "freshbench_commit_lag_seconds";
    for bound in BOUNDS_S {
        let count = lag.count_at_most(Duration::from_secs_f64(bound));
        let _ = writeln!(out, "{NAME}_bucket{{{labels},le=\"{bound:?}\"}} {count}");
    }
    let _ = writeln!(out, "{NAME}_bucket{{{labels},le=\"+Inf\"}} {}", lag.len());
    let _ = writeln!(out, "{NAME}_count{{{labels}}} {}", lag.len());
    let _ = writeln!(out, "{NAME}_sum{{{labels}}} {}", lag.sum_s());
}

/// The whole exposition.
pub(super) fn exposition(seen: &Snapshot) -> String {
    let mut out = String::new();
    let name = seen.running.as_ref().map_or("", |case| case.name.as_str());
    let finished: &[Case] = seen.finished.as_ref().map_or(&[], |result| &result.strategies);
    let running = !name.is_empty();
    family(
        &mut out,
        "freshbench_age_seconds",
        "gauge",
        "seconds",
        "Time since the oldest commit that the sink does not show; the mean of a case that has finished.",
    );
    for (sink, age) in seen.ages_s.iter().filter(|_| running) {
        let _ = writeln!(out, "freshbench_age_seconds{{{}}} {age}", labels(name, Some(sink), &seen.phase));
    }
    for metric in finished.iter().flat_map(|case| case.metrics.iter().map(move |metric| (case, metric))) {
        if let (case, "freshness.age.mean", Some(mean)) = (metric.0, metric.1.id.as_str(), metric.1.value) {
            let _ = writeln!(
                out,
                "freshbench_age_seconds{{{}}} {mean}",
                labels(&case.name, metric.1.sink.as_deref(), "finished")
            );
        }
    }
    family(
        &mut out,
        "freshbench_commit_lag_seconds",
        "histogram",
        "seconds",
        "From the acknowledgement of a commit until the sink shows it.",
    );
    for (sink, lag) in seen.lags.iter().filter(|_| running) {
        histogram(&mut out, &labels(name, Some(sink), &seen.phase), lag);
    }
    for case in finished {
        for hist in case.histograms.iter().filter(|hist| hist.id == "freshness.commit_lag") {
            if let Ok(lag) = Histogram::decode(&hist.data) {
                histogram(&mut out, &labels(&case.name, hist.sink.as_deref(), "finished"), &lag);
            }
        }
    }
    family(
        &mut out,
        "freshbench_backlog_commits",
        "gauge",
        "commits",
        "Commits that the source has acknowledged and the slowest sink does not show.",
    );
    if running {
        let _ = writeln!(out, "freshbench_backlog_commits{{{}}} {}", labels(name, None, &seen.phase), seen.backlog);
    }
    family(
        &mut out,
        "freshbench_changes",
        "counter",
        "changes",
        "Rows changed by commits that the source has acknowledged.",
    );
    if running {
        let _ = writeln!(out, "freshbench_changes_total{{{}}} {}", labels(name, None, &seen.phase), seen.changes);
    }
    family(
        &mut out,
        "freshbench_divergent_rows",
        "gauge",
        "rows",
        "Rows of a sink that are missing, extra or wrong, after verification.",
    );
    for case in finished {
        let mut by_sink: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
        for entry in &case.validation.sinks {
            *by_sink.entry(&entry.sink).or_default() += entry.missing + entry.extra + entry.wrong;
        }
        for (sink, rows) in by_sink {
            let _ = writeln!(out, "freshbench_divergent_rows{{{}}} {rows}", labels(&case.name, Some(sink), "finished"));
        }
    }
    out.push_str("# EOF\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{Feed, Sample};

    #[test]
    fn the_exposition_has_units_in_its_names_and_escapes_its_labels() {
        let feed = Feed::new();
        feed.begin("a\"b: run");
        for (t_s, newest, visible) in [(0.0, 1, 1), (1.0, 3, 1), (1.5, 3, 3)] {
            feed.sample(&Sample { t_s, newest, changes: 9, visible: &[("cache", visible)] });
        }
        let text = exposition(&feed.snapshot());
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains(
            "# TYPE freshbench_commit_lag_seconds histogram\n# UNIT freshbench_commit_lag_seconds seconds\n"
        ));
        let labels = "strategy=\"a\\\"b\",sink=\"cache\",phase=\"run\"";
        assert!(text.contains(&format!("freshbench_commit_lag_seconds_bucket{{{labels},le=\"0.2\"}} 0\n")), "{text}");
        assert!(text.contains(&format!("freshbench_commit_lag_seconds_bucket{{{labels},le=\"0.5\"}} 2\n")), "{text}");
        assert!(text.contains(&format!("freshbench_commit_lag_seconds_bucket{{{labels},le=\"+Inf\"}} 2\n")));
        assert!(text.contains(&format!("freshbench_age_seconds{{{labels}}} 0\n")));
        assert!(text.contains("freshbench_changes_total{strategy=\"a\\\"b\",phase=\"run\"} 9\n"));
        assert!(text.contains("# TYPE freshbench_changes counter\n"), "{text}");
    }
}
