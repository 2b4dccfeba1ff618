//! What the table has to hold, kept beside it; and which changes come next.

use crate::orders::{KeyKind, Orders, SUMS, TABLE, measures, mix};
use freshbench::model::{CommitTime, Key, Lsn, Transaction, ValueRef};
use freshbench::sink::warehouse::Version;

const DEAD: u32 = u32::MAX;

/// What the transactions do.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Updates of keys of which every one is as likely as any other.
    Uniform,
    /// Updates of keys with a popularity of 1 / rank^0.99, the popular ones spread over all keys.
    Zipf(Zipf),
    Insert,
    Delete,
}

/// Draws ranks with a probability of 1 / rank^theta (Gray et al., "Quickly generating billion-record synthetic
/// databases", 1994, as YCSB has it).
#[derive(Clone, Copy, Debug)]
pub struct Zipf {
    count: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    const THETA: f64 = 0.99;

    pub fn new(count: u64) -> Zipf {
        let harmonic = |count: u64| (1..=count).map(|rank| (rank as f64).powf(-Zipf::THETA)).sum::<f64>();
        let (zeta, count) = (harmonic(count), count as f64);
        let eta = (1.0 - (2.0 / count).powf(1.0 - Zipf::THETA)) / (1.0 - harmonic(2) / zeta);
        Zipf { count, zeta, eta }
    }

    /// The rank, from 0, for a number in 0..1.
    fn rank(&self, uniform: f64) -> u64 {
        match uniform * self.zeta {
            scaled if scaled < 1.0 => 0,
            scaled if scaled < 1.0 + 0.5f64.powf(Zipf::THETA) => 1,
            _ => (self.count * (self.eta * (uniform - 1.0) + 1.0).powf(1.0 / (1.0 - Zipf::THETA))) as u64,
        }
    }
}

/// The values of the key columns, in key order: the first so many of two.
fn key_values(orders: &mut Orders, id: u64) -> ([ValueRef<'_>; 2], usize) {
    let kind = orders.kind;
    let [key, customer, ..] = orders.row(id, 0);
    if kind == KeyKind::Composite { ([customer, key], 2) } else { ([key, key], 1) }
}

/// The table as the transactions made so far leave it, known from their making alone.
#[derive(Debug)]
pub struct Expected {
    orders: Orders,
    /// The round that wrote each row last.
    rounds: Vec<u32>,
    live: u64,
    sums: [i128; 2],
    round: u32,
    seed: u64,
    dead: Vec<u64>,
}

impl Expected {
    /// A table with the rows `0..rows`.
    pub fn loaded(orders: Orders, rows: u64) -> Expected {
        let mut expected =
            Expected { orders, rounds: Vec::new(), live: 0, sums: [0; 2], round: 0, seed: 7, dead: Vec::new() };
        (0..rows).for_each(|id| expected.set(id, Some(0)));
        expected
    }

    pub fn live(&self) -> u64 {
        self.live
    }

    fn set(&mut self, id: u64, round: Option<u32>) {
        if self.rounds.len() as u64 <= id {
            self.rounds.resize(id as usize + 1, DEAD);
        }
        let before = std::mem::replace(&mut self.rounds[id as usize], round.unwrap_or(DEAD));
        if before != DEAD {
            self.live -= 1;
            self.sums = std::array::from_fn(|at| self.sums[at] - i128::from(measures(id, before)[at]));
        }
        if let Some(round) = round {
            self.live += 1;
            self.sums = std::array::from_fn(|at| self.sums[at] + i128::from(measures(id, round)[at]));
        }
    }

    /// Any row's number, there or not.
    fn draw(&mut self) -> u64 {
        self.seed = mix(self.seed);
        ((u128::from(self.seed) * self.rounds.len() as u128) >> 64) as u64
    }

    fn draw_live(&mut self) -> u64 {
        assert!(self.live > 0, "no row is left to delete");
        loop {
            let id = self.draw();
            if self.rounds[id as usize] != DEAD {
                return id;
            }
        }
    }

    /// The key of any row.
    pub fn any_key(&mut self) -> Key {
        let id = self.draw();
        self.key(id)
    }

    /// The key of the row with this number.
    fn key(&mut self, id: u64) -> Key {
        let (values, count) = key_values(&mut self.orders, id);
        Key::from_values(&values[..count]).expect("a key")
    }

    fn next_transaction(&mut self) -> Transaction {
        self.round += 1;
        Transaction { lsn: Lsn(self.round.into()), committed_at: CommitTime(0), ..Transaction::default() }
    }

    /// The next transaction, of `changes` changes.
    pub fn transaction(&mut self, work: Work, changes: u64) -> Transaction {
        let mut made = self.next_transaction();
        let round = self.round;
        for _ in 0..changes {
            match work {
                Work::Uniform => {
                    let id = self.draw();
                    self.update(&mut made, id);
                }
                Work::Zipf(zipf) => {
                    self.seed = mix(self.seed);
                    let rank = zipf.rank((self.seed >> 11) as f64 / (1u64 << 53) as f64);
                    let id = mix(rank) % self.rounds.len() as u64;
                    self.update(&mut made, id);
                }
                Work::Insert => {
                    let id = self.rounds.len() as u64;
                    made.changes.push_insert(TABLE, self.orders.row(id, round)).expect("an insert");
                    self.set(id, Some(round));
                }
                Work::Delete => {
                    let id = self.draw_live();
                    let (key, count) = key_values(&mut self.orders, id);
                    made.changes.push_delete(TABLE, key[..count].iter().copied()).expect("a delete");
                    self.set(id, None);
                    self.dead.push(id);
                }
            }
        }
        made
    }

    fn update(&mut self, transaction: &mut Transaction, id: u64) {
        transaction.changes.push_update(TABLE, None, self.orders.row(id, self.round)).expect("an update");
        self.set(id, Some(self.round));
    }

    /// A transaction that inserts again what was deleted; `None` when all are there.
    pub fn revive(&mut self) -> Option<Transaction> {
        let dead = std::mem::take(&mut self.dead);
        let mut made = (!dead.is_empty()).then(|| self.next_transaction())?;
        for id in dead {
            made.changes.push_insert(TABLE, self.orders.row(id, self.round)).expect("an insert");
            self.set(id, Some(self.round));
        }
        Some(made)
    }

    /// Asserts that `version` is this table: the count, two sums over all rows, and 1,000 whole rows.
    pub fn check(&mut self, version: &Version) {
        assert_eq!(version.row_count(TABLE), self.live);
        let sums = version.aggregate(TABLE, &SUMS).expect("sums");
        assert_eq!(sums.iter().map(|sum| sum.unwrap_or_default()).collect::<Vec<_>>(), self.sums);
        for _ in 0..1_000 {
            let id = self.draw();
            self.check_row(version, id);
        }
    }

    fn check_row(&mut self, version: &Version, id: u64) {
        let key = self.key(id);
        let found = version.get(TABLE, key.as_ref()).expect("get");
        match self.rounds[id as usize] {
            DEAD => assert_eq!(found, None, "row {id}"),
            round => {
                let row = self.orders.row(id, round).map(|value| value.to_value().expect("a value"));
                assert_eq!(found.as_deref(), Some(&row[..]), "row {id}");
            }
        }
    }
}
