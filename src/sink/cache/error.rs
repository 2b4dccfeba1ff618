//! Why the cache failed: operation, place, cause and remedy.

use crate::model::{CodecError, Lsn};
use std::error::Error;
use std::fmt;

/// Why a cache operation failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum CacheError {
    /// The server can't be reached, or refused.
    Server {
        /// What was tried, as in "could not {operation} {place}".
        operation: &'static str,
        /// Host, port and prefix; never a password.
        place: String,
        /// Why.
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The setting makes no sense.
    Setting {
        /// What is wrong with it, and what to do.
        what: String,
    },
    /// There is a cache already where one was to be made.
    Exists {
        /// Host, port and prefix.
        place: String,
    },
    /// There is no cache (any more) where one was to be.
    Missing {
        /// Host, port and prefix.
        place: String,
    },
    /// An entry is not what was put there.
    Corrupt {
        /// The table's name.
        table: String,
        /// The key, in words.
        key: String,
        /// What is wrong with it.
        cause: CodecError,
    },
    /// The edits, the batch or the row do not fit the table.
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
    /// The row of this key can't be known: the cache does not have it, and does not know that there is none.
    Unknown {
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
}

impl CacheError {
    pub(super) fn mismatch(table: &str, what: impl Into<String>) -> CacheError {
        CacheError::Mismatch { table: table.to_owned(), what: what.into() }
    }
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheError::Server { operation, place, cause } => {
                write!(f, "could not {operation} {place}: {cause}; check that the server runs there and takes writes")
            }
            CacheError::Setting { what } => f.write_str(what),
            CacheError::Exists { place } => {
                write!(f, "there is a cache already in {place}; open it, or choose another prefix")
            }
            CacheError::Missing { place } => {
                write!(f, "there is no cache of this build's format in {place} (any more); create it and load it again")
            }
            CacheError::Corrupt { table, key, cause } => {
                write!(
                    f,
                    "table {table:?}: the cache's entry of key {key} can't be read: {cause}; load the table again"
                )
            }
            CacheError::Mismatch { table, what } => write!(f, "table {table:?}: {what}"),
            CacheError::NoTable { table } => write!(f, "the cache has no table number {table}"),
            CacheError::Unknown { table, key } => write!(
                f,
                "table {table:?}: the cache can't know the present row of key {key}; load the table first, without a bound \
                 on entries, or have the source send whole rows (REPLICA IDENTITY FULL)"
            ),
            CacheError::WatermarkBack { asked, present } => {
                write!(f, "watermark {asked} lies before {present}, and a watermark never goes back")
            }
            CacheError::Unpublished { operation } => {
                write!(f, "can't {operation} while accepted edits are not published; publish them first")
            }
        }
    }
}

impl Error for CacheError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            CacheError::Server { cause, .. } => Some(cause.as_ref()),
            CacheError::Corrupt { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
