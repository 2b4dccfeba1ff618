//! Merges that go on while the writer does: every order of what can happen meanwhile.

use super::super::segment::segment_path;
use super::super::{Warehouse, WarehouseError, WarehouseOptions};
use super::support::*;
use crate::model::{Key, Lsn, TableId};
use crate::sink::Sink;
use std::fs;
use std::path::Path;

const T: TableId = TableId(0);

/// A warehouse whose threads do nothing until they are let go.
fn held(dir: &Path) -> Warehouse {
    let mut warehouse = create(dir);
    hold(&mut warehouse);
    warehouse
}

pub(super) fn hold(warehouse: &mut Warehouse) {
    warehouse.background.hold();
    warehouse.budget.inline_rows_max = 0;
}

fn write(warehouse: &mut Warehouse, lsn: u64, deletes: &[i64], ids: &[i64]) {
    let deletes: Vec<Key> = deletes.iter().map(|&id| Key::Int(id)).collect();
    let rows = int_rows(ids.iter().copied(), lsn as i64);
    warehouse.apply(&edit_set(lsn, vec![edits(&catalog(), T, false, &deletes, &rows)])).expect("apply");
}

fn publish(warehouse: &mut Warehouse, lsn: u64) {
    warehouse.publish(Lsn(lsn)).expect("publish");
}

fn ids(warehouse: &Warehouse) -> Vec<i64> {
    let rows = scanned(&warehouse.reader().version(), T);
    rows.into_keys().map(|key| if let Key::Int(id) = key { id } else { panic!("an integer key") }).collect()
}

/// Rows 0 to 63 in one segment of which the first 24 are dead, and the job that rewrites it under way.
fn being_rewritten(dir: &Path) -> Warehouse {
    let mut warehouse = held(dir);
    write(&mut warehouse, 1, &[], &(0..64).collect::<Vec<_>>());
    publish(&mut warehouse, 1);
    warehouse.checkpoint().expect("checkpoint");
    write(&mut warehouse, 2, &(0..24).collect::<Vec<_>>(), &[]);
    publish(&mut warehouse, 2);
    assert!(!warehouse.background.is_idle(), "24 of 64 rows are dead");
    warehouse
}

#[test]
fn a_row_deleted_while_its_chunk_is_rewritten_stays_deleted() {
    // The delete comes before the thread's work, between it and the install, and after the install.
    for step in 0..4 {
        let folder = tempfile::tempdir().expect("a folder");
        let mut warehouse = being_rewritten(folder.path());
        let mut expected: Vec<i64> = (24..64).collect();
        let mut lsn = 2;
        let mut delete = |warehouse: &mut Warehouse, at: usize| {
            lsn += 1;
            if at == step {
                let gone = [24, 30, 45, 63];
                write(warehouse, lsn, &gone, &[50]);
                expected.retain(|id| !gone.contains(id));
            }
            publish(warehouse, lsn);
            assert_eq!(ids(warehouse), expected, "step {step} at {at}");
        };
        delete(&mut warehouse, 0);
        assert!(warehouse.background.let_one_go());
        for at in 1..6 {
            delete(&mut warehouse, at);
        }
        assert!(warehouse.tables[0].waiting.is_empty() && warehouse.background.is_idle());
        let version = warehouse.reader().version();
        let row = |id| version.get(T, Key::Int(id).as_ref()).expect("get");
        assert_eq!((row(24), row(63)), (None, None));
        assert_eq!(row(50).map(|row| row[1].clone()), Some(crate::model::Value::Int(3 + step as i64)));
        assert!(version.chunk_count(T) <= 2, "the old chunk is gone");
        // The index is asked for every row of the new chunk.
        write(&mut warehouse, 100, &expected, &[]);
        publish(&mut warehouse, 100);
        assert!(ids(&warehouse).is_empty());
    }
}

