//! The command line: raw flags in, an exit code out. Data goes to stdout, progress and messages to stderr.

mod ab;
#[cfg(test)]
mod again;
mod args;
mod attach;
mod cleanup;
mod compare;
mod doctor;
mod dump;
mod export;
mod find_rate;
#[cfg(test)]
mod flags_and_hash;
mod history;
mod live;
mod load;
mod man;
mod progress;
mod query;
mod race;
mod report;
mod run;
mod selftest;
mod sweep;
mod verify;
mod warehouse_rows;

pub use args::Cli;

use crate::foreign::is_plain;
use crate::output::{self, say};
use crate::run::name_allocator;
use crate::sink::WarehouseError;
use args::{Command, WarehouseCommand};
use clap::{CommandFactory, Parser};
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Ok = 0,
    /// Something failed.
    Error = 1,
    /// Wrong usage or bad input.
    Usage = 2,
    /// A regression, where the user wants to fail on one.
    Regression = 3,
    /// Nothing was proven, where the user wants to fail on a regression.
    Inconclusive = 4,
    /// A derived system does not equal the record system, though its strategy promises it.
    ValidationFailed = 5,
    /// Ctrl-C; what had finished is saved.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A message for a person, and the exit code that goes with it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    fn usage(message: impl Display) -> Failure {
        Failure { exit: Exit::Usage, message: message.to_string() }
    }

    fn error(message: impl Display) -> Failure {
        Failure { exit: Exit::Error, message: message.to_string() }
    }

    /// Of opening a warehouse folder: no warehouse, no such version or a format of another build is bad input; a disk that
    /// fails and a damaged file are errors.
    fn opening(error: WarehouseError) -> Failure {
        use io::ErrorKind::{NotADirectory, NotFound};
        match &error {
            WarehouseError::Io { cause, .. } if matches!(cause.kind(), NotFound | NotADirectory) => {
                Failure::usage(error)
            }
            WarehouseError::UnsupportedVersion { .. } | WarehouseError::NoVersion { .. } => Failure::usage(error),
            _ => Failure::error(error),
        }
    }
}

/// A reader such as `head` that closed our stdout is no failure.
impl From<io::Error> for Failure {
    fn from(cause: io::Error) -> Failure {
        if cause.kind() == io::ErrorKind::BrokenPipe {
            return Failure { exit: Exit::Ok, message: String::new() };
        }
        Failure::error(format!("can't write to stdout: {cause}"))
    }
}

/// Parses the process's arguments, does what they say and tells how it ended. `allocator` is the program's, for the record.
pub fn main(allocator: &'static str) -> ExitCode {
    name_allocator(allocator);
    let ended = parsed().and_then(|cli| {
        let exit = cli.as_ref().map_or(Ok(Exit::Ok), dispatch)?;
        output::end()?;
        Ok(exit)
    });
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                say!("freshbench: {}", failure.message);
            }
            failure.exit.into()
        }
    }
}

/// Says what is wrong with the arguments, which it repeats.
fn wrong_usage(error: &clap::Error) -> Failure {
    if std::env::args_os().all(|argument| is_plain(&argument.to_string_lossy())) {
        // In colours, where they are wanted.
        error.exit();
    }
    for line in error.render().to_string().trim_end().lines() {
        say!("{line}");
    }
    Failure { exit: Exit::Usage, message: String::new() }
}

/// The command line; `None` where it asked for help or the version, which is printed.
fn parsed() -> Result<Option<Cli>, Failure> {
    match Cli::try_parse() {
        Ok(cli) => Ok(Some(cli)),
        Err(wrong) if wrong.use_stderr() => Err(wrong_usage(&wrong)),
        Err(asked) => {
            asked.print()?;
            Ok(None)
        }
    }
}

/// A flag that Ctrl-C raises. A second Ctrl-C ends at once.
fn stop_on_ctrl_c(at_once: &'static str) -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if heard.swap(true, Ordering::Relaxed) {
            if !at_once.is_empty() {
                say!("freshbench: ended at once{at_once}");
            }
            std::process::exit(Exit::Interrupted as i32);
        }
    })
    .map_err(|cause| Failure::error(format!("can't listen for Ctrl-C: {cause}")))?;
    Ok(stop)
}

fn dispatch(cli: &Cli) -> Result<Exit, Failure> {
    match &cli.command {
        Command::Run(arguments) => run::run(arguments, cli.quiet),
        Command::Race(arguments) => race::race(arguments, cli.quiet),
        Command::Attach(arguments) => attach::attach(arguments, cli.quiet),
        Command::Report(arguments) => report::report(arguments, cli.quiet),
        Command::Sweep(arguments) => sweep::sweep(arguments, cli.quiet),
        Command::Ab(arguments) => ab::ab(arguments, cli.quiet),
        Command::Compare(arguments) => compare::compare(arguments, cli.quiet),
        Command::History(command) => history::history(command, cli.quiet),
        Command::Export(arguments) => export::export(arguments, cli.quiet),
        Command::Selftest(arguments) => selftest::selftest(arguments, cli.quiet),
        Command::Load(arguments) => load::load(arguments),
        Command::Cleanup(arguments) => cleanup::cleanup(arguments),
        Command::Doctor(arguments) => doctor::doctor(arguments),
        Command::Warehouse(WarehouseCommand::Dump(arguments)) => dump::dump(arguments),
        Command::Warehouse(WarehouseCommand::Query(arguments)) => query::query(arguments),
        Command::Warehouse(WarehouseCommand::Verify(arguments)) => verify::verify(arguments),
        Command::Warehouse(WarehouseCommand::Versions(arguments)) => verify::versions(arguments),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "freshbench", &mut script);
            print_all(&script)
        }
        Command::Man => print_all(&man::page(Cli::command())?),
    }
}

fn print_all(bytes: &[u8]) -> Result<Exit, Failure> {
    let mut out = output::stream();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn what_is_wrong_with_a_folder_has_one_exit_code() {
        let path = || PathBuf::from("w");
        let io =
            |errno| WarehouseError::Io { operation: "open", path: path(), cause: io::Error::from_raw_os_error(errno) };
        let (absent, no_folder, device, denied) = (io(2), io(20), io(5), io(13));
        let version = WarehouseError::UnsupportedVersion { path: path(), found: 9, readable: (1, 2) };
        let commit = WarehouseError::NoVersion { path: path(), asked: "77".to_owned(), kept: vec![1] };
        let damaged = WarehouseError::Corrupt { path: path(), offset: Some(3), what: "its hash".to_owned() };
        for error in [absent, no_folder, version, commit] {
            let said = error.to_string();
            assert_eq!(Failure::opening(error).exit, Exit::Usage, "{said}");
        }
        for error in [device, denied, damaged] {
            let said = error.to_string();
            assert_eq!(Failure::opening(error).exit, Exit::Error, "{said}");
        }
    }
}
