//! A PostgreSQL database that the application of a workload writes to.
//!
//! # The commit order
//!
//! A client can't learn the log position of its own commit, and a snapshot of the server is no prefix of the log: a commit
//! is in the log before it is seen. So every write transaction puts a row into `_freshbench.commit` as its last
//! statement, with a number from a sequence and its own transaction id. Two transactions that change one row are
//! ordered by that row's lock, which is held from the change to the commit, and the number is drawn in between; so
//! **the numbers order every two transactions that conflict as their commits do**, and any order that does so leads to the
//! same rows. The ledger is kept by these numbers. What a strategy calls a position (of the log, or of a snapshot) is
//! brought together with them after the run, by `places`.

use super::cut::PgCut;
use super::name::PgTableName;
use super::options::{PgHost, PgOptions};
use super::reader::TableReader;
use super::table::PgTable;
use crate::model::{Catalog, ColumnType, Lsn, TableId, TableSchema, Value, ValueRef};
use crate::source::error::SourceError;
use crate::source::sqlite::Durability;
use crate::source::table::quote;
use crate::workload::Workload;
use ::postgres::Client;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Everything of this program's in a database stands in this schema, so that one DROP removes it.
pub const OWN_SCHEMA: &str = "_freshbench";

const OWN_TABLES: &str = "CREATE SCHEMA _freshbench;
    CREATE SEQUENCE _freshbench.commit_number;
    CREATE TABLE _freshbench.commit(
        number bigint PRIMARY KEY DEFAULT pg_catalog.nextval('_freshbench.commit_number'),
        txn bigint NOT NULL, xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id());";

const PROGRESS_ROWS: u64 = 10_000;
/// How long a slot may stay in use by a reader that was ended.
const RELEASE_PATIENCE: Duration = Duration::from_secs(10);

/// A database with a workload's tables. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PgSource {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: PgOptions,
    catalog: Catalog,
    tables: Vec<PgTable>,
    durability: Durability,
    /// The position of the newest state that was read, and the right to read the next one.
    newest_cut: Mutex<Lsn>,
}

impl PgSource {
    /// Makes a new database called `name` on the server of `options`, with the catalog's tables, empty.
    ///
    /// # Errors
    /// When the server refuses, or a table can't be created.
    pub fn create(
        options: &PgOptions,
        name: &str,
        catalog: &Catalog,
        durability: Durability,
    ) -> Result<PgSource, SourceError> {
        let mut server = options.connect()?;
        let sql =
            format!("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'", quote(name));
        server.batch_execute(&sql).map_err(SourceError::postgres("create the database", name))?;
        let own = options.with_database(name);
        let made = PgSource::furnish(&own, catalog, durability);
        if made.is_err() {
            // The failure that led here is what the user must hear of.
            let _ = server.batch_execute(&format!("DROP DATABASE {}", quote(name)));
        }
        made
    }

    fn furnish(options: &PgOptions, catalog: &Catalog, durability: Durability) -> Result<PgSource, SourceError> {
        let mut client = options.connect()?;
        client.batch_execute(OWN_TABLES).map_err(SourceError::postgres("set up", options.place()))?;
        for schema in &catalog.tables {
            let sql = create_sql(schema)?;
            client.batch_execute(&sql).map_err(SourceError::postgres("create table", &schema.name))?;
        }
        PgSource::assemble(options, catalog.clone(), durability, &mut client)
    }

    fn assemble(
        options: &PgOptions,
        catalog: Catalog,
        durability: Durability,
        client: &mut Client,
    ) -> Result<PgSource, SourceError> {
        let found = catalog.tables.iter().map(|schema| {
            PgTable::discover(
                client,
                &PgTableName { schema: Some("public".to_owned()), table: schema.name.clone(), folds: false },
            )
        });
        let tables = found.collect::<Result<Vec<_>, _>>()?;
        let inner = Inner { options: options.clone(), catalog, tables, durability, newest_cut: Mutex::default() };
        Ok(PgSource { inner: Arc::new(inner) })
    }

    /// Takes up tables of somebody else's database, in the order given. Changes nothing in it.
    pub fn adopt(options: &PgOptions, tables: Vec<PgTable>) -> PgSource {
        let catalog = Catalog { tables: tables.iter().map(|table| table.schema.clone()).collect() };
        let (options, durability, newest_cut) = (options.clone(), Durability::Full, Mutex::default());
        let inner = Inner { options, catalog, tables, durability, newest_cut };
        PgSource { inner: Arc::new(inner) }
    }

