//! The ledger: what the workload offered and what the source acknowledged.

use crate::model::{Lsn, Moment};
use crate::workload::{ClientId, TxnIndex};

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the source, whole.
    Committed {
        /// Its place in the commit order.
        lsn: Lsn,
        /// Rows that its statements changed.
        changes: u32,
    },
    /// It only read.
    Read,
    /// It is not in the source.
    Failed {
        /// Why.
        reason: String,
    },
    /// Its commit was not acknowledged and could not be looked up: it is in the source whole or not at all.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// One transaction that was offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Which.
    pub txn: TxnIndex,
    /// Who ran it.
    pub client: ClientId,
    /// When it should have started.
    pub intended: Moment,
    /// When it did.
    pub started: Moment,
    /// When its client heard how it ended.
    pub acknowledged: Moment,
    /// How it ended.
    pub outcome: Outcome,
}

/// What one client wrote down; its thread alone owns it while the run goes on.
#[derive(Debug, Default)]
pub struct ClientLog {
    /// In the order in which the client ran them.
    pub entries: Vec<LedgerEntry>,
    /// Transactions that were due when the run was stopped and had not started.
    pub shed: u64,
}

/// How many transactions ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// [`Outcome::Committed`]
    pub committed: u64,
    /// [`Outcome::Read`]
    pub read: u64,
    /// [`Outcome::Failed`]
    pub failed: u64,
    /// [`Outcome::Unknown`]
    pub unknown: u64,
    /// Due, and not started when the run was stopped.
    pub shed: u64,
}

/// All clients' entries, sorted by transaction.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Vec<LedgerEntry>,
    commits: Vec<(Lsn, usize)>,
    shed: u64,
}

impl Ledger {
    /// Puts the clients' parts together.
    pub fn merge(parts: impl IntoIterator<Item = ClientLog>) -> Ledger {
        let mut ledger = Ledger::default();
        for mut part in parts {
            ledger.entries.append(&mut part.entries);
            ledger.shed += part.shed;
        }
        ledger.entries.sort_by_key(|entry| entry.txn);
        ledger.index_commits();
        ledger
    }

    fn index_commits(&mut self) {
        self.commits = self
            .entries
            .iter()
            .enumerate()
            .filter_map(|(place, entry)| match entry.outcome {
                Outcome::Committed { lsn, .. } => Some((lsn, place)),
                _ => None,
            })
            .collect();
        self.commits.sort_unstable();
    }

    /// Every transaction that was offered and started, by its place in the stream.
    pub fn entries(&self) -> &[LedgerEntry] {
        &self.entries
    }

    /// The committed ones, in commit order.
    pub fn commits(&self) -> impl ExactSizeIterator<Item = (Lsn, &LedgerEntry)> {
        // Places come from `entries` itself, which only `merge` and `settle` touch, and they index anew.
        self.commits.iter().map(|&(lsn, place)| (lsn, &self.entries[place]))
    }

    /// The commit with this position.
    pub fn commit(&self, lsn: Lsn) -> Option<&LedgerEntry> {
        let found = self.commits.binary_search_by_key(&lsn, |&(lsn, _)| lsn).ok()?;
        self.commits.get(found).and_then(|&(_, place)| self.entries.get(place))
    }

    /// The newest commit of the run; [`Lsn::ZERO`] if there is none.
    pub fn last_lsn(&self) -> Lsn {
        self.commits.last().map_or(Lsn::ZERO, |&(lsn, _)| lsn)
    }

    /// The transactions meant to start at or after `from` and before `until`: a measured window is taken by intended
    /// start, so that a stall can't push its own victims out of it.
    pub fn window(&self, from: Moment, until: Moment) -> impl Iterator<Item = &LedgerEntry> {
        self.entries.iter().filter(move |entry| entry.intended >= from && entry.intended < until)
    }

    /// Commits that were acknowledged at or after `from` and before `until`, whenever they were meant to start: what the
    /// source did in that time, where [`Ledger::window`] is what it was asked for.
    pub fn acknowledged(&self, from: Moment, until: Moment) -> u64 {
        let inside = |entry: &LedgerEntry| entry.acknowledged >= from && entry.acknowledged < until;
        self.commits().filter(|(_, entry)| inside(entry)).count() as u64
    }

