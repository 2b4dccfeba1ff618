//! What a transaction comes to, where its changes of a table are whole rows that came and went.
//!
//! A key that is checked at the commit only may belong to several rows in between: `UPDATE t SET id = id + 1` makes row 2 out of
//! row 1 while there is another row 2, and which of the two the next update means does not follow from its key. So such
//! tables' changes are captured as whole rows, each as a row that went (a delete that carries all columns) or one that came (an
//! insert). A row that came and went again is nothing, in whatever order the two are told, so what is left over by the commit is
//! exact: rows that were there before and went, and rows that are there now. At a commit keys are unique again.

use crate::capture::CaptureError;
use crate::model::{ChangeBuf, ChangeRef, CodecError, Key, RowRef, RowValues, TableId, TableSchema, text};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// The rows of one table that came and went, in the order in which they were first seen.
#[derive(Default)]
struct Rows<'a> {
    truncated: bool,
    numbers: HashMap<&'a [u8], usize>,
    /// Each with how often it came, less how often it went.
    seen: Vec<(RowRef<'a>, i64)>,
}

/// What becomes of one key.
#[derive(Default)]
struct Outcome<'a> {
    went: Option<RowRef<'a>>,
    came: Option<RowRef<'a>>,
}

/// The changes of one transaction with those of the tables that `whole` knows summed up: at most one for each key, and behind all
/// others. The others stay as they are.
///
/// # Errors
/// [`CaptureError::Unfit`] when two rows of one key are left over, or a row went that was not there.
pub(super) fn net<'t>(
    changes: ChangeBuf,
    whole: impl Fn(TableId) -> Option<&'t TableSchema>,
) -> Result<ChangeBuf, CaptureError> {
    let damaged = |source: CodecError| CaptureError::Codec { table: "of a transaction".to_owned(), source };
    let mut summed: Vec<(TableId, Rows<'_>)> = Vec::new();
    let mut out = ChangeBuf::new();
    for change in changes.iter() {
        let change = change.map_err(damaged)?;
        let table = change.table();
        if whole(table).is_none() {
            push(&mut out, change).map_err(damaged)?;
            continue;
        }
        let place = match summed.iter().position(|(known, _)| *known == table) {
            Some(place) => place,
            None => {
                summed.push((table, Rows::default()));
                summed.len() - 1
            }
        };
        if let Some((_, rows)) = summed.get_mut(place) {
            rows.take(change);
        }
    }
    for (table, rows) in &summed {
        let Some(schema) = whole(*table) else { continue };
        rows.finish(*table, schema, &mut out)?;
    }
    Ok(out)
}

fn push(out: &mut ChangeBuf, change: ChangeRef<'_>) -> Result<(), CodecError> {
    match change {
        ChangeRef::Insert { table, row } => out.push_insert(table, row.values()?),
        ChangeRef::Update { table, old_key: None, row } => out.push_update(table, None, row.values()?),
        ChangeRef::Update { table, old_key: Some(key), row } => {
            out.push_update(table, Some(&key.values()?), row.values()?)
        }
        ChangeRef::Delete { table, key } => out.push_delete(table, key.values()?),
        ChangeRef::Truncate { table } => {
            out.push_truncate(table);
            Ok(())
        }
    }
}

impl<'a> Rows<'a> {
    fn take(&mut self, change: ChangeRef<'a>) {
        match change {
            ChangeRef::Insert { row, .. } | ChangeRef::Update { row, .. } => self.count(row, 1),
            ChangeRef::Delete { key, .. } => self.count(key, -1),
            ChangeRef::Truncate { .. } => *self = Rows { truncated: true, ..Rows::default() },
        }
    }

    fn count(&mut self, row: RowRef<'a>, by: i64) {
        let number = match self.numbers.entry(row.as_bytes()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.seen.push((row, 0));
                *new.insert(self.seen.len() - 1)
            }
        };
        if let Some((_, count)) = self.seen.get_mut(number) {
            *count += by;
        }
    }

    fn finish(&self, table: TableId, schema: &TableSchema, out: &mut ChangeBuf) -> Result<(), CaptureError> {
        let codec = |source| CaptureError::Codec { table: schema.name.clone(), source };
        if self.truncated {
            out.push_truncate(table);
        }
        let mut numbers: HashMap<Key, usize> = HashMap::new();
        let mut outcomes: Vec<Outcome<'_>> = Vec::new();
        for &(row, count) in self.seen.iter().filter(|(_, count)| *count != 0) {
            let values = row.values().map_err(codec)?;
            let key = Key::of_row(schema, &values).map_err(|_| contradiction(schema, &values))?;
            let number = *numbers.entry(key).or_insert_with(|| {
                outcomes.push(Outcome::default());
                outcomes.len() - 1
            });
            let Some(outcome) = outcomes.get_mut(number) else { continue };
            let place = if count > 0 { &mut outcome.came } else { &mut outcome.went };
            if count.abs() != 1 || place.replace(row).is_some() || (count < 0 && self.truncated) {
                return Err(contradiction(schema, &values));
            }
        }
        // What went goes first, so that nothing depends on the order of the rest.
        for outcome in outcomes.iter().filter(|outcome| outcome.came.is_none()) {
            let Some(row) = outcome.went else { continue };
            let mut key = RowValues::new();
            row.pick(&schema.key, &mut key).map_err(codec)?;
            out.push_delete(table, key).map_err(codec)?;
        }
        for outcome in &outcomes {
            let Some(row) = outcome.came else { continue };
            let values = row.values().map_err(codec)?;
            match outcome.went {
                Some(_) => out.push_update(table, None, values).map_err(codec)?,
                None => out.push_insert(table, values).map_err(codec)?,
            }
        }
        Ok(())
    }
}

