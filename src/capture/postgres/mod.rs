//! Rows and changes out of PostgreSQL.

mod snapshot;

pub use snapshot::{PgExported, PgRange, PgSnapshot};
