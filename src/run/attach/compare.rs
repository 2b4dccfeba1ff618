//! Row by row: does the warehouse equal the state of the source that it stands at?
//!
//! The judge finds the tables again in that state ([`PgJudge`]). Were it to go by what the reader found out about them, both
//! would be wrong alike.

use crate::capture::postgres::PgJudge;
use crate::capture::{CaptureError, SourceSnapshot};
use crate::model::{Catalog, Key, TableId, Value, ValueRef};
use crate::oracle::{ExpectedTable, TableDiff, diff};
use crate::report::{SinkValidation, Validation};
use crate::run::RunError;
use crate::run::sink_rows::warehouse_rows;
use crate::run::verify::in_words;
use crate::sink::{SinkKind, WarehouseError, WarehouseVersion};
use crate::source::postgres::{PgCut, PgKept, PgSource};
use crate::strategy::{StrategyError, StrategyKind};
use std::collections::HashSet;
use xxhash_rust::xxh3::xxh3_64;

/// Rows of the source that are held at once; a table of more is compared in as many passes as it takes.
const ROWS_AT_ONCE: u64 = 2_000_000;

/// What a warehouse may lack without being wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Promise {
    /// Nothing.
    Equality,
    /// The rows that nobody changed since this state, for want of an initial load.
    ChangedRows(PgCut),
    /// What the strategy is known to lose; it is counted.
    Nothing,
}

impl Promise {
    /// Its name in results.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Promise::Equality => "equality",
            Promise::ChangedRows(_) => "changed rows",
            Promise::Nothing => "none",
        }
    }
}

/// What a strategy's reader goes by when it looks for the tables of the start again.
pub(super) fn kept(strategy: StrategyKind) -> PgKept {
    match strategy {
        StrategyKind::CdcLog => PgKept::Logged,
        StrategyKind::CdcTrigger => PgKept::Copied,
        _ => PgKept::Name,
    }
}

/// What is held against each other.
pub(super) struct Compared<'a> {
    pub(super) snapshot: &'a SourceSnapshot,
    pub(super) source: &'a PgSource,
    /// Of the warehouse.
    pub(super) catalog: &'a Catalog,
    pub(super) version: &'a WarehouseVersion,
    pub(super) promise: &'a Promise,
}

/// What came of one table, or a part of one.
struct Part {
    diff: TableDiff,
    /// Rows that were neither loaded nor changed since.
    absent: u64,
    /// Rows of the source that were compared.
    compared: u64,
}

/// Compares every table, and counts what differs.
pub(super) fn compare(of: &Compared<'_>, kept: PgKept) -> Result<Validation, RunError> {
    let Compared { snapshot, source, catalog, version, promise } = of;
    let Some(state) = snapshot.postgres() else {
        return Err(RunError::measuring("the state to compare with is no PostgreSQL's"));
    };
    let judge = PgJudge::of(state, source.tables(), kept).map_err(|cause| match cause {
        CaptureError::Source(cause) => RunError::Source(cause),
        cause => RunError::measuring(cause),
    })?;
    let mut validation = Validation {
        promise: promise.name().to_owned(),
        position: snapshot.position().0,
        equal: true,
        // There is no ledger here: the source is the truth.
        source_equals_ledger: true,
        ..Validation::default()
    };
    if **promise != Promise::Nothing && version.watermark() > snapshot.position() {
        let (is, end) = (version.watermark(), snapshot.position());
        validation
            .failures
            .push(format!("the warehouse stands at position {is}, behind the state to compare, at {end}"));
    }
    let (mut digests, mut compared) = (Vec::new(), 0);
    for (id, schema) in catalog.iter() {
        let known = snapshot.estimated_rows(id).map_err(RunError::measuring)?;
        let passes = version.row_count(id).max(known).div_ceil(ROWS_AT_ONCE).max(1);
        let mut found = SinkValidation {
            sink: SinkKind::Warehouse.name().to_owned(),
            table: schema.name.clone(),
            ..SinkValidation::default()
        };
        let mut sum = 0u128;
        for pass in 0..passes {
            let part = compare_part(of, &judge, id, (pass, passes))?;
            found.rows += part.diff.rows;
            found.missing += part.diff.missing;
            found.extra += part.diff.extra;
            found.wrong += part.diff.wrong;
            found.absent += part.absent;
            found.examples.extend(part.diff.examples.iter().map(|row| in_words(&part.diff.table, row)));
            sum = sum.wrapping_add(part.diff.digest.sum);
            compared += part.compared;
        }
        found.digest = format!("{sum:032x}");
        digests.push(found.digest.clone());
        if found.missing + found.extra + found.wrong > 0 {
            validation.equal = false;
            if **promise != Promise::Nothing {
                validation.failures.push(difference(&found, &moved(&judge, source, id)));
            }
        }
        validation.sinks.push(found);
    }
    if let Promise::ChangedRows(_) = promise {
        // Of the others nothing is known.
        validation.equal = false;
        validation.changed_rows = Some(compared);
    }
    validation.source_digest = digests.join(" ");
    validation.passed = validation.failures.is_empty();
    Ok(validation)
}

