//! What is done when a log is opened: every frame is checked, a torn tail is cut off, damage is refused.
//!
//! A crash can only harm what was not fsynced, and a segment is fsynced before the next one begins (each opening
//! begins one). So damage in any segment but the last is never a torn tail. In the last one, let `p` be the first
//! byte that is not a good frame, of record `e`. Then, in this order:
//!
//! 1. A checksummed frame out of its place is damage: no crash makes one.
//! 2. No good frame behind `p`: a torn tail. So is a split record whose last part is missing.
//! 3. A good frame behind `p` that says that record `e` was fsynced when it was written: damage.
//! 4. Otherwise good frames behind `p` are of the same group that was never acknowledged as durable. A power cut may
//!    have kept later blocks of it and lost earlier ones; a lost block reads as zeros. So: if between `p` and the next good frame
//!    some block of 512 bytes (from `p` on) is all zero, it is a torn tail, else damage. Where less than a checksum lies between `p`
//!    and the block's end, the rest of the checksum has to be right too, or damage would pass where these bytes are zero by chance.
//!
//! Of a torn tail everything from the last whole record on is cut off, and its length reported. Zeros that end the last
//! segment are space that the writer had prepared: cut off as well, and nothing to report. A power cut that lost a group whole leaves
//! the same zeros.

use super::Offset;
use super::cursor::{Found, FrameCursor};
use super::error::LogError;
use super::frame::{BadFrame, FRAME_HEADER_BYTES, FrameRules};
use super::segment::{IndexEntry, Segment, SegmentFiles, SegmentHeader, list_segments};
use super::storage::Storage;
use crate::model::Lsn;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes cut off the end of the last segment: records whose writing a crash cut short.
    pub torn_bytes: u64,
    /// The file they were cut from.
    pub torn_path: Option<PathBuf>,
    /// The lowest offset there is; equal to `next` when the log is empty.
    pub lowest: Offset,
    /// The offset of the next record to be written.
    pub next: Offset,
    /// The place in the commit order of the last record, if there is one.
    pub last_lsn: Option<Lsn>,
    /// The number of this opening: one more than that of any before.
    pub epoch: u32,
    /// Bytes of all segments.
    pub bytes: u64,
}

/// Checks every segment of the folder, and cuts a torn tail off.
pub(super) fn recover(folder: &Path, storage: &dyn Storage) -> Result<(Vec<Segment>, Recovery), LogError> {
    let SegmentFiles { whole: files, unfinished } = list_segments(folder)?;
    for path in unfinished {
        storage.remove(&path).map_err(|error| LogError::io("delete", &path, None, error))?;
    }
    let mut segments: Vec<Segment> = Vec::with_capacity(files.len());
    let mut recovery = Recovery::default();
    let last = files.len().saturating_sub(1);
    for (number, (base, path)) in files.into_iter().enumerate() {
        let Checked { segment, torn_bytes, file_bytes, uncertain_from } =
            recover_segment(&path, base, segments.last(), number == last)?;
        if number == last {
            repair(storage, &segment, file_bytes, uncertain_from)?;
        }
        if torn_bytes > 0 {
            (recovery.torn_bytes, recovery.torn_path) = (torn_bytes, Some(path));
        }
        recovery.last_lsn = segment.last_lsn.map(Lsn).or(recovery.last_lsn);
        recovery.bytes += segment.bytes;
        segments.push(segment);
    }
    recovery.lowest = Offset(segments.first().map_or(0, |segment| segment.header.base));
    recovery.next = Offset(segments.last().map_or(0, |segment| segment.next));
    recovery.epoch = epoch_after(segments.last())?;
    Ok((segments, recovery))
}

fn epoch_after(last: Option<&Segment>) -> Result<u32, LogError> {
    match last {
        None => Ok(1),
        Some(segment) => segment.header.epoch.checked_add(1).ok_or_else(|| {
            LogError::damaged(&segment.path, 12, "the epoch is the largest there is, no more can be opened")
        }),
    }
}

/// Cuts off what is behind the last whole record; what remains is durable afterwards, also what only the page cache held.
///
/// After an fsync that failed the page cache has what the disk has not, and holds it for saved: another fsync would say
/// yes and save nothing. So what no frame says was fsynced is written again.
fn repair(storage: &dyn Storage, segment: &Segment, file_bytes: u64, uncertain_from: u64) -> Result<(), LogError> {
    let path = &segment.path;
    if file_bytes > segment.bytes {
        storage
            .truncate(path, segment.bytes)
            .map_err(|error| LogError::io("truncate", path, Some(segment.bytes), error))?;
    }
    storage
        .rewrite(path, uncertain_from)
        .map_err(|error| LogError::io("write to", path, Some(uncertain_from), error))?;
    storage.sync_file(path).map_err(|error| LogError::io("fsync", path, None, error))
}

