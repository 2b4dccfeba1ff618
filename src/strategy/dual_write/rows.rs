//! The rows that a transaction wrote, as it leaves them.

use crate::model::{Key, KeyRef, TableId, Value, ValueRef};
use crate::source::{Inside, SourceError};
use crate::workload::{Assign, PlannedTxn, Statement};

/// Told of each key that a transaction wrote: its values, and the row, if there is one.
type EachRow<'a> = dyn FnMut(TableId, &[Value], Option<&[ValueRef<'_>]>) -> Result<(), SourceError> + 'a;

/// Reads every row that the transaction wrote back, inside the transaction, once a key: what an application has in its
/// hands when it has saved its objects.
pub(in crate::strategy) fn written_rows(
    txn: &PlannedTxn,
    inside: &Inside<'_>,
    each: &mut EachRow<'_>,
) -> Result<(), SourceError> {
    let mut seen: Vec<(TableId, Key)> = Vec::new();
    for statement in txn.statements.iter().filter(|statement| statement.is_write()) {
        let schema = inside.schema(statement.table())?;
        for key in keys(statement, &schema.key) {
            let values: Vec<ValueRef<'_>> = key.iter().map(Value::as_ref).collect();
            let mut scratch = Vec::new();
            let encoded = KeyRef::encode_in(&mut scratch, &values)
                .map_err(|error| SourceError::Unstorable { what: format!("the key of a written row: {error}") })?;
            let entry = (statement.table(), encoded.to_key());
            if seen.contains(&entry) {
                continue;
            }
            seen.push(entry);
            inside
                .row(statement.table(), &key, |row| each(statement.table(), &key, row.map(|row| row.as_slice())))??;
        }
    }
    Ok(())
}

/// The keys that a statement touches; the second only if it changes the key.
fn keys(statement: &Statement, key_columns: &[usize]) -> Vec<Vec<Value>> {
    match statement {
        Statement::Insert { row, .. } => {
            vec![key_columns.iter().filter_map(|&column| row.get(column).cloned()).collect()]
        }
        Statement::Update { key, set, .. } => {
            let mut moved = key.clone();
            for (place, column) in key_columns.iter().enumerate() {
                if let Some((_, Assign::Set(value))) = set.iter().find(|(set, _)| set == column)
                    && let Some(slot) = moved.get_mut(place)
                {
                    *slot = value.clone();
                }
            }
            if moved == *key { vec![moved] } else { vec![key.clone(), moved] }
        }
        Statement::Delete { key, .. } => vec![key.clone()],
        Statement::Read { .. } | Statement::Scan { .. } => Vec::new(),
    }
}
