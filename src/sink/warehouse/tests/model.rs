//! Random edits, publishes, checkpoints, bulk loads and reopenings against plain maps.

use super::super::{Aggregate, Comparison, Condition, Filter, Version, Warehouse, WarehouseOptions};
use super::support::*;
use crate::apply::edits::CurrentRows;
use crate::model::{Catalog, Key, Lsn, TableId, Value};
use crate::sink::Sink;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

type State = Vec<Rows>;

/// Who does the work beside the writer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    /// Nobody: the writer does it.
    Inline,
    /// It is held, and let go by chance.
    Held,
    /// Threads.
    Threads,
}

struct Run {
    side: Side,
    options: WarehouseOptions,
    random: Random,
    dir: PathBuf,
    catalog: Catalog,
    warehouse: Option<Warehouse>,
    lsn: u64,
    staged: State,
    dirty: bool,
    visible: (u64, State),
    durable: (u64, State),
    /// What was visible when the checkpoint that is under way was begun, and since.
    begun: Vec<(u64, State)>,
    held: Vec<(Arc<Version>, u64, State)>,
}

impl Run {
    fn warehouse(&mut self) -> &mut Warehouse {
        self.warehouse.as_mut().expect("an open warehouse")
    }

    fn row(&mut self, table: usize, spread: u64) -> Vec<Value> {
        let id = self.random.below(spread) as i64;
        let n = self.random.next() as i64 >> self.random.below(64);
        let text = match self.random.below(3) {
            0 => Value::Null,
            1 => Value::text(""),
            _ => Value::text(format!("v{n}")),
        };
        match table {
            0 => vec![Value::Int(id - 5), if n % 7 == 0 { Value::Null } else { Value::Int(n) }, text],
            1 => vec![Value::Int(id % 7), text, Value::text(format!("b\0{}", id / 7))],
            _ => vec![Value::text(format!("key {id}")), Value::Int(n), Value::Int(id)],
        }
    }

    fn rows(&mut self, table: usize, count: u64, spread: u64) -> Rows {
        let schema = self.catalog.tables[table].clone();
        (0..count).map(|_| self.row(table, spread)).map(|row| (key_of(&schema, &row), row)).collect()
    }

    fn apply(&mut self) {
        let mut tables = Vec::new();
        for table in 0..3 {
            if self.random.below(3) == 0 {
                continue;
            }
            let (spread, size) =
                ([20, 300, 3_000][self.random.below(3) as usize], [3, 30, 200][self.random.below(3) as usize]);
            let count = self.random.below(size);
            let mut upserts = self.rows(table, count, spread);
            let deletes = self.random.below(size);
            let mut deletes: Vec<Key> = self.rows(table, deletes, spread).into_keys().collect();
            deletes.retain(|key| !upserts.contains_key(key));
            let truncate = self.random.below(25) == 0;
            let state = &mut self.staged[table];
            if truncate {
                state.clear();
            }
            deletes.iter().for_each(|key| drop(state.remove(key)));
            let rows: Vec<_> = upserts.values().cloned().collect();
            state.append(&mut upserts);
            tables.push(edits(&self.catalog, TableId(table as u32), truncate, &deletes, &rows));
        }
        self.lsn += 1;
        let set = edit_set(self.lsn, tables);
        self.warehouse().apply(&set).expect("apply");
        self.dirty = true;
    }

    fn publish(&mut self) {
        let lsn = self.lsn;
        self.warehouse().publish(Lsn(lsn)).expect("publish");
        self.visible = (lsn, self.staged.clone());
        if !self.begun.is_empty() {
            self.begun.push(self.visible.clone());
        }
        self.dirty = false;
    }

    fn prepared(&mut self, mut warehouse: Warehouse) {
        if self.side == Side::Held {
            super::compaction::hold(&mut warehouse);
        }
        self.warehouse = Some(warehouse);
    }

