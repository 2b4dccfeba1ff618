//! `freshbench sweep`

use super::args::{LiveArgs, OutputFormat};
use super::progress::Bars;
use super::report::write_page_of;
use super::run::command_line;
use super::{Exit, Failure, live, stop_on_ctrl_c};
use crate::decide::stored::write_whole;
use crate::output::{answer, say};
use crate::plan::{RawPlan, parse_count};
use crate::report::headline::{count, seconds};
use crate::run::sweep::{Sweep, SweepPlan, SweepRun, sweep as run_sweep};
use crate::run::{RunError, utc_now};
use crate::workload::parse_duration;
use clap::Args;
use comfy_table::{Cell, CellAlignment, Table, presets};
use std::fmt::{Display, Write as _};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    /// Sizes: rows of the main table
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "10k,30k,100k")]
    rows: Vec<String>,
    /// Changes a second
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "100,500,2000")]
    change_rate: Vec<String>,
    /// Intervals between refreshes
    #[arg(long, value_name = "TIME,TIME", value_delimiter = ',', default_value = "1s,10s,60s")]
    batch_interval: Vec<String>,
    /// Strategies: full-refresh and change streams (cdc-trigger, outbox, incremental)
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "full-refresh,cdc-trigger")]
    strategies: Vec<String>,
    /// Freshness targets, for the p99 of commit lag at the slowest sink
    #[arg(long, value_name = "TIME,TIME", value_delimiter = ',', default_value = "100ms,1s,15s,90s")]
    target: Vec<String>,
    /// The time for measuring
    #[arg(long, value_name = "TIME", default_value = "5m")]
    budget: String,
    /// A place to foretell from the models, such as rows=1e9,rate=5000,interval=1h; may be given several times
    #[arg(long, value_name = "PLACE")]
    predict: Vec<String>,
    /// Run the places that were foretold as well, beyond the budget, and say by how much the forecast was wrong, and how much the
    /// machine drifted meanwhile
    #[arg(long, requires = "predict")]
    check_forecast: bool,
    /// A built-in workload or a definition in a TOML file
    #[arg(long, value_name = "NAME|FILE", default_value = "orders")]
    workload: String,
    /// Sinks to feed
    #[arg(long, value_name = "A,B", default_value = "warehouse")]
    sinks: String,
    /// The source's durability: full, normal or off
    #[arg(long, value_name = "LEVEL", default_value = "full")]
    durability: String,
    /// The seed of rows and transactions
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The folder for sweep.json, its page and the results [default: a new one below reports/]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    live: LiveArgs,
    /// What to print on stdout
    #[arg(long, value_enum, default_value_t = OutputFormat::Human)]
    format: OutputFormat,
}

/// Reads every item of a list, and puts them in order.
fn list<T: PartialOrd + Copy>(
    flag: &str,
    items: &[String],
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Failure> {
    let each = |item: &String| read(item.trim()).map_err(|why| Failure::usage(format!("{flag} {item}: {why}")));
    let mut values = items.iter().map(each).collect::<Result<Vec<T>, Failure>>()?;
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.dedup();
    if values.is_empty() { Err(Failure::usage(format!("{flag}: names nothing"))) } else { Ok(values) }
}

/// A count such as `10k`, `2M` or `1e9`.
fn size(text: &str) -> Result<u64, String> {
    let rows = parse_count(text).or_else(|why| match text.parse::<f64>() {
        Ok(number) if (1.0..=1e15).contains(&number) => Ok(number as u64),
        _ => Err(why),
    })?;
    if rows == 0 { Err("expected 1 or more".to_owned()) } else { Ok(rows) }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e9 => Ok(rate),
        _ => parse_count(text)
            .map(|rate| rate as f64)
            .and_then(|rate| if rate > 0.0 { Ok(rate) } else { Err("expected more than zero".to_owned()) }),
    }
}

/// A length of time; `m` is short for minutes here, as `10m` is what people write for a budget.
fn length(text: &str) -> Result<Duration, String> {
    let minutes = text.strip_suffix('m').filter(|number| number.ends_with(|c: char| c.is_ascii_digit()));
    let length = parse_duration(&minutes.map_or(text.to_owned(), |number| format!("{number}min")))?;
    let allowed = Duration::from_millis(1)..=Duration::from_secs(400 * 86_400);
    if allowed.contains(&length) { Ok(length) } else { Err("expected 1ms to 400d".to_owned()) }
}

