//! The one writer of a folder.

use super::bulk::BulkLoad;
use super::columns::TableShape;
use super::commit::{BytesByKind, Durable};
use super::counters::{WarehouseCounters, Written};
use super::manifest::{Manifest, manifest_path};
use super::merge::Reach;
use super::table::Table;
use super::version::{TableVersion, Version};
use super::{WarehouseError, WarehouseOptions, WarehouseReader, open};
use crate::apply::edits::{CurrentRowError, CurrentRows, EditSet};
use crate::model::{Catalog, KeyRef, Lsn, TableId, Value};
use crate::sink::{Bulk, Sink, SinkCounters, SinkError, SinkKind};
use arc_swap::ArcSwap;
use arrow_array::RecordBatch;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A warehouse folder, opened to write. One at a time: a lock file names its holder.
#[derive(Debug)]
pub struct Warehouse {
    pub(super) tables: Vec<Table>,
    pub(super) reader: WarehouseReader,
    pub(super) durable: Durable,
    /// The last commit of the edits that were applied.
    applied: Lsn,
    /// Edits were applied since the last publish.
    staged: bool,
    /// The visible version is not the durable one.
    pub(super) ahead: bool,
    pub(super) counters: SinkCounters,
    rows_merged: u64,
    _lock: File,
}

impl Warehouse {
    /// Makes a new warehouse with the tables of `catalog`, all empty, in `dir` (made if it is missing).
    ///
    /// # Errors
    /// When there is one already, a column has a type Parquet can't hold, or the folder can't be written.
    pub fn create(dir: &Path, catalog: &Catalog, options: WarehouseOptions) -> Result<Warehouse, WarehouseError> {
        fs::create_dir_all(dir).map_err(WarehouseError::io("create", dir))?;
        if manifest_path(dir).exists() {
            return Err(WarehouseError::Exists { path: dir.to_owned() });
        }
        for (id, table) in catalog.iter() {
            TableShape::new(id, table)?;
        }
        let lock = open::lock(dir)?;
        let tables = vec![Vec::new(); catalog.tables.len()];
        let manifest = Manifest { watermark: 0, commit: 0, next_file: 0, catalog: catalog.clone(), tables };
        manifest.remove_orphans(dir)?;
        let written = Written::default();
        let bytes = manifest.commit(dir, &written)?;
        let mut warehouse = Warehouse::from_manifest(dir, options, manifest, lock, written)?;
        warehouse.durable.bytes.manifests += bytes;
        Ok(warehouse)
    }

    /// Opens the warehouse in `dir` at its last checkpoint. Files of an unfinished commit are removed. Reads the
    /// manifest and the deletion vectors; rows are read when they are first needed.
    ///
    /// # Errors
    /// When another process writes to it, a file is missing, cut or damaged, or the format is newer than this build.
    pub fn open(dir: &Path, options: WarehouseOptions) -> Result<Warehouse, WarehouseError> {
        if !manifest_path(dir).exists() {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(WarehouseError::io("open", &manifest_path(dir))(missing));
        }
        let lock = open::lock(dir)?;
        let manifest = Manifest::read(dir)?;
        manifest.remove_orphans(dir)?;
        Warehouse::from_manifest(dir, options, manifest, lock, Written::default())
    }

    fn from_manifest(
        dir: &Path,
        options: WarehouseOptions,
        manifest: Manifest,
        lock: File,
        written: Written,
    ) -> Result<Warehouse, WarehouseError> {
        let loaded = open::load(dir, &manifest, false)?;
        let tables: Vec<Table> =
            loaded.into_iter().map(|table| Table::new(table.shape, table.slots, table.next)).collect();
        let slots = tables.iter().flat_map(|table| &table.slots);
        let segments = slots.filter_map(|slot| slot.chunk.segment()).map(|segment| (segment.id, segment.clone()));
        let segments = segments.collect();
        let watermark = Lsn(manifest.watermark);
        let version = Version {
            watermark,
            catalog: Arc::new(manifest.catalog.clone()),
            tables: tables.iter().map(|table| Arc::new(table.version())).collect(),
        };
        let durable = Durable {
            dir: dir.to_owned(),
            options,
            segments,
            files: Arc::new(AtomicU64::new(manifest.next_file)),
            manifest,
            written: Arc::new(written),
            bytes: BytesByKind::default(),
            poisoned: false,
        };
        Ok(Warehouse {
            tables,
            reader: WarehouseReader { current: Arc::new(ArcSwap::from_pointee(version)) },
            durable,
            applied: watermark,
            staged: false,
            ahead: false,
            counters: SinkCounters::default(),
            rows_merged: 0,
            _lock: lock,
        })
    }

