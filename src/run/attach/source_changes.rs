//! Changes at the source, by the server's own count: for strategies that copy rows and so never see a change.

use crate::clock::Clock;
use crate::model::Moment;
use crate::probe::Window;
use crate::source::SourceError;
use crate::source::postgres::PgSource;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// From one look to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// Rows that were inserted, updated or deleted in the followed tables, counted once a second on a thread of its own.
///
/// Sessions report to the server's counters when a transaction ends, at most once a second, and up to 10 s late when they then
/// rest; rows of transactions that were rolled back are among them, rows that a TRUNCATE removed are not.
#[derive(Debug)]
pub(super) struct SourceChanges {
    stop: Arc<AtomicBool>,
    counted: Arc<Mutex<Counted>>,
    thread: Option<JoinHandle<()>>,
}

/// The counts, in order of time; the first is where counting began.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    looks: Vec<(Moment, u64)>,
}

impl Counted {
    fn look(&mut self, at: Moment, count: u64) {
        self.looks.push((at, count));
    }

    /// How many were counted in a window, by the last look before it and the first after it: there is one just before it begins and
    /// one just after it ends. `None` without two looks.
    pub(super) fn in_window(&self, window: Window) -> Option<u64> {
        let before = self.looks.partition_point(|(at, _)| *at <= window.start).saturating_sub(1);
        let after = self.looks.partition_point(|(at, _)| *at < window.end).min(self.looks.len().saturating_sub(1));
        let (first, last) = (self.looks.get(before)?.1, self.looks.get(after)?.1);
        (after > before).then(|| last.saturating_sub(first))
    }

    /// How many were counted between two instants, by the looks nearest to them; `None` without two looks.
    pub(super) fn between(&self, from: Moment, until: Moment) -> Option<u64> {
        (self.looks.len() > 1).then(|| self.at(until).saturating_sub(self.at(from)))
    }

    /// The count at an instant, on the straight line between two looks.
    fn at(&self, moment: Moment) -> u64 {
        let after = self.looks.partition_point(|(at, _)| *at <= moment);
        let before = after.checked_sub(1).and_then(|before| self.looks.get(before));
        match (before, self.looks.get(after)) {
            (Some(&(from, low)), Some(&(until, high))) => {
                let share = moment.since(from).as_secs_f64() / until.since(from).as_secs_f64().max(1e-9);
                low + (high.saturating_sub(low) as f64 * share).round() as u64
            }
            (Some(&(_, count)), None) | (None, Some(&(_, count))) => count,
            (None, None) => 0,
        }
    }
}

impl Drop for SourceChanges {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl SourceChanges {
    pub(super) fn start(source: &PgSource, clock: &Clock) -> Result<SourceChanges, SourceError> {
        let (stop, counted) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Counted::default())));
        let (mut client, mut tally) = (Some(source.connect()?), Tally::default());
        let mut look = {
            let (source, clock, counted) = (source.clone(), clock.clone(), Arc::clone(&counted));
            move || {
                // A server that is away is asked again at the next look.
                client = client.take().filter(|client| !client.is_closed()).or_else(|| source.connect().ok());
                let counts = client.as_mut().and_then(|client| changed_rows(client, &source).ok());
                if let Some(counts) = counts {
                    let count = tally.add(counts);
                    counted.lock().unwrap_or_else(PoisonError::into_inner).look(clock.now(), count);
                }
            }
        };
        look();
        let stopped = Arc::clone(&stop);
        let clock = clock.clone();
        let name = "prb-counter".to_owned();
        let work = move || {
            const STEP: Duration = Duration::from_millis(20);
            let mut due = clock.now().after(INTERVAL);
            while !stopped.load(Ordering::Relaxed) {
                if clock.now() >= due {
                    look();
                    due = due.after(INTERVAL);
                }
                std::thread::sleep(STEP);
            }
            look();
        };
        let thread = std::thread::Builder::new().name(name.clone()).spawn(work);
        let thread = Some(thread.map_err(|_| SourceError::Thread { name })?);
        Ok(SourceChanges { stop, counted, thread })
    }

    /// Ends it, with a last look.
    pub(super) fn stop(mut self) -> Counted {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *counted)
    }
}

/// What the server has counted in each relation since its counters began.
pub(super) type Counts = BTreeMap<u32, u64>;

/// The sum of what came since the first look. A partition that goes takes nothing of it along, and one that comes brings what is
/// counted from then on: rows that it had already are no changes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    last: Counts,
    sum: u64,
}

impl Tally {
    /// Adds what came since the last look; gives the sum.
    pub(super) fn add(&mut self, counts: Counts) -> u64 {
        let came = |(relation, count): (&u32, &u64)| Some(count.saturating_sub(*self.last.get(relation)?));
        self.sum += counts.iter().filter_map(came).sum::<u64>();
        self.last.extend(counts);
        self.sum
    }

    /// The sum so far.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }
}

/// What the server has counted in the followed tables, each with the partitions that it has now.
pub(super) fn changed_rows(client: &mut ::postgres::Client, source: &PgSource) -> Result<Counts, ::postgres::Error> {
    let sql = "WITH RECURSIVE tree(oid) AS (SELECT unnest($1::oid[]) UNION ALL SELECT i.inhrelid FROM tree t \
          JOIN pg_catalog.pg_class p ON p.oid = t.oid AND p.relkind = 'p' \
          JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid) \
        SELECT s.relid, (s.n_tup_ins + s.n_tup_upd + s.n_tup_del)::bigint \
        FROM tree JOIN pg_catalog.pg_stat_all_tables s ON s.relid = tree.oid";
    let oids: Vec<u32> = source.tables().iter().map(|table| table.oid).collect();
    let rows = client.query(sql, &[&oids])?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?.unsigned_abs()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_come_and_go_are_no_changes() {
        let mut tally = Tally::default();
        assert_eq!(tally.add(Counts::from([(1, 100), (2, 50)])), 0, "what was before the first look");
        assert_eq!(tally.add(Counts::from([(1, 110), (2, 50)])), 10);
        assert_eq!(tally.add(Counts::from([(1, 111), (3, 1_000)])), 11, "2 was detached, 3 with its rows attached");
        assert_eq!(tally.add(Counts::from([(1, 111), (2, 52), (3, 1_004)])), 17, "2 is there again");
        assert_eq!(tally.add(Counts::from([(1, 4)])), 17, "its counters were reset");
        assert_eq!((tally.add(Counts::from([(1, 5)])), tally.sum()), (18, 18));
    }

    #[test]
    fn counts_between_two_instants() {
        let at = |s: u64| Moment::ORIGIN.after(Duration::from_secs(s));
        let mut counted = Counted::default();
        assert_eq!(counted.between(at(0), at(9)), None);
        for (s, count) in [(1, 100), (2, 110), (3, 110), (4, 150)] {
            counted.look(at(s), count);
        }
        assert_eq!(counted.between(at(1), at(4)), Some(50));
        assert_eq!(counted.between(at(2), at(3)), Some(0));
        assert_eq!(counted.between(at(0), at(100)), Some(50));
        let half = at(3).after(Duration::from_millis(500));
        assert_eq!(counted.between(at(3), half), Some(20));
        // All of a window that ends between two looks: what came just before its end is in the look after it.
        assert_eq!(counted.in_window(Window { start: at(2), end: half }), Some(40));
        assert_eq!(counted.in_window(Window { start: at(1), end: at(3) }), Some(10));
        assert_eq!(Counted::default().in_window(Window { start: at(1), end: at(3) }), None);
    }
}
