//! Making the folder that log or warehouse lies in.

use super::Storage;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a folder could not be made, or its name not made durable.
#[derive(Debug)]
pub(crate) struct FolderFault {
    /// What was tried.
    pub(crate) operation: &'static str,
    /// On what.
    pub(crate) path: PathBuf,
    /// Why it failed.
    pub(crate) cause: io::Error,
}

/// Makes `folder` and those above it that are missing, from the top down, each with its name durable before the next.
///
/// A process may have ended between making a folder and the fsync of its name, and nothing shows it. So the lowest folder
/// that is there has its name made durable as well. Call it before anything in `folder` is relied on.
pub(crate) fn create_folder(storage: &dyn Storage, folder: &Path) -> Result<(), FolderFault> {
    let missing = folder.ancestors().take_while(|level| !level.as_os_str().is_empty() && !level.is_dir());
    let missing: Vec<&Path> = missing.collect();
    if let Some(there) = folder.ancestors().nth(missing.len()) {
        match sync_name(storage, there) {
            // Whoever made it between folders that we may not read, it was not an earlier start of ours.
            Err(fault) if fault.cause.kind() == ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    for level in missing.into_iter().rev() {
        let fault = |cause| FolderFault { operation: "create", path: level.to_owned(), cause };
        storage.create_folder(level).map_err(fault)?;
        sync_name(storage, level)?;
    }
    Ok(())
}

/// Makes the name of a folder durable, which is an entry of the folder above it.
fn sync_name(storage: &dyn Storage, folder: &Path) -> Result<(), FolderFault> {
    let Some(parent) = folder.parent() else { return Ok(()) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let fault = |cause| FolderFault { operation: "fsync the name of", path: folder.to_owned(), cause };
    storage.sync_folder(parent).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::super::faulty::{Fault, FaultyDisk};
    use super::*;

    /// The steps, with the name of the temporary folder as `base`.
    fn steps(disk: &FaultyDisk, base: &Path) -> Vec<String> {
        let name = base.file_name().unwrap().to_string_lossy().into_owned();
        disk.trace().iter().map(|step| step.replace(&name, "base")).collect()
    }

    #[test]
    fn every_level_is_made_and_made_durable_in_turn() {
        let base = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::new(None, None);
        create_folder(&disk, &base.path().join("a/b/c")).unwrap();
        let above = base.path().parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        let wanted = ["create folder a", "fsync folder base", "create folder b", "fsync folder a", "create folder c"];
        let made = steps(&disk, base.path());
        assert_eq!(made[0], format!("fsync folder {above}"));
        assert_eq!((&made[1..6], &made[6..]), (&wanted.map(str::to_owned)[..], &["fsync folder b".to_owned()][..]));
    }

    #[test]
    fn a_kill_at_any_step_leaves_no_name_that_the_next_start_does_not_make_durable() {
        for step in 0..7 {
            let base = tempfile::tempdir().unwrap();
            let folder = base.path().join("a/b/c");
            let killed = FaultyDisk::new(Some((step, Fault::Kill)), None);
            create_folder(&killed, &folder).unwrap_err();
            // A kill between a step and the next one: the folder of a refused "create" is there, too.
            if killed.hit().is_some_and(|hit| hit.starts_with("create")) {
                let next = folder.ancestors().filter(|level| !level.is_dir()).last().unwrap();
                std::fs::create_dir(next).unwrap();
            }
            let disk = FaultyDisk::new(None, None);
            create_folder(&disk, &folder).unwrap();
            let synced = [steps(&killed, base.path())[..step].to_vec(), steps(&disk, base.path())].concat();
            for parent in ["base", "a", "b"] {
                let wanted = format!("fsync folder {parent}");
                assert!(synced.contains(&wanted), "killed at step {step}: no {wanted} in {synced:?}");
            }
        }
    }
}
