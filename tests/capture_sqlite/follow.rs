//! A database, a writer, and a follower that replays what the triggers captured.

use freshbench::capture::TriggerCapture;
use freshbench::model::{ChangeRef, ColumnType, Lsn, TableId, TableSchema, Transaction, Value, ValueRef};
use freshbench::source::{SourceOptions, SqliteSource, quote};
use rusqlite::Connection;
use std::collections::BTreeMap;
use tempfile::TempDir;

pub type Rows = BTreeMap<Vec<Value>, Vec<Value>>;

/// What the changes make of tables that were as `tables` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    pub tables: Vec<Rows>,
    /// Whether a change must fit the state before it; not so when a writer replaces rows without delete triggers.
    pub strict: bool,
}

fn owned(values: &[ValueRef<'_>]) -> Vec<Value> {
    values.iter().map(|value| value.to_value().unwrap()).collect()
}

fn key_of(schema: &TableSchema, row: &[Value]) -> Vec<Value> {
    schema.key.iter().map(|&column| row[column].clone()).collect()
}

impl Replay {
    pub fn apply(&mut self, source: &SqliteSource, transaction: &Transaction) {
        for change in transaction.changes.iter() {
            let change = change.unwrap();
            let schema = source.catalog().table(change.table()).unwrap();
            let rows = &mut self.tables[change.table().index()];
            match change {
                ChangeRef::Insert { row, .. } => {
                    let row = owned(&row.values().unwrap());
                    let before = rows.insert(key_of(schema, &row), row);
                    assert!(before.is_none() || !self.strict, "inserted over {before:?}");
                }
                ChangeRef::Update { old_key, row, .. } => {
                    let row = owned(&row.values().unwrap());
                    let key = key_of(schema, &row);
                    let old = old_key.map_or_else(|| key.clone(), |old| owned(&old.values().unwrap()));
                    assert!(old_key.is_none() || old != key, "an old key that is the new one");
                    assert!(rows.remove(&old).is_some(), "updated a row that is not there: {old:?}");
                    let before = rows.insert(key, row);
                    assert!(before.is_none() || !self.strict, "updated over {before:?}");
                }
                ChangeRef::Delete { key, .. } => {
                    let key = owned(&key.values().unwrap());
                    assert!(rows.remove(&key).is_some(), "deleted a row that is not there: {key:?}");
                }
                ChangeRef::Truncate { .. } => rows.clear(),
            }
        }
    }
}

/// The tables as plain SQL shows them.
pub fn truth(source: &SqliteSource) -> Vec<Rows> {
    let connection = Connection::open(source.path()).unwrap();
    let read = |schema: &TableSchema| {
        let names: Vec<String> = schema.columns.iter().map(|column| quote(&column.name)).collect();
        let sql = format!("SELECT {} FROM {}", names.join(","), quote(&schema.name));
        let mut statement = connection.prepare(&sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut table = Rows::new();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<Value> = schema
                .columns
                .iter()
                .enumerate()
                .map(|(place, column)| value(row.get_ref(place).unwrap(), column.column_type))
                .collect();
            assert!(table.insert(key_of(schema, &values), values).is_none(), "a key twice");
        }
        table
    };
    source.catalog().tables.iter().map(read).collect()
}

fn value(stored: rusqlite::types::ValueRef<'_>, column_type: ColumnType) -> Value {
    use rusqlite::types::ValueRef as Stored;
    match (stored, column_type) {
        (Stored::Null, _) => Value::Null,
        (Stored::Integer(v), ColumnType::Timestamp) => Value::Timestamp(v),
        (Stored::Integer(v), ColumnType::Date) => Value::Date(v.try_into().unwrap()),
        (Stored::Integer(v), ColumnType::Bool) => Value::Bool(v != 0),
        (Stored::Integer(v), _) => Value::Int(v),
        (Stored::Real(v), _) => Value::Float(v),
        (Stored::Text(v), _) => Value::text(std::str::from_utf8(v).unwrap()),
        (Stored::Blob(v), _) => Value::Bytes(v.into()),
    }
}

pub struct Followed {
    _dir: TempDir,
    pub source: SqliteSource,
    pub writer: Connection,
    pub capture: TriggerCapture,
    pub replay: Replay,
    pub delivered: Vec<Transaction>,
}

impl Followed {
    /// A database made by `sql`, of which the tables named are followed.
    pub fn new(sql: &str, tables: &[&str]) -> Followed {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("record.db");
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let options = SourceOptions { durability: freshbench::source::Durability::Off, ..SourceOptions::default() };
        let source = SqliteSource::adopt(&path, tables, options).unwrap();
        let position = TriggerCapture::setup(&source).unwrap();
        let capture = TriggerCapture::resume(&source, position).unwrap();
        let writer = source.connect().unwrap();
        let replay = Replay { tables: truth(&source), strict: true };
        Followed { _dir: dir, source, writer, capture, replay, delivered: Vec::new() }
    }

    /// One transaction, numbered as this program's clients do; `sql` may hold savepoints.
    pub fn commit(&mut self, sql: &str) -> Lsn {
        self.writer
            .execute_batch("BEGIN IMMEDIATE; INSERT INTO _freshbench_commit(txn, committed_at) VALUES(7, 0);")
            .unwrap();
        let lsn = self.writer.last_insert_rowid();
        self.writer.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        self.writer.execute("UPDATE _freshbench_commit SET committed_at = 1000 + lsn WHERE lsn = ?1", [lsn]).unwrap();
        self.writer.execute_batch("COMMIT").unwrap();
        Lsn(lsn.unsigned_abs())
    }

    /// Polls all there is, replays it, and compares with the tables. Returns how many transactions came.
    pub fn check(&mut self) -> usize {
        self.check_with(u64::MAX)
    }

    pub fn check_with(&mut self, max_changes: u64) -> usize {
        let before = self.delivered.len();
        while self.capture.poll(max_changes, &mut self.delivered).unwrap().more {}
        for transaction in &self.delivered[before..] {
            self.replay.apply(&self.source, transaction);
        }
        for pair in self.delivered.windows(2) {
            assert!(pair[0].lsn < pair[1].lsn, "{} then {}", pair[0].lsn, pair[1].lsn);
        }
        let truth = truth(&self.source);
        for (id, schema) in self.source.catalog().iter() {
            assert_eq!(self.replay.tables[id.index()], truth[id.index()], "table {}", schema.name);
        }
        self.delivered.len() - before
    }

    /// Commits one transaction, which must come as one, and compares. Returns it.
    pub fn commit_and_check(&mut self, sql: &str) -> &Transaction {
        let lsn = self.commit(sql);
        assert_eq!(self.check(), 1, "{sql}");
        let last = self.delivered.last().unwrap();
        assert_eq!((last.lsn, last.committed_at.0), (lsn, 1000 + lsn.0 as i64));
        last
    }

    pub fn row(&self, table: u32, key: &[Value]) -> Option<&Vec<Value>> {
        self.replay.tables[TableId(table).index()].get(key)
    }
}
