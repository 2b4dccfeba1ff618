//! The derived systems: what the edits of a commit group are applied to, and made visible and durable in.
//!
//! *Accepted* ([`Sink::apply`]), *visible* ([`Sink::publish`]) and *durable* ([`Sink::checkpoint`]) are three
//! different events, and each has its own call.

pub mod cache;
pub mod search;
pub mod warehouse;

use crate::apply::edits::{CurrentRows, EditSet};
use crate::model::{Lsn, TableId};
use arrow_array::RecordBatch;
use std::fmt;
use std::sync::Arc;

pub use cache::{Cache, CacheConflict, CacheError, CacheFill, CacheOptions, CacheReader, CacheStore, Lookup};
pub use search::{SearchError, SearchIndex, SearchOptions, SearchReader, SearchView};
pub use warehouse::{Version as WarehouseVersion, Warehouse, WarehouseError, WarehouseOptions, WarehouseReader};

/// Which derived system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SinkKind {
    /// The columnar warehouse: every column of every row.
    Warehouse,
    /// The search index: the text columns.
    Search,
    /// The cache: rows by key.
    Cache,
}

impl SinkKind {
    /// All, in the order in which the application writes to them.
    pub const ALL: [SinkKind; 3] = [SinkKind::Warehouse, SinkKind::Search, SinkKind::Cache];

    /// Its name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            SinkKind::Warehouse => "warehouse",
            SinkKind::Search => "search",
            SinkKind::Cache => "cache",
        }
    }
}

/// When another process can read what a sink shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Never: it lives in this process.
    Never,
    /// As soon as it is visible.
    WithPublish,
    /// When it is durable in its folder.
    OnceDurable,
}

/// Is called with the watermark of each version at the instant at which it became durable, on the thread that made it so.
#[derive(Clone)]
pub struct DurableWatch(Arc<dyn Fn(Lsn) + Send + Sync>);

impl DurableWatch {
    /// Calls `hear`, which should be quick: a writer waits for it.
    pub fn new(hear: impl Fn(Lsn) + Send + Sync + 'static) -> DurableWatch {
        DurableWatch(Arc::new(hear))
    }

    /// A version that is complete through `watermark` is durable since just now.
    pub(crate) fn durable(&self, watermark: Lsn) {
        (self.0)(watermark);
    }
}

impl fmt::Debug for DurableWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DurableWatch")
    }
}

/// A derived system that follows the record system commit group by commit group.
///
/// Guarantees of every implementation:
/// * Nothing of an [`EditSet`] is visible before [`Sink::publish`]. Then all that was applied is: at once where a reader
///   can look at several keys in one version (warehouse, search index), key by key in a cache, which has no such reader.
/// * The visible watermark never goes back, and is at least the durable one.
/// * After a crash the sink is as it was at the last [`Sink::checkpoint`] that returned. The caller replays from
///   there; edits that are already contained do no harm, because they replace by key.
pub trait Sink: CurrentRows + Send + 'static {
    /// A generation built beside the one that readers see.
    type Bulk: Bulk;
    /// A handle that reads the newest version; clones are cheap.
    type Reader: Clone + Send + Sync + 'static;

    /// Which one it is.
    const KIND: SinkKind;

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

    /// Begins to make what is visible durable, and returns at once where the sink can do that beside its writer; until
    /// [`Sink::poll_checkpoint`] says that it has ended, beginning another does nothing. Other sinks do it here.
    ///
    /// # Errors
    /// As [`Sink::checkpoint`].
    fn begin_checkpoint(&mut self) -> Result<(), SinkError> {
        self.checkpoint().map(drop)
    }

    /// The durable watermark once the checkpoint that was begun has ended, at least what was visible then; `None` until that.
    /// To be asked often, also while nothing else is to do: sinks use it for work at the side.
    ///
    /// # Errors
    /// What the checkpoint failed with; the durable watermark is then what it was.
    fn poll_checkpoint(&mut self) -> Result<Option<Lsn>, SinkError> {
        Ok(Some(self.durable()))
    }

    /// Whether a checkpoint should not wait, since what is not durable takes too much memory.
    fn checkpoint_is_due(&self) -> bool {
        false
    }

    /// Whether nothing more should be applied before a checkpoint has ended: what is not durable, with what one that is under
    /// way writes, takes all the memory that there is for it.
    fn checkpoint_is_overdue(&self) -> bool {
        false
    }

    /// Whether it keeps anything of this table. One that does not need not be read for it.
    fn keeps(&self, table: TableId) -> bool {
        let _ = table;
        true
    }

    /// Begins a new generation, empty.
    ///
    /// # Errors
    /// [`SinkError`], when its place can't be made.
    fn bulk(&self) -> Result<Self::Bulk, SinkError>;

    /// Swaps the generation in, at once and durably (as far as the sink is durable at all), complete through `through`.
    /// Tables that it does not include stay as they are.
    ///
    /// # Errors
    /// [`SinkError`]; readers then see what they saw before.
    fn install(&mut self, bulk: Self::Bulk, through: Lsn) -> Result<(), SinkError>;

    /// A handle for readers.
    fn reader(&self) -> Self::Reader;

    /// The watermark readers see.
    fn visible(&self) -> Lsn;

    /// The watermark that survives a crash.
    fn durable(&self) -> Lsn;

    /// When another process can read what it shows.
    fn outside(&self) -> Outside;

    /// Calls `watch` whenever a version becomes durable in the folder, by a checkpoint or a bulk load, from now on. A sink that
    /// has no folder never does.
    fn watch_durable(&mut self, watch: DurableWatch);

    /// What it did since it was opened.
    fn counters(&self) -> SinkCounters;
}

/// A generation of a sink under construction. Several threads may write to it.
pub trait Bulk: Send + Sync {
    /// Replaces this table, even if no row is written.
    ///
    /// # Errors
    /// [`SinkError`], when there is no such table.
    fn include(&self, table: TableId) -> Result<(), SinkError>;

    /// Adds rows of a table, in the output table's columns; no key twice.
    ///
    /// # Errors
    /// [`SinkError`].
    fn write(&self, table: TableId, batch: RecordBatch) -> Result<(), SinkError>;
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
    /// The search index.
    Search(SearchError),
    /// The cache.
    Cache(CacheError),
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkError::Warehouse(error) => error.fmt(f),
            SinkError::Search(error) => error.fmt(f),
            SinkError::Cache(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SinkError::Warehouse(error) => error.source(),
            SinkError::Search(error) => error.source(),
            SinkError::Cache(error) => error.source(),
        }
    }
}

impl From<WarehouseError> for SinkError {
    fn from(error: WarehouseError) -> SinkError {
        SinkError::Warehouse(error)
    }
}

impl From<SearchError> for SinkError {
    fn from(error: SearchError) -> SinkError {
        SinkError::Search(error)
    }
}

impl From<CacheError> for SinkError {
    fn from(error: CacheError) -> SinkError {
        SinkError::Cache(error)
    }
}
