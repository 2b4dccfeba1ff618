//! The fuzz targets as plain functions of bytes. `fuzz_targets/` gives them to libFuzzer, `tests/fuzz_smoke.rs` includes this
//! file and feeds them seeded mutations of valid inputs with the stable compiler.
//!
//! Each panics when what it tests does. What is behind a checksum is reached by making the checksum right first; the first byte
//! of an input says whether.

use freshbench::apply::{Folder, NoCurrentRows};
use freshbench::log::{Log, LogError, LogOptions, Offset};
use freshbench::model::row::encode_row;
use freshbench::model::{
    Catalog, ChangeBuf, ChangeRef, CodecError, Column, ColumnType, CommitTime, Key, Lsn, RowRef, RowValues,
    TableSchema, Transaction, Value, ValueRef,
};
use freshbench::sink::{Sink, Warehouse, WarehouseOptions, WarehouseReader};
use freshbench::transform::TransformSet;
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 44;

/// A folder in memory, where there is such a file system: inputs are written and opened by the thousand.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder")
}

thread_local! {
    static LOG: tempfile::TempDir = folder();
    static WAREHOUSE: RefCell<Option<Template>> = const { RefCell::new(None) };
}

/// The options of the log under test: small buffers, since it is opened for each input.
pub fn log_options() -> LogOptions {
    LogOptions { buffer_bytes_max: 1 << 10, record_bytes_max: 1 << 10, ..LogOptions::default() }
}

/// Opening a log folder of one or two segments of any content: an error that names a byte of a file, or exactly the records that
/// the recovery says, which opening again finds as they are.
///
/// Bits of the first byte: 1 make the header's checksum right, 2 the frames', 4 the rest is two segments, the first as long as
/// the next two bytes say.
pub fn log(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else { return };
    let mut files = match rest.split_first_chunk::<2>() {
        Some((length, rest)) if mode & 4 != 0 => {
            let (first, second) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
            vec![first.to_vec(), second.to_vec()]
        }
        _ => vec![rest.to_vec()],
    };
    LOG.with(|folder| {
        for entry in fs::read_dir(folder).expect("a folder") {
            let _ = fs::remove_file(entry.expect("an entry").path());
        }
        for file in &mut files {
            repair(file, mode);
            let base = file.get(16..24).map_or(0, |base| u64::from_le_bytes(base.try_into().expect("eight bytes")));
            fs::write(folder.path().join(format!("{base:020}.log")), file).expect("a file");
        }
        open_log(folder.path());
    });
}

/// Makes checksums right.
fn repair(file: &mut [u8], mode: u8) {
    if mode & 1 != 0 && file.len() >= HEADER_BYTES {
        file[..8].copy_from_slice(b"FRBNLOG\n");
        let crc = crc32c::crc32c(&file[..28]).to_le_bytes();
        file[28..32].copy_from_slice(&crc);
    }
    let mut at = HEADER_BYTES;
    while mode & 2 != 0 && file.len() >= at + FRAME_HEADER_BYTES {
        let length = u32::from_le_bytes(file[at + 4..at + 8].try_into().expect("four bytes")) as usize;
        let Some(frame) = file.get_mut(at..).and_then(|rest| rest.get_mut(..FRAME_HEADER_BYTES + length)) else {
            break;
        };
        let crc = crc32c::crc32c(&frame[4..]).to_le_bytes();
        frame[..4].copy_from_slice(&crc);
        at += FRAME_HEADER_BYTES + length;
    }
}

fn open_log(folder: &Path) {
    let (log, recovery) = match Log::open(folder, log_options()) {
        Ok(opened) => opened,
        Err(LogError::Damaged { path, position, .. }) => {
            let length = fs::metadata(&path).expect("the file that is named").len();
            assert!(position <= length.max(HEADER_BYTES as u64), "{position} is beyond {length}");
            return;
        }
        Err(_) => return,
    };
    let mut reader = log.reader(recovery.lowest).expect("a reader from the lowest offset");
    let mut count = 0;
    while let Some(record) = reader.next().expect("what recovery found good") {
        assert_eq!(record.offset, Offset(recovery.lowest.0 + count));
        count += 1;
    }
    assert_eq!(recovery.lowest.0 + count, recovery.next.0);
    drop((reader, log));
    match Log::open(folder, log_options()) {
        Ok((_, again)) => {
            assert_eq!((again.lowest, again.next, again.torn_bytes), (recovery.lowest, recovery.next, 0));
        }
        // The first opening may have taken the last epoch that there is.
        Err(error) => assert_eq!(recovery.epoch, u32::MAX, "what was opened once can't be opened again: {error}"),
    }
}

