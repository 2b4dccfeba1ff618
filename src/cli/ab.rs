//! `freshbench ab`

use super::args::OutputFormat;
use super::compare::{FailOn, finish};
use super::{Exit, Failure, stop_on_ctrl_c};
use crate::decide::Comparison;
use crate::output::say;
use crate::plan::command_line;
use crate::run::pairs::{PairsError, PairsPlan, Recipe, run_pairs};
use crate::run::utc_now;
use clap::Args;
use std::path::{Path, PathBuf};

/// The fewest pairs with which the exact interval of 99 % is of use among several figures.
const PAIRS_MIN: u32 = 12;

#[derive(Debug, Args)]
pub(super) struct AbArgs {
    /// Arguments of `freshbench run` for A alone, as one word, such as "--search-interval 50ms"
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    a: String,
    /// The same for B
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    b: String,
    /// The binary of A [default: this one]
    #[arg(long, value_name = "FILE")]
    a_bin: Option<PathBuf>,
    /// The binary of B [default: this one]
    #[arg(long, value_name = "FILE")]
    b_bin: Option<PathBuf>,
    /// Pairs that count, 12 at the least; one more is run before them and thrown away
    #[arg(long, value_name = "N", default_value_t = 16)]
    pairs: u32,
    /// Do not run A a second time in each round: faster by a third, and a false alarm then goes unseen
    #[arg(long)]
    no_control: bool,
    /// Figures to judge, separated by commas, such as freshness.commit_lag.p99 [default: a few of each kind]
    #[arg(long, value_name = "ID,ID", value_delimiter = ',')]
    metrics: Vec<String>,
    /// The seed of the order in which the runs of a pair go
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The folder for comparison.json, its page and the results [default: a new one below reports/]
    #[arg(long, value_name = "DIR")]
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
    /// Arguments of `freshbench run` for both, behind `--`
    #[arg(last = true, value_name = "RUN ARGS")]
    common: Vec<String>,
}

fn recipe(flag: &str, (binary, own, common): (Option<&Path>, &str, &[String])) -> Result<Recipe, Failure> {
    let binary = match binary {
        // A bare name would be looked up in PATH, and another program would be measured than the one that lies here.
        Some(path) => path
            .canonicalize()
            .map_err(|cause| Failure::usage(format!("--{flag}-bin {}: {cause}; name a binary", path.display())))?,
        None => std::env::current_exe().map_err(|cause| Failure::error(format!("can't find this binary: {cause}")))?,
    };
    let words =
        shlex::split(own).ok_or_else(|| Failure::usage(format!("--{flag} {own}: a quote is not closed; close it")))?;
    let arguments: Vec<String> = common.iter().cloned().chain(words).collect();
    if let Some(taken) = arguments
        .iter()
        .find(|word| ["--out", "--format"].iter().any(|f| *word == f || word.starts_with(&format!("{f}="))))
    {
        return Err(Failure::usage(format!("--{flag}: {taken} is set by ab itself; leave it out")));
    }
    Ok(Recipe { binary, arguments })
}

pub(super) fn ab(arguments: &AbArgs, quiet: bool) -> Result<Exit, Failure> {
    if !(PAIRS_MIN..=400).contains(&arguments.pairs) {
        let given = arguments.pairs;
        return Err(Failure::usage(format!(
            "--pairs {given}: expected {PAIRS_MIN} to 400; fewer can't prove anything"
        )));
    }
    let a = recipe("a", (arguments.a_bin.as_deref(), &arguments.a, &arguments.common))?;
    let b = recipe("b", (arguments.b_bin.as_deref(), &arguments.b, &arguments.common))?;
    let folder =
        arguments.out.clone().unwrap_or_else(|| Path::new("reports").join(format!("{}-ab", utc_now().compact)));
    let plan = PairsPlan { a, b, pairs: arguments.pairs, control: !arguments.no_control, seed: arguments.seed, folder };
    let stop = stop_on_ctrl_c("")?;
    let begun = std::time::Instant::now();
    let tell = |round: u32, arm: crate::run::pairs::Arm| {
        if !quiet {
            let round = if round == 0 { "warm-up".to_owned() } else { format!("pair {round} of {}", plan.pairs) };
            say!("{:5.0} s  {round}: {}", begun.elapsed().as_secs_f64(), arm.name());
        }
    };
    let run = match run_pairs(&plan, &stop, &tell) {
        Err(PairsError::Interrupted) => return Ok(Exit::Interrupted),
        Err(error @ (PairsError::Failed { code: Some(2), .. } | PairsError::Unlike(_))) => {
            return Err(Failure::usage(error));
        }
        Err(error @ PairsError::Failed { code: Some(5), .. }) => {
            return Err(Failure { exit: Exit::ValidationFailed, message: error.to_string() });
        }
        other => other.map_err(Failure::error)?,
    };
    let mut warnings = Vec::new();
    if !plan.control {
        warnings.push("no A/A control was run: what this machine calls a change without one is not known".to_owned());
    }
    let warned: Vec<&Vec<String>> = run
        .pairs
        .iter()
        .flat_map(|(a, b)| [&a.warnings, &b.warnings])
        .filter(|warnings| !warnings.is_empty())
        .collect();
    if let Some(first) = warned.first().and_then(|warnings| warnings.first()) {
        let of = run.pairs.len() * 2;
        warnings.push(format!("{} of {of} runs gave a warning, the first: {first}", warned.len()));
    }
    let said = |recipe: &Recipe| {
        // Another binary is named by its place: its name alone would run this one again.
        let own = std::env::current_exe().is_ok_and(|own| own == recipe.binary);
        let binary = if own { "freshbench".into() } else { recipe.binary.to_string_lossy() };
        let words: Vec<String> = std::iter::once("run".to_owned()).chain(recipe.arguments.iter().cloned()).collect();
        command_line(&binary, &words, &|name| std::env::var(name).ok())
    };
    let control = plan.control.then_some(run.control.as_slice());
    let comparison =
        Comparison::of_pairs([said(&plan.a), said(&plan.b)], &run.pairs, control, &arguments.metrics, warnings);
    if comparison.metrics.is_empty() {
        return Err(Failure::usage("--metrics: none of these figures is in the results; see the ids in result.json"));
    }
    let save = Some(plan.folder.join("comparison.json"));
    let ending = (arguments.format, arguments.fail_on, arguments.github_summary);
    finish(&comparison, ending, save.as_deref(), quiet)
}
