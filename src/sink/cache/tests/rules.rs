//! The rules, one by one.

use super::support::*;
use crate::apply::edits::CurrentRows;
use crate::model::{KeyRef, Lsn, TableId, Value, ValueRef};
use crate::sink::cache::{Cache, CacheConflict, CacheError, CacheFill, CacheOptions, Lookup};
use crate::sink::{Sink, SinkError, SinkKind};

pub(super) fn a_batch_is_seen_only_after_its_publish(place: &Place) {
    let mut cache = place.cache();
    let reader = cache.reader();
    assert_eq!(Cache::KIND, SinkKind::Cache);
    assert_eq!((cache.visible(), reader.watermark(), lookup(&reader, 1)), (Lsn(0), Lsn(0), Lookup::Miss));
    cache.apply(&int_set(3, &[9], &[int_row(1, 10), int_row(2, 20)])).expect("apply");
    assert_eq!((cache.visible(), lookup(&reader, 1), lookup(&reader, 9)), (Lsn(0), Lookup::Miss, Lookup::Miss));
    cache.publish(Lsn(4)).expect("publish");
    assert_eq!((cache.visible(), reader.watermark()), (Lsn(4), Lsn(4)));
    assert_eq!(lookup(&reader, 1), hit(3, int_row(1, 10)));
    assert_eq!(lookup(&reader, 9), gone(3));
    assert_eq!(reader.rows(INTS).expect("rows"), 2);
    assert_eq!(reader.hits_and_misses(), (4, 6), "each lookup of these tests asks twice");
    assert_eq!(reader.clone().hits_and_misses(), (0, 0));
    // Rows: a count of 2 bytes, two integers of 9, text of 5 and its 5 bytes; key, position and kind are 17 more.
    let counters = cache.counters();
    assert_eq!((counters.rows_upserted, counters.rows_deleted, counters.publishes), (2, 1, 1));
    assert_eq!((counters.bytes_written, counters.files_written, counters.fsyncs), (2 * (30 + 17) + 17, 0, 0));
    let durable = if place.is_memory() { Lsn(0) } else { Lsn(4) };
    assert_eq!((cache.durable(), cache.checkpoint().expect("checkpoint")), (durable, durable));
}

/// More than one thread, and more than one step on a server, puts; the border lies among the deletes and among the upserts.
pub(super) fn a_big_batch_is_put_whole(place: &Place) {
    let mut cache = place.cache();
    for (at, border) in [(1, 3_000), (2, 9_000)] {
        let gone: Vec<i64> = (0..border).collect();
        let rows: Vec<_> = (border..12_500).map(|id| int_row(id, at)).collect();
        put(&mut cache, &int_set(at as u64, &gone, &rows), at as u64);
        let all = known(&cache.reader(), INTS);
        assert_eq!(all.len(), 12_500);
        for (id, (position, row)) in (0..).zip(all.into_values()) {
            assert_eq!((position, row), (Lsn(at as u64), (id >= border).then(|| int_row(id, at))));
        }
    }
    assert_eq!(cache.durable(), if place.is_memory() { Lsn(0) } else { Lsn(2) });
}

pub(super) fn a_watermark_never_goes_back(place: &Place) {
    let mut cache = place.cache();
    put(&mut cache, &int_set(5, &[], &[int_row(1, 5)]), 5);
    for (asked, present) in [(4, 5), (0, 5)] {
        let error = cache.publish(Lsn(asked)).expect_err("a watermark that goes back");
        let SinkError::Cache(CacheError::WatermarkBack { asked: a, present: p }) = error else { panic!("{error}") };
        assert_eq!((a, p), (Lsn(asked), Lsn(present)));
    }
    cache.apply(&int_set(9, &[], &[int_row(1, 9)])).expect("apply");
    assert!(cache.publish(Lsn(8)).is_err(), "edits through 9 are accepted");
    assert_eq!(lookup(&cache.reader(), 1), hit(5, int_row(1, 5)));
    cache.publish(Lsn(9)).expect("publish");
    cache.publish(Lsn(9)).expect("the same watermark again");
    assert_eq!(lookup(&cache.reader(), 1), hit(9, int_row(1, 9)));
}

pub(super) fn edits_that_do_not_fit_are_refused_whole(place: &Place) {
    let mut cache = place.cache();
    let catalog = catalog();
    let good = edits(&catalog.tables[0], INTS, false, &[], &[int_row(1, 1)]);
    let mut of_others = good.clone();
    of_others.upsert_keys = crate::model::KeyColumn::Int(vec![7]);
    let mut of_another_table = good.clone();
    of_another_table.upserts = batch_of(&catalog.tables[1], &[vec![Value::Int(1), Value::Null, Value::text("b")]]);
    let mut with_null = good.clone();
    with_null.upserts = batch_of(&catalog.tables[0], &[vec![Value::Null, Value::Int(1), Value::Null]]);
    let mut of_no_table = good.clone();
    of_no_table.table = TableId(7);
    let mut encoded = good.clone();
    encoded.table = PAIRS;
    for (bad, what) in [
        (of_others, "keys of other rows"),
        (of_another_table, "column \"n\" is Utf8, not int64"),
        (with_null, "column \"id\" holds NULL"),
        (of_no_table, "no table number 7"),
        (encoded, "keys of another kind"),
    ] {
        let error = cache.apply(&edit_set(1, vec![good.clone(), bad])).expect_err(what).to_string();
        assert!(error.contains(what), "{error}");
    }
    cache.publish(Lsn(1)).expect("publish");
    assert_eq!(lookup(&cache.reader(), 1), Lookup::Miss);
    assert!(cache.reader().get(TableId(7), KeyRef::Int(1)).is_err());
}

