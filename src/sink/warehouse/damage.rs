//! Where a segment is damaged: hashes of its blocks, kept in the manifest, say which part of the file is not as written.
//!
//! A block is 64 KiB; its hash is the low half of its xxh3-64, eight hexadecimal digits. They only say where: *that*
//! a file is damaged is for the 128-bit hash of the whole.

use super::WarehouseError;
use bytes::Bytes;
use parquet::file::metadata::ParquetMetaDataReader;
use std::fmt::Write;
use std::ops::Range;
use std::path::Path;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

pub(super) const BLOCK_BYTES: usize = 64 << 10;
const DIGITS: usize = 8;

/// Hashes the blocks of a file as it is written.
#[derive(Default)]
pub(super) struct BlockHasher {
    hash: Xxh3,
    /// Bytes of the present block.
    filled: usize,
    hashes: String,
}

impl BlockHasher {
    pub(super) fn update(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let (now, rest) = piece.split_at(piece.len().min(BLOCK_BYTES - self.filled));
            self.hash.update(now);
            self.filled += now.len();
            piece = rest;
            if self.filled == BLOCK_BYTES {
                self.end_block();
            }
        }
    }

    fn end_block(&mut self) {
        push(&mut self.hashes, self.hash.digest());
        self.hash.reset();
        self.filled = 0;
    }

    pub(super) fn finish(mut self) -> String {
        if self.filled > 0 {
            self.end_block();
        }
        self.hashes
    }
}

fn push(hashes: &mut String, hash: u64) {
    // Writing to a string does not fail.
    let _ = write!(hashes, "{:08x}", hash as u32);
}

/// The first run of blocks that are not as they were written, in bytes.
fn first_damage(content: &[u8], blocks: &str) -> Option<Range<usize>> {
    let mut damaged: Option<Range<usize>> = None;
    for (place, block) in content.chunks(BLOCK_BYTES).enumerate() {
        let mut hash = String::with_capacity(DIGITS);
        push(&mut hash, xxh3_64(block));
        let start = place * BLOCK_BYTES;
        if blocks.get(place * DIGITS..(place + 1) * DIGITS) == Some(hash.as_str()) {
            if damaged.is_some() {
                break;
            }
        } else {
            damaged = Some(damaged.map_or(start, |range| range.start)..start + block.len());
        }
    }
    damaged
}

/// Which columns' bytes lie in `damaged`, if the file's footer is sound and says so.
fn columns_in(content: &Bytes, damaged: &Range<usize>) -> Option<String> {
    const TAIL: usize = 8;
    let end = content.len().checked_sub(TAIL)?;
    let footer_bytes = u32::from_le_bytes(*content.get(end..)?.first_chunk::<4>()?) as usize;
    // A footer that is damaged itself is not believed.
    if damaged.end > end.checked_sub(footer_bytes)? {
        return None;
    }
    let metadata = ParquetMetaDataReader::new().parse_and_finish(content).ok()?;
    let mut names = Vec::new();
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let (start, length) = column.byte_range();
        if start < damaged.end as u64 && start.saturating_add(length) > damaged.start as u64 {
            names.push(format!("{:?}", column.column_path().string()));
        }
    }
    (!names.is_empty()).then(|| names.join(", "))
}

/// The error for a segment whose hash is not the one in the manifest.
pub(super) fn of_segment(path: &Path, content: &Bytes, blocks: &str) -> WarehouseError {
    let known = blocks.len() == content.len().div_ceil(BLOCK_BYTES) * DIGITS;
    let damaged = if known { first_damage(content, blocks) } else { None };
    let Some(damaged) = damaged else {
        let what = format!("its hash is not the one in the manifest (somewhere in bytes 0 to {})", content.len());
        return WarehouseError::corrupt(path, what);
    };
    let mut what = format!(
        "its hash is not the one in the manifest (somewhere in bytes {} to {}",
        damaged.start,
        damaged.end.saturating_sub(1)
    );
    if let Some(columns) = columns_in(content, &damaged) {
        let _ = write!(what, ", of column {columns}");
    }
    what.push(')');
    WarehouseError::corrupt_at(path, damaged.start as u64, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_damaged_block_is_named_whatever_the_pieces() {
        let content: Vec<u8> = (0..3 * BLOCK_BYTES + 100).map(|at| (at % 251) as u8).collect();
        let mut hasher = BlockHasher::default();
        content.chunks(10_007).for_each(|piece| hasher.update(piece));
        let blocks = hasher.finish();
        assert_eq!(blocks.len(), 4 * DIGITS);
        assert_eq!(first_damage(&content, &blocks), None);
        for (at, expected) in [
            (0, 0..BLOCK_BYTES),
            (BLOCK_BYTES, BLOCK_BYTES..2 * BLOCK_BYTES),
            (3 * BLOCK_BYTES + 99, 3 * BLOCK_BYTES..3 * BLOCK_BYTES + 100),
        ] {
            let mut bad = content.clone();
            bad[at] ^= 1;
            assert_eq!(first_damage(&bad, &blocks), Some(expected), "byte {at}");
        }
    }
}
