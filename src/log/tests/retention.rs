//! Retention, positions out of range, and the one writer.

use super::*;

/// One record a segment.
fn options() -> LogOptions {
    LogOptions { segment_bytes_max: 100, ..LogOptions::default() }
}

#[test]
fn whole_segments_go_and_readers_below_are_told_the_lowest() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path(), &LogOptions { segment_bytes_max: 32 + 3 * 64, ..options() }).unwrap();
    (0..10).for_each(|number| _ = append(&mut log, number, 20));
    log.sync().unwrap();
    let mut inside = log.reader(Offset(1)).unwrap();
    assert_eq!(inside.next().unwrap().unwrap().offset, Offset(1));
    let mut behind = log.reader(Offset(0)).unwrap();
    assert_eq!(log.retain_from(Offset(8)).unwrap(), Offset(6));
    assert_eq!(segments(folder.path()).len(), 2);
    let error = log.reader(Offset(5)).unwrap_err();
    assert!(matches!(error, LogError::BelowRetention { wanted: Offset(5), lowest: Offset(6) }), "{error}");
    // Who is in a deleted segment reads it to its end, and no further.
    for reader in [&mut inside, &mut behind] {
        let error = read_all(reader).unwrap_err();
        assert!(matches!(error, LogError::BelowRetention { wanted: Offset(3), lowest: Offset(6) }), "{error}");
    }
    assert_eq!(log.retain_from(Offset(1_000)).unwrap(), Offset(9));
    assert_eq!(read_all(&mut log.reader(Offset(9)).unwrap()).unwrap(), expected(9, &[20]));
    drop(log);
    let (log, recovery) = open(folder.path(), &options()).unwrap();
    assert_eq!((recovery.lowest, recovery.next), (Offset(9), Offset(10)));
    assert_eq!(log.handle().lowest_offset(), Offset(9));
}

#[test]
fn an_offset_beyond_the_end_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (mut log, _) = open(folder.path(), &options()).unwrap();
    append(&mut log, 0, 1);
    let error = log.reader(Offset(1)).unwrap_err();
    assert!(matches!(error, LogError::BeyondEnd { wanted: Offset(1), next: Offset(0) }), "{error}");
    log.sync().unwrap();
    assert!(log.reader(Offset(1)).unwrap().next().unwrap().is_none());
}

#[test]
fn a_second_writer_is_refused_and_told_who_has_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(folder.path(), &options()).unwrap();
    let error = open(folder.path(), &options()).unwrap_err();
    let LogError::Locked { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(holder, &format!("process {}", std::process::id()));
    drop(log);
    assert!(open(folder.path(), &options()).is_ok());
}

#[test]
fn a_consumer_goes_on_behind_its_watermark() {
    let folder = tempfile::tempdir().unwrap();
    let many = LogOptions { segment_bytes_max: 200_000, ..options() };
    let (mut log, _) = open(folder.path(), &many).unwrap();
    // LSNs 10, 10, 20, 20, ...: two records of one LSN, with gaps between.
    let payload = [7; 5_000];
    for number in 0..400u64 {
        let lsn = Lsn(number / 2 * 10 + 10);
        log.append(&Record { lsn, committed_at: CommitTime(0), kind: RecordKind::Note, payload: &payload }).unwrap();
    }
    log.sync().unwrap();
    for reopened in [false, true] {
        if reopened {
            drop(log);
            log = open(folder.path(), &many).unwrap().0;
        }
        for (lsn, wanted) in [(0, 0), (9, 0), (10, 2), (15, 2), (1_000, 200), (1_999, 398), (2_000, 400), (9_999, 400)]
        {
            let reader = log.handle().reader_after(Lsn(lsn)).unwrap();
            assert_eq!(reader.next_offset(), Offset(wanted), "behind {lsn}");
        }
    }
    let late = Record { lsn: Lsn(1_990), committed_at: CommitTime(0), kind: RecordKind::Note, payload: b"" };
    let error = log.append(&late).unwrap_err();
    assert!(matches!(error, LogError::OutOfOrder { last: Lsn(2_000), refused: Lsn(1_990) }), "{error}");
}

#[test]
fn options_out_of_range_and_records_beyond_the_limit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bad = LogOptions { record_bytes_max: 44, ..LogOptions::default() };
    let error = open(folder.path(), &bad).unwrap_err();
    assert!(matches!(error, LogError::BadOption { option: "record_bytes_max", value: 44, .. }), "{error}");
    let small = LogOptions { transaction_bytes_max: 10, ..LogOptions::default() };
    let (mut log, _) = open(folder.path(), &small).unwrap();
    let record = Record { lsn: Lsn(0), committed_at: CommitTime(0), kind: RecordKind::Note, payload: &[0; 11] };
    let error = log.append(&record).unwrap_err();
    assert!(matches!(error, LogError::TooLong { bytes: 11, bytes_max: 10, .. }), "{error}");
    append(&mut log, 0, 10);
    log.close().unwrap();
}
