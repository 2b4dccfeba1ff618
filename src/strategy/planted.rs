//! Deliberate faults, to show that verification finds them.

use super::{PlantedFault, StrategyError};
use crate::model::{ChangeBuf, ChangeRef, Transaction};

/// Of the transactions that insert, those from this one on are spoilt...
const FIRST_SPOILT: u32 = 50;
/// ...to this one.
const LAST_SPOILT: u32 = 70;

/// A deliberate fault at work.
#[derive(Debug)]
pub(super) struct Planted {
    fault: PlantedFault,
    seen: u32,
}

impl Planted {
    pub(super) fn new(fault: PlantedFault) -> Planted {
        Planted { fault, seen: 0 }
    }

    pub(super) fn spoil(&mut self, transaction: &mut Transaction) -> Result<(), StrategyError> {
        let PlantedFault::DropChange = self.fault;
        if self.seen >= LAST_SPOILT || !transaction.changes.iter().any(|c| matches!(c, Ok(ChangeRef::Insert { .. }))) {
            return Ok(());
        }
        self.seen += 1;
        if self.seen < FIRST_SPOILT {
            return Ok(());
        }
        // The last insert is dropped: the loss of an update may be healed by the next one of its row, and so may that of
        // an order, while nothing updates the items that follow it. A cancel heals even that one, by deleting the row
        // in the source, so several transactions are spoilt.
        let inserts = transaction.changes.iter().filter(|c| matches!(c, Ok(ChangeRef::Insert { .. }))).count();
        let mut kept = ChangeBuf::new();
        let mut seen = 0;
        for change in transaction.changes.iter() {
            match change? {
                ChangeRef::Insert { table, row } => {
                    seen += 1;
                    if seen < inserts {
                        kept.push_insert(table, row.values()?)?;
                    }
                }
                ChangeRef::Update { table, old_key, row } => {
                    let old_key = old_key.map(|key| key.values()).transpose()?;
                    kept.push_update(table, old_key.as_deref(), row.values()?)?;
                }
                ChangeRef::Delete { table, key } => kept.push_delete(table, key.values()?)?,
                ChangeRef::Truncate { table } => kept.push_truncate(table),
            }
        }
        transaction.changes = kept;
        Ok(())
    }
}
