//! What a run in progress is told by, and what a view takes from it.

use crate::report::{Case, Hist, RunResult, Series, Validation};
use crate::stats::Histogram;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Points of a series; when there are more, every second one goes and the steps double.
const POINTS_MAX: usize = 400;
/// The first step between two points, in seconds.
const STEP_S: f64 = 0.1;
/// Commits in flight whose times are remembered, in samples.
const REMEMBERED_MAX: usize = 1 << 16;

/// What is seen at one instant of the measured part of a case.
#[derive(Clone, Debug, Default)]
pub struct Sample<'a> {
    /// Seconds since the measuring began; negative in the warm-up.
    pub t_s: f64,
    /// The newest position that the source has acknowledged.
    pub newest: u64,
    /// Changes that it has acknowledged so far.
    pub changes: u64,
    /// By sink: the position that it is complete through.
    pub visible: &'a [(&'a str, u64)],
}

/// One sink, as the samples show it.
#[derive(Clone, Debug, Default)]
struct Watched {
    visible: u64,
    age_s: f64,
    lag: Histogram,
}

/// The case that is running.
#[derive(Debug, Default)]
struct Current {
    name: String,
    phase: String,
    /// When positions were first seen: (newest position, seconds).
    seen: VecDeque<(u64, f64)>,
    /// The last position that has left `seen`.
    before: u64,
    sinks: BTreeMap<String, Watched>,
    backlog: u64,
    changes: u64,
    /// Changes and time of the last point.
    last: (u64, f64),
    rate: f64,
    step_s: f64,
    series: Series,
    /// The largest age of each sink since the last point.
    peak: BTreeMap<String, f64>,
}

/// What a view shows.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What has finished, as it was saved.
    pub finished: Option<Arc<RunResult>>,
    /// What is running: its series and lags so far.
    pub running: Option<Case>,
    /// The stretch of work that is going on.
    pub phase: String,
    /// Its lags by sink.
    pub lags: BTreeMap<String, Histogram>,
    /// Its ages at the last sample, by sink, in seconds.
    pub ages_s: BTreeMap<String, f64>,
    /// Commits that the slowest sink does not show yet.
    pub backlog: u64,
    /// Changes acknowledged so far.
    pub changes: u64,
    /// Changes a second.
    pub rate: f64,
}

#[derive(Debug, Default)]
struct State {
    finished: Option<Arc<RunResult>>,
    current: Current,
}

/// Where a run tells how it is. Cloning shares it.
///
/// Telling a sample never waits: when a view is just taking a snapshot, the sample is left out.
#[derive(Clone, Debug, Default)]
pub struct Feed {
    state: Arc<Mutex<State>>,
}

impl Feed {
    /// A feed that knows of nothing.
    pub fn new() -> Feed {
        Feed::default()
    }

    /// A stretch of work begins, such as `cdc-trigger: run`: the case, and the phase.
    pub fn begin(&self, what: &str) {
        let (name, phase) = what.split_once(": ").unwrap_or(("", what));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.current.name != name {
            state.current = Current { name: name.to_owned(), step_s: STEP_S, ..Current::default() };
        }
        phase.clone_into(&mut state.current.phase);
    }

    /// Results were saved; cases that are in them are no longer running.
    pub fn saved(&self, result: &RunResult) {
        let result = Arc::new(result.clone());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if result.case(&state.current.name).is_some() {
            state.current = Current { step_s: STEP_S, ..Current::default() };
        }
        state.finished = Some(result);
    }

    /// How it is at an instant. Call it every few milliseconds: ages and lags are as exact as that.
    pub fn sample(&self, sample: &Sample<'_>) {
        if let Ok(mut state) = self.state.try_lock() {
            state.current.take(sample);
        }
    }

    /// What is known now.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let current = &state.current;
        let lags: BTreeMap<String, Histogram> =
            current.sinks.iter().map(|(name, sink)| (name.clone(), sink.lag.clone())).collect();
        let ages_s = current.sinks.iter().map(|(name, sink)| (name.clone(), sink.age_s)).collect();
        let (series, name) = (current.series.clone(), current.name.clone());
        let (finished, phase) = (state.finished.clone(), current.phase.clone());
        let (backlog, changes, rate) = (current.backlog, current.changes, current.rate);
        // Encoding takes longer than copying: the run may go on meanwhile.
        drop(state);
        let running = (!name.is_empty()).then(|| case(name, series, &lags));
        Snapshot { finished, running, phase, lags, ages_s, backlog, changes, rate }
    }
}

fn case(name: String, timeseries: Series, lags: &BTreeMap<String, Histogram>) -> Case {
    let histograms = lags.iter().filter_map(|(sink, lag)| {
        Some(Hist {
            id: "freshness.commit_lag".to_owned(),
            sink: Some(sink.clone()),
            unit: "ns".to_owned(),
            encoding: "hdr-v2-deflate-base64".to_owned(),
            data: lag.encode().ok()?,
            censored: 0,
            negative: 0,
        })
    });
    Case {
        name,
        sentence: "Running; it is verified when it has ended.".to_owned(),
        metrics: Vec::new(),
        histograms: histograms.collect(),
        timeseries,
        phases: Vec::new(),
        validation: Validation::default(),
        divergence: Vec::new(),
        caveats: Vec::new(),
    }
}

