//! From what was observed in a case to its figures, by the definitions in the documentation of `report`.

use super::stalls::{Spoiled, Stalled};
use crate::model::{Lsn, Moment};
use crate::plan::Plan;
use crate::probe::{
    AgeFigures, Commit, Divergence, DivergenceCause, FootprintSample, Freshness, KeyReadFigures, LagFigures,
    ProbeFigures, ProbeRecord, Role, StageFigures, Staleness, Stall, StallRecord, Usage, Window,
};
use crate::report::{Case, Direction, Event, Hist, Metric, Series, Validation};
use crate::sink::SinkKind;
use crate::source::{Ledger, Outcome as TxnOutcome};
use crate::stats::{AgeSketch, Histogram, Interval, Quantiles, Samples};
use crate::strategy::{Outcome, SinkOutcome, StrategyKind, Traffic};
use std::collections::BTreeMap;
use std::time::Duration;

/// What pushing one entry to the ledger costs, with room to spare; measured at 45 ns.
const LEDGER_ENTRY: Duration = Duration::from_nanos(100);
/// Points of a time series.
pub(super) const SERIES_POINTS: u32 = 200;

const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999), ("max", 1.0)];

/// What was spent in whole periods of the strategy's own work, so that neither more nor fewer batches and checkpoints are
/// in it than belong to its changes. All that is divided by changes is from here.
#[derive(Debug)]
pub(super) struct Spent {
    pub(super) span: Window,
    pub(super) usage: Usage,
    /// CPU of the source's clients that went into writing to the sinks themselves: it is following, not source.
    pub(super) client_cpu: Duration,
    /// CPU of a database server on this machine.
    pub(super) server_cpu: Option<Duration>,
    pub(super) traffic: Traffic,
}

/// Everything that was observed in a case.
pub(super) struct Observed<'a> {
    pub(super) kind: StrategyKind,
    pub(super) plan: &'a Plan,
    pub(super) window: Window,
    pub(super) ledger: &'a Ledger,
    pub(super) commits: &'a [Commit],
    /// By sink, in the order of [`SinkKind::ALL`]; empty in the control run.
    pub(super) sinks: &'a [SinkSeen],
    pub(super) outcome: Option<&'a Outcome>,
    /// Of the whole window.
    pub(super) usage: &'a Usage,
    pub(super) spent: &'a Spent,
    pub(super) sizes: &'a [(Lsn, u64, u64)],
    pub(super) validation: &'a Validation,
    pub(super) divergence: &'a BTreeMap<SinkKind, Divergence>,
    pub(super) cache_reads: Option<&'a KeyReadFigures>,
    pub(super) footprint: &'a [FootprintSample],
    /// When this process itself stood still.
    pub(super) stalls: &'a StallRecord,
    pub(super) observed_until: Moment,
}

/// What was observed at one sink.
pub(super) struct SinkSeen {
    pub(super) kind: SinkKind,
    pub(super) visible: Vec<Option<Moment>>,
    pub(super) freshness: Freshness,
    /// The same for readers in other processes; `None` where none can ever read.
    pub(super) readable: Option<Freshness>,
    pub(super) outcome: SinkOutcome,
    pub(super) probes: Option<ProbeRecord>,
    pub(super) invariants_checked: usize,
}

/// Collects metrics.
#[derive(Default)]
pub(super) struct Sheet {
    pub(super) metrics: Vec<Metric>,
    /// The sink that figures are of, at present; none for those of the source or the whole.
    pub(super) sink: Option<SinkKind>,
}

impl Sheet {
    pub(super) fn put(
        &mut self,
        id: impl Into<String>,
        unit: &str,
        direction: Direction,
        value: Option<f64>,
    ) -> &mut Metric {
        self.metrics.push(Metric {
            id: id.into(),
            sink: self.sink.map(|sink| sink.name().to_owned()),
            unit: unit.to_owned(),
            direction,
            value: value.filter(|value| value.is_finite()),
            absent: None,
            ci: None,
            n: 1,
            lower_bound: false,
            theta_s: None,
            reps: Vec::new(),
        });
        let last = self.metrics.len() - 1;
        &mut self.metrics[last]
    }

