//! Figures as the page says them: short, with their unit, never more digits than they are worth.

use crate::report::headline::{bytes, count};

/// Seconds: `1.84 s`, `12.3 ms`, `480 µs`.
pub fn seconds(value: f64) -> String {
    crate::report::headline::seconds(value).replace(" us", " µs")
}

/// A share: `99.95 %`.
pub fn percent(value: f64) -> String {
    let share = value * 100.0;
    let near_an_end = share != 0.0 && share != 100.0 && (share.abs() < 1.0 || (share > 99.0 && share < 100.0));
    if near_an_end { format!("{share:.2} %") } else { format!("{} %", short(share)) }
}

/// A factor: `3.2x`.
pub fn times(value: f64) -> String {
    format!("{}x", short(value))
}

/// At most three digits, without zeros that say nothing.
pub fn short(value: f64) -> String {
    let text = count(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A figure in its unit.
pub fn in_unit(value: f64, unit: &str) -> String {
    match unit {
        "s" => seconds(value),
        "bytes" => bytes(value),
        "ratio" => short(value),
        "share" => percent(value),
        "1/s" => format!("{}/s", count(value.round())),
        "count" | "rows" => count(value),
        other => format!("{} {other}", short(value)),
    }
}

/// A tick of a time axis: `10 ms`, without needless digits.
pub fn seconds_tick(value: f64) -> String {
    let magnitude = value.abs();
    let (scaled, unit) = if magnitude == 0.0 {
        (0.0, "s")
    } else if magnitude >= 0.9995 {
        (value, "s")
    } else if magnitude >= 0.9995e-3 {
        (value * 1e3, "ms")
    } else {
        (value * 1e6, "µs")
    };
    format!("{} {unit}", short((scaled * 1e6).round() / 1e6))
}

/// A tick that counts: `1.2k`, `3M`.
pub fn count_tick(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1e9 {
        format!("{}G", short(value / 1e9))
    } else if magnitude >= 1e6 {
        format!("{}M", short(value / 1e6))
    } else if magnitude >= 1e3 {
        format!("{}k", short(value / 1e3))
    } else {
        short(value)
    }
}

/// A tick of a share.
pub fn percent_tick(value: f64) -> String {
    format!("{} %", short(value * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_have_their_unit() {
        assert_eq!(seconds(0.00048), "480 µs");
        assert_eq!(percent(0.9995), "99.95 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(percent(0.5), "50 %");
        assert_eq!(times(3.20), "3.2x");
        assert_eq!(seconds_tick(0.0), "0 s");
        assert_eq!(seconds_tick(0.01), "10 ms");
        assert_eq!(seconds_tick(2.5), "2.5 s");
        assert_eq!(seconds_tick(1e-6), "1 µs");
        assert_eq!(count_tick(25_000.0), "25k");
        assert_eq!(in_unit(1536.0, "bytes"), "1.50 KiB");
        assert_eq!(in_unit(3044.4, "1/s"), "3,044/s");
        assert_eq!(in_unit(23.8, "per 1000 reads"), "23.8 per 1000 reads");
    }
}
