//! PostgreSQL as the record system, against real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod followed;
mod follower;
mod server;

mod attach;
mod attach_figures;
mod certificates;
mod connect;
mod definitions;
mod doctor;
mod dump;
mod endings;
mod idle;
mod keys;
mod kinds;
mod leftovers;
mod log_changes;
mod log_large;
mod log_slots;
mod log_stream;
mod matrix;
mod options;
mod pooler;
mod run;
mod settings;
mod support;
mod triggers;
mod types;
mod waits;
mod wire;
