//! `freshbench sweep`: measures as many places of a grid as a budget allows, fits the cost models and fills the rest in from them.
//!
//! Adaptive in three ways. The ends of each axis come first, since they decide a line. A refresh is run at the shortest interval that it keeps
//! up with (what one costs does not depend on how long the pause before it is), and that is foretold from the sizes done so far. And
//! what is left of the budget repeats places, in the same order, so that the residuals mean something.

mod figures;
mod shape;

pub use shape::{Checked, Sweep, SweepPlan, SweepRun};

use self::figures::figures;
use super::{Progress, RunError, environment, git_state, run, utc_now};
use crate::clock::Clock;
use crate::decide::break_even::{Cell, Model, Models, SCHEMA, SCHEMA_VERSION, map};
use crate::plan::RawPlan;
use crate::workload::Workload;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// The shortest interval of a refresh that is run, and the least measured time.
const INTERVAL_MIN: Duration = Duration::from_millis(500);
const WINDOW_MIN: Duration = Duration::from_secs(3);
/// An interval is so many times the length that is foretold for a refresh, so that it keeps up.
const ROOM: f64 = 1.5;
/// Rates, the highest ones, at which a change stream is also run beside the largest table.
const RATES_AT_THE_LARGEST: usize = 2;
/// The run that checks a forecast is alone, where a line goes through many: a change stream is measured for so many times the window.
const CHECK_TIMES: u32 = 5;
/// Refreshes in a measured window.
const REFRESHES: u32 = 3;
/// Before anything is known: seconds that a refresh takes for a row, and that loading, copying and verifying take.
const REFRESH_S_PER_ROW: f64 = 4e-6;
const OVERHEAD_S_PER_ROW: f64 = 40e-6;

/// One run to make.
#[derive(Clone, Debug)]
struct Place {
    strategy: String,
    rows: u64,
    rate: f64,
}

struct Sweeper<'a> {
    plan: &'a SweepPlan,
    /// Changes of a transaction, in the mean.
    changes_per_txn: f64,
    /// Rows of all tables for a row of the main one, by size.
    totals: Vec<(u64, u64)>,
    runs: Vec<SweepRun>,
    /// Runs made, those of checks included, which no model is fitted to.
    made: usize,
    warnings: Vec<String>,
    progress: &'a dyn Progress,
    stop: &'a AtomicBool,
    begun: Instant,
}

/// Measures, fits and foretells. `tell` hears of each run.
///
/// # Errors
/// [`RunError`] when a run fails; [`RunError::Interrupted`].
pub fn sweep(
    plan: &SweepPlan,
    command: String,
    (progress, stop): (&dyn Progress, &AtomicBool),
    tell: &mut dyn FnMut(&SweepRun),
) -> Result<Sweep, RunError> {
    let started = utc_now();
    let make =
        |path: &Path| std::fs::create_dir_all(path).map_err(|cause| RunError::Io { path: path.to_owned(), cause });
    make(&plan.folder)?;
    let env = environment(&plan.folder, &Clock::monotonic());
    let mut sweeper = Sweeper {
        plan,
        changes_per_txn: 1.0,
        totals: Vec::new(),
        runs: Vec::new(),
        made: 0,
        warnings: super::environment::warnings(&env),
        progress,
        stop,
        begun: Instant::now(),
    };
    let smallest = sweeper.workload(plan.rows.first().copied().unwrap_or(1000))?;
    sweeper.changes_per_txn = changes_per_txn(&smallest);
    sweeper.measure(tell)?;
    let models = sweeper.models();
    let cells = sweeper.cells(&models)?;
    let targets: Vec<f64> = plan.targets.iter().map(Duration::as_secs_f64).collect();
    let largest = largest(&sweeper.runs);
    let mut forecasts = Vec::new();
    for &(rows, rate, interval) in &plan.predict {
        let total = sweeper.total(rows)?;
        forecasts.push(models.forecast((rows, total), (rate, interval.as_secs_f64()), largest));
    }
    let checks = if plan.check { sweeper.check(&models, tell)? } else { Vec::new() };
    let mut break_even = Vec::new();
    for &rows in &plan.rows {
        let total = sweeper.total(rows)?;
        for interval in &plan.intervals {
            let first = plan.streams.first().map_or("cdc-trigger", String::as_str);
            break_even.extend(models.break_even(first, (rows, total), interval.as_secs_f64()));
        }
    }
    let Models { refresh_cost, refresh_time, streams, .. } = models;
    Ok(Sweep {
        schema: SCHEMA.to_owned(),
        schema_version: SCHEMA_VERSION.to_owned(),
        started_at: started.rfc3339,
        command,
        workload: plan.base.workload.clone().unwrap_or_else(|| "orders".to_owned()),
        env,
        git: git_state(),
        map: map(&cells, &targets),
        target_p99_s: targets,
        cells,
        break_even,
        models: refresh_cost.into_iter().chain(refresh_time).chain(streams).collect(),
        runs: sweeper.runs,
        forecasts,
        checks,
        warnings: sweeper.warnings,
    })
}

