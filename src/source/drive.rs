//! The open-loop driver: many clients, one schedule.
//!
//! Each client thread walks the whole stream and runs its own share of it (a transaction's lane decides, or its place).
//! Walking past others' transactions costs about a microsecond each; in return no transaction crosses a thread, and
//! a slow client can't hold up another's schedule, as it would through a dispatcher with bounded queues.
//!
//! A transaction starts at its intended instant. If its client is still busy, it starts as soon as the client
//! is free, which its ledger entry shows; none is left out.

use super::application::Application;
use super::client::{self, Client};
use super::error::SourceError;
use super::ledger::{ClientLog, Ledger, LedgerEntry, Outcome};
use super::record_system::RecordSystem;
use crate::clock::Clock;
use crate::model::{Lsn, Moment};
use crate::workload::{ClientId, PlannedTxn, Workload};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, ScopedJoinHandle};
use std::time::Duration;

/// How long a sleeping client takes at most to hear that the run was stopped.
const STOP_HEARD: Duration = Duration::from_millis(20);

/// How far the clients are, to be read at any time by anybody. Each count only grows.
#[derive(Debug, Default)]
pub struct Progress {
    started: AtomicU64,
    ended: AtomicU64,
    committed: AtomicU64,
    changes: AtomicU64,
    last_lsn: AtomicU64,
    late_ns: AtomicU64,
}

impl Progress {
    /// Transactions that were due and taken up.
    pub fn offered(&self) -> u64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Transactions that ended, in whatever way.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Transactions whose commit was acknowledged.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Rows changed by acknowledged commits.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// The newest acknowledged commit.
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.last_lsn.load(Ordering::Acquire))
    }

    /// How late the transaction taken up last started: near zero while the clients keep up with the schedule.
    pub fn late(&self) -> Duration {
        Duration::from_nanos(self.late_ns.load(Ordering::Relaxed))
    }

    fn start(&self, late: Duration) {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.late_ns.store(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn end(&self, outcome: &Outcome) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        if let Outcome::Committed { lsn, changes } = outcome {
            self.committed.fetch_add(1, Ordering::Relaxed);
            self.changes.fetch_add(u64::from(*changes), Ordering::Relaxed);
            self.last_lsn.fetch_max(lsn.0, Ordering::Release);
        }
    }
}

/// Runs the workload's transactions whose intended start is before `until` (counted from `start`), on `clients`
/// threads named `src-client-N`, and returns when all have ended or `stop` is set. With a clock moved by hand
/// nobody waits: each client runs as fast as it can.
///
/// # Errors
/// When a client can't connect, or the source can't be read to settle unknown outcomes.
pub fn drive(
    source: impl Into<RecordSystem>,
    workload: &Workload,
    clients: u32,
    clock: &Clock,
    start: Moment,
    stop: &AtomicBool,
    until: Duration,
) -> Result<Ledger, SourceError> {
    let (source, progress) = (&source.into(), Progress::default());
    let schedule = Schedule { clients: clients.max(1), start, until, clock, stop, progress: &progress };
    let connected = connect(source, schedule.clients)?;
    let parts = std::thread::scope(|scope| {
        let mut threads = Vec::with_capacity(connected.len());
        for (id, client) in connected {
            let name = thread_name(id);
            let run = move || run_client(client, id, workload.stream(), schedule, None);
            let thread = std::thread::Builder::new().name(name.clone()).spawn_scoped(scope, run);
            threads.push((name.clone(), thread.map_err(|_| SourceError::Thread { name })?));
        }
        let joined = threads.into_iter().map(|(name, thread)| join(name, ScopedJoinHandle::join(thread)));
        joined.collect::<Result<Vec<_>, _>>()
    })?;
    settled(source, Ledger::merge(parts))
}

/// [`drive`] in the background. Dropping it stops the clients and waits for them.
#[derive(Debug)]
pub struct Driver {
    source: RecordSystem,
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
    threads: Vec<(String, JoinHandle<ClientLog>)>,
}

impl Driver {
    /// Starts the clients; see [`drive`]. `start` should lie a little ahead, so that all are ready by then.
    ///
    /// # Errors
    /// When a client can't connect or its thread can't start.
    pub fn start(
        source: impl Into<RecordSystem>,
        workload: &Arc<Workload>,
        clients: u32,
        clock: &Clock,
        start: Moment,
        until: Duration,
    ) -> Result<Driver, SourceError> {
        Driver::start_with(source, workload, clients, clock, start, until, &mut |_| None)
    }

