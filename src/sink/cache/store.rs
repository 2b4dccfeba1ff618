//! The one interface of the places where entries are.

use super::memory::{Memory, MemoryBulk};
#[cfg(feature = "redis")]
use super::redis::{RedisBulk, RedisStore};
use super::slot::Content;
use super::staged::{Change, StagedSet};
use super::{CacheConflict, CacheError, CacheFill, CacheOptions, CacheStore};
use crate::model::{Catalog, Key, KeyRef, Lsn, TableId};

/// How writes are treated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) fill: CacheFill,
    pub(super) conflict: CacheConflict,
    pub(super) entries_max: Option<u64>,
}

/// An entry as a store gives it.
pub(super) type Entry = (Key, Lsn, Content);

/// The entries of a table as they are read one by one.
pub(super) type EntryIter = Box<dyn Iterator<Item = Result<Entry, CacheError>> + Send>;

/// Where the entries are.
#[derive(Debug)]
pub(super) enum Store {
    Memory(Memory),
    #[cfg(feature = "redis")]
    Redis(RedisStore),
}

/// A generation beside the one that readers see.
#[derive(Debug)]
pub(super) enum StoreBulk {
    Memory(MemoryBulk),
    #[cfg(feature = "redis")]
    Redis(RedisBulk),
}

/// The bytes an entry takes in the store: key, position, a byte for its kind, and the row. Both stores count so.
pub(super) fn entry_bytes(key: KeyRef<'_>, change: Change<'_>) -> u64 {
    let key = match key {
        KeyRef::Int(_) => 8,
        KeyRef::Encoded(bytes) => bytes.len(),
    };
    let row = if let Change::Row(bytes) = change { bytes.len() } else { 0 };
    (key + 9 + row) as u64
}

macro_rules! on_store {
    ($store:expr, $name:ident => $call:expr) => {
        match $store {
            Store::Memory($name) => $call,
            #[cfg(feature = "redis")]
            Store::Redis($name) => $call,
        }
    };
}

impl Store {
    pub(super) fn create(catalog: &Catalog, options: &CacheOptions, rules: Rules) -> Result<Store, CacheError> {
        match &options.store {
            CacheStore::Memory => Ok(Store::Memory(Memory::new(catalog.tables.len(), rules))),
            #[cfg(feature = "redis")]
            CacheStore::Redis { url } => {
                Ok(Store::Redis(RedisStore::create(url, options.prefix.as_deref(), catalog, rules)?))
            }
        }
    }

    pub(super) fn open(catalog: &Catalog, options: &CacheOptions, rules: Rules) -> Result<Store, CacheError> {
        #[cfg(not(feature = "redis"))]
        let _ = (catalog, rules);
        match &options.store {
            CacheStore::Memory => Err(CacheError::Setting {
                what: "a cache in process does not survive it, so it can't be opened again; create it and load it"
                    .into(),
            }),
            #[cfg(feature = "redis")]
            CacheStore::Redis { url } => {
                Ok(Store::Redis(RedisStore::open(url, options.prefix.as_deref(), catalog, rules)?))
            }
        }
    }

    /// Puts all the edits and then moves the watermark. Gives the bytes put.
    pub(super) fn publish(&self, sets: &[StagedSet], through: Lsn) -> Result<u64, CacheError> {
        on_store!(self, store => store.publish(sets, through))
    }

    /// One put by a reader. `false` when it was refused.
    pub(super) fn put(&self, table: TableId, key: KeyRef<'_>, at: Lsn, change: Change<'_>) -> Result<bool, CacheError> {
        on_store!(self, store => store.put(table, key, at, change))
    }

    pub(super) fn get(&self, table: TableId, key: KeyRef<'_>) -> Result<(Lsn, Content), CacheError> {
        on_store!(self, store => store.get(table, key))
    }

    pub(super) fn position(&self, table: TableId, key: KeyRef<'_>) -> Result<Option<Lsn>, CacheError> {
        on_store!(self, store => store.position(table, key))
    }

    pub(super) fn entries(&self, table: TableId) -> Result<EntryIter, CacheError> {
        on_store!(self, store => store.entries(table))
    }

    /// Whether a key without an entry is known to have no row.
    pub(super) fn is_complete(&self, table: TableId) -> bool {
        match self {
            Store::Memory(store) => store.is_complete(table),
            // The server may evict what it likes.
            #[cfg(feature = "redis")]
            Store::Redis(_) => false,
        }
    }

    pub(super) fn watermark(&self) -> Lsn {
        on_store!(self, store => store.watermark())
    }

    /// Whether the watermark is stored in one step with the last entries, where another process finds it.
    pub(super) fn keeps_watermark(&self) -> bool {
        !matches!(self, Store::Memory(_))
    }

    /// The watermark that a new process would find.
    pub(super) fn durable(&self) -> Result<Lsn, CacheError> {
        match self {
            Store::Memory(_) => Ok(Lsn::ZERO),
            #[cfg(feature = "redis")]
            Store::Redis(store) => store.stored_watermark(),
        }
    }

    pub(super) fn bulk(&self, tables: usize) -> Result<StoreBulk, CacheError> {
        match self {
            Store::Memory(store) => Ok(StoreBulk::Memory(store.bulk(tables))),
            #[cfg(feature = "redis")]
            Store::Redis(store) => Ok(StoreBulk::Redis(store.bulk(tables)?)),
        }
    }

    pub(super) fn install(&self, bulk: StoreBulk, through: Lsn) -> Result<(), CacheError> {
        match (self, bulk) {
            (Store::Memory(store), StoreBulk::Memory(bulk)) => {
                store.install(bulk, through);
                Ok(())
            }
            #[cfg(feature = "redis")]
            (Store::Redis(store), StoreBulk::Redis(bulk)) => store.install(bulk, through),
            #[cfg(feature = "redis")]
            _ => Err(CacheError::Setting { what: "this generation was begun in a cache of another kind".into() }),
        }
    }
}

impl StoreBulk {
    pub(super) fn include(&self, table: TableId) {
        match self {
            StoreBulk::Memory(bulk) => bulk.include(table),
            #[cfg(feature = "redis")]
            StoreBulk::Redis(bulk) => bulk.include(table),
        }
    }

    /// Puts rows that come one by one from `next_row`. Nobody else knows of them yet.
    pub(super) fn load<'k>(
        &self,
        table: TableId,
        keys: impl Iterator<Item = KeyRef<'k>>,
        next_row: impl FnMut(&mut Vec<u8>) -> Result<(), CacheError>,
    ) -> Result<u64, CacheError> {
        match self {
            StoreBulk::Memory(bulk) => bulk.load(table, keys, next_row),
            #[cfg(feature = "redis")]
            StoreBulk::Redis(bulk) => bulk.load(table, keys, next_row),
        }
    }
}
