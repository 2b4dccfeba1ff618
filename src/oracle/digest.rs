//! Canonical row hashes, summed into buckets.

use crate::model::{Key, Value};
use std::fmt;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Buckets of a table's digest. Two tables that differ in a few keys differ in a few buckets.
const BUCKETS: usize = 1024;

/// How many rows, and the sum (modulo 2^128) of their 128-bit hashes. A sum, because XOR hides pairs of equal rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Rows.
    pub rows: u64,
    /// The sum of the row hashes.
    pub sum: u128,
}

impl Digest {
    /// Adds a row's hash.
    fn add(&mut self, hash: u128) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
    }

    fn merge(&mut self, other: Digest) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// 32 hexadecimal digits of the sum; the number of rows is told beside it.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.sum)
    }
}

/// The content of one table, independent of the order of its rows: a [`Digest`] a bucket of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDigest {
    buckets: Vec<Digest>,
}

impl Default for TableDigest {
    fn default() -> TableDigest {
        TableDigest { buckets: vec![Digest::default(); BUCKETS] }
    }
}

impl TableDigest {
    /// Adds a row.
    pub fn add(&mut self, key: &Key, row: &[Value], scratch: &mut Vec<u8>) {
        if let Some(bucket) = self.buckets.get_mut(bucket_of(key)) {
            bucket.add(row_hash(row, scratch));
        }
    }

    /// Adds the rows of another part of the same table.
    pub fn merge(&mut self, other: &TableDigest) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(mine, theirs)| mine.merge(*theirs));
    }

    /// Of the whole table.
    pub fn total(&self) -> Digest {
        let mut total = Digest::default();
        self.buckets.iter().for_each(|bucket| total.merge(*bucket));
        total
    }

    /// Whether the keys of this key's bucket have other content in `other`.
    pub(super) fn differs_at(&self, other: &TableDigest, key: &Key) -> bool {
        let bucket = bucket_of(key);
        self.buckets.get(bucket) != other.buckets.get(bucket)
    }
}

fn bucket_of(key: &Key) -> usize {
    let hash = match key {
        Key::Int(v) => xxh3_64(&v.to_le_bytes()),
        Key::Encoded(bytes) => xxh3_64(bytes),
    };
    (hash % BUCKETS as u64) as usize
}

/// The 128-bit hash of a row's canonical form: the number of values, then each value as a type tag and its bytes,
/// text and bytes with their length. So NULL is not the empty text, `-0.0` is not `0.0`, `1.50` is not `1.5`, and no
/// two different rows have one form. All NaNs are one value.
pub(super) fn row_hash(row: &[Value], scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    scratch.extend_from_slice(&(row.len() as u64).to_le_bytes());
    for value in row {
        canonical(scratch, value);
    }
    xxh3_128(scratch)
}

fn canonical(out: &mut Vec<u8>, value: &Value) {
    let mut tagged = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Null => tagged(b'N', &[]),
        Value::Bool(v) => tagged(b'b', &[u8::from(*v)]),
        Value::Int(v) => tagged(b'i', &v.to_le_bytes()),
        Value::Float(v) if v.is_nan() => tagged(b'f', &f64::NAN.to_bits().to_le_bytes()),
        Value::Float(v) => tagged(b'f', &v.to_bits().to_le_bytes()),
        Value::Float32(v) if v.is_nan() => tagged(b'F', &f32::NAN.to_bits().to_le_bytes()),
        Value::Float32(v) => tagged(b'F', &v.to_bits().to_le_bytes()),
        Value::Decimal(v) => {
            tagged(b'd', &v.scale.to_le_bytes());
            out.extend_from_slice(&v.unscaled.to_le_bytes());
        }
        Value::Text(v) => {
            tagged(b't', &(v.len() as u64).to_le_bytes());
            out.extend_from_slice(v.as_bytes());
        }
        Value::Bytes(v) => {
            tagged(b'x', &(v.len() as u64).to_le_bytes());
            out.extend_from_slice(v);
        }
        Value::Date(v) => tagged(b'D', &v.to_le_bytes()),
        Value::Timestamp(v) => tagged(b'T', &v.to_le_bytes()),
        Value::LocalTimestamp(v) => tagged(b'L', &v.to_le_bytes()),
    }
}

/// Whether two values are the same by the canonical form.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) if a.is_nan() && b.is_nan() => true,
        (Value::Float32(a), Value::Float32(b)) if a.is_nan() && b.is_nan() => true,
        _ => a == b,
    }
}