    /// Loads all the initial rows of `workload`, by COPY. `progress` hears the count of rows so far. Returns how many rows.
    ///
    /// # Errors
    /// When the server refuses or a row can't be stored.
    pub fn load(&self, workload: &Workload, progress: &mut dyn FnMut(u64)) -> Result<u64, SourceError> {
        let mut client = self.connect()?;
        let mut count = 0;
        for (id, schema) in self.catalog().iter() {
            let failed = || SourceError::postgres("load table", &schema.name);
            let mut copy = client.copy_in(&format!("COPY {} FROM STDIN", qualified(schema))).map_err(failed())?;
            let mut line = String::new();
            for row in workload.initial_rows(id) {
                line.clear();
                copy_line(&row, &mut line);
                copy.write_all(line.as_bytes()).map_err(SourceError::broken("load table", &schema.name))?;
                count += 1;
                if count % PROGRESS_ROWS == 0 {
                    progress(count);
                }
            }
            copy.finish().map_err(failed())?;
            let sql = format!("VACUUM (ANALYZE, FREEZE) {}", qualified(schema));
            client.batch_execute(&sql).map_err(failed())?;
        }
        client.batch_execute("CHECKPOINT").or_else(|error| ignore_denied(error, "checkpoint", self))?;
        progress(count);
        Ok(count)
    }

