//! The history that the fault matrix plays, and the plain model of it.

use super::super::{Version, Warehouse, row_values};
use super::support::*;
use crate::apply::edits::EditSet;
use crate::model::{Key, Lsn, TableId, Value};
use crate::sink::SinkError;
use std::collections::BTreeSet;

const INTS: TableId = TableId(0);
const TEXTS: TableId = TableId(2);

pub(super) type State = [Rows; 2];

/// One thing that a user does.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Upserts and deletes in both tables, published as this watermark.
    Apply {
        lsn: u64,
        upserts: Vec<i64>,
        deletes: Vec<i64>,
        truncate: bool,
    },
    Checkpoint,
    /// Replaces the first table.
    Load {
        lsn: u64,
        ids: Vec<i64>,
    },
    /// Lets go and opens again.
    Reopen,
}

pub(super) fn history(seed: u64) -> Vec<Act> {
    let mut random = Random(seed);
    let mut acts = Vec::new();
    let mut lsn = 0;
    for round in 0..5 {
        for _ in 0..1 + round % 2 {
            lsn += 1;
            let mut some = |count: u64| -> Vec<i64> {
                let ids: BTreeSet<i64> = (0..count).map(|_| random.below(90) as i64).collect();
                ids.into_iter().collect()
            };
            let (upserts, deletes) = (some(25), some(6));
            acts.push(Act::Apply { lsn, upserts, deletes, truncate: round == 3 });
        }
        match round {
            2 => {
                lsn += 1;
                acts.push(Act::Load { lsn, ids: (0..70).collect() });
            }
            _ => acts.push(Act::Checkpoint),
        }
        if round % 3 == 1 {
            acts.push(Act::Reopen);
        }
    }
    acts
}

fn text_row(id: i64, n: i64) -> Vec<Value> {
    vec![Value::text(format!("t{id}")), Value::Int(n), Value::Int(0)]
}

/// The model: what both tables hold after `act`.
pub(super) fn after(state: &State, act: &Act) -> State {
    let mut state = state.clone();
    let schemas = [catalog().tables[0].clone(), catalog().tables[2].clone()];
    match act {
        Act::Apply { lsn, upserts, deletes, truncate } => {
            if *truncate {
                state[0].clear();
            }
            for id in deletes {
                state[0].remove(&Key::Int(*id));
                state[1].remove(&key_of(&schemas[1], &text_row(*id, 0)));
            }
            for row in int_rows(upserts.iter().copied(), *lsn as i64) {
                state[0].insert(key_of(&schemas[0], &row), row);
            }
            for id in upserts {
                let row = text_row(*id, *lsn as i64);
                state[1].insert(key_of(&schemas[1], &row), row);
            }
        }
        Act::Load { lsn, ids } => {
            state[0] = int_rows(ids.iter().copied(), *lsn as i64)
                .into_iter()
                .map(|row| (key_of(&schemas[0], &row), row))
                .collect();
        }
        Act::Checkpoint | Act::Reopen => {}
    }
    state
}

pub(super) fn edits_of(act: &Act) -> EditSet {
    let Act::Apply { lsn, upserts, deletes, truncate } = act else { panic!("no edits") };
    let text_key = |id: &i64| key_of(&catalog().tables[2], &text_row(*id, 0));
    let keys: Vec<Key> = deletes.iter().map(|id| Key::Int(*id)).collect();
    let texts: Vec<Key> = deletes.iter().map(text_key).collect();
    let rows: Vec<_> = upserts.iter().map(|id| text_row(*id, *lsn as i64)).collect();
    let ints = int_rows(upserts.iter().copied(), *lsn as i64);
    let tables = vec![edits(&catalog(), INTS, *truncate, &keys, &ints), edits(&catalog(), TEXTS, false, &texts, &rows)];
    edit_set(*lsn, tables)
}

pub(super) fn load(warehouse: &mut Warehouse, act: &Act) -> Result<(), SinkError> {
    let Act::Load { lsn, ids } = act else { panic!("no load") };
    let bulk = warehouse.bulk();
    let rows = int_rows(ids.iter().copied(), *lsn as i64);
    bulk.write(INTS, batch_of(&catalog().tables[0], &rows))?;
    bulk.publish(warehouse, Lsn(*lsn))?;
    Ok(())
}

pub(super) fn all_of(version: &Version) -> Result<State, String> {
    let mut all = State::default();
    for (place, table) in [INTS, TEXTS].into_iter().enumerate() {
        let schema = version.catalog().table(table).expect("a table");
        for batch in version.scan(table, None, None) {
            let batch = batch.map_err(|error| error.to_string())?;
            for row in 0..batch.num_rows() {
                let row = row_values(&batch, row);
                if all[place].insert(key_of(schema, &row), row).is_some() {
                    return Err("a key came twice".to_owned());
                }
            }
        }
    }
    Ok(all)
}
