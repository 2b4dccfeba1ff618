//! PostgreSQL as the record system, against real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod server;

mod connect;
mod dump;
mod support;
mod types;
mod wire;
