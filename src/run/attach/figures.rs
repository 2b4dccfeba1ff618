//! What an attach measured.

use super::AttachPlan;
use super::heartbeat::{ClockOffset, Drift};
use super::source_changes::Counted;
use crate::model::Moment;
use crate::probe::{
    BothFigures, BoundedFigures, Commit, FollowCounts, FollowFigures, ProbeFigures, ProbeRecord, Role, Staleness,
    Usage, Window,
};
use crate::report::{Case, Config, Direction, Phase, Series, Validation};
use crate::run::RunError;
use crate::run::figures::{Ages, NO_CHANGE, Sheet, age_figures, histogram, readable_figures};
use crate::run::identity::{HASH_VERSION, Pipeline, Settings, attach_settings, config_hash};
use crate::sink::SinkKind;
use crate::strategy::{Bytes, Outcome, Setting, SinkOutcome, StrategyKind};
use std::time::Duration;

/// Why nothing is said of a window that was over at once.
const NO_WINDOW: &str = "nothing was measured: the end that was asked for had been reached when the load was over";

/// A shorter window in which nothing came through is none.
const AT_ONCE: Duration = Duration::from_millis(100);

pub(super) struct Attached<'a> {
    pub(super) plan: &'a AttachPlan,
    pub(super) offset: ClockOffset,
    pub(super) window: Window,
    pub(super) observed_until: Moment,
    /// The same for readers in other processes.
    pub(super) readable_until: Moment,
    /// The server's count of changes, for strategies that see none.
    pub(super) counted: Option<&'a Counted>,
    /// What had been moved when the load, the catching up, the window, the fence and the end were over.
    pub(super) moved: [Bytes; 5],
    /// How far the server's clock moved against this machine's meanwhile, where that is known.
    pub(super) drift: Option<Drift>,
    pub(super) outcome: &'a Outcome,
    pub(super) followed: &'a FollowFigures,
    pub(super) usage: &'a Usage,
    pub(super) server_cpu: Option<Duration>,
    /// Bytes that the server wrote to its log in the window.
    pub(super) log_bytes: u64,
    pub(super) loading: (Moment, Moment),
    pub(super) reads: Option<&'a ProbeRecord>,
}

