//! The bulk load that every strategy begins with, and that a full refresh repeats.

use super::{Setting, StrategyError};
use crate::apply::BatchStream;
use crate::capture::Snapshot;
use crate::model::{TableId, ValueRef};
use crate::sink::Warehouse;
use crate::sink::warehouse::BulkLoad;
use crate::source::RowRange;
use rayon::prelude::*;

/// Rows of one Arrow batch on its way into a segment.
const BATCH_ROWS: usize = 16_384;

/// What a load moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Rows read.
    pub rows: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

/// Replaces every table of the warehouse by the snapshot's rows: ranges read side by side, one swap at the end.
///
/// # Errors
/// [`StrategyError`]; the warehouse then shows what it showed before.
pub fn load_tables(setting: &Setting, snapshot: &Snapshot, warehouse: &mut Warehouse) -> Result<Loaded, StrategyError> {
    let bulk = warehouse.bulk();
    let readers = snapshot.readers();
    let mut work: Vec<Vec<(TableId, RowRange)>> = vec![Vec::new(); readers];
    for (table, _) in setting.source.catalog().iter() {
        bulk.include(table)?;
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
                    sum.rows += part.rows;
                    sum.bytes += part.bytes;
                }
                Ok(sum)
            })
            .collect();
        let parts = parts?;
        bulk.publish(warehouse, snapshot.position())?;
        Ok(Loaded { rows: parts.iter().map(|p| p.rows).sum(), bytes: parts.iter().map(|p| p.bytes).sum() })
    })
}

fn load_range(
    setting: &Setting,
    snapshot: &Snapshot,
    bulk: &BulkLoad,
    (reader, table, range): (usize, TableId, &RowRange),
) -> Result<Loaded, StrategyError> {
    let mut stream = BatchStream::new(setting.transforms.table(table)?, BATCH_ROWS);
    let mut bytes = 0;
    let rows = snapshot.scan::<StrategyError>(reader, table, range, &mut |row| {
        bytes += width(row);
        if let Some(batch) = stream.push(row)? {
            bulk.write(table, batch)?;
        }
        Ok(())
    })?;
    if let Some(batch) = stream.finish()? {
        bulk.write(table, batch)?;
    }
    Ok(Loaded { rows, bytes })
}

/// Bytes of a row's values: 8 for a number or an instant, the length of text and bytes, 1 for NULL and booleans.
pub(super) fn width(row: &[ValueRef<'_>]) -> u64 {
    row.iter()
        .map(|value| match value {
            ValueRef::Null | ValueRef::Unchanged | ValueRef::Bool(_) => 1,
            ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Timestamp(_) => 8,
            ValueRef::Date(_) => 4,
            ValueRef::Decimal(_) => 17,
            ValueRef::Text(text) => text.len() as u64,
            ValueRef::Bytes(bytes) => bytes.len() as u64,
        })
        .sum()
}