/// Changes of a transaction, in the mean of the first thousand.
fn changes_per_txn(workload: &Workload) -> f64 {
    const LOOKED_AT: usize = 1000;
    let counts: Vec<usize> = workload.stream().take(LOOKED_AT).map(|txn| txn.statements.len()).collect();
    let sum: usize = counts.iter().sum();
    (sum as f64 / counts.len().max(1) as f64).max(0.01)
}

/// What was measured at the most: rows of all tables, and changes a second of streams (of refreshes, when there are no streams).
fn largest(runs: &[SweepRun]) -> (f64, f64) {
    let most = |of: fn(&SweepRun) -> f64, refreshes: bool| {
        let own = runs.iter().filter(|run| refreshes || run.strategy != "full-refresh");
        own.map(of).reduce(f64::max)
    };
    let rate = |run: &SweepRun| run.change_rate;
    let rows = most(|run| run.rows_total as f64, true).unwrap_or(f64::MIN_POSITIVE);
    (rows, most(rate, false).or_else(|| most(rate, true)).unwrap_or(f64::MIN_POSITIVE))
}

/// The rate that came of one that was asked for, if it was run and came out lower: short runs have a few changes more or less.
fn rate_come(runs: &[SweepRun], stream: &str, asked: f64) -> f64 {
    let own = runs.iter().filter(|run| run.strategy == stream && run.asked_rate == asked);
    own.map(|run| run.change_rate).reduce(f64::max).map_or(asked, |come| come.min(asked))
}

/// The smallest and the largest first, then what lies between.
fn ends_first<T: Clone>(sorted: &[T]) -> Vec<T> {
    match sorted {
        [first, between @ .., last] => {
            [first.clone(), last.clone()].into_iter().chain(between.iter().cloned()).collect()
        }
        few => few.to_vec(),
    }
}

