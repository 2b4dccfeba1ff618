//! The one writer of a folder.

use super::background::Background;
use super::bulk::BulkLoad;
use super::checkpoint::{DurableFacts, Running};
use super::columns::TableShape;
use super::commit::{BytesByKind, Durable};
use super::compaction::Budget;
use super::counters::Written;
use super::manifest::{self, Manifest, manifest_path};
use super::memory::RowMemory;
use super::table::Table;
use super::version::{TableVersion, Version};
use super::versions::{self, Kept};
use super::{WarehouseError, WarehouseOptions, WarehouseReader, open};
use crate::apply::edits::{CurrentRowError, CurrentRows, EditSet};
use crate::model::{Catalog, KeyRef, Lsn, TableId, Value};
use crate::sink::{Bulk, DurableWatch, Outside, Sink, SinkCounters, SinkError, SinkKind};
use crate::storage::{Disk, Storage};
use arc_swap::ArcSwap;
use arrow_array::RecordBatch;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, TryLockError};

/// A warehouse folder, opened to write. One at a time: a lock file names its holder.
#[derive(Debug)]
pub struct Warehouse {
    pub(super) tables: Vec<Table>,
    pub(super) reader: WarehouseReader,
    pub(super) dir: PathBuf,
    pub(super) options: WarehouseOptions,
    pub(super) memory: Arc<RowMemory>,
    pub(super) budget: Budget,
    /// Before what waits for its work to end.
    pub(super) background: Background,
    /// A checkpoint is to begin when no merge is under way.
    pub(super) wanted: bool,
    pub(super) running: Option<Running>,
    /// Locked by the checkpoint that is being written; what the writer has to know meanwhile is in `facts`.
    pub(super) durable: Arc<Mutex<Durable>>,
    pub(super) facts: DurableFacts,
    pub(super) written: Arc<Written>,
    /// The last commit of the edits that were applied.
    applied: Lsn,
    /// Edits were applied since the last publish.
    staged: bool,
    /// Rows changed since the version that is durable or being made so.
    pub(super) ahead: bool,
    pub(super) counters: SinkCounters,
    _lock: File,
}

impl Warehouse {
    /// Makes a new warehouse with the tables of `catalog`, all empty, in `dir` (made if it is missing).
    ///
    /// # Errors
    /// When there is one already, a column has a type Parquet can't hold, or the folder can't be written.
    pub fn create(dir: &Path, catalog: &Catalog, options: WarehouseOptions) -> Result<Warehouse, WarehouseError> {
        Warehouse::create_on(Arc::new(Disk), dir, catalog, options)
    }

    pub(super) fn create_on(
        storage: Arc<dyn Storage>,
        dir: &Path,
        catalog: &Catalog,
        options: WarehouseOptions,
    ) -> Result<Warehouse, WarehouseError> {
        open::create_folder(&*storage, dir)?;
        if manifest::exists(&*storage, dir)? {
            return Err(WarehouseError::Exists { path: dir.to_owned() });
        }
        for (id, table) in catalog.iter() {
            TableShape::new(id, table)?;
        }
        let lock = open::lock(dir)?;
        // Another process may have made one, and ended, between the look above and the lock.
        if manifest::exists(&*storage, dir)? {
            return Err(WarehouseError::Exists { path: dir.to_owned() });
        }
        let manifest = Manifest::empty(catalog);
        let files = storage.list(dir).map_err(WarehouseError::io("list", dir))?;
        versions::remove_orphans(&*storage, dir, &files, &manifest, &[])?;
        let written = Written::default();
        let bytes = manifest.commit(&*storage, dir, &written, || Ok(()))?;
        let mut warehouse = Warehouse::from_manifest(storage, dir, options, (manifest, Vec::new()), lock, written)?;
        warehouse.lock_durable().bytes.manifests += bytes;
        warehouse.facts.bytes.manifests += bytes;
        Ok(warehouse)
    }

    /// Opens the warehouse in `dir` at its last checkpoint. Files of an unfinished commit are removed. Reads the
    /// manifest and the deletion vectors; rows are read, and their hashes checked, when they are first needed.
    ///
    /// # Errors
    /// When another process writes to it, a file is missing, cut or damaged, or the format is newer than this build.
    pub fn open(dir: &Path, options: WarehouseOptions) -> Result<Warehouse, WarehouseError> {
        Warehouse::open_on(Arc::new(Disk), dir, options)
    }

    pub(super) fn open_on(
        storage: Arc<dyn Storage>,
        dir: &Path,
        options: WarehouseOptions,
    ) -> Result<Warehouse, WarehouseError> {
        if !manifest::exists(&*storage, dir)? {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(WarehouseError::io("open", &manifest_path(dir))(missing));
        }
        let lock = open::lock(dir)?;
        let written = Written::default();
        let found = versions::settle(&storage, dir, options.versions_kept, &written)?;
        Warehouse::from_manifest(storage, dir, options, found, lock, written)
    }

