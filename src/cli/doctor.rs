//! `freshbench doctor`: what this machine can do, or what a PostgreSQL server lacks, and how to mend it.

use super::args::{DoctorArgs, OutputFormat};
use super::{Exit, Failure};
use crate::clock::Clock;
use crate::foreign::terminal;
use crate::output::answer;
use crate::report::headline::{bytes, seconds};
use crate::run::environment;
use crate::source::postgres::{PgFinding, PgOptions, PgTableName, PgVerdict, examine};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::PathBuf;

pub(super) fn doctor(arguments: &DoctorArgs) -> Result<Exit, Failure> {
    match &arguments.source {
        Some(url) => source(arguments, url),
        None if arguments.tables.is_some() => Err(Failure::usage("--tables needs --source postgres://...")),
        None => machine(arguments.format),
    }
}

fn source(arguments: &DoctorArgs, url: &str) -> Result<Exit, Failure> {
    if !PgOptions::is_url(url) {
        // Not repeated: it may hold a password.
        return Err(Failure::usage("--source takes postgres://ROLE@HOST:PORT/DATABASE; a SQLite file needs no doctor"));
    }
    let options = PgOptions::parse(url).map_err(Failure::usage)?;
    let names = arguments.tables.as_deref().map(PgTableName::parse_list).transpose().map_err(Failure::usage)?;
    let findings = examine(&options, names.as_deref()).unwrap_or_else(|cause| {
        let remedy = "start the server there, or correct --source";
        vec![PgFinding {
            check: "reachable",
            table: None,
            verdict: PgVerdict::Missing,
            found: cause.to_string(),
            remedy: Some(remedy.to_owned()),
        }]
    });
    let missing = findings.iter().filter(|finding| finding.verdict == PgVerdict::Missing).count();
    let mut out = answer();
    match arguments.format {
        OutputFormat::Json => {
            let list: Vec<Value> = findings.iter().map(as_json).collect();
            let whole = json!({ "source": options.place(), "ok": missing == 0, "findings": list });
            serde_json::to_writer_pretty(&mut out, &whole).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        OutputFormat::Human => {
            for finding in &findings {
                writeln!(out, "{}", terminal(&line(finding)))?;
                if let Some(remedy) = &finding.remedy {
                    writeln!(out, "         -> {}", terminal(remedy))?;
                }
            }
            match missing {
                0 => writeln!(out, "all is fine")?,
                1 => writeln!(out, "1 thing is missing")?,
                count => writeln!(out, "{count} things are missing")?,
            }
        }
    }
    Ok(if missing == 0 { Exit::Ok } else { Exit::Error })
}

fn word(verdict: PgVerdict) -> &'static str {
    match verdict {
        PgVerdict::Ok => "ok",
        PgVerdict::Note => "note",
        PgVerdict::Missing => "missing",
    }
}

fn line(finding: &PgFinding) -> String {
    let verdict = if finding.verdict == PgVerdict::Missing { "MISSING" } else { word(finding.verdict) };
    let table = finding.table.as_ref().map(|table| format!("{table}: ")).unwrap_or_default();
    format!("{verdict:<8} {:<18} {table}{}", finding.check, finding.found)
}

fn as_json(finding: &PgFinding) -> Value {
    json!({
        "check": finding.check,
        "table": finding.table,
        "verdict": word(finding.verdict),
        "found": finding.found,
        "remedy": finding.remedy,
    })
}

/// Programs that some strategies or sinks use, and what they are for.
const SERVICES: [(&str, &str); 3] = [
    ("postgres", "PostgreSQL as record system"),
    ("redis-server", "Redis as cache"),
    ("pgbench", "a foreign load for attach"),
];

fn machine(format: OutputFormat) -> Result<Exit, Failure> {
    let folder = std::env::current_dir().map_err(|cause| Failure::error(format!("can't tell the folder: {cause}")))?;
    let found = environment(&folder, &Clock::monotonic());
    let fsync = found.calibration.get("fsync_p50_s").copied();
    let services: Vec<(&str, &str, Option<PathBuf>)> =
        SERVICES.iter().map(|&(name, what)| (name, what, program(name))).collect();
    let mut out = answer();
    match format {
        OutputFormat::Json => {
            let services: Vec<Value> = services
                .iter()
                .map(|(name, what, path)| json!({ "program": name, "for": what, "path": path }))
                .collect();
            let whole = json!({ "environment": found, "services": services });
            serde_json::to_writer_pretty(&mut out, &whole).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        OutputFormat::Human => {
            writeln!(out, "processor    {}, {} cores", terminal(&found.cpu_model), found.cores)?;
            writeln!(out, "memory       {}", bytes(found.mem_bytes as f64))?;
            writeln!(out, "system       {}", found.os)?;
            let place = folder.display().to_string();
            let place = terminal(&place);
            match fsync {
                Some(fsync) => {
                    writeln!(out, "disk         {} at {place}, an fsync takes {}", found.fs, seconds(fsync))?
                }
                None => writeln!(out, "disk         {} at {place}, where nothing can be written", found.fs)?,
            }
            for (name, what, path) in services {
                let found = path.map_or_else(|| "not found".to_owned(), |path| path.display().to_string());
                writeln!(out, "{name:<12} {} ({what})", terminal(&found))?;
            }
            for warning in crate::run::warnings(&found) {
                writeln!(out, "note: {warning}")?;
            }
        }
    }
    Ok(Exit::Ok)
}

/// Where PATH, or Debian's folder of PostgreSQL's programs, has it.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders = std::env::split_paths(&path).chain(debian.map(|entry| entry.path().join("bin")));
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}
