//! Chunks: rows that never change, in memory or still on disk, and slots: a chunk with its dead rows.

use super::WarehouseError;
use super::columns::{TableShape, integer_range};
use super::deleted::Deleted;
use super::index::Address;
use super::manifest::KeyText;
use super::segment::Segment;
use crate::model::{KeyColumn, KeyRef};
use arrow_array::types::Int64Type;
use arrow_array::{Array, PrimitiveArray, RecordBatch};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The smallest and largest value of each integer-like column (see `columns::integer_range`).
pub(super) type Ranges = Vec<Option<(i64, i64)>>;

/// What the manifest says of a segment's rows.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) key_range: (KeyText, KeyText),
    pub(super) ranges: Ranges,
}

/// Rows at the addresses `start..start + rows` of their table.
///
/// The rows are decoded from the segment at first use and kept. (A bound on the memory would let go of `batch`
/// here, for chunks that have a segment.)
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) shape: Arc<TableShape>,
    pub(super) start: Address,
    pub(super) rows: usize,
    /// How many of the rows were in a segment before they came into this chunk.
    pub(super) rewritten: usize,
    batch: OnceLock<RecordBatch>,
    keys: OnceLock<KeyColumn>,
    ranges: OnceLock<Ranges>,
    key_range: OnceLock<(KeyText, KeyText)>,
    segment: OnceLock<Arc<Segment>>,
    loading: Mutex<()>,
}

impl Chunk {
    /// A chunk of rows in memory. `batch` conforms to `shape`.
    pub(super) fn of_rows(shape: &Arc<TableShape>, start: Address, batch: RecordBatch, rewritten: usize) -> Chunk {
        let rows = batch.num_rows();
        Chunk { batch: OnceLock::from(batch), ..Chunk::bare(shape, start, rows, rewritten) }
    }

    /// A chunk whose rows are in a segment.
    pub(super) fn of_segment(shape: &Arc<TableShape>, start: Address, segment: Arc<Segment>, known: Known) -> Chunk {
        let rows = segment.rows;
        Chunk {
            key_range: OnceLock::from(known.key_range),
            segment: OnceLock::from(segment),
            ranges: OnceLock::from(known.ranges),
            ..Chunk::bare(shape, start, rows, rows)
        }
    }

    fn bare(shape: &Arc<TableShape>, start: Address, rows: usize, rewritten: usize) -> Chunk {
        Chunk {
            shape: shape.clone(),
            start,
            rows,
            rewritten,
            batch: OnceLock::new(),
            keys: OnceLock::new(),
            ranges: OnceLock::new(),
            key_range: OnceLock::new(),
            segment: OnceLock::new(),
            loading: Mutex::new(()),
        }
    }

    /// The address behind the last row.
    pub(super) fn end(&self) -> Address {
        self.start + self.rows as Address
    }

    /// The segment that makes the rows durable, if there is one yet.
    pub(super) fn segment(&self) -> Option<&Arc<Segment>> {
        self.segment.get()
    }

    /// Notes the segment the rows were written to.
    pub(super) fn set_segment(&self, segment: Arc<Segment>) {
        // A chunk is written once, by the one writer; if there is a segment already it has the same rows.
        let _ = self.segment.set(segment);
    }

    /// Whether the rows are in memory.
    pub(super) fn is_loaded(&self) -> bool {
        self.batch.get().is_some()
    }

    /// The rows, read from the segment if they are not in memory.
    pub(super) fn batch(&self) -> Result<&RecordBatch, WarehouseError> {
        if let Some(batch) = self.batch.get() {
            return Ok(batch);
        }
        let _one_reader = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.batch.get().is_none() {
            let batch = self.source()?.read(&self.shape, None)?;
            return Ok(self.batch.get_or_init(|| batch));
        }
        self.batch.get().ok_or_else(|| self.without_rows())
    }

    fn source(&self) -> Result<&Arc<Segment>, WarehouseError> {
        self.segment.get().ok_or_else(|| self.without_rows())
    }

    fn without_rows(&self) -> WarehouseError {
        WarehouseError::mismatch(self.shape.name(), "a chunk has neither rows nor a segment")
    }

    /// The integer keys, when the table has such and the rows are in memory.
    fn int_keys_loaded(&self) -> Option<&[i64]> {
        let column = self.shape.int_key_column()?;
        let keys = self.batch.get()?.columns().get(column)?.as_any().downcast_ref::<PrimitiveArray<Int64Type>>()?;
        Some(keys.values())
    }

