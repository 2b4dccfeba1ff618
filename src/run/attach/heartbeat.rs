//! Small commits of this program's own, whose times are known on one clock; and how far the server's clock is off.

use crate::clock::Clock;
use crate::model::{CommitTime, Lsn, Moment};
use crate::probe::{Commit, FollowMeter};
use crate::source::SourceError;
use crate::source::postgres::{PgSource, RECONNECT_PATIENCE};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Ten a second cost the server next to nothing.
const INTERVAL: Duration = Duration::from_millis(100);
const OFFSET_SAMPLES: usize = 16;

/// How far two clocks moved apart in the time of an attach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Drift {
    /// In seconds; positive where the server's clock went faster.
    pub(super) s: f64,
    /// It is right within this.
    pub(super) error_s: f64,
}

impl Drift {
    /// Whether the clocks certainly moved apart, and by enough to matter for a figure of this size.
    pub(super) fn spoils(&self, figure_s: f64) -> bool {
        self.s.abs() > self.error_s && self.s.abs() > figure_s / 10.0
    }
}

/// The difference of two clocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ClockOffset {
    /// What has to be added to this machine's wall clock to get the server's, in us.
    pub(super) us: i64,
    /// It is right within this, in us: half of the shortest round trip.
    pub(super) error_us: i64,
    /// The wall clock at the origin of the monotonic clock, in us since 1970.
    wall_at_origin_us: i64,
}

impl ClockOffset {
    /// By the shortest of some round trips: the server's answer lies somewhere between question and reply.
    pub(super) fn estimate(source: &PgSource, clock: &Clock) -> Result<ClockOffset, SourceError> {
        let failed = || SourceError::postgres("read the clock of", source.place());
        let mut client = source.connect()?;
        let sql = "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint";
        let statement = client.prepare(sql).map_err(failed())?;
        let mut best: Option<(i64, i64)> = None;
        for _ in 0..OFFSET_SAMPLES {
            let asked = wall_us();
            let told: i64 = client.query_one(&statement, &[]).map_err(failed())?.get(0);
            let heard = wall_us();
            let round_trip = heard - asked;
            if best.is_none_or(|(shortest, _)| round_trip < shortest) {
                best = Some((round_trip, told - (asked + heard) / 2));
            }
        }
        let (round_trip, us) = best.unwrap_or_default();
        let (wall_at_origin_us, apart_us) = wall_at_origin(clock);
        Ok(ClockOffset { us, error_us: round_trip / 2 + 1 + apart_us, wall_at_origin_us })
    }

    /// How far the server's clock has moved against this machine's monotonic one since an earlier estimate: seconds, and the most
    /// by which that can be off.
    pub(super) fn drift_since(&self, before: &ClockOffset) -> Drift {
        let us = (self.us + self.wall_at_origin_us) - (before.us + before.wall_at_origin_us);
        let error_us = self.error_us + before.error_us;
        Drift { s: us as f64 / 1e6, error_s: error_us as f64 / 1e6 }
    }

    /// The moment of this machine's monotonic clock at which the server's clock showed `time`.
    pub(super) fn moment(&self, time: CommitTime) -> Moment {
        let since_origin = time.0 - self.us - self.wall_at_origin_us;
        Moment::ORIGIN.after(Duration::from_micros(u64::try_from(since_origin).unwrap_or(0)))
    }
}

/// What the wall clock showed at the origin of the monotonic one, and the most by which that can be off, in us: by the closest of
/// some pairs of readings, since a thread may be interrupted between two.
fn wall_at_origin(clock: &Clock) -> (i64, i64) {
    let since_origin = || i64::try_from(clock.now().since(Moment::ORIGIN).as_micros()).unwrap_or(i64::MAX);
    let readings = (0..OFFSET_SAMPLES).map(|_| {
        let (before, wall, after) = (since_origin(), wall_us(), since_origin());
        (after - before, wall - before / 2 - after / 2)
    });
    let (apart, at_origin) = readings.min_by_key(|(apart, _)| *apart).unwrap_or((0, wall_us() - since_origin()));
    (at_origin, apart / 2 + 1)
}

fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Beats that a view may still find to be on their way; an hour of them.
const WAITING_MAX: usize = 36_000;

/// Beats that were acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    count: u64,
    /// The places of those that were not found to be visible yet.
    waiting: VecDeque<Lsn>,
}

