//! The simplest of all sinks: it applies transactions to rows in memory, and compares itself with what psql shows.

use crate::server::PgServer;
use freshbench::capture::postgres::{LogCapture, LogCaptureOptions, LogMessage, LogSetup, PgSnapshot, parse_lsn};
use freshbench::capture::{CaptureError, Polled};
use freshbench::clock::Clock;
use freshbench::model::{ChangeRef, Lsn, TableId, Transaction, ValueRef};
use freshbench::source::postgres::{PgOptions, PgTableName};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

type Row = Vec<String>;

pub struct Follower {
    pub options: LogCaptureOptions,
    pub setup: Option<LogSetup>,
    pub capture: Option<LogCapture>,
    pub tables: Vec<BTreeMap<Row, Row>>,
    pub transactions: Vec<(Lsn, i64, usize)>,
    pub messages: Vec<LogMessage>,
    pub watermark: Lsn,
    names: Vec<String>,
    acknowledge: bool,
}

pub fn options(url: &str, name: &str, folder: &Path) -> LogCaptureOptions {
    let server = PgOptions::parse_in(url, &|_| None).unwrap();
    LogCaptureOptions::new(server, name, folder.to_owned(), Clock::monotonic())
}

impl Follower {
    /// Makes a slot, loads its snapshot, and follows on.
    pub fn begin(options: LogCaptureOptions, tables: &str) -> Follower {
        let mut follower = Follower::set_up(options, tables).unwrap();
        follower.load();
        follower.resume().unwrap();
        follower
    }

    pub fn set_up(options: LogCaptureOptions, tables: &str) -> Result<Follower, CaptureError> {
        let names = PgTableName::parse_list(tables).unwrap();
        let setup = LogCapture::setup(&options, &names)?;
        Ok(Follower {
            options,
            tables: vec![BTreeMap::new(); names.len()],
            names: setup.tables.iter().map(|table| table.quoted()).collect(),
            watermark: setup.exported.position,
            setup: Some(setup),
            capture: None,
            transactions: Vec::new(),
            messages: Vec::new(),
            acknowledge: true,
        })
    }

    /// From now on nothing is acknowledged.
    pub fn never_acknowledge(&mut self) {
        self.acknowledge = false;
    }

    pub fn load(&mut self) {
        let setup = self.setup.as_ref().unwrap();
        let names: Vec<PgTableName> = self.names.iter().map(|name| PgTableName::parse(name).unwrap()).collect();
        let clock = Clock::monotonic();
        let mut snapshot = PgSnapshot::adopt(&self.options.server, &names, 1, &clock, &setup.exported).unwrap();
        snapshot.map_tables(freshbench::capture::postgres::fit).unwrap();
        for place in 0..names.len() {
            let id = TableId(place as u32);
            let schema = snapshot.table(id).unwrap().schema.clone();
            for range in snapshot.ranges(id, 1).unwrap() {
                let mut each = |row: &[ValueRef<'_>]| -> Result<(), CaptureError> {
                    let row: Row = row.iter().map(|value| show(*value)).collect();
                    let key = schema.key.iter().map(|&column| row[column].clone()).collect();
                    assert!(self.tables[place].insert(key, row).is_none(), "a key twice in the snapshot");
                    Ok(())
                };
                snapshot.scan(0, id, &range, &mut each).unwrap();
            }
        }
    }

    pub fn resume(&mut self) -> Result<(), CaptureError> {
        self.capture = None;
        let tables = self.setup.as_ref().unwrap().tables.clone();
        self.capture = Some(LogCapture::resume(&self.options, tables, self.watermark)?);
        Ok(())
    }

    /// One poll, applied.
    pub fn poll(&mut self, max_changes: u64) -> Result<Polled, CaptureError> {
        let mut transactions = Vec::new();
        let capture = self.capture.as_mut().unwrap();
        let polled = capture.poll(max_changes, &mut transactions)?;
        capture.take_messages(&mut self.messages);
        for transaction in &transactions {
            self.apply(transaction);
        }
        self.watermark = self.watermark.max(polled.through);
        let (acknowledge, watermark) = (self.acknowledge, self.watermark);
        if acknowledge {
            self.capture.as_mut().unwrap().acknowledge(watermark)?;
        }
        Ok(polled)
    }

    /// Polls until everything that committed up to now is there.
    pub fn catch_up(&mut self, server: &PgServer) -> Result<(), CaptureError> {
        self.catch_up_in(server, "postgres")
    }

