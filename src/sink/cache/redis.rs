//! Entries on a Redis server.

use super::redis_server::{Server, position_bytes, position_of, suffix_of};
use super::slot::Content;
use super::staged::{Change, StagedSet};
use super::store::{EntryIter, Rules, entry_bytes};
use super::{CacheConflict, CacheError};
use crate::model::{Catalog, CodecError, Key, KeyRef, Lsn, TableId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The layout of keys and entries.
const FORMAT: u32 = 1;
/// Entries, and about how many bytes, that the server puts in one step: while it does, nobody else is served.
const CHUNK_ENTRIES: usize = 1_000;
const CHUNK_BYTES: u64 = 4 << 20;

const ROW: u8 = 0;
const GONE: u8 = 1;
const UNKNOWN: u8 = 2;

/// Entries on a server. The watermark is stored there with the last entries of a publish.
#[derive(Debug)]
pub(super) struct RedisStore {
    server: Arc<Server>,
    watermark: AtomicU64,
    rules: Rules,
    /// The keys go when the last handle does.
    temporary: bool,
}

/// Entries of a table that are put in one step.
struct Chunk {
    table: TableId,
    at: Lsn,
    /// Key and body.
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    sizes: Vec<u64>,
}

impl RedisStore {
    pub(super) fn create(
        url: &str,
        prefix: Option<&str>,
        catalog: &Catalog,
        rules: Rules,
    ) -> Result<RedisStore, CacheError> {
        let server = Server::connect(url, prefix)?;
        let layout = layout(catalog)?;
        let mut fields: Vec<(String, Vec<u8>)> = vec![
            ("catalog".to_owned(), layout.into_bytes()),
            ("watermark".to_owned(), position_bytes(Lsn::ZERO).to_vec()),
            ("next".to_owned(), b"0".to_vec()),
        ];
        for (TableId(table), _) in catalog.iter() {
            fields.push((format!("g{table}"), b"0".to_vec()));
            fields.push((format!("f{table}"), position_bytes(Lsn::ZERO).to_vec()));
        }
        let taken: bool = server.with("write to", |connection| {
            redis::cmd("HSETNX").arg(&server.meta).arg("format").arg(FORMAT).query(connection)
        })?;
        if !taken {
            return Err(CacheError::Exists { place: server.place.clone() });
        }
        server.with("write to", |connection| redis::cmd("HSET").arg(&server.meta).arg(fields).exec(connection))?;
        let server = Arc::new(server);
        Ok(RedisStore { server, watermark: AtomicU64::new(0), rules, temporary: prefix.is_none() })
    }

    pub(super) fn open(
        url: &str,
        prefix: Option<&str>,
        catalog: &Catalog,
        rules: Rules,
    ) -> Result<RedisStore, CacheError> {
        let Some(prefix) = prefix else {
            return Err(CacheError::Setting {
                what: "to open a cache on a Redis server, say under which prefix".into(),
            });
        };
        let server = Arc::new(Server::connect(url, Some(prefix))?);
        let format: Option<u32> = server.meta_field("format")?;
        if format != Some(FORMAT) {
            return Err(CacheError::Missing { place: server.place.clone() });
        }
        let found: Option<String> = server.meta_field("catalog")?;
        if found != Some(layout(catalog)?) {
            let what = format!(
                "the cache in {} has other tables or columns; create it anew under another prefix",
                server.place
            );
            return Err(CacheError::Setting { what });
        }
        let store = RedisStore { server, watermark: AtomicU64::new(0), rules, temporary: false };
        store.watermark.store(store.stored_watermark()?.0, Ordering::Release);
        Ok(store)
    }

    fn newer_wins(&self) -> bool {
        self.rules.conflict == CacheConflict::NewerWins
    }

    pub(super) fn watermark(&self) -> Lsn {
        Lsn(self.watermark.load(Ordering::Acquire))
    }

    pub(super) fn stored_watermark(&self) -> Result<Lsn, CacheError> {
        let stored: Option<Vec<u8>> = self.server.meta_field("watermark")?;
        match stored {
            Some(stored) => Ok(position_of(Some(stored))),
            None => Err(CacheError::Missing { place: self.server.place.clone() }),
        }
    }

    fn body(&self, change: Change<'_>) -> Vec<u8> {
        match change {
            Change::Row(row) => [&[ROW], row].concat(),
            Change::Gone => vec![GONE],
            Change::Invalid if self.newer_wins() => vec![UNKNOWN],
            // Without positions there is nothing to remember.
            Change::Invalid => Vec::new(),
        }
    }

    /// Puts a chunk, and moves the stored watermark in the same step when there is one. Gives the bytes put, and how many
    /// entries were refused.
    fn send(&self, chunk: &Chunk, watermark: Option<Lsn>) -> Result<(u64, usize), CacheError> {
        let refused: Vec<usize> = self.server.run("write to", &self.server.scripts.put, |call| {
            call.arg(self.server.prefix.as_str()).arg(chunk.table.0);
            call.arg(if self.newer_wins() { "n" } else { "l" }).arg(&position_bytes(chunk.at)[..]);
            call.arg(watermark.map(position_bytes).map_or(Vec::new(), |bytes| bytes.to_vec()));
            for (key, body) in &chunk.entries {
                call.arg(key.as_slice()).arg(body.as_slice());
            }
        })?;
        let lost = refused.iter().filter_map(|number| chunk.sizes.get(number.checked_sub(1)?));
        Ok((chunk.sizes.iter().sum::<u64>() - lost.sum::<u64>(), refused.len()))
    }

    pub(super) fn publish(&self, sets: &[StagedSet], through: Lsn) -> Result<u64, CacheError> {
        let mut bytes = 0;
        let mut chunk: Option<Chunk> = None;
        for (set, staged) in sets.iter().flat_map(|set| set.tables.iter().map(move |staged| (set, staged))) {
            if let Some(full) = chunk.take() {
                bytes += self.send(&full, None)?.0;
            }
            if staged.truncate {
                let generation = self.server.new_generation()?;
                self.switch(&[(staged.table, generation)], set.position, None)?;
            }
            let mut open = Chunk::new(staged.table, set.position);
            let mut open_bytes = 0;
            for part in &staged.parts {
                staged.each_put(part, self.rules.fill, |key, change| {
                    if open.entries.len() == CHUNK_ENTRIES || open_bytes > CHUNK_BYTES {
                        bytes += self.send(&open, None)?.0;
                        open = Chunk::new(staged.table, set.position);
                        open_bytes = 0;
                    }
                    open_bytes += entry_bytes(key, change);
                    open.push(key, change, self.body(change));
                    Ok::<(), CacheError>(())
                })?;
            }
            chunk = (!open.entries.is_empty()).then_some(open);
        }
        match chunk {
            Some(last) => bytes += self.send(&last, Some(through))?.0,
            None => drop(self.switch(&[], through, Some(through))?),
        }
        self.watermark.fetch_max(through.0, Ordering::AcqRel);
        Ok(bytes)
    }

    /// Points tables to other generations with the floor `floor`, and cleans up the old ones.
    fn switch(&self, tables: &[(TableId, u64)], floor: Lsn, watermark: Option<Lsn>) -> Result<(), CacheError> {
        let server = &self.server;
        let before: Vec<Vec<u8>> = server.run("write to", &server.scripts.switch, |call| {
            call.arg(watermark.map(position_bytes).map_or(Vec::new(), |bytes| bytes.to_vec()));
            for (table, generation) in tables {
                call.arg(table.0).arg(*generation).arg(&position_bytes(floor)[..]);
            }
        })?;
        for ((table, _), old) in tables.iter().zip(before.chunks(2)) {
            let [generation, old_floor] = old else { continue };
            let generation = String::from_utf8_lossy(generation).parse().unwrap_or_default();
            let base = server.base(generation, table.0);
            if !self.newer_wins() {
                server.remove(&base)?;
                continue;
            }
            server.scan(&base, |keys| {
                let _: u64 = server.run("write to", &server.scripts.carry, |call| {
                    call.arg(server.prefix.as_str()).arg(table.0).arg(base.as_str()).arg(old_floor.as_slice());
                    call.arg(&position_bytes(floor)[..]).arg(keys);
                })?;
                Ok(())
            })?;
        }
        Ok(())
    }

    pub(super) fn put(&self, table: TableId, key: KeyRef<'_>, at: Lsn, change: Change<'_>) -> Result<bool, CacheError> {
        let mut chunk = Chunk::new(table, at);
        chunk.push(key, change, self.body(change));
        Ok(self.send(&chunk, None)?.1 == 0)
    }

    fn ask(&self, table: TableId, key: KeyRef<'_>, what: &str) -> Result<(Lsn, Content), CacheError> {
        let server = &self.server;
        let entry: Option<Vec<u8>> = server.run("read", &server.scripts.get, |call| {
            call.arg(server.prefix.as_str()).arg(table.0).arg(suffix_of(key)).arg(what);
        })?;
        match entry {
            Some(entry) => parsed(&entry, Lsn::ZERO).map_err(|cause| corrupt(table, key, cause)),
            None => Ok((Lsn::ZERO, Content::Unknown)),
        }
    }

    pub(super) fn get(&self, table: TableId, key: KeyRef<'_>) -> Result<(Lsn, Content), CacheError> {
        self.ask(table, key, "")
    }

    pub(super) fn position(&self, table: TableId, key: KeyRef<'_>) -> Result<Option<Lsn>, CacheError> {
        let (position, content) = self.ask(table, key, "p")?;
        Ok((content != Content::Unknown).then_some(position))
    }

    pub(super) fn entries(&self, table: TableId) -> Result<EntryIter, CacheError> {
        let server = self.server.clone();
        let generation: Option<u64> = server.meta_field(&format!("g{}", table.0))?;
        let floor = position_of(server.meta_field(&format!("f{}", table.0))?);
        let missing = || CacheError::Missing { place: server.place.clone() };
        let base = server.base(generation.ok_or_else(missing)?, table.0);
        let keys: Vec<Vec<u8>> = server.keys(&base)?.into_iter().collect();
        let batches: Vec<Vec<Vec<u8>>> = keys.chunks(CHUNK_ENTRIES).map(<[_]>::to_vec).collect();
        let read = move |keys: Vec<Vec<u8>>| {
            let values: Result<Vec<Option<Vec<u8>>>, CacheError> =
                server.with("read", |connection| redis::cmd("MGET").arg(&keys).query(connection));
            let values = match values {
                Ok(values) => values,
                Err(error) => return vec![Err(error)],
            };
            // A key without a value went since its name was read.
            let found = keys.iter().zip(values).filter_map(|(name, value)| Some((name, value?)));
            found
                .map(|(name, value)| {
                    let key = key_of(name.get(base.len()..).unwrap_or_default());
                    let key = key.ok_or_else(|| corrupt(table, KeyRef::Encoded(name), CodecError::NotUtf8))?;
                    let entry = parsed(&value, floor).map_err(|cause| corrupt(table, key.as_ref(), cause));
                    entry.map(|(position, content)| (key, position, content))
                })
                .collect()
        };
        Ok(Box::new(batches.into_iter().flat_map(read)))
    }

    pub(super) fn bulk(&self, tables: usize) -> Result<RedisBulk, CacheError> {
        let included = (0..tables).map(|_| AtomicBool::new(false)).collect();
        let generation = self.server.new_generation()?;
        Ok(RedisBulk { server: self.server.clone(), generation, included, installed: false })
    }

    pub(super) fn install(&self, mut bulk: RedisBulk, through: Lsn) -> Result<(), CacheError> {
        let tables: Vec<_> = bulk.tables().map(|table| (table, bulk.generation)).collect();
        // Whatever fails from here on, the server may already show the new generation: it must not be removed.
        bulk.installed = true;
        self.switch(&tables, through, Some(through))?;
        self.watermark.fetch_max(through.0, Ordering::AcqRel);
        Ok(())
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        if self.temporary {
            // There is nobody to tell when the server is gone, and then the keys are gone as well or can't be reached.
            let _ = self.server.remove(&format!("{}:", self.server.prefix));
        }
    }
}

impl Chunk {
    fn new(table: TableId, at: Lsn) -> Chunk {
        Chunk { table, at, entries: Vec::new(), sizes: Vec::new() }
    }

    fn push(&mut self, key: KeyRef<'_>, change: Change<'_>, body: Vec<u8>) {
        self.sizes.push(entry_bytes(key, change));
        self.entries.push((suffix_of(key), body));
    }
}

/// A generation on the server that no table points to yet.
#[derive(Debug)]
pub(super) struct RedisBulk {
    server: Arc<Server>,
    generation: u64,
    included: Vec<AtomicBool>,
    installed: bool,
}

impl RedisBulk {
    fn tables(&self) -> impl Iterator<Item = TableId> {
        let numbered = (0u32..).zip(&self.included);
        numbered.filter(|(_, included)| included.load(Ordering::Acquire)).map(|(table, _)| TableId(table))
    }

    pub(super) fn include(&self, table: TableId) {
        if let Some(included) = self.included.get(table.index()) {
            included.store(true, Ordering::Release);
        }
    }

    pub(super) fn load<'k>(
        &self,
        table: TableId,
        keys: impl Iterator<Item = KeyRef<'k>>,
        mut next_row: impl FnMut(&mut Vec<u8>) -> Result<(), CacheError>,
    ) -> Result<u64, CacheError> {
        let base = self.server.base(self.generation, table.0);
        let send = |entries: Vec<(Vec<u8>, Vec<u8>)>| {
            self.server.with("write to", |connection| redis::cmd("MSET").arg(entries).exec(connection))
        };
        let (mut entries, mut open_bytes, mut bytes) = (Vec::new(), 0, 0);
        for key in keys {
            if entries.len() == CHUNK_ENTRIES || open_bytes > CHUNK_BYTES {
                send(std::mem::take(&mut entries))?;
                open_bytes = 0;
            }
            let mut value = position_bytes(Lsn::ZERO).to_vec();
            value.push(ROW);
            next_row(&mut value)?;
            let size = entry_bytes(key, Change::Gone) + value.len() as u64 - 9;
            bytes += size;
            open_bytes += size;
            entries.push(([base.as_bytes(), &suffix_of(key)].concat(), value));
        }
        if !entries.is_empty() {
            send(entries)?;
        }
        Ok(bytes)
    }
}

