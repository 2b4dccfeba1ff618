//! One of the application's clients of a PostgreSQL database.

use super::bind::Bound;
use super::reader::TableReader;
use super::record::{PgSource, qualified};
use crate::model::{CommitTime, Lsn, RowValues, TableId, Value, ValueRef};
use crate::source::application::{Application, Inside};
use crate::source::error::SourceError;
use crate::source::ledger::Outcome;
use crate::source::sqlite::wall_clock;
use crate::source::table::quote;
use crate::workload::{Assign, PlannedTxn, Statement, TxnIndex};
use ::postgres::types::ToSql;
use ::postgres::{Client, fallible_iterator::FallibleIterator};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;

const NUMBER: &str = "INSERT INTO _freshbench.commit(txn) VALUES($1) RETURNING number";

/// A client with its own connection. Statements are prepared once and kept.
pub(in crate::source) struct PgClient {
    source: PgSource,
    session: Session,
    tables: Vec<TableSql>,
    updates: HashMap<UpdateShape, String>,
}

impl std::fmt::Debug for PgClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgClient").field("source", &self.source).finish_non_exhaustive()
    }
}

/// What distinguishes the SQL of one update from another's: table, columns, and whether each is set or added to.
type UpdateShape = (TableId, Vec<(usize, bool)>);

struct TableSql {
    insert: String,
    delete: String,
    read: String,
    scan: String,
}

/// A connection and the statements prepared on it.
pub(in crate::source) struct Session {
    client: RefCell<Client>,
    prepared: RefCell<HashMap<String, ::postgres::Statement>>,
}

impl Session {
    pub(in crate::source) fn new(client: Client) -> Session {
        Session { client: RefCell::new(client), prepared: RefCell::default() }
    }

    fn statement(&self, sql: &str) -> Result<::postgres::Statement, ::postgres::Error> {
        if let Some(statement) = self.prepared.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.borrow_mut().prepare(sql)?;
        self.prepared.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn batch(&self, sql: &str) -> Result<(), ::postgres::Error> {
        self.client.borrow_mut().batch_execute(sql)
    }

    pub(in crate::source) fn execute<'v>(
        &self,
        sql: &str,
        values: impl Iterator<Item = ValueRef<'v>>,
    ) -> Result<u64, ::postgres::Error> {
        let statement = self.statement(sql)?;
        let bound: Vec<Bound<'_>> = values.map(Bound).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = bound.iter().map(|value| value as _).collect();
        self.client.borrow_mut().execute(&statement, &parameters)
    }

    /// Begins a read transaction and says which state it reads.
    pub(in crate::source) fn state(&self, source: &PgSource) -> Result<Lsn, SourceError> {
        Ok(source.begin_state(&mut self.client.borrow_mut(), false)?.0)
    }

    /// Ends a read transaction.
    pub(in crate::source) fn end(&self, source: &PgSource) -> Result<(), SourceError> {
        self.batch("COMMIT").map_err(SourceError::postgres("end a read of", source.place()))
    }

    fn number(&self, txn: i64) -> Result<i64, ::postgres::Error> {
        let statement = self.statement(NUMBER)?;
        Ok(self.client.borrow_mut().query_one(&statement, &[&txn])?.get(0))
    }

    /// Hands the row with this key, if there is one, to `each`.
    pub(in crate::source) fn row<T>(
        &self,
        reader: &TableReader<'_>,
        key: &[Value],
        each: impl FnOnce(Option<&RowValues<'_>>) -> T,
    ) -> Result<T, SourceError> {
        let table = reader.table();
        let failed = || SourceError::postgres("read a row of table", &table.schema.name);
        let places: Vec<String> = (1..=key.len()).map(|place| format!("${place}")).collect();
        let sql = format!("{} WHERE ({}) = ({})", reader.select(), reader.key(), places.join(", "));
        let statement = self.statement(&sql).map_err(failed())?;
        let bound: Vec<Bound<'_>> = key.iter().map(Bound::from).collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = bound.iter().map(|value| value as _).collect();
        // The borrow ends here: `each` may run statements of its own.
        let row = self.client.borrow_mut().query_opt(&statement, &parameters).map_err(failed())?;
        match row {
            Some(row) => {
                let mut scratch = super::reader::Scratch::default();
                Ok(each(Some(&reader.decode(&row, 0, &mut scratch)?)))
            }
            None => Ok(each(None)),
        }
    }
}

impl PgClient {
    pub(in crate::source) fn connect(source: &PgSource) -> Result<PgClient, SourceError> {
        let tables = source.tables().iter().map(TableSql::new).collect();
        let session = Session::new(source.connect()?);
        Ok(PgClient { source: source.clone(), session, tables, updates: HashMap::new() })
    }

