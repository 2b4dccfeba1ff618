//! Reading the changelog's tail.

use super::TriggerCapture;
use super::setup::op;
use crate::capture::error::CaptureError;
use crate::model::{CommitTime, Lsn, TableId, Transaction};
use crate::source::{CLOSE_FOREIGN, SqliteSource};
use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator;
use rusqlite::{Connection, Row};

/// What one poll delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// The newest commit delivered so far, by this poll or one before.
    pub through: Lsn,
    /// Transactions that this poll delivered.
    pub transactions: u64,
    /// Changes in them.
    pub changes: u64,
    /// Whether the poll stopped at its limit with more to read.
    pub more: bool,
}

impl TriggerCapture {
    /// Appends the transactions behind the last poll to `out`, whole and in commit order, and ends with the one that
    /// reaches `max_changes` (an empty transaction counts as one change). Cheap when nothing was committed since.
    ///
    /// # Errors
    /// When SQLite fails, a value is not of its column's type, or the changelog is damaged. `out` is then as it was
    /// and the next poll begins at the same place.
    pub fn poll(&mut self, max_changes: u64, out: &mut Vec<Transaction>) -> Result<Polled, CaptureError> {
        let version = self.version()?;
        if self.data_version == Some(version) {
            return Ok(Polled { through: self.through, ..Polled::default() });
        }
        let before = out.len();
        let polled = self.poll_inside(max_changes, out);
        match polled {
            Ok(polled) => {
                // Read before the poll, so a commit in between shows up as a new version at the next one.
                self.data_version = Some(version).filter(|_| !polled.more);
                Ok(polled)
            }
            Err(error) => {
                out.truncate(before);
                Err(error)
            }
        }
    }

    fn version(&self) -> Result<i64, CaptureError> {
        let read = || self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0));
        read().map_err(CaptureError::sqlite("look for commits in", self.source.path().display()))
    }

    fn poll_inside(&mut self, max_changes: u64, out: &mut Vec<Transaction>) -> Result<Polled, CaptureError> {
        self.batch("BEGIN")?;
        let mut newest = newest(&self.connection);
        if let Ok((_, true)) = newest {
            self.batch("COMMIT")?;
            self.close_foreign()?;
            self.batch("BEGIN")?;
            newest = self::newest(&self.connection);
        }
        let read = newest.map_err(CaptureError::sqlite("read the position of", self.source.path().display()));
        let read = read.and_then(|(lsn, open)| {
            // Opened anew since it was closed: left for the next poll.
            let limit = if open { lsn - 1 } else { lsn };
            let delivered = deliver(self, limit, max_changes, out)?;
            Ok(Delivered { polled: Polled { more: delivered.polled.more || open, ..delivered.polled }, ..delivered })
        });
        let ended = self.batch("COMMIT");
        let delivered = read?;
        ended?;
        self.through = delivered.polled.through;
        self.last_id = delivered.last_id;
        Ok(delivered.polled)
    }

    /// Gives the open commit row of a foreign transaction its end, so that what is delivered can't grow any more.
    fn close_foreign(&self) -> Result<(), CaptureError> {
        let _turn = self.source.queue().take();
        self.connection
            .execute(CLOSE_FOREIGN, [])
            .map(drop)
            .map_err(CaptureError::sqlite("close a foreign commit in", self.source.path().display()))
    }

    fn batch(&self, sql: &'static str) -> Result<(), CaptureError> {
        let run = || self.connection.prepare_cached(sql)?.raw_execute();
        run().map(drop).map_err(CaptureError::sqlite(sql, self.source.path().display()))
    }
}

/// The newest commit, and whether it is still open.
fn newest(connection: &Connection) -> rusqlite::Result<(i64, bool)> {
    let sql = "SELECT lsn, committed_at <= 0 FROM _freshbench_commit ORDER BY lsn DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    rows.next()?.map_or(Ok((0, false)), |row| Ok((row.get(0)?, row.get(1)?)))
}

struct Delivered {
    polled: Polled,
    last_id: i64,
}

