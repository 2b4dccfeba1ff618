//! `freshbench history`

use super::args::OutputFormat;
use super::compare::{FailOn, add_to_step_summary};
use super::report::{check_out, write_page_of};
use super::{Exit, Failure};
use crate::clock::Clock;
use crate::decide::history::{HistoryAnalysis, HistoryEntry, POINTS_MIN, analyze, append_history, read_history, runs};
use crate::decide::judged::JUDGED;
use crate::decide::stored::write_whole;
use crate::decide::{read_result, words};
use crate::foreign::{markdown_block, terminal};
use crate::output::{answer, say};
use crate::report::export::{Point, PointValue};
use crate::run::{environment, git_state, utc_now};
use clap::{Args, Subcommand};
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum HistoryCommand {
    /// Append results to a history
    Add(AddArgs),
    /// Look for changes in a history (E-divisive, with permutations of blocks)
    Analyze(AnalyzeArgs),
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// Results: result.json, or their folders
    results: Vec<PathBuf>,
    /// Also the results of cargo bench: the folder that criterion keeps, such as target/criterion
    #[arg(long, value_name = "DIR")]
    criterion: Option<PathBuf>,
    /// The history
    #[arg(long, value_name = "FILE", default_value = "reports/history.jsonl")]
    history: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct AnalyzeArgs {
    /// The history
    #[arg(long, value_name = "FILE", default_value = "reports/history.jsonl")]
    history: PathBuf,
    /// Figures to look at, separated by commas, or all [default: those that ab judges, and every bench of criterion]
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    metrics: Vec<String>,
    /// Write history-analysis.json there, and a page to look at beside it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Exit 3 when a figure became worse within the last results, and 4 when no series is long enough. Without it the findings are
    /// advice
    #[arg(long, value_enum, value_name = "WHAT")]
    fail_on: Option<FailOn>,
    /// How many of the last results count as new for --fail-on
    #[arg(long, value_name = "N", default_value_t = 10)]
    recent: usize,
    /// Add the findings to the summary of a GitHub Actions step
    #[arg(long)]
    github_summary: bool,
    /// What to print on stdout
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

pub(super) fn history(command: &HistoryCommand, quiet: bool) -> Result<Exit, Failure> {
    match command {
        HistoryCommand::Add(arguments) => add(arguments, quiet),
        HistoryCommand::Analyze(arguments) => look(arguments, quiet),
    }
}

fn add(arguments: &AddArgs, quiet: bool) -> Result<Exit, Failure> {
    let mut entries = Vec::new();
    for path in &arguments.results {
        let result = read_result(path).map_err(Failure::usage)?;
        if !result.complete {
            return Err(Failure::usage(format!("{}: was interrupted; run it again", path.display())));
        }
        let entry = HistoryEntry::of(&result);
        if entry.metrics.is_empty() {
            return Err(Failure::usage(format!("{}: no strategy passed its validation", path.display())));
        }
        entries.push(entry);
    }
    if let Some(folder) = &arguments.criterion {
        let env = environment(folder, &Clock::monotonic());
        let entry =
            HistoryEntry::of_criterion(folder, &env, &utc_now().rfc3339, git_state()).map_err(Failure::usage)?;
        entries.push(entry);
    }
    if entries.is_empty() {
        return Err(Failure::usage("history add: name a result.json, or --criterion target/criterion"));
    }
    append_history(&arguments.history, &entries).map_err(Failure::usage)?;
    if !quiet {
        say!("added {} to {}", entries.len(), arguments.history.display());
    }
    Ok(Exit::Ok)
}

fn look(arguments: &AnalyzeArgs, quiet: bool) -> Result<Exit, Failure> {
    check_out(arguments.out.as_deref())?;
    let entries = read_history(&arguments.history).map_err(Failure::usage)?;
    let all = arguments.metrics.iter().any(|id| id == "all");
    let criterion: Vec<&String> =
        entries.iter().filter(|entry| entry.benchmark == "criterion").flat_map(|entry| entry.metrics.keys()).collect();
    let wanted = |name: &str| {
        let id = name.split('/').nth(1).unwrap_or(name);
        if arguments.metrics.is_empty() {
            JUDGED.iter().any(|judged| judged.id == id) || criterion.iter().any(|bench| *bench == name)
        } else {
            all || arguments.metrics.iter().any(|wanted| wanted == id || wanted == name)
        }
    };
    let analysis = analyze(&entries, &wanted);
    if analysis.series.is_empty() {
        return Err(Failure::usage(format!("{}: holds none of these figures", arguments.history.display())));
    }
    let mut json = serde_json::to_vec_pretty(&analysis).map_err(Failure::error)?;
    json.push(b'\n');
    if let Some(path) = &arguments.out {
        write_whole(path, &json).map_err(Failure::error)?;
        let page = write_page_of(path)?;
        if !quiet {
            say!("saved in {}", path.display());
            say!("look at {}", page.display());
        }
    }
    let said = told(&analysis);
    if arguments.github_summary {
        add_to_step_summary(&format!("### freshbench: history\n\n{}", markdown_block(&said)))?;
    }
    let mut out = answer();
    match arguments.format {
        OutputFormat::Human => write!(out, "{said}")?,
        OutputFormat::Json => out.write_all(&json)?,
    }
    Ok(exit_of(&analysis, arguments.fail_on, arguments.recent))
}

fn exit_of(analysis: &HistoryAnalysis, fail_on: Option<FailOn>, recent: usize) -> Exit {
    if fail_on.is_none() {
        return Exit::Ok;
    }
    let fresh = analysis.series.iter().any(|series| {
        series.change_points.last().is_some_and(|last| last.worse && last.index + recent >= series.points.len())
    });
    if fresh {
        Exit::Regression
    } else if analysis.series.iter().all(|series| series.note.is_some()) {
        Exit::Inconclusive
    } else {
        Exit::Ok
    }
}

fn told(analysis: &HistoryAnalysis) -> String {
    let mut out = String::new();
    let (mut quiet, mut short) = (0, 0);
    for series in &analysis.series {
        match (&series.note, series.change_points.is_empty()) {
            (Some(_), _) => short += 1,
            (None, true) => quiet += 1,
            (None, false) => {
                let _ = writeln!(out, "{} ({} results)", terminal(&series.id), series.points.len());
            }
        }
        for change in &series.change_points {
            let commit = change
                .git
                .as_deref()
                .map_or(String::new(), |git| format!(" at {}", terminal(git.get(..12).unwrap_or(git))));
            let said = |value| words::said(value, &series.unit);
            let _ = writeln!(
                out,
                "  {} from {} to {} ({}), p {:.3}, result {}{commit}",
                if change.worse { "WORSE" } else { "better" },
                said(change.before),
                said(change.after),
                words::percent((change.after / change.before).ln()),
                change.p,
                change.index
            );
        }
    }
    let _ = writeln!(out, "{quiet} series without a change, {short} with fewer than {POINTS_MIN} results");
    out
}

/// The rows of a history for a tool that reads a series: the benchmark, and a point a line. Of several benchmarks or machines the one
/// with the most lines.
pub(super) fn points_of(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<(String, Vec<Point>), Failure> {
    let entries = read_history(path).map_err(Failure::usage)?;
    let entries = runs(&entries);
    let mut counts = std::collections::BTreeMap::new();
    for entry in &entries {
        *counts.entry(entry.key()).or_insert(0_usize) += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(key, _)| key);
    let most = most.ok_or_else(|| Failure::usage(format!("{}: is empty", path.display())))?;
    let point = |entry: &HistoryEntry| Point {
        time: entry.time.clone(),
        commit: entry.git.commit.clone().unwrap_or_default(),
        values: entry
            .metrics
            .iter()
            .filter(|(name, _)| wanted(name.split('/').nth(1).unwrap_or(name)))
            .map(|(name, m)| PointValue {
                name: name.replace('/', "."),
                unit: m.unit.clone(),
                is_lower: m.direction == crate::report::Direction::Lower,
                value: m.value,
            })
            .collect(),
    };
    Ok((most.0.clone(), entries.into_iter().filter(|entry| entry.key() == most).map(point).collect()))
}
