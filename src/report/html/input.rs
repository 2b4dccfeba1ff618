//! What a page can be made from: results of runs, and what other commands leave behind.
//!
//! The shapes of the latter are read tolerantly: fields that are not known are passed over, and only those without which
//! nothing could be drawn are required. Each file names its `schema`; a history is JSON lines.
//!
//! * `freshbench.sweep`: `cells` (rows, change_rate, strategy, interval_s, measured, cost_cpu_s_per_s, freshness_p99_s), `map`
//!   (target_p99_s, rows, change_rate, cheapest, interval_s, cost_cpu_s_per_s, measured), `break_even` (rows, interval_s,
//!   changed_fraction, ci), `models`, `forecasts`, `checks`.
//! * `freshbench.comparison`: `a`, `b`, `pairs`, `verdict`, `control`, `metrics` (id, strategy, sink, unit, direction, a, b,
//!   estimate_ln, ci_ln, p, p_adjusted, margin, verdict, note), where the estimate is `ln(b / a)` and the margin a share.
//! * history: a line a result (benchmark, config_hash, machine, time, git, metrics (value, unit, direction, by name)), or its
//!   analysis, `freshbench.history-analysis`: `series` (id, unit, points (time, git, value), change_points (index, p, before,
//!   after, worse)).

mod lines;
mod shapes;

pub use shapes::{
    BreakEven, ChangePoint, Check, Compared, Comparison, Control, Forecast, ForecastOf, History, HistoryPoint,
    HistorySeries, MapCell, Model, Sweep, SweepCell, SweepPoint,
};

use self::lines::lines;
use crate::bounded;
use crate::report::result::{self, RunResult};
use serde_json::Value;
use std::fmt;
use std::path::{Path, PathBuf};

/// The largest file that is read, in bytes: a result of many repetitions is a megabyte.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// The version of all schemas but that of a result.
const OTHERS_VERSION: &str = "1.0";

/// Something that a page shows.
#[derive(Clone, Debug)]
pub enum Input {
    /// One run.
    Run(Box<RunResult>),
    /// A sweep over table size, change rate and interval.
    Sweep(Box<Sweep>),
    /// Two configurations or results against each other.
    Comparison(Box<Comparison>),
    /// Figures over many results.
    History(History),
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
            let told = ["label", "name", "run_id", "commit", "command"].iter().find_map(|name| fields.get(*name));
            told.map_or_else(|| value.to_string(), in_words)
        }
        other => other.to_string(),
    }
}

/// The file that a path names: itself, or what a command left in that folder.
pub fn file_of(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.to_owned();
    }
    let left = ["result.json", "sweep.json", "comparison.json", "history-analysis.json", "history.jsonl"];
    let found = left.iter().map(|name| path.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| path.join("result.json"))
}

/// Reads a file, or what a command left in a folder.
///
/// # Errors
/// [`InputError`] that names the file, what is wrong and the remedy.
pub fn read(path: &Path) -> Result<Input, InputError> {
    let path = file_of(path);
    let wrong = |why: String| InputError { path: path.clone(), why };
    let unread = |cause: std::io::Error| {
        wrong(format!(
            "can't be read: {cause}; name the folder or the result file of run, sweep, ab, compare or history"
        ))
    };
    let bytes = bounded::read(&path, FILE_BYTES_MAX).map_err(unread)?;
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
        // Older results are shown as well.
        if !value.get("schema_version").and_then(Value::as_str).is_some_and(result::is_shown) {
            check_version(&value, result::SCHEMA_VERSION)?;
        }
        return serde_json::from_value(value).map(|run| Input::Run(Box::new(run))).map_err(shape);
    }
    if schema.starts_with("freshbench.") {
        check_version(&value, OTHERS_VERSION)?;
    }
    if schema.starts_with("freshbench.sweep") {
        return serde_json::from_value(value).map(|sweep| Input::Sweep(Box::new(sweep))).map_err(shape);
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

/// A reader would misread a first number later than its own.
fn check_version(value: &Value, known: &str) -> Result<(), String> {
    let version = value.get("schema_version").and_then(Value::as_str).unwrap_or("");
    let major = |version: &str| version.split('.').next().and_then(|first| first.parse::<u32>().ok());
    if major(version).is_some() && major(version) <= major(known) {
        return Ok(());
    }
    Err(format!("has schema version {version:?}, and this freshbench reads {known}; use the version that wrote it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_file_is_known_by_what_it_says() {
        let sweep = br#"{"schema":"freshbench.sweep","schema_version":"1.0","cells":[{"rows":1,"change_rate":2,"strategy":"cdc-log","new":1}],"models":[]}"#;
        assert!(matches!(parse(sweep), Ok(Input::Sweep(sweep)) if sweep.cells.len() == 1));
        let comparison =
            br#"{"schema":"freshbench.comparison","schema_version":"1.3","control":null,"a":"x","b":{"label":"y"},"metrics":[{"id":"m","estimate_ln":0.1}]}"#;
        let Ok(Input::Comparison(comparison)) = parse(comparison) else { panic!("a comparison") };
        assert_eq!((in_words(&comparison.a), in_words(&comparison.b)), ("x".to_owned(), "y".to_owned()));
    }

    #[test]
    fn what_is_no_result_is_told_so() {
        for (text, told) in [
            ("", "is not JSON"),
            ("{}", "no known \"schema\""),
            ("[1]", "no known \"schema\""),
            (r#"{"schema":"freshbench.result","schema_version":"9.0"}"#, "schema version \"9.0\""),
            (r#"{"schema":"freshbench.result","schema_version":"1.1"}"#, "not what its schema says"),
            (r#"{"schema":"freshbench.sweep","schema_version":"2.0"}"#, "schema version \"2.0\""),
            (r#"{"schema":"freshbench.sweep","schema_version":"1.0","cells":7}"#, "not what its schema says"),
        ] {
            let why = parse(text.as_bytes()).unwrap_err();
            assert!(why.contains(told), "{text}: {why}");
        }
    }
}
