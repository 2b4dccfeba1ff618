//! One case: one strategy, on its own copy of the source, from preparation to verification.

use super::agreement::{Explained, told};
use super::cache_reader::CacheTarget;
use super::disposable::Disposable;
use super::figures::{Observed, SERIES_POINTS, Sheet, SinkSeen, Spent, figures};
use super::probe_target::{SearchProbe, WarehouseProbe};
use super::verify::{History, Judged, SinkViews, images, initial_keys, place, replay, verify};
use super::{Progress, RunError};
use crate::clock::Clock;
use crate::live::{Feed, Sample};
use crate::model::{KeyRef, Lsn, Moment, TableId};
use crate::plan::{Plan, SourceChoice};
use crate::probe::meter::resident_bytes;
use crate::probe::{
    Commit, Conflict, Divergence, Footprint, FootprintSample, Freshness, FreshnessInput, KeyReadFigures, KeyReadRecord,
    KeyReader, Meter, ProbeRecord, Prober, ProberOptions, RowChange, ServerCpu, Snapshot, StallWatch, Usage, Window,
    process_cpu, readable_after, visible_by_arrival, visible_by_delivery, visible_by_watermark,
};
use crate::report::{Case, Direction, Phase, Validation};
use crate::sink::{SearchReader, SinkKind, WarehouseReader};
use crate::source::{Driver, Ledger, RecordSystem};
use crate::strategy::{
    self, ByteCounter, Bytes, Outcome, Readable, Running, Setting, SinkOutcome, SinkReaders, StrategyKind, Traffic,
};
use crate::transform::TransformSet;
use crate::workload::TxnIndex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Reads a second by the prober.
const PROBE_READS_PER_S: f64 = 5.0;
/// Reads of single keys a second, at the cache.
const KEY_READS_PER_S: f64 = 50.0;

/// From one sample of a live view to the next; it is as exact as that.
const LIVE_STEP: Duration = Duration::from_millis(10);

/// Begins and ends phases, and keeps them for the result.
struct Phases<'a> {
    clock: &'a Clock,
    origin: Moment,
    begun: Moment,
    done: Vec<Phase>,
    /// Counts what is moved, once there is a strategy.
    counter: Option<ByteCounter>,
    moved: Bytes,
    cpu: Duration,
}

