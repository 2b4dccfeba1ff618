//! A steady stream of changes: what the warehouse holds stays bounded, whatever merges where.

use super::super::{Warehouse, WarehouseOptions};
use super::faults::check_files;
use super::support::*;
use crate::model::{Lsn, TableId};
use crate::sink::Sink;
use std::path::Path;

const T: TableId = TableId(0);
const ROWS: i64 = 20_000;
const CHUNK: usize = 2_048;
/// Less than the rows that live come to.
const MEMORY_BYTES_MAX: u64 = 400_000;

fn loaded(dir: &Path, threads: usize) -> Warehouse {
    let options = WarehouseOptions {
        chunk_rows_max: CHUNK,
        compaction_threads: threads,
        memory_bytes_max: Some(MEMORY_BYTES_MAX),
        ..WarehouseOptions::default()
    };
    let mut warehouse = Warehouse::create(dir, &catalog(), options).expect("a warehouse");
    let load = warehouse.bulk();
    load.write(T, batch_of(&catalog().tables[0], &int_rows(0..ROWS, 0))).expect("write");
    load.publish(&mut warehouse, Lsn(1)).expect("publish");
    warehouse
}

#[test]
fn files_chunks_and_memory_stay_bounded() {
    for threads in [0, 1] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut warehouse = loaded(folder.path(), threads);
        let mut random = Random(7);
        let mut last = vec![0; ROWS as usize];
        let mut worst = (0, 0, 0);
        for lsn in 2..302 {
            let ids: std::collections::BTreeSet<i64> = (0..1_000).map(|_| random.below(ROWS as u64) as i64).collect();
            ids.iter().for_each(|&id| last[id as usize] = lsn as i64);
            let rows = int_rows(ids, lsn as i64);
            warehouse.apply(&edit_set(lsn, vec![edits(&catalog(), T, false, &[], &rows)])).expect("apply");
            warehouse.publish(Lsn(lsn)).expect("publish");
            if lsn % 10 == 0 || warehouse.checkpoint_is_due() {
                warehouse.begin_checkpoint().expect("begun");
            }
            // The thread may be two changes behind and no more, however little of the machine it gets.
            while warehouse.poll_checkpoint().expect("a look").is_none() && lsn % 2 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            let files = std::fs::read_dir(folder.path()).expect("a folder").count();
            let chunks = warehouse.reader().version().chunk_count(T);
            worst = (worst.0.max(files), worst.1.max(chunks), worst.2.max(warehouse.storage().row_bytes));
        }
        println!("at the most {} files, {} chunks, {} bytes of rows", worst.0, worst.1, worst.2);
        // At most two rows for each that lives, in chunks of a quarter at least, beside those on their way; and as many
        // files again while a checkpoint is replaced by the next.
        let full = ROWS as usize * 2 / (CHUNK / 4);
        assert!(worst.1 < full, "{} chunks", worst.1);
        assert!(worst.0 < 2 * full, "{} files", worst.0);
        assert!(worst.2 < 2 * MEMORY_BYTES_MAX, "{} bytes of rows", worst.2);
        warehouse.checkpoint().expect("checkpoint");
        // One file left behind at each checkpoint would be within the limits above.
        check_files(folder.path()).expect("no file but those that are named");
        let rows = scanned(&warehouse.reader().version(), T);
        assert!(rows.values().map(|row| row[1].clone()).eq(last.iter().map(|&n| crate::model::Value::Int(n))));
        let counters = warehouse.counters();
        println!("{threads} threads: {counters:?} {:?}", warehouse.storage());
        drop(warehouse);
        let opened = Warehouse::open(folder.path(), small()).expect("open");
        assert_eq!(scanned(&opened.reader().version(), T), rows);
    }
}
