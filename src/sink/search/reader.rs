//! Readers: a handle that gives the newest view.

use super::SearchError;
use super::current::{Current, check_generation, generation_path};
use super::directory::{generation_of, watermark_of};
use super::shape::Shape;
use super::view::SearchView;
use crate::model::Lsn;
use arc_swap::ArcSwap;
use std::path::Path;
use std::sync::Arc;
use tantivy::directory::MmapDirectory;
use tantivy::{Index, IndexReader, ReloadPolicy};

/// How often an opening starts over when the writer replaced files under its hands.
const ATTEMPTS: usize = 20;

/// Gives the newest published [`SearchView`]. Clones are cheap and may go to other threads.
#[derive(Clone, Debug)]
pub struct SearchReader {
    pub(super) current: Arc<ArcSwap<SearchView>>,
}

impl SearchReader {
    pub(super) fn new(view: SearchView) -> SearchReader {
        SearchReader { current: Arc::new(ArcSwap::from_pointee(view)) }
    }

    /// Opens a folder to read its last checkpoint, also while another process writes to it: needs not the writer's lock,
    /// and stays at the version it found. To see a newer one, open it again.
    ///
    /// # Errors
    /// When there is no index, a file is missing or damaged, or the format is newer than this build.
    pub fn open(dir: &Path) -> Result<SearchReader, SearchError> {
        let mut attempt = 1;
        loop {
            match open_view(dir) {
                Ok(view) => return Ok(SearchReader::new(view)),
                Err(error @ (SearchError::Io { .. } | SearchError::Engine { .. })) if attempt >= ATTEMPTS => {
                    return Err(error);
                }
                // A checkpoint or a new generation may remove a file between the reading of its name and its opening.
                Err(SearchError::Io { .. } | SearchError::Engine { .. }) => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The newest view. It stays as it is for as long as it is held, and so do its files.
    pub fn view(&self) -> Arc<SearchView> {
        self.current.load_full()
    }
}

fn open_view(dir: &Path) -> Result<SearchView, SearchError> {
    let current = Current::read(dir)?;
    let shape = Arc::new(Shape::new(&current.catalog)?);
    let dir = generation_path(dir, current.generation);
    let meta_path = dir.join("meta.json");
    let read = || std::fs::read(&meta_path).map_err(SearchError::io("read", &meta_path));
    let meta = read()?;
    check_generation(&dir, generation_of(&meta).map_err(SearchError::io("read", &meta_path))?)?;
    let directory =
        MmapDirectory::open(&dir).map_err(|error| SearchError::engine("open the index in", &dir)(error.into()))?;
    let index = Index::open(directory).map_err(SearchError::engine("open the index in", &dir))?;
    let reader: IndexReader = index
        .reader_builder()
        .reload_policy(ReloadPolicy::Manual)
        .try_into()
        .map_err(SearchError::engine("read", &dir))?;
    // The documents must be those of the watermark: if the writer was in between, start over.
    if read()? != meta {
        let changed = std::io::Error::from(std::io::ErrorKind::Interrupted);
        return Err(SearchError::io("read an index that changes", &dir)(changed));
    }
    let watermark = watermark_of(&meta).map_err(SearchError::io("read the watermark of", &dir))?;
    Ok(SearchView::new(Lsn(watermark), reader.searcher(), shape, &dir))
}
