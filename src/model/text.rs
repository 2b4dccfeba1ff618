//! Values in PostgreSQL's text form, and rows as CSV and JSON lines.
//!
//! The forms are those of a server with `DateStyle = ISO`, `TimeZone = UTC`, `bytea_output = hex` and
//! `extra_float_digits = 1`, so that `dump | diff` against `COPY ... TO` of the record system works.

mod float;

use super::value::{Decimal, Value, ValueRef};
use float::write_float;
use std::fmt::{self, Write};

/// Days from 0000-03-01 to 1970-01-01 in the proleptic Gregorian calendar.
const EPOCH_FROM_MARCH_0000_DAYS: i64 = 719_468;
/// Days in one 400-year cycle.
const ERA_DAYS: i64 = 146_097;
const DAY_US: i64 = 86_400_000_000;

/// Shows a value in PostgreSQL's text form. NULL shows as nothing at all and a value that was not sent as
/// `unchanged`: callers that must tell NULL from an empty text ask first.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a>(pub ValueRef<'a>);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(f, self.0)
    }
}

/// Writes a value in PostgreSQL's text form; nothing for NULL.
///
/// # Errors
/// Only those of `out`.
pub fn write_text(out: &mut impl Write, value: ValueRef<'_>) -> fmt::Result {
    match value {
        ValueRef::Null => Ok(()),
        ValueRef::Unchanged => out.write_str("unchanged"),
        ValueRef::Bool(v) => out.write_str(if v { "t" } else { "f" }),
        ValueRef::Int(v) => write!(out, "{v}"),
        ValueRef::Float(v) => write_float(out, v),
        ValueRef::Float32(v) => write_float(out, v),
        ValueRef::Decimal(v) => write_decimal(out, v),
        ValueRef::Text(v) => out.write_str(v),
        ValueRef::Bytes(v) => write_bytes(out, v),
        ValueRef::Date(v) => write_date(out, v),
        ValueRef::Timestamp(v) => write_timestamp(out, v, ' ', "+00"),
        ValueRef::LocalTimestamp(v) => write_timestamp(out, v, ' ', ""),
    }
}

/// Several values for a message: NULL as `NULL`, text quoted, the rest in PostgreSQL's text form, `, ` between.
pub fn describe_values<'a>(values: impl IntoIterator<Item = ValueRef<'a>>) -> String {
    let mut out = String::new();
    for (place, value) in values.into_iter().enumerate() {
        if place > 0 {
            out.push_str(", ");
        }
        // Writing to a String does not fail.
        let _ = match value {
            ValueRef::Null => out.write_str("NULL"),
            ValueRef::Text(v) => write!(out, "{v:?}"),
            other => write_text(&mut out, other),
        };
    }
    out
}

/// One value for a message; see [`describe_values`].
pub fn describe(value: &Value) -> String {
    describe_values([value.as_ref()])
}

fn write_decimal(out: &mut impl Write, v: Decimal) -> fmt::Result {
    if v.unscaled < 0 {
        out.write_char('-')?;
    }
    let digits = v.unscaled.unsigned_abs();
    let Ok(scale @ 1..) = usize::try_from(v.scale) else {
        write!(out, "{digits}")?;
        let zeros = if v.unscaled == 0 { 0 } else { v.scale.unsigned_abs() };
        return (0..zeros).try_for_each(|_| out.write_char('0'));
    };
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    write!(out, "{whole}.{fraction}")
}

fn write_bytes(out: &mut impl Write, v: &[u8]) -> fmt::Result {
    out.write_str("\\x")?;
    v.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
}

/// Year (0 is 1 BC), month and day of a day counted from 1970-01-01.
///
/// Howard Hinnant's `civil_from_days`: years begin in March, so the leap day is the last one.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + EPOCH_FROM_MARCH_0000_DAYS;
    let era = shifted.div_euclid(ERA_DAYS);
    let day_of_era = shifted.rem_euclid(ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a year (0 is 1 BC), month and day, if there is such a day.
///
/// Howard Hinnant's `days_from_civil`. The year is of at most twelve digits.
pub fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let year_of_era = shifted.rem_euclid(400);
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    // February 30 would be March 1 or 2: only a day that comes back as itself is one.
    (civil(days) == (year, month, day)).then_some(days)
}