/// A segment that was looked through.
struct Checked {
    segment: Segment,
    /// Bytes behind its last whole record, but for prepared space.
    torn_bytes: u64,
    file_bytes: u64,
    /// Behind this byte nothing is known to have been fsynced.
    uncertain_from: u64,
}

fn recover_segment(path: &Path, base: u64, before: Option<&Segment>, is_last: bool) -> Result<Checked, LogError> {
    let file = crate::storage::private::open(path).map_err(|error| LogError::io("open", path, None, error))?;
    let file_bytes = file.metadata().map_err(|error| LogError::io("look at", path, None, error))?.len();
    let header = SegmentHeader::read(&file, path)?;
    if header.base != base {
        return Err(LogError::damaged(path, 16, format!("the header says that it begins at record {}", header.base)));
    }
    if let Some(before) = before {
        check_follows(path, header, before)?;
    }
    let (segment, synced_below, stop) = scan(file, path, header, file_bytes)?;
    let uncertain_from = segment.start_for(|entry| entry.offset <= synced_below).1;
    let mut checked = Checked { segment, torn_bytes: 0, file_bytes, uncertain_from };
    let Some(stop) = stop else { return Ok(checked) };
    let refused = || LogError::damaged(path, stop.position, stop.what);
    if !is_last || !stop.may_be_torn {
        return Err(refused());
    }
    let unreadable = |error| LogError::io("read", path, Some(stop.position), error);
    if is_torn(&stop, &checked.segment, file_bytes).map_err(unreadable)? {
        let end = content_end(&stop.file, checked.segment.bytes, file_bytes).map_err(unreadable)?;
        checked.torn_bytes = end - checked.segment.bytes;
        Ok(checked)
    } else {
        Err(refused())
    }
}

fn check_follows(path: &Path, header: SegmentHeader, before: &Segment) -> Result<(), LogError> {
    if header.base != before.next {
        let what = format!(
            "it begins at record {}, but {} ends before record {}: records are missing",
            header.base,
            before.path.display(),
            before.next
        );
        return Err(LogError::damaged(path, 0, what));
    }
    if header.epoch < before.header.epoch {
        return Err(LogError::damaged(path, 12, "its epoch is lower than that of the segment before"));
    }
    Ok(())
}

/// Where a scan found something that is not a good frame.
struct Stop {
    file: File,
    position: u64,
    what: &'static str,
    /// Whether a crash can have done it.
    may_be_torn: bool,
}

/// Reads all good frames from the beginning. Gives the segment, the offset below which they say that all was fsynced,
/// and where something else came.
fn scan(file: File, path: &Path, header: SegmentHeader, end: u64) -> Result<(Segment, u64, Option<Stop>), LogError> {
    let mut synced_below = 0;
    let mut segment = Segment::empty(header, path.to_path_buf());
    let start = (header.base, segment.bytes);
    let mut cursor = FrameCursor::new(file, path.to_path_buf(), header.rules(), start, end, Vec::new());
    let mut noted_at = segment.bytes;
    loop {
        let (what, may_be_torn) = match cursor.next_frame()? {
            Found::Frame(head, _) => {
                synced_below = synced_below.max(head.synced_below());
                if !head.is_continued() {
                    let entry = IndexEntry { offset: head.offset, lsn: head.lsn, position: segment.bytes };
                    Segment::note(&mut segment.index, &mut noted_at, entry);
                    segment.next = head.offset + 1;
                    segment.bytes = cursor.position();
                    segment.last_lsn = Some(head.lsn);
                }
                continue;
            }
            Found::End if cursor.sequence.part == 0 => return Ok((segment, synced_below, None)),
            Found::End => ("the last part of a split record is missing", true),
            Found::Bad(bad) => (bad.what(), !matches!(bad, BadFrame::Sequence | BadFrame::Flags)),
        };
        let position = cursor.position();
        let (file, _) = cursor.into_parts();
        return Ok((segment, synced_below, Some(Stop { file, position, what, may_be_torn })));
    }
}

