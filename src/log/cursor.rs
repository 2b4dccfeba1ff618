//! Reads a segment file frame by frame.

use super::error::LogError;
use super::frame::{BadFrame, FRAME_HEADER_BYTES, FrameHead, FrameRules, Sequence};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// How much a cursor reads at once.
const READ_BYTES: usize = 256 << 10;

/// Reads the frames of one segment file in order, through one buffer that grows to the longest frame.
#[derive(Debug)]
pub(super) struct FrameCursor {
    file: File,
    pub path: PathBuf,
    pub rules: FrameRules,
    pub sequence: Sequence,
    /// The byte of the file behind the last frame that may be read.
    pub end: u64,
    /// The byte of the file at which the next frame begins.
    position: u64,
    buffer: Vec<u8>,
    /// What of the buffer is read from the file and not yet consumed.
    unread: Range<usize>,
    pub bytes_read: u64,
}

/// What a cursor found.
#[derive(Debug)]
pub(super) enum Found {
    /// A frame, and where its payload lies in the buffer.
    Frame(FrameHead, Range<usize>),
    /// The end.
    End,
    /// Not a frame.
    Bad(BadFrame),
}

impl FrameCursor {
    /// A cursor at byte `position`, where the first frame of record `offset` begins. It may take over the buffer
    /// of an earlier cursor.
    pub fn new(file: File, path: PathBuf, rules: FrameRules, start: (u64, u64), end: u64, buffer: Vec<u8>) -> Self {
        let (offset, position) = start;
        FrameCursor {
            file,
            path,
            rules,
            sequence: Sequence::at(offset),
            end,
            position,
            buffer,
            unread: 0..0,
            bytes_read: 0,
        }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn into_parts(self) -> (File, Vec<u8>) {
        (self.file, self.buffer)
    }

    #[inline]
    pub fn payload(&self, at: Range<usize>) -> &[u8] {
        self.buffer.get(at).unwrap_or_default()
    }

    /// The next frame. After `Bad` the cursor stays where it is.
    #[inline]
    pub fn next_frame(&mut self) -> Result<Found, LogError> {
        if self.position >= self.end {
            return Ok(Found::End);
        }
        match self.read_frame() {
            Ok(Ok((head, payload))) => Ok(Found::Frame(head, payload)),
            Ok(Err(bad)) => Ok(Found::Bad(bad)),
            Err(error) => Err(LogError::io("read", &self.path, Some(self.position), error)),
        }
    }

    #[inline]
    fn read_frame(&mut self) -> io::Result<Result<(FrameHead, Range<usize>), BadFrame>> {
        if self.unread.len() < FRAME_HEADER_BYTES && !self.fill(FRAME_HEADER_BYTES)? {
            return Ok(Err(BadFrame::CutOff));
        }
        let length = match self.rules.frame_bytes(self.payload(self.unread.clone())) {
            Ok(length) => length,
            Err(bad) => return Ok(Err(bad)),
        };
        if self.unread.len() < length && !self.fill(length)? {
            return Ok(Err(BadFrame::CutOff));
        }
        let at = self.unread.start..self.unread.start + length;
        let checked = self.rules.check(self.payload(at.clone()));
        Ok(checked.and_then(|head| {
            self.sequence.advance(&head)?;
            self.unread.start = at.end;
            self.position += length as u64;
            Ok((head, at.start + FRAME_HEADER_BYTES..at.end))
        }))
    }

    /// Reads until `wanted` bytes are unread; false when the file ends before. `wanted` is within the limits.
    #[cold]
    fn fill(&mut self, wanted: usize) -> io::Result<bool> {
        if self.end - self.position < wanted as u64 {
            return Ok(false);
        }
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.buffer.len() < wanted.max(READ_BYTES) {
            self.buffer.resize(wanted.max(READ_BYTES), 0);
        }
        while self.unread.end < wanted {
            let at = self.position + self.unread.end as u64;
            let room = usize::try_from(self.end - at).unwrap_or(usize::MAX).min(self.buffer.len() - self.unread.end);
            let free = self.buffer.get_mut(self.unread.end..self.unread.end + room).unwrap_or_default();
            match self.file.read_at(free, at) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.unread.end += count;
                    self.bytes_read += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
