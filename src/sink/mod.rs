//! The derived systems: what the edits of a commit group are applied to, and made visible and durable in.
//!
//! *Accepted* ([`Sink::apply`]), *visible* ([`Sink::publish`]) and *durable* ([`Sink::checkpoint`]) are three
//! different events, and each has its own call.

pub mod warehouse;

use crate::apply::edits::EditSet;
use crate::model::Lsn;
use std::fmt;

pub use warehouse::{Warehouse, WarehouseError, WarehouseOptions, WarehouseReader};

/// A derived system that follows the record system commit group by commit group.
///
/// Guarantees of every implementation:
/// * Nothing of an [`EditSet`] is visible before [`Sink::publish`], and then all that was applied is, at once.
/// * The visible watermark never goes back, and is at least the durable one.
/// * After a crash the sink is as it was at the last [`Sink::checkpoint`] that returned. The caller replays from
///   there; edits that are already contained do no harm, because they replace by key.
pub trait Sink: Send {
    /// The sink's name in reports, such as `warehouse`.
    fn name(&self) -> &'static str;

    /// Accepts a commit group's edits without showing them to readers.
    ///
    /// # Errors
    /// [`SinkError`]; nothing of this edit set is accepted when the edits themselves are at fault.
    fn apply(&mut self, edits: &EditSet) -> Result<(), SinkError>;

    /// Makes everything accepted visible at once, complete through commit `through`.
    ///
    /// # Errors
    /// [`SinkError`], also when `through` lies before the visible watermark or before an accepted edit set.
    fn publish(&mut self, through: Lsn) -> Result<(), SinkError>;

    /// Makes what is visible durable and returns the durable watermark.
    ///
    /// # Errors
    /// [`SinkError`]; the durable watermark is then what it was.
    fn checkpoint(&mut self) -> Result<Lsn, SinkError>;

    /// The watermark readers see.
    fn visible(&self) -> Lsn;

    /// The watermark that survives a crash.
    fn durable(&self) -> Lsn;

    /// What it did since it was opened.
    fn counters(&self) -> SinkCounters;
}

/// What a sink did since it was opened. For the cost figures; reading them costs nothing on the apply path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SinkCounters {
    /// Rows inserted or replaced.
    pub rows_upserted: u64,
    /// Keys asked to be deleted.
    pub rows_deleted: u64,
    /// Versions made visible.
    pub publishes: u64,
    /// Checkpoints that became durable.
    pub checkpoints: u64,
    /// All bytes written to files.
    pub bytes_written: u64,
    /// Those of `bytes_written` that wrote again what was written before (merges and compaction).
    pub bytes_rewritten: u64,
    /// Files written.
    pub files_written: u64,
    /// Calls of fsync, on files and folders.
    pub fsyncs: u64,
}

/// Why a sink failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum SinkError {
    /// The warehouse.
    Warehouse(WarehouseError),
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkError::Warehouse(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SinkError::Warehouse(error) => error.source(),
        }
    }
}

impl From<WarehouseError> for SinkError {
    fn from(error: WarehouseError) -> SinkError {
        SinkError::Warehouse(error)
    }
}
