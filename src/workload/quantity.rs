//! Settings with a unit, and the range of every setting: one rule for files and command lines.

use super::distribution::RowsPerTxn;
use std::fmt::Display;
use std::time::Duration;

/// Reads a length of time: a number and `ns`, `us`, `ms`, `s`, `min` or `h`, as in `10s` or `1.5ms`.
///
/// # Errors
/// Says what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 6] =
        [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3_600.0)];
    let seconds = parse(text, &UNITS, "a time with its unit, such as \"10s\" or \"1ms\"")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("{text:?} is longer than a time can be"))
}

/// Reads a rate: a number and `/s`, `/min` or `/h`, as in `500/s`. Events per second.
///
/// # Errors
/// Says what would be right.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    const UNITS: [(&str, f64); 3] = [("/s", 1.0), ("/min", 1.0 / 60.0), ("/h", 1.0 / 3_600.0)];
    parse(text, &UNITS, "a rate with its unit, such as \"500/s\"")
}

/// Reads a size: a number and `B`, `kB`, `MB`, `KiB` or `MiB`, as in `100B`.
///
/// # Errors
/// Says what would be right.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 5] = [("B", 1.0), ("kB", 1e3), ("MB", 1e6), ("KiB", 1024.0), ("MiB", 1024.0 * 1024.0)];
    let bytes = parse(text, &UNITS, "a size with its unit, such as \"100B\" or \"4KiB\"")?;
    if bytes.fract() != 0.0 {
        return Err(format!("{text:?} is not a whole number of bytes"));
    }
    Ok(bytes as u64)
}

fn parse(text: &str, units: &[(&str, f64)], wanted: &str) -> Result<f64, String> {
    let wrong = || {
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        format!("{text:?} is not {wanted} (units: {})", names.join(", "))
    };
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.replace('_', "").parse().map_err(|_| wrong())?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
    Ok(number * factor)
}

fn within<T: PartialOrd + Display>(value: T, low: T, high: T) -> Result<T, String> {
    if value >= low && value <= high { Ok(value) } else { Err(format!("{value} is outside {low} to {high}")) }
}

fn whole(value: i64, low: u64, high: u64) -> Result<u64, String> {
    match u64::try_from(value) {
        Ok(value) => within(value, low, high),
        Err(_) => Err(format!("{value} is outside {low} to {high}")),
    }
}

pub(super) fn rows(value: i64) -> Result<u64, String> {
    whole(value, 1, 100_000_000)
}

pub(super) fn rate(per_s: f64) -> Result<f64, String> {
    within(per_s, 0.001, 100_000_000.0).map_err(|text| format!("{text} a second"))
}

pub(super) fn duration(length: Duration) -> Result<Duration, String> {
    within(length.as_secs_f64(), 0.001, 604_800.0).map_err(|text| format!("{text} seconds"))?;
    Ok(length)
}

pub(super) fn clients(value: i64) -> Result<u32, String> {
    whole(value, 1, 1_024).map(|v| v as u32)
}

pub(super) fn theta(value: f64) -> Result<f64, String> {
    within(value, 0.01, 0.999)
}

pub(super) fn value_bytes(value: u64) -> Result<u32, String> {
    within(value, 0, 16 * 1024 * 1024).map(|v| v as u32).map_err(|text| format!("{text} bytes"))
}

pub(super) fn fields(value: i64) -> Result<u32, String> {
    whole(value, 1, 100).map(|v| v as u32)
}

pub(super) fn scan_rows_max(value: i64) -> Result<u32, String> {
    whole(value, 1, 1_000_000).map(|v| v as u32)
}

pub(super) fn seed(value: i64) -> Result<u64, String> {
    whole(value, 0, i64::MAX as u64)
}

pub(super) fn share(weight: f64) -> Result<f64, String> {
    within(weight, 0.0, 1e9)
}

const ROWS_PER_TXN_MAX: u32 = 10_000;

pub(super) fn rows_per_txn(rows: RowsPerTxn) -> Result<RowsPerTxn, String> {
    let (min, max) = match rows {
        RowsPerTxn::Fixed(rows) => (rows, rows),
        RowsPerTxn::Uniform { min, max } | RowsPerTxn::Pareto { min, max, .. } => (min, max),
    };
    within(min, 1, ROWS_PER_TXN_MAX)?;
    within(max, 1, ROWS_PER_TXN_MAX)?;
    if min > max {
        return Err(format!("min {min} is above max {max}"));
    }
    if let RowsPerTxn::Pareto { alpha, .. } = rows {
        within(alpha, 0.01, 100.0).map_err(|text| format!("alpha {text}"))?;
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("1.5ms"), Ok(Duration::from_micros(1_500)));
        assert_eq!(parse_duration("2 min"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_rate("1_500/s"), Ok(1_500.0));
        assert_eq!(parse_rate("60/min"), Ok(1.0));
        assert_eq!(parse_bytes("100B"), Ok(100));
        assert_eq!(parse_bytes("4KiB"), Ok(4096));
    }

    #[test]
    fn a_wrong_or_missing_unit_is_an_error() {
        for text in ["10", "s", "", "-1s", "10 apples", "1e3s", "10/s", "1.2.3s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_rate("500").unwrap_err().contains("\"500/s\""));
        assert!(parse_bytes("0.5B").unwrap_err().contains("whole number"));
        assert!(rows(0).is_err() && rows(-1).is_err() && rows(100_000_001).is_err());
        assert!(theta(1.0).is_err() && theta(f64::NAN).is_err());
        assert!(rows_per_txn(RowsPerTxn::Uniform { min: 3, max: 2 }).is_err());
        assert!(rows_per_txn(RowsPerTxn::Fixed(0)).is_err());
    }
}
