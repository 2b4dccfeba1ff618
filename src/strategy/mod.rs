//! The strategies: the only place where capture, log, transform, apply and sink are wired together.
//!
//! Each is begun with a full load of the warehouse from one snapshot, the same for all, and then follows the source
//! on threads of its own until it has reached a goal that is set when the clients have ended.

mod cdc;
mod checkpoints;
mod dual_write;
mod error;
mod full_refresh;
mod incremental;
mod load;
mod load_postgres;
mod outbox;
mod planted;
mod running;
mod sinks;

pub use cdc::{CanGoOn, Restarted, RestartedSink, restart};
pub use dual_write::{DualWrite, Interleaved, Schedule, Step, interleave, simulate};
pub use error::StrategyError;
pub use load::{Loaded, file_catalog, load_file, load_tables};
pub use load_postgres::{load_postgres, postgres_catalog};
pub use running::{Batch, ByteCounter, Bytes, Outcome, Readable, Running, SinkOutcome, Traffic};
pub use sinks::SinkReaders;

use crate::capture::ChangeCapture;
use crate::capture::postgres::PgTriggerCapture;
use crate::clock::Clock;
use crate::log::Fsync;
use crate::model::Catalog;
use crate::probe::{FollowMeter, VisibilityRecorder};
use crate::sink::{CacheOptions, SearchOptions, SinkKind, WarehouseOptions};
use crate::source::postgres::PgCut;
use crate::source::{RecordSystem, SourceError};
use crate::transform::TransformSet;
use rayon::ThreadPool;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A way of keeping the sinks in step with the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StrategyKind {
    /// Nothing follows the source: its own burden.
    Control,
    /// The whole of every table, again and again.
    FullRefresh,
    /// Rows whose `updated_at` moved, in micro-batches.
    Incremental,
    /// Every change, through triggers, a changelog table and the log.
    CdcTrigger,
    /// Every change, from the log that the database writes for itself, through the log.
    CdcLog,
    /// The application's clients write to the source and then to each sink, in turn.
    DualWrite,
    /// The same, and each sink refuses a write whose commit position is older than what it has for the key.
    DualWriteVersioned,
    /// The application writes its changes into a table of the source, in the same transaction; a relay moves them on.
    Outbox,
}

impl StrategyKind {
    /// All, in the order in which they are run.
    pub const ALL: [StrategyKind; 8] = [
        StrategyKind::Control,
        StrategyKind::FullRefresh,
        StrategyKind::Incremental,
        StrategyKind::CdcTrigger,
        StrategyKind::CdcLog,
        StrategyKind::DualWrite,
        StrategyKind::DualWriteVersioned,
        StrategyKind::Outbox,
    ];

    /// What runs when nobody chooses: the textbook's ways, without the two repairs of the dual write. `cdc-log` where the
    /// database shows its log.
    pub const DEFAULT: [StrategyKind; 6] = [
        StrategyKind::Control,
        StrategyKind::FullRefresh,
        StrategyKind::Incremental,
        StrategyKind::CdcTrigger,
        StrategyKind::CdcLog,
        StrategyKind::DualWrite,
    ];

    /// Its name on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            StrategyKind::Control => "control",
            StrategyKind::FullRefresh => "full-refresh",
            StrategyKind::Incremental => "incremental",
            StrategyKind::CdcTrigger => "cdc-trigger",
            StrategyKind::CdcLog => "cdc-log",
            StrategyKind::DualWrite => "dual-write",
            StrategyKind::DualWriteVersioned => "dual-write-versioned",
            StrategyKind::Outbox => "outbox",
        }
    }

    /// Whether it promises that the sinks equal the source once they have drained. A version check at the sinks repairs
    /// races, but not the writes of a client that died.
    pub fn promises_equality(self, crash_rate: f64) -> bool {
        match self {
            StrategyKind::Control | StrategyKind::Incremental | StrategyKind::DualWrite => false,
            StrategyKind::FullRefresh | StrategyKind::CdcTrigger | StrategyKind::CdcLog | StrategyKind::Outbox => true,
            StrategyKind::DualWriteVersioned => crash_rate <= 0.0,
        }
    }

    /// Whether it needs a database that shows its log.
    pub fn needs_log(self) -> bool {
        self == StrategyKind::CdcLog
    }

    /// Whether it learns of commits from the source, so that its positions are the source's.
    pub fn follows_source(self) -> bool {
        self != StrategyKind::Control && !self.is_dual_write()
    }

    /// Whether it does its work in batches, one an interval.
    pub fn works_in_batches(self) -> bool {
        matches!(self, StrategyKind::FullRefresh | StrategyKind::Incremental)
    }

    /// Whether the application itself writes to the sinks.
    pub fn is_dual_write(self) -> bool {
        matches!(self, StrategyKind::DualWrite | StrategyKind::DualWriteVersioned)
    }
}

/// A deliberate fault, to show that verification finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedFault {
    /// The applier drops the last insert of some transactions.
    DropChange,
    /// It loses some deletes.
    LoseDelete,
    /// It applies the second of two updates of a row before the first.
    SwapUpdates,
    /// It goes on one position too far, and passes a transaction over, at some of them.
    OffByOne,
    /// In the middle of some transactions something fails, and nobody hears of it: the rest of the transaction is not applied.
    SwallowError,
}

