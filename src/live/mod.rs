//! The live view: a run in progress in a browser, and for a scraper.
//!
//! Whoever runs something holds a [`Feed`] and tells it what happens; nobody else writes to it, and telling never waits. A
//! [`View`] serves what the feed holds on a thread of its own: it draws only when it is asked, takes a bounded number of
//! connections, and ends each after a few seconds, so a slow or vanished browser takes nothing from the run.

mod feed;
mod openmetrics;
mod server;

pub use feed::{Feed, Sample, Snapshot};
pub use server::{View, ViewError};
