//! `freshbench compare`

use super::args::OutputFormat;
use super::report::{check_out, write_page_of};
use super::{Exit, Failure};
use crate::decide::alike::{configurations_differ, schemas_differ};
use crate::decide::stored::{machine_in_words, write_whole};
use crate::decide::{Comparison, Verdict, read_result, words};
use crate::output::{answer, say};
use crate::report::RunResult;
use clap::{Args, ValueEnum};
use std::io::Write;
use std::path::{Path, PathBuf};

/// What makes a command fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FailOn {
    /// A regression (exit 3), or nothing proven (exit 4)
    Regression,
}

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// A result.json, or its folder: what stands
    a: PathBuf,
    /// Another: what is in question
    b: PathBuf,
    /// Compare although the configurations differ
    #[arg(long)]
    different_config: bool,
    /// Compare although the machines differ
    #[arg(long)]
    different_machine: bool,
    /// Figures to judge, separated by commas [default: a few of each kind]
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    metrics: Vec<String>,
    /// Write comparison.json there, and beside it the tables as Markdown and a page to look at
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Exit 3 when the verdict is a regression, and 4 when nothing could be proven
    #[arg(long, value_enum, value_name = "WHAT")]
    fail_on: Option<FailOn>,
    /// Add the tables to the summary of a GitHub Actions step (the file that GITHUB_STEP_SUMMARY names)
    #[arg(long)]
    github_summary: bool,
    /// What to print on stdout
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

pub(super) fn compare(arguments: &CompareArgs, quiet: bool) -> Result<Exit, Failure> {
    check_out(arguments.out.as_deref())?;
    let a = read_result(&arguments.a).map_err(Failure::usage)?;
    let b = read_result(&arguments.b).map_err(Failure::usage)?;
    let mut warnings = Vec::new();
    let named = format!("{} and {}", arguments.a.display(), arguments.b.display());
    if let Some(why) = schemas_differ(&a, &b) {
        return Err(Failure::usage(format!("{named}: {why}")));
    }
    if let Some(why) = configurations_differ(&a.config, &b.config) {
        let why = format!("{named}: {why}");
        if !arguments.different_config {
            return Err(Failure::usage(format!(
                "{why} ({} | {}); run both alike, or say --different-config",
                a.config.command, b.config.command
            )));
        }
        warnings.push(why);
    }
    let (machine_a, machine_b) = (machine_in_words(&a.env), machine_in_words(&b.env));
    if machine_a != machine_b {
        let why = format!("the machines differ ({machine_a} | {machine_b})");
        if !arguments.different_machine {
            return Err(Failure::usage(format!("{why}; measure both on one, or say --different-machine")));
        }
        warnings.push(why);
    }
    let of = |result: &RunResult| format!("{}, {}, {}", result.env.os, result.env.rustc, result.env.allocator);
    if of(&a) != of(&b) {
        warnings.push(format!("kernel, compiler or allocator differ: {} | {}", of(&a), of(&b)));
    }
    for (name, result) in [("A", &a), ("B", &b)] {
        if !result.complete {
            warnings.push(format!("{name} was interrupted"));
        }
        if let Some(case) = result.strategies.iter().find(|case| !case.validation.passed) {
            let why = "did not pass its validation: its figures are not worth comparing";
            return Err(Failure { exit: Exit::ValidationFailed, message: format!("{name}: {} {why}", case.name) });
        }
    }
    let comparison = Comparison::of_stored(&a, &b, &arguments.metrics, warnings);
    if comparison.metrics.is_empty() {
        return Err(Failure::usage("--metrics: none of these figures is in the results; see the ids in result.json"));
    }
    let ending = (arguments.format, arguments.fail_on, arguments.github_summary);
    finish(&comparison, ending, arguments.out.as_deref(), quiet)
}

/// Saves, prints and turns a verdict into an exit code.
pub(super) fn finish(
    comparison: &Comparison,
    (format, fail_on, github_summary): (OutputFormat, Option<FailOn>, bool),
    save: Option<&Path>,
    quiet: bool,
) -> Result<Exit, Failure> {
    let mut json = serde_json::to_vec_pretty(comparison).map_err(Failure::error)?;
    json.push(b'\n');
    let mut page = None;
    if let Some(path) = save {
        write_whole(path, &json).map_err(Failure::error)?;
        // Beside it the same for people, such as the comment on a pull request.
        write_whole(&path.with_extension("md"), words::markdown(comparison).as_bytes()).map_err(Failure::error)?;
        page = Some(write_page_of(path)?);
    }
    if github_summary {
        add_to_step_summary(&words::markdown(comparison))?;
    }
    let mut out = answer();
    match format {
        OutputFormat::Human => write!(out, "{}", words::human(comparison))?,
        OutputFormat::Json => out.write_all(&json)?,
    }
    if let Some(path) = save.filter(|_| !quiet) {
        say!("saved in {}", path.display());
    }
    if let Some(page) = page.filter(|_| !quiet) {
        say!("look at {}", page.display());
    }
    Ok(exit_of(comparison.verdict, fail_on))
}

/// What a verdict comes to, if anybody wants to fail on it.
pub(super) fn exit_of(verdict: Verdict, fail_on: Option<FailOn>) -> Exit {
    match (fail_on, verdict) {
        (None, _) | (_, Verdict::NoRegression | Verdict::Improvement) => Exit::Ok,
        (Some(FailOn::Regression), Verdict::Regression) => Exit::Regression,
        (Some(FailOn::Regression), Verdict::Inconclusive | Verdict::Unproven) => Exit::Inconclusive,
    }
}

/// Appends Markdown to the summary of the step that runs us.
pub(super) fn add_to_step_summary(markdown: &str) -> Result<(), Failure> {
    let remedy =
        "--github-summary: GITHUB_STEP_SUMMARY names no file; leave the flag out where GitHub Actions does not run";
    let path = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty());
    let path = PathBuf::from(path.ok_or_else(|| Failure::usage(remedy))?);
    let append = || std::fs::OpenOptions::new().create(true).append(true).open(&path)?.write_all(markdown.as_bytes());
    append().map_err(|cause| Failure::error(format!("{}: can't add the summary: {cause}", path.display())))
}
