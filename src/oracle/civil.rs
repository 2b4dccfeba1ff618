//! The oracle's own calendar: proleptic Gregorian, counted year by year.

/// Days of a year.
fn days_of(year: i64) -> i64 {
    365 + i64::from(is_leap(year))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days in every run of 400 years.
const DAYS_400: i64 = 146_097;

/// The year (0 is 1 BC) of a day counted from 1970-01-01.
pub(super) fn year_of_day(days: i64) -> i64 {
    let mut year = 1970 + 400 * days.div_euclid(DAYS_400);
    let mut left = days.rem_euclid(DAYS_400);
    while left >= days_of(year) {
        left -= days_of(year);
        year += 1;
    }
    year
}

/// The day, counted from 1970-01-01, that `YYYY-MM-DD` names.
pub(super) fn day_of_text(text: &str) -> Option<i64> {
    let [year, month, day] = fields(text, '-', [4, 2, 2])?;
    let february = 28 + i64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month - 1).ok()?;
    if day < 1 || day > *months.get(before)? {
        return None;
    }
    let years: i64 =
        if year >= 1970 { (1970..year).map(days_of).sum() } else { -(year..1970).map(days_of).sum::<i64>() };
    Some(years + months.iter().take(before).sum::<i64>() + day - 1)
}

/// The microsecond, counted from 1970-01-01 00:00 UTC, that an RFC 3339 text in UTC names.
pub(super) fn microsecond_of_text(text: &str) -> Option<i64> {
    let text = text.to_ascii_uppercase().replacen('T', " ", 1);
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let (date, clock) = text.split_once(' ')?;
    let (clock, fraction) = match clock.split_once('.') {
        Some((clock, fraction)) => (clock, fraction),
        None => (clock, "0"),
    };
    let [hour, minute, second] = fields(clock, ':', [2, 2, 2])?;
    if hour > 23 || minute > 59 || second > 59 || fraction.len() > 6 {
        return None;
    }
    let padded = format!("{fraction:0<6}");
    let [fraction_us] = fields(&padded, ' ', [6])?;
    Some(((day_of_text(date)? * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + fraction_us)
}

fn fields<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut out = [0; N];
    let parts: Vec<&str> = text.split(separator).collect();
    if parts.len() != N {
        return None;
    }
    for ((place, part), width) in out.iter_mut().zip(parts).zip(widths) {
        if part.len() != width || !part.chars().all(|c| c.is_ascii_digit()) {
            return None;
        }
        *place = part.parse().ok()?;
    }
    Some(out)
}
