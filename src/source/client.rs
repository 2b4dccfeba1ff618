//! One of the application's clients: runs planned transactions on its own connection.

use super::application::{Application, Inside};
use super::error::SourceError;
use super::ledger::Outcome;
use super::postgres::PgClient;
use super::record_system::RecordSystem;
use super::sqlite::{NO_TXN, SqliteSource, wall_clock};
use super::table::quote;
use super::value;
use crate::model::{Lsn, TableId, Value};
use crate::workload::{Assign, PlannedTxn, Statement, TxnIndex};
use rusqlite::{CachedStatement, Connection, OptionalExtension};
use std::collections::HashMap;
use std::fmt::Write as _;

/// A client of a record system. Statements are prepared once and kept.
#[derive(Debug)]
pub struct Client(Kind);

#[derive(Debug)]
enum Kind {
    Sqlite(Box<SqliteClient>),
    Postgres(Box<PgClient>),
}

impl Client {
    /// Opens a connection.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub fn connect(source: impl Into<RecordSystem>) -> Result<Client, SourceError> {
        Ok(Client(match source.into() {
            RecordSystem::Sqlite(source) => Kind::Sqlite(Box::new(SqliteClient::connect(&source)?)),
            RecordSystem::Postgres(source) => Kind::Postgres(Box::new(PgClient::connect(&source)?)),
        }))
    }

    /// Runs one transaction. One that can't change anything runs as a read transaction and leaves no commit.
    ///
    /// SQLite's writers wait in the source's [`WriterQueue`](super::WriterQueue) first. A failed statement rolls the whole
    /// transaction back.
    pub fn execute(&mut self, txn: &PlannedTxn) -> Outcome {
        self.run(txn, None)
    }

    /// As [`Client::execute`], with what the application does inside the transaction.
    pub fn execute_as(&mut self, txn: &PlannedTxn, application: &mut dyn Application) -> Outcome {
        self.run(txn, Some(application))
    }

    fn run(&mut self, txn: &PlannedTxn, application: Option<&mut dyn Application>) -> Outcome {
        match (&mut self.0, txn.is_write()) {
            (Kind::Sqlite(client), true) => client.write(txn, application),
            (Kind::Sqlite(client), false) => client.read(txn),
            (Kind::Postgres(client), true) => client.write(txn, application),
            (Kind::Postgres(client), false) => client.read(txn),
        }
    }
}

/// A client of a [`SqliteSource`].
#[derive(Debug)]
struct SqliteClient {
    source: SqliteSource,
    connection: Connection,
    tables: Vec<TableSql>,
    updates: HashMap<UpdateShape, String>,
}

#[derive(Debug)]
struct TableSql {
    name: String,
    insert: String,
    delete: String,
    read: String,
    scan: String,
}

/// What distinguishes the SQL of one update from another's: table, columns, and whether each is set or added to.
type UpdateShape = (TableId, Vec<(usize, bool)>);

impl SqliteClient {
    fn connect(source: &SqliteSource) -> Result<SqliteClient, SourceError> {
        let tables = source.tables().iter().map(TableSql::new).collect();
        Ok(SqliteClient { source: source.clone(), connection: source.connect()?, tables, updates: HashMap::new() })
    }

    fn read(&mut self, txn: &PlannedTxn) -> Outcome {
        let ran = self
            .batch("BEGIN")
            .and_then(|()| txn.statements.iter().try_for_each(|statement| self.run(statement).map(drop)))
            .and_then(|()| self.batch("COMMIT"));
        match ran {
            Ok(()) => Outcome::Read,
            Err(error) => self.roll_back(&error),
        }
    }

    fn write(&mut self, txn: &PlannedTxn, application: Option<&mut dyn Application>) -> Outcome {
        let queue = self.source.queue().clone();
        let turn = queue.take();
        let (lsn, changes) = match self.apply(txn, application) {
            Ok(applied) => applied,
            Err(error) => return self.roll_back(&error),
        };
        let committed = self.batch("COMMIT");
        drop(turn);
        match committed {
            Ok(()) => Outcome::Committed { lsn, changes },
            // Still inside the transaction, so surely not committed.
            Err(error) if !self.connection.is_autocommit() => self.roll_back(&error),
            Err(error) => self.look_up(txn.index, changes, &error),
        }
    }