/// `rows=1e9,rate=5000,interval=1h`
fn place(text: &str) -> Result<(u64, f64, Duration), Failure> {
    let wrong =
        |why: &dyn Display| Failure::usage(format!("--predict {text}: {why}; such as rows=1e9,rate=5000,interval=1h"));
    let (mut rows, mut change_rate, mut interval) = (None, None, None);
    for part in text.split(',') {
        match part.trim().split_once('=') {
            Some(("rows", value)) => rows = Some(size(value).map_err(|why| wrong(&why))?),
            Some(("rate", value)) => change_rate = Some(rate(value).map_err(|why| wrong(&why))?),
            Some(("interval", value)) => interval = Some(length(value).map_err(|why| wrong(&why))?),
            _ => return Err(wrong(&format!("{part} is none of rows, rate, interval"))),
        }
    }
    match (rows, change_rate, interval) {
        (Some(rows), Some(rate), Some(interval)) => Ok((rows, rate, interval)),
        _ => Err(wrong(&"rows, rate and interval must all be there")),
    }
}

fn plan(arguments: &SweepArgs) -> Result<SweepPlan, Failure> {
    const STREAMS: [&str; 3] = ["cdc-trigger", "outbox", "incremental"];
    let names: Vec<&str> = arguments.strategies.iter().map(|name| name.trim()).collect();
    if let Some(other) = names.iter().find(|name| **name != "full-refresh" && !STREAMS.contains(*name)) {
        let remedy = "expected full-refresh, cdc-trigger, outbox or incremental";
        return Err(Failure::usage(format!("--strategies {other}: {remedy}")));
    }
    let base = RawPlan {
        workload: Some(arguments.workload.clone()),
        sinks: Some(arguments.sinks.clone()),
        durability: Some(arguments.durability.clone()),
        seed: arguments.seed,
        ..RawPlan::default()
    };
    // What is wrong with the rest of the flags is said before anything is run.
    base.resolve(String::new()).map_err(Failure::usage)?;
    let name = format!("{}-sweep", utc_now().compact);
    Ok(SweepPlan {
        base,
        rows: list("--rows", &arguments.rows, size)?,
        change_rates: list("--change-rate", &arguments.change_rate, rate)?,
        intervals: list("--batch-interval", &arguments.batch_interval, length)?,
        refresh: names.contains(&"full-refresh"),
        streams: names.iter().filter(|name| **name != "full-refresh").map(|name| (*name).to_owned()).collect(),
        targets: list("--target", &arguments.target, length)?,
        budget: length(&arguments.budget)
            .map_err(|why| Failure::usage(format!("--budget {}: {why}", arguments.budget)))?,
        predict: arguments.predict.iter().map(|text| place(text)).collect::<Result<_, _>>()?,
        check: arguments.check_forecast,
        folder: arguments.out.clone().unwrap_or_else(|| Path::new("reports").join(name)),
    })
}

pub(super) fn sweep(arguments: &SweepArgs, quiet: bool) -> Result<Exit, Failure> {
    let plan = plan(arguments)?;
    let stop = stop_on_ctrl_c("")?;
    let (feed, _view) = live::start(&arguments.live)?;
    let mut tell = |run: &SweepRun| {
        if !quiet {
            say!("{}", told_run(run));
        }
    };
    let swept = match run_sweep(&plan, command_line(), (&Bars::new(quiet, feed), &stop), &mut tell) {
        Err(RunError::Interrupted) => return Ok(Exit::Interrupted),
        other => other.map_err(Failure::error)?,
    };
    let mut json = serde_json::to_vec_pretty(&swept).map_err(Failure::error)?;
    json.push(b'\n');
    let path = plan.folder.join("sweep.json");
    write_whole(&path, &json).map_err(Failure::error)?;
    let page = write_page_of(&path)?;
    let mut out = answer();
    match arguments.format {
        OutputFormat::Human => write!(out, "{}", crate::foreign::terminal_lines(&told(&swept)))?,
        OutputFormat::Json => out.write_all(&json)?,
    }
    if !quiet {
        say!("saved in {}", path.display());
        say!("look at {}", page.display());
    }
    Ok(Exit::Ok)
}