impl<'a> Phases<'a> {
    fn new(clock: &'a Clock) -> Phases<'a> {
        let (counter, moved, cpu) = (None, Bytes::default(), process_cpu());
        Phases { clock, origin: clock.now(), begun: clock.now(), done: Vec::new(), counter, moved, cpu }
    }

    /// `rows` where they are counted. Bytes are, as soon as there is a strategy.
    fn end(&mut self, name: &str, rows: Option<u64>) -> &mut Phase {
        let now = self.clock.now();
        let so_far = self.counter.as_ref().map(ByteCounter::so_far);
        let moved = so_far.map(|so_far| so_far.since(self.moved));
        self.moved = so_far.unwrap_or_default();
        let cpu = process_cpu();
        let used = cpu.saturating_sub(std::mem::replace(&mut self.cpu, cpu));
        self.done.push(Phase {
            name: name.to_owned(),
            start_s: self.begun.since(self.origin).as_secs_f64(),
            duration_s: now.since(self.begun).as_secs_f64(),
            rows,
            bytes_in: moved.map(|moved| moved.read),
            bytes_out: moved.map(|moved| moved.written),
            cpu_s: Some(used.as_secs_f64()),
        });
        self.begun = now;
        let last = self.done.len() - 1;
        &mut self.done[last]
    }
}

pub(super) fn setting(
    plan: &Plan,
    kind: StrategyKind,
    source: &RecordSystem,
    folder: &Path,
    clock: &Clock,
) -> Result<Setting, RunError> {
    let workload = &plan.workload;
    let transforms = TransformSet::compile(workload.catalog(), workload.transforms()).map_err(RunError::measuring)?;
    let setting = Setting::new(source, transforms, folder, clock).map_err(RunError::measuring)?;
    Ok(Setting {
        batch_interval: plan.batch_interval,
        cursor_columns: workload.catalog().iter().map(|(table, _)| workload.cursor_column(table)).collect(),
        log_fsync: plan.log_fsync,
        checkpoint_interval: plan.checkpoint_interval,
        sinks: plan.sinks.clone(),
        search_interval: plan.search_interval,
        warehouse: plan.warehouse.clone(),
        cache: plan.cache.clone(),
        dual: plan.dual.clone(),
        planted: plan.planted.filter(|_| kind == StrategyKind::CdcTrigger),
        ..setting
    })
}

/// Runs one case in `folder`, which must not hold one yet, and removes nothing from it.
pub(super) fn run_case(
    plan: &Plan,
    kind: StrategyKind,
    (base, name): (&Disposable, &str),
    folder: &Path,
    clock: &Clock,
    (progress, stop): (&dyn Progress, &AtomicBool),
) -> Result<(Case, Vec<String>), RunError> {
    let failed = |cause: strategy::StrategyError| RunError::Strategy { strategy: kind.name(), cause: Box::new(cause) };
    let at_start = resident_bytes();
    crate::storage::private::create_folders(folder).map_err(|cause| RunError::Io { path: folder.to_owned(), cause })?;
    let mut phases = Phases::new(clock);
    progress.begin(&format!("{}: prepare", kind.name()), 0);
    let copy = base.copy_for(name, folder)?;
    let source = copy.system().clone();
    phases.end("copy the source", None);
    let setting = setting(plan, kind, &source, folder, clock)?;
    let running = strategy::start(kind, &setting).map_err(failed)?;
    phases.counter = running.as_ref().map(Running::byte_counter);
    phases.end("initial load", None);
    progress.end();

    let watch = StallWatch::start(clock).map_err(RunError::measuring)?;
    let mut measured = drive_and_measure(plan, kind, &setting, running.as_ref(), (progress, stop))?;
    phases.end("warm-up and measure", None);
    let marker = source.write_marker()?;
    let goal = if kind.follows_source() { marker.log } else { marker.number };
    progress.begin(&format!("{}: drain", kind.name()), 0);
    let caught_up = running.as_ref().is_none_or(|running| running.drain(goal, clock, plan.drain_patience));
    let observed_until = clock.now();
    phases.end("drain", None);
    progress.end();
    let stalls = watch.stop().map_err(RunError::measuring)?;
    let probes = measured.probers.stop()?;
    let behind = running.as_ref().map_or_else(Vec::new, |running| behind(plan, running, goal));
    let readers = running.as_ref().map(|running| running.readers().clone());
    let outcome = running.map(Running::finish).transpose().map_err(failed)?;
    // The last checkpoint comes with the end.
    let readable_until = clock.now();
    if outcome.is_some() {
        phases.end("last checkpoint", None);
    }
    phases.counter = None;
    if let (Some(outcome), Some(phase)) = (&outcome, phases.done.iter_mut().find(|phase| phase.name == "initial load"))
    {
        phase.rows = Some(outcome.initial_rows);
    }

    if let Some(places) = source.places(&outcome.as_ref().map(|o| o.positions.clone()).unwrap_or_default())? {
        measured.ledger.renumber(|number| places.get(&number).copied());
    }
    // A state that was read lies at the log's end of then, behind the commits that it includes.
    let goal = goal.max(measured.ledger.last_lsn());
    progress.begin(&format!("{}: verify", kind.name()), 0);
    let commits: Vec<(Lsn, TxnIndex)> = measured.ledger.commits().map(|(lsn, entry)| (lsn, entry.txn)).collect();
    let judged = Judged {
        kind,
        workload: &plan.workload,
        source: &source,
        commits: &commits,
        position: goal,
        sinks: &readers.map_or_else(|| Ok(SinkViews::default()), |readers| views(readers, folder))?,
        promises_equality: plan.promises_equality(kind),
        cache_may_miss: plan.cache_may_miss(),
    };
    let history = replay(&judged)?;
    let kept = kept_changes(kind, outcome.as_ref(), &history, (judged.sinks, &setting.transforms));
    let divergence = divergence(kind, outcome.as_ref(), &kept);
    let images = images(&judged, &divergence)?;
    let mut verified = verify(&judged, history, &Explained { divergence: &divergence, images: &images })?;
    if !caught_up {
        let waited = plan.drain_patience.as_secs();
        fail(&mut verified.validation, format!("{} did not reach commit {goal} within {waited} s", behind.join(", ")));
    }
    judge_reads(&judged, &probes, &mut verified.validation);
    judge_ledger(&measured.ledger, &mut verified.validation);
    phases.end("verify", Some(verified.validation.sinks.iter().map(|sink| sink.rows).sum()));
    if kind.is_dual_write() {
        // What the clients read back of their own rows nobody counts.
        let after = phases.done.iter_mut().filter(|phase| phase.name != "initial load");
        after.for_each(|phase| phase.bytes_in = None);
    }
    progress.end();

    let commits = commit_times(&measured.ledger);
    let span = Span {
        commits: &commits,
        window: measured.window,
        observed_until,
        readable_until,
        changes: &verified.changes,
        kept: &kept,
    };
    let (keys, sinks) = seen(plan, kind, outcome.as_ref(), probes, &span)?;
    let observed = Observed {
        kind,
        plan,
        window: measured.window,
        ledger: &measured.ledger,
        commits: &commits,
        sinks: &sinks,
        outcome: outcome.as_ref(),
        usage: &measured.usage,
        spent: &measured.spent,
        sizes: &verified.sizes,
        validation: &verified.validation,
        divergence: &divergence,
        cache_reads: keys.as_ref(),
        footprint: &measured.footprint,
        stalls: &stalls,
        observed_until,
    };
    let (mut case, warnings) = figures(&observed);
    // Against the peak it says what is the case's own.
    let mut memory = Sheet::default();
    let resident = at_start.map(|bytes| bytes as f64);
    memory.put("cost.rss_at_start_bytes", "bytes", Direction::Neutral, resident);
    case.metrics.append(&mut memory.metrics);
    case.phases = phases.done;
    case.divergence = divergence
        .iter()
        .map(|(&sink, events)| told(sink, events, (&plan.workload, &measured.ledger, &verified.examples)))
        .collect();
    case.validation = verified.validation;
    Ok((case, warnings))
}

fn fail(validation: &mut Validation, why: String) {
    validation.failures.push(why);
    validation.passed = false;
}

/// The sinks that have not reached `goal`, as a sentence names them.
fn behind(plan: &Plan, running: &Running, goal: Lsn) -> Vec<String> {
    let late = plan.sinks.iter().filter(|&&sink| running.visible(sink) < goal);
    late.map(|&sink| format!("the {}", place(sink))).collect()
}

/// The sinks as a person with the folder would see them: opened from the disk, where they are there (all strategies end
/// with a checkpoint). A cache is where it was.
fn views(readers: SinkReaders, folder: &Path) -> Result<SinkViews, RunError> {
    let warehouse = readers.warehouse.map(|_| WarehouseReader::open(&folder.join("warehouse"))).transpose();
    let search = readers.search.map(|_| SearchReader::open(&folder.join("search"))).transpose();
    Ok(SinkViews {
        warehouse: warehouse.map_err(RunError::measuring)?.map(|reader| reader.version()),
        search: search.map_err(RunError::measuring)?.map(|reader| reader.view()),
        cache: readers.cache,
    })
}

/// What a sink that the application writes to itself does with a write that comes late; `None` for other strategies.
fn conflict(kind: StrategyKind) -> Option<Conflict> {
    match kind {
        StrategyKind::DualWrite => Some(Conflict::LastArrivalWins),
        StrategyKind::DualWriteVersioned => Some(Conflict::NewestCommitWins),
        _ => None,
    }
}

/// The changes of what each sink keeps, where the application writes to the sinks itself.
fn kept_changes(
    kind: StrategyKind,
    outcome: Option<&Outcome>,
    history: &History,
    (sinks, transforms): (&SinkViews, &TransformSet),
) -> BTreeMap<SinkKind, Vec<RowChange>> {
    let fed = outcome.filter(|_| conflict(kind).is_some()).map(|outcome| outcome.sinks.keys());
    fed.into_iter().flatten().map(|&sink| (sink, history.kept_at(sink, sinks, transforms))).collect()
}

fn divergence(
    kind: StrategyKind,
    outcome: Option<&Outcome>,
    kept: &BTreeMap<SinkKind, Vec<RowChange>>,
) -> BTreeMap<SinkKind, Divergence> {
    let Some((conflict, outcome)) = conflict(kind).zip(outcome) else { return BTreeMap::new() };
    let of = |(sink, changes): (&SinkKind, &Vec<RowChange>)| {
        let arrivals = outcome.sinks.get(sink).map_or(&[][..], |outcome| outcome.arrivals.as_slice());
        (*sink, Divergence::of(changes, arrivals, conflict))
    };
    kept.iter().map(of).collect()
}

/// What everything that was seen at a sink is measured against.
struct Span<'a> {
    commits: &'a [Commit],
    window: Window,
    observed_until: Moment,
    /// The same for readers in other processes.
    readable_until: Moment,
    changes: &'a [RowChange],
    /// Those of them that matter at a sink, where the application writes to the sinks itself.
    kept: &'a BTreeMap<SinkKind, Vec<RowChange>>,
}

