//! Row by row: does the source equal the ledger, and does the sink equal the source?

use super::RunError;
use crate::model::{Key, Lsn, TableId, Value};
use crate::oracle::{ChangeHistory, ChangeKind, Replay, RowDifference, Shape, TableDiff, diff};
use crate::probe::{Existence, RowChange};
use crate::report::{SinkValidation, Validation};
use crate::sink::warehouse::{Version, row_values};
use crate::source::{SourceError, SqliteSource};
use crate::strategy::StrategyKind;
use crate::workload::{TxnIndex, Workload};
use std::collections::HashMap;

/// What verification found, and what it learned on the way.
pub(super) struct Verified {
    pub(super) validation: Validation,
    /// Every change of a key, in commit order, if they were asked for.
    pub(super) changes: Vec<RowChange>,
    /// Changes and bytes of changed rows by commit, in commit order.
    pub(super) sizes: Vec<(Lsn, u64, u64)>,
}

/// Compares at `position`, which every commit in `commits` (in commit order) has reached.
pub(super) fn verify(
    kind: StrategyKind,
    workload: &Workload,
    source: &SqliteSource,
    commits: &[(Lsn, TxnIndex)],
    (position, version): (Lsn, Option<&Version>),
    keep_changes: bool,
) -> Result<Verified, RunError> {
    let mut replay = Replay::of_workload(workload, commits).map_err(RunError::measuring)?;
    let mut history = ChangeHistory::new();
    let mut changes = Vec::new();
    let mut sizes: Vec<(Lsn, u64, u64)> = Vec::with_capacity(commits.len());
    let widths = row_widths(workload);
    replay
        .advance(position, &mut |event| {
            let bytes = if event.kind.is_delete() { 9 } else { widths.get(&event.table).copied().unwrap_or(0) };
            match sizes.last_mut() {
                Some((lsn, count, sum)) if *lsn == event.lsn => {
                    *count += 1;
                    *sum += bytes;
                }
                _ => sizes.push((event.lsn, 1, bytes)),
            }
            if keep_changes {
                let after = if event.kind == ChangeKind::Delete { Existence::Absent } else { Existence::Present };
                changes.push(RowChange { lsn: event.lsn, table: event.table, key: event.key.clone(), after });
            }
            history.record(event);
        })
        .map_err(RunError::measuring)?;
    let mut validation = Validation {
        promise: if kind.promises_equality() { "equality" } else { "none" }.to_owned(),
        position: position.0,
        equal: version.is_some(),
        source_equals_ledger: true,
        ..Validation::default()
    };
    let shape = Shape::new(workload.catalog(), workload.transforms());
    let mut digests = Vec::new();
    for (table, schema) in workload.catalog().iter() {
        let Some(expected) = replay.state().table(table) else { continue };
        let found = diff_source(source, table, expected)?;
        digests.push(found.digest.to_string());
        if !found.is_equal() {
            validation.source_equals_ledger = false;
            validation.failures.push(failure("the source does not hold what the ledger acknowledged", &found));
        }
        let Some(version) = version else { continue };
        let expected = shape.apply(table, expected).map_err(RunError::measuring)?;
        let found = diff(&expected, || warehouse_rows(version, table)).map_err(RunError::measuring)?;
        if !found.is_equal() {
            validation.equal = false;
            let causes = history.causes(table, &found);
            for (name, count) in [
                ("lost delete", causes.lost_deletes),
                ("late commit", causes.late_commits),
                ("unexplained", causes.other),
            ] {
                if count > 0 {
                    *validation.causes.entry(name.to_owned()).or_default() += count;
                }
            }
            if kind.promises_equality() {
                validation.failures.push(failure("the warehouse does not equal the source", &found));
            }
        }
        validation.sinks.push(SinkValidation {
            sink: "warehouse".to_owned(),
            table: schema.name.clone(),
            rows: expected.rows.len() as u64,
            missing: found.missing,
            extra: found.extra,
            wrong: found.wrong,
            digest: found.digest.to_string(),
            examples: found.examples.iter().map(|row| in_words(&found.table, row)).collect(),
        });
    }
    if !kind.promises_equality() && validation.causes.contains_key("unexplained") {
        validation.failures.push("some differences have no explanation in the strategy's known flaws".to_owned());
    }
    validation.source_digest = digests.join(" ");
    validation.passed = validation.failures.is_empty();
    Ok(Verified { validation, changes, sizes })
}

