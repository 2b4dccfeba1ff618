//! What can go wrong at a record database.

use crate::model::SchemaError;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a record database could not be used. Names the operation, the place and, where there is one, the remedy.
#[derive(Debug)]
pub enum SourceError {
    /// SQLite refused.
    Sqlite {
        /// What was being done, as in "open" or "read the table".
        operation: &'static str,
        /// The file, or the table inside it.
        place: String,
        /// SQLite's own words.
        source: rusqlite::Error,
    },
    /// The file system refused.
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// A stored value is not of its column's type (SQLite allows that).
    Value {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The row's key, as `column=value`.
        key: String,
        /// What is stored.
        found: String,
        /// What the column should hold.
        wanted: String,
    },
    /// A value that SQLite would store as another one.
    Unstorable {
        /// Which value, and why it can't be stored.
        what: String,
    },
    /// A table's schema breaks a rule.
    Schema(SchemaError),
    /// There is no such table.
    NoTable {
        /// The table asked for.
        table: String,
        /// The database file.
        path: PathBuf,
        /// The tables that there are.
        known: Vec<String>,
    },
    /// The file is not what it should be.
    NotASource {
        /// The file.
        path: PathBuf,
        /// Why not, and what to do.
        reason: String,
    },
    /// A client thread ended in an unplanned way.
    Thread {
        /// Which.
        name: String,
    },
}

impl SourceError {
    /// For `map_err`: SQLite refused `operation` on `place`.
    pub(crate) fn sqlite(operation: &'static str, place: impl fmt::Display) -> impl FnOnce(rusqlite::Error) -> Self {
        let place = place.to_string();
        move |source| SourceError::Sqlite { operation, place, source }
    }

    /// For `map_err`: the file system refused `operation` on `path`.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| SourceError::Io { operation, path, source }
    }
}

impl From<SchemaError> for SourceError {
    fn from(error: SchemaError) -> Self {
        SourceError::Schema(error)
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceError::Sqlite { operation, place, source } => {
                write!(f, "can't {operation} {place}: {source}")?;
                remedy(source).map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
            }
            SourceError::Io { operation, path, source } => write!(f, "can't {operation} {}: {source}", path.display()),
            SourceError::Value { table, column, key, found, wanted } => write!(
                f,
                "table {table:?}, column {column:?}, row {key}: found {found} where the column holds {wanted}; \
                 correct the row, or declare the column with a type that holds it"
            ),
            SourceError::Unstorable { what } => f.write_str(what),
            SourceError::Schema(error) => error.fmt(f),
            SourceError::NoTable { table, path, known } => {
                write!(f, "{} has no table {table:?}; it has: ", path.display())?;
                if known.is_empty() { f.write_str("none") } else { f.write_str(&known.join(", ")) }
            }
            SourceError::NotASource { path, reason } => write!(f, "{}: {reason}", path.display()),
            SourceError::Thread { name } => write!(f, "thread {name} ended before it could report"),
        }
    }
}

fn remedy(error: &rusqlite::Error) -> Option<&'static str> {
    use rusqlite::ErrorCode as Code;
    Some(match error.sqlite_error_code()? {
        Code::DatabaseBusy | Code::DatabaseLocked => {
            "another connection holds the lock: end its transaction, then try again"
        }
        Code::ReadOnly | Code::PermissionDenied => "make the file and its folder writable, or use a copy",
        Code::NotADatabase => "give the path of a SQLite 3 database",
        Code::CannotOpen => "check the path and its permissions",
        Code::DiskFull => "free some disk space",
        Code::DatabaseCorrupt => "the file is damaged: restore it from a backup",
        _ => return None,
    })
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SourceError::Sqlite { source, .. } => Some(source),
            SourceError::Io { source, .. } => Some(source),
            SourceError::Schema(error) => Some(error),
            _ => None,
        }
    }
}
