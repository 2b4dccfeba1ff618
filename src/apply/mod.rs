//! Batches of changes become edits: folded by key, merged column-wise.

pub mod edits;
