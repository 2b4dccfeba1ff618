//! The one writer of a cache.

use super::bulk::CacheBulk;
use super::slot::Content;
use super::staged::{StagedSet, StagedTable, find_staged};
use super::store::{Rules, Store};
use super::{CacheError, CacheFill, CacheOptions, CacheReader, CacheStore};
use crate::apply::edits::{CurrentRowError, CurrentRows, EditSet};
use crate::model::{Catalog, KeyRef, Lsn, TableId, Value};
use crate::sink::{DurableWatch, Outside, Sink, SinkCounters, SinkError, SinkKind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A cache of rows by key, opened to write. Readers may fill it beside the writer.
#[derive(Debug)]
pub struct Cache {
    catalog: Arc<Catalog>,
    store: Arc<Store>,
    rules: Rules,
    staged: Vec<StagedSet>,
    /// The last commit of the edits that were applied.
    applied: Lsn,
    durable: Lsn,
    counters: SinkCounters,
}

impl Cache {
    /// Makes a new, empty cache for the tables of `catalog`. On a server it connects now.
    ///
    /// # Errors
    /// [`CacheError`], when a table's schema or a setting makes no sense, the server can't be reached, or the
    /// prefix is in use.
    pub fn create(catalog: &Catalog, options: CacheOptions) -> Result<Cache, CacheError> {
        let rules = rules(catalog, &options)?;
        Ok(Cache::with_store(catalog, Store::create(catalog, &options, rules)?, rules))
    }

    /// Goes on with the cache that another process left on a server under [`CacheOptions::prefix`], at the watermark
    /// stored with it. At most one process may write to it.
    ///
    /// # Errors
    /// [`CacheError`], when the options name no such place, the server can't be reached, or it has no cache of these tables there.
    pub fn open(catalog: &Catalog, options: CacheOptions) -> Result<Cache, CacheError> {
        let rules = rules(catalog, &options)?;
        Ok(Cache::with_store(catalog, Store::open(catalog, &options, rules)?, rules))
    }

    fn with_store(catalog: &Catalog, store: Store, rules: Rules) -> Cache {
        let watermark = store.watermark();
        Cache {
            catalog: Arc::new(catalog.clone()),
            store: Arc::new(store),
            rules,
            staged: Vec::new(),
            applied: watermark,
            durable: watermark,
            counters: SinkCounters::default(),
        }
    }

    /// A handle for readers and loaders.
    pub fn reader(&self) -> CacheReader {
        CacheReader::new(self.catalog.clone(), self.store.clone())
    }

    /// The tables and their columns.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    fn apply_edits(&mut self, edits: &EditSet) -> Result<(), CacheError> {
        let mut tables = Vec::with_capacity(edits.tables.len());
        for edit in &edits.tables {
            let schema = self.catalog.table(edit.table).ok_or(CacheError::NoTable { table: edit.table.0 })?;
            tables.push(StagedTable::new(schema, edit, self.rules.fill)?);
        }
        for edit in &edits.tables {
            self.counters.rows_upserted += edit.upsert_keys.len() as u64;
            self.counters.rows_deleted += edit.deletes.len() as u64;
        }
        self.applied = self.applied.max(edits.through);
        self.staged.push(StagedSet { position: edits.through, tables });
        Ok(())
    }

    fn publish_staged(&mut self, through: Lsn) -> Result<(), CacheError> {
        self.check_forward(through)?;
        // When this fails, part of the edits may be visible. They stay staged: putting them again does no harm.
        self.counters.bytes_written += self.store.publish(&self.staged, through)?;
        self.staged.clear();
        self.shown(through);
        Ok(())
    }

    fn install_bulk(&mut self, bulk: CacheBulk, through: Lsn) -> Result<(), CacheError> {
        if !self.staged.is_empty() {
            return Err(CacheError::Unpublished { operation: "install a bulk load" });
        }
        self.check_forward(through)?;
        let (rows, bytes) = (bulk.rows.into_inner(), bulk.bytes.into_inner());
        self.store.install(bulk.store, through)?;
        self.counters.rows_upserted += rows;
        self.counters.bytes_written += bytes;
        self.shown(through);
        Ok(())
    }

    fn check_forward(&self, through: Lsn) -> Result<(), CacheError> {
        let present = self.applied.max(self.store.watermark());
        if through < present { Err(CacheError::WatermarkBack { asked: through, present }) } else { Ok(()) }
    }

    fn shown(&mut self, through: Lsn) {
        self.applied = through;
        self.counters.publishes += 1;
        if self.store.keeps_watermark() {
            self.durable = through;
        }
    }

    fn row_now(&self, table: TableId, key: KeyRef<'_>) -> Result<Option<Vec<Value>>, CacheError> {
        let schema = self.catalog.table(table).ok_or(CacheError::NoTable { table: table.0 })?;
        if let Some(found) = find_staged(&self.staged, table, key) {
            return Ok(found);
        }
        // Asked before the entry: a row can't come between the two unseen, since only this writer adds any.
        let complete = self.store.is_complete(table);
        match self.store.get(table, key)?.1 {
            Content::Row(row) => super::columns::decode(schema, key, &row).map(Some),
            Content::Gone => Ok(None),
            Content::Unknown if complete => Ok(None),
            Content::Unknown => Err(CacheError::Unknown { table: schema.name.clone(), key: key.describe() }),
        }
    }
}

