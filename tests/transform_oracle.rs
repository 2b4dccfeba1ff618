//! Transform and fold against the oracle: a sink fed with folded commit groups of a workload holds what the oracle,
//! which shares no code with them, expects at each watermark.

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use freshbench::apply::{CurrentRowError, CurrentRows, EditSet, Folder};
use freshbench::model::{
    Catalog, ColumnType, Decimal, Key, KeyRef, Lsn, TableId, TableSchema, Transaction, Value, ValueRef,
};
use freshbench::oracle::{ChangeKind, Replay, Shape, diff};
use freshbench::transform::{Kept, TransformSet};
use freshbench::workload::{Overrides, PlannedTxn, TransformSpec, TxnIndex, Workload};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Rows of all tables by key, as edits leave them.
struct Sink {
    catalog: Catalog,
    tables: Vec<BTreeMap<Key, Vec<Value>>>,
}

impl CurrentRows for Sink {
    fn current_row(&self, table: TableId, key: KeyRef<'_>) -> Result<Option<Vec<Value>>, CurrentRowError> {
        Ok(self.tables[table.index()].get(&key.to_key()).cloned())
    }
}

impl Sink {
    fn apply(&mut self, edits: &EditSet) {
        for edit in &edits.tables {
            let rows = &mut self.tables[edit.table.index()];
            if edit.truncate {
                rows.clear();
            }
            edit.deletes.iter().for_each(|key| drop(rows.remove(&key.to_key())));
            let schema = &self.catalog.tables[edit.table.index()];
            for (key, row) in edit.upsert_keys.iter().zip(values(schema, &edit.upserts)) {
                rows.insert(key.to_key(), row);
            }
        }
    }
}

fn values<'a>(schema: &'a TableSchema, batch: &'a RecordBatch) -> impl Iterator<Item = Vec<Value>> + 'a {
    (0..batch.num_rows())
        .map(move |row| schema.columns.iter().zip(batch.columns()).map(|(c, a)| value(c.column_type, a, row)).collect())
}