/// A small warehouse that every input changes a part of.
struct Template {
    folder: tempfile::TempDir,
    /// The manifest's header line without its hash.
    header: String,
    body: Vec<u8>,
    /// The file with the deletion vector.
    deleted: PathBuf,
    rows: u64,
}

/// Two tables, one keyed by an integer and one by a text.
pub fn catalog() -> Catalog {
    let columns = |key| vec![Column::required("id", key), Column::nullable("note", ColumnType::Text)];
    let things = TableSchema::new("things", columns(ColumnType::Int64), vec![0]).expect("a schema");
    let names = TableSchema::new("names", columns(ColumnType::Text), vec![0]).expect("a schema");
    Catalog { tables: vec![things, names] }
}

fn transaction(lsn: u64, fill: impl FnOnce(&mut ChangeBuf)) -> Transaction {
    let mut changes = ChangeBuf::new();
    fill(&mut changes);
    Transaction { lsn: Lsn(lsn), committed_at: CommitTime(0), changes }
}

impl Template {
    fn make() -> Template {
        let folder = folder();
        let catalog = catalog();
        let mut warehouse =
            Warehouse::create(folder.path(), &catalog, WarehouseOptions::default()).expect("a warehouse");
        let mut fold = Folder::new(Arc::new(TransformSet::identity(&catalog)));
        let (things, names) = (freshbench::model::TableId(0), freshbench::model::TableId(1));
        let (rows, dead) = (300u64, 9u64);
        let inserts = transaction(1, |changes| {
            for id in 0..rows as i64 {
                let (note, name) = (Value::text(format!("note {id}")), Value::text(format!("name {id}")));
                changes.push_insert(things, [Value::from(id).as_ref(), note.as_ref()]).expect("a row");
                changes.push_insert(names, [name.as_ref(), note.as_ref()]).expect("a row");
            }
        });
        let deletes = transaction(2, |changes| {
            for id in 0..dead as i64 {
                changes.push_delete(things, [Value::from(id * 7).as_ref()]).expect("a key");
            }
        });
        for transaction in [inserts, deletes] {
            fold.push(&transaction).expect("a fold");
            let edits = fold.finish(&warehouse).expect("edits");
            warehouse.apply(&edits).expect("applied");
            warehouse.publish(transaction.lsn).expect("published");
            warehouse.checkpoint().expect("durable");
        }
        drop(warehouse);
        let manifest = fs::read(folder.path().join("MANIFEST")).expect("a manifest");
        let end = manifest.iter().position(|&byte| byte == b'\n').expect("a header line");
        let header = String::from_utf8(manifest[..end].to_vec()).expect("text");
        let (header, _) = header.rsplit_once(' ').expect("a hash at its end");
        let deleted = fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry").path());
        let deleted =
            deleted.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("deleted-")));
        let deleted = deleted.last().expect("a deletion vector");
        Template { header: header.to_owned(), body: manifest[end + 1..].to_vec(), deleted, folder, rows }
    }

    /// Puts a manifest with this body in place, with the right hash.
    fn put(&self, body: &[u8]) {
        let header = format!("{} {:032x}\n", self.header, xxh3_128(body));
        fs::write(self.folder.path().join("MANIFEST"), [header.as_bytes(), body].concat()).expect("a manifest");
    }
}

fn with_template(run: impl FnOnce(&Template)) {
    WAREHOUSE.with(|made| run(made.borrow_mut().get_or_insert_with(Template::make)));
}

/// A manifest and a deletion vector as the warehouse writes them, to begin with.
pub fn manifest_body() -> Vec<u8> {
    let mut body = Vec::new();
    with_template(|template| body = template.body.clone());
    body
}

