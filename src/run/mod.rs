//! A run: load once, then every strategy on an equal copy of the source and the same stream, verified and saved
//! one after the other.

mod agreement;
pub mod attach;
mod cache_reader;
mod case;
pub mod cleanup;
mod disposable;
mod environment;
mod figures;
pub mod find_rate;
pub mod fresh;
pub mod identity;
mod merge;
mod owned;
pub mod pairs;
mod probe_target;
pub mod race;
pub mod selftest;
mod sink_rows;
mod stalls;
pub mod sweep;
mod verify;

pub use environment::{environment, git_state, name_allocator, utc_now, warnings};

use crate::clock::Clock;
use crate::live::Feed;
use crate::plan::{Plan, SourceChoice};
use crate::report::headline::{Readers, bytes, sentence};
use crate::report::{Case, Config, ReportError, RunResult, result, save_page, save_result};
use crate::source::postgres::{PgHold, PgSource};
use crate::source::{SourceError, SourceOptions, SqliteSource};
use crate::strategy::{StrategyError, StrategyKind};
use disposable::Disposable;
use fresh::{Note, WorkFolder};
use identity::{HASH_VERSION, Settings, config_hash, run_settings, source_settings};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The source that every case of a run on SQLite gets a copy of, in the work folder.
const BASE: &str = "base.db";

/// Tells a person how far the run is. Every method may be called often.
pub trait Progress {
    /// A stretch of work begins: `what`, with `total` steps, or 0 when their number is not known.
    fn begin(&self, what: &str, total: u64);
    /// So many steps of it are done.
    fn at(&self, done: u64);
    /// It is over.
    fn end(&self);
    /// Where a live view is told of it, if there is one.
    fn live(&self) -> Option<&Feed> {
        None
    }
}

/// Why a run failed.
#[derive(Debug)]
pub enum RunError {
    /// The source.
    Source(SourceError),
    /// A strategy.
    Strategy {
        /// Which.
        strategy: &'static str,
        /// Why.
        cause: Box<StrategyError>,
    },
    /// A strategy, and what becomes of what it made.
    Ended {
        /// Which.
        strategy: &'static str,
        /// Why.
        cause: Box<StrategyError>,
        /// What is left, and how to go on.
        then: &'static str,
    },
    /// Something that measures or verifies.
    Measuring(Box<dyn std::error::Error + Send + Sync>),
    /// Ctrl-C; the result holds what had finished.
    Interrupted,
    /// The result could not be written.
    Report(ReportError),
    /// A folder or file of the run.
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Source(cause) => write!(f, "{cause}"),
            RunError::Strategy { strategy, cause } => write!(f, "{strategy}: {cause}"),
            RunError::Ended { strategy, cause, then } => write!(f, "{strategy}: {cause}; {then}"),
            RunError::Measuring(cause) => write!(f, "measuring failed: {cause}"),
            RunError::Interrupted => f.write_str("interrupted"),
            RunError::Report(cause) => write!(f, "{cause}"),
            RunError::Io { path, cause } => {
                write!(f, "{}: {cause}; choose another folder with --out or --work", path.display())
            }
        }
    }
}

impl std::error::Error for RunError {}

impl From<SourceError> for RunError {
    fn from(cause: SourceError) -> RunError {
        RunError::Source(cause)
    }
}

impl RunError {
    /// Itself, or that the user ended what was waited for.
    fn or_interrupted(self) -> RunError {
        match self {
            RunError::Source(SourceError::Stopped) => RunError::Interrupted,
            RunError::Strategy { cause, .. } if cause.is_stopped() => RunError::Interrupted,
            other => other,
        }
    }

