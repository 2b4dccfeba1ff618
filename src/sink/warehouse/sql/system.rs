//! What the warehouse knows of itself: the schema `freshbench` with `versions` and `segments`.

use super::super::manifest::KeyText;
use super::super::{Version, VersionInfo};
use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::MemTable;
use std::sync::Arc;

/// The schema's name.
pub(super) const SCHEMA: &str = "freshbench";
/// Its tables.
pub(super) const NAMES: [&str; 2] = ["segments", "versions"];

/// The schema's tables, for one version; `known` are all that can be opened.
pub(super) fn tables(version: &Version, known: &[VersionInfo]) -> Result<MemorySchemaProvider> {
    let schema = MemorySchemaProvider::new();
    for (name, batch) in NAMES.into_iter().zip([segments(version)?, versions(known)?]) {
        let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
        schema.register_table(name.to_owned(), Arc::new(table))?;
    }
    Ok(schema)
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// One row a version that can be opened, the open one among them: `commit`, `watermark`, `committed_at` (NULL if an older build
/// wrote it), `rows` (live, of all tables), `bytes` (of its files; versions share files), `is_current` (the newest).
fn versions(known: &[VersionInfo]) -> Result<RecordBatch> {
    let whole = |of: fn(&VersionInfo) -> u64| Int64Array::from_iter_values(known.iter().map(|info| count(of(info))));
    let committed: TimestampMicrosecondArray = known.iter().map(|info| info.committed_at_us).collect();
    let current: BooleanArray = known.iter().map(|info| Some(info.is_current)).collect();
    let columns: [(&str, ArrayRef, bool); 6] = [
        ("commit", Arc::new(whole(|info| info.commit)), false),
        ("watermark", Arc::new(whole(|info| info.watermark.0)), false),
        ("committed_at", Arc::new(committed.with_timezone("UTC")), true),
        ("rows", Arc::new(whole(|info| info.rows)), false),
        ("bytes", Arc::new(whole(|info| info.bytes)), false),
        ("is_current", Arc::new(current), false),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// One row a segment of the open version; rows that are in no segment yet have no `file`, `bytes` and keys.
///
/// Keys are shown as their values, in key order.
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
    key.key().map(|key| key.as_ref().describe())
}
