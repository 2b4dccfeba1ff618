//! One writer at a time: a lock file that names its holder.

use super::private;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a lock was not to be had.
pub(crate) enum LockFault {
    /// Another has it.
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

/// A process that this one is just starting has all its open files, and so its locks, until its own program begins: a lock that was let go of
/// meanwhile is still held, in this process's name. So it is asked for again, so often and so far apart.
const OWN_TRIES: (u32, Duration) = (100, Duration::from_millis(5));

/// Takes the lock of the file at `path`, which is made if it is missing. It is let go when the file is closed, also by a crash.
pub(crate) fn lock(path: &Path) -> Result<File, LockFault> {
    let failed = |operation| move |cause| LockFault::Io { operation, path: path.to_owned(), cause };
    let opened = private::to_write().read(true).create(true).truncate(false).open(path).map_err(told_of_link);
    let mut file = opened.map_err(failed("open"))?;
    let own = format!("process {}", std::process::id());
    let mut tries = OWN_TRIES.0;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(cause)) => return Err(failed("lock")(cause)),
            Err(TryLockError::WouldBlock) => {}
        }
        let holder = holder(path);
        if holder != own || tries == 0 {
            return Err(LockFault::Held { path: path.to_owned(), holder });
        }
        tries -= 1;
        std::thread::sleep(OWN_TRIES.1);
    }
    file.set_len(0).map_err(failed("write"))?;
    writeln!(file, "{own}").map_err(failed("write"))?;
    Ok(file)
}

/// The system's own words for a link that is not followed speak of too many.
fn told_of_link(cause: io::Error) -> io::Error {
    if cause.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return io::Error::other("it is a symbolic link, which is not followed; remove it");
    }
    cause
}

fn holder(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(200).read_to_string(&mut text));
    let text = text.trim();
    if read.is_err() || text.is_empty() { "a process that has not named itself".to_owned() } else { text.to_owned() }
}
