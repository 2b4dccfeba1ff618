//! Things that stand still: the applier, the source, the generator.
//!
//! The ages are computed here anew, from the ledger and the watermarks that a sampler saw while it ran, by the definition word for word.
//! The curve that a run's figures come from must agree.

use super::super::RunError;
use super::super::case::{commit_times, setting};
use super::{Found, plan};
use crate::clock::Clock;
use crate::model::{Lsn, Moment};
use crate::plan::Plan;
use crate::probe::{Commit, Freshness, FreshnessInput, Window, visible_by_watermark};
use crate::sink::SinkKind;
use crate::source::{Application, Driver, Ledger, Outcome, RecordSystem, SourceOptions, SqliteSource};
use crate::stats::{Line, Samples};
use crate::strategy::{self, Running, Setting, StrategyKind};
use crate::workload::{PlannedTxn, Workload};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a thing stands still.
const STALL: Duration = Duration::from_millis(1200);
/// From one look at the watermark to the next.
const LOOK: Duration = Duration::from_millis(10);
/// Behind the order to stand still, what was under way ends.
const SETTLE: Duration = Duration::from_millis(200);
/// The longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

struct Rig {
    setting: Setting,
    workload: Arc<Workload>,
    running: Running,
}

/// What was seen of a rig.
struct Story {
    commits: Vec<Commit>,
    freshness: Freshness,
    /// Instant and visible position.
    looks: Vec<(Moment, Lsn)>,
}

fn loaded(folder: &Path, plan: &Plan) -> Result<SqliteSource, RunError> {
    let options = SourceOptions { durability: plan.durability, ..SourceOptions::default() };
    let source = SqliteSource::create(&folder.join("source.db"), plan.workload.catalog(), options)?;
    source.load(&plan.workload, &mut |_| {})?;
    Ok(source)
}

impl Rig {
    fn start(folder: &Path) -> Result<Rig, RunError> {
        let plan = plan(folder, "cdc-trigger", |_| {})?;
        let clock = Clock::monotonic();
        let source = loaded(folder, &plan)?;
        let setting = setting(&plan, StrategyKind::CdcTrigger, &RecordSystem::from(&source), folder, &clock)?;
        let running = strategy::start(StrategyKind::CdcTrigger, &setting).map_err(RunError::measuring)?;
        let running = running.ok_or_else(|| RunError::measuring("a strategy that follows nothing"))?;
        Ok(Rig { setting, workload: plan.workload, running })
    }

    fn drive(&self, length: Duration) -> Result<Driver, RunError> {
        let clock = &self.setting.clock;
        let start = clock.now().after(Duration::from_millis(20));
        let mut nobody = |_| None;
        Ok(Driver::start_with(&self.setting.source, &self.workload, 2, clock, start, length, &mut nobody)?)
    }

    /// Looks at the watermark again and again, for `length`.
    fn watch(&self, length: Duration) -> Vec<(Moment, Lsn)> {
        let clock = &self.setting.clock;
        let end = clock.now().after(length);
        let mut looks = Vec::new();
        while clock.now() < end {
            looks.push((clock.now(), self.running.visible(SinkKind::Warehouse)));
            clock.sleep_until(clock.now().after(LOOK));
        }
        looks
    }

    /// Drains and tells what was seen in `window`.
    fn finish(self, ledger: &Ledger, window: Window, looks: Vec<(Moment, Lsn)>) -> Result<Story, RunError> {
        let goal = self.setting.source.write_marker()?.log;
        if !self.running.drain(goal, &self.setting.clock, PATIENCE) {
            return Err(RunError::measuring("the warehouse did not catch up"));
        }
        let observed_until = self.setting.clock.now();
        let outcome = self.running.finish().map_err(RunError::measuring)?;
        let commits = commit_times(ledger);
        let publishes = outcome.sinks.get(&SinkKind::Warehouse).map_or(&[][..], |sink| sink.publishes.as_slice());
        let visible = visible_by_watermark(&commits, publishes).map_err(RunError::measuring)?;
        let input = FreshnessInput { commits: &commits, visible: &visible, window, observed_until };
        let freshness = Freshness::of(&input);
        Ok(Story { freshness, commits, looks })
    }
}

impl Story {
    /// The age at a look, word for word: the time since the oldest commit that is behind the watermark, zero if there is none.
    fn age_at(&self, (now, visible): (Moment, Lsn)) -> Duration {
        let missing = self.commits.iter().filter(|commit| commit.lsn > visible && commit.committed <= now);
        missing.map(|commit| now.since(commit.committed)).max().unwrap_or_default()
    }
}

