//! Why the warehouse failed: operation, place, cause and remedy.

use crate::model::Lsn;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a warehouse operation failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum WarehouseError {
    /// The operating system refused.
    Io {
        /// What was tried, as in "could not {operation} {path}".
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file is not what the manifest says.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it, as near as can be said.
        offset: Option<u64>,
        /// What is wrong with it.
        what: String,
    },
    /// A kept version's manifest goes by the number of another commit.
    Misnamed {
        /// The manifest.
        path: PathBuf,
        /// The commit in its name.
        named: u64,
        /// The commit whose manifest it is.
        holds: u64,
    },
    /// The folder's format is one this build does not read.
    UnsupportedVersion {
        /// The manifest.
        path: PathBuf,
        /// The format's version found there.
        found: u64,
        /// The oldest and the newest version this build reads.
        readable: (u64, u64),
    },
    /// There is a warehouse already where one was to be created.
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Another process writes to this folder.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the lock file says about its holder.
        holder: String,
    },
    /// Parquet or Arrow refused.
    Columnar {
        /// What was tried.
        operation: &'static str,
        /// The file or table.
        place: String,
        /// Why.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The edits, the batch or the question do not fit the table.
    Mismatch {
        /// The table's name.
        table: String,
        /// What does not fit.
        what: String,
    },
    /// There is no table with this number.
    NoTable {
        /// The number.
        table: u32,
    },
    /// One bulk load brought two rows of one key.
    DuplicateKey {
        /// The table's name.
        table: String,
        /// The key, in words.
        key: String,
    },
    /// A watermark would go back.
    WatermarkBack {
        /// The watermark asked for.
        asked: Lsn,
        /// The watermark that it may not go below.
        present: Lsn,
    },
    /// There are accepted edits that are not published yet, and this operation can't wait for them.
    Unpublished {
        /// What was tried.
        operation: &'static str,
    },
    /// No such version is kept.
    NoVersion {
        /// The folder.
        path: PathBuf,
        /// What was asked for.
        asked: String,
        /// The commits that are kept.
        kept: Vec<u64>,
    },
    /// A thread of the warehouse ended without an answer.
    ThreadDied {
        /// What it did.
        work: &'static str,
    },
    /// An earlier failure left it open what is durable.
    Poisoned {
        /// The folder.
        path: PathBuf,
    },
}

impl WarehouseError {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WarehouseError {
        move |cause| WarehouseError::Io { operation, path: path.to_owned(), cause }
    }

    pub(super) fn columnar<E: Error + Send + Sync + 'static>(
        operation: &'static str,
        place: impl fmt::Display,
    ) -> impl FnOnce(E) -> WarehouseError {
        move |cause| WarehouseError::Columnar { operation, place: place.to_string(), cause: Box::new(cause) }
    }

    pub(super) fn corrupt(path: &Path, what: impl Into<String>) -> WarehouseError {
        WarehouseError::Corrupt { path: path.to_owned(), offset: None, what: what.into() }
    }

    pub(super) fn corrupt_at(path: &Path, offset: u64, what: impl Into<String>) -> WarehouseError {
        WarehouseError::Corrupt { path: path.to_owned(), offset: Some(offset), what: what.into() }
    }

    pub(super) fn mismatch(table: &str, what: impl Into<String>) -> WarehouseError {
        WarehouseError::Mismatch { table: table.to_owned(), what: what.into() }
    }
}

impl fmt::Display for WarehouseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WarehouseError::Io { operation, path, cause } => {
                write!(f, "could not {operation} {}: {cause}", path.display())?;
                match cause.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        f.write_str("; nothing was acknowledged: free some space and start again")
                    }
                    io::ErrorKind::NotFound => f.write_str("; check the folder, or create the warehouse first"),
                    io::ErrorKind::PermissionDenied => f.write_str("; check who owns the folder"),
                    _ if cause.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                        f.write_str("; the device fails: check its health before you go on")
                    }
                    _ => Ok(()),
                }
            }
            WarehouseError::Corrupt { path, offset, what } => {
                write!(f, "{} is damaged: {what}", path.display())?;
                if let Some(offset) = offset {
                    write!(f, ", at byte {offset}")?;
                }
                f.write_str("; restore the folder from a copy or load it anew")
            }
            WarehouseError::Misnamed { path, named, holds } => write!(
                f,
                "{} has the name of commit {named} and holds the manifest of commit {holds}: it was renamed or copied; give \
                 it back its name, or remove it",
                path.display()
            ),
            WarehouseError::UnsupportedVersion { path, found, readable: (oldest, newest) } => write!(
                f,
                "{} has format version {found}, and this build reads versions {oldest} to {newest}; use a newer build",
                path.display()
            ),
            WarehouseError::Exists { path } => {
                write!(f, "{} holds a warehouse already; open it, or give another folder", path.display())
            }
            WarehouseError::Locked { path, holder } => {
                write!(f, "the warehouse is in use ({holder}, {}); stop that process first", path.display())
            }
            WarehouseError::Columnar { operation, place, cause } => write!(f, "could not {operation} {place}: {cause}"),
            WarehouseError::Mismatch { table, what } => write!(f, "table {table:?}: {what}"),
            WarehouseError::NoTable { table } => write!(f, "the warehouse has no table number {table}"),
            WarehouseError::DuplicateKey { table, key } => {
                write!(f, "table {table:?}: there are two rows of key {key}")
            }
            WarehouseError::WatermarkBack { asked, present } => {
                write!(f, "watermark {asked} lies before {present}, and a watermark never goes back")
            }
            WarehouseError::Unpublished { operation } => {
                write!(f, "can't {operation} while accepted edits are not published; publish them first")
            }
            WarehouseError::NoVersion { path, asked, kept } => {
                let kept: Vec<String> = kept.iter().map(u64::to_string).collect();
                write!(f, "{} has no {asked}; it keeps commits {}", path.display(), kept.join(", "))?;
                f.write_str(" (--keep-versions says how many)")
            }
            WarehouseError::ThreadDied { work } => {
                write!(
                    f,
                    "the warehouse's thread for {work} died; this is a bug: report it, and open the warehouse again"
                )
            }
            WarehouseError::Poisoned { path } => write!(
                f,
                "an earlier write to {} failed and it is open what reached the disk; open the warehouse again",
                path.display()
            ),
        }
    }
}

impl Error for WarehouseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            WarehouseError::Io { cause, .. } => Some(cause),
            WarehouseError::Columnar { cause, .. } => Some(cause.as_ref()),
            _ => None,
        }
    }
}
