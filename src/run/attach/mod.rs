//! `freshbench attach`: follows tables of a live PostgreSQL that somebody else writes to, and measures how fresh the
//! warehouse is.
//!
//! There is no ledger here. What was produced is told by the stream itself, with the server's times of the commits, and
//! checked by heartbeats: small commits of this program's own, ten a second, whose times are known on one clock. At the end
//! the stream is stopped at one position, the fence, and the warehouse is compared row by row with a snapshot of the
//! source at that very position, while the others go on writing.

mod compare;
mod ending;
mod fence;
mod figures;
mod folders;
mod heartbeat;
mod idle;
mod probe;
mod source_changes;

pub use probe::EqualSums;

use super::environment::{git_state, utc_now, warnings};
use super::{Finished, Progress, RunError, environment};
use crate::capture::postgres::{PgCursorCapture, PgTriggerCapture, fit};
use crate::capture::{CaptureError, SourceSnapshot};
use crate::clock::Clock;
use crate::live::Sample;
use crate::model::Lsn;
use crate::output::say;
use crate::probe::{FollowMeter, Meter, Prober, ProberOptions, ServerCpu, StallWatch, Window};
use crate::report::{Case, RunResult, Validation, save_page, save_result};
use crate::sink::{SinkKind, WarehouseReader};
use crate::source::postgres::{
    PgCut, PgHold, PgNeeds, PgOptions, PgSource, PgTable, PgTableName, RECONNECT_PATIENCE, RECONNECT_PAUSE,
};
use crate::source::{RecordSystem, SourceError};
use crate::strategy::{self, Begin, Outcome, Running, Setting, StrategyError, StrategyKind};
use crate::transform::TransformSet;
use compare::{Compared, Promise, compare, kept};
use ending::Ending;
use fence::fence;
use figures::Attached;
use folders::Folders;
use heartbeat::{ClockOffset, Heart};
use idle::Idle;
use source_changes::SourceChanges;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// From one count of changed rows to the next, for a live view.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// Reads of the warehouse a second, to look at invariants.
const PROBE_READS_PER_S: f64 = 50.0;

/// When an attach ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After this time.
    Duration(Duration),
    /// When nothing was committed for this time.
    Idle(Duration),
    /// When the warehouse is complete through this position of the source's log.
    Position(Lsn),
}

/// What to follow, and how.
#[derive(Clone, Debug)]
pub struct AttachPlan {
    /// The server and database.
    pub server: PgOptions,
    /// The tables.
    pub tables: Vec<PgTableName>,
    /// How they are followed: `cdc-log`, `cdc-trigger`, `full-refresh` or `incremental`.
    pub strategy: StrategyKind,
    /// The warehouse's folder.
    pub warehouse: PathBuf,
    /// When it ends.
    pub until: Until,
    /// How it begins.
    pub begin: Begin,
    /// From batch to batch.
    pub batch_interval: Duration,
    /// The cursor column, for `incremental`.
    pub cursor: String,
    /// Leave slot and publication, so that a later attach can resume.
    pub keep: bool,
    /// Columns whose sums are equal in every state of the source.
    pub invariant: Option<EqualSums>,
    /// Where the result goes; `None` for a new folder below `reports/`.
    pub out: Option<PathBuf>,
    /// How long the strategy may take to catch up at the end.
    pub patience: Duration,
    /// The command that gives this again, without a secret.
    pub command: String,
}

/// Removes what was added to the source, whatever happens: by [`Detach::remove`] where it can be told in the result, else when
/// it is dropped.
struct Detach<'a> {
    kind: StrategyKind,
    setting: &'a Setting,
    keep: bool,
    stop: &'a AtomicBool,
}

impl Detach<'_> {
    /// Removes it, once. What could not be removed, in words, with the remedy.
    fn remove(&mut self) -> Option<String> {
        if std::mem::replace(&mut self.keep, true) {
            return None;
        }
        let cause = patiently(self.stop, || strategy::detach(self.kind, self.setting)).err()?;
        let left = match self.kind {
            StrategyKind::CdcTrigger => "triggers and the schema _freshbench",
            _ => "the slot or the publication",
        };
        Some(format!(
            "{left} may still be in the source, since the removal failed: {cause}; run freshbench cleanup --source URL \
             once nothing is in its way"
        ))
    }
}

