//! Cost models, the break-even between a full refresh and a change stream, and the cheapest strategy for a freshness target: `sweep.json`.
//!
//! All costs are CPU seconds, of the threads that follow and of what following adds to the source (triggers, against the control run).
//!
//! * A **full refresh** costs `a + b * rows` a refresh, so `(a + b * rows) / P` a second when one is made every P seconds.
//! * A **change stream** costs `(c + d * changes) * (rows / r)^e` for each second, whatever P is: the line is fitted at the smallest size, r
//!   rows, and e to what it costs beside larger tables, where trees are deeper and caches colder. Where the runs show no growth
//!   (see [`Growth`]), e is 0 and the line goes through the runs of all sizes.
//!   `incremental` is fitted in the same form; its interval is that at which it was measured, since what a batch costs beyond its
//!   changes is small.
//!
//! **Break-even**: the changes in an interval P at which both cost the same are `(a + b rows - c' P) / d'`, with c and d as they are at that size;
//! as a fraction of the rows it is the changed fraction above which the change stream is the dearer one. Its interval is drawn from
//! what the fits do not know.

use crate::stats::{CostLine, Growth, SplitMix64};
use crate::strategy::StrategyKind;
use serde::{Deserialize, Serialize};

/// The schema's name, in every file.
pub const SCHEMA: &str = "freshbench.sweep";
/// The schema's version.
pub const SCHEMA_VERSION: &str = "1.2";
/// Draws for an interval, and their seed.
const DRAWS: (usize, u64) = (4_000, 1);

/// One strategy at one size, rate and interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Rows of the main table, as `--rows` gives them.
    pub rows: u64,
    /// Rows of all tables.
    pub rows_total: u64,
    /// Changes a second.
    pub change_rate: f64,
    /// The strategy.
    pub strategy: String,
    /// Seconds between batches; for a change stream the interval that it is compared in.
    pub interval_s: f64,
    /// Whether it was run, or follows from the models.
    pub measured: bool,
    /// CPU seconds a second. None when the strategy can't do it: a refresh that takes longer than its interval.
    pub cost_cpu_s_per_s: Option<f64>,
    /// p99 commit lag at the slowest sink, in seconds.
    pub freshness_p99_s: Option<f64>,
}

/// The cheapest strategy for a target at one size and rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MapCell {
    /// The target for p99 commit lag, in seconds.
    pub target_p99_s: f64,
    /// Rows of the main table.
    pub rows: u64,
    /// Changes a second.
    pub change_rate: f64,
    /// The strategy; none when no one keeps the target.
    pub cheapest: Option<String>,
    /// The interval at which it is run.
    pub interval_s: Option<f64>,
    /// Its cost.
    pub cost_cpu_s_per_s: Option<f64>,
    /// Whether that strategy was measured there.
    pub measured: bool,
}

/// The changed fraction at which both cost the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BreakEven {
    /// Rows of the main table.
    pub rows: u64,
    /// Rows of all tables, of which the fraction is.
    pub rows_total: u64,
    /// The interval.
    pub interval_s: f64,
    /// The fraction; above it the change stream is dearer. Above 1 each row changes more than once before that. None when the change stream
    /// is dearer even without a change.
    pub changed_fraction: Option<f64>,
    /// Its 95 % interval, cut off at zero, where the fits rest on three points or more and not all of it lies there.
    pub ci: Option<[f64; 2]>,
}

