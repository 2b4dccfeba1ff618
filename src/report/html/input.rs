//! What a page can be made from: results of runs, and what other commands leave behind.
//!
//! The shapes of the latter are read tolerantly: fields that are not known are passed over, and only those without which
//! nothing could be drawn are required. Each file names its `schema`; a history is JSON lines.
//!
//! * `freshbench.sweep`: `cells` (rows, change_rate, strategy, interval_s, measured, cost_cpu_s_per_s, freshness_p99_s), `map`
//!   (target_p99_s, rows, change_rate, cheapest, interval_s, cost_cpu_s_per_s), `break_even` (rows, interval_s, changed_fraction, ci).
//! * `freshbench.comparison`: `a`, `b`, `pairs`, `verdict`, `control`, `metrics` (id, strategy, sink, unit, direction,
//!   estimate_ln, ci_ln, p, margin, verdict), where the estimate is `ln(b / a)` and the margin a share.
//! * history: a line a result (benchmark, config_hash, machine, time, git, metrics), or its analysis: `series` (id, points (time,
//!   git, value), change_points (index, p, before, after)).

use crate::report::result::{self, RunResult};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes: a result of many repetitions is a megabyte.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Something that a page shows.
#[derive(Clone, Debug)]
pub enum Input {
    /// One run.
    Run(Box<RunResult>),
    /// A sweep over table size, change rate and interval.
    Sweep(Sweep),
    /// Two configurations or results against each other.
    Comparison(Box<Comparison>),
    /// Figures over many results.
    History(History),
}

/// See the module's documentation.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sweep {
    /// Freshness targets: the p99 of the commit lag, in seconds.
    pub target_p99_s: Vec<f64>,
    /// What was measured or computed.
    pub cells: Vec<SweepCell>,
    /// The cheapest for each target.
    pub map: Vec<MapCell>,
    /// Where CDC costs as much as a full refresh.
    pub break_even: Vec<BreakEven>,
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
    /// Pairs of runs.
    pub pairs: Option<u64>,
    /// What was compared.
    pub metrics: Vec<Compared>,
    /// What a comparison of the first with itself gave.
    pub control: Value,
    /// In a word.
    pub verdict: Value,
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
    /// `lower`, `higher` or `neutral`.
    #[serde(default)]
    pub direction: Option<String>,
    /// `ln(b / a)`.
    #[serde(default)]
    pub estimate_ln: Option<f64>,
    /// Its interval.
    #[serde(default)]
    pub ci_ln: Option<[Option<f64>; 2]>,
    /// How likely so much is by chance.
    #[serde(default)]
    pub p: Option<f64>,
    /// The share up to which a change counts as none.
    #[serde(default)]
    pub margin: Option<f64>,
    /// In a word.
    #[serde(default)]
    pub verdict: Option<String>,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct History {
    /// A figure each.
    pub series: Vec<HistorySeries>,
}

/// One figure over many results.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HistorySeries {
    /// Which.
    pub id: String,
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
    /// The mean before.
    pub before: Option<f64>,
    /// The mean after.
    pub after: Option<f64>,
}

/// One line of a history.
#[derive(Deserialize)]
struct HistoryLine {
    #[serde(default)]
    time: Value,
    #[serde(default)]
    git: Value,
    metrics: BTreeMap<String, Option<f64>>,
}

/// Why a file can't be shown.
#[derive(Debug)]
pub struct InputError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what to do.
    pub why: String,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for InputError {}

/// A value as a short text: a name as it is, an object by its name or commit.
pub(super) fn in_words(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let told =
                ["label", "name", "run_id", "verdict", "commit", "command"].iter().find_map(|name| fields.get(*name));
            told.map_or_else(|| value.to_string(), in_words)
        }
        other => other.to_string(),
    }
}

/// Reads a file, or the `result.json` of a run's folder.
///
/// # Errors
/// [`InputError`] that names the file, what is wrong and the remedy.
pub fn read(path: &Path) -> Result<Input, InputError> {
    let path = if path.is_dir() { path.join("result.json") } else { path.to_owned() };
    let wrong = |why: String| InputError { path: path.clone(), why };
    let unread = |cause: std::io::Error| {
        wrong(format!(
            "can't be read: {cause}; name a run's folder, or a result file of run, sweep, ab, compare or history"
        ))
    };
    let size = std::fs::metadata(&path).map_err(unread)?.len();
    if size > FILE_BYTES_MAX {
        return Err(wrong(format!("is {size} bytes long; at most {FILE_BYTES_MAX} are read")));
    }
    let bytes = std::fs::read(&path).map_err(unread)?;
    parse(&bytes).map_err(wrong)
}

