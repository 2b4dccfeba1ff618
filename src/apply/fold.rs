//! Commit groups become edits.

use super::edits::{CurrentRowError, CurrentRows, EditSet, TableEdits};
use super::error::ApplyError;
use super::group::{FoldFault, TableGroup};
use crate::model::{KeyRef, Lsn, TableId, Transaction, Value};
use crate::transform::{TransformError, TransformSet};
use std::sync::Arc;

/// Folds commit groups by key to the last image.
///
/// Takes whole transactions in commit order ([`Folder::push`]) and gives the edits of all of them
/// ([`Folder::finish`]), which take a sink from the state before the group to the state after its last commit:
///
/// * insert and update are an upsert of the last image, delete is a delete; a key change is a delete of the old
///   key and an upsert of the new one, in statement order, so keys may be swapped through a third;
/// * TRUNCATE drops what the group did to the table before it;
/// * values that were not sent come from the newest image in the group, else from the sink's row as it was before
///   the group (after a key change: the row under the old key). A derived or hashed output column keeps the sink's
///   value when none of its inputs was sent; if only some were, an input that no output column passes through is
///   an error;
/// * a row that does not pass the filter is a delete;
/// * a delete of an unknown key is no error. Applying the same edits again changes nothing.
///
/// After an error the group is lost and the folder refuses work until [`Folder::reset`]: start again from the sink's
/// watermark.
#[derive(Debug)]
pub struct Folder {
    transforms: Arc<TransformSet>,
    groups: Vec<TableGroup>,
    through: Lsn,
    changes: u64,
    poisoned: bool,
    part_bytes_max: usize,
}

/// A table's edits are cut into parts of about so many bytes.
const PART_BYTES_MAX: usize = 256 << 20;

impl Folder {
    /// A folder for the tables of `transforms`, without changes.
    pub fn new(transforms: Arc<TransformSet>) -> Folder {
        let groups = transforms.iter().map(TableGroup::new).collect();
        Folder { transforms, groups, through: Lsn::ZERO, changes: 0, poisoned: false, part_bytes_max: PART_BYTES_MAX }
    }

    /// The same folder with parts that end at other sizes.
    #[must_use]
    pub fn with_part_bytes(self, part_bytes_max: usize) -> Folder {
        Folder { part_bytes_max, ..self }
    }

    /// The transforms it applies.
    pub fn transforms(&self) -> &Arc<TransformSet> {
        &self.transforms
    }

    /// Folds one transaction into the group.
    ///
    /// # Errors
    /// [`ApplyError`] when it comes before an earlier one in commit order, or a change can't be read or has no key.
    pub fn push(&mut self, txn: &Transaction) -> Result<(), ApplyError> {
        if self.poisoned {
            return Err(ApplyError::Poisoned);
        }
        let folded = self.fold(txn);
        self.poisoned = folded.is_err();
        folded
    }

    fn fold(&mut self, txn: &Transaction) -> Result<(), ApplyError> {
        if txn.lsn < self.through {
            return Err(ApplyError::OutOfOrder { after: self.through, lsn: txn.lsn });
        }
        for change in txn.changes.iter() {
            let change = change.map_err(|cause| ApplyError::Codec { lsn: txn.lsn, cause })?;
            let TableId(table) = change.table();
            let unknown = || ApplyError::Transform(TransformError::UnknownTable { table });
            let group = self.groups.get_mut(table as usize).ok_or_else(unknown)?;
            group.fold(change).map_err(|fault| fault.at(txn.lsn))?;
        }
        self.through = txn.lsn;
        self.changes += txn.changes.len() as u64;
        Ok(())
    }

    /// Changes folded since the last [`Folder::finish`].
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The edits of the group; the folder is then empty. `current` is asked only for rows that have values that
    /// were not sent.
    ///
    /// A group without transactions gives no tables and the last group's `through`.
    ///
    /// # Errors
    /// [`ApplyError`] when a row does not pass the transform, or a value that was not sent can't be found.
    pub fn finish(&mut self, current: &dyn CurrentRows) -> Result<EditSet, ApplyError> {
        if self.poisoned {
            return Err(ApplyError::Poisoned);
        }
        let mut tables: Vec<TableEdits> = Vec::new();
        for group in self.groups.iter().filter(|group| !group.is_empty()) {
            match group.edits(current, self.part_bytes_max) {
                Ok(parts) => tables.extend(parts),
                Err(error) => {
                    self.poisoned = true;
                    return Err(error);
                }
            }
        }
        let edits = EditSet { through: self.through, tables, changes: self.changes };
        self.clear();
        Ok(edits)
    }

    /// Forgets everything, also an error: the next transaction may be any.
    pub fn reset(&mut self) {
        self.clear();
        self.through = Lsn::ZERO;
        self.poisoned = false;
    }

    fn clear(&mut self) {
        self.groups.iter_mut().for_each(TableGroup::clear);
        self.changes = 0;
    }
}

impl FoldFault {
    fn at(self, lsn: Lsn) -> ApplyError {
        match self {
            FoldFault::Codec(cause) => ApplyError::Codec { lsn, cause },
            FoldFault::Apply(error) => error,
        }
    }
}

/// A sink without rows to ask for: right for sources that always send whole rows.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCurrentRows;

impl CurrentRows for NoCurrentRows {
    fn current_row(&self, _: TableId, _: KeyRef<'_>) -> Result<Option<Vec<Value>>, CurrentRowError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
