//! One case: one strategy, on its own copy of the source, from preparation to verification.

use super::figures::{Observed, figures};
use super::probe_target::WarehouseProbe;
use super::verify::{initial_keys, verify};
use super::{Progress, RunError};
use crate::clock::Clock;
use crate::model::{KeyRef, Lsn, Moment, TableId};
use crate::plan::Plan;
use crate::probe::{
    Commit, Freshness, FreshnessInput, Meter, ProbeRecord, Prober, ProberOptions, Usage, Window, visible_by_delivery,
    visible_by_watermark,
};
use crate::report::{Case, Phase, Validation};
use crate::sink::WarehouseReader;
use crate::source::{Driver, Ledger, SqliteSource};
use crate::strategy::{self, Outcome, Running, Setting, StrategyKind};
use crate::transform::TransformSet;
use crate::workload::TxnIndex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Reads a second by the prober.
const PROBE_READS_PER_S: f64 = 5.0;

/// Begins and ends phases, and keeps them for the result.
struct Phases<'a> {
    clock: &'a Clock,
    origin: Moment,
    begun: Moment,
    done: Vec<Phase>,
}

impl<'a> Phases<'a> {
    fn new(clock: &'a Clock) -> Phases<'a> {
        Phases { clock, origin: clock.now(), begun: clock.now(), done: Vec::new() }
    }

    fn end(&mut self, name: &str, rows: u64) -> &mut Phase {
        let now = self.clock.now();
        self.done.push(Phase {
            name: name.to_owned(),
            start_s: self.begun.since(self.origin).as_secs_f64(),
            duration_s: now.since(self.begun).as_secs_f64(),
            rows,
            bytes_in: 0,
            bytes_out: 0,
            cpu_s: 0.0,
        });
        self.begun = now;
        let last = self.done.len() - 1;
        &mut self.done[last]
    }
}

fn setting(
    plan: &Plan,
    kind: StrategyKind,
    source: &SqliteSource,
    folder: &Path,
    clock: &Clock,
) -> Result<Setting, RunError> {
    let workload = &plan.workload;
    let transforms = TransformSet::compile(workload.catalog(), workload.transforms()).map_err(RunError::measuring)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 16);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|place| format!("app-pool-{place}"))
        .build()
        .map_err(RunError::measuring)?;
    Ok(Setting {
        source: source.clone(),
        transforms: Arc::new(transforms),
        folder: folder.to_owned(),
        clock: clock.clone(),
        batch_interval: plan.batch_interval,
        cursor_columns: workload.catalog().iter().map(|(table, _)| workload.cursor_column(table)).collect(),
        log_fsync: plan.log_fsync,
        checkpoint_interval: Duration::from_secs(5),
        pool: Arc::new(pool),
        warehouse: crate::sink::WarehouseOptions::default(),
        planted: plan.planted.filter(|_| kind == StrategyKind::CdcTrigger),
    })
}