    pub(super) fn quantiles(&mut self, id: &str, samples: &dyn Quantiles) {
        for (name, q) in QUANTILES {
            let quantile = samples.quantile(q);
            let interval = samples.quantile_interval(q).filter(|_| q < 1.0);
            let value = quantile.map(|quantile| quantile.value.as_secs_f64());
            let metric = self.put(format!("{id}.{name}"), "s", Direction::Lower, value);
            metric.n = samples.count();
            metric.lower_bound = quantile.is_some_and(|quantile| quantile.is_lower_bound());
            metric.ci = interval.and_then(|interval| Some([interval.low.as_secs_f64(), interval.high?.as_secs_f64()]));
        }
    }
}

/// Why there is no cost per change.
pub(super) const NO_CHANGE: &str = "no row changed at the source while it was measured";
/// Why a sink in this process has no figure of readers outside.
const IN_PROCESS: &str = "it lives in this process, where no other can read it";

/// From commit to readable by another process; its age likewise.
pub(super) fn readable_figures(sheet: &mut Sheet, readable: Option<(&dyn Quantiles, Ages)>) {
    let Some((lags, age)) = readable else {
        let metric = sheet.put("freshness.readable_lag.p50", "s", Direction::Lower, None);
        metric.n = 0;
        metric.absent = Some(IN_PROCESS.to_owned());
        return;
    };
    sheet.quantiles("freshness.readable_lag", lags);
    age_figures(sheet, ("freshness.readable_age", "freshness.readable_within_slo"), &age);
}

/// An age over the window, however it was reckoned.
pub(super) struct Ages {
    mean: Duration,
    mean_interval: Option<Interval>,
    quantiles: [Duration; 2],
    max: Duration,
    within_slo: Vec<(Duration, f64)>,
}

impl From<&AgeFigures> for Ages {
    fn from(age: &AgeFigures) -> Ages {
        Ages {
            mean: age.mean,
            mean_interval: age.mean_interval,
            quantiles: [age.p50, age.p99],
            max: age.max,
            within_slo: age.within_slo(),
        }
    }
}

impl From<&AgeSketch> for Ages {
    fn from(age: &AgeSketch) -> Ages {
        let distribution = age.distribution();
        Ages {
            mean: age.mean().unwrap_or_default(),
            mean_interval: None,
            quantiles: [0.5, 0.99].map(|q| distribution.quantile(q).unwrap_or_default()),
            max: age.max(),
            within_slo: age.within(),
        }
    }
}

pub(super) fn age_figures(sheet: &mut Sheet, (id, slo): (&str, &str), age: &Ages) {
    let mean = sheet.put(format!("{id}.mean"), "s", Direction::Lower, Some(age.mean.as_secs_f64()));
    mean.ci = pair(age.mean_interval);
    let [p50, p99] = age.quantiles;
    for (name, value) in [("p50", p50), ("p99", p99), ("max", age.max)] {
        sheet.put(format!("{id}.{name}"), "s", Direction::Lower, Some(value.as_secs_f64()));
    }
    for (theta, share) in &age.within_slo {
        let metric = sheet.put(slo, "ratio", Direction::Higher, Some(*share));
        metric.theta_s = Some(theta.as_secs_f64());
    }
}

fn pair(interval: Option<Interval>) -> Option<[f64; 2]> {
    interval.map(|interval| [interval.low, interval.high])
}

