//! What a run looks like from outside: when each commit became visible, how stale reads were, what it cost.
//!
//! During the run there are only cheap recorders ([`VisibilityRecorder`], [`Prober`], [`BacklogSampler`],
//! [`Meter`]); every figure is computed afterwards, from their records and the ledger's commits.

pub mod freshness;
pub mod visibility;

pub use freshness::{AgeFigures, Freshness, FreshnessInput, LagFigures, Window};
pub use visibility::{
    Commit, Existence, Publish, RowChange, VisibilityError, VisibilityRecorder, visible_by_delivery,
    visible_by_watermark,
};
