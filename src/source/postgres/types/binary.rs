//! Binary forms.

use super::{Decoded, PgCoding, PgMisfit, PgScratch, print, utf8};
use crate::model::{Decimal, ValueRef};

/// PostgreSQL counts from 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_US: i64 = 946_684_800_000_000;
/// Digits of numeric are groups of four.
const GROUP: u64 = 10_000;

pub(super) fn decode<'a>(coding: PgCoding, bytes: &'a [u8], scratch: &mut PgScratch) -> Result<Decoded<'a>, PgMisfit> {
    let value = match coding {
        PgCoding::Int8 => ValueRef::Int(i64::from_be_bytes(fixed(coding, bytes)?)),
        PgCoding::Int4 => ValueRef::Int(i32::from_be_bytes(fixed(coding, bytes)?).into()),
        PgCoding::Int2 => ValueRef::Int(i16::from_be_bytes(fixed(coding, bytes)?).into()),
        PgCoding::Oid => ValueRef::Int(u32::from_be_bytes(fixed(coding, bytes)?).into()),
        PgCoding::Text => ValueRef::Text(utf8(bytes)?),
        PgCoding::Jsonb => match bytes.split_first() {
            Some((1, text)) => ValueRef::Text(utf8(text)?),
            _ => return Err(wrong(coding, bytes)),
        },
        PgCoding::Bytea => ValueRef::Bytes(bytes),
        PgCoding::Bool => ValueRef::Bool(fixed::<1>(coding, bytes)? != [0]),
        PgCoding::Float4 => ValueRef::Float32(one_nan_32(f32::from_be_bytes(fixed(coding, bytes)?))),
        PgCoding::Float8 => ValueRef::Float(one_nan(f64::from_be_bytes(fixed(coding, bytes)?))),
        PgCoding::Date => ValueRef::Date(date(coding, bytes)?),
        PgCoding::Timestamp => ValueRef::LocalTimestamp(timestamp(coding, bytes)?),
        PgCoding::TimestampTz => ValueRef::Timestamp(timestamp(coding, bytes)?),
        PgCoding::Decimal { scale, .. } => {
            ValueRef::Decimal(Decimal { unscaled: unscaled(coding, bytes, scale)?, scale: scale as i8 })
        }
        PgCoding::Numeric | PgCoding::Time | PgCoding::TimeTz | PgCoding::Interval { .. } | PgCoding::Uuid => {
            let start = scratch.text.len();
            printed(coding, bytes, &mut scratch.text)?;
            return Ok(Decoded::Text(start..scratch.text.len()));
        }
        PgCoding::Output => return Err(wrong(coding, bytes)),
    };
    Ok(Decoded::Value(value))
}

/// Values that the catalog keeps as text.
fn printed(coding: PgCoding, bytes: &[u8], out: &mut String) -> Result<(), PgMisfit> {
    match coding {
        PgCoding::Numeric => match Numeric::read(coding, bytes)? {
            Number::Finite(number) => print::numeric(out, &number),
            Number::NaN => out.push_str("NaN"),
            Number::Infinity => out.push_str("Infinity"),
            Number::MinusInfinity => out.push_str("-Infinity"),
        },
        PgCoding::Time => print::time(out, i64::from_be_bytes(fixed(coding, bytes)?)),
        PgCoding::TimeTz => {
            let (time, zone) = bytes.split_at_checked(8).ok_or_else(|| wrong(coding, bytes))?;
            print::time(out, i64::from_be_bytes(fixed(coding, time)?));
            print::zone(out, i32::from_be_bytes(fixed(coding, zone)?));
        }
        PgCoding::Interval { infinite } => {
            let fields: [u8; 16] = fixed(coding, bytes)?;
            let (time, rest) = fields.split_at(8);
            let (days, months) = rest.split_at(4);
            let time = i64::from_be_bytes(fixed(coding, time)?);
            let (days, months) = (i32::from_be_bytes(fixed(coding, days)?), i32::from_be_bytes(fixed(coding, months)?));
            match (infinite, time, days, months) {
                (true, i64::MAX, i32::MAX, i32::MAX) => out.push_str("infinity"),
                (true, i64::MIN, i32::MIN, i32::MIN) => out.push_str("-infinity"),
                _ => print::interval(out, time, days, months),
            }
        }
        PgCoding::Uuid => print::uuid(out, &fixed(coding, bytes)?),
        _ => return Err(wrong(coding, bytes)),
    }
    Ok(())
}

#[inline]
fn fixed<const N: usize>(coding: PgCoding, bytes: &[u8]) -> Result<[u8; N], PgMisfit> {
    bytes.try_into().map_err(|_| wrong(coding, bytes))
}

#[cold]
fn wrong(coding: PgCoding, bytes: &[u8]) -> PgMisfit {
    PgMisfit::new(format!("{} bytes that are no such value", bytes.len()), coding.wanted())
}

/// All NaNs are one value to PostgreSQL.
fn one_nan(v: f64) -> f64 {
    if v.is_nan() { f64::NAN } else { v }
}

fn one_nan_32(v: f32) -> f32 {
    if v.is_nan() { f32::NAN } else { v }
}