/// Writes the date and gives whether it is before year 1 (then the caller ends with ` BC`).
fn write_civil(out: &mut impl Write, days: i64) -> Result<bool, fmt::Error> {
    let (year, month, day) = civil(days);
    let before_christ = year <= 0;
    let shown = if before_christ { 1 - year } else { year };
    write!(out, "{shown:04}-{month:02}-{day:02}")?;
    Ok(before_christ)
}

fn write_date(out: &mut impl Write, days: i32) -> fmt::Result {
    match days {
        i32::MAX => out.write_str("infinity"),
        i32::MIN => out.write_str("-infinity"),
        _ => {
            if write_civil(out, i64::from(days))? {
                out.write_str(" BC")?;
            }
            Ok(())
        }
    }
}

/// `2024-01-02 03:04:05+00` with the separator ' ' and the zone "+00", as `timestamptz` is shown; `to_json` writes 'T'
/// and "+00:00". A timestamp without time zone has no zone.
fn write_timestamp(out: &mut impl Write, us: i64, separator: char, zone: &str) -> fmt::Result {
    match us {
        i64::MAX => return out.write_str("infinity"),
        i64::MIN => return out.write_str("-infinity"),
        _ => {}
    }
    let before_christ = write_civil(out, us.div_euclid(DAY_US))?;
    let of_day = us.rem_euclid(DAY_US);
    let seconds = of_day / 1_000_000;
    write!(out, "{separator}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
    let mut fraction = of_day % 1_000_000;
    if fraction != 0 {
        let mut width = 6;
        while fraction % 10 == 0 {
            fraction /= 10;
            width -= 1;
        }
        write!(out, ".{fraction:0width$}")?;
    }
    out.write_str(zone)?;
    if before_christ { out.write_str(" BC") } else { Ok(()) }
}

/// Writes one row as `COPY ... TO (FORMAT csv)` does, with the line's end: NULL is nothing, the empty text is
/// `""`, a field with a comma, quote or line break is quoted.
///
/// # Errors
/// Only those of `out`.
pub fn write_csv_row<'a>(
    out: &mut impl Write,
    row: impl IntoIterator<Item = ValueRef<'a>, IntoIter: ExactSizeIterator>,
) -> fmt::Result {
    let row = row.into_iter();
    let alone = row.len() == 1;
    for (place, value) in row.enumerate() {
        if place > 0 {
            out.write_char(',')?;
        }
        match value {
            ValueRef::Text(text) => write_csv_text(out, text, alone)?,
            other => write_text(out, other)?,
        }
    }
    out.write_char('\n')
}

/// Writes a header line or any text field by the rules of [`write_csv_row`].
fn write_csv_text(out: &mut impl Write, text: &str, alone: bool) -> fmt::Result {
    // A line of `\.` alone would end the data for COPY FROM.
    let quoted = text.is_empty() || text.contains([',', '"', '\n', '\r']) || (alone && text == "\\.");
    if !quoted {
        return out.write_str(text);
    }
    out.write_char('"')?;
    for (place, piece) in text.split('"').enumerate() {
        if place > 0 {
            out.write_str("\"\"")?;
        }
        out.write_str(piece)?;
    }
    out.write_char('"')
}

/// Writes the header line of a CSV file.
///
/// # Errors
/// Only those of `out`.
pub fn write_csv_header(out: &mut impl Write, names: &[&str]) -> fmt::Result {
    write_csv_row(out, names.iter().map(|name| ValueRef::Text(name)).collect::<Vec<_>>())
}

