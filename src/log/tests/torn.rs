//! A tail that a crash tore: cut off to the last whole record, and said so.

use super::*;
use crate::log::frame::FRAME_HEADER_BYTES;
use crate::log::segment::SEGMENT_HEADER_BYTES;

/// Frames of at most 80 bytes: records longer than 36 bytes are split.
fn options() -> LogOptions {
    LogOptions { record_bytes_max: 80, ..LogOptions::default() }
}

fn framed(bytes: usize) -> u64 {
    (bytes + bytes.div_ceil(36).max(1) * FRAME_HEADER_BYTES) as u64
}

/// What is reported of a tail: zeros at its end can't be told from prepared space.
pub(super) fn torn(tail: &[u8]) -> u64 {
    tail.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1)
}

#[test]
fn a_cut_at_any_byte_leaves_exactly_the_whole_records_before_it() {
    let folder = small_folder();
    let lengths = [10, 0, 100, 36, 37, 72, 5];
    let (mut log, _) = open(folder.path(), &options()).unwrap();
    for (number, &bytes) in lengths.iter().enumerate() {
        append(&mut log, number as u64, bytes);
        if number % 2 == 0 {
            log.sync().unwrap();
        }
    }
    drop(log);
    let path = segments(folder.path()).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    let mut ends = vec![SEGMENT_HEADER_BYTES as u64];
    for bytes in lengths {
        ends.push(ends[ends.len() - 1] + framed(bytes));
    }
    assert_eq!(ends[lengths.len()], whole.len() as u64);
    for cut in SEGMENT_HEADER_BYTES..=whole.len() {
        let copy = small_folder();
        fs::write(copy.path().join(path.file_name().unwrap()), &whole[..cut]).unwrap();
        let (mut log, recovery) = open(copy.path(), &options()).unwrap();
        let kept = ends.partition_point(|&end| end <= cut as u64) - 1;
        let torn = torn(&whole[ends[kept] as usize..cut]);
        assert_eq!((recovery.next.0, recovery.torn_bytes), (kept as u64, torn), "cut at {cut}");
        append(&mut log, kept as u64, 50);
        log.close().unwrap();
        let (log, recovery) = open(copy.path(), &options()).unwrap();
        assert_eq!((recovery.next.0, recovery.torn_bytes), (kept as u64 + 1, 0), "cut at {cut}");
        let mut wanted = lengths[..kept].to_vec();
        wanted.push(50);
        assert_eq!(read_all(&mut log.reader(Offset(0)).unwrap()).unwrap(), expected(0, &wanted), "cut at {cut}");
    }
}

/// Several segments, records of several frames in each, one of them longer than a segment, and the last one split as well.
const SPREAD: [usize; 12] = [10, 100, 36, 0, 300, 37, 72, 5, 90, 1, 40, 110];

fn spread_log(folder: &Path) -> LogOptions {
    let options = LogOptions { segment_bytes_max: 400, ..options() };
    let (mut log, _) = open(folder, &options).unwrap();
    for (number, &bytes) in SPREAD.iter().enumerate() {
        append(&mut log, number as u64, bytes);
        if number % 3 == 0 {
            log.sync().unwrap();
        }
    }
    log.close().unwrap();
    assert!(segments(folder).len() >= 4, "{:?}", segments(folder));
    options
}

/// The records of a segment of [`SPREAD`] that are whole before a cut, as the first record, how many, and the byte behind them.
fn whole_before(path: &Path, cut: u64) -> (usize, usize, u64) {
    let base: usize = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let (mut count, mut end) = (0, SEGMENT_HEADER_BYTES as u64);
    for &bytes in &SPREAD[base..] {
        if end + framed(bytes) > cut {
            break;
        }
        (count, end) = (count + 1, end + framed(bytes));
    }
    (base, count, end)
}

#[test]
fn a_cut_at_any_byte_of_the_last_of_several_segments_leaves_the_whole_records() {
    let folder = small_folder();
    let options = spread_log(folder.path());
    let path = segments(folder.path()).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        let copy = small_folder();
        copy_folder(folder.path(), copy.path());
        let copied = copy.path().join(path.file_name().unwrap());
        fs::write(&copied, &whole[..cut]).unwrap();
        let opened = open(copy.path(), &options);
        if cut < SEGMENT_HEADER_BYTES {
            // A segment has its name only when its header is durable: no crash does this.
            let Err(LogError::Damaged { path, position, .. }) = opened else { panic!("cut at {cut}: {opened:?}") };
            assert_eq!((path, position), (copied, 0), "cut at {cut}");
            continue;
        }
        let (log, recovery) = opened.unwrap();
        let (base, count, end) = whole_before(&path, cut as u64);
        assert_eq!(
            (recovery.next.0 as usize, recovery.torn_bytes),
            (base + count, torn(&whole[end as usize..cut])),
            "cut at {cut}"
        );
        assert_eq!(recovery.torn_path, (cut as u64 > end).then_some(copied), "cut at {cut}");
        let read = read_all(&mut log.reader(Offset(0)).unwrap()).unwrap();
        assert_eq!(read, expected(0, &SPREAD[..base + count]), "cut at {cut}");
    }
}