    /// Everything but the commit: the commit's own row first, the transaction's statements, the commit time last.
    fn apply(
        &mut self,
        txn: &PlannedTxn,
        application: Option<&mut dyn Application>,
    ) -> Result<(Lsn, u32), SourceError> {
        self.batch("BEGIN IMMEDIATE")?;
        let index = i64::try_from(txn.index.0).unwrap_or(NO_TXN);
        let failed = |error| SourceError::sqlite("number the commit in", "_freshbench_commit")(error);
        self.cached("INSERT INTO _freshbench_commit(txn, committed_at) VALUES(?1, 0)")?
            .execute([index])
            .map_err(failed)?;
        let lsn = self.connection.last_insert_rowid();
        let mut changes = 0u32;
        for statement in &txn.statements {
            changes = changes.saturating_add(self.run(statement)?);
        }
        let position = Lsn(lsn.unsigned_abs());
        if let Some(application) = application {
            let (source, connection) = (&self.source, &self.connection);
            application.before_commit(txn, &Inside::sqlite(source, connection, (position, wall_clock())))?;
        }
        self.cached("UPDATE _freshbench_commit SET committed_at = ?1 WHERE lsn = ?2")?
            .execute([wall_clock().0, lsn])
            .map_err(failed)?;
        Ok((position, changes))
    }

    fn roll_back(&mut self, cause: &SourceError) -> Outcome {
        let reason = cause.to_string();
        if !self.connection.is_autocommit()
            && let Err(error) = self.batch("ROLLBACK")
        {
            return Outcome::Unknown { reason: format!("{reason}; then {error}") };
        }
        Outcome::Failed { reason }
    }

    /// The commit said neither yes nor no: its row in the database says which.
    fn look_up(&self, txn: TxnIndex, changes: u32, cause: &SourceError) -> Outcome {
        match look_up(&self.connection, txn) {
            Ok(Some(lsn)) => Outcome::Committed { lsn, changes },
            Ok(None) => Outcome::Failed { reason: cause.to_string() },
            Err(error) => Outcome::Unknown { reason: format!("{cause}; then {error}") },
        }
    }

    fn batch(&self, sql: &'static str) -> Result<(), SourceError> {
        let ran = self.connection.prepare_cached(sql).and_then(|mut statement| statement.raw_execute());
        ran.map(drop).map_err(SourceError::sqlite(sql, self.source.path().display()))
    }

    fn cached(&self, sql: &str) -> Result<CachedStatement<'_>, SourceError> {
        self.connection.prepare_cached(sql).map_err(SourceError::sqlite("prepare", sql))
    }

    fn run(&mut self, statement: &Statement) -> Result<u32, SourceError> {
        let table = self.source.table(statement.table())?.schema();
        let failed = |error| SourceError::sqlite("write to table", &table.name)(error);
        if let Statement::Update { table, set, .. } = statement {
            let shape =
                (*table, set.iter().map(|(column, assign)| (*column, matches!(assign, Assign::Add(_)))).collect());
            if !self.updates.contains_key(&shape) {
                let sql = update_sql(&self.source, &shape)?;
                self.updates.insert(shape.clone(), sql);
            }
            let sql = self.updates.get(&shape).map_or("", String::as_str);
            let mut prepared = self.cached(sql)?;
            let Statement::Update { key, set, .. } = statement else { return Ok(0) };
            bind_update(&mut prepared, set, key)?;
            return prepared.raw_execute().map(count).map_err(failed);
        }
        let Some(sql) = self.tables.get(statement.table().index()) else { return Ok(0) };
        match statement {
            Statement::Insert { row, .. } => {
                let mut prepared = self.cached(&sql.insert)?;
                bind(&mut prepared, 1, row, &sql.name)?;
                prepared.raw_execute().map(count).map_err(failed)
            }
            Statement::Delete { key, .. } => {
                let mut prepared = self.cached(&sql.delete)?;
                bind(&mut prepared, 1, key, &sql.name)?;
                prepared.raw_execute().map(count).map_err(failed)
            }
            Statement::Read { key, .. } => self.fetch(&sql.read, key, None, &sql.name),
            Statement::Scan { from, limit_rows, .. } => self.fetch(&sql.scan, from, Some(*limit_rows), &sql.name),
            Statement::Update { .. } => Ok(0),
        }
    }

    /// Reads all rows and every column of them, as a client would. Changes nothing.
    fn fetch(&self, sql: &str, key: &[Value], limit: Option<u32>, table: &str) -> Result<u32, SourceError> {
        let failed = |error| SourceError::sqlite("read table", table)(error);
        let mut prepared = self.cached(sql)?;
        bind(&mut prepared, 1, key, table)?;
        if let Some(limit) = limit {
            prepared.raw_bind_parameter(key.len() + 1, limit).map_err(failed)?;
        }
        let columns = prepared.column_count();
        let mut rows = prepared.raw_query();
        while let Some(row) = rows.next().map_err(failed)? {
            for column in 0..columns {
                std::hint::black_box(row.get_ref(column).map_err(failed)?);
            }
        }
        Ok(0)
    }
}

