//! `freshbench warehouse verify` and `freshbench warehouse versions`: what a folder holds, and whether it is sound.

use super::args::OutputFormat;
use super::{Exit, Failure};
use crate::foreign::terminal;
use crate::model::ValueRef;
use crate::model::text::write_text;
use crate::output::answer;
use crate::report::headline::{bytes, count};
use crate::sink::warehouse::{Verification, VersionInfo, verify as verify_folder, versions as versions_of};
use clap::Args;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The warehouse folder; a writer may be at work in it
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What to print on stdout
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

#[derive(Debug, Args)]
pub(super) struct VersionsArgs {
    /// The warehouse folder; a writer may be at work in it
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What to print on stdout
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

pub(super) fn verify(arguments: &VerifyArgs) -> Result<Exit, Failure> {
    let found = verify_folder(&arguments.folder).map_err(Failure::opening)?;
    let mut out = answer();
    match arguments.format {
        OutputFormat::Json => print_json(&mut out, &verification_json(&arguments.folder, &found))?,
        OutputFormat::Human => print_verification(&mut out, &arguments.folder, &found)?,
    }
    Ok(if found.faults.is_empty() { Exit::Ok } else { Exit::ValidationFailed })
}

fn print_json(out: &mut impl Write, value: &Value) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

fn print_verification(out: &mut impl Write, folder: &Path, found: &Verification) -> Result<(), Failure> {
    for fault in &found.faults {
        let at = fault.offset.map(|offset| format!(" at byte {offset}")).unwrap_or_default();
        let line = format!("DAMAGED {}{at}: {} (commit {})", fault.path.display(), fault.what, fault.commit);
        writeln!(out, "{}", terminal(&line))?;
    }
    let verdict = match found.faults.len() {
        0 => "sound".to_owned(),
        1 => "1 FAULT".to_owned(),
        faults => format!("{faults} FAULTS"),
    };
    writeln!(
        out,
        "{}: {verdict}; commit {}, watermark {}, {} rows; read {} files with {}, versions: {}",
        terminal(&folder.display().to_string()),
        found.commit,
        found.watermark,
        count(found.rows as f64),
        count(found.files as f64),
        bytes(found.bytes as f64),
        found.versions
    )?;
    Ok(())
}

fn verification_json(folder: &Path, found: &Verification) -> Value {
    let faults = found.faults.iter().map(|fault| {
        json!({ "commit": fault.commit, "file": fault.path.to_string_lossy(), "offset": fault.offset, "what": fault.what })
    });
    json!({
        "folder": folder.to_string_lossy(),
        "sound": found.faults.is_empty(),
        "commit": found.commit,
        "watermark": found.watermark,
        "rows": found.rows,
        "files": found.files,
        "bytes": found.bytes,
        "versions": found.versions,
        "faults": faults.collect::<Vec<_>>(),
    })
}

pub(super) fn versions(arguments: &VersionsArgs) -> Result<Exit, Failure> {
    let all = versions_of(&arguments.folder).map_err(Failure::opening)?;
    let mut out = answer();
    match arguments.format {
        OutputFormat::Json => {
            let list: Vec<Value> = all.iter().map(version_json).collect();
            print_json(&mut out, &json!({ "folder": arguments.folder.to_string_lossy(), "versions": list }))?;
        }
        OutputFormat::Human => {
            writeln!(out, "{:>10} {:>14} {:<29} {:>14} {:>10}", "commit", "watermark", "committed", "rows", "size")?;
            for version in &all {
                let time = time_of(version).unwrap_or_else(|| "-".to_owned());
                let (rows, size) = (count(version.rows as f64), bytes(version.bytes as f64));
                writeln!(out, "{:>10} {:>14} {time:<29} {rows:>14} {size:>10}", version.commit, version.watermark.0)?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// When it was committed, in UTC.
fn time_of(version: &VersionInfo) -> Option<String> {
    let mut text = String::new();
    write_text(&mut text, ValueRef::Timestamp(version.committed_at_us?)).ok()?;
    Some(text)
}

fn version_json(version: &VersionInfo) -> Value {
    json!({
        "commit": version.commit,
        "watermark": version.watermark.0,
        "committed_at": time_of(version),
        "rows": version.rows,
        "bytes": version.bytes,
        "current": version.is_current,
    })
}