#[inline]
fn date(coding: PgCoding, bytes: &[u8]) -> Result<i32, PgMisfit> {
    match i32::from_be_bytes(fixed(coding, bytes)?) {
        infinite @ (i32::MAX | i32::MIN) => Ok(infinite),
        days => days.checked_add(EPOCH_DAYS).filter(|&days| days != i32::MAX).ok_or_else(|| wrong(coding, bytes)),
    }
}

#[inline]
fn timestamp(coding: PgCoding, bytes: &[u8]) -> Result<i64, PgMisfit> {
    match i64::from_be_bytes(fixed(coding, bytes)?) {
        infinite @ (i64::MAX | i64::MIN) => Ok(infinite),
        us => us
            .checked_add(EPOCH_US)
            .filter(|&us| us != i64::MAX)
            .ok_or_else(|| PgMisfit::new(format!("the instant {us} µs after 2000-01-01"), coding.wanted())),
    }
}

/// A finite numeric: `±0.d1d2d3.. × 10000^(weight + 1)` in groups of four digits, shown with `scale` digits behind the
/// point.
pub(super) struct Numeric<'a> {
    pub(super) negative: bool,
    pub(super) weight: i32,
    pub(super) scale: usize,
    groups: &'a [u8],
}

pub(super) enum Number<'a> {
    Finite(Numeric<'a>),
    NaN,
    Infinity,
    MinusInfinity,
}

impl<'a> Numeric<'a> {
    #[inline]
    fn read(coding: PgCoding, bytes: &'a [u8]) -> Result<Number<'a>, PgMisfit> {
        let (header, groups) = bytes.split_first_chunk::<8>().ok_or_else(|| wrong(coding, bytes))?;
        let [count_high, count_low, weight_high, weight_low, sign_high, sign_low, scale_high, scale_low] = *header;
        let count = usize::from(u16::from_be_bytes([count_high, count_low]));
        if groups.len() != 2 * count {
            return Err(wrong(coding, bytes));
        }
        let negative = match u16::from_be_bytes([sign_high, sign_low]) {
            0x0000 => false,
            0x4000 => true,
            0xC000 => return Ok(Number::NaN),
            0xD000 => return Ok(Number::Infinity),
            0xF000 => return Ok(Number::MinusInfinity),
            _ => return Err(wrong(coding, bytes)),
        };
        let weight = i16::from_be_bytes([weight_high, weight_low]).into();
        let scale = usize::from(u16::from_be_bytes([scale_high, scale_low]));
        Ok(Number::Finite(Numeric { negative, weight, scale, groups }))
    }

    /// The groups of four digits, from the left.
    #[inline]
    pub(super) fn groups(&self) -> impl ExactSizeIterator<Item = u64> + use<'a> {
        self.groups.chunks_exact(2).map(|pair| match pair {
            [high, low] => u64::from(u16::from_be_bytes([*high, *low])),
            _ => 0,
        })
    }

    /// The group of weight `weight`: the last before the point has weight 0.
    pub(super) fn group(&self, weight: i32) -> u64 {
        usize::try_from(self.weight - weight).ok().and_then(|place| self.groups().nth(place)).unwrap_or(0)
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.groups.len() / 2
    }

    /// All digits as one integer with `scale` of them behind the point; `None` when that loses some or takes more than 38.
    #[inline]
    fn unscaled(&self, scale: u8) -> Option<i128> {
        let count = self.groups().len();
        // The power of ten that the last group is to be multiplied by.
        let power = 4 * (self.weight - (count as i32 - 1)) + i32::from(scale);
        let mut groups = self.groups();
        let mut digits: u128 = 0;
        if power >= 0 {
            if count <= 4 {
                digits = groups.fold(0u64, |digits, group| digits * GROUP + group).into();
            } else {
                for group in groups {
                    digits = digits.checked_mul(GROUP.into())?.checked_add(group.into())?;
                }
            }
            // Nothing is nothing at every power.
            if digits != 0 && power > 0 {
                digits = digits.checked_mul(10u128.checked_pow(power.unsigned_abs())?)?;
            }
        } else {
            // Trailing groups are never zero, so only the last one may reach behind the scale.
            let cut = 10u64.checked_pow(power.unsigned_abs()).filter(|_| power > -4 && count > 0)?;
            for group in groups.by_ref().take(count - 1) {
                digits = digits.checked_mul(GROUP.into())?.checked_add(group.into())?;
            }
            let last = groups.next()?;
            if last % cut != 0 {
                return None;
            }
            digits = digits.checked_mul((GROUP / cut).into())?.checked_add((last / cut).into())?;
        }
        let digits = i128::try_from(digits).ok()?;
        Some(if self.negative { -digits } else { digits })
    }
}

/// The digits of a numeric at a column's scale.
#[inline]
fn unscaled(coding: PgCoding, bytes: &[u8], scale: u8) -> Result<i128, PgMisfit> {
    let found = match Numeric::read(coding, bytes)? {
        Number::Finite(number) => match number.unscaled(scale) {
            Some(unscaled) => return Ok(unscaled),
            None => {
                let mut text = String::new();
                print::numeric(&mut text, &number);
                text
            }
        },
        Number::NaN => "NaN".to_owned(),
        Number::Infinity => "Infinity".to_owned(),
        Number::MinusInfinity => "-Infinity".to_owned(),
    };
    Err(PgMisfit::new(found, coding.wanted()))
}
