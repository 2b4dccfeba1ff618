//! What was read and not yet taken, cut into messages.

use std::ops::Range;

/// The longest message that is taken: the server's own limit for a row, and its frame.
const MESSAGE_BYTES_MAX: usize = (1 << 30) + (1 << 16);
/// What the buffer begins with, and comes back to after a long message.
const BUFFER_BYTES: usize = 256 << 10;
/// A message's tag and length.
const HEAD_BYTES: usize = 5;

/// A message inside the buffer: its tag, and where its body lies until the next read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) tag: u8,
    pub(super) body: Range<usize>,
}

/// Bytes from the server. Grows with what arrives, never with what a length field promises.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    pub(super) fn new() -> ReadBuffer {
        ReadBuffer { bytes: vec![0; BUFFER_BYTES], start: 0, end: 0 }
    }

    /// The next whole message, if it has arrived.
    ///
    /// # Errors
    /// The length that no message can have.
    #[inline]
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, i32> {
        let Some(&[tag, a, b, c, d]) = self.bytes[self.start..self.end].first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let claimed = i32::from_be_bytes([a, b, c, d]);
        let length = usize::try_from(claimed).map_err(|_| claimed)?;
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(claimed);
        }
        let end = self.start + 1 + length;
        if end > self.end {
            return Ok(None);
        }
        let body = self.start + HEAD_BYTES..end;
        self.start = end;
        Ok(Some(Frame { tag, body }))
    }

    /// The bytes of a frame's body, or of a part of it.
    #[inline]
    pub(super) fn slice(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// How much has arrived of what no [`Frame`] has been made of yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.end - self.start
    }

    /// Room for the next read. Frames given before are void after this.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > 4 * BUFFER_BYTES {
                self.bytes = vec![0; BUFFER_BYTES];
            }
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // At most twice what has arrived.
        if self.bytes.len() - self.end < self.bytes.len() / 4 {
            let doubled = self.bytes.len() * 2;
            self.bytes.resize(doubled, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Says how many bytes of the [`ReadBuffer::room`] were filled.
    pub(super) fn filled(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(buffer: &mut ReadBuffer, bytes: &[u8]) {
        for piece in bytes.chunks(7_919) {
            let room = buffer.room();
            room[..piece.len()].copy_from_slice(piece);
            buffer.filled(piece.len());
        }
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let mut buffer = ReadBuffer::new();
        let long = vec![7; 5 * BUFFER_BYTES];
        let mut sent = vec![b'd', 0, 0, 0, 6, 1, 2, b'Z', 0, 0, 0, 4, b'd'];
        sent.extend_from_slice(&(long.len() as u32 + 4).to_be_bytes());
        sent.extend_from_slice(&long);
        feed(&mut buffer, &sent);
        let first = buffer.next_frame().unwrap().unwrap();
        assert_eq!((first.tag, buffer.slice(first.body)), (b'd', &[1, 2][..]));
        let second = buffer.next_frame().unwrap().unwrap();
        assert_eq!((second.tag, second.body.len()), (b'Z', 0));
        let third = buffer.next_frame().unwrap().unwrap();
        assert_eq!(buffer.slice(third.body), long);
        assert_eq!(buffer.next_frame(), Ok(None));
        assert!(buffer.bytes.len() > 4 * BUFFER_BYTES);
        buffer.room();
        assert_eq!(buffer.bytes.len(), BUFFER_BYTES, "the memory of a long message is given back");
    }

    #[test]
    fn a_length_is_checked_before_anything_is_reserved() {
        for claimed in [0, 3, -1, i32::MIN, i32::MAX] {
            let mut buffer = ReadBuffer::new();
            feed(&mut buffer, b"d");
            feed(&mut buffer, &claimed.to_be_bytes());
            assert_eq!(buffer.next_frame(), Err(claimed));
            assert_eq!(buffer.bytes.len(), BUFFER_BYTES);
        }
        let mut buffer = ReadBuffer::new();
        feed(&mut buffer, &[b'd', 0x3F, 0, 0, 0, 1]);
        assert_eq!(buffer.next_frame(), Ok(None), "waits for the rest");
        buffer.room();
        assert_eq!(buffer.bytes.len(), BUFFER_BYTES, "and reserves as it comes");
    }
}
