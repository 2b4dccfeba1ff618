//! Every row of one consistent state of PostgreSQL.

use crate::capture::CaptureError;
use crate::clock::Clock;
use crate::model::{Lsn, Moment, TableId, ValueRef};
use crate::source::SourceError;
use crate::source::postgres::{
    Mode, PgCopyRows, PgCut, PgField, PgKept, PgKind, PgOptions, PgScratch, PgSource, PgTable, PgTableName, PgWatch,
    Wire, lock_sql, touch_sql,
};
use ::postgres::Client;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Blocks of one range are not fewer than this (8 MiB): each range is a statement of its own.
const RANGE_BLOCKS_MIN: u32 = 1_024;

/// Tables up to this size (64 MiB) are counted once more by the server.
const COUNT_BLOCKS_MAX: u64 = 8_192;

/// How long a lock is waited for before all of them are let go for a moment.
const LOCK_WAIT: Duration = Duration::from_secs(1);
pub(super) const PAUSE: Duration = Duration::from_millis(200);
const ATTEMPTS: u32 = 100;
/// Looks at a table that is not there, or is another one, until that is believed.
pub(super) const REPLACED_ATTEMPTS: u32 = 6;
/// SQLSTATE of a lock that was not to be had in time, and of a deadlock.
const LOCK_NOT_AVAILABLE: &str = "55P03";
const DEADLOCK: &str = "40P01";
/// SQLSTATE of a table that went, or got another name, between being found and being locked.
pub(super) const NO_TABLE: &str = "42P01";
pub(super) const BEGIN: &str = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A part of a table: some blocks of one of the relations that hold its rows, or of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgRange {
    /// `None` for all, through the table itself.
    leaf: Option<usize>,
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
        PgSnapshot::open(options, Wanted::Named(names), readers, clock, (None, None))
    }

    /// Begins a snapshot of a source's tables: one of its own, whose position is that of the state that it reads (see
    /// [`PgSource`]), or one that sees what `exported` does. The tables are found again in that state, with the partitions
    /// and types that they have there, and have to have `kept` what the source's tables were.
    ///
    /// # Errors
    /// As [`PgSnapshot::begin`]; [`SourceError::Changed`] when the rows of a table do not fit any more.
    pub fn of_source(
        source: &PgSource,
        kept: PgKept,
        readers: usize,
        clock: &Clock,
        exported: Option<&PgExported>,
    ) -> Result<PgSnapshot, CaptureError> {
        let begun = exported.is_none().then_some(source);
        let wanted = Wanted::Again(source.tables(), kept);
        PgSnapshot::open(source.options(), wanted, readers, clock, (exported, begun))
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
        PgSnapshot::open(options, Wanted::Named(names), readers, clock, (Some(exported), None))
    }

    fn open(
        options: &PgOptions,
        wanted: Wanted<'_>,
        readers: usize,
        clock: &Clock,
        from: (Option<&PgExported>, Option<&PgSource>),
    ) -> Result<PgSnapshot, CaptureError> {
        let watch = PgWatch::begin(options, "locking the tables for reading")?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let opened = PgSnapshot::try_open(options, wanted, readers, clock, (from, &watch));
            let again = match &opened {
                // Waited for, for as long as the user's patience lasts.
                Err(error) if is_lock_refused(error) => true,
                Err(CaptureError::Source(SourceError::Postgres { sqlstate: Some(state), .. })) => {
                    state == NO_TABLE && attempts < ATTEMPTS
                }
                // Another state of its own may do; one that was given stays what it is.
                Err(CaptureError::Altered { .. }) => from.0.is_none() && attempts < ATTEMPTS,
                // Whoever puts another table in its place may take two transactions to it.
                Err(CaptureError::Source(SourceError::Changed { .. })) => {
                    from.0.is_none() && attempts < REPLACED_ATTEMPTS
                }
                _ => false,
            };
            if !again {
                return watch.end(opened);
            }
            watch.check()?;
            // Let go of all locks, so that whoever waits for them gets through.
            drop(opened);
            std::thread::sleep(PAUSE);
        }
    }

    fn try_open(
        options: &PgOptions,
        wanted: Wanted<'_>,
        readers: usize,
        clock: &Clock,
        ((exported, source), watch): ((Option<&PgExported>, Option<&PgSource>), &PgWatch),
    ) -> Result<PgSnapshot, CaptureError> {
        let place = options.place();
        let failed = |operation| SourceError::postgres(operation, &place);
        let mut holder = options.connect()?;
        watch.of_client(&mut holder)?;
        let seen = wanted.find(&mut holder)?;
        let position = match exported {
            Some(exported) => exported.position,
            None => end_of_log(&mut holder, &place)?,
        };
        holder.batch_execute(BEGIN).map_err(failed("begin to read"))?;
        if let Some(exported) = exported {
            holder.batch_execute(&set_snapshot(&exported.name)).map_err(failed("take over the snapshot of"))?;
        }
        // Locked before the snapshot is taken: a table rewritten between the two would look empty.
        let lock = brief_lock_sql(&seen);
        holder.batch_execute(&lock).map_err(failed("lock the tables for reading at"))?;
        let taken_at = clock.now();
        let cut = source.map(|source| source.fix_state(&mut holder, &mut None)).transpose()?;
        let (position, cut) = cut.map_or((position, None), |(position, cut)| (position, Some(cut)));
        let row = holder.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]);
        let name: String = row.and_then(|row| row.try_get(0)).map_err(failed("export a snapshot of"))?;
        // In this transaction, to which a pooler may have given another session of the server; and not before the state is
        // fixed, which any statement would do.
        options.verify(&mut holder)?;
        // Once more, as they are in the snapshot. A partition that was attached after the lock needs one too.
        let found = wanted.find(&mut holder)?;
        let lock = format!("{lock};{}", touch_sql(&found));
        holder.batch_execute(&lock).map_err(failed("lock the tables for reading at"))?;
        let mut other = exported.map(|_| options.connect()).transpose()?;
        for (table, seen) in found.iter().zip(&seen) {
            check_unaltered(&mut holder, other.as_mut(), table, seen)?;
        }
        let tables = wanted.conform(&found)?;
        let open = |_| -> Result<Mutex<Wire>, SourceError> {
            let mut wire = Wire::connect(options, Mode::Query)?;
            // Each reader has locks of its own. With the holder's alone, a TRUNCATE that waits for that one would keep the
            // readers waiting, and the server would not see that nobody can go on.
            for sql in [BEGIN, &set_snapshot(&name), &lock] {
                wire.query(sql)?;
            }
            wire.verify()?;
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
        if table.leaves.iter().any(|leaf| !leaf.by_itself) {
            return self.whole_ranges(table, parts);
        }
        let blocks = table.leaves.iter().map(|leaf| if leaf.by_ctid { self.blocks(leaf.oid) } else { Ok(0) });
        let blocks: Vec<u32> = blocks.collect::<Result<_, _>>()?;
        let total: u64 = blocks.iter().map(|&blocks| u64::from(blocks)).sum();
        let step = step(total, parts);
        Ok(blocks.iter().enumerate().flat_map(|(leaf, &blocks)| cut(Some(leaf), blocks, step)).collect())
    }

    /// The same through the table itself: each range has those blocks of every partition.
    pub(super) fn whole_ranges(&self, table: &PgTable, parts: usize) -> Result<Vec<PgRange>, CaptureError> {
        if !table.leaves.iter().all(|leaf| leaf.by_ctid) {
            return Ok(vec![PgRange { leaf: None, low: None, high: None }]);
        }
        let blocks: Vec<u32> = table.leaves.iter().map(|leaf| self.blocks(leaf.oid)).collect::<Result<_, _>>()?;
        let most = blocks.into_iter().max().unwrap_or(0);
        Ok(cut(None, most, step(u64::from(most), parts)))
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
        let sql = match range.leaf.map(|leaf| table.leaves.get(leaf)) {
            Some(Some(leaf)) => table.copy_sql(leaf, range.low, range.high),
            Some(None) => {
                let what = format!("table {:?} has no such range", table.schema.name);
                return Err(CaptureError::Source(SourceError::Table { what }).into());
            }
            None => table.copy_whole_sql(range.low, range.high, None),
        };
        self.copy_rows(reader, table, &sql, each)
    }

    /// Runs one statement of `table`'s with reader `reader`.
    pub(super) fn copy_rows<E: From<CaptureError>>(
        &self,
        reader: usize,
        table: &PgTable,
        sql: &str,
        each: &mut impl FnMut(&[PgField<'_>]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let Some(wire) = self.readers.get(reader % self.readers.len().max(1)) else {
            let what = format!("the snapshot of {} has no reader", self.place);
            return Err(CaptureError::Source(SourceError::Table { what }).into());
        };
        let mut rows = PgCopyRows::new(table);
        let wrap = |error| Through::Callers(E::from(CaptureError::Source(error)));
        let mut lent = |fields: &[PgField<'_>]| each(fields).map_err(Through::Callers);
        let mut wire = wire.lock().unwrap_or_else(PoisonError::into_inner);
        let copied = wire.copy_out::<Through<E>>(sql, &mut |payload| rows.feed(payload, &mut lent, wrap));
        copied.map_err(|through| match through {
            Through::Callers(error) => error,
            Through::Server(error) => E::from(CaptureError::Source(error.in_table(&table.schema.name))),
        })?;
        let sent = wire.copied_rows();
        let read = rows.finish().map_err(|error| E::from(CaptureError::Source(error)))?;
        if sent != Some(read) {
            let sent = sent.map_or_else(|| "not how many it sent".to_owned(), |sent| format!("that it sent {sent}"));
            let what = format!("{read} rows arrived, and the server says {sent}; this is a bug: report it");
            return Err(CaptureError::Source(SourceError::Damaged { table: table.schema.name.clone(), what }).into());
        }
        Ok(read)
    }

    /// Holds the number of rows that were read of a whole table against the server's own `count(*)` in the same state, of
    /// the table by its name: so a partition that was left out is found, too. Only of tables up to 64 MiB: counting reads a
    /// table once more. What each COPY sent is held against its own count in any case.
    ///
    /// # Errors
    /// When the numbers differ, or the server fails.
    pub fn check_count(&self, table: TableId, read: u64) -> Result<(), CaptureError> {
        let table = self.table(table)?;
        if !matches!(table.kind, PgKind::Table | PgKind::Partitioned) {
            return Ok(());
        }
        let blocks = table.leaves.iter().map(|leaf| self.blocks(leaf.oid).map(u64::from));
        if blocks.sum::<Result<u64, CaptureError>>()? > COUNT_BLOCKS_MAX {
            return Ok(());
        }
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        // Rows of tables that inherit from it are theirs.
        let only = if table.kind == PgKind::Table { "ONLY " } else { "" };
        let row = holder.query_one(&format!("SELECT count(*) FROM {only}{}", table.quoted()), &[]);
        let counted: i64 = row
            .and_then(|row| row.try_get(0))
            .map_err(SourceError::postgres("count the rows of", &table.schema.name))?;
        if counted.unsigned_abs() != read {
            let what = format!("{read} rows were read, and the server counts {counted} in the same snapshot");
            return Err(CaptureError::Source(SourceError::Damaged { table: table.schema.name.clone(), what }));
        }
        Ok(())
    }

    /// Finds the tables once more in the snapshot's own state, on the connection that holds it.
    pub(super) fn find_again(&self, expected: &[PgTable], kept: PgKept) -> Result<Vec<PgTable>, CaptureError> {
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = Wanted::Again(expected, kept);
        let found = wanted.find(&mut holder)?;
        wanted.conform(&found)
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

/// Which tables are read.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// Whatever has these names.
    Named(&'a [PgTableName]),
    /// What became of these.
    Again(&'a [PgTable], PgKept),
}

impl Wanted<'_> {
    /// As they are in the client's state.
    fn find(self, client: &mut Client) -> Result<Vec<PgTable>, SourceError> {
        match self {
            Wanted::Named(names) => names.iter().map(|name| PgTable::discover(client, name)).collect(),
            Wanted::Again(tables, kept) => {
                tables.iter().map(|table| PgTable::find_again(client, table, kept)).collect()
            }
        }
    }

    /// As they are to be read.
    fn conform(self, found: &[PgTable]) -> Result<Vec<PgTable>, CaptureError> {
        match self {
            Wanted::Named(_) => Ok(found.to_vec()),
            Wanted::Again(tables, kept) => {
                let both = found.iter().zip(tables);
                Ok(both.map(|(found, expected)| found.conformed(expected, kept)).collect::<Result<_, _>>()?)
            }
        }
    }
}

/// Fails if what is under the lock is not what the snapshot has. Statements go by the present definition, so of a table that was
/// altered in between they would show other columns, and of one that was written anew no rows.
fn check_unaltered(
    holder: &mut Client,
    other: Option<&mut Client>,
    table: &PgTable,
    seen: &PgTable,
) -> Result<(), CaptureError> {
    let altered = || CaptureError::Altered { table: table.schema.name.clone() };
    if table.oid != seen.oid || table.quoted() != seen.quoted() {
        return Err(altered());
    }
    // A snapshot of our own was taken under the lock; one that was given is older.
    if let Some(other) = other
        && !PgTable::of_oid(other, table.oid)?.reads_as(table)
    {
        return Err(altered());
    }
    let stored = table.leaves.iter().filter(|leaf| leaf.storage != 0);
    let (oids, storages): (Vec<u32>, Vec<u32>) = stored.map(|leaf| (leaf.oid, leaf.storage)).unzip();
    let sql = "SELECT count(*) FROM unnest($1::oid[], $2::oid[]) AS leaf(oid, storage) \
        WHERE pg_catalog.pg_relation_filenode(leaf.oid::regclass) IS DISTINCT FROM leaf.storage";
    let row = holder.query_one(sql, &[&oids, &storages]);
    let other: i64 =
        row.and_then(|row| row.try_get(0)).map_err(SourceError::postgres("look at the storage of", table.quoted()))?;
    if other > 0 { Err(altered()) } else { Ok(()) }
}

/// What ended a COPY: an error of the caller's, on its way through a connection, or one of the connection's own.
enum Through<E> {
    Callers(E),
    Server(SourceError),
}

impl<E> From<SourceError> for Through<E> {
    fn from(error: SourceError) -> Self {
        Through::Server(error)
    }
}

/// Locks the tables, or fails after a moment: who waits for a long time keeps everybody waiting who wants the locks that it
/// has already.
pub(super) fn brief_lock_sql(tables: &[PgTable]) -> String {
    match lock_sql(tables) {
        lock if lock.is_empty() => lock,
        lock => format!("SET lock_timeout = {}; {lock}; SET lock_timeout = 0", LOCK_WAIT.as_millis()),
    }
}

/// Whether a lock was not to be had in time.
pub(super) fn is_lock_refused(error: &CaptureError) -> bool {
    matches!(error, CaptureError::Source(SourceError::Postgres { sqlstate: Some(state), .. })
        if matches!(state.as_str(), LOCK_NOT_AVAILABLE | DEADLOCK))
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

/// How many blocks each of about `parts` ranges has.
fn step(blocks: u64, parts: usize) -> u32 {
    // A share of fewer blocks than a relation can have is a number of blocks.
    u32::try_from(blocks.div_ceil(parts.max(1) as u64)).unwrap_or(u32::MAX).max(RANGE_BLOCKS_MIN)
}

/// Ranges of `step` blocks; the last is open, for what came while the size was read.
fn cut(leaf: Option<usize>, blocks: u32, step: u32) -> Vec<PgRange> {
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
            let ranges = cut(Some(3), blocks, step);
            assert_eq!((ranges[0].low, ranges[ranges.len() - 1].high), (None, None));
            assert!(ranges.windows(2).all(|pair| pair[0].high.is_some() && pair[0].high == pair[1].low));
            assert!(ranges.len() as u32 <= blocks.div_ceil(step).max(1));
        }
    }
}
