//! Segment files: their names, headers and sparse indexes.
//!
//! Header, little-endian: 8 bytes magic, `u32` format version, `u32` epoch, `u64` offset of the first record,
//! `u32` longest frame, `u32` CRC32C of all before it. A file is named by the offset of its first record.

use super::error::LogError;
use super::frame::{Fields, FrameRules};
use super::options::RECORD_BYTES_LIMIT;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(super) const SEGMENT_HEADER_BYTES: usize = 32;
const MAGIC: [u8; 8] = *b"FRBNLOG\n";
const VERSION: u32 = 1;
/// One index entry for so many bytes: what a reader has to pass over to find an offset.
pub(super) const INDEX_EVERY_BYTES: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub epoch: u32,
    pub base: u64,
    pub record_bytes_max: u32,
}

/// No log begins beyond this offset, so that offsets can be counted on from there without a look at their end.
const OFFSET_LIMIT: u64 = 1 << 62;

impl SegmentHeader {
    pub fn to_bytes(self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.record_bytes_max.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn rules(self) -> FrameRules {
        FrameRules { epoch: self.epoch, record_bytes_max: self.record_bytes_max }
    }

    /// Reads and checks the header of an open segment file.
    pub fn read(file: &File, path: &Path) -> Result<SegmentHeader, LogError> {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => LogError::damaged(path, 0, "the file ends inside the segment header"),
            _ => LogError::io("read", path, Some(0), error),
        })?;
        let mut fields = Fields(&bytes);
        let (magic, version) = (fields.array::<8>(), fields.u32());
        let header = SegmentHeader { epoch: fields.u32(), base: fields.u64(), record_bytes_max: fields.u32() };
        if magic != MAGIC {
            return Err(LogError::damaged(path, 0, "the file does not begin as a segment does"));
        }
        if crc32c::crc32c(&bytes[..28]) != fields.u32() {
            return Err(LogError::damaged(path, 0, "the segment header's checksum differs"));
        }
        if version != VERSION {
            return Err(LogError::UnknownVersion { path: path.to_path_buf(), found: version, known: VERSION });
        }
        if header.record_bytes_max > RECORD_BYTES_LIMIT {
            return Err(LogError::damaged(path, 24, "the longest frame is beyond the limit"));
        }
        if header.base > OFFSET_LIMIT {
            return Err(LogError::damaged(path, 16, "the first offset is beyond the limit"));
        }
        Ok(header)
    }
}

/// Where a record begins: one of few, to begin a search at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub offset: u64,
    pub lsn: u64,
    pub position: u64,
}

/// A segment as readers may see it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub header: SegmentHeader,
    pub path: PathBuf,
    /// The offset behind its last visible record.
    pub next: u64,
    /// The byte behind its last visible record.
    pub bytes: u64,
    /// The LSN of its last visible record.
    pub last_lsn: Option<u64>,
    pub index: Vec<IndexEntry>,
}

impl Segment {
    pub fn empty(header: SegmentHeader, path: PathBuf) -> Segment {
        let bytes = SEGMENT_HEADER_BYTES as u64;
        Segment { header, path, next: header.base, bytes, last_lsn: None, index: Vec::new() }
    }

    /// `(offset, byte)` to begin at for a record that `before` says is not before it.
    pub fn start_for(&self, before: impl Fn(&IndexEntry) -> bool) -> (u64, u64) {
        let count = self.index.partition_point(before);
        match count.checked_sub(1).and_then(|last| self.index.get(last)) {
            Some(entry) => (entry.offset, entry.position),
            None => (self.header.base, SEGMENT_HEADER_BYTES as u64),
        }
    }

    /// Notes where a record begins, if the last note is far enough behind.
    #[inline]
    pub fn note(index: &mut Vec<IndexEntry>, last_position: &mut u64, entry: IndexEntry) {
        if entry.position - *last_position >= INDEX_EVERY_BYTES {
            *last_position = entry.position;
            index.push(entry);
        }
    }
}

pub(super) fn segment_path(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.log"))
}

/// The files of a log's folder.
#[derive(Debug, Default)]
pub(super) struct SegmentFiles {
    /// The segments with the offsets in their names, in order.
    pub whole: Vec<(u64, PathBuf)>,
    /// What is left of files whose creation was cut short.
    pub unfinished: Vec<PathBuf>,
}

/// Looks what segments there are; files of other names are not touched.
pub(super) fn list_segments(folder: &Path) -> Result<SegmentFiles, LogError> {
    let failed = |error| LogError::io("list", folder, None, error);
    let mut files = SegmentFiles::default();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let (stem, is_unfinished) = match name.strip_suffix(".log.new") {
            Some(stem) => (stem, true),
            None => (name.strip_suffix(".log").unwrap_or_default(), false),
        };
        if stem.len() != 20 || !stem.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        match stem.parse() {
            Ok(_) if is_unfinished => files.unfinished.push(path),
            Ok(base) => files.whole.push((base, path)),
            Err(_) => return Err(LogError::damaged(&path, 0, "the file's name is no offset")),
        }
    }
    files.whole.sort_unstable();
    Ok(files)
}
