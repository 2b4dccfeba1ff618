//! The distinct keys of a commit group, numbered in the order in which they were first seen.

use crate::model::key::KeyError;
use crate::model::{KeyColumn, KeyRef, TableSchema};
use xxhash_rust::xxh3::xxh3_64;

const EMPTY: u32 = u32::MAX;
const SLOTS_MIN: usize = 64;

/// A set of keys with numbers: an open-addressing table of `u32` numbers over a packed column of keys.
///
/// Keys are compared whole, never by hash alone. Integer keys cost no allocation each, other keys are packed one
/// behind another. Holds at most `u32::MAX - 1` keys.
#[derive(Debug)]
pub(super) struct KeyIndex {
    keys: KeyColumn,
    /// Numbers of keys; a power of two of places, at most half of them in use.
    slots: Vec<u32>,
}

impl KeyIndex {
    pub(super) fn for_table(schema: &TableSchema) -> KeyIndex {
        KeyIndex { keys: KeyColumn::for_table(schema), slots: vec![EMPTY; SLOTS_MIN] }
    }

    pub(super) fn keys(&self) -> &KeyColumn {
        &self.keys
    }

    /// The key's number; a new key gets the next one.
    pub(super) fn number_of(&mut self, key: KeyRef<'_>) -> Result<usize, KeyError> {
        let mut slot = self.first_slot(key);
        while let Some(&number) = self.slots.get(slot)
            && number != EMPTY
        {
            if self.keys.get(number as usize) == Some(key) {
                return Ok(number as usize);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        let number = self.keys.len();
        self.keys.push(key)?;
        if let Some(place) = self.slots.get_mut(slot) {
            *place = number as u32;
        }
        if 2 * self.keys.len() > self.slots.len() {
            self.grow();
        }
        Ok(number)
    }

    pub(super) fn clear(&mut self) {
        // One large group must not make all the small ones after it clear its many places. Groups whose sizes lie about a power of two
        // must not grow again each time.
        let places = (2 * self.keys.len()).next_power_of_two().max(SLOTS_MIN);
        if self.slots.len() > 2 * places {
            self.slots.truncate(places);
        }
        match &mut self.keys {
            KeyColumn::Int(keys) => keys.clear(),
            KeyColumn::Encoded { bytes, ends } => {
                bytes.clear();
                ends.clear();
            }
        }
        self.slots.fill(EMPTY);
    }

    fn first_slot(&self, key: KeyRef<'_>) -> usize {
        let hash = match key {
            // Fibonacci hashing; the high bits are the good ones.
            KeyRef::Int(v) => (v as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32,
            KeyRef::Encoded(bytes) => xxh3_64(bytes),
        };
        hash as usize & (self.slots.len() - 1)
    }

    fn grow(&mut self) {
        self.slots = vec![EMPTY; 2 * self.slots.len()];
        for (number, key) in self.keys.iter().enumerate() {
            let mut slot = self.first_slot(key);
            while self.slots.get(slot).is_some_and(|&taken| taken != EMPTY) {
                slot = (slot + 1) & (self.slots.len() - 1);
            }
            if let Some(place) = self.slots.get_mut(slot) {
                *place = number as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Column, ColumnType};

    #[test]
    fn keys_are_numbered_as_first_seen_through_growth_and_clearing() {
        let int = TableSchema::new("t", vec![Column::required("id", ColumnType::Int64)], vec![0]).unwrap();
        let text = TableSchema::new("t", vec![Column::required("id", ColumnType::Text)], vec![0]).unwrap();
        let (mut ints, mut texts) = (KeyIndex::for_table(&int), KeyIndex::for_table(&text));
        for _ in 0..2 {
            for round in 0..2 {
                for n in 0..1000usize {
                    let spread = (n as i64 - 500) << 40;
                    assert_eq!(ints.number_of(KeyRef::Int(spread)), Ok(n), "round {round}");
                    assert_eq!(texts.number_of(KeyRef::Encoded(format!("k{n}").as_bytes())), Ok(n), "round {round}");
                }
            }
            assert_eq!(ints.number_of(KeyRef::Encoded(b"x")), Err(KeyError::WrongKind));
            assert_eq!((ints.keys().len(), texts.keys().len()), (1000, 1000));
            ints.clear();
            texts.clear();
        }
    }
}