/// A fitted cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Model {
    /// The strategy.
    pub strategy: String,
    /// What it gives: `cpu_s_per_refresh`, `cpu_s_per_s` or `refresh_s`.
    pub of: String,
    /// What it is a line in: `rows_total` or `changes_per_s`.
    pub by: String,
    /// The value at zero.
    pub intercept: f64,
    /// Its 95 % interval.
    pub intercept_ci: Option<[f64; 2]>,
    /// The slope.
    pub slope: f64,
    /// Its 95 % interval.
    pub slope_ci: Option<[f64; 2]>,
    /// Relative spread of the points about the line.
    pub spread: Option<f64>,
    /// `[x, y, (y - fitted) / y]` of each point.
    pub residuals: Vec<[f64; 3]>,
    /// What the line is multiplied by at other sizes: rows of all tables over `size_base_rows`, to this power; 0 where no growth is shown.
    /// None if it was run at one size.
    pub size_exponent: Option<f64>,
    /// The power as it was measured, whether or not it shows a growth.
    pub size_exponent_measured: Option<f64>,
    /// The 95 % interval of the measured one.
    pub size_exponent_ci: Option<[f64; 2]>,
    /// Rows of all tables at the smallest size: there the line was fitted, unless the exponent is 0, when it was through all sizes.
    pub size_base_rows: Option<f64>,
    /// The line itself, for computing.
    #[serde(skip)]
    pub line: Option<CostLine>,
    /// And its growth.
    #[serde(skip)]
    pub growth: Option<Growth>,
}

impl Model {
    /// The model through these points, if a line goes through them.
    pub fn fit(strategy: &str, (of, by): (&str, &str), points: &[(f64, f64)]) -> Option<Model> {
        let line = CostLine::fit(points)?;
        Some(Model {
            strategy: strategy.to_owned(),
            of: of.to_owned(),
            by: by.to_owned(),
            intercept: line.intercept,
            intercept_ci: pair(line.intercept_interval),
            slope: line.slope,
            slope_ci: pair(line.slope_interval),
            spread: line.spread,
            residuals: line.residuals.iter().map(|&(x, y, r)| [x, y, r]).collect(),
            line: Some(line),
            size_exponent: None,
            size_exponent_measured: None,
            size_exponent_ci: None,
            size_base_rows: None,
            growth: None,
        })
    }

    /// The model of a change stream through `(rows of all tables, changes a second, cost)`: the line at the smallest size and how it
    /// grows with the size, or the line through all of them where no growth is shown.
    pub fn fit_stream(strategy: &str, points: &[(f64, f64, f64)]) -> Option<Model> {
        let base = points.iter().map(|(rows, _, _)| *rows).min_by(f64::total_cmp)?;
        let smallest: Vec<(f64, f64)> =
            points.iter().filter(|(rows, _, _)| *rows == base).map(|&(_, rate, cost)| (rate, cost)).collect();
        let mut model = Model::fit(strategy, ("cpu_s_per_s", "changes_per_s"), &smallest)?;
        let line = model.line.as_ref()?;
        let ratios: Vec<(f64, f64)> = points.iter().map(|&(rows, rate, cost)| (rows, cost / line.at(rate))).collect();
        let beside: Vec<f64> = points.iter().filter(|(rows, _, _)| *rows != base).map(|(_, rate, _)| *rate).collect();
        let mean_rate = beside.iter().sum::<f64>() / beside.len().max(1) as f64;
        if let Some(growth) = Growth::fit(base, &ratios, line.error_at(mean_rate).unwrap_or(0.0)) {
            if !growth.is_shown() {
                let all: Vec<(f64, f64)> = points.iter().map(|&(_, rate, cost)| (rate, cost)).collect();
                model = Model::fit(strategy, ("cpu_s_per_s", "changes_per_s"), &all)?;
            }
            model.size_exponent = Some(growth.exponent_taken());
            model.size_exponent_measured = Some(growth.exponent);
            model.size_exponent_ci = pair(growth.exponent_interval);
            model.size_base_rows = Some(base);
            model.growth = Some(growth);
        }
        Some(model)
    }

    /// What the line is multiplied by at a size.
    fn ratio(&self, rows_total: f64) -> f64 {
        self.growth.as_ref().map_or(1.0, |growth| growth.at(rows_total))
    }

    /// The cost of a change stream at a size and rate.
    pub fn stream_at(&self, rows_total: f64, change_rate: f64) -> Option<f64> {
        Some(self.line.as_ref()?.at(change_rate) * self.ratio(rows_total))
    }

