//! Readers: a handle that gives the newest version.

use super::version::Version;
use super::versions::VersionAt;
use super::{WarehouseError, open};
use arc_swap::ArcSwap;
use std::path::Path;
use std::sync::Arc;

/// Gives the newest published [`Version`]. Clones are cheap and may go to other threads.
#[derive(Clone, Debug)]
pub struct WarehouseReader {
    pub(super) current: Arc<ArcSwap<Version>>,
}

impl WarehouseReader {
    /// Opens a folder to read its last checkpoint, also while another process writes to it: needs no lock, keeps
    /// the segments' files open, and stays at the version it found. To see a newer one, open it again. The writer may take
    /// the files' names away meanwhile: an open file stays readable on Linux, and its room is freed when it is closed.
    ///
    /// # Errors
    /// When there is no warehouse, a file is missing or cut, or the format is newer than this build.
    pub fn open(dir: &Path) -> Result<WarehouseReader, WarehouseError> {
        let version = open::read_version(dir, None)?;
        Ok(WarehouseReader { current: Arc::new(ArcSwap::from_pointee(version)) })
    }

    /// Opens an older version that is kept (see [`super::versions()`]), as [`WarehouseReader::open`] opens the newest.
    ///
    /// # Errors
    /// [`WarehouseError::NoVersion`] naming those that are kept; else as for [`WarehouseReader::open`].
    pub fn open_at(dir: &Path, at: VersionAt) -> Result<WarehouseReader, WarehouseError> {
        let version = open::read_version(dir, Some(at))?;
        Ok(WarehouseReader { current: Arc::new(ArcSwap::from_pointee(version)) })
    }

    /// The newest version. It stays as it is for as long as it is held, and so do its files.
    pub fn version(&self) -> Arc<Version> {
        self.current.load_full()
    }
}
