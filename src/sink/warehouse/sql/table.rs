//! One table of one version, as DataFusion asks for it.

use super::super::version::TableVersion;
use super::pruning::not_ruled_out;
use super::scan::{ChunkScan, Wanted};
use super::statistics;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Constraint, Constraints, DFSchema, Result, Statistics};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A table of a version.
#[derive(Debug)]
pub(super) struct WarehouseTable {
    table: Arc<TableVersion>,
    constraints: Constraints,
}

impl WarehouseTable {
    pub(super) fn new(table: Arc<TableVersion>) -> WarehouseTable {
        let key = Constraint::PrimaryKey(table.shape.schema.key.clone());
        WarehouseTable { table, constraints: Constraints::new_unverified(vec![key]) }
    }
}

#[async_trait]
impl TableProvider for WarehouseTable {
    fn schema(&self) -> SchemaRef {
        self.table.shape.arrow.clone()
    }

    /// The primary key is unique in every version, so `GROUP BY key` may show the other columns.
    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// A scan evaluates every filter of its own columns, together with the mask of live rows: one copy instead of two.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| match is_of_one_row(filter)? {
            true => Ok(TableProviderFilterPushDown::Exact),
            false => Ok(TableProviderFilterPushDown::Unsupported),
        };
        filters.iter().map(answer).collect()
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(statistics::of_table(&self.table, None))
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = &self.table.shape.arrow;
        let given: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
        let mut read: BTreeSet<usize> = given.iter().copied().collect();
        let filter = conjunction(filters.iter().cloned());
        for column in filter.iter().flat_map(Expr::column_refs) {
            read.insert(schema.index_of(&column.name)?);
        }
        let read: Vec<usize> = read.into_iter().collect();
        let read_schema: SchemaRef = Arc::new(schema.project(&read)?);
        let filter = match filter {
            Some(filter) => Some(state.create_physical_expr(filter, &DFSchema::try_from(read_schema.clone())?)?),
            None => None,
        };
        let slots = match &filter {
            Some(filter) => not_ruled_out(&self.table, filter, &read_schema)?,
            None => (0..self.table.slots.len()).collect(),
        };
        let wanted = Wanted { given, read, read_schema, filter, limit };
        Ok(Arc::new(ChunkScan::new(self.table.clone(), slots, wanted, state.config().target_partitions())?))
    }
}

/// Whether a filter needs nothing but the row: no subquery, no outer row, and the same answer each time.
fn is_of_one_row(filter: &Expr) -> Result<bool> {
    let mut is = !filter.is_volatile();
    filter.apply(|part| {
        if matches!(
            part,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_)
                | Expr::ScalarVariable(..)
        ) {
            is = false;
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(is)
}
