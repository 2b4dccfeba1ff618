//! Text forms, as the types' output functions write them.

use super::binary::Numeric;
use std::fmt::Write;

const DIGITS: &[u8; 16] = b"0123456789abcdef";
const SECOND_US: i64 = 1_000_000;

/// Writing to a String can't fail, so its results are dropped throughout.
pub(super) fn numeric(out: &mut String, number: &Numeric<'_>) {
    if number.negative {
        out.push('-');
    }
    if number.weight < 0 {
        out.push('0');
    } else {
        let present = number.len().min(number.weight as usize + 1);
        for (place, group) in number.groups().take(present).enumerate() {
            let _ = if place == 0 { write!(out, "{group}") } else { write!(out, "{group:04}") };
        }
        if present == 0 {
            out.push('0');
        } else {
            (present..=number.weight as usize).for_each(|_| out.push_str("0000"));
        }
    }
    if number.scale == 0 {
        return;
    }
    out.push('.');
    let end = out.len() + number.scale;
    let mut weight = -1;
    while out.len() < end {
        let _ = write!(out, "{:04}", number.group(weight));
        weight -= 1;
    }
    out.truncate(end);
}

/// `HH:MM:SS` with as many digits of the fraction as are not zero; 24:00:00 is a time.
pub(super) fn time(out: &mut String, us: i64) {
    let seconds = us / SECOND_US;
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    fraction(out, (us % SECOND_US).unsigned_abs());
}

fn fraction(out: &mut String, us: u64) {
    if us != 0 {
        let _ = write!(out, ".{us:06}");
        let kept = out.trim_end_matches('0').len();
        out.truncate(kept);
    }
}

/// The offset of a time with time zone, which is stored as seconds west of Greenwich.
pub(super) fn zone(out: &mut String, west: i32) {
    let seconds = west.unsigned_abs();
    let _ = write!(out, "{}{:02}", if west <= 0 { '+' } else { '-' }, seconds / 3600);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    if minutes != 0 || seconds != 0 {
        let _ = write!(out, ":{minutes:02}");
    }
    if seconds != 0 {
        let _ = write!(out, ":{seconds:02}");
    }
}

/// An interval in the style `postgres`: a part that follows a negative one shows its plus sign.
pub(super) fn interval(out: &mut String, us: i64, days: i32, months: i32) {
    let start = out.len();
    let mut after_negative = false;
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value == 0 {
            continue;
        }
        let space = if out.len() > start { " " } else { "" };
        let plus = if after_negative && value > 0 { "+" } else { "" };
        let plural = if value == 1 { "" } else { "s" };
        let _ = write!(out, "{space}{plus}{value} {unit}{plural}");
        after_negative = value < 0;
    }
    if us == 0 && out.len() > start {
        return;
    }
    if out.len() > start {
        out.push(' ');
    }
    if us < 0 {
        out.push('-');
    } else if after_negative {
        out.push('+');
    }
    let whole = us.unsigned_abs();
    let seconds = whole / SECOND_US.unsigned_abs();
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    fraction(out, whole % SECOND_US.unsigned_abs());
}

pub(super) fn uuid(out: &mut String, bytes: &[u8; 16]) {
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            out.push(DIGITS.get(usize::from(digit)).copied().map_or('0', char::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every right side was printed by a PostgreSQL 15 server.
    #[test]
    fn intervals_as_postgresql_prints_them() {
        for (us, days, months, wanted) in [
            (0, 0, 0, "00:00:00"),
            (1, 0, 0, "00:00:00.000001"),
            (-3_600_000_000, 1, -13, "-1 years -1 mons +1 day -01:00:00"),
            (90_061_500_000, -1, 12, "1 year -1 days +25:01:01.5"),
            (0, 2, 0, "2 days"),
        ] {
            let mut out = String::new();
            interval(&mut out, us, days, months);
            assert_eq!(out, wanted);
        }
    }

    #[test]
    fn zones_show_no_more_than_they_need() {
        for (west, wanted) in [(0, "+00"), (-19_800, "+05:30"), (3_600, "-01"), (-1, "+00:00:01"), (3_661, "-01:01:01")]
        {
            let mut out = String::new();
            zone(&mut out, west);
            assert_eq!(out, wanted);
        }
    }
}
