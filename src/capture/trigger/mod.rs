//! Change capture by triggers: what LinkedIn's Databus and Facebook's Wormhole made known.
//!
//! `AFTER` triggers on every table append each change to `_freshbench_changelog(id, lsn, tbl, op, k0.., c0..)`, in
//! the very transaction that makes it, so a rollback (also one to a savepoint) takes it back. `k` holds the key before
//! (update and delete), `c` the row after (insert and update). Its columns have no declared type and therefore no
//! affinity: values keep their storage class. `id` is the order of the changes; since SQLite has one writer at
//! a time, `lsn` never decreases along it, and a transaction's changes stand side by side.
//!
//! # Writers that number no commit
//!
//! This program's clients begin a transaction with a row in `_freshbench_commit` whose `committed_at` is not positive
//! until just before the commit. A trigger that finds the newest row closed works for a foreign writer, and inserts a row
//! (`txn = -1`, open) itself: the foreign transaction gets a commit number of its own. Nobody closes that row at the
//! foreign commit, so foreign transactions that follow each other, without one of ours between and without a poll
//! between, share a number and are delivered as one. A poll closes the row before it delivers, and so does a
//! snapshot, so what was delivered never grows, nothing is lost, and every delivered state is one that a read transaction could have seen.
//!
//! # What it asks of foreign writers
//!
//! * A REPLACE that displaces a row through a UNIQUE constraint *other* than the primary key fires its delete
//!   trigger only under `PRAGMA recursive_triggers=ON`.
//! * SQLite fires the trigger made last first. Triggers of others that change the same row, made after
//!   [`TriggerCapture::setup`], would log their change first: run `setup` again after making any.

mod outbox;
mod poll;
mod prune;
mod setup;

use super::error::CaptureError;
use crate::model::Lsn;
use crate::source::SqliteSource;
use rusqlite::Connection;

pub use outbox::OutboxWriter;
pub use poll::Polled;

/// The tailer of the trigger changelog: whole transactions, in commit order, each once.
///
/// Every commit gives exactly one transaction, one without changes too (a marker, or an update that met no row),
/// so positions downstream advance past it. Its own state is only the position: [`TriggerCapture::resume`] goes on
/// after any position that the changelog still covers.
#[derive(Debug)]
pub struct TriggerCapture {
    source: SqliteSource,
    connection: Connection,
    through: Lsn,
    last_id: i64,
    data_version: Option<i64>,
    keys: usize,
    scratch: String,
}

impl TriggerCapture {
    /// Goes on after commit `from`: delivers exactly the transactions behind it.
    ///
    /// # Errors
    /// [`CaptureError::NotSetUp`]; [`CaptureError::Gone`] when changes behind `from` were pruned or never captured.
    pub fn resume(source: &SqliteSource, from: Lsn) -> Result<TriggerCapture, CaptureError> {
        let connection = source.connect()?;
        let complete_after = setup::complete_after(&connection, source)?;
        if from < complete_after {
            return Err(CaptureError::Gone { from, complete_after });
        }
        let last_id = prune::last_id_through(&connection, from)
            .map_err(CaptureError::sqlite("find a position in", "_freshbench_changelog"))?;
        Ok(TriggerCapture {
            source: source.clone(),
            connection,
            through: from,
            last_id,
            data_version: None,
            keys: setup::expected_shape(source).0,
            scratch: String::new(),
        })
    }

    /// The newest commit that was delivered.
    pub fn through(&self) -> Lsn {
        self.through
    }
}
