//! Every row of one consistent state of PostgreSQL.

use crate::capture::CaptureError;
use crate::clock::Clock;
use crate::model::{Lsn, Moment, TableId, ValueRef};
use crate::source::SourceError;
use crate::source::postgres::{
    Mode, PgCopyRows, PgCut, PgField, PgKind, PgOptions, PgScratch, PgSource, PgTable, PgTableName, PgWatch, Wire,
};
use ::postgres::Client;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Blocks of one range are not fewer than this (8 MiB): each range is a statement of its own.
const RANGE_BLOCKS_MIN: u32 = 1_024;

/// A reader waits for locks and reads as long as it takes. Rows that a policy would hide are an error, not missing.
const SESSION: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = 0; \
    SET row_security = off";
/// How long a lock is waited for before all of them are let go for a moment.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(200);
/// SQLSTATE of a lock that was not to be had in time, and of a deadlock.
const LOCK_NOT_AVAILABLE: &str = "55P03";
const DEADLOCK: &str = "40P01";
const BEGIN: &str = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A part of a table: some blocks of one of the relations that hold its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgRange {
    leaf: usize,
    low: Option<u32>,
    high: Option<u32>,
}

/// Readers that all see the same commits: one exported snapshot. The tables can't be altered, dropped or truncated as
/// long as it lives, and their old rows can't be vacuumed away.
///
/// It is `Sync`: give each thread its own reader.
pub struct PgSnapshot {
    place: String,
    tables: Vec<PgTable>,
    /// Holds snapshot and locks.
    holder: Mutex<Client>,
    readers: Vec<Mutex<Wire>>,
    name: String,
    position: Lsn,
    cut: Option<PgCut>,
    taken_at: Moment,
}

impl fmt::Debug for PgSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.tables.iter().map(|table| table.schema.name.as_str()).collect();
        f.debug_struct("PgSnapshot").field("place", &self.place).field("tables", &names).finish_non_exhaustive()
    }
}

/// A snapshot that a session exported, by a replication slot's creation or `pg_export_snapshot()`. That session must stay
/// as it is until [`PgSnapshot::adopt`] returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgExported {
    /// What the server calls it.
    pub name: String,
    /// It includes the commits up to here, and no later one.
    pub position: Lsn,
}

impl PgSnapshot {
    /// Begins a snapshot of its own with `readers` connections (at least 1). Waits for no writer, and no writer waits.
    ///
    /// [`PgSnapshot::position`] is then the end of the log just before: every commit up to it that had been acknowledged
    /// is included, and so may be some after it. Where a stream takes over, [`PgSnapshot::adopt`] its slot's snapshot.
    ///
    /// # Errors
    /// When the server can't be reached, a table is not there, or may not be read.
    pub fn begin(
        options: &PgOptions,
        names: &[PgTableName],
        readers: usize,
        clock: &Clock,
    ) -> Result<PgSnapshot, CaptureError> {
        PgSnapshot::open(options, names, readers, clock, (None, None))
    }

    /// Begins a snapshot of a source's tables, as the source has them: one of its own, whose position is that of the state
    /// that it reads (see [`PgSource`]), or one that sees what `exported` does.
    ///
    /// # Errors
    /// As [`PgSnapshot::begin`].
    pub fn of_source(
        source: &PgSource,
        readers: usize,
        clock: &Clock,
        exported: Option<&PgExported>,
    ) -> Result<PgSnapshot, CaptureError> {
        let names: Vec<PgTableName> = source.tables().iter().map(PgTableName::of).collect();
        let begun = exported.is_none().then_some(source);
        let mut snapshot = PgSnapshot::open(source.options(), &names, readers, clock, (exported, begun))?;
        snapshot.tables = source.tables().to_vec();
        Ok(snapshot)
    }