impl Attached<'_> {
    /// The case, and what a reader must know; broken invariants go into the validation.
    pub(super) fn figures(&self, validation: &mut Validation) -> Result<(Case, Vec<String>), RunError> {
        let mut sheet = Sheet::default();
        let (mut warnings, mut histograms) = (Vec::new(), Vec::new());
        let none = SinkOutcome::default();
        let sink = self.outcome.sinks.get(&SinkKind::Warehouse).unwrap_or(&none);
        let followed = self.followed;
        sheet.sink = Some(SinkKind::Warehouse);
        // Of every commit where the stream tells its time, else of the heartbeats.
        let BothFigures { inside, outside } = followed.stream.as_ref().unwrap_or(&followed.beats);
        // Readers of the folder are in other processes: what they have comes first.
        readable_figures(&mut sheet, Some((&outside.lag.sketch, Ages::from(&outside.age))));
        sheet.quantiles("freshness.heartbeat_readable_lag", &followed.beats.outside.lag.sketch);
        sheet.quantiles("freshness.commit_lag", &inside.lag.sketch);
        sheet.quantiles("freshness.heartbeat_lag", &followed.beats.inside.lag.sketch);
        for (id, lag) in [("freshness.readable_lag", &outside.lag), ("freshness.commit_lag", &inside.lag)] {
            histograms.extend(histogram(id, Some(SinkKind::Warehouse), &lag.histogram));
        }
        age_figures(&mut sheet, ("freshness.age", "freshness.within_slo"), &Ages::from(&inside.age));
        sheet.put("freshness.lost_commits", "count", Direction::Lower, Some(inside.lost as f64));
        sheet.put("freshness.early_commits", "count", Direction::Neutral, Some(inside.early as f64));
        sheet.put("freshness.largest_lead", "s", Direction::Neutral, Some(inside.largest_lead.as_secs_f64()));
        lag_bytes(&mut sheet, inside);
        if let Some(reads) = self.reads {
            self.read_figures(&mut sheet, reads, followed.kept.as_deref().unwrap_or_default(), validation);
        }
        self.consistency(&mut sheet, validation);
        sheet.sink = None;
        self.costs(&mut sheet, sink);
        if let Some(stream) = &followed.stream {
            warnings.extend(self.drifted(&stream.inside));
        }
        if followed.beats.inside.lag.sketch.is_empty() {
            warnings.push("no heartbeat came through the window: it was too short".to_owned());
        }
        if self.is_empty() {
            // The metrics of the source's clock and the comparison are not of the window.
            let of_window = ["freshness.", "throughput.", "cost.cpu", "cost.server_cpu", "source.log_bytes"];
            for metric in &mut sheet.metrics {
                if of_window.iter().any(|prefix| metric.id.starts_with(prefix)) {
                    (metric.value, metric.ci, metric.n) = (None, None, 0);
                    metric.absent = Some(NO_WINDOW.to_owned());
                }
            }
        }
        let case = Case {
            name: self.plan.strategy.name().to_owned(),
            sentence: String::new(),
            metrics: sheet.metrics,
            histograms,
            timeseries: self.series(inside),
            phases: self.phases(),
            validation: Validation::default(),
            divergence: Vec::new(),
            caveats: Vec::new(),
        };
        Ok((case, warnings))
    }

    /// Whether the window was over at once, before anything came through it.
    fn is_empty(&self) -> bool {
        let nothing = |figures: &BothFigures| figures.inside.lag.sketch.is_empty();
        let came = !nothing(&self.followed.beats) || self.followed.stream.as_ref().is_some_and(|all| !nothing(all));
        !came && self.window.length() < AT_ONCE
    }

    /// Transactions committed in the window, where the strategy sees them, and changes at the source, whatever was copied for
    /// them: by the stream, or by the server's own count. Why there is no count, where it can't be trusted.
    fn in_window(&self) -> (Option<u64>, Result<u64, String>) {
        if let Some(counted) = self.counted {
            return (None, counted.in_window(self.window));
        }
        let counts = &self.followed.counts;
        (Some(counts.transactions), Ok(counts.changes))
    }

    fn read_figures(&self, sheet: &mut Sheet, reads: &ProbeRecord, commits: &[Commit], validation: &mut Validation) {
        let figures = ProbeFigures::of(reads, Staleness::ByWatermark(commits), self.window);
        sheet.quantiles("freshness.query_staleness", &figures.staleness.samples);
        sheet.quantiles("freshness.query_latency", &figures.latency.samples);
        // Also of the reads before and behind the window: a version is right or wrong at any time.
        let broken = reads.samples.iter().filter(|sample| !sample.broken.is_empty()).count();
        let per_1000 = broken as f64 * 1000.0 / reads.samples.len().max(1) as f64;
        let torn = sheet.put("consistency.torn_reads", "per 1000 reads", Direction::Lower, Some(per_1000));
        torn.n = reads.samples.len() as u64;
        if broken > 0 && self.plan.strategy != StrategyKind::Incremental {
            validation.failures.push(format!("{broken} reads of the warehouse saw sums that are not equal"));
            validation.passed = false;
        }
        if let Some(cause) = &reads.first_error {
            validation.failures.push(format!("reads of the warehouse failed, the first: {cause}"));
            validation.passed = false;
        }
    }

    fn consistency(&self, sheet: &mut Sheet, validation: &Validation) {
        let sum =
            |pick: fn(&crate::report::SinkValidation) -> u64| validation.sinks.iter().map(pick).sum::<u64>() as f64;
        for (id, count) in [
            ("consistency.missing", sum(|sink| sink.missing)),
            ("consistency.extra", sum(|sink| sink.extra)),
            ("consistency.wrong", sum(|sink| sink.wrong)),
        ] {
            sheet.put(id, "count", Direction::Lower, Some(count));
        }
    }

    fn costs(&self, sheet: &mut Sheet, sink: &SinkOutcome) {
        let seconds = self.window.length().as_secs_f64().max(1e-9);
        // Of the window alone: a backlog that is drained is no throughput.
        let (transactions, changes) = self.in_window();
        let (changes, unknown) = match changes {
            Ok(changes) => (changes, None),
            Err(why) => (0, Some(why)),
        };
        let rate = unknown.is_none().then(|| changes as f64 / seconds);
        let metric = sheet.put("throughput.changes_per_s", "1/s", Direction::Higher, rate);
        metric.n = changes;
        metric.absent = unknown.clone();
        self.copied(sheet);
        if let Some(transactions) = transactions {
            let rate = transactions as f64 / seconds;
            sheet.put("throughput.transactions_per_s", "1/s", Direction::Higher, Some(rate)).n = transactions;
        }
        let follower = self.usage.cpu_of(Role::Capture)
            + self.usage.cpu_of(Role::Log)
            + self.usage.cpu_of(Role::Apply)
            + self.usage.unattributed;
        sheet.put("cost.cpu_cores", "cores", Direction::Lower, Some(follower.as_secs_f64() / seconds));
        let each = (changes > 0).then(|| follower.as_secs_f64() * 1000.0 / changes as f64);
        let metric = sheet.put("cost.cpu_s_per_1k_changes", "s", Direction::Lower, each);
        metric.n = changes;
        metric.absent = each.is_none().then(|| unknown.unwrap_or_else(|| NO_CHANGE.to_owned()));
        let server = self.server_cpu.map(|cpu| cpu.as_secs_f64() / seconds);
        sheet.put("cost.server_cpu_share", "ratio", Direction::Lower, server);
        sheet.put("source.log_bytes_per_s", "1/s", Direction::Neutral, Some(self.log_bytes as f64 / seconds));
        let retained = self.outcome.retained_log_bytes.map(|bytes| bytes as f64);
        sheet.put("cost.retained_log_bytes.max", "bytes", Direction::Lower, retained);
        sheet.put("cost.sink_write_bytes", "bytes", Direction::Lower, Some(sink.bytes_written as f64));
        let rss = self.usage.peak_rss.map(|rss| rss.bytes as f64);
        sheet.put("cost.peak_rss_bytes", "bytes", Direction::Lower, rss);
        sheet.put("source.clock_offset", "s", Direction::Neutral, Some(self.offset.us as f64 / 1e6));
        sheet.put("source.clock_offset_error", "s", Direction::Neutral, Some(self.offset.error_us as f64 / 1e6));
        if let Some(drift) = self.drift {
            let metric = sheet.put("source.clock_drift", "s", Direction::Neutral, Some(drift.s));
            metric.ci = Some([drift.s - drift.error_s, drift.s + drift.error_s]);
        }
    }

    /// Rows that batches copied: work, but no change at the source. As of a run, per second of the batches themselves.
    fn copied(&self, sheet: &mut Sheet) {
        let FollowCounts { rows, busy, .. } = &self.followed.counts;
        if !busy.is_zero() {
            let rate = *rows as f64 / busy.as_secs_f64();
            sheet.put("throughput.rows_per_s", "1/s", Direction::Higher, Some(rate)).n = *rows;
        }
    }

    /// Whether the server's clock moved against this machine's, so that the stream's times are off by that. Only an interval that
    /// excludes zero is evidence.
    fn drifted(&self, streamed: &BoundedFigures) -> Option<String> {
        let drift = self.drift?;
        let median = streamed.lag.sketch.quantile(0.5)?.value.as_secs_f64();
        drift.spoils(median).then(|| {
            let (ms, error_ms) = (drift.s * 1e3, drift.error_s * 1e3);
            format!(
                "the server's clock moved by {ms:+.2} ms (+/- {error_ms:.2} ms) against this machine's while it was followed, and \
                 commit lags are off by up to that: read freshness.heartbeat_lag, which is by one clock"
            )
        })
    }

    fn phases(&self) -> Vec<Phase> {
        let (begun, loaded) = self.loading;
        let [start, window, window_end, fence, end] = self.moved;
        let phase = |name: &str, (from, until): (Moment, Moment), (before, after): (Bytes, Bytes)| Phase {
            name: name.to_owned(),
            start_s: from.since(begun).as_secs_f64(),
            duration_s: until.since(from).as_secs_f64(),
            rows: None,
            bytes_in: Some(after.since(before).read),
            bytes_out: Some(after.since(before).written),
            cpu_s: None,
        };
        let mut load = phase("initial load", (begun, loaded), (Bytes::default(), start));
        load.rows = Some(self.outcome.initial_rows);
        vec![
            load,
            phase("catch up with the load", (loaded, self.window.start), (start, window)),
            phase("follow", (self.window.start, self.window.end), (window, window_end)),
            phase("catch up to the fence", (self.window.end, self.observed_until), (window_end, fence)),
            phase("last checkpoint", (self.observed_until, self.readable_until), (fence, end)),
        ]
    }

    /// In steps that grew with the window, which had no end that was known.
    fn series(&self, inside: &BoundedFigures) -> Series {
        let (ages, sums) = (inside.age_series.clone(), self.followed.counts.series.clone());
        let step = ages.step().max(sums.step());
        let (ages, sums) = (ages.in_steps_of(step), sums.in_steps_of(step));
        let mut series = Series::default();
        // A count that is no figure of the window is none of a part of it.
        let known = self.in_window().1.is_ok();
        for (place, age) in ages.values().iter().enumerate() {
            let from = self.window.start.after(step * u32::try_from(place).unwrap_or(u32::MAX));
            let until = from.after(step).min(self.window.end);
            let changes = match self.counted {
                Some(counted) => counted.between(from, until).map(|count| count as f64),
                None => Some(sums.values().get(place).copied().unwrap_or_default()),
            };
            series.t_s.push(from.since(self.window.start).as_secs_f64());
            series.age_s.entry(SinkKind::Warehouse.name().to_owned()).or_default().push(*age);
            series
                .changes_per_s
                .extend(changes.filter(|_| known).map(|count| count / until.since(from).as_secs_f64().max(1e-9)));
        }
        series
    }
}

