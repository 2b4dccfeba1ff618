//! The warehouse in SQL: against SQLite, against figures worked out by hand, and what is refused.

mod against_sqlite;
mod answers;
mod pruning;
mod refused;

use super::super::sql::{SqlError, SqlOptions, SqlSession};
use super::super::{Version, row_values};
use super::support;
use crate::model::text::Text;
use crate::model::{Value, ValueRef};
use std::sync::Arc;

fn session(version: &Arc<Version>) -> SqlSession {
    SqlSession::new(version, &[], SqlOptions { threads: 2, memory_bytes_max: 256 << 20 }).expect("a session")
}

fn ask(session: &SqlSession, sql: &str) -> Result<Vec<Vec<Value>>, SqlError> {
    let mut rows = Vec::new();
    for batch in session.query(sql)? {
        let batch = batch?;
        rows.extend((0..batch.num_rows()).map(|row| row_values(&batch, row)));
    }
    Ok(rows)
}

/// The answer as words, a line a row: NULL is `NULL`, a boolean 1 or 0, as SQLite has them.
fn lines(session: &SqlSession, sql: &str) -> Vec<String> {
    let rows = ask(session, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let word = |value: &Value| match value.as_ref() {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Bool(v) => u8::from(v).to_string(),
        ValueRef::Float(v) => format!("{v:?}"),
        other => Text(other).to_string(),
    };
    rows.iter().map(|row| row.iter().map(word).collect::<Vec<_>>().join("|")).collect()
}

fn one(session: &SqlSession, sql: &str) -> String {
    let lines = lines(session, sql);
    assert_eq!(lines.len(), 1, "{sql}: {lines:?}");
    lines[0].clone()
}
