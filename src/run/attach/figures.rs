//! What an attach measured.

use super::AttachPlan;
use super::heartbeat::{ClockOffset, Drift};
use super::source_changes::Counted;
use crate::model::Moment;
use crate::probe::{
    Commit, Freshness, FreshnessInput, ProbeFigures, ProbeRecord, Role, Staleness, Usage, Window, visible_by_watermark,
};
use crate::report::{Case, Config, Direction, Phase, Series, Validation};
use crate::run::RunError;
use crate::run::figures::{NO_CHANGE, Sheet, histogram, readable_figures};
use crate::sink::SinkKind;
use crate::strategy::{Bytes, Outcome, Readable, Setting, SinkOutcome, StrategyKind};
use std::time::Duration;

const SERIES_POINTS: u32 = 200;

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
        let none = SinkOutcome::default();
        let sink = self.outcome.sinks.get(&SinkKind::Warehouse).unwrap_or(&none);
        let beats = self.freshness(self.beats, sink)?;
        let streamed = self.streamed();
        sheet.sink = Some(SinkKind::Warehouse);
        // Of every commit where the stream tells its time, else of the heartbeats.
        let by_stream = (!streamed.is_empty()).then(|| self.freshness(&streamed, sink)).transpose()?;
        let readable = self.readable(if streamed.is_empty() { self.beats } else { &streamed }, sink)?;
        readable_figures(&mut sheet, readable.as_ref());
        if let Some(readable) = &readable {
            histograms.extend(histogram("freshness.readable_lag", Some(SinkKind::Warehouse), &readable.lag.histogram));
        }
        if let Some(beats) = self.readable(self.beats, sink)? {
            sheet.quantiles("freshness.heartbeat_readable_lag", &beats.lag.samples);
        }
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
            warnings.extend(self.drifted(freshness));
        }
        if beats.lag.samples.is_empty() {
            warnings.push("no heartbeat came through the window: it was too short".to_owned());
        }
        let case = Case {
            name: self.plan.strategy.name().to_owned(),
            sentence: String::new(),
            metrics: sheet.metrics,
            histograms,
            timeseries: self.series(freshness),
            phases: self.phases(),
            validation: Validation::default(),
            divergence: Vec::new(),
        };
        Ok((case, warnings))
    }

    fn freshness(&self, commits: &[Commit], sink: &SinkOutcome) -> Result<Freshness, RunError> {
        let visible = visible_by_watermark(commits, &sink.publishes).map_err(RunError::measuring)?;
        let (window, observed_until) = (self.window, self.observed_until);
        Ok(Freshness::of(&FreshnessInput { commits, visible: &visible, window, observed_until }))
    }

    /// When another process could read them; `None` where none ever can.
    fn readable(&self, commits: &[Commit], sink: &SinkOutcome) -> Result<Option<Freshness>, RunError> {
        let durable = match &sink.readable {
            Readable::Never => return Ok(None),
            Readable::WithPublish => &sink.publishes,
            Readable::Durable(durable) => durable,
        };
        let visible = visible_by_watermark(commits, durable).map_err(RunError::measuring)?;
        let (window, observed_until) = (self.window, self.readable_until);
        Ok(Some(Freshness::of(&FreshnessInput { commits, visible: &visible, window, observed_until })))
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

    /// Transactions committed in the window, where the strategy sees them, and changes at the source, whatever was copied for
    /// them: by the stream, or by the server's own count. `None` where nobody counted.
    fn in_window(&self) -> (Option<u64>, Option<u64>) {
        if let Some(counted) = self.counted {
            return (None, counted.between(self.window.start, self.window.end));
        }
        let inside =
            self.outcome.commits.iter().filter(|&&(_, time, _)| self.window.contains(self.offset.moment(time)));
        let (count, changes) = inside.fold((0, 0), |(count, sum), &(_, _, changes)| (count + 1, sum + changes));
        (Some(count), Some(changes))
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
    fn lag_bytes(&self, sheet: &mut Sheet, commits: &[Commit], sink: &SinkOutcome) {
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

    fn costs(&self, sheet: &mut Sheet, sink: &SinkOutcome) {
        let seconds = self.window.length().as_secs_f64().max(1e-9);
        // Of the window alone: a backlog that is drained is no throughput.
        let (transactions, changes) = self.in_window();
        let rate = changes.map(|changes| changes as f64 / seconds);
        let changes = changes.unwrap_or(0);
        let metric = sheet.put("throughput.changes_per_s", "1/s", Direction::Higher, rate);
        metric.n = changes;
        metric.absent = rate.is_none().then(|| "the server did not tell its count of changes".to_owned());
        self.copied(sheet, sink);
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
        metric.absent = each.is_none().then(|| NO_CHANGE.to_owned());
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
    fn copied(&self, sheet: &mut Sheet, sink: &SinkOutcome) {
        let inside = || sink.batches.iter().filter(|batch| self.window.contains(batch.published_at));
        let busy: Duration = inside().map(|batch| batch.published_at.since(batch.taken_at)).sum();
        if !busy.is_zero() {
            let rows: u64 = inside().map(|batch| batch.rows).sum();
            let rate = rows as f64 / busy.as_secs_f64();
            sheet.put("throughput.rows_per_s", "1/s", Direction::Higher, Some(rate)).n = rows;
        }
    }

    /// Whether the server's clock moved against this machine's, so that the stream's times are off by that. Only an interval that
    /// excludes zero is evidence.
    fn drifted(&self, streamed: &Freshness) -> Option<String> {
        let drift = self.drift?;
        let median = streamed.lag.samples.quantile(0.5)?.value.as_secs_f64();
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

    fn series(&self, freshness: &Freshness) -> Series {
        let step = self.window.length() / SERIES_POINTS;
        let mut series = Series::default();
        let mut changed: Vec<(Moment, u64)> = match self.counted {
            Some(_) => Vec::new(),
            None => self.outcome.commits.iter().map(|&(_, time, n)| (self.offset.moment(time), n)).collect(),
        };
        changed.sort_unstable();
        let changes = |from: Moment, until: Moment| match self.counted {
            Some(counted) => counted.between(from, until),
            None => {
                let inside = changed.partition_point(|c| c.0 < from)..changed.partition_point(|c| c.0 < until);
                Some(changed.get(inside).unwrap_or_default().iter().map(|c| c.1).sum())
            }
        };
        for point in 0..SERIES_POINTS {
            let from = self.window.start.after(step * point);
            let until = from.after(step);
            series.t_s.push(from.since(self.window.start).as_secs_f64());
            let age = freshness.age.curve.at(from).unwrap_or_default().as_secs_f64();
            series.age_s.entry(SinkKind::Warehouse.name().to_owned()).or_default().push(age);
            if let Some(count) = changes(from, until) {
                series.changes_per_s.push(count as f64 / step.as_secs_f64().max(1e-9));
            }
        }
        series
    }
}

/// What was run, as a result has it: the load is somebody else's, so there is no seed and no rate.
pub(super) fn config(plan: &AttachPlan, setting: &Setting, length: Duration) -> Config {
    let tables: Vec<&str> = setting.output().tables.iter().map(|table| table.name.as_str()).collect();
    let identity = format!("attach {} {} {:?}", plan.strategy.name(), tables.join(","), plan.batch_interval);
    Config {
        hash: format!("{:032x}", xxhash_rust::xxh3::xxh3_128(identity.as_bytes())),
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
