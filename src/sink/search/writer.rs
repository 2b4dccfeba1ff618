//! The one writer of a folder.

use super::bulk::SearchBulk;
use super::current::{Current, current_path, generation_path, lock, remove_orphans};
use super::directory::Written;
use super::document::{KEY_BYTES_MAX, Rows, key_bytes};
use super::generation::Generation;
use super::keys::Keys;
use super::shape::{Shape, TableShape};
use super::staged::{Found, Staged};
use super::{SearchError, SearchOptions, SearchReader};
use crate::apply::edits::{CurrentRowError, CurrentRows, EditSet, TableEdits};
use crate::model::{Catalog, KeyColumn, KeyRef, Lsn, TableId, Value};
use crate::sink::{DurableWatch, Outside, Sink, SinkCounters, SinkError, SinkKind};
use crate::storage::private;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A search index, opened to write. One at a time: a lock file names its holder.
///
/// Dropped, it waits for merges under way; what was not checkpointed is gone.
pub struct SearchIndex {
    pub(super) dir: PathBuf,
    pub(super) shape: Arc<Shape>,
    pub(super) options: SearchOptions,
    pub(super) written: Arc<Written>,
    /// The number of the next generation.
    pub(super) next_generation: Arc<AtomicU64>,
    pub(super) generation: Generation,
    pub(super) keys: Keys,
    staged: Staged,
    pub(super) reader: SearchReader,
    /// The last commit of the edits that were applied.
    pub(super) applied: Lsn,
    /// Edits were applied since the last publish, if only to tables that are not indexed.
    pub(super) unpublished: bool,
    pub(super) durable: Lsn,
    /// What readers see is not durable.
    pub(super) ahead: bool,
    pub(super) poisoned: bool,
    pub(super) counters: SinkCounters,
    /// Hears of each version that is on the disk.
    pub(super) watch: Option<DurableWatch>,
    /// Let go last, when nothing writes any more.
    _lock: File,
}

impl fmt::Debug for SearchIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SearchIndex").field("dir", &self.dir).field("durable", &self.durable).finish_non_exhaustive()
    }
}

impl SearchIndex {
    /// Makes a new index for the tables of `catalog` (as the sinks get them), empty, in `dir` (made if it is missing).
    ///
    /// # Errors
    /// When there is one already, a schema breaks a rule, or the folder can't be written.
    pub fn create(dir: &Path, catalog: &Catalog, options: SearchOptions) -> Result<SearchIndex, SearchError> {
        private::create_folders(dir).map_err(SearchError::io("create", dir))?;
        let lock = lock(dir)?;
        if current_path(dir).exists() {
            return Err(SearchError::Exists { path: dir.to_owned() });
        }
        let shape = Arc::new(Shape::new(catalog)?);
        remove_orphans(dir, None)?;
        let written = Arc::new(Written::default());
        let mut generation = Generation::create(1, &generation_path(dir, 1), &shape, &options, &written)?;
        generation.checkpoint(Lsn::ZERO)?;
        Current { generation: 1, catalog: catalog.clone() }.commit(dir, &written)?;
        generation.kept = true;
        SearchIndex::new(dir, shape, options, written, generation, Lsn::ZERO, lock)
    }

    /// Opens the index in `dir` at its last checkpoint. Files and generations that a crash left are removed. Reads the
    /// terms of all keys.
    ///
    /// # Errors
    /// When there is no index, another process writes to it, a file is missing or damaged, or the format is newer than
    /// this build.
    pub fn open(dir: &Path, options: SearchOptions) -> Result<SearchIndex, SearchError> {
        // First without the lock, which would leave its file in a folder without an index.
        Current::read(dir)?;
        let lock = lock(dir)?;
        let current = Current::read(dir)?;
        let shape = Arc::new(Shape::new(&current.catalog)?);
        remove_orphans(dir, Some(current.generation))?;
        let written = Arc::new(Written::default());
        let path = generation_path(dir, current.generation);
        let generation = Generation::open(current.generation, &path, &shape, &options, &written)?;
        let watermark = generation.watermark()?;
        SearchIndex::new(dir, shape, options, written, generation, watermark, lock)
    }

