//! Instants on the one monotonic clock.

use std::fmt;
use std::time::Duration;

/// An instant: nanoseconds since the origin of the run's one monotonic clock.
///
/// Two moments may be compared only when they come from the same clock. Durations are
/// [`std::time::Duration`], so an instant can't be mistaken for a length of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The origin of the clock.
    pub const ORIGIN: Moment = Moment(0);
    /// Later than every instant of a run.
    pub const FAR_FUTURE: Moment = Moment(u64::MAX);

    /// The instant `ns` nanoseconds after the origin.
    pub const fn from_nanos(ns: u64) -> Self {
        Moment(ns)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the origin.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The time since `earlier`; zero if `earlier` is in fact later.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant `length` later, saturating at [`Moment::FAR_FUTURE`].
    #[must_use]
    pub fn after(self, length: Duration) -> Moment {
        let ns = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Moment(self.0.saturating_add(ns))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6} s", self.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_never_goes_below_zero() {
        let early = Moment::from_nanos(5);
        let late = early.after(Duration::from_nanos(7));
        assert_eq!(late.since(early), Duration::from_nanos(7));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(Moment::FAR_FUTURE.after(Duration::from_secs(1)), Moment::FAR_FUTURE);
    }
}
