//! `freshbench report`

use super::args::ReportArgs;
use super::{Exit, Failure};
use crate::report::html::{self, Input, InputError, input};
use crate::report::{ReportError, save};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Runs that one page takes.
const RUNS_MAX: usize = 200;

pub(super) fn report(arguments: &ReportArgs, quiet: bool) -> Result<Exit, Failure> {
    if arguments.index {
        return index(arguments, quiet);
    }
    if arguments.runs.is_empty() {
        return Err(Failure::usage(
            "no run is named; give a run's folder or a result file, or --index for a folder of runs",
        ));
    }
    if arguments.runs.len() > RUNS_MAX {
        return Err(Failure::usage(format!("{} results are given; one page takes {RUNS_MAX}", arguments.runs.len())));
    }
    let inputs: Vec<Input> =
        arguments.runs.iter().map(|path| input::read(path)).collect::<Result<_, _>>().map_err(Failure::usage)?;
    let page = html::report(&inputs);
    write(&arguments.output.clone().unwrap_or_else(|| default_output(&arguments.runs)), &page, quiet)
}

/// One run's page belongs beside its result; a page about several belongs where it was asked for.
fn default_output(runs: &[PathBuf]) -> PathBuf {
    match runs {
        [only] if only.is_dir() => only.join("report.html"),
        [only] if only.file_name().is_some_and(|name| name == "result.json") => only.with_file_name("report.html"),
        _ => PathBuf::from("report.html"),
    }
}

fn index(arguments: &ReportArgs, quiet: bool) -> Result<Exit, Failure> {
    let folder = match arguments.runs.as_slice() {
        [] => Path::new("reports"),
        [only] => only,
        _ => return Err(Failure::usage("--index takes one folder of runs")),
    };
    let unread = |cause: std::io::Error| {
        Failure::usage(format!("{}: can't be listed: {cause}; name a folder of runs", folder.display()))
    };
    let mut listed = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let path = entry.path();
        if !path.join("result.json").is_file() {
            continue;
        }
        match input::read(&path) {
            Ok(Input::Run(run)) => listed.push(html::Listed {
                folder: entry.file_name().to_string_lossy().into_owned(),
                has_page: path.join("report.html").is_file(),
                run: *run,
            }),
            Ok(_) => {}
            // One result of another version must not hide the others.
            Err(InputError { path, why }) => eprintln!("freshbench: left out: {}: {why}", path.display()),
        }
    }
    if listed.is_empty() {
        return Err(Failure::usage(format!(
            "{}: no run in it; name a folder whose folders hold a result.json",
            folder.display()
        )));
    }
    write(&arguments.output.clone().unwrap_or_else(|| folder.join("index.html")), &html::index(&listed), quiet)
}

fn write(path: &Path, page: &str, quiet: bool) -> Result<Exit, Failure> {
    save::replace_file(path, page.as_bytes()).map_err(|error: ReportError| {
        Failure::usage(format!("can't write {}: {}; name another file with -o", error.path.display(), error.cause))
    })?;
    writeln!(std::io::stdout(), "{}", path.display())?;
    if !quiet {
        eprintln!("{} bytes; open it in a browser", page.len());
    }
    Ok(Exit::Ok)
}