impl Drop for RedisBulk {
    fn drop(&mut self) {
        if !self.installed {
            for table in self.tables() {
                let _ = self.server.remove(&self.server.base(self.generation, table.0));
            }
        }
    }
}

fn layout(catalog: &Catalog) -> Result<String, CacheError> {
    serde_json::to_string(catalog)
        .map_err(|error| CacheError::Setting { what: format!("the tables can't be written down: {error}") })
}

/// A key from the last part of its entry's key.
fn key_of(suffix: &[u8]) -> Option<Key> {
    match suffix.split_first()? {
        (b'i', digits) => std::str::from_utf8(digits).ok()?.parse().ok().map(Key::Int),
        (b'e', bytes) => Some(Key::Encoded(bytes.into())),
        _ => None,
    }
}

fn parsed(entry: &[u8], floor: Lsn) -> Result<(Lsn, Content), CodecError> {
    let cut = CodecError::CutOff { wanted: 9, left: entry.len() };
    let Some((position, rest)) = entry.split_first_chunk::<8>() else { return Err(cut) };
    let position = match u64::from_be_bytes(*position) {
        0 => floor,
        position => Lsn(position),
    };
    match rest.split_first() {
        Some((&ROW, row)) => Ok((position, Content::Row(row.into()))),
        Some((&GONE, _)) => Ok((position, Content::Gone)),
        Some((&UNKNOWN, _)) => Ok((position, Content::Unknown)),
        Some((&tag, _)) => Err(CodecError::UnknownTag { tag }),
        None => Err(cut),
    }
}

fn corrupt(table: TableId, key: KeyRef<'_>, cause: CodecError) -> CacheError {
    CacheError::Corrupt { table: format!("number {}", table.0), key: key.describe(), cause }
}
