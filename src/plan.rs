//! From raw flags to one validated plan: behind it no stage sees an unresolved option.

mod command;
mod span;
mod warehouse;

pub use command::{command_line, shareable};
pub use span::{batch_interval, longer_than, whole_periods};

use crate::log::Fsync;
use crate::sink::{CacheFill, CacheOptions, CacheStore, SinkKind, WarehouseOptions};
use crate::source::Durability;
use crate::source::postgres::PgOptions;
use crate::strategy::{DualWrite, PlantedFault, StrategyKind};
use crate::transform::TransformSet;
use crate::workload::{Arrivals, KeyDistribution, Overrides, Workload, WorkloadError, parse_duration, parse_rate};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What the command line said, as it said it.
#[derive(Clone, Debug, Default)]
pub struct RawPlan {
    /// `sqlite`, or the URL of a PostgreSQL server.
    pub source: Option<String>,
    /// Comma-separated names.
    pub strategies: Option<String>,
    /// A built-in name or a file.
    pub workload: Option<String>,
    /// Rows of the main table, with an optional `k` or `M`.
    pub rows: Option<String>,
    /// Transactions a second.
    pub rate: Option<String>,
    /// `fixed` or `poisson`.
    pub arrivals: Option<String>,
    /// Concurrent clients.
    pub clients: Option<u32>,
    /// Which keys are popular, in the words of a workload file.
    pub keys: Option<String>,
    /// The measured time.
    pub duration: Option<String>,
    /// The time before it.
    pub warmup: Option<String>,
    /// From batch to batch.
    pub batch_interval: Option<String>,
    /// Comma-separated names, in the order in which a dual write goes.
    pub sinks: Option<String>,
    /// From one commit of the search index to the next.
    pub search_interval: Option<String>,
    /// `memory`, or the URL of a Redis server.
    pub cache: Option<String>,
    /// `stream` or `aside`.
    pub cache_fill: Option<String>,
    /// Entries of the cache at the most.
    pub cache_entries: Option<String>,
    /// Threads that compact beside the warehouse's writer.
    pub compaction_threads: Option<usize>,
    /// The percentage of dead rows at which a chunk is rewritten.
    pub dead_rows: Option<usize>,
    /// Bytes of rows that the warehouse keeps in memory.
    pub warehouse_memory: Option<String>,
    /// The mean time before each of a client's writes to a sink.
    pub think: Option<String>,
    /// The probability that a client dies between two writes.
    pub crash_rate: Option<f64>,
    /// The seed.
    pub seed: Option<u64>,
    /// Repetitions.
    pub reps: Option<u32>,
    /// `full`, `normal` or `off`.
    pub durability: Option<String>,
    /// `always`, `none`, or an interval.
    pub log_fsync: Option<String>,
    /// Where the result goes.
    pub out: Option<PathBuf>,
    /// Keeps the databases, logs and warehouses there.
    pub work: Option<PathBuf>,
    /// The short run.
    pub quick: bool,
    /// Leaves the control run out, in tests.
    pub no_control: bool,
    /// From checkpoint to checkpoint, in tests.
    pub checkpoint_interval: Option<String>,
    /// How many of the warehouse's last commits stay readable.
    pub keep_versions: Option<u16>,
    /// A deliberate fault, in tests.
    pub plant: Option<String>,
}

/// The record system of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceChoice {
    /// A file made for the run.
    Sqlite,
    /// Databases made for the run on this server.
    Postgres(Box<PgOptions>),
}

impl SourceChoice {
    /// Its kind, which two results must share to be compared.
    pub fn kind(&self) -> &'static str {
        match self {
            SourceChoice::Sqlite => "sqlite",
            SourceChoice::Postgres(_) => "postgres",
        }
    }

    /// For the result: where it is, without a secret.
    pub fn in_words(&self) -> String {
        match self {
            SourceChoice::Sqlite => self.kind().to_owned(),
            SourceChoice::Postgres(options) => options.place(),
        }
    }

    fn parse(given: Option<&str>) -> Result<SourceChoice, PlanError> {
        match given {
            None | Some("sqlite") => Ok(SourceChoice::Sqlite),
            Some(url) if PgOptions::is_url(url) => {
                // The URL may hold a password.
                let options = PgOptions::parse(url).map_err(|cause| flag_error("--source", "", cause.to_string()))?;
                Ok(SourceChoice::Postgres(Box::new(options)))
            }
            Some(_) => Err(flag_error("--source", "", "expected sqlite, or postgres://ROLE@HOST:PORT/DATABASE")),
        }
    }
}

