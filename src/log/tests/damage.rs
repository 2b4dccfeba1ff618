//! Damage that no crash explains: refused, naming file and byte.

use super::*;
use crate::log::frame::FRAME_HEADER_BYTES;
use crate::log::segment::SEGMENT_HEADER_BYTES;

const BYTES: usize = 20;
const FRAME: usize = FRAME_HEADER_BYTES + BYTES;

/// Segments of four records each, the last one committed as one group.
fn small_log(folder: &Path) -> LogOptions {
    let segment_bytes_max = (SEGMENT_HEADER_BYTES + 4 * FRAME) as u64;
    let options = LogOptions { segment_bytes_max, record_bytes_max: 100, ..LogOptions::default() };
    let (mut log, _) = open(folder, &options).unwrap();
    (0..11).for_each(|number| _ = append(&mut log, number, BYTES));
    log.close().unwrap();
    options
}

/// Opens a copy of the log with one byte changed.
fn open_flipped(from: &Path, segment: usize, at: usize, options: &LogOptions) -> Result<Recovery, LogError> {
    let copy = small_folder();
    copy_folder(from, copy.path());
    let path = &segments(copy.path())[segment];
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << (at % 8);
    fs::write(path, bytes).unwrap();
    open(copy.path(), options).map(|(_, recovery)| recovery)
}

#[test]
fn a_flip_of_any_byte_is_found_with_file_and_byte() {
    let folder = small_folder();
    let options = small_log(folder.path());
    let paths = segments(folder.path());
    assert_eq!(paths.len(), 3);
    for (segment, path) in paths.iter().enumerate() {
        let length = fs::metadata(path).unwrap().len() as usize;
        for at in 0..length {
            let is_last_frame = segment == 2 && at >= length - FRAME;
            match open_flipped(folder.path(), segment, at, &options) {
                Err(LogError::Damaged { path: named, position, .. }) => {
                    assert!(!is_last_frame, "byte {at} of the last frame");
                    assert_eq!(named.file_name(), path.file_name(), "byte {at}");
                    let begin =
                        at.checked_sub(SEGMENT_HEADER_BYTES).map_or(0, |at| at - at % FRAME + SEGMENT_HEADER_BYTES);
                    assert_eq!(position, begin as u64, "byte {at} of {}", path.display());
                }
                Ok(recovery) => {
                    assert!(is_last_frame, "byte {at} of {} was let through", path.display());
                    assert_eq!((recovery.next, recovery.torn_bytes), (Offset(10), FRAME as u64));
                }
                Err(other) => panic!("byte {at} of {}: {other}", path.display()),
            }
        }
    }
}

/// Where the frames of a segment begin, by the format alone.
fn frame_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![SEGMENT_HEADER_BYTES];
    while let Some(head) = bytes.get(starts[starts.len() - 1]..).and_then(|rest| rest.get(..FRAME_HEADER_BYTES)) {
        let length = u32::from_le_bytes(head[4..8].try_into().unwrap()) as usize;
        starts.push(starts[starts.len() - 1] + FRAME_HEADER_BYTES + length);
    }
    starts.pop();
    starts
}

