//! One sentence a strategy, which a person can decide from, and figures in human units.

use super::result::{Case, Metric};
use super::standing::Standing;

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

/// Where those who read a sink are, which decides when a commit is there for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// In the process that feeds it: they see what is visible.
    Inside,
    /// In other processes, which open its folder.
    Outside,
}

/// The results of a case, in one sentence.
pub fn sentence(case: &Case, readers: Readers) -> String {
    if !case.validation.passed {
        return format!("FAILED: {}.", case.validation.failures.join("; "));
    }
    if case.name == "control" {
        return control_sentence(case);
    }
    let cost = cost_clause(case);
    let trust = trust_clause(case);
    let lost = "freshness.age_without_lost.mean";
    // At a sink that lost commits their age grows for ever: of the others more can be said.
    let age = at_each_sink(case, |sink| {
        case.metric_at(lost, Some(sink)).or_else(|| case.metric_at("freshness.age.mean", Some(sink)))
    });
    if case.metric(lost).is_some() {
        format!("{trust}; what does arrive is on average {age} behind{cost}.")
    } else {
        let lag = at_each_sink(case, |sink| case.metric_at("freshness.commit_lag.p99", Some(sink)));
        let outside = at_each_sink(case, |sink| case.metric_at("freshness.readable_lag.p99", Some(sink)));
        if lag.is_empty() && outside.is_empty() {
            return format!("{trust}; no commit came through while it was measured, so its lag is not known{cost}.");
        }
        if outside.is_empty() {
            return format!(
                "{trust}; 99 % of the commits are visible within {lag}; on average the data is {age} behind{cost}."
            );
        }
        match readers {
            Readers::Inside => format!(
                "{trust}; 99 % of the commits are visible in this process within {lag}, and readable by others within \
                 {outside}; on average the data is {age} behind{cost}."
            ),
            Readers::Outside => {
                let age = at_each_sink(case, |sink| case.metric_at("freshness.readable_age.mean", Some(sink)));
                format!(
                    "{trust}; 99 % of the commits are readable by other processes within {outside}, and visible in this one \
                     within {lag}; on average what others read is {age} behind{cost}."
                )
            }
        }
    }
}

/// What following costs: cores, and CPU for each change at the source.
fn cost_clause(case: &Case) -> String {
    let cores = case.value("cost.cpu_cores").map(|cores| format!("{} cores", three_digits(cores)));
    let each = case.value("cost.cpu_s_per_1k_changes").map(|v| format!("{} of CPU for 1,000 changes", seconds(v)));
    let said: Vec<String> = cores.into_iter().chain(each).collect();
    if said.is_empty() { String::new() } else { format!("; {}", said.join(", ")) }
}

/// A time at each sink that has it: `1.2 ms (warehouse), 110 ms (search)`.
fn at_each_sink<'a>(case: &'a Case, figure: impl Fn(&str) -> Option<&'a Metric>) -> String {
    let said = sinks(case).into_iter().filter_map(|sink| {
        let metric = figure(sink)?;
        let value = seconds(metric.value?);
        let more = if metric.lower_bound { "more than " } else { "" };
        Some(format!("{more}{value} ({})", metric.sink.as_deref().unwrap_or("all")))
    });
    said.collect::<Vec<_>>().join(", ")
}

/// The sinks of a case, in the order in which they were compared.
pub(super) fn sinks(case: &Case) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for sink in &case.validation.sinks {
        if !names.contains(&sink.sink.as_str()) {
            names.push(&sink.sink);
        }
    }
    names
}

/// A sink as a sentence names it.
fn in_full(sink: &str) -> &str {
    if sink == "search" { "search index" } else { sink }
}

fn trust_clause(case: &Case) -> String {
    let validation = &case.validation;
    let sum = |sink: &str, pick: fn(&super::SinkValidation) -> u64| {
        validation.sinks.iter().filter(|entry| entry.sink == sink).map(pick).sum::<u64>()
    };
    let sinks = sinks(case);
    if let Some(changed) = validation.changed_rows {
        let before = validation.sinks.iter().map(|entry| entry.absent).sum::<u64>();
        return format!(
            "Began empty: the {} rows of the source that changed since were compared, and are the same; its {} others were \
             neither loaded nor compared",
            count(changed as f64),
            count(before as f64)
        );
    }
    if validation.equal {
        let rows = sinks.first().map_or(0, |sink| sum(sink, |entry| entry.rows));
        let place = match sinks.len() {
            1 => String::new(),
            _ => format!(" in {}", sinks.iter().map(|sink| in_full(sink)).collect::<Vec<_>>().join(", ")),
        };
        let rows = count(rows as f64);
        let but = Standing::of(case).reservations();
        return match but.is_empty() {
            true => format!("Equals the source row by row{place} ({rows} rows)"),
            false => format!("Equal this time{place} ({rows} rows), but {}", but.join(", and ")),
        };
    }
    let differing = sinks.iter().filter_map(|sink| {
        let divergent = sum(sink, |entry| entry.missing + entry.extra + entry.wrong);
        (divergent > 0).then(|| format!("{} in the {}", count(divergent as f64), in_full(sink)))
    });
    let differing: Vec<String> = differing.collect();
    let causes: Vec<String> =
        validation.causes.iter().map(|(cause, n)| format!("{} {cause}", count(*n as f64))).collect();
    let why = if causes.is_empty() { String::new() } else { format!(": {}", causes.join(", ")) };
    format!(
        "DIFFERS from the source, which its way of working makes likely (rows: {}{why})",
        if differing.is_empty() { "0".to_owned() } else { differing.join(", ") }
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
