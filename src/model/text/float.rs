//! Floats in PostgreSQL's text form: the shortest digits that read back as the same number.

use std::fmt::{self, LowerExp, Write};
use std::str::FromStr;

/// Decimal exponents below this one are written in scientific form.
const SCIENTIFIC_BELOW: i32 = -4;

/// What differs between the two widths of IEEE floats.
pub(super) trait Float: Copy + PartialEq + LowerExp + FromStr {
    /// Decimal exponents from here up are written in scientific form, as PostgreSQL does.
    const SCIENTIFIC_FROM: i32;
    /// Shorter decimals lie too far apart for two of them to mean the same float.
    const PLACES_OF_TIES: usize;
    /// With so many digits every float reads back as itself.
    const PLACES_MAX: usize;
    /// Bits of the significand without the leading one.
    const FRACTION_BITS: u32;

    /// As the wider float, exactly.
    fn wide(self) -> f64;
    /// The significand's bits without the leading one, and the exponent of the last of them.
    fn parts(self) -> (u64, i32);
}

impl Float for f64 {
    const SCIENTIFIC_FROM: i32 = 15;
    const PLACES_OF_TIES: usize = 15;
    const PLACES_MAX: usize = 17;
    const FRACTION_BITS: u32 = 52;

    fn wide(self) -> f64 {
        self
    }

    fn parts(self) -> (u64, i32) {
        let bits = self.abs().to_bits();
        (bits & ((1 << 52) - 1), (bits >> 52) as i32 - 1075)
    }
}

impl Float for f32 {
    const SCIENTIFIC_FROM: i32 = 6;
    const PLACES_OF_TIES: usize = 6;
    const PLACES_MAX: usize = 9;
    const FRACTION_BITS: u32 = 23;

    fn wide(self) -> f64 {
        f64::from(self)
    }

    fn parts(self) -> (u64, i32) {
        let bits = self.abs().to_bits();
        (u64::from(bits & ((1 << 23) - 1)), (bits >> 23) as i32 - 150)
    }
}

/// The shortest digits that read back as the same number; fixed or scientific as PostgreSQL chooses.
pub(super) fn write_float<F: Float>(out: &mut impl Write, v: F) -> fmt::Result {
    let wide = v.wide();
    if wide.is_nan() {
        return out.write_str("NaN");
    }
    if wide.is_infinite() {
        return out.write_str(if wide > 0.0 { "Infinity" } else { "-Infinity" });
    }
    if wide == 0.0 {
        return out.write_str(if wide.is_sign_negative() { "-0" } else { "0" });
    }
    let scientific = shortest_digits(v);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (SCIENTIFIC_BELOW..F::SCIENTIFIC_FROM).contains(&exponent) {
        return write_fixed(out, digits, exponent);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// Writes `d.ddd × 10^exponent` without an exponent.
fn write_fixed(out: &mut impl Write, digits: &str, exponent: i32) -> fmt::Result {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let digits = digits.replacen('.', "", 1);
    out.write_str(sign)?;
    let before_point = usize::try_from(exponent + 1).unwrap_or(0);
    match digits.split_at_checked(before_point) {
        None => write!(out, "{digits:0<before_point$}"),
        Some((whole, "")) => out.write_str(whole),
        Some(("", fraction)) => write!(out, "0.{}{fraction}", "0".repeat((-1 - exponent).unsigned_abs() as usize)),
        Some((whole, fraction)) => write!(out, "{whole}.{fraction}"),
    }
}

/// The shortest digits, as `d.ddde±x`, that read back as `v` whichever way a reader rounds halves.
///
/// The standard library's shortest digits may lie exactly half way to the next float and rely on the reader
/// rounding half to even (1e23); PostgreSQL does not use such digits, and writes more of them. And where `v` lies
/// exactly half way between two shortest decimals, PostgreSQL takes the one with the even last digit.
fn shortest_digits<F: Float>(v: F) -> String {
    let shortest = format!("{v:e}");
    let places = shortest.split('e').next().map_or(0, |digits| digits.bytes().filter(u8::is_ascii_digit).count());
    let usable = !is_half_way(&shortest, v);
    if usable && places < F::PLACES_OF_TIES {
        return shortest;
    }
    // The standard library's digits at a given precision are rounded half to even. Just below a power of two they may
    // be nearest and yet belong to the next float; then the shortest ones stand.
    let most = if usable { places } else { F::PLACES_MAX };
    (places.saturating_sub(1)..most)
        .map(|precision| format!("{v:.precision$e}"))
        .find(|digits| digits.parse().is_ok_and(|read: F| read == v) && !is_half_way(digits, v))
        .unwrap_or(shortest)
}

/// Whether the decimal `digits` (`d.ddde±x`) lies exactly half way between `v` and one of its neighbours.
///
/// A decimal of so few digits can do so only as `d × 10^k` with `0 <= k <= 23`: half way is an odd integer, one bit
/// longer than a significand, times a power of two, and must be divisible by `5^k`. Both sides are compared divided by `2^k`.
fn is_half_way<F: Float>(digits: &str, v: F) -> bool {
    let Some((mantissa, exponent)) = digits.split_once('e') else { return false };
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i32);
    let Ok(power) = exponent.parse::<i32>().map(|e| e - fraction) else { return false };
    if !(0..=23).contains(&power) {
        return false;
    }
    let decimal: u128 = mantissa.bytes().filter(u8::is_ascii_digit).fold(0, |n, d| n * 10 + u128::from(d - b'0'));
    let (significand, binary_exponent) = v.parts();
    let Ok(shift @ 1..=70) = u32::try_from(binary_exponent - power) else { return false };
    let exact = u128::from(significand | 1 << F::FRACTION_BITS) << shift;
    let half = 1u128 << (shift - 1);
    let scaled = decimal * 5u128.pow(power.unsigned_abs());
    // Below a power of two the floats lie twice as close.
    let half_below = if significand == 0 { half } else { 2 * half };
    scaled == exact + half || 2 * scaled == 2 * exact - half_below
}
