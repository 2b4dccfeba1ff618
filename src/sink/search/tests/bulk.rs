//! Rebuilds: a new generation beside the one in use.

use super::super::{SearchError, SearchReader};
use super::support::*;
use crate::model::{KeyRef, Lsn, TableId, Value};
use crate::sink::{Bulk, Sink, SinkError};
use std::fs;
use std::path::Path;

fn generations(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("generation-")).collect();
    names.sort();
    names
}

fn rows(ids: std::ops::Range<i64>, text: &str) -> arrow_array::RecordBatch {
    batch_of(&catalog().tables[0], &ids.map(|id| int_row(id, text)).collect::<Vec<_>>())
}

#[test]
fn a_reader_held_across_a_swap_keeps_what_it_had() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    index.apply(&upsert(1, INT, &[int_row(1, "old"), int_row(2, "old")])).expect("accepted");
    let text = vec![Value::text("k"), Value::Int(1), Value::text("stays")];
    index.apply(&upsert(2, TEXT, std::slice::from_ref(&text))).expect("accepted");
    index.publish(Lsn(2)).expect("published");
    let (reader, before) = (index.reader(), index.reader().view());

    let bulk = index.bulk().expect("a bulk load");
    bulk.write(INT, &rows(2..1000, "new")).expect("written");
    assert_eq!(reader.view().watermark(), Lsn(2), "nothing of it is seen");
    index.install(bulk, Lsn(5)).expect("installed");

    let after = reader.view();
    assert_eq!((after.watermark(), after.doc_count(), index.durable()), (Lsn(5), 999, Lsn(5)));
    assert_eq!(after.hits(INT, KeyRef::Int(1)).expect("hits"), 0);
    assert_eq!(after.rows(TEXT).next().expect("a row").expect("a row"), [text[0].clone(), text[2].clone()]);
    assert_eq!((before.watermark(), before.rows(INT).count()), (Lsn(2), 2));
    assert_eq!(before.row(INT, KeyRef::Int(1)).expect("a row"), Some(vec![Value::Int(1), Value::text("old")]));
    assert_eq!(before.count_matches("old").expect("a count"), 2);
    assert_eq!(generations(dir.path()), ["generation-0000000002"]);
    // The new generation takes edits, and is what the next opening finds.
    index.apply(&upsert(6, INT, &[int_row(2, "edited")])).expect("accepted");
    index.publish(Lsn(6)).expect("published");
    assert_eq!(reader.view().doc_count(), 999);
    drop(index);
    let index = open(dir.path());
    assert_eq!((index.visible(), index.reader().view().doc_count()), (Lsn(5), 999));
    assert_eq!(SearchReader::open(dir.path()).expect("a reader").view().watermark(), Lsn(5));
}

#[test]
fn a_dropped_bulk_leaves_nothing_and_an_included_table_may_be_empty() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    index.apply(&upsert(1, INT, &[int_row(1, "old")])).expect("accepted");
    index.publish(Lsn(1)).expect("published");
    let bulk = index.bulk().expect("a bulk load");
    bulk.write(INT, &rows(0..5000, "new")).expect("written");
    assert_eq!(generations(dir.path()).len(), 2);
    drop(bulk);
    assert_eq!(generations(dir.path()), ["generation-0000000001"]);
    assert_eq!(index.reader().view().doc_count(), 1);
    let bulk = index.bulk().expect("a bulk load");
    bulk.include(INT).expect("a table");
    assert!(matches!(bulk.include(TableId(9)), Err(SearchError::NoTable { table: 9 })));
    index.install(bulk, Lsn(1)).expect("installed");
    assert_eq!(index.reader().view().doc_count(), 0);
}

#[test]
fn threads_write_at_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    let bulk = index.bulk().expect("a bulk load");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let bulk = &bulk;
            scope.spawn(move || {
                for part in 0..5 {
                    let start = thread * 1000 + part * 200;
                    Bulk::write(bulk, INT, rows(start..start + 200, "many threads")).expect("written");
                }
            });
        }
    });
    index.install(bulk, Lsn(3)).expect("installed");
    let view = index.reader().view();
    assert_eq!((view.rows(INT).count(), view.count_matches("threads").expect("a count")), (4000, 4000));
    assert_eq!(index.counters().rows_upserted, 4000);
    let bare = batch_of(&catalog().tables[3], &[vec![Value::text("k"), Value::Null]]);
    let bulk = index.bulk().expect("a bulk load");
    bulk.write(BARE, &bare).expect("a table that is not indexed is no error");
    index.install(bulk, Lsn(4)).expect("installed");
    assert_eq!(index.reader().view().doc_count(), 4000);
}

#[test]
fn a_key_twice_and_unpublished_edits_are_refused_and_the_index_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    let bulk = index.bulk().expect("a bulk load");
    bulk.write(INT, &rows(0..10, "new")).expect("written");
    let twice = bulk.write(INT, &rows(9..12, "new")).expect_err("a key twice");
    assert!(twice.to_string().contains("\"by/int\": there are two rows of key 9"), "{twice}");
    index.apply(&upsert(1, INT, &[int_row(1, "edit")])).expect("accepted");
    let refused = index.install(bulk, Lsn(1));
    assert!(matches!(refused, Err(SinkError::Search(SearchError::Unpublished { .. }))));
    index.publish(Lsn(1)).expect("published");
    assert_eq!(index.reader().view().doc_count(), 1);
    assert_eq!(generations(dir.path()), ["generation-0000000001"]);
}
