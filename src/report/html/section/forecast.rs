//! What a sweep foretells: its models, its forecasts, and what came out when they were run.

use crate::report::html::block::{Block, Cell, Item, Row, Table};
use crate::report::html::input::{Check, Forecast, ForecastOf, Model, Sweep};
use crate::report::html::palette::color_of;
use crate::report::html::say;

fn range(ci: Option<[Option<f64>; 2]>, say: fn(f64) -> String) -> Option<String> {
    let [low, high] = ci?;
    Some(format!("{} – {}", say(low?), say(high?)))
}

/// What a strategy would do there.
fn of(of: &ForecastOf, interval_s: f64) -> String {
    let cpu = of.cpu_s_per_interval.map_or("unknown".to_owned(), say::seconds);
    let between = range(of.ci, say::seconds).map_or(String::new(), |range| format!(" (95 %: {range})"));
    let lag = of.freshness_p99_s.map_or("unknown at this rate".to_owned(), say::seconds);
    let but = of.impossible.as_ref().map_or(String::new(), |why| format!("; but {why}"));
    let every = say::seconds_tick(interval_s);
    format!("{}: {cpu} of CPU in {every}{between}, p99 commit lag {lag}{but}", of.strategy)
}

fn forecast(given: &Forecast) -> Item {
    let times = |times: Option<f64>| times.map_or("?".to_owned(), |times| say::times((times * 100.0).round() / 100.0));
    let beyond = if given.extrapolation {
        format!(
            "{} the largest size and {} the highest rate that were run. ",
            times(given.rows_times),
            times(given.rate_times)
        )
    } else {
        String::new()
    };
    let each: Vec<String> = given.strategies.iter().map(|strategy| of(strategy, given.interval_s)).collect();
    let cheapest = given.cheapest.as_deref().unwrap_or("none can do it");
    Item {
        color: given.cheapest.as_deref().map(color_of),
        term: format!(
            "{} rows, {} changes/s, every {}",
            say::count_tick(given.rows),
            say::short(given.change_rate),
            say::seconds_tick(given.interval_s)
        ),
        class: if given.extrapolation { "differs" } else { "good" },
        badge: if given.extrapolation { "extrapolation" } else { "within what was run" }.to_owned(),
        text: format!("{beyond}{}. Cheapest: {cheapest}.", each.join(". ")),
    }
}

fn check(given: &Check) -> Row {
    let seconds = |value: Option<f64>| value.map_or("-".to_owned(), say::seconds);
    let percent = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{:+.1} %", value * 100.0));
    let errors = [given.error, given.drift_before, given.drift_after].map(percent);
    Row::of(
        given.strategy.clone(),
        [seconds(given.predicted_cpu_s), seconds(given.measured_cpu_s)].into_iter().chain(errors),
    )
}

fn model(given: &Model) -> Row {
    let small = |value: f64| format!("{value:.3e}");
    let value = |value: Option<f64>| value.map_or("-".to_owned(), small);
    let slope = Cell { sub: range(given.slope_ci, small), ..Cell::text(value(given.slope)) };
    let spread = given.spread.map_or("-".to_owned(), say::percent);
    Row {
        head: Cell::text(format!("{}: {} by {}", given.strategy, given.of, given.by)),
        cells: vec![
            Cell::text(value(given.intercept)),
            slope,
            Cell::text(spread),
            Cell::text(given.residuals.len().to_string()),
        ],
        group: false,
    }
}

/// How a line grows with the size of the tables.
fn growth(given: &Model) -> Option<Row> {
    let (exponent, base) = given.size_exponent.zip(given.size_base_rows)?;
    let small = |value: f64| format!("{value:.3e}");
    let none = || Cell::text("-".to_owned());
    let measured = given.size_exponent_measured.filter(|measured| *measured != exponent);
    Some(Row {
        head: Cell::text(format!(
            "{}: times (rows_total / {}) to the power of the slope{}",
            given.strategy,
            say::count_tick(base),
            measured.map_or(String::new(), |measured| format!(" (no growth is shown by {})", small(measured)))
        )),
        cells: vec![
            none(),
            Cell { sub: range(given.size_exponent_ci, small), ..Cell::text(small(exponent)) },
            none(),
            none(),
        ],
        group: false,
    })
}

/// Forecasts, their check, and the models that both rest on.
pub(super) fn blocks(sweep: &Sweep) -> Vec<Block> {
    let mut blocks = Vec::new();
    if !sweep.forecasts.is_empty() {
        blocks.push(Block::Text("Forecasts from the models:".to_owned()));
        blocks.push(Block::Items(sweep.forecasts.iter().map(forecast).collect()));
    }
    if !sweep.checks.is_empty() {
        let head = ["strategy", "predicted", "measured", "error", "machine's drift, just before", "just after"];
        let rows = sweep.checks.iter().map(check).collect();
        blocks.push(Block::Table(Table::of("The forecasts, when they were run: CPU time", &head, rows)));
    }
    if !sweep.models.is_empty() {
        let head = ["line", "at zero", "slope", "spread about it", "points"];
        let table = Table::of(
            "The fitted lines, slopes with intervals of 95 %",
            &head,
            sweep.models.iter().flat_map(|given| [Some(model(given)), growth(given)]).flatten().collect(),
        );
        blocks.push(Block::Folded("Models".to_owned(), table));
    }
    blocks
}
