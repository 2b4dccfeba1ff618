//! PostgreSQL as the record system.
//!
//! [`PgOptions`] says how to reach a server: from a URL, a service file, the environment and `.pgpass`, as libpq does.
//! [`PgOptions::connect`] opens an ordinary connection; the raw protocol, for bulk reads and the replication stream, is
//! in `wire`. No password is ever shown: it lives in a [`Secret`].

mod bind;
mod blockers;
mod client;
mod connect;
mod copy_rows;
mod cut;
mod discover;
mod health;
mod name;
mod options;
mod passfile;
mod patience;
mod places;
mod reader;
mod record;
mod room;
mod secret;
mod service;
mod table;
mod tls;
mod types;
mod wire;

pub use connect::{RECONNECT_PATIENCE, RECONNECT_PAUSE};
pub use copy_rows::PgCopyRows;
pub use cut::PgCut;
pub use health::{PgFinding, PgVerdict, examine};
pub use name::PgTableName;

pub use options::{PgHost, PgOptions, SslMode, without_secret};
pub use patience::{PgOpen, PgPatience, PgWatch};
pub use places::Places;
pub use reader::TableReader;
pub use record::{Marker, OWN_SCHEMA, PgSource};
pub use room::{PgNeeds, require_room};
pub use secret::Secret;
pub use table::{PgColumn, PgGenerated, PgKeyOrigin, PgKind, PgLeaf, PgReplicaIdentity, PgTable};
pub use types::{PgCoding, PgField, PgMisfit, PgScratch};
pub use wire::{Mode, TextRow, Wire};

pub(crate) use bind::Bound;
pub(crate) use reader::Scratch;

pub(super) use client::{PgClient, Session, look_up};

#[cfg(test)]
mod tests;