/// A run, resolved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The record system.
    pub source: SourceChoice,
    /// What to run, in order; the control run comes first, unless it is left out.
    pub strategies: Vec<StrategyKind>,
    /// The stream they all get.
    pub workload: Arc<Workload>,
    /// The time before the measured time.
    pub warmup: Duration,
    /// The measured time.
    pub duration: Duration,
    /// From batch to batch.
    pub batch_interval: Duration,
    /// The sinks to feed, in the order in which a dual write goes.
    pub sinks: Vec<SinkKind>,
    /// From one commit of the search index to the next.
    pub search_interval: Duration,
    /// How the warehouse is built.
    pub warehouse: WarehouseOptions,
    /// Where the cache is and how it is filled.
    pub cache: CacheOptions,
    /// How the application writes to the sinks itself.
    pub dual: DualWrite,
    /// Repetitions.
    pub reps: u32,
    /// The source's durability.
    pub durability: Durability,
    /// The log's.
    pub log_fsync: Fsync,
    /// Where the result goes; `None` for a new folder below `reports/`.
    pub out: Option<PathBuf>,
    /// Where databases, logs and warehouses are kept; `None` for a temporary folder.
    pub work: Option<PathBuf>,
    /// From checkpoint to checkpoint of a sink that is fed without a pause. Unless given, 5 s or less, so that at least two
    /// and a whole number of them fit the measured time.
    pub checkpoint_interval: Duration,
    /// How long a strategy may take to catch up at the end.
    pub drain_patience: Duration,
    /// A deliberate fault, in tests.
    pub planted: Option<PlantedFault>,
    /// Whether the program replaces itself by a fresh process before each case. For the command `run` alone: what comes after
    /// must do the same as what came before. Needs a record system that is a file.
    pub fresh_processes: bool,
    /// The command that gives this run again.
    pub command: String,
}

/// Why flags make no plan.
#[derive(Debug)]
pub enum PlanError {
    /// The workload.
    Workload(WorkloadError),
    /// A flag.
    Flag {
        /// Its name, with the dashes.
        flag: &'static str,
        /// What was given.
        given: String,
        /// What is wrong, and what would be right.
        remedy: String,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::Workload(cause) => write!(f, "{cause}"),
            PlanError::Flag { flag, given, remedy } => write!(f, "{flag} {given}: {remedy}"),
        }
    }
}

impl std::error::Error for PlanError {}

/// The longest warm-up or batch interval.
const TIME_MAX: Duration = Duration::from_secs(24 * 3600);

fn flag_error(flag: &'static str, given: &str, remedy: impl Into<String>) -> PlanError {
    PlanError::Flag { flag, given: given.to_owned(), remedy: remedy.into() }
}

fn duration(flag: &'static str, given: Option<&str>) -> Result<Option<Duration>, PlanError> {
    given.map(|text| parse_duration(text).map_err(|remedy| flag_error(flag, text, remedy))).transpose()
}

/// A count with an optional `k` (thousand) or `M` (million) behind it.
///
/// # Errors
/// Says what a count looks like.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let remedy = || "expected a count such as 50000, 50k or 2M".to_owned();
    let text = text.trim();
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    let count: u64 = digits.replace('_', "").parse().map_err(|_| remedy())?;
    count.checked_mul(factor).ok_or_else(remedy)
}

impl Plan {
    /// Whether a strategy promises that the sinks equal the source once they have drained.
    pub fn promises_equality(&self, kind: StrategyKind) -> bool {
        kind.promises_equality(self.dual.crash_rate)
    }