impl Drop for Detach<'_> {
    fn drop(&mut self) {
        if let Some(left) = self.remove() {
            say!("freshbench: {left}");
        }
    }
}

/// Does something at the server again, until it is there: one that restarts when following ends is waited for as during it.
/// Whoever stops the program does not wait.
fn patiently<T>(stop: &AtomicBool, mut action: impl FnMut() -> Result<T, StrategyError>) -> Result<T, StrategyError> {
    let begun = Instant::now();
    loop {
        match action() {
            Err(StrategyError::Capture(cause))
                if cause.is_of_connection()
                    && begun.elapsed() < RECONNECT_PATIENCE
                    && !stop.load(Ordering::Relaxed) =>
            {
                std::thread::sleep(RECONNECT_PAUSE);
            }
            done => return done,
        }
    }
}

/// Follows as planned. `stop` ends it early: what was added to the source is removed, nothing is compared.
///
/// # Errors
/// [`RunError`]; what was added to the source is removed then, too.
pub fn attach(plan: &AttachPlan, progress: &dyn Progress, stop: &AtomicBool) -> Result<Finished, RunError> {
    let started = utc_now();
    let run_id = format!("{}-attach", started.compact);
    let folder = plan.out.clone().unwrap_or_else(|| Path::new("reports").join(&run_id));
    let clock = Clock::monotonic();
    let source = PgSource::adopt(&plan.server, tables(plan)?);
    let offset = ClockOffset::estimate(&source, &clock)?;
    let setting = setting(plan, &source, &clock, offset)?;
    require_room(plan, &setting)?;
    let mut folders = Folders::make(&plan.warehouse, &setting.folder, &folder)?;
    if plan.begin == Begin::Resumed {
        folders.resumed();
    }
    // Kept to the end: a clean-up leaves alone what is in use.
    let name = setting.name_at_source(plan.strategy, plan.begin);
    let _hold = name.map(|name| PgHold::take(&plan.server, &name)).transpose()?;
    let env = environment(&setting.folder, &clock);
    let server = super::identity::postgres(&plan.server)?;
    let name = plan.strategy.name();
    progress.begin(&format!("{name}: initial load"), 0);
    let followed = follow(plan, (&source, &setting), offset, (progress, stop), &mut folders);
    let Followed { case, warned, length, interrupted, left } = followed.map_err(|cause| {
        progress.end();
        cause.or_interrupted()
    })?;
    let mut result = RunResult {
        schema: crate::report::result::SCHEMA.to_owned(),
        schema_version: crate::report::result::SCHEMA_VERSION.to_owned(),
        run_id,
        started_at: started.rfc3339,
        complete: !interrupted,
        git: git_state(),
        warnings: warnings(&env),
        env,
        config: figures::config(plan, &setting, length, &server),
        strategies: vec![case],
    };
    result.warnings.extend(warned);
    result.warnings.extend(left.clone());
    for case in &mut result.strategies {
        case.sentence = crate::report::headline::sentence(case, crate::report::headline::Readers::Outside);
    }
    if let Some(feed) = progress.live() {
        feed.saved(&result);
    }
    save_result(&folder, &result).map_err(RunError::Report)?;
    let page = save_page(&folder, &result).map_err(RunError::Report)?;
    // Also by whoever did not want to wait for the removal, when all was measured.
    let interrupted = interrupted || stop.load(Ordering::Relaxed);
    Ok(Finished { result, folder, page, interrupted, left })
}

/// A server that can't hold all that will be needed is refused at the beginning, not at the end.
fn require_room(plan: &AttachPlan, setting: &Setting) -> Result<(), RunError> {
    let needs = match (plan.strategy, plan.begin) {
        (StrategyKind::CdcLog, Begin::Resumed) => PgNeeds::to_resume_the_log(),
        (StrategyKind::CdcLog, _) => PgNeeds::to_follow_the_log(setting.pool.current_num_threads()),
        (StrategyKind::CdcTrigger, _) => PgNeeds::of_triggers(setting.pool.current_num_threads()),
        _ => PgNeeds::to_read(setting.pool.current_num_threads()),
    };
    Ok(crate::source::postgres::require_room(&plan.server, &needs)?)
}

