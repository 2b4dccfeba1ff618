//! What one client does after each of its commits.

use super::direct::{DirectSink, push_row};
use super::rows::written_rows;
use super::{DualWrite, Fate};
use crate::clock::Clock;
use crate::model::{Transaction, Value, ValueRef};
use crate::source::{Application, Inside, Outcome, SourceError};
use crate::strategy::running::Shared;
use crate::strategy::{Setting, StrategyError};
use crate::workload::PlannedTxn;
use rustix::time::{ClockId, clock_gettime};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The first failure of a client's call to a sink: kept here, since a client has nobody to tell.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    first: Arc<Mutex<Option<StrategyError>>>,
}

impl Faults {
    fn note(&self, error: StrategyError) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    pub(super) fn take(&self) -> Option<StrategyError> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The rows that a client has in its hands: as its transaction left them.
#[derive(Debug, Default)]
pub(super) struct InHand {
    pub(super) rows: Transaction,
}

impl InHand {
    /// Reads them inside the transaction.
    pub(super) fn collect(&mut self, txn: &PlannedTxn, inside: &Inside<'_>) -> Result<(), SourceError> {
        let rows = &mut self.rows;
        rows.changes.clear();
        (rows.lsn, rows.committed_at) = (inside.lsn(), inside.now());
        written_rows(txn, inside, &mut |table, key, row| {
            let key: Vec<ValueRef<'_>> = key.iter().map(Value::as_ref).collect();
            push_row(&mut rows.changes, table, &key, row)
                .map_err(|error| SourceError::Unstorable { what: format!("a row for the sinks: {error}") })
        })
    }
}

/// One client of a dual write.
pub(super) struct Writer {
    dual: DualWrite,
    clock: Clock,
    sinks: Vec<Arc<dyn DirectSink>>,
    shared: Arc<Shared>,
    faults: Faults,
    in_hand: InHand,
}

impl Writer {
    pub(super) fn new(
        setting: &Setting,
        sinks: Vec<Arc<dyn DirectSink>>,
        shared: Arc<Shared>,
        faults: Faults,
    ) -> Writer {
        let (dual, clock) = (setting.dual.clone(), setting.clock.clone());
        Writer { dual, clock, sinks, shared, faults, in_hand: InHand::default() }
    }
}

impl Writer {
    /// A short pause exactly, a long one so that an abort is heard.
    fn think(&self, pause: Duration) {
        const EXACT: Duration = Duration::from_millis(10);
        let due = self.clock.now().after(pause);
        if pause > EXACT {
            self.shared.sleep_until(&self.clock, due);
        }
        self.clock.sleep_until(if self.shared.aborted() { self.clock.now() } else { due });
    }
}

/// The CPU time of the calling thread.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Application for Writer {
    fn before_commit(&mut self, txn: &PlannedTxn, inside: &Inside<'_>) -> Result<(), SourceError> {
        self.in_hand.collect(txn, inside)
    }

    fn ended(&mut self, txn: &PlannedTxn, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Committed { .. }) {
            return;
        }
        for (place, sink) in self.sinks.iter().enumerate() {
            match self.dual.fate(txn.index, place) {
                Fate::Dies => return,
                Fate::Think(pause) => self.think(pause),
            }
            if self.shared.aborted() {
                return;
            }
            self.shared.wait_while_held(sink.kind());
            let before = thread_cpu();
            let written = sink.write(&self.in_hand.rows);
            self.shared.add_client_cpu(thread_cpu().saturating_sub(before));
            if let Err(error) = written {
                self.faults.note(error);
                self.shared.abort();
                return;
            }
        }
    }
}