impl PlantedFault {
    /// All.
    pub const ALL: [PlantedFault; 5] = [
        PlantedFault::DropChange,
        PlantedFault::LoseDelete,
        PlantedFault::SwapUpdates,
        PlantedFault::OffByOne,
        PlantedFault::SwallowError,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            PlantedFault::DropChange => "drop-change",
            PlantedFault::LoseDelete => "lose-delete",
            PlantedFault::SwapUpdates => "swap-updates",
            PlantedFault::OffByOne => "off-by-one",
            PlantedFault::SwallowError => "swallow-error",
        }
    }
}

/// What a strategy is started with.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The record system.
    pub source: RecordSystem,
    /// The one transform, and with it the catalog of the sinks.
    pub transforms: Arc<TransformSet>,
    /// Where log and warehouse are kept.
    pub folder: PathBuf,
    /// Tells what this makes at a source from what others make, in a name of few letters.
    pub token: String,
    /// The clock of the run.
    pub clock: Clock,
    /// From the start of one batch to the start of the next.
    pub batch_interval: Duration,
    /// The cursor column of each table, in the catalog's order; only `incremental` needs them.
    pub cursor_columns: Vec<usize>,
    /// How the log makes records durable.
    pub log_fsync: Fsync,
    /// The longest time between two checkpoints of the warehouse.
    pub checkpoint_interval: Duration,
    /// The pool in which bulk loads read and write.
    pub pool: Arc<ThreadPool>,
    /// The sinks to feed, in the order in which the application writes to them.
    pub sinks: Vec<SinkKind>,
    /// How the warehouse writes.
    pub warehouse: WarehouseOptions,
    /// How the search index writes.
    pub search: SearchOptions,
    /// The shortest time between two commits of the search index.
    pub search_interval: Duration,
    /// Where the cache is and how it is filled.
    pub cache: CacheOptions,
    /// How the application writes to the sinks itself.
    pub dual: DualWrite,
    /// Whether the source is somebody else's, who goes on writing: then nothing is added to it that can be done without, the
    /// source's times of commits are kept, and the state that the sinks end with is kept to be compared.
    pub attached: bool,
    /// Hears of commits and versions of the warehouse instead of their being kept for the end, where that may be far.
    pub meter: Option<Arc<FollowMeter>>,
    /// Where the warehouse is, if not in the folder.
    pub warehouse_at: Option<PathBuf>,
    /// A deliberate fault, in tests.
    pub planted: Option<PlantedFault>,
}

impl Setting {
    /// Records what becomes visible, for the end or for the meter.
    fn recorder(&self) -> VisibilityRecorder {
        let telling =
            |meter: Arc<FollowMeter>| VisibilityRecorder::telling(move |at, watermark| meter.published(at, watermark));
        self.meter.clone().map_or_else(VisibilityRecorder::new, telling)
    }

    /// All sinks in `folder`, with the defaults of `freshbench run` and a pool of one thread a core.
    ///
    /// # Errors
    /// [`StrategyError::Thread`] when the pool can't be started.
    pub fn new(
        source: impl Into<RecordSystem>,
        transforms: TransformSet,
        folder: &Path,
        clock: &Clock,
    ) -> Result<Setting, StrategyError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 16);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|place| format!("app-pool-{place}"))
            .build()
            .map_err(|cause| StrategyError::Thread(io::Error::other(cause)))?;
        Ok(Setting {
            source: source.into(),
            transforms: Arc::new(transforms),
            folder: folder.to_owned(),
            token: token(folder),
            clock: clock.clone(),
            batch_interval: Duration::from_secs(2),
            cursor_columns: Vec::new(),
            log_fsync: Fsync::Always,
            checkpoint_interval: Duration::from_secs(5),
            pool: Arc::new(pool),
            sinks: SinkKind::ALL.to_vec(),
            warehouse: WarehouseOptions::default(),
            search: SearchOptions::default(),
            search_interval: Duration::from_millis(100),
            cache: CacheOptions::default(),
            dual: DualWrite::default(),
            attached: false,
            meter: None,
            warehouse_at: None,
            planted: None,
        })
    }

    /// The catalog of the sinks.
    pub fn output(&self) -> &Catalog {
        self.transforms.output()
    }

    fn warehouse_folder(&self) -> PathBuf {
        self.warehouse_at.clone().unwrap_or_else(|| self.folder.join("warehouse"))
    }

    /// Says so when something could not be removed from an attached source.
    fn say_what_stays(&self, removed: Result<(), StrategyError>) {
        if let (Err(cause), RecordSystem::Postgres(source)) = (removed, &self.source) {
            source.options().patience.say(&format!("{cause}; run freshbench attach --cleanup"));
        }
    }

    /// An error once the user wants to end what is done for an attached source.
    fn check_stop(&self) -> Result<(), SourceError> {
        match &self.source {
            RecordSystem::Postgres(source) => source.options().patience.check(),
            RecordSystem::Sqlite(_) => Ok(()),
        }
    }

    /// What this strategy puts into a database that it is attached to, as a name by which [`crate::source::postgres::PgHold`]
    /// tells that it is in use; `None` where it puts nothing there.
    pub fn name_at_source(&self, kind: StrategyKind, begin: Begin) -> Option<String> {
        let RecordSystem::Postgres(source) = &self.source else { return None };
        match kind {
            StrategyKind::CdcLog => cdc::slot_of(self, begin == Begin::Resumed).ok(),
            StrategyKind::CdcTrigger => Some(PgTriggerCapture::hold_name(&source.options().database)),
            _ => None,
        }
    }

    fn search_folder(&self) -> PathBuf {
        self.folder.join("search")
    }

    /// The shortest time between two publishes of a sink.
    fn publish_interval(&self, sink: SinkKind) -> Duration {
        if sink == SinkKind::Search { self.search_interval } else { Duration::ZERO }
    }

    fn log_folder(&self) -> PathBuf {
        self.folder.join("log")
    }
}

