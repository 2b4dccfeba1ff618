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
    const EIGHT: u64 = 100_000_000;
    let hash = fnv1a(record);
    // The hash is at most 2^63, which has 19 digits: three times eight hold it, with zeros before it.
    let mut bytes = [0; 4 + 24];
    let (_, digits) = bytes.split_at_mut(PREFIX.len());
    let eights = [hash / (EIGHT * EIGHT), hash / EIGHT % EIGHT, hash % EIGHT];
    for (place, eight) in digits.chunks_exact_mut(8).zip(eights) {
        place.copy_from_slice(&eight_digits(eight));
    }
    let zeros = digits.iter().take(23).take_while(|&&digit| digit == b'0').count();
    if let Some(prefix) = bytes.get_mut(zeros..zeros + PREFIX.len()) {
        prefix.copy_from_slice(&PREFIX);
    }
    Value::from(std::str::from_utf8(bytes.get(zeros..).unwrap_or_default()).unwrap_or_default())
}

/// The eight decimal digits of a number below 10^8.
///
/// Halves of the number lie side by side in one word and are halved again: four digits and four, four times two, eight
/// times one. A division by 100 or 10 is a multiplication, exact below 10^4 and below 100.
fn eight_digits(number: u64) -> [u8; 8] {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 5_243) >> 19) & 0x0000_007f_0000_007f;
    let twos = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    let ones = tens | ((twos - tens * 10) << 8);
    (ones | u64::from_ne_bytes([b'0'; 8])).to_le_bytes()
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
            TxnKind::Update => {
                let key = key(self.existing(random));
                statements.push(self.update(key, now, random));
            }
            TxnKind::Rmw => {
                let key = key(self.existing(random));
                statements.push(Statement::Read { table, key: vec![key.clone()] });
                statements.push(self.update(key, now, random));
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
    fn update(&self, key: Value, now: i64, random: &mut Random) -> Statement {
        let field = 1 + random.below(self.records.fields as u64) as usize;
        let value = Value::Text(random.text(self.records.value_bytes));
        let updated_at = self.records.fields + 1;
        let set = vec![(field, Assign::Set(value)), (updated_at, Assign::Set(Value::Timestamp(now)))];
        Statement::Update { table: USERTABLE, key: vec![key], set }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_digits_are_the_number_in_decimal() {
        let numbers = (0..10_000).map(|n| n * 10_000 + 9_999 - n).chain([1, 99_999_999, 10_000_000, 9_090_909]);
        for number in numbers {
            assert_eq!(eight_digits(number).to_vec(), format!("{number:08}").into_bytes());
        }
    }

    #[test]
    fn keys_are_user_and_the_hash_in_decimal() {
        for record in (0..2_000).chain([u64::MAX, 1 << 40, 99_999_999]) {
            assert_eq!(key(record), Value::text(format!("user{}", fnv1a(record))));
        }
    }
}
