//! The folders of an attach: those of a beginning that failed go again, and what was there before stays as it was.

use crate::run::RunError;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Folders that are taken into use. Dropped before [`Folders::begun`], they are as they were before.
#[derive(Debug)]
pub(super) struct Folders {
    warehouse: Folder,
    result: Folder,
    begun: bool,
}

/// One folder, and what there was of it.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// The names in it, if it was there.
    names: Option<BTreeSet<OsString>>,
    /// Folders above it that were not there, the innermost first.
    above: Vec<PathBuf>,
}

impl Folders {
    /// Makes both, and `within` the warehouse's.
    pub(super) fn make(warehouse: &Path, within: &Path, result: &Path) -> Result<Folders, RunError> {
        let (warehouse, result) = (Folder::at(warehouse)?, Folder::at(result)?);
        // From here on they go again, also when one of them can't be made.
        let folders = Folders { warehouse, result, begun: false };
        let io = |path: &Path| {
            let path = path.to_owned();
            move |cause| RunError::Io { path, cause }
        };
        std::fs::create_dir_all(&folders.result.path).map_err(io(&folders.result.path))?;
        crate::storage::private::create_folders(within).map_err(io(within))?;
        Ok(folders)
    }

    /// For who goes on in a warehouse that is there: what it changes belongs together, also when it fails.
    pub(super) fn resumed(&mut self) {
        self.begun |= self.warehouse.names.is_some();
    }

    /// What is in the warehouse is of use from now on.
    pub(super) fn begun(&mut self) {
        self.begun = true;
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        if !self.begun {
            self.warehouse.restore();
            self.result.restore();
        } else if self.result.names.is_none() {
            // One without a result, when following failed.
            self.result.remove_if_empty();
        }
    }
}

impl Folder {
    fn at(path: &Path) -> Result<Folder, RunError> {
        let failed = |cause| RunError::Io { path: path.to_owned(), cause };
        let names = match std::fs::read_dir(path) {
            Ok(entries) => {
                Some(entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>().map_err(failed)?)
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => None,
            Err(cause) => return Err(failed(cause)),
        };
        let above = path.ancestors().skip(1).take_while(|above| !above.as_os_str().is_empty() && !above.exists());
        Ok(Folder { path: path.to_owned(), names, above: above.map(Path::to_owned).collect() })
    }

    /// The failure that led here is what the user must hear of, so another one is passed over.
    fn restore(&self) {
        let Some(names) = &self.names else {
            let _ = std::fs::remove_dir_all(&self.path);
            return self.remove_if_empty();
        };
        for entry in std::fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if !names.contains(&entry.file_name()) {
                let path = entry.path();
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let _ = if is_folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            }
        }
    }

    fn remove_if_empty(&self) {
        let _ = std::fs::remove_dir(&self.path);
        for above in &self.above {
            // One that somebody has put something into stays.
            let _ = std::fs::remove_dir(above);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_beginning_that_failed_leaves_what_was_there_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let (old, new, result) = (root.path().join("old"), root.path().join("a/b/new"), root.path().join("r/result"));
        fs::create_dir_all(old.join("attach")).unwrap();
        fs::write(old.join("attach/kept"), "1").unwrap();
        fs::write(old.join("kept"), "2").unwrap();
        for warehouse in [&old, &new] {
            let folders = Folders::make(warehouse, &warehouse.join("attach"), &result).unwrap();
            fs::create_dir_all(warehouse.join("files")).unwrap();
            fs::write(warehouse.join("files/1"), "x").unwrap();
            fs::write(warehouse.join("LOCK"), "x").unwrap();
            drop(folders);
        }
        let names = |path: &Path| -> Vec<String> {
            let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        };
        assert_eq!(
            (names(root.path()), names(&old)),
            (vec!["old".to_owned()], vec!["attach".to_owned(), "kept".to_owned()])
        );
        assert_eq!(fs::read_to_string(old.join("attach/kept")).unwrap(), "1");
        // Later a result folder that is empty goes, one with a result stays, and so does the warehouse.
        for written in [false, true] {
            let mut folders = Folders::make(&new, &new.join("attach"), &result).unwrap();
            folders.begun();
            if written {
                fs::write(result.join("result.json"), "{}").unwrap();
            }
            drop(folders);
            assert_eq!(
                (new.join("attach").is_dir(), result.exists(), root.path().join("r").exists()),
                (true, written, written)
            );
        }
    }
}