    pub fn catch_up_in(&mut self, server: &PgServer, database: &str) -> Result<(), CaptureError> {
        // A message reaches the disk with the commit, so the end of the log is behind something that the server reads.
        let end = "SELECT pg_logical_emit_message(true, 'freshbench_fence', ''); SELECT pg_current_wal_lsn()";
        server.psql(database, end);
        let end = parse_lsn(server.psql(database, "SELECT pg_current_wal_lsn()").trim()).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while self.watermark < end {
            assert!(Instant::now() < until, "{} of {end}", self.watermark);
            self.poll(10_000)?;
            self.capture.as_mut().unwrap().wait(Duration::from_millis(5))?;
        }
        Ok(())
    }

    /// The rows are those that psql shows, but for the order.
    pub fn assert_equal(&self, server: &PgServer) {
        self.assert_equal_in(server, "postgres");
    }

    pub fn assert_equal_in(&self, server: &PgServer, database: &str) {
        let setup = self.setup.as_ref().unwrap();
        for (place, table) in setup.tables.iter().enumerate() {
            let columns: Vec<String> =
                table.schema.columns.iter().map(|column| format!("\"{}\"", column.name.replace('"', "\"\""))).collect();
            let sql = format!("COPY (SELECT {} FROM {}) TO STDOUT", columns.join(", "), table.quoted());
            let shown = server.psql(database, &sql);
            let mut theirs: Vec<String> = shown.lines().map(str::to_owned).collect();
            let mut ours: Vec<String> = self.tables[place].values().map(|row| row.join("\t")).collect();
            theirs.sort();
            ours.sort();
            assert!(
                ours == theirs,
                "{}: {} rows, not {}:\n{:.2000}\n--\n{:.2000}",
                table.quoted(),
                ours.len(),
                theirs.len(),
                ours.join("\n"),
                theirs.join("\n")
            );
        }
    }

    fn apply(&mut self, transaction: &Transaction) {
        assert!(transaction.lsn > self.watermark.min(self.transactions.last().map_or(Lsn::ZERO, |last| last.0)));
        if let Some(last) = self.transactions.last() {
            assert!(transaction.lsn > last.0, "positions grow");
        }
        self.transactions.push((transaction.lsn, transaction.committed_at.0, transaction.changes.len()));
        let tables = &self.setup.as_ref().unwrap().tables;
        for change in transaction.changes.iter() {
            let change = change.unwrap();
            let place = change.table().index();
            let (key_places, rows) = (&tables[place].schema.key, &mut self.tables[place]);
            let key_of = |row: &Row| -> Row { key_places.iter().map(|&column| row[column].clone()).collect() };
            let text = |row: &[ValueRef<'_>]| -> Row { row.iter().map(|value| show(*value)).collect() };
            match change {
                ChangeRef::Insert { row, .. } => {
                    let row = text(&row.values().unwrap());
                    assert!(rows.insert(key_of(&row), row).is_none(), "inserted twice");
                }
                ChangeRef::Update { old_key, row, .. } => {
                    let values = row.values().unwrap();
                    let mut new = text(&values);
                    let old_key = old_key.map_or_else(|| key_of(&new), |key| text(&key.values().unwrap()));
                    let old = rows.remove(&old_key).expect("an update of a row that is there");
                    for (column, value) in values.iter().enumerate() {
                        if *value == ValueRef::Unchanged {
                            new[column] = old[column].clone();
                        }
                    }
                    assert!(rows.insert(key_of(&new), new).is_none(), "updated onto another row");
                }
                ChangeRef::Delete { key, .. } => {
                    assert!(rows.remove(&text(&key.values().unwrap())).is_some(), "a delete of a row that is there");
                }
                ChangeRef::Truncate { .. } => rows.clear(),
            }
        }
    }
}

/// As COPY's text format has it, for the types of these tests.
fn show(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "\\N".to_owned(),
        ValueRef::Unchanged => "(unchanged)".to_owned(),
        ValueRef::Bool(value) => (if value { "t" } else { "f" }).to_owned(),
        ValueRef::Int(value) => value.to_string(),
        ValueRef::Text(text) => {
            text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
        }
        ValueRef::Decimal(decimal) if decimal.scale > 0 => {
            let scale = decimal.scale as usize;
            let digits = format!("{:0>width$}", decimal.unscaled.unsigned_abs(), width = scale + 1);
            let (whole, behind) = digits.split_at(digits.len() - scale);
            format!("{}{whole}.{behind}", if decimal.unscaled < 0 { "-" } else { "" })
        }
        other => panic!("{other:?} is in no table of these tests"),
    }
}
