//! What a run costs: CPU by thread, bytes read and written, peak memory.
//!
//! CPU comes from `/proc/self/task/*/schedstat` (nanoseconds), where the kernel has it, else from `stat` (ticks of
//! 10 ms). Threads end, and their files with them, so a thread `mtr-cpu` reads them every 200 ms and adds what is
//! new to the sum of the thread's name. What a thread used after its last reading is missing from its sum but not
//! from the process's CPU clock; the difference is reported as [`Usage::unattributed`]. At both ends of a measured
//! window everything is read at that instant.
//!
//! Threads are grouped by the part of their name before the first `-`, which this program's own threads all have; see
//! [`Role`]. The kernel keeps 15 bytes of a name.
//!
//! On a system without `/proc` only the process's CPU is known; the other figures are then absent, never zero.

mod procfs;

pub use procfs::{IoBytes, resident_bytes};

use super::{ProbeError, Worker};
use crate::clock::Clock;
use crate::model::Moment;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the threads' CPU is read: once in this time.
pub const INTERVAL: Duration = Duration::from_millis(200);

/// What tantivy's threads are called, as much as stands in the 15 bytes that the kernel keeps: those that index, merge,
/// and commit.
const TANTIVY: [&str; 3] = ["thrd-tantivy-in", "merge_thread_", "segment_updater"];

/// What a thread works for, by the part of its name before the first `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `src-`: the clients and what they run inside the source.
    Source,
    /// `cap-`: reads changes out of the source.
    Capture,
    /// `log-`: the broker.
    Log,
    /// `app-`: transforms, folds, applies and publishes. So do the threads that tantivy names itself.
    Apply,
    /// `prb-`: the reads of the prober.
    Probe,
    /// `mtr-`: the measuring itself.
    Meter,
    /// Every other thread, the main thread among them.
    Other,
}

impl Role {
    /// The role of a thread of this name.
    pub fn of(name: &str) -> Role {
        if TANTIVY.iter().any(|prefix| name.starts_with(prefix)) {
            return Role::Apply;
        }
        match name.split_once('-').map(|(prefix, _)| prefix) {
            Some("src") => Role::Source,
            Some("cap") => Role::Capture,
            Some("log") => Role::Log,
            Some("app") => Role::Apply,
            Some("prb") => Role::Probe,
            Some("mtr") => Role::Meter,
            _ => Role::Other,
        }
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Role::Source => "source",
            Role::Capture => "capture",
            Role::Log => "log",
            Role::Apply => "apply",
            Role::Probe => "probe",
            Role::Meter => "meter",
            Role::Other => "other",
        }
    }
}

/// The CPU that all the threads of one name used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadCpu {
    /// The threads' name, as much of it as the kernel keeps.
    pub name: String,
    /// Their CPU time.
    pub cpu: Duration,
}

/// The most memory that was resident at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeakRss {
    /// In bytes.
    pub bytes: u64,
    /// Whether it is that of the window: then the kernel let us reset its mark at the window's start (which a later
    /// window's start moves). If not, it is the largest since the process began.
    pub of_window: bool,
}

/// The counters at one instant.
#[derive(Clone, Debug)]
pub struct Snapshot {
    at: Moment,
    process_cpu: Duration,
    cpu_ns_by_name: BTreeMap<String, u64>,
    io: Option<IoBytes>,
    peak_reset: bool,
}

/// What was used between two instants.
#[derive(Clone, Debug)]
pub struct Usage {
    /// How long it was.
    pub length: Duration,
    /// The CPU time of the whole process, ended threads among it.
    pub process_cpu: Duration,
    /// The CPU time by name of thread, largest first. Empty where the system does not tell.
    pub threads: Vec<ThreadCpu>,
    /// CPU time of the process that no thread's name is known for: the last of threads that ended.
    pub unattributed: Duration,
    /// Bytes read and written; `None` where the system does not tell.
    pub io: Option<IoBytes>,
    /// The most memory resident at once; `None` where the system does not tell.
    pub peak_rss: Option<PeakRss>,
}

impl Usage {
    /// The CPU time of all threads of a role.
    pub fn cpu_of(&self, role: Role) -> Duration {
        self.threads.iter().filter(|thread| Role::of(&thread.name) == role).map(|thread| thread.cpu).sum()
    }

    /// The CPU time of each role that used any.
    pub fn by_role(&self) -> BTreeMap<Role, Duration> {
        let mut roles = BTreeMap::new();
        for thread in self.threads.iter().filter(|thread| !thread.cpu.is_zero()) {
            *roles.entry(Role::of(&thread.name)).or_default() += thread.cpu;
        }
        roles
    }
}

/// Reads the counters while a run is on. One reading of 24 threads costs about 0.4 ms, so following them takes 0.2 %
/// of one core; the CPU of all measuring is that of [`Role::Meter`].
#[derive(Debug)]
pub struct Meter {
    clock: Clock,
    threads: Arc<Mutex<ThreadTimes>>,
    worker: Worker<()>,
}

