//! A small result for tests.

use crate::report::result::{Case, Direction, Metric, RunResult, Series, SinkValidation, Validation};

/// A figure at the warehouse with an interval of a hundredth.
pub fn metric(id: &str, value: f64) -> Metric {
    Metric {
        id: id.to_owned(),
        sink: id.starts_with("freshness").then(|| "warehouse".to_owned()),
        unit: "s".to_owned(),
        direction: Direction::Lower,
        value: Some(value),
        absent: None,
        ci: Some([value * 0.99, value * 1.01]),
        n: 100,
        lower_bound: false,
        theta_s: None,
        reps: Vec::new(),
    }
}

fn case(name: &str, age_s: f64) -> Case {
    let sink =
        SinkValidation { sink: "warehouse".to_owned(), table: "t".to_owned(), rows: 10, ..SinkValidation::default() };
    let mut series =
        Series { t_s: vec![0.0, 1.0], backlog: vec![1.0, 2.0], changes_per_s: vec![5.0, 6.0], ..Series::default() };
    series.age_s.insert("warehouse".to_owned(), vec![age_s, age_s / 2.0]);
    Case {
        name: name.to_owned(),
        sentence: format!("{name} is said."),
        metrics: vec![
            metric("freshness.age.mean", age_s),
            metric("freshness.commit_lag.p99", age_s),
            metric("cost.cpu_s_per_1k_changes", 0.1),
        ],
        histograms: Vec::new(),
        timeseries: series,
        phases: Vec::new(),
        validation: Validation {
            promise: "equality".to_owned(),
            passed: true,
            equal: true,
            sinks: vec![sink],
            ..Validation::default()
        },
        divergence: Vec::new(),
        caveats: Vec::new(),
    }
}

/// A run of strategies with these mean ages, all of which passed.
pub fn run(strategies: &[(&str, f64)]) -> RunResult {
    RunResult {
        schema: crate::report::result::SCHEMA.to_owned(),
        schema_version: crate::report::result::SCHEMA_VERSION.to_owned(),
        run_id: "20260101T000000Z-orders".to_owned(),
        started_at: "2026-01-01T00:00:00Z".to_owned(),
        complete: true,
        git: Default::default(),
        env: Default::default(),
        config: crate::report::Config { workload: "orders".to_owned(), duration_s: 1.0, ..Default::default() },
        strategies: strategies.iter().map(|(name, age_s)| case(name, *age_s)).collect(),
        warnings: Vec::new(),
    }
}