#[cold]
fn contradiction(schema: &TableSchema, row: &[crate::model::ValueRef<'_>]) -> CaptureError {
    let key = text::describe_values(schema.key.iter().filter_map(|&place| row.get(place).copied()));
    let reason = format!(
        "by a commit, more than one row with the key ({key}) came or went, so rows can't be told apart by it; was its \
         primary key dropped? Nothing of that transaction was shown; begin with a new snapshot"
    );
    CaptureError::Unfit { table: schema.name.clone(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Column, ColumnType, ValueRef};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const T: TableId = TableId(0);
    const OTHER: TableId = TableId(1);

    fn schema() -> TableSchema {
        let columns = vec![Column::required("id", ColumnType::Int64), Column::required("v", ColumnType::Int64)];
        TableSchema { name: "t".to_owned(), columns, key: vec![0] }
    }

    fn row(id: i64, v: i64) -> [ValueRef<'static>; 2] {
        [ValueRef::Int(id), ValueRef::Int(v)]
    }

    fn netted(changes: ChangeBuf) -> Result<ChangeBuf, CaptureError> {
        let schema = schema();
        net(changes, |table| (table == T).then_some(&schema))
    }

    /// Applies changes by key, as a sink does.
    fn apply(changes: &ChangeBuf, rows: &mut BTreeMap<i64, i64>) {
        let ints = |row: RowRef<'_>| -> Vec<i64> {
            let int = |value: &ValueRef<'_>| if let ValueRef::Int(v) = value { *v } else { panic!("{value:?}") };
            row.values().unwrap().iter().map(int).collect()
        };
        for change in changes.iter().map(Result::unwrap).filter(|change| change.table() == T) {
            match change {
                ChangeRef::Insert { row, .. } => {
                    let row = ints(row);
                    assert_eq!(rows.insert(row[0], row[1]), None, "inserted twice");
                }
                ChangeRef::Update { row, .. } => {
                    let row = ints(row);
                    assert!(rows.insert(row[0], row[1]).is_some(), "an update of nothing");
                }
                ChangeRef::Delete { key, .. } => {
                    let key = ints(key);
                    assert_eq!(key.len(), 1, "a key, not a row");
                    assert!(rows.remove(&key[0]).is_some(), "a delete of nothing");
                }
                ChangeRef::Truncate { .. } => rows.clear(),
            }
        }
    }

    #[test]
    fn every_key_moves_by_one() {
        let mut changes = ChangeBuf::new();
        for id in 1..=3 {
            changes.push_delete(T, row(id, 10 * id)).unwrap();
            changes.push_insert(T, row(id + 1, 10 * id)).unwrap();
        }
        let mut rows = BTreeMap::from([(1, 10), (2, 20), (3, 30)]);
        apply(&netted(changes).unwrap(), &mut rows);
        assert_eq!(rows, BTreeMap::from([(2, 10), (3, 20), (4, 30)]));
    }

    #[test]
    fn other_tables_stay_and_two_rows_of_a_key_are_refused() {
        let mut changes = ChangeBuf::new();
        changes.push_update(OTHER, Some(&[ValueRef::Int(1)]), row(2, 2)).unwrap();
        changes.push_delete(OTHER, [ValueRef::Int(3)]).unwrap();
        let kept = netted(changes.clone()).unwrap();
        assert_eq!(kept, changes);
        changes.push_insert(T, row(7, 1)).unwrap();
        changes.push_insert(T, row(7, 2)).unwrap();
        let refused = netted(changes).unwrap_err().to_string();
        assert!(refused.contains("\"t\"") && refused.contains("(7)"), "{refused}");
    }

    /// A statement of a transaction on a table whose key is checked at the commit: by row, not by key.
    #[derive(Clone, Debug)]
    enum Step {
        Insert(i64),
        Move { row: usize, to: i64 },
        Change { row: usize },
        Delete { row: usize },
        Truncate,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..6i64).prop_map(Step::Insert),
            6 => (0..8usize, 0..6i64).prop_map(|(row, to)| Step::Move { row, to }),
            3 => (0..8usize).prop_map(|row| Step::Change { row }),
            3 => (0..8usize).prop_map(|row| Step::Delete { row }),
            1 => Just(Step::Truncate),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn what_is_left_is_what_the_database_has(
            before in prop::collection::btree_map(0..6i64, 100..103i64, 0..5),
            steps in prop::collection::vec(step(), 0..14),
            shuffle in any::<bool>(),
        ) {
            // Rows as the database has them: a list, in which keys may repeat until the commit.
            let mut heap: Vec<(i64, i64)> = before.clone().into_iter().collect();
            let mut log: Vec<Option<(bool, (i64, i64))>> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                // Few values, so that rows which are equal meet.
                let v = 100 + number as i64 % 3;
                match step {
                    Step::Insert(id) => {
                        heap.push((id, v));
                        log.push(Some((true, (id, v))));
                    }
                    Step::Move { row, .. } | Step::Change { row } | Step::Delete { row } if row >= heap.len() => {}
                    Step::Move { row, to } => {
                        log.push(Some((false, heap[row])));
                        heap[row].0 = to;
                        log.push(Some((true, heap[row])));
                    }
                    Step::Change { row } => {
                        log.push(Some((false, heap[row])));
                        heap[row].1 = v;
                        log.push(Some((true, heap[row])));
                    }
                    Step::Delete { row } => log.push(Some((false, heap.remove(row)))),
                    Step::Truncate => {
                        heap.clear();
                        log.push(None);
                    }
                }
            }
            let mut left: BTreeMap<i64, i64> = BTreeMap::new();
            let unique = heap.iter().all(|&(id, v)| left.insert(id, v).is_none());
            prop_assume!(unique);
            if shuffle && !log.contains(&None) {
                log.reverse();
            }
            let mut changes = ChangeBuf::new();
            for entry in log {
                match entry {
                    Some((true, (id, v))) => changes.push_insert(T, row(id, v)).unwrap(),
                    Some((false, (id, v))) => changes.push_delete(T, row(id, v)).unwrap(),
                    None => changes.push_truncate(T),
                }
            }
            let mut rows = before;
            apply(&netted(changes).unwrap(), &mut rows);
            prop_assert_eq!(rows, left);
        }
    }
}
