//! What two results must share before their figures compare.

use crate::report::result::{FOREIGN, major};
use crate::report::{Config, Metric, RunResult};
use std::collections::BTreeSet;

/// The most settings that one line names.
const NAMED_MAX: usize = 6;

/// Why no figure of the two compares, whatever their configurations: a later schema gives figures of the same name another
/// meaning. `None` if they share it.
pub fn schemas_differ(a: &RunResult, b: &RunResult) -> Option<String> {
    (major(&a.schema_version) != major(&b.schema_version)).then(|| {
        format!(
            "version {} of the schema and version {} do not give all figures the same meaning; run both with one version of \
             freshbench",
            a.schema_version, b.schema_version
        )
    })
}

/// How the configurations differ, in words; `None` if they are equal.
pub fn configurations_differ(a: &Config, b: &Config) -> Option<String> {
    if a.hash_version != b.hash_version {
        let (side, older) = if a.hash_version < b.hash_version { ("A", a) } else { ("B", b) };
        return Some(format!(
            "the configuration of {side} is hashed in an older way (version {} against {}), so it can't be said whether the \
             configurations are equal",
            older.hash_version,
            a.hash_version.max(b.hash_version)
        ));
    }
    let differing = differing(a, b);
    if a.hash == b.hash && differing.is_empty() {
        return None;
    }
    let more = differing.len().saturating_sub(NAMED_MAX);
    let mut named: Vec<String> = differing.into_iter().take(NAMED_MAX).collect();
    if more > 0 {
        named.push(format!("{more} more"));
    }
    let named = if named.is_empty() { String::new() } else { format!(": {}", named.join("; ")) };
    Some(format!("different configurations{named}"))
}

/// The settings that differ, as `name a | b`: from both lists where there are some, and from the fields that every result has, so that a
/// hash that was kept does not hide a field that was changed.
fn differing(a: &Config, b: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let names: BTreeSet<&String> = a.settings.keys().chain(b.settings.keys()).collect();
    for name in names {
        let of = |config: &Config| config.settings.get(name).cloned().unwrap_or_else(|| "none".to_owned());
        let (first, second) = (of(a), of(b));
        if first != second {
            // Of a digest it is enough that it differs.
            let digest = name.ends_with(".definition");
            found.push(if digest { name.clone() } else { format!("{name} {first} | {second}") });
        }
    }
    if found.is_empty() {
        found = fields(a).into_iter().zip(fields(b)).filter(|(a, b)| a.1 != b.1).map(said).collect();
    }
    found
}

fn said(((name, a), (_, b)): ((&'static str, String), (&'static str, String))) -> String {
    if name == "stream_digest" { name.to_owned() } else { format!("{name} {a} | {b}") }
}

/// The fields of a configuration that say what was run. Not its source, which is an address; not how long somebody else's load was
/// followed, which is measured.
fn fields(config: &Config) -> Vec<(&'static str, String)> {
    let measured = config.arrivals == FOREIGN;
    let duration = if measured { "as measured".to_owned() } else { config.duration_s.to_string() };
    vec![
        ("workload", config.workload.clone()),
        ("seed", config.seed.to_string()),
        ("rows", config.rows.to_string()),
        ("rate", config.rate.to_string()),
        ("arrivals", config.arrivals.clone()),
        ("clients", config.clients.to_string()),
        ("duration_s", duration),
        ("warmup_s", config.warmup_s.to_string()),
        ("batch_interval_s", config.batch_interval_s.to_string()),
        ("sinks", config.sinks.join(",")),
        ("search_interval_s", config.search_interval_s.to_string()),
        ("think_s", config.think_s.to_string()),
        ("crash_rate", config.crash_rate.to_string()),
        ("reps", config.reps.to_string()),
        ("durability", config.durability.clone()),
        ("stream_digest", config.stream_digest.clone()),
    ]
}

/// Why two figures of one name are not one series: another unit or another direction. A difference of these alone is no change of
/// what is measured, and nothing is converted, since who wrote another unit may have meant another figure.
pub fn figures_differ(a: &Metric, b: &Metric) -> Option<String> {
    if a.unit != b.unit {
        return Some(format!("not compared: in {} at A and in {} at B", a.unit, b.unit));
    }
    let word = |metric: &Metric| format!("{:?}", metric.direction).to_lowercase();
    (a.direction != b.direction).then(|| format!("not compared: {} is better at A and {} at B", word(a), word(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Direction;

    fn config(pairs: &[(&str, &str)]) -> Config {
        let settings = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config { hash: format!("{pairs:?}"), hash_version: 2, settings, ..Config::default() }
    }

    #[test]
    fn the_setting_that_differs_is_named() {
        let a = config(&[("rate", "500"), ("warehouse.memory_bytes", "no limit")]);
        assert_eq!(configurations_differ(&a, &a), None);
        let b = config(&[("rate", "500"), ("warehouse.memory_bytes", "1000")]);
        let why = configurations_differ(&a, &b).unwrap();
        assert_eq!(why, "different configurations: warehouse.memory_bytes no limit | 1000");
        let fewer = config(&[("rate", "500")]);
        assert!(configurations_differ(&a, &fewer).unwrap().contains("warehouse.memory_bytes no limit | none"));
    }

    #[test]
    fn an_older_hash_is_older_and_not_other() {
        let a = config(&[]);
        let old = Config { hash_version: 1, ..config(&[("rate", "1")]) };
        let why = configurations_differ(&old, &a).unwrap();
        assert!(why.contains("A is hashed in an older way") && !why.contains("different configurations"), "{why}");
        assert!(configurations_differ(&a, &old).unwrap().contains("B is hashed in an older way"));
    }

    #[test]
    fn a_field_that_was_changed_shows_behind_an_equal_hash() {
        let a = config(&[]);
        let b = Config { rate: 7.0, ..a.clone() };
        assert_eq!(configurations_differ(&a, &b).unwrap(), "different configurations: rate 0 | 7");
        let followed = |duration_s| Config { arrivals: FOREIGN.to_owned(), duration_s, ..config(&[]) };
        assert_eq!(configurations_differ(&followed(1.0), &followed(2.0)), None);
    }

    #[test]
    fn units_and_directions_make_series() {
        let metric = |unit: &str, direction| Metric {
            id: "x".to_owned(),
            sink: None,
            unit: unit.to_owned(),
            direction,
            value: None,
            ci: None,
            n: 0,
            lower_bound: false,
            theta_s: None,
            reps: Vec::new(),
            absent: None,
        };
        let (s, ms) = (metric("s", Direction::Lower), metric("ms", Direction::Lower));
        assert_eq!(figures_differ(&s, &s), None);
        assert!(figures_differ(&s, &ms).unwrap().contains("in s at A and in ms at B"));
        assert!(figures_differ(&s, &metric("s", Direction::Higher)).unwrap().contains("higher at B"));
    }
}
