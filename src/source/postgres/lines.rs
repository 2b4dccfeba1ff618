//! Lines of the files that say how to reach a server. They are bytes: a comment in another encoding than UTF-8 is nobody's
//! trouble, and only a line that is needed has to be UTF-8.

use crate::bounded;
use crate::source::SourceError;
use std::path::Path;

/// The lines of a file, without their ends; `None` when there is no such file.
///
/// # Errors
/// When it can't be read, or is too large to be meant.
pub(super) fn read(path: &Path, operation: &'static str) -> Result<Option<Vec<Vec<u8>>>, SourceError> {
    let bytes = match bounded::read(path, bounded::SETTINGS_BYTES_MAX) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(SourceError::io(operation, path))?,
    };
    let line = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    Ok(Some(bytes.split(|byte| *byte == b'\n').map(line).collect()))
}
