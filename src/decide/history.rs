//! The history of a benchmark: a JSON line a result, and the changes in it.

use super::judged::margin_of;
use super::stored::{StoredError, machine_in_words, machine_key, read_text};
use crate::report::result::major;
use crate::report::{Direction, Environment, GitState, RunResult};
use crate::stats::{ChangePointOptions, change_points, median};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The largest history that is read, in bytes.
const HISTORY_BYTES_MAX: u64 = 256 << 20;
/// The fewest results of a series before changes are looked for.
pub const POINTS_MIN: usize = 15;
/// The schema of an analysis.
pub const ANALYSIS_SCHEMA: &str = "freshbench.history-analysis";

/// One figure of one result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryMetric {
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// Which way it is better.
    pub direction: Direction,
}

/// One line of a history. Lines compare when benchmark, schema, configuration and machine are equal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The workload, or `criterion`.
    pub benchmark: String,
    /// The first number of the schema of the result; a figure of one name does not mean the same in two of them. Lines before it was
    /// kept are of 1, and criterion's, whose times mean the same for ever, stay there.
    #[serde(default = "first_schema")]
    pub schema_major: u32,
    /// The configuration's hash; of criterion's benches nothing is known.
    pub config_hash: String,
    /// The key of the machine.
    pub machine: String,
    /// What the machine is.
    #[serde(default)]
    pub machine_in_words: String,
    /// RFC 3339, UTC.
    pub time: String,
    /// The run, so that it is not added twice.
    #[serde(default)]
    pub run_id: String,
    /// The state of the source tree.
    pub git: GitState,
    /// By name: `strategy/figure/sink`.
    pub metrics: BTreeMap<String, HistoryMetric>,
}

const FIRST_SCHEMA: u32 = 1;

fn first_schema() -> u32 {
    FIRST_SCHEMA
}

impl HistoryEntry {
    /// The entry of a result: every figure with a direction, of the strategies that passed their validation.
    pub fn of(result: &RunResult) -> HistoryEntry {
        let passed = result.strategies.iter().filter(|case| case.validation.passed);
        let figures = passed.flat_map(|case| {
            let metrics = case.metrics.iter().filter(|m| m.direction != Direction::Neutral && m.theta_s.is_none());
            metrics.filter_map(|metric| {
                let sink = metric.sink.as_deref().map_or(String::new(), |sink| format!("/{sink}"));
                let value = metric.value.filter(|value| value.is_finite())?;
                let of = HistoryMetric { value, unit: metric.unit.clone(), direction: metric.direction };
                Some((format!("{}/{}{sink}", case.name, metric.id), of))
            })
        });
        HistoryEntry {
            benchmark: result.config.workload.clone(),
            schema_major: major(&result.schema_version).unwrap_or(FIRST_SCHEMA),
            config_hash: result.config.hash.clone(),
            machine: machine_key(&result.env),
            machine_in_words: machine_in_words(&result.env),
            time: result.started_at.clone(),
            run_id: result.run_id.clone(),
            git: result.git.clone(),
            metrics: figures.collect(),
        }
    }

