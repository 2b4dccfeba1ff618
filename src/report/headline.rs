//! One sentence a strategy, which a person can decide from, and figures in human units.

use super::result::Case;

/// Seconds as people say them: `1.84 s`, `12.3 ms`, `480 us`.
pub fn seconds(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 {
        "0 s".to_owned()
    } else if magnitude >= 100.0 {
        format!("{value:.0} s")
    } else if magnitude >= 1.0 {
        format!("{value:.2} s")
    } else if magnitude >= 1e-3 {
        format!("{} ms", three_digits(value * 1e3))
    } else {
        format!("{} us", three_digits(value * 1e6))
    }
}

/// Bytes as people say them, in powers of 1,024.
pub fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = value;
    let mut unit = 0;
    while scaled.abs() >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{} {}", three_digits(scaled), UNITS[unit])
}

/// A count with a thousands separator, or three digits when it is small and broken.
pub fn count(value: f64) -> String {
    if value.fract() != 0.0 && value.abs() < 1000.0 {
        return three_digits(value);
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if value < 0.0 { format!("-{grouped}") } else { grouped }
}

fn three_digits(value: f64) -> String {
    let magnitude = value.abs();
    let places = if magnitude >= 99.95 {
        0
    } else if magnitude >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.places$}")
}

/// What came out of a case, in one sentence.
pub fn sentence(case: &Case) -> String {
    if !case.validation.passed {
        return format!("FAILED: {}.", case.validation.failures.join("; "));
    }
    if case.name == "control" {
        return control_sentence(case);
    }
    let time = |id: &str| case.metric(id).and_then(|m| m.value.map(|v| (v, m.lower_bound)));
    let said = |id: &str| match time(id) {
        Some((value, true)) => format!("more than {}", seconds(value)),
        Some((value, false)) => seconds(value),
        None => "an unknown time".to_owned(),
    };
    let trust = trust_clause(case);
    let cost = case
        .value("cost.cpu_s_per_1k_changes")
        .map_or(String::new(), |v| format!("; {} of CPU for 1,000 changes", seconds(v)));
    let age = case.metric("freshness.age_without_lost.mean").and_then(|m| m.value);
    match age {
        Some(age) if !case.validation.equal => {
            format!("{trust}; what does arrive is {} behind on average{cost}.", seconds(age))
        }
        _ => format!(
            "{trust}; half of the commits are visible within {}, 99 % within {}; the data is {} behind on average{cost}.",
            said("freshness.commit_lag.p50"),
            said("freshness.commit_lag.p99"),
            said("freshness.age.mean"),
        ),
    }
}

fn trust_clause(case: &Case) -> String {
    let validation = &case.validation;
    let sum = |pick: fn(&super::SinkValidation) -> u64| validation.sinks.iter().map(pick).sum::<u64>();
    if validation.equal {
        return format!("Equals the source row by row ({} rows)", count(sum(|s| s.rows) as f64));
    }
    let causes: Vec<String> =
        validation.causes.iter().map(|(cause, n)| format!("{} {cause}", count(*n as f64))).collect();
    let why = if causes.is_empty() { String::new() } else { format!(": {}", causes.join(", ")) };
    format!(
        "DIFFERS from the source, which its way of working makes likely ({} missing, {} extra, {} wrong{why})",
        count(sum(|s| s.missing) as f64),
        count(sum(|s| s.extra) as f64),
        count(sum(|s| s.wrong) as f64)
    )
}

fn control_sentence(case: &Case) -> String {
    let said = |id: &str| case.value(id).map_or("an unknown time".to_owned(), seconds);
    format!(
        "The source alone, nothing following it: {} changes/s, commits take {} (p50) and {} (p99) from their intended start.",
        case.value("throughput.changes_per_s").map_or("?".to_owned(), count),
        said("source.commit_latency.p50"),
        said("source.commit_latency.p99"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_said_in_human_units() {
        assert_eq!(seconds(0.0), "0 s");
        assert_eq!(seconds(1.8449), "1.84 s");
        assert_eq!(seconds(0.0123), "12.3 ms");
        assert_eq!(seconds(0.00048), "480 us");
        assert_eq!(seconds(250.4), "250 s");
        assert_eq!(bytes(1536.0), "1.50 KiB");
        assert_eq!(count(1_234_567.0), "1,234,567");
        assert_eq!(count(-999.0), "-999");
        assert_eq!(count(1.25), "1.25");
    }
}
