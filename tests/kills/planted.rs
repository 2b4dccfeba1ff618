//! The child with one bug each, and what must be said of it.

use freshbench::model::{ChangeBuf, ChangeRef, CodecError, RowRef, ValueRef};

/// A bug that can be planted in the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    AcknowledgeBeforeFsync,
    OffByOnePosition,
    DroppedDelete,
    LostUnchangedValue,
    SwallowedError,
    KeyChangeAsUpsert,
    SwappedUpdates,
}

impl Plant {
    pub const ALL: [Plant; 7] = [
        Plant::AcknowledgeBeforeFsync,
        Plant::OffByOnePosition,
        Plant::DroppedDelete,
        Plant::LostUnchangedValue,
        Plant::SwallowedError,
        Plant::KeyChangeAsUpsert,
        Plant::SwappedUpdates,
    ];

    /// The changes as an applier with this bug takes them.
    pub fn spoil(self, changes: &ChangeBuf) -> Result<ChangeBuf, CodecError> {
        let mut changes: Vec<ChangeRef<'_>> = changes.iter().collect::<Result<_, _>>()?;
        if self == Plant::SwappedUpdates {
            swap_updates(&mut changes);
        }
        let mut spoilt = ChangeBuf::new();
        for change in changes {
            match change {
                ChangeRef::Insert { table, row } => spoilt.push_insert(table, row.values()?)?,
                ChangeRef::Update { table, old_key, row } => {
                    let mut row = row.values()?;
                    // Without its old key a row with an unsent value would be refused.
                    let upsert = self == Plant::KeyChangeAsUpsert && !row.contains(&ValueRef::Unchanged);
                    let old_key = old_key.filter(|_| !upsert).map(RowRef::values).transpose()?;
                    if self == Plant::LostUnchangedValue {
                        row.iter_mut().filter(|value| **value == ValueRef::Unchanged).for_each(|v| *v = ValueRef::Null);
                    }
                    spoilt.push_update(table, old_key.as_deref(), row)?;
                }
                ChangeRef::Delete { .. } if self == Plant::DroppedDelete => {}
                ChangeRef::Delete { table, key } => spoilt.push_delete(table, key.values()?)?,
                ChangeRef::Truncate { table } => spoilt.push_truncate(table),
            }
        }
        Ok(spoilt)
    }
}

/// The last two updates of rows that keep their keys, in one table, change places.
fn swap_updates(changes: &mut [ChangeRef<'_>]) {
    let places: Vec<usize> = (0..changes.len())
        .filter(|&at| matches!(changes[at], ChangeRef::Update { table, old_key: None, .. } if table == crate::ledger::ITEMS))
        .collect();
    if let [.., a, b] = places.as_slice() {
        changes.swap(*a, *b);
    }
}
