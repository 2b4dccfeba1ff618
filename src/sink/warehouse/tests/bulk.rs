//! Bulk loads: all or nothing, and no key twice.

use super::super::{Warehouse, WarehouseError, WarehouseOptions};
use super::support::*;
use crate::model::{Key, Lsn, TableId, Value};
use crate::sink::Sink;
use rayon::prelude::*;
use std::fs;
use std::path::Path;

const T: TableId = TableId(0);

fn parquet_files(dir: &Path) -> usize {
    let names = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".parquet")).count()
}

#[test]
fn a_load_from_many_threads_replaces_the_table_and_then_takes_edits() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let mut warehouse = create(folder.path());
    let schema = &catalog().tables[0];
    let held = warehouse.reader().version();
    let load = warehouse.bulk();
    (0..40i64).into_par_iter().try_for_each(|part| {
        let rows = int_rows(part * 25..part * 25 + 25, part);
        load.write(T, batch_of(schema, &rows))
    })?;
    let loaded = load.publish(&mut warehouse, Lsn(5))?;
    assert_eq!((loaded.tables, loaded.rows), (1, 1_000));
    assert!(loaded.segments >= 1_000 / 64 && loaded.segment_bytes > 0);
    assert_eq!((warehouse.visible(), warehouse.durable()), (Lsn(5), Lsn(5)));
    assert_eq!(held.row_count(T), 0, "a version held before the swap");
    warehouse.apply(&edit_set(6, vec![edits(&catalog(), T, false, &[], &int_rows(990..1_010, -1))]))?;
    warehouse.publish(Lsn(6))?;
    let version = warehouse.reader().version();
    assert_eq!(version.row_count(T), 1_010);
    let ids: Vec<i64> = version
        .rows_in_key_order(T, Some(&[0]))?
        .flat_map(|batch| {
            let batch = batch.expect("a batch");
            (0..batch.num_rows()).map(move |row| super::super::value_at(batch.column(0), row)).collect::<Vec<_>>()
        })
        .map(|id| if let Value::Int(id) = id { id } else { panic!("{id:?}") })
        .collect();
    assert!(ids.into_iter().eq(0..1_010));
    Ok(())
}

#[test]
fn a_key_that_comes_twice_is_an_error_and_changes_nothing() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let mut warehouse = create(folder.path());
    let schema = &catalog().tables[0];
    for (first, second, key) in [(0..70, 69..140, "69"), (0..70, 0..70, "0"), (0..3, 2..3, "2")] {
        let load = warehouse.bulk();
        load.write(T, batch_of(schema, &int_rows(first, 1)))?;
        load.write(T, batch_of(schema, &int_rows(second, 2)))?;
        let error = load.publish(&mut warehouse, Lsn(1)).expect_err("a key twice");
        assert!(matches!(&error, WarehouseError::DuplicateKey { .. }), "{error}");
        assert!(error.to_string().contains(&format!("table \"by/int\": there are two rows of key {key}")), "{error}");
        assert_eq!((warehouse.visible(), parquet_files(folder.path())), (Lsn(0), 0));
    }
    let text = TableId(2);
    let row = |id: &str| vec![Value::text(id), Value::Int(1), Value::Int(2)];
    let load = warehouse.bulk();
    load.write(text, batch_of(&catalog().tables[2], &[row("b"), row("a"), row("b")]))?;
    assert!(matches!(load.publish(&mut warehouse, Lsn(1)), Err(WarehouseError::DuplicateKey { .. })));
    Ok(())
}