    /// How many ended how.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { shed: self.shed, ..Counts::default() };
        for entry in &self.entries {
            match entry.outcome {
                Outcome::Committed { .. } => counts.committed += 1,
                Outcome::Read => counts.read += 1,
                Outcome::Failed { .. } => counts.failed += 1,
                Outcome::Unknown { .. } => counts.unknown += 1,
            }
        }
        counts
    }

    /// Gives every commit the position that `place` has for its number; what it has none for keeps its own.
    pub fn renumber(&mut self, place: impl Fn(Lsn) -> Option<Lsn>) {
        for entry in &mut self.entries {
            if let Outcome::Committed { lsn, .. } = &mut entry.outcome
                && let Some(position) = place(*lsn)
            {
                *lsn = position;
            }
        }
        self.index_commits();
    }

    /// Replaces every unknown outcome by what `look_up` finds for it; what it leaves `None` stays unknown.
    ///
    /// # Errors
    /// The first that `look_up` gives.
    pub fn settle<E>(&mut self, mut look_up: impl FnMut(TxnIndex) -> Result<Option<Outcome>, E>) -> Result<(), E> {
        for entry in &mut self.entries {
            if matches!(entry.outcome, Outcome::Unknown { .. })
                && let Some(outcome) = look_up(entry.txn)?
            {
                entry.outcome = outcome;
            }
        }
        self.index_commits();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(txn: u64, intended: u64, outcome: Outcome) -> LedgerEntry {
        let moment = Moment::from_nanos(intended);
        let (started, acknowledged) = (moment, moment);
        LedgerEntry { txn: TxnIndex(txn), client: ClientId(0), intended: moment, started, acknowledged, outcome }
    }

    fn committed(lsn: u64) -> Outcome {
        Outcome::Committed { lsn: Lsn(lsn), changes: 1 }
    }

    #[test]
    fn parts_merge_by_transaction_and_commits_by_position() {
        let unknown = Outcome::Unknown { reason: "cut off".to_owned() };
        let first = ClientLog { entries: vec![entry(0, 10, committed(2)), entry(3, 40, unknown)], shed: 1 };
        let second = ClientLog { entries: vec![entry(1, 20, committed(1)), entry(2, 30, Outcome::Read)], shed: 0 };
        let mut ledger = Ledger::merge([first, second]);
        assert_eq!(ledger.entries().iter().map(|e| e.txn.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(ledger.commits().map(|(lsn, e)| (lsn.0, e.txn.0)).collect::<Vec<_>>(), [(1, 1), (2, 0)]);
        assert_eq!(ledger.counts(), Counts { committed: 2, read: 1, failed: 0, unknown: 1, shed: 1 });
        let (from, until) = (Moment::from_nanos(20), Moment::from_nanos(40));
        assert_eq!(ledger.window(from, until).map(|e| e.txn.0).collect::<Vec<_>>(), [1, 2]);
        ledger.settle(|_| Ok::<_, ()>(Some(committed(3)))).unwrap();
        assert_eq!((ledger.last_lsn(), ledger.counts().unknown), (Lsn(3), 0));
        assert_eq!(ledger.commit(Lsn(3)).map(|e| e.txn), Some(TxnIndex(3)));
        assert_eq!(ledger.commit(Lsn(9)), None);
    }

    /// A source that takes 10 for each transaction and is offered one each 5: twice as many are due in a time as it does.
    #[test]
    fn what_is_due_in_a_time_is_not_what_is_done_in_it() {
        let entries = (0..8u64).map(|n| LedgerEntry {
            acknowledged: Moment::from_nanos(10 * (n + 1)),
            ..entry(n, 5 * n, if n == 3 { Outcome::Read } else { committed(n + 1) })
        });
        let ledger = Ledger::merge([ClientLog { entries: entries.collect(), shed: 0 }]);
        let (from, until) = (Moment::from_nanos(10), Moment::from_nanos(40));
        // Due at 10, 15, 20, 25, 30 and 35; acknowledged at 10, 20 and 30 (at 40 it is over).
        assert_eq!((ledger.window(from, until).count(), ledger.acknowledged(from, until)), (6, 3));
        // The one acknowledged at 40 only read.
        assert_eq!(ledger.acknowledged(Moment::from_nanos(40), Moment::from_nanos(60)), 1);
    }
}
