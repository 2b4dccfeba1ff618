//! Tables, rows and edits for the tests, and places to put a cache in.

use crate::apply::edits::{EditSet, TableEdits};
use crate::model::{Catalog, Column, ColumnType, Key, KeyColumn, KeyRef, Lsn, TableId, TableSchema, Value, ValueRef};
use crate::sink::Sink;
use crate::sink::cache::{Cache, CacheConflict, CacheFill, CacheOptions, CacheReader, CacheStore, Lookup};
use arrow_array::builder::*;
use arrow_array::{ArrayRef, RecordBatch};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const INTS: TableId = TableId(0);
pub(super) const PAIRS: TableId = TableId(1);

/// Where the caches of a suite are.
pub(super) struct Place {
    pub(super) store: CacheStore,
    /// How much of the random work is done: a server is slower by two orders of magnitude.
    pub(super) effort: u64,
}

impl Place {
    pub(super) fn memory() -> Place {
        Place { store: CacheStore::Memory, effort: 20 }
    }

    pub(super) fn is_memory(&self) -> bool {
        self.store == CacheStore::Memory
    }

    pub(super) fn options(&self, fill: CacheFill, conflict: CacheConflict) -> CacheOptions {
        CacheOptions { store: self.store.clone(), fill, conflict, ..CacheOptions::default() }
    }

    pub(super) fn cache(&self) -> Cache {
        self.cache_with(CacheFill::Stream, CacheConflict::NewerWins)
    }

    pub(super) fn cache_with(&self, fill: CacheFill, conflict: CacheConflict) -> Cache {
        Cache::create(&catalog(), self.options(fill, conflict)).expect("a cache")
    }
}

/// An integer key, and a key of two columns that are not in column order.
pub(super) fn catalog() -> Catalog {
    let int = |name| Column::required(name, ColumnType::Int64);
    let text = |name| Column::nullable(name, ColumnType::Text);
    let tables = vec![
        TableSchema::new("by/int", vec![int("id"), Column::nullable("n", ColumnType::Int64), text("s")], vec![0]),
        TableSchema::new("pairs", vec![int("a"), text("s"), Column::required("b", ColumnType::Text)], vec![2, 0]),
    ];
    Catalog { tables: tables.into_iter().map(|table| table.expect("a schema")).collect() }
}

pub(super) fn refs(row: &[Value]) -> Vec<ValueRef<'_>> {
    row.iter().map(Value::as_ref).collect()
}

pub(super) fn key_of(schema: &TableSchema, row: &[Value]) -> Key {
    Key::of_row(schema, &refs(row)).expect("a key")
}

macro_rules! column {
    ($builder:expr, $rows:expr, $place:expr, $variant:path, $get:expr) => {{
        let mut builder = $builder;
        for row in $rows {
            match &row[$place] {
                $variant(v) => builder.append_value($get(v)),
                Value::Null => builder.append_null(),
                other => panic!("{other:?} is of another type"),
            }
        }
        Arc::new(builder.finish()) as ArrayRef
    }};
}

