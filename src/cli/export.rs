//! `freshbench export`

use super::compare::add_to_step_summary;
use super::history::points_of;
use super::{Exit, Failure};
use crate::decide::alike::{configurations_differ, schemas_differ};
use crate::decide::judged::JUDGED;
use crate::decide::read_result;
use crate::decide::stored::{machine_key, write_whole};
use crate::output::{say, stream};
use crate::report::export::{ExportFile, Format, export as export_result, otava_files, point_of};
use crate::report::{Metric, RunResult};
use clap::{Args, ValueEnum};
use std::io::Write;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// Bencher Metric Format
    Bmf,
    /// github-action-benchmark: two files, one a direction
    GithubActionBenchmark,
    /// Apache Otava: a CSV and its configuration; takes several results, or a history
    Otava,
    /// One row a figure
    Csv,
    /// Tables for people
    Markdown,
    /// OpenMetrics text
    Openmetrics,
    /// The log of HdrHistogram
    Hlog,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// A result.json or its folder; for otava several, or one history.jsonl
    #[arg(required = true, value_name = "RESULT")]
    inputs: Vec<PathBuf>,
    /// The format
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: To,
    /// The folder for the files [default: one file goes to stdout, several to the present folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Figures to export, separated by commas, or all, or judged (those that ab judges) [default: judged for bmf,
    /// github-action-benchmark, otava and markdown, else all]
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    metrics: Vec<String>,
    /// Also add the Markdown tables to the summary of a GitHub Actions step (the file that GITHUB_STEP_SUMMARY names)
    #[arg(long)]
    github_summary: bool,
}

fn format_of(to: To) -> Format {
    match to {
        To::Bmf => Format::Bmf,
        To::GithubActionBenchmark => Format::GithubActionBenchmark,
        To::Otava => Format::Otava,
        To::Csv => Format::Csv,
        To::Markdown => Format::Markdown,
        To::Openmetrics => Format::OpenMetrics,
        To::Hlog => Format::Hlog,
    }
}

/// Whether a figure is asked for.
fn is_wanted(chosen: &[String], to: To, id: &str) -> bool {
    let few = matches!(to, To::Bmf | To::GithubActionBenchmark | To::Otava | To::Markdown);
    let judged = if chosen.is_empty() { few } else { chosen.iter().any(|name| name == "judged") };
    let all = if chosen.is_empty() { !few } else { chosen.iter().any(|name| name == "all") };
    all || chosen.iter().any(|name| name == id) || (judged && JUDGED.iter().any(|judged| judged.id == id))
}

pub(super) fn export(arguments: &ExportArgs, quiet: bool) -> Result<Exit, Failure> {
    let wanted_id = |id: &str| is_wanted(&arguments.metrics, arguments.to, id);
    let wanted = |metric: &Metric| wanted_id(&metric.id);
    let files = match arguments.inputs.as_slice() {
        [history] if history.extension().is_some_and(|end| end == "jsonl") => {
            if arguments.to != To::Otava {
                let why = "is a history, which only otava takes; give a result.json";
                return Err(Failure::usage(format!("{}: {why}", history.display())));
            }
            let (benchmark, points) = points_of(history, &wanted_id)?;
            otava_files(&benchmark, &points)
        }
        [one] => {
            let result = read_result(one).map_err(Failure::usage)?;
            if arguments.github_summary {
                let of = |metric: &Metric| is_wanted(&arguments.metrics, To::Markdown, &metric.id);
                let markdown = export_result(&result, Format::Markdown, &of).map_err(Failure::usage)?;
                markdown.iter().try_for_each(|file| add_to_step_summary(&file.text))?;
            }
            warn_of_failed(&result);
            export_result(&result, format_of(arguments.to), &wanted)
                .map_err(|cause| Failure::usage(format!("{}: {cause}", one.display())))?
        }
        several if arguments.to == To::Otava => {
            let results = several.iter().map(|path| read_result(path).map_err(Failure::usage));
            let results = results.collect::<Result<Vec<RunResult>, Failure>>()?;
            if let Some((first, others)) = results.split_first() {
                others.iter().try_for_each(|other| one_series(first, other))?;
            }
            // A run that is named twice is one point.
            let mut runs = std::collections::BTreeSet::new();
            let once = results.iter().filter(|result| runs.insert((&result.run_id, machine_key(&result.env))));
            let points: Vec<_> = once.map(|result| point_of(result, &wanted)).collect();
            otava_files(results.first().map_or("freshbench", |result| &result.config.workload), &points)
        }
        _ => return Err(Failure::usage("export: only otava takes several results; give one")),
    };
    deliver(&files, arguments, quiet)
}

/// Whether two results are points of one series.
fn one_series(first: &RunResult, other: &RunResult) -> Result<(), Failure> {
    let machines = (machine_key(&first.env) != machine_key(&other.env)).then(|| "different machines".to_owned());
    let why = schemas_differ(first, other).or_else(|| configurations_differ(&first.config, &other.config)).or(machines);
    let runs = || format!("{} and {}", first.run_id, other.run_id);
    why.map_or(Ok(()), |why| Err(Failure::usage(format!("export: {}: {why}; give those of one series", runs()))))
}

fn warn_of_failed(result: &RunResult) {
    for case in result.strategies.iter().filter(|case| !case.validation.passed) {
        say!("freshbench: {} did not pass its validation: its figures are left out", case.name);
    }
}

fn deliver(files: &[ExportFile], arguments: &ExportArgs, quiet: bool) -> Result<Exit, Failure> {
    if let ([file], None) = (files, &arguments.out) {
        let mut out = stream();
        out.write_all(file.text.as_bytes())?;
        out.flush()?;
        return Ok(Exit::Ok);
    }
    let folder = arguments.out.clone().unwrap_or_else(|| PathBuf::from("."));
    for file in files {
        let path = folder.join(&file.name);
        write_whole(&path, file.text.as_bytes()).map_err(Failure::error)?;
        if !quiet {
            say!("wrote {}", path.display());
        }
    }
    Ok(Exit::Ok)
}
