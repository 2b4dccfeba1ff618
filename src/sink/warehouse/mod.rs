//! A columnar warehouse: Parquet segments, a primary-key index, deletion vectors, and one manifest.
//!
//! An upsert marks the old row dead and appends the new one; nothing is ever rewritten in place, and no read has to
//! reconcile versions of a row.
//!
//! ```text
//! EditSet -> Table (slots + index) --publish--> Arc<Version> --checkpoint--> segments, deletion vectors, manifest
//! ```
//!
//! Guarantees:
//! * A [`Version`] covers all tables, is complete through its watermark, and never changes.
//! * [`Warehouse::open`] finds exactly the state of the last checkpoint, or bulk load, that returned.
//! * The watermark is written with the data, in one commit; files a crash left behind are removed at opening.
//! * No row is decoded from a file whose hash is not the one in the manifest.
//! * Files go only when no kept version names them, and that is durable; a reader, also one in another process, holds
//!   its files open, and an open file stays readable.
//!
//! Write amplification: a checkpoint writes every row that came since the last one, without most of those already dead, as one
//! segment a table (or several of `chunk_rows_max` rows). Eight small segments become one, so a row is written about
//! `log8(chunk_rows_max / rows a checkpoint)` times more; a segment of which a share is dead is rewritten, which costs
//! `(100 - dead_percent_max) / dead_percent_max` rows written again for each row updated, and never more than
//! `compaction_rows_per_change`. Deletion vectors that changed are written whole, at most 1 bit a row of their segment.
//!
//! Pauses: a publish merges at most some ten thousand rows itself, and puts the chunks that threads have merged in their places; the rest
//! of compaction and all writing go on beside it.

mod addresses;
mod aggregate;
mod background;
mod bulk;
mod checkpoint;
mod chunk;
mod columns;
mod commit;
mod compaction;
mod counters;
mod damage;
mod deleted;
mod error;
mod index;
mod manifest;
mod memory;
mod merge;
mod merged;
mod open;
mod ordered;
mod reader;
mod scan;
mod segment;
#[cfg(feature = "sql")]
pub mod sql;
mod table;
#[cfg(test)]
mod tests;
mod vectors;
mod verify;
mod version;
mod versions;
mod writer;

pub use aggregate::Aggregate;
pub use bulk::{BulkLoad, Loaded};
pub use columns::{row_values, value_at};
pub use counters::WarehouseCounters;
pub use error::WarehouseError;
pub use ordered::OrderedRows;
pub use reader::WarehouseReader;
pub use scan::{Condition, Filter};
pub use verify::{Verification, VerifyFault, verify};
pub use version::Version;
pub use versions::{VersionAt, VersionInfo, versions};
pub use writer::Warehouse;

pub use crate::workload::Comparison;

/// How a warehouse is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarehouseOptions {
    /// Rows of a full chunk, and so of a segment (one row group).
    pub chunk_rows_max: usize,
    /// Bytes of a full chunk's values: it ends at the row that reaches them, however few rows it has. At most 1 GiB, since a
    /// column of text holds 2 GiB and a value may have one.
    pub chunk_bytes_max: usize,
    /// The level of zstd in segments, 1 to 22. More than 3 is slow.
    pub zstd_level: i32,
    /// How many of the last commits stay readable (see [`versions()`]), the newest among them; at least 1.
    pub versions_kept: usize,
    /// Threads that merge chunks and write checkpoints beside the writer. With 0 the writer does it itself, at the same
    /// points each time.
    pub compaction_threads: usize,
    /// A chunk of which so many in a hundred rows are dead is rewritten without them. Scans read dead rows too: less
    /// makes scans faster, and writes `(100 - dead_percent_max) / dead_percent_max` rows again for each row updated.
    pub dead_percent_max: usize,
    /// Rows that may be written again for each row changed, to be rid of dead ones. Beyond it chunks get deader.
    pub compaction_rows_per_change: usize,
    /// Bytes of decoded rows to keep in memory, over all tables; `None` is no limit. Rows beyond it are read from their
    /// segments when they are needed; a checkpoint is due when half of it is rows without a segment.
    pub memory_bytes_max: Option<u64>,
}

impl Default for WarehouseOptions {
    fn default() -> WarehouseOptions {
        WarehouseOptions {
            chunk_rows_max: 131_072,
            chunk_bytes_max: 256 << 20,
            zstd_level: 1,
            versions_kept: 1,
            compaction_threads: 1,
            dead_percent_max: 33,
            compaction_rows_per_change: 4,
            memory_bytes_max: None,
        }
    }
}
