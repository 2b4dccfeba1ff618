//! A search index on tantivy: the text columns, found by word, and every row found by key.
//!
//! ```text
//! EditSet -> documents + deletes by key --publish--> SearchView --checkpoint--> fsync, meta.json with the watermark
//! ```
//!
//! * **What is kept.** Of each table the key columns and the text columns. A table without a text column outside its
//!   key is not indexed: its edits only move the watermark, and [`SearchView::columns`] is empty.
//! * **A document** has three fields, named by number: its terms (table, and table with key), the words of all its
//!   text columns, and the stored row in the encoding of [`crate::model::row`], so that every value comes back as it
//!   was and NULL differs from "".
//! * **Visible, then durable.** As in large search engines, where *refresh* and *flush* are two things: a publish
//!   commits to files that are not synced yet and to a `meta.json` in memory, and readers see it at once; a
//!   checkpoint syncs what is still in use, then replaces `meta.json`. Until then the files of the last checkpoint
//!   stay. So a crash, also of the machine, leaves exactly the last checkpoint, and small segments that were merged
//!   away meanwhile never cost an fsync.
//! * **Deletes by key** cost a look into every segment, so the writer keeps the set of the keys it has (8 bytes and a
//!   little for an integer key, 16 for others) and a new key costs none.
//! * **Merges** are started at publishes, eight segments of a size into one, so a document is written again about
//!   `log8(documents / documents a publish)` times, and there are never more than [`SEGMENTS_MAX`] segments: a publish
//!   waits for a merge then. A segment of which more than half is deleted is rewritten.
//! * **A rebuild** is a new generation: a folder beside the one in use, which `CURRENT` then names.

mod bulk;
mod current;
mod directory;
mod document;
mod error;
mod generation;
mod keys;
mod merges;
mod reader;
mod shape;
mod staged;
#[cfg(test)]
mod tests;
mod view;
mod writer;

pub use bulk::SearchBulk;
pub use error::SearchError;
pub use merges::SEGMENTS_MAX;
pub use reader::SearchReader;
pub use view::SearchView;
pub use writer::SearchIndex;

/// How a search index is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchOptions {
    /// Memory for documents that are not in a segment yet, all indexing threads together. A thread has at least 15 MB.
    pub memory_bytes: usize,
    /// Threads that index documents, 1 to 8. A publish makes a segment for each.
    pub threads: usize,
}

impl Default for SearchOptions {
    fn default() -> SearchOptions {
        SearchOptions { memory_bytes: 64 << 20, threads: 1 }
    }
}