    /// As [`Driver::start`], with an application for each client that does something besides its transactions.
    ///
    /// # Errors
    /// As [`Driver::start`].
    pub fn start_with(
        source: impl Into<RecordSystem>,
        workload: &Arc<Workload>,
        clients: u32,
        clock: &Clock,
        start: Moment,
        until: Duration,
        after: &mut dyn FnMut(ClientId) -> Option<Box<dyn Application>>,
    ) -> Result<Driver, SourceError> {
        let (stop, progress) = (Arc::new(AtomicBool::new(false)), Arc::new(Progress::default()));
        let (source, clients) = (source.into(), clients.max(1));
        let connected = connect(&source, clients)?;
        // Made first: if a thread can't start, dropping the driver ends those that did.
        let mut driver = Driver { source, stop, progress, threads: Vec::new() };
        for (id, client) in connected {
            let name = thread_name(id);
            let (stop, progress, clock) = (Arc::clone(&driver.stop), Arc::clone(&driver.progress), clock.clone());
            let (workload, after) = (Arc::clone(workload), after(id));
            let run = move || {
                let schedule = Schedule { clients, start, until, clock: &clock, stop: &stop, progress: &progress };
                run_client(client, id, workload.stream(), schedule, after)
            };
            let thread = std::thread::Builder::new().name(name.clone()).spawn(run);
            driver.threads.push((name.clone(), thread.map_err(|_| SourceError::Thread { name })?));
        }
        Ok(driver)
    }

    /// How far the clients are.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Tells the clients to end after the transaction they are in.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether all clients have ended.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(|(_, thread)| thread.is_finished())
    }

    /// Waits for the clients' ends (see [`Driver::stop`]) and puts the ledger together.
    ///
    /// # Errors
    /// When a thread panicked, or the source can't be read to settle unknown outcomes.
    pub fn join(mut self) -> Result<Ledger, SourceError> {
        let threads = std::mem::take(&mut self.threads);
        let parts = threads.into_iter().map(|(name, thread)| join(name, thread.join())).collect::<Result<Vec<_>, _>>();
        settled(&self.source, Ledger::merge(parts?))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop();
        for (_, thread) in self.threads.drain(..) {
            // Its panic has been reported by the panic hook; nobody asks for its ledger any more.
            let _ = thread.join();
        }
    }
}

fn thread_name(id: ClientId) -> String {
    format!("src-client-{}", id.0)
}

fn connect(source: &RecordSystem, clients: u32) -> Result<Vec<(ClientId, Client)>, SourceError> {
    (0..clients).map(|id| Ok((ClientId(id), Client::connect(source)?))).collect()
}

fn join(name: String, joined: std::thread::Result<ClientLog>) -> Result<ClientLog, SourceError> {
    joined.map_err(|_| SourceError::Thread { name })
}

/// Looks the unknown outcomes up over a fresh connection, now that nothing is under way.
fn settled(source: &RecordSystem, mut ledger: Ledger) -> Result<Ledger, SourceError> {
    if ledger.counts().unknown > 0 {
        let mut look_up = client::looking_up(source)?;
        ledger.settle(|txn| {
            let found = look_up(txn)?;
            let failed = || Outcome::Failed { reason: "not in the source after the run".to_owned() };
            Ok::<_, SourceError>(Some(found.map_or_else(failed, |lsn| Outcome::Committed { lsn, changes: 0 })))
        })?;
    }
    Ok(ledger)
}

#[derive(Clone, Copy)]
struct Schedule<'a> {
    clients: u32,
    start: Moment,
    until: Duration,
    clock: &'a Clock,
    stop: &'a AtomicBool,
    progress: &'a Progress,
}

impl Schedule<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Sleeps until `moment`; `false` if the run was stopped meanwhile.
    fn wait(&self, moment: Moment) -> bool {
        loop {
            if self.stopped() {
                return false;
            }
            let left = moment.since(self.clock.now());
            if left <= STOP_HEARD {
                self.clock.sleep_until(moment);
                return true;
            }
            let before = self.clock.now();
            self.clock.sleep_until(before.after(STOP_HEARD));
            if self.clock.now() == before {
                // A clock moved by hand: nobody waits.
                return true;
            }
        }
    }
}

fn run_client(
    mut client: Client,
    id: ClientId,
    stream: impl Iterator<Item = PlannedTxn>,
    schedule: Schedule<'_>,
    mut after: Option<Box<dyn Application>>,
) -> ClientLog {
    // The kernel may wake a sleeper up to 50 us late to save power; one that keeps a schedule asks for less.
    // Where it is not to be had the schedule is that much coarser, which the ledger shows.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let mut log = ClientLog::default();
    let mut share =
        stream.take_while(|txn| txn.intended < schedule.until).filter(|txn| txn.client(schedule.clients) == id);
    for txn in share.by_ref() {
        let intended = schedule.start.after(txn.intended);
        if !schedule.wait(intended) {
            let now = schedule.clock.now();
            log.shed += u64::from(intended <= now);
            log.shed += share.take_while(|txn| schedule.start.after(txn.intended) <= now).count() as u64;
            break;
        }
        let started = schedule.clock.now();
        schedule.progress.start(started.since(intended));
        let outcome = match &mut after {
            Some(application) => client.execute_as(&txn, application.as_mut()),
            None => client.execute(&txn),
        };
        let acknowledged = schedule.clock.now();
        schedule.progress.end(&outcome);
        if let Some(after) = &mut after {
            after.ended(&txn, &outcome);
        }
        log.entries.push(LedgerEntry { txn: txn.index, client: id, intended, started, acknowledged, outcome });
    }
    log
}
