//! Whether this process itself stood still: then every figure of that time is the machine's, not a strategy's.
//!
//! A thread `mtr-clock` wakes each 10 ms and looks at the clock. When it comes 50 ms late or more, something kept it, and
//! what the process did meanwhile tells what:
//!
//! * *Stopped*: the whole process used less than a fifth of one core, beside what all cores could do for it in the 10 ms
//!   before. Nothing of it ran: a signal, a debugger, a virtual
//!   machine that was paused, a cgroup that was frozen or out of quota, other programs that took every core.
//! * *Suspended*: the boot clock went on and the monotonic one did not: the machine slept.
//! * *Starved*: its threads did work, and this one had to wait for a core. That is the load's own doing as often as not, so
//!   it is reported and nothing is left out for it.
//!
//! A slow disk or a server that hangs is none of them: this thread then wakes on time.
//!
//! Beside it the record keeps how much time a hypervisor took from the machine, and a cgroup from the process
//! ([`MachineTimes`]).

use super::machine::MachineTimes;
use super::{ProbeError, Worker};
use crate::clock::Clock;
use crate::model::Moment;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// From one look at the clock to the next.
pub const STEP: Duration = Duration::from_millis(10);
/// So late is a stall.
pub const LATE_MIN: Duration = Duration::from_millis(50);
/// A process that used less than one part in so many of one core stood still.
const STOPPED_PARTS: u32 = 5;
/// Looks at the clock from one reading of the machine's times to the next.
const MACHINE_EVERY: u32 = 10;
/// Stalls that are kept one by one; of what comes then only the sums are.
const STALLS_MAX: usize = 4096;
/// Readings of the machine's times that are kept; when there are more, every second one goes.
const MACHINE_MAX: usize = 4096;

/// What kept the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallCause {
    /// Nothing of it ran.
    Stopped,
    /// The machine slept.
    Suspended,
    /// It ran, and there was no core for the thread that looks at the clock.
    Starved,
}

impl StallCause {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            StallCause::Stopped => "stopped",
            StallCause::Suspended => "suspended",
            StallCause::Starved => "starved",
        }
    }

    /// Whether it came from outside, so that figures without it are those of the strategy.
    pub fn is_external(self) -> bool {
        self != StallCause::Starved
    }
}

/// A time in which this process did not do what it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The last time that all was well.
    pub from: Moment,
    /// The first time that all was well again.
    pub until: Moment,
    /// How long it lasted. Of a machine that slept longer than `until - from`, which is by a clock that stood still as well.
    pub length: Duration,
    /// What kept it.
    pub cause: StallCause,
}

/// What the thread sees when it wakes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// When, in nanoseconds of the run's clock.
    pub at: Moment,
    /// By how much the clock that goes on while the machine sleeps is ahead of the one that does not.
    pub slept: Duration,
    /// The CPU time of the process so far.
    pub cpu: Duration,
}

/// What was seen. Feed it looks in the order of time.
#[derive(Clone, Debug, Default)]
pub struct StallRecord {
    /// The cores on which the process may run. From a look until it is stopped it may have had all of them for a [`STEP`].
    cores: u32,
    last: Option<Look>,
    stalls: Vec<Stall>,
    /// How many more there were than are kept.
    pub unkept: u64,
    machine: Vec<(Moment, MachineTimes)>,
}

impl StallRecord {
    /// Nothing yet, of a process that may run on so many cores.
    pub fn on(cores: u32) -> StallRecord {
        StallRecord { cores, ..StallRecord::default() }
    }

    /// Takes a look in.
    pub fn look(&mut self, look: Look) {
        let Some(last) = self.last.replace(look) else { return };
        let gap = look.at.since(last.at);
        let slept = look.slept.saturating_sub(last.slept);
        let cause = if slept >= LATE_MIN {
            StallCause::Suspended
        } else if gap < STEP + LATE_MIN {
            return;
        } else if look.cpu.saturating_sub(last.cpu) < gap / STOPPED_PARTS + STEP * self.cores {
            StallCause::Stopped
        } else {
            StallCause::Starved
        };
        let stall = Stall { from: last.at, until: look.at, length: gap.saturating_sub(STEP) + slept, cause };
        if self.stalls.len() < STALLS_MAX { self.stalls.push(stall) } else { self.unkept += 1 }
    }

    /// Takes the machine's times in.
    pub fn machine(&mut self, at: Moment, times: MachineTimes) {
        self.machine.push((at, times));
        if self.machine.len() > MACHINE_MAX {
            let mut place = 0;
            self.machine.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
    }

    /// Every stall that has a part in `[from, until)`, in the order of time.
    pub fn stalls(&self, from: Moment, until: Moment) -> impl Iterator<Item = &Stall> {
        // Of a machine that slept both ends may be one instant.
        self.stalls.iter().filter(move |stall| stall.from < until && stall.until >= from)
    }

    /// What was taken from the machine and from the process between two instants, as near as it was read; `None` where the
    /// system does not tell.
    pub fn taken(&self, from: Moment, until: Moment) -> Option<MachineTimes> {
        let at = |moment: Moment| {
            let next = self.machine.partition_point(|(at, _)| *at < moment);
            self.machine.get(next).or(self.machine.last())
        };
        let (before, after) = (at(from)?, at(until)?);
        (before.0 < after.0).then(|| after.1.since(before.1))
    }
}

/// Watches the clock while a run is on. A look costs a few microseconds.
#[derive(Debug)]
pub struct StallWatch {
    worker: Worker<StallRecord>,
}

impl StallWatch {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`ProbeError::Spawn`].
    pub fn start(clock: &Clock) -> Result<StallWatch, ProbeError> {
        let clock = clock.clone();
        let worker = Worker::start("mtr-clock", move |stopped: &Receiver<()>| {
            let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
            let mut record = StallRecord::on(cores);
            let mut looks = 0u32;
            loop {
                let at = clock.now();
                record.look(Look { at, slept: slept(), cpu: read(ClockId::ProcessCPUTime) });
                let over = stopped.recv_timeout(STEP) != Err(RecvTimeoutError::Timeout);
                if over || looks.is_multiple_of(MACHINE_EVERY) {
                    record.machine(clock.now(), MachineTimes::read());
                }
                if over {
                    return record;
                }
                looks = looks.wrapping_add(1);
            }
        })?;
        Ok(StallWatch { worker })
    }

