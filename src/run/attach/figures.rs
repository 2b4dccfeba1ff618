//! What an attach measured.

use super::AttachPlan;
use super::heartbeat::ClockOffset;
use crate::model::Moment;
use crate::probe::{
    Commit, Freshness, FreshnessInput, ProbeFigures, ProbeRecord, Role, Staleness, Usage, Window, visible_by_watermark,
};
use crate::report::{Case, Config, Direction, Phase, Series, Validation};
use crate::run::RunError;
use crate::run::figures::{Sheet, histogram};
use crate::run::identity::{HASH_VERSION, Pipeline, Settings, attach_settings, config_hash};
use crate::sink::SinkKind;
use crate::strategy::{Outcome, Setting, StrategyKind};
use std::time::Duration;

const SERIES_POINTS: u32 = 200;
/// The stream's times and the heartbeats' should agree; a median farther apart than this, and than the clocks allow, is told.
const DISAGREEMENT_MAX: Duration = Duration::from_millis(5);

pub(super) struct Attached<'a> {
    pub(super) plan: &'a AttachPlan,
    pub(super) offset: ClockOffset,
    pub(super) window: Window,
    pub(super) observed_until: Moment,
    pub(super) outcome: &'a Outcome,
    pub(super) beats: &'a [Commit],
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
        let none = crate::strategy::SinkOutcome::default();
        let sink = self.outcome.sinks.get(&SinkKind::Warehouse).unwrap_or(&none);
        let beats = self.freshness(self.beats, sink)?;
        let streamed = self.streamed();
        sheet.sink = Some(SinkKind::Warehouse);
        // Of every commit where the stream tells its time, else of the heartbeats.
        let by_stream = (!streamed.is_empty()).then(|| self.freshness(&streamed, sink)).transpose()?;
        let (commits, freshness) = match &by_stream {
            Some(freshness) => (streamed.as_slice(), freshness),
            None => (self.beats, &beats),
        };
        sheet.quantiles("freshness.commit_lag", &freshness.lag.samples);
        sheet.quantiles("freshness.heartbeat_lag", &beats.lag.samples);
        histograms.extend(histogram("freshness.commit_lag", Some(SinkKind::Warehouse), &freshness.lag.histogram));
        self.ages(&mut sheet, freshness);
        self.lag_bytes(&mut sheet, commits, sink);
        if let Some(reads) = self.reads {
            self.read_figures(&mut sheet, reads, commits, validation);
        }
        self.consistency(&mut sheet, validation);
        sheet.sink = None;
        self.costs(&mut sheet, sink);
        if by_stream.is_some() {
            warnings.extend(self.disagreement(freshness, &beats));
        }
        if beats.lag.samples.is_empty() {
            warnings.push("no heartbeat came through the window: it was too short".to_owned());
        }
        let case = Case {
            name: self.plan.strategy.name().to_owned(),
            sentence: String::new(),
            metrics: sheet.metrics,
            histograms,
            timeseries: self.series(commits, freshness),
            phases: self.phases(),
            validation: Validation::default(),
            divergence: Vec::new(),
            caveats: Vec::new(),
        };
        Ok((case, warnings))
    }

    fn freshness(&self, commits: &[Commit], sink: &crate::strategy::SinkOutcome) -> Result<Freshness, RunError> {
        let visible = visible_by_watermark(commits, &sink.publishes).map_err(RunError::measuring)?;
        let (window, observed_until) = (self.window, self.observed_until);
        Ok(Freshness::of(&FreshnessInput { commits, visible: &visible, window, observed_until }))
    }

    /// The commits that the stream told of, at the moments of this machine's clock. Only the log tells true times.
    fn streamed(&self) -> Vec<Commit> {
        if self.plan.strategy != StrategyKind::CdcLog {
            return Vec::new();
        }
        let commits = self.outcome.commits.iter().map(|&(lsn, time, _)| {
            let committed = self.offset.moment(time);
            Commit { lsn, committed, intended: committed }
        });
        commits.filter(|commit| commit.committed <= self.window.end).collect()
    }

    /// Transactions committed in the window and their changes; for batches none, and the rows that they brought.
    fn in_window(&self, sink: &crate::strategy::SinkOutcome) -> (u64, u64) {
        let batches = sink.batches.iter().filter(|batch| self.window.contains(batch.published_at));
        let rows: u64 = batches.map(|batch| batch.rows).sum();
        let inside =
            self.outcome.commits.iter().filter(|&&(_, time, _)| self.window.contains(self.offset.moment(time)));
        inside.fold((0, rows), |(count, sum), &(_, _, changes)| (count + 1, sum + changes))
    }

    fn ages(&self, sheet: &mut Sheet, freshness: &Freshness) {
        let age = &freshness.age;
        let named = [("mean", age.mean), ("p50", age.p50), ("p99", age.p99), ("max", age.max)];
        for (name, value) in named {
            let id = format!("freshness.age.{name}");
            sheet.put(id, "s", Direction::Lower, Some(value.as_secs_f64()));
        }
        for (theta, share) in age.within_slo() {
            let metric = sheet.put("freshness.within_slo", "ratio", Direction::Higher, Some(share));
            metric.theta_s = Some(theta.as_secs_f64());
        }
        sheet.put("freshness.lost_commits", "count", Direction::Lower, Some(freshness.lost as f64));
        sheet.put("freshness.early_commits", "count", Direction::Neutral, Some(freshness.early as f64));
        sheet.put("freshness.largest_lead", "s", Direction::Neutral, Some(freshness.largest_lead.as_secs_f64()));
    }

    /// How far the watermark was behind the newest commit, in bytes of the log, at each publish.
    fn lag_bytes(&self, sheet: &mut Sheet, commits: &[Commit], sink: &crate::strategy::SinkOutcome) {
        let mut behind: Vec<u64> = Vec::new();
        let mut newest = 0u64;
        let mut coming = commits.iter().peekable();
        for publish in sink.publishes.iter().filter(|publish| self.window.contains(publish.at)) {
            while let Some(commit) = coming.next_if(|commit| commit.committed <= publish.at) {
                newest = newest.max(commit.lsn.0);
            }
            behind.push(newest.saturating_sub(publish.watermark.0));
        }
        behind.sort_unstable();
        let at = |q: f64| behind.get(((behind.len() as f64 - 1.0) * q).round().max(0.0) as usize).map(|&b| b as f64);
        for (name, q) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let id = format!("freshness.lag_bytes.{name}");
            sheet.put(id, "bytes", Direction::Lower, at(q)).n = behind.len() as u64;
        }
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

    fn costs(&self, sheet: &mut Sheet, sink: &crate::strategy::SinkOutcome) {
        let seconds = self.window.length().as_secs_f64().max(1e-9);
        // Of the window alone: a backlog that is drained is no throughput.
        let (transactions, changes) = self.in_window(sink);
        sheet.put("throughput.changes_per_s", "1/s", Direction::Higher, Some(changes as f64 / seconds)).n = changes;
        if transactions > 0 {
            let rate = transactions as f64 / seconds;
            sheet.put("throughput.transactions_per_s", "1/s", Direction::Higher, Some(rate)).n = transactions;
        }
        let follower = self.usage.cpu_of(Role::Capture)
            + self.usage.cpu_of(Role::Log)
            + self.usage.cpu_of(Role::Apply)
            + self.usage.unattributed;
        let each = (changes > 0).then(|| follower.as_secs_f64() * 1000.0 / changes as f64);
        sheet.put("cost.cpu_s_per_1k_changes", "s", Direction::Lower, each).n = changes;
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
    }

    /// Whether the two reckonings of the lag are farther apart than the clocks explain.
    fn disagreement(&self, streamed: &Freshness, beats: &Freshness) -> Option<String> {
        let stream = streamed.lag.samples.quantile(0.5)?.value;
        let beat = beats.lag.samples.quantile(0.5)?.value;
        // The server takes a commit's time before it makes its log durable, which a client waits for.
        let mut commits: Vec<Duration> = self.beats.iter().map(|beat| beat.committed.since(beat.intended)).collect();
        commits.sort_unstable();
        let commit = commits.get(commits.len() / 2).copied().unwrap_or_default();
        let allowed = DISAGREEMENT_MAX + commit + Duration::from_micros(self.offset.error_us.unsigned_abs());
        (stream.abs_diff(beat) > allowed).then(|| {
            format!(
                "the median lag is {stream:.1?} by the server's clock and {beat:.1?} by heartbeats on this one: the clocks \
                 drift, or the two kinds of commits are treated differently"
            )
        })
    }

    fn phases(&self) -> Vec<Phase> {
        let (begun, loaded) = self.loading;
        let phase = |name: &str, from: Moment, until: Moment, rows: u64| Phase {
            name: name.to_owned(),
            start_s: from.since(begun).as_secs_f64(),
            duration_s: until.since(from).as_secs_f64(),
            rows,
            bytes_in: 0,
            bytes_out: 0,
            cpu_s: 0.0,
        };
        vec![
            phase("initial load", begun, loaded, self.outcome.initial_rows),
            phase("catch up with the load", loaded, self.window.start, 0),
            phase("follow", self.window.start, self.window.end, 0),
            phase("catch up to the fence", self.window.end, self.observed_until, 0),
        ]
    }

    fn series(&self, commits: &[Commit], freshness: &Freshness) -> Series {
        let step = self.window.length() / SERIES_POINTS;
        let mut series = Series::default();
        let mut committed: Vec<Moment> = commits.iter().map(|commit| commit.committed).collect();
        committed.sort_unstable();
        for point in 0..SERIES_POINTS {
            let from = self.window.start.after(step * point);
            let until = from.after(step);
            series.t_s.push(from.since(self.window.start).as_secs_f64());
            let age = freshness.age.curve.at(from).unwrap_or_default().as_secs_f64();
            series.age_s.entry(SinkKind::Warehouse.name().to_owned()).or_default().push(age);
            let count = committed.partition_point(|at| *at < until) - committed.partition_point(|at| *at < from);
            series.changes_per_s.push(count as f64 / step.as_secs_f64().max(1e-9));
        }
        series
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
