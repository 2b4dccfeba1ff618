//! Why a query failed, and whose turn it is: the query's author's, or the machine's.

use super::super::WarehouseError;
use arrow_schema::ArrowError;
use datafusion::common::{DataFusionError, SchemaError};
use std::error::Error;
use std::fmt;

/// Why a query failed: one line each.
#[derive(Debug)]
#[non_exhaustive]
pub enum SqlError {
    /// The query is wrong, or its values make it fail (a division by zero).
    Query {
        /// What is wrong, where, and what to do.
        what: String,
    },
    /// The query would do something else than read the warehouse's tables.
    Refused {
        /// What it would do.
        what: String,
    },
    /// The query needs more memory than it may have.
    Memory {
        /// Which operator asked, and for how much.
        what: String,
        /// The limit.
        bytes_max: usize,
    },
    /// The warehouse could not be read.
    Warehouse(WarehouseError),
    /// The query engine failed.
    Engine(DataFusionError),
}

impl SqlError {
    /// Whether another query would do: then it is no fault of warehouse or machine.
    pub fn is_the_querys(&self) -> bool {
        matches!(self, SqlError::Query { .. } | SqlError::Refused { .. })
    }

    /// Sorts DataFusion's error. `tables` are the names for a query that missed one.
    pub(super) fn of(error: DataFusionError, tables: &[String], bytes_max: usize) -> SqlError {
        let place = error.diagnostic().and_then(|diagnostic| diagnostic.span);
        let place = place.map(|span| format!(" (line {}, column {})", span.start.line, span.start.column));
        let place = place.unwrap_or_default();
        let query = |what: &dyn fmt::Display| SqlError::Query { what: format!("{}{place}", one_line(what)) };
        if let Some(warehouse) = source_of::<WarehouseError>(&error) {
            // Shown by its words: the error itself is shared with other parts of the plan.
            return SqlError::Engine(DataFusionError::Execution(warehouse.to_string()));
        }
        match error.find_root() {
            DataFusionError::ResourcesExhausted(what) => SqlError::Memory { what: one_line(what), bytes_max },
            DataFusionError::SQL(cause, _) => query(cause),
            DataFusionError::SchemaError(cause, _) => match &**cause {
                SchemaError::FieldNotFound { .. } => query(cause),
                other => query(other),
            },
            DataFusionError::Plan(what) => match what.strip_prefix("table '").and_then(|rest| rest.split_once('\'')) {
                Some((name, _)) if what.ends_with("not found") => {
                    let name = name.strip_prefix("warehouse.").unwrap_or(name);
                    let name = name.strip_prefix("public.").unwrap_or(name);
                    query(&format!("there is no table {name:?}; there are: {}", tables.join(", ")))
                }
                _ => query(what),
            },
            DataFusionError::NotImplemented(what) => query(&format!("not supported: {what}")),
            DataFusionError::Execution(what) => query(what),
            DataFusionError::ArrowError(cause, _) => match &**cause {
                ArrowError::DivideByZero
                | ArrowError::ArithmeticOverflow(_)
                | ArrowError::CastError(_)
                | ArrowError::ParseError(_)
                | ArrowError::ComputeError(_)
                | ArrowError::InvalidArgumentError(_) => query(cause),
                _ => SqlError::Engine(error),
            },
            _ => SqlError::Engine(error),
        }
    }
}

/// The first error of type `T` in the chain of causes.
fn source_of<T: Error + 'static>(error: &DataFusionError) -> Option<&T> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::External(cause)) => Some(cause.as_ref()),
            Some(DataFusionError::Shared(cause)) => Some(cause.as_ref()),
            _ => error.source(),
        };
    }
    None
}

/// Without line breaks and the parser's own prefix, and with the place as everywhere else.
fn one_line(what: &dyn fmt::Display) -> String {
    let words: Vec<String> = what.to_string().split_whitespace().map(str::to_owned).collect();
    let line = words.join(" ");
    let line = line.strip_prefix("sql parser error: ").unwrap_or(&line).trim_end_matches('.');
    match line.rsplit_once(" at Line: ") {
        Some((what, place)) => format!("{what} (line {})", place.replace(", Column: ", ", column ")),
        None => line.to_owned(),
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlError::Query { what } => write!(f, "the query fails: {what}"),
            SqlError::Refused { what } => {
                write!(f, "{what} is refused: only SELECT, EXPLAIN, SHOW and DESCRIBE are, for a query only reads")
            }
            SqlError::Memory { what, bytes_max } => write!(
                f,
                "the query needs more than the {} MiB of memory it may have: {what}; ask for less, or allow more",
                bytes_max >> 20
            ),
            SqlError::Warehouse(cause) => cause.fmt(f),
            SqlError::Engine(cause) => write!(f, "{}", one_line(&cause.strip_backtrace())),
        }
    }
}

impl Error for SqlError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SqlError::Warehouse(cause) => Some(cause),
            SqlError::Engine(cause) => Some(cause),
            _ => None,
        }
    }
}