fn value(column_type: ColumnType, array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match column_type {
        ColumnType::Bool => Value::Bool(array.as_boolean().value(row)),
        ColumnType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        ColumnType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row)),
        ColumnType::Float32 => Value::Float32(array.as_primitive::<Float32Type>().value(row)),
        ColumnType::Decimal { scale, .. } => {
            let unscaled = array.as_primitive::<Decimal128Type>().value(row);
            Value::Decimal(Box::new(Decimal { unscaled, scale }))
        }
        ColumnType::Text => Value::text(array.as_string::<i32>().value(row)),
        ColumnType::Bytes => Value::Bytes(array.as_binary::<i32>().value(row).into()),
        ColumnType::Date => Value::Date(array.as_primitive::<Date32Type>().value(row)),
        ColumnType::Timestamp => Value::Timestamp(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        ColumnType::LocalTimestamp => {
            Value::LocalTimestamp(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
    }
}

/// Runs a workload in groups of commits, with every unchanged text left out of the updates, and compares every table
/// at every group's end.
fn follow(name: &str, specs: &[TransformSpec], group_commits: usize) -> Outcome {
    let overrides = Overrides { rows: Some(100), ..Overrides::default() };
    let workload = Workload::load(name, &overrides)?;
    let catalog = workload.catalog();
    let set = Arc::new(TransformSet::compile(catalog, specs)?);
    let shape = Shape::new(catalog, specs);
    let commits: Vec<(Lsn, TxnIndex)> = workload
        .stream()
        .take(300)
        .filter(PlannedTxn::is_write)
        .zip(1..)
        .map(|(txn, lsn)| (Lsn(lsn), txn.index))
        .collect();
    let mut replay = Replay::of_workload(&workload, &commits)?;
    let mut folder = Folder::new(set.clone());
    let mut sink = Sink { catalog: set.output().clone(), tables: vec![BTreeMap::new(); catalog.tables.len()] };
    let mut load = Transaction::default();
    for (id, _) in catalog.iter() {
        for row in workload.initial_rows(id) {
            load.changes.push_insert(id, row.iter().map(Value::as_ref))?;
        }
    }
    folder.push(&load)?;
    sink.apply(&folder.finish(&sink)?);
    for group in commits.chunks(group_commits) {
        for &(lsn, _) in group {
            let txn = transaction(&mut replay, lsn)?;
            folder.push(&txn)?;
        }
        let edits = folder.finish(&sink)?;
        sink.apply(&edits);
        for (id, table) in replay.state().iter() {
            let expected = shape.apply(id, table)?;
            let diff = diff(&expected, || sink.tables[id.index()].values().cloned().map(Ok::<_, Infallible>))?;
            assert!(diff.is_equal(), "{name} at {}: {:?}", edits.through, diff.examples);
        }
    }
    Ok(())
}

/// The changes of one commit, as a log would send them: rows before and after, texts left out that did not change.
fn transaction(
    replay: &mut Replay<impl Iterator<Item = PlannedTxn>>,
    lsn: Lsn,
) -> Result<Transaction, Box<dyn std::error::Error>> {
    let before = replay.state().clone();
    let mut last: BTreeMap<(TableId, Key), ChangeKind> = BTreeMap::new();
    replay.advance(lsn, &mut |event| {
        last.insert((event.table, event.key.clone()), event.kind);
    })?;
    let mut txn = Transaction { lsn, ..Transaction::default() };
    for (table, key) in last.keys() {
        let Some(old_table) = before.table(*table) else { continue };
        let old = old_table.rows.get(key);
        match (old, replay.state().table(*table).and_then(|t| t.rows.get(key))) {
            (_, Some(new)) => {
                let sent = new.iter().enumerate().map(|(place, value)| match (value, old) {
                    (Value::Text(_), Some(old)) if old[place] == *value && !old_table.schema.key.contains(&place) => {
                        ValueRef::Unchanged
                    }
                    _ => value.as_ref(),
                });
                match old {
                    Some(_) => txn.changes.push_update(*table, None, sent)?,
                    None => txn.changes.push_insert(*table, sent)?,
                }
            }
            (Some(old), None) => {
                let key = old_table.schema.key.iter().map(|&place| old[place].as_ref());
                txn.changes.push_delete(*table, key)?;
            }
            (None, None) => {}
        }
    }
    Ok(txn)
}

#[test]
fn the_shop_is_followed_through_its_own_transforms() -> Outcome {
    let workload = Workload::load("orders", &Overrides::default())?;
    for group_commits in [1, 7, 300] {
        follow("orders", workload.transforms(), group_commits)?;
    }
    Ok(())
}

#[test]
fn records_are_followed_unchanged() -> Outcome {
    follow("ycsb-a", &[], 10)?;
    follow("ycsb-d", &[], 10)
}

/// Every pair of types that has a cast, and every filter, on values of every kind: transform and oracle agree on the
/// value, or both refuse the row.
const DEFINITIONS: [(&str, &str); 24] = [
    ("i", "columns = [{ column = 'v', type = 'float64' }]"),
    ("i", "columns = [{ column = 'v', type = 'decimal(12,2)' }]"),
    ("i", "columns = [{ column = 'v', type = 'decimal(12,2)', scaled = true }]"),
    ("i", "columns = [{ column = 'v', type = 'bool' }]"),
    ("i", "columns = [{ column = 'v', type = 'text' }]"),
    ("i", "filter = { column = 'v', op = '>=', value = 3 }"),
    ("f", "columns = [{ column = 'v', type = 'int64' }]"),
    ("f", "columns = [{ column = 'v', type = 'text' }]"),
    ("f", "filter = { column = 'v', op = '<', value = 0.5 }"),
    ("f", "filter = { column = 'v', op = '!=', value = 0 }"),
    ("d", "columns = [{ column = 'v', type = 'decimal(38,1)' }]"),
    ("d", "columns = [{ column = 'v', type = 'int64' }]"),
    ("d", "columns = [{ column = 'v', type = 'float64' }]"),
    ("d", "columns = [{ column = 'v', type = 'text' }]"),
    ("d", "filter = { column = 'v', op = '<=', value = 10.5 }"),
    ("t", "columns = [{ column = 'v', hash = 'sha256', type = 'bytes' }, { as = 'l', derive = { length = 'v' } }]"),
    ("t", "columns = [{ column = 'v', type = 'int64' }]"),
    ("t", "columns = [{ column = 'v', type = 'float64' }]"),
    ("t", "filter = { column = 'v', op = '<', value = 'b' }"),
    ("D", "columns = [{ column = 'v', type = 'timestamp' }, { as = 'y', derive = { year_of = 'v' } }]"),
    ("D", "filter = { column = 'v', op = '>', value = '1999-12-31' }"),
    ("T", "columns = [{ column = 'v', type = 'date' }, { as = 'y', derive = { year_of = 'v' } }]"),
    ("T", "columns = [{ column = 'v', type = 'text' }]"),
    ("T", "filter = { column = 'v', op = '<', value = '2025-01-01T00:00:00.5Z' }"),
];

fn any_of(kind: &str) -> (ColumnType, BoxedStrategy<Value>) {
    let (column_type, values) = match kind {
        "i" => (ColumnType::Int64, prop_oneof![-3..5i64, any::<i64>()].prop_map(Value::Int).boxed()),
        "f" => {
            let some = prop_oneof![Just(-0.0), Just(f64::NAN), Just(0.5), (-9..9i32).prop_map(f64::from), any::<f64>()];
            (ColumnType::Float64, some.prop_map(Value::Float).boxed())
        }
        "d" => {
            let unscaled =
                prop_oneof![-2000..2000i128, Just(1050), Just(10i128.pow(20)), -(10i128.pow(38)) + 1..10i128.pow(38)];
            let decimal = |unscaled| Value::Decimal(Box::new(Decimal { unscaled, scale: 2 }));
            (ColumnType::Decimal { precision: 38, scale: 2 }, unscaled.prop_map(decimal).boxed())
        }
        "t" => (
            ColumnType::Text,
            prop_oneof!["[-+]?[0-9]{0,3}", "[abé ]{0,3}", any::<String>()].prop_map(Value::text).boxed(),
        ),
        "D" => {
            let days = prop_oneof![Just(i32::MAX), Just(i32::MIN), 10_900..11_000, any::<i32>()];
            (ColumnType::Date, days.prop_map(Value::Date).boxed())
        }
        _ => {
            let us = prop_oneof![Just(i64::MAX), Just(i64::MIN), Just(1_735_689_600_500_000), -5..5i64, any::<i64>()];
            (ColumnType::Timestamp, us.prop_map(Value::Timestamp).boxed())
        }
    };
    (column_type, prop_oneof![1 => Just(Value::Null), 9 => values].boxed())
}

fn any_case() -> impl Strategy<Value = (&'static str, ColumnType, Value)> {
    prop::sample::select(DEFINITIONS.to_vec()).prop_flat_map(|(kind, spec)| {
        let (column_type, values) = any_of(kind);
        values.prop_map(move |value| (spec, column_type, value))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn transform_and_oracle_agree((spec, column_type, v) in any_case()) {
        use freshbench::model::Column;
        let columns = vec![Column::required("id", ColumnType::Int64), Column::nullable("v", column_type)];
        let catalog = Catalog { tables: vec![TableSchema::new("t", columns, vec![0]).unwrap()] };
        let specs = [toml::from_str::<TransformSpec>(&format!("table = 't'\n{spec}")).unwrap()];
        let set = TransformSet::compile(&catalog, &specs).unwrap();
        let transform = set.table(TableId(0)).unwrap();
        let mut builders = transform.builders(1);
        let actual = builders.push(&[ValueRef::Int(1), v.as_ref()]).map(|kept| match kept {
            Kept::Yes => builders.finish().ok().and_then(|b| values(transform.output(), &b).next()),
            Kept::FilteredOut => None,
        });
        let mut source = freshbench::oracle::ExpectedState::new(&catalog);
        source.load(TableId(0), [vec![Value::Int(1), v]]).unwrap();
        let expected = Shape::new(&catalog, &specs).apply(TableId(0), source.table(TableId(0)).unwrap());
        let expected = expected.map(|table| table.rows.into_values().next());
        match (actual, expected) {
            (Ok(actual), Ok(expected)) => prop_assert_eq!(actual, expected),
            (Err(_), Err(_)) => {}
            (actual, expected) => prop_assert!(false, "{actual:?} against {expected:?}"),
        }
    }
}
