//! Chunks: rows that never change, in memory or still on disk, and slots: a chunk with its dead rows.

use super::WarehouseError;
use super::addresses::Addresses;
use super::columns::{TableShape, integer_range};
use super::deleted::Deleted;
use super::index::Address;
use super::manifest::KeyText;
use super::memory::RowMemory;
use super::segment::Segment;
use crate::model::{KeyColumn, KeyRef};
use arc_swap::ArcSwapOption;
use arrow_array::types::Int64Type;
use arrow_array::{Array, PrimitiveArray, RecordBatch};
use arrow_buffer::ScalarBuffer;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The smallest and largest value of each integer-like column (see `columns::integer_range`).
pub(super) type Ranges = Vec<Option<(i64, i64)>>;

/// What the manifest says of a segment's rows.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) key_range: (KeyText, KeyText),
    pub(super) ranges: Ranges,
}

/// Rows of a table, in the order of their addresses.
///
/// The rows are decoded from the segment at first use and kept as long as the limit on memory allows (see
/// [`RowMemory`]); who asked for them has them for as long as it wants.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) shape: Arc<TableShape>,
    pub(super) addresses: Addresses,
    pub(super) rows: usize,
    /// How many of the rows were in a segment before they came into this chunk.
    pub(super) rewritten: usize,
    batch: ArcSwapOption<RecordBatch>,
    /// The integer keys, which share memory with the rows they came with and stay when those go.
    ints: OnceLock<ScalarBuffer<i64>>,
    keys: OnceLock<KeyColumn>,
    ranges: OnceLock<Ranges>,
    key_range: OnceLock<(KeyText, KeyText)>,
    segment: OnceLock<Arc<Segment>>,
    /// A checkpoint is to write the rows, or has.
    claimed: AtomicBool,
    /// When the rows were last asked for; see [`RowMemory::now`].
    read_at: AtomicU64,
    loading: Mutex<()>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Chunk {
    /// A chunk of rows in memory. `batch` conforms to `shape`.
    pub(super) fn of_rows(
        shape: &Arc<TableShape>,
        addresses: Addresses,
        batch: RecordBatch,
        rewritten: usize,
    ) -> Chunk {
        let chunk = Chunk::bare(shape, addresses, batch.num_rows(), rewritten);
        chunk.keep(Arc::new(batch));
        chunk
    }

    /// A chunk whose rows are in a segment.
    pub(super) fn of_segment(shape: &Arc<TableShape>, start: Address, segment: Arc<Segment>, known: Known) -> Chunk {
        let rows = segment.rows;
        let chunk = Chunk::bare(shape, Addresses::from(start, rows), rows, rows);
        let _ = chunk.key_range.set(known.key_range);
        let _ = chunk.ranges.set(known.ranges);
        let _ = chunk.segment.set(segment);
        chunk
    }

    fn bare(shape: &Arc<TableShape>, addresses: Addresses, rows: usize, rewritten: usize) -> Chunk {
        Chunk {
            shape: shape.clone(),
            addresses,
            rows,
            rewritten,
            batch: ArcSwapOption::empty(),
            ints: OnceLock::new(),
            keys: OnceLock::new(),
            ranges: OnceLock::new(),
            key_range: OnceLock::new(),
            segment: OnceLock::new(),
            claimed: AtomicBool::new(false),
            read_at: AtomicU64::new(0),
            loading: Mutex::new(()),
        }
    }

    fn memory(&self) -> &RowMemory {
        self.shape.row_memory()
    }

    fn keep(&self, batch: Arc<RecordBatch>) {
        self.note_int_keys(&batch);
        self.memory().add(batch.get_array_memory_size());
        self.read_at.store(self.memory().now(), Ordering::Relaxed);
        self.batch.store(Some(batch));
    }

    fn note_int_keys(&self, batch: &RecordBatch) {
        let column = self.shape.int_key_column().and_then(|at| batch.columns().get(at));
        if let Some(ints) = column.and_then(|c| c.as_any().downcast_ref::<PrimitiveArray<Int64Type>>()) {
            let _ = self.ints.set(ints.values().clone());
        }
    }

    fn forget(&self) {
        if let Some(batch) = self.batch.swap(None) {
            self.memory().sub(batch.get_array_memory_size());
        }
    }

    /// Lets go of rows that can be read again.
    pub(super) fn let_go(&self) {
        if self.segment().is_some() {
            self.forget();
        }
    }

    /// When the rows were last asked for.
    pub(super) fn read_at(&self) -> u64 {
        self.read_at.load(Ordering::Relaxed)
    }

    /// Says that a checkpoint is going to write the rows.
    pub(super) fn claim(&self) {
        self.claimed.store(true, Ordering::Relaxed);
    }

    /// Says that the checkpoint which was to write the rows has failed.
    pub(super) fn disclaim(&self) {
        self.claimed.store(false, Ordering::Relaxed);
    }

    /// Whether the rows are in a segment, or soon are: what writes them again costs write amplification.
    pub(super) fn is_written(&self) -> bool {
        self.segment().is_some() || self.claimed.load(Ordering::Relaxed)
    }

    /// The address of the first row.
    pub(super) fn start(&self) -> Address {
        self.addresses.start()
    }

    /// The address behind the last row's.
    pub(super) fn end(&self) -> Address {
        self.addresses.end()
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
        self.batch.load().is_some()
    }

    fn loaded(&self) -> Option<Arc<RecordBatch>> {
        let batch = self.batch.load_full()?;
        let now = self.memory().now();
        if self.read_at() != now {
            self.read_at.store(now, Ordering::Relaxed);
        }
        Some(batch)
    }

    /// The rows, read from the segment if they are not in memory, and then kept if the limit on memory allows.
    pub(super) fn batch(&self) -> Result<Arc<RecordBatch>, WarehouseError> {
        if let Some(batch) = self.loaded() {
            return Ok(batch);
        }
        let _one_reader = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(batch) = self.loaded() {
            return Ok(batch);
        }
        let batch = Arc::new(self.source()?.read(&self.shape, None)?);
        if self.memory().admits(batch.get_array_memory_size()) {
            self.keep(batch.clone());
        }
        Ok(batch)
    }

    /// The rows, for somebody after whom they are of no use in memory.
    pub(super) fn batch_once(&self) -> Result<Arc<RecordBatch>, WarehouseError> {
        match self.batch.load_full() {
            Some(batch) => Ok(batch),
            None => Ok(Arc::new(self.source()?.read(&self.shape, None)?)),
        }
    }

    fn source(&self) -> Result<&Arc<Segment>, WarehouseError> {
        self.segment.get().ok_or_else(|| self.without_rows())
    }

    fn without_rows(&self) -> WarehouseError {
        WarehouseError::mismatch(self.shape.name(), "a chunk has neither rows nor a segment")
    }

    /// The keys of all rows, dead ones included. Reads only the key columns when the rows are not in memory.
    pub(super) fn keys(&self) -> Result<Keys<'_>, WarehouseError> {
        if let Some(ints) = self.ints.get() {
            return Ok(Keys::Int(ints));
        }
        if let Some(keys) = self.keys.get() {
            return Ok(Keys::Column(keys));
        }
        let _one_reader = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = self.keys.get() {
            return Ok(Keys::Column(keys));
        }
        let key = &self.shape.schema.key;
        let columns: Vec<_> = match self.batch.load_full() {
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

    /// Bytes of memory held by rows.
    pub(super) fn row_bytes(&self) -> usize {
        self.batch.load().as_ref().map_or(0, |batch| batch.get_array_memory_size())
    }

    /// Bytes that the rows take in memory, or would: a guess for a segment of an older build that is not in memory.
    pub(super) fn row_bytes_about(&self) -> usize {
        const OF_PARQUET: usize = 4;
        match (self.row_bytes(), self.segment()) {
            (0, Some(segment)) if segment.row_bytes > 0 => usize::try_from(segment.row_bytes).unwrap_or(usize::MAX),
            (0, Some(segment)) => usize::try_from(segment.bytes).unwrap_or(usize::MAX).saturating_mul(OF_PARQUET),
            (bytes, _) => bytes,
        }
    }

    /// Bytes of memory held by keys, besides the rows.
    pub(super) fn key_bytes(&self) -> usize {
        let apart = match self.keys.get() {
            Some(KeyColumn::Int(keys)) => keys.len() * size_of::<i64>(),
            Some(KeyColumn::Encoded { bytes, ends }) => bytes.len() + ends.len() * size_of::<usize>(),
            None => 0,
        };
        let ints = if self.is_loaded() { 0 } else { self.ints.get().map_or(0, |ints| ints.len() * size_of::<i64>()) };
        apart + ints
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
    /// A merge has it already: nothing else may take it.
    pub(super) taken: bool,
}

impl Slot {
    pub(super) fn new(chunk: Chunk) -> Slot {
        Slot::of(Arc::new(chunk), Deleted::default())
    }

    pub(super) fn of(chunk: Arc<Chunk>, deleted: Deleted) -> Slot {
        Slot { chunk, deleted, taken: false }
    }

    /// How many rows live.
    pub(super) fn live(&self) -> usize {
        self.chunk.rows - self.deleted.count()
    }
}

/// The slot and row at an address. `slots` are in address order.
pub(super) fn locate(slots: &[Slot], address: Address) -> Option<(usize, usize)> {
    let place = slots.partition_point(|slot| slot.chunk.start() <= address).checked_sub(1)?;
    Some((place, slots.get(place)?.chunk.addresses.row_at(address)?))
}

/// The place of this very chunk among `slots`, which are in address order.
pub(super) fn place_of(slots: &[Slot], chunk: &Arc<Chunk>) -> Option<usize> {
    let place = slots.partition_point(|slot| slot.chunk.start() < chunk.start());
    slots.get(place).is_some_and(|slot| Arc::ptr_eq(&slot.chunk, chunk)).then_some(place)
}