/// The tables as they can be followed, or one line about the first that can't.
fn tables(plan: &AttachPlan) -> Result<Vec<PgTable>, RunError> {
    let mut client = plan.server.connect()?;
    let mut found = Vec::with_capacity(plan.tables.len());
    for name in &plan.tables {
        let table = PgTable::discover(&mut client, name)?;
        let unfit = |cause: CaptureError| RunError::Strategy {
            strategy: plan.strategy.name(),
            cause: Box::new(StrategyError::from(cause)),
        };
        let table = match plan.strategy {
            StrategyKind::CdcLog => fit(&table).map_err(unfit)?,
            StrategyKind::CdcTrigger => {
                PgTriggerCapture::fit(&table).map_err(unfit)?;
                table
            }
            StrategyKind::Incremental => {
                PgCursorCapture::fit(&table).map_err(unfit)?;
                table
            }
            _ => table,
        };
        table.require_key()?;
        found.push(table);
    }
    Ok(found)
}

fn setting(plan: &AttachPlan, source: &PgSource, clock: &Clock, offset: ClockOffset) -> Result<Setting, RunError> {
    let transforms = TransformSet::compile(source.catalog(), &[]).map_err(RunError::measuring)?;
    let folder = plan.warehouse.join("attach");
    let setting = Setting::new(source, transforms, &folder, clock).map_err(RunError::measuring)?;
    let mut cursor_columns = Vec::new();
    if plan.strategy == StrategyKind::Incremental {
        for (_, schema) in source.catalog().iter() {
            let column = schema.column_index(&plan.cursor).ok_or_else(|| SourceError::Table {
                what: format!("table {:?} has no column {:?}; name its cursor with --cursor", schema.name, plan.cursor),
            })?;
            cursor_columns.push(column);
        }
    }
    Ok(Setting {
        batch_interval: plan.batch_interval,
        cursor_columns,
        sinks: vec![SinkKind::Warehouse],
        attached: true,
        // Only the log tells true times. Reads are judged by each commit, so those are kept then.
        meter: Some(Arc::new(FollowMeter::new(
            plan.strategy == StrategyKind::CdcLog,
            plan.invariant.is_some(),
            move |time| offset.moment(time),
        ))),
        warehouse_at: Some(plan.warehouse.clone()),
        ..setting
    })
}

/// What came of following.
struct Followed {
    case: crate::report::Case,
    warned: Vec<String>,
    /// How long was measured.
    length: Duration,
    interrupted: bool,
    /// What could not be removed from the source.
    left: Option<String>,
}

