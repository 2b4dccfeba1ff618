//! What a run leaves behind: `result.json`, the tables in the terminal, `summary.md` and `report.html`; other tools' formats.

pub mod export;
pub mod headline;
pub mod html;
pub mod result;
pub mod save;
pub mod standing;
pub mod terminal;

pub use result::{
    Case, Config, Direction, Environment, Event, GitState, Hist, Metric, Phase, RunResult, Series, SeriesStall,
    SinkDivergence, SinkValidation, Validation,
};
pub use save::{ReportError, save_page, save_result};
pub use standing::Standing;
