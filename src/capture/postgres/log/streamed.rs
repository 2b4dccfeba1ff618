//! Transactions that arrive before they end: their changes wait, in memory and beyond a limit in a file, until their
//! commit, and are forgotten when they are rolled back.

use super::message::Emitted;
use crate::capture::CaptureError;
use crate::model::{ChangeBuf, CodecError};
use crate::source::SourceError;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Changes that a (sub)transaction made one behind another.
#[derive(Clone, Copy, Debug)]
struct Segment {
    subxid: u32,
    bytes: u64,
}

/// What is known of one unfinished transaction.
#[derive(Debug, Default)]
struct Streamed {
    /// What is in `file` and then in `tail`, in order.
    segments: Vec<Segment>,
    tail: Vec<u8>,
    file: Option<File>,
    file_bytes: u64,
    rolled_back: BTreeSet<u32>,
    emitted: Vec<(u32, Emitted)>,
    /// The first thing that went wrong in each (sub)transaction; it counts only if that one commits.
    failures: Vec<(u32, CaptureError)>,
}

/// All unfinished transactions. Together they keep `memory_bytes_max` in memory.
#[derive(Debug)]
pub(super) struct StreamedTransactions {
    folder: PathBuf,
    memory_bytes_max: usize,
    transaction_bytes_max: u64,
    memory_bytes: usize,
    spilled_bytes: u64,
    by_xid: BTreeMap<u32, Streamed>,
}

impl StreamedTransactions {
    pub(super) fn new(folder: &Path, memory_bytes_max: usize, transaction_bytes_max: u64) -> StreamedTransactions {
        StreamedTransactions {
            folder: folder.to_owned(),
            memory_bytes_max,
            transaction_bytes_max,
            memory_bytes: 0,
            spilled_bytes: 0,
            by_xid: BTreeMap::new(),
        }
    }

    /// Bytes that were written to files since the beginning.
    pub(super) fn spilled_bytes(&self) -> u64 {
        self.spilled_bytes
    }

    /// Forgets all: a new connection sends them again from the beginning.
    pub(super) fn clear(&mut self) {
        self.by_xid.clear();
        self.memory_bytes = 0;
    }

    pub(super) fn begin(&mut self, xid: u32) {
        self.by_xid.entry(xid).or_default();
    }

    /// Moves the changes in `changes` behind those of transaction `xid`.
    pub(super) fn append(&mut self, xid: u32, subxid: u32, changes: &mut ChangeBuf) -> Result<(), CaptureError> {
        let streamed = self.by_xid.entry(xid).or_default();
        let bytes = changes.as_bytes();
        streamed.tail.extend_from_slice(bytes);
        self.memory_bytes += bytes.len();
        match streamed.segments.last_mut() {
            Some(last) if last.subxid == subxid => last.bytes += bytes.len() as u64,
            _ => streamed.segments.push(Segment { subxid, bytes: bytes.len() as u64 }),
        }
        changes.clear();
        if self.memory_bytes > self.memory_bytes_max { self.spill() } else { Ok(()) }
    }

    pub(super) fn emit(&mut self, xid: u32, subxid: u32, emitted: Emitted) {
        self.by_xid.entry(xid).or_default().emitted.push((subxid, emitted));
    }

    pub(super) fn fail(&mut self, xid: u32, subxid: u32, error: CaptureError) {
        let failures = &mut self.by_xid.entry(xid).or_default().failures;
        if failures.iter().all(|(known, _)| *known != subxid) {
            failures.push((subxid, error));
        }
    }

    /// Rolls back the (sub)transaction; everything if it is the transaction itself.
    pub(super) fn abort(&mut self, xid: u32, subxid: u32) {
        if xid == subxid {
            if let Some(streamed) = self.by_xid.remove(&xid) {
                self.memory_bytes = self.memory_bytes.saturating_sub(streamed.tail.len());
            }
        } else if let Some(streamed) = self.by_xid.get_mut(&xid) {
            streamed.rolled_back.insert(subxid);
        }
    }

    /// Takes the transaction out: what was not rolled back of it.
    pub(super) fn commit(&mut self, xid: u32) -> Result<(ChangeBuf, Vec<Emitted>), CaptureError> {
        let Some(mut streamed) = self.by_xid.remove(&xid) else { return Ok((ChangeBuf::new(), Vec::new())) };
        self.memory_bytes = self.memory_bytes.saturating_sub(streamed.tail.len());
        let kept = |subxid: u32| !streamed.rolled_back.contains(&subxid);
        if let Some(place) = streamed.failures.iter().position(|(subxid, _)| kept(*subxid)) {
            return Err(streamed.failures.swap_remove(place).1);
        }
        let total: u64 = streamed.segments.iter().filter(|s| kept(s.subxid)).map(|segment| segment.bytes).sum();
        check_size(total, self.transaction_bytes_max)?;
        let emitted = std::mem::take(&mut streamed.emitted);
        let emitted = emitted.into_iter().filter(|(subxid, _)| kept(*subxid)).map(|(_, emitted)| emitted).collect();
        if streamed.file.is_none() && streamed.segments.iter().all(|segment| kept(segment.subxid)) {
            return Ok((changes(streamed.tail)?, emitted));
        }
        let bytes = streamed.gather(total).map_err(SourceError::io("read back from", &self.folder))?;
        Ok((changes(bytes)?, emitted))
    }

