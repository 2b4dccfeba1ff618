//! Why the search index failed: operation, place, cause and remedy.

use crate::model::Lsn;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use tantivy::TantivyError;

/// Why an operation of the search index failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum SearchError {
    /// The operating system refused.
    Io {
        /// What was tried, as in "could not {operation} {path}".
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Tantivy refused.
    Engine {
        /// What was tried, as in "could not {operation} {path}".
        operation: &'static str,
        /// The folder.
        path: PathBuf,
        /// Why.
        cause: TantivyError,
    },
    /// There is no index.
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// A file is not what it should be.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The folder's format is one this build does not read.
    UnsupportedVersion {
        /// The file that says so.
        path: PathBuf,
        /// The format's version found there.
        found: u64,
        /// The oldest and the newest version this build reads.
        readable: (u64, u64),
    },
    /// There is an index already where one was to be created.
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Another writer has this folder.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the lock file says about its holder.
        holder: String,
    },
    /// The edits or the batch do not fit the table.
    Mismatch {
        /// The table's name.
        table: String,
        /// What does not fit.
        what: String,
    },
    /// A key is longer than a term can be.
    KeyTooLong {
        /// The table's name.
        table: String,
        /// The length of the encoded key.
        bytes: usize,
        /// The longest there may be.
        bytes_max: usize,
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
    /// An earlier failure left it open what the index holds.
    Poisoned {
        /// The folder.
        path: PathBuf,
    },
}

impl SearchError {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SearchError {
        move |cause| SearchError::Io { operation, path: path.to_owned(), cause }
    }

    pub(super) fn engine(operation: &'static str, path: &Path) -> impl FnOnce(TantivyError) -> SearchError {
        move |cause| SearchError::Engine { operation, path: path.to_owned(), cause }
    }

    pub(super) fn corrupt(path: &Path, what: impl Into<String>) -> SearchError {
        SearchError::Corrupt { path: path.to_owned(), what: what.into() }
    }

    pub(super) fn mismatch(table: &str, what: impl Into<String>) -> SearchError {
        SearchError::Mismatch { table: table.to_owned(), what: what.into() }
    }
}

impl fmt::Display for SearchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SearchError::Io { operation, path, cause } => {
                write!(f, "could not {operation} {}: {cause}", path.display())?;
                f.write_str(remedy(cause))
            }
            SearchError::Engine { operation, path, cause } => {
                write!(f, "could not {operation} {}: {cause}", path.display())?;
                match cause {
                    TantivyError::IoError(cause) => f.write_str(remedy(cause)),
                    _ => f.write_str("; open the index again, or build it anew from the record system"),
                }
            }
            SearchError::Missing { path } => {
                write!(f, "{} holds no search index; check the folder, or create the index first", path.display())
            }
            SearchError::Corrupt { path, what } => {
                write!(f, "{} is damaged: {what}; restore the folder from a copy or build it anew", path.display())
            }
            SearchError::UnsupportedVersion { path, found, readable: (oldest, newest) } => write!(
                f,
                "{} has format version {found}, and this build reads versions {oldest} to {newest}; use a newer build",
                path.display()
            ),
            SearchError::Exists { path } => {
                write!(f, "{} holds a search index already; open it, or give another folder", path.display())
            }
            SearchError::Locked { path, holder } => {
                write!(f, "the search index is in use ({holder}, {}); stop that process first", path.display())
            }
            SearchError::Mismatch { table, what } => write!(f, "table {table:?}: {what}"),
            SearchError::KeyTooLong { table, bytes, bytes_max } => write!(
                f,
                "table {table:?}: a key of {bytes} bytes is too long for the search index, which takes {bytes_max}; \
                 use a shorter key, or leave the table out"
            ),
            SearchError::NoTable { table } => write!(f, "the search index has no table number {table}"),
            SearchError::DuplicateKey { table, key } => {
                write!(f, "table {table:?}: there are two rows of key {key}")
            }
            SearchError::WatermarkBack { asked, present } => {
                write!(f, "watermark {asked} lies before {present}, and a watermark never goes back")
            }
            SearchError::Unpublished { operation } => {
                write!(f, "can't {operation} while accepted edits are not published; publish them first")
            }
            SearchError::Poisoned { path } => write!(
                f,
                "an earlier failure left it open what the search index {} holds; open it again",
                path.display()
            ),
        }
    }
}

fn remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; nothing was acknowledged: free some space and start again"
        }
        io::ErrorKind::NotFound => "; check the folder, or create the search index first",
        io::ErrorKind::PermissionDenied => "; check who owns the folder",
        _ if cause.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            "; the device fails: check its health before you go on"
        }
        _ => "",
    }
}

impl Error for SearchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SearchError::Io { cause, .. } => Some(cause),
            SearchError::Engine { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
