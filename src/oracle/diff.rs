//! What is there against what should be there.

use super::digest::{Digest, TableDigest, row_hash, same};
use super::error::OracleError;
use super::table::{ExpectedTable, key_of, key_text};
use crate::model::{Key, Value, text};
use std::collections::BTreeMap;

/// Differing rows shown in full; all of them are counted, and all their keys are kept.
const EXAMPLES_MAX: usize = 20;
/// Rows that are there and differ are kept up to this number, for comparing several systems with each other.
pub const ACTUAL_MAX: usize = 100_000;
/// Longer values are cut in examples.
const SHOWN_CHARS_MAX: usize = 200;

/// How a key differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It should have a row and has none.
    Missing,
    /// It has a row (or one more) and should not.
    Extra,
    /// Its row has other values.
    Wrong,
}

/// The difference of one table.
#[derive(Clone, Debug)]
pub struct TableDiff {
    /// The table's name.
    pub table: String,
    /// Rows that are there.
    pub rows: u64,
    /// Rows that should be there and are not.
    pub missing: u64,
    /// Rows that should not be there.
    pub extra: u64,
    /// Rows with wrong values.
    pub wrong: u64,
    /// Digest of what is there.
    pub digest: Digest,
    /// Digest of what should be there.
    pub expected_digest: Digest,
    /// Every differing key, in key order.
    pub keys: Vec<(Key, Difference)>,
    /// What is there under the extra and wrong ones of them, up to 100,000 rows.
    pub actual: BTreeMap<Key, Vec<Value>>,
    /// The first of them in full.
    pub examples: Vec<RowDifference>,
}

/// One differing row in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowDifference {
    /// How it differs.
    pub difference: Difference,
    /// Its key.
    pub id: Key,
    /// Its key values, for people.
    pub key: String,
    /// The columns that differ; all of them for a missing or extra row.
    pub columns: Vec<ColumnDifference>,
}

/// One differing value, in PostgreSQL's text form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDifference {
    /// The column.
    pub column: String,
    /// What should be there; `None` for an extra row.
    pub expected: Option<String>,
    /// What is there; `None` for a missing row.
    pub actual: Option<String>,
}

impl TableDiff {
    /// Whether what is there is what should be there.
    pub fn is_equal(&self) -> bool {
        self.missing + self.extra + self.wrong == 0
    }
}

/// Compares a table's rows with the expected ones, by key and canonical row hash.
///
/// `actual` gives the rows that are there, in any order and in the expected table's columns; it is called once if
/// all is equal, and a second time to open the buckets of keys that differ. It must give the same rows both times.
///
/// # Errors
/// [`OracleError::Actual`] when the rows can't be read, [`OracleError::NoKey`] when one has no key.
pub fn diff<I, E>(expected: &ExpectedTable, actual: impl Fn() -> I) -> Result<TableDiff, OracleError>
where
    I: IntoIterator<Item = Result<Vec<Value>, E>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let schema = &expected.schema;
    let mut scratch = Vec::new();
    let mut wanted = TableDigest::default();
    for (key, row) in &expected.rows {
        wanted.add(key, row, &mut scratch);
    }
    let unreadable = |e: E| OracleError::Actual { table: schema.name.clone(), cause: e.into() };
    let mut found = TableDigest::default();
    for row in actual() {
        let row = row.map_err(unreadable)?;
        found.add(&key_of(schema, &row)?, &row, &mut scratch);
    }
    let mut diff = TableDiff {
        table: schema.name.clone(),
        rows: found.total().rows,
        missing: 0,
        extra: 0,
        wrong: 0,
        digest: found.total(),
        expected_digest: wanted.total(),
        keys: Vec::new(),
        actual: BTreeMap::new(),
        examples: Vec::new(),
    };
    if found == wanted {
        return Ok(diff);
    }
    let mut opened: BTreeMap<Key, Vec<Vec<Value>>> = BTreeMap::new();
    for row in actual() {
        let row = row.map_err(unreadable)?;
        let key = key_of(schema, &row)?;
        if found.differs_at(&wanted, &key) {
            opened.entry(key).or_default().push(row);
        }
    }
    for (key, row) in expected.rows.iter().filter(|(key, _)| found.differs_at(&wanted, key)) {
        match opened.remove(key) {
            None => diff.add(expected, key, Difference::Missing, Some(row), None),
            Some(rows) => diff.compare(expected, key, row, &rows, &mut scratch),
        }
    }
    for (key, rows) in &opened {
        rows.iter().for_each(|row| diff.add(expected, key, Difference::Extra, None, Some(row)));
    }
    diff.keys.sort_by(|a, b| a.0.cmp(&b.0));
    diff.examples.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(diff)
}

