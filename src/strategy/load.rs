//! The bulk load that every strategy begins with, and that a full refresh repeats; and that of a foreign database.

use super::{Setting, StrategyError};
use crate::apply::BatchStream;
use crate::capture::{Part, SourceSnapshot};
use crate::model::{Catalog, Lsn, TableId, ValueRef};
use crate::sink::warehouse::{self, BulkLoad};
use crate::sink::{Bulk, Sink, Warehouse};
use crate::source::{DynSqlite, Readers, RowRange, SourceTable};
use crate::transform::TableTransform;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows of one Arrow batch on its way into a segment.
const BATCH_ROWS: usize = 16_384;
/// Ranges a reader of a foreign database gets one after the other, so that uneven ones even out.
const RANGES_A_READER: usize = 4;
/// The one table of a warehouse that is loaded from a foreign database.
const FILE_TABLE: TableId = TableId(0);

/// What a load moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Rows read.
    pub rows: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

/// Replaces every table of a sink by the snapshot's rows: ranges read side by side, one swap at the end. Tables of which
/// the sink keeps nothing are not read. The rows are counted against the database's own count.
///
/// # Errors
/// [`StrategyError`]; the sink then shows what it showed before.
pub fn load_tables<S: Sink>(
    setting: &Setting,
    snapshot: &SourceSnapshot,
    sink: &mut S,
) -> Result<Loaded, StrategyError> {
    replace_tables(setting, snapshot, sink, true)
}

/// As [`load_tables`]. Whether they are `counted` at the database as well is the caller's choice: what is measured as the cost of a
/// refresh must not have a second reading in it.
///
/// # Errors
/// As [`load_tables`].
pub(super) fn replace_tables<S: Sink>(
    setting: &Setting,
    snapshot: &SourceSnapshot,
    sink: &mut S,
    counted: bool,
) -> Result<Loaded, StrategyError> {
    let bulk = sink.bulk()?;
    let readers = snapshot.readers();
    let mut work: Vec<Vec<(TableId, Part)>> = vec![Vec::new(); readers];
    let mut read: BTreeMap<TableId, AtomicU64> = BTreeMap::new();
    for (table, _) in setting.source.catalog().iter() {
        bulk.include(table)?;
        if !sink.keeps(table) {
            continue;
        }
        read.insert(table, AtomicU64::new(0));
        for (place, range) in snapshot.ranges(table, readers)?.into_iter().enumerate() {
            if let Some(ranges) = work.get_mut(place % readers) {
                ranges.push((table, range));
            }
        }
    }
    setting.pool.install(|| {
        let parts: Result<Vec<Loaded>, StrategyError> = work
            .into_par_iter()
            .enumerate()
            .map(|(reader, ranges)| {
                let mut sum = Loaded::default();
                for (table, range) in ranges {
                    let part = load_range(setting, snapshot, &bulk, (reader, table, &range))?;
                    if let Some(rows) = read.get(&table) {
                        rows.fetch_add(part.rows, Ordering::Relaxed);
                    }
                    sum.rows += part.rows;
                    sum.bytes += part.bytes;
                }
                Ok(sum)
            })
            .collect();
        let parts = parts?;
        for (&table, rows) in read.iter().filter(|_| counted) {
            snapshot.check_count(table, rows.load(Ordering::Relaxed))?;
        }
        sink.install(bulk, snapshot.position())?;
        Ok(Loaded { rows: parts.iter().map(|p| p.rows).sum(), bytes: parts.iter().map(|p| p.bytes).sum() })
    })
}

fn load_range(
    setting: &Setting,
    snapshot: &SourceSnapshot,
    bulk: &impl Bulk,
    (reader, table, range): (usize, TableId, &Part),
) -> Result<Loaded, StrategyError> {
    let mut stream = BatchStream::new(setting.transforms.table(table)?, BATCH_ROWS);
    let mut bytes = 0;
    let rows = snapshot.scan::<StrategyError>(reader, table, range, &mut |row| {
        bytes += width(row);
        if let Some(batch) = stream.push(row)? {
            setting.check_stop()?;
            bulk.write(table, batch)?;
        }
        Ok(())
    })?;
    setting.check_stop()?;
    if let Some(batch) = stream.finish()? {
        bulk.write(table, batch)?;
    }
    Ok(Loaded { rows, bytes })
}

/// The catalog of a warehouse for [`load_file`]: the table as it is.
pub fn file_catalog(table: &SourceTable) -> Catalog {
    Catalog { tables: vec![TableTransform::identity(FILE_TABLE, table.schema()).output().clone()] }
}

/// Replaces the table of a warehouse of [`file_catalog`] by the rows of `table`, read by at most `readers` connections
/// side by side, with one swap at the end.
///
/// # Errors
/// [`StrategyError`]; the warehouse then shows what it showed before.
pub fn load_file(
    source: &DynSqlite,
    table: &SourceTable,
    readers: usize,
    warehouse: &mut Warehouse,
) -> Result<warehouse::Loaded, StrategyError> {
    let readers = source.read(readers.max(1))?;
    let transform = TableTransform::identity(FILE_TABLE, table.schema());
    let bulk = warehouse.bulk();
    bulk.include(FILE_TABLE)?;
    let ranges = readers.ranges(table, readers.count() * RANGES_A_READER)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(readers.count())
        .thread_name(|place| format!("app-pool-{place}"))
        .build()
        .map_err(|cause| StrategyError::Thread(io::Error::other(cause)))?;
    pool.install(|| {
        let rows = AtomicU64::new(0);
        ranges.par_iter().try_for_each(|range| -> Result<(), StrategyError> {
            let read = load_file_range(&readers, table, range, &transform, &bulk)?;
            rows.fetch_add(read, Ordering::Relaxed);
            Ok(())
        })?;
        readers.check(table, rows.into_inner())?;
        let next = Lsn(warehouse.visible().0 + 1);
        Ok(bulk.publish(warehouse, next)?)
    })
}

fn load_file_range(
    readers: &Readers,
    table: &SourceTable,
    range: &RowRange,
    transform: &TableTransform,
    bulk: &BulkLoad,
) -> Result<u64, StrategyError> {
    let mut stream = BatchStream::new(transform, BATCH_ROWS);
    // Each thread of the pool has a reader of its own.
    let reader = rayon::current_thread_index().unwrap_or(0);
    let mut each = |row: &[ValueRef<'_>]| -> Result<(), StrategyError> {
        if let Some(batch) = stream.push(row)? {
            bulk.write(FILE_TABLE, batch)?;
        }
        Ok(())
    };
    let rows = readers.scan(reader, table, range, &mut each, StrategyError::from)?;
    if let Some(batch) = stream.finish()? {
        bulk.write(FILE_TABLE, batch)?;
    }
    Ok(rows)
}

/// Bytes of a row's values.
pub(super) fn width(row: &[ValueRef<'_>]) -> u64 {
    row.iter().map(|value| value.width_bytes()).sum()
}
