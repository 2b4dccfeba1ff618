//! Which commit touched a key last, and why a key differs.

use super::diff::{Difference, TableDiff};
use super::replay::{ChangeEvent, ChangeKind};
use crate::model::{Key, Lsn, TableId};
use crate::workload::TxnIndex;
use std::collections::HashMap;

/// The last change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastChange {
    /// The commit.
    pub lsn: Lsn,
    /// The transaction.
    pub txn: TxnIndex,
    /// What it did to the key.
    pub kind: ChangeKind,
    /// A commit before this one, to the same table, carries the same or a later application time: a cursor on
    /// `updated_at` may have passed this change before it was there.
    pub overtaken: bool,
}

/// The last change of every key that changed, from the events of a replay.
#[derive(Clone, Debug, Default)]
pub struct ChangeHistory {
    last: HashMap<(TableId, Key), LastChange>,
    /// The latest application time (µs) committed so far, and the latest of other transactions, a table.
    latest: HashMap<TableId, Latest>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Latest {
    txn: TxnIndex,
    intended_us: u128,
    /// The latest of all transactions before `txn`.
    before_us: Option<u128>,
    known: bool,
}

impl ChangeHistory {
    /// No change yet.
    pub fn new() -> ChangeHistory {
        ChangeHistory::default()
    }

    /// Notes a change. Changes must come in commit order, as `Replay::advance` tells them.
    pub fn record(&mut self, event: ChangeEvent<'_>) {
        let intended_us = event.txn.intended.as_micros();
        let latest = self.latest.entry(event.table).or_default();
        if !latest.known || latest.txn != event.txn.index {
            let before_us = latest.known.then(|| latest.before_us.unwrap_or(0).max(latest.intended_us));
            *latest = Latest { txn: event.txn.index, intended_us, before_us, known: true };
        }
        let overtaken = latest.before_us.is_some_and(|before| before >= intended_us);
        let change = LastChange { lsn: event.lsn, txn: event.txn.index, kind: event.kind, overtaken };
        self.last.insert((event.table, event.key.clone()), change);
    }

    /// The last change of this key; `None` if no commit touched it.
    pub fn last_change_of(&self, table: TableId, key: &Key) -> Option<LastChange> {
        self.last.get(&(table, key.clone())).copied()
    }

    /// Why one key differs.
    pub fn cause(&self, table: TableId, key: &Key, difference: Difference) -> Cause {
        match (difference, self.last_change_of(table, key)) {
            (Difference::Extra, Some(change)) if change.kind.is_delete() => Cause::LostDelete,
            (Difference::Missing | Difference::Wrong, Some(change)) if change.overtaken => Cause::LateCommit,
            _ => Cause::Other,
        }
    }

    /// Counts why the keys of a table differ.
    pub fn causes(&self, table: TableId, diff: &TableDiff) -> Causes {
        let mut causes = Causes::default();
        for (key, difference) in &diff.keys {
            match self.cause(table, key, *difference) {
                Cause::LostDelete => causes.lost_deletes += 1,
                Cause::LateCommit => causes.late_commits += 1,
                Cause::Other => causes.other += 1,
            }
        }
        causes
    }
}

/// Why a key differs, as far as the ledger tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The row is there although its last change deleted it (or moved it to another key).
    LostDelete,
    /// The row misses a change that committed after a change with the same or a later application time.
    LateCommit,
    /// Neither.
    Other,
}

/// How many keys differ for which [`Cause`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    /// [`Cause::LostDelete`]
    pub lost_deletes: u64,
    /// [`Cause::LateCommit`]
    pub late_commits: u64,
    /// [`Cause::Other`]
    pub other: u64,
}

impl Cause {
    /// The words of reports: `lost delete`, `late commit`, `other`.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::LostDelete => "lost delete",
            Cause::LateCommit => "late commit",
            Cause::Other => "other",
        }
    }
}