impl Sweeper<'_> {
    fn workload(&self, rows: u64) -> Result<std::sync::Arc<Workload>, RunError> {
        let raw = RawPlan { rows: Some(rows.to_string()), ..self.plan.base.clone() };
        Ok(raw.resolve(String::new()).map_err(RunError::measuring)?.workload)
    }

    /// Rows of all tables.
    fn total(&mut self, rows: u64) -> Result<u64, RunError> {
        if let Some((_, total)) = self.totals.iter().find(|(known, _)| *known == rows) {
            return Ok(*total);
        }
        let workload = self.workload(rows)?;
        let total = workload.catalog().iter().map(|(table, _)| workload.initial_row_count(table)).sum();
        self.totals.push((rows, total));
        Ok(total)
    }

    /// Every place once, then again, while there is time.
    fn measure(&mut self, tell: &mut dyn FnMut(&SweepRun)) -> Result<(), RunError> {
        let places = self.places();
        for pass in 0.. {
            let mut any = false;
            for place in &places {
                let needed = self.foretold(place)?;
                let left = self.plan.budget.saturating_sub(self.begun.elapsed());
                if needed > left.as_secs_f64() {
                    if pass == 0 {
                        self.warnings.push(format!(
                            "{} with {} rows at {} changes/s was not run: about {needed:.0} s, and {:.0} s of the budget were left",
                            place.strategy, place.rows, place.rate, left.as_secs_f64()
                        ));
                    }
                    continue;
                }
                any = true;
                let found = self.run(place)?;
                tell(&found);
                self.runs.push(found);
            }
            // Three of each are enough: further ones would tell the same.
            if !any || pass == 2 {
                return Ok(());
            }
        }
        Ok(())
    }

    fn places(&self) -> Vec<Place> {
        let (rows, rates) = (ends_first(&self.plan.rows), ends_first(&self.plan.change_rates));
        let mut places = Vec::new();
        let (least_rows, least_rate) = (self.plan.rows.first().copied(), self.plan.change_rates.first().copied());
        let of = |strategy: &str, rows, rate| Place { strategy: strategy.to_owned(), rows, rate };
        for step in 0..rows.len().max(rates.len()) {
            // A refresh does not care for the rate, nor a stream for the size, to first order: each is run along its own axis...
            if let (true, Some(&rows), Some(rate)) = (self.plan.refresh, rows.get(step), least_rate) {
                places.push(of("full-refresh", rows, rate));
            }
            if let (Some(rows), Some(&rate)) = (least_rows, rates.get(step)) {
                places.extend(self.plan.streams.iter().map(|stream| of(stream, rows, rate)));
            }
        }
        // ...and a stream also beside the largest table, at the rates at which a change costs more than idling: what the first order leaves out.
        if let (Some(&rows), true) = (self.plan.rows.last(), self.plan.rows.len() > 1) {
            for &rate in self.plan.change_rates.iter().rev().take(RATES_AT_THE_LARGEST) {
                places.extend(self.plan.streams.iter().map(|stream| of(stream, rows, rate)));
            }
        }
        places
    }

    /// Seconds that one refresh of this many rows takes, from the sizes done so far.
    fn refresh_length(&self, rows_total: f64) -> f64 {
        let model = self.models().refresh_time;
        let line = model.and_then(|model| model.line);
        line.map_or(0.05 + REFRESH_S_PER_ROW * rows_total, |line| line.at(rows_total))
    }

    fn interval(&self, rows_total: f64) -> Duration {
        let least = INTERVAL_MIN.max(Duration::from_secs_f64(self.refresh_length(rows_total) * ROOM));
        // An interval of the grid, when it is not much longer, makes the place a measured one.
        let on_grid = self.plan.intervals.iter().find(|interval| **interval >= least);
        on_grid.copied().filter(|interval| *interval <= least * 2).unwrap_or(least)
    }

    fn window(&self, place: &Place, rows_total: f64) -> (Duration, Duration, Duration) {
        if place.strategy != "full-refresh" {
            let interval = self.plan.intervals.first().copied().unwrap_or(INTERVAL_MIN);
            return (interval, Duration::from_secs(1), WINDOW_MIN * 2);
        }
        let interval = self.interval(rows_total);
        // Whole intervals, so that as much of a refresh is cut off at one end as is added at the other.
        let times = REFRESHES.max((WINDOW_MIN.as_secs_f64() / interval.as_secs_f64()).ceil() as u32);
        (interval, interval, interval * times)
    }

    fn foretold(&mut self, place: &Place) -> Result<f64, RunError> {
        let total = self.total(place.rows)? as f64;
        let (_, warmup, window) = self.window(place, total);
        let cases = if place.strategy == "full-refresh" { 1.0 } else { 2.0 };
        let measured = (warmup + window).as_secs_f64();
        let shares: Vec<f64> = self
            .runs
            .iter()
            .filter(|run| run.rows_total as f64 >= total / 4.0)
            .map(|run| (run.took_s / run.rows_total as f64).min(OVERHEAD_S_PER_ROW))
            .collect();
        let each = shares.iter().copied().reduce(f64::max).unwrap_or(OVERHEAD_S_PER_ROW);
        Ok(1.0 + cases * measured + each * total)
    }

    fn run(&mut self, place: &Place) -> Result<SweepRun, RunError> {
        self.run_for(place, 1)
    }

    /// Runs a change stream for so many windows.
    fn run_for(&mut self, place: &Place, windows: u32) -> Result<SweepRun, RunError> {
        let begun = Instant::now();
        let workload = self.workload(place.rows)?;
        let total: u64 = workload.catalog().iter().map(|(table, _)| workload.initial_row_count(table)).sum();
        let (interval, warmup, window) = self.window(place, total as f64);
        let window = if place.strategy == "full-refresh" { window } else { window * windows };
        let ms = |length: Duration| Some(format!("{}ms", length.as_millis()));
        let out = self.plan.folder.join("runs").join(format!("{:03}-{}", self.made, place.strategy));
        self.made += 1;
        let raw = RawPlan {
            strategies: Some(place.strategy.clone()),
            rows: Some(place.rows.to_string()),
            rate: Some((place.rate / self.changes_per_txn).to_string()),
            batch_interval: ms(interval),
            warmup: ms(warmup),
            duration: ms(window),
            // What a stream adds to the source is measured against a control run; a refresh only reads.
            no_control: place.strategy == "full-refresh",
            out: Some(out),
            work: None,
            ..self.plan.base.clone()
        };
        let plan = raw.resolve(raw.command()).map_err(RunError::measuring)?;
        let finished = run(&plan, self.progress, self.stop)?;
        if finished.interrupted {
            return Err(RunError::Interrupted);
        }
        let result = finished.result;
        let case = result.case(&place.strategy).ok_or_else(|| RunError::measuring("a run left no result"))?;
        if !case.validation.passed {
            let why = case.validation.failures.join("; ");
            return Err(RunError::measuring(format!("{} did not pass its validation: {why}", place.strategy)));
        }
        // A run whose costs are not known is no point of a line.
        if case.value("cost.cpu_cores").is_none() {
            let why = case.metric("cost.cpu_cores").and_then(|metric| metric.absent.clone());
            return Err(RunError::measuring(why.unwrap_or_else(|| "a run left no costs".to_owned())));
        }
        Ok(figures(place, (&result, case), (total, interval, window), begun.elapsed()))
    }

    fn models(&self) -> Models {
        let of = |strategy: &str| {
            let strategy = strategy.to_owned();
            self.runs.iter().filter(move |run| run.strategy == strategy)
        };
        let refresh = |value: fn(&SweepRun) -> Option<f64>| -> Vec<(f64, f64)> {
            of("full-refresh").filter_map(|run| Some((run.rows_total as f64, value(run)?))).collect()
        };
        let streams = self.plan.streams.iter().filter_map(|name| {
            let point = |run: &SweepRun| (run.rows_total as f64, run.change_rate, run.cost_cpu_s_per_s);
            Model::fit_stream(name, &of(name).map(point).collect::<Vec<_>>())
        });
        let lags = self.runs.iter().filter(|run| run.strategy != "full-refresh");
        Models {
            refresh_cost: Model::fit(
                "full-refresh",
                ("cpu_s_per_refresh", "rows_total"),
                &refresh(|run| run.cpu_s_per_refresh),
            ),
            refresh_time: Model::fit("full-refresh", ("refresh_s", "rows_total"), &refresh(|run| run.refresh_s)),
            streams: streams.collect(),
            lags: lags.filter_map(|run| Some((run.strategy.clone(), run.change_rate, run.freshness_p99_s?))).collect(),
        }
    }

    /// The mean of what was measured at a place of the grid, if it was.
    fn measured(&self, strategy: &str, rows: u64, rate: f64, interval_s: Option<f64>) -> Option<(f64, f64)> {
        let own = self.runs.iter().filter(|run| {
            run.strategy == strategy
                && run.rows == rows
                && run.asked_rate == rate
                && interval_s.is_none_or(|interval| (run.interval_s - interval).abs() < 1e-6)
        });
        let found: Vec<(f64, f64)> = own.filter_map(|run| Some((run.cost_cpu_s_per_s, run.freshness_p99_s?))).collect();
        let count = found.len() as f64;
        let sum = found.iter().fold((0.0, 0.0), |(cost, lag), found| (cost + found.0, lag + found.1));
        (!found.is_empty()).then(|| (sum.0 / count, sum.1 / count))
    }

    fn cells(&mut self, models: &Models) -> Result<Vec<Cell>, RunError> {
        let mut cells = Vec::new();
        let plan = self.plan;
        for &rows in &plan.rows {
            let rows_total = self.total(rows)?;
            for &change_rate in &plan.change_rates {
                for interval in &plan.intervals {
                    let interval_s = interval.as_secs_f64();
                    let mut put = |strategy: &str, measured: Option<(f64, f64)>, model: (Option<f64>, Option<f64>)| {
                        let (cost, lag) = measured.map_or(model, |(cost, lag)| (Some(cost), Some(lag)));
                        cells.push(Cell {
                            rows,
                            rows_total,
                            change_rate,
                            strategy: strategy.to_owned(),
                            interval_s,
                            measured: measured.is_some(),
                            cost_cpu_s_per_s: cost,
                            freshness_p99_s: lag,
                        });
                    };
                    if plan.refresh {
                        let model = models.refresh_at(rows_total as f64, interval_s);
                        let measured = self.measured("full-refresh", rows, change_rate, Some(interval_s));
                        put("full-refresh", measured, (model.map(|m| m.0), model.map(|m| m.1)));
                    }
                    for stream in &plan.streams {
                        let lag = models.stream_lag(stream, rate_come(&self.runs, stream, change_rate));
                        // Beyond the highest rate that was run nobody knows whether it keeps up.
                        let model = models.stream(stream).filter(|_| lag.is_some());
                        let cost = model.and_then(|model| model.stream_at(rows_total as f64, change_rate));
                        put(stream, self.measured(stream, rows, change_rate, None), (cost, lag));
                    }
                }
            }
        }
        Ok(cells)
    }

    /// Runs what was foretold: a refresh of that size at the least rate, a stream at that rate beside a table of that size. Each stands
    /// between two runs of a place of the grid, which say how much the machine drifts.
    fn check(&mut self, models: &Models, tell: &mut dyn FnMut(&SweepRun)) -> Result<Vec<Checked>, RunError> {
        let mut checks = Vec::new();
        let of = |strategy: &str, rows, rate| Place { strategy: strategy.to_owned(), rows, rate };
        let plan = self.plan;
        let (Some(&least_rate), Some(&least_rows), Some(&most_rows)) =
            (plan.change_rates.first(), plan.rows.first(), plan.rows.last())
        else {
            return Ok(checks);
        };
        for &(rows, rate, _) in &plan.predict {
            if let Some(line) = models.refresh_cost.as_ref().and_then(|model| model.line.as_ref()) {
                let places = [of("full-refresh", rows, least_rate), of("full-refresh", most_rows, least_rate)];
                checks.push(self.check_of(places, |run| line.at(run.rows_total as f64), tell)?);
            }
            for model in &models.streams {
                let known = plan.change_rates.iter().rev().find(|known| **known <= rate).unwrap_or(&least_rate);
                let places = [of(&model.strategy, rows, rate), of(&model.strategy, least_rows, *known)];
                let predicted =
                    |run: &SweepRun| model.stream_at(run.rows_total as f64, run.change_rate).unwrap_or(f64::NAN);
                checks.push(self.check_of(places, predicted, tell)?);
            }
        }
        Ok(checks)
    }

    /// Runs a place between two runs of a known one. `predicted` gives what was foretold for a run.
    fn check_of(
        &mut self,
        [place, known]: [Place; 2],
        predicted: impl Fn(&SweepRun) -> f64,
        tell: &mut dyn FnMut(&SweepRun),
    ) -> Result<Checked, RunError> {
        // What was foretold: CPU seconds of one refresh, or of one second of a stream.
        let cost = |run: &SweepRun| match run.strategy.as_str() {
            "full-refresh" => run.cpu_s_per_refresh.unwrap_or(f64::NAN),
            _ => run.cost_cpu_s_per_s,
        };
        let there =
            |run: &&SweepRun| run.strategy == known.strategy && run.rows == known.rows && run.asked_rate == known.rate;
        let in_grid: Vec<f64> = self.runs.iter().filter(there).map(cost).collect();
        let mean = (!in_grid.is_empty()).then(|| in_grid.iter().sum::<f64>() / in_grid.len() as f64);
        let mut run = |place: &Place| {
            let run = self.run_for(place, CHECK_TIMES)?;
            tell(&run);
            Ok::<_, RunError>((predicted(&run), cost(&run)))
        };
        let (_, before) = run(&known)?;
        let checked = run(&place)?;
        let (_, after) = run(&known)?;
        Ok(Checked::of(place.strategy, checked, [before, after], mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_an_axis_come_first() {
        assert_eq!(ends_first(&[1, 2, 3, 4]), [1, 4, 2, 3]);
        assert_eq!(ends_first(&[1]), [1]);
        assert!(ends_first::<u8>(&[]).is_empty());
    }

    fn run(strategy: &str, rows_total: u64, change_rate: f64) -> SweepRun {
        SweepRun {
            strategy: strategy.to_owned(),
            rows: rows_total,
            rows_total,
            change_rate,
            asked_rate: change_rate,
            interval_s: 1.0,
            cost_cpu_s_per_s: 0.1,
            cpu_s_per_refresh: None,
            refresh_s: None,
            freshness_p99_s: None,
            took_s: 1.0,
        }
    }

    #[test]
    fn a_rate_that_came_out_lower_is_that_rate() {
        let asked = |come| SweepRun { asked_rate: 200.0, ..run("cdc-trigger", 100, come) };
        let runs = [asked(150.0), asked(185.0), run("outbox", 100, 200.0), run("cdc-trigger", 100, 50.0)];
        assert_eq!(rate_come(&runs, "cdc-trigger", 200.0), 185.0);
        assert_eq!((rate_come(&runs, "outbox", 200.0), rate_come(&runs, "cdc-trigger", 400.0)), (200.0, 400.0));
        assert_eq!(rate_come(&[asked(210.0)], "cdc-trigger", 200.0), 200.0);
    }

    #[test]
    fn the_largest_is_known_whatever_was_swept() {
        let runs = [run("full-refresh", 500, 90.0), run("cdc-trigger", 100, 40.0), run("cdc-trigger", 300, 20.0)];
        assert_eq!(largest(&runs), (500.0, 40.0));
        assert_eq!((largest(&runs[..1]), largest(&runs[1..])), ((500.0, 90.0), (300.0, 40.0)));
    }
}
