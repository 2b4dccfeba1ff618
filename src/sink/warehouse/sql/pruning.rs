//! Which chunks a filter rules out by their least and greatest values.

use super::super::version::TableVersion;
use super::statistics::{column_range, values_of};
use arrow_array::{ArrayRef, BooleanArray, UInt64Array};
use arrow_schema::SchemaRef;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use std::collections::HashSet;
use std::sync::Arc;

/// The places of the slots that may hold a row for which `filter` (over `schema`) is true.
pub(super) fn not_ruled_out(
    table: &TableVersion,
    filter: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
) -> Result<Vec<usize>> {
    let all = || (0..table.slots.len()).collect();
    let predicate = PruningPredicateBuilder::new().with_file_schema(schema.clone()).try_build(filter.clone());
    let Ok(predicate) = predicate else { return Ok(all()) };
    if predicate.always_true() {
        return Ok(all());
    }
    let may_hold = predicate.prune(&Slots { table })?;
    Ok(may_hold.iter().enumerate().filter(|(_, may)| **may).map(|(place, _)| place).collect())
}

struct Slots<'a> {
    table: &'a TableVersion,
}

impl Slots<'_> {
    fn bounds(&self, column: &Column, bound: impl Fn((i64, i64)) -> i64) -> Option<ArrayRef> {
        let place = self.table.shape.schema.column_index(&column.name)?;
        let bounds = self.table.slots.iter().map(|slot| column_range(&slot.chunk, place).map(&bound));
        values_of(self.table.shape.schema.columns.get(place)?.column_type, bounds.collect())
    }
}

impl PruningStatistics for Slots<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |(low, _)| low)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |(_, high)| high)
    }

    fn num_containers(&self) -> usize {
        self.table.slots.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.table.slots.iter().map(|slot| slot.chunk.rows as u64);
        Some(Arc::new(UInt64Array::from_iter_values(rows)))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