/// All figures of a case, and the warnings that belong to them.
pub(super) fn figures(seen: &Observed<'_>) -> (Case, Vec<String>) {
    let mut sheet = Sheet::default();
    let mut histograms = Vec::new();
    let mut warnings = Vec::new();
    let mut caveats = Vec::new();
    let name = seen.kind.name();
    let stalled = stalled(seen);
    let mut met = Vec::new();
    for sink in seen.sinks {
        sheet.sink = Some(sink.kind);
        freshness_figures(&mut sheet, seen, sink);
        histograms.extend(histogram("freshness.commit_lag", Some(sink.kind), &sink.freshness.lag.histogram));
        let outside = sink.readable.as_ref();
        readable_figures(&mut sheet, outside.map(|of| (&of.lag.samples as &dyn Quantiles, Ages::from(&of.age))));
        if let Some(readable) = &sink.readable {
            histograms.extend(histogram("freshness.readable_lag", Some(sink.kind), &readable.lag.histogram));
        }
        if sink.freshness.clock_fault() {
            let (lead, place) = (sink.freshness.largest_lead, sink.kind.name());
            warnings.push(format!(
                "{name}: a commit was visible in the {place} {lead:.1?} before its client heard of it: its thread had to wait \
                 for a core, or the clock is at fault"
            ));
        }
        met.push(stalled.at_sink(&mut sheet, sink, seen.commits));
        batch_figures(&mut sheet, seen, &sink.outcome);
        probe_figures(&mut sheet, seen, sink);
        consistency_figures(&mut sheet, seen, sink.kind);
        let written = sink.outcome.bytes_written as f64;
        sheet.put("cost.sink_write_bytes", "bytes", Direction::Lower, Some(written));
    }
    if let Some(reads) = seen.cache_reads {
        sheet.sink = Some(SinkKind::Cache);
        cache_figures(&mut sheet, reads);
    }
    sheet.sink = None;
    if let Some(outcome) = seen.outcome {
        caveats.extend(cost_figures(&mut sheet, seen));
        if let Some(bytes) = outcome.retained_log_bytes {
            sheet.put("cost.retained_log_bytes.max", "bytes", Direction::Lower, Some(bytes as f64));
        }
        let disagreements = seen.validation.disagreements as f64;
        sheet.put("consistency.disagreements", "count", Direction::Lower, Some(disagreements));
    }
    source_figures(&mut sheet, seen, &mut histograms, &mut warnings);
    met.push(stalled.at_source(&mut sheet, seen.ledger));
    stalled.totals(&mut sheet);
    let (first, later) = stalled.told(&met);
    caveats.extend(first);
    warnings.extend(later);
    let rss = seen.usage.peak_rss;
    sheet.put("cost.peak_rss_bytes", "bytes", Direction::Lower, rss.map(|rss| rss.bytes as f64));
    if rss.is_some_and(|rss| !rss.of_window) {
        warnings.push("peak memory is that since the process began: the kernel does not let it be reset".to_owned());
    }
    let case = Case {
        name: name.to_owned(),
        sentence: String::new(),
        metrics: sheet.metrics,
        histograms,
        timeseries: series(seen, &stalled),
        phases: Vec::new(),
        validation: Validation::default(),
        divergence: Vec::new(),
        caveats,
    };
    (case, warnings)
}

fn stalled<'a>(seen: &Observed<'a>) -> Stalled<'a> {
    let stalls: Vec<Stall> = seen.stalls.stalls(Moment::ORIGIN, Moment::FAR_FUTURE).copied().collect();
    Stalled {
        name: seen.kind.name(),
        record: seen.stalls,
        spoiled: Spoiled::of(&stalls, seen.ledger),
        window: seen.window,
        observed_until: seen.observed_until,
        left_out: true,
    }
}

