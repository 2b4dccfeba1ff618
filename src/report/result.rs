//! The shape of `result.json`, as `reports/result.schema.json` publishes it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The schema's name, in every file.
pub const SCHEMA: &str = "freshbench.result";
/// The schema's version: the first number rises when a reader of the old one would misread the new one.
pub const SCHEMA_VERSION: &str = "2.0";
/// The first number of the oldest version that can still be shown. What is compared must share the first number: a figure
/// of one name does not mean the same in both.
pub const SHOWN_FROM_MAJOR: u32 = 1;

/// The first number of a version: `2` of `2.0`.
pub fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// Whether a result of this version can be shown.
pub fn is_shown(version: &str) -> bool {
    major(version).is_some_and(|found| found >= SHOWN_FROM_MAJOR && Some(found) <= major(SCHEMA_VERSION))
}

/// One run: every strategy on one identical stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunResult {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// See [`SCHEMA_VERSION`].
    pub schema_version: String,
    /// UTC time and workload; also the folder's name.
    pub run_id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// False while cases are still to come, and for ever in a run that was interrupted.
    pub complete: bool,
    /// The build's source, where it is known.
    pub git: GitState,
    /// The machine.
    pub env: Environment,
    /// What was run.
    pub config: Config,
    /// One entry a strategy; `control` is the workload alone.
    pub strategies: Vec<Case>,
    /// What a reader must know before quoting a figure.
    pub warnings: Vec<String>,
}

/// The state of the source tree in which the command was run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GitState {
    /// The commit, if the command ran inside a git checkout.
    pub commit: Option<String>,
    /// Whether that checkout had uncommitted changes.
    pub dirty: Option<bool>,
}

/// The machine and the build.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Environment {
    /// As the kernel names it.
    pub cpu_model: String,
    /// Logical cores that this process may use.
    pub cores: u32,
    /// Physical memory.
    pub mem_bytes: u64,
    /// The file system under the working folder.
    pub fs: String,
    /// Kernel name and release.
    pub os: String,
    /// freshbench's own version.
    pub freshbench: String,
    /// The compiler that built it.
    pub rustc: String,
    /// `release` or `debug`; figures of a debug build are not worth quoting.
    pub profile: String,
    /// The memory allocator.
    pub allocator: String,
    /// What the machine's own basic operations cost just before the run, by name with the unit last.
    pub calibration: BTreeMap<String, f64>,
}

/// What was run: enough to run it again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Config {
    /// Digest of `settings`; two results compare only when it is equal.
    pub hash: String,
    /// Which list of settings the digest is over; digests of two versions say nothing about each other. Version 1 wrote none.
    #[serde(default = "first_hash_version")]
    pub hash_version: u32,
    /// Every setting that can change a figure, by name. Results before version 2 have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// The workload's seed.
    pub seed: u64,
    /// The workload's name.
    pub workload: String,
    /// Digest of the stream of transactions that every strategy got.
    pub stream_digest: String,
    /// The record system.
    pub source: String,
    /// Rows in all tables before the first transaction.
    pub rows: u64,
    /// Transactions a second that were offered.
    pub rate: f64,
    /// `fixed` or `poisson`.
    pub arrivals: String,
    /// Concurrent clients.
    pub clients: u32,
    /// Measured seconds a case, after the warm-up.
    pub duration_s: f64,
    /// Seconds before the measured ones.
    pub warmup_s: f64,
    /// Seconds between two batches of `full-refresh` and `incremental`.
    pub batch_interval_s: f64,
    /// The sinks, in the order in which the application writes to them.
    pub sinks: Vec<String>,
    /// Seconds between two commits of the search index.
    pub search_interval_s: f64,
    /// Where the cache is and how it is filled, such as `memory, stream`.
    pub cache: String,
    /// The mean seconds that a client of a dual write lets pass before each write to a sink.
    pub think_s: f64,
    /// The probability that a client of a dual write dies between two writes.
    pub crash_rate: f64,
    /// Repetitions of each case.
    pub reps: u32,
    /// The source's and the log's durability.
    pub durability: String,
    /// The command line that gives this run again.
    pub command: String,
}

fn first_hash_version() -> u32 {
    1
}

