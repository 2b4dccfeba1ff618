//! Row by row: does the warehouse equal the state of the source that it stands at?

use crate::capture::SourceSnapshot;
use crate::model::{Catalog, Key, TableId, Value, ValueRef};
use crate::oracle::{ExpectedTable, TableDiff, diff};
use crate::report::{SinkValidation, Validation};
use crate::run::RunError;
use crate::run::sink_rows::warehouse_rows;
use crate::run::verify::in_words;
use crate::sink::{SinkKind, WarehouseError, WarehouseVersion};
use crate::strategy::StrategyError;
use xxhash_rust::xxh3::xxh3_64;

/// Rows of the source that are held at once; a table of more is compared in as many passes as it takes.
const ROWS_AT_ONCE: u64 = 2_000_000;

/// What a warehouse may lack without being wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// Nothing.
    Equality,
    /// The rows that nobody changed since it began, for want of an initial load.
    ChangedRows,
    /// What the strategy is known to lose; it is counted.
    Nothing,
}

impl Promise {
    /// Its name in results.
    pub(super) fn name(self) -> &'static str {
        match self {
            Promise::Equality => "equality",
            Promise::ChangedRows => "changed rows",
            Promise::Nothing => "none",
        }
    }
}

/// Compares every table, and counts what differs.
pub(super) fn compare(
    snapshot: &SourceSnapshot,
    catalog: &Catalog,
    version: &WarehouseVersion,
    promise: Promise,
) -> Result<Validation, RunError> {
    let mut validation = Validation {
        promise: promise.name().to_owned(),
        position: snapshot.position().0,
        equal: true,
        // There is no ledger here: the source is the truth.
        source_equals_ledger: true,
        ..Validation::default()
    };
    if promise != Promise::Nothing && version.watermark() > snapshot.position() {
        let (is, end) = (version.watermark(), snapshot.position());
        validation
            .failures
            .push(format!("the warehouse stands at position {is}, behind the state to compare, at {end}"));
    }
    let mut digests = Vec::new();
    for (id, schema) in catalog.iter() {
        let known = snapshot.estimated_rows(id).map_err(RunError::measuring)?;
        let passes = version.row_count(id).max(known).div_ceil(ROWS_AT_ONCE).max(1);
        let mut found = SinkValidation {
            sink: SinkKind::Warehouse.name().to_owned(),
            table: schema.name.clone(),
            rows: 0,
            missing: 0,
            extra: 0,
            wrong: 0,
            absent: 0,
            digest: String::new(),
            examples: Vec::new(),
        };
        let mut sum = 0u128;
        for pass in 0..passes {
            let diff = compare_part(snapshot, (id, catalog), version, (pass, passes))?;
            let missing = if promise == Promise::ChangedRows { 0 } else { diff.missing };
            found.rows += diff.rows;
            found.missing += missing;
            found.extra += diff.extra;
            found.wrong += diff.wrong;
            found.absent += diff.missing - missing;
            found.examples.extend(diff.examples.iter().map(|row| in_words(&diff.table, row)));
            sum = sum.wrapping_add(diff.digest.sum);
        }
        found.digest = format!("{sum:032x}");
        digests.push(found.digest.clone());
        if found.missing + found.extra + found.wrong > 0 {
            validation.equal = false;
            if promise != Promise::Nothing {
                let counts = format!("{} missing, {} extra, {} wrong", found.missing, found.extra, found.wrong);
                let example = found.examples.first().map_or(String::new(), |example| format!("; {example}"));
                let table = &schema.name;
                validation
                    .failures
                    .push(format!("the warehouse does not equal the source: table {table}: {counts}{example}"));
            }
        }
        validation.sinks.push(found);
    }
    validation.source_digest = digests.join(" ");
    validation.passed = validation.failures.is_empty();
    Ok(validation)
}

/// The rows whose keys fall into one pass.
fn compare_part(
    snapshot: &SourceSnapshot,
    (id, catalog): (TableId, &Catalog),
    version: &WarehouseVersion,
    part: (u64, u64),
) -> Result<TableDiff, RunError> {
    let Some(schema) = catalog.tables.get(id.index()) else {
        return Err(RunError::measuring("a table without a schema"));
    };
    let mut expected = ExpectedTable::new(schema);
    for range in snapshot.ranges(id, 1).map_err(RunError::measuring)? {
        snapshot
            .scan::<StrategyError>(0, id, &range, &mut |row| {
                let key = Key::of_row(schema, row)?;
                if falls(&key, part) {
                    expected.rows.insert(key, row.iter().filter_map(|value| value.to_value()).collect());
                }
                Ok(())
            })
            .map_err(RunError::measuring)?;
    }
    let belongs = |row: &Result<Vec<Value>, WarehouseError>| {
        let Ok(row) = row else { return true };
        let values: Vec<ValueRef<'_>> = row.iter().map(Value::as_ref).collect();
        Key::of_row(schema, &values).map_or(true, |key| falls(&key, part))
    };
    diff(&expected, || warehouse_rows(version, id).filter(belongs)).map_err(RunError::measuring)
}

fn falls(key: &Key, (pass, passes): (u64, u64)) -> bool {
    let hash = match key {
        Key::Int(number) => xxh3_64(&number.to_le_bytes()),
        Key::Encoded(bytes) => xxh3_64(bytes),
    };
    hash % passes == pass
}
