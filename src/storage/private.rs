//! How files and folders of data are made: the owner's alone, and never through a symbolic link.
//!
//! They hold what a database holds, so they get what PostgreSQL gives its own: 0700 for folders, 0600 for files, whatever the
//! umask allows beyond that. What is there already keeps its mode, and is read and written as ever. Results, reports and exports are
//! made to be passed around, and go by the umask.
//!
//! A name that is known beforehand, such as `LOCK` or `MANIFEST.new`, could be a link to another file that this user may write, if somebody
//! else may write to the folder. So none is written through.

use rustix::fs::OFlags;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// How a file of data is opened to be written; what else it takes is added.
pub(crate) fn to_write() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(FILE_MODE).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Makes an empty file, or empties the one there is.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    to_write().create(true).truncate(true).open(path)
}

/// Makes an empty file where none may be.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    to_write().create_new(true).open(path)
}

/// Opens a file to be read. What is there under the name of a file of data is one, or an error: a pipe would be waited for.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"));
    }
    Ok(file)
}

/// Makes a folder, and those above it that are missing.
pub(crate) fn create_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Makes a folder where nothing may be.
pub(crate) fn create_new_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_the_owners_alone_and_what_was_there_keeps_its_mode() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        create_folders(&at("a/b")).unwrap();
        create_new_folder(&at("c")).unwrap();
        create(&at("a/b/x")).unwrap();
        create_new(&at("a/b/y")).unwrap();
        assert_eq!(["a", "a/b", "c"].map(|name| mode(&at(name))), [0o700; 3]);
        assert_eq!(["a/b/x", "a/b/y"].map(|name| mode(&at(name))), [0o600; 2]);
        fs::write(at("old"), "content").unwrap();
        fs::set_permissions(at("old"), fs::Permissions::from_mode(0o644)).unwrap();
        create(&at("old")).unwrap().write_all(b"new").unwrap();
        assert_eq!((mode(&at("old")), fs::read_to_string(at("old")).unwrap()), (0o644, "new".to_owned()));
    }

    #[test]
    fn a_pipe_in_a_files_place_is_not_waited_for() {
        let base = tempfile::tempdir().unwrap();
        let at = base.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&at).status().unwrap().success());
        assert_eq!(open(&at).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(open(base.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        fs::write(base.path().join("file"), "content").unwrap();
        assert_eq!(io::read_to_string(open(&base.path().join("file")).unwrap()).unwrap(), "content");
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        fs::write(at("precious"), "content").unwrap();
        symlink(at("precious"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        for link in ["link", "dangling"] {
            create(&at(link)).unwrap_err();
            create_new(&at(link)).unwrap_err();
            to_write().open(at(link)).unwrap_err();
            assert!(super::super::lock(&at(link)).is_err());
        }
        assert_eq!(fs::read_to_string(at("precious")).unwrap(), "content");
        assert!(!at("nowhere").exists());
    }
}
