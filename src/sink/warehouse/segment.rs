//! Segments: the rows of one chunk as a Parquet file of one row group, written once and never changed.
//!
//! Rows are decoded from bytes whose hash was checked, and from no others: a segment is read whole, checked against the
//! manifest's hash of the file, and decoded from that very memory.

use super::columns::{IntegerColumn, TableShape};
use super::counters::Written;
use super::damage;
use super::manifest::{SegmentEntry, hash_of};
use super::{WarehouseError, WarehouseOptions};
use crate::storage::{Mistake, ReadFile, SegmentFile, Storage};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};
use arrow_select::concat::concat_batches;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// One Parquet file. When the last user of an obsolete segment lets go of it, the file is removed.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: u64,
    pub(super) path: PathBuf,
    pub(super) rows: usize,
    pub(super) bytes: u64,
    /// Bytes that the rows take in memory; 0 is not known.
    pub(super) row_bytes: u64,
    pub(super) hash: u128,
    /// Hashes of its blocks, to say where damage is; see [`damage`]. Empty for a segment of format 1.
    pub(super) blocks: String,
    /// Kept open by readers beside the writer, which may remove the file meanwhile: an open file stays readable.
    file: Option<Box<dyn ReadFile>>,
    storage: Arc<dyn Storage>,
    obsolete: AtomicBool,
}

impl Segment {
    /// The segment that a manifest's entry names; nothing is looked at but the entry.
    pub(super) fn of_entry(
        storage: &Arc<dyn Storage>,
        dir: &Path,
        entry: &SegmentEntry,
    ) -> Result<Segment, WarehouseError> {
        let path = segment_path(dir, entry.file);
        let nonsense = || WarehouseError::corrupt(&path, "the manifest's entry for it makes no sense");
        if entry.rows > u64::from(u32::MAX) || entry.key_min.key().is_none() || entry.key_max.key().is_none() {
            return Err(nonsense());
        }
        Ok(Segment {
            id: entry.file,
            rows: entry.rows as usize,
            bytes: entry.bytes,
            row_bytes: entry.row_bytes,
            hash: hash_of(&entry.hash).ok_or_else(nonsense)?,
            blocks: entry.blocks.clone(),
            file: None,
            storage: storage.clone(),
            obsolete: AtomicBool::new(false),
            path,
        })
    }

    /// Looks whether the file is there and as long as it should be. With `hold` it stays open from then on.
    pub(super) fn check_length(&mut self, hold: bool) -> Result<(), WarehouseError> {
        let file = self.open().map_err(|error| match error {
            WarehouseError::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
                WarehouseError::corrupt(&self.path, "the manifest names it, and it is missing")
            }
            other => other,
        })?;
        self.compare_length(&*file)?;
        self.file = hold.then_some(file);
        Ok(())
    }

    fn compare_length(&self, file: &dyn ReadFile) -> Result<(), WarehouseError> {
        let length = file.bytes().map_err(WarehouseError::io("read", &self.path))?;
        if length == self.bytes {
            return Ok(());
        }
        let what = format!("it has {length} bytes, and the manifest says {}", self.bytes);
        Err(WarehouseError::corrupt_at(&self.path, length.min(self.bytes), what))
    }

    /// The file goes when nobody uses it any more. Only for segments that no manifest on disk names; one that will name it
    /// calls [`Segment::keep`] before it is there.
    pub(super) fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }

    /// The file stays: a manifest names it.
    pub(super) fn keep(&self) {
        self.obsolete.store(false, Ordering::Release);
    }

    fn open(&self) -> Result<Box<dyn ReadFile>, WarehouseError> {
        self.storage.open(&self.path).map_err(WarehouseError::io("open", &self.path))
    }

    /// The whole file, its length and hash checked.
    pub(super) fn content(&self) -> Result<Bytes, WarehouseError> {
        let opened;
        let file = match &self.file {
            Some(file) => file,
            None => {
                opened = self.open()?;
                &opened
            }
        };
        self.compare_length(&**file)?;
        let mut content = vec![0; usize::try_from(self.bytes).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut content, 0).map_err(WarehouseError::io("read", &self.path))?;
        let content = Bytes::from(content);
        if xxh3_128(&content) != self.hash {
            return Err(damage::of_segment(&self.path, &content, &self.blocks));
        }
        Ok(content)
    }

    /// Checks the file against the length and the hash that the manifest has.
    pub(super) fn verify(&self) -> Result<(), WarehouseError> {
        self.content().map(|_| ())
    }

    /// Reads the rows, or only the columns in `projection` (ascending); the file's hash is checked first.
    pub(super) fn read(&self, shape: &TableShape, projection: Option<&[usize]>) -> Result<RecordBatch, WarehouseError> {
        let content = self.content()?;
        let place = self.path.display();
        let mut builder = ParquetRecordBatchReaderBuilder::try_new(content)
            .map_err(WarehouseError::columnar("read the footer of", &place))?
            .with_batch_size(self.rows.max(1));
        let mut schema = shape.arrow.clone();
        if let Some(columns) = projection {
            let mask = ProjectionMask::roots(builder.parquet_schema(), columns.iter().copied());
            builder = builder.with_projection(mask);
            let fields: Vec<_> = columns.iter().filter_map(|&at| shape.arrow.fields().get(at).cloned()).collect();
            schema = Arc::new(Schema::new(fields));
        }
        let reader = builder.build().map_err(WarehouseError::columnar("read", &place))?;
        let mut batches = Vec::new();
        for batch in reader {
            let batch = batch.map_err(WarehouseError::columnar("decode", &place))?;
            let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec())
                .map_err(WarehouseError::columnar("fit to its table", &place))?;
            batches.push(batch);
        }
        let whole = match batches.as_slice() {
            [one] => one.clone(),
            many => concat_batches(&schema, many).map_err(WarehouseError::columnar("join the batches of", &place))?,
        };
        if whole.num_rows() != self.rows {
            let what = format!("it has {} rows, and the manifest says {}", whole.num_rows(), self.rows);
            return Err(WarehouseError::corrupt(&self.path, what));
        }
        Ok(whole)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            // What can't be removed now is removed as an orphan when the warehouse is opened next.
            let _ = self.storage.remove(&self.path);
        }
    }
}

