//! What is swept over, and what is found: `sweep.json`.

use crate::decide::break_even::{BreakEven, Cell, Forecast, MapCell, Model};
use crate::plan::RawPlan;
use crate::report::{Environment, GitState};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// What to sweep over.
#[derive(Clone, Debug)]
pub struct SweepPlan {
    /// Everything that is the same in all runs.
    pub base: RawPlan,
    /// Rows of the main table, ascending.
    pub rows: Vec<u64>,
    /// Changes a second, ascending.
    pub change_rates: Vec<f64>,
    /// Intervals between batches, ascending.
    pub intervals: Vec<Duration>,
    /// Whether full refreshes are compared.
    pub refresh: bool,
    /// The change streams that are compared, by name.
    pub streams: Vec<String>,
    /// Targets for p99 commit lag.
    pub targets: Vec<Duration>,
    /// The time for measuring.
    pub budget: Duration,
    /// Places to foretell: rows, changes a second, interval.
    pub predict: Vec<(u64, f64, Duration)>,
    /// Whether to run the forecasts' places as well, and compare.
    pub check: bool,
    /// Where runs leave their results.
    pub folder: PathBuf,
}

/// One measured run.
#[derive(Clone, Debug, Serialize)]
pub struct SweepRun {
    /// The strategy.
    pub strategy: String,
    /// Rows of the main table.
    pub rows: u64,
    /// Rows of all tables.
    pub rows_total: u64,
    /// Changes a second, as they were.
    pub change_rate: f64,
    /// Changes a second that were asked for.
    pub asked_rate: f64,
    /// The interval it was run with.
    pub interval_s: f64,
    /// CPU seconds a second.
    pub cost_cpu_s_per_s: f64,
    /// CPU seconds a refresh.
    pub cpu_s_per_refresh: Option<f64>,
    /// Length of a refresh at the slowest sink.
    pub refresh_s: Option<f64>,
    /// p99 commit lag at the slowest sink.
    pub freshness_p99_s: Option<f64>,
    /// How long it took altogether.
    pub took_s: f64,
}

/// A forecast and what came out when it was run.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// The strategy.
    pub strategy: String,
    /// CPU seconds: of one refresh, or of one second of the stream.
    pub predicted_cpu_s: f64,
    /// The same, measured.
    pub measured_cpu_s: f64,
    /// `measured / predicted - 1`.
    pub error: f64,
    /// Whether it lies within a quarter.
    pub within_25_percent: bool,
    /// What a place of the grid cost just before, against its mean in the grid: `then / mean - 1`. How much the machine drifts. None if it
    /// did not come to be run in the grid.
    pub drift_before: Option<f64>,
    /// The same, just after.
    pub drift_after: Option<f64>,
}

impl Checked {
    /// A forecast against what was measured; `[before, after]` of a place of the grid, with its mean in the grid.
    pub(super) fn of(
        strategy: String,
        (predicted, measured): (f64, f64),
        known: [f64; 2],
        in_grid: Option<f64>,
    ) -> Checked {
        let error = measured / predicted - 1.0;
        let [drift_before, drift_after] = known.map(|then| Some(then / in_grid? - 1.0));
        Checked {
            strategy,
            predicted_cpu_s: predicted,
            measured_cpu_s: measured,
            error,
            within_25_percent: error.abs() <= 0.25,
            drift_before,
            drift_after,
        }
    }
}

/// `sweep.json`
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// Always `freshbench.sweep`.
    pub schema: String,
    /// Raised with every change of the form.
    pub schema_version: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// The command that gives it again.
    pub command: String,
    /// The workload.
    pub workload: String,
    /// The machine.
    pub env: Environment,
    /// The build's source.
    pub git: GitState,
    /// Targets for p99 commit lag, in seconds.
    pub target_p99_s: Vec<f64>,
    /// Every place of the grid.
    pub cells: Vec<Cell>,
    /// The cheapest strategy for each target.
    pub map: Vec<MapCell>,
    /// Where a change stream becomes dearer than a refresh.
    pub break_even: Vec<BreakEven>,
    /// The fitted lines.
    pub models: Vec<Model>,
    /// Every run.
    pub runs: Vec<SweepRun>,
    /// Forecasts.
    pub forecasts: Vec<Forecast>,
    /// What came out when forecasts were run.
    pub checks: Vec<Checked>,
    /// What a reader must know.
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::decide::break_even::{SCHEMA, SCHEMA_VERSION, map};
    use crate::report::html::{Input, input, report};

    #[test]
    fn a_check_by_hand() {
        let check = Checked::of("cdc-trigger".to_owned(), (2.0, 2.5), [0.9, 1.2], Some(1.0));
        assert!((check.error - 0.25).abs() < 1e-12 && check.within_25_percent);
        let drifts = [check.drift_before.unwrap(), check.drift_after.unwrap()];
        assert!((drifts[0] + 0.1).abs() < 1e-12 && (drifts[1] - 0.2).abs() < 1e-12, "{drifts:?}");
        let check = Checked::of("cdc-trigger".to_owned(), (2.0, 1.4), [1.0, 1.0], None);
        assert!(!check.within_25_percent && check.drift_before.is_none() && check.drift_after.is_none());
        // What was not measured is not within anything.
        assert!(!Checked::of(String::new(), (2.0, f64::NAN), [1.0, 1.0], None).within_25_percent);
    }

    #[test]
    fn a_page_is_made_from_what_is_written() {
        let cell = |strategy: &str, cost, measured| Cell {
            rows: 1000,
            rows_total: 6620,
            change_rate: 50.0,
            strategy: strategy.to_owned(),
            interval_s: 1.0,
            measured,
            cost_cpu_s_per_s: cost,
            freshness_p99_s: cost,
        };
        let cells = vec![cell("full-refresh", None, false), cell("cdc-trigger", Some(0.1), true)];
        let targets = vec![0.01, 1.0];
        let none = BreakEven { rows: 1000, rows_total: 6620, interval_s: 1.0, changed_fraction: None, ci: None };
        let folder = tempfile::tempdir().unwrap();
        let sweep = Sweep {
            schema: SCHEMA.to_owned(),
            schema_version: SCHEMA_VERSION.to_owned(),
            started_at: String::new(),
            command: "freshbench sweep".to_owned(),
            workload: "orders".to_owned(),
            env: crate::run::environment(folder.path(), &Clock::monotonic()),
            git: GitState::default(),
            map: map(&cells, &targets),
            target_p99_s: targets,
            cells,
            break_even: vec![none],
            models: Model::fit("cdc-trigger", ("cpu_s_per_s", "changes_per_s"), &[(1.0, 2.0), (2.0, 3.0)])
                .into_iter()
                .collect(),
            runs: Vec::new(),
            forecasts: Vec::new(),
            checks: Vec::new(),
            warnings: vec!["be warned".to_owned()],
        };
        let file = folder.path().join("sweep.json");
        std::fs::write(&file, serde_json::to_vec(&sweep).unwrap()).unwrap();
        let read = input::read(folder.path()).unwrap();
        let Input::Sweep(seen) = &read else { panic!("a sweep") };
        assert_eq!((seen.cells.len(), seen.map.len(), seen.models.len()), (2, 2, 1));
        assert!(seen.map[0].cheapest.is_none() && seen.map[1].cheapest.as_deref() == Some("cdc-trigger"));
        assert!(seen.map[1].measured);
        let page = report(&[read]);
        assert!(page.contains("none is known to reach it") && page.contains("be warned"));
        assert!(!page.contains("cdc-trigger every"), "a change stream has no interval");
    }
}
