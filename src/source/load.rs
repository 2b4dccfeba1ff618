//! The first load of a record system, and equal copies of it.

use super::error::SourceError;
use super::sqlite::{SqliteSource, wall_clock};
use super::table::quote;
use super::value;
use crate::model::{TableId, Value};
use crate::storage::private;
use crate::workload::Workload;
use rusqlite::Connection;
use std::path::Path;

const PROGRESS_ROWS: u64 = 10_000;

impl SqliteSource {
    /// Loads all the initial rows of `workload` in one transaction, and makes them durable at the end. `progress` hears
    /// the count of rows so far now and then. Returns how many rows.
    ///
    /// A process that dies meanwhile leaves a file to throw away.
    ///
    /// # Errors
    /// When SQLite fails or a row can't be stored.
    pub fn load(&self, workload: &Workload, progress: &mut dyn FnMut(u64)) -> Result<u64, SourceError> {
        self.bulk(|loader| {
            let mut rows = 0;
            for (id, _) in self.catalog().iter() {
                rows = loader.table(id, workload.initial_rows(id), rows, progress)?;
            }
            Ok(rows)
        })
    }

    /// As [`SqliteSource::load`], from rows of one table.
    ///
    /// # Errors
    /// As [`SqliteSource::load`].
    pub fn load_rows(
        &self,
        table: TableId,
        rows: impl Iterator<Item = Vec<Value>>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SourceError> {
        self.bulk(|loader| loader.table(table, rows, 0, progress))
    }

    fn bulk(&self, fill: impl FnOnce(&Loader<'_>) -> Result<u64, SourceError>) -> Result<u64, SourceError> {
        let connection = self.connect()?;
        let failed = |operation| SourceError::sqlite(operation, self.path().display());
        // Out of WAL mode, so that the rows are written once and not twice.
        connection
            .execute_batch(
                "PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF; PRAGMA foreign_keys=OFF; \
                 PRAGMA cache_size=-65536; BEGIN EXCLUSIVE",
            )
            .map_err(failed("begin to load"))?;
        let rows = fill(&Loader { source: self, connection: &connection })?;
        connection.execute_batch("COMMIT").map_err(failed("load"))?;
        settle(&connection, self.path())?;
        Ok(rows)
    }

    /// Makes a copy at `path` that holds the same rows and the same commit positions, packed and durable. Other
    /// connections may go on meanwhile: the copy is one state of the source.
    ///
    /// SQLite itself makes it (`VACUUM INTO`). A plain copy of the file by this process would drop the file locks of
    /// all its connections (POSIX locks end with any close of the file).
    ///
    /// # Errors
    /// When `path` exists, or SQLite fails.
    pub fn copy_to(&self, path: &Path) -> Result<SqliteSource, SourceError> {
        if path.exists() {
            let reason = "exists already; remove it or choose another name for the copy".to_owned();
            return Err(SourceError::NotASource { path: path.to_owned(), reason });
        }
        let name = path.to_str().ok_or_else(|| SourceError::NotASource {
            path: path.to_owned(),
            reason: "SQLite needs a path in UTF-8; choose another".to_owned(),
        })?;
        let connection = self.connect()?;
        // SQLite fills the empty file that is there, which is the owner's alone.
        private::create_new(path).map_err(SourceError::io("create the database", path))?;
        connection
            .execute("VACUUM INTO ?1", [name])
            .map_err(SourceError::sqlite("copy the database to", path.display()))?;
        drop(connection);
        let copy = self.at(path);
        settle(&copy.connect()?, path)?;
        Ok(copy)
    }
}

/// Turns WAL and full durability on and makes all that was written before durable: a checkpoint syncs the whole file.
fn settle(connection: &Connection, path: &Path) -> Result<(), SourceError> {
    let failed = |operation| SourceError::sqlite(operation, path.display());
    connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL").map_err(failed("configure"))?;
    // Without a frame in the WAL a checkpoint would have nothing to sync.
    connection
        .execute("INSERT OR REPLACE INTO _freshbench_meta VALUES('settled_at', ?1)", [wall_clock().0])
        .map_err(failed("settle"))?;
    let busy: i64 =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).map_err(failed("checkpoint"))?;
    if busy != 0 {
        let reason = "another connection reads it, so it can't be checkpointed; close that one first".to_owned();
        return Err(SourceError::NotASource { path: path.to_owned(), reason });
    }
    Ok(())
}

struct Loader<'a> {
    source: &'a SqliteSource,
    connection: &'a Connection,
}

impl Loader<'_> {
    fn table(
        &self,
        id: TableId,
        rows: impl Iterator<Item = Vec<Value>>,
        before: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, SourceError> {
        let table = self.source.table(id)?;
        let name = &table.schema().name;
        let marks: Vec<String> = (1..=table.schema().columns.len()).map(|place| format!("?{place}")).collect();
        let sql = format!("INSERT INTO {} VALUES ({})", quote(name), marks.join(", "));
        let mut insert = self.connection.prepare(&sql).map_err(SourceError::sqlite("load table", name))?;
        let mut count = before;
        for row in rows {
            for (place, value) in row.iter().enumerate() {
                let bound = insert.raw_bind_parameter(place + 1, value::encode(value.as_ref())?);
                bound.map_err(SourceError::sqlite("load table", name))?;
            }
            insert.raw_execute().map_err(SourceError::sqlite("load table", name))?;
            count += 1;
            if count.is_multiple_of(PROGRESS_ROWS) {
                progress(count);
            }
        }
        progress(count);
        Ok(count)
    }
}
