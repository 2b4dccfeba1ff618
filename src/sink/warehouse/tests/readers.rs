//! Readers beside a busy writer.

use super::super::{Aggregate, Warehouse, WarehouseError, WarehouseReader};
use super::support::*;
use crate::model::{Key, Lsn, TableId, Value};
use crate::sink::Sink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const LEFT: TableId = TableId(0);
const RIGHT: TableId = TableId(2);
const TOTAL: i64 = 1_000;

/// A transfer: `amount` goes from a row of one table to a row of the other. The sum over both tables stays.
fn transfer(random: &mut Random, left: &mut [i64], right: &mut [i64], lsn: u64) -> crate::apply::edits::EditSet {
    let (a, b) = (random.below(left.len() as u64) as usize, random.below(right.len() as u64) as usize);
    let amount = random.below(50) as i64 - 25;
    left[a] -= amount;
    right[b] += amount;
    let left_row = int_rows([a as i64], left[a]);
    let right_row = [vec![Value::text(format!("{b}")), Value::Int(right[b]), Value::Int(lsn as i64)]];
    edit_set(
        lsn,
        vec![edits(&catalog(), LEFT, false, &[], &left_row), edits(&catalog(), RIGHT, false, &[], &right_row)],
    )
}

fn start(warehouse: &mut Warehouse) -> (Vec<i64>, Vec<i64>) {
    let (left, right) = (vec![TOTAL / 40; 40], vec![0; 40]);
    let right_rows: Vec<_> = (0..40).map(|b| vec![Value::text(format!("{b}")), Value::Int(0), Value::Int(0)]).collect();
    let tables = vec![
        edits(&catalog(), LEFT, false, &[], &int_rows(0..40, TOTAL / 40)),
        edits(&catalog(), RIGHT, false, &[], &right_rows),
    ];
    warehouse.apply(&edit_set(1, tables)).expect("apply");
    warehouse.publish(Lsn(1)).expect("publish");
    (left, right)
}

#[test]
fn every_version_keeps_the_sum_over_two_tables() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = create(folder.path());
    let (mut left, mut right) = start(&mut warehouse);
    let (reader, done, reads) = (warehouse.reader(), AtomicBool::new(false), AtomicU64::new(0));
    let sum = |reader: &WarehouseReader| {
        let version = reader.version();
        let one = |table| version.aggregate(table, &[Aggregate::Sum(1)]).expect("a sum")[0].expect("rows");
        (version.watermark(), one(LEFT) + one(RIGHT))
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = Lsn::ZERO;
                while !done.load(Ordering::Acquire) {
                    let (watermark, total) = sum(&reader);
                    assert_eq!(total, i128::from(TOTAL), "at {watermark}");
                    assert!(watermark >= last, "the watermark went back");
                    last = watermark;
                    let version = reader.version();
                    let row = version.get(LEFT, Key::Int(7).as_ref()).expect("get").expect("the row");
                    assert_eq!(Some(&row), scanned(&version, LEFT).get(&Key::Int(7)), "get and scan of one version");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut random = Random(1);
        for lsn in 2..1_500 {
            let set = transfer(&mut random, &mut left, &mut right, lsn);
            warehouse.apply(&set).expect("apply");
            if lsn % 3 == 0 {
                warehouse.publish(Lsn(lsn)).expect("publish");
            }
            if lsn % 100 == 0 {
                warehouse.checkpoint().expect("checkpoint");
            }
        }
        done.store(true, Ordering::Release);
    });
    assert!(reads.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_reader_of_the_folder_always_finds_a_whole_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = create(folder.path());
    let (mut left, mut right) = start(&mut warehouse);
    warehouse.checkpoint().expect("checkpoint");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                let version = WarehouseReader::open(folder.path()).expect("a reader").version();
                let one = |table| version.aggregate(table, &[Aggregate::Sum(1)]).expect("a sum")[0].expect("rows");
                assert_eq!(one(LEFT) + one(RIGHT), i128::from(TOTAL), "at {}", version.watermark());
            }
        });
        let mut random = Random(2);
        for lsn in 2..60 {
            let set = transfer(&mut random, &mut left, &mut right, lsn);
            warehouse.apply(&set).expect("apply");
            warehouse.publish(Lsn(lsn)).expect("publish");
            warehouse.checkpoint().expect("checkpoint");
        }
        done.store(true, Ordering::Release);
    });
}

#[test]
fn one_writer_at_a_time_and_the_lock_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = create(folder.path());
    let error = Warehouse::open(folder.path(), small()).expect_err("a second writer");
    assert!(
        matches!(&error, WarehouseError::Locked { holder, .. } if holder.contains(&std::process::id().to_string()))
    );
    assert!(matches!(Warehouse::create(folder.path(), &catalog(), small()), Err(WarehouseError::Exists { .. })));
    drop(warehouse);
    Warehouse::open(folder.path(), small()).expect("the lock is free");
}

#[test]
fn millions_of_small_groups_leave_few_chunks() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = create(folder.path());
    for lsn in 1..3_000 {
        let rows = int_rows([lsn as i64 * 31 % 500, 500 + lsn as i64 % 7], lsn as i64);
        warehouse.apply(&edit_set(lsn, vec![edits(&catalog(), LEFT, false, &[], &rows)])).expect("apply");
        warehouse.publish(Lsn(lsn)).expect("publish");
        let (chunks, rows) =
            (warehouse.reader().version().chunk_count(LEFT), warehouse.reader().version().row_count(LEFT));
        // A full chunk may have a quarter of 64 rows, and half of them dead; the rest are chunks on their way.
        let bound = rows as usize * 2 / 16 + 24;
        assert!(chunks <= bound, "{chunks} chunks of at most 64 rows for {rows} rows after {lsn} groups");
    }
}