    pub(in crate::source) fn read(&mut self, txn: &PlannedTxn) -> Outcome {
        let ran = self
            .batch("BEGIN READ ONLY")
            .and_then(|()| txn.statements.iter().try_for_each(|statement| self.run(statement).map(drop)))
            .and_then(|()| self.batch("COMMIT"));
        match ran {
            Ok(()) => Outcome::Read,
            Err(error) => self.roll_back(&error),
        }
    }

    pub(in crate::source) fn write(&mut self, txn: &PlannedTxn, application: Option<&mut dyn Application>) -> Outcome {
        let (lsn, changes) = match self.apply(txn, application) {
            Ok(applied) => applied,
            Err(error) => return self.roll_back(&error),
        };
        match self.batch("COMMIT") {
            Ok(()) => Outcome::Committed { lsn, changes },
            Err(error) => self.look_up(txn.index, changes, &error),
        }
    }

    /// Everything but the commit: the transaction's statements, its number, what the application adds.
    fn apply(
        &mut self,
        txn: &PlannedTxn,
        application: Option<&mut dyn Application>,
    ) -> Result<(Lsn, u32), SourceError> {
        self.batch("BEGIN")?;
        let mut changes = 0u32;
        for statement in &txn.statements {
            changes = changes.saturating_add(self.run(statement)?);
        }
        let index = i64::try_from(txn.index.0).unwrap_or(-1);
        let failed = || SourceError::postgres("number the commit in", "_freshbench.commit");
        let lsn = Lsn(self.session.number(index).map_err(failed())?.unsigned_abs());
        if let Some(application) = application {
            application.before_commit(txn, &self.inside(lsn))?;
        }
        Ok((lsn, changes))
    }

    fn inside(&self, lsn: Lsn) -> Inside<'_> {
        let now: CommitTime = wall_clock();
        Inside::postgres(&self.source, &self.session, (lsn, now))
    }

    fn roll_back(&mut self, cause: &SourceError) -> Outcome {
        let reason = cause.to_string();
        match self.batch("ROLLBACK") {
            Ok(()) => Outcome::Failed { reason },
            Err(_) => {
                // Never committed, since COMMIT was never sent: the server rolls back when the connection ends.
                if let Ok(client) = self.source.connect() {
                    self.session = Session::new(client);
                }
                Outcome::Failed { reason }
            }
        }
    }

    /// The commit said neither yes nor no: its row in the database says which, once the old session has ended.
    fn look_up(&mut self, txn: TxnIndex, changes: u32, cause: &SourceError) -> Outcome {
        let found = self.source.connect().and_then(|mut client| {
            let found = look_up(&mut client, txn);
            self.session = Session::new(client);
            found
        });
        match found {
            Ok(Some(lsn)) => Outcome::Committed { lsn, changes },
            // The old session may still be about to commit: asked again when the run has ended.
            Ok(None) => Outcome::Unknown { reason: cause.to_string() },
            Err(error) => Outcome::Unknown { reason: format!("{cause}; then {error}") },
        }
    }

    fn batch(&self, sql: &'static str) -> Result<(), SourceError> {
        self.session.batch(sql).map_err(SourceError::postgres(sql, self.source.place()))
    }

