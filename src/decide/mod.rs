//! From figures to decisions: verdicts on pairs and on stored results, the history of a benchmark, cost models and break-even,
//! the search for a sustainable rate. No process is started and nothing is measured here.

pub mod alike;
pub mod break_even;
pub mod comparison;
pub mod history;
pub mod judged;
pub mod rate_search;
pub mod stored;
pub mod verdict;
pub mod words;

pub use comparison::{Comparison, Control, JudgedMetric, Side};
pub use judged::{Judged, Series};
pub use stored::{StoredError, read_result};
pub use verdict::{Verdict, overall};