fn difference(found: &SinkValidation, moved: &[String]) -> String {
    let counts = format!("{} missing, {} extra, {} wrong", found.missing, found.extra, found.wrong);
    let example = found.examples.first().map_or(String::new(), |example| format!("; {example}"));
    let since = match moved {
        [] => String::new(),
        all => {
            format!("; since the start, {}: rows that this brought or took are no changes; begin again", all.join(", "))
        }
    };
    format!("the warehouse does not equal the source: table {}: {counts}{example}{since}", found.table)
}

/// What happened to a table without a statement that names its rows.
fn moved(judge: &PgJudge<'_>, source: &PgSource, id: TableId) -> Vec<String> {
    let both = judge.tables().get(id.index()).zip(source.tables().get(id.index()));
    both.map_or_else(Vec::new, |(now, before)| now.moved(before))
}

/// The rows whose keys fall into one pass.
fn compare_part(of: &Compared<'_>, judge: &PgJudge<'_>, id: TableId, pass: (u64, u64)) -> Result<Part, RunError> {
    let Some(schema) = of.catalog.tables.get(id.index()) else {
        return Err(RunError::measuring("a table without a schema"));
    };
    let mut expected = ExpectedTable::new(schema);
    let mut twice = None;
    judge
        .scan::<StrategyError>(id, None, &mut |row| {
            let key = Key::of_row(schema, row)?;
            if falls(&key, pass) {
                let row = row.iter().filter_map(|value| value.to_value()).collect();
                if expected.rows.insert(key.clone(), row).is_some() {
                    twice = Some(key);
                }
            }
            Ok(())
        })
        .map_err(RunError::measuring)?;
    if let Some(key) = twice {
        let name = &schema.name;
        return Err(RunError::measuring(format!(
            "table {name:?} has two rows of the key {key:?}; give it a unique key"
        )));
    }
    let (mut absent, mut compared) = (0, expected.rows.len() as u64);
    if let Promise::ChangedRows(since) = of.promise {
        let mut changed = HashSet::new();
        judge
            .scan::<StrategyError>(id, Some(since), &mut |row| {
                let key = Key::of_row(schema, row)?;
                if falls(&key, pass) {
                    changed.insert(key);
                }
                Ok(())
            })
            .map_err(RunError::measuring)?;
        compared = changed.len() as u64;
        let mut arrived = HashSet::new();
        for row in warehouse_rows(of.version, id) {
            let row = row.map_err(RunError::measuring)?;
            let values: Vec<ValueRef<'_>> = row.iter().map(Value::as_ref).collect();
            let key = Key::of_row(schema, &values).map_err(RunError::measuring)?;
            if falls(&key, pass) {
                arrived.insert(key);
            }
        }
        let before = expected.rows.len();
        expected.rows.retain(|key, _| changed.contains(key) || arrived.contains(key));
        absent = (before - expected.rows.len()) as u64;
    }
    let belongs = |row: &Result<Vec<Value>, WarehouseError>| {
        let Ok(row) = row else { return true };
        let values: Vec<ValueRef<'_>> = row.iter().map(Value::as_ref).collect();
        Key::of_row(schema, &values).map_or(true, |key| falls(&key, pass))
    };
    let diff = diff(&expected, || warehouse_rows(of.version, id).filter(belongs)).map_err(RunError::measuring)?;
    Ok(Part { diff, absent, compared })
}

fn falls(key: &Key, (pass, passes): (u64, u64)) -> bool {
    let hash = match key {
        Key::Int(number) => xxh3_64(&number.to_le_bytes()),
        Key::Encoded(bytes) => xxh3_64(bytes),
    };
    hash % passes == pass
}
