//! Text forms.

use super::{Decoded, PgCoding, PgMisfit, PgScratch, shown, utf8};
use crate::model::{Decimal, ValueRef, text};

const DAY_US: i64 = 86_400_000_000;

pub(super) fn decode<'a>(coding: PgCoding, bytes: &'a [u8], scratch: &mut PgScratch) -> Result<Decoded<'a>, PgMisfit> {
    let text = utf8(bytes)?;
    let value = match coding {
        PgCoding::Bool => match text {
            "t" => Some(ValueRef::Bool(true)),
            "f" => Some(ValueRef::Bool(false)),
            _ => None,
        },
        PgCoding::Int2 | PgCoding::Int4 | PgCoding::Int8 | PgCoding::Oid => text.parse().ok().map(ValueRef::Int),
        PgCoding::Float4 => text.parse().ok().map(ValueRef::Float32),
        PgCoding::Float8 => text.parse().ok().map(ValueRef::Float),
        PgCoding::Decimal { scale, .. } => decimal(text, scale).map(ValueRef::Decimal),
        PgCoding::Bytea => {
            let start = scratch.bytes.len();
            return match unescape(text, &mut scratch.bytes) {
                Some(()) => Ok(Decoded::Bytes(start..scratch.bytes.len())),
                None => Err(misfit(coding, bytes)),
            };
        }
        PgCoding::Date => date(text).map(ValueRef::Date),
        PgCoding::Timestamp => timestamp(text, false).map(ValueRef::LocalTimestamp),
        PgCoding::TimestampTz => timestamp(text, true).map(ValueRef::Timestamp),
        PgCoding::Numeric
        | PgCoding::Text
        | PgCoding::Jsonb
        | PgCoding::Time
        | PgCoding::TimeTz
        | PgCoding::Interval { .. }
        | PgCoding::Uuid
        | PgCoding::Output => Some(ValueRef::Text(text)),
    };
    value.map(Decoded::Value).ok_or_else(|| misfit(coding, bytes))
}

#[cold]
fn misfit(coding: PgCoding, bytes: &[u8]) -> PgMisfit {
    PgMisfit::new(shown(bytes), coding.wanted())
}

/// Plain digits with exactly `scale` of them behind the point.
fn decimal(text: &str, scale: u8) -> Option<Decimal> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.len() != usize::from(scale) || whole.is_empty() {
        return None;
    }
    let mut unscaled: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(byte.checked_sub(b'0').filter(|digit| *digit <= 9)?);
        unscaled = unscaled.checked_mul(10)?.checked_add(digit)?;
    }
    Some(Decimal { unscaled: if negative { -unscaled } else { unscaled }, scale: i8::try_from(scale).ok()? })
}

/// `\x` and two hexadecimal digits a byte.
fn unescape(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let start = out.len();
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for pair in digits.chunks(2) {
        let byte = match pair {
            [high, low] => nibble(*high).zip(nibble(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match byte {
            Some(byte) => out.push(byte),
            None => {
                out.truncate(start);
                return None;
            }
        }
    }
    Some(())
}

/// `YYYY-MM-DD`, with more digits of the year where it has them, and ` BC`.
fn date(text: &str) -> Option<i32> {
    match text {
        "infinity" => Some(i32::MAX),
        "-infinity" => Some(i32::MIN),
        _ => {
            let (text, before_christ) = era(text);
            i32::try_from(days(text, before_christ)?).ok()
        }
    }
}

fn era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |text| (text, true))
}

fn days(text: &str, before_christ: bool) -> Option<i64> {
    let mut parts = text.splitn(3, '-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    // 1 BC is the year before 1.
    text::days(if before_christ { 1 - year } else { year }, month, day)
}

/// Decimal digits and nothing else.
fn number(text: &str) -> Option<i64> {
    let plain = !text.is_empty() && text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// `YYYY-MM-DD HH:MM:SS[.ffffff]`, an offset where there is one, and ` BC`.
fn timestamp(text: &str, zoned: bool) -> Option<i64> {
    match text {
        "infinity" => return Some(i64::MAX),
        "-infinity" => return Some(i64::MIN),
        _ => {}
    }
    let (text, before_christ) = era(text);
    let (date, clock) = text.split_once(' ')?;
    let (clock, west_seconds) = match clock.rfind(['+', '-']) {
        Some(at) if zoned => {
            let (clock, offset) = clock.split_at_checked(at)?;
            (clock, offset_seconds(offset)?)
        }
        None if !zoned => (clock, 0),
        _ => return None,
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.splitn(3, ':').map(number);
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    if fraction.len() > 6 {
        return None;
    }
    let fraction_us = number(&format!("{fraction:0<6}"))?;
    let of_day = ((hours * 60 + minutes) * 60 + seconds + west_seconds) * 1_000_000 + fraction_us;
    let us = i128::from(days(date, before_christ)?) * i128::from(DAY_US) + i128::from(of_day);
    // The greatest and least stand for the infinities.
    i64::try_from(us).ok().filter(|us| !matches!(*us, i64::MAX | i64::MIN))
}

/// `+HH[:MM[:SS]]` as what has to be added to come to UTC.
fn offset_seconds(text: &str) -> Option<i64> {
    let (sign, digits) = match text.split_at_checked(1)? {
        ("+", digits) => (-1, digits),
        ("-", digits) => (1, digits),
        _ => return None,
    };
    let mut seconds = 0;
    for (part, unit) in digits.split(':').zip([3600, 60, 1]) {
        seconds += number(part)? * unit;
    }
    Some(sign * seconds)
}
