//! Values of one column of one row, owned and borrowed.

use std::cmp::Ordering;

/// A decimal number: `unscaled / 10^scale`. `1.50` and `1.5` are different decimals of equal worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// All the digits as one integer.
    pub unscaled: i128,
    /// How many of the digits stand behind the point.
    pub scale: i8,
}

/// A value that owns its bytes. Equality is by content and type: `-0.0` differs from `0.0`, and a
/// NaN equals a NaN of the same bits, because "the same value" means the same bits here.
#[derive(Clone, Debug)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// A boolean.
    Bool(bool),
    /// A signed 64-bit integer.
    Int(i64),
    /// A 64-bit IEEE float.
    Float(f64),
    /// A 32-bit IEEE float.
    Float32(f32),
    /// An exact decimal, boxed since it is rare and wide.
    Decimal(Box<Decimal>),
    /// UTF-8 text.
    Text(Box<str>),
    /// Bytes.
    Bytes(Box<[u8]>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01 00:00 UTC. `i64::MAX` and `i64::MIN` stand for the two infinities.
    Timestamp(i64),
    /// Microseconds since 1970-01-01 00:00 on a clock of no particular time zone, with the same infinities.
    LocalTimestamp(i64),
}

/// A value that borrows its bytes from a database row, a log record or a [`Value`].
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// SQL NULL.
    Null,
    /// Not changed by the update, and not sent by the record system (PostgreSQL's unchanged large values).
    /// Stands only in the new row of an update.
    Unchanged,
    /// See [`Value::Bool`].
    Bool(bool),
    /// See [`Value::Int`].
    Int(i64),
    /// See [`Value::Float`].
    Float(f64),
    /// See [`Value::Float32`].
    Float32(f32),
    /// See [`Value::Decimal`].
    Decimal(Decimal),
    /// See [`Value::Text`].
    Text(&'a str),
    /// See [`Value::Bytes`].
    Bytes(&'a [u8]),
    /// See [`Value::Date`].
    Date(i32),
    /// See [`Value::Timestamp`].
    Timestamp(i64),
    /// See [`Value::LocalTimestamp`].
    LocalTimestamp(i64),
}

impl Value {
    /// Borrows the value.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::Null => ValueRef::Null,
            Value::Bool(v) => ValueRef::Bool(*v),
            Value::Int(v) => ValueRef::Int(*v),
            Value::Float(v) => ValueRef::Float(*v),
            Value::Float32(v) => ValueRef::Float32(*v),
            Value::Decimal(v) => ValueRef::Decimal(**v),
            Value::Text(v) => ValueRef::Text(v),
            Value::Bytes(v) => ValueRef::Bytes(v),
            Value::Date(v) => ValueRef::Date(*v),
            Value::Timestamp(v) => ValueRef::Timestamp(*v),
            Value::LocalTimestamp(v) => ValueRef::LocalTimestamp(*v),
        }
    }

    /// A text value.
    pub fn text(text: impl Into<Box<str>>) -> Value {
        Value::Text(text.into())
    }
}

