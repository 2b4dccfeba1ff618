//! The cache: rows by primary key, in process or on a Redis server.
//!
//! ```text
//! EditSet -> staged (encoded rows) --publish, key by key--> entries -> watermark
//!                       a reader's miss --fill at a position--^
//! ```
//!
//! An entry is the position of the commit that made it, and either a row, "gone" (a *tombstone*: the key is known to have
//! no row), or "unknown" (an *invalidation*: whatever was read before this position is out of date).
//!
//! Guarantees:
//! * With [`CacheConflict::NewerWins`] a write at an older position never replaces an entry of a newer one, whoever
//!   writes and in whatever order the writes arrive. The compare and the put are one step for each key. An equal position
//!   replaces, so a replay does no harm. A truncate and a bulk load leave a *floor* in the table: writes below it are refused.
//! * [`CacheConflict::LastWrite`] gives that up: it is the dual write of the textbook, shown for what it does.
//! * Edits become visible **key by key**, which is all that a cache can do: it has no version that a reader could hold on
//!   to, and two `get`s may see two different commits. The watermark moves only after the last of them, so at a watermark
//!   every key is at least as new as it.
//! * A table that a bulk load brings is swapped in at once. Entries that readers filled in at newer positions are carried
//!   over (but for a fill at the very instant of the swap, which may be lost: such a key is then at the load's position).
//!
//! With [`CacheOptions::entries_max`] entries are evicted, tombstones and invalidations among them, and their positions
//! are forgotten with them. A row that is gone is then a miss instead of "gone", and a write older than the evicted entry
//! *can* bring an old row back. That is so for every bounded cache; only a source that is asked again helps. Without
//! a bound nothing is evicted, and a tombstone stays for each deleted key until the next truncate or bulk load.
//!
//! In process, an entry is a slot that stays where it is while its content changes under a lock of its own. So an update is one
//! lookup and one short lock, and moka, which orders and evicts the slots, has to do its housekeeping only for new keys.

mod bulk;
mod columns;
mod error;
mod map_key;
mod memory;
mod options;
mod parallel;
mod reader;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_scripts;
#[cfg(feature = "redis")]
mod redis_server;
mod slot;
mod staged;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use bulk::CacheBulk;
pub use error::CacheError;
pub use options::{CacheConflict, CacheFill, CacheOptions, CacheStore, without_secret};
pub use reader::{CacheReader, Entries, Lookup};
pub use writer::Cache;
