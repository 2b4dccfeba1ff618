//! Any SQLite database, opened to be read once.

use super::discover;
use super::error::SourceError;
use super::queue::WriterQueue;
use super::readers::Readers;
use super::sqlite::open_existing;
use super::table::SourceTable;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A SQLite database that somebody else made. Nothing is ever written to it. How its columns become types is told in
/// the table above `source::discover`: INT* to Int64, CHAR/CLOB/TEXT to Text, REAL/FLOA/DOUB to Float64, BLOB to Bytes,
/// BOOL* to Bool, everything else to Text without loss.
#[derive(Debug)]
pub struct DynSqlite {
    path: PathBuf,
    connection: Connection,
}

impl DynSqlite {
    /// Opens the file for reading.
    ///
    /// # Errors
    /// When it is missing or no SQLite database.
    pub fn open(path: &Path) -> Result<DynSqlite, SourceError> {
        let connection = open_read_only(path)?;
        Ok(DynSqlite { path: path.to_owned(), connection })
    }

    /// The names of its ordinary tables.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn table_names(&self) -> Result<Vec<String>, SourceError> {
        discover::table_names(&self.connection, &self.path)
    }

    /// Columns, types and key of one table.
    ///
    /// # Errors
    /// [`SourceError::NoTable`], naming the tables there are; [`SourceError::Schema`].
    pub fn table(&self, name: &str) -> Result<SourceTable, SourceError> {
        discover::table(&self.connection, &self.path, name)
    }

    /// Begins to read with `readers` connections that see one state. More than one needs the write lock for an
    /// instant (taken and given back, nothing is written); where it is not to be had, as in a read-only file, there is
    /// one reader: see [`Readers::count`].
    ///
    /// # Errors
    /// When not even one reader can begin.
    pub fn read(&self, readers: usize) -> Result<Readers, SourceError> {
        let open = || open_read_only(&self.path);
        if readers > 1
            && let Ok(guard) = open_guard(&self.path)
            && let Ok(several) =
                Readers::begin(&self.path, readers, &guard, &WriterQueue::default(), &open, &mut |_| Ok(()))
        {
            return Ok(several);
        }
        Readers::single(&self.path, open()?)
    }
}

fn open_read_only(path: &Path) -> Result<Connection, SourceError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |operation| SourceError::sqlite(operation, path.display());
    let connection = Connection::open_with_flags(path, flags).map_err(failed("open"))?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(failed("configure"))?;
    // Opening reads nothing yet; this does, and tells a file that is no database.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(failed("open"))?;
    Ok(connection)
}

fn open_guard(path: &Path) -> Result<Connection, SourceError> {
    let guard = open_existing(path)?;
    let configure = || -> rusqlite::Result<()> {
        guard.busy_timeout(Duration::from_secs(2))?;
        // The last connection to close would else move the owner's WAL into the database.
        guard.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(())
    };
    configure().map_err(SourceError::sqlite("configure", path.display()))?;
    Ok(guard)
}
