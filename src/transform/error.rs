//! Why a transform can't be compiled, or a row can't pass it.

use crate::model::{ValueRef, text};
use std::fmt;

/// Why a transform can't be compiled, or a row can't pass it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransformError {
    /// The definition is wrong. `place` says where it stands.
    Definition {
        /// Where: `transform of table "t", column "c"`.
        place: String,
        /// What is wrong and what to do about it.
        reason: String,
    },
    /// A row can't become an output row.
    Row {
        /// The source table.
        table: String,
        /// The output column.
        column: String,
        /// The row's key values, for people.
        key: String,
        /// What is wrong with the value.
        fault: ValueFault,
    },
    /// A row has another number of values than the table has columns.
    RowWidth {
        /// The source table.
        table: String,
        /// Values in the row.
        found: usize,
        /// Columns of the table.
        wanted: usize,
    },
    /// The batch holds a row that failed half-way, and can't be finished.
    Poisoned {
        /// The source table.
        table: String,
    },
    /// A table number that the transforms do not know.
    UnknownTable {
        /// The number.
        table: u32,
    },
}

/// What is wrong with one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueFault {
    /// NULL in a column that may not hold NULL.
    Null,
    /// A value that was not sent and that nobody filled in.
    Unresolved,
    /// A value that the column's type does not hold, as the record system sent it.
    Misfit {
        /// What came.
        found: Box<str>,
        /// What the column holds.
        wanted: Box<str>,
    },
    /// A value of another type than the column.
    WrongType {
        /// The value's type.
        found: &'static str,
    },
    /// A decimal of another scale than the column.
    WrongScale {
        /// The value's scale.
        found: i8,
        /// The column's scale.
        wanted: i8,
    },
    /// A decimal with more digits than the column.
    TooManyDigits,
    /// A value that the wanted type can't hold without becoming another value.
    NotConvertible {
        /// The value, for people; cut when long.
        value: String,
        /// The wanted type.
        wanted: String,
    },
    /// Arithmetic left the range of its type.
    Overflow,
    /// The chunk's text or bytes would pass Arrow's limit.
    ChunkFull {
        /// The limit.
        bytes_max: usize,
    },
}

/// Longer values are cut in messages.
const SHOWN_CHARS_MAX: usize = 60;

impl ValueFault {
    /// A value that has no exact form in the wanted type.
    pub(super) fn not_convertible(value: ValueRef<'_>, wanted: &str) -> ValueFault {
        let mut shown: String = text::describe_values([value]);
        if let Some((cut, _)) = shown.char_indices().nth(SHOWN_CHARS_MAX) {
            shown.truncate(cut);
            shown.push_str("...");
        }
        ValueFault::NotConvertible { value: shown, wanted: wanted.to_owned() }
    }
}

impl fmt::Display for ValueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueFault::Null => f.write_str("is NULL, but the column is declared NOT NULL"),
            ValueFault::Unresolved => f.write_str(
                "was not sent by the source because it did not change, and the sink's row does not have it; pass the \
                 column through, load the table again, or have the source send whole rows (REPLICA IDENTITY FULL)",
            ),
            ValueFault::Misfit { found, wanted } => write!(
                f,
                "holds {found}, and is read as {wanted}; correct the row, or declare the column with a type that holds it"
            ),
            ValueFault::WrongType { found } => {
                write!(f, "holds a value of type {found}; declare the column as {found}, or cast it in the transform")
            }
            ValueFault::WrongScale { found, wanted } => {
                write!(f, "holds a decimal with {found} digits behind the point, the column has {wanted}")
            }
            ValueFault::TooManyDigits => f.write_str("holds a decimal with more digits than the column's precision"),
            ValueFault::NotConvertible { value, wanted } => {
                write!(f, "holds {value}, which has no exact {wanted} form; filter such rows out or keep the type")
            }
            ValueFault::Overflow => f.write_str("overflows its type; derive it as a wider type"),
            ValueFault::ChunkFull { bytes_max } => {
                write!(f, "would pass {bytes_max} bytes in one batch; use fewer rows a batch")
            }
        }
    }
}

impl fmt::Display for TransformError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransformError::Definition { place, reason } => write!(f, "{place}: {reason}"),
            TransformError::Row { table, column, key, fault } => {
                write!(f, "table {table:?}, key ({key}): column {column:?} {fault}")
            }
            TransformError::RowWidth { table, found, wanted } => write!(
                f,
                "table {table:?}: a row has {found} values, the table has {wanted} columns; was the table altered?"
            ),
            TransformError::Poisoned { table } => {
                write!(f, "table {table:?}: a row failed half-way; the batch can't be used after that error")
            }
            TransformError::UnknownTable { table } => write!(f, "no table has the number {table}"),
        }
    }
}

impl std::error::Error for TransformError {}