/// What was seen at each sink, and what the reader of keys saw.
fn seen(
    plan: &Plan,
    kind: StrategyKind,
    outcome: Option<&Outcome>,
    mut probes: Probes,
    span: &Span<'_>,
) -> Result<(Option<KeyReadFigures>, Vec<SinkSeen>), RunError> {
    let mut sinks = Vec::new();
    for (&sink, outcome) in outcome.map(|outcome| outcome.sinks.iter()).into_iter().flatten() {
        let visible = visibility(plan, kind, (sink, outcome), span)?;
        let freshness = |visible: &[Option<Moment>], observed_until| {
            let (commits, window) = (span.commits, span.window);
            Freshness::of(&FreshnessInput { commits, visible, window, observed_until })
        };
        let readable = readable(kind, outcome, &visible, span)?;
        let readable = readable.map(|readable| freshness(&readable, span.readable_until));
        let freshness = freshness(&visible, span.observed_until);
        let (probes, invariants_checked) = probes.reads.remove(&sink).map_or((None, 0), |(r, n)| (Some(r), n));
        let outcome = outcome.clone();
        sinks.push(SinkSeen { kind: sink, visible, freshness, readable, outcome, probes, invariants_checked });
    }
    let keys = probes.keys.as_ref();
    let keys = keys.map(|record| KeyReadFigures::of(record, span.commits, span.changes, span.window));
    Ok((keys, sinks))
}