    /// A handle for readers.
    pub fn reader(&self) -> WarehouseReader {
        self.reader.clone()
    }

    /// The tables and their columns.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.reader.version().catalog.clone()
    }

    /// Begins a bulk load of any of the tables. Several threads may write to it.
    pub fn bulk(&self) -> BulkLoad {
        BulkLoad::new(&self.tables, &self.durable)
    }

    /// Reads every file that the last manifest names and checks its hash.
    ///
    /// # Errors
    /// Names the first file that is not as it was written.
    pub fn verify(&self) -> Result<(), WarehouseError> {
        self.durable.segments.values().try_for_each(|segment| segment.verify())?;
        open::load(&self.durable.dir, &self.durable.manifest, false).map(|_| ())
    }

    /// What it wrote since it was opened and what it holds now. Walks over all chunks.
    pub fn storage(&self) -> WarehouseCounters {
        let (bytes, written) = (self.durable.bytes, &self.durable.written);
        let slots = || self.tables.iter().flat_map(|table| &table.slots);
        let memory = |slot: &super::chunk::Slot| slot.chunk.memory_bytes() + slot.deleted.memory_bytes();
        let indexes = self.tables.iter().map(|table| {
            let state = table.shared.read();
            state.index.as_ref().map_or(0, |index| index.memory_bytes())
        });
        let index_bytes = indexes.sum::<usize>();
        WarehouseCounters {
            segment_bytes: bytes.segments,
            merge_bytes: bytes.merges,
            deletion_vector_bytes: bytes.vectors,
            manifest_bytes: bytes.manifests,
            files_written: written.files(),
            fsyncs: written.fsyncs(),
            rows_merged_in_memory: self.rows_merged,
            rows_live: self.reader.version().tables.iter().map(|table| table.rows).sum(),
            rows_in_memory: slots().filter(|slot| slot.chunk.is_loaded()).map(|slot| slot.chunk.rows as u64).sum(),
            segments: self.durable.segments.len() as u64,
            segment_bytes_on_disk: self.durable.segments.values().map(|segment| segment.bytes).sum(),
            chunks: slots().count() as u64,
            index_bytes: index_bytes as u64,
            memory_bytes: (slots().map(memory).sum::<usize>() + index_bytes) as u64,
        }
    }

    /// Makes a version of the tables as they are; tables that did not change are shared with the visible one.
    fn show(&mut self, watermark: Lsn) {
        let before = self.reader.version();
        let tables = self.tables.iter_mut().zip(&before.tables).map(|(table, before)| {
            if std::mem::take(&mut table.changed) { Arc::new(table.version()) } else { before.clone() }
        });
        let version = Version { watermark, catalog: before.catalog.clone(), tables: tables.collect() };
        self.reader.current.store(Arc::new(version));
        self.ahead = true;
    }

    pub(super) fn has_staged(&self) -> bool {
        self.staged
    }

    /// Takes over a version that is durable already, from a bulk load.
    pub(super) fn show_durable(&mut self, version: Arc<Version>) {
        self.applied = self.applied.max(version.watermark);
        self.reader.current.store(version);
        self.ahead = false;
    }

    fn apply_edits(&mut self, edits: &EditSet) -> Result<(), WarehouseError> {
        self.durable.check()?;
        for edit in &edits.tables {
            let table = self.tables.get(edit.table.index());
            table.ok_or(WarehouseError::NoTable { table: edit.table.0 })?.check(edit)?;
        }
        self.applied = self.applied.max(edits.through);
        self.staged = true;
        for edit in &edits.tables {
            let Some(table) = self.tables.get_mut(edit.table.index()) else { continue };
            if let Err(error) = table.apply(edit) {
                // Part of the edits is in the tables: they are of no use any more, and must not be published.
                self.durable.poisoned = true;
                return Err(error);
            }
            self.counters.rows_upserted += edit.upserts.num_rows() as u64;
            self.counters.rows_deleted += edit.deletes.len() as u64;
        }
        Ok(())
    }

    fn publish_applied(&mut self, through: Lsn) -> Result<(), WarehouseError> {
        self.durable.check()?;
        let present = self.applied.max(self.reader.version().watermark);
        if through < present {
            return Err(WarehouseError::WatermarkBack { asked: through, present });
        }
        let rows_max = self.durable.options.chunk_rows_max;
        self.merge(|table| {
            let changed = table.changed;
            if changed { Ok(table.merge_small(rows_max, Reach::Memory)? + table.purge_dead(rows_max)?) } else { Ok(0) }
        })?;
        self.applied = through;
        self.staged = false;
        self.show(through);
        self.counters.publishes += 1;
        Ok(())
    }

    fn checkpoint_visible(&mut self) -> Result<Lsn, WarehouseError> {
        self.durable.check()?;
        if !self.ahead {
            return Ok(self.durable());
        }
        if !self.staged {
            self.compact()?;
        }
        let version = self.reader.version();
        self.durable.commit(&version)?;
        self.ahead = false;
        self.counters.checkpoints += 1;
        Ok(version.watermark)
    }

    /// Merges small chunks and segments before they are written. Readers see the same rows before and after.
    fn compact(&mut self) -> Result<(), WarehouseError> {
        let rows_max = self.durable.options.chunk_rows_max;
        let copied = self.merge(|table| {
            let rows = table.merge_unwritten(rows_max)? + table.merge_small(rows_max, Reach::Segments)?;
            table.changed |= rows > 0;
            Ok(rows)
        })?;
        if copied > 0 {
            self.show(self.reader.version().watermark);
        }
        Ok(())
    }

    /// Merges in every table; returns how many rows were copied.
    fn merge(&mut self, each: impl Fn(&mut Table) -> Result<usize, WarehouseError>) -> Result<usize, WarehouseError> {
        let copied: Result<usize, WarehouseError> = self.tables.iter_mut().map(each).sum();
        match &copied {
            Ok(rows) => self.rows_merged += *rows as u64,
            // A merge that failed has lost hold of rows in the writer's tables. Readers and the disk still have them.
            Err(_) => self.durable.poisoned = true,
        }
        copied
    }
}