fn freshness_figures(sheet: &mut Sheet, seen: &Observed<'_>, sink: &SinkSeen) {
    let freshness = &sink.freshness;
    let lag = |sheet: &mut Sheet, id: &str, lag: &LagFigures| sheet.quantiles(id, &lag.samples);
    lag(sheet, "freshness.commit_lag", &freshness.lag);
    lag(sheet, "freshness.commit_lag_from_intended", &freshness.lag_from_intended);
    let ages =
        [("freshness.age", Some(&freshness.age)), ("freshness.age_without_lost", freshness.age_without_lost.as_ref())];
    for (id, age) in ages {
        let Some(age) = age else { continue };
        let mean = sheet.put(format!("{id}.mean"), "s", Direction::Lower, Some(age.mean.as_secs_f64()));
        mean.ci = pair(age.mean_interval);
        for (name, value) in [("p50", age.p50), ("p99", age.p99), ("max", age.max)] {
            sheet.put(format!("{id}.{name}"), "s", Direction::Lower, Some(value.as_secs_f64()));
        }
    }
    for (theta, share) in freshness.age.within_slo() {
        let metric = sheet.put("freshness.within_slo", "ratio", Direction::Higher, Some(share));
        metric.theta_s = Some(theta.as_secs_f64());
    }
    sheet.put("freshness.lost_commits", "count", Direction::Lower, Some(freshness.lost as f64));
    sheet.put("freshness.early_commits", "count", Direction::Neutral, Some(freshness.early as f64));
    sheet.put("freshness.largest_lead", "s", Direction::Neutral, Some(freshness.largest_lead.as_secs_f64()));
    if sink.outcome.stages.is_empty() {
        return;
    }
    let captures = seen.outcome.map_or(&[][..], |outcome| outcome.captures.as_slice());
    let stages = StageFigures::of(seen.commits, captures, &sink.outcome.stages, seen.window);
    for (stage, mean) in stages.means() {
        sheet.put(format!("stage.{}.mean", stage.name()), "s", Direction::Lower, Some(mean.as_secs_f64()));
    }
}

/// For strategies that work in batches: D, the time from snapshot to swap, and the mean age that follows from it.
fn batch_figures(sheet: &mut Sheet, seen: &Observed<'_>, outcome: &SinkOutcome) {
    let inside: Vec<_> = outcome.batches.iter().filter(|batch| seen.window.contains(batch.published_at)).collect();
    if inside.is_empty() {
        return;
    }
    let times: Vec<f64> = inside.iter().map(|batch| batch.published_at.since(batch.taken_at).as_secs_f64()).collect();
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let rows: u64 = inside.iter().map(|batch| batch.rows).sum();
    sheet.put("batch.duration.mean", "s", Direction::Lower, Some(mean)).n = times.len() as u64;
    let longest = times.iter().copied().fold(0.0, f64::max);
    sheet.put("batch.duration.max", "s", Direction::Lower, Some(longest)).n = times.len() as u64;
    // The period as it was, which is a multiple of the interval when batches overrun it.
    let period = match (inside.first(), inside.last()) {
        (Some(first), Some(last)) if inside.len() > 1 => {
            last.taken_at.since(first.taken_at).as_secs_f64() / (inside.len() - 1) as f64
        }
        _ => seen.plan.batch_interval.as_secs_f64(),
    };
    let predicted = mean + period / 2.0;
    sheet.put("freshness.age.predicted_mean", "s", Direction::Neutral, Some(predicted)).n = times.len() as u64;
    let busy: f64 = times.iter().sum();
    sheet.put("throughput.rows_per_s", "1/s", Direction::Higher, Some(rows as f64 / busy)).n = rows;
}

fn probe_figures(sheet: &mut Sheet, seen: &Observed<'_>, sink: &SinkSeen) {
    let Some(record) = &sink.probes else { return };
    // The watermark of a strategy that loses changes proves nothing, so its age curve is asked instead.
    let staleness = if seen.kind == StrategyKind::Incremental || seen.kind.is_dual_write() {
        Staleness::ByCurve(&sink.freshness.age.curve)
    } else {
        Staleness::ByWatermark(seen.commits)
    };
    let figures = ProbeFigures::of(record, staleness, seen.window);
    sheet.quantiles("freshness.query_staleness", &figures.staleness.samples);
    sheet.quantiles("freshness.reaction", &figures.reaction.samples);
    sheet.quantiles("freshness.query_latency", &figures.latency.samples);
    // Without an invariant to check, no read can be seen to be torn.
    let torn = figures.broken_per_1000().filter(|_| sink.invariants_checked > 0);
    sheet.put("consistency.torn_reads", "per 1000 reads", Direction::Lower, torn).n = figures.reads;
    sheet.put("consistency.failed_reads", "count", Direction::Lower, Some(figures.failed as f64));
    sheet.put("consistency.reads_gone_back", "count", Direction::Lower, Some(figures.went_back as f64));
}

