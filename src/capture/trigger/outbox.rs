//! The transactional outbox: the application itself appends its changes, inside its own transaction.

use super::setup::{expected_shape, names, op};
use crate::model::{TableId, ValueRef};
use crate::source::{Inside, SourceError, SqliteSource};

/// Appends to the changelog from inside an application's transaction; see
/// [`TriggerCapture::setup_outbox`](super::TriggerCapture::setup_outbox).
///
/// What it appends has the form of what the triggers append, so that one tailer reads both: an update that keeps its key
/// for a row that is there, whether it is new or not, and a delete for one that is not.
#[derive(Clone, Debug)]
pub struct OutboxWriter {
    tables: Vec<TableSql>,
}

#[derive(Clone, Debug)]
struct TableSql {
    key: Vec<usize>,
    present: String,
    absent: String,
}

impl OutboxWriter {
    /// A writer for the tables of `source`.
    pub fn new(source: &SqliteSource) -> OutboxWriter {
        let (keys_max, _) = expected_shape(source);
        let tables = source.catalog().iter().map(|(id, schema)| {
            let keys = schema.key.len().min(keys_max);
            let sql = |code: i64, columns: usize| {
                let targets: Vec<String> = names('k', keys).chain(names('c', columns)).collect();
                let marks = vec!["?"; targets.len() + 1].join(", ");
                format!(
                    "INSERT INTO _freshbench_changelog(tbl, op, lsn, {}) VALUES({}, {code}, {marks})",
                    targets.join(", "),
                    id.0
                )
            };
            let (present, absent) = (sql(op::UPDATE, schema.columns.len()), sql(op::DELETE, 0));
            TableSql { key: schema.key.clone(), present, absent }
        });
        OutboxWriter { tables: tables.collect() }
    }

    /// The row is there, with these values.
    ///
    /// # Errors
    /// When SQLite refuses the insert.
    pub fn present(&self, inside: &Inside<'_>, table: TableId, row: &[ValueRef<'_>]) -> Result<(), SourceError> {
        let sql = self.tables.get(table.index()).ok_or_else(|| unknown(inside, table))?;
        let key = sql.key.iter().filter_map(|&place| row.get(place).copied());
        inside.execute(&sql.present, std::iter::once(lsn(inside)).chain(key).chain(row.iter().copied()))
    }

    /// There is no row with this key any more.
    ///
    /// # Errors
    /// When SQLite refuses the insert.
    pub fn absent<'v>(
        &self,
        inside: &Inside<'_>,
        table: TableId,
        key: impl Iterator<Item = ValueRef<'v>>,
    ) -> Result<(), SourceError> {
        let sql = self.tables.get(table.index()).ok_or_else(|| unknown(inside, table))?;
        inside.execute(&sql.absent, std::iter::once(lsn(inside)).chain(key))
    }
}

fn unknown(inside: &Inside<'_>, table: TableId) -> SourceError {
    let what = format!("the outbox knows no table of the number {}", table.0);
    inside.schema(table).err().unwrap_or(SourceError::Unstorable { what })
}

fn lsn<'v>(inside: &Inside<'_>) -> ValueRef<'v> {
    ValueRef::Int(i64::try_from(inside.lsn().0).unwrap_or(i64::MAX))
}