    /// Whether a row may be absent from the cache without being lost.
    pub fn cache_may_miss(&self) -> bool {
        self.cache.fill == CacheFill::Aside || self.cache.entries_max.is_some()
    }

    /// Where the cache is and how it is filled; never with a password.
    pub fn cache_in_words(&self) -> String {
        let fill = match self.cache.fill {
            CacheFill::Stream => "stream",
            CacheFill::Aside => "aside",
        };
        let limit = self.cache.entries_max.map_or(String::new(), |entries| format!(", at most {entries} entries"));
        format!("{}, {fill}{limit}", self.cache.store)
    }
}

fn sinks(given: Option<&str>) -> Result<Vec<SinkKind>, PlanError> {
    let Some(text) = given else { return Ok(SinkKind::ALL.to_vec()) };
    let mut chosen = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let kind = SinkKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| flag_error("--sinks", name, "no such sink (known: warehouse, search, cache)"))?;
        if chosen.contains(&kind) {
            return Err(flag_error("--sinks", text, format!("names {name} twice")));
        }
        chosen.push(kind);
    }
    if chosen.is_empty() { Err(flag_error("--sinks", text, "names no sink")) } else { Ok(chosen) }
}

fn cache_store(given: Option<&str>) -> Result<CacheStore, PlanError> {
    match given {
        None | Some("memory") => Ok(CacheStore::Memory),
        #[cfg(feature = "redis")]
        Some(url) if url.starts_with("redis://") || url.starts_with("unix:") => {
            Ok(CacheStore::Redis { url: url.to_owned() })
        }
        #[cfg(not(feature = "redis"))]
        Some(url) if url.starts_with("redis://") || url.starts_with("unix:") => {
            // The URL may hold a password.
            Err(flag_error("--cache", "redis", "this build has no Redis: build it with --features redis"))
        }
        Some(_) => Err(flag_error("--cache", "", "expected memory, or redis://HOST:PORT")),
    }
}

impl RawPlan {
    fn cache(&self) -> Result<CacheOptions, PlanError> {
        let fill = match self.cache_fill.as_deref() {
            None | Some("stream") => CacheFill::Stream,
            Some("aside") => CacheFill::Aside,
            Some(other) => return Err(flag_error("--cache-fill", other, "expected stream or aside")),
        };
        let entries = self.cache_entries.as_deref();
        let entries_max = entries
            .map(|text| parse_count(text).map_err(|why| flag_error("--cache-entries", text, why)))
            .transpose()?;
        if entries_max == Some(0) {
            return Err(flag_error("--cache-entries", "0", "expected 1 or more"));
        }
        Ok(CacheOptions { store: cache_store(self.cache.as_deref())?, fill, entries_max, ..CacheOptions::default() })
    }

    fn dual(&self, seed: u64) -> Result<DualWrite, PlanError> {
        let think = duration("--think", self.think.as_deref())?.unwrap_or(DualWrite::default().think);
        if think > Duration::from_secs(60) {
            return Err(flag_error("--think", &format!("{think:?}"), "expected 60s or less"));
        }
        let crash_rate = self.crash_rate.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&crash_rate) {
            return Err(flag_error("--crash-rate", &crash_rate.to_string(), "expected a probability from 0 to 1"));
        }
        Ok(DualWrite { think, crash_rate, seed })
    }
}