/// What is at hand when the clients have ended.
struct Measured {
    ledger: Ledger,
    window: Window,
    usage: Usage,
    spent: Spent,
    probers: Probers,
    /// Memory, and the warehouse's files.
    footprint: Vec<FootprintSample>,
}

/// The readers at work, each with the number of invariants that it checks.
#[derive(Default)]
struct Probers {
    reads: BTreeMap<SinkKind, (Prober, usize)>,
    keys: Option<KeyReader>,
}

/// What the readers recorded.
#[derive(Default)]
struct Probes {
    reads: BTreeMap<SinkKind, (ProbeRecord, usize)>,
    keys: Option<KeyReadRecord>,
}

impl Probers {
    fn start(plan: &Plan, setting: &Setting, running: &Running) -> Result<Probers, RunError> {
        let seed = plan.workload.settings().seed;
        let options = ProberOptions { reads_per_s: PROBE_READS_PER_S, seed };
        let readers = running.readers();
        let mut probers = Probers::default();
        if let Some(reader) = &readers.warehouse {
            let target = WarehouseProbe::new(reader.clone(), &plan.workload, &setting.transforms);
            let invariants = target.invariants();
            let prober = Prober::start(Box::new(target), &setting.clock, options).map_err(RunError::measuring)?;
            probers.reads.insert(SinkKind::Warehouse, (prober, invariants));
        }
        if let Some(reader) = &readers.search {
            let target = Box::new(SearchProbe::new(reader.clone()));
            let prober = Prober::start(target, &setting.clock, options).map_err(RunError::measuring)?;
            probers.reads.insert(SinkKind::Search, (prober, 0));
        }
        if let Some(reader) = &readers.cache {
            // A workload may name no key at all.
            if let Some(target) = CacheTarget::new(plan, setting, reader.clone())? {
                let reader = KeyReader::start(Box::new(target), &setting.clock, (KEY_READS_PER_S, seed));
                probers.keys = Some(reader.map_err(RunError::measuring)?);
            }
        }
        Ok(probers)
    }

