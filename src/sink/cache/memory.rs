//! Entries in process, in moka.

use super::map_key::{KeyHashing, MapKey, Probe};
use super::parallel::each;
use super::slot::{Content, Slot};
use super::staged::{Change, StagedSet, StagedTable};
use super::store::{EntryIter, Rules, entry_bytes};
use super::{CacheConflict, CacheError, CacheFill};
use crate::model::{KeyRef, Lsn, TableId};
use arc_swap::{ArcSwap, Guard};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

type Slots = moka::sync::Cache<MapKey, (), KeyHashing>;

/// The entries of one table, until a truncate or a bulk load puts others in their place. A writer that still holds on to these
/// then writes where nobody looks, which is as if it had come just before.
#[derive(Debug)]
struct Cells {
    slots: Slots,
    /// Older writes are refused. It is also the position of the rows that a bulk load brought.
    floor: Lsn,
    /// A key without an entry has no row.
    complete: bool,
    /// No entry is newer than this.
    newest: AtomicU64,
}

/// All tables, as readers see them.
type Generation = Vec<Arc<Cells>>;

/// Entries in process.
#[derive(Debug)]
pub(super) struct Memory {
    current: ArcSwap<Generation>,
    watermark: AtomicU64,
    rules: Rules,
}

/// Tables of a new generation; those that are not included stay as they are.
#[derive(Debug)]
pub(super) struct MemoryBulk {
    tables: Vec<OnceLock<Slots>>,
    rules: Rules,
}

fn no_slots(rules: Rules) -> Slots {
    let builder = moka::sync::Cache::builder();
    match rules.entries_max {
        Some(entries) => builder.max_capacity(entries),
        None => builder,
    }
    .build_with_hasher(KeyHashing)
}

/// The slot of a key.
fn find(slots: &Slots, key: KeyRef<'_>, rules: Rules) -> Option<Arc<Slot>> {
    let probe = Probe::new(key);
    let found = match rules.entries_max {
        // An eviction policy has to know what is asked for.
        Some(_) => slots.get(&probe).is_some(),
        None => slots.contains_key(&probe),
    };
    if found { probe.into_found() } else { None }
}

/// The slot of a key, made if there is none. Exactly one stays, however many threads ask for it: the one that is found
/// afterwards. `None` when a bounded cache has evicted it at once.
fn find_or_make(slots: &Slots, key: KeyRef<'_>, rules: Rules) -> Option<Arc<Slot>> {
    find(slots, key, rules).or_else(|| {
        slots.get_with(MapKey { key: key.to_key(), slot: Arc::default() }, || ());
        find(slots, key, rules)
    })
}

impl Cells {
    fn new(slots: Slots, floor: Lsn, complete: bool) -> Arc<Cells> {
        let newest = AtomicU64::new(floor.0);
        Arc::new(Cells { slots, floor, complete, newest })
    }

    fn put(&self, key: KeyRef<'_>, at: Lsn, change: Change<'_>, rules: Rules) -> bool {
        let conflict = rules.conflict;
        if conflict == CacheConflict::NewerWins && at < self.floor {
            return false;
        }
        let content = match change {
            Change::Row(row) => Content::Row(row.into()),
            Change::Gone => Content::Gone,
            Change::Invalid if conflict == CacheConflict::NewerWins => Content::Unknown,
            // Without positions there is nothing to remember.
            Change::Invalid => {
                self.slots.invalidate(&Probe::new(key));
                return true;
            }
        };
        // Put and evicted at once is no different from put.
        let Some(slot) = find_or_make(&self.slots, key, rules) else { return true };
        slot.put(at, content, conflict, self.floor)
    }

    /// What is to be here instead, with the entries that are newer than `floor`, the position of the change.
    fn replaced(&self, slots: Slots, floor: Lsn, rules: Rules) -> Arc<Cells> {
        let kept_whole = rules.fill == CacheFill::Stream && rules.entries_max.is_none();
        let newest = Lsn(self.newest.load(Ordering::Acquire));
        if rules.conflict == CacheConflict::LastWrite || newest <= floor {
            return Cells::new(slots, floor, kept_whole);
        }
        for (key, ()) in &self.slots {
            let (position, content) = key.slot.get(self.floor);
            if position > floor
                && let Some(slot) = find_or_make(&slots, key.key.as_ref(), rules)
            {
                slot.put(position, content, rules.conflict, floor);
            }
        }
        let cells = Cells::new(slots, floor.max(self.floor), kept_whole);
        cells.newest.fetch_max(newest.0, Ordering::AcqRel);
        cells
    }

    /// Puts all the edits of a table; gives the bytes put.
    fn put_all(&self, staged: &StagedTable, at: Lsn, rules: Rules) -> u64 {
        self.newest.fetch_max(at.0, Ordering::AcqRel);
        let written = each(&staged.parts, |part| {
            let mut bytes = 0;
            let done: Result<(), Infallible> = staged.each_put(part, rules.fill, |key, change| {
                if self.put(key, at, change, rules) {
                    bytes += entry_bytes(key, change);
                }
                Ok(())
            });
            let Ok(()) = done;
            bytes
        });
        written.into_iter().sum()
    }
}