    /// Ends the thread and hands over what it saw.
    ///
    /// # Errors
    /// [`ProbeError::Died`].
    pub fn stop(self) -> Result<StallRecord, ProbeError> {
        self.worker.finish()
    }
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// How long the machine has slept since it was started; zero where the system does not tell.
fn slept() -> Duration {
    #[cfg(target_os = "linux")]
    {
        // The boot clock first: a pause between the two readings then can't look like sleep.
        let boot = read(ClockId::Boottime);
        boot.saturating_sub(read(ClockId::Monotonic))
    }
    #[cfg(not(target_os = "linux"))]
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(length: u64) -> Duration {
        Duration::from_millis(length)
    }

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    /// Looks at these milliseconds, with this CPU time and sleep so far.
    fn record(looks: &[(u64, u64, u64)]) -> StallRecord {
        let mut record = StallRecord::default();
        looks.iter().for_each(|&(now, cpu, slept)| record.look(Look { at: at(now), slept: ms(slept), cpu: ms(cpu) }));
        record
    }

    fn seen(record: &StallRecord) -> Vec<(u64, u64, StallCause)> {
        let of = |stall: &Stall| (stall.from.as_nanos() / 1_000_000, stall.length.as_millis() as u64, stall.cause);
        record.stalls(at(0), at(u64::MAX / 1_000_000)).map(of).collect()
    }

    #[test]
    fn what_kept_the_process_is_told_by_what_it_did() {
        // On time, and 49 ms late: no stall.
        assert!(seen(&record(&[(0, 0, 0), (10, 5, 0), (69, 10, 0)])).is_empty());
        // 490 ms late, and one ms of CPU in 500: stopped. Two cores at work all the time: starved. A tenth of a core: stopped.
        assert_eq!(seen(&record(&[(10, 5, 0), (510, 6, 0)])), [(10, 490, StallCause::Stopped)]);
        assert_eq!(seen(&record(&[(10, 5, 0), (510, 1005, 0)])), [(10, 490, StallCause::Starved)]);
        assert_eq!(seen(&record(&[(10, 0, 0), (110, 10, 0)])), [(10, 90, StallCause::Stopped)]);
        assert_eq!(seen(&record(&[(10, 0, 0), (110, 20, 0)])), [(10, 90, StallCause::Starved)]);
        // The monotonic clock saw 12 ms while the machine slept for an hour.
        let hour = 3_600_000;
        assert_eq!(seen(&record(&[(10, 5, 7), (22, 6, 7 + hour)])), [(10, hour + 2, StallCause::Suspended)]);
        // Sleep before the run is none of it.
        assert!(seen(&record(&[(10, 5, hour), (20, 6, hour)])).is_empty());
    }

    /// 16 cores were busy for 10 ms, then the process was stopped for 200: that is no load of its own.
    #[test]
    fn what_all_cores_did_before_a_stop_does_not_hide_it() {
        let of = |cpu_ms: u64| {
            let mut record = StallRecord::on(16);
            [(0, 0), (210, cpu_ms)].into_iter().for_each(|(now, cpu)| {
                record.look(Look { at: at(now), slept: Duration::ZERO, cpu: ms(cpu) });
            });
            seen(&record)
        };
        assert_eq!(of(160), [(0, 200, StallCause::Stopped)]);
        assert_eq!(of(16 * 210), [(0, 200, StallCause::Starved)]);
    }

    #[test]
    fn stalls_of_a_time_are_those_that_reach_into_it() {
        let record = record(&[(0, 0, 0), (100, 0, 0), (110, 0, 0), (310, 0, 0), (320, 0, 0)]);
        let within = |from, until| record.stalls(at(from), at(until)).map(|stall| stall.length).collect::<Vec<_>>();
        assert_eq!(within(0, 1000), [ms(90), ms(190)]);
        assert_eq!(within(105, 200), [ms(190)]);
        assert!(within(311, 1000).is_empty());
        assert_eq!(within(50, 110), [ms(90)]);
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut record = StallRecord::default();
        for n in 0..20_000u64 {
            record.look(Look { at: at(n * 100), ..Look::default() });
            record.machine(at(n * 100), MachineTimes { total_ticks: n, ..MachineTimes::default() });
        }
        assert_eq!((record.stalls.len(), record.unkept), (STALLS_MAX, 19_999 - STALLS_MAX as u64));
        assert!(record.machine.len() <= MACHINE_MAX);
        // Ticks from one reading to another that is near the times asked for.
        let taken = record.taken(at(200_000), at(1_200_000)).expect("readings").total_ticks;
        assert!((9_900..=10_100).contains(&taken), "{taken}");
    }

    #[test]
    fn a_watch_at_work_sees_no_sleep() {
        let watch = StallWatch::start(&Clock::monotonic()).expect("a thread");
        std::thread::sleep(ms(35));
        let record = watch.stop().expect("a record");
        assert!(record.last.is_some_and(|look| look.at > Moment::ORIGIN));
        assert!(seen(&record).iter().all(|(_, _, cause)| *cause != StallCause::Suspended));
    }
}
