//! What can go wrong while a strategy runs.

use crate::apply::ApplyError;
use crate::capture::CaptureError;
use crate::log::LogError;
use crate::model::CodecError;
use crate::model::key::KeyError;
use crate::sink::{SinkError, WarehouseError};
use crate::source::SourceError;
use crate::transform::TransformError;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// The failure of one stage, which ends the strategy.
#[derive(Debug)]
pub enum StrategyError {
    /// The record system.
    Source(SourceError),
    /// Reading changes or rows out of it.
    Capture(CaptureError),
    /// The log.
    Log(LogError),
    /// Rows to Arrow.
    Transform(TransformError),
    /// Changes to edits.
    Apply(ApplyError),
    /// A sink.
    Sink(SinkError),
    /// The warehouse.
    Warehouse(WarehouseError),
    /// A row that can't be encoded.
    Codec(CodecError),
    /// A row without a key.
    Key(KeyError),
    /// A restart of a folder whose first load never came to its end.
    NotLoaded {
        /// The folder.
        folder: PathBuf,
    },
    /// A strategy that can't begin so.
    Unable {
        /// Which.
        strategy: &'static str,
        /// How it was to begin.
        begin: super::Begin,
    },
    /// A planted fault that did nothing: what the run then shows says nothing of the verification.
    NeverPlanted {
        /// The fault.
        fault: super::PlantedFault,
        /// Chances that there were.
        chances: u32,
        /// The first chance that is taken.
        first: u32,
    },
    /// A thread that could not be started.
    Thread(io::Error),
    /// A thread that died.
    Died {
        /// Its name.
        thread: String,
    },
}

impl StrategyError {
    /// Whether the user ended it.
    pub fn is_stopped(&self) -> bool {
        matches!(
            self,
            StrategyError::Source(SourceError::Stopped)
                | StrategyError::Capture(CaptureError::Source(SourceError::Stopped))
        )
    }

    /// Whether the same would happen again to whoever goes on at the same place: it lies in the data or the log, not in what
    /// can be mended around it.
    pub fn comes_again(&self) -> bool {
        let of_source = |cause: &SourceError| match cause {
            SourceError::Postgres { sqlstate: Some(state), .. } => {
                // Resources, an operator, the system; and what ends a connection.
                !(cause.is_of_connection() || ["53", "57", "58"].iter().any(|class| state.starts_with(class)))
            }
            SourceError::Io { .. } | SourceError::Thread { .. } | SourceError::Waited { .. } | SourceError::Stopped => {
                false
            }
            _ => !cause.is_of_connection(),
        };
        match self {
            StrategyError::Source(cause) | StrategyError::Capture(CaptureError::Source(cause)) => of_source(cause),
            StrategyError::Capture(CaptureError::Slot { .. }) => false,
            StrategyError::Capture(_) | StrategyError::Codec(_) | StrategyError::Key(_) => true,
            StrategyError::Transform(_) | StrategyError::Apply(_) => true,
            _ => false,
        }
    }

    fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StrategyError::Source(e) => Some(e),
            StrategyError::Capture(e) => Some(e),
            StrategyError::Log(e) => Some(e),
            StrategyError::Transform(e) => Some(e),
            StrategyError::Apply(e) => Some(e),
            StrategyError::Sink(e) => Some(e),
            StrategyError::Warehouse(e) => Some(e),
            StrategyError::Codec(e) => Some(e),
            StrategyError::Key(e) => Some(e),
            StrategyError::Thread(e) => Some(e),
            StrategyError::NotLoaded { .. }
            | StrategyError::Unable { .. }
            | StrategyError::NeverPlanted { .. }
            | StrategyError::Died { .. } => None,
        }
    }
}

impl fmt::Display for StrategyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StrategyError::NotLoaded { folder } => {
                write!(f, "{}: the first load never finished; begin again in an empty folder", folder.display())
            }
            StrategyError::Unable { strategy, begin: super::Begin::Resumed } => {
                write!(f, "{strategy} can't be resumed; begin again in an empty folder, or use cdc-log")
            }
            StrategyError::Unable { strategy, .. } => {
                write!(f, "{strategy} can't follow a live database so; use cdc-log")
            }
            StrategyError::NeverPlanted { fault, chances, first } => write!(
                f,
                "--plant {}: there were {chances} chances, and the first that is taken is number {first}; run longer or at \
                 a higher rate, or choose a workload with {}",
                fault.name(),
                fault.chance()
            ),
            StrategyError::Thread(e) => write!(f, "can't start a thread: {e}"),
            StrategyError::Died { thread } => write!(f, "thread {thread} died; this is a fault of freshbench"),
            other => match other.cause() {
                Some(cause) => write!(f, "{cause}"),
                None => Ok(()),
            },
        }
    }
}

impl std::error::Error for StrategyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause().and_then(std::error::Error::source)
    }
}

macro_rules! from {
    ($($variant:ident($cause:ty)),*) => {$(
        impl From<$cause> for StrategyError {
            fn from(cause: $cause) -> StrategyError {
                StrategyError::$variant(cause)
            }
        }
    )*};
}

from!(
    Source(SourceError),
    Capture(CaptureError),
    Log(LogError),
    Transform(TransformError),
    Apply(ApplyError),
    Sink(SinkError),
    Warehouse(WarehouseError),
    Codec(CodecError),
    Key(KeyError)
);
