//! The fuzz targets of `fuzz/`, fed with seeded mutations of valid inputs: what a long run looks for, for a few seconds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use freshbench::log::{Log, LogOptions, Record, RecordKind};
use freshbench::model::{ChangeBuf, CommitTime, Decimal, Lsn, TableId, Value, ValueRef};
use freshbench::stats::SplitMix64;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Inputs of a target that only decodes, and of one that opens a folder, unless FRESHBENCH_FUZZ says otherwise.
const INPUTS: u64 = 20_000;
const FOLDERS: u64 = 4_000;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// A number below `bound`, or 0.
fn below(random: &mut SplitMix64, bound: usize) -> usize {
    random.below(bound as u64) as usize
}

/// One to four changes of the kinds that find most: a bit, a byte of a telling value, digits, a cut, a piece copied or taken out.
fn mutated(random: &mut SplitMix64, input: &[u8]) -> Vec<u8> {
    const TELLING: [u8; 8] = [0, 1, 0x7F, 0x80, 0xFF, b'0', b'9', b'-'];
    let mut bytes = input.to_vec();
    for _ in 0..1 + below(random, 4) {
        let at = below(random, bytes.len());
        match below(random, 7) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << below(random, 8),
            2 if !bytes.is_empty() => bytes[at] = TELLING[below(random, TELLING.len())],
            3 => bytes.truncate(at),
            4 => {
                let piece = bytes[at..(at + below(random, 40)).min(bytes.len())].to_vec();
                let to = below(random, bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            5 => drop(bytes.drain(at..(at + below(random, 20)).min(input.len()).min(bytes.len()).max(at))),
            _ => {
                if let Some(digit) = bytes.iter_mut().skip(at).find(|byte| byte.is_ascii_digit()) {
                    *digit = b'0' + below(random, 10) as u8;
                }
            }
        }
    }
    bytes
}

/// Feeds the valid inputs as they are, then mutations of them.
fn smoke(name: &str, inputs: u64, valid: &[Vec<u8>], target: fn(&[u8])) {
    let (seed, inputs) = (number("FRESHBENCH_SEED", 42), number("FRESHBENCH_FUZZ", inputs));
    println!("FRESHBENCH_SEED={seed} FRESHBENCH_FUZZ={inputs} cargo test --test fuzz_smoke {name}");
    valid.iter().for_each(|input| target(input));
    let mut random = SplitMix64::new(seed);
    for number in 0..inputs {
        let input = mutated(&mut random, &valid[number as usize % valid.len()]);
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&input)));
        assert!(outcome.is_ok(), "{name}, input {number} of seed {seed}: {input:?}");
    }
}

/// The inputs that a long run found something with: they stay.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/kept").join(target);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One log of two segments, as the target takes it: in every mode, whole and its first segment alone.
fn logs() -> Vec<Vec<u8>> {
    let folder = targets::folder();
    let options = LogOptions { segment_bytes_max: 700, record_bytes_max: 100, ..targets::log_options() };
    let (mut log, _) = Log::open(folder.path(), options).unwrap();
    for (number, length) in [5usize, 0, 130, 56, 300, 20, 7].into_iter().enumerate() {
        let payload = vec![number as u8; length];
        let kind = if number % 2 == 0 { RecordKind::Note } else { RecordKind::Transaction };
        let (lsn, committed_at) = (Lsn(number as u64 * 3), CommitTime(number as i64));
        log.append(&Record { lsn, committed_at, kind, payload: &payload }).unwrap();
        log.sync().unwrap();
    }
    log.close().unwrap();
    let mut paths: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "log"));
    paths.sort();
    let files: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(files.len() >= 2, "{paths:?}");
    let length = (files[0].len() as u16).to_le_bytes();
    let both = |mode: u8| [&[mode][..], &length, &files[0], &files[1]].concat();
    let one = |mode: u8| [&[mode][..], &files[0]].concat();
    vec![one(0), one(1), one(2), one(3), both(4), both(6), both(7)]
}

fn changes() -> Vec<u8> {
    let (things, names) = (TableId(0), TableId(1));
    let mut buf = ChangeBuf::new();
    buf.push_insert(things, [ValueRef::Int(7), ValueRef::Text("a note")]).unwrap();
    buf.push_update(things, Some(&[ValueRef::Int(7)]), [ValueRef::Int(8), ValueRef::Unchanged]).unwrap();
    buf.push_update(names, None, [ValueRef::Text("name"), ValueRef::Null]).unwrap();
    buf.push_delete(names, [ValueRef::Text("na\0me")]).unwrap();
    buf.push_truncate(things);
    buf.push_insert(things, [ValueRef::Int(-1), ValueRef::Null]).unwrap();
    buf.push_insert(TableId(2), typed_values()).unwrap();
    buf.push_update(
        TableId(2),
        None,
        typed_values().map(|value| if value == ValueRef::Null { ValueRef::Unchanged } else { value }),
    )
    .unwrap();
    buf.into_bytes()
}

