//! Which keys the index has, so that a new key needs no delete.
//!
//! A set may hold a key that is gone (after opening, until its segment is merged): that costs one needless delete.
//! It never misses one that is there.

use super::SearchError;
use super::document::key_of_term;
use super::shape::Shape;
use crate::model::{KeyRef, TableId};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use tantivy::Searcher;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The keys of all tables.
#[derive(Debug)]
pub(super) struct Keys {
    tables: Vec<TableKeys>,
    /// Drawn for each process, so that nobody can make keys that meet.
    seed: u64,
}

/// The keys of one table: integers themselves, others by 128-bit hash.
#[derive(Debug, Default)]
pub(super) struct TableKeys {
    ints: HashSet<i64>,
    hashes: HashSet<u128>,
}

impl Keys {
    pub(super) fn new(tables: usize) -> Keys {
        let seed = RandomState::new().hash_one(tables);
        Keys { tables: (0..tables).map(|_| TableKeys::default()).collect(), seed }
    }

    /// The keys of all terms of the segments, those of deleted documents among them.
    pub(super) fn of_index(searcher: &Searcher, shape: &Shape, dir: &Path) -> Result<Keys, SearchError> {
        let mut keys = Keys::new(shape.tables.len());
        for segment in searcher.segment_readers() {
            let index = segment.inverted_index(shape.fields.terms).map_err(SearchError::engine("read", dir))?;
            let mut terms = index.terms().stream().map_err(SearchError::io("read the terms of", dir))?;
            while terms.advance() {
                if let Some((table, key)) = key_of_term(terms.key()) {
                    keys.insert(table, key.as_ref());
                }
            }
        }
        Ok(keys)
    }

    /// Adds a key; whether it is new. A table that is not there has none.
    pub(super) fn insert(&mut self, table: TableId, key: KeyRef<'_>) -> bool {
        let seed = self.seed;
        self.tables.get_mut(table.index()).is_some_and(|keys| match key {
            KeyRef::Int(key) => keys.ints.insert(key),
            KeyRef::Encoded(key) => keys.hashes.insert(xxh3_128_with_seed(key, seed)),
        })
    }

    /// Removes a key; whether it may have been there.
    pub(super) fn remove(&mut self, table: TableId, key: KeyRef<'_>) -> bool {
        let seed = self.seed;
        self.tables.get_mut(table.index()).is_some_and(|keys| match key {
            KeyRef::Int(key) => keys.ints.remove(&key),
            KeyRef::Encoded(key) => keys.hashes.remove(&xxh3_128_with_seed(key, seed)),
        })
    }

    /// Removes all keys of a table; whether there may have been any.
    pub(super) fn clear(&mut self, table: TableId) -> bool {
        self.tables.get_mut(table.index()).map(std::mem::take).is_some_and(|keys| !keys.is_empty())
    }
}

impl TableKeys {
    fn is_empty(&self) -> bool {
        self.ints.is_empty() && self.hashes.is_empty()
    }
}