/// Looks transactions up over a connection of its own.
pub(super) type LookUp = Box<dyn FnMut(TxnIndex) -> Result<Option<Lsn>, SourceError>>;

pub(super) fn looking_up(source: &RecordSystem) -> Result<LookUp, SourceError> {
    Ok(match source {
        RecordSystem::Sqlite(source) => {
            let connection = source.connect()?;
            Box::new(move |txn| look_up(&connection, txn))
        }
        RecordSystem::Postgres(source) => {
            let mut client = source.connect()?;
            Box::new(move |txn| super::postgres::look_up(&mut client, txn))
        }
    })
}

/// Whether the transaction is in the database, and where in the commit order.
fn look_up(connection: &Connection, txn: TxnIndex) -> Result<Option<Lsn>, SourceError> {
    let index = i64::try_from(txn.0).unwrap_or(NO_TXN);
    // Without an index, since every commit would pay for it; unknown outcomes are rare.
    connection
        .query_row("SELECT lsn FROM _freshbench_commit WHERE txn = ?1", [index], |row| row.get::<_, i64>(0))
        .optional()
        .map(|lsn| lsn.map(|lsn| Lsn(lsn.unsigned_abs())))
        .map_err(SourceError::sqlite("look up a transaction in", "_freshbench_commit"))
}

fn count(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX)
}

fn bind(prepared: &mut CachedStatement<'_>, first: usize, values: &[Value], table: &str) -> Result<(), SourceError> {
    for (place, value) in values.iter().enumerate() {
        let bound = prepared.raw_bind_parameter(first + place, value::encode(value.as_ref())?);
        bound.map_err(SourceError::sqlite("bind a value for table", table))?;
    }
    Ok(())
}

fn bind_update(prepared: &mut CachedStatement<'_>, set: &[(usize, Assign)], key: &[Value]) -> Result<(), SourceError> {
    for (place, (_, assign)) in set.iter().enumerate() {
        let bound = match assign {
            Assign::Set(value) => prepared.raw_bind_parameter(place + 1, value::encode(value.as_ref())?),
            Assign::Add(amount) => prepared.raw_bind_parameter(place + 1, amount),
        };
        bound.map_err(SourceError::sqlite("bind a value of", "an update"))?;
    }
    bind(prepared, set.len() + 1, key, "an update")
}

fn update_sql(source: &SqliteSource, (id, shape): &UpdateShape) -> Result<String, SourceError> {
    let table = source.table(*id)?.schema();
    let mut sql = format!("UPDATE {} SET ", quote(&table.name));
    for (place, (column, add)) in shape.iter().enumerate() {
        let name = quote(table.columns.get(*column).map_or("", |column| &column.name));
        let comma = if place > 0 { ", " } else { "" };
        let old = if *add { format!("{name} + ") } else { String::new() };
        // Writing to a String can't fail.
        let _ = write!(sql, "{comma}{name} = {old}?{}", place + 1);
    }
    let keys: Vec<String> = table
        .key_columns()
        .enumerate()
        .map(|(place, column)| format!("{} = ?{}", quote(&column.name), shape.len() + place + 1))
        .collect();
    let _ = write!(sql, " WHERE {}", keys.join(" AND "));
    Ok(sql)
}

impl TableSql {
    fn new(table: &super::table::SourceTable) -> TableSql {
        let schema = table.schema();
        let name = quote(&schema.name);
        let columns: Vec<String> = schema.columns.iter().map(|column| quote(&column.name)).collect();
        let marks = |count: usize| (1..=count).map(|place| format!("?{place}")).collect::<Vec<_>>().join(", ");
        let keys: Vec<String> = schema.key_columns().map(|column| quote(&column.name)).collect();
        let equal: Vec<String> =
            keys.iter().enumerate().map(|(place, key)| format!("{key} = ?{}", place + 1)).collect();
        let (equal, select) = (equal.join(" AND "), table.select_sql());
        let key = table.key_sql();
        TableSql {
            insert: format!("INSERT INTO {name} ({}) VALUES ({})", columns.join(", "), marks(columns.len())),
            delete: format!("DELETE FROM {name} WHERE {equal}"),
            read: format!("{select} WHERE {equal}"),
            scan: format!("{select} WHERE ({key}) >= ({}) ORDER BY {key} LIMIT ?{}", marks(keys.len()), keys.len() + 1),
            name: schema.name.clone(),
        }
    }
}