/// A row of the table with a column of every type, half of it NULL.
fn typed_values() -> [ValueRef<'static>; 20] {
    let mut values = [ValueRef::Null; 20];
    values[..10].copy_from_slice(&[
        ValueRef::Int(5),
        ValueRef::Bool(true),
        ValueRef::Float(-0.0),
        ValueRef::Float32(0.5),
        ValueRef::Decimal(Decimal { unscaled: -12_345, scale: 2 }),
        ValueRef::Text("text"),
        ValueRef::Bytes(b"\0\xFF"),
        ValueRef::Date(3),
        ValueRef::Timestamp(-1),
        ValueRef::LocalTimestamp(9),
    ]);
    values[15] = ValueRef::Text("more");
    values
}

fn typed_row() -> Vec<u8> {
    let mut bytes = Vec::new();
    freshbench::model::row::encode_row(&mut bytes, typed_values()).unwrap();
    bytes
}

fn row() -> Vec<u8> {
    let decimal = Value::Decimal(Box::new(Decimal { unscaled: -12_345, scale: 2 }));
    let values = [Value::Null, Value::Bool(true), 5.into(), Value::Float(-0.0), decimal, "text".into(), Value::Date(3)];
    let more = [ValueRef::Bytes(b"\0\xFF"), ValueRef::Timestamp(-1), ValueRef::Float32(0.5), ValueRef::Unchanged];
    let mut bytes = Vec::new();
    let row = values.iter().map(Value::as_ref).chain(more).chain([ValueRef::LocalTimestamp(9), ValueRef::Bool(false)]);
    freshbench::model::row::encode_row(&mut bytes, row).unwrap();
    bytes
}

/// A manifest with the right hash to come, and the whole file with any.
fn manifests() -> Vec<Vec<u8>> {
    let body = targets::manifest_body();
    vec![[&[0][..], &body].concat(), [b"\x01freshbench.warehouse 1 00\n", &body[..]].concat()]
}

/// Both forms: a list and a bitmap.
fn vectors() -> Vec<Vec<u8>> {
    let list =
        [&3u32.to_le_bytes()[..], &[0], &1u32.to_le_bytes(), &5u32.to_le_bytes(), &299u32.to_le_bytes()].concat();
    let bitmap = [&16u32.to_le_bytes()[..], &[1], &[0x11; 8], &[0; 32]].concat();
    vec![list, bitmap]
}

#[test]
fn log() {
    smoke("log", FOLDERS, &[logs(), kept("log")].concat(), targets::log);
}

#[test]
fn manifest() {
    smoke("manifest", FOLDERS, &[manifests(), kept("manifest")].concat(), targets::manifest);
}

#[test]
fn vectors_() {
    smoke("vectors", FOLDERS, &[vectors(), kept("vectors")].concat(), targets::vectors);
}

#[test]
fn rows() {
    smoke("rows", INPUTS, &[vec![row(), typed_row()], kept("rows")].concat(), targets::rows);
}

#[test]
fn changes_() {
    smoke("changes", INPUTS, &[vec![changes()], kept("changes")].concat(), targets::changes);
}

#[cfg(feature = "fuzzing")]
#[test]
fn pgoutput() {
    smoke("pgoutput", INPUTS, &[pgoutput_messages(), kept("pgoutput")].concat(), targets::pgoutput);
}

/// Messages as the protocol's documentation has them, the first byte the target's.
#[cfg(feature = "fuzzing")]
fn pgoutput_messages() -> Vec<Vec<u8>> {
    let lsn_and_time = [0u8; 8];
    let commit = [b"\0C\0", &lsn_and_time[..], &lsn_and_time, &lsn_and_time].concat();
    vec![
        b"\0U\0\0\0\x07K\0\x01t\0\0\0\x011N\0\x02b\0\0\0\x01\x02u".to_vec(),
        b"\x01I\0\0\0\x09\0\0\0\x07N\0\x02t\0\0\0\x011n".to_vec(),
        b"\0D\0\0\0\x07O\0\x01t\0\0\0\x02xy".to_vec(),
        b"\0R\0\0\0\x07public\0things\0d\0\x02\x01id\0\0\0\0\x14\xFF\xFF\xFF\xFF\0note\0\0\0\0\x19\xFF\xFF\xFF\xFF"
            .to_vec(),
        b"\0T\0\0\0\x02\0\0\0\0\x07\0\0\0\x08".to_vec(),
        b"\0M\x01\0\0\0\0\0\0\0\x05freshbench\0\0\0\0\x02hi".to_vec(),
        commit,
    ]
}

/// Writes the valid inputs as a corpus for the long run: `FRESHBENCH_CORPUS=fuzz/corpus cargo test --test fuzz_smoke seeds`.
#[test]
fn seeds() {
    let Ok(folder) = std::env::var("FRESHBENCH_CORPUS") else { return };
    let all = [
        ("log", logs()),
        ("manifest", manifests()),
        ("vectors", vectors()),
        ("rows", vec![row(), typed_row()]),
        ("changes", vec![changes()]),
        #[cfg(feature = "fuzzing")]
        ("pgoutput", pgoutput_messages()),
    ];
    for (target, inputs) in all {
        let folder = std::path::Path::new(&folder).join(target);
        fs::create_dir_all(&folder).unwrap();
        for (number, input) in inputs.iter().enumerate() {
            fs::write(folder.join(format!("valid-{number}")), input).unwrap();
        }
    }
}
