//! Rows and changes out of PostgreSQL.

mod cursor;
mod fence;
mod judge;
mod log;
mod net;
mod snapshot;
mod trigger;

pub use cursor::PgCursorCapture;
pub use fence::PgFence;
pub use judge::PgJudge;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use log::read_pgoutput;
pub use log::{
    CanGoOn, Leftovers, LogCapture, LogCaptureOptions, LogMessage, LogSetup, MESSAGE_PREFIX, SLOT_PREFIX, SlotHealth,
    clean_up, drop_publication, drop_slot, find_leftovers, fit, log_tables, parse_lsn, show_lsn, slot_health,
};
pub use snapshot::{PgExported, PgRange, PgSnapshot};
pub use trigger::{PgOutboxWriter, PgTriggerCapture};
