//! Whether the followed tables rest.
//!
//! The server's counters are no judge of it: a session that goes on without a pause, as a procedure that commits in a loop
//! does, reports its changes when it ends. So what counts is what the strategy itself takes from the source, up to a place in
//! the log that was its end at a known time: when the warehouse stands there, and no change has come, none was committed up
//! to that time. A state of the source, as `full-refresh` reads it, says nothing of changes, so the rows of two are compared
//! before they are believed; and for the strategies that read states, counters and locks of writers are asked as well, since
//! they see what comes and goes between two states, or a delete.

use super::AttachPlan;
use super::source_changes::{Counts, Tally, changed_rows};
use crate::clock::Clock;
use crate::model::{ChangeBuf, Lsn, Moment};
use crate::run::RunError;
use crate::run::sink_rows::warehouse_rows;
use crate::sink::{SinkKind, WarehouseReader, WarehouseVersion};
use crate::source::postgres::PgSource;
use crate::strategy::{Running, StrategyKind};
use ::postgres::Client;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_128;

/// How often the server is asked.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// Answers that a warehouse far behind has not reached yet.
const ASKED_MAX: usize = 100_000;

/// What the server says of writers: its counts of changed rows, and the transactions that hold locks of writers.
#[derive(PartialEq, Eq)]
struct Seen {
    changed: Counts,
    writers: BTreeSet<String>,
}

/// For how long nobody has changed a row of the tables.
pub(super) struct Idle<'a> {
    kind: StrategyKind,
    source: &'a PgSource,
    running: &'a Running,
    clock: &'a Clock,
    client: Option<Client>,
    tally: Tally,
    /// Ends of the log and when they were asked for, in order, that the warehouse has not reached yet.
    asked: VecDeque<(Moment, Lsn)>,
    ask_due: Moment,
    taken: u64,
    seen: Option<Seen>,
    /// When the last change was noticed.
    since: Moment,
    /// Everything that was committed before is in the warehouse.
    complete: Moment,
    /// What the warehouse held when it was complete through `since`, for comparison.
    held: Option<Arc<WarehouseVersion>>,
}

impl<'a> Idle<'a> {
    pub(super) fn new(
        plan: &AttachPlan,
        (source, running, clock): (&'a PgSource, &'a Running, &'a Clock),
    ) -> Result<Idle<'a>, RunError> {
        let now = clock.now();
        Ok(Idle {
            kind: plan.strategy,
            source,
            running,
            clock,
            client: Some(source.connect()?),
            tally: Tally::default(),
            asked: VecDeque::new(),
            ask_due: now,
            taken: running.changes(),
            seen: None,
            since: now,
            complete: now,
            held: None,
        })
    }

    /// Rows that were changed since this was asked first, by the server's counters, which may lag.
    pub(super) fn changed_since_start(&mut self) -> u64 {
        match self.client.as_mut().and_then(|client| changed_rows(client, self.source).ok()) {
            Some(counts) => self.tally.add(counts),
            None => self.tally.sum(),
        }
    }

    /// Whether nothing was changed for `length`. A server that is away is not idle: it is asked again when it is back.
    ///
    /// # Errors
    /// When the warehouse can't be read.
    pub(super) fn lasted(&mut self, length: Duration) -> Result<bool, RunError> {
        let now = self.clock.now();
        if now >= self.ask_due {
            self.ask_due = now.after(ASK_INTERVAL);
            self.ask(now);
        }
        // In this order: what is visible was counted before.
        let visible = self.running.visible(SinkKind::Warehouse);
        let taken = self.running.changes();
        if taken != self.taken {
            self.taken = taken;
            self.moved(now);
        }
        while let Some(&(at, _)) = self.asked.front().filter(|(_, end)| *end <= visible) {
            self.asked.pop_front();
            self.complete = at;
            if self.kind == StrategyKind::FullRefresh && self.held.is_none() && at >= self.since {
                (self.held, self.since) = (self.version(), at);
            }
        }
        if self.complete < self.since || self.complete.since(self.since) < length {
            return Ok(false);
        }
        let rests = self.kind != StrategyKind::FullRefresh || self.holds_the_same()?;
        if !rests {
            self.moved(now);
        }
        Ok(rests)
    }

    fn moved(&mut self, now: Moment) {
        (self.since, self.held) = (now, None);
    }

    fn ask(&mut self, now: Moment) {
        let reads_states = matches!(self.kind, StrategyKind::FullRefresh | StrategyKind::Incremental);
        let answer = self.client.as_mut().and_then(|client| {
            let end = log_end(client).ok()?;
            let seen = if reads_states { Some(seen(client, self.source).ok()?) } else { None };
            Some((end, seen))
        });
        let Some((end, seen)) = answer else {
            self.client = self.source.connect().ok();
            self.asked.clear();
            return self.moved(now);
        };
        if seen != self.seen {
            self.seen = seen;
            self.moved(now);
        }
        if self.asked.len() < ASKED_MAX {
            self.asked.push_back((now, end));
        }
    }

    fn version(&self) -> Option<Arc<WarehouseVersion>> {
        self.running.readers().warehouse.as_ref().map(WarehouseReader::version)
    }

    /// Whether the warehouse holds the very rows that it held when the rest began.
    fn holds_the_same(&self) -> Result<bool, RunError> {
        let (Some(held), Some(holds)) = (&self.held, self.version()) else { return Ok(false) };
        for (table, _) in self.source.catalog().iter() {
            if held.row_count(table) != holds.row_count(table) {
                return Ok(false);
            }
        }
        Ok(sum_of_rows(held, self.source)? == sum_of_rows(&holds, self.source)?)
    }
}

/// The sum of the hashes of all rows, whatever their order.
fn sum_of_rows(version: &WarehouseVersion, source: &PgSource) -> Result<u128, RunError> {
    let mut sum = 0u128;
    for (table, _) in source.catalog().iter() {
        for row in warehouse_rows(version, table) {
            let row = row.map_err(RunError::measuring)?;
            let mut encoded = ChangeBuf::new();
            encoded.push_insert(table, row.iter().map(crate::model::Value::as_ref)).map_err(RunError::measuring)?;
            sum = sum.wrapping_add(xxh3_128(encoded.as_bytes()));
        }
    }
    Ok(sum)
}

fn log_end(client: &mut Client) -> Result<Lsn, ::postgres::Error> {
    let sql = "SELECT (pg_catalog.pg_current_wal_lsn() - '0/0'::pg_catalog.pg_lsn)::int8";
    Ok(Lsn(client.query_one(sql, &[])?.get::<_, i64>(0).unsigned_abs()))
}

fn leaves(source: &PgSource) -> Vec<u32> {
    source.tables().iter().flat_map(|table| &table.leaves).map(|leaf| leaf.oid).collect()
}

/// A transaction that stays open is one writer all the time; one that comes or goes has changed something, most likely.
fn seen(client: &mut Client, source: &PgSource) -> Result<Seen, ::postgres::Error> {
    let changed = changed_rows(client, source)?;
    let sql = "SELECT DISTINCT virtualtransaction FROM pg_catalog.pg_locks WHERE relation = ANY($1) AND granted \
        AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')";
    let rows = client.query(sql, &[&leaves(source)])?;
    Ok(Seen { changed, writers: rows.iter().map(|row| row.get(0)).collect() })
}