    /// The medians that criterion measured last, from the folder that it keeps (`target/criterion`): `new/benchmark.json` and
    /// `new/estimates.json` of each bench, whose times are in nanoseconds.
    ///
    /// # Errors
    /// [`StoredError`] when the folder holds none, or a file is not what criterion writes.
    pub fn of_criterion(
        folder: &Path,
        env: &Environment,
        time: &str,
        git: GitState,
    ) -> Result<HistoryEntry, StoredError> {
        let mut metrics = BTreeMap::new();
        let mut places: BTreeMap<String, PathBuf> = BTreeMap::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(place) = folders.pop() {
            let entries = std::fs::read_dir(&place)
                .map_err(|cause| StoredError::new(&place, format!("can't be read: {cause}; run cargo bench first")))?;
            for entry in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
                if entry.ends_with("new") && entry.join("estimates.json").exists() {
                    let (name, seconds) = criterion_bench(&entry)?;
                    // Neither may stand for the other, and which of them is the bench of the last time nobody can say.
                    if let Some(other) = places.insert(name.clone(), place.clone()) {
                        return Err(StoredError::new(
                            &place,
                            format!(
                                "is a second bench {name:?} beside {}; rename one, or remove what is of an older build",
                                other.display()
                            ),
                        ));
                    }
                    metrics.insert(
                        name,
                        HistoryMetric { value: seconds, unit: "s".to_owned(), direction: Direction::Lower },
                    );
                } else {
                    folders.push(entry);
                }
            }
        }
        if metrics.is_empty() {
            return Err(StoredError::new(folder, "holds no result of criterion; run cargo bench first"));
        }
        Ok(HistoryEntry {
            benchmark: "criterion".to_owned(),
            schema_major: FIRST_SCHEMA,
            config_hash: "criterion".to_owned(),
            machine: machine_key(env),
            machine_in_words: machine_in_words(env),
            time: time.to_owned(),
            run_id: criterion_run(&metrics),
            git,
            metrics,
        })
    }

    /// What lines must share to be points of one series.
    pub fn key(&self) -> EntryKey {
        (self.benchmark.clone(), self.schema_major, self.config_hash.clone(), self.machine.clone())
    }

    /// Whether both are of one run. A run without an id is like no other.
    fn is_same_run(&self, other: &HistoryEntry) -> bool {
        !self.run_id.is_empty() && self.run_id == other.run_id && self.machine == other.machine
    }
}

/// Benchmark, schema, configuration, machine.
pub type EntryKey = (String, u32, String, String);

/// Criterion gives its runs no id. No two of them measure every bench as long to the last bit.
fn criterion_run(metrics: &BTreeMap<String, HistoryMetric>) -> String {
    let lines = metrics.iter().map(|(name, metric)| format!("{name} {:x}\n", metric.value.to_bits()));
    format!("criterion-{:016x}", xxhash_rust::xxh3::xxh3_64(lines.collect::<String>().as_bytes()))
}

fn criterion_bench(folder: &Path) -> Result<(String, f64), StoredError> {
    const BYTES_MAX: u64 = 1 << 20;
    let parse = |name: &str| -> Result<serde_json::Value, StoredError> {
        let path = folder.join(name);
        let text = read_text(&path, BYTES_MAX)?;
        serde_json::from_str(&text).map_err(|cause| StoredError::new(&path, format!("is no JSON: {cause}")))
    };
    let (bench, estimates) = (parse("benchmark.json")?, parse("estimates.json")?);
    let name = bench.get("full_id").and_then(|id| id.as_str());
    let ns = estimates.pointer("/median/point_estimate").and_then(|estimate| estimate.as_f64());
    match (name, ns) {
        (Some(name), Some(ns)) => Ok((name.to_owned(), ns * 1e-9)),
        _ => Err(StoredError::new(
            folder,
            "is not what criterion 0.8 writes: full_id or median.point_estimate is missing",
        )),
    }
}

/// Reads a history, in the order of its lines.
///
/// # Errors
/// [`StoredError`] naming the line that is no entry.
pub fn read_history(path: &Path) -> Result<Vec<HistoryEntry>, StoredError> {
    let text = read_text(path, HISTORY_BYTES_MAX)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let entry = |(place, line): (usize, &str)| {
        let why = |cause| format!("line {} is no entry of a history: {cause}; take it out", place + 1);
        serde_json::from_str(line).map_err(|cause| StoredError::new(path, why(cause)))
    };
    lines.map(entry).collect()
}

/// Appends entries to a history, which is made if it is not there; each line whole, on the disk when this returns.
///
/// # Errors
/// [`StoredError`] when the file can't be written, ends in half a line, or holds one of these runs already. Nothing is written then.
pub fn append_history(path: &Path, entries: &[HistoryEntry]) -> Result<(), StoredError> {
    let known = if path.exists() { read_history(path)? } else { Vec::new() };
    for (place, entry) in entries.iter().enumerate() {
        if known.iter().any(|known| known.is_same_run(entry)) {
            return Err(StoredError::new(path, format!("holds the run {} already; leave it out", entry.run_id)));
        }
        if entries.iter().take(place).any(|earlier| earlier.is_same_run(entry)) {
            return Err(StoredError::new(path, format!("the run {} is given twice; leave one out", entry.run_id)));
        }
    }
    let mut text = String::new();
    for entry in entries {
        text += &serde_json::to_string(entry).map_err(|cause| StoredError::new(path, cause))?;
        text.push('\n');
    }
    let mut write = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().read(true).create(true).append(true).open(path)?;
        if file.metadata()?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                text.insert(0, '\n');
            }
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|cause| StoredError::new(path, format!("can't be written: {cause}")))
}