    /// Does what is held, so that nothing waits for it.
    fn let_all_go(&mut self) {
        while self.side == Side::Held && self.warehouse().background.let_one_go() {}
    }

    fn begin_checkpoint(&mut self) {
        self.warehouse().begin_checkpoint().expect("begun");
        if self.begun.is_empty() {
            self.begun.push(self.visible.clone());
        }
        self.poll_checkpoint();
    }

    fn poll_checkpoint(&mut self) {
        if let Some(lsn) = self.warehouse().poll_checkpoint().expect("a look") {
            self.find_durable(lsn);
        }
    }

    /// The checkpoint that was begun has made one of the states since then durable.
    fn find_durable(&mut self, lsn: Lsn) {
        let begun = std::mem::take(&mut self.begun);
        self.durable = begun.into_iter().rfind(|(at, _)| Lsn(*at) == lsn).unwrap_or_else(|| self.durable.clone());
        assert_eq!(lsn, Lsn(self.durable.0));
    }

    fn checkpoint(&mut self) {
        self.let_all_go();
        self.begun.clear();
        let durable = self.warehouse().checkpoint().expect("checkpoint");
        assert_eq!(durable, Lsn(self.visible.0));
        self.durable = self.visible.clone();
    }

    fn reopen(&mut self) {
        // Opening removes files that only they still need.
        self.held.drain(..).for_each(|(version, lsn, state)| check_version(&version, lsn, &state));
        self.warehouse = None;
        let warehouse = Warehouse::open(&self.dir, self.options.clone()).expect("open");
        // A checkpoint that was begun is done, or never was.
        self.find_durable(warehouse.durable());
        self.prepared(warehouse);
        self.visible = self.durable.clone();
        self.staged = self.durable.1.clone();
        self.lsn = self.durable.0;
        self.dirty = false;
    }

    fn bulk(&mut self) {
        if self.dirty {
            self.publish();
        }
        self.let_all_go();
        self.begun.clear();
        self.lsn += 1;
        let load = self.warehouse().bulk();
        for table in 0..3 {
            if self.random.below(2) == 0 {
                continue;
            }
            let count = self.random.below(400);
            let rows = self.rows(table, count, 1_000);
            let id = TableId(table as u32);
            load.include(id).expect("a table");
            let all: Vec<_> = rows.values().cloned().collect();
            for part in all.chunks(50) {
                load.write(id, batch_of(&self.catalog.tables[table], part)).expect("write");
            }
            self.staged[table] = rows;
        }
        let lsn = self.lsn;
        load.publish(self.warehouse(), Lsn(lsn)).expect("publish");
        self.visible = (lsn, self.staged.clone());
        self.durable = self.visible.clone();
    }

    fn check(&mut self) {
        let version = self.warehouse().reader().version();
        check_version(&version, self.visible.0, &self.visible.1);
        for table in 0..3 {
            let id = TableId(table as u32);
            for _ in 0..5 {
                let row = self.row(table, 300);
                let key = key_of(&self.catalog.tables[table], &row);
                let found = version.get(id, key.as_ref()).expect("get");
                assert_eq!(found.as_ref(), self.visible.1[table].get(&key), "get {key:?}");
                let current = self.warehouse().current_row(id, key.as_ref()).expect("current row");
                assert_eq!(current.as_ref(), self.staged[table].get(&key), "current row of {key:?}");
            }
        }
        if self.random.below(4) == 0 {
            self.held.push((version, self.visible.0, self.visible.1.clone()));
        }
    }
}

fn check_version(version: &Version, lsn: u64, state: &State) {
    assert_eq!(version.watermark(), Lsn(lsn));
    for (table, expected) in state.iter().enumerate() {
        let id = TableId(table as u32);
        assert_eq!(version.row_count(id), expected.len() as u64);
        assert_eq!(&scanned(version, id), expected);
    }
    check_order_and_questions(version, state);
}

