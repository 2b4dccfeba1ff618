//! Values as parameters of statements, in the binary form of the parameter's own type.
//!
//! Source of the forms: the `*_recv` functions that "Frontend/Backend Protocol" and the catalog name for each type.

use crate::model::{Decimal, Value, ValueRef};
use ::postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use bytes::BytesMut;
use std::error::Error;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL's calendar begins.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_US: i64 = EPOCH_DAYS as i64 * 86_400_000_000;
/// Decimal digits in one of numeric's.
const GROUP: i128 = 10_000;
const GROUP_DIGITS: i32 = 4;

/// A value on its way to the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound<'a>(pub(crate) ValueRef<'a>);

impl<'a> From<&'a Value> for Bound<'a> {
    fn from(value: &'a Value) -> Bound<'a> {
        Bound(value.as_ref())
    }
}

impl ToSql for Bound<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let misfit = || format!("a value of type {} does not go into a column of type {ty}", self.0.type_name());
        match (self.0, ty) {
            (ValueRef::Null, _) => return Ok(IsNull::Yes),
            (ValueRef::Bool(v), &Type::BOOL) => return v.to_sql(ty, out),
            (ValueRef::Int(v), &Type::INT8) => return v.to_sql(ty, out),
            (ValueRef::Int(v), &Type::INT4) => return i32::try_from(v)?.to_sql(ty, out),
            (ValueRef::Int(v), &Type::INT2) => return i16::try_from(v)?.to_sql(ty, out),
            (ValueRef::Int(v), &Type::NUMERIC) => {
                numeric(Decimal { unscaled: i128::from(v), scale: 0 }, out).ok_or_else(misfit)?;
            }
            (ValueRef::Float(v), &Type::FLOAT8) => return v.to_sql(ty, out),
            (ValueRef::Decimal(v), &Type::NUMERIC) => numeric(v, out).ok_or_else(misfit)?,
            (ValueRef::Text(v), &Type::TEXT | &Type::VARCHAR | &Type::BPCHAR | &Type::NAME) => {
                return v.to_sql(ty, out);
            }
            (ValueRef::Bytes(v), &Type::BYTEA) => return v.to_sql(ty, out),
            (ValueRef::Date(v), &Type::DATE) => out.extend_from_slice(&date(v).ok_or_else(misfit)?.to_be_bytes()),
            (ValueRef::Timestamp(v), &Type::TIMESTAMPTZ | &Type::TIMESTAMP) => {
                out.extend_from_slice(&timestamp(v).ok_or_else(misfit)?.to_be_bytes());
            }
            _ => return Err(misfit().into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// The ends of the range are the infinities, here and there.
fn date(days: i32) -> Option<i32> {
    if days == i32::MAX || days == i32::MIN { Some(days) } else { days.checked_sub(EPOCH_DAYS) }
}

fn timestamp(us: i64) -> Option<i64> {
    if us == i64::MAX || us == i64::MIN { Some(us) } else { us.checked_sub(EPOCH_US) }
}

/// `ndigits, weight, sign, dscale`, each an `i16`, then digits in base 10,000. `None` for a negative scale.
fn numeric(value: Decimal, out: &mut BytesMut) -> Option<()> {
    let scale = u8::try_from(value.scale).ok()?;
    let behind = i32::from(scale).div_euclid(GROUP_DIGITS) + i32::from(i32::from(scale) % GROUP_DIGITS != 0);
    // So that the point falls between two digits of base 10,000.
    let shift = behind * GROUP_DIGITS - i32::from(scale);
    let mut magnitude = value.unscaled.unsigned_abs();
    let mut digits: Vec<i16> = Vec::with_capacity(12);
    let lowest = 10u128.pow(shift.unsigned_abs());
    let first = u128::try_from(GROUP).ok()? / lowest;
    // The lowest group holds fewer decimal digits when it is shifted.
    digits.push(i16::try_from(magnitude % first * lowest).ok()?);
    magnitude /= first;
    while magnitude > 0 {
        digits.push(i16::try_from(magnitude % u128::try_from(GROUP).ok()?).ok()?);
        magnitude /= u128::try_from(GROUP).ok()?;
    }
    let weight = i32::try_from(digits.len()).ok()? - behind - 1;
    let trailing = digits.iter().take_while(|&&digit| digit == 0).count();
    let kept: Vec<i16> = digits.into_iter().skip(trailing).rev().collect();
    let weight = if kept.is_empty() { 0 } else { i16::try_from(weight).ok()? };
    let sign: u16 = if value.unscaled < 0 { 0x4000 } else { 0 };
    out.extend_from_slice(&i16::try_from(kept.len()).ok()?.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&i16::from(scale).to_be_bytes());
    for digit in kept {
        out.extend_from_slice(&digit.to_be_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(unscaled: i128, scale: i8) -> Vec<i16> {
        let mut out = BytesMut::new();
        numeric(Decimal { unscaled, scale }, &mut out).unwrap();
        out.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    /// By hand, after the layout that numeric_send writes.
    #[test]
    fn numerics_have_postgresqls_digits() {
        assert_eq!(encoded(0, 2), [0, 0, 0, 2]);
        assert_eq!(encoded(1, 0), [1, 0, 0, 0, 1]);
        assert_eq!(encoded(12_345_678, 0), [2, 1, 0, 0, 1234, 5678]);
        assert_eq!(encoded(-1_234_567, 2), [3, 1, 0x4000, 2, 1, 2345, 6700]);
        assert_eq!(encoded(10_000, 0), [1, 1, 0, 0, 1]);
        assert_eq!(encoded(5, 4), [1, -1, 0, 4, 5]);
        assert_eq!(encoded(5, 5), [1, -2, 0, 5, 5000]);
        assert_eq!(encoded(150, 2), [2, 0, 0, 2, 1, 5000]);
    }
}
