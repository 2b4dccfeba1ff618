//! `freshbench report`

use super::args::ReportArgs;
use super::{Exit, Failure};
use crate::output::{answer, say};
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

/// A page about one thing belongs beside its file, one about several where it was asked for.
fn default_output(runs: &[PathBuf]) -> PathBuf {
    match runs {
        [only] => page_of(&input::file_of(only)),
        _ => PathBuf::from("report.html"),
    }
}

/// The page about a file, beside it: `report.html` of a run, `sweep.html` of `sweep.json`.
fn page_of(file: &Path) -> PathBuf {
    if file.file_name().is_some_and(|name| name == "result.json") {
        file.with_file_name("report.html")
    } else {
        file.with_extension("html")
    }
}

/// Writes the page about a file that a command has just left, beside it.
pub(super) fn write_page_of(file: &Path) -> Result<PathBuf, Failure> {
    let page = page_of(file);
    let given = input::read(file).map_err(Failure::error)?;
    save::replace_file(&page, html::report(&[given]).as_bytes()).map_err(Failure::error)?;
    Ok(page)
}

/// A file of JSON that a command is asked for: its page, and for some its Markdown, come beside it under its name.
pub(super) fn check_out(out: Option<&Path>) -> Result<(), Failure> {
    let taken = |path: &&Path| path.extension().is_some_and(|ending| ending == "html" || ending == "md");
    match out.filter(taken) {
        Some(path) => {
            let path = path.display();
            Err(Failure::usage(format!(
                "--out {path}: names a file for JSON, beside which the page comes; end it in .json"
            )))
        }
        None => Ok(()),
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
    let (mut listed, mut others) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        let file = input::file_of(&entry.path());
        let of_folder = entry.path().is_dir() && file.is_file();
        if !of_folder && file.extension().is_none_or(|ending| ending != "jsonl") {
            continue;
        }
        let page = Some(page_of(&file)).filter(|page| page.is_file());
        let shown = page.as_deref().unwrap_or(&file);
        let link = shown.strip_prefix(folder).unwrap_or(shown).to_string_lossy().into_owned();
        let name = entry.file_name().to_string_lossy().into_owned();
        match input::read(&file) {
            Ok(Input::Run(run)) => listed.push(html::Listed { link, run: *run }),
            Ok(other) => others.push(html::OtherListed::of(&other, name, link)),
            // One result of another version must not hide the others.
            Err(InputError { path, why }) => say!("freshbench: left out: {}: {why}", path.display()),
        }
    }
    if listed.is_empty() && others.is_empty() {
        return Err(Failure::usage(format!(
            "{}: no run in it; name a folder whose folders hold a result.json",
            folder.display()
        )));
    }
    others.sort_by(|a, b| b.name.cmp(&a.name));
    let page = html::index(&listed, &others);
    write(&arguments.output.clone().unwrap_or_else(|| folder.join("index.html")), &page, quiet)
}

fn write(path: &Path, page: &str, quiet: bool) -> Result<Exit, Failure> {
    save::replace_file(path, page.as_bytes()).map_err(|error: ReportError| {
        Failure::usage(format!("can't write {}: {}; name another file with -o", error.path.display(), error.cause))
    })?;
    writeln!(answer(), "{}", path.display())?;
    if !quiet {
        say!("{} bytes; open it in a browser", page.len());
    }
    Ok(Exit::Ok)
}
