//! A generation of the cache that is built beside the one readers see.

use super::CacheError;
use super::columns::BatchView;
use super::store::StoreBulk;
use crate::model::{Catalog, TableId};
use crate::sink::{Bulk, SinkError};
use arrow_array::RecordBatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Loads whole tables. Many threads may write at once; each encodes and puts its rows on its own. Nobody sees anything of it
/// before it is installed; dropped before, it is gone. Of two rows with one key the one put last stays.
#[derive(Debug)]
pub struct CacheBulk {
    pub(super) catalog: Arc<Catalog>,
    pub(super) store: StoreBulk,
    pub(super) rows: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl CacheBulk {
    fn write_rows(&self, table: TableId, batch: &RecordBatch) -> Result<(), CacheError> {
        let schema = self.catalog.table(table).ok_or(CacheError::NoTable { table: table.0 })?;
        let view = BatchView::new(schema, batch)?;
        let keys = view.keys()?;
        self.store.include(table);
        let mut row = 0;
        let bytes = self.store.load(table, keys.iter(), |out| {
            row += 1;
            view.encode(out, row - 1)
        })?;
        self.rows.fetch_add(view.rows() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Bulk for CacheBulk {
    fn include(&self, table: TableId) -> Result<(), SinkError> {
        self.catalog.table(table).ok_or(CacheError::NoTable { table: table.0 })?;
        self.store.include(table);
        Ok(())
    }

    fn write(&self, table: TableId, batch: RecordBatch) -> Result<(), SinkError> {
        Ok(self.write_rows(table, &batch)?)
    }
}
