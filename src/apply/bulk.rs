//! Rows of a bulk load become record batches of a fixed number of rows.

use crate::model::ValueRef;
use crate::transform::{Kept, RowBuilders, TableTransform, TransformError};
use arrow_array::RecordBatch;

/// A batch ends at the row that reaches so many bytes, though it might take more rows: large values would make it gigabytes.
const BATCH_BYTES_MAX: usize = 32 << 20;

/// Cuts a stream of source rows into transformed batches of `rows_per_batch` rows, fewer where they are wide (the last may
/// have fewer in any case).
#[derive(Debug)]
pub struct BatchStream {
    builders: RowBuilders,
    rows_per_batch: usize,
    bytes_per_batch: usize,
    bytes: usize,
    read: u64,
    kept: u64,
}

impl BatchStream {
    /// A stream for the rows of one table. `rows_per_batch` of 0 counts as 1.
    pub fn new(transform: &TableTransform, rows_per_batch: usize) -> BatchStream {
        let rows_per_batch = rows_per_batch.max(1);
        BatchStream {
            builders: transform.builders(rows_per_batch),
            rows_per_batch,
            bytes_per_batch: BATCH_BYTES_MAX,
            bytes: 0,
            read: 0,
            kept: 0,
        }
    }

    /// The same stream with batches that end at other sizes.
    #[must_use]
    pub fn with_batch_bytes(self, bytes_per_batch: usize) -> BatchStream {
        BatchStream { bytes_per_batch, ..self }
    }

    /// Adds a source row; gives a batch when it is full.
    ///
    /// # Errors
    /// [`TransformError`] naming table, column and key; the stream can't be used after it.
    pub fn push(&mut self, row: &[ValueRef<'_>]) -> Result<Option<RecordBatch>, TransformError> {
        self.read += 1;
        if self.builders.push(row)? == Kept::Yes {
            self.kept += 1;
            self.bytes += row.iter().map(|value| value.width_bytes() as usize).sum::<usize>();
        }
        if self.builders.len() < self.rows_per_batch && self.bytes < self.bytes_per_batch {
            return Ok(None);
        }
        self.bytes = 0;
        self.builders.finish().map(Some)
    }

    /// The rows that are left, if any.
    ///
    /// # Errors
    /// [`TransformError::Poisoned`] after an error of [`BatchStream::push`].
    pub fn finish(&mut self) -> Result<Option<RecordBatch>, TransformError> {
        let batch = self.builders.finish()?;
        Ok((batch.num_rows() > 0).then_some(batch))
    }

    /// Source rows read so far.
    pub fn rows_read(&self) -> u64 {
        self.read
    }

    /// Rows kept so far: read and not filtered out.
    pub fn rows_kept(&self) -> u64 {
        self.kept
    }
}