#[test]
fn an_included_table_without_rows_becomes_empty_and_the_others_stay() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let mut warehouse = create(folder.path());
    let text_rows = [vec![Value::text("k"), Value::Int(1), Value::Int(2)]];
    let tables = vec![
        edits(&catalog(), T, false, &[], &int_rows(0..9, 1)),
        edits(&catalog(), TableId(2), false, &[], &text_rows),
    ];
    warehouse.apply(&edit_set(1, tables))?;
    let load = warehouse.bulk();
    load.include(T)?;
    assert!(matches!(load.publish(&mut warehouse, Lsn(2)), Err(WarehouseError::Unpublished { .. })));
    warehouse.publish(Lsn(1))?;
    let load = warehouse.bulk();
    load.include(T)?;
    assert!(matches!(load.publish(&mut warehouse, Lsn(0)), Err(WarehouseError::WatermarkBack { .. })));
    let load = warehouse.bulk();
    load.include(T)?;
    load.publish(&mut warehouse, Lsn(2))?;
    drop(warehouse);
    let warehouse = super::super::Warehouse::open(folder.path(), small())?;
    let version = warehouse.reader().version();
    assert_eq!((version.watermark(), version.row_count(T), version.row_count(TableId(2))), (Lsn(2), 0, 1));
    Ok(())
}

#[test]
fn old_segments_go_when_the_last_reader_lets_go() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let mut warehouse = create(folder.path());
    let schema = &catalog().tables[0];
    let mut load_all = |n: i64| -> Result<(), WarehouseError> {
        let load = warehouse.bulk();
        load.write(T, batch_of(schema, &int_rows(0..100, n)))?;
        load.publish(&mut warehouse, Lsn(n as u64)).map(|_| ())
    };
    load_all(1)?;
    let (files, held) = (parquet_files(folder.path()), super::super::WarehouseReader::open(folder.path())?);
    load_all(2)?;
    assert_eq!(parquet_files(folder.path()), files, "the old ones are gone");
    let n = |reader: &super::super::WarehouseReader| {
        scanned(&reader.version(), T).into_values().next().expect("a row")[1].clone()
    };
    assert_eq!(n(&held), Value::Int(1), "a reader of another process still has its files");
    assert_eq!(n(&super::super::WarehouseReader::open(folder.path())?), Value::Int(2));
    drop(warehouse.bulk());
    let load = warehouse.bulk();
    load.write(T, batch_of(schema, &int_rows(0..100, 3)))?;
    assert!(parquet_files(folder.path()) > files);
    drop(load);
    assert_eq!(parquet_files(folder.path()), files, "a load that was given up leaves nothing");
    Ok(())
}

#[test]
fn a_load_keeps_no_more_rows_than_the_limit_allows() {
    let folder = tempfile::tempdir().expect("a folder");
    let limit = 20_000;
    let options = WarehouseOptions { memory_bytes_max: Some(limit), ..small() };
    let mut warehouse = Warehouse::create(folder.path(), &catalog(), options).expect("a warehouse");
    for round in 1..3 {
        let load = warehouse.bulk();
        for first in (0..2_000).step_by(100) {
            let ints = int_rows(first..first + 100, round);
            let text = |id: i64| vec![Value::text(format!("key {id}")), Value::Int(id), Value::Int(round)];
            let rows = |table| if table == 0 { ints.clone() } else { (first..first + 100).map(text).collect() };
            for table in [0, 2] {
                load.write(TableId(table as u32), batch_of(&catalog().tables[table], &rows(table))).expect("write");
            }
            assert!(warehouse.memory.held() <= limit, "{} bytes", warehouse.memory.held());
        }
        load.publish(&mut warehouse, Lsn(round as u64)).expect("publish");
        assert!(warehouse.memory.held() <= limit, "{} bytes", warehouse.memory.held());
        let version = warehouse.reader().version();
        assert_eq!((scanned(&version, TableId(0)).len(), scanned(&version, TableId(2)).len()), (2_000, 2_000));
        assert!(version.get(TableId(0), Key::Int(1_999).as_ref()).expect("get").is_some());
    }
    drop(warehouse);
    Warehouse::open(folder.path(), small()).and_then(|warehouse| warehouse.verify()).expect("whole");
}