fn rules(catalog: &Catalog, options: &CacheOptions) -> Result<Rules, CacheError> {
    for table in &catalog.tables {
        table.check().map_err(|error| CacheError::mismatch(&table.name, error.to_string()))?;
    }
    if options.entries_max.is_some() && options.store != CacheStore::Memory {
        let what = "a bound on entries is for a cache in process; a server is bounded by its own maxmemory";
        return Err(CacheError::Setting { what: what.to_owned() });
    }
    Ok(Rules { fill: options.fill, conflict: options.conflict, entries_max: options.entries_max })
}

impl Sink for Cache {
    type Bulk = CacheBulk;
    type Reader = CacheReader;

    const KIND: SinkKind = SinkKind::Cache;

    fn apply(&mut self, edits: &EditSet) -> Result<(), SinkError> {
        Ok(self.apply_edits(edits)?)
    }

    fn publish(&mut self, through: Lsn) -> Result<(), SinkError> {
        Ok(self.publish_staged(through)?)
    }

    /// Writes nothing. In process nothing is durable, ever: the answer is `Lsn(0)`, and after a crash the owner has to load the
    /// cache again. On a server the watermark was stored with the entries; this asks whether the server still has it.
    fn checkpoint(&mut self) -> Result<Lsn, SinkError> {
        self.durable = self.store.durable()?;
        self.counters.checkpoints += u64::from(self.durable > Lsn::ZERO);
        Ok(self.durable)
    }

    /// In the cache-aside mode it is filled by its readers alone, and begins empty.
    fn keeps(&self, _: TableId) -> bool {
        self.rules.fill == CacheFill::Stream
    }

    fn bulk(&self) -> Result<CacheBulk, SinkError> {
        Ok(CacheBulk {
            catalog: self.catalog.clone(),
            store: self.store.bulk(self.catalog.tables.len())?,
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    fn install(&mut self, bulk: CacheBulk, through: Lsn) -> Result<(), SinkError> {
        Ok(self.install_bulk(bulk, through)?)
    }

    fn reader(&self) -> CacheReader {
        Cache::reader(self)
    }

    fn visible(&self) -> Lsn {
        self.store.watermark()
    }

    /// On a server an entry is there for all as soon as it is put.
    fn outside(&self) -> Outside {
        match *self.store {
            Store::Memory(_) => Outside::Never,
            #[cfg(feature = "redis")]
            Store::Redis(_) => Outside::WithPublish,
        }
    }

    fn watch_durable(&mut self, _: DurableWatch) {}

    fn durable(&self) -> Lsn {
        self.durable
    }

    /// A cache has no files. `bytes_written` is the size of the entries put (key, position, kind, row; refused ones are not
    /// counted), which is what a store must take in: the figure that stands beside a warehouse's bytes.
    fn counters(&self) -> SinkCounters {
        self.counters
    }
}

impl CurrentRows for Cache {
    fn current_row(&self, table: TableId, key: KeyRef<'_>) -> Result<Option<Vec<Value>>, CurrentRowError> {
        self.row_now(table, key).map_err(|cause| CurrentRowError { table, cause: cause.into() })
    }
}
