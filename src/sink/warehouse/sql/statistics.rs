//! What is known of a table without reading it: how many rows, and the range of integers, dates and timestamps.

use super::super::chunk::Chunk;
use super::super::version::TableVersion;
use crate::model::ColumnType;
use arrow_array::{ArrayRef, Date32Array, Int64Array, TimestampMicrosecondArray};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use std::sync::Arc;

/// The least and greatest value of a column in a chunk, dead rows included; `None` when nothing is known.
pub(super) fn column_range(chunk: &Chunk, column: usize) -> Option<(i64, i64)> {
    // A chunk in memory is gone through once, and then it knows.
    let ranges = match chunk.known_ranges() {
        Some(ranges) => ranges,
        None if chunk.is_loaded() => chunk.ranges().ok()?,
        None => return None,
    };
    ranges.get(column).copied().flatten()
}

/// Integers of a range as the column's own type; `None` for a type that has no such range.
pub(super) fn values_of(column_type: ColumnType, values: Vec<Option<i64>>) -> Option<ArrayRef> {
    Some(match column_type {
        ColumnType::Int64 => Arc::new(Int64Array::from(values)),
        ColumnType::Timestamp => Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")),
        ColumnType::LocalTimestamp => Arc::new(TimestampMicrosecondArray::from(values)),
        ColumnType::Date => Arc::new(
            values.into_iter().map(|days| days.and_then(|days| i32::try_from(days).ok())).collect::<Date32Array>(),
        ),
        _ => return None,
    })
}

/// The statistics of the columns in `projection` (all of them for `None`), in its order.
///
/// Rows are exact. A range is exact where no row is dead, for it may be the dead row's value that is the greatest.
pub(super) fn of_table(table: &TableVersion, projection: Option<&[usize]>) -> Statistics {
    let columns = &table.shape.schema.columns;
    let all: Vec<usize> = (0..columns.len()).collect();
    let dead = table.slots.iter().any(|slot| slot.deleted.count() > 0);
    let known = |value: Option<ScalarValue>| match value {
        Some(value) if dead => Precision::Inexact(value),
        Some(value) => Precision::Exact(value),
        None => Precision::Absent,
    };
    let of_column = |&place: &usize| {
        let mut statistics = ColumnStatistics::new_unknown();
        let Some(column) = columns.get(place) else { return statistics };
        if !column.nullable {
            statistics.null_count = Precision::Exact(0);
        }
        let (low, high) = range(table, place).unzip();
        statistics.min_value = known(low.and_then(|low| scalar(column.column_type, low)));
        statistics.max_value = known(high.and_then(|high| scalar(column.column_type, high)));
        statistics
    };
    Statistics {
        num_rows: Precision::Exact(usize::try_from(table.rows).unwrap_or(usize::MAX)),
        total_byte_size: Precision::Absent,
        column_statistics: projection.unwrap_or(&all).iter().map(of_column).collect(),
    }
}

/// The range over all chunks, if every one with live rows knows its own.
fn range(table: &TableVersion, column: usize) -> Option<(i64, i64)> {
    let mut whole: Option<(i64, i64)> = None;
    for slot in table.slots.iter().filter(|slot| slot.live() > 0) {
        let (low, high) = slot.chunk.known_ranges()?.get(column).copied().flatten()?;
        whole = Some(whole.map_or((low, high), |(least, greatest)| (least.min(low), greatest.max(high))));
    }
    whole
}

fn scalar(column_type: ColumnType, value: i64) -> Option<ScalarValue> {
    ScalarValue::try_from_array(&values_of(column_type, vec![Some(value)])?, 0).ok()
}
