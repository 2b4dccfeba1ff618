//! One writer at a time: a lock file that names its holder.

use super::error::LogError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

/// Holds the lock until it is dropped; the operating system lets go of it when the process dies.
#[derive(Debug)]
pub(super) struct WriterLock {
    _file: File,
}

impl WriterLock {
    pub fn take(folder: &Path) -> Result<WriterLock, LogError> {
        let path = folder.join("writer.lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| LogError::io("open", &path, None, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&path).unwrap_or_else(|| "a process that has not named itself".to_owned());
                return Err(LogError::Locked { path, holder });
            }
            Err(TryLockError::Error(error)) => return Err(LogError::io("lock", &path, None, error)),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "process {}", std::process::id()))
            .map_err(|error| LogError::io("write to", &path, None, error))?;
        Ok(WriterLock { _file: file })
    }
}

fn holder(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(64).read_to_string(&mut text).ok()?;
    let text = text.trim();
    if text.is_empty() { None } else { Some(text.to_owned()) }
}
