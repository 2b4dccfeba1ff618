//! PostgreSQL as the record system.
//!
//! [`PgOptions`] says how to reach a server: from a URL, a service file, the environment and `.pgpass`, as libpq does.
//! [`PgOptions::connect`] opens an ordinary connection; the raw protocol, for bulk reads and the replication stream, is
//! in `wire`. No password is ever shown: it lives in a [`Secret`].

mod connect;
mod options;
mod passfile;
mod secret;
mod service;
mod tls;
mod wire;

pub use options::{PgOptions, SslMode};
pub use secret::Secret;
pub use wire::{Mode, TextRow, Wire};

#[cfg(test)]
mod tests;
