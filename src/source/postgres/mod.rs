//! PostgreSQL as the record system.
//!
//! [`PgOptions`] says how to reach a server: from a URL, a service file, the environment and `.pgpass`, as libpq does.
//! [`PgOptions::connect`] opens an ordinary connection; the raw protocol, for bulk reads and the replication stream, is
//! in `wire`. Both pass through `session`, which sees that values come in one form. No password is ever shown: it lives in a [`Secret`].

mod bind;
mod blockers;
mod client;
mod connect;
mod copy_rows;
mod cut;
mod definition;
mod discover;
mod health;
mod hold;
mod hosts;
mod lines;
mod name;
mod options;
mod parameters;
mod passfile;
mod patience;
mod places;
mod reach;
mod reader;
mod record;
mod room;
mod secret;
mod service;
mod session;
mod settings;
mod switches;
mod table;
mod tls;
mod types;
mod url;
mod wire;

pub use connect::{RECONNECT_PATIENCE, RECONNECT_PAUSE};
pub use copy_rows::PgCopyRows;
pub use cut::PgCut;
pub use definition::PgKept;
pub use health::{PgFinding, PgVerdict, examine};
pub use hold::PgHold;
pub use name::PgTableName;
pub use options::{ChannelBinding, PgHost, PgOptions, SslMode, TargetSession, without_secret};
pub use parameters::public_variables;
pub use patience::{PgOpen, PgPatience, PgWatch};
pub use places::Places;
pub use reader::TableReader;
pub use record::{Marker, OWN_SCHEMA, PgSource};
pub use room::{PgNeeds, require_room};
pub use secret::Secret;
pub use settings::server_settings;
pub use table::{PgColumn, PgGenerated, PgKeyOrigin, PgKind, PgLeaf, PgReplicaIdentity, PgTable};
pub use types::{PgCoding, PgField, PgMisfit, PgScratch};
pub use wire::{Mode, TextRow, Wire};

pub(crate) use bind::Bound;
pub(crate) use definition::{lock_sql, touch_sql};
pub(crate) use reader::Scratch;

pub(super) use client::{PgClient, Session, look_up};

#[cfg(test)]
mod tests;
