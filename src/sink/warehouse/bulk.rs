//! Bulk loads: whole tables replaced at once, encoded by many threads.

use super::addresses::Addresses;
use super::chunk::{Chunk, Keys, Slot};
use super::columns::TableShape;
use super::commit::Durable;
use super::counters::Written;
use super::segment::{Segment, write_segment};
use super::table::{IndexState, Table};
use super::version::{TableVersion, Version};
use super::writer::Warehouse;
use super::{WarehouseError, WarehouseOptions};
use crate::model::{KeyRef, Lsn, TableId};
use crate::storage::{Mistake, Storage};
use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use rayon::prelude::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

/// Loads whole tables. Many threads may [`BulkLoad::write`] at once; each encodes Parquet on its own. Until
/// [`BulkLoad::publish`] nobody sees anything of it; dropped before, its files are removed.
#[derive(Debug)]
pub struct BulkLoad {
    dir: PathBuf,
    storage: Arc<dyn Storage>,
    options: WarehouseOptions,
    files: Arc<AtomicU64>,
    written: Arc<Written>,
    segment_bytes: AtomicU64,
    tables: Vec<Mutex<LoadedTable>>,
}

#[derive(Debug)]
struct LoadedTable {
    shape: Arc<TableShape>,
    /// Whether this table is replaced at all.
    included: bool,
    /// What each thread has collected for its next segment.
    pending: Vec<(ThreadId, Pending)>,
    finished: Vec<Finished>,
}

#[derive(Debug, Default)]
struct Pending {
    rows: usize,
    bytes: usize,
    batches: Vec<RecordBatch>,
}

/// A segment that is on disk and its chunk, with the rows while there is room for them. When it is dropped unpublished, the file goes.
#[derive(Debug)]
struct Finished {
    /// Its place is settled by [`slots_of`], which takes it out.
    chunk: Option<Chunk>,
    segment: Arc<Segment>,
    published: bool,
}

impl Drop for Finished {
    fn drop(&mut self) {
        if !self.published {
            self.segment.retire();
        }
    }
}