fn follow(
    plan: &AttachPlan,
    (source, setting): (&PgSource, &Setting),
    offset: ClockOffset,
    (progress, stop): (&dyn Progress, &AtomicBool),
    folders: &mut Folders,
) -> Result<Followed, RunError> {
    let kind = plan.strategy;
    let failed = |cause: StrategyError| RunError::Strategy { strategy: kind.name(), cause: Box::new(cause) };
    let clock = &setting.clock;
    if let Some(sums) = &plan.invariant {
        sums.check(setting.output())?;
    }
    let begun = clock.now();
    // What a beginning that fails has made it removes itself; what an earlier attach left stays, if it is of any use.
    let running = strategy::attach(kind, setting, plan.begin).map_err(|cause| match plan.begin {
        Begin::Resumed => Ending::of_resuming(setting).with(kind, cause),
        Begin::Loaded | Begin::Empty => failed(cause),
    })?;
    // Until it has begun the folder goes again if anything fails, and nothing finds a slot without its folder. What is resumed
    // was there before, and stays.
    let mut guard = Detach { kind, setting, keep: plan.begin == Begin::Resumed, stop };
    // Moved, so that it ends before the guard, which can't drop what is in use.
    let running = running;
    let promise = promise(kind, strategy::empty_since(kind, setting).map_err(failed)?);
    let log_end = || {
        let found = patiently(stop, || Ok(source.log_end().map_err(CaptureError::from)?));
        found.map_err(failed)
    };
    progress.end();
    let loaded = clock.now();
    let counter = running.byte_counter();
    let at_start = counter.so_far();
    let server = RecordSystem::from(source).with_worker(ServerCpu::of_worker)?;
    let meter = Meter::start(clock).map_err(RunError::measuring)?;
    let watch = StallWatch::start(clock).map_err(RunError::measuring)?;
    let follower = setting.meter.as_ref().ok_or_else(|| RunError::measuring("there is no meter"))?;
    let heart = Heart::start(source, clock, follower)?;
    // The others see each change themselves.
    let copies = matches!(kind, StrategyKind::FullRefresh | StrategyKind::Incremental);
    let counting = copies.then(|| SourceChanges::start(source, clock)).transpose()?;
    let prober = prober(plan, setting, &running)?;
    folders.begun();
    guard.keep = plan.keep;
    // What was committed during the load is not what following is like.
    let at_load = log_end()?;
    let deadline = clock.now().after(plan.patience);
    while kind == StrategyKind::CdcLog
        && running.visible(SinkKind::Warehouse) < at_load
        && clock.now() < deadline
        && !running.has_failed()
        && !stop.load(Ordering::Relaxed)
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (before, server_before) = (meter.begin(), server.and_then(|server| server.so_far()));
    let log_before = log_end()?;
    let (start, at_window) = (clock.now(), counter.so_far());
    follower.begin(start);
    let interrupted = wait(plan, (source, &running, clock, &heart), (progress, stop))?;
    let (end, at_window_end) = (clock.now(), counter.so_far());
    follower.end(end);
    let usage = meter.usage_since(&before);
    let server_cpu = server.zip(server_before).and_then(|(server, before)| server.so_far()?.checked_sub(before));
    let counted = counting.map(SourceChanges::stop);
    let log_bytes = log_end()?.0.saturating_sub(log_before.0);
    heart.stop()?;
    progress.begin(&format!("{}: catch up and compare", kind.name()), 0);
    let fenced = if interrupted { Ok(None) } else { fence(plan, (source, &running, clock), stop) };
    // Everything that was measured so far is of use, whatever becomes of the comparison.
    let (fence, unfenced) = match fenced {
        Ok(fence) => (fence, None),
        Err(cause) => (None, Some(cause.to_string())),
    };
    let goal = match &fence {
        Some(snapshot) => snapshot.position(),
        None => log_end()?,
    };
    let interrupted = interrupted || stop.load(Ordering::Relaxed);
    let caught_up = drain(plan, (&running, goal, clock), stop);
    let interrupted = interrupted || stop.load(Ordering::Relaxed);
    let (observed_until, at_fence) = (clock.now(), counter.so_far());
    let reads = prober.map(Prober::stop).transpose().map_err(RunError::measuring)?;
    let mut outcome = match running.finish() {
        Ok(outcome) => outcome,
        Err(cause) => {
            if cause.is_stopped() {
                return Err(failed(cause));
            }
            let ending = Ending::of_following(kind, setting, &cause);
            guard.keep = ending.keeps();
            let ending = match guard.remove() {
                Some(left) => {
                    say!("freshbench: {left}");
                    ending.left()
                }
                None => ending,
            };
            return Err(ending.with(kind, cause));
        }
    };
    // The last checkpoint comes with the end.
    let readable_until = clock.now();
    let moved = [at_start, at_window, at_window_end, at_fence, counter.so_far()];
    meter.stop().map_err(RunError::measuring)?;
    let drift = ClockOffset::estimate(source, clock).ok().map(|now| now.drift_since(&offset));
    let judged = Judged { plan, setting, source, promise };
    let compared = match unfenced {
        Some(cause) => Ok(judged.uncompared(format!("nothing was compared: {cause}"))),
        None => judged.validation(fence, &outcome, interrupted),
    };
    let mut validation =
        compared.unwrap_or_else(|cause| judged.uncompared(format!("the warehouse could not be compared: {cause}")));
    // Before the publication goes.
    let altered = if interrupted { Ok(None) } else { patiently(stop, || strategy::altered(kind, setting)) };
    if let Some(why) =
        altered.unwrap_or_else(|cause| Some(format!("it is not known whether changes were lost: {cause}")))
    {
        validation.failures.insert(0, why);
        (validation.passed, validation.equal) = (false, false);
    }
    if !caught_up && !interrupted {
        let why = format!("the warehouse did not reach position {goal} within {} s", plan.patience.as_secs());
        validation.failures.push(why);
        validation.passed = false;
    }
    progress.end();
    // Its locks would keep the triggers from being dropped.
    outcome.last_state = None;
    let left = guard.remove();
    let followed = follower.finish(observed_until, readable_until).map_err(RunError::measuring)?;
    let attached = Attached {
        plan,
        offset,
        window: Window { start, end },
        observed_until,
        readable_until,
        followed: &followed,
        counted: counted.as_ref(),
        moved,
        drift,
        outcome: &outcome,
        usage: &usage,
        server_cpu,
        log_bytes,
        loading: (begun, loaded),
        reads: reads.as_ref(),
    };
    let (mut case, mut warned) = attached.figures(&mut validation)?;
    let stalls = watch.stop().map_err(RunError::measuring)?;
    let stalled = super::stalls::at_attach(&mut case, (kind.name(), &stalls), (attached.window, observed_until));
    warned.splice(0..0, stalled);
    warned.extend(no_batch(kind, &mut case, (followed.counts.batches, attached.window)));
    warned.extend(heirs(source));
    case.validation = validation;
    Ok(Followed { case, warned, length: end.since(start), interrupted, left })
}