/// Opening a folder by a manifest of any content, then reading every table of it.
///
/// The first byte: even, the rest is the body and gets a header with the right hash; odd, it is the whole file.
pub fn manifest(data: &[u8]) {
    let Some((&mode, rest)) = data.split_first() else { return };
    with_template(|template| {
        if mode % 2 == 0 {
            template.put(rest);
        } else {
            fs::write(template.folder.path().join("MANIFEST"), rest).expect("a manifest");
        }
        let Ok(reader) = WarehouseReader::open(template.folder.path()) else { return };
        let version = reader.version();
        for (table, _) in version.catalog().iter() {
            let _ = version.get(table, freshbench::model::KeyRef::Int(1));
            let _ = version.scan(table, None, None).take_while(Result::is_ok).count();
        }
    });
}

/// A deletion vector of any content, with a hash that fits it: an error, or as many rows less as the manifest says.
///
/// The first four bytes are the number of dead rows that the manifest says.
pub fn vectors(data: &[u8]) {
    let Some((dead, vector)) = data.split_first_chunk::<4>() else { return };
    let dead = u64::from(u32::from_le_bytes(*dead));
    with_template(|template| {
        let mut body: serde_json::Value = serde_json::from_slice(&template.body).expect("JSON");
        let entry = find_deleted(&mut body).expect("a deletion vector's entry");
        for (name, value) in [("offset", 0), ("bytes", vector.len() as u64), ("rows", dead)] {
            entry[name] = value.into();
        }
        entry["hash"] = format!("{:032x}", xxh3_128(vector)).into();
        let kept = fs::read(&template.deleted).expect("a deletion vector");
        fs::write(&template.deleted, vector).expect("a deletion vector");
        template.put(&serde_json::to_vec(&body).expect("JSON"));
        let opened = WarehouseReader::open(template.folder.path());
        fs::write(&template.deleted, kept).expect("a deletion vector");
        let Ok(reader) = opened else { return };
        let (version, table) = (reader.version(), freshbench::model::TableId(0));
        let read: usize = version.scan(table, None, None).map(|batch| batch.expect("a batch").num_rows()).sum();
        assert_eq!((read as u64, version.row_count(table)), (template.rows - dead, template.rows - dead));
    });
}

fn find_deleted(value: &mut serde_json::Value) -> Option<&mut serde_json::Value> {
    if value.get("deleted").is_some_and(|entry| entry["hash"].is_string()) {
        return value.get_mut("deleted");
    }
    match value {
        serde_json::Value::Object(fields) => fields.values_mut().find_map(find_deleted),
        serde_json::Value::Array(values) => values.iter_mut().find_map(find_deleted),
        _ => None,
    }
}

/// A row of any bytes: an error, or values that are encoded to the same bytes; and read value by value, by places and into
/// columns as they are read at once.
pub fn rows(data: &[u8]) {
    let row = RowRef::new(data);
    let values = row.values();
    if let Ok(values) = &values {
        let mut encoded = Vec::new();
        encode_row(&mut encoded, values.iter().copied()).expect("it was a row");
        assert_eq!(encoded, data);
        let _ = Key::from_values(values);
    }
    read_one_by_one(row, &values);
    read_by_places(row, &values);
    read_into_columns(row, &values);
}

type Read<'a> = Result<RowValues<'a>, CodecError>;

fn read_one_by_one<'a>(row: RowRef<'a>, values: &Read<'a>) {
    let read = row.each_value().and_then(|each| each.collect::<Read<'a>>());
    match values {
        // What is behind the last value is not looked at.
        Err(CodecError::TrailingBytes { .. }) => assert!(read.is_ok()),
        values => assert_eq!(read, *values),
    }
}

/// Of long rows only some places: all of all would take the square of their number.
fn read_by_places(row: RowRef<'_>, values: &Read<'_>) {
    const PLACES_MAX: usize = 40;
    let mut picked = RowValues::new();
    let Ok(values) = values else {
        // Text that is not UTF-8 is found where it is picked, any other fault always.
        let text = *values == Err(CodecError::NotUtf8);
        assert!(row.pick(&[], &mut picked).is_err() || text);
        let all: Vec<usize> = (0..row.each_value().map_or(0, |each| each.len())).collect();
        assert!(all.len() > PLACES_MAX || row.pick(&all, &mut picked).err() == values.as_ref().err().cloned());
        return;
    };
    let is_open = values.contains(&ValueRef::Unchanged);
    let value = |place: usize| values.get(place).copied().unwrap_or(ValueRef::Null);
    for place in (0..=values.len()).take(PLACES_MAX).chain(values.len().checked_sub(1)) {
        assert_eq!(row.pick(&[place], &mut picked), Ok(is_open));
        assert_eq!(picked.as_slice(), [value(place)]);
        assert_eq!(row.pick(&[place, 0, place], &mut picked), Ok(is_open));
        assert_eq!(picked.as_slice(), [value(place), value(0), value(place)]);
    }
}

