//! Rebuilds: a new generation beside the one in use.

use super::SearchError;
use super::current::{Current, generation_path};
use super::document::{Rows, document_of_row, key_bytes};
use super::generation::Generation;
use super::keys::Keys;
use super::shape::{Shape, TableShape};
use super::view::SearchView;
use super::writer::{SearchIndex, check_length};
use crate::model::{Lsn, TableId};
use crate::sink::{Bulk, SinkError};
use arrow_array::RecordBatch;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A generation under construction. Several threads may write to it at once. Dropped before it is installed, it leaves
/// nothing.
pub struct SearchBulk {
    generation: Generation,
    shape: Arc<Shape>,
    included: Mutex<BTreeSet<TableId>>,
    /// Finds a key that comes twice, and is the writer's set afterwards.
    keys: Mutex<Keys>,
    rows: AtomicU64,
}

impl fmt::Debug for SearchBulk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SearchBulk").field("dir", &self.generation.dir).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SearchBulk {
    pub(super) fn new(index: &SearchIndex) -> Result<SearchBulk, SearchError> {
        index.check()?;
        let number = index.next_generation.fetch_add(1, Ordering::Relaxed);
        let dir = generation_path(&index.dir, number);
        let generation = Generation::create(number, &dir, &index.shape, &index.options, &index.written)?;
        let shape = Arc::clone(&index.shape);
        let keys = Mutex::new(Keys::new(shape.tables.len()));
        Ok(SearchBulk { generation, shape, included: Mutex::default(), keys, rows: AtomicU64::new(0) })
    }

    /// Replaces this table, even if no row is written.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn include(&self, table: TableId) -> Result<(), SearchError> {
        self.shape.table(table)?;
        lock(&self.included).insert(table);
        Ok(())
    }

    /// Adds rows of a table.
    ///
    /// # Errors
    /// When the batch does not fit the table, a key comes twice or is too long, or a segment can't be written. The
    /// generation is then of no use any more.
    pub fn write(&self, table: TableId, batch: &RecordBatch) -> Result<(), SearchError> {
        self.include(table)?;
        let table = self.shape.table(table)?;
        self.rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
        if !table.is_indexed() {
            return Ok(());
        }
        let mut rows = Rows::new(table, self.shape.fields, batch)?;
        let keys = self.new_keys(table, &rows)?;
        for (row, key) in keys.iter().enumerate() {
            let document = rows.document(row, &key_bytes(table.id, key.as_ref()))?;
            self.generation.add(document, None)?;
        }
        Ok(())
    }

    fn new_keys(&self, table: &TableShape, rows: &Rows<'_>) -> Result<Vec<crate::model::Key>, SearchError> {
        let keys: Vec<_> = (0..rows.len).map(|row| rows.key(row)).collect::<Result<_, _>>()?;
        let mut known = lock(&self.keys);
        for key in &keys {
            check_length(table, key.as_ref())?;
            if !known.insert(table.id, key.as_ref()) {
                let (table, key) = (table.name().to_owned(), key.as_ref().describe());
                return Err(SearchError::DuplicateKey { table, key });
            }
        }
        Ok(keys)
    }

    /// Copies the documents of the tables that this does not replace.
    fn copy_others(&self, view: &SearchView) -> Result<(), SearchError> {
        let included = lock(&self.included).clone();
        let mut keys = lock(&self.keys);
        for table in self.shape.tables.iter().filter(|table| table.is_indexed() && !included.contains(&table.id)) {
            for row in view.rows(table.id) {
                let (key, document) = document_of_row(table, self.shape.fields, &row?)?;
                keys.insert(table.id, key.as_ref());
                self.generation.add(document, None)?;
            }
        }
        Ok(())
    }

    /// Makes this the generation in use, durably; readers see all of it or nothing, and what they hold stays.
    pub(super) fn install(mut self, index: &mut SearchIndex, through: Lsn) -> Result<(), SearchError> {
        index.check()?;
        if index.unpublished {
            return Err(SearchError::Unpublished { operation: "install a new generation" });
        }
        index.check_watermark(through)?;
        self.copy_others(&index.reader.view())?;
        self.generation.commit()?;
        let view = self.generation.view(through)?;
        self.generation.checkpoint(through)?;
        // From here on a failure leaves it open which generation the next opening finds: so this one's files stay.
        self.generation.kept = true;
        let current = Current { generation: self.generation.number, catalog: index.shape.catalog.clone() };
        let outcome = current.commit(&index.dir, &index.written);
        index.poison(outcome)?;
        index.now_durable(through);
        let SearchBulk { generation, keys, rows, .. } = self;
        let mut old = std::mem::replace(&mut index.generation, generation);
        index.keys = keys.into_inner().unwrap_or_else(PoisonError::into_inner);
        index.reader.current.store(Arc::new(view));
        index.applied = through;
        index.ahead = false;
        index.counters.rows_upserted += rows.into_inner();
        index.counters.publishes += 1;
        index.counters.checkpoints += 1;
        // Views that are held keep their files, which are mapped; nobody finds them by name any more.
        old.kept = false;
        drop(old);
        Ok(())
    }
}

impl Bulk for SearchBulk {
    fn include(&self, table: TableId) -> Result<(), SinkError> {
        Ok(SearchBulk::include(self, table)?)
    }

    fn write(&self, table: TableId, batch: RecordBatch) -> Result<(), SinkError> {
        Ok(SearchBulk::write(self, table, &batch)?)
    }
}
