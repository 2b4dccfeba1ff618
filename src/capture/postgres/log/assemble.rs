//! Whole transactions out of the stream's messages.

use super::message::{Emitted, LogMessage, MESSAGE_PREFIX};
use super::pgoutput::{Commit, Message, parse};
use super::relation::{Misread, Relations};
use super::streamed::{StreamedTransactions, check_size};
use crate::capture::CaptureError;
use crate::model::{ChangeBuf, CommitTime, Lsn, Moment, Transaction};
use std::sync::Arc;

/// Where the stream stands between two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Nothing,
    Transaction,
    /// In a piece of this transaction.
    Piece(u32),
}

/// Puts transactions together, and says how far the stream is complete.
#[derive(Debug)]
pub(super) struct Assembler {
    pub(super) relations: Relations,
    pub(super) streamed: StreamedTransactions,
    inside: Inside,
    /// Of the transaction being read, or of one message of a streamed piece.
    changes: ChangeBuf,
    emitted: Vec<Emitted>,
    prefix: Arc<str>,
    transaction_bytes_max: u64,
    /// Every commit up to here was delivered, or changed nothing that is followed.
    pub(super) through: Lsn,
    /// The newest transaction that was delivered.
    pub(super) delivered: Lsn,
    pub(super) messages: Vec<LogMessage>,
    pub(super) now: Moment,
}

impl Assembler {
    pub(super) fn new(
        relations: Relations,
        streamed: StreamedTransactions,
        from: Lsn,
        transaction_bytes_max: u64,
    ) -> Assembler {
        Assembler {
            relations,
            streamed,
            inside: Inside::Nothing,
            changes: ChangeBuf::new(),
            emitted: Vec::new(),
            prefix: Arc::from(MESSAGE_PREFIX),
            transaction_bytes_max,
            through: from,
            delivered: from,
            messages: Vec::new(),
            now: Moment::ORIGIN,
        }
    }

    /// Forgets what has not ended: a new connection sends it again.
    pub(super) fn restart(&mut self) {
        self.inside = Inside::Nothing;
        self.changes.clear();
        self.emitted.clear();
        self.streamed.clear();
        self.relations.forget();
    }

    /// The server has read its log up to `wal_end`, and sent every commit before that.
    pub(super) fn server_at(&mut self, wal_end: u64) {
        if self.inside == Inside::Nothing {
            self.through = self.through.max(Lsn(wal_end));
        }
    }

    /// Takes one message; appends the transaction that it ends to `out`.
    #[inline]
    pub(super) fn take(&mut self, bytes: &[u8], out: &mut Vec<Transaction>) -> Result<(), CaptureError> {
        let in_piece = matches!(self.inside, Inside::Piece(_));
        let message = parse(bytes, in_piece).map_err(|malformed| protocol(&malformed.to_string()))?;
        let allowed = match message {
            Message::Begin
            | Message::StreamStart { .. }
            | Message::StreamCommit { .. }
            | Message::StreamAbort { .. } => self.inside == Inside::Nothing,
            Message::Commit(_) => self.inside == Inside::Transaction,
            Message::StreamStop => in_piece,
            Message::Insert { .. } | Message::Update { .. } | Message::Delete { .. } | Message::Truncate { .. } => {
                self.inside != Inside::Nothing
            }
            Message::Relation { .. } | Message::Emitted { .. } | Message::Other => true,
        };
        if !allowed {
            return Err(protocol("a message out of turn"));
        }
        match message {
            Message::Begin => self.inside = Inside::Transaction,
            Message::Commit(commit) => {
                self.inside = Inside::Nothing;
                let changes = std::mem::take(&mut self.changes);
                let emitted = std::mem::take(&mut self.emitted);
                self.deliver(commit, changes, emitted, out);
            }
            Message::StreamStart { xid } => {
                self.streamed.begin(xid);
                self.inside = Inside::Piece(xid);
            }
            Message::StreamStop => self.inside = Inside::Nothing,
            Message::StreamCommit { xid, commit } => {
                let (changes, emitted) = self.streamed.commit(xid)?;
                self.deliver(commit, changes, emitted, out);
            }
            Message::StreamAbort { xid, subxid } => self.streamed.abort(xid, subxid),
            Message::Relation { relation, .. } => self.relations.describe(relation),
            Message::Emitted { subxid, transactional, lsn, prefix, payload } => {
                self.emitted(subxid, (transactional, lsn), prefix, payload);
            }
            Message::Other => {}
            change => self.change(change)?,
        }
        Ok(())
    }

    #[inline]
    fn change(&mut self, change: Message<'_>) -> Result<(), CaptureError> {
        let (relations, changes) = (&mut self.relations, &mut self.changes);
        let (subxid, taken) = match change {
            Message::Insert { subxid, relation, new } => (subxid, relations.insert(relation, new, changes)),
            Message::Update { subxid, relation, old, new } => (subxid, relations.update(relation, old, new, changes)),
            Message::Delete { subxid, relation, old } => (subxid, relations.delete(relation, old, changes)),
            Message::Truncate { subxid, relations: oids } => {
                (subxid, oids.iter().try_for_each(|oid| relations.truncate(oid, changes)))
            }
            _ => return Ok(()),
        };
        let failure = match taken {
            Ok(()) => None,
            Err(Misread::Undescribed(oid)) => {
                return Err(protocol(&format!("a change of relation {oid}, never described")));
            }
            Err(Misread::Capture(error)) => Some(error),
        };
        match (self.inside, failure) {
            (Inside::Piece(xid), Some(error)) => self.streamed.fail(xid, subxid, error),
            (_, Some(error)) => return Err(error),
            (Inside::Piece(xid), None) if !self.changes.is_empty() => {
                self.streamed.append(xid, subxid, &mut self.changes)?;
            }
            (_, None) => check_size(self.changes.as_bytes().len() as u64, self.transaction_bytes_max)?,
        }
        Ok(())
    }

    fn emitted(&mut self, subxid: u32, (transactional, lsn): (bool, u64), prefix: &str, payload: &[u8]) {
        if !prefix.starts_with(MESSAGE_PREFIX) {
            return;
        }
        if *prefix != *self.prefix {
            self.prefix = Arc::from(prefix);
        }
        let prefix = Arc::clone(&self.prefix);
        let emitted = Emitted { prefix, payload: payload.into(), lsn, transactional };
        match self.inside {
            _ if !transactional => self.messages.push(emitted.delivered(Lsn::ZERO, self.now)),
            Inside::Piece(xid) => self.streamed.emit(xid, subxid, emitted),
            _ => self.emitted.push(emitted),
        }
    }

    fn deliver(&mut self, commit: Commit, changes: ChangeBuf, emitted: Vec<Emitted>, out: &mut Vec<Transaction>) {
        let lsn = Lsn(commit.end_lsn);
        // The server begins a connection with whole transactions, of which some may have been delivered before.
        if lsn <= self.delivered {
            return;
        }
        self.through = self.through.max(lsn);
        if changes.is_empty() && emitted.is_empty() {
            return;
        }
        self.delivered = lsn;
        let now = self.now;
        self.messages.extend(emitted.into_iter().map(|emitted| emitted.delivered(lsn, now)));
        out.push(Transaction { lsn, committed_at: CommitTime(commit.committed_at), changes });
    }
}

#[cold]
pub(super) fn protocol(what: &str) -> CaptureError {
    CaptureError::Slot {
        slot: "the replication stream".to_owned(),
        reason: format!("the server sent {what}; report this, with the server's version"),
    }
}
