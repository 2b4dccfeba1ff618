//! Rows and changes out of PostgreSQL.

mod log;
mod snapshot;

pub use log::{
    Leftovers, LogCapture, LogCaptureOptions, LogMessage, LogSetup, MESSAGE_PREFIX, SLOT_PREFIX, SlotHealth, clean_up,
    find_leftovers, fit, log_tables, parse_lsn, show_lsn, slot_health,
};
pub use snapshot::{PgExported, PgRange, PgSnapshot};
