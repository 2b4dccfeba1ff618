//! Rows and changes out of PostgreSQL.

mod cursor;
mod snapshot;
mod trigger;

pub use cursor::PgCursorCapture;
pub use snapshot::{PgExported, PgRange, PgSnapshot};
pub use trigger::{PgOutboxWriter, PgTriggerCapture};
