//! `freshbench attach`

use super::args::{LiveArgs, OutputFormat};
use super::progress::Bars;
use super::run::{command_line, told};
use super::{Exit, Failure};
use crate::capture::CaptureError;
use crate::capture::postgres::parse_lsn;
use crate::foreign::terminal;
use crate::output::{answer, say};
use crate::run::RunError;
use crate::run::attach::{AttachPlan, EqualSums, Until};
use crate::run::cleanup::{Leftover, find_in_database, remove};
use crate::source::SourceError;
use crate::source::postgres::{PgOptions, PgPatience, PgTableName};
use crate::strategy::{Begin, StrategyError, StrategyKind};
use crate::workload::parse_duration;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long the warehouse may take to catch up, when the flag does not say.
const PATIENCE: Duration = Duration::from_secs(120);
/// Without another end.
const DURATION: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// The database, as postgres://role@host:port/database (the password from the URL, PGPASSWORD, ~/.pgpass or a service
    /// file)
    #[arg(long, value_name = "URL")]
    source: String,
    /// The tables, separated by commas, such as public.orders,public.items
    #[arg(long, value_name = "A,B", required_unless_present = "cleanup")]
    tables: Option<String>,
    /// cdc-log, cdc-trigger, full-refresh or incremental
    #[arg(long, value_name = "NAME", default_value = "cdc-log")]
    strategy: String,
    /// The warehouse folder, which must not hold a warehouse yet, unless with --resume
    #[arg(long, value_name = "DIR", required_unless_present = "cleanup")]
    warehouse: Option<PathBuf>,
    /// End after this time [default: 60s]
    #[arg(long, value_name = "TIME", conflicts_with_all = ["idle_exit", "until_lsn"])]
    duration: Option<String>,
    /// End when no row of the tables was changed for this time (of 2s or more)
    #[arg(long, value_name = "TIME", conflicts_with = "until_lsn")]
    idle_exit: Option<String>,
    /// End when the warehouse is complete through this position of the server's log, such as 16/B374D848
    #[arg(long, value_name = "LSN")]
    until_lsn: Option<String>,
    /// Go on where an earlier attach of the same tables was killed, or ended with --keep
    #[arg(long, conflicts_with = "no_snapshot")]
    resume: bool,
    /// Begin with an empty warehouse: only rows that change from now on arrive, and only they are compared
    #[arg(long)]
    no_snapshot: bool,
    /// Leave slot and publication, so that a later attach can resume; the server keeps its log for them
    #[arg(long)]
    keep: bool,
    /// Remove what an attach that was killed left in the database, and do nothing else
    #[arg(long)]
    cleanup: bool,
    /// From one batch of full-refresh and incremental to the next [default: 2s, or half of a shorter --duration]
    #[arg(long, value_name = "TIME")]
    batch_interval: Option<String>,
    /// incremental: the column whose value moves with every change of a row
    #[arg(long, value_name = "COLUMN", default_value = "updated_at")]
    cursor: String,
    /// Columns whose sums are equal in every state, such as a.balance,b.balance: looked at in each version that is read
    #[arg(long, value_name = "T.C,T.C")]
    equal_sums: Option<String>,
    /// How long the warehouse may take to catch up at the end, and how long others' open transactions and locks are waited for
    /// [default: 120s]
    #[arg(long, value_name = "TIME")]
    patience: Option<String>,
    /// The folder of the result [default: a new one below reports/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    live: LiveArgs,
    /// What to print on stdout
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

pub(super) fn attach(arguments: &AttachArgs, quiet: bool) -> Result<Exit, Failure> {
    if !PgOptions::is_url(&arguments.source) {
        return Err(Failure::usage("--source: expected postgres://ROLE@HOST:PORT/DATABASE"));
    }
    let server = PgOptions::parse(&arguments.source).map_err(Failure::usage)?;
    if arguments.cleanup {
        return cleanup(&server);
    }
    let mut plan = plan(arguments, server)?;
    let stop = super::stop_on_ctrl_c("; what was added to the database stays, until: freshbench attach --cleanup")?;
    let (feed, _view) = super::live::start(&arguments.live)?;
    let bars = Arc::new(Bars::new(quiet, feed));
    let of_waits = Arc::clone(&bars);
    let patience = PgPatience::new(plan.patience, Arc::clone(&stop));
    plan.server.patience = patience.saying(move |line| of_waits.say(line));
    let ended = crate::run::attach::attach(&plan, &*bars, &stop).map_err(failure)?;
    told(&ended, arguments.format, quiet)
}