/// Writes one row as a line of JSON, with the line's end, as `row_to_json` writes it: numbers as numbers
/// (`NaN` and the infinities as strings), timestamps in ISO 8601, bytes as `"\\x.."`.
///
/// # Errors
/// Only those of `out`.
pub fn write_json_row<'a>(
    out: &mut impl Write,
    names: &[&str],
    row: impl IntoIterator<Item = ValueRef<'a>>,
) -> fmt::Result {
    out.write_char('{')?;
    for (place, (name, value)) in names.iter().zip(row).enumerate() {
        if place > 0 {
            out.write_char(',')?;
        }
        write_json_text(out, name)?;
        out.write_char(':')?;
        write_json_value(out, value)?;
    }
    out.write_str("}\n")
}

fn write_json_value(out: &mut impl Write, value: ValueRef<'_>) -> fmt::Result {
    match value {
        ValueRef::Null | ValueRef::Unchanged => out.write_str("null"),
        ValueRef::Bool(v) => out.write_str(if v { "true" } else { "false" }),
        ValueRef::Float(v) if v.is_finite() => write_float(out, v),
        ValueRef::Float32(v) if v.is_finite() => write_float(out, v),
        ValueRef::Int(_) | ValueRef::Decimal(_) => write_text(out, value),
        ValueRef::Text(v) => write_json_text(out, v),
        ValueRef::Timestamp(v) | ValueRef::LocalTimestamp(v) => {
            out.write_char('"')?;
            let zone = if matches!(value, ValueRef::Timestamp(_)) { "+00:00" } else { "" };
            write_timestamp(out, v, 'T', zone)?;
            out.write_char('"')
        }
        ValueRef::Bytes(v) => {
            out.write_str("\"\\")?;
            write_bytes(out, v)?;
            out.write_char('"')
        }
        ValueRef::Float(_) | ValueRef::Float32(_) | ValueRef::Date(_) => {
            out.write_char('"')?;
            write_text(out, value)?;
            out.write_char('"')
        }
    }
}