impl Current {
    fn take(&mut self, sample: &Sample<'_>) {
        self.changes = sample.changes;
        if self.seen.is_empty() && self.before == 0 {
            // What was there before the first sample is no commit of this run.
            self.before = sample.newest;
        } else if sample.newest > self.seen.back().map_or(self.before, |(newest, _)| *newest) {
            self.seen.push_back((sample.newest, sample.t_s));
        }
        let (measured, mut slowest) = (sample.t_s >= 0.0, u64::MAX);
        for (name, visible) in sample.visible {
            slowest = slowest.min(*visible);
            self.look(name, *visible, sample.t_s, measured);
        }
        while self.seen.front().is_some_and(|(newest, _)| *newest <= slowest) || self.seen.len() > REMEMBERED_MAX {
            self.before = self.seen.pop_front().map_or(self.before, |(newest, _)| newest);
        }
        let followed = slowest != u64::MAX;
        self.backlog = if followed { sample.newest.saturating_sub(slowest) } else { 0 };
        if measured {
            self.point(sample, followed);
        }
    }

    /// Notes what has become visible at a sink since the sample before.
    fn look(&mut self, name: &str, visible: u64, t_s: f64, measured: bool) {
        if !self.sinks.contains_key(name) {
            self.sinks.insert(name.to_owned(), Watched { visible, ..Watched::default() });
        }
        let Some(sink) = self.sinks.get_mut(name) else { return };
        let mut from = self.before;
        let mut oldest = None;
        for (newest, at) in &self.seen {
            let begin = from.max(sink.visible);
            let shown = (*newest).min(visible).saturating_sub(begin);
            let lag = Duration::try_from_secs_f64(t_s - at).unwrap_or_default();
            if measured {
                // A sample holds some dozen commits at the most.
                (0..shown.min(10_000)).for_each(|_| sink.lag.record(lag));
            }
            if *newest > visible {
                oldest = Some(*at);
                break;
            }
            from = *newest;
        }
        sink.visible = sink.visible.max(visible);
        sink.age_s = oldest.map_or(0.0, |at| (t_s - at).max(0.0));
        let peak = self.peak.entry(name.to_owned()).or_default();
        *peak = peak.max(sink.age_s);
    }

    /// Adds a point to the series when its time has come.
    fn point(&mut self, sample: &Sample<'_>, followed: bool) {
        let (changes, at) = self.last;
        if self.series.t_s.is_empty() {
            self.last = (sample.changes, sample.t_s);
        } else if sample.t_s - at < self.step_s {
            return;
        } else {
            self.rate = (sample.changes.saturating_sub(changes)) as f64 / (sample.t_s - at);
            self.last = (sample.changes, sample.t_s);
        }
        self.series.t_s.push(sample.t_s);
        self.series.changes_per_s.push(self.rate);
        for (name, sink) in &self.sinks {
            let age = self.peak.get(name).copied().unwrap_or(sink.age_s);
            self.series.age_s.entry(name.clone()).or_default().push(age);
        }
        self.peak.clear();
        if followed {
            self.series.backlog.push(self.backlog as f64);
        }
        if self.series.t_s.len() > POINTS_MAX {
            self.step_s *= 2.0;
            let series = &mut self.series;
            let all = [&mut series.t_s, &mut series.backlog, &mut series.changes_per_s];
            for values in all.into_iter().chain(series.age_s.values_mut()) {
                let mut place = 0;
                values.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(feed: &Feed, t_s: f64, newest: u64, visible: u64) {
        feed.sample(&Sample { t_s, newest, changes: newest * 2, visible: &[("warehouse", visible)] });
    }

    #[test]
    fn ages_lags_and_backlog_follow_from_the_samples() {
        let feed = Feed::new();
        feed.begin("cdc-trigger: run");
        tell(&feed, 0.0, 10, 10);
        tell(&feed, 1.0, 13, 10);
        tell(&feed, 2.0, 15, 10);
        let seen = feed.snapshot();
        // Commits 11 to 13 were seen at second 1, 14 and 15 at second 2.
        assert_eq!((seen.ages_s["warehouse"], seen.backlog, seen.changes), (1.0, 5, 30));
        tell(&feed, 2.5, 15, 14);
        let seen = feed.snapshot();
        assert_eq!((seen.ages_s["warehouse"], seen.backlog), (0.5, 1));
        let lag = &seen.lags["warehouse"];
        assert_eq!(
            (lag.len(), lag.max(), lag.min()),
            (4, Some(Duration::from_millis(1500)), Some(Duration::from_millis(500)))
        );
        tell(&feed, 3.0, 15, 15);
        assert_eq!(feed.snapshot().ages_s["warehouse"], 0.0);
        let case = feed.snapshot().running.unwrap();
        assert_eq!(case.timeseries.t_s, [0.0, 1.0, 2.0, 2.5, 3.0]);
        assert_eq!(case.timeseries.changes_per_s[1..3], [6.0, 4.0]);
    }

    #[test]
    fn a_long_run_stays_bounded() {
        let feed = Feed::new();
        feed.begin("cdc-trigger: run");
        for n in 0..200_000u64 {
            // The sink never shows anything, so every commit stays in flight.
            tell(&feed, n as f64 * 0.05, n, 0);
        }
        let state = feed.state.lock().unwrap();
        assert!(state.current.seen.len() <= REMEMBERED_MAX);
        let series = &state.current.series;
        assert!(series.t_s.len() <= POINTS_MAX && series.t_s.len() > POINTS_MAX / 4, "{}", series.t_s.len());
        assert_eq!(series.t_s.len(), series.age_s["warehouse"].len());
        assert_eq!(series.t_s.len(), series.backlog.len());
    }

    #[test]
    fn a_view_that_looks_never_stops_a_sample() {
        let feed = Feed::new();
        feed.begin("cdc-trigger: run");
        let _looking = feed.state.lock().unwrap();
        let other = feed.clone();
        // It would wait for ever here if it waited.
        std::thread::spawn(move || tell(&other, 1.0, 1, 1)).join().unwrap();
    }
}
