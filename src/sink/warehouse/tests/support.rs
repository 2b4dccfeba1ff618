//! Tables, rows and edits for the tests, and the plain map a warehouse has to equal.

use super::super::columns::TableShape;
use super::super::{Version, Warehouse, WarehouseOptions};
use crate::apply::edits::{EditSet, TableEdits};
use crate::model::{Catalog, Column, ColumnType, Key, KeyColumn, Lsn, TableId, TableSchema, Value, ValueRef};
use arrow_array::builder::*;
use arrow_array::{ArrayRef, RecordBatch};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The rows of one table by key.
pub(super) type Rows = BTreeMap<Key, Vec<Value>>;

/// Three tables: an integer key, a key of two columns not in column order, a text key.
pub(super) fn catalog() -> Catalog {
    let int = |name| Column::required(name, ColumnType::Int64);
    let text = |name| Column::nullable(name, ColumnType::Text);
    let tables = vec![
        TableSchema::new("by/int", vec![int("id"), Column::nullable("n", ColumnType::Int64), text("s")], vec![0]),
        TableSchema::new("two", vec![int("a"), text("s"), Column::required("b", ColumnType::Text)], vec![2, 0]),
        TableSchema::new("text", vec![Column::required("id", ColumnType::Text), int("n"), int("at")], vec![0]),
    ];
    Catalog { tables: tables.into_iter().map(|table| table.expect("a schema")).collect() }
}

/// Small chunks, so that merges happen all the time.
pub(super) fn small() -> WarehouseOptions {
    WarehouseOptions { chunk_rows_max: 64, ..WarehouseOptions::default() }
}

pub(super) fn create(dir: &Path) -> Warehouse {
    Warehouse::create(dir, &catalog(), small()).expect("a warehouse")
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
    let columns = schema.columns.iter().enumerate().map(|(place, column)| match column.column_type {
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
    });
    let shape = TableShape::new(TableId(0), schema).expect("a shape");
    RecordBatch::try_new(shape.arrow, columns.collect()).expect("a batch")
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

/// Rows `ids` of the first table, with `n` everywhere.
pub(super) fn int_rows(ids: impl IntoIterator<Item = i64>, n: i64) -> Vec<Vec<Value>> {
    ids.into_iter().map(|id| vec![Value::Int(id), Value::Int(n), Value::text(format!("row {id}"))]).collect()
}

/// Everything a scan of `table` gives, by key; a key that comes twice fails the test.
pub(super) fn scanned(version: &Version, table: TableId) -> Rows {
    let schema = version.catalog().table(table).expect("a table");
    let mut rows = Rows::new();
    for batch in version.scan(table, None, None) {
        let batch = batch.expect("a batch");
        for row in 0..batch.num_rows() {
            let row = super::super::row_values(&batch, row);
            assert!(rows.insert(key_of(schema, &row), row).is_none(), "a key came twice");
        }
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
