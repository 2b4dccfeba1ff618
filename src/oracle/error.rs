//! Why there is no verdict.

use crate::model::Lsn;
use crate::workload::TxnIndex;
use std::fmt;

/// Why there is no verdict. A difference is not an error: it is a `TableDiff`.
#[derive(Debug)]
pub enum OracleError {
    /// A transaction that the ledger calls committed can't have committed on the state before it: the ledger, the
    /// source or the oracle is wrong.
    Contradiction {
        /// The commit.
        lsn: Lsn,
        /// The transaction.
        txn: TxnIndex,
        /// The table.
        table: String,
        /// The row's key, for people.
        key: String,
        /// What can't be.
        reason: &'static str,
    },
    /// The commits are not in strictly rising order.
    CommitsOutOfOrder {
        /// The commit that does not follow the one before it.
        lsn: Lsn,
    },
    /// A transaction committed twice.
    CommittedTwice {
        /// The transaction.
        txn: TxnIndex,
    },
    /// The workload's stream ended before a committed transaction.
    StreamEnded {
        /// The transaction that is missing.
        txn: TxnIndex,
    },
    /// A row has no usable key.
    NoKey {
        /// The table.
        table: String,
        /// The row's key values, for people.
        key: String,
    },
    /// The transform can't be interpreted, or not on this row.
    Transform {
        /// The table.
        table: String,
        /// The row's key values, for people; empty when the definition itself is wrong.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// The rows that are there could not be read.
    Actual {
        /// The table.
        table: String,
        /// Why.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl fmt::Display for OracleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OracleError::Contradiction { lsn, txn, table, key, reason } => write!(
                f,
                "transaction {} is in the ledger as commit {lsn}, but table {table:?}, key ({key}): {reason}; \
                 compare the ledger with the source",
                txn.0
            ),
            OracleError::CommitsOutOfOrder { lsn } => {
                write!(f, "commit {lsn} does not come after the one before it; sort the commits by position")
            }
            OracleError::CommittedTwice { txn } => {
                write!(f, "transaction {} is in the ledger as committed twice", txn.0)
            }
            OracleError::StreamEnded { txn } => write!(
                f,
                "the workload has no transaction {}, which the ledger calls committed; was it another workload or seed?",
                txn.0
            ),
            OracleError::NoKey { table, key } => write!(f, "table {table:?}: a row has no usable key ({key})"),
            OracleError::Transform { table, key, reason } => match key.as_str() {
                "" => write!(f, "transform of table {table:?}: {reason}"),
                _ => write!(f, "transform of table {table:?}, key ({key}): {reason}"),
            },
            OracleError::Actual { table, cause } => {
                write!(f, "table {table:?} could not be read for comparison: {cause}")
            }
        }
    }
}

impl std::error::Error for OracleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OracleError::Actual { cause, .. } => Some(cause.as_ref()),
            _ => None,
        }
    }
}
