//! How a log is written, and what it counts.

use super::error::LogError;
use super::frame::{FRAME_HEADER_BYTES, PARTS_MAX};
use crate::clock::Clock;
use std::time::Duration;

/// When records are forced to the disk.
///
/// | policy | readers see a record when | after a power cut |
/// |---|---|---|
/// | `Always` | it is durable | everything that any reader saw is there |
/// | `Interval` | it is written (survives a killed process) | up to the last interval is lost |
/// | `None` | it is written | everything since the segment began may be lost |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// With every [`super::Log::sync`]: the group is written, and one fdatasync saves all of it.
    Always,
    /// With the first [`super::Log::sync`] that comes this long after the last fdatasync.
    Interval(Duration),
    /// Never, but when a segment is full: only the last segment may have a torn tail, whatever the policy.
    None,
}

/// The limits and the policy of a log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// A segment that would grow beyond this is closed and the next one begun. A record lies in one segment
    /// whole, so a record longer than this has a segment of its own, as long as the record.
    pub segment_bytes_max: u64,
    /// The longest frame, its header included. Longer records are split over several frames.
    pub record_bytes_max: u32,
    /// The longest record (transaction); what a reader may have to hold in memory. No more than 2^24 frames.
    pub transaction_bytes_max: u64,
    /// How much is appended before it is written without waiting for [`super::Log::sync`].
    pub buffer_bytes_max: usize,
    /// The most that is filled with zeros at once, ahead of the records. An fsync of a file that does not grow has less to do:
    /// on ext4 it takes a third to two thirds of the time. What is prepared is a quarter of what the segment has, and no more than it
    /// may still get; nothing while that is less than a 32nd of this, for the sake of short logs, or than four groups like the last one,
    /// since writing the zeros then costs what they spare. 0: never.
    pub prepared_bytes_max: usize,
    /// When records are forced to the disk.
    pub fsync: Fsync,
    /// The clock for [`Fsync::Interval`] and for the time that fsyncs take.
    pub clock: Clock,
}

impl Default for LogOptions {
    /// Durable always; segments of 128 MiB, frames of 1 MiB, transactions of 1 GiB, a buffer of 2 MiB, and as
    /// much prepared.
    fn default() -> LogOptions {
        LogOptions {
            segment_bytes_max: 128 << 20,
            record_bytes_max: 1 << 20,
            transaction_bytes_max: 1 << 30,
            buffer_bytes_max: 2 << 20,
            prepared_bytes_max: 2 << 20,
            fsync: Fsync::Always,
            clock: Clock::monotonic(),
        }
    }
}

/// No segment header may name a longer frame than this, so no file can make a reader allocate more.
pub(super) const RECORD_BYTES_LIMIT: u32 = 256 << 20;

impl LogOptions {
    /// What the longest frame holds beside its header.
    #[inline]
    pub(super) fn chunk_bytes(&self) -> usize {
        self.record_bytes_max as usize - FRAME_HEADER_BYTES
    }

    /// The longest record that both options allow.
    #[inline]
    pub(super) fn payload_bytes_max(&self) -> u64 {
        self.transaction_bytes_max.min(self.chunk_bytes() as u64 * u64::from(PARTS_MAX))
    }

    /// How much to prepare behind a group of `group` bytes at the end of a segment of `written` bytes.
    pub(super) fn bytes_to_prepare(&self, written: u64, group: u64) -> usize {
        let most = self.prepared_bytes_max as u64;
        let bytes = (written / 4).min(most).min(self.segment_bytes_max.saturating_sub(written));
        if bytes < most / 32 || bytes < 4 * group { 0 } else { bytes as usize }
    }

    pub(super) fn check(&self) -> Result<(), LogError> {
        let frame_least = FRAME_HEADER_BYTES as u64 + 1;
        in_range("record_bytes_max", self.record_bytes_max.into(), frame_least, RECORD_BYTES_LIMIT.into())?;
        in_range("segment_bytes_max", self.segment_bytes_max, frame_least, 1 << 40)?;
        in_range("transaction_bytes_max", self.transaction_bytes_max, 1, 1 << 40)?;
        in_range("prepared_bytes_max", self.prepared_bytes_max as u64, 0, 1 << 30)?;
        in_range("buffer_bytes_max", self.buffer_bytes_max as u64, 1, 1 << 30)
    }
}

fn in_range(option: &'static str, value: u64, least: u64, most: u64) -> Result<(), LogError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(LogError::BadOption { option, value, range: (least, most) })
    }
}

/// What the writer did since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounters {
    /// Bytes written to segment files, headers included.
    pub bytes_written: u64,
    /// Zeros written ahead of the records, see [`LogOptions::prepared_bytes_max`]; not in `bytes_written`.
    pub bytes_prepared: u64,
    /// Records appended.
    pub records: u64,
    /// Calls of fdatasync on segments.
    pub fsyncs: u64,
    /// How long they took together.
    pub fsync_total: Duration,
    /// How long the slowest took.
    pub fsync_max: Duration,
    /// Segments begun.
    pub segments_begun: u64,
    /// Segments deleted by retention.
    pub segments_deleted: u64,
}