impl Memory {
    pub(super) fn new(tables: usize, rules: Rules) -> Memory {
        let tables = (0..tables).map(|_| Cells::new(no_slots(rules), Lsn::ZERO, false)).collect();
        Memory { current: ArcSwap::from_pointee(tables), watermark: AtomicU64::new(0), rules }
    }

    fn cells<T>(&self, table: TableId, ask: impl FnOnce(&Cells) -> T) -> Result<T, CacheError> {
        let generation: Guard<Arc<Generation>> = self.current.load();
        match generation.get(table.index()) {
            Some(cells) => Ok(ask(cells)),
            None => Err(CacheError::NoTable { table: table.0 }),
        }
    }

    fn truncate(&self, table: TableId, at: Lsn) {
        let mut generation = Generation::clone(&self.current.load());
        if let Some(cells) = generation.get_mut(table.index()) {
            *cells = cells.replaced(no_slots(self.rules), at, self.rules);
        }
        self.current.store(Arc::new(generation));
    }

    pub(super) fn publish(&self, sets: &[StagedSet], through: Lsn) -> Result<u64, CacheError> {
        let mut bytes = 0;
        for set in sets {
            for staged in &set.tables {
                if staged.truncate {
                    self.truncate(staged.table, set.position);
                }
                bytes += self.cells(staged.table, |cells| cells.put_all(staged, set.position, self.rules))?;
            }
        }
        self.watermark.fetch_max(through.0, Ordering::AcqRel);
        Ok(bytes)
    }

    pub(super) fn put(&self, table: TableId, key: KeyRef<'_>, at: Lsn, change: Change<'_>) -> Result<bool, CacheError> {
        self.cells(table, |cells| {
            cells.newest.fetch_max(at.0, Ordering::AcqRel);
            cells.put(key, at, change, self.rules)
        })
    }

    pub(super) fn get(&self, table: TableId, key: KeyRef<'_>) -> Result<(Lsn, Content), CacheError> {
        self.cells(table, |cells| match find(&cells.slots, key, self.rules) {
            Some(slot) => slot.get(cells.floor),
            None => (Lsn::ZERO, Content::Unknown),
        })
    }

    pub(super) fn position(&self, table: TableId, key: KeyRef<'_>) -> Result<Option<Lsn>, CacheError> {
        self.cells(table, |cells| find(&cells.slots, key, self.rules).and_then(|slot| slot.position(cells.floor)))
    }

    pub(super) fn is_complete(&self, table: TableId) -> bool {
        self.cells(table, |cells| cells.complete).unwrap_or(false)
    }

    pub(super) fn entries(&self, table: TableId) -> Result<EntryIter, CacheError> {
        // The slots are listed first, since moka's own iterator would borrow the table.
        let (floor, slots) = self.cells(table, |cells| (cells.floor, cells.slots.iter().collect::<Vec<_>>()))?;
        let entries = slots.into_iter().map(move |(key, ())| {
            let (position, content) = key.slot.get(floor);
            Ok((key.key.clone(), position, content))
        });
        Ok(Box::new(entries))
    }

    pub(super) fn watermark(&self) -> Lsn {
        Lsn(self.watermark.load(Ordering::Acquire))
    }

    pub(super) fn bulk(&self, tables: usize) -> MemoryBulk {
        MemoryBulk { tables: (0..tables).map(|_| OnceLock::new()).collect(), rules: self.rules }
    }

    pub(super) fn install(&self, bulk: MemoryBulk, through: Lsn) {
        let mut generation = Generation::clone(&self.current.load());
        for (place, slots) in generation.iter_mut().zip(bulk.tables) {
            if let Some(slots) = slots.into_inner() {
                *place = place.replaced(slots, through, self.rules);
            }
        }
        self.current.store(Arc::new(generation));
        self.watermark.fetch_max(through.0, Ordering::AcqRel);
    }
}

impl MemoryBulk {
    fn slots(&self, table: TableId) -> Option<&Slots> {
        self.tables.get(table.index()).map(|slots| slots.get_or_init(|| no_slots(self.rules)))
    }

    pub(super) fn include(&self, table: TableId) {
        self.slots(table);
    }

    pub(super) fn load<'k>(
        &self,
        table: TableId,
        keys: impl Iterator<Item = KeyRef<'k>>,
        mut next_row: impl FnMut(&mut Vec<u8>) -> Result<(), CacheError>,
    ) -> Result<u64, CacheError> {
        let slots = self.slots(table).ok_or(CacheError::NoTable { table: table.0 })?;
        let (mut row, mut bytes) = (Vec::new(), 0);
        for key in keys {
            row.clear();
            next_row(&mut row)?;
            bytes += entry_bytes(key, Change::Row(&row));
            let slot = Arc::new(Slot::loaded(row.as_slice().into()));
            slots.insert(MapKey { key: key.to_key(), slot }, ());
        }
        Ok(bytes)
    }
}
