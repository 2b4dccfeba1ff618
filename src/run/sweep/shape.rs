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
}

/// `sweep.json`
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// See [`SCHEMA_VERSION`].
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
