//! Readers: whole records, in order, from any offset.

use super::cursor::{Found, FrameCursor};
use super::error::LogError;
use super::frame::{FrameHead, flag};
use super::shared::{Opened, Shared};
use super::{Offset, RecordKind, RecordRef};
use crate::model::{ChangeBuf, CommitTime, Lsn, Transaction};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Reads the visible records of a log in order, whole ones only.
///
/// A record's payload is borrowed from the reader's buffer of 256 KiB (or the longest frame met) without a copy; a
/// record split over frames is put together in a second buffer of at most `transaction_bytes_max`. Every frame's
/// checksum is checked as it is read. A segment that retention deletes while a reader is in it stays readable to that
/// reader until its end.
#[derive(Debug)]
pub struct LogReader {
    shared: Arc<Shared>,
    /// The offset to be delivered next.
    next: u64,
    cursor: Option<FrameCursor>,
    assembled: Vec<u8>,
    bytes_read: u64,
}

/// Where the payload of the record just read lies.
enum Payload {
    InFrame(Range<usize>),
    Assembled,
}

impl LogReader {
    pub(super) fn open(shared: Arc<Shared>, from: Offset) -> Result<LogReader, LogError> {
        let mut reader = LogReader { shared, next: from.0, cursor: None, assembled: Vec::new(), bytes_read: 0 };
        reader.open_segment()?;
        Ok(reader)
    }

    /// The offset of the record that [`LogReader::next`] gives next.
    pub fn next_offset(&self) -> Offset {
        Offset(self.next)
    }

    /// Bytes read from segment files.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read + self.cursor.as_ref().map_or(0, |cursor| cursor.bytes_read)
    }

    /// Blocks until there is more to read, at most for `timeout`. False: the time is up, or the writer is gone and
    /// nothing is left ([`LogReader::is_closed`] tells the two apart).
    pub fn wait(&self, timeout: Duration) -> bool {
        self.shared.wait(self.next, timeout)
    }

    /// Whether the writer is gone: when nothing is left to read, nothing more will come.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// The next visible record; `None` when all are read (for now). It is borrowed until the next call.
    ///
    /// # Errors
    /// [`LogError::Damaged`] naming file and byte; the reader stays there. [`LogError::BelowRetention`] when the record
    /// was deleted before this reader came to it. [`LogError::TooLong`], [`LogError::Io`].
    #[expect(clippy::should_implement_trait, reason = "an Iterator can't lend from the reader's buffer")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<RecordRef<'_>>, LogError> {
        let Some((head, payload)) = self.advance()? else { return Ok(None) };
        let payload = match payload {
            Payload::InFrame(at) => self.cursor.as_ref().map(|cursor| cursor.payload(at)).unwrap_or_default(),
            Payload::Assembled => &self.assembled,
        };
        Ok(Some(RecordRef {
            offset: Offset(head.offset),
            lsn: Lsn(head.lsn),
            committed_at: CommitTime(head.committed_at),
            kind: if head.flags & flag::NOTE == 0 { RecordKind::Transaction } else { RecordKind::Note },
            payload,
        }))
    }

    /// The next visible transaction; records of other kinds are passed over.
    ///
    /// # Errors
    /// As for [`LogReader::next`], and [`LogError::NotATransaction`]; the record is then passed over.
    pub fn next_transaction(&mut self) -> Result<Option<(Offset, Transaction)>, LogError> {
        let mut transaction = Transaction::default();
        Ok(self.next_transaction_into(&mut transaction)?.map(|offset| (offset, transaction)))
    }

    /// As [`LogReader::next_transaction`], but overwrites `transaction` and uses its memory again. On `None` and on an
    /// error it holds nothing of worth.
    ///
    /// # Errors
    /// As for [`LogReader::next_transaction`].
    #[inline]
    pub fn next_transaction_into(&mut self, transaction: &mut Transaction) -> Result<Option<Offset>, LogError> {
        loop {
            let Some(record) = self.next()? else { return Ok(None) };
            if record.kind == RecordKind::Transaction {
                let offset = record.offset;
                return match fill(transaction, record) {
                    Ok(()) => Ok(Some(offset)),
                    Err(source) => Err(LogError::NotATransaction { offset, source }),
                };
            }
        }
    }

    #[inline]
    fn advance(&mut self) -> Result<Option<(FrameHead, Payload)>, LogError> {
        if self.next >= self.shared.visible() {
            return Ok(None);
        }
        loop {
            let Some(cursor) = &mut self.cursor else {
                self.open_segment()?;
                continue;
            };
            match cursor.next_frame()? {
                Found::Frame(head, _) if head.offset < self.next => {}
                Found::Frame(head, at) if !head.is_continued() && head.part == 0 => {
                    self.next = head.offset + 1;
                    return Ok(Some((head, Payload::InFrame(at))));
                }
                Found::Frame(head, at) => {
                    if head.part == 0 {
                        self.assembled.clear();
                    }
                    let bytes = self.assembled.len() as u64 + at.len() as u64;
                    let bytes_max = self.shared.transaction_bytes_max;
                    if bytes > bytes_max {
                        self.cursor = None;
                        return Err(LogError::TooLong { bytes, bytes_max, option: "transaction_bytes_max" });
                    }
                    self.assembled.extend_from_slice(cursor.payload(at));
                    if !head.is_continued() {
                        self.next = head.offset + 1;
                        return Ok(Some((head, Payload::Assembled)));
                    }
                }
                Found::End => self.go_on()?,
                Found::Bad(bad) => return Err(LogError::damaged(&cursor.path, cursor.position(), bad.what())),
            }
        }
    }

    /// At the end of what was visible of the segment, though more is visible by now: it has grown, or another follows.
    #[cold]
    fn go_on(&mut self) -> Result<(), LogError> {
        let Some(cursor) = &mut self.cursor else { return Ok(()) };
        let state = self.shared.lock();
        if let Some(segment) = state.segment_of(self.next)
            && segment.path == cursor.path
        {
            if segment.bytes <= cursor.end {
                let what = "the file's frames end before the record that should follow";
                return Err(LogError::damaged(&cursor.path, cursor.position(), what));
            }
            cursor.end = segment.bytes;
            return Ok(());
        }
        drop(state);
        self.open_segment()
    }

    #[cold]
    fn open_segment(&mut self) -> Result<(), LogError> {
        let Opened { file, segment, start } = self.shared.open_segment(self.next)?;
        let buffer = match self.cursor.take() {
            Some(old) => {
                self.bytes_read += old.bytes_read;
                old.into_parts().1
            }
            None => Vec::new(),
        };
        let rules = segment.header.rules();
        self.cursor = Some(FrameCursor::new(file, segment.path, rules, start, segment.bytes, buffer));
        Ok(())
    }
}

#[inline]
fn fill(transaction: &mut Transaction, record: RecordRef<'_>) -> Result<(), crate::model::CodecError> {
    let mut bytes = std::mem::take(&mut transaction.changes).into_bytes();
    bytes.clear();
    bytes.extend_from_slice(record.payload);
    transaction.changes = ChangeBuf::from_bytes(bytes)?;
    (transaction.lsn, transaction.committed_at) = (record.lsn, record.committed_at);
    Ok(())
}