#[test]
fn a_run_of_dead_chunks_is_dropped_and_not_merged() {
    for on_threads in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut warehouse = create(folder.path());
        if on_threads {
            hold(&mut warehouse);
        }
        // A queue: what comes in goes out again, before anybody looks for dead chunks. The eighth chunk makes a run.
        for lsn in 1..8 {
            write(&mut warehouse, lsn, &[], &[lsn as i64 * 2, lsn as i64 * 2 + 1]);
            publish(&mut warehouse, lsn);
        }
        write(&mut warehouse, 8, &[], &[16, 17]);
        write(&mut warehouse, 9, &(2..18).collect::<Vec<_>>(), &[]);
        publish(&mut warehouse, 9);
        assert!(ids(&warehouse).is_empty());
        // Rows that come behind it are found, replaced and deleted by their keys.
        for lsn in 10..60 {
            let first = (lsn as i64 - 10) / 3;
            write(&mut warehouse, lsn, &[first - 1], &[first, first + 1]);
            publish(&mut warehouse, lsn);
            while warehouse.background.let_one_go() {}
            assert_eq!(ids(&warehouse), [first, first + 1], "at {lsn}");
            let row = warehouse.reader().version().get(T, Key::Int(first).as_ref()).expect("get").expect("the row");
            assert_eq!(row[1], crate::model::Value::Int(lsn as i64));
        }
        warehouse.settle().expect("settle");
        warehouse.checkpoint().expect("checkpoint");
        assert!(warehouse.tables[0].slots.iter().all(|slot| slot.chunk.rows > 0 && !slot.taken), "{on_threads}");
    }
}

#[test]
fn a_table_truncated_or_loaded_anew_meanwhile_gets_no_row_back() {
    for (bulk, steps) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut warehouse = being_rewritten(folder.path());
        assert!(warehouse.background.let_one_go());
        for lsn in 0..steps {
            publish(&mut warehouse, 3 + lsn);
        }
        if bulk {
            let load = warehouse.bulk();
            load.write(T, batch_of(&catalog().tables[0], &int_rows(1_000..1_003, 1))).expect("write");
            load.publish(&mut warehouse, Lsn(10)).expect("publish");
        } else {
            let rows = int_rows(1_000..1_003, 1);
            warehouse.apply(&edit_set(10, vec![edits(&catalog(), T, true, &[], &rows)])).expect("apply");
        }
        for lsn in 10..16 {
            publish(&mut warehouse, lsn);
            assert_eq!(ids(&warehouse), [1_000, 1_001, 1_002], "bulk {bulk} after {steps} steps");
        }
        warehouse.checkpoint().expect("checkpoint");
        drop(warehouse);
        assert_eq!(ids(&Warehouse::open(folder.path(), small()).expect("open")), [1_000, 1_001, 1_002]);
    }
}

#[test]
fn a_checkpoint_beside_a_merge_holds_every_row_once() {
    for steps in 0..3 {
        let folder = tempfile::tempdir().expect("a folder");
        let mut warehouse = being_rewritten(folder.path());
        assert!(warehouse.background.let_one_go());
        let mut expected: Vec<i64> = (24..64).collect();
        for lsn in 3..3 + steps {
            write(&mut warehouse, lsn, &[20 + lsn as i64 * 2], &[]);
            expected.retain(|&id| id != 20 + lsn as i64 * 2);
            publish(&mut warehouse, lsn);
        }
        write(&mut warehouse, 90, &[60], &[7]);
        for expected_ids in
            [expected.clone(), [vec![7], expected.into_iter().filter(|&id| id != 60).collect()].concat()]
        {
            // The first checkpoint with edits staged that are not published.
            warehouse.checkpoint().expect("checkpoint");
            let copy = tempfile::tempdir().expect("a folder");
            for entry in fs::read_dir(folder.path()).expect("a folder") {
                let entry = entry.expect("an entry");
                fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("a copy");
            }
            assert_eq!(ids(&Warehouse::open(copy.path(), small()).expect("open")), expected_ids, "{steps} steps");
            publish(&mut warehouse, 90);
        }
        warehouse.verify().expect("a sound folder");
    }
}

