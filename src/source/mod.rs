//! Record databases, the clients that write to them, and the ledger of what was committed.
//!
//! [`SqliteSource`] is the record system that freshbench makes and writes to itself; [`DynSqlite`] reads anybody's
//! SQLite file. [`drive`] (or [`Driver`], in the background) runs a workload's transactions open loop: each starts at
//! its intended instant or as soon after it as its client is free, and none is left out. What was offered and what was
//! acknowledged ends in the [`Ledger`], the only source of "produced".

mod application;
mod client;
mod decimal;
mod discover;
mod drive;
mod dynamic;
mod error;
mod ledger;
mod load;
pub mod postgres;
mod queue;
mod readers;
mod record_system;
mod sqlite;
mod table;
mod value;

pub use application::{Application, Inside, PointReader};
pub use client::Client;
pub use drive::{Driver, Progress, drive};
pub use dynamic::DynSqlite;
pub use error::SourceError;
pub use ledger::{ClientLog, Counts, Ledger, LedgerEntry, Outcome};
pub use queue::{WriterQueue, WriterTurn};
pub use readers::{Readers, RowRange};
pub use record_system::{Positions, RecordSystem};
pub use sqlite::{Durability, SourceOptions, SqliteSource};
pub use table::{OWN_PREFIX, SourceTable, create_sql, quote};
pub use value::Coding;

pub(crate) use sqlite::{CLOSE_FOREIGN, last_closed_lsn, last_lsn, wall_clock};