    fn from_manifest(
        storage: Arc<dyn Storage>,
        dir: &Path,
        options: WarehouseOptions,
        (manifest, kept): (Manifest, Vec<Kept>),
        lock: File,
        written: Written,
    ) -> Result<Warehouse, WarehouseError> {
        let loaded = open::load(&storage, dir, &manifest, false)?;
        let memory = Arc::new(RowMemory::new(options.memory_bytes_max));
        loaded.iter().for_each(|table| table.shape.count_rows_in(&memory));
        let bytes_max = options.chunk_bytes_max;
        let tables: Vec<Table> =
            loaded.into_iter().map(|table| Table::new(table.shape, table.slots, table.next, bytes_max)).collect();
        let slots = tables.iter().flat_map(|table| &table.slots);
        let segments = slots.filter_map(|slot| slot.chunk.segment()).map(|segment| (segment.id, segment.clone()));
        let segments = segments.collect();
        let watermark = Lsn(manifest.watermark);
        let version = Version {
            watermark,
            catalog: Arc::new(manifest.catalog.clone()),
            tables: tables.iter().map(|table| Arc::new(table.version())).collect(),
        };
        let written = Arc::new(written);
        let durable = Durable {
            dir: dir.to_owned(),
            storage,
            options: options.clone(),
            segments,
            kept,
            files: Arc::new(AtomicU64::new(manifest.next_file)),
            manifest,
            written: written.clone(),
            bytes: BytesByKind::default(),
            poisoned: false,
            watch: None,
        };
        Ok(Warehouse {
            tables,
            reader: WarehouseReader { current: Arc::new(ArcSwap::from_pointee(version)) },
            dir: dir.to_owned(),
            memory,
            budget: Budget::default(),
            background: Background::new(&options),
            wanted: false,
            running: None,
            durable: Arc::new(Mutex::new(durable)),
            facts: DurableFacts { watermark, ..DurableFacts::default() },
            options,
            written,
            applied: watermark,
            staged: false,
            ahead: false,
            counters: SinkCounters::default(),
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
        BulkLoad::new(&self.tables, &self.lock_durable())
    }

    /// Reads every file that the last manifest names and checks its hash.
    ///
    /// # Errors
    /// Names the first file that is not as it was written.
    pub fn verify(&self) -> Result<(), WarehouseError> {
        let durable = self.lock_durable();
        durable.segments.values().try_for_each(|segment| segment.verify())?;
        open::load(&durable.storage, &durable.dir, &durable.manifest, false).map(|_| ())
    }

    /// Makes a version of the tables as they are; tables that did not change are shared with the visible one.
    pub(super) fn show(&mut self, watermark: Lsn) {
        let before = self.reader.version();
        let tables = self.tables.iter_mut().zip(&before.tables).map(|(table, before)| {
            if std::mem::take(&mut table.changed) { Arc::new(table.version()) } else { before.clone() }
        });
        let version = Version { watermark, catalog: before.catalog.clone(), tables: tables.collect() };
        self.reader.current.store(Arc::new(version));
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
        self.check()?;
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
                self.facts.poisoned = true;
                return Err(error);
            }
            self.budget.changed(edit.len());
            self.counters.rows_upserted += edit.upserts.num_rows() as u64;
            self.counters.rows_deleted += edit.deletes.len() as u64;
        }
        Ok(())
    }

    fn publish_applied(&mut self, through: Lsn) -> Result<(), WarehouseError> {
        self.check()?;
        let present = self.applied.max(self.reader.version().watermark);
        if through < present {
            return Err(WarehouseError::WatermarkBack { asked: through, present });
        }
        self.compact()?;
        self.applied = through;
        self.staged = false;
        self.show(through);
        self.ahead = true;
        self.counters.publishes += 1;
        Ok(())
    }

    /// Bytes written so far; while a checkpoint is written, those before it.
    fn bytes_written(&self) -> BytesByKind {
        match self.durable.try_lock() {
            Ok(durable) => durable.bytes,
            Err(TryLockError::Poisoned(durable)) => durable.into_inner().bytes,
            Err(TryLockError::WouldBlock) => self.facts.bytes,
        }
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

    fn begin_checkpoint(&mut self) -> Result<(), SinkError> {
        Ok(self.begin_checkpoint_visible()?)
    }

    fn poll_checkpoint(&mut self) -> Result<Option<Lsn>, SinkError> {
        Ok(self.poll_checkpoint_visible()?)
    }

    fn checkpoint_is_due(&self) -> bool {
        self.memory.is_full_of_unwritten(self.budget.unwritten_bytes)
    }

    fn checkpoint_is_overdue(&self) -> bool {
        self.memory.is_passed_by(self.budget.kept_bytes)
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

    fn outside(&self) -> Outside {
        Outside::OnceDurable
    }

    fn watch_durable(&mut self, watch: DurableWatch) {
        self.lock_durable().watch = Some(watch);
    }

    fn durable(&self) -> Lsn {
        self.facts.watermark
    }

    fn counters(&self) -> SinkCounters {
        let (bytes, written) = (self.bytes_written(), &self.written);
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
