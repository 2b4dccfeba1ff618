//! The clock itself.

use super::Found;
use crate::clock::Clock;
use crate::stats::Samples;
use std::time::Duration;

const READINGS: usize = 100_000;
const SLEEPS: usize = 100;

/// The least step that the clock shows, what a reading costs, and how late a sleeper wakes.
pub(super) fn timer() -> Found {
    let clock = Clock::monotonic();
    let begun = clock.now();
    let mut step = Duration::MAX;
    let mut before = begun;
    for _ in 0..READINGS {
        let now = clock.now();
        let passed = now.since(before);
        if !passed.is_zero() {
            step = step.min(passed);
        }
        before = now;
    }
    let cost_ns = before.since(begun).as_nanos() as f64 / READINGS as f64;
    let late = (0..SLEEPS).map(|_| {
        let due = clock.now().after(Duration::from_millis(1));
        clock.sleep_until(due);
        (clock.now().since(due), false)
    });
    let late = Samples::new(late);
    let of = |q| late.quantile(q).map_or(Duration::ZERO, |quantile| quantile.value);
    let limit = Duration::from_micros(1);
    (
        step <= limit && cost_ns <= 1000.0,
        "a step and a reading of 1 us or less".to_owned(),
        format!(
            "step {step:?}, a reading costs {cost_ns:.0} ns; a sleeper wakes {:.1?} (p50), {:.1?} (p99) late, which the ledger notes",
            of(0.5),
            of(0.99)
        ),
    )
}
