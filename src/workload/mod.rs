//! What the application does: tables, initial rows and a seeded stream of transactions.

mod statement;
mod transform_spec;

pub use statement::{Assign, BASE_TIME, ClientId, Invariant, LANES, PlannedTxn, Statement, Term, TxnIndex};
pub use transform_spec::{ColumnSpec, Comparison, Derive, FilterSpec, FilterTest, HashKind, Literal, TransformSpec};