    /// The 95 % interval of one measurement there: what line and growth do not know, taken as if they were independent. `None` where
    /// either is not known.
    fn stream_forecast(&self, rows_total: f64, change_rate: f64) -> Option<[f64; 2]> {
        let (line, ratio) = (self.line.as_ref()?, self.ratio(rows_total));
        let middle = line.at(change_rate);
        let of_line = line.forecast(change_rate)?.high / middle - 1.0;
        let [low, high] = self.growth.as_ref().map_or(Some([1.0, 1.0]), |growth| growth.ends(rows_total))?;
        let shares = [1.0 - of_line.hypot(1.0 - low), 1.0 + of_line.hypot(high - 1.0)];
        Some(shares.map(|share| (middle * ratio * share).max(0.0)))
    }

    /// One draw of what intercept and slope may as well be at a size.
    fn stream_drawn(&self, line: &CostLine, rows_total: f64, random: &mut SplitMix64) -> (f64, f64) {
        let (intercept, slope) = line.drawn(random);
        let ratio = self.growth.as_ref().map_or(1.0, |growth| growth.drawn(rows_total, random));
        (intercept * ratio, slope * ratio)
    }
}

fn pair(interval: Option<crate::stats::Interval>) -> Option<[f64; 2]> {
    interval.map(|interval| [interval.low, interval.high])
}

/// A forecast beyond what was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Forecast {
    /// Rows of the main table.
    pub rows: u64,
    /// Rows of all tables.
    pub rows_total: u64,
    /// Changes a second.
    pub change_rate: f64,
    /// The interval.
    pub interval_s: f64,
    /// True when size or rate lie outside what was measured: nothing shows that the lines go on.
    pub extrapolation: bool,
    /// How many times the largest measured size this is.
    pub rows_times: f64,
    /// How many times the highest measured rate this is.
    pub rate_times: f64,
    /// By strategy.
    pub strategies: Vec<ForecastOf>,
    /// The cheapest of those that can do it.
    pub cheapest: Option<String>,
}

/// The forecast of one strategy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForecastOf {
    /// The strategy.
    pub strategy: String,
    /// CPU seconds in one interval.
    pub cpu_s_per_interval: f64,
    /// Its 95 % interval for one measurement.
    pub ci: Option<[f64; 2]>,
    /// CPU seconds a second.
    pub cost_cpu_s_per_s: f64,
    /// p99 commit lag: `D + 0.99 P` of a refresh; of a change stream that of the nearest measured rate, none beyond the highest.
    pub freshness_p99_s: Option<f64>,
    /// Why it can't be done, if so.
    pub impossible: Option<String>,
}

/// Measured cells of a change stream by their rate, and of a refresh by their size.
#[derive(Clone, Debug, Default)]
pub struct Models {
    /// Cost of a full refresh by rows of all tables.
    pub refresh_cost: Option<Model>,
    /// Its length by rows of all tables.
    pub refresh_time: Option<Model>,
    /// Cost a second of each change stream by changes a second, and by size.
    pub streams: Vec<Model>,
    /// Measured `(strategy, changes a second, p99 lag)` of change streams.
    pub lags: Vec<(String, f64, f64)>,
}

impl Models {
    /// The model of a change stream.
    pub fn stream(&self, strategy: &str) -> Option<&Model> {
        self.streams.iter().find(|model| model.strategy == strategy)
    }

    fn refresh(&self) -> Option<(&CostLine, &CostLine)> {
        Some((self.refresh_cost.as_ref()?.line.as_ref()?, self.refresh_time.as_ref()?.line.as_ref()?))
    }