fn write_json_text(out: &mut impl Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\u{8}' => out.write_str("\\b")?,
            '\u{c}' => out.write_str("\\f")?,
            c if c < ' ' => write!(out, "\\u{:04x}", c as u32)?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: ValueRef<'_>) -> String {
        Text(value).to_string()
    }

    /// Every right side was printed by a PostgreSQL 15 server.
    #[test]
    fn floats_as_postgresql_prints_them() {
        for (v, wanted) in [
            (1e15, "1e+15"),
            (123456789012345.0, "123456789012345"),
            (123456789012345.6, "123456789012345.6"),
            (999999999999999.9, "999999999999999.9"),
            (1e23, "9.999999999999999e+22"),
            (8.41e21, "8.409999999999999e+21"),
            (9007199254740993.0, "9.007199254740992e+15"),
            (1099514114116857.3, "1.0995141141168572e+15"),
            (685_047_179_210_286.3, "685047179210286.2"),
            (2.9802322387695313e-08, "2.9802322387695312e-08"),
            (5.075883674631299e-116, "5.075883674631299e-116"),
            (-1200.0, "-1200"),
            (5e-324, "5e-324"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-0.0, "-0"),
            (0.0, "0"),
            (1e20, "1e+20"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (2.2250738585072014e-308, "2.2250738585072014e-308"),
            (9.5367431640625e-07, "9.5367431640625e-07"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(text(ValueRef::Float(v)), wanted);
        }
    }

    /// Every right side was printed by a PostgreSQL 15 server.
    #[test]
    fn short_floats_as_postgresql_prints_them() {
        for (v, wanted) in [
            (0.1f32, "0.1"),
            (16777216.0, "1.6777216e+07"),
            (123456.0, "123456"),
            (1e6, "1e+06"),
            (3.4028235e38, "3.4028235e+38"),
            (1e-45, "1e-45"),
            (-0.0, "-0"),
            (f32::NAN, "NaN"),
            (0.0001, "0.0001"),
            (1e-5, "1e-05"),
        ] {
            assert_eq!(text(ValueRef::Float32(v)), wanted);
        }
    }

    /// Every right side was printed by a PostgreSQL 15 server.
    #[test]
    fn times_as_postgresql_prints_them() {
        for (us, wanted) in [
            (1_704_164_645_678_900, "2024-01-02 03:04:05.6789+00"),
            (1_704_164_645_678_901, "2024-01-02 03:04:05.678901+00"),
            (-63_517_780_800_000_000, "0044-03-15 12:00:00+00 BC"),
            (9_223_372_036_854_775_806, "294247-01-10 04:00:54.775806+00"),
            (-210_866_803_200_000_000, "4714-11-24 00:00:00+00 BC"),
            (-1, "1969-12-31 23:59:59.999999+00"),
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
        ] {
            assert_eq!(text(ValueRef::Timestamp(us)), wanted);
        }
        for (days, wanted) in [(-719_163, "0001-12-31 BC"), (0, "1970-01-01"), (i32::MAX, "infinity")] {
            assert_eq!(text(ValueRef::Date(days)), wanted);
        }
    }

    #[test]
    fn every_day_of_the_calendar_follows_the_one_before() {
        let (mut year, mut month, mut day) = civil(-1_000_000);
        for days in -999_999..1_000_000 {
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 => 28 + i64::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            (year, month, day) = match (month, day == last) {
                (_, false) => (year, month, day + 1),
                (12, true) => (year + 1, 1, 1),
                (_, true) => (year, month + 1, 1),
            };
            assert_eq!(civil(days), (year, month, day), "day {days}");
        }
        assert_eq!(civil(0), (1970, 1, 1));
    }

    #[test]
    fn decimals_keep_their_scale() {
        for (unscaled, scale, wanted) in
            [(0, 2, "0.00"), (-5, 2, "-0.05"), (123, -2, "12300"), (0, -2, "0"), (150, 2, "1.50"), (7, 0, "7")]
        {
            assert_eq!(text(ValueRef::Decimal(Decimal { unscaled, scale })), wanted);
        }
        let least = Decimal { unscaled: i128::MIN, scale: 38 };
        assert_eq!(text(ValueRef::Decimal(least)), "-1.70141183460469231731687303715884105728");
    }

    #[test]
    fn csv_as_copy_writes_it() {
        let csv = |row: &[ValueRef<'_>]| {
            let mut out = String::new();
            write_csv_row(&mut out, row.iter().copied()).unwrap();
            out
        };
        let t = ValueRef::Text;
        let row = [ValueRef::Null, t(""), t("a,b"), t("a\"b"), t("x\ny"), t("\\."), t(" s "), t("a\rb")];
        assert_eq!(csv(&row), ",\"\",\"a,b\",\"a\"\"b\",\"x\ny\",\\., s ,\"a\rb\"\n");
        assert_eq!(csv(&[t("\\.")]), "\"\\.\"\n");
        assert_eq!(csv(&[ValueRef::Null]), "\n");
        assert_eq!(csv(&[ValueRef::Bool(true), ValueRef::Bytes(b"\0\xff")]), "t,\\x00ff\n");
    }

    #[test]
    fn json_as_row_to_json_writes_it() {
        let mut out = String::new();
        let row = [
            ValueRef::Float(f64::NAN),
            ValueRef::Float(-0.0),
            ValueRef::Timestamp(-63_517_780_799_500_000),
            ValueRef::Bytes(b"\0\xff"),
            ValueRef::Decimal(Decimal { unscaled: 150, scale: 2 }),
            ValueRef::Text("\u{1}\u{1f}/\u{8}\u{c}\"\\"),
            ValueRef::Null,
        ];
        write_json_row(&mut out, &["a", "b", "c", "d", "e", "f", "g\""], row).unwrap();
        let wanted = concat!(
            r#"{"a":"NaN","b":-0,"c":"0044-03-15T12:00:00.5+00:00 BC","d":"\\x00ff","e":1.50,"#,
            r#""f":"\u0001\u001f/\b\f\"\\","g\"":null}"#,
            "\n"
        );
        assert_eq!(out, wanted);
    }
}
