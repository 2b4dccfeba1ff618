//! Which columns of which tables are kept, and the fields of a document.

use super::SearchError;
use crate::model::{Catalog, ColumnType, TableId, TableSchema};
use tantivy::schema::{BytesOptions, Field, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};

/// The tables as the index sees them.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) catalog: Catalog,
    pub(super) tables: Vec<TableShape>,
    pub(super) fields: Fields,
    pub(super) schema: Schema,
}

/// A document's fields. Their names are numbers, so no identifier from outside gets near tantivy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields {
    /// Raw terms: the table's, and the key's.
    pub(super) terms: Field,
    /// The words of all text columns.
    pub(super) words: Field,
    /// The stored row.
    pub(super) row: Field,
}

/// One table as the index sees it.
#[derive(Clone, Debug)]
pub(super) struct TableShape {
    pub(super) id: TableId,
    pub(super) schema: TableSchema,
    /// The columns that are kept, as places among the table's columns, ascending. Empty when the table is not indexed.
    pub(super) kept: Vec<usize>,
    /// Which of `kept` are searched by word.
    pub(super) words: Vec<usize>,
    /// The key's columns as places among `kept`, in key order.
    pub(super) key: Vec<usize>,
}

impl TableShape {
    fn new(id: TableId, schema: &TableSchema) -> Result<TableShape, SearchError> {
        schema.check().map_err(|error| SearchError::mismatch(&schema.name, error.to_string()))?;
        let columns = || schema.columns.iter().enumerate();
        let is_words = |place: usize, column_type| column_type == ColumnType::Text && !schema.key.contains(&place);
        let indexed = columns().any(|(place, column)| is_words(place, column.column_type));
        let is_kept = |place: usize, column_type| schema.key.contains(&place) || is_words(place, column_type);
        let kept: Vec<usize> = columns()
            .filter(|&(place, column)| indexed && is_kept(place, column.column_type))
            .map(|(place, _)| place)
            .collect();
        let key = schema.key.iter().filter_map(|place| kept.iter().position(|other| other == place)).collect();
        let words = kept.iter().enumerate().filter(|(_, place)| !schema.key.contains(place)).map(|(at, _)| at);
        Ok(TableShape { id, schema: schema.clone(), words: words.collect(), key, kept })
    }

    pub(super) fn is_indexed(&self) -> bool {
        !self.kept.is_empty()
    }

    pub(super) fn name(&self) -> &str {
        &self.schema.name
    }
}

impl Shape {
    pub(super) fn new(catalog: &Catalog) -> Result<Shape, SearchError> {
        let tables = catalog.iter().map(|(id, schema)| TableShape::new(id, schema)).collect::<Result<_, _>>()?;
        let mut schema = Schema::builder();
        let words = TextFieldIndexing::default()
            .set_tokenizer("default")
            .set_index_option(IndexRecordOption::WithFreqsAndPositions);
        let fields = Fields {
            terms: schema.add_bytes_field("0", BytesOptions::default().set_indexed()),
            words: schema.add_text_field("1", TextOptions::default().set_indexing_options(words)),
            row: schema.add_bytes_field("2", BytesOptions::default().set_stored()),
        };
        Ok(Shape { catalog: catalog.clone(), tables, fields, schema: schema.build() })
    }

    pub(super) fn table(&self, table: TableId) -> Result<&TableShape, SearchError> {
        self.tables.get(table.index()).ok_or(SearchError::NoTable { table: table.0 })
    }
}
