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
    /// PostgreSQL refused, or can't be reached.
    Postgres {
        /// What was being done, as in "connect to" or "read the table".
        operation: &'static str,
        /// The server, or the table inside it.
        place: String,
        /// The server's own words, or the connection's.
        reason: String,
        /// The five characters of SQLSTATE, when the server gave them.
        sqlstate: Option<String>,
    },
    /// What says how to reach a server is of no use. Never repeats a URL.
    Options {
        /// What is wrong, and the remedy.
        what: String,
    },
    /// A PostgreSQL table that is not there, or can't be used as it is.
    Table {
        /// Which, why not, and the remedy.
        what: String,
    },
    /// A table that was followed is not what it was when that began.
    Changed {
        /// The table.
        table: String,
        /// What was, and what is.
        what: String,
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
        /// What the column should hold, and what to do about it.
        wanted: String,
    },
    /// Rows were read, and not as many as the database itself counts, or its own check finds its pages wrong.
    Damaged {
        /// The table.
        table: String,
        /// What does not agree.
        what: String,
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
    /// Others' transactions lasted longer than there was patience for.
    Waited {
        /// Where, what waited, how long and for whom.
        what: String,
    },
    /// The user stopped the program while it was at work.
    Stopped,
    /// A client thread ended in an unplanned way.
    Thread {
        /// Which.
        name: String,
    },
}

impl SourceError {
    /// Whether the server went away or is not there yet, and neither the statement nor the data is wrong: no SQLSTATE at
    /// all, class 08, and those of 57P that end sessions or refuse new ones.
    pub fn is_of_connection(&self) -> bool {
        match self {
            SourceError::Postgres { sqlstate: None, .. } => true,
            SourceError::Postgres { sqlstate: Some(state), .. } => {
                state.starts_with("08") || matches!(state.as_str(), "57P01" | "57P02" | "57P03" | "57P05")
            }
            _ => false,
        }
    }

    /// Whether a database's own pages are at fault.
    pub fn is_of_damage(&self) -> bool {
        match self {
            SourceError::Sqlite { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt)
            }
            SourceError::Damaged { .. } => true,
            _ => false,
        }
    }

    /// The same error, and if the server could not hand out a value (class 22), of which table.
    pub(crate) fn in_table(self, table: &str) -> SourceError {
        match self {
            SourceError::Postgres { place, reason, sqlstate: Some(state), .. } if state.starts_with("22") => {
                let place = format!("table {table:?} at {place}");
                SourceError::Postgres { operation: "read", place, reason, sqlstate: Some(state) }
            }
            other => other,
        }
    }

    /// For `map_err`: SQLite refused `operation` on `place`.
    pub(crate) fn sqlite(operation: &'static str, place: impl fmt::Display) -> impl FnOnce(rusqlite::Error) -> Self {
        let place = place.to_string();
        move |source| SourceError::Sqlite { operation, place, source }
    }

    /// For `map_err`: PostgreSQL refused `operation` on `place`.
    pub(crate) fn postgres(
        operation: &'static str,
        place: impl fmt::Display,
    ) -> impl FnOnce(::postgres::Error) -> Self {
        let place = place.to_string();
        move |cause| {
            let sqlstate = cause.code().map(|code| code.code().to_owned());
            SourceError::Postgres { operation, place, reason: postgres_reason(&cause), sqlstate }
        }
    }

    /// For `map_err`: the connection to PostgreSQL broke while `operation` went on at `place`.
    pub(crate) fn broken(operation: &'static str, place: impl fmt::Display) -> impl FnOnce(std::io::Error) -> Self {
        let place = place.to_string();
        move |cause| SourceError::Postgres { operation, place, reason: cause.to_string(), sqlstate: None }
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
            SourceError::Postgres { operation, place, reason, sqlstate } => {
                write!(f, "can't {operation} {place}: {reason}")?;
                let remedy = sqlstate.as_deref().and_then(postgres_remedy);
                remedy.map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
            }
            SourceError::Options { what } | SourceError::Table { what } => f.write_str(what),
            SourceError::Changed { table, what } => {
                write!(f, "table {table:?} was changed while it was followed: {what}; begin again in an empty folder")
            }
            SourceError::Io { operation, path, source } => write!(f, "can't {operation} {}: {source}", path.display()),
            SourceError::Value { table, column, key, found, wanted } => write!(
                f,
                "table {table:?}, column {column:?}, row {key}: found {found} where the column holds {wanted}"
            ),
            SourceError::Damaged { table, what } => {
                write!(f, "table {table:?}: {what}; nothing of it was kept")
            }
            SourceError::Unstorable { what } => f.write_str(what),
            SourceError::Schema(error) => error.fmt(f),
            SourceError::NoTable { table, path, known } => {
                write!(f, "{} has no table {table:?}; it has: ", path.display())?;
                if known.is_empty() { f.write_str("none") } else { f.write_str(&known.join(", ")) }
            }
            SourceError::NotASource { path, reason } => write!(f, "{}: {reason}", path.display()),
            SourceError::Waited { what } => {
                write!(f, "{what}; end what it waits for, then try again (attach waits longer with --patience)")
            }
            SourceError::Stopped => f.write_str("stopped"),
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

/// The server's words without their severity, or the chain of causes of a connection that failed.
fn postgres_reason(error: &::postgres::Error) -> String {
    use std::error::Error as _;
    if let Some(db) = error.as_db_error() {
        let extra = |name: &str, text: Option<&str>| text.map(|text| format!(" ({name}: {text})")).unwrap_or_default();
        return format!("{}{}{}", db.message(), extra("detail", db.detail()), extra("hint", db.hint()));
    }
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !reason.contains(&words) {
            reason = format!("{reason}: {words}");
        }
        cause = inner.source();
    }
    reason
}

fn postgres_remedy(sqlstate: &str) -> Option<&'static str> {
    Some(match sqlstate {
        "28P01" | "28000" => "check the role, its password and the server's pg_hba.conf",
        "3D000" => "check the database's name",
        "42501" => "grant the role what is missing; `freshbench doctor --source` lists it",
        "53300" => "no connection is left under this limit: end one, raise the limit, or read with fewer readers",
        "53400" => "the server has no replication slot left: drop one, or raise max_replication_slots",
        "55006" => "somebody else is using it: end that first",
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
