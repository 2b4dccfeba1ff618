//! The plain model: what the transactions come to, in two maps. It shares nothing with what it judges but a change's form,
//! and the generator of random numbers.

use freshbench::model::{
    Catalog, ChangeBuf, Column, ColumnType, CommitTime, Lsn, TableId, TableSchema, Transaction, Value, ValueRef,
};
use freshbench::stats::SplitMix64;
use std::collections::BTreeMap;

pub const ORDERS: TableId = TableId(0);
pub const ITEMS: TableId = TableId(1);
/// Few ids, so that keys are used again and again.
const IDS: u64 = 300;
/// Where an order is kept while two of them change places.
const ASIDE: i64 = -1;

/// Orders with a total, and their items with amounts: each total is the sum of its items' amounts, at every commit.
pub fn catalog() -> Catalog {
    let int = |name| Column::required(name, ColumnType::Int64);
    let note = || Column::nullable("note", ColumnType::Text);
    let orders = TableSchema::new("orders", vec![int("id"), int("total"), note()], vec![0]).expect("a schema");
    let items = TableSchema::new("items", vec![int("order_id"), int("line"), int("amount"), note()], vec![0, 1]);
    Catalog { tables: vec![orders, items.expect("a schema")] }
}

/// A row behind its key: total or amount, and the note.
pub type Row = (i64, String);
/// Rows by their keys' numbers.
pub type Rows = BTreeMap<Vec<i64>, Row>;

/// The state after all transactions before `next`. Transaction `n` commits as LSN `n + 1`, and is record `n` of the log.
#[derive(Clone, Debug)]
pub struct Ledger {
    seed: u64,
    pub next: u64,
    pub orders: Rows,
    pub items: Rows,
}

/// One transaction being made, and the state it leaves.
struct Making<'a> {
    ledger: &'a mut Ledger,
    changes: ChangeBuf,
    place: u64,
}

impl Ledger {
    pub fn new(seed: u64) -> Ledger {
        Ledger { seed, next: 0, orders: Rows::new(), items: Rows::new() }
    }

    /// The next transaction: a function of the seed and its number alone.
    pub fn step(&mut self) -> Transaction {
        let number = self.next;
        let mut making = Making { place: number << 16, ledger: self, changes: ChangeBuf::new() };
        making.transaction();
        let changes = making.changes;
        self.next += 1;
        Transaction { lsn: Lsn(self.next), committed_at: CommitTime(number as i64), changes }
    }

    pub fn rows(&self, table: TableId) -> &Rows {
        if table == ORDERS { &self.orders } else { &self.items }
    }
}

