//! The freshness of one sink while it is followed without an end, in bounded memory.
//!
//! The figures are those of [`super::freshness`], by the same code: commits and publishes are kept until everything about them is
//! known, then *folded*: their lags go into a sketch and the age of that stretch of time into another. What is kept is what came in
//! the last seconds or is not visible yet.

use super::freshness::{SLO_THETAS, Window, age_curve};
use super::series::Halving;
use super::visibility::{Commit, Publish, VisibilityError, visible_by_watermark};
use crate::model::{Lsn, Moment};
use crate::stats::{AgeSketch, Histogram, Sketch};
use std::time::Duration;

/// Commits are told of in the order of their positions; their times may be out of order by this much.
const REORDERED_MAX: Duration = Duration::from_secs(5);
/// Entries that come before the next fold, and half of what may be kept beyond what has to be.
const FOLD_AFTER: usize = 32_768;

/// Lags of commits.
#[derive(Clone, Debug, Default)]
pub struct BoundedLags {
    /// For quantiles, to 0.1 %.
    pub sketch: Sketch,
    /// For storing.
    pub histogram: Histogram,
}

/// What was found at the end.
#[derive(Clone, Debug)]
pub struct BoundedFigures {
    /// From commit to visible, of the commits of the window.
    pub lag: BoundedLags,
    /// Commits of the window that were visible before their commit time. Their lag is zero.
    pub early: u64,
    /// The largest time by which one was.
    pub largest_lead: Duration,
    /// Commits of the window that were not visible at the end.
    pub lost: u64,
    /// The age over the window.
    pub age: AgeSketch,
    /// The age at each step from the window's start on.
    pub age_series: Halving,
    /// Bytes of the log between the newest commit and the watermark, at each publish of the window.
    pub behind_bytes: Sketch,
}

/// Follows one kind of visibility at one sink.
#[derive(Clone, Debug)]
pub struct Bounded {
    commits: Vec<Commit>,
    publishes: Vec<Publish>,
    window: Option<Window>,
    /// The age is known until here.
    folded_until: Moment,
    /// Publishes until here were compared with the newest commit.
    behind_until: Moment,
    /// All commits until here were told of.
    known_until: Moment,
    /// Entries at which to fold again.
    fold_at: usize,
    /// The newest commit that is not kept any more.
    newest: Lsn,
    figures: BoundedFigures,
}

impl Default for Bounded {
    fn default() -> Bounded {
        Bounded::new()
    }
}

impl Bounded {
    /// Nothing yet; the window has not begun.
    pub fn new() -> Bounded {
        Bounded {
            commits: Vec::new(),
            publishes: Vec::new(),
            window: None,
            folded_until: Moment::ORIGIN,
            behind_until: Moment::ORIGIN,
            known_until: Moment::ORIGIN,
            fold_at: FOLD_AFTER,
            newest: Lsn::ZERO,
            figures: BoundedFigures {
                lag: BoundedLags::default(),
                early: 0,
                largest_lead: Duration::ZERO,
                lost: 0,
                age: AgeSketch::new(&SLO_THETAS),
                age_series: Halving::points(),
                behind_bytes: Sketch::default(),
            },
        }
    }

    /// The window begins: what is committed from now on counts.
    pub fn begin(&mut self, start: Moment) {
        self.window = Some(Window { start, end: Moment::FAR_FUTURE });
        self.folded_until = start;
    }

    /// The window has ended.
    pub fn end(&mut self, end: Moment) {
        if let Some(window) = &mut self.window {
            window.end = end;
        }
    }

    /// A commit took place; in the order of their positions. One that comes twice is left out.
    pub fn committed(&mut self, commit: Commit) {
        self.known(commit.committed);
        let behind = self.commits.last().is_some_and(|last| last.lsn >= commit.lsn);
        let after = self.window.is_some_and(|window| commit.committed >= window.end);
        if !behind && !after {
            self.commits.push(commit);
        }
    }

    /// Every commit until then was told of.
    pub fn known(&mut self, until: Moment) {
        self.known_until = self.known_until.max(until);
    }

    /// A version became visible; in the order of time.
    pub fn published(&mut self, at: Moment, watermark: Lsn) -> Result<(), VisibilityError> {
        self.publishes.push(Publish { at, watermark, delivered: None });
        if self.commits.len() + self.publishes.len() >= self.fold_at {
            let settled = self.known_until.as_nanos().saturating_sub(REORDERED_MAX.as_nanos() as u64);
            // Not beyond what was published: what becomes visible later may be told of later.
            self.fold(Moment::from_nanos(settled).min(at), None)?;
            self.fold_at = 2 * (self.commits.len() + self.publishes.len()) + FOLD_AFTER;
        }
        Ok(())
    }

