//! Which rows are kept.

use super::error::ValueFault;
use crate::model::{Decimal, Value, ValueRef};
use crate::workload::Comparison;
use std::cmp::Ordering;

/// A condition on one source column. As in SQL, a comparison with NULL is not true.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter {
    pub(super) column: usize,
    pub(super) test: Test,
}

/// What is asked of the column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Test {
    IsNull,
    IsNotNull,
    /// The literal has the column's type.
    Compare(Comparison, Value),
}

impl Filter {
    /// Whether a row with this value in the filter's column is kept.
    #[inline]
    pub(super) fn passes(&self, value: ValueRef<'_>) -> Result<bool, ValueFault> {
        if let ValueRef::Unchanged = value {
            return Err(ValueFault::Unresolved);
        }
        let null = matches!(value, ValueRef::Null);
        match &self.test {
            Test::IsNull => Ok(null),
            Test::IsNotNull => Ok(!null),
            Test::Compare(..) if null => Ok(false),
            Test::Compare(comparison, literal) => {
                let order =
                    compare(value, literal.as_ref()).ok_or(ValueFault::WrongType { found: value.type_name() })?;
                Ok(match comparison {
                    Comparison::Equal => order.is_eq(),
                    Comparison::NotEqual => order.is_ne(),
                    Comparison::Less => order.is_lt(),
                    Comparison::LessOrEqual => order.is_le(),
                    Comparison::Greater => order.is_gt(),
                    Comparison::GreaterOrEqual => order.is_ge(),
                })
            }
        }
    }
}

/// SQL's order of two values of one type: text by bytes, NaN equal to itself and above all, -0.0 equal to 0.0,
/// decimals by worth.
fn compare(a: ValueRef<'_>, b: ValueRef<'_>) -> Option<Ordering> {
    Some(match (a, b) {
        (ValueRef::Bool(a), ValueRef::Bool(b)) => a.cmp(&b),
        (ValueRef::Int(a), ValueRef::Int(b))
        | (ValueRef::Timestamp(a), ValueRef::Timestamp(b))
        | (ValueRef::LocalTimestamp(a), ValueRef::LocalTimestamp(b)) => a.cmp(&b),
        (ValueRef::Float(a), ValueRef::Float(b)) => a.partial_cmp(&b).unwrap_or(a.is_nan().cmp(&b.is_nan())),
        (ValueRef::Float32(a), ValueRef::Float(b)) => {
            f64::from(a).partial_cmp(&b).unwrap_or(a.is_nan().cmp(&b.is_nan()))
        }
        (ValueRef::Decimal(a), ValueRef::Decimal(b)) => compare_decimals(a, b),
        (ValueRef::Text(a), ValueRef::Text(b)) => a.cmp(b),
        (ValueRef::Date(a), ValueRef::Date(b)) => a.cmp(&b),
        _ => return None,
    })
}

fn compare_decimals(a: Decimal, b: Decimal) -> Ordering {
    if a.scale > b.scale {
        return compare_decimals(b, a).reverse();
    }
    let shift = (i32::from(b.scale) - i32::from(a.scale)).unsigned_abs();
    match 10i128.checked_pow(shift).and_then(|factor| a.unscaled.checked_mul(factor)) {
        Some(scaled) => scaled.cmp(&b.unscaled),
        // Beyond 38 digits at the finer scale: larger in size than anything there, zero excepted.
        None => a.unscaled.cmp(&0),
    }
}