/// Takes the costs out of a case in whose window no batch became visible: what one costs is not in it. Says why.
fn no_batch(kind: StrategyKind, case: &mut Case, (batches, window): (u64, Window)) -> Option<String> {
    if !kind.works_in_batches() || batches > 0 {
        return None;
    }
    for metric in case.metrics.iter_mut().filter(|metric| metric.id == "cost.cpu_s_per_1k_changes") {
        metric.value = None;
    }
    let why = format!(
        "{}: no batch became visible in the {:.1?} that were measured: no cost of following is given; follow for longer",
        kind.name(),
        window.length()
    );
    case.caveats.push(why.clone());
    Some(why)
}

/// Lets the warehouse come to the end, unless the user does not want to wait.
fn drain(plan: &AttachPlan, (running, goal, clock): (&Running, Lsn, &Clock), stop: &AtomicBool) -> bool {
    running.end_at(goal);
    let deadline = clock.now().after(plan.patience);
    let goes_on = || !running.has_failed() && !stop.load(Ordering::Relaxed) && clock.now() < deadline;
    while running.visible(SinkKind::Warehouse) < goal && goes_on() {
        std::thread::sleep(Duration::from_millis(2));
    }
    running.drain(goal, clock, Duration::ZERO)
}

fn prober(plan: &AttachPlan, setting: &Setting, running: &Running) -> Result<Option<Prober>, RunError> {
    let Some((sums, reader)) = plan.invariant.as_ref().zip(running.readers().warehouse.as_ref()) else {
        return Ok(None);
    };
    let target = sums.target(setting.output(), reader.clone()).map_err(RunError::Source)?;
    let options = ProberOptions { reads_per_s: PROBE_READS_PER_S, seed: 1 };
    Prober::start(Box::new(target), &setting.clock, options).map(Some).map_err(RunError::measuring)
}

