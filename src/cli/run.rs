//! `freshbench run`

use super::args::{OutputFormat, RunArgs};
use super::find_rate::find_rate;
use super::progress::Bars;
use super::{Exit, Failure, live, stop_on_ctrl_c};
use crate::output::{answer, say};
use crate::plan::{Plan, RawPlan, SourceChoice};
use crate::report::{RunResult, terminal};
use crate::run::{Finished, RunError, fresh};
use crate::source::postgres;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

pub(super) fn run(arguments: &RunArgs, quiet: bool) -> Result<Exit, Failure> {
    let mut plan = planned(arguments)?;
    if let (true, Some(slo)) = (arguments.find_rate, &arguments.slo) {
        if plan.source != SourceChoice::Sqlite {
            return Err(Failure::usage("--find-rate: searches on SQLite only; leave --source out"));
        }
        // Its runs share this process.
        plan.fresh_processes = false;
        return find_rate(&raw(arguments), &plan, (slo, arguments.format), (&arguments.live, quiet));
    }
    let stop =
        stop_on_ctrl_c("; the work folder stays: remove it with freshbench cleanup --folder and the result's folder")?;
    if let SourceChoice::Postgres(server) = &mut plan.source {
        server.patience = postgres::PgPatience::new(server.patience.wait_max(), Arc::clone(&stop));
    }
    let (feed, _view) = live::start(&arguments.live)?;
    let finished = match crate::run::run(&plan, &Bars::new(quiet, feed), &stop) {
        Err(RunError::Interrupted) => {
            let message = "interrupted; nothing was measured".to_owned();
            return Err(Failure { exit: Exit::Interrupted, message });
        }
        other => other.map_err(Failure::error)?,
    };
    told(&finished, arguments.format, quiet)
}

/// What is to be run.
pub(super) fn planned(arguments: &RunArgs) -> Result<Plan, Failure> {
    // A process that goes on with a run finds its work folder in use, by itself.
    let work = if fresh::work_folder().is_some() { None } else { arguments.work.clone() };
    let resolved = RawPlan { work, ..raw(arguments) }.resolve(command_line()).map_err(Failure::usage)?;
    // A view's readers stay connected to one process, a database that was made for the run is known to the one that made it, and
    // a pipe gives its workload once.
    let is_pipe = |path: &String| std::fs::metadata(path).is_ok_and(|found| !found.is_file());
    let fresh_processes = arguments.live.live.is_none()
        && resolved.source == SourceChoice::Sqlite
        && !arguments.workload.as_ref().is_some_and(is_pipe);
    Ok(Plan { work: arguments.work.clone(), fresh_processes, ..resolved })
}

/// Prints the result, says where it is saved, and how it ended.
pub(super) fn told(finished: &Finished, format: OutputFormat, quiet: bool) -> Result<Exit, Failure> {
    print(&finished.result, format)?;
    if !quiet {
        say!("saved in {}", finished.folder.display());
        say!("look at {}", finished.page.display());
    }
    if let Some(left) = &finished.left {
        let exit = if finished.interrupted { Exit::Interrupted } else { Exit::Error };
        return Err(Failure { exit, message: left.clone() });
    }
    let kept = finished.result.strategies.iter().all(|case| case.validation.passed);
    Ok(match (finished.interrupted, kept) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Ok,
        (false, false) => Exit::ValidationFailed,
    })
}

fn print(result: &RunResult, format: OutputFormat) -> io::Result<()> {
    let mut out = answer();
    match format {
        OutputFormat::Human => {
            let color = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            write!(out, "{}", terminal::human(result, color))
        }
        OutputFormat::Json => {
            serde_json::to_writer_pretty(&mut out, result)?;
            writeln!(out)
        }
    }
}

pub(super) fn raw(arguments: &RunArgs) -> RawPlan {
    RawPlan {
        source: arguments.source.clone(),
        strategies: arguments.strategies.clone(),
        workload: arguments.workload.clone(),
        rows: arguments.rows.clone(),
        rate: arguments.rate.clone(),
        arrivals: arguments.arrivals.clone(),
        clients: arguments.clients,
        keys: arguments.keys.clone(),
        duration: arguments.duration.clone(),
        warmup: arguments.warmup.clone(),
        batch_interval: arguments.batch_interval.clone(),
        sinks: arguments.sinks.clone(),
        search_interval: arguments.search_interval.clone(),
        warehouse_memory: arguments.warehouse_memory.clone(),
        dead_rows: arguments.dead_rows,
        compaction_threads: arguments.compaction_threads,
        cache: arguments.cache.clone(),
        cache_fill: arguments.cache_fill.clone(),
        cache_entries: arguments.cache_entries.clone(),
        think: arguments.think.clone(),
        crash_rate: arguments.crash_rate,
        seed: arguments.seed,
        reps: arguments.reps,
        durability: arguments.durability.clone(),
        log_fsync: arguments.log_fsync.clone(),
        out: arguments.out.clone(),
        work: arguments.work.clone(),
        quick: arguments.quick,
        no_control: arguments.no_control,
        checkpoint_interval: arguments.checkpoint_interval.clone(),
        keep_versions: arguments.keep_versions,
        plant: arguments.plant.clone(),
    }
}

/// The command line for the result.
pub(super) fn command_line() -> String {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    crate::plan::command_line("freshbench", &arguments, &|name| std::env::var(name).ok())
}