    /// How many commits and publishes are kept.
    pub fn kept(&self) -> usize {
        self.commits.len() + self.publishes.len()
    }

    /// The figures of the window, of what was seen until `observed_until`.
    ///
    /// # Errors
    /// [`VisibilityError`] when publishes were not told of in the order of time.
    pub fn finish(mut self, observed_until: Moment) -> Result<BoundedFigures, VisibilityError> {
        let end = self.window.map_or(self.folded_until, |window| window.end.min(observed_until));
        self.end(end);
        self.fold(end, Some(observed_until))?;
        Ok(self.figures)
    }

    /// Reckons up everything until `until`, and lets go of what is not needed after that. With `observed_until` everything is.
    fn fold(&mut self, until: Moment, observed_until: Option<Moment>) -> Result<(), VisibilityError> {
        let mut visible = visible_by_watermark(&self.commits, &self.publishes)?;
        if let Some(observed_until) = observed_until {
            visible.iter_mut().for_each(|at| *at = at.filter(|at| *at <= observed_until));
        }
        self.fold_age(until, &visible);
        self.fold_behind(until);
        let settled = |(commit, visible): (&Commit, &Option<Moment>)| {
            visible.is_some_and(|visible| visible <= until) && commit.committed < until
        };
        let done = match observed_until {
            Some(_) => self.commits.len(),
            None => self.commits.iter().zip(&visible).take_while(|pair| settled(*pair)).count(),
        };
        for (commit, visible) in self.commits.drain(..done).zip(visible) {
            self.newest = self.newest.max(commit.lsn);
            if self.window.is_some_and(|window| window.contains(commit.committed)) {
                self.figures.count(commit.committed, visible, observed_until.unwrap_or(until));
            }
        }
        // A heartbeat is told of when it is acknowledged, which may be after its publish: the last seconds' stay.
        let kept_from = self.commits.first().map_or(Lsn(u64::MAX), |commit| commit.lsn);
        let gone = |publish: &&Publish| publish.at < until && publish.watermark < kept_from;
        let gone = self.publishes.iter().take_while(gone).count();
        self.publishes.drain(..gone);
        Ok(())
    }

    fn fold_age(&mut self, until: Moment, visible: &[Option<Moment>]) {
        let Some(window) = self.window else { return };
        let until = until.min(window.end);
        if until <= self.folded_until {
            return;
        }
        let part = Window { start: self.folded_until, end: until };
        let curve = age_curve(self.commits.iter().copied().zip(visible.iter().copied()), part);
        for segment in curve.segments() {
            self.figures.age.add(segment);
            self.figures
                .age_series
                .each_point(window.start, (segment.start, segment.end()), |at| segment.age_at(at).as_secs_f64());
        }
        self.folded_until = until;
    }

    /// Publishes are looked at once: those before `until` go, or would have been before.
    fn fold_behind(&mut self, until: Moment) {
        let Some(window) = self.window else { return };
        let mut newest = self.newest;
        let mut coming = self.commits.iter().peekable();
        for publish in self.publishes.iter().filter(|publish| window.contains(publish.at) && publish.at < until) {
            while let Some(commit) = coming.next_if(|commit| commit.committed <= publish.at) {
                newest = newest.max(commit.lsn);
            }
            if publish.at >= self.behind_until {
                self.figures.behind_bytes.add_number(newest.0.saturating_sub(publish.watermark.0), false);
            }
        }
        self.behind_until = self.behind_until.max(until);
    }
}

impl BoundedFigures {
    /// Counts a commit of the window.
    fn count(&mut self, committed: Moment, visible: Option<Moment>, observed_until: Moment) {
        let lag = &mut self.lag;
        match visible {
            Some(visible) if visible < committed => {
                lag.histogram.record_negative();
                self.early += 1;
                self.largest_lead = self.largest_lead.max(committed.since(visible));
            }
            Some(visible) => lag.histogram.record(visible.since(committed)),
            None => {
                self.lost += 1;
                lag.histogram.record_censored(observed_until.since(committed));
            }
        }
        lag.sketch.add(visible.unwrap_or(observed_until).since(committed), visible.is_none());
    }
}

#[cfg(test)]
mod tests;
