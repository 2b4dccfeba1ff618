//! A decimal compared with a float is made a float, as in PostgreSQL.
//!
//! DataFusion makes the float a `decimal(30,15)`, which is another number, and an error for 1e300.

use arrow_schema::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::{Between, BinaryExpr, InList};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, cast};
use datafusion::optimizer::AnalyzerRule;

/// The rule; it has to come before DataFusion's own coercion.
#[derive(Debug)]
pub(super) struct DecimalsBesideFloats;

impl AnalyzerRule for DecimalsBesideFloats {
    fn name(&self) -> &str {
        "decimals_beside_floats"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(of_node)?.data)
    }
}

fn of_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let adapted = expr.transform_up(|expr| Ok(adapt(expr, &schema)))?;
        Ok(adapted.update_data(|expr| name.restore(expr)))
    })
}

fn adapt(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if op.supports_propagation() => {
            let (float_left, float_right) = (is_float(&left, schema), is_float(&right, schema));
            let left = if float_right { as_float(*left, schema) } else { *left };
            let right = if float_left { as_float(*right, schema) } else { *right };
            Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
        }
        Expr::Between(between) if is_float(&between.expr, schema) => {
            let Between { expr, negated, low, high } = between;
            let (low, high) = (as_float(*low, schema), as_float(*high, schema));
            Transformed::yes(Expr::Between(Between::new(expr, negated, Box::new(low), Box::new(high))))
        }
        Expr::InList(among) if is_float(&among.expr, schema) => {
            let InList { expr, list, negated } = among;
            let list = list.into_iter().map(|item| as_float(item, schema)).collect();
            Transformed::yes(Expr::InList(InList::new(expr, list, negated)))
        }
        other => Transformed::no(other),
    }
}

fn is_float(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Float16 | DataType::Float32 | DataType::Float64))
}

/// A decimal as the nearest float; anything else as it is.
fn as_float(expr: Expr, schema: &DFSchema) -> Expr {
    if let Expr::Literal(ScalarValue::Decimal128(Some(unscaled), _, scale), _) = &expr
        && let Ok(nearest) = format!("{unscaled}e{}", -i32::from(*scale)).parse::<f64>()
    {
        return Expr::Literal(ScalarValue::Float64(Some(nearest)), None);
    }
    match expr.get_type(schema) {
        Ok(DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..)) => {
            cast(expr, DataType::Float64)
        }
        _ => expr,
    }
}