/// The applier stands still while the clients go on: the age must grow by one second a second.
pub(super) fn frozen_applier(folder: &Path) -> Result<Found, RunError> {
    let rig = Rig::start(folder)?;
    let clock = rig.setting.clock.clone();
    let driver = rig.drive(STALL + SETTLE * 3)?;
    clock.sleep_until(clock.now().after(SETTLE));
    rig.running.hold(SinkKind::Warehouse, true);
    clock.sleep_until(clock.now().after(SETTLE));
    let start = clock.now();
    let looks = rig.watch(STALL);
    let window = Window { start, end: clock.now() };
    rig.running.hold(SinkKind::Warehouse, false);
    let ledger = driver.join()?;
    let story = rig.finish(&ledger, window, looks)?;
    let ages: Vec<(f64, f64)> =
        story.looks.iter().map(|&look| (look.0.since(start).as_secs_f64(), story.age_at(look).as_secs_f64())).collect();
    let line = Line::fit(&ages).ok_or_else(|| RunError::measuring("the sampler saw nothing"))?;
    let curve = &story.freshness.age.curve;
    let apart = |look: &(Moment, Lsn)| curve.at(look.0).unwrap_or_default().abs_diff(story.age_at(*look));
    let apart = story.looks.iter().map(apart).max().unwrap_or_default();
    let passed = (line.slope - 1.0).abs() < 0.01 && apart < Duration::from_millis(5);
    let wanted = "a slope of 1 s/s within 1 %, and the run's own curve within 5 ms of it".to_owned();
    Ok((
        passed,
        wanted,
        format!("{:.4} s/s over {STALL:?} from {} looks; the curve is at most {apart:.1?} off", line.slope, ages.len()),
    ))
}

/// The clients stop and everything has arrived: nothing is missing, so the age is zero, however long ago the last commit was.
pub(super) fn stalled_source(folder: &Path) -> Result<Found, RunError> {
    let rig = Rig::start(folder)?;
    let clock = rig.setting.clock.clone();
    let ledger = rig.drive(SETTLE * 3)?.join()?;
    let deadline = clock.now().after(PATIENCE);
    while rig.running.visible(SinkKind::Warehouse) < ledger.last_lsn() && clock.now() < deadline {
        clock.sleep_until(clock.now().after(LOOK));
    }
    let start = clock.now();
    let looks = rig.watch(STALL);
    let window = Window { start, end: clock.now() };
    let story = rig.finish(&ledger, window, looks)?;
    let longest = story.looks.iter().map(|&look| story.age_at(look)).max().unwrap_or(Duration::MAX);
    let curve = story.freshness.age.max;
    let last = story.commits.iter().map(|commit| commit.committed).max().unwrap_or(start);
    let naive = window.end.since(last);
    let passed = longest.is_zero() && curve.is_zero() && !story.commits.is_empty();
    let seen = format!(
        "{longest:?} at the most in {} looks, {curve:?} by the curve; \"now less the newest row\" would have said {naive:.1?}",
        story.looks.len()
    );
    Ok((passed, "age zero throughout".to_owned(), seen))
}

/// Stands still once, between two transactions.
struct Pause {
    at: u64,
    length: Duration,
}

impl Application for Pause {
    fn ended(&mut self, txn: &PlannedTxn, _: &Outcome) {
        if txn.index.0 == self.at {
            std::thread::sleep(self.length);
        }
    }
}

/// The one client stands still between two transactions: what was due meanwhile is late, though each takes as long as ever.
pub(super) fn stalled_generator(folder: &Path) -> Result<Found, RunError> {
    const AT: u64 = 100;
    let plan = plan(folder, "control", |raw| raw.rate = Some("200".to_owned()))?;
    let source = loaded(folder, &plan)?;
    let clock = Clock::monotonic();
    let start = clock.now().after(Duration::from_millis(20));
    let mut pause = |_| Some(Box::new(Pause { at: AT, length: STALL / 2 }) as Box<dyn Application>);
    let ledger = Driver::start_with(&source, &plan.workload, 1, &clock, start, STALL * 2, &mut pause)?.join()?;
    let paused = ledger.entries().iter().find(|entry| entry.txn.0 == AT).map(|entry| entry.acknowledged);
    let paused = paused.ok_or_else(|| RunError::measuring("the stream is too short"))?;
    let due: Vec<_> = ledger.window(paused, paused.after(STALL / 2)).collect();
    let of =
        |length: fn(&&crate::source::LedgerEntry) -> Duration| Samples::new(due.iter().map(|e| (length(e), false)));
    let latency = of(|entry| entry.acknowledged.since(entry.intended));
    let service = of(|entry| entry.acknowledged.since(entry.started));
    let median = |samples: &Samples| samples.quantile(0.5).map_or(Duration::ZERO, |quantile| quantile.value);
    let (latency, service) = (median(&latency), median(&service));
    // Those due evenly through the pause wait half of it in the middle, and the queue behind it takes time as well.
    let passed = latency >= STALL / 5 && service <= latency / 5;
    let wanted = format!("latency of about {:?} or more, service time as ever", STALL / 4);
    let seen = format!(
        "{} transactions were due in a pause of {:?}: latency p50 {latency:.1?}, service time p50 {service:.1?}",
        due.len(),
        STALL / 2
    );
    Ok((passed, wanted, seen))
}
