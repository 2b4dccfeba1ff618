//! Faults that are planted must be found and named, and a sawtooth must have the mean that theory says.

use super::super::{RunError, run};
use super::{Found, Silent, plan};
use crate::plan::Plan;
use crate::report::Case;
use crate::strategy::PlantedFault;
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn case(plan: &Plan, name: &str, stop: &AtomicBool) -> Result<Case, RunError> {
    let finished = run(plan, &Silent, stop)?;
    if finished.interrupted {
        return Err(RunError::Interrupted);
    }
    let case = finished.result.case(name).cloned();
    case.ok_or_else(|| RunError::measuring(format!("{name} left no result")))
}

/// The applier spoils some changes: the verification must say which table and key, and what is wrong with it.
pub(super) fn planted(folder: &Path, fault: PlantedFault, stop: &AtomicBool) -> Result<Found, RunError> {
    let plan = plan(folder, "cdc-trigger", |raw| raw.plant = Some(fault.name().to_owned()))?;
    let validation = case(&plan, "cdc-trigger", stop)?.validation;
    let sum = |pick: fn(&crate::report::SinkValidation) -> u64| validation.sinks.iter().map(pick).sum::<u64>();
    let (missing, extra, wrong) = (sum(|s| s.missing), sum(|s| s.extra), sum(|s| s.wrong));
    let (counted, others, kind) = match fault {
        PlantedFault::DropChange => (missing, extra + wrong, "missing"),
        // What was passed over can be of any kind.
        PlantedFault::OffByOne | PlantedFault::SwallowError => (missing + extra + wrong, 0, "missing, extra or wrong"),
        PlantedFault::LoseDelete => (extra, missing, "extra"),
        PlantedFault::SwapUpdates => (wrong, missing + extra, "wrong"),
    };
    let example = validation.sinks.iter().flat_map(|sink| &sink.examples).find(|example| example.contains("key "));
    // An update of a row whose insert was dropped, or whose key stays, can be no other difference than these.
    let passed =
        !validation.passed && counted > 0 && others == 0 && example.is_some() && validation.source_equals_ledger;
    let seen = format!(
        "{missing} missing, {extra} extra, {wrong} wrong; {}",
        example.map_or("no key is named".to_owned(), |example| shortened(example))
    );
    Ok((passed, format!("validation fails, and names keys that are {kind}"), seen))
}

fn shortened(example: &str) -> String {
    const LONGEST: usize = 90;
    if example.chars().count() <= LONGEST {
        return example.to_owned();
    }
    format!("{}...", example.chars().take(LONGEST).collect::<String>())
}

/// A full refresh every P that takes D: the mean age is D + P/2.
pub(super) fn sawtooth(folder: &Path, stop: &AtomicBool) -> Result<Found, RunError> {
    // Whole intervals, so that no part of a tooth weighs more than another.
    let plan = plan(folder, "full-refresh", |raw| {
        raw.batch_interval = Some("500ms".to_owned());
        raw.warmup = Some("1s".to_owned());
        raw.duration = Some("5s".to_owned());
    })?;
    let case = case(&plan, "full-refresh", stop)?;
    let value = |id: &str| case.value(id).ok_or_else(|| RunError::measuring(format!("no figure {id}")));
    let (age, predicted) = (value("freshness.age.mean")?, value("freshness.age.predicted_mean")?);
    let duration = value("batch.duration.mean")?;
    // The oldest missing commit is a gap between two commits younger than the snapshot, at 500 a second 2 ms; D differs from batch to batch.
    let (error, allowed) = ((age - predicted).abs(), 0.05 * predicted);
    let seen = format!(
        "D {:.0} ms, P 500 ms: predicted {:.1} ms, measured {:.1} ms",
        duration * 1e3,
        predicted * 1e3,
        age * 1e3
    );
    Ok((error <= allowed && case.validation.passed, "measured and predicted within 5 %".to_owned(), seen))
}
