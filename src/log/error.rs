//! What can go wrong with the log, where, and what to do about it.

use super::Offset;
use crate::model::{CodecError, Lsn};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why an operation on the log failed.
#[derive(Clone, Debug)]
pub enum LogError {
    /// The file system refused. From a write or an fsync it poisons the log: see [`LogError::Poisoned`].
    Io {
        /// What was tried, as a verb phrase ("write to", "fsync").
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The byte in the file, where there is one.
        position: Option<u64>,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// An earlier write or fsync failed. What the file holds behind the last acknowledged record is unknown, so
    /// nothing more is written and nothing is retried.
    Poisoned {
        /// The operation that failed.
        operation: &'static str,
        /// The file on which it failed.
        path: PathBuf,
        /// The cause.
        source: Arc<io::Error>,
    },
    /// Another writer has the log open.
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the lock file says of its holder.
        holder: String,
    },
    /// Bytes that no crash of a writer explains.
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// The first byte of the damaged header or frame.
        position: u64,
        /// What is wrong there.
        what: String,
    },
    /// The segment was written by a version of the format that this build does not know.
    UnknownVersion {
        /// The segment file.
        path: PathBuf,
        /// The version it has.
        found: u32,
        /// The version this build reads.
        known: u32,
    },
    /// The record was deleted by retention.
    BelowRetention {
        /// The offset asked for.
        wanted: Offset,
        /// The lowest offset there is.
        lowest: Offset,
    },
    /// There is no such record yet, and reading from it would leave out others.
    BeyondEnd {
        /// The offset asked for.
        wanted: Offset,
        /// The offset of the next record to be written.
        next: Offset,
    },
    /// A record is longer than the options allow.
    TooLong {
        /// Its length in bytes.
        bytes: u64,
        /// The limit in bytes.
        bytes_max: u64,
        /// The option that sets the limit.
        option: &'static str,
    },
    /// A record comes before the last one in the commit order.
    OutOfOrder {
        /// The last record's place.
        last: Lsn,
        /// The place of the record refused.
        refused: Lsn,
    },
    /// A record that should hold a transaction does not.
    NotATransaction {
        /// The record.
        offset: Offset,
        /// The cause.
        source: CodecError,
    },
    /// An option is out of its range.
    BadOption {
        /// Its name.
        option: &'static str,
        /// The value given.
        value: u64,
        /// The least and the largest value allowed.
        range: (u64, u64),
    },
}

impl LogError {
    pub(super) fn io(operation: &'static str, path: &Path, position: Option<u64>, source: io::Error) -> LogError {
        LogError::Io { operation, path: path.to_path_buf(), position, source: Arc::new(source) }
    }

    pub(super) fn damaged(path: &Path, position: u64, what: impl Into<String>) -> LogError {
        LogError::Damaged { path: path.to_path_buf(), position, what: what.into() }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Io { operation, path, position, source } => {
                write!(f, "can't {operation} {}", path.display())?;
                if let Some(position) = position {
                    write!(f, " at byte {position}")?;
                }
                write!(f, ": {source}; {}", remedy(source))
            }
            LogError::Poisoned { operation, path, source } => write!(
                f,
                "the log takes no more records since it could not {operation} {}: {source}; {}, then open it again",
                path.display(),
                remedy(source)
            ),
            LogError::Locked { path, holder } => write!(
                f,
                "the log is in use: {} is held by {holder}; stop that process or use another folder",
                path.display()
            ),
            LogError::Damaged { path, position, what } => write!(
                f,
                "the log is damaged: {} at byte {position}: {what}; restore the file, or delete the log's folder and \
                 begin with a new snapshot",
                path.display()
            ),
            LogError::UnknownVersion { path, found, known } => write!(
                f,
                "{} has format version {found}, this build reads {known}; read it with the build that wrote it",
                path.display()
            ),
            LogError::BelowRetention { wanted, lowest } => write!(
                f,
                "record {wanted} was deleted by retention, the lowest is {lowest}; read from there, or begin with a new \
                 snapshot"
            ),
            LogError::BeyondEnd { wanted, next } => write!(
                f,
                "record {wanted} does not exist, the next to be written is {next}: the reader's offset is of another \
                 log, or this log lost its end; begin with a new snapshot"
            ),
            LogError::TooLong { bytes, bytes_max, option } => {
                write!(
                    f,
                    "a record of {bytes} bytes is longer than {bytes_max}; raise {option} or commit in smaller steps"
                )
            }
            LogError::OutOfOrder { last, refused } => write!(
                f,
                "a record at {refused} comes before the last one at {last} in the commit order; append in commit order"
            ),
            LogError::NotATransaction { offset, source } => {
                write!(f, "record {offset} is not a transaction: {source}; it was written by another program or build")
            }
            LogError::BadOption { option, value, range: (least, most) } => {
                write!(f, "{option} is {value}; give a value from {least} to {most}")
            }
        }
    }
}

/// What somebody can do about an I/O error, by its kind.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => "check the folder's permissions",
        io::ErrorKind::NotFound => "check that nobody deletes files from the folder",
        _ => "check the disk",
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::Io { source, .. } | LogError::Poisoned { source, .. } => Some(&**source),
            LogError::NotATransaction { source, .. } => Some(source),
            _ => None,
        }
    }
}
