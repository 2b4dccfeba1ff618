//! Segments: the rows of one chunk as a Parquet file of one row group, written once and never changed.

use super::columns::{IntegerColumn, TableShape};
use super::counters::Written;
use super::{WarehouseError, WarehouseOptions};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Schema};
use arrow_select::concat::concat_batches;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use xxhash_rust::xxh3::Xxh3;

/// One Parquet file. When the last user of an obsolete segment lets go of it, the file is removed.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: u64,
    pub(super) path: PathBuf,
    pub(super) rows: usize,
    pub(super) bytes: u64,
    pub(super) hash: u128,
    /// Kept open by readers in other processes, so that the writer may remove the file meanwhile.
    pub(super) file: Option<File>,
    obsolete: AtomicBool,
    /// Clones of one open file share its position: one thread reads at a time.
    reading: Mutex<()>,
}

impl Segment {
    pub(super) fn new(dir: &Path, id: u64, rows: usize, bytes: u64, hash: u128) -> Segment {
        Segment {
            id,
            path: segment_path(dir, id),
            rows,
            bytes,
            hash,
            file: None,
            obsolete: AtomicBool::new(false),
            reading: Mutex::new(()),
        }
    }

    /// The file goes when nobody uses it any more. Only for segments that no manifest on disk names.
    pub(super) fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }

    /// The file stays: a manifest names it.
    pub(super) fn keep(&self) {
        self.obsolete.store(false, Ordering::Release);
    }

    fn open(&self) -> Result<File, WarehouseError> {
        match &self.file {
            Some(file) => file.try_clone().map_err(WarehouseError::io("open", &self.path)),
            None => File::open(&self.path).map_err(WarehouseError::io("open", &self.path)),
        }
    }

    /// Checks the file against the length and the hash that the manifest has.
    pub(super) fn verify(&self) -> Result<(), WarehouseError> {
        let _one_reader = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.check()
    }

    fn check(&self) -> Result<(), WarehouseError> {
        let mut file = self.open()?;
        file.rewind().map_err(WarehouseError::io("read", &self.path))?;
        let mut hash = Xxh3::new();
        let (mut buffer, mut bytes) = (vec![0; 1 << 18], 0);
        loop {
            let count = file.read(&mut buffer).map_err(WarehouseError::io("read", &self.path))?;
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
            hash.update(piece);
            bytes += piece.len() as u64;
        }
        if bytes != self.bytes {
            let what = format!("it has {bytes} bytes, and the manifest says {}", self.bytes);
            return Err(WarehouseError::corrupt(&self.path, what));
        }
        if hash.digest128() != self.hash {
            return Err(WarehouseError::corrupt(&self.path, "its hash is not the one in the manifest"));
        }
        Ok(())
    }

    /// Reads the rows, or only the columns in `projection` (ascending); the file's hash is checked first.
    pub(super) fn read(&self, shape: &TableShape, projection: Option<&[usize]>) -> Result<RecordBatch, WarehouseError> {
        let _one_reader = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.check()?;
        let place = self.path.display();
        let file = self.open()?;
        let mut builder = ParquetRecordBatchReaderBuilder::try_new(file)
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
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

pub(super) fn segment_path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("segment-{id:010}.parquet"))
}

/// Writes `batch` as segment `id` in `dir` and makes the file durable. The folder's entry is not durable yet.
pub(super) fn write_segment(
    dir: &Path,
    id: u64,
    shape: &TableShape,
    batch: &RecordBatch,
    options: &WarehouseOptions,
    written: &Written,
) -> Result<Segment, WarehouseError> {
    let path = segment_path(dir, id);
    let result = encode(&path, shape, batch, options);
    match result {
        Ok((bytes, hash)) => {
            written.file(bytes);
            Ok(Segment::new(dir, id, batch.num_rows(), bytes, hash))
        }
        Err(error) => {
            let _ = std::fs::remove_file(&path);
            Err(error)
        }
    }
}

fn encode(
    path: &Path,
    shape: &TableShape,
    batch: &RecordBatch,
    options: &WarehouseOptions,
) -> Result<(u64, u128), WarehouseError> {
    let file = File::create_new(path).map_err(WarehouseError::io("create", path))?;
    let place = path.display();
    let out = HashingWriter { file, hash: Xxh3::new(), bytes: 0, failed: None };
    let mut writer = ArrowWriter::try_new(out, shape.arrow.clone(), Some(properties(shape, batch, options)))
        .map_err(WarehouseError::columnar("begin", &place))?;
    let outcome = writer.write(batch).and_then(|()| writer.finish().map(|_| ()));
    if let Err(error) = outcome {
        // The writer wraps what the system said; the plain error has the better remedy.
        return Err(match writer.inner_mut().failed.take() {
            Some(cause) => WarehouseError::io("write", path)(cause),
            None => WarehouseError::columnar("write", &place)(error),
        });
    }
    let out = writer.inner();
    let (bytes, hash) = (out.bytes, out.hash.digest128());
    out.file.sync_all().map_err(WarehouseError::io("make durable", path))?;
    Ok((bytes, hash))
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
    file: File,
    hash: Xxh3,
    bytes: u64,
    failed: Option<io::Error>,
}

impl Write for HashingWriter {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let count = self.file.write(piece).map_err(|error| self.keep(error))?;
        self.hash.update(piece.get(..count).unwrap_or(piece));
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl HashingWriter {
    fn keep(&mut self, error: io::Error) -> io::Error {
        let copy = match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::from(error.kind()),
        };
        if error.kind() != io::ErrorKind::Interrupted {
            self.failed = Some(copy);
        }
        error
    }
}