/// Runs one case in `folder`, which must not hold one yet, and removes nothing from it.
pub(super) fn run_case(
    plan: &Plan,
    kind: StrategyKind,
    base: &SqliteSource,
    folder: &Path,
    clock: &Clock,
    (progress, stop): (&dyn Progress, &AtomicBool),
) -> Result<(Case, Vec<String>), RunError> {
    let failed = |cause: strategy::StrategyError| RunError::Strategy { strategy: kind.name(), cause: Box::new(cause) };
    std::fs::create_dir_all(folder).map_err(|cause| RunError::Io { path: folder.to_owned(), cause })?;
    let mut phases = Phases::new(clock);
    progress.begin(&format!("{}: prepare", kind.name()), 0);
    let source = base.copy_to(&folder.join("source.db"))?;
    phases.end("copy the source", 0);
    let setting = setting(plan, kind, &source, folder, clock)?;
    let running = strategy::start(kind, &setting).map_err(failed)?;
    phases.end("initial load", 0);
    progress.end();

    let measured = drive_and_measure(plan, kind, &setting, running.as_ref(), (progress, stop))?;
    phases.end("warm-up and measure", measured.ledger.counts().committed).cpu_s =
        measured.usage.process_cpu.as_secs_f64();
    let goal = source.write_marker()?;
    progress.begin(&format!("{}: drain", kind.name()), 0);
    let caught_up = running.as_ref().is_none_or(|running| running.drain(goal, clock, plan.drain_patience));
    let observed_until = clock.now();
    phases.end("drain", 0);
    progress.end();
    let probes = measured.prober.map(Prober::stop).transpose().map_err(RunError::measuring)?;
    let outcome = running.map(Running::finish).transpose().map_err(failed)?;
    if let (Some(outcome), Some(phase)) = (&outcome, phases.done.iter_mut().find(|phase| phase.name == "initial load"))
    {
        phase.rows = outcome.initial_rows;
    }

    progress.begin(&format!("{}: verify", kind.name()), 0);
    let commits: Vec<(Lsn, TxnIndex)> = measured.ledger.commits().map(|(lsn, entry)| (lsn, entry.txn)).collect();
    let version = match &outcome {
        // Opened from the disk, as a person with the folder would see it: all strategies end with a checkpoint.
        Some(_) => {
            let opened = WarehouseReader::open(&folder.join("warehouse")).map_err(RunError::measuring)?;
            Some(opened.version())
        }
        None => None,
    };
    let lossy = kind == StrategyKind::Incremental;
    let mut verified = verify(kind, &plan.workload, &source, &commits, (goal, version.as_deref()), lossy)?;
    if !caught_up {
        verified.validation.passed = false;
        let waited = plan.drain_patience.as_secs();
        verified.validation.failures.push(format!("the warehouse did not reach commit {goal} within {waited} s"));
    }
    judge_reads(kind, probes.as_ref(), &mut verified.validation);
    judge_ledger(&measured.ledger, &mut verified.validation);
    phases.end("verify", verified.validation.sinks.iter().map(|sink| sink.rows).sum());
    progress.end();

    let commits = commit_times(&measured.ledger);
    let (visible, freshness) = match &outcome {
        None => (Vec::new(), None),
        Some(outcome) => {
            let visible = visibility(plan, lossy, &commits, outcome, &verified.changes)?;
            let input =
                FreshnessInput { commits: &commits, visible: &visible, window: measured.window, observed_until };
            let freshness = Freshness::of(&input);
            (visible, Some(freshness))
        }
    };
    let observed = Observed {
        kind,
        plan,
        window: measured.window,
        ledger: &measured.ledger,
        commits: &commits,
        visible: &visible,
        freshness: freshness.as_ref(),
        outcome: outcome.as_ref(),
        probes: probes.as_ref(),
        usage: &measured.usage,
        sizes: &verified.sizes,
        validation: &verified.validation,
        invariants_checked: measured.invariants,
    };
    let (mut case, warnings) = figures(&observed);
    case.phases = phases.done;
    case.validation = verified.validation;
    Ok((case, warnings))
}

/// What is at hand when the clients have ended.
struct Measured {
    ledger: Ledger,
    window: Window,
    usage: Usage,
    prober: Option<Prober>,
    invariants: usize,
}

/// Reads that saw half a transaction, or an older version than a read before, break a promise of equality.
fn judge_reads(kind: StrategyKind, record: Option<&ProbeRecord>, validation: &mut Validation) {
    let Some(record) = record.filter(|_| kind.promises_equality()) else { return };
    let broken = record.samples.iter().filter(|sample| !sample.broken.is_empty()).count();
    let back = record.samples.windows(2).filter(|pair| match pair {
        [before, after] => after.watermark.is_some() && after.watermark < before.watermark,
        _ => false,
    });
    let back = back.count();
    if broken + back > 0 {
        let why = format!("{broken} reads saw a broken invariant, {back} reads saw an older version than one before");
        validation.failures.push(why);
        validation.passed = false;
    }
    if let Some(cause) = &record.first_error {
        validation.failures.push(format!("reads of the warehouse failed, the first: {cause}"));
        validation.passed = false;
    }
}

