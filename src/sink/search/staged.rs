//! Edits that are applied and not published: for reading the present row of a key.
//!
//! They are kept as they came (columns are shared, not copied) and looked through only when somebody asks.

use super::SearchError;
use super::document::Rows;
use super::shape::Shape;
use crate::apply::edits::{EditSet, TableEdits};
use crate::model::{Key, KeyRef, TableId, Value};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// What the staged edits say of a key.
pub(super) enum Found {
    /// Nothing: the published index has the answer.
    Nothing,
    /// The row is gone.
    Gone,
    /// The kept values of the row.
    Row(Vec<Value>),
}

#[derive(Default)]
pub(super) struct Staged {
    edits: Vec<TableEdits>,
    places: RefCell<Places>,
}

/// Where the last word on each key is.
#[derive(Default)]
struct Places {
    /// How many of the edits were looked through.
    seen: usize,
    truncated: HashSet<TableId>,
    /// The edit and the row in it; `None` for a delete.
    keys: HashMap<(TableId, Key), Option<(usize, usize)>>,
}

impl Staged {
    pub(super) fn push(&mut self, edits: &EditSet, shape: &Shape) {
        let indexed = |edit: &&TableEdits| shape.table(edit.table).is_ok_and(|table| table.is_indexed());
        self.edits.extend(edits.tables.iter().filter(indexed).cloned());
    }

    pub(super) fn clear(&mut self) {
        *self = Staged::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    pub(super) fn find(&self, shape: &Shape, table: TableId, key: KeyRef<'_>) -> Result<Found, SearchError> {
        if self.edits.is_empty() {
            return Ok(Found::Nothing);
        }
        let mut places = self.places.borrow_mut();
        for (at, edit) in self.edits.iter().enumerate().skip(places.seen) {
            places.take(at, edit);
        }
        places.seen = self.edits.len();
        match places.keys.get(&(table, key.to_key())) {
            Some(None) => Ok(Found::Gone),
            Some(Some((edit, row))) => {
                let Some(edit) = self.edits.get(*edit) else { return Ok(Found::Nothing) };
                Rows::new(shape.table(table)?, shape.fields, &edit.upserts).map(|rows| Found::Row(rows.values(*row)))
            }
            None if places.truncated.contains(&table) => Ok(Found::Gone),
            None => Ok(Found::Nothing),
        }
    }
}

impl Places {
    fn take(&mut self, at: usize, edit: &TableEdits) {
        if edit.truncate {
            self.keys.retain(|(table, _), _| *table != edit.table);
            self.truncated.insert(edit.table);
        }
        for key in edit.deletes.iter() {
            self.keys.insert((edit.table, key.to_key()), None);
        }
        for (row, key) in edit.upsert_keys.iter().enumerate() {
            self.keys.insert((edit.table, key.to_key()), Some((at, row)));
        }
    }
}
