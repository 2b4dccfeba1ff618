//! Every column type with its edge values, bit for bit: from memory, from Parquet, and after reopening.

use super::super::{Warehouse, WarehouseOptions};
use super::support::*;
use crate::model::{Catalog, Column, ColumnType, Decimal, Lsn, TableId, TableSchema, Value};
use crate::sink::Sink;

const T: TableId = TableId(0);

fn decimal(unscaled: i128, scale: i8) -> Value {
    Value::Decimal(Box::new(Decimal { unscaled, scale }))
}

fn schema() -> TableSchema {
    let wide = ColumnType::Decimal { precision: 38, scale: 0 };
    let columns = vec![
        Column::required("id", ColumnType::Int64),
        Column::nullable("b", ColumnType::Bool),
        Column::nullable("i", ColumnType::Int64),
        Column::nullable("f.with a dot", ColumnType::Float64),
        Column::nullable("d", ColumnType::Decimal { precision: 12, scale: 3 }),
        Column::nullable("wide", wide),
        Column::nullable("t", ColumnType::Text),
        Column::nullable("x", ColumnType::Bytes),
        Column::nullable("date", ColumnType::Date),
        Column::nullable("ts", ColumnType::Timestamp),
        Column::nullable("f32", ColumnType::Float32),
        Column::nullable("local", ColumnType::LocalTimestamp),
    ];
    TableSchema::new("every \"type\"/../", columns, vec![0]).expect("a schema")
}

fn edge_values() -> Vec<Vec<Value>> {
    let nines = 10i128.pow(38) - 1;
    let quiet_nan_with_payload = f64::from_bits(0x7ff8_0000_dead_beef);
    let floats = [0.0, -0.0, f64::NAN, -f64::NAN, quiet_nan_with_payload, f64::INFINITY, f64::NEG_INFINITY];
    vec![
        vec![Value::Bool(true), Value::Bool(false)],
        vec![Value::Int(i64::MIN), Value::Int(i64::MAX), Value::Int(0), Value::Int(-1)],
        floats.into_iter().chain([f64::MIN_POSITIVE / 2.0, f64::MAX, f64::EPSILON]).map(Value::Float).collect(),
        vec![decimal(0, 3), decimal(-1, 3), decimal(999_999_999_999, 3), decimal(-999_999_999_999, 3)],
        vec![decimal(nines, 0), decimal(-nines, 0), decimal(1, 0)],
        vec![
            Value::text(""),
            Value::text("\0"),
            Value::text("é\u{10FFFF}\u{0301}\r\n"),
            Value::text("x".repeat(70_000)),
        ],
        vec![Value::Bytes([].into()), Value::Bytes([0, 255].into()), Value::Bytes(vec![7; 70_000].into())],
        vec![Value::Date(i32::MIN), Value::Date(i32::MAX), Value::Date(0)],
        vec![Value::Timestamp(i64::MIN), Value::Timestamp(i64::MAX), Value::Timestamp(-1)],
        [0.0, -0.0, f32::NAN, f32::INFINITY, f32::from_bits(1)].map(Value::Float32).into(),
        vec![Value::LocalTimestamp(i64::MIN), Value::LocalTimestamp(i64::MAX), Value::LocalTimestamp(-1)],
    ]
}

/// Each edge value with all the others NULL, the first of all together, and a row of NULLs.
fn rows() -> Vec<Vec<Value>> {
    let values = edge_values();
    let mut rows: Vec<Vec<Value>> = vec![vec![Value::Null; values.len()]];
    for (column, values) in values.iter().enumerate() {
        for value in values {
            let mut row = vec![Value::Null; edge_values().len()];
            row[column] = value.clone();
            rows.push(row);
        }
    }
    rows.push(values.iter().map(|values| values[0].clone()).collect());
    let keyed = rows.into_iter().enumerate().map(|(id, mut row)| {
        row.insert(0, Value::Int(id as i64));
        row
    });
    keyed.collect()
}

fn expect(warehouse: &Warehouse, rows: &[Vec<Value>], when: &str) {
    let version = warehouse.reader().version();
    let expected: Rows = rows.iter().map(|row| (key_of(&schema(), row), row.clone())).collect();
    assert_eq!(scanned(&version, T), expected, "{when}");
    for (key, row) in &expected {
        assert_eq!(version.get(T, key.as_ref()).expect("get").as_ref(), Some(row), "{when}");
    }
}

#[test]
fn every_type_survives_bit_for_bit() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let catalog = Catalog { tables: vec![schema()] };
    let mut rows = rows();
    let mut warehouse = Warehouse::create(folder.path(), &catalog, WarehouseOptions::default())?;
    warehouse.apply(&edit_set(1, vec![edits(&catalog, T, false, &[], &rows)]))?;
    warehouse.publish(Lsn(1))?;
    expect(&warehouse, &rows, "in memory");
    warehouse.checkpoint()?;
    expect(&warehouse, &rows, "after the checkpoint");
    drop(warehouse);
    let mut warehouse = Warehouse::open(folder.path(), WarehouseOptions::default())?;
    expect(&warehouse, &rows, "opened again");
    // The rows move to another chunk when the second half replaces itself, and to another segment.
    let half = rows.split_off(rows.len() / 2);
    warehouse.apply(&edit_set(2, vec![edits(&catalog, T, false, &[], &half)]))?;
    warehouse.publish(Lsn(2))?;
    warehouse.checkpoint()?;
    rows.extend(half);
    expect(&warehouse, &rows, "after replacing half");
    let load = warehouse.bulk();
    load.write(T, batch_of(&schema(), &rows))?;
    load.publish(&mut warehouse, Lsn(3))?;
    expect(&warehouse, &rows, "after a bulk load");
    drop(warehouse);
    expect(&Warehouse::open(folder.path(), WarehouseOptions::default())?, &rows, "the bulk load opened again");
    Ok(())
}

#[test]
fn a_type_parquet_lacks_is_refused_with_table_and_column() {
    let folder = tempfile::tempdir().expect("a folder");
    let strange = ColumnType::Decimal { precision: 4, scale: -2 };
    let columns = vec![Column::required("id", ColumnType::Int64), Column::nullable("money", strange)];
    let catalog = Catalog { tables: vec![TableSchema::new("t", columns, vec![0]).expect("a schema")] };
    let error = Warehouse::create(folder.path(), &catalog, small()).expect_err("a decimal with a negative scale");
    assert!(error.to_string().contains("table \"t\": column \"money\" has type decimal(4,-2)"), "{error}");
}
