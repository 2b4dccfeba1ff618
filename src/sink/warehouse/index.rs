//! The primary-key index of one table: from a key to the address of its live row.
//!
//! Open addressing with linear probing and backward-shift deletion, 16 bytes an entry. The word of an integer
//! key is the integer itself; of any other key it is a 64-bit hash, and the caller verifies each hit against the
//! row's own key. Split into shards by hash so that growing moves one shard at a time: no long pause.

use super::WarehouseError;

const SHARD_BITS: u32 = 6;
const SHARD_ENTRIES_MIN: usize = 16;
const VACANT: u64 = u64::MAX;

/// The place of a row in a table's address space. Addresses are never used twice.
pub(super) type Address = u64;

#[derive(Clone, Copy, Debug)]
struct Entry {
    word: u64,
    address: Address,
}

const EMPTY: Entry = Entry { word: 0, address: VACANT };

#[derive(Clone, Debug)]
struct Shard {
    entries: Vec<Entry>,
    len: usize,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct KeyIndex {
    shards: Vec<Shard>,
}

/// Decides whether the row at an address has the key looked for.
pub(super) trait Verify: FnMut(Address) -> Result<bool, WarehouseError> {}
impl<F: FnMut(Address) -> Result<bool, WarehouseError>> Verify for F {}

impl KeyIndex {
    /// An empty index with room for `keys` keys.
    pub(super) fn with_capacity(keys: usize) -> KeyIndex {
        let each = (keys >> SHARD_BITS) + (keys >> (SHARD_BITS + 3));
        let shard = Shard::with_entries((each * 4 / 3).next_power_of_two().max(SHARD_ENTRIES_MIN));
        KeyIndex { shards: vec![shard; 1 << SHARD_BITS] }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len).sum()
    }

    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.entries.len() * size_of::<Entry>()).sum()
    }

    /// Reads the first entry a search for `word` will look at. Calling it for many words before the searches lets
    /// the processor wait for all those cache lines at once instead of for each in turn.
    pub(super) fn touch(&self, word: u64) -> u64 {
        let hash = mix(word);
        let shard = &self.shards[shard_of(hash)];
        shard.entries[shard.home(hash)].address
    }

    /// The address of the key.
    pub(super) fn get(&self, word: u64, verify: impl Verify) -> Result<Option<Address>, WarehouseError> {
        let hash = mix(word);
        let shard = &self.shards[shard_of(hash)];
        Ok(shard.find(hash, word, verify)?.ok().map(|place| shard.entries[place].address))
    }

    /// Puts the key at `address`; returns where it was before.
    pub(super) fn insert(
        &mut self,
        word: u64,
        address: Address,
        verify: impl Verify,
    ) -> Result<Option<Address>, WarehouseError> {
        let hash = mix(word);
        let shard = &mut self.shards[shard_of(hash)];
        shard.make_room();
        Ok(match shard.find(hash, word, verify)? {
            Ok(place) => Some(std::mem::replace(&mut shard.entries[place].address, address)),
            Err(vacant) => {
                shard.entries[vacant] = Entry { word, address };
                shard.len += 1;
                None
            }
        })
    }

    /// Takes the key out; returns where it was.
    pub(super) fn remove(&mut self, word: u64, verify: impl Verify) -> Result<Option<Address>, WarehouseError> {
        let hash = mix(word);
        let shard = &mut self.shards[shard_of(hash)];
        Ok(match shard.find(hash, word, verify)? {
            Ok(place) => Some(shard.take(place)),
            Err(_) => None,
        })
    }

    /// Says that the row at `from` is now at `to`. Does nothing when no key is at `from`.
    pub(super) fn relocate(&mut self, word: u64, from: Address, to: Address) {
        let hash = mix(word);
        let shard = &mut self.shards[shard_of(hash)];
        if let Ok(Ok(place)) = shard.find(hash, word, |address| Ok(address == from)) {
            shard.entries[place].address = to;
        }
    }
}

