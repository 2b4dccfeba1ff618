//! Deletion vectors on disk: one file a checkpoint, with the vectors that changed since the one before.
//!
//! A vector is the shorter of two forms, little-endian: a first byte 0 and the dead rows as `u32`s, ascending; or a
//! first byte 1 and a bitmap of `u64`s, a set bit a dead row. The manifest has its place and hash.

use super::WarehouseError;
use super::counters::Written;
use super::deleted::Deleted;
use super::manifest::{DeletedEntry, deletions_path, hash_of, hash_text};
use crate::storage::{Mistake, Storage};
use std::io::ErrorKind;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_128;

const LIST: u8 = 0;
const BITMAP: u8 = 1;
const VECTOR_BYTES_MAX: u64 = 1 << 32;

/// Collects the vectors of one checkpoint.
#[derive(Debug)]
pub(super) struct VectorFile {
    file: u64,
    bytes: Vec<u8>,
}

impl VectorFile {
    pub(super) fn new(file: u64) -> VectorFile {
        VectorFile { file, bytes: Vec::new() }
    }

    /// Adds the dead rows of a segment of `rows` rows.
    pub(super) fn push(&mut self, deleted: &Deleted, rows: usize) -> DeletedEntry {
        let start = self.bytes.len();
        let words = rows.div_ceil(64);
        if deleted.count() * 4 < words * 8 {
            self.bytes.push(LIST);
            for row in deleted.iter() {
                self.bytes.extend_from_slice(&(row as u32).to_le_bytes());
            }
        } else {
            self.bytes.push(BITMAP);
            for (place, live) in deleted.live_words(rows).into_iter().enumerate() {
                let spare = rows - place * 64;
                let dead = if spare >= 64 { !live } else { !live & ((1 << spare) - 1) };
                self.bytes.extend_from_slice(&dead.to_le_bytes());
            }
        }
        let vector = self.bytes.get(start..).unwrap_or_default();
        DeletedEntry {
            file: self.file,
            offset: start as u64,
            bytes: vector.len() as u64,
            rows: deleted.count() as u64,
            hash: hash_text(xxh3_128(vector)),
        }
    }

    /// Adds the dead rows unless they are `known`, those that an earlier file has. Their number tells: of a segment's rows the
    /// dead ones only become more.
    pub(super) fn push_unless_known(
        &mut self,
        deleted: &Deleted,
        rows: usize,
        known: Option<&DeletedEntry>,
    ) -> DeletedEntry {
        match known {
            Some(known) if known.rows == deleted.count() as u64 => known.clone(),
            _ => self.push(deleted, rows),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes the file and makes it durable. Returns its length in bytes.
    pub(super) fn write(self, storage: &dyn Storage, dir: &Path, written: &Written) -> Result<u64, WarehouseError> {
        let path = deletions_path(dir, self.file);
        let mut file = storage.create_new(&path).map_err(WarehouseError::io("create", &path))?;
        let outcome = file.append(&self.bytes).map_err(WarehouseError::io("write", &path));
        let outcome = outcome.and_then(|()| {
            if storage.plants(Mistake::ManifestBeforeData) {
                return Ok(());
            }
            file.sync().map_err(WarehouseError::io("make durable", &path))
        });
        if outcome.is_err() {
            let _ = storage.remove(&path);
        }
        outcome?;
        written.file(self.bytes.len() as u64);
        Ok(self.bytes.len() as u64)
    }
}

/// Reads the vector at `entry` of a segment of `rows` rows, and checks it.
pub(super) fn read_vector(
    storage: &dyn Storage,
    dir: &Path,
    entry: &DeletedEntry,
    rows: usize,
) -> Result<Deleted, WarehouseError> {
    let path = deletions_path(dir, entry.file);
    let corrupt = |what: &str| {
        let last = entry.offset.saturating_add(entry.bytes).saturating_sub(1);
        WarehouseError::corrupt_at(&path, entry.offset, format!("{what} (bytes {} to {last})", entry.offset))
    };
    let file = storage.open(&path).map_err(|cause| match cause.kind() {
        ErrorKind::NotFound => WarehouseError::corrupt(&path, "the manifest names it, and it is missing"),
        _ => WarehouseError::io("open", &path)(cause),
    })?;
    let length = file.bytes().map_err(WarehouseError::io("read", &path))?;
    let limit = (rows as u64).div_ceil(64) * 8 + 1;
    let behind = entry.offset.checked_add(entry.bytes);
    if entry.bytes > limit.min(VECTOR_BYTES_MAX) || behind.is_none_or(|behind| behind > length) {
        return Err(corrupt("a deletion vector is cut off or too long"));
    }
    let mut bytes = vec![0; entry.bytes as usize];
    file.read_exact_at(&mut bytes, entry.offset).map_err(WarehouseError::io("read", &path))?;
    if hash_of(&entry.hash) != Some(xxh3_128(&bytes)) {
        return Err(corrupt("a deletion vector's hash is not the one in the manifest"));
    }
    let deleted: Option<Deleted> = match bytes.split_first() {
        // A row beyond the segment must not be marked: its bit alone would take memory as for all rows before it.
        Some((&LIST, list)) => {
            let listed = list.as_chunks::<4>().0.iter().map(|row| u32::from_le_bytes(*row) as usize);
            listed.map(|row| (row < rows).then_some(row)).collect()
        }
        Some((&BITMAP, map)) => {
            let words = map.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).enumerate();
            let marked = words
                .flat_map(|(at, word)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at * 64 + bit));
            Some(marked.collect())
        }
        _ => return Err(corrupt("a deletion vector has an unknown form")),
    };
    deleted
        .filter(|deleted| deleted.iter().last().is_none_or(|row| row < rows) && deleted.count() as u64 == entry.rows)
        .ok_or_else(|| corrupt("a deletion vector has other rows than the manifest says"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Disk;

    #[test]
    fn both_forms_come_back() -> Result<(), WarehouseError> {
        let dir = tempfile::tempdir().expect("a folder");
        let few: Deleted = [0, 9_999].into_iter().collect();
        let many: Deleted = (0..10_000).filter(|row| row % 3 > 0).collect();
        let mut file = VectorFile::new(4);
        let entries = [file.push(&few, 10_000), file.push(&many, 10_000)];
        assert_eq!(entries[0].bytes, 1 + 2 * 4);
        assert_eq!(entries[1].bytes, 1 + 157 * 8);
        file.write(&Disk, dir.path(), &Written::default())?;
        for (entry, expected) in entries.iter().zip([&few, &many]) {
            let back = read_vector(&Disk, dir.path(), entry, 10_000)?;
            assert!(back.iter().eq(expected.iter()));
        }
        assert!(read_vector(&Disk, dir.path(), &entries[0], 9_999).is_err(), "a row beyond the segment");
        Ok(())
    }
}
