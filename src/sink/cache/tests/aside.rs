//! Cache-aside: the stream invalidates, a reader that missed loads and fills. The race is the textbook's: the loader reads,
//! the row changes and is invalidated, and only then does the loader put what it read.

use super::support::*;
use crate::model::{KeyRef, Lsn};
use crate::sink::cache::{CacheConflict, CacheFill, Lookup};

pub(super) fn a_slow_loader_is_refused_by_position(place: &Place) {
    let mut cache = place.cache_with(CacheFill::Aside, CacheConflict::NewerWins);
    let reader = cache.reader();
    let fill = |n: i64, at| {
        let row = int_row(1, n);
        reader.fill(INTS, KeyRef::Int(1), Some(&refs(&row)), Lsn(at)).expect("fill")
    };
    assert_eq!(lookup(&reader, 1), Lookup::Miss);
    assert!(fill(10, 10));
    assert_eq!(lookup(&reader, 1), hit(10, int_row(1, 10)));
    put(&mut cache, &int_set(20, &[2], &[int_row(1, 20)]), 20);
    assert_eq!(lookup(&reader, 1), Lookup::Miss, "the stream puts no row");
    assert_eq!(lookup(&reader, 2), Lookup::Miss, "a delete is no tombstone either: it is not known which read comes");
    assert!(!fill(15, 15), "read before the change");
    assert_eq!(lookup(&reader, 1), Lookup::Miss);
    assert!(known(&reader, INTS).is_empty(), "an invalidation is nothing known");
    assert!(fill(20, 20), "a read at the position of the change has seen it");
    assert_eq!(lookup(&reader, 1), hit(20, int_row(1, 20)));
    assert!(!reader.fill(INTS, KeyRef::Int(2), Some(&refs(&int_row(2, 1))), Lsn(19)).expect("fill"));
    assert!(reader.fill(INTS, KeyRef::Int(2), None, Lsn(25)).expect("fill"));
    assert_eq!(lookup(&reader, 2), gone(25));
}

pub(super) fn a_slow_loader_puts_an_old_value_for_good_without(place: &Place) {
    let mut cache = place.cache_with(CacheFill::Aside, CacheConflict::LastWrite);
    let reader = cache.reader();
    put(&mut cache, &int_set(20, &[], &[int_row(1, 20)]), 20);
    let row = int_row(1, 10);
    assert!(reader.fill(INTS, KeyRef::Int(1), Some(&refs(&row)), Lsn(10)).expect("fill"));
    put(&mut cache, &int_set(30, &[], &[int_row(2, 30)]), 30);
    assert_eq!(lookup(&reader, 1), hit(10, row), "stale, though the watermark says 30");
    put(&mut cache, &int_set(40, &[1], &[]), 40);
    assert_eq!(lookup(&reader, 1), Lookup::Miss);
}