/// Split records, several segments, every bit: damage at the frame that was hit, or, in the very last frame, a torn tail of the
/// whole record. What is read is never another value.
#[test]
fn a_flip_of_any_bit_is_damage_or_the_torn_tail_and_never_another_value() {
    let lengths = [5, 50, 0, 41];
    let folder = small_folder();
    let options = LogOptions { segment_bytes_max: 180, record_bytes_max: 80, ..LogOptions::default() };
    let (mut log, _) = open(folder.path(), &options).unwrap();
    lengths.iter().enumerate().for_each(|(number, &bytes)| _ = append(&mut log, number as u64, bytes));
    log.close().unwrap();
    let paths = segments(folder.path());
    assert!(paths.len() >= 3, "{paths:?}");
    let copy = small_folder();
    for (segment, path) in paths.iter().enumerate() {
        let good = fs::read(path).unwrap();
        let starts = frame_starts(&good);
        for bit in 0..good.len() * 8 {
            segments(copy.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
            copy_folder(folder.path(), copy.path());
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
            let hit = starts.iter().rposition(|&start| start <= bit / 8);
            let is_last = segment + 1 == paths.len() && hit == Some(starts.len() - 1);
            match open(copy.path(), &options) {
                Err(LogError::Damaged { path: named, position, .. }) => {
                    assert!(!is_last, "bit {bit} of the last frame");
                    assert_eq!(named.file_name(), path.file_name(), "bit {bit}");
                    assert_eq!(position, hit.map_or(0, |hit| starts[hit]) as u64, "bit {bit} of {}", path.display());
                }
                Ok((log, recovery)) => {
                    assert!(is_last && recovery.torn_bytes > 0, "bit {bit} of {} was let through", path.display());
                    let read = read_all(&mut log.reader(Offset(0)).unwrap()).unwrap();
                    assert_eq!(read, expected(0, &lengths[..lengths.len() - 1]), "bit {bit}");
                }
                Err(other) => panic!("bit {bit} of {}: {other}", path.display()),
            }
        }
    }
}

#[test]
fn a_flip_under_an_open_log_is_found_by_its_reader() {
    let folder = small_folder();
    let options = small_log(folder.path());
    let (log, _) = open(folder.path(), &options).unwrap();
    let path = segments(folder.path())[1].clone();
    let mut bytes = fs::read(&path).unwrap();
    bytes[SEGMENT_HEADER_BYTES + FRAME + 50] ^= 4;
    fs::write(&path, bytes).unwrap();
    let mut reader = log.reader(Offset(0)).unwrap();
    for _ in 0..2 {
        let error = read_all(&mut reader).unwrap_err();
        let LogError::Damaged { path: named, position, .. } = &error else { panic!("{error}") };
        assert_eq!((named, *position), (&path, (SEGMENT_HEADER_BYTES + FRAME) as u64));
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(reader.next_offset(), Offset(5));
    }
}

#[test]
fn a_missing_segment_and_a_shortened_one_are_found() {
    for (remove, segment) in [(true, 1), (false, 0)] {
        let folder = small_folder();
        let options = small_log(folder.path());
        let path = segments(folder.path())[segment].clone();
        if remove {
            fs::remove_file(&path).unwrap();
        } else {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len((SEGMENT_HEADER_BYTES + FRAME) as u64).unwrap();
        }
        let error = open(folder.path(), &options).unwrap_err();
        assert!(matches!(error, LogError::Damaged { position: 0, .. }), "{error}");
        assert!(error.to_string().contains("records are missing"), "{error}");
    }
}

#[test]
fn a_segment_under_another_name_and_one_of_another_version_are_refused() {
    let folder = small_folder();
    let options = small_log(folder.path());
    let path = segments(folder.path())[2].clone();
    let renamed = path.with_file_name(format!("{:020}.log", 9));
    fs::rename(&path, &renamed).unwrap();
    let error = open(folder.path(), &options).unwrap_err();
    assert!(matches!(error, LogError::Damaged { position: 16, .. }), "{error}");
    fs::rename(&renamed, &path).unwrap();

    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..28]).to_le_bytes();
    bytes[28..32].copy_from_slice(&crc);
    fs::write(&path, bytes).unwrap();
    let error = open(folder.path(), &options).unwrap_err();
    assert!(matches!(error, LogError::UnknownVersion { found: 2, known: 1, .. }), "{error}");
}

#[test]
fn a_frame_out_of_its_place_is_damage_even_at_the_end() {
    let folder = small_folder();
    let options = small_log(folder.path());
    let path = segments(folder.path())[2].clone();
    let mut bytes = fs::read(&path).unwrap();
    let (end, copied) = (bytes.len(), bytes[bytes.len() - FRAME..].to_vec());
    bytes.extend_from_slice(&copied);
    fs::write(&path, bytes).unwrap();
    let error = open(folder.path(), &options).unwrap_err();
    assert!(matches!(&error, LogError::Damaged { position, .. } if *position == end as u64), "{error}");
}

#[test]
fn a_frame_of_an_earlier_opening_is_never_taken_for_a_new_one() {
    let folder = small_folder();
    let options = LogOptions::default();
    let write = |number| {
        let (mut log, recovery) = open(folder.path(), &options).unwrap();
        append(&mut log, number, BYTES);
        log.close().unwrap();
        (recovery.epoch, recovery.torn_bytes)
    };
    assert_eq!((write(0), write(1)), ((1, 0), (2, 0)));
    let paths = segments(folder.path());
    let mut stale = fs::read(&paths[0]).unwrap().split_off(SEGMENT_HEADER_BYTES);
    // Even with the right number it has the wrong epoch.
    stale[8] = 2;
    let crc = crc32c::crc32c(&stale[4..]).to_le_bytes();
    stale[..4].copy_from_slice(&crc);
    let mut bytes = fs::read(&paths[1]).unwrap();
    bytes.extend_from_slice(&stale);
    fs::write(&paths[1], bytes).unwrap();
    let (_, recovery) = open(folder.path(), &options).unwrap();
    assert_eq!((recovery.next, recovery.torn_bytes, recovery.epoch), (Offset(2), FRAME as u64, 3));
}

#[test]
fn damage_before_a_last_record_that_ends_in_zeros_is_found() {
    let folder = small_folder();
    let (mut log, _) = open(folder.path(), &LogOptions::default()).unwrap();
    // An empty payload: the last bytes are those of the part number.
    for (number, bytes) in [(0, 50), (1, 0)] {
        append(&mut log, number, bytes);
        log.sync().unwrap();
    }
    drop(log);
    let path = segments(folder.path()).pop().unwrap();
    let whole = fs::read(&path).unwrap();
    assert_eq!(whole[whole.len() - 3..], [0; 3]);
    for prepared in [0, 1, 1_000] {
        for at in SEGMENT_HEADER_BYTES..whole.len() - FRAME_HEADER_BYTES {
            let copy = small_folder();
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            bytes.resize(bytes.len() + prepared, 0);
            fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
            let opened = open(copy.path(), &LogOptions::default());
            let Err(LogError::Damaged { position, .. }) = opened else { panic!("byte {at}: {opened:?}") };
            assert_eq!(position, SEGMENT_HEADER_BYTES as u64, "byte {at}");
        }
    }
}