/// Changes and bytes of changed rows whose commits were acknowledged in a span.
fn changed(seen: &Observed<'_>, span: Window) -> (u64, u64) {
    let mut sizes = seen.sizes.iter().peekable();
    let (mut changes, mut bytes) = (0, 0);
    for commit in seen.commits {
        while sizes.peek().is_some_and(|(lsn, ..)| *lsn < commit.lsn) {
            sizes.next();
        }
        if let Some((_, count, width)) = sizes.next_if(|(lsn, ..)| *lsn == commit.lsn)
            && span.contains(commit.committed)
        {
            changes += count;
            bytes += width;
        }
    }
    (changes, bytes)
}

/// Why nothing can be said of what the strategy costs: the span doesn't hold one whole period of its work.
fn costs_unknown(seen: &Observed<'_>) -> Option<String> {
    let (name, plan, span) = (seen.kind.name(), seen.plan, seen.spent.span);
    if plan.cost_span(seen.kind).is_none() {
        return Some(format!(
            "{name}: a checkpoint is made each {:?} and {:?} were measured, so what one costs may not be in them: no costs \
             are given; measure for longer (--duration) or make checkpoints more often",
            plan.checkpoint_interval, plan.duration
        ));
    }
    let has_none = |sink: &&SinkSeen| !sink.outcome.batches.iter().any(|batch| span.contains(batch.published_at));
    let idle = seen.sinks.iter().find(has_none).filter(|_| seen.kind.works_in_batches())?;
    Some(format!(
        "{name}: no batch became visible in the {} in the measured {:?}, since each takes longer than that: no costs are \
         given; measure for longer (--duration)",
        idle.kind.name(),
        span.length()
    ))
}

fn cost_figures(sheet: &mut Sheet, seen: &Observed<'_>) -> Option<String> {
    let unknown = costs_unknown(seen);
    let spent = seen.spent;
    let (changes, bytes) = changed(seen, spent.span);
    let each = |sum: f64, per: u64| (per > 0 && unknown.is_none()).then(|| sum / per as f64);
    let usage = &spent.usage;
    // Threads that ended before the meter could read them are the followers': the search index has a new one at each of
    // its commits, while clients and probes live as long as the run.
    let ended = usage.unattributed;
    let follower =
        usage.cpu_of(Role::Capture) + usage.cpu_of(Role::Log) + usage.cpu_of(Role::Apply) + spent.client_cpu + ended;
    let seconds = spent.span.length().as_secs_f64();
    let cores = (seconds > 0.0 && unknown.is_none()).then(|| follower.as_secs_f64() / seconds);
    let metric = sheet.put("cost.cpu_cores", "cores", Direction::Lower, cores);
    metric.absent = cores.is_none().then(|| unknown.clone()).flatten();
    let cpu = each(follower.as_secs_f64() * 1000.0, changes);
    let metric = sheet.put("cost.cpu_s_per_1k_changes", "s", Direction::Lower, cpu);
    metric.n = changes;
    metric.absent = cpu.is_none().then(|| unknown.clone().unwrap_or_else(|| NO_CHANGE.to_owned()));
    let read = each(spent.traffic.read_bytes as f64, changes);
    sheet.put("cost.read_bytes_per_change", "bytes", Direction::Lower, read).n = changes;
    let written_bytes = spent.traffic.disk_bytes() as f64;
    let written = each(written_bytes, changes);
    sheet.put("cost.write_bytes_per_change", "bytes", Direction::Lower, written).n = changes;
    let amplification = each(written_bytes, bytes);
    sheet.put("cost.write_amplification", "ratio", Direction::Lower, amplification).n = changes;
    unknown
}

