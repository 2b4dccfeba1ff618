//! `run --find-rate`: the sustainable rate of a strategy by real runs; and beside it, as figures of their own, how fast a backlog drains
//! and how long it takes to catch up under load. Draining a backlog is never called a rate of change capture.

use super::case::setting;
use super::{Progress, RunError, environment, git_state, run, utc_now};
use crate::clock::Clock;
use crate::decide::rate_search::{Next, RateSearch, Trial, is_out_of_reach};
use crate::model::Lsn;
use crate::plan::{Plan, RawPlan};
use crate::report::{Config, Environment, GitState};
use crate::source::{Driver, Ledger, Outcome, RecordSystem, SourceOptions, SqliteSource};
use crate::strategy::{self, Running, StrategyKind};
use serde::Serialize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The schema's name in `rates.json`.
pub const SCHEMA: &str = "freshbench.rates";
/// The rate is known to this share.
const PRECISION: f64 = 0.05;
/// A confirming run is so many times as long.
const CONFIRM_TIMES: u32 = 3;
/// While the sinks stand still, so that a backlog builds up.
const HELD: Duration = Duration::from_secs(4);

/// The sustainable rate of one strategy.
#[derive(Clone, Debug, Serialize)]
pub struct Sustainable {
    /// The strategy.
    pub strategy: String,
    /// The highest rate that held, transactions offered a second; none when not even one a second does.
    pub rate: Option<f64>,
    /// Transactions acknowledged a second at it.
    pub committed_per_s: Option<f64>,
    /// Changes a second at it.
    pub changes_per_s: Option<f64>,
    /// Whether a long run held.
    pub confirmed: bool,
    /// Every run, in order.
    pub trials: Vec<Trial>,
    /// Changes a second while a backlog drained with no load; not a rate of change capture.
    pub drain_changes_per_s: Option<f64>,
    /// Seconds to catch up with a backlog of [`Sustainable::backlog_s`] under load at half the rate.
    pub catch_up_s: Option<f64>,
    /// How long the sinks had stood still, in seconds.
    pub backlog_s: f64,
}

/// `rates.json`
#[derive(Clone, Debug, Serialize)]
pub struct Rates {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// `1.0`
    pub schema_version: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// The objective for p99 commit lag at the slowest sink, in seconds.
    pub slo_p99_s: f64,
    /// The machine.
    pub env: Environment,
    /// The build's source.
    pub git: GitState,
    /// What was run, at the rate where the search began.
    pub config: Config,
    /// By strategy.
    pub strategies: Vec<Sustainable>,
}

/// Finds the rate of every strategy of the plan but the control run. `tell` hears of each trial.
///
/// # Errors
/// [`RunError`] when a run fails, and [`RunError::Interrupted`].
pub fn find_rates(
    (raw, plan): (&RawPlan, &Plan),
    theta_s: f64,
    folder: &Path,
    (progress, stop): (&dyn Progress, &AtomicBool),
    tell: &dyn Fn(&str, &Trial),
) -> Result<Rates, RunError> {
    std::fs::create_dir_all(folder).map_err(|cause| RunError::Io { path: folder.to_owned(), cause })?;
    let mut strategies = Vec::new();
    for &kind in plan.strategies.iter().filter(|kind| **kind != StrategyKind::Control) {
        strategies.push(find_rate((raw, plan), (kind, theta_s), folder, (progress, stop), tell)?);
    }
    Ok(Rates {
        schema: SCHEMA.to_owned(),
        schema_version: "1.0".to_owned(),
        started_at: utc_now().rfc3339,
        slo_p99_s: theta_s,
        env: environment(folder, &Clock::monotonic()),
        git: git_state(),
        config: super::config(plan, &super::identity::source_settings(&plan.source)?),
        strategies,
    })
}

/// The same run of one strategy at another rate.
fn at_rate(raw: &RawPlan, kind: StrategyKind, (rate, duration): (f64, Duration)) -> Result<Plan, RunError> {
    let raw = RawPlan {
        strategies: Some(kind.name().to_owned()),
        rate: Some(rate.to_string()),
        duration: Some(format!("{}ms", duration.as_millis())),
        no_control: true,
        reps: None,
        work: None,
        ..raw.clone()
    };
    raw.resolve(raw.command()).map_err(RunError::measuring)
}

