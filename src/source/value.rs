//! Values into SQLite and back.
//!
//! | catalog type | stored as |
//! |---|---|
//! | Bool, Int64, Date (days), Timestamp and LocalTimestamp (µs) | INTEGER |
//! | Float64, Float32 | REAL |
//! | Decimal, Text | TEXT |
//! | Bytes | BLOB |
//!
//! SQLite lets any column hold any value; what does not fit its column's type is an error, never another value.

use super::decimal;
use super::error::SourceError;
use crate::model::{ColumnType, ValueRef};
use rusqlite::types::{ToSqlOutput, Value as Owned, ValueRef as Stored};

/// How the stored values of one column become values of its catalog type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Only the storage class that belongs to the type.
    Exact(ColumnType),
    /// A column of SQLite's NUMERIC affinity, or without a type, as text without loss: integers as digits, reals
    /// with as many of 17 significant digits as it takes to read the same real back, text as it is.
    AsText,
}

impl Coding {
    /// What the column may hold, for messages.
    pub(crate) fn wanted(self) -> String {
        match self {
            Coding::Exact(ColumnType::Bool) => "bool (0 or 1)".to_owned(),
            Coding::Exact(column_type) => column_type.to_string(),
            Coding::AsText => "a number or text".to_owned(),
        }
    }

    /// The value, or `None` if the column's type does not hold it. Numbers of [`Coding::AsText`] are not
    /// handled here, since their text has to live somewhere: see [`number_as_text`].
    #[inline]
    pub(crate) fn decode(self, stored: Stored<'_>) -> Option<ValueRef<'_>> {
        let column_type = match self {
            Coding::Exact(column_type) => column_type,
            Coding::AsText => ColumnType::Text,
        };
        Some(match (stored, column_type) {
            (Stored::Null, _) => ValueRef::Null,
            (Stored::Integer(v), ColumnType::Int64) => ValueRef::Int(v),
            (Stored::Integer(v), ColumnType::Timestamp) => ValueRef::Timestamp(v),
            (Stored::Integer(v), ColumnType::LocalTimestamp) => ValueRef::LocalTimestamp(v),
            (Stored::Integer(v @ (0 | 1)), ColumnType::Bool) => ValueRef::Bool(v == 1),
            (Stored::Integer(v), ColumnType::Date) => ValueRef::Date(i32::try_from(v).ok()?),
            (Stored::Real(v), ColumnType::Float64) => ValueRef::Float(v),
            (Stored::Real(v), ColumnType::Float32) if f64::from(v as f32) == v => ValueRef::Float32(v as f32),
            // As REAL affinity would; beyond 2^53 a float may not hold the integer.
            (Stored::Integer(v), ColumnType::Float64) if v.unsigned_abs() <= 1 << 53 => ValueRef::Float(v as f64),
            (Stored::Text(v), ColumnType::Text) => ValueRef::Text(std::str::from_utf8(v).ok()?),
            (Stored::Text(v), ColumnType::Decimal { .. }) => {
                ValueRef::Decimal(decimal::from_text(std::str::from_utf8(v).ok()?)?)
            }
            (Stored::Blob(v), ColumnType::Bytes) => ValueRef::Bytes(v),
            _ => return None,
        })
    }
}

/// Appends the text of a number in a [`Coding::AsText`] column; `false` if `stored` is no number.
pub(crate) fn number_as_text(stored: Stored<'_>, out: &mut String) -> bool {
    match stored {
        Stored::Integer(v) => out.push_str(&v.to_string()),
        Stored::Real(f64::INFINITY) => out.push_str("Inf"),
        Stored::Real(f64::NEG_INFINITY) => out.push_str("-Inf"),
        Stored::Real(v) => out.push_str(&format!("{v:?}")),
        _ => return false,
    }
    true
}

/// A stored value for messages: its storage class, and the value itself if it is short.
pub(crate) fn describe(stored: Stored<'_>) -> String {
    match stored {
        Stored::Null => "NULL".to_owned(),
        Stored::Integer(v) => format!("integer {v}"),
        Stored::Real(v) => format!("real {v:?}"),
        Stored::Text(v) => match std::str::from_utf8(v) {
            Ok(text) if text.len() <= 60 => format!("text {text:?}"),
            Ok(_) => format!("text of {} bytes", v.len()),
            Err(_) => format!("text of {} bytes that is not UTF-8", v.len()),
        },
        Stored::Blob(v) => format!("blob of {} bytes", v.len()),
    }
}

/// The value as SQLite stores it.
///
/// # Errors
/// [`SourceError::Unstorable`] for NaN, which SQLite would store as NULL, and for a value that was not sent.
pub(crate) fn encode(value: ValueRef<'_>) -> Result<ToSqlOutput<'_>, SourceError> {
    Ok(match value {
        ValueRef::Null => ToSqlOutput::Borrowed(Stored::Null),
        ValueRef::Bool(v) => ToSqlOutput::Borrowed(Stored::Integer(i64::from(v))),
        ValueRef::Int(v) | ValueRef::Timestamp(v) | ValueRef::LocalTimestamp(v) => {
            ToSqlOutput::Borrowed(Stored::Integer(v))
        }
        ValueRef::Date(v) => ToSqlOutput::Borrowed(Stored::Integer(i64::from(v))),
        ValueRef::Float(v) if v.is_nan() => return Err(unstorable("NaN, which SQLite would turn into NULL")),
        ValueRef::Float32(v) if v.is_nan() => return Err(unstorable("NaN, which SQLite would turn into NULL")),
        ValueRef::Float(v) => ToSqlOutput::Borrowed(Stored::Real(v)),
        ValueRef::Float32(v) => ToSqlOutput::Borrowed(Stored::Real(f64::from(v))),
        ValueRef::Decimal(v) => ToSqlOutput::Owned(Owned::Text(decimal::to_text(v))),
        ValueRef::Text(v) => ToSqlOutput::Borrowed(Stored::Text(v.as_bytes())),
        ValueRef::Bytes(v) => ToSqlOutput::Borrowed(Stored::Blob(v)),
        ValueRef::Unchanged => return Err(unstorable("an unchanged value that was not sent")),
    })
}

fn unstorable(what: &str) -> SourceError {
    SourceError::Unstorable { what: format!("SQLite can't store {what}; change the workload's value") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_does_not_fit_is_refused() {
        let int = Coding::Exact(ColumnType::Int64);
        assert_eq!(int.decode(Stored::Integer(i64::MIN)), Some(ValueRef::Int(i64::MIN)));
        assert_eq!(int.decode(Stored::Real(1.0)), None);
        assert_eq!(int.decode(Stored::Text(b"1")), None);
        assert_eq!(Coding::Exact(ColumnType::Bool).decode(Stored::Integer(2)), None);
        assert_eq!(Coding::Exact(ColumnType::Text).decode(Stored::Text(b"\xFF")), None);
        assert_eq!(Coding::Exact(ColumnType::Date).decode(Stored::Integer(1 << 40)), None);
        assert_eq!(Coding::AsText.decode(Stored::Blob(b"x")), None);
        assert!(encode(ValueRef::Float(f64::NAN)).is_err());
    }

    #[test]
    fn numbers_as_text_can_be_read_back() {
        for real in [0.1, -0.0, 1.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e21, 0.1 + 0.2] {
            let mut text = String::new();
            assert!(number_as_text(Stored::Real(real), &mut text));
            assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(real.to_bits()), "{text}");
        }
        let mut text = String::new();
        assert!(number_as_text(Stored::Integer(i64::MIN), &mut text));
        assert_eq!(text, "-9223372036854775808");
    }
}