pub(super) fn segment_path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("segment-{id:010}.parquet"))
}

/// Writes `batch` as segment `id` in `dir` and makes the file durable. The folder's entry is not durable yet.
pub(super) fn write_segment(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    id: u64,
    shape: &TableShape,
    batch: &RecordBatch,
    options: &WarehouseOptions,
    written: &Written,
) -> Result<Segment, WarehouseError> {
    let path = segment_path(dir, id);
    let file = storage.create_new(&path).map_err(WarehouseError::io("create", &path))?;
    let durably = !storage.plants(Mistake::ManifestBeforeData);
    match encode(file, &path, shape, batch, options, durably) {
        Ok((bytes, hash, blocks)) => {
            written.file(bytes);
            let (rows, storage, obsolete) = (batch.num_rows(), storage.clone(), AtomicBool::new(false));
            let row_bytes = batch.get_array_memory_size() as u64;
            Ok(Segment { id, path, rows, bytes, row_bytes, hash, blocks, file: None, storage, obsolete })
        }
        Err(error) => {
            let _ = storage.remove(&path);
            Err(error)
        }
    }
}

/// Writes the file; gives its length, its hash and those of its blocks.
fn encode(
    file: Box<dyn SegmentFile>,
    path: &Path,
    shape: &TableShape,
    batch: &RecordBatch,
    options: &WarehouseOptions,
    durably: bool,
) -> Result<(u64, u128, String), WarehouseError> {
    let place = path.display();
    let out = HashingWriter { file, hash: Xxh3::new(), blocks: damage::BlockHasher::default(), bytes: 0, failed: None };
    let mut writer = ArrowWriter::try_new(out, shape.arrow.clone(), Some(properties(shape, batch, options)))
        .map_err(WarehouseError::columnar("begin", &place))?;
    let outcome = writer.write(batch).and_then(|()| writer.finish().map(|_| ()));
    let out = writer.inner_mut();
    if let Err(error) = outcome {
        // The writer wraps what the system said; the plain error has the better remedy.
        return Err(match out.failed.take() {
            Some(cause) => WarehouseError::io("write", path)(cause),
            None => WarehouseError::columnar("write", &place)(error),
        });
    }
    if durably {
        out.file.sync().map_err(WarehouseError::io("make durable", path))?;
    }
    Ok((out.bytes, out.hash.digest128(), std::mem::take(&mut out.blocks).finish()))
}

fn properties(shape: &TableShape, batch: &RecordBatch, options: &WarehouseOptions) -> WriterProperties {
    let level = ZstdLevel::try_new(options.zstd_level).unwrap_or_default();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(batch.num_rows().max(1)));
    for (index, column) in shape.schema.columns.iter().enumerate() {
        let path = ColumnPath::new(vec![column.name.clone()]);
        let integers = matches!(shape.arrow.field(index).data_type(), DataType::Int64 | DataType::Timestamp(_, _));
        // A dictionary of values that hardly repeat is built only to be given up.
        if batch.columns().get(index).is_some_and(all_different) {
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
            if integers {
                properties = properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            }
        }
    }
    properties.build()
}

/// Whether a sample of the integers or texts has (nearly) no value twice.
fn all_different(column: &ArrayRef) -> bool {
    const SAMPLE: usize = 256;
    fn distinct<T: Ord>(mut sample: Vec<T>) -> bool {
        let all = sample.len();
        sample.sort_unstable();
        sample.dedup();
        all >= SAMPLE / 2 && sample.len() * 20 >= all * 19
    }
    let step = (column.len() / SAMPLE).max(1);
    if let Some(IntegerColumn::Wide(values)) = IntegerColumn::of(column) {
        return distinct(values.iter().step_by(step).take(SAMPLE).collect());
    }
    match column.as_any().downcast_ref::<StringArray>() {
        Some(text) => distinct(text.iter().step_by(step).take(SAMPLE).flatten().collect()),
        None => false,
    }
}

/// Counts and hashes what is written, and keeps the system's own error.
struct HashingWriter {
    file: Box<dyn SegmentFile>,
    hash: Xxh3,
    blocks: damage::BlockHasher,
    bytes: u64,
    failed: Option<io::Error>,
}

impl Write for HashingWriter {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.file.append(piece).map_err(|error| self.keep(error))?;
        self.hash.update(piece);
        self.blocks.update(piece);
        self.bytes += piece.len() as u64;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl HashingWriter {
    fn keep(&mut self, error: io::Error) -> io::Error {
        self.failed = Some(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::from(error.kind()),
        });
        error
    }
}
