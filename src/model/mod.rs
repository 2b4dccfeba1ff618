//! The words every stage shares: schemas, values, rows, changes, transactions and positions.
//!
//! Nothing in here does I/O, reads a clock or knows a stage.

pub mod change;
pub mod key;
pub mod position;
pub mod row;
pub mod schema;
pub mod text;
pub mod units;
pub mod value;

pub use change::{ChangeBuf, ChangeRef, Changes, Transaction};
pub use key::{Key, KeyColumn, KeyRef};
pub use position::{CommitTime, Lsn, Position};
pub use row::{CodecError, RowRef};
pub use schema::{Catalog, Column, ColumnType, SchemaError, TableId, TableSchema};
pub use units::Moment;
pub use value::{Decimal, Value, ValueRef};

/// The values of one row, borrowed, in column order. Sixteen columns fit without allocating.
pub type RowValues<'a> = smallvec::SmallVec<[ValueRef<'a>; 16]>;