    fn stop(self) -> Result<Probes, RunError> {
        let mut probes = Probes::default();
        for (sink, (prober, invariants)) in self.reads {
            probes.reads.insert(sink, (prober.stop().map_err(RunError::measuring)?, invariants));
        }
        probes.keys = self.keys.map(KeyReader::stop).transpose().map_err(RunError::measuring)?;
        Ok(probes)
    }
}

/// Reads that saw half a transaction, or an older version than a read before, break a promise of equality.
fn judge_reads(judged: &Judged<'_>, probes: &Probes, validation: &mut Validation) {
    if !judged.promises_equality {
        return;
    }
    for (&sink, (record, _)) in &probes.reads {
        let broken = record.samples.iter().filter(|sample| !sample.broken.is_empty()).count();
        // Each client's write of a dual write is a version of its own, whole transactions or not, in the order of arrival.
        let back = record.samples.windows(2).filter(|pair| match pair {
            [before, after] => after.watermark.is_some() && after.watermark < before.watermark,
            _ => false,
        });
        let (back, place) = (back.count(), place(sink));
        if broken + back > 0 && !judged.kind.is_dual_write() {
            let why =
                format!("{broken} reads saw a broken invariant, {back} reads saw an older version than one before");
            fail(validation, format!("the {place}: {why}"));
        }
        if let Some(cause) = &record.first_error {
            fail(validation, format!("reads of the {place} failed, the first: {cause}"));
        }
    }
    if let Some(cause) = probes.keys.as_ref().and_then(|keys| keys.first_error.as_ref()) {
        fail(validation, format!("reads of the cache failed, the first: {cause}"));
    }
}

/// A run in which nothing could be committed, or whose outcome nobody knows, proves nothing.
fn judge_ledger(ledger: &Ledger, validation: &mut Validation) {
    let counts = ledger.counts();
    if counts.unknown > 0 || (counts.failed > 0 && counts.committed == 0) {
        let (failed, unknown, committed) = (counts.failed, counts.unknown, counts.committed);
        let why = format!("{failed} transactions failed, {unknown} have no known outcome, {committed} committed");
        fail(validation, why);
    }
}

/// Everything that costs, read at one instant: what is divided by changes is taken over one and the same span.
struct Spending {
    snapshot: Snapshot,
    server: Option<(ServerCpu, Duration)>,
    client_cpu: Duration,
    traffic: Traffic,
}

impl Spending {
    fn begin(meter: &Meter, running: Option<&Running>, source: &RecordSystem) -> Result<Spending, RunError> {
        let server = source.with_worker(ServerCpu::of_worker)?;
        Ok(Spending {
            server: server.and_then(|server| Some((server, server.so_far()?))),
            client_cpu: running.map_or(Duration::ZERO, Running::client_cpu),
            traffic: running.map(Running::traffic).unwrap_or_default(),
            snapshot: meter.now(),
        })
    }