pub(super) fn an_older_write_never_replaces_a_newer_one(place: &Place) {
    let mut cache = place.cache();
    let reader = cache.reader();
    cache.apply(&int_set(20, &[], &[int_row(1, 20)])).expect("apply");
    cache.apply(&int_set(10, &[2], &[int_row(1, 10), int_row(3, 10)])).expect("apply");
    cache.publish(Lsn(20)).expect("publish");
    assert_eq!(lookup(&reader, 1), hit(20, int_row(1, 20)));
    assert_eq!((lookup(&reader, 2), lookup(&reader, 3)), (gone(10), hit(10, int_row(3, 10))));
    let row = int_row(1, 15);
    assert!(!reader.fill(INTS, KeyRef::Int(1), Some(&refs(&row)), Lsn(15)).expect("fill"));
    assert!(!reader.fill(INTS, KeyRef::Int(1), None, Lsn(19)).expect("fill"));
    assert_eq!(lookup(&reader, 1), hit(20, int_row(1, 20)));
    // Positions beyond 32 bits, and beyond what a double holds.
    for position in [1 << 32, (1 << 53) + 1, u64::MAX] {
        put(&mut cache, &int_set(position, &[], &[int_row(1, 21)]), position);
        assert_eq!(lookup(&reader, 1), hit(position, int_row(1, 21)));
        assert!(!reader.fill(INTS, KeyRef::Int(1), None, Lsn(position - 1)).expect("fill"));
    }
    put(&mut cache, &int_set(u64::MAX, &[], &[int_row(1, 22)]), u64::MAX);
    assert_eq!(lookup(&reader, 1), hit(u64::MAX, int_row(1, 22)), "an equal position replaces");
}

pub(super) fn a_tombstone_stops_resurrection(place: &Place) {
    let mut cache = place.cache();
    let reader = cache.reader();
    put(&mut cache, &int_set(10, &[], &[int_row(1, 10)]), 10);
    put(&mut cache, &int_set(20, &[1, 2], &[]), 20);
    for id in [1, 2] {
        assert!(!reader.fill(INTS, KeyRef::Int(id), Some(&refs(&int_row(id, 15))), Lsn(15)).expect("fill"));
        put(&mut cache, &int_set(19, &[], &[int_row(id, 19)]), 20);
        assert_eq!(lookup(&reader, id), gone(20));
    }
    put(&mut cache, &int_set(21, &[], &[int_row(1, 21)]), 21);
    assert_eq!(lookup(&reader, 1), hit(21, int_row(1, 21)));
    assert_eq!(known(&reader, INTS).len(), 2, "the tombstone is known");
    assert_eq!(reader.rows(INTS).expect("rows"), 1);
}

pub(super) fn the_last_write_does_win_when_told_so(place: &Place) {
    let mut cache = place.cache_with(CacheFill::Stream, CacheConflict::LastWrite);
    let reader = cache.reader();
    cache.apply(&int_set(20, &[2], &[int_row(1, 20)])).expect("apply");
    cache.apply(&int_set(10, &[], &[int_row(1, 10), int_row(2, 10)])).expect("apply");
    cache.publish(Lsn(20)).expect("publish");
    assert_eq!(lookup(&reader, 1), hit(10, int_row(1, 10)), "the older value stays for good");
    assert_eq!(lookup(&reader, 2), hit(10, int_row(2, 10)), "the row comes back");
    assert!(reader.fill(INTS, KeyRef::Int(1), None, Lsn(5)).expect("fill"));
    assert_eq!(lookup(&reader, 1), gone(5));
}

