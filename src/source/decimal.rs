//! Decimals as SQLite keeps them: text, digit by digit, scale and all.

use crate::model::Decimal;

/// The decimal's digits: `-12.50`; with a negative scale `5e2`.
pub(crate) fn to_text(decimal: Decimal) -> String {
    let Decimal { unscaled, scale } = decimal;
    if scale < 0 {
        return format!("{unscaled}e{}", -i32::from(scale));
    }
    let digits = unscaled.unsigned_abs().to_string();
    let behind = usize::from(scale.unsigned_abs());
    let sign = if unscaled < 0 { "-" } else { "" };
    if behind == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = behind + 1);
    let (whole, fraction) = padded.split_at(padded.len() - behind);
    format!("{sign}{whole}.{fraction}")
}

/// Reads what [`to_text`] writes, and plain decimal text of anybody else; `None` if it is not a decimal of at
/// most 38 digits.
pub(crate) fn from_text(text: &str) -> Option<Decimal> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut unscaled: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(byte.checked_sub(b'0').filter(|digit| *digit <= 9)?);
        unscaled = unscaled.checked_mul(10)?.checked_add(digit)?;
    }
    let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    Some(Decimal { unscaled: if negative { -unscaled } else { unscaled }, scale: i8::try_from(scale).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_their_scale() {
        for (unscaled, scale, text) in [
            (1250, 2, "12.50"),
            (-5, 3, "-0.005"),
            (0, 2, "0.00"),
            (7, 0, "7"),
            (5, -2, "5e2"),
            (-(10i128.pow(38) - 1), 38, "-0.99999999999999999999999999999999999999"),
        ] {
            let decimal = Decimal { unscaled, scale };
            assert_eq!(to_text(decimal), text);
            assert_eq!(from_text(text), Some(decimal));
        }
        for bad in ["", "-", ".", "1.2.3", "abc", "1e", "0x10", "1e999", " 1"] {
            assert_eq!(from_text(bad), None, "{bad:?}");
        }
    }
}
