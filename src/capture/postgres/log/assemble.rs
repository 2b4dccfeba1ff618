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
                self.deliver(commit, changes, emitted, out)?;
            }
            Message::StreamStart { xid } => {
                self.streamed.begin(xid);
                self.inside = Inside::Piece(xid);
            }
            Message::StreamStop => self.inside = Inside::Nothing,
            Message::StreamCommit { xid, commit } => {
                let (changes, emitted) = self.streamed.commit(xid)?;
                self.deliver(commit, changes, emitted, out)?;
            }
            Message::StreamAbort { xid, subxid } => self.streamed.abort(xid, subxid),
            Message::Relation { relation, .. } => self.relations.describe(relation)?,
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
            (Inside::Piece(xid), Some(error)) => {
                // What was taken of it must not go along with the next change.
                self.changes.clear();
                self.streamed.fail(xid, subxid, error);
            }
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

    fn deliver(
        &mut self,
        commit: Commit,
        changes: ChangeBuf,
        emitted: Vec<Emitted>,
        out: &mut Vec<Transaction>,
    ) -> Result<(), CaptureError> {
        let lsn = Lsn(commit.end_lsn);
        // The server begins a connection with whole transactions, of which some may have been delivered before.
        if lsn <= self.delivered {
            return Ok(());
        }
        let changes = self.relations.settle(changes)?;
        self.through = self.through.max(lsn);
        if changes.is_empty() && emitted.is_empty() {
            return Ok(());
        }
        self.delivered = lsn;
        let now = self.now;
        self.messages.extend(emitted.into_iter().map(|emitted| emitted.delivered(lsn, now)));
        out.push(Transaction { lsn, committed_at: CommitTime(commit.committed_at), changes });
        Ok(())
    }
}

#[cold]
pub(super) fn protocol(what: &str) -> CaptureError {
    CaptureError::Slot {
        slot: "the replication stream".to_owned(),
        reason: format!("the server sent {what}; report this, with the server's version"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Column, ColumnType, TableSchema};
    use crate::source::postgres::{PgCoding, PgColumn, PgKeyOrigin, PgKind, PgReplicaIdentity, PgTable};
    use proptest::prelude::*;

    fn table() -> PgTable {
        let columns = vec![Column::required("id", ColumnType::Int64), Column::nullable("t", ColumnType::Text)];
        let column = |number, type_oid, coding| PgColumn {
            number,
            type_oid,
            type_modifier: -1,
            type_name: String::new(),
            coding,
            generated: None,
        };
        PgTable {
            schema_name: "public".to_owned(),
            table_name: "a".to_owned(),
            oid: 7,
            kind: PgKind::Table,
            schema: TableSchema { name: "a".to_owned(), columns, key: vec![0] },
            columns: vec![column(1, 23, PgCoding::Int4), column(2, 25, PgCoding::Text)],
            key_origin: PgKeyOrigin::Primary,
            replica_identity: PgReplicaIdentity::PrimaryKey,
            leaves: Vec::new(),
            partition_of: None,
            owner: String::new(),
        }
    }

    fn assembler(folder: &std::path::Path) -> Assembler {
        let streamed = StreamedTransactions::new(folder, 50, 1_000);
        Assembler::new(Relations::new(vec![table()]), streamed, Lsn(10), 1_000)
    }

    const RELATION: &[u8] =
        b"R\0\0\0\x07public\0a\0d\0\x02\x01id\0\0\0\0\x17\xff\xff\xff\xff\0t\0\0\0\0\x19\xff\xff\xff\xff";
    const INSERT: &[u8] = b"I\0\0\0\x07N\0\x02t\0\0\0\x015t\0\0\0\x01x";
    const UPDATE: &[u8] = b"U\0\0\0\x07N\0\x02t\0\0\0\x015u";
    const DELETE: &[u8] = b"D\0\0\0\x07K\0\x02t\0\0\0\x015n";

    fn commit(tag: &[u8], end_lsn: u64) -> Vec<u8> {
        [tag, &[0], &0u64.to_be_bytes(), &end_lsn.to_be_bytes(), &0u64.to_be_bytes()].concat()
    }

    fn in_piece(message: &[u8], subxid: u8) -> Vec<u8> {
        [&message[..1], &[0, 0, 0, subxid], &message[1..]].concat()
    }

    #[test]
    fn a_commit_that_was_delivered_is_not_delivered_again_and_an_empty_one_only_moves_the_position() {
        let folder = tempfile::tempdir().unwrap();
        let mut assembler = assembler(folder.path());
        let mut out = Vec::new();
        for (end, changes) in [(10, true), (20, true), (30, false)] {
            assembler.take(b"B", &mut out).unwrap();
            if changes {
                assembler.take(RELATION, &mut out).unwrap();
                assembler.take(INSERT, &mut out).unwrap();
            }
            assembler.server_at(1_000);
            assembler.take(&commit(b"C", end), &mut out).unwrap();
        }
        assert_eq!(out.iter().map(|transaction| transaction.lsn).collect::<Vec<_>>(), [Lsn(20)]);
        assert_eq!((assembler.through, assembler.delivered), (Lsn(30), Lsn(20)));
        assembler.server_at(1_000);
        assert_eq!(assembler.through, Lsn(1_000));
        assert!(assembler.take(&commit(b"C", 40), &mut out).is_err(), "an end without a beginning");
    }

    fn any_message() -> impl Strategy<Value = Vec<u8>> {
        let plain = [RELATION, INSERT, UPDATE, DELETE, b"B", b"E", b"T\0\0\0\x01\0\0\0\0\x07"].map(<[u8]>::to_vec);
        let piece = [RELATION, INSERT, UPDATE, DELETE];
        prop_oneof![
            8 => prop::sample::select(plain.to_vec()),
            8 => (prop::sample::select(piece.to_vec()), 1..4u8).prop_map(|(message, subxid)| in_piece(message, subxid)),
            2 => (0..100u64).prop_map(|end| commit(b"C", end)),
            2 => (1..4u8, 0..100u64).prop_map(|(xid, end)| commit(&[b'c', 0, 0, 0, xid], end)),
            2 => (1..4u8).prop_map(|xid| vec![b'S', 0, 0, 0, xid, 1]),
            1 => (1..4u8, 1..4u8).prop_map(|(xid, subxid)| vec![b'A', 0, 0, 0, xid, 0, 0, 0, subxid]),
            1 => prop::collection::vec(any::<u8>(), 0..30),
        ]
    }

    proptest! {
        #[test]
        fn any_sequence_of_messages_ends_in_transactions_or_an_error(
            messages in prop::collection::vec(any_message(), 0..60),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut assembler = assembler(folder.path());
            let mut out = Vec::new();
            for message in messages {
                // Errors are what garbage should give; going on after them must not panic either.
                let _ = assembler.take(&message, &mut out);
            }
            prop_assert!(out.is_sorted_by(|a, b| a.lsn < b.lsn));
            for transaction in &out {
                prop_assert!(transaction.lsn > Lsn(10));
                prop_assert!(ChangeBuf::from_bytes(transaction.changes.as_bytes().to_vec()).is_ok());
            }
        }
    }
}
