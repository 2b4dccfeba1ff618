//! The folded changes of one table in one commit group.

use super::edits::{CurrentRows, TableEdits};
use super::error::ApplyError;
use super::key_index::KeyIndex;
use crate::model::key::KeyError;
use crate::model::row::encode_row;
use crate::model::{ChangeRef, CodecError, KeyColumn, KeyRef, RowRef, RowValues, ValueRef, text};
use crate::transform::{Kept, RowBuilders, TableTransform};
use arrow_array::RecordBatch;
use std::mem;
use std::ops::Range;

/// What a key comes to at the end of the group, so far.
#[derive(Clone, Debug)]
enum Image {
    /// The group has not touched the row; the key is known as the old key of nothing yet.
    Untouched,
    /// No row.
    Absent,
    /// This row: a place in the group's arena. If it has values that were not sent, they are those of the row
    /// that the sink had before the group under the key with number `base`.
    Row { at: Range<usize>, base: Option<usize> },
}

/// One table's part of a commit group.
///
/// Guarantees: an image is what the record system had after the changes so far, in their order. Row bytes are
/// copied into one arena, so folding an insert, a delete or a whole update allocates only as the arena, the index and
/// the images grow. An update with values that were not sent takes a copy of the image that it is merged with, and a
/// row of more columns than a [`RowValues`] holds in place allocates whenever it is read.
#[derive(Debug)]
pub(super) struct TableGroup {
    transform: TableTransform,
    truncated: bool,
    index: KeyIndex,
    images: Vec<Image>,
    arena: Vec<u8>,
    key_scratch: Vec<u8>,
}

/// Why a change could not be folded; the folder adds the commit.
pub(super) enum FoldFault {
    Codec(CodecError),
    Apply(ApplyError),
}

impl From<CodecError> for FoldFault {
    fn from(error: CodecError) -> FoldFault {
        FoldFault::Codec(error)
    }
}

impl From<ApplyError> for FoldFault {
    fn from(error: ApplyError) -> FoldFault {
        FoldFault::Apply(error)
    }
}

impl TableGroup {
    pub(super) fn new(transform: &TableTransform) -> TableGroup {
        TableGroup {
            transform: transform.clone(),
            truncated: false,
            index: KeyIndex::for_table(transform.source()),
            images: Vec::new(),
            arena: Vec::new(),
            key_scratch: Vec::new(),
        }
    }

    /// Nothing was folded since the last [`TableGroup::clear`].
    pub(super) fn is_empty(&self) -> bool {
        !self.truncated && self.images.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.truncated = false;
        self.index.clear();
        self.images.clear();
        self.arena.clear();
    }

    pub(super) fn fold(&mut self, change: ChangeRef<'_>) -> Result<(), FoldFault> {
        match change {
            ChangeRef::Insert { row, .. } => {
                let number = self.number_of_row(row)?.0;
                self.put(number, row, None);
            }
            ChangeRef::Update { old_key: None, row, .. } => match self.number_of_row(row)? {
                (number, false) => self.put(number, row, None),
                (number, true) => self.put_merged(number, number, &row.values()?)?,
            },
            ChangeRef::Update { old_key: Some(key), row, .. } => self.fold_key_change(key, row)?,
            ChangeRef::Delete { key, .. } => {
                let number = self.number_of(&key.values()?)?;
                self.set(number, Image::Absent);
            }
            ChangeRef::Truncate { .. } => {
                self.clear();
                self.truncated = true;
            }
        }
        Ok(())
    }

