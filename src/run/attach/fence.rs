//! Where the stream is to stop, and the state of the source there.

use super::compare::kept;
use super::{AttachPlan, patiently};
use crate::capture::postgres::{PgFence, PgSnapshot};
use crate::capture::{CaptureError, SourceSnapshot};
use crate::clock::Clock;
use crate::run::RunError;
use crate::source::SourceError;
use crate::source::postgres::{PgOpen, PgOptions, PgSource};
use crate::strategy::{Running, StrategyError, StrategyKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the tailer may take to come to rest for the fence.
const REST_PATIENCE: Duration = Duration::from_secs(60);
/// How long it rests at first; twice as long each time that was too short.
const HOLD_FIRST: Duration = Duration::from_secs(1);
/// States that are fixed until one is whose tables nobody alters at that moment.
const FENCES_MAX: u32 = 20;
const FENCE_PAUSE: Duration = Duration::from_millis(250);
const WHAT: &str = "fixing the state to compare";

/// The state where the stream is to stop. `None` where the strategy itself keeps the last state.
///
/// The server shows such a state where a slot begins, and makes a slot when all transactions have ended that are open. The
/// tailer has to rest meanwhile, or it would be beyond that place before it is known. So it rests for a moment only: if
/// that is too short, it goes on until those have ended who were in the way, and then it is tried again.
pub(super) fn fence(
    plan: &AttachPlan,
    (source, running, clock): (&PgSource, &Running, &Clock),
    stop: &AtomicBool,
) -> Result<Option<SourceSnapshot>, RunError> {
    if plan.strategy != StrategyKind::CdcLog || running.has_failed() {
        return Ok(None);
    }
    let failed = |cause| plainly(plan, cause);
    let (begun, mut hold_max) = (Instant::now(), HOLD_FIRST);
    loop {
        let left = plan.server.patience.wait_max().saturating_sub(begun.elapsed());
        let open = patiently(stop, || Ok(PgOpen::now(&plan.server).map_err(CaptureError::from)?));
        let open = open.map_err(failed)?;
        // At rest first, so that nothing behind the fence is in the warehouse already.
        if !running.hold_source(true, REST_PATIENCE) {
            running.hold_source(false, Duration::ZERO);
            return Err(RunError::measuring("the tailer did not come to rest"));
        }
        let patience = plan.server.patience.at_most(hold_max.min(left));
        let brief = plan.server.with_patience(patience);
        let fixed = patiently(stop, || fix(&brief, (plan.strategy, source), clock, stop));
        if let Ok(snapshot) = &fixed {
            // Before the tailer goes on, or it would take what lies behind.
            running.end_at(snapshot.position());
        }
        running.hold_source(false, Duration::ZERO);
        match fixed {
            Err(StrategyError::Capture(CaptureError::Source(SourceError::Waited { .. }))) if !left.is_zero() => {
                let ended =
                    patiently(stop, || Ok(open.ended(&plan.server, WHAT, begun).map_err(CaptureError::from)?));
                ended.map_err(failed)?;
                hold_max *= 2;
            }
            fixed => return fixed.map(Some).map_err(failed),
        }
    }
}

fn fix(
    server: &PgOptions,
    (strategy, source): (StrategyKind, &PgSource),
    clock: &Clock,
    stop: &AtomicBool,
) -> Result<SourceSnapshot, StrategyError> {
    // The same tables with the same brief patience: somebody may have locked one.
    let source = PgSource::adopt(server, source.tables().to_vec());
    let mut fences = 0;
    loop {
        fences += 1;
        let made = PgFence::make(server)?;
        match PgSnapshot::of_source(&source, kept(strategy), 1, clock, Some(&made.exported)) {
            // Somebody altered a table between the fence and its lock.
            Err(CaptureError::Altered { .. }) if fences < FENCES_MAX && !stop.load(Ordering::Relaxed) => {
                std::thread::sleep(FENCE_PAUSE);
            }
            fixed => return Ok(SourceSnapshot::of_postgres(fixed?)),
        }
    }
}

/// The cause alone, where it is the source's.
fn plainly(plan: &AttachPlan, cause: StrategyError) -> RunError {
    match cause {
        StrategyError::Source(cause) | StrategyError::Capture(CaptureError::Source(cause)) => RunError::Source(cause),
        cause => RunError::Strategy { strategy: plan.strategy.name(), cause: Box::new(cause) },
    }
}
