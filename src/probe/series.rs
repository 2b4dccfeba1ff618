//! Values over a time whose end is not known, in bounded memory: the steps grow with it.

use crate::model::Moment;
use std::time::Duration;

/// Values that are kept at most; when there are more, two become one.
const VALUES_MAX: usize = 400;
/// The first step.
const STEP: Duration = Duration::from_millis(10);

/// One value for each step from a start on.
#[derive(Clone, Debug, PartialEq)]
pub struct Halving {
    step: Duration,
    values: Vec<f64>,
    sums: bool,
}

impl Halving {
    /// Of something that has a value at each instant: those at the steps' beginnings.
    pub fn points() -> Halving {
        Halving { step: STEP, values: Vec::new(), sums: false }
    }

    /// Of something that is counted: the sums over the steps.
    pub fn sums() -> Halving {
        Halving { step: STEP, values: Vec::new(), sums: true }
    }

    /// How long a step is.
    pub fn step(&self) -> Duration {
        self.step
    }

    /// The values so far.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Takes the value at each step's beginning within `[from, until)`; stretches come in order and without gaps.
    pub fn each_point(&mut self, start: Moment, (from, until): (Moment, Moment), value: impl Fn(Moment) -> f64) {
        loop {
            let at = self.begin_of(start, self.values.len());
            if at >= until || at < from {
                return;
            }
            self.values.push(value(at));
            if self.values.len() > VALUES_MAX {
                self.halve();
            }
        }
    }

    /// Counts `amount` at an instant after `start`.
    pub fn add(&mut self, start: Moment, at: Moment, amount: f64) {
        let place = loop {
            let place = (at.since(start).as_nanos() / self.step.as_nanos().max(1)) as usize;
            if place < VALUES_MAX {
                break place;
            }
            self.halve();
        };
        if self.values.len() <= place {
            self.values.resize(place + 1, 0.0);
        }
        if let Some(value) = self.values.get_mut(place) {
            *value += amount;
        }
    }

    /// The same in steps that are at least so long.
    #[must_use]
    pub fn in_steps_of(mut self, step: Duration) -> Halving {
        while self.step < step {
            self.halve();
        }
        self
    }

    fn begin_of(&self, start: Moment, place: usize) -> Moment {
        start.after(self.step.saturating_mul(u32::try_from(place).unwrap_or(u32::MAX)))
    }

    fn halve(&mut self) {
        self.step *= 2;
        let sums = self.sums;
        let pairs = self.values.chunks(2);
        let merged = pairs.filter_map(|pair| if sums { Some(pair.iter().sum()) } else { pair.first().copied() });
        self.values = merged.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::ORIGIN.after(Duration::from_millis(ms))
    }

    #[test]
    fn steps_grow_and_nothing_is_lost() {
        let mut sums = Halving::sums();
        for ms in 0..100_000 {
            sums.add(at(500), at(500 + ms), 1.0);
        }
        assert_eq!(sums.step(), Duration::from_millis(320));
        assert_eq!((sums.values().len(), sums.values().iter().sum::<f64>()), (313, 100_000.0));
        assert_eq!((sums.values()[0], sums.values()[312]), (320.0, 160.0));

        let mut points = Halving::points();
        let value = |moment: Moment| moment.since(at(500)).as_millis() as f64;
        for ms in (0..100_000).step_by(7) {
            points.each_point(at(500), (at(500 + ms), at(507 + ms)), value);
        }
        assert_eq!(points.step(), Duration::from_millis(320));
        assert!(points.values().iter().enumerate().all(|(n, value)| *value == 320.0 * n as f64));
        assert_eq!(points.values().len(), 313);
        assert_eq!(points.in_steps_of(Duration::from_millis(500)).values()[1], 640.0);
    }
}
