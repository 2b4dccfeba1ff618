//! The shapes of what other commands than `run` leave behind, as a page reads them.

use serde::Deserialize;
use serde_json::Value;

/// See the module's documentation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sweep {
    /// Freshness targets: the p99 of the commit lag, in seconds.
    pub target_p99_s: Vec<f64>,
    /// What was measured or computed.
    pub cells: Vec<SweepCell>,
    /// Every run, as it was.
    pub runs: Vec<SweepPoint>,
    /// The cheapest for each target.
    pub map: Vec<MapCell>,
    /// Where a change stream costs as much as a full refresh.
    pub break_even: Vec<BreakEven>,
    /// The fitted lines.
    pub models: Vec<Model>,
    /// What was foretold.
    pub forecasts: Vec<Forecast>,
    /// What came out when it was run.
    pub checks: Vec<Check>,
    /// The command that gives it again.
    pub command: Option<String>,
    /// What a reader must know.
    pub warnings: Vec<String>,
}

/// One measured run of a sweep.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SweepPoint {
    /// Which.
    pub strategy: String,
    /// Rows of the main table.
    pub rows: f64,
    /// Changes a second, as they were.
    pub change_rate: f64,
    /// The interval it was run with.
    pub interval_s: f64,
    /// CPU seconds a second.
    pub cost_cpu_s_per_s: Option<f64>,
    /// p99 of the commit lag, in seconds.
    pub freshness_p99_s: Option<f64>,
}

/// A fitted line.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Model {
    /// The strategy.
    pub strategy: String,
    /// What it gives.
    pub of: String,
    /// What it is a line in.
    pub by: String,
    /// The value at zero.
    pub intercept: Option<f64>,
    /// The slope.
    pub slope: Option<f64>,
    /// Its 95 % interval.
    pub slope_ci: Option<[Option<f64>; 2]>,
    /// The relative spread of the points about it.
    pub spread: Option<f64>,
    /// The power of the rows that the line is multiplied with at other sizes.
    pub size_exponent: Option<f64>,
    /// The power as it was measured.
    pub size_exponent_measured: Option<f64>,
    /// The 95 % interval of that.
    pub size_exponent_ci: Option<[Option<f64>; 2]>,
    /// Rows of all tables at the smallest size.
    pub size_base_rows: Option<f64>,
    /// One for each point.
    pub residuals: Vec<Value>,
}

/// A place that was foretold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Forecast {
    /// Rows of the main table.
    pub rows: f64,
    /// Changes a second.
    pub change_rate: f64,
    /// Seconds between batches.
    pub interval_s: f64,
    /// Whether it lies beyond what was run.
    pub extrapolation: bool,
    /// So many times the largest size that was run.
    pub rows_times: Option<f64>,
    /// So many times the highest rate that was run.
    pub rate_times: Option<f64>,
    /// By strategy.
    pub strategies: Vec<ForecastOf>,
    /// The strategy that costs least.
    pub cheapest: Option<String>,
}

/// A forecast for one strategy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ForecastOf {
    /// Which.
    pub strategy: String,
    /// CPU seconds an interval.
    pub cpu_s_per_interval: Option<f64>,
    /// Its 95 % interval.
    pub ci: Option<[Option<f64>; 2]>,
    /// CPU seconds a second.
    pub cost_cpu_s_per_s: Option<f64>,
    /// p99 of the commit lag, in seconds.
    pub freshness_p99_s: Option<f64>,
    /// Why it can't be done, if so.
    pub impossible: Option<String>,
}

/// A forecast that was run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Check {
    /// Which strategy.
    pub strategy: String,
    /// CPU seconds: of one refresh, or of one second of a stream.
    pub predicted_cpu_s: Option<f64>,
    /// The same, measured.
    pub measured_cpu_s: Option<f64>,
    /// `measured / predicted - 1`.
    pub error: Option<f64>,
    /// What a known place cost just before, against the grid: `then / mean - 1`.
    pub drift_before: Option<f64>,
    /// The same, just after.
    pub drift_after: Option<f64>,
}

/// One strategy at one point of a sweep.
#[derive(Clone, Debug, Deserialize)]
pub struct SweepCell {
    /// Rows of the table.
    pub rows: f64,
    /// Changes a second.
    pub change_rate: f64,
    /// Which.
    pub strategy: String,
    /// Seconds between batches, where there are any.
    #[serde(default)]
    pub interval_s: Option<f64>,
    /// Measured, or computed by a model.
    #[serde(default)]
    pub measured: bool,
    /// CPU seconds a second.
    #[serde(default)]
    pub cost_cpu_s_per_s: Option<f64>,
    /// p99 of the commit lag, in seconds.
    #[serde(default)]
    pub freshness_p99_s: Option<f64>,
}

