//! Stalls of this process in a case's figures: how many there were, and the figures of the commits that they did not meet.

use super::figures::{Sheet, SinkSeen};
use crate::model::Moment;
use crate::probe::freshness::age_curve;
use crate::probe::{AgeFigures, Commit, Stall, StallCause, StallRecord, Window};
use crate::report::{Case, Direction, SeriesStall};
use crate::source::{Ledger, LedgerEntry, Outcome};
use crate::stats::Samples;
use std::collections::BTreeMap;
use std::time::Duration;

/// A client that starts a transaction by no more than this after it was due is on time.
const ON_TIME: Duration = Duration::from_millis(5);
/// Clients that were late for so many times the length of a stall are late for another reason.
const AFTER_TIMES: u32 = 10;
/// Time that was stolen, throttled away or spent in waiting for a core is reported from this share on.
const TAKEN_SHARE: f64 = 0.01;
/// From this share on, or where they change a 99th percentile by this share, stalls must be read of before any figure.
const LEADS_SHARE: f64 = 0.01;
const LEADS_CHANGE: f64 = 0.1;

/// The times that external stalls spoiled: each from the stall's begin until all clients were on time again, since what was
/// due meanwhile has to be done first. In order, without overlaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spoiled {
    times: Vec<(Moment, Moment)>,
}

impl Spoiled {
    pub(super) fn of(stalls: &[Stall], ledger: &Ledger) -> Spoiled {
        let mut times: Vec<(Moment, Moment)> = Vec::new();
        for stall in stalls.iter().filter(|stall| stall.cause.is_external()) {
            let until = on_time_again(stall, ledger.entries());
            match times.last_mut().filter(|(_, before)| *before >= stall.from) {
                Some((_, before)) => *before = until.max(*before),
                None => times.push((stall.from, until)),
            }
        }
        Spoiled { times }
    }

    /// Whether something that lasted from `from` to `until`, both included, was under way then.
    fn meets(&self, from: Moment, until: Moment) -> bool {
        let place = self.times.partition_point(|(_, end)| *end < from);
        self.times.get(place).is_some_and(|(begin, _)| *begin <= until)
    }

    /// What is left of a window.
    fn left(&self, window: Window) -> Vec<(Moment, Moment)> {
        let mut left = Vec::new();
        let mut from = window.start;
        for &(begin, end) in self.times.iter().filter(|(begin, end)| *end >= window.start && *begin < window.end) {
            left.push((from, begin.max(from)));
            from = end.max(from);
        }
        left.push((from.min(window.end), window.end));
        left.retain(|(from, until)| from < until);
        left
    }
}

/// When every client had first started a transaction on time behind a stall, and what was started late before that had ended.
fn on_time_again(stall: &Stall, entries: &[LedgerEntry]) -> Moment {
    let latest = stall.until.after((stall.until.since(stall.from)).saturating_mul(AFTER_TIMES));
    // By client: whether it is on time again, and the end of what it did before.
    let mut clients: BTreeMap<_, (bool, Moment)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.acknowledged >= stall.from) {
        let (on_time, until) = clients.entry(entry.client).or_insert((false, stall.until));
        if !*on_time {
            *on_time = entry.intended >= stall.until && entry.started.since(entry.intended) <= ON_TIME;
            *until = if *on_time { *until } else { entry.acknowledged.max(*until) };
        }
    }
    clients.into_values().map(|(_, until)| until).max().unwrap_or(stall.until).clamp(stall.until, latest)
}

/// What a case's figures need to know of stalls.
pub(super) struct Stalled<'a> {
    pub(super) name: &'static str,
    pub(super) record: &'a StallRecord,
    pub(super) spoiled: Spoiled,
    pub(super) window: Window,
    pub(super) observed_until: Moment,
    /// Whether there are figures without them.
    pub(super) left_out: bool,
}

