//! What `pg_logical_emit_message` put into the log.

use crate::model::{Lsn, Moment};
use smallvec::SmallVec;
use std::sync::Arc;

/// Messages whose prefix begins so are handed on.
pub const MESSAGE_PREFIX: &str = "freshbench";

/// A message, before its transaction's commit is known.
#[derive(Clone, Debug)]
pub(super) struct Emitted {
    pub(super) prefix: Arc<str>,
    pub(super) payload: SmallVec<[u8; 24]>,
    pub(super) lsn: u64,
    pub(super) transactional: bool,
}

/// A message that was emitted into the log by `pg_logical_emit_message`, with a prefix that begins with
/// [`MESSAGE_PREFIX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogMessage {
    /// Its prefix.
    pub prefix: Arc<str>,
    /// Its content.
    pub payload: SmallVec<[u8; 24]>,
    /// Where it stands in the log.
    pub lsn: Lsn,
    /// The position of the transaction that it belongs to, as in `Transaction::lsn`; `None` for one that was not
    /// transactional, which arrives as soon as it is written, whatever becomes of its transaction.
    pub transaction: Option<Lsn>,
    /// When the bytes that it came with had been read.
    pub arrived_at: Moment,
}

impl Emitted {
    pub(super) fn delivered(self, commit: Lsn, arrived_at: Moment) -> LogMessage {
        let Emitted { prefix, payload, lsn, transactional } = self;
        LogMessage { prefix, payload, lsn: Lsn(lsn), transaction: transactional.then_some(commit), arrived_at }
    }
}