/// A table with a column of every type, and as many that may hold NULL.
pub fn every_type() -> TableSchema {
    let decimal = ColumnType::Decimal { precision: 10, scale: 2 };
    let types = [
        ColumnType::Int64,
        ColumnType::Bool,
        ColumnType::Float64,
        ColumnType::Float32,
        decimal,
        ColumnType::Text,
        ColumnType::Bytes,
        ColumnType::Date,
        ColumnType::Timestamp,
        ColumnType::LocalTimestamp,
    ];
    let required = types.iter().enumerate().map(|(at, &kind)| Column::required(&format!("c{at}"), kind));
    let nullable = types.iter().enumerate().map(|(at, &kind)| Column::nullable(&format!("n{at}"), kind));
    TableSchema::new("every_type", required.chain(nullable).collect(), vec![0]).expect("a schema")
}

fn read_into_columns(row: RowRef<'_>, values: &Read<'_>) {
    thread_local! {
        static TABLE: TransformSet = TransformSet::identity(&Catalog { tables: vec![every_type()] });
    }
    TABLE.with(|table| {
        let builders = || table.table(freshbench::model::TableId(0)).expect("the table").builders(1);
        let (mut straight, mut whole) = (builders(), builders());
        match (straight.push_encoded(row), values) {
            (Ok(pushed), Ok(values)) => {
                assert_eq!(pushed, whole.push(values));
                assert_eq!(straight.finish(), whole.finish());
            }
            // Found before the bytes were read to their end.
            (Ok(Err(_)), Err(_)) | (Ok(Ok(_)), Err(CodecError::TrailingBytes { .. })) => {}
            (Err(found), Err(wanted)) => assert_eq!(found, *wanted),
            (pushed, values) => panic!("{pushed:?} of {values:?}"),
        }
    });
}

/// The tables of [`catalog`] and one with a column of every type.
fn changes_catalog() -> Catalog {
    let mut catalog = catalog();
    catalog.tables.push(every_type());
    catalog
}

/// Changes of any bytes: an error, or changes that are encoded to the same bytes; folded, they come to edits or an error.
pub fn changes(data: &[u8]) {
    let Ok(decoded) = ChangeBuf::from_bytes(data.to_vec()) else { return };
    if let Some(encoded) = encoded_again(&decoded) {
        assert_eq!(encoded.as_bytes(), data);
        assert_eq!(encoded.len(), decoded.len());
    }
    let mut folder = Folder::new(Arc::new(TransformSet::identity(&changes_catalog())));
    let transaction = Transaction { lsn: Lsn(1), committed_at: CommitTime(0), changes: decoded };
    if folder.push(&transaction).is_ok()
        && let Ok(edits) = folder.finish(&NoCurrentRows)
    {
        let count: usize = edits.tables.iter().map(|table| table.len()).sum();
        assert!(count <= 2 * transaction.changes.len());
    }
}

/// The same changes, encoded anew; nothing if a row of them is none.
fn encoded_again(changes: &ChangeBuf) -> Option<ChangeBuf> {
    let mut again = ChangeBuf::new();
    for change in changes.iter() {
        match change.expect("checked when it was taken over") {
            ChangeRef::Insert { table, row } => again.push_insert(table, row.values().ok()?).ok()?,
            ChangeRef::Update { table, old_key, row } => {
                let old_key = old_key.map(RowRef::values).transpose().ok()?;
                again.push_update(table, old_key.as_deref(), row.values().ok()?).ok()?;
            }
            ChangeRef::Delete { table, key } => again.push_delete(table, key.values().ok()?).ok()?,
            ChangeRef::Truncate { table } => again.push_truncate(table),
        }
    }
    Some(again)
}

/// A message of PostgreSQL's logical replication: the first bit of the first byte says whether within a streamed piece.
#[cfg(feature = "fuzzing")]
pub fn pgoutput(data: &[u8]) {
    let Some((&mode, message)) = data.split_first() else { return };
    if let Some(read) = freshbench::capture::postgres::read_pgoutput(message, mode & 1 == 1) {
        // Each column, oid or value takes at least a byte.
        assert!(read <= message.len());
    }
}