/// What a bulk load brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Tables replaced.
    pub tables: usize,
    /// Rows loaded.
    pub rows: u64,
    /// Segments written.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BulkLoad {
    pub(super) fn new(tables: &[Table], durable: &Durable) -> BulkLoad {
        let empty = |table: &Table| {
            let shape = table.shape.clone();
            Mutex::new(LoadedTable { shape, included: false, pending: Vec::new(), finished: Vec::new() })
        };
        BulkLoad {
            dir: durable.dir.clone(),
            storage: durable.storage.clone(),
            options: durable.options.clone(),
            files: durable.files.clone(),
            written: durable.written.clone(),
            segment_bytes: AtomicU64::new(0),
            tables: tables.iter().map(empty).collect(),
        }
    }

    /// Says that `table` is replaced, if only by no rows at all. [`BulkLoad::write`] says so too.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn include(&self, table: TableId) -> Result<(), WarehouseError> {
        lock(self.table(table)?).included = true;
        Ok(())
    }

    /// Adds rows to `table`. They are written as a segment once the calling thread has brought enough of them.
    ///
    /// # Errors
    /// When the batch does not fit the table or a segment can't be written. The load is then of no use any more.
    pub fn write(&self, table: TableId, batch: RecordBatch) -> Result<(), WarehouseError> {
        let thread = std::thread::current().id();
        let mut loaded = lock(self.table(table)?);
        let shape = loaded.shape.clone();
        let batch = shape.conform(&batch)?;
        loaded.included = true;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut pending = match loaded.pending.iter().position(|(of, _)| *of == thread) {
            Some(place) => loaded.pending.swap_remove(place).1,
            None => Pending::default(),
        };
        // The lock is let go while the thread encodes.
        drop(loaded);
        pending.push(batch);
        let (rows_max, bytes_max) = (self.options.chunk_rows_max, self.options.chunk_bytes_max);
        while pending.rows >= rows_max || pending.bytes >= bytes_max {
            let full = pending.split(rows_max, bytes_max);
            self.finish(table, &shape, &full)?;
        }
        if pending.rows > 0 {
            lock(self.table(table)?).pending.push((thread, pending));
        }
        Ok(())
    }

    fn table(&self, table: TableId) -> Result<&Mutex<LoadedTable>, WarehouseError> {
        self.tables.get(table.index()).ok_or(WarehouseError::NoTable { table: table.0 })
    }

    fn finish(&self, table: TableId, shape: &Arc<TableShape>, batches: &[RecordBatch]) -> Result<(), WarehouseError> {
        let batch = concat_batches(&shape.arrow, batches)
            .map_err(WarehouseError::columnar("join the rows of table", shape.name()))?;
        let id = self.files.fetch_add(1, Ordering::Relaxed);
        let segment = write_segment(&self.storage, &self.dir, id, shape, &batch, &self.options, &self.written)?;
        self.segment_bytes.fetch_add(segment.bytes, Ordering::Relaxed);
        // From here on the file goes if anything fails.
        let mut finished = Finished { chunk: None, segment: Arc::new(segment), published: false };
        finished.chunk = Some(chunk_of(shape, batch, &finished.segment)?);
        lock(self.table(table)?).finished.push(finished);
        Ok(())
    }

    /// Writes what the threads still have, joined across threads.
    fn finish_all(&self) -> Result<(), WarehouseError> {
        let mut rest = Vec::new();
        for table in &self.tables {
            let mut table = lock(table);
            let mut whole = Pending::default();
            for (_, pending) in table.pending.drain(..) {
                pending.batches.into_iter().for_each(|batch| whole.push(batch));
            }
            while whole.rows > 0 {
                rest.push((
                    table.shape.clone(),
                    whole.split(self.options.chunk_rows_max, self.options.chunk_bytes_max),
                ));
            }
        }
        rest.into_par_iter().try_for_each(|(shape, batches)| self.finish(shape.id, &shape, &batches))
    }

    /// Replaces all the tables that were written or included, at once and durably; the other tables stay as they are
    /// visible now and become durable too. Readers see all of it or nothing; what they hold stays as it is.
    ///
    /// # Errors
    /// [`WarehouseError::DuplicateKey`] when a table would have two rows of one key, [`WarehouseError::WatermarkBack`],
    /// [`WarehouseError::Unpublished`] when edits are applied and not published, or a failure to write. The warehouse is
    /// then as it was.
    pub fn publish(self, warehouse: &mut Warehouse, watermark: Lsn) -> Result<Loaded, WarehouseError> {
        if warehouse.has_staged() {
            return Err(WarehouseError::Unpublished { operation: "publish a bulk load" });
        }
        warehouse.settle()?;
        let visible = warehouse.reader.version();
        if watermark < visible.watermark {
            return Err(WarehouseError::WatermarkBack { asked: watermark, present: visible.watermark });
        }
        self.finish_all()?;
        let mut report = Loaded { segment_bytes: self.segment_bytes.load(Ordering::Relaxed), ..Loaded::default() };
        let mut tables = visible.tables.clone();
        let mut loads = Vec::with_capacity(self.tables.len());
        for ((load, table), version) in self.tables.into_iter().zip(&warehouse.tables).zip(&mut tables) {
            let mut load = load.into_inner().unwrap_or_else(PoisonError::into_inner);
            if load.included {
                let slots = slots_of(&mut load, table.next)?;
                report.tables += 1;
                report.segments += slots.len() as u64;
                report.rows += slots.iter().map(|slot| slot.live() as u64).sum::<u64>();
                let rows = slots.iter().map(|slot| slot.live() as u64).sum();
                let generation = table.shared.read().generation + 1;
                let (shape, shared) = (table.shape.clone(), table.shared.clone());
                *version = Arc::new(TableVersion { shape, slots, rows, generation, shared });
            }
            loads.push(load);
        }
        let version = Version { watermark, catalog: visible.catalog.clone(), tables };
        if let Err(error) = warehouse.commit_loaded(&version, report.segment_bytes) {
            // Where it is open which manifest is on the disk, the new one's files must stay until that is known.
            let unknown = warehouse.facts.poisoned && !self.storage.plants(Mistake::LoadTakenBack);
            loads.iter_mut().flat_map(|load| &mut load.finished).for_each(|finished| finished.published = unknown);
            return Err(error);
        }
        warehouse.counters.rows_upserted += report.rows;
        for (load, (table, version)) in loads.iter_mut().zip(warehouse.tables.iter_mut().zip(&version.tables)) {
            load.finished.iter_mut().for_each(|finished| finished.published = true);
            if load.included {
                table.replace(version);
            }
        }
        warehouse.counters.publishes += 1;
        warehouse.counters.checkpoints += 1;
        warehouse.show_durable(Arc::new(version));
        warehouse.look_at_memory();
        Ok(report)
    }
}