pub(super) fn a_truncate_takes_one_table_and_what_is_late_for_it(place: &Place) {
    let catalog = catalog();
    let pair = vec![Value::Int(1), Value::Null, Value::text("b")];
    let pair_key = key_of(&catalog.tables[1], &pair);
    for conflict in [CacheConflict::NewerWins, CacheConflict::LastWrite] {
        let mut cache = place.cache_with(CacheFill::Stream, conflict);
        let reader = cache.reader();
        let pairs = edits(&catalog.tables[1], PAIRS, false, &[], std::slice::from_ref(&pair));
        put(&mut cache, &edit_set(1, vec![pairs]), 1);
        put(&mut cache, &int_set(1, &[], &[int_row(1, 1), int_row(2, 1)]), 1);
        let truncate = edits(&catalog.tables[0], INTS, true, &[], &[int_row(2, 5), int_row(3, 5)]);
        put(&mut cache, &edit_set(5, vec![truncate.clone()]), 5);
        assert_eq!((lookup(&reader, 1), lookup(&reader, 2)), (Lookup::Miss, hit(5, int_row(2, 5))));
        assert_eq!(known(&reader, INTS).len(), 2);
        assert!(matches!(reader.get(PAIRS, pair_key.as_ref()), Ok(Lookup::Hit { position: Lsn(1), .. })));
        let late = reader.fill(INTS, KeyRef::Int(1), Some(&refs(&int_row(1, 1))), Lsn(4)).expect("fill");
        assert_eq!(late, conflict == CacheConflict::LastWrite, "a read from before the truncate");
        // A replay of the truncate leaves what is newer.
        if conflict == CacheConflict::NewerWins {
            put(&mut cache, &int_set(8, &[3], &[int_row(2, 8)]), 8);
            put(&mut cache, &edit_set(5, vec![truncate]), 8);
            assert_eq!((lookup(&reader, 2), lookup(&reader, 3)), (hit(8, int_row(2, 8)), gone(8)));
        }
    }
}

pub(super) fn a_current_row_is_right_or_an_error(place: &Place) {
    let mut cache = place.cache();
    let current = |cache: &Cache, id| cache.current_row(INTS, KeyRef::Int(id));
    let error = current(&cache, 1).expect_err("a cold cache").to_string();
    assert!(error.contains("by/int") && error.contains("key 1") && error.contains("load the table"), "{error}");
    put(&mut cache, &int_set(1, &[2], &[int_row(1, 1)]), 1);
    assert_eq!(current(&cache, 1).expect("a row"), Some(int_row(1, 1)));
    assert_eq!(current(&cache, 2).expect("no row"), None);
    cache.apply(&int_set(2, &[1], &[int_row(2, 2)])).expect("apply");
    cache.apply(&int_set(3, &[], &[int_row(3, 3)])).expect("apply");
    assert_eq!(current(&cache, 1).expect("deleted by a staged edit"), None);
    assert_eq!(current(&cache, 2).expect("a staged row"), Some(int_row(2, 2)));
    assert_eq!(current(&cache, 3).expect("a staged row"), Some(int_row(3, 3)));
    let truncate = edits(&catalog().tables[0], INTS, true, &[], &[int_row(4, 4)]);
    cache.apply(&edit_set(4, vec![truncate])).expect("apply");
    assert_eq!(current(&cache, 2).expect("truncated by a staged edit"), None);
    cache.publish(Lsn(4)).expect("publish");
    assert_eq!(current(&cache, 4).expect("a row"), Some(int_row(4, 4)));
    match current(&cache, 2) {
        Ok(row) => assert!(place.is_memory() && row.is_none(), "all that is in the table came through here"),
        Err(_) => assert!(!place.is_memory(), "a server may have evicted it"),
    }
    // What was not put can't be known, and what is only invalidated neither.
    let mut aside = place.cache_with(CacheFill::Aside, CacheConflict::NewerWins);
    aside.apply(&int_set(1, &[], &[int_row(1, 1)])).expect("apply");
    assert_eq!(current(&aside, 1).expect("staged"), Some(int_row(1, 1)));
    aside.publish(Lsn(1)).expect("publish");
    assert!(current(&aside, 1).is_err());
}

#[test]
fn a_row_to_fill_in_has_to_fit() {
    let cache = Place::memory().cache();
    let reader = cache.reader();
    let fill = |row: &[ValueRef<'_>]| reader.fill(INTS, KeyRef::Int(1), Some(row), Lsn(1)).expect_err("no fit");
    assert!(fill(&[ValueRef::Int(1)]).to_string().contains("1 values came, 3 are wanted"));
    let unchanged = fill(&[ValueRef::Int(1), ValueRef::Unchanged, ValueRef::Null]);
    assert!(unchanged.to_string().contains("was not sent"), "{unchanged}");
    assert!(fill(&[ValueRef::Int(2), ValueRef::Null, ValueRef::Null]).to_string().contains("key 2, not 1"));
}

#[test]
fn a_bounded_cache_evicts_and_misses() {
    let options = CacheOptions { entries_max: Some(100), ..CacheOptions::default() };
    let mut cache = Cache::create(&catalog(), options).expect("a cache");
    let rows: Vec<_> = (0..10_000).map(|id| int_row(id, 1)).collect();
    put(&mut cache, &int_set(1, &[], &rows), 1);
    let reader = cache.reader();
    let hits = (0..10_000).filter(|&id| lookup(&reader, id) != Lookup::Miss).count();
    assert!(hits < 2_000, "{hits} of a bound of 100, and what moka has not yet got round to");
    let missed = (0..10_000).find(|&id| lookup(&reader, id) == Lookup::Miss).expect("a miss");
    assert!(cache.current_row(INTS, KeyRef::Int(missed)).is_err(), "evicted is not absent");
}

#[test]
fn a_cache_in_process_can_not_be_opened() {
    let error = Cache::open(&catalog(), CacheOptions::default()).expect_err("nothing to open").to_string();
    assert!(error.contains("create it and load it"), "{error}");
}
