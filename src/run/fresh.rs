//! A fresh process for each case of a run: what one case leaves in memory is then no part of the next one's peak.
//!
//! The process replaces itself (exec) by the same program with the same arguments, so its number, its terminal and whatever
//! watches it stay; a note in the work folder says where the run is. Where that can't be done the cases share the process, and
//! the result says what was resident when each began.

use super::RunError;
use crate::report::{Case, RunResult};
use crate::storage::private;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the note is, for the process that goes on.
const VARIABLE: &str = "FRESHBENCH_GOES_ON";
/// The note's name in the work folder.
const NOTE: &str = "goes-on.json";

/// A process needs less time to begin.
const BEGINNING_MAX: Duration = Duration::from_secs(10);

/// Where a run is between two cases.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) result: RunResult,
    /// Cases so far, by the plan's strategies.
    pub(super) measured: Vec<Vec<Case>>,
    /// The case that comes next, counted through all repetitions.
    pub(super) next: usize,
    pub(super) folder: PathBuf,
}

/// Where the work folder is of the run that this process goes on with, if it does.
pub fn work_folder() -> Option<PathBuf> {
    Some(Path::new(&std::env::var_os(VARIABLE)?).parent()?.to_owned())
}

/// Whether a process that goes on with the run in this folder is just beginning: the lock of the one before it ended with it.
pub(super) fn is_beginning(work: &Path) -> bool {
    let noted = std::fs::metadata(work.join(NOTE)).and_then(|found| found.modified());
    noted.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < BEGINNING_MAX))
}

/// Takes the note up, once.
pub(super) fn take(work: &Path) -> Result<Note, RunError> {
    let path = work.join(NOTE);
    let failed = |cause: io::Error| RunError::Io { path: path.clone(), cause };
    let text = std::fs::read(&path).map_err(failed)?;
    let note = serde_json::from_slice(&text).map_err(|cause| failed(cause.into()))?;
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(note)
}

/// Leaves the note and begins anew as a fresh process. Returns only if that can't be done.
pub(super) fn go_on(work: &Path, note: &Note) -> io::Error {
    let path = work.join(NOTE);
    let cause = leave(&path, note).and_then(|()| std::env::current_exe()).map_or_else(
        |cause| cause,
        |program| {
            let mut arguments = std::env::args_os();
            let name = arguments.next().unwrap_or_default();
            replace(std::process::Command::new(program).args(arguments).env(VARIABLE, &path), &name)
        },
    );
    let _ = std::fs::remove_file(&path);
    cause
}

fn leave(path: &Path, note: &Note) -> io::Result<()> {
    let text = serde_json::to_vec(note)?;
    // What can't be read back, such as a number that JSON has not, would end the run there.
    serde_json::from_slice::<Note>(&text)?;
    private::create(path)?.write_all(&text)
}

#[cfg(unix)]
fn replace(command: &mut std::process::Command, name: &std::ffi::OsStr) -> io::Error {
    use std::os::unix::process::CommandExt;
    command.arg0(name).exec()
}

#[cfg(not(unix))]
fn replace(_: &mut std::process::Command, _: &std::ffi::OsStr) -> io::Error {
    io::ErrorKind::Unsupported.into()
}

/// Where a run keeps databases, logs and warehouses; gone with it if it was made for it.
#[derive(Debug)]
pub(super) struct WorkFolder {
    pub(super) path: PathBuf,
    pub(super) temporary: bool,
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if self.temporary {
            // What can't be removed is left; the figures are what they are.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
