//! The `orders` table that the warehouse's benches share: 8 columns, 2,000,000 rows unless a setting says otherwise.
//!
//! A row is a function of its number and of the round that wrote it, so what a table must hold is known without
//! asking it. Amounts are whole cents.

use arrow_array::RecordBatch;
use freshbench::model::{Catalog, Column, ColumnType, TableId, TableSchema, ValueRef};
use freshbench::sink::warehouse::Aggregate;
use freshbench::stats::SplitMix64;
use freshbench::transform::TransformSet;
use std::fmt::Write;

pub const TABLE: TableId = TableId(0);
pub const AMOUNT: usize = 3;
pub const UPDATED_AT: usize = 7;
/// The two sums that a scan is timed with.
pub const SUMS: [Aggregate; 2] = [Aggregate::Sum(AMOUNT), Aggregate::Sum(UPDATED_AT)];
const STATUS: [&str; 4] = ["new", "paid", "shipped", "done"];
const BASE_US: i64 = 1_700_000_000_000_000;
const ROWS_A_LOAD: u64 = 8_192;

/// What the primary key is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `id`, an integer.
    Int,
    /// `id`, a text of 16 characters.
    Text,
    /// `(customer_id, id)`, two integers.
    Composite,
}

/// The one table.
pub fn catalog(kind: KeyKind) -> Catalog {
    let id_type = if kind == KeyKind::Text { ColumnType::Text } else { ColumnType::Int64 };
    let columns = [
        ("id", id_type),
        ("customer_id", ColumnType::Int64),
        ("status", ColumnType::Text),
        ("amount", ColumnType::Int64),
        ("quantity", ColumnType::Int64),
        ("note", ColumnType::Text),
        ("created_at", ColumnType::Timestamp),
        ("updated_at", ColumnType::Timestamp),
    ];
    let columns = columns.into_iter().map(|(name, column_type)| Column::required(name, column_type)).collect();
    let key = if kind == KeyKind::Composite { vec![1, 0] } else { vec![0] };
    Catalog { tables: vec![TableSchema::new("orders", columns, key).expect("a schema")] }
}

/// Spreads a number over 64 bits (splitmix64).
pub fn mix(seed: u64) -> u64 {
    SplitMix64::new(seed).next_u64()
}

/// A row's amount and time of update.
pub fn measures(id: u64, round: u32) -> [i64; 2] {
    let drawn = mix(id ^ (u64::from(round) << 40));
    [(drawn % 1_000_000) as i64, BASE_US + (drawn >> 34) as i64]
}

/// Makes rows in memory that it uses again.
#[derive(Debug)]
pub struct Orders {
    pub kind: KeyKind,
    id: String,
    note: String,
}

impl Orders {
    pub fn new(kind: KeyKind) -> Orders {
        Orders { kind, id: String::new(), note: String::new() }
    }

    /// The row with this number as of `round`.
    pub fn row(&mut self, id: u64, round: u32) -> [ValueRef<'_>; 8] {
        let drawn = mix(id ^ (u64::from(round) << 40) ^ (1 << 63));
        self.note.clear();
        write!(self.note, "{:016x}{drawn:016x}", mix(id)).expect("a text");
        self.write_id(id);
        let [key, customer] = self.id_and_customer(id);
        let [amount, updated_at] = measures(id, round);
        [
            key,
            customer,
            ValueRef::Text(STATUS[drawn as usize % STATUS.len()]),
            ValueRef::Int(amount),
            ValueRef::Int((drawn >> 8) as i64 & 63),
            ValueRef::Text(&self.note),
            ValueRef::Timestamp(BASE_US + (mix(id) % 1_000_000_000) as i64),
            ValueRef::Timestamp(updated_at),
        ]
    }

    fn write_id(&mut self, id: u64) {
        if self.kind == KeyKind::Text {
            self.id.clear();
            write!(self.id, "order-{id:010}").expect("a text");
        }
    }

    fn id_and_customer(&self, id: u64) -> [ValueRef<'_>; 2] {
        let customer = ValueRef::Int((mix(id) % 100_000) as i64);
        let key = if self.kind == KeyKind::Text { ValueRef::Text(&self.id) } else { ValueRef::Int(id as i64) };
        [key, customer]
    }

    /// Gives the rows `0..rows` as of round 0, in batches.
    pub fn batches(&mut self, rows: u64, mut each: impl FnMut(RecordBatch)) {
        let transforms = TransformSet::identity(&catalog(self.kind));
        let mut builders = transforms.table(TABLE).expect("the table").builders(ROWS_A_LOAD as usize);
        for id in 0..rows {
            builders.push(&self.row(id, 0)).expect("a row");
            if builders.len() as u64 == ROWS_A_LOAD || id + 1 == rows {
                each(builders.finish().expect("a batch"));
            }
        }
    }
}
