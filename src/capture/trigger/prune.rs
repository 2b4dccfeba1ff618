//! Deleting what every consumer has.

use super::TriggerCapture;
use super::setup::keep_complete_after;
use crate::capture::error::CaptureError;
use crate::model::Lsn;
use rusqlite::{Connection, OptionalExtension};

/// Rows that one prune deletes at most: it holds the write lock for some milliseconds, not for seconds.
const PRUNE_ROWS_MAX: i64 = 10_000;

impl TriggerCapture {
    /// Deletes changes up to commit `through` that were delivered, at most 10,000 of them in one write
    /// transaction, oldest first. Returns how many; call again until it is 0. Afterwards nobody can
    /// [resume](TriggerCapture::resume) before `through`, so all consumers must have made it durable.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn prune(&mut self, through: Lsn) -> Result<u64, CaptureError> {
        let through = through.min(self.through);
        let _turn = self.source.queue().take();
        let pruned = self.prune_inside(through);
        if pruned.is_err() && !self.connection.is_autocommit() {
            // The first error tells more than a failing rollback would.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        pruned.map_err(CaptureError::sqlite("prune the changelog in", self.source.path().display()))
    }

    fn prune_inside(&self, through: Lsn) -> rusqlite::Result<u64> {
        let connection = &self.connection;
        let Some((first, _)) = neighbour(connection, FIRST_FROM, 0)? else { return Ok(0) };
        let last = last_id_through(connection, through)?.min(first.saturating_add(PRUNE_ROWS_MAX - 1));
        if last < first {
            return Ok(0);
        }
        connection.execute_batch("BEGIN IMMEDIATE")?;
        keep_complete_after(connection, through)?;
        let rows = connection.prepare_cached("DELETE FROM _freshbench_changelog WHERE id <= ?1")?.execute([last])?;
        connection.execute_batch("COMMIT")?;
        Ok(rows as u64)
    }
}

const FIRST_FROM: &str = "SELECT id, lsn FROM _freshbench_changelog WHERE id >= ?1 ORDER BY id LIMIT 1";
const LAST_TO: &str = "SELECT id, lsn FROM _freshbench_changelog WHERE id <= ?1 ORDER BY id DESC LIMIT 1";

/// The id of the last change of a commit up to `through`; if there is none, the id before the first change, or the
/// newest id ever given when the changelog is empty. By bisection, since `lsn` never decreases along `id`: an index
/// on `lsn` would cost every write.
pub(super) fn last_id_through(connection: &Connection, through: Lsn) -> rusqlite::Result<i64> {
    let (Some((mut low, first_lsn)), Some((mut high, _))) =
        (neighbour(connection, FIRST_FROM, 0)?, neighbour(connection, LAST_TO, i64::MAX)?)
    else {
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = '_freshbench_changelog'";
        return Ok(connection.query_row(sql, [], |row| row.get(0)).optional()?.unwrap_or(0));
    };
    if first_lsn > through.0 {
        return Ok(low - 1);
    }
    // `low` is an existing id of a commit up to `through`; nothing above `high` is.
    while low < high {
        let middle = low + (high - low).div_euclid(2) + 1;
        match neighbour(connection, FIRST_FROM, middle)? {
            Some((id, lsn)) if lsn <= through.0 => low = id,
            _ => high = middle - 1,
        }
    }
    Ok(low)
}

fn neighbour(connection: &Connection, sql: &str, id: i64) -> rusqlite::Result<Option<(i64, u64)>> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()));
    connection.prepare_cached(sql)?.query_row([id], read).optional()
}