fn source_figures(sheet: &mut Sheet, seen: &Observed<'_>, histograms: &mut Vec<Hist>, warnings: &mut Vec<String>) {
    let (mut latency, mut service, mut histogram_of) = (Vec::new(), Vec::new(), Histogram::new());
    let (mut entries, mut failed, mut reads) = (0u64, 0u64, 0u64);
    for entry in seen.ledger.window(seen.window.start, seen.window.end) {
        entries += 1;
        match entry.outcome {
            TxnOutcome::Committed { .. } => {
                let from_intended = entry.acknowledged.since(entry.intended);
                latency.push((from_intended, false));
                service.push((entry.acknowledged.since(entry.started), false));
                histogram_of.record(from_intended);
            }
            TxnOutcome::Failed { .. } | TxnOutcome::Unknown { .. } => failed += 1,
            TxnOutcome::Read => reads += 1,
        }
    }
    let writes = entries - reads;
    let (latency, service) = (Samples::new(latency), Samples::new(service));
    sheet.quantiles("source.commit_latency", &latency);
    sheet.quantiles("source.service_time", &service);
    histograms.extend(histogram("source.commit_latency", None, &histogram_of));
    let seconds = seen.window.length().as_secs_f64();
    let (changes, _) = changed(seen, seen.window);
    sheet.put("throughput.changes_per_s", "1/s", Direction::Higher, Some(changes as f64 / seconds)).n = changes;
    // By acknowledgement, as the changes: what was due in the window and acknowledged later is no throughput of it.
    let acknowledged = seen.ledger.acknowledged(seen.window.start, seen.window.end);
    let rate = acknowledged as f64 / seconds;
    sheet.put("throughput.transactions_per_s", "1/s", Direction::Higher, Some(rate)).n = acknowledged;
    sheet.put("throughput.offered_per_s", "1/s", Direction::Neutral, Some(writes as f64 / seconds)).n = writes;
    warnings.extend(not_kept_up(seen, (&latency, &service), (writes, acknowledged)));
    sheet.put("source.failed_transactions", "count", Direction::Lower, Some(failed as f64)).n = entries;
    if failed > 0 {
        let first = seen.ledger.entries().iter().find_map(|entry| match &entry.outcome {
            TxnOutcome::Failed { reason } | TxnOutcome::Unknown { reason } => Some(reason.clone()),
            _ => None,
        });
        let name = seen.kind.name();
        warnings.push(format!("{name}: {failed} transactions failed, the first: {}", first.unwrap_or_default()));
    }
    sheet.put("cost.measured_time", "s", Direction::Neutral, Some(seen.spent.span.length().as_secs_f64()));
    source_costs(sheet, seen);
    let usage = seen.usage;
    let cpu = usage.process_cpu.as_secs_f64();
    let ledger = LEDGER_ENTRY * u32::try_from(entries).unwrap_or(u32::MAX);
    let measuring = usage.cpu_of(Role::Probe) + usage.cpu_of(Role::Meter) + ledger;
    let share = if cpu > 0.0 { Some(measuring.as_secs_f64() / cpu) } else { None };
    sheet.put("cost.measuring_share", "ratio", Direction::Lower, share);
    sheet.put("cost.process_cpu_share", "ratio", Direction::Lower, Some(cpu / seconds));
    for (role, used) in usage.by_role() {
        sheet.put(format!("cost.cpu_s.{}", role.name()), "s", Direction::Lower, Some(used.as_secs_f64()));
    }
    if let Some(io) = usage.io {
        sheet.put("cost.storage_write_bytes", "bytes", Direction::Lower, Some(io.storage_write_bytes as f64));
        sheet.put("cost.storage_read_bytes", "bytes", Direction::Lower, Some(io.storage_read_bytes as f64));
    }
}

/// What the source spends: with triggers and indexes, it does part of the following itself.
fn source_costs(sheet: &mut Sheet, seen: &Observed<'_>) {
    let spent = seen.spent;
    let (changes, _) = changed(seen, spent.span);
    if changes == 0 {
        return;
    }
    let each =
        |cpu: Duration| Some(cpu.as_secs_f64() * 1000.0 / changes as f64).filter(|_| costs_unknown(seen).is_none());
    let source = each(spent.usage.cpu_of(Role::Source).saturating_sub(spent.client_cpu));
    sheet.put("cost.source_cpu_s_per_1k_changes", "s", Direction::Lower, source).n = changes;
    if let Some(server) = spent.server_cpu {
        // The whole server's: for clients, triggers, snapshots and the decoding of its log alike.
        sheet.put("cost.server_cpu_s_per_1k_changes", "s", Direction::Lower, each(server)).n = changes;
    }
}

