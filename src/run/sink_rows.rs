//! What each sink holds, as rows that can be compared with the expected ones.

use super::RunError;
use super::verify::SinkDifference;
use crate::model::{Column, Key, TableId, TableSchema, Value};
use crate::oracle::{Difference, ExpectedTable, TableDiff, diff};
use crate::sink::warehouse::row_values;
use crate::sink::{CacheError, CacheReader, Lookup, SearchView, WarehouseError, WarehouseVersion};
use std::collections::{BTreeMap, HashSet};

type RowResult = Result<Vec<Value>, WarehouseError>;

/// The rows of a table in a version of the warehouse.
pub(super) fn warehouse_rows(version: &WarehouseVersion, table: TableId) -> impl Iterator<Item = RowResult> + use<> {
    version.scan(table, None, None).flat_map(|batch| -> Box<dyn Iterator<Item = RowResult>> {
        match batch {
            Ok(batch) => Box::new((0..batch.num_rows()).map(move |row| Ok(row_values(&batch, row)))),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    })
}

/// One table of the search index.
pub(super) struct SearchRows<'a> {
    pub(super) view: &'a SearchView,
    pub(super) table: TableId,
}

/// Compares the stored documents with the expected rows' kept columns, and then searches for each key: one that should be
/// there must be found once, and one whose document is gone must not be found at all.
pub(super) fn search_difference(
    rows: &SearchRows<'_>,
    expected: &ExpectedTable,
) -> Result<Option<SinkDifference>, RunError> {
    let columns = rows.view.columns(rows.table).to_vec();
    if columns.is_empty() {
        return Ok(None);
    }
    let expected = project(expected, &columns);
    let diff = diff(&expected, || rows.view.rows(rows.table)).map_err(RunError::measuring)?;
    let differing: HashSet<&Key> = diff.keys.iter().map(|(key, _)| key).collect();
    let mut unfindable = 0;
    for key in expected.rows.keys().filter(|key| !differing.contains(key)) {
        unfindable += u64::from(rows.view.hits(rows.table, key.as_ref()).map_err(RunError::measuring)? != 1);
    }
    for (key, difference) in &diff.keys {
        let hits = rows.view.hits(rows.table, key.as_ref()).map_err(RunError::measuring)?;
        unfindable += u64::from((hits == 0) != (*difference == Difference::Missing));
    }
    unfindable += unfound_words(rows, &expected, &differing)?;
    Ok(Some(SinkDifference { diff, columns, absent: 0, unfindable }))
}

/// Rows of a table whose words are searched for.
const WORD_ROWS: usize = 200;
/// Hits of a word that are looked through for its row; a word that is so common proves nothing.
const WORD_HITS_MAX: usize = 1_000;

/// Of a sample of the rows, spread over the table: those that a search for a word of one of their texts does not find.
fn unfound_words(rows: &SearchRows<'_>, expected: &ExpectedTable, differing: &HashSet<&Key>) -> Result<u64, RunError> {
    let step = (expected.rows.len() / WORD_ROWS).max(1);
    let mut unfound = 0;
    for (key, row) in expected.rows.iter().step_by(step).filter(|(key, _)| !differing.contains(key)) {
        let Some(word) = longest_word(&expected.schema, row) else { continue };
        let hits = rows.view.search(word, WORD_HITS_MAX).map_err(RunError::measuring)?;
        let found = hits.iter().any(|(table, hit)| *table == rows.table && hit == key);
        unfound += u64::from(!found && hits.len() < WORD_HITS_MAX);
    }
    Ok(unfound)
}

/// The longest word of a row's texts that the index has as it is: a run of letters and digits, not so long that it is left out.
fn longest_word<'a>(schema: &TableSchema, row: &'a [Value]) -> Option<&'a str> {
    let texts = row.iter().enumerate().filter(|(place, _)| !schema.key.contains(place));
    let texts = texts.filter_map(|(_, value)| if let Value::Text(text) = value { Some(&**text) } else { None });
    let words = texts.flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    words.filter(|word| (1..=32).contains(&word.len()) && word.is_ascii()).max_by_key(|word| word.len())
}

/// The expected rows, of these columns only.
fn project(expected: &ExpectedTable, columns: &[usize]) -> ExpectedTable {
    let schema = &expected.schema;
    let kept: Vec<Column> = columns.iter().filter_map(|&column| schema.columns.get(column).cloned()).collect();
    let key = schema.key.iter().filter_map(|key| columns.iter().position(|column| column == key)).collect();
    let mut table = ExpectedTable::new(&TableSchema { name: schema.name.clone(), columns: kept, key });
    table.rows = expected
        .rows
        .iter()
        .map(|(key, row)| (key.clone(), columns.iter().filter_map(|&column| row.get(column).cloned()).collect()))
        .collect();
    table
}

/// One table of the cache.
pub(super) struct CacheRows<'a> {
    pub(super) reader: &'a CacheReader,
    pub(super) table: TableId,
    /// Whether rows may be absent: a cache that readers fill, or one with a limit.
    pub(super) may_miss: bool,
}

/// Compares the entries with the expected rows: equal or absent. An entry that says "there is no such row" is a claim,
/// and wrong where the source has one. Where every row was put and none is ever evicted, an absent one was lost.
pub(super) fn cache_difference(rows: &CacheRows<'_>, expected: &ExpectedTable) -> Result<SinkDifference, RunError> {
    let mut held = Vec::new();
    for entry in rows.reader.entries(rows.table).map_err(RunError::measuring)? {
        let (_, _, row) = entry.map_err(RunError::measuring)?;
        held.extend(row);
    }
    let present = || held.iter().cloned().map(Ok::<_, CacheError>);
    let mut diff = diff(expected, present).map_err(RunError::measuring)?;
    let absent = if rows.may_miss && diff.missing > 0 { forgive(rows, &mut diff)? } else { 0 };
    let columns = (0..expected.schema.columns.len()).collect();
    Ok(SinkDifference { diff, columns, absent, unfindable: 0 })
}

/// Takes the keys that the cache simply does not know out of the difference; returns how many.
fn forgive(rows: &CacheRows<'_>, diff: &mut TableDiff) -> Result<u64, RunError> {
    let mut unknown = BTreeMap::new();
    for (key, _) in diff.keys.iter().filter(|(_, difference)| *difference == Difference::Missing) {
        let found = rows.reader.get(rows.table, key.as_ref()).map_err(RunError::measuring)?;
        unknown.insert(key.clone(), matches!(found, Lookup::Miss));
    }
    let forgiven = |key: &Key| unknown.get(key).copied().unwrap_or(false);
    let count = unknown.values().filter(|&&unknown| unknown).count() as u64;
    diff.missing -= count;
    diff.keys.retain(|(key, _)| !forgiven(key));
    diff.examples.retain(|row| !forgiven(&row.id));
    Ok(count)
}