    /// Makes a database `name` on the same server that holds the same rows. Nobody may be connected to this one.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn copy_to(&self, server: &PgOptions, name: &str) -> Result<PgSource, SourceError> {
        let Inner { options, catalog, durability, .. } = &*self.inner;
        let mut client = server.connect()?;
        let template = quote(&options.database);
        let sql = format!("CREATE DATABASE {} TEMPLATE {template}", quote(name));
        client.batch_execute(&sql).map_err(SourceError::postgres("copy the database to", name))?;
        let own = options.with_database(name);
        let assembled =
            own.connect().and_then(|mut client| PgSource::assemble(&own, catalog.clone(), *durability, &mut client));
        assembled.inspect_err(|_| {
            let _ = client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", quote(name)));
        })
    }

    /// Puts a comment on the database, for whoever finds it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn say_of_it(&self, comment: &str) -> Result<(), SourceError> {
        let name = &self.inner.options.database;
        let comment = format!("'{}'", comment.replace('\'', "''"));
        let sql = format!("COMMENT ON DATABASE {} IS {comment}", quote(name));
        self.connect()?.batch_execute(&sql).map_err(SourceError::postgres("put a comment on the database", name))
    }

    /// Removes the database, ending whoever is still connected to it, after the slots that were made for it.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn remove(&self, server: &PgOptions) -> Result<(), SourceError> {
        let name = &self.inner.options.database;
        let failed = || SourceError::postgres("remove the database", name);
        let mut client = server.connect()?;
        // Nobody else uses a database that was made for one case; the server notices a moment later that a reader has gone.
        let users = "SELECT pg_catalog.pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots \
            WHERE database = $1 AND slot_name LIKE 'freshbench%' AND active";
        let slots = "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots \
            WHERE database = $1 AND slot_name LIKE 'freshbench%' AND NOT active";
        let deadline = Instant::now() + RELEASE_PATIENCE;
        while client.execute(users, &[name]).map_err(failed())? > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        client.execute(slots, &[name]).map_err(failed())?;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote(name))).map_err(failed())
    }

    /// How the database is reached.
    pub fn options(&self) -> &PgOptions {
        &self.inner.options
    }

    /// The tables.
    pub fn catalog(&self) -> &Catalog {
        &self.inner.catalog
    }

    /// A table as it is in the server.
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn table(&self, id: TableId) -> Result<&PgTable, SourceError> {
        self.inner.tables.get(id.index()).ok_or_else(|| SourceError::Options {
            what: format!("{} has no table of the number {}", self.inner.options.place(), id.0),
        })
    }

    /// Every table as it is in the server, in the catalog's order.
    pub fn tables(&self) -> &[PgTable] {
        &self.inner.tables
    }

    /// Opens a connection on which commits are acknowledged with the source's durability.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn connect(&self) -> Result<Client, SourceError> {
        let mut client = self.inner.options.connect()?;
        let synchronous = if self.inner.durability == Durability::Full { "on" } else { "off" };
        client
            .batch_execute(&format!("SET synchronous_commit = {synchronous}"))
            .map_err(SourceError::postgres("configure", self.inner.options.place()))?;
        Ok(client)
    }

    /// Begins a transaction of `client` that reads one state, says which, and gives it a position: the end of the log
    /// *before* the state was fixed. So what was acknowledged up to a position is included where the position is reached;
    /// some of what came later is as well. Positions are in the order of the states; with `distinct` no other state has it.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) fn begin_state(&self, client: &mut Client, distinct: bool) -> Result<(Lsn, PgCut), SourceError> {
        let mut newest = self.newest_cut();
        let position = self.next_position(client, *newest, distinct)?;
        let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT pg_catalog.pg_current_snapshot()";
        let cut = self.read_cut(client, sql)?;
        *newest = position;
        Ok((position, cut))
    }

    /// As [`PgSource::begin_state`], in a transaction of `client` that was begun and has read nothing. The position is asked for
    /// over `beside`, since a query of the client's own would fix the state; it is opened when it is not there.
    pub(crate) fn fix_state(
        &self,
        client: &mut Client,
        beside: &mut Option<Client>,
    ) -> Result<(Lsn, PgCut), SourceError> {
        let mut other = match beside.take().filter(|other| !other.is_closed()) {
            Some(other) => other,
            None => self.connect()?,
        };
        let mut newest = self.newest_cut();
        let position = self.next_position(&mut other, *newest, true)?;
        *beside = Some(other);
        let cut = self.read_cut(client, "SELECT pg_catalog.pg_current_snapshot()")?;
        *newest = position;
        Ok((position, cut))
    }

    /// One state at a time is fixed, so that the order of positions is the order of states.
    fn newest_cut(&self) -> std::sync::MutexGuard<'_, Lsn> {
        self.inner.newest_cut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_position(&self, client: &mut Client, newest: Lsn, distinct: bool) -> Result<Lsn, SourceError> {
        let failed = || SourceError::postgres("read the log position of", self.place());
        let end = log_end(client).map_err(failed())?;
        if !distinct || end > newest {
            return Ok(end.max(newest));
        }
        // Some bytes of log that nobody reads.
        client.execute("SELECT pg_catalog.pg_logical_emit_message(false, 'freshbench', '')", &[]).map_err(failed())?;
        log_end(client).map_err(failed())
    }

    fn read_cut(&self, client: &mut Client, sql: &str) -> Result<PgCut, SourceError> {
        let answer = client.simple_query(sql).map_err(SourceError::postgres("read the state of", self.place()))?;
        let text = answer.iter().find_map(|message| match message {
            ::postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        PgCut::parse(&text.unwrap_or_default())
    }

    /// Where the server writes its log next: behind everything that was acknowledged before.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn log_end(&self) -> Result<Lsn, SourceError> {
        log_end(&mut self.inner.options.connect()?)
            .map_err(SourceError::postgres("read the log position of", self.place()))
    }

    /// Commits a transaction that changes nothing, with a place in the log and a number, and returns both.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn write_marker(&self) -> Result<Marker, SourceError> {
        let failed = || SourceError::postgres("write a marker to", self.place());
        let mut client = self.connect()?;
        let before = log_end(&mut client).map_err(failed())?;
        let row = client
            // The message makes it a transaction of the stream that follows other tables.
            .query_one(
                "INSERT INTO _freshbench.commit(txn) VALUES(-1) \
                 RETURNING number, pg_catalog.pg_logical_emit_message(true, 'freshbench', 'marker')",
                &[],
            )
            .map_err(failed())?;
        let number: i64 = row.get(0);
        Ok(Marker { log: before, number: Lsn(number.unsigned_abs()) })
    }

    /// Hands the number of a process of the server to `look`, if the server may be on this machine.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn with_worker<T>(&self, look: impl FnOnce(u32) -> Option<T>) -> Result<Option<T>, SourceError> {
        let local = match self.options().host() {
            PgHost::Socket(_) => true,
            PgHost::Tcp(host) => matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1"),
        };
        if !local {
            return Ok(None);
        }
        let mut client = self.connect()?;
        let row = client.query_one("SELECT pg_catalog.pg_backend_pid()", &[]);
        let id: i32 = row.map_err(SourceError::postgres("ask for the process of", self.place()))?.get(0);
        let found = u32::try_from(id).ok().and_then(look);
        drop(client);
        Ok(found)
    }

    /// Reads a whole table in key order, for verification. Returns how many rows.
    ///
    /// # Errors
    /// When the server refuses, a value can't be held, or `each` fails.
    pub fn rows<E: From<SourceError>>(
        &self,
        table: TableId,
        each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let table = self.table(table)?;
        let reader = TableReader::new(table);
        let mut client = self.connect()?;
        reader.all(&mut client, &format!("{} ORDER BY {}", reader.select(), reader.key()), &[], each)
    }

    /// The server and database, for messages.
    pub fn place(&self) -> String {
        self.inner.options.place()
    }
}