    /// p99 lag of a change stream at the nearest measured rate that is not lower; none beyond the highest.
    pub fn stream_lag(&self, strategy: &str, change_rate: f64) -> Option<f64> {
        let own = self.lags.iter().filter(|(name, rate, _)| name == strategy && *rate >= change_rate * 0.95);
        own.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(_, _, lag)| *lag)
    }

    /// Cost and lag of a full refresh of this many rows every `interval_s`; none when it takes longer than that.
    pub fn refresh_at(&self, rows_total: f64, interval_s: f64) -> Option<(f64, f64)> {
        let (cost, time) = self.refresh()?;
        let length = time.at(rows_total);
        // The commit lag is even between D and D + P.
        (length <= interval_s).then(|| (cost.at(rows_total) / interval_s, length + 0.99 * interval_s))
    }

    /// The changed fraction of an interval at which full refresh and change stream cost the same.
    pub fn break_even(&self, stream: &str, (rows, rows_total): (u64, u64), interval_s: f64) -> Option<BreakEven> {
        let (refresh, _) = self.refresh()?;
        let model = self.stream(stream)?;
        let stream = model.line.as_ref()?;
        let total = rows_total as f64;
        let ratio = model.ratio(total);
        let fraction = |(a, b): (f64, f64), (c, d): (f64, f64)| (a + b * total - c * interval_s) / d / total;
        let middle = fraction((refresh.intercept, refresh.slope), (stream.intercept * ratio, stream.slope * ratio));
        let growth_known = model.growth.as_ref().is_none_or(|growth| growth.ends(total).is_some());
        let known = refresh.spread.is_some() && stream.spread.is_some() && growth_known;
        let ci = known.then(|| {
            let mut random = SplitMix64::new(DRAWS.1);
            let mut draw = |_| {
                let refresh = refresh.drawn(&mut random);
                fraction(refresh, model.stream_drawn(stream, total, &mut random))
            };
            let mut draws: Vec<f64> = (0..DRAWS.0).map(&mut draw).collect();
            draws.retain(|draw| draw.is_finite());
            draws.sort_unstable_by(f64::total_cmp);
            let at = |q: f64| {
                draws.get(crate::stats::nearest_rank(q, draws.len()).saturating_sub(1)).copied().unwrap_or(0.0)
            };
            [at(0.025).max(0.0), at(0.975).max(0.0)]
        });
        // Always dearer, for all that is known.
        let ci = ci.filter(|[_, high]| *high > 0.0);
        let changed_fraction = (middle > 0.0).then_some(middle);
        Some(BreakEven { rows, rows_total, interval_s, changed_fraction, ci })
    }

    /// What each strategy would cost at a size, rate and interval. `largest` is what was measured: rows of all tables, changes a second.
    pub fn forecast(
        &self,
        (rows, rows_total): (u64, u64),
        (change_rate, interval_s): (f64, f64),
        (largest_rows, largest_rate): (f64, f64),
    ) -> Forecast {
        let mut strategies = Vec::new();
        let total = rows_total as f64;
        if let Some((cost, time)) = self.refresh() {
            let length = time.at(total);
            let impossible = (length > interval_s)
                .then(|| format!("a refresh would take {length:.0} s, longer than the interval of {interval_s:.0} s"));
            strategies.push(ForecastOf {
                strategy: "full-refresh".to_owned(),
                cpu_s_per_interval: cost.at(total),
                ci: cost.forecast(total).map(|interval| [interval.low, interval.high]),
                cost_cpu_s_per_s: cost.at(total) / interval_s,
                freshness_p99_s: Some(length + 0.99 * interval_s.max(length)),
                impossible,
            });
        }
        for model in &self.streams {
            let Some(cost) = model.stream_at(total, change_rate) else { continue };
            // One thread reads and one a sink applies, and the source does its part: beyond a handful of cores it can't go.
            let impossible = (cost > f64::from(STREAM_CORES_MAX))
                .then(|| format!("it would need {cost:.0} cores, and its stages are single threads"));
            strategies.push(ForecastOf {
                strategy: model.strategy.clone(),
                cpu_s_per_interval: cost * interval_s,
                ci: model.stream_forecast(total, change_rate).map(|ends| ends.map(|end| end * interval_s)),
                cost_cpu_s_per_s: cost,
                freshness_p99_s: self.stream_lag(&model.strategy, change_rate),
                impossible,
            });
        }
        let able = strategies.iter().filter(|of| of.impossible.is_none() && may_be_cheapest(&of.strategy));
        let cheapest =
            able.min_by(|a, b| a.cost_cpu_s_per_s.total_cmp(&b.cost_cpu_s_per_s)).map(|of| of.strategy.clone());
        let (rows_times, rate_times) = (total / largest_rows, change_rate / largest_rate);
        let extrapolation = rows_times > 1.0 || rate_times > 1.0;
        Forecast {
            rows,
            rows_total,
            change_rate,
            interval_s,
            extrapolation,
            rows_times,
            rate_times,
            strategies,
            cheapest,
        }
    }
}

