//! Readers in other threads, while the writer writes.

use super::*;
use std::thread;
use std::time::Duration;

const RECORDS: u64 = 20_000;

fn length(number: u64) -> usize {
    (number % 301) as usize
}

#[test]
fn readers_follow_the_writer_and_each_sees_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_bytes_max: 300_000, record_bytes_max: 200, ..LogOptions::default() };
    let (mut log, _) = open(folder.path(), &options).unwrap();
    let handle = log.handle();
    thread::scope(|scope| {
        for _ in 0..4 {
            let mut reader = handle.reader(Offset(0)).unwrap();
            scope.spawn(move || {
                let mut next = 0;
                loop {
                    while let Some(record) = reader.next().unwrap() {
                        assert_eq!(record.offset, Offset(next));
                        assert_eq!(record.payload, payload(next, length(next)), "record {next}");
                        next += 1;
                    }
                    if !reader.wait(Duration::from_secs(20)) && reader.is_closed() {
                        break;
                    }
                }
                assert_eq!(next, RECORDS);
            });
        }
        for number in 0..RECORDS {
            append(&mut log, number, length(number));
            if number % 97 == 0 {
                log.sync().unwrap();
            }
        }
        log.close().unwrap();
    });
}

#[test]
fn waiting_ends_when_the_time_is_up_and_when_the_writer_goes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path(), &LogOptions::default()).unwrap();
    let reader = log.reader(Offset(0)).unwrap();
    assert!(!reader.wait(Duration::from_millis(1)) && !reader.is_closed());
    thread::scope(|scope| {
        let waiting = scope.spawn(|| reader.wait(Duration::MAX));
        append(&mut log, 0, 1);
        log.sync().unwrap();
        assert!(waiting.join().unwrap());
    });
    let behind = log.reader(Offset(1)).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| behind.wait(Duration::MAX));
        drop(log);
        assert!(!waiting.join().unwrap());
    });
    assert!(behind.is_closed() && reader.wait(Duration::ZERO));
}

#[test]
fn the_writer_and_readers_move_between_threads() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_send::<Log>();
    is_send::<LogReader>();
    is_shared::<crate::log::LogHandle>();
}
