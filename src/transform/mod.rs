//! One definition of how a source row becomes a sink row, shared by every strategy: rows in, Arrow out.
//!
//! A [`TableTransform`] is row-local: an output row depends on one source row and nothing else, so a bulk load and
//! a change stream give the same rows. Key columns pass through: they may be renamed, but keep type and value, so
//! **the key of an output row is the key of its source row**. A row that does not pass the filter is absent in
//! the sink: when an update makes a row stop passing, that is a delete by key ([`Kept::FilteredOut`] tells).

mod builders;
mod cast;
mod column;
mod compile;
mod error;
mod expr;
mod filter;
mod literal;
mod postgres;
mod set;
mod table;

pub use builders::{Kept, RowBuilders};
pub use column::{arrow_field, arrow_type};
pub use error::{TransformError, ValueFault};
pub use postgres::PgBatchStream;
pub use set::TransformSet;
pub use table::TableTransform;

#[cfg(test)]
mod tests;
