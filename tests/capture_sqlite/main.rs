//! Capture from SQLite against an independent truth: the tables themselves, read back by plain SQL.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod crash;
mod cursor;
mod dynamic;
mod follow;
mod foreign;
mod random;
mod statements;
mod workload;
