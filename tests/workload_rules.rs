//! What a workload promises: its invariants, its lanes, its schedule, and one stream for one seed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use freshbench::model::{TableId, Value};
use freshbench::workload::{
    Arrivals, Assign, BASE_TIME, Invariant, LANES, Overrides, PlannedTxn, RowsPerTxn, Statement, Workload,
    built_in_names,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The record system as a map: what the statements mean, in the plainest form there is.
struct Tables {
    tables: Vec<BTreeMap<Vec<Value>, Vec<Value>>>,
    keys: Vec<Vec<usize>>,
}

impl Tables {
    fn load(workload: &Workload) -> Tables {
        let catalog = workload.catalog();
        let keys: Vec<Vec<usize>> = catalog.tables.iter().map(|table| table.key.clone()).collect();
        let mut tables = Tables { tables: vec![BTreeMap::new(); keys.len()], keys };
        for (id, schema) in catalog.iter() {
            for row in workload.initial_rows(id) {
                assert_eq!(row.len(), schema.columns.len());
                for (value, column) in row.iter().zip(&schema.columns) {
                    assert!(column.nullable || *value != Value::Null, "{}.{} is NULL", schema.name, column.name);
                }
                tables.insert(id, row);
            }
            assert_eq!(tables.tables[id.index()].len() as u64, workload.initial_row_count(id), "{}", schema.name);
        }
        tables
    }

    fn insert(&mut self, table: TableId, row: Vec<Value>) {
        let key = self.keys[table.index()].iter().map(|&column| row[column].clone()).collect();
        assert!(self.tables[table.index()].insert(key, row).is_none(), "inserted twice");
    }

    /// How many of the statements found no row.
    fn apply(&mut self, txn: &PlannedTxn) -> usize {
        let mut missed = 0;
        for statement in &txn.statements {
            let table = &mut self.tables[statement.table().index()];
            match statement {
                Statement::Insert { table, row } => self.insert(*table, row.clone()),
                Statement::Delete { key, .. } => missed += usize::from(table.remove(key).is_none()),
                Statement::Read { key, .. } => missed += usize::from(!table.contains_key(key)),
                Statement::Scan { from, .. } => missed += usize::from(!table.contains_key(from)),
                Statement::Update { key, set, .. } => match table.get_mut(key) {
                    None => missed += 1,
                    Some(row) => {
                        for (column, assign) in set {
                            row[*column] = match (assign, &row[*column]) {
                                (Assign::Set(value), _) => value.clone(),
                                (Assign::Add(n), Value::Int(old)) => Value::Int(old + n),
                                (Assign::Add(_), other) => panic!("relative update of {other:?}"),
                            };
                        }
                    }
                },
            }
        }
        missed
    }

    fn sum(&self, invariant: &Invariant) -> i128 {
        let int = |row: &Vec<Value>, column: &usize| match &row[*column] {
            Value::Int(n) => i128::from(*n),
            other => panic!("{other:?} in {}", invariant.name),
        };
        let of_term = |table: TableId, factors: &[usize]| -> i128 {
            self.tables[table.index()].values().map(|row| factors.iter().map(|f| int(row, f)).product::<i128>()).sum()
        };
        invariant.terms.iter().map(|term| i128::from(term.coefficient) * of_term(term.table, &term.factors)).sum()
    }
}

fn orders(rows: u64, seed: u64) -> Workload {
    Workload::load("orders", &Overrides { rows: Some(rows), seed: Some(seed), ..Overrides::default() }).unwrap()
}

fn small(name: &str, rows: u64) -> Workload {
    Workload::load(name, &Overrides { rows: Some(rows), ..Overrides::default() }).unwrap()
}

#[test]
fn the_default_has_the_size_it_says() {
    let workload = Workload::load("orders", &Overrides::default()).unwrap();
    let counts: Vec<u64> = workload.catalog().iter().map(|(id, _)| workload.initial_row_count(id)).collect();
    assert_eq!(counts[..3], [10_000, 1_000, 50_000]);
    assert!((270_000..280_000).contains(&counts[3]), "{} items", counts[3]);
    assert_eq!(workload.settings().duration, Duration::from_secs(8));
    assert_eq!(workload.settings().seed, 42);
}

#[test]
fn every_table_ends_in_its_cursor_column() {
    for name in built_in_names() {
        let workload = small(name, 10);
        for (id, schema) in workload.catalog().iter() {
            schema.check().unwrap();
            assert_eq!(workload.cursor_column(id), schema.columns.len() - 1, "{name}.{}", schema.name);
            for row in workload.initial_rows(id) {
                assert!(matches!(row.last(), Some(Value::Timestamp(at)) if *at < BASE_TIME.0), "{name}: {row:?}");
            }
        }
    }
}

#[test]
fn every_kind_happens_and_finds_its_rows() {
    let workload = orders(2_000, 7);
    let mut tables = Tables::load(&workload);
    let mut kinds: BTreeMap<&str, u32> = BTreeMap::new();
    let mut cancelled_first = 0;
    for txn in workload.stream().take(5_000) {
        *kinds.entry(txn.kind).or_default() += 1;
        assert_eq!(tables.apply(&txn), 0, "{txn:?}");
        if let ("cancel", Some(Statement::Delete { key, .. })) = (txn.kind, txn.statements.last()) {
            cancelled_first += u32::from(key[0] <= Value::Int(2_000));
        }
    }
    let share = |kind: &str| f64::from(kinds[kind]) / 5_000.0;
    // Shares 40, 27, 20, 6, 4, 3; four standard errors of the largest are 0.028.
    for (kind, expected) in
        [("place", 0.40), ("pay", 0.27), ("ship", 0.20), ("cancel", 0.06), ("reprice", 0.04), ("profile", 0.03)]
    {
        assert!((share(kind) - expected).abs() < 0.028, "{kind}: {} instead of {expected}", share(kind));
    }
    // Orders of the start are worked on as well as new ones.
    assert!(cancelled_first > 0 && cancelled_first < kinds["cancel"], "{cancelled_first} of {kinds:?}");
}

#[test]
fn inserts_and_updates_are_stamped_with_the_intended_time() {
    for name in ["orders", "ycsb-a", "ycsb-d", "ycsb-f"] {
        let workload = small(name, 100);
        for txn in workload.stream().take(500) {
            let now = Value::Timestamp(BASE_TIME.0 + txn.intended.as_micros() as i64);
            for statement in &txn.statements {
                let cursor = workload.cursor_column(statement.table());
                match statement {
                    Statement::Insert { row, .. } => assert_eq!(row[cursor], now),
                    Statement::Update { set, .. } => assert!(set.contains(&(cursor, Assign::Set(now.clone())))),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn an_order_lives_in_one_lane() {
    let workload = orders(1_000, 3);
    let mut lanes: BTreeMap<Value, BTreeSet<u32>> = BTreeMap::new();
    for txn in workload.stream().take(20_000) {
        assert!(txn.lane.is_some_and(|lane| lane < LANES));
        let order = txn.statements.iter().find_map(|statement| match statement {
            Statement::Insert { table: TableId(2), row } => Some(row[0].clone()),
            Statement::Update { table: TableId(2), key, .. } | Statement::Delete { table: TableId(2), key } => {
                Some(key[0].clone())
            }
            _ => None,
        });
        if let (Some(order), Some(lane)) = (order, txn.lane) {
            lanes.entry(order).or_default().insert(lane);
        }
    }
    assert!(lanes.values().all(|lanes| lanes.len() == 1));
    let used: BTreeSet<u32> = lanes.values().flatten().copied().collect();
    assert!(used.len() > 1_000, "lanes are used evenly: {}", used.len());
}

/// Whatever order the clients run in, as long as each keeps its own, every transaction finds its rows.
#[test]
fn lanes_are_all_the_order_that_is_needed() {
    let workload = orders(500, 11);
    let txns: Vec<PlannedTxn> = workload.stream().take(4_000).collect();
    for clients in [1, 3, 4] {
        let mut tables = Tables::load(&workload);
        let mut missed = 0;
        // The worst schedule: one client after the other.
        for client in 0..clients {
            for txn in txns.iter().filter(|txn| txn.client(clients).0 == client) {
                missed += tables.apply(txn);
            }
        }
        assert_eq!(missed, 0, "{clients} clients");
        for invariant in workload.invariants() {
            assert_eq!(tables.sum(invariant), invariant.equals, "{clients} clients: {}", invariant.name);
        }
    }
}

#[test]
fn the_stream_does_not_depend_on_who_runs_it() {
    let digest = |clients| {
        let overrides = Overrides { clients: Some(clients), rows: Some(1_000), ..Overrides::default() };
        Workload::load("orders", &overrides).unwrap().stream_digest(1_000)
    };
    assert_eq!(digest(1), digest(7));
    let workload = orders(1_000, 42);
    let threads: Vec<Vec<PlannedTxn>> = std::thread::scope(|scope| {
        let run = || scope.spawn(|| workload.stream().take(1_000).collect());
        let handles = [run(), run()];
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    assert_eq!(threads[0], threads[1]);
    assert_ne!(digest(1), orders(1_000, 43).stream_digest(1_000));
}

#[test]
fn a_huge_table_costs_nothing_until_it_is_read() {
    let workload = orders(100_000_000, 42);
    assert_eq!(workload.initial_row_count(TableId(2)), 100_000_000);
    assert_eq!(workload.initial_rows(TableId(3)).take(3).count(), 3);
    assert_eq!(workload.stream().take(100).count(), 100);
}

#[test]
fn ycsb_operations_have_the_published_shares() {
    for (name, expected) in [
        ("ycsb-a", [("read", 0.50), ("update", 0.50)]),
        ("ycsb-b", [("read", 0.95), ("update", 0.05)]),
        ("ycsb-c", [("read", 1.0), ("update", 0.0)]),
        ("ycsb-d", [("read", 0.95), ("insert", 0.05)]),
        ("ycsb-e", [("scan", 0.95), ("insert", 0.05)]),
        ("ycsb-f", [("read", 0.50), ("rmw", 0.50)]),
    ] {
        let workload = small(name, 1_000);
        assert_eq!(workload.catalog().tables[0].columns.len(), 12, "a key, ten fields and updated_at");
        let mut tables = Tables::load(&workload);
        let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
        for txn in workload.stream().take(10_000) {
            *counts.entry(txn.kind).or_default() += 1.0 / 10_000.0;
            assert_eq!(txn.lane, None);
            assert_eq!(tables.apply(&txn), 0, "{name}: {txn:?}");
            for statement in &txn.statements {
                match statement {
                    Statement::Scan { limit_rows, .. } => assert!((1..=100).contains(limit_rows)),
                    Statement::Insert { row, .. } => {
                        assert!(matches!(&row[1], Value::Text(text) if text.len() == 100));
                    }
                    _ => {}
                }
            }
        }
        for (kind, share) in expected {
            let seen = counts.get(kind).copied().unwrap_or(0.0);
            // Four standard errors of a half.
            assert!((seen - share).abs() < 0.02, "{name}: {kind} {seen} instead of {share}");
        }
    }
}

#[test]
fn keyed_shares_can_delete_down_to_nothing() {
    let shares = vec![("delete".to_owned(), 3.0), ("insert".to_owned(), 1.0), ("update".to_owned(), 1.0)];
    let overrides = Overrides { rows: Some(20), shares, ..Overrides::default() };
    let workload = Workload::load("ycsb-a", &overrides).unwrap();
    let mut tables = Tables::load(&workload);
    for txn in workload.stream().take(2_000) {
        assert_eq!(tables.apply(&txn), 0, "{txn:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn invariants_hold_after_every_transaction(
        rows in 1u64..300, seed in 0u64..1_000_000, tail in 1u32..40, heavy in any::<bool>(),
    ) {
        let rows_per_txn = if heavy {
            RowsPerTxn::Pareto { min: 1, max: tail, alpha: 1.1 }
        } else {
            RowsPerTxn::Uniform { min: 1, max: tail }
        };
        let overrides =
            Overrides { rows: Some(rows), seed: Some(seed), rows_per_txn: Some(rows_per_txn), ..Overrides::default() };
        let workload = Workload::load("orders", &overrides).unwrap();
        let mut tables = Tables::load(&workload);
        for invariant in workload.invariants() {
            prop_assert_eq!(tables.sum(invariant), invariant.equals, "seed {} at the start: {}", seed, &invariant.name);
        }
        for txn in workload.stream().take(60) {
            prop_assert_eq!(tables.apply(&txn), 0, "seed {}: a row is missing for {:?}", seed, &txn);
            for invariant in workload.invariants() {
                let sum = tables.sum(invariant);
                prop_assert_eq!(sum, invariant.equals, "seed {}: {} after {:?}", seed, &invariant.name, &txn);
            }
        }
    }

    #[test]
    fn starts_never_go_back(seed in 0u64..1_000_000, fixed in any::<bool>(), rate in 1.0f64..1e6) {
        let arrivals = Some(if fixed { Arrivals::Fixed } else { Arrivals::Poisson });
        let overrides =
            Overrides { rows: Some(50), seed: Some(seed), rate_per_s: Some(rate), arrivals, ..Overrides::default() };
        let workload = Workload::load("orders", &overrides).unwrap();
        let mut before = Duration::ZERO;
        for (txn, index) in workload.stream().take(300).zip(0..) {
            prop_assert_eq!(txn.index.0, index, "seed {}", seed);
            prop_assert!(txn.intended >= before, "seed {seed}: {:?} after {before:?}", txn.intended);
            before = txn.intended;
        }
        // 300 gaps: their mean is within 6 standard errors of 1 / rate.
        let ratio = before.as_secs_f64() / (300.0 / rate);
        prop_assert!((0.65..1.35).contains(&ratio), "seed {seed}: {ratio}");
    }
}