#[test]
fn a_cut_at_any_byte_of_an_earlier_segment_is_damage() {
    let folder = small_folder();
    let options = spread_log(folder.path());
    let paths = segments(folder.path());
    for (number, path) in paths[..paths.len() - 1].iter().enumerate() {
        let whole = fs::read(path).unwrap();
        for cut in 0..whole.len() {
            let copy = small_folder();
            copy_folder(folder.path(), copy.path());
            fs::write(copy.path().join(path.file_name().unwrap()), &whole[..cut]).unwrap();
            let Err(LogError::Damaged { path: named, position, .. }) = open(copy.path(), &options) else {
                panic!("cut at {cut} of {}", path.display());
            };
            // Between two records nothing of the cut is left in the file itself: the next one says that records are missing.
            let (_, _, end) = whole_before(path, cut as u64);
            let at_border = cut as u64 == end;
            let wanted = &paths[number + usize::from(at_border)];
            assert_eq!(named.file_name(), wanted.file_name(), "cut at {cut} of {}", path.display());
            assert!(position <= cut as u64, "cut at {cut}: byte {position}");
        }
    }
}

/// A log with two groups in one segment, the second one not fsynced when its frames were written.
fn two_groups(folder: &Path) -> (PathBuf, Vec<u8>) {
    let (mut log, _) = open(folder, &LogOptions::default()).unwrap();
    for group in 0..2 {
        for number in 0..20 {
            append(&mut log, group * 20 + number, 200);
        }
        log.sync().unwrap();
    }
    drop(log);
    let path = segments(folder).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

const FRAME: usize = FRAME_HEADER_BYTES + 200;

fn frame_at(number: usize) -> usize {
    SEGMENT_HEADER_BYTES + number * FRAME
}

#[test]
fn zeros_behind_the_end_are_prepared_space_and_cut_off() {
    for zeros in [1, 7, 44, 512, 100_000] {
        for torn in [&b""[..], b"\x01", b"\0\0\x07"] {
            let folder = small_folder();
            let (path, whole) = two_groups(folder.path());
            let mut bytes = [&whole, torn].concat();
            bytes.resize(bytes.len() + zeros, 0);
            fs::write(&path, bytes).unwrap();
            let (_, recovery) = open(folder.path(), &LogOptions::default()).unwrap();
            assert_eq!((recovery.next, recovery.torn_bytes), (Offset(40), torn.len() as u64));
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }
}

#[test]
fn what_was_prepared_and_not_used_is_cut_off_a_segment_that_is_done() {
    let options = LogOptions { segment_bytes_max: 40_000, prepared_bytes_max: 3_000, ..LogOptions::default() };
    let folder = small_folder();
    let (mut log, _) = open(folder.path(), &options).unwrap();
    let bytes_of = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let (mut longest, mut shortest) = (0, u64::MAX);
    for number in 0..300 {
        append(&mut log, number, 200);
        log.sync().unwrap();
        let (path, end) = log.visible_end();
        longest = longest.max(bytes_of(&path) - end);
        shortest = shortest.min(bytes_of(&path) - end);
        assert_eq!(read_all(&mut log.reader(Offset(number)).unwrap()).unwrap(), expected(number, &[200]));
    }
    assert_eq!((shortest, longest), (0, 3_000));
    let counters = log.counters();
    assert!((20_000..counters.bytes_written).contains(&counters.bytes_prepared), "{counters:?}");
    // A killed process leaves the space, and a closed log has none.
    let killed = small_folder();
    copy_folder(folder.path(), killed.path());
    log.close().unwrap();
    let closed: u64 = segments(folder.path()).iter().map(bytes_of).sum();
    assert_eq!(closed, counters.bytes_written);
    assert!(segments(killed.path()).iter().map(bytes_of).sum::<u64>() > closed);
    let (log, recovery) = open(killed.path(), &options).unwrap();
    assert_eq!((recovery.next, recovery.torn_bytes, recovery.bytes), (Offset(300), 0, closed));
    assert_eq!(read_all(&mut log.reader(Offset(0)).unwrap()).unwrap(), expected(0, &[200; 300]));
}

#[test]
fn a_lost_block_in_the_last_group_is_torn_though_later_blocks_were_kept() {
    let folder = small_folder();
    let (path, mut bytes) = two_groups(folder.path());
    let block = frame_at(25).div_ceil(512) * 512;
    bytes[block..block + 512].fill(0);
    fs::write(path, &bytes).unwrap();
    let kept = (block - SEGMENT_HEADER_BYTES) / FRAME;
    let (log, recovery) = open(folder.path(), &LogOptions::default()).unwrap();
    assert_eq!((recovery.next.0, recovery.torn_bytes), (kept as u64, (bytes.len() - frame_at(kept)) as u64));
    assert_eq!(read_all(&mut log.reader(Offset(0)).unwrap()).unwrap(), expected(0, &vec![200; kept]));
}

/// The group begins at each byte of a block, over prepared zeros or at the file's end, and each of its blocks is lost alone.
#[test]
fn any_lost_block_of_the_last_group_is_torn_wherever_the_group_begins() {
    for padding in 0..512 {
        let folder = small_folder();
        let (mut log, _) = open(folder.path(), &LogOptions::default()).unwrap();
        append(&mut log, 0, padding);
        log.sync().unwrap();
        let lengths = [0, 200, 700, 30];
        lengths.iter().zip(1..).for_each(|(&bytes, number)| _ = append(&mut log, number, bytes));
        log.sync().unwrap();
        drop(log);
        let path = segments(folder.path()).pop().unwrap();
        let whole = fs::read(&path).unwrap();
        let group = SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES + padding;
        for block in (group - group % 512..whole.len()).step_by(512) {
            let mut bytes = whole.clone();
            bytes[group.max(block)..whole.len().min(block + 512)].fill(0);
            if padding % 2 == 0 {
                bytes.resize(whole.len() + 100, 0);
            }
            // Whole records before the first byte that differs.
            let first = whole.iter().zip(&bytes).position(|(was, is)| was != is).unwrap();
            let ends = lengths.iter().scan(group, |end, bytes| {
                *end += FRAME_HEADER_BYTES + bytes;
                Some(*end)
            });
            let kept = 1 + ends.filter(|&end| end <= first).count() as u64;
            let copy = small_folder();
            fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
            let opened = open(copy.path(), &LogOptions::default());
            let Ok((_, recovery)) = opened else { panic!("padding {padding}, block {block}: {opened:?}") };
            assert_eq!(recovery.next.0, kept, "padding {padding}, block {block}");
        }
    }
}

#[test]
fn a_lost_block_in_a_group_that_was_fsynced_is_damage() {
    let folder = small_folder();
    let (path, mut bytes) = two_groups(folder.path());
    let block = frame_at(5).div_ceil(512) * 512;
    bytes[block..block + 512].fill(0);
    fs::write(&path, &bytes).unwrap();
    let Err(LogError::Damaged { path: named, position, .. }) = open(folder.path(), &LogOptions::default()) else {
        panic!("damage was not found");
    };
    let hit = (block - SEGMENT_HEADER_BYTES) / FRAME;
    assert_eq!((named, position), (path, frame_at(hit) as u64));
}

#[test]
fn an_absurd_length_at_the_tail_is_torn_and_nothing_is_allocated_for_it() {
    let folder = small_folder();
    let (path, mut bytes) = two_groups(folder.path());
    let end = bytes.len();
    bytes.extend_from_slice(&[0xFF; 60]);
    fs::write(path, bytes).unwrap();
    let (_, recovery) = open(folder.path(), &LogOptions::default()).unwrap();
    assert_eq!((recovery.next, recovery.torn_bytes), (Offset(40), 60), "file was {end} bytes long");
}

#[test]
fn a_file_whose_creation_was_cut_short_is_forgotten() {
    let folder = small_folder();
    let (path, _) = two_groups(folder.path());
    let unfinished = path.with_file_name(format!("{:020}.log.new", 40));
    fs::write(&unfinished, b"FRB").unwrap();
    let (log, recovery) = open(folder.path(), &LogOptions::default()).unwrap();
    assert_eq!((recovery.next, recovery.torn_bytes), (Offset(40), 0));
    assert!(!unfinished.exists());
    drop(log);
}