impl ValueRef<'_> {
    /// An owned copy; `None` for [`ValueRef::Unchanged`], which is not a value.
    pub fn to_value(self) -> Option<Value> {
        Some(match self {
            ValueRef::Null => Value::Null,
            ValueRef::Unchanged => return None,
            ValueRef::Bool(v) => Value::Bool(v),
            ValueRef::Int(v) => Value::Int(v),
            ValueRef::Float(v) => Value::Float(v),
            ValueRef::Float32(v) => Value::Float32(v),
            ValueRef::Decimal(v) => Value::Decimal(Box::new(v)),
            ValueRef::Text(v) => Value::Text(v.into()),
            ValueRef::Bytes(v) => Value::Bytes(v.into()),
            ValueRef::Date(v) => Value::Date(v),
            ValueRef::Timestamp(v) => Value::Timestamp(v),
            ValueRef::LocalTimestamp(v) => Value::LocalTimestamp(v),
        })
    }

    /// How wide the value is wherever bytes of rows are counted: 8 for a number or an instant, 4 for a date or a 32-bit float, 17 for a
    /// decimal, the length of text and bytes, 1 for a boolean and for what has no value.
    pub fn width_bytes(self) -> u64 {
        match self {
            ValueRef::Null | ValueRef::Unchanged | ValueRef::Bool(_) => 1,
            ValueRef::Int(_) | ValueRef::Float(_) | ValueRef::Timestamp(_) | ValueRef::LocalTimestamp(_) => 8,
            ValueRef::Date(_) | ValueRef::Float32(_) => 4,
            ValueRef::Decimal(_) => 17,
            ValueRef::Text(text) => text.len() as u64,
            ValueRef::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// The name of the value's type, for messages.
    pub fn type_name(self) -> &'static str {
        match self {
            ValueRef::Null => "null",
            ValueRef::Unchanged => "unchanged",
            ValueRef::Bool(_) => "boolean",
            ValueRef::Int(_) => "integer",
            ValueRef::Float(_) => "float",
            ValueRef::Float32(_) => "32-bit float",
            ValueRef::Decimal(_) => "decimal",
            ValueRef::Text(_) => "text",
            ValueRef::Bytes(_) => "bytes",
            ValueRef::Date(_) => "date",
            ValueRef::Timestamp(_) => "timestamp",
            ValueRef::LocalTimestamp(_) => "timestamp without time zone",
        }
    }

    fn rank(self) -> u8 {
        match self {
            ValueRef::Null => 0,
            ValueRef::Unchanged => 1,
            ValueRef::Bool(_) => 2,
            ValueRef::Int(_) => 3,
            ValueRef::Float(_) => 4,
            ValueRef::Decimal(_) => 5,
            ValueRef::Text(_) => 6,
            ValueRef::Bytes(_) => 7,
            ValueRef::Date(_) => 8,
            ValueRef::Timestamp(_) => 9,
            ValueRef::Float32(_) => 10,
            ValueRef::LocalTimestamp(_) => 11,
        }
    }
}

impl PartialEq for ValueRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (ValueRef::Null, ValueRef::Null) | (ValueRef::Unchanged, ValueRef::Unchanged) => true,
            (ValueRef::Bool(a), ValueRef::Bool(b)) => a == b,
            (ValueRef::Int(a), ValueRef::Int(b))
            | (ValueRef::Timestamp(a), ValueRef::Timestamp(b))
            | (ValueRef::LocalTimestamp(a), ValueRef::LocalTimestamp(b)) => a == b,
            (ValueRef::Float(a), ValueRef::Float(b)) => a.to_bits() == b.to_bits(),
            (ValueRef::Float32(a), ValueRef::Float32(b)) => a.to_bits() == b.to_bits(),
            (ValueRef::Decimal(a), ValueRef::Decimal(b)) => a == b,
            (ValueRef::Text(a), ValueRef::Text(b)) => a == b,
            (ValueRef::Bytes(a), ValueRef::Bytes(b)) => a == b,
            (ValueRef::Date(a), ValueRef::Date(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for ValueRef<'_> {}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A total order for sorting and map keys: by type, then by value, floats by IEEE total order.
impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b))
            | (Value::Timestamp(a), Value::Timestamp(b))
            | (Value::LocalTimestamp(a), Value::LocalTimestamp(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::Float32(a), Value::Float32(b)) => a.total_cmp(b),
            (Value::Decimal(a), Value::Decimal(b)) => (a.scale, a.unscaled).cmp(&(b.scale, b.unscaled)),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Date(a), Value::Date(b)) => a.cmp(b),
            (a, b) => a.as_ref().rank().cmp(&b.as_ref().rank()),
        }
    }
}

impl From<i64> for Value {
    fn from(v: i64) -> Value {
        Value::Int(v)
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Value {
        Value::Text(v.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equality_is_by_bits_and_type() {
        assert_ne!(Value::Float(0.0), Value::Float(-0.0));
        assert_eq!(Value::Float(f64::NAN), Value::Float(f64::NAN));
        assert_ne!(Value::Null, Value::text(""));
        assert_ne!(Value::Int(1), Value::Timestamp(1));
        let (a, b) = (Decimal { unscaled: 15, scale: 1 }, Decimal { unscaled: 150, scale: 2 });
        assert_ne!(Value::Decimal(Box::new(a)), Value::Decimal(Box::new(b)));
    }

    #[test]
    fn a_value_stays_three_words() {
        assert_eq!(size_of::<Value>(), 24);
    }
}
