//! Random edits, late ones among them, fills, truncates and bulk loads against plain maps.

use super::support::*;
use crate::apply::edits::CurrentRows;
use crate::model::{Key, Lsn, TableId, Value};
use crate::sink::cache::{Cache, CacheConflict, CacheFill, Lookup};
use crate::sink::{Bulk, Sink};
use std::collections::BTreeMap;

/// What the cache has to know: the position, and the row, `None` for none, or that it is invalid.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Row(Vec<Value>),
    Gone,
    Invalid,
}

#[derive(Clone, Default)]
struct Table {
    floor: u64,
    entries: BTreeMap<Key, (u64, Known)>,
}

struct Run {
    random: Random,
    cache: Cache,
    fill: CacheFill,
    conflict: CacheConflict,
    lsn: u64,
    tables: Vec<Table>,
}

impl Run {
    fn row(&mut self, table: usize) -> Vec<Value> {
        let id = self.random.below(60) as i64;
        let n = self.random.next() as i64;
        let text = [Value::Null, Value::text(""), Value::text(format!("v{n}"))][self.random.below(3) as usize].clone();
        match table {
            0 => vec![Value::Int(id - 5), if n % 7 == 0 { Value::Null } else { Value::Int(n) }, text],
            _ => vec![Value::Int(id % 7), text, Value::text(format!("b\0{}", id / 7))],
        }
    }

    fn rows(&mut self, table: usize, count: u64) -> BTreeMap<Key, Vec<Value>> {
        let schema = catalog().tables[table].clone();
        (0..count).map(|_| self.row(table)).map(|row| (key_of(&schema, &row), row)).collect()
    }

    /// The rule itself, written down a second time.
    fn put(&mut self, table: usize, key: &Key, at: u64, known: Known) -> bool {
        let newer_wins = self.conflict == CacheConflict::NewerWins;
        let table = &mut self.tables[table];
        let present = table.entries.get(key).map_or(0, |(position, _)| *position).max(table.floor);
        if newer_wins && at < present {
            return false;
        }
        if !newer_wins && known == Known::Invalid {
            table.entries.remove(key);
        } else {
            table.entries.insert(key.clone(), (at, known));
        }
        true
    }

    fn cut(&mut self, table: usize, at: u64) {
        let newer_wins = self.conflict == CacheConflict::NewerWins;
        let table = &mut self.tables[table];
        table.entries.retain(|_, (position, _)| newer_wins && *position > at);
        table.floor = table.floor.max(at);
    }

    fn apply(&mut self) {
        self.lsn += 1;
        // Now and then a group comes late.
        let at = if self.random.below(4) == 0 { self.lsn - self.random.below(self.lsn.min(5)) } else { self.lsn };
        let mut tables = Vec::new();
        for table in 0..2 {
            let (count, gone) = (self.random.below(20), self.random.below(10));
            let upserts = self.rows(table, count);
            let mut deletes: Vec<Key> = self.rows(table, gone).into_keys().collect();
            deletes.retain(|key| !upserts.contains_key(key));
            let truncate = self.random.below(12) == 0;
            if truncate {
                self.cut(table, at);
            }
            let aside = self.fill == CacheFill::Aside;
            for key in &deletes {
                self.put(table, key, at, if aside { Known::Invalid } else { Known::Gone });
            }
            for (key, row) in &upserts {
                self.put(table, key, at, if aside { Known::Invalid } else { Known::Row(row.clone()) });
            }
            let rows: Vec<_> = upserts.into_values().collect();
            tables.push(edits(&catalog().tables[table], TableId(table as u32), truncate, &deletes, &rows));
        }
        self.cache.apply(&edit_set(at, tables)).expect("apply");
    }

    fn publish(&mut self) {
        self.cache.publish(Lsn(self.lsn)).expect("publish");
        assert_eq!(self.cache.visible(), Lsn(self.lsn));
    }

    fn fill(&mut self) {
        let table = self.random.below(2) as usize;
        let row = self.row(table);
        let key = key_of(&catalog().tables[table], &row);
        let at = (self.lsn + 2).saturating_sub(self.random.below(8)).max(1);
        let there = self.random.below(3) > 0;
        let expected = self.put(table, &key, at, if there { Known::Row(row.clone()) } else { Known::Gone });
        let values = refs(&row);
        let row = there.then_some(values.as_slice());
        let taken = self.cache.reader().fill(TableId(table as u32), key.as_ref(), row, Lsn(at)).expect("fill");
        assert_eq!(taken, expected);
    }

    fn bulk(&mut self) {
        self.lsn += 1;
        let load = self.cache.bulk().expect("a generation");
        for table in 0..2 {
            if self.random.below(3) == 0 {
                continue;
            }
            let count = self.random.below(60);
            let rows = self.rows(table, count);
            let id = TableId(table as u32);
            load.include(id).expect("a table");
            let all: Vec<_> = rows.values().cloned().collect();
            all.chunks(17).for_each(|rows| load.write(id, batch_of(&catalog().tables[table], rows)).expect("write"));
            self.cut(table, self.lsn);
            for (key, row) in rows {
                let newer = self.tables[table].entries.contains_key(&key);
                if !newer {
                    self.tables[table].entries.insert(key, (self.lsn, Known::Row(row)));
                }
            }
        }
        self.cache.install(load, Lsn(self.lsn)).expect("install");
    }

    fn check(&mut self) {
        let reader = self.cache.reader();
        for table in 0..2 {
            let id = TableId(table as u32);
            let expected: BTreeMap<_, _> = self.tables[table]
                .entries
                .iter()
                .filter_map(|(key, (at, known))| {
                    let row = match known {
                        Known::Row(row) => Some(row.clone()),
                        Known::Gone => None,
                        Known::Invalid => return None,
                    };
                    Some((key.clone(), (Lsn(*at), row)))
                })
                .collect();
            assert_eq!(super::support::known(&reader, id), expected, "table {table}");
            for key in self.rows(table, 5).into_keys() {
                let found = reader.get(id, key.as_ref()).expect("get");
                let hit =
                    expected.get(&key).map(|(position, row)| Lookup::Hit { position: *position, row: row.clone() });
                assert_eq!(found, hit.unwrap_or(Lookup::Miss), "{key:?}");
                if let Some((_, row)) = expected.get(&key) {
                    assert_eq!(&self.cache.current_row(id, key.as_ref()).expect("current row"), row);
                }
            }
        }
    }
}

pub(super) fn it_equals_a_map_whatever_happens(place: &Place) {
    let kinds = [
        (CacheFill::Stream, CacheConflict::NewerWins),
        (CacheFill::Aside, CacheConflict::NewerWins),
        (CacheFill::Stream, CacheConflict::LastWrite),
        (CacheFill::Aside, CacheConflict::LastWrite),
    ];
    for (seed, (fill, conflict)) in seeds(place.effort).into_iter().flat_map(|seed| kinds.map(|kind| (seed, kind))) {
        println!("seed {seed}, {fill:?}, {conflict:?}; replay with FRESHBENCH_TEST_SEED={seed} cargo test sink::cache");
        let (random, cache) = (Random(seed), place.cache_with(fill, conflict));
        let mut run = Run { random, cache, fill, conflict, lsn: 0, tables: vec![Table::default(); 2] };
        for _ in 0..40 {
            match run.random.below(10) {
                0..=3 => {
                    run.apply();
                    if run.random.below(3) == 0 {
                        run.apply();
                    }
                    run.publish();
                }
                4..=7 => run.fill(),
                8 => run.bulk(),
                _ => run.check(),
            }
        }
        run.check();
    }
}
