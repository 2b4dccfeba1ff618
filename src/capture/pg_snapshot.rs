//! Every row of one state of PostgreSQL.

use super::error::CaptureError;
use crate::clock::Clock;
use crate::model::{Lsn, Moment, TableId, ValueRef};
use crate::source::postgres::{PgCut, PgSource, Scratch, TableReader};
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use std::sync::{Mutex, PoisonError};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Readers that all see the same state of the server. It is `Sync`: give each thread its own reader.
pub struct PgSnapshot {
    source: PgSource,
    readers: Vec<Mutex<Client>>,
    name: String,
    position: Lsn,
    cut: Option<PgCut>,
    taken_at: Moment,
}

impl std::fmt::Debug for PgSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgSnapshot").field("position", &self.position).field("cut", &self.cut).finish_non_exhaustive()
    }
}

/// Blocks of one leaf of a table, from the first to before the second.
#[derive(Clone, Debug)]
pub struct PgRange {
    leaf: usize,
    low: Option<u32>,
    high: Option<u32>,
}

impl PgSnapshot {
    /// Begins a snapshot with `readers` connections (at least 1). Nobody waits for it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn begin(source: &PgSource, readers: usize, clock: &Clock) -> Result<PgSnapshot, CaptureError> {
        let failed = || CaptureError::postgres("begin a snapshot of", source.place());
        let mut first = source.connect()?;
        first.batch_execute(BEGIN).map_err(failed())?;
        let taken_at = clock.now();
        let (position, cut) = source.cut(&mut first, true)?;
        let name: String = first.query_one("SELECT pg_catalog.pg_export_snapshot()", &[]).map_err(failed())?.get(0);
        let mut snapshot = PgSnapshot {
            source: source.clone(),
            readers: vec![Mutex::new(first)],
            name,
            position,
            cut: Some(cut),
            taken_at,
        };
        snapshot.add_readers(readers)?;
        Ok(snapshot)
    }

    /// Joins a snapshot that somebody else holds, with the position that it stands for.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn of_exported(
        source: &PgSource,
        readers: usize,
        (name, position): (&str, Lsn),
        clock: &Clock,
    ) -> Result<PgSnapshot, CaptureError> {
        let (name, taken_at) = (name.to_owned(), clock.now());
        let mut snapshot =
            PgSnapshot { source: source.clone(), readers: Vec::new(), name, position, cut: None, taken_at };
        snapshot.add_readers(readers)?;
        Ok(snapshot)
    }

    fn add_readers(&mut self, count: usize) -> Result<(), CaptureError> {
        while self.readers.len() < count.max(1) {
            let client = self.join(&self.source)?;
            self.readers.push(Mutex::new(client));
        }
        Ok(())
    }

    /// A connection in a transaction that reads the snapshot's state.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn join(&self, source: &PgSource) -> Result<Client, CaptureError> {
        let mut client = source.connect()?;
        let quoted = self.name.replace('\'', "''");
        client
            .batch_execute(&format!("{BEGIN}; SET TRANSACTION SNAPSHOT '{quoted}'"))
            .map_err(CaptureError::postgres("join a snapshot of", source.place()))?;
        Ok(client)
    }

    /// The end of the log when it was taken, or the position that it was made for.
    pub fn position(&self) -> Lsn {
        self.position
    }

    /// Which transactions it includes, if it was not joined.
    pub fn cut(&self) -> Option<&PgCut> {
        self.cut.as_ref()
    }

    /// When it was taken.
    pub fn taken_at(&self) -> Moment {
        self.taken_at
    }

    /// How many readers it has.
    pub fn readers(&self) -> usize {
        self.readers.len()
    }

    /// At least one range for each leaf of the table, and about `parts` of equal size together.
    ///
    /// # Errors
    /// When the table can't be read.
    pub fn ranges(&self, table: TableId, parts: usize) -> Result<Vec<PgRange>, CaptureError> {
        let table = self.source.table(table)?;
        let failed = || CaptureError::postgres("look at table", &table.schema.name);
        let Some(reader) = self.readers.first() else { return Ok(Vec::new()) };
        let mut client = reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ranges = Vec::new();
        for (leaf, of) in table.leaves.iter().enumerate() {
            let sql = "SELECT (pg_catalog.pg_relation_size($1::oid::pg_catalog.regclass) / \
                pg_catalog.current_setting('block_size')::bigint)::bigint";
            let blocks: i64 = if of.by_ctid { client.query_one(sql, &[&of.oid]).map_err(failed())?.get(0) } else { 0 };
            let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
            let step = blocks.div_ceil(u32::try_from(parts.max(1)).unwrap_or(1)).max(64);
            let mut low = 0;
            // The last has no end: blocks may have been added since.
            while blocks > 0 && low + step < blocks {
                ranges.push(PgRange { leaf, low: Some(low), high: Some(low + step) });
                low += step;
            }
            ranges.push(PgRange { leaf, low: (low > 0).then_some(low), high: None });
        }
        Ok(ranges)
    }

    /// Reads the rows of a range with reader `reader` and hands each to `each`, in column order. Returns how many.
    ///
    /// # Errors
    /// When the server refuses, a value can't be held, or `each` fails.
    pub fn scan<E: From<CaptureError>>(
        &self,
        reader: usize,
        table: TableId,
        range: &PgRange,
        each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let table = self.source.table(table).map_err(CaptureError::from)?;
        let failed = || CaptureError::postgres("read table", &table.schema.name);
        let (Some(leaf), Some(client)) = (table.leaves.get(range.leaf), self.readers.get(reader)) else { return Ok(0) };
        let mut client = client.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = TableReader::new(table);
        let bounds: Vec<String> = [(range.low, ">="), (range.high, "<")]
            .into_iter()
            .filter_map(|(block, is)| block.map(|block| format!("ctid {is} '({block},0)'::pg_catalog.tid")))
            .collect();
        let condition = if bounds.is_empty() { String::new() } else { format!(" WHERE {}", bounds.join(" AND ")) };
        let only = if leaf.by_ctid { "ONLY " } else { "" };
        let sql = format!("SELECT {} FROM {only}{}{condition}", table.select_list(), leaf.quoted);
        let mut found =
            client.query_raw(&sql, std::iter::empty::<&(dyn postgres::types::ToSql + Sync)>()).map_err(failed())?;
        let (mut count, mut scratch) = (0, Scratch::default());
        while let Some(row) = found.next().map_err(failed())? {
            each(&rows.decode(&row, 0, &mut scratch).map_err(CaptureError::from)?)?;
            count += 1;
        }
        Ok(count)
    }
}
