//! What a run leaves behind: `result.json`, the tables in the terminal and `summary.md`; other tools' formats.

pub mod export;
pub mod headline;
pub mod result;
pub mod save;
pub mod terminal;

pub use result::{
    Case, Config, Direction, Environment, GitState, Hist, Metric, Phase, RunResult, Series, SinkDivergence,
    SinkValidation, Validation,
};
pub use save::{ReportError, save_result};
