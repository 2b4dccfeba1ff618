//! The bulk load of one PostgreSQL table into a warehouse: COPY's binary rows, columns, Parquet.

use super::StrategyError;
use crate::capture::postgres::{PgRange, PgSnapshot};
use crate::model::{Catalog, Lsn, TableId};
use crate::sink::warehouse::{self, BulkLoad};
use crate::sink::{Sink, Warehouse};
use crate::source::postgres::PgTable;
use crate::transform::{PgBatchStream, TableTransform};
use rayon::prelude::*;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows of one Arrow batch on its way into a segment.
const BATCH_ROWS: usize = 16_384;
/// Ranges a reader gets one after the other, so that uneven ones even out.
const RANGES_A_READER: usize = 4;

/// The catalog of a warehouse for [`load_postgres`]: the tables as they are.
pub fn postgres_catalog(tables: &[PgTable]) -> Catalog {
    let identity =
        |(id, table): (usize, &PgTable)| TableTransform::identity(TableId(id as u32), &table.schema).output().clone();
    Catalog { tables: tables.iter().enumerate().map(identity).collect() }
}

/// Replaces the tables of a warehouse of [`postgres_catalog`] by the rows of the snapshot, read by all of its readers side
/// by side, with one swap at the end. The watermark is the snapshot's position, or one more than it was.
///
/// # Errors
/// [`StrategyError`]; the warehouse then shows what it showed before.
pub fn load_postgres(snapshot: &PgSnapshot, warehouse: &mut Warehouse) -> Result<warehouse::Loaded, StrategyError> {
    let bulk = warehouse.bulk();
    let parts = snapshot.readers() * RANGES_A_READER;
    let mut work: Vec<(TableId, PgRange)> = Vec::new();
    for place in 0..snapshot.tables().len() {
        let table = TableId(place as u32);
        bulk.include(table)?;
        work.extend(snapshot.ranges(table, parts)?.into_iter().map(|range| (table, range)));
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(snapshot.readers())
        .thread_name(|place| format!("app-pool-{place}"))
        .build()
        .map_err(|cause| StrategyError::Thread(io::Error::other(cause)))?;
    pool.install(|| {
        let read: Vec<AtomicU64> = snapshot.tables().iter().map(|_| AtomicU64::new(0)).collect();
        work.par_iter().with_max_len(1).try_for_each(|(table, range)| -> Result<(), StrategyError> {
            let rows = load_range(snapshot, *table, range, &bulk)?;
            if let Some(read) = read.get(table.index()) {
                read.fetch_add(rows, Ordering::Relaxed);
            }
            Ok(())
        })?;
        for (place, read) in read.iter().enumerate() {
            snapshot.check_count(TableId(place as u32), read.load(Ordering::Relaxed))?;
        }
        let next = snapshot.position().max(Lsn(warehouse.visible().0 + 1));
        Ok(bulk.publish(warehouse, next)?)
    })
}

fn load_range(snapshot: &PgSnapshot, table: TableId, range: &PgRange, bulk: &BulkLoad) -> Result<u64, StrategyError> {
    let mut stream = PgBatchStream::new(snapshot.table(table)?, BATCH_ROWS);
    // Each thread of the pool has a reader of its own.
    let reader = rayon::current_thread_index().unwrap_or(0);
    let rows = snapshot.copy::<StrategyError>(reader, table, range, &mut |fields| {
        if let Some(batch) = stream.push(fields)? {
            bulk.write(table, batch)?;
        }
        Ok(())
    })?;
    if let Some(batch) = stream.finish()? {
        bulk.write(table, batch)?;
    }
    Ok(rows)
}
