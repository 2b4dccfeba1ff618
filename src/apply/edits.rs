//! What a commit group does to the sinks, folded by key: the border between `apply` and `sink`.

use crate::model::{KeyColumn, KeyRef, Lsn, TableId, Value};
use arrow_array::RecordBatch;
use std::fmt;

/// What a commit group does to one table.
///
/// The order is fixed: the truncate first (if there is one), then the deletes and upserts, which commute because
/// a key is in at most one of `deletes` and `upsert_keys`, and there once.
#[derive(Clone, Debug)]
pub struct TableEdits {
    /// The table.
    pub table: TableId,
    /// Every row that was there before this group goes first.
    pub truncate: bool,
    /// Keys whose rows go. A key without a row is no error.
    pub deletes: KeyColumn,
    /// The key of each row of `upserts`, in its order.
    pub upsert_keys: KeyColumn,
    /// Rows that replace the rows of their keys, or are new. Whole rows, in the output table's columns.
    pub upserts: RecordBatch,
}

/// What a commit group does to all tables. A table is there more than once only where its rows are too wide for one batch:
/// the parts have different keys, and only the first one truncates.
#[derive(Clone, Debug)]
pub struct EditSet {
    /// The last commit of the group.
    pub through: Lsn,
    /// The tables that change.
    pub tables: Vec<TableEdits>,
    /// How many source changes were folded into this (at least as many as there are edits).
    pub changes: u64,
}

impl TableEdits {
    /// How many keys are deleted or upserted.
    pub fn len(&self) -> usize {
        self.deletes.len() + self.upsert_keys.len()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        !self.truncate && self.len() == 0
    }
}

/// Rows as a sink has them, for values that the record system did not send because they did not change.
pub trait CurrentRows {
    /// The row with this key as of the edits applied last (visible or not), in the output table's columns;
    /// `None` when there is no such row.
    ///
    /// # Errors
    /// [`CurrentRowError`] when the sink can't read its row.
    fn current_row(&self, table: TableId, key: KeyRef<'_>) -> Result<Option<Vec<Value>>, CurrentRowError>;
}

/// A sink could not read the present row of a key.
#[derive(Debug)]
pub struct CurrentRowError {
    /// The table.
    pub table: TableId,
    /// Why.
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

impl fmt::Display for CurrentRowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not read the present row of a key in table {}: {}", self.table.0, self.cause)
    }
}

impl std::error::Error for CurrentRowError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.cause.as_ref())
    }
}