impl Meter {
    /// Starts the thread that follows the other threads.
    ///
    /// # Errors
    /// [`ProbeError::Spawn`].
    pub fn start(clock: &Clock) -> Result<Meter, ProbeError> {
        let threads = Arc::new(Mutex::new(ThreadTimes::default()));
        let followed = Arc::clone(&threads);
        let worker = Worker::start("mtr-cpu", move |stopped: &Receiver<()>| {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                lock(&followed).read();
            }
        })?;
        Ok(Meter { clock: clock.clone(), threads, worker })
    }

    /// The counters now, and resets the mark of peak memory, if the kernel allows it.
    pub fn begin(&self) -> Snapshot {
        let peak_reset = procfs::reset_peak_rss();
        self.snapshot(peak_reset)
    }

    /// The counters now. The mark of peak memory stays.
    pub fn now(&self) -> Snapshot {
        self.snapshot(false)
    }

    /// What was used since `begin`.
    pub fn usage_since(&self, begin: &Snapshot) -> Usage {
        let peak_rss = procfs::peak_rss_bytes().map(|bytes| PeakRss { bytes, of_window: begin.peak_reset });
        let now = self.snapshot(begin.peak_reset);
        Usage { peak_rss, ..difference(begin, &now) }
    }

    /// Ends the thread.
    ///
    /// # Errors
    /// [`ProbeError::Died`].
    pub fn stop(self) -> Result<(), ProbeError> {
        self.worker.finish()
    }

    fn snapshot(&self, peak_reset: bool) -> Snapshot {
        let cpu_ns_by_name = {
            let mut threads = lock(&self.threads);
            threads.read();
            threads.ns_by_name.clone()
        };
        Snapshot { at: self.clock.now(), process_cpu: process_cpu(), cpu_ns_by_name, io: procfs::io(), peak_reset }
    }
}

fn difference(begin: &Snapshot, end: &Snapshot) -> Usage {
    let mut threads: Vec<ThreadCpu> = end
        .cpu_ns_by_name
        .iter()
        .map(|(name, ns)| {
            let before = begin.cpu_ns_by_name.get(name).copied().unwrap_or(0);
            ThreadCpu { name: name.clone(), cpu: Duration::from_nanos(ns.saturating_sub(before)) }
        })
        .filter(|thread| !thread.cpu.is_zero())
        .collect();
    threads.sort_by(|a, b| b.cpu.cmp(&a.cpu).then_with(|| a.name.cmp(&b.name)));
    let process_cpu = end.process_cpu.saturating_sub(begin.process_cpu);
    let attributed: Duration = threads.iter().map(|thread| thread.cpu).sum();
    Usage {
        length: end.at.since(begin.at),
        process_cpu,
        unattributed: process_cpu.saturating_sub(attributed),
        threads,
        io: begin.io.zip(end.io).map(|(before, after)| after.since(before)),
        peak_rss: None,
    }
}

/// The CPU time of the whole process so far, ended threads among it.
pub fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let (seconds, ns) = (u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0));
    Duration::new(seconds, ns)
}

fn lock(threads: &Mutex<ThreadTimes>) -> MutexGuard<'_, ThreadTimes> {
    // A reading that panicked half way leaves sums that are too low at worst.
    threads.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The CPU of every thread seen so far, summed up by name.
#[derive(Debug, Default)]
struct ThreadTimes {
    live: BTreeMap<u32, LiveThread>,
    ns_by_name: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct LiveThread {
    name: String,
    cpu_ns: u64,
    readings: u32,
    seen: bool,
}

impl ThreadTimes {
    fn read(&mut self) {
        for id in procfs::thread_ids() {
            // A thread may end between the listing and the reading: then it is gone from the next listing too.
            let Some(cpu_ns) = procfs::thread_cpu_ns(id) else { continue };
            self.update(id, cpu_ns, || procfs::thread_name(id));
        }
        self.forget_ended();
    }

    /// Takes a reading in. A new thread names itself a moment after it began, so the name is read again at the
    /// next readings, and now and then later.
    fn update(&mut self, id: u32, cpu_ns: u64, name: impl FnOnce() -> Option<String>) {
        const NAMING: u32 = 3;
        const NAME_EVERY: u32 = 64;
        let thread = self.live.entry(id).or_insert_with(|| LiveThread {
            name: String::from("?"),
            cpu_ns: 0,
            readings: 0,
            seen: true,
        });
        if cpu_ns < thread.cpu_ns {
            // The kernel gave the number of an ended thread to a new one.
            (thread.cpu_ns, thread.readings) = (0, 0);
        }
        if (thread.readings < NAMING || thread.readings.is_multiple_of(NAME_EVERY))
            && let Some(name) = name()
            && name != thread.name
        {
            // At first it had its parent's name: what it used under that one moves along.
            let moved_ns = if thread.readings < NAMING { thread.cpu_ns } else { 0 };
            thread.rename(name, moved_ns, &mut self.ns_by_name);
        }
        thread.readings = thread.readings.saturating_add(1);
        thread.seen = true;
        let more_ns = cpu_ns - thread.cpu_ns;
        thread.cpu_ns = cpu_ns;
        *self.ns_by_name.entry(thread.name.clone()).or_default() += more_ns;
    }

    fn forget_ended(&mut self) {
        self.live.retain(|_, thread| std::mem::take(&mut thread.seen));
    }
}

impl LiveThread {
    fn rename(&mut self, name: String, moved_ns: u64, ns_by_name: &mut BTreeMap<String, u64>) {
        if let Some(old) = ns_by_name.get_mut(&self.name) {
            *old = old.saturating_sub(moved_ns);
        }
        *ns_by_name.entry(name.clone()).or_default() += moved_ns;
        self.name = name;
    }
}

#[cfg(test)]
mod tests;
