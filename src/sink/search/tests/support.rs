//! Tables, rows and edits for the tests, and the plain map an index has to equal.

use super::super::{SearchIndex, SearchOptions, SearchView};
use crate::apply::edits::{EditSet, TableEdits};
use crate::model::{Catalog, Column, ColumnType, Key, KeyColumn, Lsn, TableId, TableSchema, Value, ValueRef};
use arrow_array::builder::*;
use arrow_array::{ArrayRef, RecordBatch};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The rows of one table by key.
pub(super) type Rows = BTreeMap<Key, Vec<Value>>;

pub(super) const INT: TableId = TableId(0);
pub(super) const TWO: TableId = TableId(1);
pub(super) const TEXT: TableId = TableId(2);
/// Has no text outside its key: it is not indexed.
pub(super) const BARE: TableId = TableId(3);

/// An integer key, a key of two columns not in column order, a text key, and a table without text.
pub(super) fn catalog() -> Catalog {
    let int = |name| Column::required(name, ColumnType::Int64);
    let text = |name| Column::nullable(name, ColumnType::Text);
    let key = |name| Column::required(name, ColumnType::Text);
    let n = || Column::nullable("n", ColumnType::Int64);
    let tables = vec![
        TableSchema::new("by/int", vec![n(), int("id"), text("s")], vec![1]),
        TableSchema::new("two", vec![int("a"), text("s"), key("b"), n(), text("t")], vec![2, 0]),
        TableSchema::new("text", vec![key("id"), n(), text("s")], vec![0]),
        TableSchema::new("bare", vec![key("id"), n()], vec![0]),
    ];
    Catalog { tables: tables.into_iter().map(|table| table.expect("a schema")).collect() }
}

pub(super) fn create(dir: &Path) -> SearchIndex {
    SearchIndex::create(dir, &catalog(), SearchOptions::default()).expect("a search index")
}

pub(super) fn open(dir: &Path) -> SearchIndex {
    SearchIndex::open(dir, SearchOptions::default()).expect("a search index")
}

pub(super) fn key_of(schema: &TableSchema, row: &[Value]) -> Key {
    let refs: Vec<ValueRef<'_>> = row.iter().map(Value::as_ref).collect();
    Key::of_row(schema, &refs).expect("a key")
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
    let column = |place: usize, column: &Column| match column.column_type {
        ColumnType::Bool => column!(BooleanBuilder::new(), rows, place, Value::Bool, |v: &bool| *v),
        ColumnType::Int64 => column!(Int64Builder::new(), rows, place, Value::Int, |v: &i64| *v),
        ColumnType::Float64 => column!(Float64Builder::new(), rows, place, Value::Float, |v: &f64| *v),
        ColumnType::Float32 => column!(Float32Builder::new(), rows, place, Value::Float32, |v: &f32| *v),
        ColumnType::Decimal { precision, scale } => {
            let builder = Decimal128Builder::new().with_precision_and_scale(precision, scale).expect("a decimal type");
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
    let columns = schema.columns.iter().enumerate().map(|(place, of)| (of.name.as_str(), column(place, of), true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")
}

/// Edits of one table.
pub(super) fn edits(
    catalog: &Catalog,
    table: TableId,
    truncate: bool,
    deletes: &[Key],
    upserts: &[Vec<Value>],
) -> TableEdits {
    let schema = catalog.table(table).expect("a table");
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

/// Upserts of one table.
pub(super) fn upsert(through: u64, table: TableId, rows: &[Vec<Value>]) -> EditSet {
    edit_set(through, vec![edits(&catalog(), table, false, &[], rows)])
}

pub(super) fn int_row(id: i64, text: &str) -> Vec<Value> {
    vec![Value::Int(id * 10), Value::Int(id), Value::text(text)]
}

/// What a view keeps of whole rows.
pub(super) fn kept(view: &SearchView, table: TableId, rows: &Rows) -> Rows {
    let columns = view.columns(table);
    let keep = |row: &Vec<Value>| columns.iter().map(|&place| row[place].clone()).collect();
    rows.iter().filter(|_| !columns.is_empty()).map(|(key, row)| (key.clone(), keep(row))).collect()
}

/// All stored rows of a table by key; a key that comes twice fails the test.
pub(super) fn stored(view: &SearchView, catalog: &Catalog, table: TableId) -> Rows {
    let schema = catalog.table(table).expect("a table");
    let mut rows = Rows::new();
    for kept in view.rows(table) {
        let kept = kept.expect("a row");
        let mut row = vec![Value::Null; schema.columns.len()];
        view.columns(table).iter().zip(&kept).for_each(|(&place, value)| row[place] = value.clone());
        assert!(rows.insert(key_of(schema, &row), kept).is_none(), "a key came twice");
    }
    rows
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
