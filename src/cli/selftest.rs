//! `freshbench selftest`

use super::args::OutputFormat;
use super::{Exit, Failure, stop_on_ctrl_c};
use crate::output::{answer, say};
use crate::run::RunError;
use crate::run::selftest::{Check, selftest as run_selftest};
use clap::Args;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Debug, Args)]
pub(super) struct SelftestArgs {
    /// The folder for temporary files, on a real disk [default: the present one]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// What to print on stdout
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

pub(super) fn selftest(arguments: &SelftestArgs, quiet: bool) -> Result<Exit, Failure> {
    let place = arguments.work.clone().unwrap_or_else(|| PathBuf::from("."));
    let folder = tempfile::Builder::new().prefix("selftest-").tempdir_in(&place).map_err(|cause| {
        Failure::usage(format!("{}: can't make a folder there: {cause}; name another with --work", place.display()))
    })?;
    let stop = stop_on_ctrl_c("")?;
    let begun = Instant::now();
    let human = arguments.format == OutputFormat::Human;
    let mut tell = |check: &Check| {
        if human {
            // A reader that went away does not end the checks: the exit code is what they are for.
            let _ = write!(answer(), "{}", crate::foreign::terminal_lines(&told(check)));
        } else if !quiet {
            say!("{}: {}", if check.passed { "passed" } else { "FAILED" }, check.name);
        }
    };
    let checks = match run_selftest(folder.path(), &stop, &mut tell) {
        Err(RunError::Interrupted) => return Ok(Exit::Interrupted),
        other => other.map_err(Failure::error)?,
    };
    let passed = checks.iter().filter(|check| check.passed).count();
    let seconds = begun.elapsed().as_secs_f64();
    let mut out = answer();
    if human {
        writeln!(out, "\n{passed} of {} checks passed in {seconds:.0} s", checks.len())?;
    } else {
        let all = passed == checks.len();
        let json = serde_json::json!({ "schema": "freshbench.selftest", "schema_version": "1.0", "passed": all, "seconds": seconds, "checks": checks });
        serde_json::to_writer_pretty(&mut out, &json).map_err(io::Error::from)?;
        writeln!(out)?;
    }
    Ok(if passed == checks.len() { Exit::Ok } else { Exit::Error })
}

fn told(check: &Check) -> String {
    let mark = if check.passed { "ok    " } else { "FAILED" };
    let mut out = format!("{mark} {} ({:.1} s)\n         {}\n", check.name, check.seconds, check.seen);
    if !check.passed {
        out.push_str(&format!("         wanted: {}\n", check.wanted));
    }
    out
}
