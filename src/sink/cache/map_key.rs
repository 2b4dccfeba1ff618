//! Keys as the in-process map hashes and compares them.

use super::slot::Slot;
use crate::model::{Key, KeyRef};
use moka::Equivalent;
use std::cell::RefCell;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A key in the map, with its slot: whoever finds the key has the slot.
#[derive(Clone, Debug)]
pub(super) struct MapKey {
    pub(super) key: Key,
    pub(super) slot: Arc<Slot>,
}

/// A key that is looked for, and the slot it was found to have. Asking costs no allocation.
///
/// The map compares a probe with the keys it holds, so the comparison that succeeds can take the slot along. That makes
/// moka's `contains_key` a lookup, one that does not note the access for an eviction policy: noting moves the
/// entry in a list of all entries, which costs several times what the lookup itself does.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    key: KeyRef<'a>,
    found: RefCell<Option<Arc<Slot>>>,
}

impl<'a> Probe<'a> {
    pub(super) fn new(key: KeyRef<'a>) -> Probe<'a> {
        Probe { key, found: RefCell::new(None) }
    }

    /// The slot of the key that was equal to this.
    pub(super) fn into_found(self) -> Option<Arc<Slot>> {
        self.found.into_inner()
    }
}

fn hash_key<H: Hasher>(key: KeyRef<'_>, state: &mut H) {
    match key {
        KeyRef::Int(key) => state.write_u64(key as u64),
        KeyRef::Encoded(bytes) => state.write(bytes),
    }
}

impl Hash for Probe<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_key(self.key, state);
    }
}

impl Hash for MapKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_key(self.key.as_ref(), state);
    }
}

impl PartialEq for MapKey {
    fn eq(&self, other: &MapKey) -> bool {
        self.key == other.key
    }
}

impl Eq for MapKey {}

impl Equivalent<MapKey> for Probe<'_> {
    fn equivalent(&self, key: &MapKey) -> bool {
        let equal = self.key == key.key.as_ref();
        if equal {
            *self.found.borrow_mut() = Some(key.slot.clone());
        }
        equal
    }
}

/// Makes [`KeyHasher`]s. A key is hashed twice for every put, and a table holds keys of one kind, so neither a keyed
/// hash nor a type tag is worth its time here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyHashing;

impl BuildHasher for KeyHashing {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(0)
    }
}

/// Integers through the finalizer of SplitMix64 (every input bit reaches every output bit), bytes through XXH3.
#[derive(Clone, Debug)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, value: u64) {
        let mut z = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15) ^ value;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        self.0 = z ^ (z >> 31);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
