//! Transactions and rows out of a record system.
//!
//! * [`Snapshot`]: every row of one consistent state, read in parallel, with the position it stands for.
//! * [`postgres::PgSnapshot`]: the same of PostgreSQL, whose rows may also be had as they arrive.
//! * [`CursorCapture`]: rows whose `updated_at` moved. Cheap and lossy; its flaws are told above the type.
//! * [`TriggerCapture`]: every change of every transaction, whole and in commit order, through triggers and a
//!   changelog table.
//!
//! Nothing in here knows where the changes go.

mod changes;
mod cursor;
mod error;
pub mod postgres;
mod snapshot;
mod source_snapshot;
mod trigger;

pub use changes::{ChangeCapture, Outbox};
pub use cursor::{CursorBatch, CursorCapture, CursorState, EachRow};
pub use error::CaptureError;
pub use snapshot::Snapshot;
pub use source_snapshot::{MovedRows, Part, SourceSnapshot};
pub use trigger::{OutboxWriter, Polled, TriggerCapture};
