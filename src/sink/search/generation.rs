//! One generation: a folder with one tantivy index, and its writer.

use super::current::check_generation;
use super::directory::{SearchDirectory, Written};
use super::document::{key_bytes, table_term};
use super::merges::Merges;
use super::shape::Shape;
use super::view::SearchView;
use super::{SearchError, SearchOptions};
use crate::model::{KeyRef, Lsn, TableId};
use crate::storage::private;
use smallvec::SmallVec;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tantivy::index::IndexSettings;
use tantivy::indexer::{IndexWriterOptions, NoMergePolicy, UserOperation};
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, TantivyDocument, Term};

/// Tantivy's limits, of a thread's memory and of threads.
const THREAD_BYTES: (usize, usize) = (15_000_000, 4_000_000_000);
const THREADS_MAX: usize = 8;
/// Decompressed blocks of stored rows that a view keeps of each segment.
const STORE_BLOCKS: usize = 16;

/// See the module. Dropped, its merges are waited for; its folder goes too unless it was kept.
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) dir: PathBuf,
    pub(super) shape: Arc<Shape>,
    directory: SearchDirectory,
    reader: IndexReader,
    /// Always there, but while it is dropped.
    writer: Option<IndexWriter>,
    merges: Merges,
    /// Whether the folder stays when this is dropped.
    pub(super) kept: bool,
}

impl Generation {
    /// A new generation without documents in the folder `dir`, which must not be there.
    pub(super) fn create(
        number: u64,
        dir: &Path,
        shape: &Arc<Shape>,
        options: &SearchOptions,
        written: &Arc<Written>,
    ) -> Result<Generation, SearchError> {
        private::create_new_folder(dir).map_err(SearchError::io("create", dir))?;
        let made = || {
            let directory = SearchDirectory::open(dir, Arc::clone(written)).map_err(SearchError::io("open", dir))?;
            // The thread that indexes compresses too: a second one for each segment costs more than it brings here.
            let settings = IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
            let index = Index::create(directory.clone(), shape.schema.clone(), settings)
                .map_err(SearchError::engine("create an index in", dir))?;
            Generation::new(number, dir, shape, options, directory, &index)
        };
        made().inspect_err(|_| {
            // The error that is on its way says more than one of the clearing up.
            let _ = fs::remove_dir_all(dir);
        })
    }

    /// Opens a generation at its last checkpoint and removes files that are not part of it.
    pub(super) fn open(
        number: u64,
        dir: &Path,
        shape: &Arc<Shape>,
        options: &SearchOptions,
        written: &Arc<Written>,
    ) -> Result<Generation, SearchError> {
        let directory = SearchDirectory::open(dir, Arc::clone(written)).map_err(SearchError::io("open", dir))?;
        check_generation(dir, directory.generation().map_err(SearchError::io("read", dir))?)?;
        let index = Index::open(directory.clone()).map_err(SearchError::engine("open the index in", dir))?;
        if index.schema() != shape.schema {
            return Err(SearchError::corrupt(dir, "its fields are not those of this format"));
        }
        let mut generation = Generation::new(number, dir, shape, options, directory, &index)?;
        generation.kept = true;
        let collected = generation.writer()?.garbage_collect_files().wait();
        collected.map_err(SearchError::engine("remove what a crash left in", dir))?;
        generation.directory.hold();
        Ok(generation)
    }

    fn new(
        number: u64,
        dir: &Path,
        shape: &Arc<Shape>,
        options: &SearchOptions,
        directory: SearchDirectory,
        index: &Index,
    ) -> Result<Generation, SearchError> {
        let threads = options.threads.clamp(1, THREADS_MAX);
        let thread_bytes = (options.memory_bytes / threads).clamp(THREAD_BYTES.0, THREAD_BYTES.1);
        let writer_options = IndexWriterOptions::builder()
            .num_worker_threads(threads)
            .memory_budget_per_thread(thread_bytes)
            .num_merge_threads(2)
            .build();
        let writer: IndexWriter =
            index.writer_with_options(writer_options).map_err(SearchError::engine("write to", dir))?;
        writer.set_merge_policy(Box::new(NoMergePolicy));
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(STORE_BLOCKS)
            .try_into()
            .map_err(SearchError::engine("read", dir))?;
        Ok(Generation {
            number,
            dir: dir.to_owned(),
            shape: Arc::clone(shape),
            directory,
            reader,
            writer: Some(writer),
            merges: Merges::default(),
            kept: false,
        })
    }

    fn writer(&mut self) -> Result<&mut IndexWriter, SearchError> {
        self.writer.as_mut().ok_or_else(|| SearchError::Poisoned { path: self.dir.clone() })
    }

    /// The watermark of the last checkpoint.
    pub(super) fn watermark(&self) -> Result<Lsn, SearchError> {
        self.directory.watermark().map(Lsn).map_err(SearchError::io("read the watermark of", &self.dir))
    }

    /// Adds a document; with `replace` its key's old one is deleted in the same batch.
    pub(super) fn add(&self, document: TantivyDocument, replace: Option<&[u8]>) -> Result<(), SearchError> {
        let writer = self.writer.as_ref().ok_or_else(|| SearchError::Poisoned { path: self.dir.clone() })?;
        let mut operations: SmallVec<[UserOperation; 2]> = SmallVec::new();
        if let Some(key) = replace {
            operations.push(UserOperation::Delete(Term::from_field_bytes(self.shape.fields.terms, key)));
        }
        operations.push(UserOperation::Add(document));
        // One key a batch: tantivy's queue is limited by batches, so this is what limits the memory of what waits.
        writer.run(operations).map(|_| ()).map_err(SearchError::engine("add a document to", &self.dir))
    }

    /// Deletes the documents of a key.
    pub(super) fn delete(&self, table: TableId, key: KeyRef<'_>) {
        self.delete_term(Term::from_field_bytes(self.shape.fields.terms, &key_bytes(table, key)));
    }

    /// Deletes the documents of a table.
    pub(super) fn truncate(&self, table: TableId) {
        self.delete_term(table_term(self.shape.fields, table));
    }

    fn delete_term(&self, term: Term) {
        if let Some(writer) = &self.writer {
            writer.delete_term(term);
        }
    }

    /// Makes what was added and deleted part of the index, and looks after its segments.
    pub(super) fn commit(&mut self) -> Result<(), SearchError> {
        let dir = self.dir.clone();
        self.writer()?.commit().map_err(SearchError::engine("commit to", &dir))?;
        let Some(writer) = self.writer.as_mut() else { return Ok(()) };
        self.merges.advance(writer).map_err(SearchError::engine("merge segments of", &dir))
    }

    /// The index as of the last commit.
    pub(super) fn view(&self, watermark: Lsn) -> Result<SearchView, SearchError> {
        self.reader.reload().map_err(SearchError::engine("read", &self.dir))?;
        Ok(SearchView::new(watermark, self.reader.searcher(), Arc::clone(&self.shape), &self.dir))
    }

    /// Makes the last commit durable, complete through `watermark`.
    pub(super) fn checkpoint(&self, watermark: Lsn) -> Result<(), SearchError> {
        self.directory.checkpoint(watermark.0).map_err(SearchError::io("make durable", &self.dir))
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        // A merge that went on would write into a folder that is gone, or another writer's.
        self.merges.wait();
        drop(self.writer.take());
        if !self.kept {
            // Should it fail, the next opening removes the folder.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