/// Walks commits and changes side by side, both in their own order.
fn deliver(
    capture: &mut TriggerCapture,
    limit: i64,
    max_changes: u64,
    out: &mut Vec<Transaction>,
) -> Result<Delivered, CaptureError> {
    let failed = |source| CaptureError::sqlite("read the changelog in", capture.source.path().display())(source);
    let mut commit_sql = capture.connection.prepare_cached(COMMITS).map_err(failed)?;
    let mut change_sql = capture.connection.prepare_cached(CHANGES).map_err(failed)?;
    let after = i64::try_from(capture.through.0).unwrap_or(i64::MAX);
    let mut commits = commit_sql.query((after, limit)).map_err(failed)?;
    let mut changes = change_sql.query([capture.last_id]).map_err(failed)?;
    changes.advance().map_err(failed)?;
    let mut polled = Polled { through: capture.through, ..Polled::default() };
    let (mut last_id, mut weight) = (capture.last_id, 0);
    while let Some(commit) = commits.next().map_err(failed)? {
        if weight >= max_changes && polled.transactions > 0 {
            polled.more = true;
            break;
        }
        let (lsn, committed_at) = pair(commit).map_err(failed)?;
        let mut transaction = Transaction {
            lsn: Lsn(lsn.unsigned_abs()),
            committed_at: CommitTime(committed_at.saturating_abs()),
            ..Transaction::default()
        };
        while let Some(row) = changes.get() {
            let (id, change_lsn) = pair(row).map_err(failed)?;
            if change_lsn > lsn {
                break;
            }
            if change_lsn < lsn {
                let reason = format!("change {id} belongs to commit {change_lsn}, which is missing or was delivered");
                return Err(CaptureError::Damaged { reason });
            }
            push(&capture.source, row, capture.keys, &mut transaction, &mut capture.scratch)?;
            last_id = id;
            changes.advance().map_err(failed)?;
        }
        polled.through = transaction.lsn;
        polled.transactions += 1;
        polled.changes += transaction.changes.len() as u64;
        weight += (transaction.changes.len() as u64).max(1);
        out.push(transaction);
    }
    Ok(Delivered { polled, last_id })
}

const COMMITS: &str = "SELECT lsn, committed_at FROM _freshbench_commit WHERE lsn > ?1 AND lsn <= ?2 ORDER BY lsn";
const CHANGES: &str = "SELECT * FROM _freshbench_changelog WHERE id > ?1 ORDER BY id";

/// The first two columns.
fn pair(row: &Row<'_>) -> rusqlite::Result<(i64, i64)> {
    Ok((row.get(0)?, row.get(1)?))
}

/// Adds one row of the changelog (id, lsn, tbl, op, the key columns, the row's columns) to its transaction.
fn push(
    source: &SqliteSource,
    row: &Row<'_>,
    keys: usize,
    transaction: &mut Transaction,
    scratch: &mut String,
) -> Result<(), CaptureError> {
    let number = |place| row.get::<_, i64>(place).map_err(CaptureError::sqlite("read", "_freshbench_changelog"));
    let (table_number, code) = (number(2)?, number(3)?);
    let damaged = |what: &str| CaptureError::Damaged { reason: format!("{what} in change {:?}", number(0).ok()) };
    let id = TableId(u32::try_from(table_number).map_err(|_| damaged("an unknown table"))?);
    let table = source.table(id)?;
    let codec = |error| CaptureError::Codec { table: table.schema().name.clone(), source: error };
    let (key_place, row_place) = (4, 4 + keys);
    let changes = &mut transaction.changes;
    match code {
        op::INSERT => {
            let new = table.decode(row, row_place, scratch)?;
            changes.push_insert(id, new.iter().copied()).map_err(codec)
        }
        op::DELETE => {
            let old = table.decode_key(row, key_place, scratch)?;
            changes.push_delete(id, old.iter().copied()).map_err(codec)
        }
        op::UPDATE => {
            let mut key_scratch = String::new();
            let old = table.decode_key(row, key_place, &mut key_scratch)?;
            let new = table.decode(row, row_place, scratch)?;
            let same = table.schema().key.iter().zip(&old).all(|(&column, old)| new.get(column) == Some(old));
            let old_key = (!same).then_some(old.as_slice());
            changes.push_update(id, old_key, new.iter().copied()).map_err(codec)
        }
        _ => Err(damaged("an unknown op")),
    }
}