#[test]
fn a_merge_that_knows_of_edits_nobody_saw_stays_out_of_a_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = held(folder.path());
    write(&mut warehouse, 1, &[], &(0..64).collect::<Vec<_>>());
    publish(&mut warehouse, 1);
    // Deletes that no version shows, and a merge that leaves their rows out: as when a publish fails after it has given the job away.
    write(&mut warehouse, 2, &(0..24).collect::<Vec<_>>(), &[]);
    let job = warehouse.tables[0].purge_job(33, 64, 1_000).expect("24 of 64 rows are dead");
    let merged = job.run().expect("merged");
    warehouse.tables[0].waiting.push(std::sync::Arc::new(merged));
    assert_eq!(warehouse.checkpoint().expect("checkpoint"), Lsn(1));
    let opened = |dir: &Path| {
        let copy = tempfile::tempdir().expect("a folder");
        for entry in fs::read_dir(dir).expect("a folder") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), copy.path().join(entry.file_name())).expect("a copy");
        }
        ids(&Warehouse::open(copy.path(), small()).expect("open"))
    };
    assert_eq!(opened(folder.path()), (0..64).collect::<Vec<_>>());
    publish(&mut warehouse, 2);
    assert_eq!(ids(&warehouse), (24..64).collect::<Vec<_>>());
    assert_eq!(warehouse.reader().version().chunk_count(T), 1, "it comes in with the publish");
    warehouse.checkpoint().expect("checkpoint");
    assert_eq!(opened(folder.path()), (24..64).collect::<Vec<_>>());
}

#[test]
fn a_version_held_through_merges_still_finds_its_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = create(folder.path());
    let mut held = Vec::new();
    for lsn in 1..200 {
        // Each row is written again after 40 commits, so chunks die and become one over and over.
        let first = lsn as i64 * 3 % 120;
        write(&mut warehouse, lsn, &[], &[first, first + 1, first + 2]);
        publish(&mut warehouse, lsn);
        held.push(warehouse.reader().version());
    }
    for version in held.iter().step_by(7) {
        let rows = scanned(version, T);
        for id in -1..121 {
            let found = version.get(T, Key::Int(id).as_ref()).expect("get");
            assert_eq!(found.as_ref(), rows.get(&Key::Int(id)), "row {id} of {}", version.watermark());
        }
    }
}

#[test]
fn edits_go_on_while_a_checkpoint_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = held(folder.path());
    for lsn in 1..=10 {
        write(&mut warehouse, lsn, &[], &[lsn as i64, 100 + lsn as i64]);
        publish(&mut warehouse, lsn);
    }
    assert!(!warehouse.background.is_idle(), "eight small chunks are being merged");
    warehouse.begin_checkpoint().expect("begun");
    assert_eq!(warehouse.poll_checkpoint().expect("a look"), None, "it waits for the merge");
    assert!(warehouse.background.let_one_go());
    assert_eq!(warehouse.poll_checkpoint().expect("a look"), None, "it is written");
    write(&mut warehouse, 11, &[1, 101], &[2]);
    publish(&mut warehouse, 11);
    assert_eq!((warehouse.visible(), warehouse.durable()), (Lsn(11), Lsn(0)));
    while warehouse.background.let_one_go() {}
    assert_eq!(warehouse.poll_checkpoint().expect("an end"), Some(Lsn(10)));
    let expected: Vec<i64> = (2..=10).chain(102..=110).collect();
    for lsn in 11..22 {
        publish(&mut warehouse, lsn);
        assert_eq!(ids(&warehouse), expected);
    }
    assert_eq!(warehouse.reader().version().chunk_count(T), 2, "what was written as one is one");
    assert_eq!(warehouse.checkpoint().expect("checkpoint"), Lsn(21));
    let counters = warehouse.counters();
    assert_eq!((counters.checkpoints, counters.bytes_rewritten), (2, 0), "each row was written once");
    drop(warehouse);
    assert_eq!(ids(&Warehouse::open(folder.path(), small()).expect("open")), expected);
}

