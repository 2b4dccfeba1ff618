//! `outbox`: the application writes what it changed into a table of the record system, in the same transaction, and
//! a relay moves it on in commit order. This is how people repair a dual write: there is only one write that can fail.

use super::dual_write::written_rows;
use super::running::{Applications, Running};
use super::{Setting, StrategyError, cdc};
use crate::capture::{ChangeCapture, Outbox};
use crate::source::{Application, Inside, Outcome, SourceError};
use crate::workload::PlannedTxn;

pub(super) fn start(setting: &Setting) -> Result<Running, StrategyError> {
    ChangeCapture::setup_outbox(&setting.source)?;
    let writer = Outbox::new(&setting.source);
    let applications: Applications = Box::new(move |_| Box::new(Writer { outbox: writer.clone() }));
    Ok(cdc::start(setting)?.with_applications(applications))
}

struct Writer {
    outbox: Outbox,
}

impl Application for Writer {
    fn before_commit(&mut self, txn: &PlannedTxn, inside: &Inside<'_>) -> Result<(), SourceError> {
        written_rows(txn, inside, &mut |table, key, row| match row {
            Some(row) => self.outbox.present(inside, table, row),
            None => self.outbox.absent(inside, table, key.iter().map(crate::model::Value::as_ref)),
        })
    }

    fn ended(&mut self, _: &PlannedTxn, _: &Outcome) {}
}
