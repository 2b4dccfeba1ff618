//! Any SQLite database, opened to be read once.

use super::discover;
use super::error::SourceError;
use super::queue::WriterQueue;
use super::readers::Readers;
use super::sqlite::open_existing;
use super::table::SourceTable;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use std::fs::File;
use std::io::Read;
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

    /// Columns, types and declared key of one table; its rowid is the key of a table that declares none.
    ///
    /// # Errors
    /// [`SourceError::NoTable`], naming the tables there are; [`SourceError::NotASource`] for what is no ordinary table;
    /// [`SourceError::Schema`].
    pub fn table(&self, name: &str) -> Result<SourceTable, SourceError> {
        self.table_by(name, &[])
    }

    /// As [`DynSqlite::table`], with other columns to tell rows apart by; `rowid` (or `_rowid_`, or `oid`) that is no
    /// column's name is the rowid, which then comes as a first column.
    ///
    /// # Errors
    /// As [`DynSqlite::table`]; [`SourceError::NotASource`] for a column that is not there.
    pub fn table_by(&self, name: &str, key: &[String]) -> Result<SourceTable, SourceError> {
        discover::table(&self.connection, &self.path, name, key)
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
    // A pipe would be waited for.
    if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let reason = "it is no file, and a SQLite database is one; give its path".to_owned();
        return Err(SourceError::NotASource { path: path.to_owned(), reason });
    }
    // From the root: SQLite takes what begins with `file:` for a URI, with switches that leave the journal unread, and `:memory:` for
    // no file at all.
    let whole = std::path::absolute(path).map_err(SourceError::io("find", path))?;
    let connection = Connection::open_with_flags(whole, flags).map_err(failed("open"))?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(failed("configure"))?;
    // Opening reads nothing yet; this does, and tells a file that is no database.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(|error| {
        match unsettled(path, &error) {
            Some(reason) => SourceError::NotASource { path: path.to_owned(), reason },
            None => failed("open")(error),
        }
    })?;
    Ok(connection)
}

/// What to do about a database that can't be read as it lies there, since its newest state needs a journal or a WAL. Its
/// file alone is half a transaction, or lacks the last ones, however it is copied.
fn unsettled(path: &Path, error: &rusqlite::Error) -> Option<String> {
    let with_suffix = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let (journal, wal) = (with_suffix("-journal"), with_suffix("-wal"));
    let code = error.sqlite_error().map_or(0, |error| error.extended_code);
    if code == ffi::SQLITE_READONLY_ROLLBACK {
        return Some(format!(
            "an application died in the middle of a transaction, and its journal {journal} must be rolled back before \
             anything is read: open the database for writing once, where it lies and with the journal beside it, as with \
             sqlite3 {path} 'SELECT count(*) FROM sqlite_schema'",
            journal = journal.display(),
            path = path.display(),
        ));
    }
    let wal_codes = [
        ffi::SQLITE_READONLY_RECOVERY,
        ffi::SQLITE_READONLY_CANTLOCK,
        ffi::SQLITE_READONLY_CANTINIT,
        ffi::SQLITE_CANTOPEN,
    ];
    if wal_codes.contains(&code) && is_in_wal_mode(path) {
        return Some(format!(
            "it is in WAL mode, and to read it SQLite needs {shm} beside it, which it can't make or write there: make the \
             folder writable, or copy the database together with {wal}, if there is one, to a folder that is",
            shm = with_suffix("-shm").display(),
            wal = wal.display(),
        ));
    }
    if code == ffi::SQLITE_CANTOPEN && journal.exists() {
        return Some(format!("its journal {} can't be read; make it readable", journal.display()));
    }
    None
}

/// Bytes 18 and 19 of the file are 2 in WAL mode. Source: sqlite.org/fileformat2.html, 1.3.
fn is_in_wal_mode(path: &Path) -> bool {
    let mut header = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header.ends_with(&[2, 2])
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
