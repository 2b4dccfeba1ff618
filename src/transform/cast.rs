//! Casts between column types.

use super::error::ValueFault;
use crate::model::text::write_text;
use crate::model::{ColumnType, Decimal, ValueRef};

const DAY_US: i64 = 86_400_000_000;
/// Floats from here up are beyond every `i64`.
const I64_END: f64 = 9_223_372_036_854_775_808.0;

/// What a cast makes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cast {
    pub(super) to: ColumnType,
    /// The integer counts units of the decimal's last digit.
    pub(super) scaled: bool,
}

/// Whether there is a cast from one type to the other.
pub(super) fn has_cast(from: ColumnType, cast: Cast) -> bool {
    use ColumnType as T;
    if cast.scaled {
        return matches!((from, cast.to), (T::Int64, T::Decimal { .. }));
    }
    matches!(
        (from, cast.to),
        (_, T::Text)
            | (T::Int64, T::Float64 | T::Decimal { .. } | T::Bool)
            | (T::Bool | T::Float64, T::Int64)
            | (T::Decimal { .. }, T::Decimal { .. } | T::Int64 | T::Float64)
            | (T::Date, T::Timestamp)
            | (T::Timestamp, T::Date)
            | (T::Text, T::Int64 | T::Float64 | T::Bytes)
    )
}

/// Casts a value that is not NULL. Text is written into `scratch`.
///
/// A cast to float64 takes the nearest float and a cast from timestamp to date drops the time of day (UTC); every
/// other cast is exact or an error.
pub(super) fn cast<'a>(value: ValueRef<'a>, cast: Cast, scratch: &'a mut String) -> Result<ValueRef<'a>, ValueFault> {
    let fault = || ValueFault::not_convertible(value, &cast.to.to_string());
    let result = match (value, cast.to) {
        (ValueRef::Text(_), ColumnType::Text) => Some(value),
        (_, ColumnType::Text) => {
            scratch.clear();
            // SQL's cast of a boolean writes the word, unlike its output form. Writing to a String does not fail.
            let _ = match value {
                ValueRef::Bool(v) => std::fmt::Write::write_str(scratch, if v { "true" } else { "false" }),
                _ => write_text(scratch, value),
            };
            Some(ValueRef::Text(scratch))
        }
        (ValueRef::Text(v), ColumnType::Bytes) => Some(ValueRef::Bytes(v.as_bytes())),
        (_, ColumnType::Decimal { precision, scale }) => to_decimal(value, precision, scale, cast.scaled),
        (_, ColumnType::Int64) => to_int(value).map(ValueRef::Int),
        (_, ColumnType::Float64) => to_float(value).map(ValueRef::Float),
        (ValueRef::Int(v @ (0 | 1)), ColumnType::Bool) => Some(ValueRef::Bool(v == 1)),
        (ValueRef::Date(v), ColumnType::Timestamp) => date_to_timestamp(v).map(ValueRef::Timestamp),
        (ValueRef::Timestamp(v), ColumnType::Date) => timestamp_to_date(v).map(ValueRef::Date),
        _ => None,
    };
    result.ok_or_else(fault)
}

fn to_int(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Int(v) => Some(v),
        ValueRef::Bool(v) => Some(i64::from(v)),
        ValueRef::Float(v) if v.fract() == 0.0 && (-I64_END..I64_END).contains(&v) => Some(v as i64),
        ValueRef::Decimal(v) => rescale(v, 0).and_then(|unscaled| i64::try_from(unscaled).ok()),
        ValueRef::Text(v) => v.trim().parse().ok(),
        _ => None,
    }
}

fn to_float(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Float(v) => Some(v),
        ValueRef::Int(v) => Some(v as f64),
        ValueRef::Decimal(v) => format!("{}e{}", v.unscaled, -i32::from(v.scale)).parse().ok(),
        ValueRef::Text(v) => v.trim().parse().ok(),
        _ => None,
    }
}

fn to_decimal<'a>(value: ValueRef<'_>, precision: u8, scale: i8, scaled: bool) -> Option<ValueRef<'a>> {
    let unscaled = match value {
        ValueRef::Int(v) if scaled => i128::from(v),
        ValueRef::Int(v) => rescale(Decimal { unscaled: i128::from(v), scale: 0 }, scale)?,
        ValueRef::Decimal(v) => rescale(v, scale)?,
        _ => return None,
    };
    let end = 10u128.checked_pow(u32::from(precision))?;
    (unscaled.unsigned_abs() < end).then_some(ValueRef::Decimal(Decimal { unscaled, scale }))
}

/// The unscaled digits of the same number at another scale, if it has one.
fn rescale(v: Decimal, scale: i8) -> Option<i128> {
    let shift = i32::from(scale) - i32::from(v.scale);
    if v.unscaled == 0 {
        return Some(0);
    }
    let factor = 10i128.checked_pow(shift.unsigned_abs())?;
    if shift >= 0 { v.unscaled.checked_mul(factor) } else { (v.unscaled % factor == 0).then(|| v.unscaled / factor) }
}

fn date_to_timestamp(days: i32) -> Option<i64> {
    match days {
        i32::MAX => Some(i64::MAX),
        i32::MIN => Some(i64::MIN),
        _ => i64::from(days).checked_mul(DAY_US),
    }
}

fn timestamp_to_date(us: i64) -> Option<i32> {
    match us {
        i64::MAX => Some(i32::MAX),
        i64::MIN => Some(i32::MIN),
        _ => i32::try_from(us.div_euclid(DAY_US)).ok(),
    }
}
