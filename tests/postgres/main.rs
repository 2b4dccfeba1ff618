//! PostgreSQL as the record system, against real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod follower;
mod server;

mod attach;
mod attach_figures;
mod connect;
mod doctor;
mod dump;
mod log_changes;
mod log_large;
mod log_slots;
mod log_stream;
mod run;
mod support;
mod triggers;
mod types;
mod wire;