/// Adds to an attach's case what is known of stalls; the warnings that belong to them. Its commits are somebody else's, who
/// went on meanwhile, so none is left out of a figure.
pub(super) fn at_attach(
    case: &mut Case,
    (name, record): (&'static str, &StallRecord),
    (window, observed_until): (Window, Moment),
) -> Vec<String> {
    let spoiled = Spoiled::default();
    let stalled = Stalled { name, record, spoiled, window, observed_until, left_out: false };
    let mut sheet = Sheet::default();
    stalled.totals(&mut sheet);
    case.metrics.append(&mut sheet.metrics);
    let points = u32::try_from(case.timeseries.t_s.len()).unwrap_or(u32::MAX);
    (case.timeseries.stalls, case.timeseries.steal_share) = stalled.series(window.length() / points.max(1), points);
    let (first, later) = stalled.told(&[]);
    case.caveats.extend(first.iter().cloned());
    first.into_iter().chain(later).collect()
}

/// A figure with and without the stalls, for those who ask whether it matters.
type WithAndWithout = (Option<f64>, Option<f64>);

impl Stalled<'_> {
    /// At one sink: the lags and the age without the commits that were under way in a stall.
    pub(super) fn at_sink(&self, sheet: &mut Sheet, sink: &SinkSeen, commits: &[Commit]) -> WithAndWithout {
        let ends = sink.visible.iter().map(|at| at.unwrap_or(self.observed_until));
        let lives = commits.iter().zip(ends).zip(&sink.visible);
        let kept: Vec<(Commit, Option<Moment>)> = lives
            .filter(|((commit, end), _)| !self.spoiled.meets(commit.intended, commit.committed.max(*end)))
            .map(|((commit, _), visible)| (*commit, *visible))
            .collect();
        let in_window = |commit: &Commit| self.window.contains(commit.committed);
        let lags = kept.iter().filter(|(commit, _)| in_window(commit)).map(|(commit, visible)| {
            (visible.unwrap_or(self.observed_until).since(commit.committed), visible.is_none())
        });
        let lags = Samples::new(lags);
        sheet.quantiles("freshness.commit_lag_without_stalls", &lags);
        let all = commits.iter().filter(|commit| in_window(commit)).count();
        let met = (all - lags.len()) as f64;
        sheet.put("freshness.commits_in_stalls", "count", Direction::Lower, Some(met)).n = all as u64;
        let age = age_curve(kept.into_iter(), self.window).within(&self.spoiled.left(self.window));
        let age = (!age.length().is_zero()).then(|| AgeFigures::of(age));
        let of = |value: fn(&AgeFigures) -> Duration| age.as_ref().map(|age| value(age).as_secs_f64());
        for (name, value) in [("mean", of(|age| age.mean)), ("p99", of(|age| age.p99)), ("max", of(|age| age.max))] {
            sheet.put(format!("freshness.age_without_stalls.{name}"), "s", Direction::Lower, value);
        }
        let p99 = |samples: &Samples| samples.quantile(0.99).map(|quantile| quantile.value.as_secs_f64());
        (p99(&sink.freshness.lag.samples), p99(&lags))
    }

    /// At the source: how long commits took from their intended start.
    pub(super) fn at_source(&self, sheet: &mut Sheet, ledger: &Ledger) -> WithAndWithout {
        let committed = |entry: &&LedgerEntry| matches!(entry.outcome, Outcome::Committed { .. });
        let of = |entry: &LedgerEntry| (entry.acknowledged.since(entry.intended), false);
        let all = ledger.window(self.window.start, self.window.end).filter(committed);
        let (all, kept): (Vec<_>, Vec<_>) = all
            .map(|entry| (of(entry), (!self.spoiled.meets(entry.intended, entry.acknowledged)).then(|| of(entry))))
            .unzip();
        let (all, kept) = (Samples::new(all), Samples::new(kept.into_iter().flatten()));
        sheet.quantiles("source.commit_latency_without_stalls", &kept);
        let met = (all.len() - kept.len()) as f64;
        sheet.put("source.commits_in_stalls", "count", Direction::Lower, Some(met)).n = all.len() as u64;
        let p99 = |samples: &Samples| samples.quantile(0.99).map(|quantile| quantile.value.as_secs_f64());
        (p99(&all), p99(&kept))
    }

    /// How much this process stood still, from the window's begin to the end of the observation.
    pub(super) fn totals(&self, sheet: &mut Sheet) {
        let external: Vec<Duration> = self.lengths(StallCause::is_external);
        let starved: Duration = self.lengths(|cause| !cause.is_external()).iter().sum();
        let (count, sum) = (external.len() as u64, external.iter().sum::<Duration>());
        let longest = external.iter().max().copied().unwrap_or_default();
        sheet.put("harness.stalls", "count", Direction::Lower, Some(count as f64));
        sheet.put("harness.stalled_time", "s", Direction::Lower, Some(sum.as_secs_f64())).n = count;
        sheet.put("harness.longest_stall", "s", Direction::Lower, Some(longest.as_secs_f64())).n = count;
        sheet.put("harness.starved_time", "s", Direction::Lower, Some(starved.as_secs_f64()));
        let taken = self.record.taken(self.window.start, self.observed_until);
        let steal = taken.and_then(|taken| taken.steal_share());
        sheet.put("harness.steal_share", "ratio", Direction::Lower, steal);
        let throttled = taken.map(|taken| taken.throttled.as_secs_f64());
        sheet.put("harness.throttled_time", "s", Direction::Lower, throttled);
    }

    fn lengths(&self, wanted: impl Fn(StallCause) -> bool) -> Vec<Duration> {
        let stalls = self.record.stalls(self.window.start, self.observed_until);
        stalls.filter(|stall| wanted(stall.cause)).map(|stall| stall.length).collect()
    }

    /// What a reader must know: before any figure, and behind them. `met` are the figures whose change says whether it matters.
    pub(super) fn told(&self, met: &[WithAndWithout]) -> (Vec<String>, Vec<String>) {
        let (mut first, mut later) = (Vec::new(), Vec::new());
        let seconds = self.window.length().as_secs_f64().max(1e-9);
        let share = |length: Duration| length.as_secs_f64() / seconds;
        let external = self.lengths(StallCause::is_external);
        if let Some(longest) = external.iter().max() {
            let sum: Duration = external.iter().sum();
            let changes = |&(with, without): &WithAndWithout| match (with, without) {
                (Some(with), Some(without)) => with > without * (1.0 + LEADS_CHANGE),
                (with, without) => with.is_some() != without.is_some(),
            };
            let leads = share(sum) > LEADS_SHARE || met.iter().any(changes);
            let without = if self.left_out {
                ": those that end in _without_stalls leave out the commits that were under way then"
            } else {
                ", and the lags of that time are not either"
            };
            let why = format!(
                "{}: freshbench itself stood still while it measured: {} stall(s), {sum:.0?} in all, {longest:.0?} the longest \
                 (it was stopped, its machine slept, or it got no core). That is no figure of the strategy{without}",
                self.name,
                external.len()
            );
            if leads { first.push(why) } else { later.push(why) }
        }
        let starved: Duration = self.lengths(|cause| !cause.is_external()).iter().sum();
        if share(starved) > TAKEN_SHARE {
            later.push(format!(
                "{}: threads waited for a core for 50 ms or more, {starved:.0?} in all: the load itself, or other programs, \
                 kept all cores busy; lower --rate or --clients, or measure on a quieter machine",
                self.name
            ));
        }
        let Some(taken) = self.record.taken(self.window.start, self.observed_until) else { return (first, later) };
        if let Some(steal) = taken.steal_share().filter(|share| *share > TAKEN_SHARE) {
            let why = format!(
                "{}: a hypervisor gave {:.1} % of the cores' time to other machines while it measured (steal in /proc/stat)",
                self.name,
                steal * 100.0
            );
            if steal > 5.0 * TAKEN_SHARE { first.push(why) } else { later.push(why) }
        }
        if share(taken.throttled) > TAKEN_SHARE {
            first.push(format!(
                "{}: the quota of its cgroup took cores from freshbench while it measured, for {:.0?} summed over the cores \
                 (throttled in cpu.stat): raise the quota",
                self.name, taken.throttled
            ));
        }
        (first, later)
    }

    /// For the time series: stalls of the window, and the share of the cores' time that was stolen in each step.
    pub(super) fn series(&self, step: Duration, points: u32) -> (Vec<SeriesStall>, Vec<f64>) {
        let stalls = self.record.stalls(self.window.start, self.window.end).map(|stall| SeriesStall {
            t_s: stall.from.since(self.window.start).as_secs_f64(),
            duration_s: stall.length.as_secs_f64(),
            cause: stall.cause.name().to_owned(),
        });
        let stolen = (0..points).map(|point| {
            let from = self.window.start.after(step * point);
            // A step may be shorter than the time between two readings: then the last one before it holds.
            let taken = self.record.taken(from, from.after(step.max(Duration::from_millis(200))));
            taken.and_then(|taken| taken.steal_share()).unwrap_or(0.0)
        });
        (stalls.collect(), stolen.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lsn;
    use crate::source::ClientLog;
    use crate::workload::{ClientId, TxnIndex};

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn stall(from: u64, until: u64, cause: StallCause) -> Stall {
        Stall { from: at(from), until: at(until), length: Duration::from_millis(until - from), cause }
    }

    /// Transactions of clients: (client, intended, started, acknowledged), in milliseconds.
    fn ledger(entries: &[(u32, u64, u64, u64)]) -> Ledger {
        let entry = |(n, &(client, intended, started, acknowledged)): (usize, &(u32, u64, u64, u64))| LedgerEntry {
            txn: TxnIndex(n as u64),
            client: ClientId(client),
            intended: at(intended),
            started: at(started),
            acknowledged: at(acknowledged),
            outcome: Outcome::Committed { lsn: Lsn(n as u64 + 1), changes: 1 },
        };
        Ledger::merge([ClientLog { entries: entries.iter().enumerate().map(entry).collect(), shed: 0 }])
    }

    #[test]
    fn a_stall_lasts_until_the_clients_are_on_time_again() {
        let entries = [
            (0, 90, 90, 95),
            // Due in the stall of 100 to 600, and behind it before the queue is gone.
            (0, 200, 600, 610),
            (1, 400, 600, 640),
            (0, 605, 611, 620),
            (1, 500, 640, 650),
            // On time again, and late once more for another reason.
            (0, 700, 701, 705),
            (1, 720, 722, 730),
            (0, 800, 900, 910),
        ];
        let stopped = stall(100, 600, StallCause::Stopped);
        let spoiled = Spoiled::of(&[stopped], &ledger(&entries));
        assert_eq!(spoiled.times, [(at(100), at(650))]);
        // A stall for which the load itself is to blame spoils nothing.
        assert_eq!(Spoiled::of(&[stall(100, 600, StallCause::Starved)], &ledger(&entries)), Spoiled::default());
        // Clients that never catch up are late for another reason; and two stalls that touch are one.
        let never: Vec<_> = (0..100).map(|n| (0, n * 100, n * 200 + 50, n * 200 + 190)).collect();
        let two = [stall(100, 200, StallCause::Stopped), stall(250, 350, StallCause::Suspended)];
        assert_eq!(Spoiled::of(&two, &ledger(&never)).times, [(at(100), at(1350))]);
        assert_eq!(Spoiled::of(&two, &ledger(&[])).times, [(at(100), at(200)), (at(250), at(350))]);
    }

    #[test]
    fn what_was_under_way_in_a_stall_is_met_by_it() {
        let spoiled = Spoiled { times: vec![(at(100), at(200)), (at(500), at(600))] };
        let met = |from, until| spoiled.meets(at(from), at(until));
        assert!(met(50, 100) && met(150, 160) && met(200, 300) && met(50, 700) && met(600, 601));
        assert!(!met(50, 99) && !met(201, 499) && !met(601, 900));
        let left = |from, until| spoiled.left(Window { start: at(from), end: at(until) });
        assert_eq!(left(0, 1000), [(at(0), at(100)), (at(200), at(500)), (at(600), at(1000))]);
        assert_eq!(left(150, 550), [(at(200), at(500))]);
        assert!(left(110, 190).is_empty());
        assert_eq!(left(300, 400), [(at(300), at(400))]);
    }

    /// A process stopped from 100 to 600 ms: one commit of five was under way, and took 510 ms for it where others take 10.
    #[test]
    fn the_source_without_a_stall_by_hand() {
        let entries = [(0, 0, 0, 10), (0, 50, 50, 60), (0, 95, 95, 605), (0, 700, 700, 710), (0, 800, 800, 810)];
        let ledger = ledger(&entries);
        let mut record = StallRecord::default();
        let look = |ms: u64, cpu: u64| crate::probe::stalls::Look {
            at: at(ms),
            slept: Duration::ZERO,
            cpu: Duration::from_millis(cpu),
        };
        [(90, 10), (100, 12), (600, 13), (610, 14)].into_iter().for_each(|(ms, cpu)| record.look(look(ms, cpu)));
        let window = Window { start: at(0), end: at(1000) };
        let stalls: Vec<Stall> = record.stalls(window.start, window.end).copied().collect();
        let spoiled = Spoiled::of(&stalls, &ledger);
        let stalled =
            Stalled { name: "cdc-trigger", record: &record, spoiled, window, observed_until: at(1100), left_out: true };
        let mut sheet = Sheet::default();
        let (with, without) = stalled.at_source(&mut sheet, &ledger);
        assert_eq!((with, without), (Some(0.51), Some(0.01)));
        stalled.totals(&mut sheet);
        let value = |id: &str| sheet.metrics.iter().find(|metric| metric.id == id).and_then(|metric| metric.value);
        assert_eq!(value("source.commits_in_stalls"), Some(1.0));
        assert_eq!(value("source.commit_latency_without_stalls.max"), Some(0.01));
        assert_eq!((value("harness.stalls"), value("harness.stalled_time")), (Some(1.0), Some(0.49)));
        let (first, later) = stalled.told(&[(with, without)]);
        assert!(first.len() == 1 && first[0].contains("490ms") && later.is_empty(), "{first:?} {later:?}");
        let (marked, stolen) = stalled.series(Duration::from_millis(100), 10);
        assert_eq!((marked.len(), marked[0].t_s, marked[0].cause.as_str(), stolen.len()), (1, 0.1, "stopped", 10));
    }
}
