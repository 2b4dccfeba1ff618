//! The format of a frame.
//!
//! All integers are little-endian:
//!
//! | byte | what |
//! |---|---|
//! | 0 | `u32` CRC32C of everything behind it: the rest of the header and the payload |
//! | 4 | `u32` length of the payload |
//! | 8 | `u64` offset of the record |
//! | 16 | `u64` LSN |
//! | 24 | `i64` commit time, microseconds since 1970 UTC |
//! | 32 | `u32` epoch, that of the segment |
//! | 36 | `u32` how many records before this one were not fsynced when it was written (`u32::MAX`: unknown) |
//! | 40 | `u8` flags: 1 continued in the next frame, 2 a note |
//! | 41 | `u24` number of the part of a record that is split, from 0 |
//! | 44 | payload |

pub(super) const FRAME_HEADER_BYTES: usize = 44;
/// The part number has 24 bits.
pub(super) const PARTS_MAX: u32 = 1 << 24;

pub(super) mod flag {
    pub const CONTINUED: u8 = 1;
    pub const NOTE: u8 = 2;
    pub const ALL: u8 = CONTINUED | NOTE;
}

/// Takes fields off a header that is long enough for all of them; beyond its end they would be zero.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    #[inline]
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *field
    }

    #[inline]
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    #[inline]
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

/// Everything in a frame but its checksum and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub length: u32,
    pub offset: u64,
    pub lsn: u64,
    pub committed_at: i64,
    pub epoch: u32,
    pub unsynced: u32,
    pub flags: u8,
    pub part: u32,
}

impl FrameHead {
    pub fn is_continued(&self) -> bool {
        self.flags & flag::CONTINUED != 0
    }

    /// All records below this offset were fsynced when the frame was written.
    pub fn synced_below(&self) -> u64 {
        if self.unsynced == u32::MAX { 0 } else { self.offset.saturating_sub(u64::from(self.unsynced)) }
    }

    fn to_bytes(self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.lsn.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.committed_at.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.unsynced.to_le_bytes());
        bytes[40..44].copy_from_slice(&(u32::from(self.flags) | self.part << 8).to_le_bytes());
        bytes
    }

    /// The checksum and the head.
    fn from_bytes(bytes: &[u8; FRAME_HEADER_BYTES]) -> (u32, FrameHead) {
        let mut fields = Fields(bytes);
        let crc = fields.u32();
        let mut head = FrameHead {
            length: fields.u32(),
            offset: fields.u64(),
            lsn: fields.u64(),
            committed_at: fields.u64() as i64,
            epoch: fields.u32(),
            unsynced: fields.u32(),
            flags: 0,
            part: 0,
        };
        let last = fields.u32();
        (head.flags, head.part) = ((last & 0xFF) as u8, last >> 8);
        (crc, head)
    }
}

/// Appends one frame to `out`; `head.length` must be the payload's length. The payload is copied once.
#[inline]
pub(super) fn push_frame(out: &mut Vec<u8>, head: FrameHead, payload: &[u8]) {
    let start = out.len();
    out.reserve(FRAME_HEADER_BYTES + payload.len());
    out.extend_from_slice(&head.to_bytes());
    out.extend_from_slice(payload);
    let crc = crc32c::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadFrame {
    /// The file ends inside it.
    CutOff,
    /// It names a length beyond the segment's limit.
    Length,
    /// Its checksum differs.
    Checksum,
    /// It is of another epoch.
    Epoch,
    /// It has flags that this build does not know.
    Flags,
    /// It is not the next one.
    Sequence,
}

impl BadFrame {
    pub fn what(self) -> &'static str {
        match self {
            BadFrame::CutOff => "the file ends inside a frame",
            BadFrame::Length => "the frame's length is beyond the limit",
            BadFrame::Checksum => "the frame's checksum differs",
            BadFrame::Epoch => "the frame is of another epoch",
            BadFrame::Flags => "the frame has unknown flags",
            BadFrame::Sequence => "the frame is not the next one",
        }
    }
}

/// What every frame of a segment must satisfy.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameRules {
    pub epoch: u32,
    pub record_bytes_max: u32,
}

impl FrameRules {
    /// How long the frame at the start of `bytes` is, the length checked against the limit.
    #[inline]
    pub fn frame_bytes(self, bytes: &[u8]) -> Result<usize, BadFrame> {
        let (_, length) =
            bytes.first_chunk::<8>().and_then(|fixed| fixed.split_last_chunk()).ok_or(BadFrame::CutOff)?;
        let length = u32::from_le_bytes(*length);
        let most = self.record_bytes_max.saturating_sub(FRAME_HEADER_BYTES as u32);
        if length > most { Err(BadFrame::Length) } else { Ok(FRAME_HEADER_BYTES + length as usize) }
    }

    /// Checks that `bytes` is exactly one frame of this segment.
    #[inline]
    pub fn check(self, bytes: &[u8]) -> Result<FrameHead, BadFrame> {
        let (fixed, _) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>().ok_or(BadFrame::CutOff)?;
        let (crc, head) = FrameHead::from_bytes(fixed);
        if crc32c::crc32c(bytes.get(4..).unwrap_or_default()) != crc {
            return Err(BadFrame::Checksum);
        }
        if head.epoch != self.epoch {
            return Err(BadFrame::Epoch);
        }
        if head.flags & !flag::ALL != 0 { Err(BadFrame::Flags) } else { Ok(head) }
    }
}

/// Which frame has to come next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequence {
    pub offset: u64,
    pub part: u32,
}

impl Sequence {
    pub fn at(offset: u64) -> Sequence {
        Sequence { offset, part: 0 }
    }

    #[inline]
    pub fn advance(&mut self, head: &FrameHead) -> Result<(), BadFrame> {
        if head.offset != self.offset || head.part != self.part {
            return Err(BadFrame::Sequence);
        }
        if head.is_continued() {
            self.part += 1;
        } else {
            *self = Sequence::at(self.offset + 1);
        }
        Ok(())
    }
}