fn token(folder: &Path) -> String {
    let path = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = format!("{} {} {}", path.display(), std::process::id(), now.as_nanos());
    format!("{:08x}", xxhash_rust::xxh3::xxh3_64(seed.as_bytes()) & u64::from(u32::MAX))
}

/// How following begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With all rows.
    Loaded,
    /// Without a row: only what changes from now on arrives.
    Empty,
    /// Where an earlier one ended or was killed.
    Resumed,
}

/// As [`start`], on a source that somebody else writes to.
///
/// # Errors
/// As [`start`]; and for a strategy that can't begin so.
pub fn attach(kind: StrategyKind, setting: &Setting, begin: Begin) -> Result<Running, StrategyError> {
    match (kind, begin) {
        (StrategyKind::CdcLog, Begin::Loaded) => cdc::start_log(setting),
        (StrategyKind::CdcLog, Begin::Empty) => cdc::start_log_empty(setting),
        (StrategyKind::CdcLog, Begin::Resumed) => cdc::resume_log(setting),
        (_, Begin::Empty | Begin::Resumed) => Err(StrategyError::Unable { strategy: kind.name(), begin }),
        (StrategyKind::FullRefresh, Begin::Loaded) => full_refresh::start(setting),
        (StrategyKind::Incremental, Begin::Loaded) => incremental::start(setting),
        (StrategyKind::CdcTrigger, Begin::Loaded) => {
            ChangeCapture::setup(&setting.source)?;
            // What was made for a beginning that failed is of no use.
            cdc::start(setting).inspect_err(|_| setting.say_what_stays(detach(kind, setting)))
        }
        _ => Err(StrategyError::Unable { strategy: kind.name(), begin }),
    }
}

/// The state after which a strategy follows without ever having loaded what is older; `None` for one that has all rows.
///
/// # Errors
/// When what was taken down of it can't be read.
pub fn empty_since(kind: StrategyKind, setting: &Setting) -> Result<Option<PgCut>, StrategyError> {
    if kind == StrategyKind::CdcLog { cdc::empty_since(setting) } else { Ok(None) }
}

/// In words, with the remedy, what somebody did to the things that [`attach`] added to the source and relies on, so that changes
/// may be lost; `None` if nobody did anything.
///
/// # Errors
/// When the source refuses.
pub fn altered(kind: StrategyKind, setting: &Setting) -> Result<Option<String>, StrategyError> {
    if kind == StrategyKind::CdcLog { cdc::altered(setting) } else { Ok(None) }
}

/// Removes from the source what [`attach`] added to it.
///
/// # Errors
/// When the source refuses.
pub fn detach(kind: StrategyKind, setting: &Setting) -> Result<(), StrategyError> {
    match kind {
        StrategyKind::CdcLog => cdc::tear_down_log(setting),
        StrategyKind::CdcTrigger => Ok(ChangeCapture::teardown(&setting.source)?),
        _ => Ok(()),
    }
}

/// Whether the slot of an attach can be gone on with, as far as the server and the tables tell.
pub fn can_go_on(setting: &Setting) -> CanGoOn {
    cdc::can_go_on(setting)
}

/// Prepares source and sinks for `kind`, loads the sinks, and begins to follow. `None` for the control run.
///
/// # Errors
/// [`StrategyError`] when a stage fails.
pub fn start(kind: StrategyKind, setting: &Setting) -> Result<Option<Running>, StrategyError> {
    match kind {
        StrategyKind::Control => Ok(None),
        StrategyKind::FullRefresh => full_refresh::start(setting).map(Some),
        StrategyKind::Incremental => incremental::start(setting).map(Some),
        StrategyKind::CdcTrigger => {
            ChangeCapture::setup(&setting.source)?;
            cdc::start(setting).map(Some)
        }
        StrategyKind::CdcLog => cdc::start_log(setting).map(Some),
        StrategyKind::DualWrite => dual_write::start(setting, false).map(Some),
        StrategyKind::DualWriteVersioned => dual_write::start(setting, true).map(Some),
        StrategyKind::Outbox => outbox::start(setting).map(Some),
    }
}