impl Making<'_> {
    fn draw(&mut self, below: u64) -> u64 {
        self.place += 1;
        SplitMix64::at(self.ledger.seed, self.place) % below
    }

    fn transaction(&mut self) {
        match self.draw(100) {
            0..35 => self.new_order(),
            35..55 => self.change_an_amount(1),
            55..65 => self.change_an_amount(3),
            65..78 => {
                if let Some(id) = self.some_order() {
                    self.delete_order(id);
                }
            }
            78..88 => {
                if let (Some(id), Some(free)) = (self.some_order(), self.free_id()) {
                    self.move_order(id, free);
                }
            }
            88..94 => self.change_places(),
            94..98 => {
                // Away and there again, in one transaction.
                if let Some(id) = self.some_order() {
                    self.delete_order(id);
                    self.insert_order(id);
                }
            }
            98 if self.draw(4) == 0 => {
                for (table, rows) in [(ORDERS, &mut self.ledger.orders), (ITEMS, &mut self.ledger.items)] {
                    rows.clear();
                    self.changes.push_truncate(table);
                }
                (0..20).for_each(|_| self.new_order());
            }
            _ => (0..8).for_each(|_| self.new_order()),
        }
    }

    /// A short note, or one of those that make a record long.
    fn note(&mut self) -> String {
        let tag = self.draw(1 << 40);
        let long = if self.draw(60) == 0 { 20_000 + self.draw(100_000) as usize } else { 0 };
        format!("note {tag}{}", "x".repeat(long))
    }

    /// The first order from a drawn id on.
    fn some_order(&mut self) -> Option<i64> {
        let from = vec![self.draw(IDS) as i64];
        let orders = &self.ledger.orders;
        orders.range(from..).chain(orders.iter()).next().map(|(key, _)| key[0])
    }

    fn free_id(&mut self) -> Option<i64> {
        let drawn: Vec<i64> = (0..8).map(|_| self.draw(IDS) as i64).collect();
        drawn.into_iter().find(|id| !self.ledger.orders.contains_key(&vec![*id]))
    }

    fn new_order(&mut self) {
        if let Some(id) = self.free_id() {
            self.insert_order(id);
        }
    }

    fn insert_order(&mut self, id: i64) {
        let amounts: Vec<i64> = (0..1 + self.draw(4)).map(|_| self.draw(1_000) as i64).collect();
        let note = self.note();
        self.insert(ORDERS, vec![id], (amounts.iter().sum(), note));
        for (line, amount) in amounts.into_iter().enumerate() {
            let note = self.note();
            self.insert(ITEMS, vec![id, line as i64], (amount, note));
        }
    }

    /// One item gets other amounts, one after the other, and its order the totals; the notes are not sent.
    fn change_an_amount(&mut self, times: u64) {
        let Some(id) = self.some_order() else { return };
        let lines = self.lines(id);
        let key = lines[self.draw(lines.len() as u64) as usize].clone();
        for _ in 0..times {
            let (amount, new) = (self.ledger.items[&key].0, self.draw(1_000) as i64);
            let total = self.ledger.orders[&vec![id]].0;
            self.update(ITEMS, &key, key.clone(), new);
            self.update(ORDERS, &[id], vec![id], total + new - amount);
        }
    }

    fn lines(&self, id: i64) -> Vec<Vec<i64>> {
        self.ledger.items.range(vec![id]..vec![id + 1]).map(|(key, _)| key.clone()).collect()
    }

    fn delete_order(&mut self, id: i64) {
        for key in self.lines(id) {
            self.delete(ITEMS, &key);
        }
        self.delete(ORDERS, &[id]);
    }

    fn move_order(&mut self, from: i64, to: i64) {
        for key in self.lines(from) {
            let amount = self.ledger.items[&key].0;
            self.update(ITEMS, &key, vec![to, key[1]], amount);
        }
        let total = self.ledger.orders[&vec![from]].0;
        self.update(ORDERS, &[from], vec![to], total);
    }

    fn change_places(&mut self) {
        if let (Some(a), Some(b)) = (self.some_order(), self.some_order())
            && a != b
        {
            self.move_order(a, ASIDE);
            self.move_order(b, a);
            self.move_order(ASIDE, b);
        }
    }

    fn table(&mut self, table: TableId) -> &mut Rows {
        if table == ORDERS { &mut self.ledger.orders } else { &mut self.ledger.items }
    }

    fn insert(&mut self, table: TableId, key: Vec<i64>, (number, note): Row) {
        let row = encoded(&key).chain([ValueRef::Int(number), ValueRef::Text(&note)]);
        self.changes.push_insert(table, row).expect("a short row");
        self.table(table).insert(key, (number, note));
    }

    /// The note stays as it was, and is not sent in three of four.
    fn update(&mut self, table: TableId, key: &[i64], to: Vec<i64>, number: i64) {
        let unsent = self.draw(4) > 0;
        let (_, note) = self.table(table).remove(key).expect("the row is there");
        let sent = if unsent { ValueRef::Unchanged } else { ValueRef::Text(&note) };
        let row = encoded(&to).chain([ValueRef::Int(number), sent]);
        let old: Vec<ValueRef<'_>> = encoded(key).collect();
        let old = (key != to.as_slice()).then_some(old.as_slice());
        self.changes.push_update(table, old, row).expect("a short row");
        self.table(table).insert(to, (number, note));
    }

    fn delete(&mut self, table: TableId, key: &[i64]) {
        self.changes.push_delete(table, encoded(key)).expect("a short key");
        self.table(table).remove(key);
    }
}

fn encoded<'a>(key: &'a [i64]) -> impl Iterator<Item = ValueRef<'a>> {
    key.iter().map(|&part| ValueRef::Int(part))
}

/// A row as the ledger keeps it, from the values of a sink.
pub fn kept(table: TableId, row: &[Value]) -> Result<(Vec<i64>, Row), String> {
    let keys = if table == ORDERS { 1 } else { 2 };
    let numbers = row.iter().take(keys + 1).map(|value| match value {
        Value::Int(number) => Ok(*number),
        other => Err(format!("{other:?} is no integer")),
    });
    let mut key: Vec<i64> = numbers.collect::<Result<_, _>>()?;
    let number = key.pop().ok_or("a row without columns")?;
    match row.get(keys + 1) {
        Some(Value::Text(note)) => Ok((key, (number, note.to_string()))),
        // No transaction leaves it open: then it is a value that was lost.
        other => Ok((key, (number, format!("{other:?}")))),
    }
}

#[test]
fn every_transaction_keeps_the_totals() {
    let mut ledger = Ledger::new(7);
    for _ in 0..2_000 {
        ledger.step();
        for (key, (total, _)) in &ledger.orders {
            let items = ledger.items.range(vec![key[0]]..vec![key[0] + 1]);
            assert_eq!(items.map(|(_, (amount, _))| amount).sum::<i64>(), *total, "transaction {}", ledger.next);
        }
        assert!(!ledger.orders.contains_key(&vec![ASIDE]));
    }
    assert!(ledger.orders.len() > 50, "{} orders", ledger.orders.len());
}
