//! The expected state, from the ledger alone, and the row-by-row difference to what is there.
//!
//! Shares no code with capture, transform or apply: statements and transforms have their own small interpreters
//! here. [`Replay`] runs the committed transactions in commit order up to a watermark; [`Shape`] says what the
//! derived systems should then hold; [`diff`] compares by content, down to the key and column; [`ChangeHistory`]
//! says which commit touched a differing key last.

mod civil;
mod diff;
mod digest;
mod error;
mod history;
mod number;
mod replay;
mod shape;
mod table;

pub use diff::{ACTUAL_MAX, ColumnDifference, Difference, RowDifference, TableDiff, diff};
pub use digest::{Digest, TableDigest};
pub use error::OracleError;
pub use history::{Cause, Causes, ChangeHistory, LastChange};
pub use replay::{ChangeEvent, ChangeKind, Replay};
pub use shape::Shape;
pub use table::{ExpectedState, ExpectedTable};

#[cfg(test)]
mod planted_bugs;
#[cfg(test)]
mod tests;
