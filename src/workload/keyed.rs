//! One table of records by key: the core workloads of YCSB.

use super::distribution::{KeyChooser, RowsPerTxn, fnv1a};
use super::orders_stream::Planned;
use super::random::{Purpose, Random};
use super::settings::{Settings, TxnKind};
use super::statement::{Assign, BASE_TIME, Statement};
use crate::model::{Catalog, Column, ColumnType, TableId, TableSchema, Value};

pub(super) const USERTABLE: TableId = TableId(0);

/// The records, as functions of their numbers, which start at 0.
#[derive(Clone, Debug)]
pub(super) struct Records {
    seed: u64,
    pub(super) rows: u64,
    fields: usize,
    value_bytes: usize,
    rows_per_txn: RowsPerTxn,
    scan_rows_max: u64,
    chooser: KeyChooser,
}

impl Records {
    pub(super) fn new(settings: &Settings) -> Records {
        Records {
            seed: settings.seed,
            rows: settings.rows,
            fields: settings.fields as usize,
            value_bytes: settings.value_bytes as usize,
            rows_per_txn: settings.rows_per_txn,
            scan_rows_max: u64::from(settings.scan_rows_max),
            chooser: KeyChooser::new(settings.keys, settings.theta, settings.rows, expected_inserts(settings)),
        }
    }

    /// The record's row; `updated` in µs UTC.
    fn row(&self, record: u64, updated: i64) -> Vec<Value> {
        let mut random = Random::new(self.seed, Purpose::Records, record);
        let mut row = Vec::with_capacity(self.fields + 2);
        row.push(key(record));
        row.extend((0..self.fields).map(|_| Value::Text(random.text(self.value_bytes))));
        row.push(Value::Timestamp(updated));
        row
    }

    /// The record's row at the start: one a second until the run started.
    pub(super) fn initial_row(&self, record: u64) -> Vec<Value> {
        let age_s = (self.rows.saturating_sub(record)) as i64;
        self.row(record, BASE_TIME.0 - age_s * 1_000_000)
    }

    pub(super) fn catalog(&self) -> Catalog {
        let mut columns = vec![Column::required("ycsb_key", ColumnType::Text)];
        columns.extend((0..self.fields).map(|n| Column::required(&format!("field{n}"), ColumnType::Text)));
        columns.push(Column::required("updated_at", ColumnType::Timestamp));
        Catalog { tables: vec![TableSchema { name: "usertable".to_owned(), columns, key: vec![0] }] }
    }
}

/// YCSB spreads its keys over twice the inserts it expects.
fn expected_inserts(settings: &Settings) -> u64 {
    let sum: f64 = settings.shares.iter().map(|(_, weight)| weight).sum();
    let inserts: f64 =
        settings.shares.iter().filter(|(kind, _)| *kind == TxnKind::Insert).map(|(_, weight)| weight).sum();
    (settings.rate_per_s * settings.duration.as_secs_f64() * 2.0 * inserts / sum).ceil() as u64
}

/// `user` and the hash of the record's number, as YCSB orders its inserts by default.
fn key(record: u64) -> Value {
    const PREFIX: [u8; 4] = *b"user";
    // 2^63 has 19 digits. Filled from the end; one allocation of the exact length.
    let mut bytes = [b'0'; 4 + 20];
    let mut rest = fnv1a(record);
    let mut start = bytes.len();
    while let Some(pair) = bytes.get_mut(start - 2..start) {
        let digits = (rest % 100) as u8;
        pair.copy_from_slice(&[b'0' + digits / 10, b'0' + digits % 10]);
        rest /= 100;
        start -= if rest == 0 && digits < 10 { 1 } else { 2 };
        if rest == 0 {
            break;
        }
    }
    start -= PREFIX.len();
    if let Some(prefix) = bytes.get_mut(start..start + PREFIX.len()) {
        prefix.copy_from_slice(&PREFIX);
    }
    Value::from(std::str::from_utf8(bytes.get(start..).unwrap_or_default()).unwrap_or_default())
}

/// The records while the application runs.
#[derive(Clone, Debug)]
pub(super) struct KeyedStream {
    records: Records,
    /// Records `oldest..next` exist.
    oldest: u64,
    next: u64,
}

impl KeyedStream {
    pub(super) fn new(records: Records) -> KeyedStream {
        KeyedStream { oldest: 0, next: records.rows, records }
    }

    /// Plans a transaction of this kind; `now` in µs UTC. Without a record to work on it is an insert.
    pub(super) fn plan(&mut self, kind: TxnKind, now: i64, random: &mut Random) -> Planned {
        let kind = if self.oldest < self.next { kind } else { TxnKind::Insert };
        let operations = self.records.rows_per_txn.draw(random);
        let mut statements = Vec::with_capacity(operations as usize * if kind == TxnKind::Rmw { 2 } else { 1 });
        for _ in 0..operations {
            self.operation(kind, now, random, &mut statements);
        }
        Planned { kind, lane: None, statements }
    }

    fn operation(&mut self, kind: TxnKind, now: i64, random: &mut Random, statements: &mut Vec<Statement>) {
        let table = USERTABLE;
        match kind {
            TxnKind::Insert => {
                statements.push(Statement::Insert { table, row: self.records.row(self.next, now) });
                self.next += 1;
                self.records.chooser.grow();
            }
            TxnKind::Delete => {
                if self.oldest < self.next {
                    statements.push(Statement::Delete { table, key: vec![key(self.oldest)] });
                    self.oldest += 1;
                }
            }
            TxnKind::Update => statements.push(self.update(self.existing(random), now, random)),
            TxnKind::Rmw => {
                let record = self.existing(random);
                statements.push(Statement::Read { table, key: vec![key(record)] });
                statements.push(self.update(record, now, random));
            }
            TxnKind::Scan => {
                let from = vec![key(self.existing(random))];
                let limit_rows = random.between(1, self.records.scan_rows_max) as u32;
                statements.push(Statement::Scan { table, from, limit_rows });
            }
            _ => statements.push(Statement::Read { table, key: vec![key(self.existing(random))] }),
        }
    }

    fn existing(&self, random: &mut Random) -> u64 {
        self.records.chooser.draw(random, self.oldest, self.next)
    }

    /// One field gets a new value.
    fn update(&self, record: u64, now: i64, random: &mut Random) -> Statement {
        let field = 1 + random.below(self.records.fields as u64) as usize;
        let value = Value::Text(random.text(self.records.value_bytes));
        let updated_at = self.records.fields + 1;
        let set = vec![(field, Assign::Set(value)), (updated_at, Assign::Set(Value::Timestamp(now)))];
        Statement::Update { table: USERTABLE, key: vec![key(record)], set }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_user_and_the_hash_in_decimal() {
        for record in (0..2_000).chain([u64::MAX, 1 << 40, 99_999_999]) {
            assert_eq!(key(record), Value::text(format!("user{}", fnv1a(record))));
        }
    }
}
