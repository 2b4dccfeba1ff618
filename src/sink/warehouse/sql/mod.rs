//! SQL: the tables of one version, for DataFusion.
//!
//! ```text
//! Arc<Version> -> WarehouseTable (a table) -> ChunkScan (a plan) -> batches of 8,192 rows -> DataFusion's operators
//! ```
//!
//! Guarantees:
//! * All tables of a session are of one [`Version`](super::Version): every query, and every part of one, sees the same consistent cut.
//! * A session reads. Whatever would write, or would touch a file that is not the warehouse's, is refused before it is
//!   planned; nothing is spilled to disk.
//! * A batch of live rows alone shares memory with the warehouse. Chunks whose statistics rule a filter out are not
//!   read; of chunks that are not in memory only the columns that the query needs are decoded, and not kept.
//!
//! Sums of 64-bit integers are exact, as everywhere in the warehouse: `sum` gives a `decimal(38,0)`. Arithmetic inside a row
//! is DataFusion's own, which wraps around beyond 64 bits; `CAST(a AS decimal(38,0)) * b` does not.

mod error;
mod exact_sum;
mod float_literal;
mod plain;
mod pruning;
mod scan;
mod session;
mod statement;
mod statistics;
mod system;
mod table;

pub use error::SqlError;
pub use session::{SqlOptions, SqlRows, SqlSession};
