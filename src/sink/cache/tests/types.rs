//! Every column type with its edge values, bit for bit: through edits, a bulk load and a fill.

use super::support::*;
use crate::model::{Catalog, Column, ColumnType, Decimal, Lsn, TableId, TableSchema, Value};
use crate::sink::cache::{Cache, CacheConflict, CacheFill, Lookup};
use crate::sink::{Bulk, Sink};

const T: TableId = TableId(0);

fn decimal(unscaled: i128, scale: i8) -> Value {
    Value::Decimal(Box::new(Decimal { unscaled, scale }))
}

fn schema() -> TableSchema {
    let columns = vec![
        Column::required("id", ColumnType::Int64),
        Column::nullable("b", ColumnType::Bool),
        Column::nullable("i", ColumnType::Int64),
        Column::nullable("f", ColumnType::Float64),
        Column::nullable("d", ColumnType::Decimal { precision: 38, scale: 3 }),
        Column::nullable("t", ColumnType::Text),
        Column::nullable("x", ColumnType::Bytes),
        Column::nullable("date", ColumnType::Date),
        Column::nullable("ts", ColumnType::Timestamp),
        Column::required("k", ColumnType::Bytes),
    ];
    TableSchema::new("every \"type\"/../", columns, vec![9, 0]).expect("a schema")
}

fn edge_values() -> Vec<Vec<Value>> {
    let nan_with_payload = f64::from_bits(0x7ff8_0000_dead_beef);
    let floats = [0.0, -0.0, f64::NAN, -f64::NAN, nan_with_payload, f64::INFINITY, f64::NEG_INFINITY, f64::MAX];
    let nines = 10i128.pow(38) - 1;
    vec![
        vec![Value::Bool(true), Value::Bool(false)],
        vec![Value::Int(i64::MIN), Value::Int(i64::MAX), Value::Int(0)],
        floats.into_iter().map(Value::Float).collect(),
        vec![decimal(0, 3), decimal(-1, 3), decimal(nines, 3), decimal(-nines, 3)],
        vec![Value::text(""), Value::text("\0"), Value::text("é\u{10FFFF}\r\n"), Value::text("x".repeat(70_000))],
        vec![Value::Bytes([].into()), Value::Bytes([0, 255].into()), Value::Bytes(vec![7; 70_000].into())],
        vec![Value::Date(i32::MIN), Value::Date(i32::MAX), Value::Date(0)],
        vec![Value::Timestamp(i64::MIN), Value::Timestamp(i64::MAX), Value::Timestamp(-1)],
    ]
}

/// Each edge value with all the others NULL, and a row of NULLs.
fn rows() -> Vec<Vec<Value>> {
    let values = edge_values();
    let nulls = vec![Value::Null; values.len()];
    let mut rows = vec![nulls.clone()];
    for (column, values) in values.iter().enumerate() {
        for value in values {
            let mut row = nulls.clone();
            row[column] = value.clone();
            rows.push(row);
        }
    }
    let keyed = rows.into_iter().enumerate().map(|(id, mut row)| {
        row.insert(0, Value::Int(id as i64 - 3));
        row.push(Value::Bytes([b'*', b':', 0, 0xFF, id as u8, b'\n'].into()));
        row
    });
    keyed.collect()
}

fn expect(cache: &Cache, at: u64, when: &str) {
    let reader = cache.reader();
    let rows = rows();
    for row in &rows {
        let found = reader.get(T, key_of(&schema(), row).as_ref()).expect("get");
        assert_eq!(found, Lookup::Hit { position: Lsn(at), row: Some(row.clone()) }, "{when}");
    }
    let all = known(&reader, T);
    assert_eq!(all.len(), rows.len(), "{when}");
    assert!(all.iter().all(|(key, (_, row))| row.as_ref().is_some_and(|row| key_of(&schema(), row) == *key)), "{when}");
}

pub(super) fn every_type_survives_bit_for_bit(place: &Place) {
    let catalog = Catalog { tables: vec![schema()] };
    let create =
        || Cache::create(&catalog, place.options(CacheFill::Stream, CacheConflict::NewerWins)).expect("a cache");
    let mut cache = create();
    put(&mut cache, &edit_set(1, vec![edits(&schema(), T, false, &[], &rows())]), 1);
    expect(&cache, 1, "through edits");
    let load = cache.bulk().expect("a generation");
    rows().chunks(7).for_each(|rows| load.write(T, batch_of(&schema(), rows)).expect("write"));
    cache.install(load, Lsn(2)).expect("install");
    expect(&cache, 2, "through a bulk load");
    let cache = create();
    for row in rows() {
        let key = key_of(&schema(), &row);
        assert!(cache.reader().fill(T, key.as_ref(), Some(&refs(&row)), Lsn(3)).expect("fill"));
    }
    expect(&cache, 3, "through fills");
    // A slice of a batch has its own offset.
    let mut cache = create();
    let rows = rows();
    let mut part = edits(&schema(), T, false, &[], &rows[3..]);
    part.upserts = batch_of(&schema(), &rows).slice(3, rows.len() - 3);
    put(&mut cache, &edit_set(1, vec![part]), 1);
    for row in &rows[3..] {
        let found = cache.reader().get(T, key_of(&schema(), row).as_ref()).expect("get");
        assert_eq!(found, Lookup::Hit { position: Lsn(1), row: Some(row.clone()) });
    }
}
