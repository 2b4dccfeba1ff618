//! Does the measuring measure? Each check makes something happen whose figure is known beforehand, and looks whether it comes out.

mod equal_runs;
mod faults;
mod stalls;
mod timer;

use super::RunError;
use crate::plan::{Plan, RawPlan};
use crate::strategy::PlantedFault;
use serde::Serialize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// How one check ended.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was made to happen.
    pub name: &'static str,
    /// Whether the figure was what it had to be.
    pub passed: bool,
    /// What had to come out.
    pub wanted: String,
    /// What came out.
    pub seen: String,
    /// How long the check took, in seconds.
    pub seconds: f64,
}

/// What one check found: passed, wanted, seen.
type Found = (bool, String, String);

/// A check: its name and what it does in a folder of its own.
type Test<'a> = (&'static str, Box<dyn Fn(&Path) -> Result<Found, RunError> + 'a>);

/// Runs all checks, each in an empty folder below `folder`; `tell` hears of each as it ends. A check that fails to run has not passed.
///
/// # Errors
/// [`RunError::Interrupted`] when `stop` is set, and when a folder can't be made.
pub fn selftest(folder: &Path, stop: &AtomicBool, tell: &mut dyn FnMut(&Check)) -> Result<Vec<Check>, RunError> {
    let tests: [Test<'_>; 9] = [
        ("the timer's precision and overhead", Box::new(|_| Ok(timer::timer()))),
        ("a frozen applier ages by 1 s a second", Box::new(stalls::frozen_applier)),
        ("a stalled source has age zero", Box::new(stalls::stalled_source)),
        ("a stalled generator shows from the intended start", Box::new(stalls::stalled_generator)),
        ("full refresh: mean age is D + P/2", Box::new(|folder| faults::sawtooth(folder, stop))),
        ("a dropped insert is found", Box::new(|folder| faults::planted(folder, PlantedFault::DropChange, stop))),
        ("a lost delete is found", Box::new(|folder| faults::planted(folder, PlantedFault::LoseDelete, stop))),
        ("swapped updates are found", Box::new(|folder| faults::planted(folder, PlantedFault::SwapUpdates, stop))),
        ("two equal runs: no regression", Box::new(|folder| equal_runs::equal_runs(folder, stop))),
    ];
    let _mark = super::owned::mark(folder)?;
    let mut checks = Vec::new();
    for (place, (name, test)) in tests.iter().enumerate() {
        let own = folder.join(format!("check-{place}"));
        std::fs::create_dir_all(&own).map_err(|cause| RunError::Io { path: own.clone(), cause })?;
        let begun = Instant::now();
        let found = test(&own);
        let _ = std::fs::remove_dir_all(&own);
        if stop.load(Ordering::Relaxed) {
            return Err(RunError::Interrupted);
        }
        let (passed, wanted, seen) =
            found.unwrap_or_else(|error| (false, "the check itself to run".to_owned(), error.to_string()));
        let check = Check { name, passed, wanted, seen, seconds: begun.elapsed().as_secs_f64() };
        tell(&check);
        checks.push(check);
    }
    Ok(checks)
}

/// A small plan that feeds the warehouse alone, in `folder`.
fn plan(folder: &Path, strategy: &str, change: impl FnOnce(&mut RawPlan)) -> Result<Plan, RunError> {
    let text = |text: &str| Some(text.to_owned());
    let mut raw = RawPlan {
        strategies: text(strategy),
        workload: text("orders"),
        rows: text("1k"),
        rate: text("500"),
        arrivals: text("fixed"),
        warmup: text("300ms"),
        duration: text("2s"),
        sinks: text("warehouse"),
        no_control: true,
        // Nothing here is about a disk, and what else writes to it must not decide.
        durability: text("off"),
        log_fsync: text("none"),
        out: Some(folder.join("out")),
        seed: Some(42),
        ..RawPlan::default()
    };
    change(&mut raw);
    raw.resolve("freshbench selftest".to_owned()).map_err(RunError::measuring)
}

/// Tells nobody.
struct Silent;

impl super::Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn at(&self, _: u64) {}
    fn end(&self) {}
}