/// A run in which nothing could be committed, or whose outcome nobody knows, proves nothing.
fn judge_ledger(ledger: &Ledger, validation: &mut Validation) {
    let counts = ledger.counts();
    if counts.unknown > 0 || (counts.failed > 0 && counts.committed == 0) {
        let (failed, unknown, committed) = (counts.failed, counts.unknown, counts.committed);
        let why = format!("{failed} transactions failed, {unknown} have no known outcome, {committed} committed");
        validation.failures.push(why);
        validation.passed = false;
    }
}

fn drive_and_measure(
    plan: &Plan,
    kind: StrategyKind,
    setting: &Setting,
    running: Option<&Running>,
    (progress, stop): (&dyn Progress, &AtomicBool),
) -> Result<Measured, RunError> {
    let clock = &setting.clock;
    let meter = Meter::start(clock).map_err(RunError::measuring)?;
    let mut invariants = 0;
    let prober = running.map(|running| {
        let target = WarehouseProbe::new(running.reader().clone(), &plan.workload, &setting.transforms);
        invariants = target.invariants();
        let options = ProberOptions { reads_per_s: PROBE_READS_PER_S, seed: plan.workload.settings().seed };
        Prober::start(Box::new(target), clock, options)
    });
    let prober = prober.transpose().map_err(RunError::measuring)?;
    let total = plan.warmup + plan.duration;
    let start = clock.now().after(Duration::from_millis(50));
    let clients = plan.workload.settings().clients;
    let driver = Driver::start(&setting.source, &plan.workload, clients, clock, start, total)?;
    let window = Window { start: start.after(plan.warmup), end: start.after(total) };
    progress.begin(&format!("{}: run", kind.name()), u64::try_from(total.as_millis()).unwrap_or(u64::MAX));
    let wait = |until: Moment| {
        while clock.now() < until {
            if stop.load(Ordering::Relaxed) {
                driver.stop();
                return Err(RunError::Interrupted);
            }
            if running.is_some_and(Running::has_failed) {
                // The failure itself comes out when the strategy is asked to finish.
                driver.stop();
                return Ok(());
            }
            progress.at(u64::try_from(clock.now().since(start).as_millis()).unwrap_or(u64::MAX));
            std::thread::sleep(until.since(clock.now()).min(Duration::from_millis(50)));
        }
        Ok(())
    };
    wait(window.start)?;
    let begin = meter.begin();
    wait(window.end)?;
    let usage = meter.usage_since(&begin);
    progress.end();
    while !driver.is_finished() {
        if stop.load(Ordering::Relaxed) {
            return Err(RunError::Interrupted);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let ledger = driver.join()?;
    meter.stop().map_err(RunError::measuring)?;
    Ok(Measured { ledger, window, usage, prober, invariants })
}

fn commit_times(ledger: &Ledger) -> Vec<Commit> {
    let commits = ledger.commits();
    commits.map(|(lsn, entry)| Commit { lsn, committed: entry.acknowledged, intended: entry.intended }).collect()
}

fn visibility(
    plan: &Plan,
    lossy: bool,
    commits: &[Commit],
    outcome: &Outcome,
    changes: &[crate::probe::RowChange],
) -> Result<Vec<Option<Moment>>, RunError> {
    if !lossy {
        return visible_by_watermark(commits, &outcome.publishes).map_err(RunError::measuring);
    }
    let initial = initial_keys(&plan.workload)?;
    let present =
        |table: TableId, key: KeyRef<'_>| initial.get(&table).is_some_and(|keys| keys.contains(&key.to_key()));
    visible_by_delivery(commits, &outcome.publishes, changes, &present).map_err(RunError::measuring)
}

/// The reads of a case, if it had a sink to read.
pub(super) type Probes<'a> = Option<&'a ProbeRecord>;
