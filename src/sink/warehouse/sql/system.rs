//! What the warehouse knows of itself: the schema `freshbench` with `versions` and `segments`.

use super::super::Version;
use super::super::columns::key_text;
use super::super::manifest::KeyText;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::MemTable;
use std::sync::Arc;

/// The schema's name.
pub(super) const SCHEMA: &str = "freshbench";
/// Its tables.
pub(super) const NAMES: [&str; 2] = ["segments", "versions"];

/// The schema's tables, for one version.
pub(super) fn tables(version: &Version) -> Result<MemorySchemaProvider> {
    let schema = MemorySchemaProvider::new();
    for (name, batch) in NAMES.into_iter().zip([segments(version)?, versions(version)?]) {
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
        schema.register_table(name.to_owned(), Arc::new(table))?;
    }
    Ok(schema)
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// One row a table of each version: `commit`, `watermark`, `committed_at`, `table`, `rows`.
///
/// The open version alone, whose folder's commit is not in it: `commit` and `committed_at` are NULL. Kept versions go here.
fn versions(version: &Version) -> Result<RecordBatch> {
    let names = version.catalog().tables.iter().map(|table| Some(table.name.as_str()));
    let tables = version.tables.len();
    let rows = version.tables.iter().map(|table| count(table.rows));
    let columns: [(&str, ArrayRef, bool); 5] = [
        ("commit", Arc::new(Int64Array::new_null(tables)), true),
        ("watermark", Arc::new(Int64Array::from_value(count(version.watermark().0), tables)), false),
        ("committed_at", Arc::new(TimestampMicrosecondArray::new_null(tables).with_timezone("UTC")), true),
        ("table", Arc::new(names.collect::<StringArray>()), false),
        ("rows", Arc::new(Int64Array::from_iter_values(rows)), false),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// One row a segment of the open version; rows that are in no segment yet have no `file`, `bytes` and keys.
///
/// Keys are integers, or the order-preserving encoding in hexadecimal.
fn segments(version: &Version) -> Result<RecordBatch> {
    let (mut names, mut files, mut low, mut high) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut rows, mut dead, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    let external = |error| DataFusionError::External(Box::new(error));
    for table in &version.tables {
        for slot in &table.slots {
            let segment = slot.chunk.segment();
            names.push(Some(table.shape.name()));
            rows.push(count(slot.chunk.rows as u64));
            dead.push(count(slot.deleted.count() as u64));
            bytes.push(segment.map(|segment| count(segment.bytes)));
            files.push(segment.and_then(|segment| Some(segment.path.file_name()?.to_string_lossy().into_owned())));
            let keys = segment.map(|_| slot.chunk.key_range()).transpose().map_err(external)?;
            low.push(keys.and_then(|(low, _)| words(low)));
            high.push(keys.and_then(|(_, high)| words(high)));
        }
    }
    let columns: [(&str, ArrayRef, bool); 7] = [
        ("table", Arc::new(StringArray::from(names)), false),
        ("file", Arc::new(StringArray::from(files)), true),
        ("rows", Arc::new(Int64Array::from(rows)), false),
        ("dead_rows", Arc::new(Int64Array::from(dead)), false),
        ("bytes", Arc::new(Int64Array::from(bytes)), true),
        ("key_min", Arc::new(StringArray::from(low)), true),
        ("key_max", Arc::new(StringArray::from(high)), true),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

fn words(key: &KeyText) -> Option<String> {
    key.key().map(|key| key_text(key.as_ref()))
}