    fn measuring(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> RunError {
        RunError::Measuring(cause.into())
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished {
    /// What it measured.
    pub result: RunResult,
    /// Where that was saved.
    pub folder: PathBuf,
    /// The page about it.
    pub page: PathBuf,
    /// Whether it was interrupted; the result then holds the cases that had finished.
    pub interrupted: bool,
    /// What was made at the source and could not be removed from it, in words, with the remedy.
    pub left: Option<String>,
}

/// Runs a plan. `stop` ends it early: finished cases stay saved.
///
/// Of a plan with [`Plan::fresh_processes`] this process is replaced before each case, and goes on here.
///
/// # Errors
/// [`RunError`]; cases that had finished stay saved.
pub fn run(plan: &Plan, progress: &dyn Progress, stop: &AtomicBool) -> Result<Finished, RunError> {
    let clock = Clock::monotonic();
    let mut at = match fresh::work_folder().filter(|_| plan.fresh_processes) {
        Some(work) => go_on(plan, work)?,
        None => begin(plan, &clock, progress).map_err(RunError::or_interrupted)?,
    };
    let places: Vec<(u32, usize)> =
        (0..plan.reps).flat_map(|rep| order(plan, rep).map(move |place| (rep, place))).collect();
    let mut interrupted = false;
    while let Some(&(rep, place)) = places.get(at.next) {
        // Before the process is replaced: the next one would not know that it is to stop.
        if stop.load(Ordering::Relaxed) {
            interrupted = true;
            break;
        }
        if plan.fresh_processes && !std::mem::take(&mut at.is_fresh) {
            at.replace_process();
        }
        if let Err(cause) = at.case(plan, (rep, place), &clock, (progress, stop)).map_err(RunError::or_interrupted) {
            if !matches!(cause, RunError::Interrupted) {
                return Err(cause);
            }
            interrupted = true;
            break;
        }
    }
    interrupted |= stop.load(Ordering::Relaxed);
    let At { mut result, folder, .. } = at;
    result.complete = !interrupted;
    save(&folder, &result, progress)?;
    let page = save_page(&folder, &result).map_err(RunError::Report)?;
    Ok(Finished { result, folder, page, interrupted, left: None })
}

/// What tells a clean-up that folder and databases are in use, for as long as it is kept.
struct InUse {
    _mark: Option<std::fs::File>,
    _hold: Option<PgHold>,
}

/// Where a run is.
struct At {
    result: RunResult,
    measured: Vec<(StrategyKind, Vec<Case>)>,
    /// The case that comes next, through all repetitions.
    next: usize,
    folder: PathBuf,
    // The base before its folder: fields are dropped in this order.
    base: Disposable,
    work: WorkFolder,
    _in_use: InUse,
    /// Whether this process began for the next case.
    is_fresh: bool,
}

fn make(path: &Path) -> Result<(), RunError> {
    std::fs::create_dir_all(path).map_err(|cause| RunError::Io { path: path.to_owned(), cause })
}

/// A folder that no other run has, and the run's name in it: two may begin within one second.
fn own_folder(run_id: &str) -> Result<(String, PathBuf), RunError> {
    let reports = Path::new("reports");
    make(reports)?;
    let mut number = 1u32;
    loop {
        let name = if number == 1 { run_id.to_owned() } else { format!("{run_id}-{number}") };
        let folder = reports.join(&name);
        match std::fs::create_dir(&folder) {
            Ok(()) => return Ok((name, folder)),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists && number < 1_000 => number += 1,
            Err(cause) => return Err(RunError::Io { path: folder, cause }),
        }
    }
}

/// Loads the source, and saves a result without a case.
fn begin(plan: &Plan, clock: &Clock, progress: &dyn Progress) -> Result<At, RunError> {
    let started = utc_now();
    let run_id = format!("{}-{}", started.compact, plan.workload.settings().name);
    let (run_id, folder) = match &plan.out {
        Some(folder) => (run_id, folder.clone()),
        None => own_folder(&run_id)?,
    };
    make(&folder)?;
    let work = match &plan.work {
        Some(path) => {
            // Copies of the source lie here.
            crate::storage::private::create_folders(path)
                .map_err(|cause| RunError::Io { path: path.clone(), cause })?;
            WorkFolder { path: path.clone(), temporary: false }
        }
        None => {
            // Below the result, so that it lies on a real disk: /tmp is often memory, where an fsync costs nothing.
            let made = tempfile::Builder::new().prefix("work-").tempdir_in(&folder);
            let made = made.map_err(|cause| RunError::Io { path: folder.clone(), cause })?;
            WorkFolder { path: made.keep(), temporary: true }
        }
    };
    // Kept to the end: a clean-up leaves alone what is in use.
    let mark = work.temporary.then(|| owned::mark(&work.path)).transpose()?;
    let hold = match &plan.source {
        SourceChoice::Sqlite => None,
        SourceChoice::Postgres(server) => Some(owned::hold(server)?),
    };
    let env = environment(&work.path, clock);
    let source = source_settings(&plan.source)?;
    let base = load(plan, &work.path, progress)?;
    let result = RunResult {
        schema: result::SCHEMA.to_owned(),
        schema_version: result::SCHEMA_VERSION.to_owned(),
        run_id,
        started_at: started.rfc3339,
        complete: false,
        git: git_state(),
        warnings: environment::warnings(&env),
        env,
        config: config(plan, &source),
        strategies: Vec::new(),
    };
    // An older result in this folder must not stand for this run.
    save(&folder, &result, progress)?;
    let measured = plan.strategies.iter().map(|&kind| (kind, Vec::new())).collect();
    let _in_use = InUse { _mark: mark, _hold: hold };
    Ok(At { result, measured, next: 0, folder, base, work, _in_use, is_fresh: false })
}

/// Goes on where the process before this one was.
fn go_on(plan: &Plan, work: PathBuf) -> Result<At, RunError> {
    let Note { result, measured, next, folder } = fresh::take(&work)?;
    let work = WorkFolder { path: work, temporary: plan.work.is_none() };
    if config_hash(&run_settings(plan, &source_settings(&plan.source)?)) != result.config.hash {
        return Err(RunError::measuring("the workload's file was changed while its run went on; run it again"));
    }
    let options = SourceOptions { durability: plan.durability, ..SourceOptions::default() };
    let base = Disposable::file(&SqliteSource::open(&work.path.join(BASE), options)?);
    let measured = plan.strategies.iter().copied().zip(measured).collect();
    // The lock of the process before this one ended with it.
    let mark = work.temporary.then(|| owned::mark(&work.path)).transpose()?;
    let _in_use = InUse { _mark: mark, _hold: None };
    Ok(At { result, measured, next, folder, base, work, _in_use, is_fresh: true })
}

impl At {
    /// Begins anew as a fresh process, where that is possible. If not, the next case says what it found in memory.
    fn replace_process(&mut self) {
        let note = Note {
            result: self.result.clone(),
            measured: self.measured.iter().map(|(_, cases)| cases.clone()).collect(),
            next: self.next,
            folder: self.folder.clone(),
        };
        let cause = fresh::go_on(&self.work.path, &note);
        warn(
            &mut self.result.warnings,
            &[],
            vec![format!("the cases share a process: a fresh one can't be had: {cause}")],
        );
    }

    /// Runs the next case and saves it.
    fn case(
        &mut self,
        plan: &Plan,
        (rep, place): (u32, usize),
        clock: &Clock,
        (progress, stop): (&dyn Progress, &AtomicBool),
    ) -> Result<(), RunError> {
        self.next += 1;
        let Some((kind, cases)) = self.measured.get_mut(place) else { return Ok(()) };
        let name = format!("{}-{rep}", kind.name());
        let folder = self.work.path.join(&name);
        let (case, mut warnings) = case::run_case(plan, *kind, (&self.base, &name), &folder, clock, (progress, stop))?;
        // Once for each strategy: the repetitions after it begin with about as much.
        let known = format!("{}: {MEMORY_LEFT}", kind.name());
        let is_known = self.result.warnings.iter().any(|warning| warning.starts_with(&known));
        warnings.extend(memory_left(kind.name(), &case).filter(|_| !is_known));
        warn(&mut self.result.warnings, &case.caveats, warnings);
        cases.push(case);
        self.result.strategies = summarise(&self.measured);
        save(&self.folder, &self.result, progress)?;
        if plan.work.is_none() {
            // What a case leaves on the disk is of no use once it is verified, and repetitions would fill it.
            let _ = std::fs::remove_dir_all(&folder);
        }
        Ok(())
    }
}

/// Begins the warning about memory that is no case's own.
const MEMORY_LEFT: &str = "its peak memory includes what";

/// Says what earlier cases left in the memory of a process that they share.
fn memory_left(name: &str, case: &Case) -> Option<String> {
    static CASES: AtomicU64 = AtomicU64::new(0);
    let earlier = CASES.fetch_add(1, Ordering::Relaxed);
    let resident = case.value("cost.rss_at_start_bytes").filter(|_| earlier > 0)?;
    Some(format!(
        "{name}: {MEMORY_LEFT} {earlier} earlier cases left in this process: {} were resident when it began",
        bytes(resident)
    ))
}

/// Adds a case's warnings to those of the run, each once, those that must be read first before all others.
fn warn(told: &mut Vec<String>, caveats: &[String], warnings: Vec<String>) {
    let mut first = told.iter().take_while(|known| caveats.contains(known)).count();
    for caveat in caveats {
        if !told.contains(caveat) {
            told.insert(first, caveat.clone());
            first += 1;
        }
    }
    for warning in warnings {
        if !told.contains(&warning) {
            told.push(warning);
        }
    }
}

/// Saves a result and shows it to those who look.
fn save(folder: &Path, result: &RunResult, progress: &dyn Progress) -> Result<(), RunError> {
    if let Some(feed) = progress.live() {
        feed.saved(result);
    }
    save_result(folder, result).map_err(RunError::Report)
}

fn load(plan: &Plan, work: &Path, progress: &dyn Progress) -> Result<Disposable, RunError> {
    let total = plan.workload.catalog().iter().map(|(table, _)| plan.workload.initial_row_count(table)).sum();
    progress.begin("load the source", total);
    let (catalog, mut at) = (plan.workload.catalog(), |rows| progress.at(rows));
    let base = match &plan.source {
        SourceChoice::Sqlite => {
            let options = SourceOptions { durability: plan.durability, ..SourceOptions::default() };
            let base = SqliteSource::create(&work.join(BASE), catalog, options)?;
            base.load(&plan.workload, &mut at)?;
            Disposable::file(&base)
        }
        SourceChoice::Postgres(server) => {
            let name = owned::database_name("base");
            let base = PgSource::create(server, &name, catalog, plan.durability)?;
            // Before the load, which may fail as well.
            let disposable = Disposable::database(&base, server, work);
            base.load(&plan.workload, &mut at)?;
            disposable
        }
    };
    progress.end();
    Ok(base)
}

/// Repetitions interleave the strategies, and each begins with another one, so that drift of the machine meets all.
fn order(plan: &Plan, rep: u32) -> impl Iterator<Item = usize> {
    let count = plan.strategies.len();
    (0..count).map(move |place| (place + rep as usize) % count.max(1))
}

fn summarise(measured: &[(StrategyKind, Vec<Case>)]) -> Vec<Case> {
    let mut cases: Vec<Case> = measured.iter().filter_map(|(_, repetitions)| merge::repetitions(repetitions)).collect();
    merge::source_overhead(&mut cases);
    for case in &mut cases {
        case.sentence = sentence(case, Readers::Inside);
    }
    cases
}

fn config(plan: &Plan, source: &Settings) -> Config {
    let workload = &plan.workload;
    let settings = workload.settings();
    let offered = ((plan.warmup + plan.duration).as_secs_f64() * settings.rate_per_s).ceil() as u64;
    let durability = format!("source {:?}, log fsync {:?}", plan.durability, plan.log_fsync).to_lowercase();
    let identity = run_settings(plan, source);
    Config {
        hash: config_hash(&identity),
        hash_version: HASH_VERSION,
        settings: identity,
        seed: settings.seed,
        workload: settings.name.clone(),
        stream_digest: workload.stream_digest(offered),
        source: plan.source.in_words(),
        rows: workload.catalog().iter().map(|(table, _)| workload.initial_row_count(table)).sum(),
        rate: settings.rate_per_s,
        arrivals: format!("{:?}", settings.arrivals).to_lowercase(),
        clients: settings.clients,
        duration_s: plan.duration.as_secs_f64(),
        warmup_s: plan.warmup.as_secs_f64(),
        batch_interval_s: plan.batch_interval.as_secs_f64(),
        sinks: plan.sinks.iter().map(|sink| sink.name().to_owned()).collect(),
        search_interval_s: plan.search_interval.as_secs_f64(),
        cache: plan.cache_in_words(),
        think_s: plan.dual.think.as_secs_f64(),
        crash_rate: plan.dual.crash_rate,
        reps: plan.reps,
        durability,
        command: plan.command.clone(),
    }
}