/// One point of a series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// RFC 3339, UTC.
    pub time: String,
    /// The commit.
    pub git: Option<String>,
    /// The figure.
    pub value: f64,
}

/// A change in a series.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryChange {
    /// The place of the first point behind it.
    pub index: usize,
    /// The permutation p.
    pub p: f64,
    /// The median from the change before it, or the beginning.
    pub before: f64,
    /// The median up to the next change, or the end.
    pub after: f64,
    /// Whether the figure became worse.
    pub worse: bool,
    /// The commit of the first point behind it.
    pub git: Option<String>,
}

/// A figure over time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistorySeries {
    /// `benchmark/strategy/figure/sink`.
    pub id: String,
    /// The first number of the schema of its results.
    #[serde(default = "first_schema")]
    pub schema_major: u32,
    /// The configuration's hash.
    pub config_hash: String,
    /// The key of the machine.
    pub machine: String,
    /// The unit.
    pub unit: String,
    /// Which way it is better.
    pub direction: Direction,
    /// In the order of time.
    pub points: Vec<HistoryPoint>,
    /// In the order of time; those that are large enough to matter.
    pub change_points: Vec<HistoryChange>,
    /// Why changes were not looked for, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What `history analyze` finds: `history-analysis.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HistoryAnalysis {
    /// Always [`ANALYSIS_SCHEMA`].
    pub schema: String,
    /// `1.0`
    pub schema_version: String,
    /// Every series.
    pub series: Vec<HistorySeries>,
}

/// Looks for changes in every series that `wanted` names. A change counts when its permutation p is at most 1 %, there are five points
/// on either side, and the medians differ by the figure's margin (5 %, or 10 % for tails). A figure in another unit, or that is better the
/// other way, is a series of its own; a run that was added twice counts once.
pub fn analyze(entries: &[HistoryEntry], wanted: &dyn Fn(&str) -> bool) -> HistoryAnalysis {
    type Key = (EntryKey, String, String, bool, bool);
    let mut series: BTreeMap<Key, HistorySeries> = BTreeMap::new();
    for entry in runs(entries) {
        for (name, metric) in entry.metrics.iter().filter(|(name, _)| wanted(name)) {
            let way = (metric.direction == Direction::Lower, metric.direction == Direction::Higher);
            let key = (entry.key(), name.clone(), metric.unit.clone(), way.0, way.1);
            let one = series.entry(key).or_insert_with(|| HistorySeries {
                id: format!("{}/{name}", entry.benchmark),
                schema_major: entry.schema_major,
                config_hash: entry.config_hash.clone(),
                machine: entry.machine.clone(),
                unit: metric.unit.clone(),
                direction: metric.direction,
                points: Vec::new(),
                change_points: Vec::new(),
                note: None,
            });
            let (time, git) = (entry.time.clone(), entry.git.commit.clone());
            one.points.push(HistoryPoint { time, git, value: metric.value });
        }
    }
    let mut series: Vec<HistorySeries> = series.into_values().collect();
    for (place, one) in series.iter_mut().enumerate() {
        look(one, place as u64);
    }
    HistoryAnalysis { schema: ANALYSIS_SCHEMA.to_owned(), schema_version: "1.0".to_owned(), series }
}

/// The lines in the order of time, each run once.
pub fn runs(entries: &[HistoryEntry]) -> Vec<&HistoryEntry> {
    let mut sorted: Vec<&HistoryEntry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.time.cmp(&b.time));
    let mut seen = BTreeSet::new();
    sorted.retain(|entry| entry.run_id.is_empty() || seen.insert((&entry.run_id, &entry.machine)));
    sorted
}