/// A shortfall of acknowledged transactions is reported from this share of those offered, and from this many: some are
/// always under way at the window's ends.
const SHORTFALL: (f64, u64) = (0.02, 10);

/// Reports when the source did not keep up: then the run shows its capacity, not what the offered rate does. Either
/// transactions mostly waited, or fewer were acknowledged in the window than were due in it.
fn not_kept_up(
    seen: &Observed<'_>,
    (latency, service): (&Samples, &Samples),
    (offered, acknowledged): (u64, u64),
) -> Option<String> {
    let median = |samples: &Samples| samples.quantile(0.5).map_or(Duration::ZERO, |quantile| quantile.value);
    let (latency, service) = (median(latency), median(service));
    let short = offered.saturating_sub(acknowledged);
    let is_short = short > SHORTFALL.1 && short as f64 > SHORTFALL.0 * offered as f64;
    (is_short || (latency > Duration::from_millis(10) && latency > service * 5)).then(|| {
        let counted = if is_short {
            format!("{offered} transactions were due in the measured window and {acknowledged} were acknowledged in it, and ")
        } else {
            String::new()
        };
        format!(
            "{}: the source did not keep up with the offered rate: {counted}half of the commits came {latency:.0?} or more \
             after their intended start (a transaction itself took {service:.1?}); lower --rate, or check what else the \
             machine does",
            seen.kind.name()
        )
    })
}

fn consistency_figures(sheet: &mut Sheet, seen: &Observed<'_>, kind: SinkKind) {
    let sinks: Vec<_> = seen.validation.sinks.iter().filter(|sink| sink.sink == kind.name()).collect();
    let sums = [
        ("consistency.missing", sinks.iter().map(|sink| sink.missing).sum::<u64>()),
        ("consistency.extra", sinks.iter().map(|sink| sink.extra).sum()),
        ("consistency.wrong", sinks.iter().map(|sink| sink.wrong).sum()),
        ("consistency.divergent", sinks.iter().map(|sink| sink.missing + sink.extra + sink.wrong).sum()),
    ];
    let rows = sinks.iter().map(|sink| sink.rows).sum();
    for (id, value) in sums {
        sheet.put(id, "rows", Direction::Lower, Some(value as f64)).n = rows;
    }
    if let Some(divergence) = seen.divergence.get(&kind) {
        divergence_figures(sheet, divergence);
    }
}

/// Every time that a key was apart from the source, by cause and by whether it was put right, for a million writes.
fn divergence_figures(sheet: &mut Sheet, divergence: &Divergence) {
    use DivergenceCause::{PartialFailure, Race};
    let n = divergence.writes;
    let mut put = |id: &str, value: Option<f64>| {
        sheet.put(id, "per million writes", Direction::Lower, value).n = n;
    };
    let rate = |events: u64| (n > 0).then(|| events as f64 * 1e6 / n as f64);
    put("consistency.diverged", divergence.per_million_writes());
    put("consistency.diverged.race.transient", rate(divergence.count(Race, false)));
    put("consistency.diverged.race.permanent", rate(divergence.count(Race, true)));
    put("consistency.diverged.partial_failure.transient", rate(divergence.count(PartialFailure, false)));
    put("consistency.diverged.partial_failure.permanent", rate(divergence.count(PartialFailure, true)));
}

/// What a reader of single keys saw.
fn cache_figures(sheet: &mut Sheet, reads: &KeyReadFigures) {
    let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
    sheet.put("cache.hit_share", "ratio", Direction::Higher, share(reads.hits, reads.reads)).n = reads.reads;
    sheet.put("cache.stale_read_share", "ratio", Direction::Lower, share(reads.stale, reads.hits)).n = reads.hits;
    sheet.quantiles("cache.key_age", &reads.age);
    sheet.quantiles("cache.read_latency", &reads.latency);
}

