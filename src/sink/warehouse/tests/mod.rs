//! Tests of the warehouse as a whole, against plain maps.

mod bulk;
mod compaction;
mod crash;
mod faults;
mod flips;
mod history;
mod kept;
mod merge;
mod model;
mod readers;
#[cfg(feature = "sql")]
mod sql;
mod steady;
mod support;
mod types;
mod wide;
