//! Many threads at one key.

use super::support::*;
use crate::model::{KeyRef, Lsn};
use crate::sink::cache::Lookup;
use std::sync::atomic::{AtomicBool, Ordering};

const THREADS: u64 = 8;

pub(super) fn the_highest_position_stays_and_readers_never_go_back(place: &Place) {
    let cache = place.cache();
    let writes = 50 * place.effort;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watchers: Vec<_> = (0..2)
            .map(|_| {
                let (reader, stop) = (cache.reader(), &stop);
                scope.spawn(move || {
                    let (mut last, mut seen) = (Lsn(0), 0u64);
                    while !stop.load(Ordering::Acquire) {
                        if let Lookup::Hit { position, row } = reader.get(INTS, KeyRef::Int(1)).expect("get") {
                            assert!(position >= last, "{position} after {last}");
                            assert_eq!(row, (position.0 % 5 != 0).then(|| int_row(1, position.0 as i64)));
                            (last, seen) = (position, seen + 1);
                        }
                    }
                    seen
                })
            })
            .collect();
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let reader = cache.reader();
                scope.spawn(move || {
                    // Every position is written by one thread; each thread goes through its own in a shuffled order.
                    let mut random = Random(thread);
                    let mut positions: Vec<u64> = (0..writes).map(|write| 1 + write * THREADS + thread).collect();
                    for place in (1..positions.len()).rev() {
                        positions.swap(place, random.below(place as u64 + 1) as usize);
                    }
                    for position in positions {
                        let row = int_row(1, position as i64);
                        let values = refs(&row);
                        let row = (position % 5 != 0).then_some(values.as_slice());
                        reader.fill(INTS, KeyRef::Int(1), row, Lsn(position)).expect("fill");
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        stop.store(true, Ordering::Release);
        watchers.into_iter().for_each(|watcher| assert!(watcher.join().is_ok()));
    });
    let highest = writes * THREADS;
    let expected = if highest.is_multiple_of(5) { gone(highest) } else { hit(highest, int_row(1, highest as i64)) };
    assert_eq!(lookup(&cache.reader(), 1), expected);
}