fn told_run(run: &SweepRun) -> String {
    let refresh = run.cpu_s_per_refresh.map_or(String::new(), |cpu| format!(", {} of CPU a refresh", seconds(cpu)));
    format!(
        "{}: {} rows, {} changes/s, interval {}: {} of CPU a second{refresh}, p99 lag {} ({:.0} s)",
        run.strategy,
        count(run.rows as f64),
        count(run.change_rate.round()),
        seconds(run.interval_s),
        seconds(run.cost_cpu_s_per_s),
        run.freshness_p99_s.map_or("?".to_owned(), seconds),
        run.took_s
    )
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).force_no_tty();
    table.set_header(header.iter().enumerate().map(|(n, name)| aligned(n, (*name).to_owned())));
    table
}

fn aligned(column: usize, text: String) -> Cell {
    let cell = Cell::new(text);
    if column == 0 { cell } else { cell.set_alignment(CellAlignment::Right) }
}

fn add(table: &mut Table, cells: Vec<String>) {
    table.add_row(cells.into_iter().enumerate().map(|(n, text)| aligned(n, text)));
}

fn told(swept: &Sweep) -> String {
    let mut out = models(swept);
    out.push_str(&break_even(swept));
    for &target in &swept.target_p99_s {
        out.push_str(&map(swept, target));
    }
    out.push_str(&forecasts(swept));
    for warning in &swept.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

fn scientific(value: f64) -> String {
    format!("{value:.3e}")
}

fn models(swept: &Sweep) -> String {
    let mut out = table(&["Models", "at zero", "95 %", "slope", "95 %", "spread", "points"]);
    for model in &swept.models {
        let pair = |ci: Option<[f64; 2]>| {
            ci.map_or("-".to_owned(), |[low, high]| format!("{} to {}", scientific(low), scientific(high)))
        };
        add(
            &mut out,
            vec![
                format!("{}: {} by {}", model.strategy, model.of, model.by),
                scientific(model.intercept),
                pair(model.intercept_ci),
                scientific(model.slope),
                pair(model.slope_ci),
                model.spread.map_or("-".to_owned(), |spread| format!("{:.1} %", spread * 100.0)),
                model.residuals.len().to_string(),
            ],
        );
        if let (Some(exponent), Some(base)) = (model.size_exponent, model.size_base_rows) {
            let measured = model.size_exponent_measured.filter(|measured| *measured != exponent);
            let shown = measured.map_or(String::new(), |m| format!(" (no growth is shown by {})", scientific(m)));
            let name = format!("{}: times (rows_total / {}) to the power of{shown}", model.strategy, count(base));
            let none = || "-".to_owned();
            add(
                &mut out,
                vec![name, none(), none(), scientific(exponent), pair(model.size_exponent_ci), none(), none()],
            );
        }
    }
    format!("{out}\n\n")
}

fn break_even(swept: &Sweep) -> String {
    if swept.break_even.is_empty() {
        return String::new();
    }
    let header = ["Break-even: above this changed share of all rows", "interval", "changed share", "95 %"];
    let mut out = table(&header);
    for even in &swept.break_even {
        let percent = |share: f64| format!("{:.3} %", share * 100.0);
        add(
            &mut out,
            vec![
                format!("{} rows ({} in all tables)", count(even.rows as f64), count(even.rows_total as f64)),
                seconds(even.interval_s),
                even.changed_fraction.map_or("always dearer".to_owned(), percent),
                even.ci.map_or("-".to_owned(), |[low, high]| format!("{} to {}", percent(low), percent(high))),
            ],
        );
    }
    format!("{out}\nin an interval, the change stream costs more CPU than a full refresh\n\n")
}

/// Change rate by table size; a star where the winner was not run there but follows from the models.
fn map(swept: &Sweep, target: f64) -> String {
    let of_target: Vec<_> = swept.map.iter().filter(|cell| cell.target_p99_s == target).collect();
    let mut rates: Vec<f64> = of_target.iter().map(|cell| cell.change_rate).collect();
    rates.sort_by(f64::total_cmp);
    rates.dedup();
    let mut header = vec![format!("Cheapest with p99 lag within {}", seconds(target))];
    header.extend(rates.iter().map(|rate| format!("{} changes/s", count(*rate))));
    let mut out = table(&header.iter().map(String::as_str).collect::<Vec<_>>());
    let mut rows: Vec<u64> = of_target.iter().map(|cell| cell.rows).collect();
    rows.dedup();
    for size in rows {
        let mut cells = vec![format!("{} rows", count(size as f64))];
        for rate in &rates {
            let cell = of_target.iter().find(|cell| cell.rows == size && cell.change_rate == *rate);
            cells.push(
                match cell
                    .and_then(|cell| Some((cell, cell.cheapest.as_ref()?, cell.interval_s?, cell.cost_cpu_s_per_s?)))
                {
                    None => "none".to_owned(),
                    Some((cell, name, interval, cost)) => {
                        let every = if name == "full-refresh" {
                            format!(" every {}", seconds(interval))
                        } else {
                            String::new()
                        };
                        let star = if cell.measured { "" } else { " *" };
                        format!("{name}{every}, {}/s{star}", seconds(cost))
                    }
                },
            );
        }
        add(&mut out, cells);
    }
    format!("{out}\n* from the models, not run at this place\n\n")
}

fn forecasts(swept: &Sweep) -> String {
    let mut out = String::new();
    for forecast in &swept.forecasts {
        let kind = if forecast.extrapolation {
            format!(
                "EXTRAPOLATION: {} times the largest size and {} times the highest rate that were run",
                count((forecast.rows_times * 100.0).round() / 100.0),
                count((forecast.rate_times * 100.0).round() / 100.0)
            )
        } else {
            "within what was run".to_owned()
        };
        let _ = writeln!(
            out,
            "Forecast for {} rows ({} in all tables), {} changes/s, every {} ({kind})",
            count(forecast.rows as f64),
            count(forecast.rows_total as f64),
            count(forecast.change_rate),
            seconds(forecast.interval_s)
        );
        for of in &forecast.strategies {
            let ci =
                of.ci.map_or(String::new(), |[low, high]| format!(" (95 %: {} to {})", seconds(low), seconds(high)));
            let lag = of.freshness_p99_s.map_or("not known at this rate".to_owned(), seconds);
            let but = of.impossible.as_ref().map_or(String::new(), |why| format!("; but {why}"));
            let _ = writeln!(
                out,
                "  {}: {} of CPU an interval{ci}, p99 lag {lag}{but}",
                of.strategy,
                seconds(of.cpu_s_per_interval)
            );
        }
        let _ = writeln!(out, "  cheapest: {}\n", forecast.cheapest.as_deref().unwrap_or("none can do it"));
    }
    for check in &swept.checks {
        let drift = match check.drift_before.zip(check.drift_after) {
            Some((before, after)) => format!(
                "; the machine's drift, at a place of the grid against its mean there: {:+.1} % just before, {:+.1} % just after",
                before * 100.0,
                after * 100.0
            ),
            None => String::new(),
        };
        let _ = writeln!(
            out,
            "Forecast check, {}: predicted {}, measured {} of CPU ({:+.1} %{}){drift}",
            check.strategy,
            seconds(check.predicted_cpu_s),
            seconds(check.measured_cpu_s),
            check.error * 100.0,
            if check.within_25_percent { ", within 25 %" } else { ", OUTSIDE 25 %" }
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_needs_all_three() {
        let hour = Duration::from_secs(3600);
        assert!(
            matches!(place("rows=1e9,rate=5000,interval=1h"), Ok((1_000_000_000, r, i)) if r == 5000.0 && i == hour)
        );
        for text in
            ["rows=1e9", "rows=x,rate=1,interval=1h", "rows=1,rate=1,interval=1h,more=2", "rows=1,rate=0,interval=1h"]
        {
            let failure = place(text).err().map(|failure| failure.message).unwrap_or_default();
            assert!(failure.starts_with("--predict "), "{text}: {failure}");
        }
    }

    #[test]
    fn minutes_may_be_short() {
        assert_eq!(length("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(length("10ms"), Ok(Duration::from_millis(10)));
        assert!(length("m").is_err());
    }

    #[test]
    fn lists_are_put_in_order() {
        let items = ["100k", "10k", "10k"].map(str::to_owned);
        assert_eq!(list("--rows", &items, size).ok(), Some(vec![10_000, 100_000]));
        assert!(list("--rows", &["0".to_owned()], size).is_err());
    }
}
