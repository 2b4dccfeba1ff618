//! Deliberate faults, to show that verification finds them.

use super::{PlantedFault, StrategyError};
use crate::model::{ChangeBuf, ChangeRef, Key, TableId, Transaction, Value};
use crate::transform::TransformSet;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A deliberate fault at work.
#[derive(Debug)]
pub(super) struct Planted {
    fault: PlantedFault,
    transforms: Arc<TransformSet>,
    /// Chances that there were so far.
    seen: u32,
    /// For swapped updates: the first of a pair, by table and key.
    first: HashMap<(TableId, Key), Vec<Value>>,
}

impl PlantedFault {
    /// Which of its chances are taken. Not all, so that there is a right beginning and the loss is small; and several, since the
    /// workload itself may heal one: the next update of a row brings it whole, and a delete takes it away.
    fn spoilt(self) -> RangeInclusive<u32> {
        match self {
            PlantedFault::DropChange => 50..=70,
            PlantedFault::LoseDelete => 5..=15,
            PlantedFault::SwapUpdates => 20..=400,
            PlantedFault::OffByOne | PlantedFault::SwallowError => 30..=80,
        }
    }

    /// What there must be more of for more chances.
    pub(super) fn chance(self) -> &'static str {
        match self {
            PlantedFault::DropChange => "transactions that insert",
            PlantedFault::LoseDelete => "deletes",
            PlantedFault::SwapUpdates => "several updates of one row",
            PlantedFault::OffByOne => "more transactions",
            PlantedFault::SwallowError => "transactions of several changes",
        }
    }
}

/// Appends a change as it is.
fn keep(kept: &mut ChangeBuf, change: ChangeRef<'_>) -> Result<(), StrategyError> {
    match change {
        ChangeRef::Insert { table, row } => kept.push_insert(table, row.values()?)?,
        ChangeRef::Update { table, old_key, row } => {
            let old_key = old_key.map(|key| key.values()).transpose()?;
            kept.push_update(table, old_key.as_deref(), row.values()?)?;
        }
        ChangeRef::Delete { table, key } => kept.push_delete(table, key.values()?)?,
        ChangeRef::Truncate { table } => kept.push_truncate(table),
    }
    Ok(())
}

impl Planted {
    pub(super) fn new(fault: PlantedFault, transforms: &Arc<TransformSet>) -> Planted {
        Planted { fault, transforms: Arc::clone(transforms), seen: 0, first: HashMap::new() }
    }

    /// Counts a chance; whether it is one to take.
    fn takes(&mut self) -> bool {
        self.seen += 1;
        self.fault.spoilt().contains(&self.seen)
    }

    /// Whether a chance was taken, at the end of a run.
    ///
    /// # Errors
    /// [`StrategyError::NeverPlanted`] when none was: everything is then as it should be, and finding nothing proves nothing.
    pub(super) fn check_taken(&self) -> Result<(), StrategyError> {
        let first = *self.fault.spoilt().start();
        if self.seen >= first {
            return Ok(());
        }
        Err(StrategyError::NeverPlanted { fault: self.fault, chances: self.seen, first })
    }

    pub(super) fn spoil(&mut self, transaction: &mut Transaction) -> Result<(), StrategyError> {
        match self.fault {
            PlantedFault::DropChange => self.drop_insert(transaction),
            PlantedFault::LoseDelete => self.lose_delete(transaction),
            PlantedFault::SwapUpdates => self.swap_updates(transaction),
            PlantedFault::OffByOne => {
                if !transaction.changes.is_empty() && self.takes() {
                    transaction.changes.clear();
                }
                Ok(())
            }
            PlantedFault::SwallowError => self.swallow_error(transaction),
        }
    }

    fn drop_insert(&mut self, transaction: &mut Transaction) -> Result<(), StrategyError> {
        // The last insert is dropped: the loss of an update may be healed by the next one of its row, and so may that of
        // an order, while nothing updates the items that follow it.
        let inserts = transaction.changes.iter().filter(|c| matches!(c, Ok(ChangeRef::Insert { .. }))).count();
        if inserts == 0 || !self.takes() {
            return Ok(());
        }
        let mut kept = ChangeBuf::new();
        let mut seen = 0;
        for change in transaction.changes.iter() {
            let change = change?;
            seen += usize::from(matches!(change, ChangeRef::Insert { .. }));
            if seen < inserts || !matches!(change, ChangeRef::Insert { .. }) {
                keep(&mut kept, change)?;
            }
        }
        transaction.changes = kept;
        Ok(())
    }

    /// Keeps the first change of a transaction of several.
    fn swallow_error(&mut self, transaction: &mut Transaction) -> Result<(), StrategyError> {
        if transaction.changes.len() < 2 || !self.takes() {
            return Ok(());
        }
        let mut kept = ChangeBuf::new();
        if let Some(first) = transaction.changes.iter().next() {
            keep(&mut kept, first?)?;
        }
        transaction.changes = kept;
        Ok(())
    }

    fn lose_delete(&mut self, transaction: &mut Transaction) -> Result<(), StrategyError> {
        let mut kept = ChangeBuf::new();
        for change in transaction.changes.iter() {
            let change = change?;
            if !(matches!(change, ChangeRef::Delete { .. }) && self.takes()) {
                keep(&mut kept, change)?;
            }
        }
        transaction.changes = kept;
        Ok(())
    }

    /// Of two updates of one row the second comes first: behind both the row is as the first left it.
    fn swap_updates(&mut self, transaction: &mut Transaction) -> Result<(), StrategyError> {
        let mut kept = ChangeBuf::new();
        for change in transaction.changes.iter() {
            let change = change?;
            let ChangeRef::Update { table, old_key: None, row } = change else {
                keep(&mut kept, change)?;
                continue;
            };
            let values = row.values()?;
            let key = Key::of_row(self.transforms.table(table)?.source(), &values)?;
            match self.first.remove(&(table, key.clone())) {
                Some(first) if self.takes() => kept.push_update(table, None, first.iter().map(Value::as_ref))?,
                Some(_) => kept.push_update(table, None, values)?,
                None => {
                    // A row with a value that was not sent is no whole image, and takes no part.
                    if let Some(whole) = values.iter().map(|value| value.to_value()).collect::<Option<Vec<Value>>>() {
                        self.first.insert((table, key), whole);
                    }
                    kept.push_update(table, None, values)?;
                }
            }
        }
        transaction.changes = kept;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Catalog, ValueRef};

    #[test]
    fn a_fault_without_a_chance_says_so() {
        let transforms = Arc::new(TransformSet::identity(&Catalog { tables: Vec::new() }));
        let single = || {
            let mut changes = ChangeBuf::new();
            changes.push_delete(TableId(0), [ValueRef::Int(1)]).unwrap();
            Transaction { changes, ..Transaction::default() }
        };
        let mut planted = Planted::new(PlantedFault::SwallowError, &transforms);
        (0..100).for_each(|_| planted.spoil(&mut single()).unwrap());
        let said = planted.check_taken().unwrap_err().to_string();
        assert!(said.contains("swallow-error") && said.contains("transactions of several changes"), "{said}");
        let mut planted = Planted::new(PlantedFault::OffByOne, &transforms);
        (0..29).for_each(|_| planted.spoil(&mut single()).unwrap());
        assert!(planted.check_taken().is_err());
        planted.spoil(&mut single()).unwrap();
        planted.check_taken().unwrap();
    }
}
