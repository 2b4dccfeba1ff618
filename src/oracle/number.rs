//! The oracle's own numbers: exact decimals as sign, digits and a point.

use crate::model::{Decimal, Value};
use std::cmp::Ordering;

/// An exact number: `negative`, digits before the point, digits behind it. No leading zeros before the point and no
/// trailing zeros behind it, so equal numbers are equal texts; zero is not negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number {
    negative: bool,
    whole: String,
    fraction: String,
}

impl Number {
    /// Reads plain digits with an optional sign and point.
    pub(super) fn parse(text: &str) -> Option<Number> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() || !whole.chars().chain(fraction.chars()).all(|c| c.is_ascii_digit()) {
            return None;
        }
        let whole = whole.trim_start_matches('0').to_owned();
        let fraction = fraction.trim_end_matches('0').to_owned();
        let negative = negative && !(whole.is_empty() && fraction.is_empty());
        Some(Number { negative, whole, fraction })
    }

    pub(super) fn of_decimal(v: Decimal) -> Option<Number> {
        let digits = v.unscaled.unsigned_abs().to_string();
        let sign = if v.unscaled < 0 { "-" } else { "" };
        let text = match usize::try_from(v.scale) {
            Ok(scale) => {
                let padded = format!("{}{digits}", "0".repeat((scale + 1).saturating_sub(digits.len())));
                let (whole, fraction) = padded.split_at(padded.len() - scale);
                format!("{sign}{whole}.{fraction}")
            }
            Err(_) => format!("{sign}{digits}{}", "0".repeat(usize::from(v.scale.unsigned_abs()))),
        };
        Number::parse(&text)
    }

    /// The number as a decimal with exactly `scale` digits behind the point and at most `precision` digits, if it is one.
    pub(super) fn to_decimal(&self, precision: u8, scale: i8) -> Option<Value> {
        let places = usize::try_from(scale).ok()?;
        if self.fraction.len() > places {
            return None;
        }
        let digits = format!("{}{:0<places$}", self.whole, self.fraction);
        let digits = digits.trim_start_matches('0');
        if digits.len() > usize::from(precision) {
            return None;
        }
        let size: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        let unscaled = if self.negative { -size } else { size };
        Some(Value::Decimal(Box::new(Decimal { unscaled, scale })))
    }

    pub(super) fn to_int(&self) -> Option<i64> {
        self.fraction.is_empty().then(|| self.to_string().parse().ok()).flatten()
    }

    pub(super) fn compare(&self, other: &Number) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.size().cmp(&other.size()),
            (true, true) => other.size().cmp(&self.size()),
        }
    }

    fn size(&self) -> (usize, &str, &str) {
        (self.whole.len(), &self.whole, &self.fraction)
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        let point = if self.fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}0{}{point}{}", self.whole, self.fraction)
    }
}