impl Shard {
    fn with_entries(count: usize) -> Shard {
        Shard { entries: vec![EMPTY; count], len: 0 }
    }

    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.entries.len() - 1)
    }

    /// The place of the key, or the vacant place where it would go. There is always a vacant place: the load
    /// stays at or below 3/4.
    #[inline]
    fn find(&self, hash: u64, word: u64, mut verify: impl Verify) -> Result<Result<usize, usize>, WarehouseError> {
        let mask = self.entries.len() - 1;
        let mut place = hash as usize & mask;
        loop {
            let entry = self.entries[place];
            if entry.address == VACANT {
                return Ok(Err(place));
            }
            if entry.word == word && verify(entry.address)? {
                return Ok(Ok(place));
            }
            place = (place + 1) & mask;
        }
    }

    fn make_room(&mut self) {
        if (self.len + 1) * 4 <= self.entries.len() * 3 {
            return;
        }
        let grown = Shard::with_entries(self.entries.len() * 2);
        let old = std::mem::replace(self, grown);
        let mask = self.entries.len() - 1;
        for entry in old.entries.into_iter().filter(|entry| entry.address != VACANT) {
            let mut place = mix(entry.word) as usize & mask;
            while self.entries[place].address != VACANT {
                place = (place + 1) & mask;
            }
            self.entries[place] = entry;
        }
        self.len = old.len;
    }

    /// Empties `hole` and moves entries behind it forward where their search would otherwise end at the hole.
    fn take(&mut self, mut hole: usize) -> Address {
        let mask = self.entries.len() - 1;
        let taken = std::mem::replace(&mut self.entries[hole], EMPTY).address;
        self.len -= 1;
        let mut place = hole;
        loop {
            place = (place + 1) & mask;
            let entry = self.entries[place];
            if entry.address == VACANT {
                return taken;
            }
            let home = mix(entry.word) as usize & mask;
            // The entry may move to the hole unless its home lies behind the hole, on the way to its place.
            if (place.wrapping_sub(home) & mask) >= (place.wrapping_sub(hole) & mask) {
                self.entries[hole] = entry;
                self.entries[place] = EMPTY;
                hole = place;
            }
        }
    }
}

fn shard_of(hash: u64) -> usize {
    (hash >> (u64::BITS - SHARD_BITS)) as usize
}

/// Spreads a word over 64 bits: one full multiplication, folded, so that neighbouring integers part.
fn mix(word: u64) -> u64 {
    let product = u128::from(word ^ 0x2d35_8dcc_aa6c_78a5) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn words_that_collide_are_told_apart_by_verification() -> Result<(), WarehouseError> {
        let mut index = KeyIndex::with_capacity(0);
        assert_eq!(index.insert(7, 100, |_| Ok(false))?, None);
        assert_eq!(index.insert(7, 200, |at| Ok(at == 200))?, None);
        assert_eq!(index.get(7, |at| Ok(at == 200))?, Some(200));
        assert_eq!(index.remove(7, |at| Ok(at == 100))?, Some(100));
        assert_eq!(index.get(7, |at| Ok(at == 200))?, Some(200));
        index.relocate(7, 200, 300);
        assert_eq!(index.get(7, |_| Ok(true))?, Some(300));
        Ok(())
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0..3u8, 0..400u64), 0..3_000)) {
            let (mut index, mut model) = (KeyIndex::with_capacity(0), BTreeMap::new());
            for (address, (what, word)) in steps.into_iter().enumerate() {
                let address = address as Address;
                let (got, expected) = match what {
                    0 => (index.insert(word, address, |_| Ok(true)), model.insert(word, address)),
                    1 => (index.remove(word, |_| Ok(true)), model.remove(&word)),
                    _ => (index.get(word, |_| Ok(true)), model.get(&word).copied()),
                };
                prop_assert_eq!(got.map_err(|e| TestCaseError::fail(e.to_string()))?, expected);
            }
            prop_assert_eq!(index.len(), model.len());
        }
    }
}