/// How far the watermark was behind the newest commit, in bytes of the log, at each publish.
fn lag_bytes(sheet: &mut Sheet, inside: &BoundedFigures) {
    for (name, q) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        let id = format!("freshness.lag_bytes.{name}");
        let bytes = inside.behind_bytes.number(q).map(|bytes| bytes as f64);
        sheet.put(id, "bytes", Direction::Lower, bytes).n = inside.behind_bytes.len();
    }
}

/// What was run, as a result has it: the load is somebody else's, so there is no seed and no rate.
pub(super) fn config(plan: &AttachPlan, setting: &Setting, length: Duration, source: &Settings) -> Config {
    let tables: Vec<String> = setting.output().tables.iter().map(|table| table.name.clone()).collect();
    let identity = attach_settings(plan, &tables, &Pipeline::of(setting), source);
    Config {
        hash: config_hash(&identity),
        hash_version: HASH_VERSION,
        settings: identity,
        seed: 0,
        workload: format!("attach: {}", tables.join(", ")),
        stream_digest: String::new(),
        source: plan.server.place(),
        rows: 0,
        rate: 0.0,
        arrivals: crate::report::result::FOREIGN.to_owned(),
        clients: 0,
        duration_s: length.as_secs_f64(),
        warmup_s: 0.0,
        batch_interval_s: plan.batch_interval.as_secs_f64(),
        sinks: vec![SinkKind::Warehouse.name().to_owned()],
        search_interval_s: 0.0,
        cache: String::new(),
        think_s: 0.0,
        crash_rate: 0.0,
        reps: 1,
        durability: format!("log fsync {:?}", setting.log_fsync).to_lowercase(),
        command: plan.command.clone(),
    }
}
