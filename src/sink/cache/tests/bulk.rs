//! Generations built beside the one readers see.

use super::support::*;
use crate::model::{Key, KeyRef, Lsn, TableId, Value};
use crate::sink::cache::{CacheConflict, CacheError, CacheFill, Lookup};
use crate::sink::{Bulk, Sink, SinkError};
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) fn a_generation_is_swapped_under_a_reader(place: &Place) {
    let mut cache = place.cache();
    let catalog = catalog();
    put(&mut cache, &int_set(1, &[5], &[int_row(1, 1), int_row(100_000, 1)]), 1);
    let reader = cache.reader();
    let load = cache.bulk().expect("a generation");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = reader.clone();
        let (stop, schema) = (&stop, &catalog.tables[0]);
        let watcher = scope.spawn(move || {
            let mut last = Lsn(1);
            while !stop.load(Ordering::Acquire) {
                let before = watching.watermark();
                let Lookup::Hit { position, row: Some(row) } = lookup_of(&watching, 1) else { panic!("a miss") };
                assert!(position >= last && position >= before, "{position} after {last}, watermark {before}");
                assert_eq!(row, int_row(1, position.0 as i64));
                last = position;
            }
            last
        });
        let load = &load;
        let writers = (0..4i64).map(|part| {
            scope.spawn(move || {
                let rows: Vec<_> = (part * 500..(part + 1) * 500).map(|id| int_row(id, 7)).collect();
                rows.chunks(130).for_each(|rows| load.write(INTS, batch_of(schema, rows)).expect("write"));
            })
        });
        writers.collect::<Vec<_>>().into_iter().for_each(|writer| writer.join().expect("a writer"));
        assert_eq!(known(&reader, INTS).len(), 3, "nobody sees the generation yet");
        assert_eq!(reader.watermark(), Lsn(1));
        stop.store(true, Ordering::Release);
        watcher.join().expect("the watcher");
    });
    cache.install(load, Lsn(7)).expect("install");
    assert_eq!((reader.watermark(), lookup(&reader, 1)), (Lsn(7), hit(7, int_row(1, 7))));
    assert_eq!(lookup(&reader, 100_000), Lookup::Miss, "what the load does not have is gone");
    let all = known(&reader, INTS);
    assert!((0..2_000).all(|id| all.get(&Key::Int(id)) == Some(&(Lsn(7), Some(int_row(id, 7))))));
    assert_eq!(all.len(), 2_000);
    assert!(!reader.fill(INTS, KeyRef::Int(100_000), Some(&refs(&int_row(100_000, 1))), Lsn(6)).expect("fill"));
    put(&mut cache, &int_set(8, &[], &[int_row(1, 8)]), 8);
    assert_eq!(lookup(&reader, 1), hit(8, int_row(1, 8)));
}

fn lookup_of(reader: &crate::sink::cache::CacheReader, id: i64) -> Lookup {
    reader.get(INTS, KeyRef::Int(id)).expect("get")
}

pub(super) fn a_generation_keeps_what_it_does_not_include_and_what_is_newer(place: &Place) {
    let mut cache = place.cache();
    let catalog = catalog();
    let pair = vec![Value::Int(1), Value::Null, Value::text("b")];
    let pair_key = key_of(&catalog.tables[1], &pair);
    put(&mut cache, &edit_set(1, vec![edits(&catalog.tables[1], PAIRS, false, &[], std::slice::from_ref(&pair))]), 1);
    put(&mut cache, &int_set(1, &[], &[int_row(1, 1), int_row(2, 1)]), 1);
    let reader = cache.reader();
    let load = cache.bulk().expect("a generation");
    load.write(INTS, batch_of(&catalog.tables[0], &[int_row(2, 5), int_row(3, 5)])).expect("write");
    assert!(reader.fill(INTS, KeyRef::Int(2), Some(&refs(&int_row(2, 9))), Lsn(9)).expect("fill"));
    assert!(reader.fill(INTS, KeyRef::Int(4), None, Lsn(9)).expect("fill"));
    cache.install(load, Lsn(5)).expect("install");
    assert_eq!((lookup(&reader, 1), lookup(&reader, 3)), (Lookup::Miss, hit(5, int_row(3, 5))));
    assert_eq!((lookup(&reader, 2), lookup(&reader, 4)), (hit(9, int_row(2, 9)), gone(9)));
    let hit = Lookup::Hit { position: Lsn(1), row: Some(pair) };
    assert_eq!(reader.get(PAIRS, pair_key.as_ref()).expect("get"), hit);
    // A table that is included without a row is empty afterwards.
    let load = cache.bulk().expect("a generation");
    load.include(PAIRS).expect("a table");
    assert!(load.include(TableId(9)).is_err());
    cache.install(load, Lsn(5)).expect("install");
    assert!(known(&reader, PAIRS).is_empty());
    assert_eq!(known(&reader, INTS).len(), 3);
}

pub(super) fn it_is_refused_while_edits_wait_or_when_it_is_old(place: &Place) {
    let mut cache = place.cache();
    put(&mut cache, &int_set(5, &[], &[int_row(1, 5)]), 5);
    cache.apply(&int_set(6, &[], &[int_row(1, 6)])).expect("apply");
    let load = cache.bulk().expect("a generation");
    let error = cache.install(load, Lsn(7)).expect_err("edits wait");
    assert!(matches!(error, SinkError::Cache(CacheError::Unpublished { .. })), "{error}");
    cache.publish(Lsn(6)).expect("publish");
    let load = cache.bulk().expect("a generation");
    load.include(INTS).expect("a table");
    let error = cache.install(load, Lsn(5)).expect_err("an old one");
    assert!(matches!(error, SinkError::Cache(CacheError::WatermarkBack { .. })), "{error}");
    assert_eq!(lookup(&cache.reader(), 1), hit(6, int_row(1, 6)));
    // Loaded rows have the position of the load, also where the last write wins and older ones come.
    let mut cache = place.cache_with(CacheFill::Stream, CacheConflict::LastWrite);
    let load = cache.bulk().expect("a generation");
    load.write(INTS, batch_of(&catalog().tables[0], &[int_row(1, 1), int_row(2, 1)])).expect("write");
    cache.install(load, Lsn(10)).expect("install");
    put(&mut cache, &int_set(3, &[], &[int_row(1, 3)]), 10);
    assert_eq!(
        (lookup(&cache.reader(), 1), lookup(&cache.reader(), 2)),
        (hit(3, int_row(1, 3)), hit(10, int_row(2, 1)))
    );
}
