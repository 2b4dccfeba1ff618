//! Changes at the source, by the server's own count: for strategies that copy rows and so never see a change.

use crate::clock::Clock;
use crate::model::Moment;
use crate::probe::Window;
use crate::source::SourceError;
use crate::source::postgres::{PgKind, PgSource, PgTable};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// From one look to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// Why there is no count where transactions were rolled back.
const ROLLED_BACK: &str =
    "transactions that wrote were rolled back at the server meanwhile, and its counters have their rows, too";

/// Rows that were inserted, updated or deleted in the followed tables, counted once a second on a thread of its own.
///
/// Sessions report to the server's counters when a transaction ends, at most once a second, and up to 10 s late when they then
/// rest; rows of transactions that were rolled back are among them, rows that a TRUNCATE removed are not: so where the server shows
/// that one of those happened, or that it counted something else meanwhile, there is a reason in place of the figure.
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
    /// When something was first seen that the counts don't tell, or tell falsely.
    doubts: Vec<(Moment, String)>,
    /// When the first transaction that had written something was seen rolled back.
    rolled_back: Option<Moment>,
}

impl Counted {
    fn look(&mut self, at: Moment, Counting { sum, rolled_back, doubts }: Counting) {
        self.looks.push((at, sum));
        self.rolled_back = self.rolled_back.or(rolled_back.then_some(at));
        self.doubts.extend(doubts.into_iter().map(|doubt| (at, doubt)));
    }

