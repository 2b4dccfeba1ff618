//! A run: load once, then every strategy on an equal copy of the source and the same stream, verified and saved
//! one after the other.

mod agreement;
pub mod attach;
mod cache_reader;
mod case;
mod disposable;
mod environment;
mod figures;
pub mod find_rate;
mod merge;
pub mod pairs;
mod probe_target;
pub mod race;
pub mod selftest;
mod sink_rows;
pub mod sweep;
mod verify;

pub use environment::{environment, git_state, name_allocator, utc_now, warnings};

use crate::clock::Clock;
use crate::live::Feed;
use crate::plan::{Plan, SourceChoice};
use crate::report::headline::{Readers, sentence};
use crate::report::{Case, Config, ReportError, RunResult, result, save_page, save_result};
use crate::source::postgres::PgSource;
use crate::source::{SourceError, SourceOptions, SqliteSource};
use crate::strategy::{StrategyError, StrategyKind};
use disposable::Disposable;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

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
}

/// Runs a plan. `stop` ends it early: finished cases stay saved.
///
/// # Errors
/// [`RunError`]; cases that had finished stay saved.
pub fn run(plan: &Plan, progress: &dyn Progress, stop: &AtomicBool) -> Result<Finished, RunError> {
    let started = utc_now();
    let run_id = format!("{}-{}", started.compact, plan.workload.settings().name);
    let folder = plan.out.clone().unwrap_or_else(|| Path::new("reports").join(&run_id));
    let make =
        |path: &Path| std::fs::create_dir_all(path).map_err(|cause| RunError::Io { path: path.to_owned(), cause });
    make(&folder)?;
    let temporary;
    let work = match &plan.work {
        Some(path) => {
            make(path)?;
            path.as_path()
        }
        None => {
            // Below the result, so that it lies on a real disk: /tmp is often memory, where an fsync costs nothing.
            temporary = tempfile::Builder::new()
                .prefix("work-")
                .tempdir_in(&folder)
                .map_err(|cause| RunError::Io { path: folder.clone(), cause })?;
            temporary.path()
        }
    };
    let clock = Clock::monotonic();
    let env = environment(work, &clock);
    let base = load(plan, work, progress)?;
    let mut result = RunResult {
        schema: result::SCHEMA.to_owned(),
        schema_version: result::SCHEMA_VERSION.to_owned(),
        run_id,
        started_at: started.rfc3339,
        complete: false,
        git: git_state(),
        warnings: environment::warnings(&env),
        env,
        config: config(plan),
        strategies: Vec::new(),
    };
    // An older result in this folder must not stand for this run.
    save(&folder, &result, progress)?;
    let mut measured: Vec<(StrategyKind, Vec<Case>)> = plan.strategies.iter().map(|&kind| (kind, Vec::new())).collect();
    let mut interrupted = false;
    'all: for rep in 0..plan.reps {
        for place in order(plan, rep) {
            let Some((kind, cases)) = measured.get_mut(place) else { continue };
            let name = format!("{}-{rep}", kind.name());
            let case = case::run_case(plan, *kind, (&base, &name), &work.join(&name), &clock, (progress, stop));
            let (case, warnings) = match case {
                Err(RunError::Interrupted) => {
                    interrupted = true;
                    break 'all;
                }
                other => other?,
            };
            cases.push(case);
            for warning in warnings {
                if !result.warnings.contains(&warning) {
                    result.warnings.push(warning);
                }
            }
            result.strategies = summarise(&measured);
            save(&folder, &result, progress)?;
            if plan.work.is_none() {
                // What a case leaves on the disk is of no use once it is verified, and repetitions would fill it.
                let _ = std::fs::remove_dir_all(work.join(&name));
            }
            if stop.load(Ordering::Relaxed) {
                interrupted = true;
                break 'all;
            }
        }
    }
    result.complete = !interrupted;
    save(&folder, &result, progress)?;
    let page = save_page(&folder, &result).map_err(RunError::Report)?;
    Ok(Finished { result, folder, page, interrupted })
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
            let base = SqliteSource::create(&work.join("base.db"), catalog, options)?;
            base.load(&plan.workload, &mut at)?;
            Disposable::file(&base)
        }
        SourceChoice::Postgres(server) => {
            let name = disposable::database_name("base");
            let base = PgSource::create(server, &name, catalog, plan.durability)?;
            // Before the load, which may fail as well.
            let disposable = Disposable::database(&base, server);
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

fn config(plan: &Plan) -> Config {
    let workload = &plan.workload;
    let settings = workload.settings();
    let offered = ((plan.warmup + plan.duration).as_secs_f64() * settings.rate_per_s).ceil() as u64;
    let names: Vec<&str> = plan.strategies.iter().map(|kind| kind.name()).collect();
    let durability = format!("source {:?}, log fsync {:?}", plan.durability, plan.log_fsync).to_lowercase();
    let identity = format!(
        "{} {} {} {:?} {:?} {:?} {} {} {:?} {:?} {} {:?}",
        workload.config_hash(),
        plan.source.kind(),
        names.join(","),
        plan.warmup,
        plan.duration,
        plan.batch_interval,
        plan.reps,
        durability,
        plan.sinks,
        plan.search_interval,
        plan.cache_in_words(),
        plan.dual
    );
    Config {
        hash: format!("{:032x}", xxhash_rust::xxh3::xxh3_128(identity.as_bytes())),
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
