//! Reading the index at one version.

use super::SearchError;
use super::document::{key_bytes, key_of_row, stored_row, table_term};
use super::shape::Shape;
use crate::model::{Key, KeyRef, Lsn, TableId, Value};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tantivy::collector::{Count, TopDocs};
use tantivy::query::{BooleanQuery, Query, TermQuery};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocSet, Searcher, TERMINATED, TantivyDocument, Term};

/// The index at one watermark. It covers all tables and never changes; the files it needs stay for as long as it is
/// held.
pub struct SearchView {
    watermark: Lsn,
    searcher: Searcher,
    shape: Arc<Shape>,
    dir: PathBuf,
}

impl fmt::Debug for SearchView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (docs, segments) = (self.doc_count(), self.segment_count());
        f.debug_struct("SearchView")
            .field("watermark", &self.watermark)
            .field("docs", &docs)
            .field("segments", &segments)
            .finish_non_exhaustive()
    }
}

impl SearchView {
    pub(super) fn new(watermark: Lsn, searcher: Searcher, shape: Arc<Shape>, dir: &Path) -> SearchView {
        SearchView { watermark, searcher, shape, dir: dir.to_owned() }
    }

    /// The same documents, known to be complete through a later commit.
    pub(super) fn through(&self, watermark: Lsn) -> SearchView {
        let (searcher, shape) = (self.searcher.clone(), Arc::clone(&self.shape));
        SearchView { watermark, searcher, shape, dir: self.dir.clone() }
    }

    pub(super) fn searcher(&self) -> &Searcher {
        &self.searcher
    }

    /// Complete through this commit.
    pub fn watermark(&self) -> Lsn {
        self.watermark
    }

    /// Which columns of a table are kept: places among the output table's columns, ascending. Empty when the table is
    /// not indexed, because it has no text column outside its key, or is not there.
    pub fn columns(&self, table: TableId) -> &[usize] {
        self.shape.tables.get(table.index()).map_or(&[], |table| &table.kept)
    }

    /// How many documents of all tables are live.
    pub fn doc_count(&self) -> u64 {
        self.searcher.num_docs()
    }

    /// How many segments a search looks into.
    pub fn segment_count(&self) -> usize {
        self.searcher.segment_readers().len()
    }

    /// The stored rows of all live documents of a table: the values of [`SearchView::columns`], in no order.
    /// A row that can't be read is an error in its place.
    pub fn rows(&self, table: TableId) -> impl Iterator<Item = Result<Vec<Value>, SearchError>> + '_ {
        let term = table_term(self.shape.fields, table);
        (0..self.searcher.segment_readers().len()).flat_map(move |segment| {
            // One row that is an error, where the segment itself can't be read.
            let (found, error) = match self.addresses(segment, &term) {
                Ok(found) => (found, None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            error.into_iter().chain(found.into_iter().map(|address| self.stored(address)))
        })
    }

    /// How many live documents a query for the key's term finds: 1 for a row that is there, 0 for one that is not.
    ///
    /// # Errors
    /// When the index can't be read.
    pub fn hits(&self, table: TableId, key: KeyRef<'_>) -> Result<u64, SearchError> {
        let term = Term::from_field_bytes(self.shape.fields.terms, &key_bytes(table, key));
        let query = TermQuery::new(term, IndexRecordOption::Basic);
        let count = self.searcher.search(&query, &Count).map_err(SearchError::engine("search", &self.dir))?;
        Ok(count as u64)
    }

    /// The stored row of a key: the values of [`SearchView::columns`].
    ///
    /// # Errors
    /// When the index can't be read.
    pub fn row(&self, table: TableId, key: KeyRef<'_>) -> Result<Option<Vec<Value>>, SearchError> {
        let term = Term::from_field_bytes(self.shape.fields.terms, &key_bytes(table, key));
        for segment in 0..self.searcher.segment_readers().len() {
            if let Some(&address) = self.addresses(segment, &term)?.first() {
                return self.stored(address).map(Some);
            }
        }
        Ok(None)
    }

    /// The rows that have all the words of `text` in their text columns, best first (BM25), at most `limit`.
    /// Words are what stands between characters that are neither letter nor digit, without regard to case; none longer
    /// than 39 bytes is found.
    ///
    /// # Errors
    /// When the index can't be read.
    pub fn search(&self, text: &str, limit: usize) -> Result<Vec<(TableId, Key)>, SearchError> {
        let limit = limit.min(usize::try_from(self.doc_count()).unwrap_or(usize::MAX));
        let Some(query) = self.words_query(text)? else { return Ok(Vec::new()) };
        if limit == 0 {
            return Ok(Vec::new());
        }
        let best = TopDocs::with_limit(limit).order_by_score();
        let found = self.searcher.search(&query, &best).map_err(SearchError::engine("search", &self.dir))?;
        let keys = found.into_iter().map(|(_, address)| {
            let (table, values) = self.stored_of(address)?;
            Ok((table, key_of_row(self.shape.table(table)?, &values)?))
        });
        keys.collect()
    }

    /// How many rows [`SearchView::search`] would find without a limit.
    ///
    /// # Errors
    /// When the index can't be read.
    pub fn count_matches(&self, text: &str) -> Result<u64, SearchError> {
        let Some(query) = self.words_query(text)? else { return Ok(0) };
        let count = self.searcher.search(&query, &Count).map_err(SearchError::engine("search", &self.dir))?;
        Ok(count as u64)
    }

    /// A query for all the words of a text, `None` when it has none. The text is data: it has no operators.
    fn words_query(&self, text: &str) -> Result<Option<BooleanQuery>, SearchError> {
        let field = self.shape.fields.words;
        let tokenizer = self.searcher.index().tokenizer_for_field(field);
        let mut tokenizer = tokenizer.map_err(SearchError::engine("search", &self.dir))?;
        let mut words = Vec::new();
        tokenizer.token_stream(text).process(&mut |token| words.push(token.text.clone()));
        words.sort_unstable();
        words.dedup();
        let query = |word: &String| -> Box<dyn Query> {
            Box::new(TermQuery::new(Term::from_field_text(field, word), IndexRecordOption::WithFreqs))
        };
        let words: Vec<Box<dyn Query>> = words.iter().map(query).collect();
        Ok(if words.is_empty() { None } else { Some(BooleanQuery::intersection(words)) })
    }

    /// The live documents of a segment that have a term.
    fn addresses(&self, segment: usize, term: &Term) -> Result<Vec<DocAddress>, SearchError> {
        let mut found = Vec::new();
        let Some(reader) = self.searcher.segment_readers().get(segment) else { return Ok(found) };
        let index = reader.inverted_index(term.field()).map_err(SearchError::engine("read", &self.dir))?;
        let postings = index.read_postings(term, IndexRecordOption::Basic);
        if let Some(mut postings) = postings.map_err(SearchError::io("read", &self.dir))? {
            let mut doc = postings.doc();
            while doc != TERMINATED {
                if !reader.is_deleted(doc) {
                    found.push(DocAddress::new(segment as u32, doc));
                }
                doc = postings.advance();
            }
        }
        Ok(found)
    }

    fn stored(&self, address: DocAddress) -> Result<Vec<Value>, SearchError> {
        self.stored_of(address).map(|(_, values)| values)
    }

    fn stored_of(&self, address: DocAddress) -> Result<(TableId, Vec<Value>), SearchError> {
        let document: TantivyDocument =
            self.searcher.doc(address).map_err(SearchError::engine("read a document of", &self.dir))?;
        stored_row(&document, self.shape.fields, &self.dir)
    }
}