/// Waits for the end that was planned. True if it was interrupted.
fn wait(
    plan: &AttachPlan,
    (source, running, clock, heart): (&PgSource, &Running, &Clock, &Heart),
    (progress, stop): (&dyn Progress, &AtomicBool),
) -> Result<bool, RunError> {
    const STEP: Duration = Duration::from_millis(20);
    let start = clock.now();
    let (what, total) = match plan.until {
        Until::Duration(length) => ("follow", u64::try_from(length.as_millis()).unwrap_or(u64::MAX)),
        Until::Idle(_) => ("follow until idle", 0),
        Until::Position(_) => ("follow to the position", 0),
    };
    progress.begin(&format!("{}: {what}", plan.strategy.name()), total);
    let mut idle = Idle::new(plan, (source, running, clock))?;
    let (mut counted, mut changes) = (start, 0);
    loop {
        let now = clock.now();
        // The failure itself comes out when the strategy is asked to finish.
        let over = running.has_failed()
            || match plan.until {
                Until::Duration(length) => now.since(start) >= length,
                Until::Idle(length) => idle.lasted(length)?,
                Until::Position(position) => running.visible(SinkKind::Warehouse) >= position,
            };
        if over || stop.load(Ordering::Relaxed) {
            progress.end();
            return Ok(!over);
        }
        if let Some(feed) = progress.live() {
            if now.since(counted) >= COUNT_INTERVAL {
                (counted, changes) = (now, idle.changed_since_start());
            }
            // Counted, since a view takes positions for numbers of commits.
            let (newest, shown) = heart.counts(running.visible(SinkKind::Warehouse));
            let visible = [(SinkKind::Warehouse.name(), shown)];
            let t_s = now.since(start).as_secs_f64();
            feed.sample(&Sample { t_s, newest, changes, visible: &visible });
        }
        progress.at(u64::try_from(now.since(start).as_millis()).unwrap_or(u64::MAX));
        std::thread::sleep(STEP);
    }
}

/// Tables whose rows a plain SELECT shows together with those of others, which are neither followed nor compared.
fn heirs(source: &PgSource) -> Vec<String> {
    let sql = "SELECT pg_catalog.string_agg(i.inhrelid::pg_catalog.regclass::text, ', ' ORDER BY i.inhrelid) \
        FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid \
        WHERE i.inhparent = $1 AND NOT c.relispartition";
    let Ok(mut client) = source.connect() else { return Vec::new() };
    let of_table = |table: &PgTable| {
        let heirs: Option<String> = client.query_one(sql, &[&table.oid]).ok()?.try_get(0).ok()?;
        Some(format!(
            "of table {:?} its own rows alone were followed and compared (SELECT .. FROM ONLY), not those of tables that inherit \
             from it ({}); name them too",
            table.schema.name, heirs?
        ))
    };
    source.tables().iter().filter_map(of_table).collect()
}

/// What a warehouse is judged by at the end.
struct Judged<'a> {
    plan: &'a AttachPlan,
    setting: &'a Setting,
    source: &'a PgSource,
    promise: Promise,
}

impl Judged<'_> {
    fn validation(
        &self,
        fence: Option<SourceSnapshot>,
        outcome: &Outcome,
        interrupted: bool,
    ) -> Result<Validation, RunError> {
        if interrupted {
            return Ok(self.uncompared("interrupted before the warehouse was compared".to_owned()));
        }
        let state = fence.map(std::sync::Arc::new).or_else(|| outcome.last_state.clone());
        let Some(state) = state else {
            let why = "the source's last state is not known, so nothing was compared".to_owned();
            return Ok(self.uncompared(why));
        };
        let version = WarehouseReader::open(&self.plan.warehouse).map_err(RunError::measuring)?.version();
        let (source, promise, catalog) = (self.source, &self.promise, self.setting.output());
        let compared = Compared { snapshot: &state, source, catalog, version: &version, promise };
        compare(&compared, kept(self.plan.strategy))
    }

    /// Of a warehouse that was held against nothing, so that no promise was kept.
    fn uncompared(&self, why: String) -> Validation {
        Validation { promise: self.promise.name().to_owned(), failures: vec![why], ..Validation::default() }
    }
}

/// What is promised; `empty_since` is the state that a stream without an initial load began after.
fn promise(kind: StrategyKind, empty_since: Option<PgCut>) -> Promise {
    match (kind, empty_since) {
        (StrategyKind::Incremental, _) => Promise::Nothing,
        (_, Some(since)) => Promise::ChangedRows(since),
        _ => Promise::Equality,
    }
}