    /// An update that says the key before: the key may have changed.
    fn fold_key_change(&mut self, old_key: RowRef<'_>, row: RowRef<'_>) -> Result<(), FoldFault> {
        let (mut values, old) = (row.values()?, old_key.values()?);
        let from = self.number_of(&old)?;
        // Key columns that were not sent keep their value from the old key.
        for (&place, &old) in self.transform.source().key.iter().zip(&old) {
            if let Some(value @ ValueRef::Unchanged) = values.get_mut(place) {
                *value = old;
            }
        }
        let source = self.transform.source();
        let key: RowValues<'_> =
            source.key.iter().map(|&place| values.get(place).copied().unwrap_or(ValueRef::Null)).collect();
        let number = self.number_of(&key)?;
        if values.contains(&ValueRef::Unchanged) {
            self.put_merged(number, from, &values)?;
        } else {
            // A key value that was not sent has been filled in: the row must be encoded anew.
            self.put_values(number, &values, None)?;
        }
        if from != number {
            self.set(from, Image::Absent);
        }
        Ok(())
    }

    /// Puts an update with values that were not sent: they come from the newest image of the row it updates, or
    /// stay open until the sink is asked for the row as it was before the group.
    fn put_merged(&mut self, number: usize, from: usize, values: &[ValueRef<'_>]) -> Result<(), FoldFault> {
        let (earlier, base) = match self.images.get(from) {
            Some(Image::Row { at, base }) => (Some(at.clone()), *base),
            Some(Image::Untouched) if !self.truncated => (None, Some(from)),
            _ => return Err(self.missing_base(values).into()),
        };
        let Some(at) = earlier else { return self.put_values(number, values, base).map_err(FoldFault::from) };
        // The arena is read while the merged row is written behind it: take the old bytes out first.
        let old_bytes = self.arena.get(at).unwrap_or_default().to_vec();
        let old = RowRef::new(&old_bytes).values()?;
        let mut merged = RowValues::from_slice(values);
        for (value, &old) in merged.iter_mut().zip(&old) {
            if *value == ValueRef::Unchanged {
                *value = old;
            }
        }
        let base = if merged.contains(&ValueRef::Unchanged) { base } else { None };
        self.put_values(number, &merged, base)?;
        Ok(())
    }

    fn put(&mut self, number: usize, row: RowRef<'_>, base: Option<usize>) {
        let start = self.arena.len();
        self.arena.extend_from_slice(row.as_bytes());
        self.set(number, Image::Row { at: start..self.arena.len(), base });
    }

    fn put_values(&mut self, number: usize, values: &[ValueRef<'_>], base: Option<usize>) -> Result<(), CodecError> {
        let start = self.arena.len();
        encode_row(&mut self.arena, values.iter().copied())?;
        self.set(number, Image::Row { at: start..self.arena.len(), base });
        Ok(())
    }

    fn set(&mut self, number: usize, image: Image) {
        if let Some(place) = self.images.get_mut(number) {
            *place = image;
        }
    }

    /// The number of the row's key, and whether the row has values that were not sent.
    #[inline]
    fn number_of_row(&mut self, row: RowRef<'_>) -> Result<(usize, bool), FoldFault> {
        if let (KeyColumn::Int(_), &[place]) = (self.index.keys(), &self.transform.source().key[..])
            && let Some((key, open)) = row.pick_int(place)?
            && let Ok(number) = self.number_of_key(KeyRef::Int(key))
        {
            return Ok((number, open));
        }
        let mut key = RowValues::new();
        let open = row.pick(&self.transform.source().key, &mut key)?;
        Ok((self.number_of(&key)?, open))
    }

    /// The number of the key with these values (the key columns', in key order).
    fn number_of(&mut self, key: &[ValueRef<'_>]) -> Result<usize, ApplyError> {
        let mut scratch = std::mem::take(&mut self.key_scratch);
        let number = if key.len() == self.transform.source().key.len() {
            KeyRef::encode_in(&mut scratch, key).and_then(|key| self.number_of_key(key))
        } else {
            Err(KeyError::Missing)
        };
        self.key_scratch = scratch;
        number.map_err(|cause| ApplyError::Key {
            table: self.transform.source().name.clone(),
            key: text::describe_values(key.iter().copied()),
            cause,
        })
    }

    #[inline]
    fn number_of_key(&mut self, key: KeyRef<'_>) -> Result<usize, KeyError> {
        let number = self.index.number_of(key)?;
        if number == self.images.len() {
            self.images.push(Image::Untouched);
        }
        Ok(number)
    }

    fn missing_base(&self, row: &[ValueRef<'_>]) -> ApplyError {
        let source = self.transform.source();
        let key = text::describe_values(source.key.iter().filter_map(|&place| row.get(place).copied()));
        ApplyError::MissingBase { table: source.name.clone(), key }
    }

    #[cold]
    fn unreadable(&self, row: RowRef<'_>, cause: CodecError) -> ApplyError {
        let (source, mut key) = (self.transform.source(), RowValues::new());
        // It was read when the row was folded, so this does not fail.
        let _ = row.pick(&source.key, &mut key);
        let key = text::describe_values(key);
        ApplyError::Row { table: source.name.clone(), key, cause }
    }

    /// The edits that the folded changes come to, in parts that end at the row that reaches `bytes_max` bytes: a column of
    /// text holds 2 GiB, and a transaction may bring more.
    pub(super) fn edits(&self, current: &dyn CurrentRows, bytes_max: usize) -> Result<Vec<TableEdits>, ApplyError> {
        let output = self.transform.output();
        let mut builders = self.transform.builders(self.images.len());
        let (mut deletes, mut upsert_keys) = (KeyColumn::for_table(output), KeyColumn::for_table(output));
        let (mut parts, mut bytes) = (Vec::new(), 0);
        for (key, image) in self.index.keys().iter().zip(&self.images) {
            let kept = match image {
                Image::Untouched => continue,
                Image::Absent => Kept::FilteredOut,
                Image::Row { at, base } => {
                    let (kept, width) = self.push_row(&mut builders, at, *base, current)?;
                    bytes += width;
                    kept
                }
            };
            let added = match kept {
                Kept::Yes => upsert_keys.push(key),
                // After a truncate there is nothing left to delete.
                Kept::FilteredOut if self.truncated => Ok(()),
                Kept::FilteredOut => deletes.push(key),
            };
            added.map_err(|cause| ApplyError::Key { table: output.name.clone(), key: key.describe(), cause })?;
            if bytes >= bytes_max {
                let empty = || KeyColumn::for_table(output);
                let (deletes, upsert_keys) =
                    (mem::replace(&mut deletes, empty()), mem::replace(&mut upsert_keys, empty()));
                parts.push(self.part(parts.is_empty(), deletes, upsert_keys, builders.finish()?));
                bytes = 0;
            }
        }
        parts.push(self.part(parts.is_empty(), deletes, upsert_keys, builders.finish()?));
        parts.retain(|part| !part.is_empty());
        Ok(parts)
    }

    fn part(&self, is_first: bool, deletes: KeyColumn, upsert_keys: KeyColumn, upserts: RecordBatch) -> TableEdits {
        let (table, truncate) = (self.transform.table(), self.truncated && is_first);
        TableEdits { table, truncate, deletes, upsert_keys, upserts }
    }

    fn push_row(
        &self,
        builders: &mut RowBuilders,
        at: &Range<usize>,
        base: Option<usize>,
        current: &dyn CurrentRows,
    ) -> Result<(Kept, usize), ApplyError> {
        let mut width = at.len();
        let image = RowRef::new(self.arena.get(at.clone()).unwrap_or_default());
        // Columns beside the key are first read here, and which commit of the group brought the row is not known.
        let unreadable = |cause| self.unreadable(image, cause);
        let kept = match base.and_then(|number| self.index.keys().get(number)) {
            None => builders.push_encoded(image).map_err(unreadable)?,
            Some(key) => {
                let row = current.current_row(self.transform.table(), key)?;
                let values = row.iter().flatten().map(|value| value.as_ref().width_bytes() as usize);
                width += values.sum::<usize>();
                builders.push_over(&image.values().map_err(unreadable)?, row.as_deref())
            }
        };
        Ok((kept?, width))
    }
}
