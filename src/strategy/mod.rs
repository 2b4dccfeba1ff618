//! The strategies: the only place where capture, log, transform, apply and sink are wired together.
//!
//! Each is begun with a full load of the warehouse from one snapshot, the same for all, and then follows the source
//! on threads of its own until it has reached a goal that is set when the clients have ended.

mod cdc;
mod error;
mod full_refresh;
mod incremental;
mod load;
mod running;

pub use cdc::{Restarted, restart};
pub use error::StrategyError;
pub use load::{Loaded, file_catalog, load_file, load_tables};
pub use running::{Batch, Outcome, Running};

use crate::clock::Clock;
use crate::log::Fsync;
use crate::model::Catalog;
use crate::sink::WarehouseOptions;
use crate::source::SqliteSource;
use crate::transform::TransformSet;
use rayon::ThreadPool;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A way of keeping the sinks in step with the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StrategyKind {
    /// Nothing follows the source: its own burden.
    Control,
    /// The whole of every table, again and again.
    FullRefresh,
    /// Rows whose `updated_at` moved, in micro-batches.
    Incremental,
    /// Every change, through triggers, a changelog table and the log.
    CdcTrigger,
}

impl StrategyKind {
    /// All, in the order in which they are run.
    pub const ALL: [StrategyKind; 4] =
        [StrategyKind::Control, StrategyKind::FullRefresh, StrategyKind::Incremental, StrategyKind::CdcTrigger];

    /// Its name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            StrategyKind::Control => "control",
            StrategyKind::FullRefresh => "full-refresh",
            StrategyKind::Incremental => "incremental",
            StrategyKind::CdcTrigger => "cdc-trigger",
        }
    }

    /// Whether it promises that the sinks equal the source once they have drained.
    pub fn promises_equality(self) -> bool {
        !matches!(self, StrategyKind::Control | StrategyKind::Incremental)
    }
}

/// A deliberate fault, to show that verification finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedFault {
    /// The applier drops the last insert of some transactions.
    DropChange,
}

/// What a strategy is started with.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The record system.
    pub source: SqliteSource,
    /// The one transform, and with it the catalog of the sinks.
    pub transforms: Arc<TransformSet>,
    /// Where log and warehouse are kept.
    pub folder: PathBuf,
    /// The clock of the run.
    pub clock: Clock,
    /// From the start of one batch to the start of the next.
    pub batch_interval: Duration,
    /// The cursor column of each table, in the catalog's order.
    pub cursor_columns: Vec<usize>,
    /// How the log makes records durable.
    pub log_fsync: Fsync,
    /// The longest time between two checkpoints of the warehouse.
    pub checkpoint_interval: Duration,
    /// The pool in which bulk loads read and write.
    pub pool: Arc<ThreadPool>,
    /// How the warehouse writes.
    pub warehouse: WarehouseOptions,
    /// A deliberate fault, in tests.
    pub planted: Option<PlantedFault>,
}

impl Setting {
    /// The catalog of the sinks.
    pub fn output(&self) -> &Catalog {
        self.transforms.output()
    }

    fn warehouse_folder(&self) -> PathBuf {
        self.folder.join("warehouse")
    }

    fn log_folder(&self) -> PathBuf {
        self.folder.join("log")
    }
}

/// Prepares source and warehouse for `kind`, loads the warehouse, and begins to follow. `None` for the control run.
///
/// # Errors
/// [`StrategyError`] when a stage fails.
pub fn start(kind: StrategyKind, setting: &Setting) -> Result<Option<Running>, StrategyError> {
    match kind {
        StrategyKind::Control => Ok(None),
        StrategyKind::FullRefresh => full_refresh::start(setting).map(Some),
        StrategyKind::Incremental => incremental::start(setting).map(Some),
        StrategyKind::CdcTrigger => cdc::start(setting).map(Some),
    }
}
