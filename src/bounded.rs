//! Files that a user names, read whole: never more than a limit, and never waiting for a pipe that nobody writes to.
//!
//! What a file's metadata say of its size is not asked: a device, a pipe and the files of `/proc` have none.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Settings that people write by hand.
pub(crate) const SETTINGS_BYTES_MAX: u64 = 1 << 20;

/// The bytes of the file at `path`, at most `bytes_max`.
///
/// # Errors
/// When it can't be read, is a folder, a pipe without a writer, or holds more.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let (file, mut bytes) = open(path)?;
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let what = format!("it holds more than {bytes_max} bytes, which is the limit; is it the right file?");
        return Err(io::Error::new(ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

/// As [`read`], for text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read(path, bytes_max)?).map_err(|cause| {
        io::Error::new(ErrorKind::InvalidData, format!("it is not UTF-8 text: {}", cause.utf8_error()))
    })
}

/// The file, and what was read of it to see whether a pipe has a writer.
fn open(path: &Path) -> io::Result<(File, Vec<u8>)> {
    // Opening a pipe waits for its writer, unless it is asked not to.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::new(ErrorKind::IsADirectory, "it is a folder; name a file in it"));
    }
    let mut first = Vec::new();
    if kind.is_fifo() {
        let mut byte = [0];
        match file.read(&mut byte) {
            Ok(0) => {
                return Err(io::Error::new(ErrorKind::InvalidInput, "it is a pipe that nobody writes to; name a file"));
            }
            Ok(_) => first.extend_from_slice(&byte),
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => {}
            Err(cause) => return Err(cause),
        }
    }
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok((file, first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;
    use std::process::Command;

    fn refused(path: &str, words: &str) {
        let said = read(Path::new(path), 1_000).expect_err(path).to_string();
        assert!(said.contains(words), "{path}: {said}");
    }

    #[test]
    fn what_has_no_end_or_no_size_is_bounded_all_the_same() {
        refused("/dev/zero", "more than 1000 bytes");
        refused("/proc/self/smaps", "more than 1000 bytes");
        refused("/proc/self", "folder");
        assert!(read(Path::new("/dev/null"), 1_000).expect("nothing").is_empty());
        assert!(!read(Path::new("/proc/self/comm"), 1_000).expect("a name").is_empty());
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("full"), [7; 1_000]).expect("written");
        fs::write(path("over"), [7; 1_001]).expect("written");
        assert_eq!(read(&path("full"), 1_000).expect("all of it").len(), 1_000);
        refused(path("over").to_str().expect("a name"), "more than 1000 bytes");
        fs::write(path("latin"), b"caf\xe9").expect("written");
        let said = read_text(&path("latin"), 1_000).expect_err("no UTF-8").to_string();
        assert!(said.contains("not UTF-8"), "{said}");
    }

    #[test]
    fn a_pipe_is_read_while_somebody_writes_and_never_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe: PathBuf = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        refused(pipe.to_str().expect("a name"), "nobody writes");
        // Held open for reading, so that a writer does not wait for us.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("flags");
        let held = OpenOptions::new().read(true).custom_flags(flags).open(&pipe).expect("open");
        let mut writer = OpenOptions::new().write(true).open(&pipe).expect("open");
        let reading = std::thread::spawn({
            let pipe = pipe.clone();
            move || read_text(&pipe, 1_000)
        });
        std::io::Write::write_all(&mut writer, b"about = 1").expect("written");
        // The end comes when the last writer goes; until then the reader waits.
        while !pipe_is_empty(&held) {
            std::thread::yield_now();
        }
        drop(writer);
        assert_eq!(reading.join().expect("read").expect("text"), "about = 1");
    }

    fn pipe_is_empty(pipe: &File) -> bool {
        rustix::io::ioctl_fionread(pipe).expect("a count") == 0
    }
}