    fn new(
        dir: &Path,
        shape: Arc<Shape>,
        options: SearchOptions,
        written: Arc<Written>,
        generation: Generation,
        watermark: Lsn,
        lock: File,
    ) -> Result<SearchIndex, SearchError> {
        let view = generation.view(watermark)?;
        let keys = Keys::of_index(view.searcher(), &shape, dir)?;
        Ok(SearchIndex {
            dir: dir.to_owned(),
            shape,
            options,
            written,
            next_generation: Arc::new(AtomicU64::new(generation.number + 1)),
            generation,
            keys,
            staged: Staged::default(),
            reader: SearchReader::new(view),
            applied: watermark,
            unpublished: false,
            durable: watermark,
            ahead: false,
            poisoned: false,
            counters: SinkCounters::default(),
            watch: None,
            _lock: lock,
        })
    }

    /// The tables and their columns.
    pub fn catalog(&self) -> &Catalog {
        &self.shape.catalog
    }

    pub(super) fn check(&self) -> Result<(), SearchError> {
        if self.poisoned { Err(SearchError::Poisoned { path: self.dir.clone() }) } else { Ok(()) }
    }

    /// Refuses to go on after an error of which nobody knows how much was done.
    pub(super) fn poison<T>(&mut self, outcome: Result<T, SearchError>) -> Result<T, SearchError> {
        self.poisoned |= outcome.is_err();
        outcome
    }

    /// Refuses a watermark before one that readers see or edits reached.
    pub(super) fn check_watermark(&self, through: Lsn) -> Result<(), SearchError> {
        let present = self.applied.max(self.reader.view().watermark());
        if through < present { Err(SearchError::WatermarkBack { asked: through, present }) } else { Ok(()) }
    }

    fn apply_edits(&mut self, edits: &EditSet) -> Result<(), SearchError> {
        self.check()?;
        for edit in &edits.tables {
            check_edit(self.shape.table(edit.table)?, &self.shape, edit)?;
        }
        self.applied = self.applied.max(edits.through);
        self.unpublished = true;
        self.staged.push(edits, &self.shape);
        for edit in &edits.tables {
            // Part of the edits may be with tantivy when one fails.
            let outcome = self.apply_table(edit);
            self.poison(outcome)?;
            self.counters.rows_upserted += edit.upserts.num_rows() as u64;
            self.counters.rows_deleted += edit.deletes.len() as u64;
        }
        Ok(())
    }

    fn apply_table(&mut self, edit: &TableEdits) -> Result<(), SearchError> {
        let shape = Arc::clone(&self.shape);
        let table = shape.table(edit.table)?;
        if !table.is_indexed() {
            return Ok(());
        }
        if edit.truncate && self.keys.clear(edit.table) {
            self.generation.truncate(edit.table);
        }
        for key in edit.deletes.iter() {
            if self.keys.remove(edit.table, key) {
                self.generation.delete(edit.table, key);
            }
        }
        let mut rows = Rows::new(table, shape.fields, &edit.upserts)?;
        for (row, key) in edit.upsert_keys.iter().enumerate() {
            let bytes = key_bytes(edit.table, key);
            let document = rows.document(row, &bytes)?;
            let is_new = self.keys.insert(edit.table, key);
            self.generation.add(document, if is_new { None } else { Some(&bytes) })?;
        }
        Ok(())
    }

    fn publish_applied(&mut self, through: Lsn) -> Result<(), SearchError> {
        self.check()?;
        self.check_watermark(through)?;
        let before = self.reader.view();
        let view = if self.staged.is_empty() {
            before.through(through)
        } else {
            let outcome = self.generation.commit().and_then(|()| self.generation.view(through));
            self.poison(outcome)?
        };
        self.reader.current.store(Arc::new(view));
        self.staged.clear();
        self.applied = through;
        self.unpublished = false;
        self.ahead = true;
        self.counters.publishes += 1;
        Ok(())
    }

    fn checkpoint_visible(&mut self) -> Result<Lsn, SearchError> {
        self.check()?;
        if self.ahead {
            // The last commit is what readers see: edits applied since are not in a commit yet.
            let visible = self.reader.view().watermark();
            let outcome = self.generation.checkpoint(visible);
            self.poison(outcome)?;
            self.now_durable(visible);
            self.ahead = false;
            self.counters.checkpoints += 1;
        }
        Ok(self.durable)
    }

    pub(super) fn now_durable(&mut self, watermark: Lsn) {
        self.durable = watermark;
        if let Some(watch) = &self.watch {
            watch.durable(watermark);
        }
    }

