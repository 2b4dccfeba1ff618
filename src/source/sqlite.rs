//! The SQLite record system.
//!
//! SQLite shows no log position. Every write transaction of this program's clients therefore first inserts a row
//! into `_freshbench_commit`. SQLite has one writer at a time, so that row's `lsn` is exactly the place in the
//! commit order, the way from `lsn` to the planned transaction is durable in the database itself, and the position of
//! any read transaction is `max(lsn)` as it sees it. Every strategy pays for that row, and the control run too.
//!
//! `committed_at` is not positive while the transaction runs and becomes the wall clock just before the commit. A
//! trigger can so tell a transaction that has its row from one of somebody else's program that has none (see
//! `capture::trigger`).

use super::discover;
use super::error::SourceError;
use super::queue::WriterQueue;
use super::readers::Readers;
use super::table::{SourceTable, create_sql};

use crate::model::{Catalog, CommitTime, Lsn, TableId, ValueRef};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What an acknowledged commit survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// `synchronous=FULL`: a power cut. In WAL mode anything less lets a power cut take back commits that others
    /// have already seen.
    #[default]
    Full,
    /// `synchronous=NORMAL`: the end of the process, not a power cut.
    Normal,
    /// `synchronous=OFF`: as NORMAL, and a power cut may damage the file.
    Off,
}

impl Durability {
    fn pragma(self) -> &'static str {
        match self {
            Durability::Full => "FULL",
            Durability::Normal => "NORMAL",
            Durability::Off => "OFF",
        }
    }
}

/// How a source is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceOptions {
    /// What an acknowledged commit survives.
    pub durability: Durability,
    /// How long a connection waits for a lock that another process holds.
    pub busy_timeout: Duration,
    /// Page cache of each connection.
    pub cache_bytes: u32,
}

impl Default for SourceOptions {
    fn default() -> Self {
        SourceOptions {
            durability: Durability::Full,
            busy_timeout: Duration::from_secs(10),
            cache_bytes: 16 * 1024 * 1024,
        }
    }
}

/// `txn` of a commit that is none of the workload's: a marker, or a write of somebody else's program.
pub(crate) const NO_TXN: i64 = -1;

/// Ends the newest commit row if a trigger opened it for a foreign transaction. The write lock must be held.
pub(crate) const CLOSE_FOREIGN: &str = "UPDATE _freshbench_commit SET committed_at = -committed_at \
    WHERE committed_at <= 0 AND lsn = (SELECT max(lsn) FROM _freshbench_commit)";