/// A change stream of this program has about so many threads to work on.
const STREAM_CORES_MAX: u32 = 5;

/// Only what promises equality is named the cheapest: rows that are lost cost nothing to bring.
fn may_be_cheapest(strategy: &str) -> bool {
    let kind = StrategyKind::ALL.into_iter().find(|kind| kind.name() == strategy);
    kind.is_none_or(|kind| kind.promises_equality(0.0))
}

/// The cheapest cell for each target, size and rate: of those that keep the target, the one with the least cost.
pub fn map(cells: &[Cell], targets: &[f64]) -> Vec<MapCell> {
    let mut places: Vec<(u64, f64)> = cells.iter().map(|cell| (cell.rows, cell.change_rate)).collect();
    places.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    places.dedup();
    let mut map = Vec::new();
    for &target_p99_s in targets {
        for &(rows, change_rate) in &places {
            let keeps = cells.iter().filter(|cell| {
                may_be_cheapest(&cell.strategy)
                    && cell.rows == rows
                    && cell.change_rate == change_rate
                    && cell.freshness_p99_s.is_some_and(|lag| lag <= target_p99_s)
            });
            let priced = keeps.filter_map(|cell| Some((cell, cell.cost_cpu_s_per_s?)));
            let best = priced.min_by(|a, b| a.1.total_cmp(&b.1));
            map.push(MapCell {
                target_p99_s,
                rows,
                change_rate,
                cheapest: best.map(|(cell, _)| cell.strategy.clone()),
                interval_s: best.map(|(cell, _)| cell.interval_s),
                cost_cpu_s_per_s: best.map(|(_, cost)| cost),
                measured: best.is_some_and(|(cell, _)| cell.measured),
            });
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A refresh of 0.1 + 2e-6 a row, which takes half of that; a stream of 0.01 + 1e-4 a change.
    fn models() -> Models {
        let rows = [1e4, 1e5, 1e6];
        let points = |f: &dyn Fn(f64) -> f64, xs: &[f64]| xs.iter().map(|&x| (x, f(x))).collect::<Vec<_>>();
        let rates = [100.0, 1000.0, 5000.0];
        Models {
            refresh_cost: Model::fit(
                "full-refresh",
                ("cpu_s_per_refresh", "rows_total"),
                &points(&|x| 0.1 + 2e-6 * x, &rows),
            ),
            refresh_time: Model::fit("full-refresh", ("refresh_s", "rows_total"), &points(&|x| 0.05 + 1e-6 * x, &rows)),
            streams: vec![
                Model::fit("cdc-trigger", ("cpu_s_per_s", "changes_per_s"), &points(&|x| 0.01 + 1e-4 * x, &rates))
                    .unwrap(),
            ],
            lags: rates.map(|rate| ("cdc-trigger".to_owned(), rate, 0.005)).into(),
        }
    }

    #[test]
    fn break_even_by_hand() {
        // A million rows every 10 s: refresh 2.1; stream 0.1 + 1e-4 n, equal at n = 20,000 changes: 2 % of the rows.
        let even = models().break_even("cdc-trigger", (1_000_000, 1_000_000), 10.0).unwrap();
        assert!((even.changed_fraction.unwrap() - 0.02).abs() < 1e-6, "{even:?}");
        let [low, high] = even.ci.unwrap();
        assert!(low <= 0.0201 && high >= 0.0199, "{even:?}");
        // Ten thousand rows every 60 s: refresh 0.12, the stream's idling alone is 0.6.
        let dearer = models().break_even("cdc-trigger", (10_000, 10_000), 60.0).unwrap();
        assert_eq!((dearer.changed_fraction, dearer.ci), (None, None));
    }

    #[test]
    fn a_forecast_by_hand() {
        // 1e9 rows every hour at 5,000 changes/s: refresh 2,000.1 CPU seconds, taking 1,000 s; stream 0.51 * 3,600 = 1,836.
        let forecast = models().forecast((1_000_000_000, 1_000_000_000), (5000.0, 3600.0), (1e6, 5000.0));
        assert!(forecast.extrapolation && (forecast.rows_times - 1000.0).abs() < 1e-6);
        let [refresh, stream] = forecast.strategies.as_slice() else { panic!("{forecast:?}") };
        assert!((refresh.cpu_s_per_interval - 2000.1).abs() < 0.01 && refresh.impossible.is_none(), "{refresh:?}");
        assert!(
            (stream.cpu_s_per_interval - 1836.0).abs() < 0.01 && stream.freshness_p99_s == Some(0.005),
            "{stream:?}"
        );
        assert_eq!(forecast.cheapest.as_deref(), Some("cdc-trigger"));
        // Every ten minutes it can't be done at all.
        let forecast = models().forecast((1_000_000_000, 1_000_000_000), (5000.0, 600.0), (1e6, 5000.0));
        assert!(forecast.strategies[0].impossible.is_some());
        let inside = models().forecast((1000, 1000), (500.0, 10.0), (1e6, 5000.0));
        assert!(!inside.extrapolation);
    }

    #[test]
    fn a_stream_beside_larger_tables_by_hand() {
        // 0.01 + 1e-4 a change at 1,000 rows, doubled with every hundred times the rows: an exponent of ln 2 / ln 100.
        let line = |rate: f64| 0.01 + 1e-4 * rate;
        let mut points: Vec<(f64, f64, f64)> = [100.0, 1000.0, 5000.0].map(|rate| (1e3, rate, line(rate))).into();
        points.extend([1000.0, 5000.0].map(|rate| (1e5, rate, 2.0 * line(rate))));
        let model = Model::fit_stream("cdc-trigger", &points).unwrap();
        assert!((model.size_exponent.unwrap() - 2f64.ln() / 100f64.ln()).abs() < 1e-9, "{model:?}");
        assert_eq!((model.size_base_rows, model.residuals.len()), (Some(1e3), 3));
        assert!((model.stream_at(1e7, 2000.0).unwrap() - 4.0 * line(2000.0)).abs() < 1e-9);
        assert!((model.stream_at(1e3, 2000.0).unwrap() - line(2000.0)).abs() < 1e-9);
        let grown = Models { streams: vec![model], ..models() };
        // 1e5 rows every 2 s: refresh 0.3; stream 2 * (0.02 + 1e-4 n), equal at n = 1,300: 1.3 % of the rows.
        let even = grown.break_even("cdc-trigger", (100_000, 100_000), 2.0).unwrap();
        assert!((even.changed_fraction.unwrap() - 0.013).abs() < 1e-6, "{even:?}");
        let forecast = grown.forecast((10_000_000, 10_000_000), (2000.0, 60.0), (1e5, 5000.0));
        assert!((forecast.strategies[1].cpu_s_per_interval - 60.0 * 4.0 * line(2000.0)).abs() < 1e-6, "{forecast:?}");
    }

    #[test]
    fn a_growth_that_is_not_shown_is_none() {
        // Beside a hundred times the rows one run came out cheaper and one dearer by more: 0.8 and 1.3 times the line.
        let line = |rate: f64| 0.01 + 1e-4 * rate;
        let mut points: Vec<(f64, f64, f64)> = [100.0, 1000.0, 5000.0].map(|rate| (1e3, rate, line(rate))).into();
        points.extend([0.8, 1.3].map(|share| (1e5, 1000.0, share * line(1000.0))));
        let model = Model::fit_stream("cdc-trigger", &points).unwrap();
        let measured = (0.8f64.ln() + 1.3f64.ln()) / 2.0 / 100f64.ln();
        assert!((model.size_exponent_measured.unwrap() - measured).abs() < 1e-9 && measured > 0.0, "{model:?}");
        assert_eq!((model.size_exponent, model.residuals.len()), (Some(0.0), 5));
        let all: Vec<(f64, f64)> = points.iter().map(|&(_, rate, cost)| (rate, cost)).collect();
        let pooled = CostLine::fit(&all).unwrap().at(2000.0);
        assert!([1e3, 1e9].iter().all(|&rows| (model.stream_at(rows, 2000.0).unwrap() - pooled).abs() < 1e-12));
        // What is not known of it is still said.
        let reach = |rows| model.stream_forecast(rows, 2000.0).map(|[_, high]| high).unwrap();
        assert!(reach(1e6) > reach(1e3));
        // All of them cheaper, and by the same: that larger tables make changes cheaper is not believed.
        points.truncate(3);
        points.extend([0.8, 0.8].map(|share| (1e5, 1000.0, share * line(1000.0))));
        let model = Model::fit_stream("cdc-trigger", &points).unwrap();
        assert!(model.size_exponent == Some(0.0) && model.size_exponent_ci.unwrap()[1] < 0.0, "{model:?}");
    }

    #[test]
    fn what_line_and_growth_do_not_know_adds_up() {
        // Off by 10 % each way at both sizes: a forecast at the base knows less than the line alone only by what the growth adds, which
        // is nothing there.
        let noisy = |rows: f64, ratio: f64| {
            [100.0, 1000.0, 5000.0]
                .into_iter()
                .flat_map(move |rate: f64| [0.9, 1.1].map(|share| (rows, rate, ratio * share * (0.01 + 1e-4 * rate))))
        };
        let points: Vec<_> = noisy(1e3, 1.0).chain(noisy(1e4, 1.2)).collect();
        let model = Model::fit_stream("cdc-trigger", &points).unwrap();
        let shares = |rows: f64| {
            let middle = model.stream_at(rows, 2000.0).unwrap();
            model.stream_forecast(rows, 2000.0).unwrap().map(|end| (end / middle - 1.0).abs())
        };
        let line = model.line.as_ref().unwrap();
        let of_line = line.forecast(2000.0).unwrap().high / line.at(2000.0) - 1.0;
        assert!(shares(1e3).iter().all(|share| (share - of_line).abs() < 1e-9));
        let growth = model.growth.as_ref().unwrap();
        assert!(growth.is_shown(), "{growth:?}");
        let [low, high] = growth.ends(1e6).unwrap();
        let wanted = [of_line.hypot(1.0 - low), of_line.hypot(high - 1.0)];
        assert!(shares(1e6).iter().zip(wanted).all(|(share, wanted)| (share - wanted).abs() < 1e-9));
        assert!(shares(1e6)[1] > shares(1e4)[1]);
        // One run beside a larger table tells no error: no interval there.
        let one = Model::fit_stream("cdc-trigger", &points[..7]).unwrap();
        assert!(one.stream_forecast(1e6, 2000.0).is_none() && one.stream_forecast(1e3, 2000.0).is_some());
    }

    #[test]
    fn the_map_takes_the_cheapest_that_keeps_the_target() {
        let cell = |strategy: &str, interval_s: f64, cost: f64, lag: f64| Cell {
            rows: 1,
            rows_total: 1,
            change_rate: 1.0,
            strategy: strategy.to_owned(),
            interval_s,
            measured: true,
            cost_cpu_s_per_s: Some(cost),
            freshness_p99_s: Some(lag),
        };
        let cells = [
            cell("full-refresh", 1.0, 0.9, 1.5),
            cell("full-refresh", 60.0, 0.02, 65.0),
            cell("cdc-trigger", 1.0, 0.3, 0.01),
        ];
        let map = map(&cells, &[0.001, 1.0, 100.0]);
        let cheapest: Vec<Option<&str>> = map.iter().map(|cell| cell.cheapest.as_deref()).collect();
        assert_eq!(cheapest, [None, Some("cdc-trigger"), Some("full-refresh")]);
        assert_eq!(map[2].interval_s, Some(60.0));
    }

    #[test]
    fn a_lag_is_taken_from_a_rate_that_is_no_lower() {
        let models = models();
        assert_eq!(models.stream_lag("cdc-trigger", 200.0), Some(0.005));
        assert_eq!(models.stream_lag("cdc-trigger", 9000.0), None);
    }
}