    /// A connection of its own in a transaction that reads the snapshot's state.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn join(&self, source: &PgSource) -> Result<Client, CaptureError> {
        let mut client = source.connect()?;
        client
            .batch_execute(&format!("{BEGIN}; {}", set_snapshot(&self.name)))
            .map_err(SourceError::postgres("join a snapshot of", &self.place))?;
        Ok(client)
    }

    /// Which transactions it includes, if it is one of a source's own.
    pub fn cut(&self) -> Option<&PgCut> {
        self.cut.as_ref()
    }

    /// Begins a snapshot that sees what `exported` does.
    ///
    /// # Errors
    /// As [`PgSnapshot::begin`], and when there is no such snapshot any more.
    pub fn adopt(
        options: &PgOptions,
        names: &[PgTableName],
        readers: usize,
        clock: &Clock,
        exported: &PgExported,
    ) -> Result<PgSnapshot, CaptureError> {
        PgSnapshot::open(options, names, readers, clock, (Some(exported), None))
    }

    fn open(
        options: &PgOptions,
        names: &[PgTableName],
        readers: usize,
        clock: &Clock,
        from: (Option<&PgExported>, Option<&PgSource>),
    ) -> Result<PgSnapshot, CaptureError> {
        let watch = PgWatch::begin(options, "locking the tables for reading")?;
        loop {
            match PgSnapshot::try_open(options, names, readers, clock, (from, &watch)) {
                Err(CaptureError::Source(SourceError::Postgres { sqlstate: Some(state), .. }))
                    if matches!(state.as_str(), LOCK_NOT_AVAILABLE | DEADLOCK) =>
                {
                    watch.check()?;
                    // Let go of all locks, so that whoever waits for them gets through.
                    std::thread::sleep(PAUSE);
                }
                opened => return watch.end(opened),
            }
        }
    }

    fn try_open(
        options: &PgOptions,
        names: &[PgTableName],
        readers: usize,
        clock: &Clock,
        ((exported, source), watch): ((Option<&PgExported>, Option<&PgSource>), &PgWatch),
    ) -> Result<PgSnapshot, CaptureError> {
        let place = options.place();
        let failed = |operation| SourceError::postgres(operation, &place);
        let mut holder = options.connect()?;
        watch.of_client(&mut holder)?;
        holder.batch_execute(SESSION).map_err(failed("prepare a session at"))?;
        let found = names.iter().map(|name| PgTable::discover(&mut holder, name)).collect::<Result<Vec<_>, _>>()?;
        let position = match exported {
            Some(exported) => exported.position,
            None => end_of_log(&mut holder, &place)?,
        };
        holder.batch_execute(BEGIN).map_err(failed("begin to read"))?;
        if let Some(exported) = exported {
            holder.batch_execute(&set_snapshot(&exported.name)).map_err(failed("take over the snapshot of"))?;
        }
        // Locked before the snapshot is taken: a table rewritten between the two would look empty.
        let lockable = found.iter().filter(|table| matches!(table.kind, PgKind::Table | PgKind::Partitioned));
        let locked: Vec<String> = lockable.map(PgTable::quoted).collect();
        let lock = if locked.is_empty() {
            String::new()
        } else {
            let wait = LOCK_WAIT.as_millis();
            format!(
                "SET lock_timeout = {wait}; LOCK TABLE {} IN ACCESS SHARE MODE; SET lock_timeout = 0",
                locked.join(", ")
            )
        };
        holder.batch_execute(&lock).map_err(failed("lock the tables for reading at"))?;
        let taken_at = clock.now();
        let cut = source.map(|source| source.fix_state(&mut holder)).transpose()?;
        let (position, cut) = cut.map_or((position, None), |(position, cut)| (position, Some(cut)));
        let row = holder.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]);
        let name: String = row.and_then(|row| row.try_get(0)).map_err(failed("export a snapshot of"))?;
        // Once more, as they are under the lock.
        let tables =
            found.iter().map(|table| PgTable::of_oid(&mut holder, table.oid)).collect::<Result<Vec<_>, _>>()?;
        let open = |_| -> Result<Mutex<Wire>, SourceError> {
            let mut wire = Wire::connect(options, Mode::Query)?;
            // Each reader has locks of its own. With the holder's alone, a TRUNCATE that waits for that one would keep the
            // readers waiting, and the server would not see that nobody can go on.
            for sql in [SESSION, BEGIN, &set_snapshot(&name), &lock] {
                wire.query(sql)?;
            }
            Ok(Mutex::new(wire))
        };
        let readers = (0..readers.max(1)).map(open).collect::<Result<Vec<_>, _>>()?;
        Ok(PgSnapshot { place, tables, holder: Mutex::new(holder), readers, name, position, cut, taken_at })
    }

    /// The end of the log, or the slot's consistent point; see [`PgSnapshot::begin`].
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// When it was taken: what was acknowledged before this moment is included.
    pub fn taken_at(&self) -> Moment {
        self.taken_at
    }

    /// How many readers it has.
    pub fn readers(&self) -> usize {
        self.readers.len()
    }

    /// The tables, numbered in the order in which they were named.
    pub fn tables(&self) -> &[PgTable] {
        &self.tables
    }

    /// Changes what is read of the tables: to leave out generated columns, or to choose another key.
    ///
    /// # Errors
    /// Whatever `change` says.
    pub fn map_tables<E>(&mut self, change: impl Fn(&PgTable) -> Result<PgTable, E>) -> Result<(), E> {
        self.tables = self.tables.iter().map(change).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// A table by its number.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn table(&self, table: TableId) -> Result<&PgTable, CaptureError> {
        self.tables.get(table.index()).ok_or_else(|| {
            let what = format!("the snapshot of {} has no table number {}", self.place, table.0);
            CaptureError::Source(SourceError::Table { what })
        })
    }

    /// About `parts` ranges of about equal size that cover the table: blocks of the heap, partition by partition. A view
    /// or a foreign table is one range.
    ///
    /// # Errors
    /// When the sizes can't be read.
    pub fn ranges(&self, table: TableId, parts: usize) -> Result<Vec<PgRange>, CaptureError> {
        let table = self.table(table)?;
        let blocks = table.leaves.iter().map(|leaf| if leaf.by_ctid { self.blocks(leaf.oid) } else { Ok(0) });
        let blocks: Vec<u32> = blocks.collect::<Result<_, _>>()?;
        let total: u64 = blocks.iter().map(|&blocks| u64::from(blocks)).sum();
        let share = total.div_ceil(parts.max(1) as u64);
        // A share of fewer blocks than a relation can have is a number of blocks.
        let step = u32::try_from(share).unwrap_or(u32::MAX).max(RANGE_BLOCKS_MIN);
        Ok(blocks.iter().enumerate().flat_map(|(leaf, &blocks)| cut(leaf, blocks, step)).collect())
    }

    /// About how many rows the table has, by the server's statistics.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn estimated_rows(&self, table: TableId) -> Result<u64, CaptureError> {
        let oids: Vec<u32> = self.table(table)?.leaves.iter().map(|leaf| leaf.oid).collect();
        let sql = "SELECT coalesce(sum(greatest(reltuples, 0)), 0)::int8 FROM pg_catalog.pg_class WHERE oid = ANY($1)";
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        let row = holder.query_one(sql, &[&oids]);
        let rows: i64 =
            row.and_then(|row| row.try_get(0)).map_err(SourceError::postgres("read statistics of", &self.place))?;
        Ok(rows.unsigned_abs())
    }

    fn blocks(&self, oid: u32) -> Result<u32, CaptureError> {
        let sql = "SELECT pg_catalog.pg_relation_size($1::oid::regclass) \
                   / pg_catalog.current_setting('block_size')::int8";
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        let row = holder.query_one(sql, &[&oid]);
        let blocks: i64 =
            row.and_then(|row| row.try_get(0)).map_err(SourceError::postgres("read table sizes of", &self.place))?;
        Ok(u32::try_from(blocks).unwrap_or(u32::MAX))
    }

    /// Reads the rows of a range with reader `reader` and hands the fields of each to `each`, as they arrived. Returns how
    /// many rows.
    ///
    /// # Errors
    /// When the server fails, or `each` does.
    pub fn copy<E: From<CaptureError>>(
        &self,
        reader: usize,
        table: TableId,
        range: &PgRange,
        each: &mut impl FnMut(&[PgField<'_>]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let table = self.table(table)?;
        let (wire, leaf) = match (self.readers.get(reader % self.readers.len().max(1)), table.leaves.get(range.leaf)) {
            (Some(wire), Some(leaf)) => (wire, leaf),
            _ => {
                let what = format!("table {:?} has no such range", table.schema.name);
                return Err(CaptureError::Source(SourceError::Table { what }).into());
            }
        };
        let mut rows = PgCopyRows::new(table);
        let sql = table.copy_sql(leaf, range.low, range.high);
        let wrap = |error| Through(E::from(CaptureError::Source(error)));
        let mut lent = |fields: &[PgField<'_>]| each(fields).map_err(Through);
        let mut wire = wire.lock().unwrap_or_else(PoisonError::into_inner);
        let copied = wire.copy_out::<Through<E>>(&sql, &mut |payload| rows.feed(payload, &mut lent, wrap));
        copied.map_err(|Through(error)| error)?;
        rows.finish().map_err(|error| E::from(CaptureError::Source(error)))
    }

    /// Reads the rows of a range with reader `reader` and hands each to `each`, in column order. Returns how many.
    ///
    /// # Errors
    /// When the server fails, a value does not fit its column's type, or `each` fails.
    pub fn scan<E: From<CaptureError>>(
        &self,
        reader: usize,
        table: TableId,
        range: &PgRange,
        each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let of = self.table(table)?;
        let mut scratch = PgScratch::default();
        self.copy(reader, table, range, &mut |fields| {
            let row = of.decode(fields, &mut scratch).map_err(|error| E::from(CaptureError::Source(error)))?;
            each(&row)
        })
    }
}

/// An error of the caller's, on its way through a connection.
struct Through<E>(E);

impl<E: From<CaptureError>> From<SourceError> for Through<E> {
    fn from(error: SourceError) -> Self {
        Through(E::from(CaptureError::Source(error)))
    }
}

fn set_snapshot(name: &str) -> String {
    format!("SET TRANSACTION SNAPSHOT '{}'", name.replace('\'', "''"))
}

/// Read in a transaction of its own, before the snapshot.
fn end_of_log(client: &mut Client, place: &str) -> Result<Lsn, SourceError> {
    let sql = "SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
               ELSE pg_catalog.pg_current_wal_lsn() END - '0/0'::pg_lsn)::int8";
    let row = client.query_one(sql, &[]);
    let lsn: i64 = row.and_then(|row| row.try_get(0)).map_err(SourceError::postgres("read the log's end of", place))?;
    Ok(Lsn(lsn.unsigned_abs()))
}

/// Ranges of `step` blocks; the last is open, for what came while the size was read.
fn cut(leaf: usize, blocks: u32, step: u32) -> Vec<PgRange> {
    let count = blocks.div_ceil(step).max(1);
    let edge = |part: u32| (part > 0 && part < count).then(|| part.saturating_mul(step));
    (0..count).map(|part| PgRange { leaf, low: edge(part), high: edge(part + 1) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_meet_and_leave_nothing_out() {
        for (blocks, step) in [(0, 1_024), (1, 1_024), (1_024, 1_024), (1_025, 1_024), (u32::MAX, 1 << 30)] {
            let ranges = cut(3, blocks, step);
            assert_eq!((ranges[0].low, ranges[ranges.len() - 1].high), (None, None));
            assert!(ranges.windows(2).all(|pair| pair[0].high.is_some() && pair[0].high == pair[1].low));
            assert!(ranges.len() as u32 <= blocks.div_ceil(step).max(1));
        }
    }
}
