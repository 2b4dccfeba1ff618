//! Why changes can't be folded into edits.

use super::edits::CurrentRowError;
use crate::model::key::KeyError;
use crate::model::{CodecError, Lsn};
use crate::transform::TransformError;
use std::fmt;

/// Why changes can't be folded into edits. After an error the whole commit group is lost: see `Folder`.
#[derive(Debug)]
pub enum ApplyError {
    /// A change can't be read.
    Codec {
        /// The commit.
        lsn: Lsn,
        /// Why.
        cause: CodecError,
    },
    /// A row's bytes can't be read; which commit of the group brought them is not known any more.
    Row {
        /// The source table.
        table: String,
        /// The key values, for people.
        key: String,
        /// Why.
        cause: CodecError,
    },
    /// A change's key does not fit its table.
    Key {
        /// The source table.
        table: String,
        /// The key values, for people.
        key: String,
        /// What is wrong.
        cause: KeyError,
    },
    /// A value was not sent because it did not change, but the group deleted the row before.
    MissingBase {
        /// The source table.
        table: String,
        /// The key whose row is missing, for people.
        key: String,
    },
    /// A commit came after one that is later in the commit order.
    OutOfOrder {
        /// The later commit, which came first.
        after: Lsn,
        /// The commit that came too late.
        lsn: Lsn,
    },
    /// The group failed before and can't be finished.
    Poisoned,
    /// A row does not pass the transform.
    Transform(TransformError),
    /// The sink could not read its present row.
    Current(CurrentRowError),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ApplyError::Codec { lsn, cause } => write!(f, "commit {lsn}: a change can't be read: {cause}"),
            ApplyError::Row { table, key, cause } => {
                write!(f, "table {table:?}, key ({key}): the row can't be read: {cause}")
            }
            ApplyError::Key { table, key, cause } => write!(f, "table {table:?}, key ({key}): {cause}"),
            ApplyError::MissingBase { table, key } => write!(
                f,
                "table {table:?}, key ({key}): an update left values out because they did not change, but the row was \
                 deleted before it in the same commit group; the changes are not in commit order"
            ),
            ApplyError::OutOfOrder { after, lsn } => {
                write!(f, "commit {lsn} came after commit {after}: changes must be applied in commit order")
            }
            ApplyError::Poisoned => f.write_str("this commit group failed before; start again from the last watermark"),
            ApplyError::Transform(error) => error.fmt(f),
            ApplyError::Current(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ApplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ApplyError::Codec { cause, .. } | ApplyError::Row { cause, .. } => Some(cause),
            ApplyError::Key { cause, .. } => Some(cause),
            ApplyError::Transform(error) => std::error::Error::source(error),
            ApplyError::Current(error) => std::error::Error::source(error),
            _ => None,
        }
    }
}

impl From<TransformError> for ApplyError {
    fn from(error: TransformError) -> ApplyError {
        ApplyError::Transform(error)
    }
}

impl From<CurrentRowError> for ApplyError {
    fn from(error: CurrentRowError) -> ApplyError {
        ApplyError::Current(error)
    }
}
