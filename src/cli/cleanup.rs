//! `freshbench cleanup`

use super::{Exit, Failure};
use crate::foreign::terminal;
use crate::output::{answer, say};
use crate::run::cleanup::{Found, find_at, find_below, remove};
use crate::source::postgres::PgOptions;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct CleanupArgs {
    /// The server: databases of runs on all of it, and what attaches left in the database that is named, as
    /// postgres://ROLE@HOST:PORT/DATABASE. Without it only folders are looked for
    #[arg(long, value_name = "URL")]
    source: Option<String>,
    /// Also look below this folder for the folders of runs, which may be given several times
    #[arg(long, value_name = "DIR", default_value = "reports")]
    folder: Vec<PathBuf>,
    /// Only list what would be removed
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn cleanup(arguments: &CleanupArgs) -> Result<Exit, Failure> {
    let server = match &arguments.source {
        None => None,
        Some(url) if PgOptions::is_url(url) => Some(PgOptions::parse(url).map_err(Failure::usage)?),
        // Not repeated: it may hold a password.
        Some(_) => {
            let why = "takes postgres://ROLE@HOST:PORT/DATABASE; nothing is ever left in a SQLite file of yours";
            return Err(Failure::usage(format!("--source: {why}")));
        }
    };
    let mut found = server.as_ref().map_or_else(|| Ok(Vec::new()), find_at).map_err(Failure::error)?;
    for folder in &arguments.folder {
        let known: Vec<Option<PathBuf>> = found.iter().map(place).collect();
        found.extend(find_below(folder).into_iter().filter(|one| !known.contains(&place(one))));
    }
    let mut out = answer();
    for one in &found {
        let state = one.stays.as_ref().map_or("left behind".to_owned(), |why| format!("stays: {why}"));
        writeln!(out, "{}", terminal(&format!("{}: {state}", one.what)))?;
    }
    let removable: Vec<&Found> = found.iter().filter(|one| one.stays.is_none()).collect();
    if removable.is_empty() {
        writeln!(out, "nothing to remove")?;
        return Ok(Exit::Ok);
    }
    if arguments.dry_run {
        writeln!(out, "{} to remove; nothing was removed", removable.len())?;
        return Ok(Exit::Ok);
    }
    let mut failures = 0;
    for one in removable {
        match remove(server.as_ref(), one) {
            Ok(()) => writeln!(out, "removed {}", terminal(&one.what.to_string()))?,
            Err(cause) => {
                failures += 1;
                say!("freshbench: {cause}");
            }
        }
    }
    match failures {
        0 => Ok(Exit::Ok),
        1 => Err(Failure::error("1 thing could not be removed")),
        count => Err(Failure::error(format!("{count} things could not be removed"))),
    }
}

/// Where a folder really is, so that none is listed twice.
fn place(found: &Found) -> Option<PathBuf> {
    match &found.what {
        crate::run::cleanup::Leftover::Folder(path) => path.canonicalize().ok(),
        _ => None,
    }
}