#[test]
fn a_checkpoint_that_fails_at_the_side_says_so_and_the_next_one_makes_up_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = held(folder.path());
    write(&mut warehouse, 1, &[], &[1, 2, 3]);
    publish(&mut warehouse, 1);
    fs::create_dir(folder.path().join("MANIFEST.new")).expect("a folder in the way");
    warehouse.begin_checkpoint().expect("begun");
    while warehouse.background.let_one_go() {}
    let error = warehouse.poll_checkpoint().expect_err("no manifest can be written").to_string();
    assert!(error.contains("MANIFEST.new"), "{error}");
    assert_eq!(warehouse.durable(), Lsn(0));
    fs::remove_dir(folder.path().join("MANIFEST.new")).expect("out of the way");
    write(&mut warehouse, 2, &[2], &[]);
    publish(&mut warehouse, 2);
    assert_eq!(warehouse.checkpoint().expect("the second try"), Lsn(2));
    drop(warehouse);
    assert_eq!(ids(&Warehouse::open(folder.path(), small()).expect("open")), [1, 3]);
}

#[test]
fn a_checkpoint_that_fails_claims_no_chunk() {
    for at_the_side in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut warehouse = limited(folder.path(), 1_000);
        if at_the_side {
            hold(&mut warehouse);
        }
        write(&mut warehouse, 1, &[], &(0..40).collect::<Vec<_>>());
        publish(&mut warehouse, 1);
        assert!(warehouse.checkpoint_is_due());
        let in_the_way: Vec<_> = (0..8).map(|id| segment_path(folder.path(), id)).collect();
        in_the_way.iter().for_each(|path| fs::create_dir(path).expect("a folder in the way"));
        let begun = warehouse.begin_checkpoint();
        assert_eq!(begun.is_ok(), at_the_side);
        if at_the_side {
            assert!(warehouse.tables[0].slots[0].chunk.is_written() && !warehouse.checkpoint_is_due(), "it soon is");
            while warehouse.background.let_one_go() {}
            warehouse.poll_checkpoint().expect_err("no segment can be written");
        }
        assert!(!warehouse.tables[0].slots[0].chunk.is_written(), "at the side: {at_the_side}");
        assert!(warehouse.checkpoint_is_due());
        in_the_way.iter().for_each(|path| fs::remove_dir(path).expect("out of the way"));
        assert_eq!(warehouse.checkpoint().expect("the second try"), Lsn(1));
        assert!(!warehouse.checkpoint_is_due());
    }
}

#[test]
fn what_is_read_turns_the_memory_over_without_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = limited(folder.path(), 20_000);
    let load = warehouse.bulk();
    for first in (0..1_024).step_by(32) {
        load.write(T, batch_of(&catalog().tables[0], &int_rows(first..first + 32, 0))).expect("write");
    }
    load.publish(&mut warehouse, Lsn(1)).expect("publish");
    let slots: Vec<_> = warehouse.tables[0].slots.iter().map(|slot| slot.chunk.clone()).collect();
    assert!(slots.iter().any(|chunk| chunk.is_loaded()), "the memory is full");
    let version = warehouse.reader().version();
    for chunk in slots {
        let key = chunk.keys().expect("keys").get(0).expect("a key");
        for _ in 0..2 {
            assert!(version.get(T, key).expect("get").is_some());
            warehouse.poll_checkpoint().expect("a look");
        }
        assert!(chunk.is_loaded(), "the second reader finds room");
        assert!(warehouse.memory.held() <= 20_000);
    }
}