    fn run(&mut self, statement: &Statement) -> Result<u32, SourceError> {
        let id = statement.table();
        let schema = &self.source.table(id)?.schema;
        let failed = || SourceError::postgres("write to table", &schema.name);
        let count = |rows: u64| u32::try_from(rows).unwrap_or(u32::MAX);
        let Some(sql) = self.tables.get(id.index()) else { return Ok(0) };
        match statement {
            Statement::Update { table, key, set } => {
                let shape = set.iter().map(|(column, assign)| (*column, matches!(assign, Assign::Add(_)))).collect();
                let source = &self.source;
                let sql = match self.updates.entry((*table, shape)) {
                    std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                    std::collections::hash_map::Entry::Vacant(new) => {
                        let sql = update_sql(source, new.key())?;
                        new.insert(sql)
                    }
                };
                let values = set.iter().map(|(_, assign)| match assign {
                    Assign::Set(value) => value.as_ref(),
                    Assign::Add(amount) => ValueRef::Int(*amount),
                });
                let values = values.chain(key.iter().map(Value::as_ref));
                self.session.execute(sql, values).map(count).map_err(failed())
            }
            Statement::Insert { row, .. } => {
                self.session.execute(&sql.insert, row.iter().map(Value::as_ref)).map(count).map_err(failed())
            }
            Statement::Delete { key, .. } => {
                self.session.execute(&sql.delete, key.iter().map(Value::as_ref)).map(count).map_err(failed())
            }
            Statement::Read { key, .. } => self.fetch(&sql.read, key, None).map_err(failed()),
            Statement::Scan { from, limit_rows, .. } => {
                self.fetch(&sql.scan, from, Some(i64::from(*limit_rows))).map_err(failed())
            }
        }
    }

    /// Reads all rows, as a client would. Changes nothing.
    fn fetch(&self, sql: &str, key: &[Value], limit: Option<i64>) -> Result<u32, ::postgres::Error> {
        let statement = self.session.statement(sql)?;
        let bound: Vec<Bound<'_>> = key.iter().map(Bound::from).collect();
        let mut parameters: Vec<&dyn ToSql> = bound.iter().map(|value| value as _).collect();
        if let Some(limit) = &limit {
            parameters.push(limit);
        }
        let mut client = self.session.client.borrow_mut();
        let mut rows = client.query_raw(&statement, parameters)?;
        while let Some(row) = rows.next()? {
            std::hint::black_box(&row);
        }
        Ok(0)
    }
}

/// Whether the transaction is in the database, and its number.
pub(in crate::source) fn look_up(client: &mut Client, txn: TxnIndex) -> Result<Option<Lsn>, SourceError> {
    let index = i64::try_from(txn.0).unwrap_or(-1);
    // Without an index, since every commit would pay for it; unknown outcomes are rare.
    let found = client.query_opt("SELECT number FROM _freshbench.commit WHERE txn = $1", &[&index]);
    let found = found.map_err(SourceError::postgres("look up a transaction in", "_freshbench.commit"))?;
    Ok(found.map(|row| Lsn(row.get::<_, i64>(0).unsigned_abs())))
}

fn update_sql(source: &PgSource, (id, shape): &UpdateShape) -> Result<String, SourceError> {
    let schema = &source.table(*id)?.schema;
    let mut sql = format!("UPDATE {} SET ", qualified(schema));
    for (place, (column, add)) in shape.iter().enumerate() {
        let name = quote(schema.columns.get(*column).map_or("", |column| &column.name));
        let comma = if place > 0 { ", " } else { "" };
        let old = if *add { format!("{name} + ") } else { String::new() };
        // Writing to a String can't fail.
        let _ = write!(sql, "{comma}{name} = {old}${}", place + 1);
    }
    let keys: Vec<String> = schema
        .key_columns()
        .enumerate()
        .map(|(place, column)| format!("{} = ${}", quote(&column.name), shape.len() + place + 1))
        .collect();
    let _ = write!(sql, " WHERE {}", keys.join(" AND "));
    Ok(sql)
}

impl TableSql {
    fn new(table: &super::table::PgTable) -> TableSql {
        let schema = &table.schema;
        let name = qualified(schema);
        let reader = TableReader::new(table);
        let columns: Vec<String> = schema.columns.iter().map(|column| quote(&column.name)).collect();
        let marks = |count: usize| (1..=count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ");
        let keys: Vec<String> = schema.key_columns().map(|column| quote(&column.name)).collect();
        let equal: Vec<String> =
            keys.iter().enumerate().map(|(place, key)| format!("{key} = ${}", place + 1)).collect();
        let (equal, select, key) = (equal.join(" AND "), reader.select(), reader.key());
        TableSql {
            insert: format!("INSERT INTO {name} ({}) VALUES ({})", columns.join(", "), marks(columns.len())),
            delete: format!("DELETE FROM {name} WHERE {equal}"),
            read: format!("{select} WHERE {equal}"),
            scan: format!("{select} WHERE ({key}) >= ({}) ORDER BY {key} LIMIT ${}", marks(keys.len()), keys.len() + 1),
        }
    }
}
