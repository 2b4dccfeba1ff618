//! Batches of changes become edits: folded by key, merged column-wise; or rows become batches, for a bulk load.

pub mod edits;

mod bulk;
mod error;
mod fold;
mod group;
mod key_index;

pub use bulk::BatchStream;
pub use edits::{CurrentRowError, CurrentRows, EditSet, TableEdits};
pub use error::ApplyError;
pub use fold::{Folder, NoCurrentRows};