#[test]
fn a_merge_that_fails_is_the_next_call_s_error_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(being_rewritten(folder.path()));
    let mut warehouse = Warehouse::open(folder.path(), small()).expect("open");
    hold(&mut warehouse);
    write(&mut warehouse, 2, &(0..24).collect::<Vec<_>>(), &[]);
    publish(&mut warehouse, 2);
    let mut paths = fs::read_dir(folder.path()).expect("a folder").filter_map(Result::ok).map(|entry| entry.path());
    let segment = paths.find(|path| path.extension().is_some_and(|end| end == "parquet")).expect("a segment");
    let good = fs::read(&segment).expect("the file");
    fs::write(&segment, &good[1..]).expect("a damaged file");
    assert!(warehouse.background.let_one_go());
    let error = warehouse.publish(Lsn(3)).expect_err("a damaged segment");
    assert!(error.to_string().contains("is damaged"), "{error}");
    fs::write(&segment, &good).expect("restored");
    for lsn in 3..40 {
        write(&mut warehouse, lsn, &[30], &[]);
        publish(&mut warehouse, lsn);
        while warehouse.background.let_one_go() {}
    }
    assert_eq!(ids(&warehouse), (24..64).filter(|&id| id != 30).collect::<Vec<_>>());
    assert!(matches!(warehouse.tables[0].slots.as_slice(), [one] if one.chunk.rows < 64), "rewritten in the end");
}

#[test]
fn a_warehouse_dropped_while_threads_write_leaves_a_sound_folder() {
    let options = WarehouseOptions { compaction_threads: 2, ..small() };
    let folder = tempfile::tempdir().expect("a folder");
    drop(Warehouse::create(folder.path(), &catalog(), options.clone()).expect("a warehouse"));
    let mut lsn = 0;
    for _ in 0..20 {
        let mut warehouse = Warehouse::open(folder.path(), options.clone()).expect("open");
        let before = warehouse.durable();
        assert_eq!(ids(&warehouse).len() as u64, before.0);
        lsn = before.0;
        for _ in 0..100 {
            lsn += 1;
            write(&mut warehouse, lsn, &[], &[lsn as i64, 1]);
            publish(&mut warehouse, lsn);
        }
        warehouse.begin_checkpoint().expect("begun");
        while warehouse.wanted {
            warehouse.poll_checkpoint().expect("a look");
        }
    }
    assert_eq!(lsn, 2_000, "a checkpoint that was begun is finished before the folder is let go");
}

#[test]
fn rows_beyond_the_limit_are_let_go_and_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let limit = 60_000;
    let options = WarehouseOptions { memory_bytes_max: Some(limit), compaction_threads: 0, ..small() };
    let mut warehouse = Warehouse::create(folder.path(), &catalog(), options).expect("a warehouse");
    let mut lsn = 0;
    while !warehouse.checkpoint_is_due() {
        lsn += 1;
        assert!(lsn < 1_000, "half the limit without a segment makes a checkpoint due");
        let first = lsn as i64 * 50;
        write(&mut warehouse, lsn, &[], &(first..first + 50).collect::<Vec<_>>());
        publish(&mut warehouse, lsn);
    }
    warehouse.checkpoint().expect("checkpoint");
    assert!(!warehouse.checkpoint_is_due());
    let held = warehouse.reader().version();
    for _ in 0..100 {
        lsn += 1;
        let first = lsn as i64 * 50;
        write(&mut warehouse, lsn, &[], &(first..first + 50).collect::<Vec<_>>());
        publish(&mut warehouse, lsn);
        if warehouse.checkpoint_is_due() {
            warehouse.checkpoint().expect("checkpoint");
            assert!(warehouse.storage().row_bytes <= limit, "{:?}", warehouse.storage());
        }
    }
    let version = warehouse.reader().version();
    let counters = warehouse.storage();
    assert!(counters.rows_in_memory < counters.rows_live / 2, "{counters:?}");
    assert_eq!(scanned(&version, T).len() as u64, lsn * 50);
    assert!(held.row_count(T) > 0 && scanned(&held, T).len() as u64 == held.row_count(T), "a version held meanwhile");
    for id in [50, 51, lsn as i64 * 50, lsn as i64 * 50 + 49] {
        assert!(version.get(T, Key::Int(id).as_ref()).expect("get").is_some(), "row {id}");
    }
    assert!(warehouse.storage().row_bytes <= limit, "a scan keeps no more than it may: {:?}", warehouse.storage());
    drop((held, version, warehouse));
    let wrong = Warehouse::open(folder.path(), small()).and_then(|warehouse| warehouse.verify());
    assert!(!matches!(wrong, Err(WarehouseError::Corrupt { .. })) && wrong.is_ok());
}

