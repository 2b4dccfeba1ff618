//! Random edits against plain maps: what a view shows is exactly what the maps say.

use super::super::{SearchIndex, SearchView};
use super::support::*;
use crate::apply::edits::CurrentRows;
use crate::model::{Catalog, Key, Lsn, TableId, Value};
use crate::sink::{Bulk, Sink};
use std::collections::BTreeSet;

const TEXTS: [&str; 8] = ["", "one two", "Grüße ÄÖÜ", "a\0b", "二 三", "x", "one", "emoji 🦀 tail"];

#[derive(Clone, Default, PartialEq, Debug)]
struct Tables {
    rows: Vec<Rows>,
    watermark: u64,
}

struct Run {
    random: Random,
    catalog: Catalog,
    /// As applied, as readers must see it, and as a crash would leave it.
    applied: Tables,
    visible: Tables,
    durable: Tables,
    /// Every key there ever was.
    known: Vec<BTreeSet<Key>>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let catalog = catalog();
        let empty = Tables { rows: vec![Rows::new(); catalog.tables.len()], watermark: 0 };
        let known = vec![BTreeSet::new(); catalog.tables.len()];
        let (applied, visible, durable) = (empty.clone(), empty.clone(), empty);
        Run { random: Random(seed), catalog, applied, visible, durable, known }
    }

    fn row(&mut self, table: usize) -> Vec<Value> {
        let id = self.random.below(40) as i64;
        let text = |random: &mut Random| match random.below(9) {
            0 => Value::Null,
            _ => Value::text(TEXTS[random.below(8) as usize]),
        };
        let (n, s, t) = (Value::Int(self.random.below(9) as i64), text(&mut self.random), text(&mut self.random));
        match table {
            0 => vec![n, Value::Int(id - 20), s],
            1 => vec![Value::Int(id % 4), s, Value::text(TEXTS[id as usize % 8]), n, t],
            2 => vec![Value::text(format!("{}{}", TEXTS[id as usize % 8], id / 8)), n, s],
            _ => vec![Value::text(id.to_string()), n],
        }
    }

    fn apply(&mut self, index: &mut SearchIndex) {
        let mut all = Vec::new();
        for table in 0..self.catalog.tables.len() {
            if self.random.below(3) == 0 {
                continue;
            }
            let truncate = self.random.below(12) == 0;
            let mut upserts = Rows::new();
            for _ in 0..self.random.below(12) {
                let row = self.row(table);
                upserts.insert(key_of(&self.catalog.tables[table], &row), row);
            }
            let mut deletes = BTreeSet::new();
            for _ in 0..self.random.below(8) {
                let row = self.row(table);
                let key = key_of(&self.catalog.tables[table], &row);
                if !upserts.contains_key(&key) {
                    deletes.insert(key);
                }
            }
            let rows = &mut self.applied.rows[table];
            if truncate {
                rows.clear();
            }
            deletes.iter().for_each(|key| drop(rows.remove(key)));
            rows.extend(upserts.clone());
            self.known[table].extend(deletes.iter().chain(upserts.keys()).cloned());
            let (deletes, upserts): (Vec<_>, Vec<_>) = (deletes.into_iter().collect(), upserts.into_values().collect());
            all.push(edits(&self.catalog, TableId(table as u32), truncate, &deletes, &upserts));
        }
        self.applied.watermark += 1;
        index.apply(&edit_set(self.applied.watermark, all)).expect("accepted");
    }

    fn rebuild(&mut self, index: &mut SearchIndex) {
        let bulk = index.bulk().expect("a bulk load");
        for table in 0..self.catalog.tables.len() {
            // Now and then a table is left out and has to stay as it is.
            if self.random.below(4) == 0 {
                continue;
            }
            let id = TableId(table as u32);
            bulk.include(id).expect("a table");
            let mut rows = Rows::new();
            for _ in 0..self.random.below(60) {
                let row = self.row(table);
                rows.insert(key_of(&self.catalog.tables[table], &row), row);
            }
            self.known[table].extend(rows.keys().cloned());
            let all: Vec<Vec<Value>> = rows.values().cloned().collect();
            for part in all.chunks(13) {
                Bulk::write(&bulk, id, batch_of(&self.catalog.tables[table], part)).expect("written");
            }
            self.applied.rows[table] = rows;
        }
        self.applied.watermark += 1;
        index.install(bulk, Lsn(self.applied.watermark)).expect("installed");
        self.visible = self.applied.clone();
        self.durable = self.applied.clone();
    }

    fn check(&self, view: &SearchView, expected: &Tables) {
        assert_eq!(view.watermark(), Lsn(expected.watermark));
        let mut docs = 0;
        for (table, rows) in expected.rows.iter().enumerate() {
            let id = TableId(table as u32);
            let expected = kept(view, id, rows);
            docs += expected.len() as u64;
            assert_eq!(stored(view, &self.catalog, id), expected, "table {table}");
            for key in &self.known[table] {
                let hits = view.hits(id, key.as_ref()).expect("hits");
                assert_eq!(hits, u64::from(expected.contains_key(key)), "table {table}, key {key:?}");
                assert_eq!(view.row(id, key.as_ref()).expect("a row").as_ref(), expected.get(key));
            }
        }
        assert_eq!(view.doc_count(), docs);
    }

    /// The present row of each key is that of the edits applied last, visible or not.
    fn check_current(&self, index: &SearchIndex) {
        let view = index.reader().view();
        for (table, rows) in self.applied.rows.iter().enumerate() {
            let id = TableId(table as u32);
            let columns = view.columns(id);
            let width = self.catalog.tables[table].columns.len();
            for key in &self.known[table] {
                let expected = rows.get(key).filter(|_| !columns.is_empty()).map(|row| {
                    let cell = |place| if columns.contains(&place) { row[place].clone() } else { Value::Null };
                    (0..width).map(cell).collect::<Vec<_>>()
                });
                assert_eq!(index.current_row(id, key.as_ref()).expect("a row"), expected, "table {table}, key {key:?}");
            }
        }
    }
}

