//! Readers, and the loaders of a cache that is filled aside.

use super::CacheError;
use super::columns::{decode, encode_values};
use super::slot::Content;
use super::staged::Change;
use super::store::{EntryIter, Store};
use crate::model::{Catalog, Key, KeyRef, Lsn, TableId, TableSchema, Value, ValueRef};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a cache says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It does not know.
    Miss,
    /// It knows.
    Hit {
        /// The commit as of which it knows.
        position: Lsn,
        /// The row, in the output table's columns; `None` when there is no row.
        row: Option<Vec<Value>>,
    },
}

/// Reads the cache, and fills it in. Clones are cheap and may go to other threads; each counts its own hits.
#[derive(Debug)]
pub struct CacheReader {
    pub(super) catalog: Arc<Catalog>,
    pub(super) store: Arc<Store>,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
}

// The counts are a clone's own, so that readers on several threads do not meet at one cache line.
impl Clone for CacheReader {
    fn clone(&self) -> CacheReader {
        CacheReader::new(self.catalog.clone(), self.store.clone())
    }
}

impl CacheReader {
    pub(super) fn new(catalog: Arc<Catalog>, store: Arc<Store>) -> CacheReader {
        CacheReader { catalog, store, hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    fn schema(&self, table: TableId) -> Result<&TableSchema, CacheError> {
        self.catalog.table(table).ok_or(CacheError::NoTable { table: table.0 })
    }

    fn count(&self, hit: bool) {
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The watermark: every key is known as of this commit or a newer one, or not known.
    pub fn watermark(&self) -> Lsn {
        self.store.watermark()
    }

    /// What the cache says of a key.
    ///
    /// # Errors
    /// [`CacheError`] when there is no such table, the server does not answer, or the entry is damaged.
    pub fn get(&self, table: TableId, key: KeyRef<'_>) -> Result<Lookup, CacheError> {
        let schema = self.schema(table)?;
        let (position, content) = self.store.get(table, key)?;
        let row = match content {
            Content::Unknown => {
                self.count(false);
                return Ok(Lookup::Miss);
            }
            Content::Gone => None,
            Content::Row(row) => Some(decode(schema, key, &row)?),
        };
        self.count(true);
        Ok(Lookup::Hit { position, row })
    }

    /// The commit as of which the cache knows a key, without its row; `None` is a miss.
    ///
    /// # Errors
    /// [`CacheError`] when there is no such table or the server does not answer.
    pub fn get_position(&self, table: TableId, key: KeyRef<'_>) -> Result<Option<Lsn>, CacheError> {
        let position = self.store.position(table, key)?;
        self.count(position.is_some());
        Ok(position)
    }

    /// Puts what a read of the source at `position` found: a row in the output table's columns, or that there is none.
    /// `false` when the cache has an entry or an invalidation that is newer than `position`, and keeps that.
    ///
    /// # Errors
    /// [`CacheError`] when the row does not fit table and key, or the server does not answer.
    pub fn fill(
        &self,
        table: TableId,
        key: KeyRef<'_>,
        row: Option<&[ValueRef<'_>]>,
        position: Lsn,
    ) -> Result<bool, CacheError> {
        let schema = self.schema(table)?;
        match row {
            Some(row) => self.store.put(table, key, position, Change::Row(&encode_values(schema, key, row)?)),
            None => self.store.put(table, key, position, Change::Gone),
        }
    }

    /// All that the cache knows of a table, in no order: for verification. Invalidations are left out. What changes
    /// meanwhile may be seen or not.
    ///
    /// # Errors
    /// [`CacheError`] when there is no such table or the server does not answer.
    pub fn entries(&self, table: TableId) -> Result<Entries, CacheError> {
        self.schema(table)?;
        Ok(Entries { catalog: self.catalog.clone(), table, inner: self.store.entries(table)? })
    }

    /// How many rows the cache has of a table. Goes through all entries.
    ///
    /// # Errors
    /// As [`CacheReader::entries`].
    pub fn rows(&self, table: TableId) -> Result<u64, CacheError> {
        self.schema(table)?;
        let mut rows = 0;
        for entry in self.store.entries(table)? {
            rows += u64::from(matches!(entry?.2, Content::Row(_)));
        }
        Ok(rows)
    }

    /// How many lookups through this handle found something, and how many missed.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed))
    }
}

/// What a cache knows of a table: key, position, and the row or `None` when the key has no row.
pub struct Entries {
    catalog: Arc<Catalog>,
    table: TableId,
    inner: EntryIter,
}

impl Iterator for Entries {
    type Item = Result<(Key, Lsn, Option<Vec<Value>>), CacheError>;

    fn next(&mut self) -> Option<Self::Item> {
        let schema = self.catalog.table(self.table)?;
        loop {
            return match self.inner.next()? {
                Err(error) => Some(Err(error)),
                Ok((_, _, Content::Unknown)) => continue,
                Ok((key, position, Content::Gone)) => Some(Ok((key, position, None))),
                Ok((key, position, Content::Row(row))) => {
                    Some(decode(schema, key.as_ref(), &row).map(|row| (key, position, Some(row))))
                }
            };
        }
    }
}