fn look(series: &mut HistorySeries, seed: u64) {
    let count = series.points.len();
    if count < POINTS_MIN {
        series.note = Some(format!("{count} results; {POINTS_MIN} are needed"));
        return;
    }
    let values: Vec<f64> = series.points.iter().map(|point| point.value).collect();
    // In logarithms a change is a share, whatever the figure's size; where a zero forbids them the values serve.
    let logs = values.iter().all(|value| *value > 0.0);
    let scaled: Vec<f64> = values.iter().map(|value| if logs { value.ln() } else { *value }).collect();
    let found = change_points(&scaled, &ChangePointOptions { seed, ..ChangePointOptions::default() });
    let middle = |from: usize, to: usize| values.get(from..to).and_then(median).unwrap_or(f64::NAN);
    for (place, point) in found.iter().enumerate() {
        let from = place.checked_sub(1).and_then(|before| found.get(before)).map_or(0, |before| before.index);
        let to = found.get(place + 1).map_or(count, |next| next.index);
        let (before, after) = (middle(from, point.index), middle(point.index, to));
        let margin = margin_of(&series.id);
        let share = if before == 0.0 { f64::INFINITY } else { (after / before - 1.0).abs() };
        if share < margin {
            continue;
        }
        let up = after > before;
        let worse = up == (series.direction == Direction::Lower);
        let git = series.points.get(point.index).and_then(|point| point.git.clone());
        series.change_points.push(HistoryChange { index: point.index, p: point.p, before, after, worse, git });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::SplitMix64;

    fn entry(place: usize, value: f64) -> HistoryEntry {
        let metric = HistoryMetric { value, unit: "s".to_owned(), direction: Direction::Lower };
        HistoryEntry {
            benchmark: "orders".to_owned(),
            schema_major: 2,
            config_hash: "c".to_owned(),
            machine: "m".to_owned(),
            machine_in_words: String::new(),
            time: format!("2026-01-01T00:{place:02}:00Z"),
            run_id: format!("run-{place}"),
            git: GitState { commit: Some(format!("commit-{place}")), dirty: None },
            metrics: [("cdc-trigger/freshness.commit_lag.p50/warehouse".to_owned(), metric)].into(),
        }
    }

    /// Twenty results about `before`, then twenty about `after`, noise of 2 % even.
    fn history(before: f64, after: f64) -> Vec<HistoryEntry> {
        let mut random = SplitMix64::new(4);
        (0..40).map(|n| entry(n, if n < 20 { before } else { after } * (0.98 + 0.04 * random.unit()))).collect()
    }

    #[test]
    fn a_step_is_found_and_named() {
        let analysis = analyze(&history(0.1, 0.12), &|_| true);
        let [series] = analysis.series.as_slice() else { panic!("{analysis:?}") };
        let [change] = series.change_points.as_slice() else { panic!("{series:?}") };
        assert_eq!((change.index, change.git.as_deref(), change.worse), (20, Some("commit-20"), true));
        assert!((change.before - 0.1).abs() < 0.003 && (change.after - 0.12).abs() < 0.003, "{change:?}");
        assert!(!analyze(&history(0.12, 0.1), &|_| true).series[0].change_points[0].worse);
    }

    #[test]
    fn a_small_step_and_a_short_series_are_let_be() {
        let small = analyze(&history(0.1, 0.1035), &|_| true);
        assert!(small.series[0].change_points.is_empty() && small.series[0].note.is_none());
        let short = analyze(&history(0.1, 0.2)[..10], &|_| true);
        assert!(short.series[0].note.is_some());
    }

    #[test]
    fn another_machine_or_configuration_is_another_series() {
        let mut entries = history(0.1, 0.1);
        entries[3].machine = "other".to_owned();
        entries[4].config_hash = "other".to_owned();
        assert_eq!(analyze(&entries, &|_| true).series.len(), 3);
        assert!(analyze(&entries, &|name| name.contains("p99")).series.is_empty());
    }

    #[test]
    fn a_history_comes_back_and_takes_no_run_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/history.jsonl");
        append_history(&path, &[entry(1, 1.0)]).unwrap();
        append_history(&path, &[entry(2, 2.0)]).unwrap();
        assert_eq!(read_history(&path).unwrap().len(), 2);
        assert!(append_history(&path, &[entry(3, 1.0), entry(2, 2.0)]).unwrap_err().to_string().contains("run-2"));
        std::fs::write(&path, "{\"benchmark\": 1}\n").unwrap();
        assert!(read_history(&path).unwrap_err().to_string().contains("line 1 "));
    }
}