fn parse(bytes: &[u8]) -> Result<Input, String> {
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        // Several objects one after the other are a history.
        Err(cause) => return lines(bytes).ok_or_else(|| format!("is not JSON: {cause}; name a result file")),
    };
    let schema = value.get("schema").and_then(Value::as_str).unwrap_or("");
    let shape = |cause: serde_json::Error| {
        format!("is not what its schema says: {cause}; write it anew with this version of freshbench")
    };
    if schema == result::SCHEMA {
        check_version(&value)?;
        return serde_json::from_value(value).map(|run| Input::Run(Box::new(run))).map_err(shape);
    }
    if schema.starts_with("freshbench.sweep") {
        return serde_json::from_value(value).map(Input::Sweep).map_err(shape);
    }
    if schema.starts_with("freshbench.comparison") {
        return serde_json::from_value(value).map(|comparison| Input::Comparison(Box::new(comparison))).map_err(shape);
    }
    if value.get("series").is_some_and(Value::is_array) {
        return serde_json::from_value(value).map(Input::History).map_err(shape);
    }
    lines(bytes).ok_or_else(|| {
        "is no result of freshbench: it has no known \"schema\"; name a run's folder or a result file".to_owned()
    })
}

/// A reader of version 1 would misread a later first number.
fn check_version(value: &Value) -> Result<(), String> {
    let version = value.get("schema_version").and_then(Value::as_str).unwrap_or("");
    let major = |version: &str| version.split('.').next().and_then(|first| first.parse::<u32>().ok());
    if major(version) == major(result::SCHEMA_VERSION) {
        return Ok(());
    }
    Err(format!(
        "has schema version {version:?}, and this freshbench reads {}; use the version that wrote it",
        result::SCHEMA_VERSION
    ))
}

fn lines(bytes: &[u8]) -> Option<Input> {
    let mut series: BTreeMap<String, HistorySeries> = BTreeMap::new();
    for line in serde_json::Deserializer::from_slice(bytes).into_iter::<HistoryLine>() {
        let line = line.ok()?;
        for (id, value) in line.metrics {
            let point = HistoryPoint { time: line.time.clone(), git: line.git.clone(), value };
            let entry = series.entry(id.clone()).or_insert_with(|| HistorySeries { id, ..HistorySeries::default() });
            entry.points.push(point);
        }
    }
    (!series.is_empty()).then(|| Input::History(History { series: series.into_values().collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_file_is_known_by_what_it_says() {
        let sweep = br#"{"schema":"freshbench.sweep","cells":[{"rows":1,"change_rate":2,"strategy":"cdc-log","new":1}],"models":[]}"#;
        assert!(matches!(parse(sweep), Ok(Input::Sweep(sweep)) if sweep.cells.len() == 1));
        let comparison =
            br#"{"schema":"freshbench.comparison","a":"x","b":{"label":"y"},"metrics":[{"id":"m","estimate_ln":0.1}]}"#;
        let Ok(Input::Comparison(comparison)) = parse(comparison) else { panic!("a comparison") };
        assert_eq!((in_words(&comparison.a), in_words(&comparison.b)), ("x".to_owned(), "y".to_owned()));
        let lines = b"{\"time\":\"t1\",\"git\":\"a\",\"metrics\":{\"m\":1}}\n{\"time\":\"t2\",\"metrics\":{\"m\":2,\"k\":null}}\n";
        let Ok(Input::History(history)) = parse(lines) else { panic!("a history") };
        assert_eq!(
            history.series.iter().map(|s| (s.id.as_str(), s.points.len())).collect::<Vec<_>>(),
            [("k", 1), ("m", 2)]
        );
    }

    #[test]
    fn what_is_no_result_is_told_so() {
        for (text, told) in [
            ("", "is not JSON"),
            ("{}", "no known \"schema\""),
            ("[1]", "no known \"schema\""),
            (r#"{"schema":"freshbench.result","schema_version":"9.0"}"#, "schema version \"9.0\""),
            (r#"{"schema":"freshbench.result","schema_version":"1.1"}"#, "not what its schema says"),
            (r#"{"schema":"freshbench.sweep","cells":7}"#, "not what its schema says"),
        ] {
            let why = parse(text.as_bytes()).unwrap_err();
            assert!(why.contains(told), "{text}: {why}");
        }
    }
}