impl Table {
    /// The table as it is now, for readers.
    pub(super) fn version(&self) -> TableVersion {
        TableVersion {
            shape: self.shape.clone(),
            slots: self.slots.clone(),
            rows: self.rows(),
            generation: self.shared.read().generation,
            shared: self.shared.clone(),
        }
    }
}

impl Sink for Warehouse {
    type Bulk = BulkLoad;
    type Reader = WarehouseReader;

    const KIND: SinkKind = SinkKind::Warehouse;

    fn apply(&mut self, edits: &EditSet) -> Result<(), SinkError> {
        Ok(self.apply_edits(edits)?)
    }

    fn publish(&mut self, through: Lsn) -> Result<(), SinkError> {
        Ok(self.publish_applied(through)?)
    }

    fn checkpoint(&mut self) -> Result<Lsn, SinkError> {
        Ok(self.checkpoint_visible()?)
    }

    fn bulk(&self) -> Result<BulkLoad, SinkError> {
        Ok(Warehouse::bulk(self))
    }

    fn install(&mut self, bulk: BulkLoad, through: Lsn) -> Result<(), SinkError> {
        bulk.publish(self, through)?;
        Ok(())
    }

    fn reader(&self) -> WarehouseReader {
        Warehouse::reader(self)
    }

    fn visible(&self) -> Lsn {
        self.reader.current.load().watermark
    }

    fn durable(&self) -> Lsn {
        Lsn(self.durable.manifest.watermark)
    }

    fn counters(&self) -> SinkCounters {
        let (bytes, written) = (self.durable.bytes, &self.durable.written);
        SinkCounters {
            bytes_written: bytes.segments + bytes.merges + bytes.vectors + bytes.manifests,
            bytes_rewritten: bytes.merges,
            files_written: written.files(),
            fsyncs: written.fsyncs(),
            ..self.counters
        }
    }
}

impl Bulk for BulkLoad {
    fn include(&self, table: TableId) -> Result<(), SinkError> {
        Ok(BulkLoad::include(self, table)?)
    }

    fn write(&self, table: TableId, batch: RecordBatch) -> Result<(), SinkError> {
        Ok(BulkLoad::write(self, table, batch)?)
    }
}

impl CurrentRows for Warehouse {
    fn current_row(&self, table: TableId, key: KeyRef<'_>) -> Result<Option<Vec<Value>>, CurrentRowError> {
        let found = self.tables.get(table.index()).ok_or(WarehouseError::NoTable { table: table.0 });
        found.and_then(|table| table.current_row(key)).map_err(|cause| CurrentRowError { table, cause: cause.into() })
    }
}
