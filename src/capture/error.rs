//! What can go wrong while capturing.

use crate::model::{CodecError, Lsn};
use crate::source::SourceError;
use std::fmt;

/// Why rows or changes could not be captured.
#[derive(Debug)]
pub enum CaptureError {
    /// The record system refused, or holds a value that its column's type does not.
    Source(SourceError),
    /// A row or change beyond the limits of its encoding.
    Codec {
        /// The table.
        table: String,
        /// What the codec says.
        source: CodecError,
    },
    /// The changes asked for are not in the changelog any more, or never were.
    Gone {
        /// The position to go on from.
        from: Lsn,
        /// The changelog holds what came after this one.
        complete_after: Lsn,
    },
    /// The changelog was not set up, or for other tables.
    NotSetUp {
        /// What is missing.
        reason: String,
    },
    /// The changelog contradicts itself.
    Damaged {
        /// How.
        reason: String,
    },
    /// The readers of one snapshot do not see the same commit.
    Inconsistent {
        /// What each reader sees.
        positions: Vec<Lsn>,
    },
    /// A replication slot, or the stream behind it, can't be used or gone on with.
    Slot {
        /// The slot.
        slot: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The stream itself showed what can't be followed, as a changed definition: whoever goes on reads it again.
    Parted {
        /// The slot.
        slot: String,
        /// What it showed.
        reason: String,
    },
    /// A transaction is longer than may be held in memory.
    TooLong {
        /// Its encoded length.
        bytes: u64,
        /// What the option `transaction_bytes_max` allows.
        bytes_max: u64,
    },
    /// A table was altered between the moment of a state and its lock, so the state can't be read of it.
    Altered {
        /// The table.
        table: String,
    },
    /// A table can't be captured in this way.
    Unfit {
        /// The table.
        table: String,
        /// Why, and what to do.
        reason: String,
    },
}

impl CaptureError {
    /// For `map_err`: SQLite refused `operation` on `place`.
    pub(super) fn sqlite(operation: &'static str, place: impl fmt::Display) -> impl FnOnce(rusqlite::Error) -> Self {
        let wrap = SourceError::sqlite(operation, place);
        move |source| CaptureError::Source(wrap(source))
    }

    /// Whether the server went away: see [`SourceError::is_of_connection`].
    pub fn is_of_connection(&self) -> bool {
        matches!(self, CaptureError::Source(error) if error.is_of_connection())
    }

    /// For `map_err`: PostgreSQL refused `operation` on `place`.
    pub(super) fn postgres(
        operation: &'static str,
        place: impl fmt::Display,
    ) -> impl FnOnce(::postgres::Error) -> Self {
        let wrap = SourceError::postgres(operation, place);
        move |source| CaptureError::Source(wrap(source))
    }
}

impl From<SourceError> for CaptureError {
    fn from(error: SourceError) -> Self {
        CaptureError::Source(error)
    }
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CaptureError::Source(error) => error.fmt(f),
            CaptureError::Codec { table, source } => write!(f, "can't encode a change of table {table:?}: {source}"),
            CaptureError::Gone { from, complete_after } => write!(
                f,
                "can't go on from commit {from}: the changelog is complete only after commit {complete_after}; \
                 begin with a new snapshot"
            ),
            CaptureError::NotSetUp { reason } => write!(f, "the trigger changelog is not set up: {reason}; set it up"),
            CaptureError::Damaged { reason } => {
                write!(f, "the trigger changelog is damaged: {reason}; tear it down and begin with a new snapshot")
            }
            CaptureError::Inconsistent { positions } => {
                write!(f, "the snapshot's readers see different commits ({positions:?}); begin it again")
            }
            CaptureError::Slot { slot, reason } | CaptureError::Parted { slot, reason } => {
                write!(f, "can't follow {slot}: {reason}")
            }
            CaptureError::TooLong { bytes, bytes_max } => write!(
                f,
                "a transaction of {bytes} bytes is longer than the {bytes_max} that may be held in memory \
                 (transaction_bytes_max): raise the limit and resume, or begin with a new snapshot"
            ),
            CaptureError::Altered { table } => write!(
                f,
                "table {table:?} was altered, emptied or written anew just when its rows were to be read; begin again when that is done"
            ),
            CaptureError::Unfit { table, reason } => write!(f, "table {table:?} can't be captured: {reason}"),
        }
    }
}

impl std::error::Error for CaptureError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            CaptureError::Source(error) => Some(error),
            CaptureError::Codec { source, .. } => Some(source),
            _ => None,
        }
    }
}