pub(super) fn histogram(id: &str, sink: Option<SinkKind>, histogram: &Histogram) -> Option<Hist> {
    let data = histogram.encode().ok()?;
    Some(Hist {
        id: id.to_owned(),
        sink: sink.map(|sink| sink.name().to_owned()),
        unit: "ns".to_owned(),
        encoding: "hdr-v2-deflate-base64".to_owned(),
        data,
        censored: histogram.censored(),
        negative: histogram.negative(),
    })
}

/// Age, backlog and changes at equal steps through the window, exact at each instant.
fn series(seen: &Observed<'_>, stalled: &Stalled<'_>) -> Series {
    let step = seen.window.length() / SERIES_POINTS;
    let mut committed: Vec<Moment> = seen.commits.iter().map(|commit| commit.committed).collect();
    committed.sort_unstable();
    let shown: Vec<Vec<Moment>> = seen.sinks.iter().map(|sink| shown_at(seen.commits, &sink.visible)).collect();
    let by_lsn: BTreeMap<Lsn, u64> = seen.sizes.iter().map(|(lsn, changes, _)| (*lsn, *changes)).collect();
    let mut changes: Vec<(Moment, u64)> =
        seen.commits.iter().map(|c| (c.committed, by_lsn.get(&c.lsn).copied().unwrap_or(0))).collect();
    changes.sort_unstable();
    let mut series = Series::default();
    for point in 0..SERIES_POINTS {
        let from = seen.window.start.after(step * point);
        let until = from.after(step);
        series.t_s.push(from.since(seen.window.start).as_secs_f64());
        let inside = changes.partition_point(|(at, _)| *at < from)..changes.partition_point(|(at, _)| *at < until);
        let count: u64 = changes.get(inside).unwrap_or_default().iter().map(|(_, count)| count).sum();
        series.changes_per_s.push(count as f64 / step.as_secs_f64().max(1e-9));
        for sink in seen.sinks {
            let age = sink.freshness.age.curve.at(from).unwrap_or_default().as_secs_f64();
            series.age_s.entry(sink.kind.name().to_owned()).or_default().push(age);
        }
        // The look before, or the first: it is at most a step old.
        let looked = seen.footprint.partition_point(|sample| sample.at <= from).saturating_sub(1);
        if let Some(sample) = seen.footprint.get(looked) {
            series.resident_bytes.push(sample.resident_bytes as f64);
            if !seen.sinks.is_empty() {
                series.warehouse_files.push(sample.files as f64);
                series.warehouse_bytes.push(sample.file_bytes as f64);
            }
        }
        let offered = committed.partition_point(|at| *at <= from);
        let slowest = shown.iter().map(|shown| shown.partition_point(|at| *at <= from)).min();
        if let Some(visible) = slowest {
            series.backlog.push(offered.saturating_sub(visible) as f64);
        }
    }
    series.events = events(seen);
    (series.stalls, series.steal_share) = stalled.series(step, SERIES_POINTS);
    series
}

/// When each batch of the window became visible.
fn events(seen: &Observed<'_>) -> Vec<Event> {
    const EVENTS_MAX: usize = 500;
    let of_sink = |sink: &SinkSeen| {
        let batches = sink.outcome.batches.iter().filter(|batch| seen.window.contains(batch.published_at));
        let event = |at: Moment| Event {
            t_s: at.since(seen.window.start).as_secs_f64(),
            sink: Some(sink.kind.name().to_owned()),
            what: "batch visible".to_owned(),
        };
        batches.map(|batch| event(batch.published_at)).collect::<Vec<_>>()
    };
    let mut events: Vec<Event> = seen.sinks.iter().flat_map(of_sink).collect();
    events.sort_by(|a, b| a.t_s.total_cmp(&b.t_s));
    events.truncate(EVENTS_MAX);
    events
}

/// When commits had become visible, in the order of time.
fn shown_at(commits: &[Commit], visible: &[Option<Moment>]) -> Vec<Moment> {
    let mut shown: Vec<Moment> =
        commits.iter().zip(visible).filter_map(|(commit, at)| at.map(|at| at.max(commit.committed))).collect();
    shown.sort_unstable();
    shown
}