/// The mean width of a row of each table, in bytes of its values, by its first thousand rows.
fn row_widths(workload: &Workload) -> HashMap<TableId, u64> {
    let width = |row: &Vec<Value>| -> u64 {
        row.iter()
            .map(|value| match value {
                Value::Null | Value::Bool(_) => 1,
                Value::Int(_) | Value::Float(_) | Value::Timestamp(_) => 8,
                Value::Date(_) => 4,
                Value::Decimal(_) => 17,
                Value::Text(text) => text.len() as u64,
                Value::Bytes(bytes) => bytes.len() as u64,
            })
            .sum()
    };
    let mean = |table| {
        let (mut rows, mut bytes) = (0, 0);
        for row in workload.initial_rows(table).take(1000) {
            rows += 1;
            bytes += width(&row);
        }
        u64::checked_div(bytes, rows).unwrap_or(0)
    };
    workload.catalog().iter().map(|(table, _)| (table, mean(table))).collect()
}

fn diff_source(
    source: &SqliteSource,
    table: TableId,
    expected: &crate::oracle::ExpectedTable,
) -> Result<TableDiff, RunError> {
    let mut rows: Vec<Vec<Value>> = Vec::with_capacity(expected.rows.len());
    source.rows::<SourceError>(table, &mut |row| {
        rows.push(row.iter().filter_map(|value| value.to_value()).collect());
        Ok(())
    })?;
    diff(expected, || rows.iter().cloned().map(Ok::<_, SourceError>)).map_err(RunError::measuring)
}

type RowResult = Result<Vec<Value>, crate::sink::WarehouseError>;

fn warehouse_rows(version: &Version, table: TableId) -> impl Iterator<Item = RowResult> + use<> {
    version.scan(table, None, None).flat_map(|batch| -> Box<dyn Iterator<Item = RowResult>> {
        match batch {
            Ok(batch) => Box::new((0..batch.num_rows()).map(move |row| Ok(row_values(&batch, row)))),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    })
}

fn failure(what: &str, diff: &TableDiff) -> String {
    let counts = format!("{} missing, {} extra, {} wrong", diff.missing, diff.extra, diff.wrong);
    let example = diff.examples.first().map_or(String::new(), |row| format!("; {}", in_words(&diff.table, row)));
    format!("{what}: table {}: {counts}{example}", diff.table)
}

fn in_words(table: &str, row: &RowDifference) -> String {
    let columns: Vec<String> = row
        .columns
        .iter()
        .take(3)
        .map(|column| {
            let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
            format!("{} should be {} and is {}", column.column, said(&column.expected), said(&column.actual))
        })
        .collect();
    format!("{table} key {} is {:?}: {}", row.key, row.difference, columns.join(", "))
        .replace("is Missing", "is missing")
        .replace("is Extra", "is extra")
        .replace("is Wrong", "is wrong")
}

/// Whether a key of `table` was there before the first transaction: asked by the visibility analysis.
pub(super) fn initial_keys(workload: &Workload) -> Result<HashMap<TableId, std::collections::HashSet<Key>>, RunError> {
    let mut all = HashMap::new();
    for (table, schema) in workload.catalog().iter() {
        let mut keys = std::collections::HashSet::new();
        for row in workload.initial_rows(table) {
            let row: Vec<_> = row.iter().map(Value::as_ref).collect();
            keys.insert(Key::of_row(schema, &row).map_err(RunError::measuring)?);
        }
        all.insert(table, keys);
    }
    Ok(all)
}