fn strategies(given: Option<&str>, source: &SourceChoice) -> Result<Vec<StrategyKind>, PlanError> {
    let shows_log = *source != SourceChoice::Sqlite;
    let possible = |all: &[StrategyKind]| all.iter().copied().filter(|kind| shows_log || !kind.needs_log()).collect();
    let Some(text) = given else { return Ok(possible(&StrategyKind::DEFAULT)) };
    if text.trim() == "all" {
        return Ok(possible(&StrategyKind::ALL));
    }
    let mut chosen = vec![StrategyKind::Control];
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let kind = StrategyKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let names: Vec<&str> = StrategyKind::ALL.iter().map(|kind| kind.name()).collect();
            let distance = |known: &&str| strsim::damerau_levenshtein(known, name);
            let near = names.iter().copied().min_by_key(distance).filter(|known| distance(known) <= 4);
            let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
            flag_error("--strategies", name, format!("no such strategy{hint} (known: {})", names.join(", ")))
        })?;
        if kind.needs_log() && !shows_log {
            let remedy = "SQLite shows its log to nobody: give --source postgres://.., or use cdc-trigger";
            return Err(flag_error("--strategies", name, remedy));
        }
        if !chosen.contains(&kind) {
            chosen.push(kind);
        }
    }
    if chosen.len() == 1 && !text.contains("control") {
        return Err(flag_error("--strategies", text, "names no strategy"));
    }
    chosen.sort_unstable();
    Ok(chosen)
}

fn durability(given: Option<&str>) -> Result<Durability, PlanError> {
    match given {
        None | Some("full") => Ok(Durability::Full),
        Some("normal") => Ok(Durability::Normal),
        Some("off") => Ok(Durability::Off),
        Some(other) => Err(flag_error("--durability", other, "expected full, normal or off")),
    }
}

fn log_fsync(given: Option<&str>) -> Result<Fsync, PlanError> {
    match given {
        None | Some("always") => Ok(Fsync::Always),
        Some("none") => Ok(Fsync::None),
        Some(text) => parse_duration(text)
            .map(Fsync::Interval)
            .map_err(|why| flag_error("--log-fsync", text, format!("expected always, none or an interval: {why}"))),
    }
}

fn keys(given: Option<&str>) -> Result<Option<KeyDistribution>, PlanError> {
    match given {
        None => Ok(None),
        Some("uniform") => Ok(Some(KeyDistribution::Uniform)),
        Some("zipfian") => Ok(Some(KeyDistribution::Zipfian)),
        Some("scrambled-zipfian") => Ok(Some(KeyDistribution::ScrambledZipfian)),
        Some("latest") => Ok(Some(KeyDistribution::Latest)),
        Some(other) => Err(flag_error("--keys", other, "expected uniform, zipfian, scrambled-zipfian or latest")),
    }
}

/// Numbers of clients, separated by commas.
///
/// # Errors
/// [`PlanError::Flag`].
pub fn client_counts(text: &str) -> Result<Vec<u32>, PlanError> {
    let remedy = "expected numbers of clients from 1 to 1000, such as 1,2,4,8";
    let count = |part: &str| match part.trim().parse::<u32>() {
        Ok(count) if (1..=1000).contains(&count) => Ok(count),
        _ => Err(flag_error("--clients", part, remedy)),
    };
    text.split(',').map(count).collect()
}

/// How popular the keys of a simulated race are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPopularity {
    /// A few keys get most of the writes: zipfian with theta 0.99, spread over the key space.
    Zipf,
    /// All are alike.
    Uniform,
}

impl KeyPopularity {
    /// Both, the hot one first.
    pub const BOTH: [KeyPopularity; 2] = [KeyPopularity::Zipf, KeyPopularity::Uniform];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            KeyPopularity::Zipf => "zipf 0.99",
            KeyPopularity::Uniform => "uniform",
        }
    }
}

fn arrivals(given: Option<&str>) -> Result<Option<Arrivals>, PlanError> {
    match given {
        None => Ok(None),
        Some("fixed") => Ok(Some(Arrivals::Fixed)),
        Some("poisson") => Ok(Some(Arrivals::Poisson)),
        Some(other) => Err(flag_error("--arrivals", other, "expected fixed or poisson")),
    }
}

/// The workload, with transforms that can be compiled: what is wrong with one has its line in the file.
fn load_workload(name: &str, overrides: &Overrides) -> Result<Workload, PlanError> {
    let workload = Workload::load(name, overrides).map_err(PlanError::Workload)?;
    match TransformSet::first_wrong(workload.catalog(), workload.transforms()) {
        Some((place, why)) => Err(PlanError::Workload(workload.transform_error(place, why.to_string()))),
        None => Ok(workload),
    }
}

