//! The segment that the writer appends to, and how one begins.

use super::error::LogError;
use super::options::{LogCounters, LogOptions};
use super::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader, segment_path};
use super::storage::{self, FolderFault, SegmentFile, Storage};
use std::path::Path;

/// The segment that is written to.
pub(super) struct Active {
    pub file: Box<dyn SegmentFile>,
    /// As readers may see it after the next sync, but for the bytes; its index holds what readers don't know yet.
    pub segment: Segment,
    /// Bytes in the file, but for what is prepared.
    pub written: u64,
    /// Those of `written` that the last fsync saved.
    pub durable: u64,
    /// Behind `written` the file may have zeros up to here, to be written over.
    pub prepared: u64,
    /// Where the last index entry points.
    pub noted_at: u64,
}

/// Makes the folder if need be. While it has no segment, an earlier start may have ended before the folder's name was
/// durable: then it is made so again.
pub(super) fn create_folder(folder: &Path, storage: &dyn Storage) -> Result<(), LogError> {
    let is_segment = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
    let has_segment = std::fs::read_dir(folder)
        .is_ok_and(|entries| entries.filter_map(Result::ok).any(|entry| is_segment(&entry.path())));
    if has_segment {
        return Ok(());
    }
    storage::create_folder(storage, folder)
        .map_err(|FolderFault { operation, path, cause }| LogError::io(operation, &path, None, cause))
}

/// Makes a segment file under another name, makes its header durable and renames it: no crash leaves a segment without
/// a whole header.
pub(super) fn begin_segment(
    folder: &Path,
    storage: &dyn Storage,
    options: &LogOptions,
    (epoch, base): (u32, u64),
    counters: &mut LogCounters,
) -> Result<Active, LogError> {
    let header = SegmentHeader { epoch, base, record_bytes_max: options.record_bytes_max };
    let path = segment_path(folder, base);
    let unfinished = path.with_extension("log.new");
    let mut file = storage.create(&unfinished).map_err(|error| LogError::io("create", &unfinished, None, error))?;
    file.append(&header.to_bytes())
        .and_then(|()| file.sync())
        .map_err(|error| LogError::io("write to", &unfinished, Some(0), error))?;
    storage.rename(&unfinished, &path).map_err(|error| LogError::io("rename", &unfinished, None, error))?;
    storage.sync_folder(folder).map_err(|error| LogError::io("fsync", folder, None, error))?;
    let written = SEGMENT_HEADER_BYTES as u64;
    counters.bytes_written += written;
    counters.segments_begun += 1;
    Ok(Active {
        file,
        segment: Segment::empty(header, path),
        written,
        durable: written,
        prepared: 0,
        noted_at: written,
    })
}
