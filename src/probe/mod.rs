//! What a run looks like from outside: when each commit became visible, how stale reads were, what it cost.
//!
//! During the run there are only cheap recorders ([`VisibilityRecorder`], [`Prober`], [`KeyReader`], [`Meter`]);
//! every figure is computed afterwards, from their records and the ledger's commits.

pub mod bounded;
pub mod divergence;
pub mod follow;
pub mod footprint;
pub mod freshness;
pub mod key_reads;
mod machine;
pub mod meter;
pub mod prober;
pub mod series;
mod server_cpu;
pub mod stages;
pub mod stalls;
pub mod visibility;

pub use bounded::{Bounded, BoundedFigures, BoundedLags};
pub use divergence::{Arrival, Conflict, Diverged, Divergence, DivergenceCause, visible_by_arrival};
pub use follow::{BothFigures, FollowCounts, FollowFigures, FollowMeter};
pub use footprint::{Footprint, FootprintSample};
pub use freshness::{AgeFigures, Freshness, FreshnessInput, LEAD_MAX, LagFigures, SLO_THETAS, Window};
pub use key_reads::{KeyRead, KeyReadFigures, KeyReadRecord, KeyReader, KeyTarget};
pub use machine::MachineTimes;
pub use meter::{IoBytes, Meter, PeakRss, Role, Snapshot, ThreadCpu, Usage, process_cpu};
pub use prober::{
    LengthFigures, ProbeFigures, ProbeRead, ProbeRecord, ProbeSample, ProbeTarget, Prober, ProberOptions, Staleness,
};
pub use series::Halving;
pub use server_cpu::ServerCpu;
pub use stages::{CaptureTimes, Stage, StageFigures, StageTimes};
pub use stalls::{Stall, StallCause, StallRecord, StallWatch};
pub use visibility::{
    Commit, Existence, Publish, RowChange, VisibilityError, VisibilityRecorder, readable_after, visible_by_delivery,
    visible_by_watermark,
};

use std::fmt;
use std::io;
use std::thread::{Builder, JoinHandle};

/// What can go wrong with a measuring thread.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProbeError {
    /// The thread could not be started.
    Spawn {
        /// Its name.
        thread: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// The thread ended before it was told to; what it recorded is gone.
    Died {
        /// Its name.
        thread: &'static str,
    },
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeError::Spawn { thread, .. } => {
                write!(f, "starting the thread {thread} failed; is there a limit on threads (ulimit -u)?")
            }
            ProbeError::Died { thread } => {
                write!(f, "the thread {thread} died and took its records along; its panic message is above")
            }
        }
    }
}

impl std::error::Error for ProbeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ProbeError::Spawn { cause, .. } => Some(cause),
            ProbeError::Died { .. } => None,
        }
    }
}

/// A thread of this module and the channel that tells it to end: by a message, or by being dropped.
#[derive(Debug)]
struct Worker<T> {
    name: &'static str,
    stop: crossbeam_channel::Sender<()>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Worker<T> {
    fn start(
        name: &'static str,
        body: impl FnOnce(&crossbeam_channel::Receiver<()>) -> T + Send + 'static,
    ) -> Result<Worker<T>, ProbeError> {
        let (stop, stopped) = crossbeam_channel::bounded(1);
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || body(&stopped))
            .map_err(|cause| ProbeError::Spawn { thread: name, cause })?;
        Ok(Worker { name, stop, thread })
    }

    fn finish(self) -> Result<T, ProbeError> {
        drop(self.stop);
        self.thread.join().map_err(|_| ProbeError::Died { thread: self.name })
    }
}