/// Commits a message into the source's log again and again, on a thread of its own, which touches no table.
pub(super) struct Heart {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Acknowledged>>,
    thread: Option<JoinHandle<Result<u64, SourceError>>>,
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Heart {
    /// Tells `meter` of every beat, intended when it was sent, with the place of its message in the log.
    pub(super) fn start(source: &PgSource, clock: &Clock, meter: &Arc<FollowMeter>) -> Result<Heart, SourceError> {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Acknowledged::default())));
        let told = Arc::clone(&acknowledged);
        let (source, clock, stopped, meter) = (source.clone(), clock.clone(), Arc::clone(&stop), Arc::clone(meter));
        let name = "prb-heartbeat".to_owned();
        let beat = move || beat(&source, &clock, (&stopped, &told, &meter));
        let thread = std::thread::Builder::new().name(name.clone()).spawn(beat);
        Ok(Heart { stop, acknowledged, thread: Some(thread.map_err(|_| SourceError::Thread { name })?) })
    }

    /// How many beats were acknowledged, and how many of them a state that is complete through `watermark` includes.
    pub(super) fn counts(&self, watermark: Lsn) -> (u64, u64) {
        let mut acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        while acknowledged.waiting.front().is_some_and(|lsn| *lsn <= watermark) {
            acknowledged.waiting.pop_front();
        }
        (acknowledged.count, acknowledged.count - acknowledged.waiting.len() as u64)
    }

    /// Ends it; gives the number of beats.
    pub(super) fn stop(mut self) -> Result<u64, SourceError> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.take().map(JoinHandle::join);
        joined.map_or(Ok(0), |joined| joined.map_err(|_| SourceError::Thread { name: "prb-heartbeat".to_owned() })?)
    }
}

/// Begins anew when the server went away; what it missed shows in the stream, not here.
fn beat(
    source: &PgSource,
    clock: &Clock,
    (stop, acknowledged, meter): (&AtomicBool, &Mutex<Acknowledged>, &FollowMeter),
) -> Result<u64, SourceError> {
    let (mut beats, mut refusal) = (0, None);
    let mut broken_at = clock.now();
    while !stop.load(Ordering::Relaxed) {
        let before = beats;
        match beat_on(source, clock, (stop, acknowledged, meter), &mut beats) {
            Ok(()) => return Ok(beats),
            Err(cause) => {
                if beats > before || refusal.is_none() {
                    broken_at = clock.now();
                }
                if clock.now().since(broken_at) > RECONNECT_PATIENCE {
                    return Err(cause);
                }
                refusal = Some(cause);
                std::thread::sleep(INTERVAL);
            }
        }
    }
    match refusal {
        Some(cause) if beats == 0 => Err(cause),
        _ => Ok(beats),
    }
}

fn beat_on(
    source: &PgSource,
    clock: &Clock,
    (stop, all, meter): (&AtomicBool, &Mutex<Acknowledged>, &FollowMeter),
    beats: &mut u64,
) -> Result<(), SourceError> {
    let failed = || SourceError::postgres("write a heartbeat to", source.place());
    let mut client = source.connect()?;
    let sql = "SELECT pg_catalog.pg_logical_emit_message(true, 'freshbench', 'heartbeat') - '0/0'::pg_catalog.pg_lsn";
    let emit = client.prepare(&format!("SELECT ({})::bigint", sql.trim_start_matches("SELECT "))).map_err(failed())?;
    let mut due = clock.now();
    while !stop.load(Ordering::Relaxed) {
        let sent = clock.now();
        let at: i64 = client.query_one(&emit, &[]).map_err(failed())?.get(0);
        let acknowledged = clock.now();
        // Behind the message, and before anything that begins later: the commit's own place lies between the two.
        let lsn = Lsn(at.unsigned_abs() + 1);
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.count += 1;
        all.waiting.push_back(lsn);
        // Only a view asks for them, so they are not kept for ever.
        let excess = all.waiting.len().saturating_sub(WAITING_MAX);
        all.waiting.drain(..excess);
        drop(all);
        meter.beat(Commit { lsn, committed: acknowledged, intended: sent });
        *beats += 1;
        due = due.after(INTERVAL);
        clock.sleep_until(due);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(us: i64, error_us: i64, wall_at_origin_us: i64) -> ClockOffset {
        ClockOffset { us, error_us, wall_at_origin_us }
    }

    #[test]
    fn a_drift_is_one_only_when_its_interval_excludes_zero_and_it_matters() {
        // Two estimates of one clock, 60 us and 80 us wide: 100 us apart is nothing that could be told from zero.
        let same = offset(30, 80, 1_000).drift_since(&offset(-70, 60, 1_000));
        assert_eq!(same, Drift { s: 100e-6, error_s: 140e-6 });
        assert!(!same.spoils(0.0));
        // 7 ms with an error of 0.2 ms: it spoils a lag of 14 ms, and does not matter for one of 2 s.
        let apart = offset(7_000, 100, 1_000).drift_since(&offset(0, 100, 1_000));
        assert!(apart.spoils(0.014) && !apart.spoils(2.0));
        // This machine's own wall clock was set back by 3 s: the server seems to be ahead, and its commits too.
        let set = offset(3_000_000, 100, 1_000 - 3_000_000).drift_since(&offset(0, 100, 1_000));
        assert_eq!(set.s, 0.0);
    }

    #[test]
    fn a_wall_clock_has_one_reading_at_the_origin() {
        let clock = Clock::monotonic();
        let ((first, error), (second, other)) = (wall_at_origin(&clock), wall_at_origin(&clock));
        assert!((first - second).abs() <= error + other + 1_000_000, "the wall clock was set while this ran");
    }
}