/// Writes 20 new rows at a time, so few that a checkpoint merges them, until `enough`; the number of publishes.
fn write_until(warehouse: &mut Warehouse, lsn: &mut u64, enough: impl Fn(&Warehouse) -> bool) -> u64 {
    for publishes in 0..1_000 {
        if enough(warehouse) {
            return publishes;
        }
        *lsn += 1;
        let first = *lsn as i64 * 20;
        write(warehouse, *lsn, &[], &(first..first + 20).collect::<Vec<_>>());
        publish(warehouse, *lsn);
    }
    panic!("never enough");
}

fn limited(dir: &Path, limit: u64) -> Warehouse {
    let options = WarehouseOptions { memory_bytes_max: Some(limit), ..small() };
    Warehouse::create(dir, &catalog(), options).expect("a warehouse")
}

#[test]
fn a_checkpoint_for_memory_is_not_followed_by_another_without_need() {
    for at_the_side in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut warehouse = limited(folder.path(), 60_000);
        if at_the_side {
            hold(&mut warehouse);
        }
        let mut lsn = 0;
        let first = write_until(&mut warehouse, &mut lsn, Warehouse::checkpoint_is_due);
        for round in 1..6 {
            warehouse.begin_checkpoint().expect("begun");
            while warehouse.background.let_one_go() {}
            assert_eq!(warehouse.running.is_some(), at_the_side);
            while warehouse.poll_checkpoint().expect("a look").is_none() {
                while warehouse.background.let_one_go() {}
            }
            assert!(!warehouse.checkpoint_is_due(), "round {round}, at the side: {at_the_side}");
            assert_eq!(warehouse.counters().checkpoints, round);
            let publishes = write_until(&mut warehouse, &mut lsn, Warehouse::checkpoint_is_due);
            assert!(
                publishes * 3 >= first,
                "after {publishes} publishes instead of {first}, at the side: {at_the_side}"
            );
        }
        warehouse.checkpoint().expect("checkpoint");
        assert_eq!(ids(&warehouse).len() as u64, lsn * 20);
    }
}

#[test]
fn a_limit_of_rows_without_a_segment_makes_a_checkpoint_under_way_overdue() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = limited(folder.path(), 60_000);
    hold(&mut warehouse);
    let mut lsn = 0;
    write_until(&mut warehouse, &mut lsn, Warehouse::checkpoint_is_due);
    while warehouse.background.let_one_go() {}
    warehouse.begin_checkpoint().expect("begun");
    while warehouse.running.is_none() {
        while warehouse.background.let_one_go() {}
        warehouse.poll_checkpoint().expect("a look");
    }
    assert!(
        !warehouse.checkpoint_is_due() && !warehouse.checkpoint_is_overdue(),
        "what it writes is not to be written"
    );
    write_until(&mut warehouse, &mut lsn, Warehouse::checkpoint_is_overdue);
    assert!(warehouse.memory.held() < 90_000, "{} bytes", warehouse.memory.held());
    while warehouse.background.let_one_go() {}
    assert_eq!(warehouse.checkpoint().expect("checkpoint"), Lsn(lsn));
    assert!(!warehouse.checkpoint_is_due() && !warehouse.checkpoint_is_overdue());
    assert_eq!(ids(&warehouse).len() as u64, lsn * 20);
}