const OWN_TABLES: &str = "
    CREATE TABLE IF NOT EXISTS _freshbench_commit(
        lsn INTEGER PRIMARY KEY AUTOINCREMENT, txn INTEGER NOT NULL, committed_at INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS _freshbench_meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;";

/// A SQLite database that the application writes to. Cheap to clone; clones share the writers' queue.
#[derive(Clone, Debug)]
pub struct SqliteSource {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    catalog: Catalog,
    tables: Vec<SourceTable>,
    options: SourceOptions,
    queue: WriterQueue,
}

impl SqliteSource {
    /// Makes a new database with the catalog's tables, empty.
    ///
    /// # Errors
    /// When the file exists already, can't be made, or a table can't be created.
    pub fn create(path: &Path, catalog: &Catalog, options: SourceOptions) -> Result<SqliteSource, SourceError> {
        crate::storage::private::create_new(path).map_err(SourceError::io("create the database", path))?;
        let tables = catalog.tables.iter().map(SourceTable::of_schema).collect::<Result<Vec<_>, _>>()?;
        let source = SqliteSource::assemble(path, catalog.clone(), tables, options);
        let connection = source.connect()?;
        let failed = |operation| SourceError::sqlite(operation, path.display());
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {OWN_TABLES}")).map_err(failed("set up"))?;
        for schema in &catalog.tables {
            let sql = create_sql(schema)?;
            connection.execute_batch(&sql).map_err(SourceError::sqlite("create table", &schema.name))?;
        }
        let json = serde_json::to_string(catalog).map_err(|error| SourceError::Unstorable {
            what: format!("the catalog can't be written as JSON: {error}"),
        })?;
        connection
            .execute("INSERT INTO _freshbench_meta VALUES('catalog', ?1)", [json])
            .map_err(failed("keep the catalog in"))?;
        connection.execute_batch("COMMIT").map_err(failed("set up"))?;
        Ok(source)
    }

    /// Opens a database that [`SqliteSource::create`] made.
    ///
    /// # Errors
    /// When the file is missing, or was not made so.
    pub fn open(path: &Path, options: SourceOptions) -> Result<SqliteSource, SourceError> {
        let probe = open_existing(path)?;
        let json: Option<String> = probe
            .query_row("SELECT value FROM _freshbench_meta WHERE name = 'catalog'", [], |row| row.get(0))
            .optional()
            .unwrap_or(None);
        let not_ours = |reason: &str| SourceError::NotASource { path: path.to_owned(), reason: reason.to_owned() };
        let json = json.ok_or_else(|| not_ours("was not made by this program; adopt its tables or load them once"))?;
        let catalog: Catalog =
            serde_json::from_str(&json).map_err(|_| not_ours("the catalog kept in it is damaged; create it anew"))?;
        let tables = catalog.tables.iter().map(SourceTable::of_schema).collect::<Result<Vec<_>, _>>()?;
        Ok(SqliteSource::assemble(path, catalog, tables, options))
    }

    /// Takes up somebody else's database: the tables named, as their schema declares them, get followed from now on.
    /// Adds this program's own tables to it and turns WAL mode on.
    ///
    /// # Errors
    /// When a table is missing or can't be followed, or the file can't be written.
    pub fn adopt(path: &Path, names: &[&str], options: SourceOptions) -> Result<SqliteSource, SourceError> {
        let probe = open_existing(path)?;
        let tables = names
            .iter()
            .map(|name| discover::table(&probe, path, name, &[]))
            .collect::<Result<Vec<_>, SourceError>>()?;
        drop(probe);
        let catalog = Catalog { tables: tables.iter().map(|table| table.schema().clone()).collect() };
        let source = SqliteSource::assemble(path, catalog, tables, options);
        source.connect()?.execute_batch(OWN_TABLES).map_err(SourceError::sqlite("set up", path.display()))?;
        Ok(source)
    }

    fn assemble(path: &Path, catalog: Catalog, tables: Vec<SourceTable>, options: SourceOptions) -> SqliteSource {
        let queue = WriterQueue::default();
        SqliteSource { inner: Arc::new(Inner { path: path.to_owned(), catalog, tables, options, queue }) }
    }

    /// The same tables and options at another path.
    pub(crate) fn at(&self, path: &Path) -> SqliteSource {
        let Inner { catalog, tables, options, .. } = &*self.inner;
        SqliteSource::assemble(path, catalog.clone(), tables.clone(), *options)
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The tables.
    pub fn catalog(&self) -> &Catalog {
        &self.inner.catalog
    }

    /// How the source is used.
    pub fn options(&self) -> SourceOptions {
        self.inner.options
    }

    /// The line in which this process's writers wait.
    pub fn queue(&self) -> &WriterQueue {
        &self.inner.queue
    }

    /// A table as it lies in SQLite.
    ///
    /// # Errors
    /// [`SourceError::NoTable`].
    pub fn table(&self, id: TableId) -> Result<&SourceTable, SourceError> {
        self.inner.tables.get(id.index()).ok_or_else(|| SourceError::NoTable {
            table: format!("#{}", id.0),
            path: self.inner.path.clone(),
            known: self.inner.catalog.tables.iter().map(|table| table.name.clone()).collect(),
        })
    }

    /// Every table as it lies in SQLite, in the catalog's order.
    pub fn tables(&self) -> &[SourceTable] {
        &self.inner.tables
    }

    /// Opens a connection: WAL, the options' durability, foreign keys enforced, and delete triggers on REPLACE.
    ///
    /// # Errors
    /// When SQLite can't open the file.
    pub fn connect(&self) -> Result<Connection, SourceError> {
        let Inner { path, options, .. } = &*self.inner;
        let connection = open_existing(path)?;
        let cache_kib = options.cache_bytes / 1024;
        let pragmas = format!(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous={}; PRAGMA foreign_keys=ON; PRAGMA recursive_triggers=ON; \
             PRAGMA cache_size=-{cache_kib};",
            options.durability.pragma()
        );
        let configure = || {
            connection.busy_timeout(options.busy_timeout)?;
            connection.set_prepared_statement_cache_capacity(256);
            connection.execute_batch(&pragmas)
        };
        configure().map_err(SourceError::sqlite("configure", path.display()))?;
        Ok(connection)
    }

    /// The newest commit's position; [`Lsn::ZERO`] right after the load.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn last_lsn(&self) -> Result<Lsn, SourceError> {
        last_lsn(&self.connect()?).map_err(SourceError::sqlite("read the last commit of", self.path().display()))
    }

    /// Commits a transaction that changes nothing: its position is behind everything committed before.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn write_marker(&self) -> Result<Lsn, SourceError> {
        let connection = self.connect()?;
        let _turn = self.queue().take();
        connection
            .execute("INSERT INTO _freshbench_commit(txn, committed_at) VALUES(?1, ?2)", [NO_TXN, wall_clock().0])
            .map_err(SourceError::sqlite("write a marker to", self.path().display()))?;
        Ok(Lsn(connection.last_insert_rowid().unsigned_abs()))
    }

    /// Reads a whole table in key order, in one read transaction, for verification. Returns how many rows.
    ///
    /// # Errors
    /// When SQLite fails, a value is not of its column's type, or `each` fails.
    pub fn rows<E: From<SourceError>>(
        &self,
        table: TableId,
        each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let readers = Readers::single(self.path(), self.connect()?)?;
        readers.scan_by_key(self.table(table)?, each, E::from)
    }
}

/// Opens an existing file for reading and writing.
pub(crate) fn open_existing(path: &Path) -> Result<Connection, SourceError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).map_err(SourceError::sqlite("open", path.display()))
}

/// `max(lsn)` as the connection's transaction sees it: the position of its state, unless a foreign transaction's
/// commit row is open, which may still grow.
pub(crate) fn last_lsn(connection: &Connection) -> rusqlite::Result<Lsn> {
    let sql = "SELECT coalesce(max(lsn), 0) FROM _freshbench_commit";
    let lsn: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(Lsn(lsn.unsigned_abs()))
}

/// The newest commit that can't grow any more, as the connection's transaction sees it.
pub(crate) fn last_closed_lsn(connection: &Connection) -> rusqlite::Result<Lsn> {
    let sql = "SELECT lsn - (committed_at <= 0) FROM _freshbench_commit ORDER BY lsn DESC LIMIT 1";
    let lsn: Option<i64> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    Ok(Lsn(lsn.unwrap_or(0).unsigned_abs()))
}

/// The wall clock, for the commit times that people read.
pub(crate) fn wall_clock() -> CommitTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    CommitTime(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
