//! Over which time figures are taken.
//!
//! A strategy that works at intervals does all its work once in each: a batch of a refresh, a checkpoint of a stream. Over
//! whole intervals as much of it is cut off at one end of a span as is added at the other. Over a part of one, the work is
//! in it or not by chance: a window without a batch makes batches nearly free.

use super::{Plan, PlanError, flag_error};
use crate::strategy::StrategyKind;
use std::time::Duration;

/// The longest time between two checkpoints, unless it is given.
const CHECKPOINT_INTERVAL_MAX: Duration = Duration::from_secs(5);
/// So many checkpoints are in the measured time at least, unless their interval is given.
const CHECKPOINTS_MIN: u32 = 2;

/// The interval of batches, unless it is given: 2 s, or less so that two fit the measured time.
pub fn batch_interval(measured: Duration) -> Duration {
    const BATCH_INTERVAL_MAX: Duration = Duration::from_secs(2);
    BATCH_INTERVAL_MAX.min(measured / 2).max(Duration::from_millis(1))
}

/// As many whole periods as fit into `length`; nothing if not even one does.
pub fn whole_periods(length: Duration, period: Duration) -> Duration {
    if period.is_zero() {
        return length;
    }
    let periods = length.as_nanos() / period.as_nanos();
    u32::try_from(periods).map_or(length, |periods| period * periods)
}

/// The interval of checkpoints when none is given: a whole number of them fit the measured time.
pub(super) fn checkpoint_interval(measured: Duration) -> Duration {
    let wanted = measured.as_nanos().div_ceil(CHECKPOINT_INTERVAL_MAX.as_nanos());
    let checkpoints = u32::try_from(wanted).unwrap_or(u32::MAX).max(CHECKPOINTS_MIN);
    (measured / checkpoints).max(Duration::from_millis(1))
}

/// What is wrong with measuring batches each `interval` for `measured`, with the remedy; nothing if all is well.
pub fn longer_than(interval: Duration, measured: Duration) -> Option<String> {
    (interval > measured).then(|| {
        let enough = (interval * 2).as_millis();
        let enough = if enough.is_multiple_of(1000) { format!("{}s", enough / 1000) } else { format!("{enough}ms") };
        format!(
            "longer than the measured time of {measured:?}, in which there may be no batch at all, so that what batches cost \
             can't be told; give --duration {enough} or more, or a shorter interval"
        )
    })
}

/// Refuses to measure a strategy that works in batches for less than one interval.
pub(super) fn check_batches(
    strategies: &[StrategyKind],
    interval: Duration,
    measured: Duration,
) -> Result<(), PlanError> {
    let batches = strategies.iter().any(|kind| kind.works_in_batches());
    match longer_than(interval, measured).filter(|_| batches) {
        Some(why) => Err(flag_error("--batch-interval", &format!("{interval:?}"), why)),
        None => Ok(()),
    }
}

impl Plan {
    /// From one piece of a strategy's own work at intervals to the next: a batch, or a checkpoint; `None` for the control run.
    fn period(&self, kind: StrategyKind) -> Option<Duration> {
        match kind {
            StrategyKind::Control => None,
            _ if kind.works_in_batches() => Some(self.batch_interval),
            _ => Some(self.checkpoint_interval),
        }
    }

    /// The measured time of a case, which ends with the planned one: of a strategy that works in batches the last whole
    /// intervals, since its age and its lags are those of a sawtooth.
    pub fn measured(&self, kind: StrategyKind) -> Duration {
        let whole = whole_periods(self.duration, self.batch_interval);
        if kind.works_in_batches() && !whole.is_zero() { whole } else { self.duration }
    }

    /// The part of the measured time, at its end, over which costs are taken: whole periods of the strategy's own work.
    /// `None` when not even one fits.
    pub fn cost_span(&self, kind: StrategyKind) -> Option<Duration> {
        let Some(period) = self.period(kind) else { return Some(self.duration) };
        Some(whole_periods(self.measured(kind), period)).filter(|span| !span.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::RawPlan;

    const fn ms(length: u64) -> Duration {
        Duration::from_millis(length)
    }

    #[test]
    fn whole_periods_by_hand() {
        let cases = [(8000, 2000, 8000), (8000, 3000, 6000), (3000, 20_000, 0), (3000, 3000, 3000), (2500, 1, 2500)];
        for (length, period, whole) in cases {
            assert_eq!(whole_periods(ms(length), ms(period)), ms(whole), "{length} by {period}");
        }
        assert_eq!(whole_periods(ms(5), Duration::ZERO), ms(5));
    }

    #[test]
    fn checkpoints_fit_the_measured_time() {
        let cases = [(8000, 4000), (10_000, 5000), (3000, 1500), (60_000, 5000), (11_000, 3667), (600, 300), (1, 1)];
        for (measured, interval) in cases {
            let found = checkpoint_interval(ms(measured));
            assert!(found.abs_diff(ms(interval)) < ms(1), "{measured}: {found:?}");
            assert!(measured < 2 || whole_periods(ms(measured), found).abs_diff(ms(measured)) < ms(1), "{measured}");
        }
    }

    fn plan(strategies: &str, times: [&str; 3]) -> Result<Plan, String> {
        let [duration, batch_interval, checkpoint_interval] =
            times.map(|text| Some(text.to_owned()).filter(|text| !text.is_empty()));
        let strategies = Some(strategies.to_owned());
        let raw = RawPlan { strategies, duration, batch_interval, checkpoint_interval, ..RawPlan::default() };
        raw.resolve(String::new()).map_err(|cause| cause.to_string())
    }

    #[test]
    fn a_window_shorter_than_an_interval_is_refused() {
        for strategies in ["full-refresh", "incremental", "incremental,cdc-trigger"] {
            let refused = plan(strategies, ["3s", "20s", ""]).expect_err("a refusal");
            assert!(refused.starts_with("--batch-interval 20s: ") && refused.contains("--duration 40s"), "{refused}");
        }
        let refused = plan("full-refresh", ["100ms", "750ms", ""]).expect_err("a refusal");
        assert!(refused.contains("--duration 1500ms"), "{refused}");
        // One whole interval is enough to count the work of one, and a strategy without batches does not care.
        assert!(plan("full-refresh", ["3s", "3s", ""]).is_ok());
        assert!(plan("cdc-trigger,outbox,dual-write", ["3s", "20s", ""]).is_ok());
    }

    #[test]
    fn each_strategy_is_measured_over_its_own_whole_periods() {
        let plan = plan("all", ["8s", "3s", "5s"]).expect("a plan");
        for kind in [StrategyKind::FullRefresh, StrategyKind::Incremental] {
            assert_eq!((plan.measured(kind), plan.cost_span(kind)), (ms(6000), Some(ms(6000))));
        }
        for kind in [StrategyKind::CdcTrigger, StrategyKind::Outbox, StrategyKind::DualWrite] {
            assert_eq!((plan.measured(kind), plan.cost_span(kind)), (ms(8000), Some(ms(5000))));
        }
        assert_eq!(plan.cost_span(StrategyKind::Control), Some(ms(8000)));
        let none = self::plan("cdc-trigger", ["8s", "", "60s"]).expect("a plan");
        assert_eq!(none.cost_span(StrategyKind::CdcTrigger), None);
        let all = self::plan("cdc-trigger", ["8s", "", ""]).expect("a plan");
        assert_eq!(all.cost_span(StrategyKind::CdcTrigger), Some(ms(8000)));
    }
}