    /// How many were counted in a window, by the last look before it and the first after it: there is one just before it begins and
    /// one just after it ends.
    ///
    /// # Errors
    /// Why the count can't be trusted, or isn't known.
    pub(super) fn in_window(&self, window: Window) -> Result<u64, String> {
        let before = self.looks.partition_point(|(at, _)| *at <= window.start).saturating_sub(1);
        let after = self.looks.partition_point(|(at, _)| *at < window.end).min(self.looks.len().saturating_sub(1));
        let looks = self.looks.get(before).zip(self.looks.get(after)).filter(|_| after > before);
        let (&(from, first), &(until, last)) = looks.ok_or("the server did not tell its count of changes")?;
        let doubted = self.doubts.iter().find(|(at, _)| *at > from && *at <= until);
        let came = last.saturating_sub(first);
        // Also those before the window: their rows may be reported in it.
        let rolled_back = came > 0 && self.rolled_back.is_some_and(|at| at <= until);
        match doubted {
            Some((_, why)) => Err(why.clone()),
            None if rolled_back => Err(ROLLED_BACK.to_owned()),
            None => Ok(came),
        }
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
        let (mut client, mut ledger) = (Some(source.connect()?), Ledger::default());
        let mut look = {
            let (source, clock, counted) = (source.clone(), clock.clone(), Arc::clone(&counted));
            move || {
                // A server that is away is asked again at the next look.
                if client.as_ref().is_none_or(::postgres::Client::is_closed) {
                    ledger.interrupted = true;
                    client = source.connect().ok();
                }
                let answer = client.as_mut().and_then(|client| Answer::of(client, &source, &ledger).ok());
                if let Some(answer) = answer {
                    let counting = ledger.add(answer);
                    counted.lock().unwrap_or_else(PoisonError::into_inner).look(clock.now(), counting);
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

/// What the server says of a followed relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    /// Rows inserted, updated and deleted since its counters began.
    changed: u64,
    /// Made as a partition of the table, not attached to it later: whatever it counts, it counts in the table.
    born: bool,
    /// The file with its rows: another one after a TRUNCATE.
    file: u32,
}

pub(super) type Counts = BTreeMap<u32, Relation>;

/// The sum of what came since the first look. A partition that goes takes nothing of it along; one that was made since brings all
/// that it counts, and one that was attached what it counts from then on: rows that it had already are no changes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    last: Option<Counts>,
    sum: u64,
}

impl Tally {
    /// Adds what came since the last look; gives the sum.
    pub(super) fn add(&mut self, counts: Counts) -> u64 {
        let Some(known) = &mut self.last else {
            self.last = Some(counts);
            return self.sum;
        };
        let came = |(oid, now): (&u32, &Relation)| match known.get(oid) {
            Some(before) => now.changed.saturating_sub(before.changed),
            None if now.born => now.changed,
            None => 0,
        };
        self.sum += counts.iter().map(came).sum::<u64>();
        known.extend(counts);
        self.sum
    }

    /// The sum so far.
    pub(super) fn sum(&self) -> u64 {
        self.sum
    }
}

/// What the server has counted in the followed tables, each with the partitions that it has now.
pub(super) fn changed_rows(client: &mut ::postgres::Client, source: &PgSource) -> Result<Counts, ::postgres::Error> {
    // A table's system columns are as old as itself.
    let sql = "WITH RECURSIVE tree(oid, born) AS (SELECT unnest($1::oid[]), true UNION ALL \
          SELECT i.inhrelid, t.born AND i.xmin = a.xmin FROM tree t \
          JOIN pg_catalog.pg_class p ON p.oid = t.oid AND p.relkind = 'p' \
          JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid \
          JOIN pg_catalog.pg_attribute a ON a.attrelid = i.inhrelid AND a.attname = 'tableoid') \
        SELECT s.relid, (s.n_tup_ins + s.n_tup_upd + s.n_tup_del)::bigint, tree.born, c.relfilenode \
        FROM tree JOIN pg_catalog.pg_stat_all_tables s ON s.relid = tree.oid \
        JOIN pg_catalog.pg_class c ON c.oid = tree.oid";
    let rows = client.query(sql, &[&followed(source)])?;
    let relation = |row: &::postgres::Row| {
        let changed = row.try_get::<_, i64>(1)?.unsigned_abs();
        Ok((row.try_get(0)?, Relation { changed, born: row.try_get(2)?, file: row.try_get(3)? }))
    };
    rows.iter().map(relation).collect()
}

fn followed(source: &PgSource) -> Vec<u32> {
    source.tables().iter().map(|table| table.oid).collect()
}

/// What the server says at a look: its counts, and what they can be judged by.
#[derive(Debug)]
struct Answer {
    counts: Counts,
    /// Whether the server counts, and since when.
    counting: bool,
    since: Option<String>,
    /// The first followed table whose name is another table's now, or nobody's.
    replaced: Option<String>,
    /// The first followed relation that has no counters, as a view.
    uncounted: Option<String>,
    /// Transactions that wrote something and were rolled back since the last look, to a savepoint or as a whole, and those that
    /// had not ended then.
    rolled_back: u64,
    open: Vec<i64>,
    /// The first transaction that had not begun.
    next: i64,
}

impl Answer {
    fn of(client: &mut ::postgres::Client, source: &PgSource, ledger: &Ledger) -> Result<Answer, ::postgres::Error> {
        // First: what had been rolled back when the counts were read is known then, at this look or the next.
        let counts = changed_rows(client, source)?;
        let sql = "SELECT pg_catalog.current_setting('track_counts') = 'on', \
            (SELECT stats_reset::text FROM pg_catalog.pg_stat_database WHERE datname = pg_catalog.current_database()), \
            (SELECT f.name FROM unnest($1::oid[], $2::text[]) AS f(oid, name) \
             WHERE pg_catalog.to_regclass(f.name) IS DISTINCT FROM f.oid::regclass LIMIT 1), \
            pg_catalog.txid_snapshot_xmax(now.s), ARRAY(SELECT pg_catalog.txid_snapshot_xip(now.s)) \
            FROM (SELECT pg_catalog.txid_current_snapshot() AS s) now";
        let row = client.query_one(sql, &[&followed(source), &ledger.names(source)])?;
        let next: i64 = row.try_get(3)?;
        let (mut rolled_back, mut open) = (0, Vec::new());
        match ledger.next {
            None => open = row.try_get(4)?,
            Some(from) => {
                let sql = "SELECT id, status = 'aborted' FROM (SELECT id, pg_catalog.txid_status(id) AS status FROM \
                    (SELECT unnest($1::bigint[]) UNION ALL SELECT pg_catalog.generate_series($2::bigint, $3::bigint - 1)) \
                    AS came(id)) AS ended WHERE status <> 'committed'";
                for row in client.query(sql, &[&ledger.open, &from, &next])? {
                    match row.try_get(1)? {
                        true => rolled_back += 1,
                        false => open.push(row.try_get(0)?),
                    }
                }
            }
        }
        let (counting, since, replaced) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let uncounted = source
            .tables()
            .iter()
            .find(|table| !matches!(table.kind, PgKind::Table | PgKind::Partitioned))
            .map(|table| table.quoted());
        Ok(Answer { counts, counting, since, replaced, uncounted, rolled_back, open, next })
    }
}

/// What came of a look: the sum of changes so far, and what it doesn't tell, or tells falsely.
struct Counting {
    sum: u64,
    rolled_back: bool,
    doubts: Vec<String>,
}

/// The tally, and why it may be false.
#[derive(Debug, Default)]
struct Ledger {
    tally: Tally,
    /// When counting began, by the last answer.
    since: Option<String>,
    open: Vec<i64>,
    next: Option<i64>,
    /// Whether the connection was lost since the last answer.
    interrupted: bool,
    /// The followed tables' relations at the last look; the tally keeps those that went, too.
    there: Counts,
}

impl Ledger {
    /// As a statement would name them.
    fn names(&self, source: &PgSource) -> Vec<String> {
        source.tables().iter().map(PgTable::quoted).collect()
    }

    /// Adds an answer: the sum, and what came since the last answer that the sum doesn't tell, or tells falsely.
    fn add(&mut self, answer: Answer) -> Counting {
        let sum = self.tally.add(answer.counts.clone());
        let doubts = if self.next.is_some() { self.doubts(&answer) } else { uncounted(&answer) };
        let rolled_back = answer.rolled_back > 0;
        (self.there, self.since, self.open, self.next) = (answer.counts, answer.since, answer.open, Some(answer.next));
        self.interrupted = false;
        Counting { sum, rolled_back, doubts }
    }

    fn doubts(&self, answer: &Answer) -> Vec<String> {
        let mut doubts = uncounted(answer);
        let mut doubt = |found: bool, why: &str| {
            if found {
                doubts.push(why.to_owned());
            }
        };
        let now = |oid: &u32| answer.counts.get(oid);
        let fell = self.there.iter().any(|(oid, was)| now(oid).is_some_and(|now| now.changed < was.changed));
        doubt(fell || answer.since != self.since, "the server's counters were reset while they were read");
        doubt(self.interrupted, "the server was away for a time, and its counters may have been reset");
        let rewritten = self.there.iter().any(|(oid, was)| now(oid).is_some_and(|now| now.file != was.file));
        doubt(rewritten, "a followed table was truncated or rewritten, which the server's counters don't show");
        let gone = self.there.keys().any(|oid| now(oid).is_none());
        let attached = answer.counts.iter().any(|(oid, now)| !now.born && !self.there.contains_key(oid));
        doubt(
            gone || attached,
            "a partition was attached, detached or dropped, with rows that the server's counters don't show",
        );
        doubts
    }
}

/// Why an answer counts nothing, or something else.
fn uncounted(answer: &Answer) -> Vec<String> {
    let off = (!answer.counting).then(|| "the server counts no changes, since track_counts is off".to_owned());
    let replaced =
        answer.replaced.as_ref().map(|name| format!("table {name} was replaced by another, renamed or dropped"));
    let view =
        answer.uncounted.as_ref().map(|name| format!("the server counts no changes of {name}, which is no table"));
    off.into_iter().chain(replaced).chain(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts<const N: usize>(of: [(u32, u64, bool); N]) -> Counts {
        of.into_iter().map(|(oid, changed, born)| (oid, Relation { changed, born, file: oid })).collect()
    }

    #[test]
    fn partitions_that_come_and_go_are_no_changes() {
        let mut tally = Tally::default();
        let known = |first, second| counts([(1, first, true), (2, second, true)]);
        assert_eq!(tally.add(known(100, 50)), 0, "what was before the first look");
        assert_eq!(tally.add(known(110, 50)), 10);
        assert_eq!(
            tally.add(counts([(1, 111, true), (3, 1_000, false)])),
            11,
            "2 was detached, 3 with its rows attached"
        );
        assert_eq!(tally.add(counts([(1, 111, true), (2, 52, true), (3, 1_004, false)])), 17, "2 is there again");
        assert_eq!(tally.add(counts([(1, 4, true)])), 17, "its counters were reset");
        assert_eq!((tally.add(counts([(1, 5, true)])), tally.sum()), (18, 18));
        assert_eq!(tally.add(counts([(1, 5, true), (4, 300, true)])), 318, "4 was made, and filled, since");
    }

    #[test]
    fn what_the_counters_do_not_show_is_no_figure() {
        let answer = |counts: Counts| Answer {
            counts,
            counting: true,
            since: None,
            replaced: None,
            uncounted: None,
            rolled_back: 0,
            open: Vec::new(),
            next: 10,
        };
        let (first, grown) = (counts([(1, 100, true)]), counts([(1, 105, true)]));
        let truncated = Counts::from([(1, Relation { changed: 100, born: true, file: 9 })]);
        let cases = [
            (answer(grown.clone()), None),
            (answer(counts([(1, 100, true), (2, 3, true)])), None),
            (answer(counts([(1, 99, true)])), Some("reset")),
            (Answer { since: Some("now".to_owned()), ..answer(grown.clone()) }, Some("reset")),
            (Answer { counting: false, ..answer(first.clone()) }, Some("track_counts")),
            (Answer { replaced: Some("t".to_owned()), ..answer(first.clone()) }, Some("replaced")),
            (Answer { rolled_back: 1, ..answer(grown.clone()) }, Some("rolled back")),
            (Answer { rolled_back: 1, ..answer(first.clone()) }, None),
            (answer(truncated), Some("truncated")),
            (answer(Counts::new()), Some("dropped")),
            (answer(counts([(1, 100, true), (2, 3, false)])), Some("attached")),
        ];
        let at = |s: u64| Moment::ORIGIN.after(Duration::from_secs(s));
        for (second, why) in cases {
            let (mut ledger, mut counted, said) = (Ledger::default(), Counted::default(), format!("{second:?}"));
            counted.look(at(1), ledger.add(answer(first.clone())));
            counted.look(at(3), ledger.add(second));
            let told = counted.in_window(Window { start: at(1), end: at(2) });
            match why {
                Some(why) => assert!(told.is_err_and(|told| told.contains(why)), "{said}"),
                None => assert!(told.is_ok(), "{said}"),
            }
        }
    }

    #[test]
    fn counts_between_two_instants() {
        let at = |s: u64| Moment::ORIGIN.after(Duration::from_secs(s));
        let mut counted = Counted::default();
        assert_eq!(counted.between(at(0), at(9)), None);
        for (s, count) in [(1, 100), (2, 110), (3, 110), (4, 150)] {
            counted.look(at(s), Counting { sum: count, rolled_back: false, doubts: Vec::new() });
        }
        assert_eq!(counted.between(at(1), at(4)), Some(50));
        assert_eq!(counted.between(at(2), at(3)), Some(0));
        assert_eq!(counted.between(at(0), at(100)), Some(50));
        let half = at(3).after(Duration::from_millis(500));
        assert_eq!(counted.between(at(3), half), Some(20));
        // All of a window that ends between two looks: what came just before its end is in the look after it.
        assert_eq!(counted.in_window(Window { start: at(2), end: half }), Ok(40));
        assert_eq!(counted.in_window(Window { start: at(1), end: at(3) }), Ok(10));
        assert!(Counted::default().in_window(Window { start: at(1), end: at(3) }).is_err());
    }
}
