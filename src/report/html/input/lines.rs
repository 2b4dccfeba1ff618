//! A history as `history add` keeps it: a JSON line a result.

use super::{History, HistoryPoint, HistorySeries, Input, in_words};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One line.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    benchmark: String,
    #[serde(default)]
    schema_major: Option<u32>,
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    config_hash: String,
    #[serde(default)]
    machine: String,
    #[serde(default)]
    time: Value,
    #[serde(default)]
    git: Value,
    metrics: BTreeMap<String, Figure>,
}

/// One figure of it.
#[derive(Deserialize)]
struct Figure {
    value: Option<f64>,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default)]
    direction: String,
}

/// Figures compare when all of these are equal; so they are in the decisions on a history.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    benchmark: String,
    config: String,
    machine: String,
    figure: String,
    schema_major: u32,
    unit: String,
    direction: String,
}

/// The start of a hash is enough for people.
fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}

/// The name of a series, with what tells it from the others alone.
fn name(key: &Key, several: &BTreeMap<&str, BTreeSet<(&str, &str)>>, keys: &[Key]) -> String {
    let Key { benchmark, config, machine, figure, .. } = key;
    let mut name = if benchmark.is_empty() { figure.clone() } else { format!("{benchmark}/{figure}") };
    if several.get(benchmark.as_str()).is_some_and(|places| places.len() > 1) {
        name.push_str(&format!(" (configuration {}, machine {})", short(config), short(machine)));
    }
    let place = |key: &Key| (key.benchmark.clone(), key.config.clone(), key.machine.clone(), key.figure.clone());
    let twins: Vec<&Key> = keys.iter().filter(|other| place(other) == place(key) && *other != key).collect();
    if twins.iter().any(|twin| twin.schema_major != key.schema_major) {
        name.push_str(&format!(" (schema {})", key.schema_major));
    }
    if twins.iter().any(|twin| twin.unit != key.unit) {
        name.push_str(&format!(" (in {})", key.unit));
    }
    if twins.iter().any(|twin| twin.direction != key.direction) {
        name.push_str(&format!(" ({} is better)", key.direction));
    }
    name
}

/// The series of a history; none if it is not one.
pub(super) fn lines(bytes: &[u8]) -> Option<Input> {
    let mut series: BTreeMap<Key, HistorySeries> = BTreeMap::new();
    let mut runs: BTreeSet<(String, String)> = BTreeSet::new();
    for line in serde_json::Deserializer::from_slice(bytes).into_iter::<Line>() {
        let line = line.ok()?;
        // One run counts once.
        if !line.run_id.is_empty() && !runs.insert((line.run_id.clone(), line.machine.clone())) {
            continue;
        }
        for (figure, Figure { value, unit, direction }) in line.metrics {
            let key = Key {
                benchmark: line.benchmark.clone(),
                config: line.config_hash.clone(),
                machine: line.machine.clone(),
                figure,
                schema_major: line.schema_major.unwrap_or(1),
                unit: unit.clone().unwrap_or_default(),
                direction,
            };
            let entry = series.entry(key).or_default();
            entry.unit = entry.unit.take().or(unit);
            entry.points.push(HistoryPoint { time: line.time.clone(), git: line.git.clone(), value });
        }
    }
    let keys: Vec<Key> = series.keys().cloned().collect();
    let mut several: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for key in &keys {
        several.entry(&key.benchmark).or_default().insert((&key.config, &key.machine));
    }
    let names: Vec<String> = keys.iter().map(|key| name(key, &several, &keys)).collect();
    // Lines may have been added in another order than they were measured in.
    for series in series.values_mut() {
        series.points.sort_by_cached_key(|point| in_words(&point.time));
    }
    let named = series.into_values().zip(names).map(|(series, id)| HistorySeries { id, ..series });
    let series: Vec<HistorySeries> = named.collect();
    (!series.is_empty()).then_some(Input::History(History { series, bare: true }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, usize)> {
        let Some(Input::History(history)) = lines(text.as_bytes()) else { panic!("a history") };
        assert!(history.bare);
        history.series.iter().map(|series| (series.id.clone(), series.points.len())).collect()
    }

    fn line(machine: &str, metrics: &str) -> String {
        format!(
            r#"{{"benchmark":"orders","config_hash":"0123456789","machine":"{machine}","time":"t","git":{{"commit":null}},"metrics":{{{metrics}}}}}"#
        ) + "\n"
    }

    #[test]
    fn lines_come_together_by_figure() {
        let m = r#""m":{"value":1.5,"unit":"s","direction":"lower"}"#;
        let text = line("a", m) + &line("a", &format!(r#"{m},"k":{{"value":null,"unit":"s","direction":"lower"}}"#));
        assert_eq!(read(&text), [("orders/k".to_owned(), 1), ("orders/m".to_owned(), 2)]);
        assert_eq!(read(&line("a", m)), [("orders/m".to_owned(), 1)]);
    }

    #[test]
    fn another_machine_is_another_series() {
        let m = r#""m":{"value":1.5,"unit":"s","direction":"lower"}"#;
        let told = read(&(line("a", m) + &line("b", m)));
        assert_eq!(told[0].0, "orders/m (configuration 01234567, machine a)");
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn another_unit_is_another_series_and_a_run_counts_once() {
        let of = |unit: &str| format!(r#""m":{{"value":1.5,"unit":"{unit}","direction":"lower"}}"#);
        let told = read(&(line("a", &of("s")) + &line("a", &of("ms"))));
        assert_eq!(told, [("orders/m (in ms)".to_owned(), 1), ("orders/m (in s)".to_owned(), 1)]);
        let named = line("a", &of("s")).replace("\"time\"", "\"run_id\":\"r\",\"time\"");
        assert_eq!(read(&(named.clone() + &named)), [("orders/m".to_owned(), 1)]);
    }

    #[test]
    fn what_is_no_history_is_none() {
        assert!(lines(b"{}").is_none() && lines(b"").is_none() && lines(b"{\"metrics\":{}}\n{").is_none());
    }
}