    /// Writes the longest tail to its file.
    fn spill(&mut self) -> Result<(), CaptureError> {
        let Some(streamed) = self.by_xid.values_mut().max_by_key(|streamed| streamed.tail.len()) else {
            return Ok(());
        };
        let failed = || SourceError::io("write an unfinished transaction to", &self.folder);
        let file = match &mut streamed.file {
            Some(file) => file,
            // Without a name: whatever ends this process, the file is gone with it.
            none => none.insert(tempfile::tempfile_in(&self.folder).map_err(failed())?),
        };
        file.write_all(&streamed.tail).map_err(failed())?;
        let bytes = streamed.tail.len();
        streamed.file_bytes += bytes as u64;
        self.spilled_bytes += bytes as u64;
        self.memory_bytes = self.memory_bytes.saturating_sub(bytes);
        streamed.tail = Vec::new();
        Ok(())
    }
}

impl Streamed {
    /// The bytes of the segments that count, in order.
    fn gather(self, total: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(total).unwrap_or(0));
        let mut file = self.file;
        if let Some(file) = &mut file {
            file.seek(SeekFrom::Start(0))?;
        }
        let (mut file_left, mut tail) = (self.file_bytes, self.tail.as_slice());
        for segment in self.segments {
            let keep = !self.rolled_back.contains(&segment.subxid);
            let in_file = segment.bytes.min(file_left);
            if let Some(file) = file.as_mut().filter(|_| in_file > 0) {
                if keep {
                    file.take(in_file).read_to_end(&mut bytes)?;
                } else {
                    file.seek_relative(i64::try_from(in_file).unwrap_or(i64::MAX))?;
                }
            }
            file_left -= in_file;
            let in_tail = usize::try_from(segment.bytes - in_file).unwrap_or(usize::MAX).min(tail.len());
            let (head, rest) = tail.split_at(in_tail);
            if keep {
                bytes.extend_from_slice(head);
            }
            tail = rest;
        }
        Ok(bytes)
    }
}

/// Fails when a transaction is longer than may be held.
pub(super) fn check_size(bytes: u64, bytes_max: u64) -> Result<(), CaptureError> {
    if bytes <= bytes_max { Ok(()) } else { Err(CaptureError::TooLong { bytes, bytes_max }) }
}

fn changes(bytes: Vec<u8>) -> Result<ChangeBuf, CaptureError> {
    let damaged = |source: CodecError| CaptureError::Codec { table: "of a streamed transaction".to_owned(), source };
    ChangeBuf::from_bytes(bytes).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChangeRef, TableId, ValueRef};

    fn insert(value: i64) -> ChangeBuf {
        let mut changes = ChangeBuf::new();
        changes.push_insert(TableId(0), [ValueRef::Int(value)]).unwrap();
        changes
    }

    fn values(changes: &ChangeBuf) -> Vec<i64> {
        let value = |change| match change {
            ChangeRef::Insert { row, .. } => match row.values().unwrap().as_slice() {
                [ValueRef::Int(value)] => *value,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        changes.iter().map(|change| value(change.unwrap())).collect()
    }

    #[test]
    fn savepoints_take_back_exactly_their_part_in_memory_and_in_files() {
        for memory_bytes_max in [0, 64, 1 << 20] {
            let folder = tempfile::tempdir().unwrap();
            let mut all = StreamedTransactions::new(folder.path(), memory_bytes_max, 1 << 20);
            for value in 0..100 {
                // Two transactions, each with two savepoints that change places.
                let (xid, subxid) = (1 + 10 * (value as u32 % 2), 1 + 10 * (value as u32 % 2) + value as u32 / 2 % 3);
                all.append(xid, subxid, &mut insert(value)).unwrap();
            }
            all.abort(1, 2);
            let (first, _) = all.commit(1).unwrap();
            let expected: Vec<i64> = (0..100).filter(|value| value % 2 == 0 && value / 2 % 3 != 1).collect();
            assert_eq!(values(&first), expected, "{memory_bytes_max}");
            all.abort(11, 11);
            assert!(all.commit(11).unwrap().0.is_empty());
            assert_eq!(all.memory_bytes, 0);
        }
    }

    #[test]
    fn a_transaction_beyond_the_limit_is_refused_at_its_commit_and_a_failure_counts_if_it_commits() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = StreamedTransactions::new(folder.path(), 1 << 20, 100);
        for value in 0..10 {
            all.append(1, 1, &mut insert(value)).unwrap();
            all.append(2, if value < 3 { 2 } else { 3 }, &mut insert(value)).unwrap();
        }
        all.fail(2, 3, CaptureError::TooLong { bytes: 0, bytes_max: 0 });
        assert!(matches!(all.commit(1), Err(CaptureError::TooLong { bytes_max: 100, .. })));
        all.abort(2, 3);
        assert_eq!(values(&all.commit(2).unwrap().0), [0, 1, 2]);
    }
}
