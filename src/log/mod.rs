//! The embedded broker: an append-only log of transactions in commit order, in segment files in a folder.
//!
//! One writer ([`Log`]) appends and commits in groups; any number of readers ([`LogReader`]) in other threads follow it
//! from any offset and wait for more. Consumers' lowest watermark decides what retention deletes, a whole segment at a
//! time. What a reader may see is what [`Log::sync`] let through: with [`Fsync::Always`] that is durable.
//!
//! A record (one transaction) is one frame, or several when it is long; an [`Offset`] numbers records, not frames. The
//! formats stand in `frame` and `segment`; how a torn tail is told from damage in `recovery`.

mod active;
mod cursor;
mod error;
mod frame;
mod options;
mod reader;
mod recovery;
mod segment;
mod shared;
mod writer;

#[cfg(test)]
mod tests;

pub use error::LogError;
pub use options::{Fsync, LogCounters, LogOptions};
pub use reader::LogReader;
pub use recovery::Recovery;
pub use shared::LogHandle;
pub use writer::Log;

use crate::model::{CommitTime, Lsn};
use crate::storage;
use std::fmt;

/// The number of a record in its log, from 0, without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a record's payload is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// The changes of one transaction, as [`crate::model::ChangeBuf::as_bytes`] gives them.
    #[default]
    Transaction,
    /// Anything else; [`LogReader::next_transaction`] passes it over.
    Note,
}

/// A record to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the commit order; never lower than that of the record before.
    pub lsn: Lsn,
    /// When the source says it committed.
    pub committed_at: CommitTime,
    /// What the payload is.
    pub kind: RecordKind,
    /// The payload; may be empty.
    pub payload: &'a [u8],
}

/// A record read, borrowed from its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Its number in the log.
    pub offset: Offset,
    /// Its place in the commit order.
    pub lsn: Lsn,
    /// When the source says it committed.
    pub committed_at: CommitTime,
    /// What the payload is.
    pub kind: RecordKind,
    /// The payload.
    pub payload: &'a [u8],
}
