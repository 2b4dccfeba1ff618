//! Where an output column's value comes from.

use super::cast::{Cast, cast};
use super::error::ValueFault;
use crate::model::{Value, ValueRef};
use sha2::{Digest, Sha256};

const DAY_US: i64 = 86_400_000_000;
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Where an output column's value comes from. Numbers are places of source columns.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// A source column as it is.
    Column(usize),
    /// A source column hashed, then cast.
    Keep { column: usize, hash: bool, cast: Option<Cast> },
    /// The UTC calendar year.
    YearOf(usize),
    /// Characters of a text, bytes of bytes.
    Length(usize),
    /// The product of two integers.
    Product(usize, usize),
    /// Always the same.
    Constant(Value),
}

/// Memory for computed text, kept from row to row.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    hash: String,
    cast: String,
}

impl Expr {
    /// The source columns it reads.
    pub(super) fn inputs(&self) -> impl Iterator<Item = usize> {
        let (first, second) = match self {
            Expr::Column(a) | Expr::Keep { column: a, .. } | Expr::YearOf(a) | Expr::Length(a) => (Some(*a), None),
            Expr::Product(a, b) => (Some(*a), Some(*b)),
            Expr::Constant(_) => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// The value for a source row. NULL in, NULL out.
    #[inline]
    pub(super) fn value<'a>(
        &'a self,
        row: &[ValueRef<'a>],
        scratch: &'a mut Scratch,
    ) -> Result<ValueRef<'a>, ValueFault> {
        match self {
            Expr::Column(column) => Ok(at(row, *column)),
            _ => self.computed(row, scratch),
        }
    }

    fn computed<'a>(&'a self, row: &[ValueRef<'a>], scratch: &'a mut Scratch) -> Result<ValueRef<'a>, ValueFault> {
        for input in self.inputs() {
            match at(row, input) {
                ValueRef::Null => return Ok(ValueRef::Null),
                ValueRef::Unchanged => return Err(ValueFault::Unresolved),
                _ => {}
            }
        }
        match self {
            Expr::Column(column) => Ok(at(row, *column)),
            Expr::Keep { column, hash, cast: to } => {
                let mut value = at(row, *column);
                if *hash {
                    hash_into(&mut scratch.hash, value)?;
                    value = ValueRef::Text(&scratch.hash);
                }
                match to {
                    None => Ok(value),
                    Some(to) => cast(value, *to, &mut scratch.cast),
                }
            }
            Expr::YearOf(column) => year_of(at(row, *column)).map(ValueRef::Int),
            Expr::Length(column) => match at(row, *column) {
                ValueRef::Text(v) => Ok(ValueRef::Int(v.chars().count() as i64)),
                ValueRef::Bytes(v) => Ok(ValueRef::Int(v.len() as i64)),
                other => Err(ValueFault::WrongType { found: other.type_name() }),
            },
            Expr::Product(a, b) => match (at(row, *a), at(row, *b)) {
                (ValueRef::Int(a), ValueRef::Int(b)) => a.checked_mul(b).map(ValueRef::Int).ok_or(ValueFault::Overflow),
                (ValueRef::Int(_), other) | (other, _) => Err(ValueFault::WrongType { found: other.type_name() }),
            },
            Expr::Constant(value) => Ok(value.as_ref()),
        }
    }
}

fn at<'a>(row: &[ValueRef<'a>], column: usize) -> ValueRef<'a> {
    row.get(column).copied().unwrap_or(ValueRef::Unchanged)
}

/// SHA-256 as 64 lower-case hexadecimal digits.
fn hash_into(out: &mut String, value: ValueRef<'_>) -> Result<(), ValueFault> {
    let digest = match value {
        ValueRef::Text(v) => Sha256::digest(v.as_bytes()),
        ValueRef::Bytes(v) => Sha256::digest(v),
        other => return Err(ValueFault::WrongType { found: other.type_name() }),
    };
    out.clear();
    for byte in digest {
        for digit in [byte >> 4, byte & 15] {
            out.push(char::from(*HEX.get(usize::from(digit)).unwrap_or(&b'0')));
        }
    }
    Ok(())
}

fn year_of(value: ValueRef<'_>) -> Result<i64, ValueFault> {
    let infinite = |value| Err(ValueFault::not_convertible(value, "calendar year"));
    let days = match value {
        ValueRef::Date(i32::MAX | i32::MIN) | ValueRef::Timestamp(i64::MAX | i64::MIN) => return infinite(value),
        ValueRef::LocalTimestamp(i64::MAX | i64::MIN) => return infinite(value),
        ValueRef::Date(days) => i64::from(days),
        ValueRef::Timestamp(us) | ValueRef::LocalTimestamp(us) => us.div_euclid(DAY_US),
        other => return Err(ValueFault::WrongType { found: other.type_name() }),
    };
    let (year, ..) = crate::model::text::civil(days);
    // There is no year 0: the year before 1 is 1 BC, which SQL calls -1.
    Ok(if year <= 0 { year - 1 } else { year })
}
