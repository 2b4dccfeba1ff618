//! How far each sink is behind what was offered, sampled over time.

use super::freshness::Window;
use super::{ProbeError, Worker};
use crate::clock::Clock;
use crate::model::{Lsn, Moment};
use crate::stats::Line;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// Tells a present position; called on the sampler's thread, so it has to be cheap and must not block.
pub type LsnSource = Box<dyn Fn() -> Lsn + Send>;

/// After this many samples every other one is dropped and the interval doubled.
const SAMPLES_MAX: usize = 200_000;

/// Samples positions on a thread of its own, `mtr-backlog`, until stopped.
#[derive(Debug)]
pub struct BacklogSampler {
    worker: Worker<BacklogSeries>,
}

impl BacklogSampler {
    /// Starts sampling every `interval` (at least 1 ms): the last position the source committed, and for each
    /// named sink its watermark.
    ///
    /// # Errors
    /// [`ProbeError::Spawn`].
    pub fn start(
        clock: &Clock,
        interval: Duration,
        offered: LsnSource,
        sinks: Vec<(String, LsnSource)>,
    ) -> Result<BacklogSampler, ProbeError> {
        let clock = clock.clone();
        let body = move |stopped: &Receiver<()>| sample(&clock, interval, &offered, sinks, stopped);
        Ok(BacklogSampler { worker: Worker::start("mtr-backlog", body)? })
    }

    /// Takes a last sample and ends.
    ///
    /// # Errors
    /// [`ProbeError::Died`] when one of the position sources panicked.
    pub fn stop(self) -> Result<BacklogSeries, ProbeError> {
        self.worker.finish()
    }
}

fn sample(
    clock: &Clock,
    interval: Duration,
    offered: &LsnSource,
    sinks: Vec<(String, LsnSource)>,
    stopped: &Receiver<()>,
) -> BacklogSeries {
    let (names, sources): (Vec<String>, Vec<LsnSource>) = sinks.into_iter().unzip();
    let mut series = BacklogSeries::new(names);
    let mut interval = interval.max(Duration::from_millis(1));
    loop {
        let going_on = stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout);
        // The sinks first: read the other way round, a sink could seem to be ahead of the source.
        let visible: Vec<Lsn> = sources.iter().map(|source| source()).collect();
        series.push(clock.now(), offered(), &visible);
        if !going_on {
            return series;
        }
        if series.at.len() >= SAMPLES_MAX {
            series.thin_out();
            interval *= 2;
        }
    }
}

/// Positions over time: one entry a sample in every list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BacklogSeries {
    /// The sinks' names.
    pub sinks: Vec<String>,
    /// When each sample was taken.
    pub at: Vec<Moment>,
    /// The last position that the source had committed.
    pub offered: Vec<Lsn>,
    /// For each sink its watermark.
    pub visible: Vec<Vec<Lsn>>,
}

impl BacklogSeries {
    /// An empty series for these sinks.
    pub fn new(sinks: Vec<String>) -> BacklogSeries {
        let visible = vec![Vec::new(); sinks.len()];
        BacklogSeries { sinks, visible, ..BacklogSeries::default() }
    }

    /// Adds a sample; `visible` has one position a sink.
    pub fn push(&mut self, at: Moment, offered: Lsn, visible: &[Lsn]) {
        self.at.push(at);
        self.offered.push(offered);
        for (list, lsn) in self.visible.iter_mut().zip(visible) {
            list.push(*lsn);
        }
    }

    fn thin_out(&mut self) {
        thin_out(&mut self.at);
        thin_out(&mut self.offered);
        self.visible.iter_mut().for_each(thin_out);
    }

    /// How many positions the sink is behind, over time. Where positions number the commits that is commits;
    /// on PostgreSQL it is bytes of its log. Empty for a sink that is not there.
    pub fn backlog(&self, sink: usize) -> impl Iterator<Item = (Moment, u64)> + '_ {
        let visible = self.visible.get(sink).map(Vec::as_slice).unwrap_or_default();
        let behind = self.offered.iter().zip(visible).map(|(offered, visible)| offered.0.saturating_sub(visible.0));
        self.at.iter().copied().zip(behind)
    }

    /// The line through the backlog in the window: its slope is the growth in positions per second.
    pub fn growth(&self, sink: usize, window: Window) -> Option<Line> {
        Line::fit(&self.points(window, self.backlog(sink)))
    }

    /// The rate at which positions were offered in the window, per second.
    pub fn offered_per_s(&self, window: Window) -> Option<f64> {
        let offered = self.at.iter().copied().zip(self.offered.iter().map(|lsn| lsn.0));
        Line::fit(&self.points(window, offered)).map(|line| line.slope)
    }

    /// Whether the sink keeps up in the window: its backlog grows by at most 1 % of the offered rate.
    /// `None` when there are too few samples.
    pub fn keeps_up(&self, sink: usize, window: Window) -> Option<bool> {
        Some(self.growth(sink, window)?.slope <= 0.01 * self.offered_per_s(window)?)
    }

    fn points(&self, window: Window, series: impl Iterator<Item = (Moment, u64)>) -> Vec<(f64, f64)> {
        series.filter(|&(at, _)| window.contains(at)).map(|(at, y)| (at.as_secs_f64(), y as f64)).collect()
    }
}

fn thin_out<T>(list: &mut Vec<T>) {
    let mut keep = false;
    list.retain(|_| {
        keep = !keep;
        keep
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn second(n: u64) -> Moment {
        Moment::from_nanos(n * 1_000_000_000)
    }

    #[test]
    fn growth_by_hand() {
        let mut series = BacklogSeries::new(vec!["warehouse".into(), "search".into()]);
        for n in 0..10 {
            series.push(second(n), Lsn(1000 * n), &[Lsn(990 * n), Lsn(980 * n)]);
        }
        let window = Window { start: second(2), end: second(9) };
        assert!((series.offered_per_s(window).unwrap() - 1000.0).abs() < 1e-6);
        assert!((series.growth(0, window).unwrap().slope - 10.0).abs() < 1e-6);
        // Growth of exactly 1 % is still kept up with, give or take rounding; 2 % is not.
        assert_eq!(series.keeps_up(1, window), Some(false));
        assert_eq!(series.backlog(1).last(), Some((second(9), 180)));
        assert_eq!(series.keeps_up(2, window), None);
        assert_eq!(series.growth(0, Window { start: second(20), end: second(30) }), None);
        series.thin_out();
        assert_eq!(series.at, [0, 2, 4, 6, 8].map(second));
        assert_eq!(series.visible[1].len(), 5);
    }

    #[test]
    fn the_sampler_collects_until_it_is_stopped() -> Result<(), ProbeError> {
        let ticks = Arc::new(AtomicU64::new(0));
        let source = Arc::clone(&ticks);
        let offered: LsnSource = Box::new(move || Lsn(source.fetch_add(1, Ordering::SeqCst) + 1));
        let sampler = BacklogSampler::start(
            &Clock::monotonic(),
            Duration::from_millis(1),
            offered,
            vec![("warehouse".into(), Box::new(|| Lsn(0)))],
        )?;
        while ticks.load(Ordering::SeqCst) < 3 {
            std::thread::yield_now();
        }
        let series = sampler.stop()?;
        assert!(series.at.len() >= 3 && series.at.is_sorted());
        assert_eq!(series.backlog(0).map(|(_, n)| n).take(3).collect::<Vec<_>>(), [1, 2, 3]);
        Ok(())
    }
}
