//! `freshbench run --find-rate`

use super::args::{LiveArgs, OutputFormat};
use super::progress::Bars;
use super::{Exit, Failure, live, stop_on_ctrl_c};
use crate::decide::rate_search::{Trial, is_out_of_reach};
use crate::decide::stored::write_whole;
use crate::output::{answer, say};
use crate::plan::{Plan, RawPlan};
use crate::report::headline::{count, seconds};
use crate::run::find_rate::{Rates, Sustainable, find_rates};
use crate::run::{RunError, utc_now};
use crate::workload::parse_duration;
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

/// `p99=100ms` in seconds.
fn objective(text: &str) -> Result<f64, Failure> {
    let wrong = |why: String| Failure::usage(format!("--slo {text}: {why}"));
    let time = text.strip_prefix("p99=").ok_or_else(|| wrong("expected p99=TIME, such as p99=100ms".to_owned()))?;
    let time = parse_duration(time).map_err(wrong)?;
    if time.is_zero() { Err(wrong("expected more than zero".to_owned())) } else { Ok(time.as_secs_f64()) }
}

pub(super) fn find_rate(
    raw: &RawPlan,
    plan: &Plan,
    (slo, format): (&str, OutputFormat),
    (watched, quiet): (&LiveArgs, bool),
) -> Result<Exit, Failure> {
    let theta_s = objective(slo)?;
    let name = format!("{}-{}-rates", utc_now().compact, plan.workload.settings().name);
    let folder = plan.out.clone().unwrap_or_else(|| Path::new("reports").join(name));
    let stop = stop_on_ctrl_c("")?;
    let (feed, _view) = live::start(watched)?;
    let tell = |strategy: &str, trial: &Trial| {
        if !quiet {
            say!("{strategy}: {}", told_trial(trial));
        }
    };
    let rates = match find_rates((raw, plan), theta_s, &folder, (&Bars::new(quiet, feed), &stop), &tell) {
        Err(RunError::Interrupted) => return Ok(Exit::Interrupted),
        other => other.map_err(Failure::error)?,
    };
    let mut json = serde_json::to_vec_pretty(&rates).map_err(Failure::error)?;
    json.push(b'\n');
    let path = folder.join("rates.json");
    write_whole(&path, &json).map_err(Failure::error)?;
    let mut out = answer();
    match format {
        OutputFormat::Human => write!(out, "{}", crate::foreign::terminal_lines(&told(&rates)))?,
        OutputFormat::Json => out.write_all(&json)?,
    }
    if !quiet {
        say!("saved in {}", path.display());
    }
    Ok(Exit::Ok)
}

fn told_trial(trial: &Trial) -> String {
    let lag = trial.lag_p99_s.map_or("?".to_owned(), seconds);
    let slope = trial.backlog_slope.map_or("?".to_owned(), |slope| format!("{slope:+.1}"));
    let how = match trial.limit {
        None => "holds".to_owned(),
        Some(limit) => format!("fails ({})", format!("{limit:?}").to_lowercase()),
    };
    let kind = if trial.confirming { "confirming, " } else { "" };
    format!(
        "{} transactions/s offered, {} acknowledged, for {kind}{}: p99 lag {lag}, backlog {slope}/s, {how}",
        count(trial.rate.round()),
        trial.committed_per_s.map_or("?".to_owned(), |rate| count(rate.round())),
        seconds(trial.duration_s)
    )
}

fn told(rates: &Rates) -> String {
    let mut out = format!(
        "p99 commit lag within {} at the slowest sink, backlog level, nothing lost\n\n",
        seconds(rates.slo_p99_s)
    );
    for found in &rates.strategies {
        let _ = writeln!(out, "{}", told_strategy(found));
    }
    out
}

fn told_strategy(found: &Sustainable) -> String {
    let Some(rate) = found.rate else {
        let late = is_out_of_reach(&found.trials);
        let why = if late {
            "no rate keeps it: the lag does not come from the load"
        } else {
            "not even one transaction a second holds"
        };
        return format!("{}: {why}", found.strategy);
    };
    let mut out = format!("{}: sustains {} transactions/s offered", found.strategy, count(rate.round()));
    if let Some((committed, changes)) = found.committed_per_s.zip(found.changes_per_s) {
        let _ = write!(out, " ({} acknowledged, {} changes/s)", count(committed.round()), count(changes.round()));
    }
    out.push_str(if found.confirmed { ", confirmed by a long run" } else { ", NOT confirmed by a long run" });
    let above = found.trials.iter().filter(|trial| !trial.holds() && trial.rate > rate);
    if let Some(next) = above.min_by(|a, b| a.rate.total_cmp(&b.rate)) {
        let limit = next.limit.map_or(String::new(), |limit| format!("{limit:?}").to_lowercase());
        let _ = write!(out, "; at {} it fails by {limit}", count(next.rate.round()));
    }
    if let Some(drain) = found.drain_changes_per_s {
        let _ = write!(
            out,
            "\n  drains a backlog of {} at {} changes/s without load",
            seconds(found.backlog_s),
            count(drain.round())
        );
    }
    match found.catch_up_s {
        Some(time) => {
            let _ = write!(
                out,
                "\n  catches up with {} of backlog in {} under half the load",
                seconds(found.backlog_s),
                seconds(time)
            );
        }
        None if found.drain_changes_per_s.is_some() => out.push_str("\n  did not catch up under half the load"),
        None => {}
    }
    out
}