fn run(seed: u64, steps: usize) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut run = Run::new(seed);
    let mut index = create(dir.path());
    let mut held: Vec<(std::sync::Arc<SearchView>, Tables)> = Vec::new();
    for _ in 0..steps {
        match run.random.below(24) {
            0..=11 => run.apply(&mut index),
            12..=17 => {
                run.applied.watermark += run.random.below(2);
                index.publish(Lsn(run.applied.watermark)).expect("published");
                run.visible = run.applied.clone();
                run.check(&index.reader().view(), &run.visible);
            }
            18 | 19 => {
                assert_eq!(index.checkpoint().expect("a checkpoint"), Lsn(run.visible.watermark));
                run.durable = run.visible.clone();
            }
            20 => run.check_current(&index),
            21 => {
                drop(index);
                index = open(dir.path());
                run.visible = run.durable.clone();
                run.applied = run.durable.clone();
                run.check(&index.reader().view(), &run.durable);
            }
            22 => held.push((index.reader().view(), run.visible.clone())),
            _ => {
                index.publish(Lsn(run.applied.watermark)).expect("published");
                run.rebuild(&mut index);
                run.check(&index.reader().view(), &run.visible);
            }
        }
        run.check(&super::super::SearchReader::open(dir.path()).expect("a reader").view(), &run.durable);
    }
    for (view, expected) in &held {
        run.check(view, expected);
    }
}

#[test]
fn random_edits_equal_plain_maps() {
    for seed in seeds(12) {
        let outcome = std::panic::catch_unwind(|| run(seed, 90));
        if let Err(panic) = outcome {
            eprintln!("replay: FRESHBENCH_TEST_SEED={seed} cargo test --lib search::tests::model");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn many_small_commits_stay_few_segments_and_lose_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    let mut expected = Rows::new();
    let catalog = catalog();
    for round in 0..300_i64 {
        let rows: Vec<Vec<Value>> = (0..5).map(|i| int_row((round * 3 + i * 7) % 200, &format!("v{round}"))).collect();
        for row in &rows {
            expected.insert(key_of(&catalog.tables[0], row), row.clone());
        }
        index.apply(&upsert(round as u64 + 1, INT, &rows)).expect("accepted");
        index.publish(Lsn(round as u64 + 1)).expect("published");
        assert!(index.reader().view().segment_count() <= super::super::SEGMENTS_MAX + 1);
    }
    let view = index.reader().view();
    assert_eq!(stored(&view, &catalog, INT), kept(&view, INT, &expected));
    let counters = index.counters();
    assert!(counters.bytes_rewritten > 0 && counters.bytes_rewritten < counters.bytes_written, "{counters:?}");
    index.checkpoint().expect("a checkpoint");
    drop(index);
    let view = open(dir.path()).reader().view();
    assert_eq!(stored(&view, &catalog, INT), kept(&view, INT, &expected));
}

#[test]
fn a_segment_that_loses_its_last_document_while_it_is_merged_does_no_harm() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    let catalog = catalog();
    let mut expected = Rows::new();
    let mut through = 0;
    for round in 0..25_i64 {
        // Eight segments, and a merge of them starts; then each of them is replaced, one a commit.
        for first in (0..8).chain(0..8).map(|at| at * 300) {
            let rows: Vec<_> = (first..first + 300).map(|id| int_row(id, &format!("v{round} {through}"))).collect();
            rows.iter().for_each(|row| drop(expected.insert(key_of(&catalog.tables[0], row), row.clone())));
            through += 1;
            index.apply(&upsert(through, INT, &rows)).expect("accepted");
            index.publish(Lsn(through)).expect("published");
        }
        let view = index.reader().view();
        assert_eq!(stored(&view, &catalog, INT), kept(&view, INT, &expected), "round {round}");
    }
}

#[test]
fn an_index_may_be_closed_while_a_merge_is_under_way() {
    for round in 0..10_u64 {
        let dir = tempfile::tempdir().expect("a folder");
        let mut index = create(dir.path());
        // Eight segments start a merge, and each publish behind them looks at it.
        for through in 1..=9 + round % 3 {
            let rows: Vec<_> = (0..2_000).map(|id| int_row(through as i64 * 2_000 + id, "a text")).collect();
            index.apply(&upsert(through, INT, &rows)).expect("accepted");
            index.publish(Lsn(through)).expect("published");
        }
        drop(index);
    }
}
