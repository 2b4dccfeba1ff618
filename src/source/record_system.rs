//! The record system of a run, whichever database it is.

use super::error::SourceError;
use super::postgres::{Marker, PgCut, PgOptions, PgSource};
use super::sqlite::SqliteSource;
use crate::model::{Catalog, Lsn, TableId, TableSchema, ValueRef};
use std::path::Path;

/// A database with a workload's tables that the application writes to. Cheap to clone.
#[derive(Clone, Debug)]
pub enum RecordSystem {
    /// One file, embedded.
    Sqlite(SqliteSource),
    /// A database of a server.
    Postgres(PgSource),
}

impl From<&SqliteSource> for RecordSystem {
    fn from(source: &SqliteSource) -> RecordSystem {
        RecordSystem::Sqlite(source.clone())
    }
}

impl From<&PgSource> for RecordSystem {
    fn from(source: &PgSource) -> RecordSystem {
        RecordSystem::Postgres(source.clone())
    }
}

impl From<&RecordSystem> for RecordSystem {
    fn from(source: &RecordSystem) -> RecordSystem {
        source.clone()
    }
}

impl RecordSystem {
    /// The tables.
    pub fn catalog(&self) -> &Catalog {
        match self {
            RecordSystem::Sqlite(source) => source.catalog(),
            RecordSystem::Postgres(source) => source.catalog(),
        }
    }

    /// The schema of a table.
    ///
    /// # Errors
    /// When there is none of this number.
    pub fn schema(&self, table: TableId) -> Result<&TableSchema, SourceError> {
        match self {
            RecordSystem::Sqlite(source) => source.table(table).map(|table| table.schema()),
            RecordSystem::Postgres(source) => source.table(table).map(|table| &table.schema),
        }
    }

    /// Commits a transaction that changes nothing: its position is behind everything committed before, by number and in
    /// the log. A database that has only one of the two gives it for both.
    ///
    /// # Errors
    /// When the database fails.
    pub fn write_marker(&self) -> Result<Marker, SourceError> {
        match self {
            RecordSystem::Sqlite(source) => source.write_marker().map(|lsn| Marker { log: lsn, number: lsn }),
            RecordSystem::Postgres(source) => source.write_marker(),
        }
    }

    /// Reads a whole table in key order, in one read transaction, for verification. Returns how many rows.
    ///
    /// # Errors
    /// When the database fails, a value is not of its column's type, or `each` fails.
    pub fn rows<E: From<SourceError>>(
        &self,
        table: TableId,
        each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
    ) -> Result<u64, E> {
        match self {
            RecordSystem::Sqlite(source) => source.rows(table, each),
            RecordSystem::Postgres(source) => source.rows(table, each),
        }
    }

    /// The database, for messages; no secret.
    pub fn place(&self) -> String {
        match self {
            RecordSystem::Sqlite(source) => source.path().display().to_string(),
            RecordSystem::Postgres(source) => source.place(),
        }
    }

    /// Hands the process that serves a connection, and its name, to `look` while it lives, where the database has a server
    /// that may be on this machine.
    ///
    /// # Errors
    /// When the server can't be reached.
    pub fn with_worker<T>(&self, look: impl FnOnce(u32, &str) -> Option<T>) -> Result<Option<T>, SourceError> {
        match self {
            RecordSystem::Sqlite(_) => Ok(None),
            RecordSystem::Postgres(source) => source.with_worker(|id| look(id, "postgres")),
        }
    }

    /// A copy with the same rows for a case of its own: a file in `folder`, or a database named after `name`. Nobody may
    /// be writing meanwhile. [`RecordSystem::remove`] takes it away again.
    ///
    /// # Errors
    /// When the database fails, or the copy exists already.
    pub fn copy_for(&self, name: &str, folder: &Path, server: Option<&PgOptions>) -> Result<RecordSystem, SourceError> {
        match self {
            RecordSystem::Sqlite(source) => source.copy_to(&folder.join("source.db")).map(RecordSystem::Sqlite),
            RecordSystem::Postgres(source) => {
                let server = server.unwrap_or_else(|| source.options());
                let copy = source.copy_to(server, name)?;
                copy.keep_order().inspect_err(|_| {
                    // That failure is what the user must hear of.
                    let _ = copy.remove(server);
                })?;
                Ok(RecordSystem::Postgres(copy))
            }
        }
    }

    /// Removes a database of a server. A file goes with its folder.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn remove(&self, server: Option<&PgOptions>) -> Result<(), SourceError> {
        match self {
            RecordSystem::Sqlite(_) => Ok(()),
            RecordSystem::Postgres(source) => source.remove(server.unwrap_or_else(|| source.options())),
        }
    }

    /// What the positions of a strategy are made of; see [`Positions`].
    ///
    /// # Errors
    /// When the database fails.
    pub fn places(&self, positions: &Positions) -> Result<Option<super::postgres::Places>, SourceError> {
        match (self, positions) {
            (RecordSystem::Sqlite(_), _) | (_, Positions::Numbers) => Ok(None),
            (RecordSystem::Postgres(source), Positions::Log) => source.places_in_log().map(Some),
            (RecordSystem::Postgres(source), Positions::Cuts(cuts)) => source.places_in_cuts(cuts).map(Some),
        }
    }
}

/// What the positions are that a strategy gives to its sinks, where the database has more than one order of commits.
#[derive(Clone, Debug, Default)]
pub enum Positions {
    /// The ledger's own numbers.
    #[default]
    Numbers,
    /// Ends of commits in the database's log.
    Log,
    /// States that were read, in order.
    Cuts(Vec<(Lsn, PgCut)>),
}

impl Positions {
    /// Puts those of two threads of one strategy together.
    #[must_use]
    pub fn merge(self, other: Positions) -> Positions {
        match (self, other) {
            (Positions::Cuts(mut cuts), Positions::Cuts(more)) => {
                cuts.extend(more);
                cuts.sort_by_key(|(position, _)| *position);
                Positions::Cuts(cuts)
            }
            (Positions::Numbers, other) => other,
            (own, _) => own,
        }
    }
}