/// The place of a marker, by both reckonings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Everything acknowledged before it lies before this position of the log, and the marker itself behind it.
    pub log: Lsn,
    /// Its number in the commit order.
    pub number: Lsn,
}

/// By the simple protocol, which takes one round trip.
pub(crate) fn log_end(client: &mut Client) -> Result<Lsn, ::postgres::Error> {
    let sql = "SELECT pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_catalog.pg_lsn";
    let answer = client.simple_query(sql)?;
    let end = answer.iter().find_map(|message| match message {
        ::postgres::SimpleQueryMessage::Row(row) => row.get(0).and_then(|text| text.parse().ok()),
        _ => None,
    });
    // The server always answers with one number.
    Ok(Lsn(end.unwrap_or(0)))
}

/// Only a superuser may checkpoint; the run is the same without, with the server's own checkpoint somewhere in it.
fn ignore_denied(error: ::postgres::Error, operation: &'static str, source: &PgSource) -> Result<(), SourceError> {
    if error.code() == Some(&::postgres::error::SqlState::INSUFFICIENT_PRIVILEGE) {
        return Ok(());
    }
    Err(SourceError::postgres(operation, source.place())(error))
}

pub(super) fn qualified(schema: &TableSchema) -> String {
    format!("public.{}", quote(&schema.name))
}

fn create_sql(schema: &TableSchema) -> Result<String, SourceError> {
    let mut parts = Vec::with_capacity(schema.columns.len() + 1);
    for column in &schema.columns {
        let not_null = if column.nullable { "" } else { " NOT NULL" };
        parts.push(format!("{} {}{not_null}", quote(&column.name), declared_type(column.column_type)?));
    }
    let key: Vec<String> = schema.key_columns().map(|column| quote(&column.name)).collect();
    parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
    Ok(format!("CREATE TABLE {} ({})", qualified(schema), parts.join(", ")))
}

fn declared_type(column_type: ColumnType) -> Result<String, SourceError> {
    Ok(match column_type {
        ColumnType::Bool => "boolean".to_owned(),
        ColumnType::Int64 => "bigint".to_owned(),
        ColumnType::Float64 => "double precision".to_owned(),
        ColumnType::Decimal { precision, scale } => format!("numeric({precision}, {scale})"),
        ColumnType::Text => "text".to_owned(),
        ColumnType::Bytes => "bytea".to_owned(),
        ColumnType::Date => "date".to_owned(),
        ColumnType::Timestamp => "timestamptz".to_owned(),
        ColumnType::LocalTimestamp => "timestamp".to_owned(),
        ColumnType::Float32 => "real".to_owned(),
    })
}

/// One row in COPY's text form.
fn copy_line(row: &[Value], line: &mut String) {
    for (place, value) in row.iter().enumerate() {
        if place > 0 {
            line.push('\t');
        }
        if matches!(value, Value::Null) {
            line.push_str("\\N");
            continue;
        }
        let text = crate::model::text::Text(value.as_ref()).to_string();
        for letter in text.chars() {
            match letter {
                '\\' => line.push_str("\\\\"),
                '\t' => line.push_str("\\t"),
                '\n' => line.push_str("\\n"),
                '\r' => line.push_str("\\r"),
                other => line.push(other),
            }
        }
    }
    line.push('\n');
}