impl TableDiff {
    /// One expected row against the rows of its key: one of them should be equal, the rest are too many.
    fn compare(
        &mut self,
        table: &ExpectedTable,
        key: &Key,
        expected: &[Value],
        actual: &[Vec<Value>],
        scratch: &mut Vec<u8>,
    ) {
        let wanted = row_hash(expected, scratch);
        let equal = actual.iter().position(|row| row_hash(row, scratch) == wanted);
        let counterpart = equal.unwrap_or(0);
        for (place, row) in actual.iter().enumerate() {
            if place != counterpart {
                self.add(table, key, Difference::Extra, None, Some(row));
            } else if equal.is_none() {
                self.add(table, key, Difference::Wrong, Some(expected), Some(row));
            }
        }
    }

    fn add(
        &mut self,
        table: &ExpectedTable,
        key: &Key,
        difference: Difference,
        expected: Option<&[Value]>,
        actual: Option<&[Value]>,
    ) {
        match difference {
            Difference::Missing => self.missing += 1,
            Difference::Extra => self.extra += 1,
            Difference::Wrong => self.wrong += 1,
        }
        self.keys.push((key.clone(), difference));
        if let Some(row) = actual.filter(|_| self.actual.len() < ACTUAL_MAX) {
            self.actual.insert(key.clone(), row.to_vec());
        }
        if self.examples.len() < EXAMPLES_MAX {
            let columns = differing_columns(table, expected, actual);
            let (id, key) = (key.clone(), key_text(&table.schema, expected.or(actual).unwrap_or_default()));
            self.examples.push(RowDifference { difference, id, key, columns });
        }
    }
}

fn differing_columns(
    table: &ExpectedTable,
    expected: Option<&[Value]>,
    actual: Option<&[Value]>,
) -> Vec<ColumnDifference> {
    let width = table.schema.columns.len().max(expected.map_or(0, <[_]>::len)).max(actual.map_or(0, <[_]>::len));
    let mut differing = Vec::new();
    for place in 0..width {
        let (wanted, found) = (expected.and_then(|row| row.get(place)), actual.and_then(|row| row.get(place)));
        if let (Some(wanted), Some(found)) = (wanted, found)
            && same(wanted, found)
        {
            continue;
        }
        let name = table.schema.columns.get(place).map(|c| c.name.clone());
        let (mut wanted_text, mut found_text) = (wanted.map(shown), found.map(shown));
        if wanted_text == found_text {
            // `1` the integer and `1` the float look alike.
            let typed = |value: &Value| format!("{} {}", value.as_ref().type_name(), shown(value));
            (wanted_text, found_text) = (wanted.map(typed), found.map(typed));
        }
        differing.push(ColumnDifference {
            column: name.unwrap_or_else(|| format!("#{place}")),
            expected: wanted_text,
            actual: found_text,
        });
    }
    differing
}

fn shown(value: &Value) -> String {
    let mut shown = text::describe(value);
    if let Some((cut, _)) = shown.char_indices().nth(SHOWN_CHARS_MAX) {
        shown.truncate(cut);
        shown.push_str("...");
    }
    shown
}