/// [`Config::arrivals`] where the transactions are somebody else's.
pub const FOREIGN: &str = "foreign";

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Less is better.
    Lower,
    /// More is better.
    Higher,
    /// A fact, neither good nor bad.
    Neutral,
}

/// One figure of one strategy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Metric {
    /// Such as `freshness.commit_lag.p99`.
    pub id: String,
    /// The sink it was measured at; none for figures of the source or the whole pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// `s`, `bytes`, `1/s`, `ratio`, `count`, ...
    pub unit: String,
    /// Which way it is better.
    pub direction: Direction,
    /// The figure; with repetitions the median of theirs. Null when it can't be given.
    pub value: Option<f64>,
    /// Why there is no value, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    /// 95 % confidence interval, where one can be given.
    pub ci: Option<[f64; 2]>,
    /// How many observations it rests on.
    pub n: u64,
    /// Set when the true figure lies beyond the value, since observations in that tail were censored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lower_bound: bool,
    /// For `freshness.within_slo`: the objective.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theta_s: Option<f64>,
    /// The figure of each repetition, in order, when there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reps: Vec<f64>,
}

/// A distribution that other tools can read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hist {
    /// Such as `freshness.commit_lag`.
    pub id: String,
    /// The sink it was measured at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// The unit of the recorded integers.
    pub unit: String,
    /// Always `hdr-v2-deflate-base64`.
    pub encoding: String,
    /// The histogram.
    pub data: String,
    /// Observations that were cut off at the end of the run; they are in `data` with the length seen so far.
    pub censored: u64,
    /// Observations below zero, recorded as zero.
    pub negative: u64,
}

/// Values over the measured part of a run, all of one length.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Series {
    /// Seconds since the measuring began.
    pub t_s: Vec<f64>,
    /// The age of each sink at those instants.
    pub age_s: BTreeMap<String, Vec<f64>>,
    /// Commits that the source has acknowledged and the slowest sink does not show yet.
    pub backlog: Vec<f64>,
    /// Changes acknowledged by the source a second.
    pub changes_per_s: Vec<f64>,
    /// Memory of the process that is resident.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resident_bytes: Vec<f64>,
    /// Files of the warehouse.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warehouse_files: Vec<f64>,
    /// Their bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warehouse_bytes: Vec<f64>,
    /// What happened in the measured part at an instant, in the order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// When the process that measures stood still itself, in the order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stalls: Vec<SeriesStall>,
    /// The share of the cores' time that a hypervisor gave to other machines; empty where the system does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steal_share: Vec<f64>,
}

/// A time in which the process that measures did not run as it should have.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SeriesStall {
    /// Seconds since the measuring began; negative for one that had begun before.
    pub t_s: f64,
    /// Its length in seconds.
    pub duration_s: f64,
    /// `stopped`: nothing of it ran; `suspended`: the machine slept; `starved`: its threads waited for a core.
    pub cause: String,
}

/// Something that happened at an instant.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the measuring began.
    pub t_s: f64,
    /// The sink it happened at; none if it met all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// In words, such as `batch visible`.
    pub what: String,
}

/// A stretch of work with a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// Such as `initial load`, `warm-up`, `measure`, `drain`, `verify`.
    pub name: String,
    /// Seconds since the case began.
    pub start_s: f64,
    /// Its length.
    pub duration_s: f64,
    /// Rows it handled, where they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Bytes of rows or changes that it read from the source, where they were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
    /// Bytes that it wrote to log and sinks, where they were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// CPU seconds of the whole process, where they were measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_s: Option<f64>,
}

/// Whether a derived system equals the record system.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Validation {
    /// What the strategy promises: `equality`; `changed rows` for a sink that began empty; `none` for one that is known to lose
    /// changes.
    pub promise: String,
    /// Whether the promise was kept. Without a promise: whether every difference could be explained.
    pub passed: bool,
    /// Whether every sink equals the record system row by row. Never for a sink that began empty: of the rows from before
    /// nothing is known.
    pub equal: bool,
    /// For a sink that began empty: the rows of the source that were changed since, all of which were compared, and no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_rows: Option<u64>,
    /// The position at which they were compared.
    pub position: u64,
    /// One entry a sink and table.
    pub sinks: Vec<SinkValidation>,
    /// Digest of the record system's rows at the position.
    pub source_digest: String,
    /// Whether the record system itself equals what the ledger says that it acknowledged.
    pub source_equals_ledger: bool,
    /// Differences by cause, such as `lost delete`.
    pub causes: BTreeMap<String, u64>,
    /// Keys that two sinks show differently in columns that both keep.
    pub disagreements: u64,
    /// Why it did not pass, in words; empty when it did.
    pub failures: Vec<String>,
}