    /// The kept values of a key's row as of the edits applied last, spread over the table's columns.
    fn present_row(&self, table: TableId, key: KeyRef<'_>) -> Result<Option<Vec<Value>>, SearchError> {
        let shape = self.shape.table(table)?;
        let kept = match self.staged.find(&self.shape, table, key)? {
            Found::Gone => None,
            Found::Row(values) => Some(values),
            Found::Nothing => self.reader.view().row(table, key)?,
        };
        Ok(kept.map(|kept| {
            let mut row = vec![Value::Null; shape.schema.columns.len()];
            for (&place, value) in shape.kept.iter().zip(kept) {
                if let Some(cell) = row.get_mut(place) {
                    *cell = value;
                }
            }
            row
        }))
    }
}

/// Finds what is wrong with edits before any of them is accepted.
fn check_edit(table: &TableShape, shape: &Shape, edit: &TableEdits) -> Result<(), SearchError> {
    let wrong = |what: String| Err(SearchError::mismatch(table.name(), what));
    let (rows, keys) = (edit.upserts.num_rows(), edit.upsert_keys.len());
    if rows != keys {
        return wrong(format!("{rows} rows come with {keys} keys"));
    }
    for column in [&edit.deletes, &edit.upsert_keys] {
        match column {
            KeyColumn::Int(_) if !table.schema.has_int_key() && !column.is_empty() => {
                return wrong("an integer is no key of this table".to_owned());
            }
            KeyColumn::Encoded { .. } if table.schema.has_int_key() && !column.is_empty() => {
                return wrong("the key must be an integer".to_owned());
            }
            KeyColumn::Int(_) => {}
            KeyColumn::Encoded { .. } => check_lengths(table, column)?,
        }
    }
    if table.is_indexed() { Rows::new(table, shape.fields, &edit.upserts).map(|_| ()) } else { Ok(()) }
}

fn check_lengths(table: &TableShape, keys: &KeyColumn) -> Result<(), SearchError> {
    for key in keys.iter() {
        check_length(table, key)?;
    }
    Ok(())
}

/// Refuses a key of an indexed table that is too long for a term: tantivy would cut it, or worse.
pub(super) fn check_length(table: &TableShape, key: KeyRef<'_>) -> Result<(), SearchError> {
    match key {
        KeyRef::Encoded(key) if table.is_indexed() && key.len() > KEY_BYTES_MAX => {
            let (table, bytes) = (table.name().to_owned(), key.len());
            Err(SearchError::KeyTooLong { table, bytes, bytes_max: KEY_BYTES_MAX })
        }
        _ => Ok(()),
    }
}

impl Sink for SearchIndex {
    type Bulk = SearchBulk;
    type Reader = SearchReader;

    const KIND: SinkKind = SinkKind::Search;

    fn apply(&mut self, edits: &EditSet) -> Result<(), SinkError> {
        Ok(self.apply_edits(edits)?)
    }

    fn publish(&mut self, through: Lsn) -> Result<(), SinkError> {
        Ok(self.publish_applied(through)?)
    }

    fn checkpoint(&mut self) -> Result<Lsn, SinkError> {
        Ok(self.checkpoint_visible()?)
    }

    fn keeps(&self, table: TableId) -> bool {
        self.shape.table(table).is_ok_and(TableShape::is_indexed)
    }

    fn bulk(&self) -> Result<SearchBulk, SinkError> {
        Ok(SearchBulk::new(self)?)
    }

    fn install(&mut self, bulk: SearchBulk, through: Lsn) -> Result<(), SinkError> {
        Ok(bulk.install(self, through)?)
    }

    fn reader(&self) -> SearchReader {
        self.reader.clone()
    }

    fn visible(&self) -> Lsn {
        self.reader.view().watermark()
    }

    fn outside(&self) -> Outside {
        Outside::OnceDurable
    }

    fn watch_durable(&mut self, watch: DurableWatch) {
        self.watch = Some(watch);
    }

    fn durable(&self) -> Lsn {
        self.durable
    }

    /// Bytes are those that reached the files of segments, `meta.json` and `CURRENT`, counted where they are written;
    /// those of them that merges wrote are `bytes_rewritten`.
    fn counters(&self) -> SinkCounters {
        let [bytes_written, bytes_rewritten, files_written, fsyncs] = self.written.counts();
        SinkCounters { bytes_written, bytes_rewritten, files_written, fsyncs, ..self.counters }
    }
}

/// Columns that the index does not keep are NULL in the row, and a table that is not indexed has no rows. So an index
/// is no source for values that were not sent, unless they are text or in the key.
impl CurrentRows for SearchIndex {
    fn current_row(&self, table: TableId, key: KeyRef<'_>) -> Result<Option<Vec<Value>>, CurrentRowError> {
        self.present_row(table, key).map_err(|cause| CurrentRowError { table, cause: cause.into() })
    }
}
