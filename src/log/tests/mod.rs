//! Tests of the log: what goes in comes out, and nothing else, whatever happens to the files.

mod concurrency;
mod damage;
mod faults;
mod matrix;
mod random;
mod retention;
mod round_trip;
mod torn;

use super::storage::{Disk, SegmentFile, Storage};
use super::{Log, LogError, LogOptions, LogReader, Offset, Record, RecordKind, Recovery};
use crate::model::{CommitTime, Lsn};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The machine's file system without its waiting, for tests that open a log thousands of times.
struct Unsynced;

struct UnsyncedFile(Box<dyn SegmentFile>);

impl SegmentFile for UnsyncedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn prepare(&mut self, bytes: usize) -> io::Result<()> {
        self.0.prepare(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Storage for Unsynced {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(UnsyncedFile(Disk.create(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        fs::OpenOptions::new().write(true).open(path)?.set_len(bytes)
    }

    fn sync_file(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

fn open(folder: &Path, options: &LogOptions) -> Result<(Log, Recovery), LogError> {
    Log::open_on(folder, options.clone(), Box::new(Unsynced))
}

/// A folder for a small log; in memory where the machine has such a file system, since thousands are made.
fn small_folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// The payload of record `number`: its bytes tell records apart.
fn payload(number: u64, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (number as usize * 31 + at * 7 + 1) as u8).collect()
}

fn append(log: &mut Log, number: u64, bytes: usize) -> Offset {
    let payload = payload(number, bytes);
    let kind = RecordKind::Note;
    log.append(&Record { lsn: Lsn(number), committed_at: CommitTime(number as i64), kind, payload: &payload }).unwrap()
}

/// All that is left to read, as offset and payload; every record's other fields are checked.
fn read_all(reader: &mut LogReader) -> Result<Vec<(u64, Vec<u8>)>, LogError> {
    let mut all = Vec::new();
    while let Some(record) = reader.next()? {
        assert_eq!((record.lsn.0, record.committed_at.0), (record.offset.0, record.offset.0 as i64));
        assert_eq!(record.kind, RecordKind::Note);
        all.push((record.offset.0, record.payload.to_vec()));
    }
    Ok(all)
}

/// Records `from..` of these lengths as [`read_all`] gives them.
fn expected(from: u64, lengths: &[usize]) -> Vec<(u64, Vec<u8>)> {
    lengths.iter().enumerate().map(|(at, &bytes)| (from + at as u64, payload(from + at as u64, bytes))).collect()
}

fn copy_folder(from: &Path, to: &Path) {
    for path in segments(from) {
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    super::segment::list_segments(folder).unwrap().whole.into_iter().map(|(_, path)| path).collect()
}
