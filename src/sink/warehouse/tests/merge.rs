//! Which chunks become one.

use super::super::Warehouse;
use super::super::merge::run_length;
use super::super::merged::Job;
use super::support::{create, edit_set, edits, int_rows};
use crate::model::{Key, Lsn, TableId};
use crate::sink::Sink;

#[test]
fn the_youngest_chunks_worth_merging() {
    let run = |rows: &[usize]| run_length(rows.iter().copied());
    assert_eq!(run(&[1_000; 7]), None);
    assert_eq!(run(&[1_000; 8]), Some(8));
    // All that follow of no higher tier come along: 1,000 lies in the tier from 512 to 4,095.
    assert_eq!(run(&[1_000; 12]), Some(12));
    assert_eq!(run(&[&[1_000; 8][..], &[4_000, 4_096]].concat()), Some(9));
    // The oldest may not be larger than the others together.
    assert_eq!(run(&[&[1_000; 7][..], &[8_000]].concat()), None);
    assert_eq!(run(&[&[1_000; 7][..], &[7_000]].concat()), Some(8));
}

/// Chunks of these row counts, with so many dead rows at the beginning of each.
fn table_of(chunks: &[(i64, i64)]) -> (tempfile::TempDir, Warehouse) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = create(folder.path());
    // Merges of its own come too late.
    warehouse.background.hold();
    warehouse.budget.inline_rows_max = 0;
    let catalog = warehouse.catalog();
    let (mut first, mut dead) = (0, Vec::new());
    for (lsn, &(rows, dead_rows)) in (1..).zip(chunks) {
        let rows_now = int_rows(first..first + rows, 0);
        let edit = edits(&catalog, TableId(0), false, &[], &rows_now);
        warehouse.apply(&edit_set(lsn, vec![edit])).expect("apply");
        dead.extend((first..first + dead_rows).map(Key::Int));
        first += rows;
    }
    let edit = edits(&catalog, TableId(0), false, &dead, &[]);
    warehouse.apply(&edit_set(chunks.len() as u64 + 1, vec![edit])).expect("apply");
    (folder, warehouse)
}

fn rows_of(job: Option<Job>) -> Option<Vec<usize>> {
    Some(job?.sources.chunks().map(|chunk| chunk.rows).collect())
}

#[test]
fn the_deadest_neighbours_are_purged_and_small_ones_beside_them_join() {
    let purged = |chunks: &[(i64, i64)], rows_max: usize| {
        let (_folder, mut warehouse) = table_of(chunks);
        rows_of(warehouse.tables[0].purge_job(33, 64, rows_max))
    };
    assert_eq!(purged(&[(60, 10), (61, 40), (62, 10), (59, 30)], 1_000), Some(vec![61]));
    // The deadest is waited for when the budget does not do for it, and not passed over for a cheaper one.
    assert_eq!(purged(&[(60, 40), (10, 4)], 19), None);
    assert_eq!(purged(&[(60, 40), (30, 0), (10, 4)], 20), Some(vec![60]));
    // Neighbours that are dead enough are one job as far as their live rows make one chunk.
    assert_eq!(purged(&[(60, 30), (61, 31), (62, 30)], 1_000), Some(vec![60, 61]));
    // Small ones beside it join, older ones first, with at most its own live rows: 9 and 3 of 20, then 9 more are too many.
    assert_eq!(purged(&[(3, 0), (9, 0), (60, 40), (9, 0), (63, 0)], 1_000), Some(vec![3, 9, 60]));
    assert_eq!(purged(&[(9, 0), (60, 40), (9, 0)], 29), Some(vec![9, 60]));
    // Too few rows to be worth it, or nothing that lives.
    assert_eq!(purged(&[(3, 2), (63, 0)], 1_000), None);
    assert_eq!(purged(&[(60, 60)], 1_000), None);
}

#[test]
fn a_checkpoint_merges_neighbours_alone_and_writes_old_segments_only_in_a_run() {
    let (_folder, mut warehouse) = table_of(&[(60, 0), (5, 0), (61, 0), (6, 0), (62, 0), (7, 0)]);
    warehouse.publish(Lsn(7)).expect("publish");
    let mut visible = (*warehouse.reader().version().tables[0]).clone();
    // The dead chunk between two small ones parts nothing.
    (0..61).for_each(|row| _ = visible.slots[2].deleted.mark(row));
    let jobs = warehouse.tables[0].checkpoint_jobs(&visible, 64);
    assert_eq!(jobs.into_iter().filter_map(|job| rows_of(Some(job))).collect::<Vec<_>>(), [vec![5, 61, 6]]);
    let (_folder, mut warehouse) = table_of(&[(8, 1), (60, 0), (8, 1), (60, 0), (8, 1)]);
    warehouse.publish(Lsn(6)).expect("publish");
    warehouse.checkpoint().expect("checkpoint");
    for lsn in 7..40 {
        let edit = edits(&warehouse.catalog(), TableId(0), false, &[], &int_rows(lsn * 10..lsn * 10 + 1, 0));
        warehouse.apply(&edit_set(lsn as u64, vec![edit])).expect("apply");
        warehouse.publish(Lsn(lsn as u64)).expect("publish");
        warehouse.checkpoint().expect("checkpoint");
    }
    let counters = warehouse.storage();
    // One row a checkpoint: each is written once for itself and about log8(16) times more.
    assert!(counters.rows_merged < 33 * 4, "{counters:?}");
}