impl RawPlan {
    /// The workload with another popularity of keys and number of clients.
    ///
    /// # Errors
    /// As [`RawPlan::resolve`].
    pub fn workload_with(&self, popularity: KeyPopularity, clients: u32) -> Result<Workload, PlanError> {
        let (keys, theta) = match popularity {
            KeyPopularity::Zipf => (KeyDistribution::ScrambledZipfian, Some(0.99)),
            KeyPopularity::Uniform => (KeyDistribution::Uniform, None),
        };
        let overrides = Overrides { keys: Some(keys), theta, clients: Some(clients), ..self.overrides()? };
        load_workload(self.workload.as_deref().unwrap_or("orders"), &overrides)
    }

    fn overrides(&self) -> Result<Overrides, PlanError> {
        let quick =
            |value: &Option<String>, short: &str| value.clone().or_else(|| self.quick.then(|| short.to_owned()));
        let rows = quick(&self.rows, "5000");
        let rows = rows.as_deref().map(|text| parse_count(text).map_err(|why| flag_error("--rows", text, why)));
        let rate = self.rate.as_deref().map(|text| {
            text.parse::<f64>().or_else(|_| parse_rate(text)).map_err(|why| flag_error("--rate", text, why))
        });
        Ok(Overrides {
            rows: rows.transpose()?,
            rate_per_s: rate.transpose()?,
            arrivals: arrivals(self.arrivals.as_deref())?,
            clients: self.clients,
            keys: keys(self.keys.as_deref())?,
            duration: duration("--duration", quick(&self.duration, "2500ms").as_deref())?,
            seed: self.seed,
            ..Overrides::default()
        })
    }