fn find_rate(
    (raw, plan): (&RawPlan, &Plan),
    (kind, theta_s): (StrategyKind, f64),
    folder: &Path,
    (progress, stop): (&dyn Progress, &AtomicBool),
    tell: &dyn Fn(&str, &Trial),
) -> Result<Sustainable, RunError> {
    let mut search = RateSearch::new(plan.workload.settings().rate_per_s, PRECISION);
    let mut trials: Vec<Trial> = Vec::new();
    let found = loop {
        let (rate, confirming) = match search.next() {
            Next::Try(rate) => (rate, false),
            Next::Confirm(rate) => (rate, true),
            Next::Found(rate) => break Some(rate),
            Next::NoneHolds => break None,
        };
        let duration = plan.duration * if confirming { CONFIRM_TIMES } else { 1 };
        let out = folder.join("trials").join(format!("{}-{:03}", kind.name(), trials.len()));
        let own = Plan { out: Some(out), ..at_rate(raw, kind, (rate, duration))? };
        let finished = run(&own, progress, stop)?;
        if finished.interrupted {
            return Err(RunError::Interrupted);
        }
        let case = finished.result.case(kind.name()).ok_or_else(|| RunError::measuring("a run left no result"))?;
        let trial = Trial::judge(case, (rate, duration.as_secs_f64(), confirming), theta_s);
        tell(kind.name(), &trial);
        search.heard(trial.holds());
        trials.push(trial);
        if is_out_of_reach(&trials) {
            break None;
        }
    };
    let confirmed = trials.iter().any(|trial| trial.confirming && trial.holds());
    let at = trials.iter().rev().find(|trial| Some(trial.rate) == found && trial.holds());
    let changes_per_s = at.and_then(|trial| trial.changes_per_s);
    let mut own = Sustainable {
        strategy: kind.name().to_owned(),
        rate: found,
        committed_per_s: at.and_then(|trial| trial.committed_per_s),
        changes_per_s,
        confirmed,
        trials,
        drain_changes_per_s: None,
        catch_up_s: None,
        backlog_s: HELD.as_secs_f64(),
    };
    // A dual write has no backlog: its clients are the ones who wait.
    if let Some(rate) = found.filter(|_| !kind.is_dual_write()) {
        // Nothing here is a cost or an age, so the time need hold no whole interval between batches.
        let load = Plan { duration: HELD, ..at_rate(raw, kind, (rate, plan.duration))? };
        let drained = backlog(&load, kind, &folder.join("drain"), (Load::Ends, stop))?;
        own.drain_changes_per_s = drained.map(|(time, changes)| changes as f64 / time.as_secs_f64().max(1e-9));
        let load = Plan { duration: HELD * 4, ..at_rate(raw, kind, ((rate / 2.0).max(1.0), plan.duration))? };
        own.catch_up_s =
            backlog(&load, kind, &folder.join("catch-up"), (Load::GoesOn, stop))?.map(|(time, _)| time.as_secs_f64());
    }
    Ok(own)
}

/// What the clients do when the sinks go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    Ends,
    GoesOn,
}

/// Lets a backlog build up while all sinks stand still for [`HELD`], then lets them go: the time until they are level, and the changes of the
/// backlog. `None` when they did not catch up while the load went on.
fn backlog(
    plan: &Plan,
    kind: StrategyKind,
    folder: &Path,
    (load, stop): (Load, &AtomicBool),
) -> Result<Option<(Duration, u64)>, RunError> {
    let measuring =
        |cause: strategy::StrategyError| RunError::Strategy { strategy: kind.name(), cause: Box::new(cause) };
    std::fs::create_dir_all(folder).map_err(|cause| RunError::Io { path: folder.to_owned(), cause })?;
    let clock = Clock::monotonic();
    let options = SourceOptions { durability: plan.durability, ..SourceOptions::default() };
    let source = SqliteSource::create(&folder.join("source.db"), plan.workload.catalog(), options)?;
    source.load(&plan.workload, &mut |_| {})?;
    let setting = setting(plan, kind, &RecordSystem::from(&source), folder, &clock)?;
    let running = strategy::start(kind, &setting).map_err(measuring)?;
    let running = running.ok_or_else(|| RunError::measuring("the control run follows nothing"))?;
    let hold = |held| plan.sinks.iter().for_each(|&sink| running.hold(sink, held));
    hold(true);
    let start = clock.now().after(Duration::from_millis(20));
    let mut application = |client| running.application(client);
    let clients = plan.workload.settings().clients;
    let driver = Driver::start_with(&source, &plan.workload, clients, &clock, start, plan.duration, &mut application)?;
    clock.sleep_until(start.after(HELD));
    // What is not in the log yet is read from the changelog while the sinks drain, so the rate is that of the whole way.
    let ledger = if load == Load::Ends { Some(driver_ended(&driver, &clock)) } else { None };
    let let_go = clock.now();
    hold(false);
    let reached = wait_until_level(&running, plan, (&driver, &clock), (ledger, stop));
    let time = clock.now().since(let_go);
    driver.stop();
    let ledger = driver.join()?;
    let changes = changes_until(&ledger, let_go);
    let goal: Lsn = source.write_marker()?;
    running.drain(goal, &setting.clock, plan.drain_patience);
    running.finish().map_err(measuring)?;
    let _ = std::fs::remove_dir_all(folder);
    if stop.load(Ordering::Relaxed) {
        return Err(RunError::Interrupted);
    }
    Ok(reached.then_some((time, changes)))
}

/// Waits for the clients' ends and gives the last commit.
fn driver_ended(driver: &Driver, clock: &Clock) -> Lsn {
    while !driver.is_finished() {
        clock.sleep_until(clock.now().after(Duration::from_millis(2)));
    }
    driver.progress().last_lsn()
}

/// Whether the sinks came level: with `last` when the load has ended, else with the newest commit.
fn wait_until_level(
    running: &Running,
    plan: &Plan,
    (driver, clock): (&Driver, &Clock),
    (last, stop): (Option<Lsn>, &AtomicBool),
) -> bool {
    let deadline = clock.now().after(plan.drain_patience);
    // Under load the newest commit of a moment ago must be there: the one that is just being made never is.
    loop {
        let goal = last.unwrap_or_else(|| driver.progress().last_lsn());
        clock.sleep_until(clock.now().after(Duration::from_millis(2)));
        let slowest = plan.sinks.iter().map(|&sink| running.visible(sink)).min().unwrap_or(Lsn::ZERO);
        if slowest >= goal {
            return true;
        }
        let over = last.is_none() && driver.is_finished();
        if over || clock.now() > deadline || running.has_failed() || stop.load(Ordering::Relaxed) {
            return false;
        }
    }
}

/// Changes of the commits that were acknowledged when the sinks were let go.
fn changes_until(ledger: &Ledger, let_go: crate::model::Moment) -> u64 {
    let before = ledger.commits().filter(|(_, entry)| entry.acknowledged <= let_go);
    before
        .map(|(_, entry)| match entry.outcome {
            Outcome::Committed { changes, .. } => u64::from(changes),
            _ => 0,
        })
        .sum()
}
