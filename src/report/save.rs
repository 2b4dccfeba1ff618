//! Writing results so that a reader never sees half a file.

use super::result::RunResult;
use super::{html, terminal};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a result could not be written.
#[derive(Debug)]
pub struct ReportError {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    pub cause: io::Error,
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "can't write {}: {}; free some space or choose another folder with --out",
            self.path.display(),
            self.cause
        )
    }
}

impl std::error::Error for ReportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Writes `result.json` and `summary.md` into `folder`, each whole or not at all.
///
/// # Errors
/// [`ReportError`] naming the file.
pub fn save_result(folder: &Path, result: &RunResult) -> Result<(), ReportError> {
    let path = folder.join("result.json");
    let mut json =
        serde_json::to_vec_pretty(result).map_err(|cause| ReportError { path: path.clone(), cause: cause.into() })?;
    json.push(b'\n');
    replace_file(&path, &json)?;
    replace_file(&folder.join("summary.md"), terminal::markdown(result).as_bytes())
}

/// Writes a file whole or not at all.
///
/// # Errors
/// [`ReportError`] naming the file; nothing is left behind then.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    let temporary = path.with_extension("tmp");
    let write = || -> io::Result<()> {
        // A link of this name is not written through, and a file goes first: it may be left of a run that was killed.
        let _ = fs::remove_file(&temporary);
        let mut file = File::create_new(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|cause| {
        let _ = fs::remove_file(&temporary);
        ReportError { path: path.to_owned(), cause }
    })
}

/// Writes `report.html` into `folder`, whole or not at all, and tells where.
///
/// # Errors
/// [`ReportError`] naming the file.
pub fn save_page(folder: &Path, result: &RunResult) -> Result<PathBuf, ReportError> {
    let path = folder.join("report.html");
    let page = html::report(&[html::Input::Run(Box::new(result.clone()))]);
    replace_file(&path, page.as_bytes())?;
    Ok(path)
}