/// Bytes of the values themselves, for what has them out of line; a slice counts its own alone.
fn width(batch: &RecordBatch) -> usize {
    let sizes = batch.columns().iter().map(|column| column.to_data().get_slice_memory_size());
    sizes.map(|size| size.unwrap_or(0)).sum()
}

impl Pending {
    fn push(&mut self, batch: RecordBatch) {
        self.rows += batch.num_rows();
        self.bytes += width(&batch);
        self.batches.push(batch);
    }

    /// Takes out `rows` rows, or as many as a segment holds, or all.
    fn split(&mut self, rows: usize, bytes_max: usize) -> Vec<RecordBatch> {
        let mut taken = Vec::new();
        let (mut missing, mut bytes) = (rows.max(1), 0);
        let mut rest = std::mem::take(self).batches.into_iter();
        while missing > 0 && bytes < bytes_max {
            let Some(batch) = rest.next() else { break };
            if batch.num_rows() > missing {
                self.push(batch.slice(missing, batch.num_rows() - missing));
                taken.push(batch.slice(0, missing));
                missing = 0;
            } else {
                missing -= batch.num_rows();
                bytes += width(&batch);
                taken.push(batch);
            }
        }
        rest.for_each(|batch| self.push(batch));
        taken
    }
}

impl Table {
    fn replace(&mut self, version: &TableVersion) {
        self.slots.clone_from(&version.slots);
        self.waiting.clear();
        self.next = self.slots.last().map_or(self.next, |slot| slot.chunk.end());
        self.changed = false;
        *self.shared.write() = IndexState { index: None, generation: version.generation };
    }
}

/// A chunk without a place of its own. Its rows stay in memory if the limit allows; what publishing asks for stays anyway.
fn chunk_of(shape: &Arc<TableShape>, batch: RecordBatch, segment: &Arc<Segment>) -> Result<Chunk, WarehouseError> {
    let has_room = shape.row_memory().has_room(batch.get_array_memory_size());
    let chunk = Chunk::of_rows(shape, Addresses::from(0, batch.num_rows()), batch, 0);
    chunk.set_segment(segment.clone());
    if !has_room {
        chunk.ranges()?;
        chunk.keys()?;
        chunk.key_range()?;
        chunk.let_go();
    }
    Ok(chunk)
}

/// The loaded chunks in key order where that is cheap to know, at fresh addresses.
fn slots_of(load: &mut LoadedTable, mut next: u64) -> Result<Vec<Slot>, WarehouseError> {
    let mut slots = Vec::with_capacity(load.finished.len());
    for mut chunk in load.finished.iter_mut().filter_map(|finished| finished.chunk.take()) {
        chunk.addresses = Addresses::from(next, chunk.rows);
        next = chunk.end();
        slots.push(Slot::new(chunk));
    }
    check_unique(&load.shape, &slots)?;
    Ok(slots)
}

/// Finds a key that is there twice. Chunks that are in order and do not overlap, as a scan by key gives them, cost one pass;
/// otherwise all keys are sorted.
fn check_unique(shape: &TableShape, slots: &[Slot]) -> Result<(), WarehouseError> {
    let mut keys: Vec<Keys<'_>> = slots.par_iter().map(|slot| slot.chunk.keys()).collect::<Result<_, _>>()?;
    let twice =
        |key: KeyRef<'_>| Err(WarehouseError::DuplicateKey { table: shape.name().to_owned(), key: key.describe() });
    keys.sort_by_key(|keys| keys.get(0));
    let ascending = keys.par_iter().all(|keys| keys.is_ascending());
    let apart = keys.windows(2).all(|pair| match pair {
        [a, b] => a.get(a.len().wrapping_sub(1)) < b.get(0),
        _ => true,
    });
    if ascending && apart {
        return Ok(());
    }
    if let Some(ints) = keys.iter().map(|keys| keys.ints()).collect::<Option<Vec<_>>>() {
        let mut all = ints.concat();
        all.par_sort_unstable();
        return match all.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first()) {
            Some(&key) => twice(KeyRef::Int(key)),
            None => Ok(()),
        };
    }
    let mut all: Vec<_> = keys.iter().flat_map(|keys| keys.iter()).collect();
    all.par_sort_unstable();
    match all.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first()) {
        Some(&key) => twice(key),
        None => Ok(()),
    }
}