/// The cheapest strategy at one point.
#[derive(Clone, Debug, Deserialize)]
pub struct MapCell {
    /// The target, in seconds.
    #[serde(default)]
    pub target_p99_s: Option<f64>,
    /// Rows of the table.
    pub rows: f64,
    /// Changes a second.
    pub change_rate: f64,
    /// The strategy; none where none reaches the target.
    #[serde(default)]
    pub cheapest: Option<String>,
    /// Its interval, in seconds.
    #[serde(default)]
    pub interval_s: Option<f64>,
    /// CPU seconds a second.
    #[serde(default)]
    pub cost_cpu_s_per_s: Option<f64>,
    /// Measured there, or computed by a model.
    #[serde(default)]
    pub measured: bool,
}

/// A break-even point.
#[derive(Clone, Debug, Deserialize)]
pub struct BreakEven {
    /// Rows of the table.
    pub rows: f64,
    /// Seconds between batches.
    #[serde(default)]
    pub interval_s: Option<f64>,
    /// The share of the rows that changes in an interval.
    #[serde(default)]
    pub changed_fraction: Option<f64>,
    /// Its interval.
    #[serde(default)]
    pub ci: Option<[Option<f64>; 2]>,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Comparison {
    /// The first, by name or with its facts.
    pub a: Value,
    /// The second.
    pub b: Value,
    /// `signed-rank` of pairs that ran interleaved, or `bootstrap-t` of stored repetitions.
    pub method: String,
    /// Pairs of runs, or repetitions of the smaller side.
    pub pairs: Option<u64>,
    /// What was compared.
    pub metrics: Vec<Compared>,
    /// What a comparison of the first with itself gave, if it was made.
    pub control: Option<Control>,
    /// What a reader must know.
    pub warnings: Vec<String>,
    /// In a word.
    pub verdict: String,
}

/// The first against itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Control {
    /// Pairs of runs.
    pub pairs: Option<u64>,
    /// Whether it found a difference, where there is none.
    pub fired: bool,
}

/// One figure of a comparison.
#[derive(Clone, Debug, Deserialize)]
pub struct Compared {
    /// Which.
    pub id: String,
    /// Of which strategy.
    #[serde(default)]
    pub strategy: Option<String>,
    /// At which sink.
    #[serde(default)]
    pub sink: Option<String>,
    /// Its unit.
    #[serde(default)]
    pub unit: String,
    /// `lower`, `higher` or `neutral`.
    #[serde(default)]
    pub direction: Option<String>,
    /// The median at the first.
    #[serde(default)]
    pub a: Option<f64>,
    /// The median at the second.
    #[serde(default)]
    pub b: Option<f64>,
    /// `ln(b / a)`.
    #[serde(default)]
    pub estimate_ln: Option<f64>,
    /// Its interval.
    #[serde(default)]
    pub ci_ln: Option<[Option<f64>; 2]>,
    /// How likely so much is by chance.
    #[serde(default)]
    pub p: Option<f64>,
    /// The same, adjusted for all figures of the comparison.
    #[serde(default)]
    pub p_adjusted: Option<f64>,
    /// The share up to which a change counts as none.
    #[serde(default)]
    pub margin: Option<f64>,
    /// In a word.
    #[serde(default)]
    pub verdict: Option<String>,
    /// Why it could not be judged, if so.
    #[serde(default)]
    pub note: Option<String>,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct History {
    /// A figure each.
    pub series: Vec<HistorySeries>,
    /// Whether changes were looked for.
    #[serde(skip)]
    pub bare: bool,
}

/// One figure over many results.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HistorySeries {
    /// Which.
    pub id: String,
    /// Its unit, where it is told.
    pub unit: Option<String>,
    /// From the oldest to the newest.
    pub points: Vec<HistoryPoint>,
    /// Where it changed.
    pub change_points: Vec<ChangePoint>,
}

/// One result's figure.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HistoryPoint {
    /// When.
    pub time: Value,
    /// From which source.
    pub git: Value,
    /// The figure.
    pub value: Option<f64>,
}

/// A change point.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ChangePoint {
    /// The first point after it, from 0.
    pub index: usize,
    /// How likely so much is by chance.
    pub p: Option<f64>,
    /// The median before.
    pub before: Option<f64>,
    /// The median after.
    pub after: Option<f64>,
    /// Whether the figure became worse, where it is told.
    pub worse: Option<bool>,
}
