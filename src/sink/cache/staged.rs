//! Edits that were accepted and are not visible yet.

use super::columns::{BatchView, EncodedRows};
use super::parallel::{each, parts_of};
use super::{CacheError, CacheFill};
use crate::apply::edits::TableEdits;
use crate::model::{Key, KeyColumn, KeyRef, Lsn, TableId, TableSchema, Value};
use crate::sink::warehouse::row_values;
use arrow_array::RecordBatch;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

/// What is to be known of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change<'a> {
    /// This row.
    Row(&'a [u8]),
    /// That there is none.
    Gone,
    /// That what was known is out of date.
    Invalid,
}

/// The edits of one commit group.
#[derive(Debug)]
pub(super) struct StagedSet {
    pub(super) position: Lsn,
    pub(super) tables: Vec<StagedTable>,
}

/// The edits of one commit group to one table. They are numbered: deletes first, then upserts.
#[derive(Debug)]
pub(super) struct StagedTable {
    pub(super) table: TableId,
    pub(super) truncate: bool,
    deletes: KeyColumn,
    upserts: KeyColumn,
    batch: RecordBatch,
    /// Pieces of the edits that one thread each puts.
    pub(super) parts: Vec<Part>,
    /// Where each key is. Made when somebody asks: only partial updates do.
    places: OnceLock<HashMap<Key, usize>>,
}

/// A piece of a table's edits.
#[derive(Debug)]
pub(super) struct Part {
    range: Range<usize>,
    /// The rows of the upserts among them; none when rows are not put anyway.
    rows: EncodedRows,
}

impl StagedTable {
    /// Encodes the rows.
    ///
    /// # Errors
    /// [`CacheError::Mismatch`] when the edits do not fit the table.
    pub(super) fn new(schema: &TableSchema, edits: &TableEdits, fill: CacheFill) -> Result<StagedTable, CacheError> {
        for keys in [&edits.deletes, &edits.upsert_keys] {
            if schema.has_int_key() != matches!(keys, KeyColumn::Int(_)) && !keys.is_empty() {
                return Err(CacheError::mismatch(
                    &schema.name,
                    "keys of another kind than the table's came with edits",
                ));
            }
        }
        let ranges = parts_of(edits.len());
        let parts = if edits.upserts.num_rows() == 0 && edits.upsert_keys.is_empty() {
            ranges.into_iter().map(|range| Part { range, rows: EncodedRows::default() }).collect()
        } else {
            let view = BatchView::new(schema, &edits.upserts)?;
            view.fits_keys(&edits.upsert_keys)?;
            let first = edits.deletes.len();
            let encode = |range: &Range<usize>| {
                let rows = match fill {
                    CacheFill::Stream => {
                        view.encode_range(range.start.saturating_sub(first)..range.end.saturating_sub(first))?
                    }
                    CacheFill::Aside => EncodedRows::default(),
                };
                Ok(Part { range: range.clone(), rows })
            };
            each(&ranges, encode).into_iter().collect::<Result<_, CacheError>>()?
        };
        Ok(StagedTable {
            table: edits.table,
            truncate: edits.truncate,
            deletes: edits.deletes.clone(),
            upserts: edits.upsert_keys.clone(),
            batch: edits.upserts.clone(),
            parts,
            places: OnceLock::new(),
        })
    }

    /// Calls `put` with every edit of `part`.
    ///
    /// # Errors
    /// The first one that `put` gives.
    pub(super) fn each_put<E>(
        &self,
        part: &Part,
        fill: CacheFill,
        mut put: impl FnMut(KeyRef<'_>, Change<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let deletes = part.range.start..part.range.end.min(self.deletes.len());
        let gone = if fill == CacheFill::Aside { Change::Invalid } else { Change::Gone };
        for key in deletes.filter_map(|edit| self.deletes.get(edit)) {
            put(key, gone)?;
        }
        let first = part.range.start.saturating_sub(self.deletes.len());
        let last = part.range.end.saturating_sub(self.deletes.len());
        let keys = (first..last).filter_map(|row| self.upserts.get(row));
        if fill == CacheFill::Aside {
            return keys.into_iter().try_for_each(|key| put(key, Change::Invalid));
        }
        keys.zip(part.rows.iter()).try_for_each(|(key, row)| put(key, Change::Row(row)))
    }

    /// What these edits say of a key: `None` is nothing, `Some(None)` is that it has no row.
    fn find(&self, key: KeyRef<'_>) -> Option<Option<Vec<Value>>> {
        let all = || self.deletes.iter().chain(self.upserts.iter()).map(KeyRef::to_key);
        let places = self.places.get_or_init(|| all().zip(0..).collect());
        match places.get(&key.to_key()) {
            Some(place) => Some(place.checked_sub(self.deletes.len()).map(|row| row_values(&self.batch, row))),
            None => self.truncate.then_some(None),
        }
    }
}

/// What the edits staged last say of a key: `None` is nothing, `Some(None)` is that it has no row.
pub(super) fn find_staged(sets: &[StagedSet], table: TableId, key: KeyRef<'_>) -> Option<Option<Vec<Value>>> {
    let newest_first = sets.iter().rev().flat_map(|set| set.tables.iter().rev());
    newest_first.filter(|staged| staged.table == table).find_map(|staged| staged.find(key))
}
