//! One writer at a time: a lock file in a sink's folder that names its holder.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Why a folder's lock was not to be had.
pub(super) enum LockFault {
    /// Another process has it.
    Held {
        /// The lock file.
        path: PathBuf,
        /// How the other one named itself.
        holder: String,
    },
    /// The file system refused.
    Io {
        /// What was being done to the lock file.
        operation: &'static str,
        /// The lock file.
        path: PathBuf,
        /// The system's own words.
        cause: io::Error,
    },
}

/// Takes the folder's write lock. It is let go when the file is closed, also by a crash.
pub(super) fn lock(dir: &Path) -> Result<File, LockFault> {
    let path = dir.join("LOCK");
    let failed = |operation| {
        let path = path.clone();
        move |cause| LockFault::Io { operation, path, cause }
    };
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(failed("open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = (&mut file).take(200).read_to_string(&mut holder);
            let holder = if holder.trim().is_empty() { "an unknown process" } else { holder.trim() };
            return Err(LockFault::Held { path, holder: holder.to_owned() });
        }
        Err(TryLockError::Error(cause)) => return Err(failed("lock")(cause)),
    }
    file.set_len(0).map_err(failed("write"))?;
    let holder = format!("process {}\n", std::process::id());
    file.write_all(holder.as_bytes()).map_err(failed("write"))?;
    Ok(file)
}
