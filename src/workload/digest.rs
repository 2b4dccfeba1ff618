//! Hashes that tell whether two configurations, or two streams, are the same.

use super::settings::Settings;
use super::statement::{Assign, PlannedTxn, Statement};
use super::transform_spec::TransformSpec;
use crate::model::row::encode_row;
use crate::model::{Value, ValueRef};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Goes up whenever the same settings give other rows or another stream.
pub(super) const GENERATOR_VERSION: u32 = 1;

/// 128 bits as 32 hexadecimal digits, over everything that decides the run; not over the words that describe it.
pub(super) fn config_hash(settings: &Settings, transforms: &[TransformSpec]) -> String {
    let settings = Settings { about: String::new(), origin: String::new(), ..settings.clone() };
    // Settings are plain numbers and names, which always have a JSON form.
    let text = serde_json::to_string(&(GENERATOR_VERSION, settings, transforms)).unwrap_or_default();
    format!("{:032x}", xxh3_128(text.as_bytes()))
}

/// A running hash over transactions or rows, in a form that tells any two of them apart.
pub(super) struct StreamHash {
    hash: Xxh3,
    bytes: Vec<u8>,
}

impl StreamHash {
    pub(super) fn new() -> StreamHash {
        StreamHash { hash: Xxh3::new(), bytes: Vec::new() }
    }

    pub(super) fn transaction(&mut self, txn: &PlannedTxn) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&txn.index.0.to_le_bytes());
        self.bytes.extend_from_slice(&txn.intended.as_nanos().to_le_bytes());
        self.bytes.extend_from_slice(&txn.lane.map_or(u64::MAX, u64::from).to_le_bytes());
        self.count(txn.kind.len());
        self.bytes.extend_from_slice(txn.kind.as_bytes());
        self.count(txn.statements.len());
        for statement in &txn.statements {
            self.statement(statement);
        }
        self.hash.update(&self.bytes);
    }

    pub(super) fn row(&mut self, row: &[Value]) {
        self.bytes.clear();
        self.values(row.iter().map(Value::as_ref));
        self.hash.update(&self.bytes);
    }

    pub(super) fn hex(&self) -> String {
        format!("{:032x}", self.hash.digest128())
    }

    fn statement(&mut self, statement: &Statement) {
        self.bytes.extend_from_slice(&statement.table().0.to_le_bytes());
        match statement {
            Statement::Insert { row, .. } => self.tagged(1, row),
            Statement::Delete { key, .. } => self.tagged(3, key),
            Statement::Read { key, .. } => self.tagged(4, key),
            Statement::Scan { from, limit_rows, .. } => {
                self.tagged(5, from);
                self.bytes.extend_from_slice(&limit_rows.to_le_bytes());
            }
            Statement::Update { key, set, .. } => {
                self.tagged(2, key);
                self.count(set.len());
                for (column, assign) in set {
                    self.count(*column);
                    match assign {
                        Assign::Set(value) => self.tagged(1, std::slice::from_ref(value)),
                        Assign::Add(n) => self.tagged(2, &[Value::Int(*n)]),
                    }
                }
            }
        }
    }

    fn tagged(&mut self, tag: u8, values: &[Value]) {
        self.bytes.push(tag);
        self.values(values.iter().map(Value::as_ref));
    }

    /// The rows' own encoding is self-delimiting. A row it refuses (4 GiB in a value) cannot come out of settings
    /// whose widths are limited.
    fn values<'a>(&mut self, values: impl IntoIterator<Item = ValueRef<'a>>) {
        let refused = encode_row(&mut self.bytes, values).is_err();
        self.bytes.push(u8::from(refused));
    }

    fn count(&mut self, count: usize) {
        self.bytes.extend_from_slice(&(count as u64).to_le_bytes());
    }
}