/// The byte behind the last one, at or behind `from`, that is not zero; `from` when there is none.
fn content_end(file: &File, from: u64, file_bytes: u64) -> io::Result<u64> {
    let mut end = file_bytes;
    while end > from {
        let start = from.max(end.saturating_sub(1 << 20));
        if let Some(last) = read_range(file, start, end)?.iter().rposition(|&byte| byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(from)
}

/// Decides between a torn tail and damage by rules 2 to 4 above.
fn is_torn(stop: &Stop, segment: &Segment, end: u64) -> io::Result<bool> {
    let (first_good, synced_below) = good_frames_behind(stop, segment, end)?;
    let Some(first_good) = first_good else { return Ok(true) };
    if synced_below > segment.next {
        return Ok(false);
    }
    Ok(has_lost_block(&stop.file, stop.position, first_good)? || has_lost_start(stop, segment.header.rules())?)
}

/// The first byte behind the stop at which a good frame of a later record or part begins, and the highest offset
/// below which any of them says that all was fsynced.
fn good_frames_behind(stop: &Stop, segment: &Segment, end: u64) -> io::Result<(Option<u64>, u64)> {
    const WINDOW: u64 = 1 << 20;
    let rules = segment.header.rules();
    let offsets = segment.next..=segment.next + (end - stop.position) / FRAME_HEADER_BYTES as u64;
    let (mut first, mut synced_below) = (None, 0);
    let mut at = stop.position + 1;
    while at < end {
        let bytes = read_range(&stop.file, at, end.min(at + WINDOW + u64::from(rules.record_bytes_max)))?;
        let mut in_window = 0usize;
        while (in_window as u64) < WINDOW {
            let rest = bytes.get(in_window..).unwrap_or_default();
            let Some(fixed) = rest.first_chunk::<FRAME_HEADER_BYTES>() else { return Ok((first, synced_below)) };
            let good = if is_candidate(fixed, rules.epoch, &offsets) {
                rules.frame_bytes(rest).ok().and_then(|length| rest.get(..length))
            } else {
                None
            };
            match good.map(|frame| (frame.len(), rules.check(frame))) {
                Some((length, Ok(head))) => {
                    first = first.or(Some(at + in_window as u64));
                    synced_below = synced_below.max(head.synced_below());
                    in_window += length;
                }
                _ => in_window += 1,
            }
        }
        at += in_window as u64;
    }
    Ok((first, synced_below))
}

/// Whether offset and epoch can be those of a later frame; spares the checksum almost everywhere.
fn is_candidate(fixed: &[u8; FRAME_HEADER_BYTES], epoch: u32, offsets: &std::ops::RangeInclusive<u64>) -> bool {
    let (Some(offset), Some(found)) = (fixed[8..].first_chunk::<8>(), fixed[32..].first_chunk::<4>()) else {
        return false;
    };
    u32::from_le_bytes(*found) == epoch && offsets.contains(&u64::from_le_bytes(*offset))
}

const BLOCK: u64 = 512;
const CHECKSUM_BYTES: u64 = 4;

/// Whether of the frame at the stop nothing but one, two or three bytes of its checksum was lost, with the block that they end.
fn has_lost_start(stop: &Stop, rules: FrameRules) -> io::Result<bool> {
    let lost = (BLOCK - stop.position % BLOCK) as usize;
    if lost as u64 >= CHECKSUM_BYTES {
        return Ok(false);
    }
    let head = read_range(&stop.file, stop.position, stop.position + FRAME_HEADER_BYTES as u64)?;
    let Ok(length) = rules.frame_bytes(&head) else { return Ok(false) };
    let frame = match read_range(&stop.file, stop.position, stop.position + length as u64) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        read => read?,
    };
    let crc = crc32c::crc32c(&frame[CHECKSUM_BYTES as usize..]).to_le_bytes();
    Ok(frame[..lost].iter().all(|&byte| byte == 0) && frame[lost..crc.len()] == crc[lost..])
}

/// Whether some block, from `from` on and before `to`, reads as zeros as a block does that was never written.
fn has_lost_block(file: &File, from: u64, to: u64) -> io::Result<bool> {
    let mut start = from;
    while start < to {
        let block_end = start - start % BLOCK + BLOCK;
        if block_end > to {
            return Ok(false);
        }
        if block_end - start >= CHECKSUM_BYTES && read_range(file, start, block_end)?.iter().all(|&byte| byte == 0) {
            return Ok(true);
        }
        start = block_end;
    }
    Ok(false)
}

/// The bytes `from..to`; the callers' ranges are bounded by the window, the block or the longest frame.
fn read_range(file: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(to.saturating_sub(from)).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}