fn check_order_and_questions(version: &Version, state: &State) {
    for (table, expected) in state.iter().enumerate() {
        let mut ordered = Vec::new();
        for batch in version.rows_in_key_order(TableId(table as u32), None).expect("rows") {
            let batch = batch.expect("a batch");
            ordered.extend((0..batch.num_rows()).map(|row| super::super::row_values(&batch, row)));
        }
        assert!(ordered.iter().eq(expected.values()), "table {table} in key order");
    }
    let ints = || state[0].values().filter_map(|row| if let Value::Int(n) = row[1] { Some(n) } else { None });
    let products = state[0].values().filter_map(|row| match (&row[0], &row[1]) {
        (Value::Int(a), Value::Int(b)) => Some(i128::from(*a) * i128::from(*b)),
        _ => None,
    });
    let some = |value: i128| ints().next().map(|_| value);
    let aggregates =
        [Aggregate::Count, Aggregate::Sum(1), Aggregate::SumProduct(0, 1), Aggregate::Min(1), Aggregate::Max(1)];
    let expected = [
        Some(state[0].len() as i128),
        some(ints().map(i128::from).sum()),
        some(products.sum()),
        ints().min().map(i128::from),
        ints().max().map(i128::from),
    ];
    assert_eq!(version.aggregate(TableId(0), &aggregates).expect("aggregates"), expected);
    for (comparison, holds) in [
        (Comparison::Less, (|n, m| n < m) as fn(i64, i64) -> bool),
        (Comparison::GreaterOrEqual, |n, m| n >= m),
        (Comparison::Equal, |n, m| n == m),
        (Comparison::NotEqual, |n, m| n != m),
    ] {
        for (column, literal) in [(0, 7), (1, 1_000)] {
            let filter = Filter { conditions: vec![Condition { column, comparison, literal: Value::Int(literal) }] };
            let rows: usize = version
                .scan(TableId(0), Some(&[0]), Some(&filter))
                .map(|batch| batch.expect("a batch").num_rows())
                .sum();
            let expected =
                state[0].values().filter(|row| matches!(row[column], Value::Int(n) if holds(n, literal))).count();
            assert_eq!(rows, expected, "column {column} {comparison:?} {literal}");
        }
    }
}

#[test]
fn it_equals_a_map_whatever_happens() {
    for seed in seeds(12) {
        let side = [Side::Inline, Side::Held, Side::Threads][seed as usize % 3];
        let memory_bytes_max = (seed / 3 % 2 == 1).then_some(20_000);
        let threads = usize::from(side == Side::Threads);
        let options = WarehouseOptions { compaction_threads: threads, memory_bytes_max, ..small() };
        println!("seed {seed}; replay with FRESHBENCH_TEST_SEED={seed} cargo test it_equals_a_map");
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("warehouse");
        let empty: State = vec![BTreeMap::new(); 3];
        let mut run = Run {
            random: Random(seed),
            warehouse: None,
            dir,
            side,
            options: options.clone(),
            catalog: catalog(),
            lsn: 0,
            staged: empty.clone(),
            dirty: false,
            visible: (0, empty.clone()),
            durable: (0, empty),
            begun: Vec::new(),
            held: Vec::new(),
        };
        let created = Warehouse::create(&run.dir, &run.catalog, options).expect("a warehouse");
        run.prepared(created);
        for _ in 0..120 {
            match run.random.below(48) {
                0..20 => run.apply(),
                20..34 => run.publish(),
                34..36 => run.checkpoint(),
                36..38 => run.reopen(),
                38..41 => run.begin_checkpoint(),
                41..43 => run.poll_checkpoint(),
                43..47 if run.side == Side::Held => drop(run.warehouse().background.let_one_go()),
                43..47 => run.publish(),
                _ => run.bulk(),
            }
            run.check();
        }
        for (version, lsn, state) in &run.held {
            check_version(version, *lsn, state);
        }
        run.warehouse().verify().expect("a sound folder");
    }
}