    fn end(self, meter: &Meter, running: Option<&Running>, span: Window) -> Spent {
        let usage = meter.usage_since(&self.snapshot);
        let server_cpu = self.server.and_then(|(server, before)| Some(server.so_far()?.saturating_sub(before)));
        let client_cpu = running.map_or(Duration::ZERO, Running::client_cpu).saturating_sub(self.client_cpu);
        let traffic = running.map(Running::traffic).unwrap_or_default().since(&self.traffic);
        Spent { span, usage, server_cpu, client_cpu, traffic }
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
    let probers = running.map(|running| Probers::start(plan, setting, running)).transpose()?;
    let total = plan.warmup + plan.duration;
    let start = clock.now().after(Duration::from_millis(50));
    let clients = plan.workload.settings().clients;
    let mut application = |client| running.and_then(|running| running.application(client));
    let driver = Driver::start_with(&setting.source, &plan.workload, clients, clock, start, total, &mut application)?;
    let end = start.after(total);
    let window = Window { start: start.after(total - plan.measured(kind)), end };
    let costs_from = start.after(total - plan.cost_span(kind).unwrap_or(plan.measured(kind)));
    progress.begin(&format!("{}: run", kind.name()), u64::try_from(total.as_millis()).unwrap_or(u64::MAX));
    let mut footprint = Footprint::new(&setting.folder.join("warehouse"), window.length() / SERIES_POINTS);
    let mut wait = |until: Moment| {
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
            footprint.look(clock);
            let mut step = Duration::from_millis(50);
            if let Some(feed) = progress.live() {
                // Of a dual write only the arrivals of all writes together tell what is visible, at the end.
                let followed = running.filter(|_| !kind.is_dual_write());
                tell(feed, plan, followed, &driver, (clock.now(), window.start));
                step = LIVE_STEP;
            }
            std::thread::sleep(until.since(clock.now()).min(step));
        }
        Ok(())
    };
    wait(window.start)?;
    let begin = meter.begin();
    wait(costs_from)?;
    let before = Spending::begin(&meter, running, &setting.source)?;
    wait(window.end)?;
    let usage = meter.usage_since(&begin);
    let spent = before.end(&meter, running, Window { start: costs_from, end });
    progress.end();
    while !driver.is_finished() {
        if stop.load(Ordering::Relaxed) {
            return Err(RunError::Interrupted);
        }
        if running.is_some_and(Running::has_failed) {
            driver.stop();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let ledger = driver.join()?;
    meter.stop().map_err(RunError::measuring)?;
    Ok(Measured {
        ledger,
        window,
        usage,
        spent,
        probers: probers.unwrap_or_default(),
        footprint: footprint.into_samples(),
    })
}

/// Tells a live view how far the source and each sink are.
fn tell(feed: &Feed, plan: &Plan, running: Option<&Running>, driver: &Driver, (now, begun): (Moment, Moment)) {
    if plan.source != SourceChoice::Sqlite {
        // Its clients count commits by numbers and its sinks by the log, which are brought together at the end.
        return;
    }
    // The sinks first: what they show by then the source has acknowledged by the time it is asked, or will be soon.
    let visible: Vec<(&str, u64)> = running.map_or_else(Vec::new, |running| {
        plan.sinks.iter().map(|&sink| (sink.name(), running.visible(sink).0)).collect()
    });
    let progress = driver.progress();
    let t_s = if now >= begun { now.since(begun).as_secs_f64() } else { -begun.since(now).as_secs_f64() };
    let (newest, changes) = (progress.last_lsn().0, progress.changes());
    feed.sample(&Sample { t_s, newest, changes, visible: &visible });
}

pub(super) fn commit_times(ledger: &Ledger) -> Vec<Commit> {
    let commits = ledger.commits();
    commits.map(|(lsn, entry)| Commit { lsn, committed: entry.acknowledged, intended: entry.intended }).collect()
}

/// When each commit became visible at a sink, by what the strategy's publishes say there.
fn visibility(
    plan: &Plan,
    kind: StrategyKind,
    (sink, outcome): (SinkKind, &SinkOutcome),
    span: &Span<'_>,
) -> Result<Vec<Option<Moment>>, RunError> {
    if let Some(conflict) = conflict(kind) {
        let kept = span.kept.get(&sink).map_or(span.changes, Vec::as_slice);
        return Ok(visible_by_arrival(span.commits, kept, &outcome.arrivals, conflict));
    }
    if kind != StrategyKind::Incremental {
        return visible_by_watermark(span.commits, &outcome.publishes).map_err(RunError::measuring);
    }
    let initial = initial_keys(&plan.workload)?;
    let present =
        |table: TableId, key: KeyRef<'_>| initial.get(&table).is_some_and(|keys| keys.contains(&key.to_key()));
    visible_by_delivery(span.commits, &outcome.publishes, span.changes, &present).map_err(RunError::measuring)
}

/// When another process could read each commit at a sink; `None` where none ever can.
fn readable(
    kind: StrategyKind,
    outcome: &SinkOutcome,
    visible: &[Option<Moment>],
    span: &Span<'_>,
) -> Result<Option<Vec<Option<Moment>>>, RunError> {
    Ok(match &outcome.readable {
        Readable::Never => None,
        Readable::WithPublish => Some(visible.to_vec()),
        Readable::Durable(durable) if kind == StrategyKind::Incremental || kind.is_dual_write() => {
            Some(readable_after(visible, durable))
        }
        Readable::Durable(durable) => Some(visible_by_watermark(span.commits, durable).map_err(RunError::measuring)?),
    })
}