    /// Checks everything and fills in the defaults; `command` is the command line, for the result.
    ///
    /// # Errors
    /// [`PlanError`]: one line naming the flag or the file and line, and the remedy.
    pub fn resolve(&self, command: String) -> Result<Plan, PlanError> {
        let quick = |value: &str| self.quick.then(|| value.to_owned());
        let given = |value: &Option<String>, short: &str| value.clone().or_else(|| quick(short));
        let overrides = self.overrides()?;
        let name = self.workload.as_deref().unwrap_or("orders");
        let workload = load_workload(name, &overrides)?;
        let batch_interval = duration("--batch-interval", given(&self.batch_interval, "500ms").as_deref())?
            .unwrap_or_else(|| span::batch_interval(workload.settings().duration));
        let warmup = duration("--warmup", given(&self.warmup, "500ms").as_deref())?.unwrap_or(Duration::from_secs(1));
        let checkpoint_interval = duration("--checkpoint-interval", self.checkpoint_interval.as_deref())?
            .unwrap_or_else(|| span::checkpoint_interval(workload.settings().duration));
        let intervals = [("--batch-interval", batch_interval), ("--checkpoint-interval", checkpoint_interval)];
        for (flag, length) in intervals.into_iter().chain([("--warmup", warmup)]) {
            if length > TIME_MAX {
                return Err(flag_error(flag, &format!("{length:?}"), "expected 24h or less"));
            }
        }
        if let Some((flag, length)) = intervals.into_iter().find(|(_, length)| *length < Duration::from_millis(1)) {
            return Err(flag_error(flag, &format!("{length:?}"), "expected 1ms or more"));
        }
        let reps = self.reps.unwrap_or(1);
        if reps == 0 || reps > 1000 {
            return Err(flag_error("--reps", &reps.to_string(), "expected 1 to 1000"));
        }
        let planted = match self.plant.as_deref() {
            None => None,
            Some(name) => {
                let known = PlantedFault::ALL.into_iter().find(|fault| fault.name() == name);
                let remedy = "expected drop-change, lose-delete, swap-updates, off-by-one or swallow-error";
                Some(known.ok_or_else(|| flag_error("--plant", name, remedy))?)
            }
        };
        let source = SourceChoice::parse(self.source.as_deref())?;
        let mut strategies = strategies(self.strategies.as_deref(), &source)?;
        if self.no_control {
            strategies.retain(|kind| *kind != StrategyKind::Control);
        }
        span::check_batches(&strategies, batch_interval, workload.settings().duration)?;
        if let Some(fault) = planted.filter(|_| !strategies.contains(&StrategyKind::CdcTrigger)) {
            return Err(flag_error("--plant", fault.name(), "needs --strategies cdc-trigger"));
        }
        if let Some(work) = self.work.as_ref().filter(|work| work.join("base.db").exists()) {
            let given = work.display().to_string();
            return Err(flag_error("--work", &given, "holds an earlier run; give an empty or a new folder"));
        }
        let search_interval = duration("--search-interval", self.search_interval.as_deref())?;
        let search_interval = search_interval.unwrap_or(Duration::from_millis(100));
        if !(Duration::from_millis(1)..=TIME_MAX).contains(&search_interval) {
            return Err(flag_error("--search-interval", &format!("{search_interval:?}"), "expected 1ms to 24h"));
        }
        let dual = self.dual(workload.settings().seed)?;
        let cache = self.cache()?;
        if cache.fill == CacheFill::Aside && strategies.iter().any(|kind| kind.is_dual_write()) {
            let remedy = "a dual write puts rows itself: name strategies without one, such as --strategies cdc-trigger";
            return Err(flag_error("--cache-fill", "aside", remedy));
        }
        let total = workload.settings().duration;
        Ok(Plan {
            source,
            strategies,
            warmup,
            duration: total,
            workload: Arc::new(workload),
            batch_interval,
            sinks: sinks(self.sinks.as_deref())?,
            search_interval,
            warehouse: self.warehouse()?,
            cache,
            dual,
            reps,
            durability: durability(self.durability.as_deref())?,
            log_fsync: log_fsync(self.log_fsync.as_deref())?,
            out: self.out.clone(),
            work: self.work.clone(),
            checkpoint_interval,
            drain_patience: Duration::from_secs(60) + batch_interval * 3,
            planted,
            fresh_processes: false,
            command,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(raw: &RawPlan) -> String {
        raw.resolve(String::new()).expect_err("a refusal").to_string()
    }

    #[test]
    fn counts_have_suffixes() {
        assert_eq!(parse_count("50k"), Ok(50_000));
        assert_eq!(parse_count("2M"), Ok(2_000_000));
        assert_eq!(parse_count("1_000"), Ok(1_000));
        assert!(parse_count("many").is_err());
        assert!(parse_count("99999999999999999999").is_err());
        assert!(parse_count("99999999999999999M").is_err());
    }

    #[test]
    fn a_wrong_flag_is_named_with_its_remedy() {
        let raw = RawPlan { strategies: Some("cdc-triger".to_owned()), ..RawPlan::default() };
        assert!(refused(&raw).contains("did you mean cdc-trigger?"), "{}", refused(&raw));
        let raw = RawPlan { batch_interval: Some("2".to_owned()), ..RawPlan::default() };
        assert!(refused(&raw).starts_with("--batch-interval 2: "), "{}", refused(&raw));
        let raw = RawPlan { checkpoint_interval: Some("10us".to_owned()), ..RawPlan::default() };
        assert!(refused(&raw).starts_with("--checkpoint-interval "), "{}", refused(&raw));
        let raw = RawPlan { reps: Some(0), ..RawPlan::default() };
        assert!(refused(&raw).starts_with("--reps 0"));
        let raw = RawPlan { durability: Some("some".to_owned()), ..RawPlan::default() };
        assert!(refused(&raw).contains("full, normal or off"));
    }

    #[test]
    fn the_control_run_always_comes_first_and_once() {
        let raw = RawPlan { strategies: Some("cdc-trigger, control,full-refresh".to_owned()), ..RawPlan::default() };
        let plan = raw.resolve(String::new()).expect("a plan");
        let names: Vec<&str> = plan.strategies.iter().map(|kind| kind.name()).collect();
        assert_eq!(names, ["control", "full-refresh", "cdc-trigger"]);
    }
}