/// Bad input where the user can mend it, else an error.
fn failure(cause: RunError) -> Failure {
    let is_input = match &cause {
        RunError::Source(cause) => is_bad_input(cause),
        RunError::Interrupted => {
            let message = "interrupted; nothing was measured".to_owned();
            return Failure { exit: Exit::Interrupted, message };
        }
        RunError::Strategy { cause, .. } | RunError::Ended { cause, .. } => match &**cause {
            StrategyError::Source(cause) => is_bad_input(cause),
            StrategyError::Capture(CaptureError::Source(cause)) => is_bad_input(cause),
            StrategyError::Capture(CaptureError::Unfit { .. }) | StrategyError::Unable { .. } => true,
            _ => false,
        },
        _ => false,
    };
    if is_input { Failure::usage(cause) } else { Failure::error(cause) }
}

fn is_bad_input(cause: &SourceError) -> bool {
    matches!(cause, SourceError::Table { .. } | SourceError::Options { .. } | SourceError::Value { .. })
}

pub(super) fn plan(arguments: &AttachArgs, server: PgOptions) -> Result<AttachPlan, Failure> {
    let duration = |flag: &str, text: &Option<String>| -> Result<Option<Duration>, Failure> {
        let parse = |text: &String| parse_duration(text).map_err(|why| Failure::usage(format!("{flag} {text}: {why}")));
        text.as_ref().map(parse).transpose()
    };
    let named = arguments.tables.as_deref().unwrap_or_default();
    let tables = PgTableName::parse_list(named).map_err(|cause| Failure::usage(format!("--tables: {cause}")))?;
    let strategies =
        [StrategyKind::CdcLog, StrategyKind::CdcTrigger, StrategyKind::FullRefresh, StrategyKind::Incremental];
    let strategy = strategies.into_iter().find(|kind| kind.name() == arguments.strategy).ok_or_else(|| {
        let known = strategies.map(StrategyKind::name).join(", ");
        Failure::usage(format!("--strategy {}: can't follow a live database; known are {known}", arguments.strategy))
    })?;
    let until =
        match (&arguments.until_lsn, duration("--idle-exit", &arguments.idle_exit)?) {
            (Some(text), _) => Until::Position(parse_lsn(text).ok_or_else(|| {
                Failure::usage(format!("--until-lsn {text}: expected a position such as 16/B374D848"))
            })?),
            (None, Some(idle)) if idle < Duration::from_secs(2) => {
                return Err(Failure::usage("--idle-exit: expected 2s or more, since the server counts that late"));
            }
            (None, Some(idle)) => Until::Idle(idle),
            (None, None) => match duration("--duration", &arguments.duration)?.unwrap_or(DURATION) {
                Duration::ZERO => return Err(Failure::usage("--duration 0s: nothing can be measured in no time")),
                length => Until::Duration(length),
            },
        };
    let measured = if let Until::Duration(length) = until { length } else { Duration::MAX };
    let batch_interval = duration("--batch-interval", &arguments.batch_interval)?
        .unwrap_or_else(|| crate::plan::batch_interval(measured));
    if let (true, Until::Duration(length)) = (strategy.works_in_batches(), &until)
        && let Some(why) = crate::plan::longer_than(batch_interval, *length)
    {
        return Err(Failure::usage(format!("--batch-interval {batch_interval:?}: {why}")));
    }
    if arguments.keep && strategy != StrategyKind::CdcLog {
        return Err(Failure::usage("--keep: only cdc-log can be resumed"));
    }
    let invariant = arguments.equal_sums.as_deref().map(EqualSums::parse).transpose();
    let begin = match (arguments.resume, arguments.no_snapshot) {
        (true, _) => Begin::Resumed,
        (false, true) => Begin::Empty,
        (false, false) => Begin::Loaded,
    };
    Ok(AttachPlan {
        server,
        tables,
        strategy,
        warehouse: arguments.warehouse.clone().unwrap_or_default(),
        until,
        begin,
        batch_interval,
        cursor: arguments.cursor.clone(),
        keep: arguments.keep,
        invariant: invariant.map_err(|why| Failure::usage(format!("--equal-sums: {why}")))?,
        out: arguments.out.clone(),
        patience: duration("--patience", &arguments.patience)?.unwrap_or(PATIENCE),
        command: command_line(),
    })
}

/// Removes slots, publications, triggers and tables of this program's that nobody uses any more.
fn cleanup(server: &PgOptions) -> Result<Exit, Failure> {
    let mut client = server.connect().map_err(Failure::error)?;
    let (mut said, mut in_use) = (String::new(), false);
    for found in find_in_database(server, &mut client).map_err(Failure::error)? {
        match (&found.what, &found.stays) {
            (Leftover::Changelog, Some(_)) => in_use = true,
            (what, Some(why)) => say!("freshbench: {what} stays: {why}"),
            (what, None) => {
                remove(Some(server), &found).map_err(Failure::error)?;
                said.push_str(&format!("removed {}\n", terminal(&what.to_string())));
            }
        }
    }
    // At the end, so that nothing stays because it could not be said.
    answer().write_all(said.as_bytes())?;
    if in_use {
        return Err(Failure::error("the changelog and its triggers are in use; end that attach first"));
    }
    Ok(Exit::Ok)
}
