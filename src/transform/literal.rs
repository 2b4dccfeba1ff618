//! Literals of a definition become values of a column's type.

use crate::model::{ColumnType, Decimal, Value};
use crate::workload::Literal;

/// The literal as a value of the type, or what literal the type takes.
pub(super) fn of_type(literal: &Literal, column_type: ColumnType) -> Result<Value, &'static str> {
    match (column_type, literal) {
        (ColumnType::Bool, Literal::Bool(v)) => Ok(Value::Bool(*v)),
        (ColumnType::Bool, _) => Err("true or false"),
        (ColumnType::Int64, Literal::Int(v)) => Ok(Value::Int(*v)),
        (ColumnType::Int64, _) => Err("a whole number"),
        // A 32-bit float is compared as the 64-bit float that it is, as in SQL.
        (ColumnType::Float64 | ColumnType::Float32, Literal::Float(v)) => Ok(Value::Float(*v)),
        (ColumnType::Float64 | ColumnType::Float32, Literal::Int(v)) => Ok(Value::Float(*v as f64)),
        (ColumnType::Float64 | ColumnType::Float32, _) => Err("a number"),
        (ColumnType::Decimal { .. }, Literal::Int(v)) => Ok(decimal(i128::from(*v), 0)),
        (ColumnType::Decimal { .. }, Literal::Float(v)) => shortest_decimal(*v).ok_or("a finite number"),
        (ColumnType::Decimal { .. }, _) => Err("a number"),
        (ColumnType::Text, Literal::Text(v)) => Ok(Value::text(v.as_str())),
        (ColumnType::Text, _) => Err("text"),
        (ColumnType::Date, Literal::Text(v)) => parse_date(v).map(Value::Date).ok_or(DATE),
        (ColumnType::Date, _) => Err(DATE),
        (ColumnType::Timestamp, Literal::Text(v)) => parse_timestamp(v).map(Value::Timestamp).ok_or(TIMESTAMP),
        (ColumnType::Timestamp, _) => Err(TIMESTAMP),
        (ColumnType::LocalTimestamp, Literal::Text(v)) => {
            parse_timestamp(v).map(Value::LocalTimestamp).ok_or(TIMESTAMP)
        }
        (ColumnType::LocalTimestamp, _) => Err(TIMESTAMP),
        (ColumnType::Bytes, _) => Err("no comparison, only `is null` and `is not null`"),
    }
}

const DATE: &str = "a date like \"2025-01-31\"";
const TIMESTAMP: &str = "a UTC timestamp like \"2025-01-31T12:00:00Z\"";

fn decimal(unscaled: i128, scale: i8) -> Value {
    Value::Decimal(Box::new(Decimal { unscaled, scale }))
}

/// The number as it was written: the shortest digits that mean this float.
fn shortest_decimal(v: f64) -> Option<Value> {
    let text = format!("{v}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let unscaled = format!("{whole}{fraction}").parse().ok()?;
    Some(decimal(unscaled, i8::try_from(fraction.len()).ok()?))
}

fn parse_date(text: &str) -> Option<i32> {
    let mut parts = text.splitn(3, '-');
    let year = number(parts.next()?, 4)?;
    let month = number(parts.next()?, 2)?;
    let day = number(parts.next()?, 2)?;
    let days = crate::model::text::days(year, month, day)?;
    i32::try_from(days).ok()
}

/// RFC 3339 in UTC (`Z` or `+00:00`), with up to six digits of a second's fraction.
fn parse_timestamp(text: &str) -> Option<i64> {
    let local = text.strip_suffix(['Z', 'z']).or_else(|| text.strip_suffix("+00:00"))?;
    let (date, time) = local.split_once(['T', 't', ' '])?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = time.splitn(3, ':');
    let hour = number(parts.next()?, 2).filter(|h| *h < 24)?;
    let minute = number(parts.next()?, 2).filter(|m| *m < 60)?;
    let second = number(parts.next()?, 2).filter(|s| *s < 60)?;
    if fraction.is_empty() || fraction.len() > 6 {
        return None;
    }
    let fraction_us = number(&format!("{fraction:0<6}"), 6)?;
    let seconds = i64::from(parse_date(date)?) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000_000 + fraction_us)
}

/// Exactly `digits` decimal digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    let plain = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}
