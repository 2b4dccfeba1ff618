//! Rows too wide for one column's offsets, by limits that are lowered to a few hundred bytes: no batch, segment or merge may
//! pass them, whatever the number of rows, and nothing else may change.

use super::super::{Warehouse, WarehouseOptions, WarehouseReader, verify};
use super::support::*;
use crate::model::{Key, Lsn, TableId, Value};
use crate::sink::Sink;
use arrow_array::cast::AsArray;
use std::path::Path;

const T: TableId = TableId(0);
/// A row's text has so many bytes, and no more than three rows' may come together.
const TEXT_BYTES: usize = 100;
const LIMIT: usize = 250;

fn narrow(memory_bytes_max: Option<u64>) -> WarehouseOptions {
    WarehouseOptions { chunk_bytes_max: LIMIT, memory_bytes_max, ..small() }
}

fn wide_rows(ids: std::ops::Range<i64>) -> Vec<Vec<Value>> {
    let text = |id: i64| Value::text(format!("{id:0width$}", width = TEXT_BYTES));
    ids.map(|id| vec![Value::Int(id), Value::Int(0), text(id)]).collect()
}

/// The most bytes of text in one chunk, and the number of chunks.
fn widest(warehouse: &Warehouse) -> (usize, usize) {
    let batches = warehouse.reader().version().scan(T, None, None).map(|batch| batch.expect("a batch"));
    let widths: Vec<usize> = batches.map(|batch| batch.column(2).as_string::<i32>().values().len()).collect();
    (widths.iter().copied().max().unwrap_or(0), widths.len())
}

fn load(dir: &Path, memory_bytes_max: Option<u64>) -> Warehouse {
    let mut warehouse = Warehouse::create(dir, &catalog(), narrow(memory_bytes_max)).expect("a warehouse");
    let load = warehouse.bulk();
    for first in (0..60).step_by(2) {
        load.write(T, batch_of(&catalog().tables[0], &wide_rows(first..first + 2))).expect("written");
    }
    load.publish(&mut warehouse, Lsn(1)).expect("published");
    warehouse
}

#[test]
fn a_load_and_what_is_merged_later_keep_to_the_bytes() {
    for memory_bytes_max in [None, Some(0)] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut warehouse = load(folder.path(), memory_bytes_max);
        let (bytes, chunks) = widest(&warehouse);
        assert!((LIMIT..LIMIT + 2 * TEXT_BYTES).contains(&bytes) && chunks == 15, "{bytes} bytes, {chunks} chunks");
        // Dead rows, and many small groups: everything that purges and merges has its turn, also after an opening.
        for lsn in 2..40u64 {
            let first = lsn as i64 * 7 % 60;
            let set = edits(&catalog(), T, false, &[Key::Int(first)], &wide_rows(first + 1..first + 2));
            warehouse.apply(&edit_set(lsn, vec![set])).expect("apply");
            warehouse.publish(Lsn(lsn)).expect("publish");
            warehouse.checkpoint().expect("a checkpoint");
            if lsn % 9 == 0 {
                drop(warehouse);
                warehouse = Warehouse::open(folder.path(), narrow(memory_bytes_max)).expect("open");
            }
            assert!(widest(&warehouse).0 < LIMIT + 2 * TEXT_BYTES, "after {lsn}: {:?}", widest(&warehouse));
        }
        assert_eq!(verify(folder.path()).expect("a verification").faults, []);
    }
}

#[test]
fn rows_in_key_order_come_in_batches_that_keep_to_the_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(load(folder.path(), None));
    let version = WarehouseReader::open(folder.path()).expect("open").version();
    for (limit, rows_a_batch) in [(1, 1), (LIMIT, 3), (usize::MAX, 60)] {
        let ordered = version.rows_in_key_order(T, None).expect("rows").with_batch_bytes(limit);
        let batches: Vec<_> = ordered.map(|batch| batch.expect("a batch")).collect();
        assert!(batches.iter().all(|batch| batch.num_rows() == rows_a_batch), "{limit}");
        let rows =
            batches.iter().flat_map(|batch| (0..batch.num_rows()).map(|row| super::super::row_values(batch, row)));
        assert_eq!(rows.collect::<Vec<_>>(), wide_rows(0..60), "{limit}");
    }
    // A column that is not asked for is not counted.
    let narrow = version.rows_in_key_order(T, Some(&[0])).expect("rows").with_batch_bytes(1);
    assert_eq!(narrow.map(|batch| batch.expect("a batch").num_rows()).collect::<Vec<_>>(), [60]);
}

#[test]
fn parts_of_one_group_are_applied_as_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = load(folder.path(), None);
    let first = edits(&catalog(), T, true, &[], &wide_rows(0..3));
    let second = edits(&catalog(), T, false, &[Key::Int(40)], &wide_rows(3..5));
    warehouse.apply(&edit_set(2, vec![first, second])).expect("apply");
    warehouse.publish(Lsn(2)).expect("publish");
    let rows = scanned(&warehouse.reader().version(), T);
    assert_eq!(rows.into_values().collect::<Vec<_>>(), wide_rows(0..5));
}
