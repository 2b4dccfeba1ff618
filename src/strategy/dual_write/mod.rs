//! `dual-write`: the application's clients write to the record system and then to every sink themselves, in turn.
//!
//! A client commits, and only then, after a think time each, writes the rows as its transaction left them to one sink after
//! the other. Nothing orders two clients' writes at a sink, so the one that committed first may arrive last; and a client
//! may die between two writes. Neither raises an error anywhere. A sink applies writes in the order in which they
//! arrive; the search index collects them and commits at its interval.

mod direct;
mod rows;
mod schedule;
mod writer;

pub(super) use rows::written_rows;
pub use schedule::{Interleaved, Schedule, Step, interleave, simulate};

use super::load::load_tables;
use super::running::{Applications, Outcome, ReadableRecorder, Running, Shared};
use super::sinks::{ForEachSink, SinkReaders, Sinks};
use super::{Setting, StrategyError};
use crate::capture::SourceSnapshot;
use crate::sink::{CacheConflict, Sink, SinkKind};
use crate::stats::SplitMix64;
use crate::workload::TxnIndex;
use direct::{Direct, DirectSink};
use std::sync::Arc;
use std::time::Duration;
use writer::{Faults, Writer};

/// How the application writes to the sinks itself.
#[derive(Clone, Debug, PartialEq)]
pub struct DualWrite {
    /// The mean time between a client's writes, as of a round trip to the next system. Exponentially distributed.
    pub think: Duration,
    /// The probability that a client dies between two of its writes, each time anew; another takes its place at once.
    pub crash_rate: f64,
    /// The seed of think times and deaths.
    pub seed: u64,
}

impl Default for DualWrite {
    fn default() -> DualWrite {
        DualWrite { think: Duration::from_micros(500), crash_rate: 0.0, seed: 42 }
    }
}

/// What comes before a client's write to a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// This pause.
    Think(Duration),
    /// Its death.
    Dies,
}

impl DualWrite {
    /// What comes before a transaction's write to the sink at this place: the same for a seed, whoever runs it and when.
    pub(super) fn fate(&self, txn: TxnIndex, place: usize) -> Fate {
        let mut random = SplitMix64::new(self.seed ^ (txn.0 << 3 | place as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if random.unit() < self.crash_rate { Fate::Dies } else { Fate::Think(random.exponential(self.think)) }
    }
}

/// The sinks as the application sees them, loaded and ready, in the order in which it writes to them.
struct Ready {
    direct: Vec<Arc<dyn DirectSink>>,
    readers: SinkReaders,
    initial_rows: u64,
    /// Bytes read for each sink, and written to it.
    read: Vec<(SinkKind, u64, u64)>,
}

/// Loads every sink from one snapshot. With `versioned`, a sink refuses a write that is older than what it has for the key.
fn ready(setting: &Setting, versioned: bool) -> Result<Ready, StrategyError> {
    let marker = setting.source.write_marker()?;
    let mut setting = setting.clone();
    setting.cache.conflict = if versioned { CacheConflict::NewerWins } else { CacheConflict::LastWrite };
    let sinks = Sinks::create(&setting)?;
    let readers = sinks.readers();
    let snapshot = SourceSnapshot::begin(&setting.source, setting.pool.current_num_threads(), &setting.clock)?;
    // Nobody writes yet, so the state is that of the marker; and the application knows commits by their numbers alone.
    let snapshot = snapshot.reckoned(marker.number);
    let mut loading =
        Loading { setting: &setting, snapshot, versioned, direct: Vec::new(), initial_rows: 0, read: Vec::new() };
    sinks.each(&mut loading)?;
    let Loading { mut direct, initial_rows, read, .. } = loading;
    let place = |kind: SinkKind| setting.sinks.iter().position(|&other| other == kind);
    direct.sort_by_key(|sink| place(sink.kind()));
    Ok(Ready { direct, readers, initial_rows, read })
}

struct Loading<'a> {
    setting: &'a Setting,
    snapshot: SourceSnapshot,
    versioned: bool,
    direct: Vec<Arc<dyn DirectSink>>,
    initial_rows: u64,
    /// Bytes read for each sink, and written to it.
    read: Vec<(SinkKind, u64, u64)>,
}

impl ForEachSink for Loading<'_> {
    fn sink<S: Sink>(&mut self, mut sink: S) -> Result<(), StrategyError> {
        let readable = ReadableRecorder::of(&mut sink, self.setting);
        let moved = load_tables(self.setting, &self.snapshot, &mut sink)?;
        self.initial_rows += moved.rows;
        self.read.push((S::KIND, moved.bytes, sink.counters().bytes_written));
        let loaded = (self.setting.clock.now(), self.snapshot.position());
        self.direct.push(Arc::new(Direct::new(self.setting, (sink, readable), self.versioned, loaded)));
        Ok(())
    }
}

pub(super) fn start(setting: &Setting, versioned: bool) -> Result<Running, StrategyError> {
    let Ready { direct, readers, initial_rows, read } = ready(setting, versioned)?;
    let shared = Shared::new(setting);
    for (sink, bytes, written) in read {
        shared.add_read(sink, bytes);
        shared.set_written(sink, written);
    }
    let mut running = Running::new(readers, Arc::clone(&shared));
    let faults = Faults::default();
    for (place, sink) in direct.iter().enumerate() {
        let (sink, setting, faults) = (Arc::clone(sink), setting.clone(), faults.clone());
        running.spawn(&format!("app-{}", sink.kind().name()), move |shared| {
            serve(shared, &setting, sink.as_ref())?;
            if let Some(fault) = faults.take() {
                return Err(fault);
            }
            let outcome = sink.finish()?;
            Ok(Outcome::of(sink.kind(), outcome, if place == 0 { initial_rows } else { 0 }))
        })?;
    }
    let setting = setting.clone();
    let applications: Applications =
        Box::new(move |_| Box::new(Writer::new(&setting, direct.clone(), Arc::clone(&shared), faults.clone())));
    Ok(running.with_applications(applications))
}

/// Publishes what a sink collects at its interval, makes it durable now and then, and ends when the clients have.
fn serve(shared: &Shared, setting: &Setting, sink: &dyn DirectSink) -> Result<(), StrategyError> {
    let clock = &setting.clock;
    let interval = setting.publish_interval(sink.kind()).max(Duration::from_millis(5));
    let mut due = clock.now().after(interval);
    let mut checkpoint_due = clock.now().after(setting.checkpoint_interval);
    loop {
        shared.sleep_while_fed(clock, due);
        if shared.aborted() {
            return Ok(());
        }
        let ends = shared.goal_is_set();
        shared.wait_while_held(sink.kind());
        sink.flush()?;
        if ends {
            sink.complete(shared.goal())?;
            shared.set_written(sink.kind(), sink.written());
            shared.set_visible(sink.kind(), shared.goal());
            return Ok(());
        }
        if clock.now() >= checkpoint_due {
            setting.pool.install(|| sink.checkpoint())?;
            checkpoint_due = clock.now().after(setting.checkpoint_interval);
        }
        shared.set_written(sink.kind(), sink.written());
        due = clock.now().after(interval);
    }
}
