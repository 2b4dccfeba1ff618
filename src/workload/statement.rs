//! Transactions as the application plans them, before any database sees them.

use crate::model::{CommitTime, TableId, Value};
use std::time::Duration;

/// The application's clock at the start of every run, 2025-01-01 00:00 UTC: `updated_at` is this plus the
/// transaction's intended offset, so that a run's data does not depend on when it runs.
pub const BASE_TIME: CommitTime = CommitTime(1_735_689_600_000_000);

/// How many lanes there are; see [`PlannedTxn::lane`].
pub const LANES: u32 = 1024;

/// A transaction's place in the stream, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxnIndex(pub u64);

/// One of the application's clients, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u32);

/// What an update does to a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assign {
    /// `col = value`
    Set(Value),
    /// `col = col + n`, on an int64 column
    Add(i64),
}

/// One statement of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Inserts a whole row.
    Insert {
        /// The table.
        table: TableId,
        /// The row, in column order.
        row: Vec<Value>,
    },
    /// Updates the row with this key; a missing row is zero rows changed and no error.
    Update {
        /// The table.
        table: TableId,
        /// The key columns' values, in key order.
        key: Vec<Value>,
        /// Columns (places in the table) and what happens to them; each column at most once.
        set: Vec<(usize, Assign)>,
    },
    /// Deletes the row with this key; a missing row is zero rows changed and no error.
    Delete {
        /// The table.
        table: TableId,
        /// The key columns' values, in key order.
        key: Vec<Value>,
    },
    /// Reads the row with this key.
    Read {
        /// The table.
        table: TableId,
        /// The key columns' values, in key order.
        key: Vec<Value>,
    },
    /// Reads rows in key order.
    Scan {
        /// The table.
        table: TableId,
        /// The first key: rows with this key or a greater one.
        from: Vec<Value>,
        /// At most this many rows.
        limit_rows: u32,
    },
}

impl Statement {
    /// Whether it can change a row.
    pub fn is_write(&self) -> bool {
        matches!(self, Statement::Insert { .. } | Statement::Update { .. } | Statement::Delete { .. })
    }

    /// The table it works on.
    pub fn table(&self) -> TableId {
        match self {
            Statement::Insert { table, .. }
            | Statement::Update { table, .. }
            | Statement::Delete { table, .. }
            | Statement::Read { table, .. }
            | Statement::Scan { table, .. } => *table,
        }
    }
}

/// One transaction of the stream. Its statements run in order, and all or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTxn {
    /// Its place in the stream.
    pub index: TxnIndex,
    /// What it is, in the workload's own words: `place`, `pay`, `read`, ...
    pub kind: &'static str,
    /// Below [`LANES`]. Transactions of one lane depend on each other, so one client runs them in stream order.
    pub lane: Option<u32>,
    /// When it should start: offset from the start of the run. Never decreases along the stream.
    pub intended: Duration,
    /// What it does.
    pub statements: Vec<Statement>,
}

impl PlannedTxn {
    /// Which of `clients` clients runs it: by lane if it has one, by its place in the stream if not.
    pub fn client(&self, clients: u32) -> ClientId {
        let clients = clients.max(1);
        let share = self.lane.map_or(self.index.0, u64::from);
        ClientId((share % u64::from(clients)) as u32)
    }

    /// Whether it has a statement that can change a row.
    pub fn is_write(&self) -> bool {
        self.statements.iter().any(Statement::is_write)
    }
}

/// Something that holds at every commit: the sum over all terms equals `equals`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invariant {
    /// What it says, in words.
    pub name: String,
    /// What is summed.
    pub terms: Vec<Term>,
    /// What the sum is.
    pub equals: i128,
}

/// `coefficient` × the sum over a table's rows of the product of the factors. Tables and columns are the source's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// What the sum is multiplied by.
    pub coefficient: i64,
    /// The table.
    pub table: TableId,
    /// Places of int64 columns.
    pub factors: Vec<usize>,
}
