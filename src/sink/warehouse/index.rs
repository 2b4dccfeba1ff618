//! The primary-key index of one table: from a key to the address of its live row.
//!
//! Open addressing with linear probing and backward-shift deletion, 16 bytes an entry. The word of an integer
//! key is the integer itself; of any other key it is a 64-bit hash, and the caller verifies each hit against the
//! row's own key.
//!
//! Memory: a shard is between 1/2 and 3/4 full, of any size (its home is a multiplication and a shift, not a mask), so
//! a row costs 21 to 35 bytes once a table has more rows than 4,000; a shard that deletes have emptied below that is
//! made smaller.
//!
//! Pauses: shards are split one after the other as keys come (linear hashing: Litwin, 1980), so that none has more than
//! about `2 * SHARD_KEYS` keys and no change moves more entries than that, however large the table.

use super::WarehouseError;

/// Shards of an empty index; a power of two.
const SHARDS_MIN: usize = 64;
/// A shard is split for every so many keys that come.
const SHARD_KEYS: usize = 8_192;
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
    /// The power of two that there were shards when the present round of splits began.
    round: usize,
    len: usize,
}

/// Decides whether the row at an address has the key looked for.
pub(super) trait Verify: FnMut(Address) -> Result<bool, WarehouseError> {}
impl<F: FnMut(Address) -> Result<bool, WarehouseError>> Verify for F {}

impl KeyIndex {
    /// An empty index with room for `keys` keys.
    pub(super) fn with_capacity(keys: usize) -> KeyIndex {
        // A power of two, or those already split in the round would get half as many keys as the others.
        let shards = keys.div_ceil(SHARD_KEYS).next_power_of_two().max(SHARDS_MIN);
        // Shards get more or fewer keys by chance; one that gets more than this grows.
        let each = keys / shards;
        let shard = Shard::with_entries((each + each / 2).max(SHARD_ENTRIES_MIN));
        KeyIndex { round: shards, shards: vec![shard; shards], len: 0 }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.len, self.shards.iter().map(|shard| shard.len).sum::<usize>());
        self.len
    }

    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        let entries: usize = self.shards.iter().map(|shard| shard.entries.capacity()).sum();
        entries * size_of::<Entry>() + self.shards.capacity() * size_of::<Shard>()
    }

    /// Reads the first entry a search for `word` will look at. Calling it for many words before the searches lets
    /// the processor wait for all those cache lines at once instead of for each in turn.
    pub(super) fn touch(&self, word: u64) -> Address {
        let hash = mix(word);
        let shard = &self.shards[self.shard_of(hash)];
        shard.entries[shard.home(hash)].address
    }

    /// The first address that a search for `word` would have verified.
    pub(super) fn candidate(&self, word: u64) -> Option<Address> {
        self.get(word, |_| Ok(true)).ok().flatten()
    }

    /// The address of the key.
    pub(super) fn get(&self, word: u64, verify: impl Verify) -> Result<Option<Address>, WarehouseError> {
        let hash = mix(word);
        let shard = &self.shards[self.shard_of(hash)];
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
        let at = self.shard_of(hash);
        let shard = &mut self.shards[at];
        match shard.find(hash, word, verify)? {
            Ok(place) => return Ok(Some(std::mem::replace(&mut shard.entries[place].address, address))),
            Err(vacant) => shard.entries[vacant] = Entry { word, address },
        }
        shard.len += 1;
        shard.make_room();
        self.len += 1;
        if self.len > self.shards.len() * SHARD_KEYS {
            self.split();
        }
        Ok(None)
    }

    /// Takes the key out; returns where it was.
    pub(super) fn remove(&mut self, word: u64, verify: impl Verify) -> Result<Option<Address>, WarehouseError> {
        let hash = mix(word);
        let at = self.shard_of(hash);
        let shard = &mut self.shards[at];
        let Ok(place) = shard.find(hash, word, verify)? else { return Ok(None) };
        let taken = shard.take(place);
        shard.give_room();
        self.len -= 1;
        Ok(Some(taken))
    }

    /// The upper half of the hash says which shard, the lower half where in it.
    fn shard_of(&self, hash: u64) -> usize {
        let upper = (hash >> 32) as usize;
        let split = upper & (2 * self.round - 1);
        if split < self.shards.len() { split } else { upper & (self.round - 1) }
    }

    /// Divides the next shard in turn in two.
    fn split(&mut self) {
        let old = self.shards.len() - self.round;
        let keys = std::mem::replace(&mut self.shards[old], Shard::with_entries(0));
        self.shards.push(Shard::with_entries(0));
        let stays = |entry: &Entry| self.shard_of(mix(entry.word)) == old;
        let staying = keys.present().filter(stays).count();
        let (mut stay, mut go) = (Shard::for_keys(staying), Shard::for_keys(keys.len - staying));
        for entry in keys.present() {
            if stays(&entry) { &mut stay } else { &mut go }.put_new(entry);
        }
        let new = self.shards.len() - 1;
        (self.shards[old], self.shards[new]) = (stay, go);
        if self.shards.len() == 2 * self.round {
            self.round *= 2;
        }
    }
}

impl Shard {
    fn with_entries(count: usize) -> Shard {
        Shard { entries: vec![EMPTY; count], len: 0 }
    }

    /// A shard that so many keys will fill by half. It is split again with 1.5 to 3 times as many, and grows once or twice until then.
    fn for_keys(count: usize) -> Shard {
        Shard::with_entries((2 * count).max(SHARD_ENTRIES_MIN))
    }

    fn present(&self) -> impl Iterator<Item = Entry> {
        self.entries.iter().copied().filter(|entry| entry.address != VACANT)
    }

