//! PostgreSQL as the record system, against real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod server;

mod connect;
mod doctor;
mod dump;
mod support;
mod types;
mod wire;