pub(super) fn batch_of(schema: &TableSchema, rows: &[Vec<Value>]) -> RecordBatch {
    let columns = schema.columns.iter().enumerate().map(|(place, column)| {
        let array = match column.column_type {
            ColumnType::Bool => column!(BooleanBuilder::new(), rows, place, Value::Bool, |v: &bool| *v),
            ColumnType::Int64 => column!(Int64Builder::new(), rows, place, Value::Int, |v: &i64| *v),
            ColumnType::Float64 => column!(Float64Builder::new(), rows, place, Value::Float, |v: &f64| *v),
            ColumnType::Float32 => column!(Float32Builder::new(), rows, place, Value::Float32, |v: &f32| *v),
            ColumnType::Decimal { precision, scale } => {
                let builder = Decimal128Builder::new().with_precision_and_scale(precision, scale).expect("a type");
                column!(builder, rows, place, Value::Decimal, |v: &crate::model::Decimal| v.unscaled)
            }
            ColumnType::Text => column!(StringBuilder::new(), rows, place, Value::Text, |v: &str| v.to_owned()),
            ColumnType::Bytes => column!(BinaryBuilder::new(), rows, place, Value::Bytes, |v: &[u8]| v.to_owned()),
            ColumnType::Date => column!(Date32Builder::new(), rows, place, Value::Date, |v: &i32| *v),
            ColumnType::LocalTimestamp => {
                column!(TimestampMicrosecondBuilder::new(), rows, place, Value::LocalTimestamp, |v: &i64| *v)
            }
            ColumnType::Timestamp => {
                let builder = TimestampMicrosecondBuilder::new().with_timezone("UTC");
                column!(builder, rows, place, Value::Timestamp, |v: &i64| *v)
            }
        };
        (column.name.as_str(), array, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")
}

/// Edits of one table.
pub(super) fn edits(
    schema: &TableSchema,
    table: TableId,
    truncate: bool,
    deletes: &[Key],
    upserts: &[Vec<Value>],
) -> TableEdits {
    let column = |keys: &mut dyn Iterator<Item = Key>| {
        let mut column = KeyColumn::for_table(schema);
        keys.for_each(|key| column.push(key.as_ref()).expect("a key of the table's kind"));
        column
    };
    TableEdits {
        table,
        truncate,
        deletes: column(&mut deletes.iter().cloned()),
        upsert_keys: column(&mut upserts.iter().map(|row| key_of(schema, row))),
        upserts: batch_of(schema, upserts),
    }
}

pub(super) fn edit_set(through: u64, tables: Vec<TableEdits>) -> EditSet {
    let changes = tables.iter().map(|table| table.len() as u64).sum();
    EditSet { through: Lsn(through), tables, changes }
}

/// Edits of the first table: deletes of `gone`, upserts of `rows`.
pub(super) fn int_set(through: u64, gone: &[i64], rows: &[Vec<Value>]) -> EditSet {
    let deletes: Vec<Key> = gone.iter().copied().map(Key::Int).collect();
    edit_set(through, vec![edits(&catalog().tables[0], INTS, false, &deletes, rows)])
}

/// A row of the first table.
pub(super) fn int_row(id: i64, n: i64) -> Vec<Value> {
    vec![Value::Int(id), Value::Int(n), Value::text(format!("row {id}"))]
}

/// Applies and publishes.
pub(super) fn put(cache: &mut Cache, set: &EditSet, through: u64) {
    cache.apply(set).expect("apply");
    cache.publish(Lsn(through)).expect("publish");
}

pub(super) fn lookup(reader: &CacheReader, id: i64) -> Lookup {
    let found = reader.get(INTS, KeyRef::Int(id)).expect("get");
    let expected = if let Lookup::Hit { position, .. } = &found { Some(*position) } else { None };
    assert_eq!(reader.get_position(INTS, KeyRef::Int(id)).expect("get_position"), expected);
    found
}

pub(super) fn hit(position: u64, row: Vec<Value>) -> Lookup {
    Lookup::Hit { position: Lsn(position), row: Some(row) }
}

pub(super) fn gone(position: u64) -> Lookup {
    Lookup::Hit { position: Lsn(position), row: None }
}

/// All that is known of a table; a key that comes twice fails the test.
pub(super) fn known(reader: &CacheReader, table: TableId) -> BTreeMap<Key, (Lsn, Option<Vec<Value>>)> {
    let mut all = BTreeMap::new();
    for entry in reader.entries(table).expect("entries") {
        let (key, position, row) = entry.expect("an entry");
        assert!(all.insert(key, (position, row)).is_none(), "a key came twice");
    }
    all
}

/// A small generator (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// The seeds a property test runs with: the one in `FRESHBENCH_TEST_SEED`, or the first `count`.
pub(super) fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("FRESHBENCH_TEST_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..count).collect(),
    }
}
