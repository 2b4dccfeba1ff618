//! What log and warehouse need of a file system, as a trait so that tests can let every step of it fail.
//!
//! Log and warehouse use the file system by no other way (but the log for reading), so a double of this trait sees each
//! step, in order, and decides how it ends.

#[cfg(test)]
pub(crate) mod faulty;
mod folder;
mod lock;
pub(crate) mod private;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(crate) use folder::{FolderFault, create_folder};
pub(crate) use lock::{LockFault, lock};

/// A file open for appending.
pub(crate) trait SegmentFile: Send {
    /// Writes everything behind what was appended.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Fills so many bytes behind what was appended with zeros, for later appends to write over.
    fn prepare(&mut self, bytes: usize) -> io::Result<()>;
    /// Forces data and length to the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file open for reading. Its content stays readable for as long as it is open, also when its name is gone.
pub(crate) trait ReadFile: Send + Sync {
    /// Its length.
    fn bytes(&self) -> io::Result<u64>;
    /// Fills the buffer with what begins at `offset`.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A file system.
pub(crate) trait Storage: Send + Sync {
    /// Makes an empty file, or empties the one there is.
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
    /// Renames a file, over another if need be.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Deletes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Cuts a file off and forces it to the disk.
    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Forces a file's content to the disk.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Forces the names in a folder to the disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Writes what the file has from byte `from` on once more, in place, for a later [`Storage::sync_file`]: the system
    /// forgets what a failed fsync was to save, and goes on showing it.
    fn rewrite(&self, path: &Path, from: u64) -> io::Result<()> {
        let file = private::to_write().read(true).open(path)?;
        let (mut at, end) = (from, file.metadata()?.len());
        let mut piece = vec![0; 1 << 16];
        while at < end {
            let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece.len());
            let piece = piece.get_mut(..count).unwrap_or_default();
            FileExt::read_exact_at(&file, piece, at)?;
            file.write_all_at(piece, at)?;
            at += count as u64;
        }
        Ok(())
    }

    /// Makes an empty file where none may be.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(private::create_new(path)?))
    }

    /// Gives a file a second name.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    /// Makes a folder, and those above it.
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        private::create_folders(path)
    }

    /// Opens a file to read it.
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        Ok(Box::new(private::open(path)?))
    }

    /// The files of a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    }

    /// Whether a test wants this mistake made, to see that it is found.
    fn plants(&self, _: Mistake) -> bool {
        false
    }
}

/// Mistakes in the order of steps, planted by tests alone: the fault matrix has to find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// The manifest gets its name before the data files are fsynced.
    ManifestBeforeData,
    /// The folder is not fsynced after the manifest got its name.
    FolderNotSynced,
    /// Files that the new manifest does not name go before it is durable.
    RemovedTooEarly,
    /// An opening removes what the manifest that it found does not name, before it is certain that this one stays.
    GuessedAtOpening,
    /// A bulk load whose commit has an unknown outcome takes its segments away.
    LoadTakenBack,
}

impl fmt::Debug for dyn Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Storage")
    }
}

impl fmt::Debug for dyn ReadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadFile")
    }
}

/// The machine's file system.
#[derive(Debug)]
pub(crate) struct Disk;

/// What space is prepared with; 2 MiB made for it each time would be as many page faults.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl SegmentFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn prepare(&mut self, bytes: usize) -> io::Result<()> {
        let from = self.stream_position()?;
        for at in (0..bytes).step_by(ZEROS.len()) {
            let piece = &ZEROS[..ZEROS.len().min(bytes - at)];
            self.write_all_at(piece, from + at as u64)?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl ReadFile for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl Storage for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(private::create(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = private::to_write().open(path)?;
        file.set_len(bytes)?;
        file.sync_all()
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        private::to_write().open(path)?.sync_all()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}
