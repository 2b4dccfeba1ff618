//! freshbench measures how a warehouse, a search index and a cache are best fed from a database.
//!
//! ```text
//! workload -> source -> capture -> log -> transform -> apply -> sink -> probe -> report
//! ```
//!
//! A module imports only from modules above it in this list, and a test keeps it so.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
// See `output`: the standard macros panic where nobody reads.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod foreign;

pub(crate) mod output;

pub(crate) mod bounded;

pub mod model;

pub mod clock;

pub(crate) mod storage;

pub mod stats;

pub mod workload;

pub mod source;

pub mod capture;

pub mod log;

pub mod transform;

pub mod apply;

pub mod sink;

pub mod oracle;

pub mod probe;

pub mod strategy;

pub mod plan;

pub mod report;

pub mod live;

pub mod decide;

pub mod run;

pub mod cli;