    fn home(&self, hash: u64) -> usize {
        (((hash & 0xffff_ffff) * self.entries.len() as u64) >> 32) as usize
    }

    /// The place behind `place`, around the end.
    fn behind(&self, place: usize) -> usize {
        if place + 1 == self.entries.len() { 0 } else { place + 1 }
    }

    /// The place of the key, or the vacant place where it would go. There is always a vacant place: the load
    /// stays at or below 3/4.
    #[inline]
    fn find(&self, hash: u64, word: u64, mut verify: impl Verify) -> Result<Result<usize, usize>, WarehouseError> {
        let mut place = self.home(hash);
        loop {
            let entry = self.entries[place];
            if entry.address == VACANT {
                return Ok(Err(place));
            }
            if entry.word == word && verify(entry.address)? {
                return Ok(Ok(place));
            }
            place = self.behind(place);
        }
    }

    /// Puts in a key that is known not to be there.
    fn put_new(&mut self, entry: Entry) {
        let mut place = self.home(mix(entry.word));
        while self.entries[place].address != VACANT {
            place = self.behind(place);
        }
        self.entries[place] = entry;
        self.len += 1;
    }

    /// Grows by half when more than 3/4 of the places are in use.
    fn make_room(&mut self) {
        if self.len * 4 > self.entries.len() * 3 {
            self.resize(self.entries.len() + self.entries.len() / 2);
        }
    }

    /// Gets smaller when fewer than 15/32 of the places are in use: that is 34 bytes a key.
    fn give_room(&mut self) {
        if self.len * 32 < self.entries.len() * 15 && self.entries.len() > SHARD_ENTRIES_MIN {
            self.resize((self.len * 8 / 5).max(SHARD_ENTRIES_MIN));
        }
    }

    fn resize(&mut self, count: usize) {
        let old = std::mem::replace(self, Shard::with_entries(count));
        old.present().for_each(|entry| self.put_new(entry));
    }

    /// Empties `hole` and moves entries behind it forward where their search would otherwise end at the hole.
    fn take(&mut self, mut hole: usize) -> Address {
        let count = self.entries.len();
        let distance = |from: usize, to: usize| if to >= from { to - from } else { to + count - from };
        let taken = std::mem::replace(&mut self.entries[hole], EMPTY).address;
        self.len -= 1;
        let mut place = hole;
        loop {
            place = self.behind(place);
            let entry = self.entries[place];
            if entry.address == VACANT {
                return taken;
            }
            // The entry may move to the hole unless its home lies behind the hole, on the way to its place.
            if distance(self.home(mix(entry.word)), place) >= distance(hole, place) {
                self.entries[hole] = entry;
                self.entries[place] = EMPTY;
                hole = place;
            }
        }
    }
}

/// Spreads a word over 64 bits, so that neighbouring integers part and both halves are of use: a full multiplication,
/// folded, then another.
fn mix(word: u64) -> u64 {
    let product = u128::from(word ^ 0x2d35_8dcc_aa6c_78a5) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
    let folded = ((product >> 64) as u64 ^ product as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
    folded ^ folded >> 32
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
        Ok(())
    }

    /// Table sizes that no power of two favours, and growth and shrinking through all of them.
    #[test]
    fn a_row_costs_at_most_35_bytes_from_4000_rows_on() -> Result<(), WarehouseError> {
        let bytes_a_row = |index: &KeyIndex| index.memory_bytes() as f64 / index.len() as f64;
        let (mut index, mut worst) = (KeyIndex::with_capacity(0), 0.0_f64);
        let mut sized = 4_000;
        for row in 0..700_000u64 {
            index.insert(row * 3 + 1, row, |_| Ok(true))?;
            if row >= 4_000 && row % (1 + row / 300) == 0 {
                worst = worst.max(bytes_a_row(&index));
            }
            if row == sized {
                let mut loaded = KeyIndex::with_capacity(sized as usize);
                (0..sized).try_for_each(|key| loaded.insert(key << 20, key, |_| Ok(true)).map(drop))?;
                worst = worst.max(bytes_a_row(&loaded));
                sized += 1 + sized / 5;
            }
        }
        assert!(worst <= 35.0, "{worst} bytes a row when growing");
        assert!(index.shards.iter().all(|shard| shard.len <= 3 * SHARD_KEYS), "a shard is too large");
        for row in (4_000..700_000u64).rev() {
            assert_eq!(index.remove(row * 3 + 1, |_| Ok(true))?, Some(row));
            if row % (1 + row / 300) == 0 {
                worst = worst.max(bytes_a_row(&index));
            }
        }
        assert!(worst <= 35.0, "{worst} bytes a row when shrinking");
        for row in 0..4_000 {
            assert_eq!(index.get(row * 3 + 1, |_| Ok(true))?, Some(row));
        }
        Ok(())
    }

    /// The longest search over keys that a weak hash would crowd together.
    #[test]
    fn keys_in_steps_are_spread() -> Result<(), WarehouseError> {
        for shift in 0..48 {
            let mut index = KeyIndex::with_capacity(0);
            (0..20_000u64).try_for_each(|key| index.insert(key << shift, key, |_| Ok(true)).map(drop))?;
            let mut steps = 0;
            for shard in &index.shards {
                for (place, entry) in shard.entries.iter().enumerate().filter(|(_, entry)| entry.address != VACANT) {
                    let home = shard.home(mix(entry.word));
                    steps += (place + shard.entries.len() - home) % shard.entries.len();
                }
            }
            // Linear probing at a load of 3/4 takes 1.5 steps beyond the home on average (Knuth, 6.4).
            assert!(steps < 20_000 * 3, "{steps} steps for 20,000 keys shifted by {shift}");
        }
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
