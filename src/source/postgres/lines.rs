//! Lines of the files that say how to reach a server. They are bytes: a comment in another encoding than UTF-8 is nobody's
//! trouble, and only a line that is needed has to be UTF-8.

use crate::source::SourceError;
use std::path::Path;

/// No file of this kind is larger than this.
const BYTES_MAX: u64 = 1 << 20;

/// The lines of a file, without their ends; `None` when there is no such file.
///
/// # Errors
/// When it can't be read, or is too large to be meant.
pub(super) fn read(path: &Path, operation: &'static str) -> Result<Option<Vec<Vec<u8>>>, SourceError> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(SourceError::io(operation, path))?,
    };
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(SourceError::io(operation, path))?;
    if bytes.len() as u64 > BYTES_MAX {
        let what = format!("can't {operation} {}: it is larger than {BYTES_MAX} bytes", path.display());
        return Err(SourceError::Options { what });
    }
    let line = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).to_vec();
    Ok(Some(bytes.split(|byte| *byte == b'\n').map(line).collect()))
}