impl Validation {
    /// Whether only some rows were compared, by design, so that nothing is said of the whole.
    pub fn is_partial(&self) -> bool {
        self.changed_rows.is_some()
    }
}

/// One table of one sink, compared row by row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SinkValidation {
    /// The sink.
    pub sink: String,
    /// The table, as the record system names it.
    pub table: String,
    /// Rows that should be there.
    pub rows: u64,
    /// Rows that should be there and are not.
    pub missing: u64,
    /// Rows that should not be there.
    pub extra: u64,
    /// Rows with another content.
    pub wrong: u64,
    /// Rows that are not in a cache that may miss them, or that were never loaded nor changed since, in a sink that began empty;
    /// not counted as missing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub absent: u64,
    /// Digest of the sink's rows.
    pub digest: String,
    /// A few of the differences, in words.
    pub examples: Vec<String>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// How a sink that the application writes to itself came apart from the record system, and why.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SinkDivergence {
    /// The sink.
    pub sink: String,
    /// Rows written: one for each key that a commit changed.
    pub writes: u64,
    /// Times that an older write overwrote a newer one, until a later write put it right.
    pub races_transient: u64,
    /// The same, and nothing put it right.
    pub races_permanent: u64,
    /// Writes that a client's death lost, until a later write covered them.
    pub partial_failures_transient: u64,
    /// The same, and nothing covered them.
    pub partial_failures_permanent: u64,
    /// All of them for a million writes.
    pub per_million_writes: Option<f64>,
    /// A few of them, in words, the permanent ones first.
    pub examples: Vec<String>,
}

/// One strategy's part of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Case {
    /// `control`, `full-refresh`, `incremental`, `cdc-trigger`, ...
    pub name: String,
    /// What came out, in one sentence.
    pub sentence: String,
    /// Every figure.
    pub metrics: Vec<Metric>,
    /// Distributions.
    pub histograms: Vec<Hist>,
    /// Values over time, of the first repetition.
    pub timeseries: Series,
    /// Stretches of work, of the first repetition.
    pub phases: Vec<Phase>,
    /// The comparison with the record system; with repetitions the worst of them.
    pub validation: Validation,
    /// For strategies in which the application writes to the sinks itself: one entry a sink, of the repetition that `validation` is of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub divergence: Vec<SinkDivergence>,
    /// Those of the run's warnings that must be read before any figure of this case: every report begins with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caveats: Vec<String>,
}

impl Case {
    /// The figure `id`, at whichever sink comes first.
    pub fn value(&self, id: &str) -> Option<f64> {
        self.metrics.iter().find(|metric| metric.id == id).and_then(|metric| metric.value)
    }

    /// The figure `id`, with everything said of it.
    pub fn metric(&self, id: &str) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.id == id)
    }

    /// The figure `id` at a sink, or of the whole for `None`.
    pub fn metric_at(&self, id: &str, sink: Option<&str>) -> Option<&Metric> {
        self.metrics.iter().find(|metric| metric.id == id && metric.sink.as_deref() == sink)
    }
}

impl Config {
    /// Whether the transactions were somebody else's, so that there is no seed and no offered load.
    pub fn is_foreign(&self) -> bool {
        self.arrivals == FOREIGN
    }
}

impl RunResult {
    /// The warnings that must be read before any figure.
    pub fn caveats(&self) -> impl Iterator<Item = &str> {
        self.strategies.iter().flat_map(|case| case.caveats.iter().map(String::as_str))
    }

    /// The warnings that may follow the figures.
    pub fn other_warnings(&self) -> impl Iterator<Item = &str> {
        let leads = |warning: &str| self.caveats().any(|caveat| caveat == warning);
        self.warnings.iter().map(String::as_str).filter(move |warning| !leads(warning))
    }

    /// The case named `name`.
    pub fn case(&self, name: &str) -> Option<&Case> {
        self.strategies.iter().find(|case| case.name == name)
    }
}