    /// The keys of all rows, dead ones included. Reads only the key columns when the rows are not in memory.
    pub(super) fn keys(&self) -> Result<Keys<'_>, WarehouseError> {
        if let Some(keys) = self.int_keys_loaded() {
            return Ok(Keys::Int(keys));
        }
        if let Some(keys) = self.keys.get() {
            return Ok(Keys::Column(keys));
        }
        let _one_reader = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = self.keys.get() {
            return Ok(Keys::Column(keys));
        }
        let key = &self.shape.schema.key;
        let columns: Vec<_> = match self.batch.get() {
            Some(batch) => key.iter().filter_map(|&at| batch.columns().get(at).cloned()).collect(),
            None => {
                let mut ascending = key.clone();
                ascending.sort_unstable();
                let batch = self.source()?.read(&self.shape, Some(&ascending))?;
                let place = |at: &usize| ascending.iter().position(|column| column == at);
                key.iter().filter_map(|at| batch.columns().get(place(at)?).cloned()).collect()
            }
        };
        let keys = self.shape.keys_of(&columns)?;
        Ok(Keys::Column(self.keys.get_or_init(|| keys)))
    }

    /// Notes the keys, when the caller has them anyway.
    pub(super) fn set_keys(&self, keys: KeyColumn) {
        let _ = self.keys.set(keys);
    }

    /// The ranges of the integer-like columns, if they are known without work.
    pub(super) fn known_ranges(&self) -> Option<&Ranges> {
        self.ranges.get()
    }

    /// The ranges of the integer-like columns.
    pub(super) fn ranges(&self) -> Result<&Ranges, WarehouseError> {
        if let Some(ranges) = self.ranges.get() {
            return Ok(ranges);
        }
        let ranges = self.batch()?.columns().iter().map(|column| integer_range(column)).collect();
        Ok(self.ranges.get_or_init(|| ranges))
    }

    /// The least and the greatest key, as the manifest has them.
    pub(super) fn key_range(&self) -> Result<&(KeyText, KeyText), WarehouseError> {
        if let Some(range) = self.key_range.get() {
            return Ok(range);
        }
        let keys = self.keys()?;
        let range = keys.iter().min().zip(keys.iter().max()).ok_or_else(|| self.without_rows())?;
        Ok(self.key_range.get_or_init(|| (KeyText::of(range.0), KeyText::of(range.1))))
    }

    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        let keys = match self.keys.get() {
            Some(KeyColumn::Int(keys)) => keys.len() * size_of::<i64>(),
            Some(KeyColumn::Encoded { bytes, ends }) => bytes.len() + ends.len() * size_of::<usize>(),
            None => 0,
        };
        keys + self.batch.get().map_or(0, RecordBatch::get_array_memory_size)
    }
}

/// The keys of a chunk, borrowed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keys<'a> {
    Int(&'a [i64]),
    Column(&'a KeyColumn),
}

impl<'a> Keys<'a> {
    pub(super) fn of(keys: &'a KeyColumn) -> Keys<'a> {
        match keys {
            KeyColumn::Int(keys) => Keys::Int(keys),
            KeyColumn::Encoded { .. } => Keys::Column(keys),
        }
    }

    pub(super) fn get(self, row: usize) -> Option<KeyRef<'a>> {
        match self {
            Keys::Int(keys) => keys.get(row).copied().map(KeyRef::Int),
            Keys::Column(keys) => keys.get(row),
        }
    }

    pub(super) fn len(self) -> usize {
        match self {
            Keys::Int(keys) => keys.len(),
            Keys::Column(keys) => keys.len(),
        }
    }

    pub(super) fn iter(self) -> impl Iterator<Item = KeyRef<'a>> {
        (0..self.len()).filter_map(move |row| self.get(row))
    }

    /// Whether every key is greater than the one before.
    pub(super) fn is_ascending(self) -> bool {
        match self.ints() {
            Some(ints) => ints.is_sorted_by(|a, b| a < b),
            None => self.iter().is_sorted_by(|a, b| a < b),
        }
    }

    /// The integers, if that is what the keys are.
    pub(super) fn ints(self) -> Option<&'a [i64]> {
        match self {
            Keys::Int(keys) => Some(keys),
            Keys::Column(KeyColumn::Int(keys)) => Some(keys),
            Keys::Column(KeyColumn::Encoded { .. }) => None,
        }
    }
}

/// A chunk and which of its rows are dead, as of one version.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) chunk: Arc<Chunk>,
    pub(super) deleted: Deleted,
}

impl Slot {
    pub(super) fn new(chunk: Chunk) -> Slot {
        Slot { chunk: Arc::new(chunk), deleted: Deleted::default() }
    }

    /// How many rows live.
    pub(super) fn live(&self) -> usize {
        self.chunk.rows - self.deleted.count()
    }
}

/// The slot and row at an address. `slots` are in address order.
pub(super) fn locate(slots: &[Slot], address: Address) -> Option<(usize, usize)> {
    let place = slots.partition_point(|slot| slot.chunk.start <= address).checked_sub(1)?;
    let chunk = &slots.get(place)?.chunk;
    (address < chunk.end()).then(|| (place, (address - chunk.start) as usize))
}
