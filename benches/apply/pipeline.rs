//! The apply path as the strategies wire it, on one thread: log, fold, apply, publish.

use crate::expected::Expected;
use crate::orders::{KeyKind, Orders, TABLE, catalog};
use freshbench::apply::Folder;
use freshbench::log::{Log, LogOptions, LogReader, Offset};
use freshbench::model::{Lsn, Transaction};
use freshbench::sink::{Sink, Warehouse, WarehouseOptions};
use freshbench::transform::TransformSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A log, a warehouse that follows it, and what the warehouse must hold.
pub struct Pipeline {
    pub warehouse: Warehouse,
    pub expected: Expected,
    folder: Folder,
    log: Log,
    reader: LogReader,
    read: Transaction,
    _dir: TempDir,
}

impl Pipeline {
    /// A warehouse with `rows` rows, and an empty log. Both lie on the disk that the build lies on, since /tmp may be
    /// memory, where an fsync costs nothing.
    pub fn loaded(kind: KeyKind, rows: u64) -> Pipeline {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let mut orders = Orders::new(kind);
        let warehouse = loaded(&dir.path().join("warehouse"), kind, &mut orders, rows);
        let (log, _) = Log::open(dir.path().join("log"), LogOptions::default()).expect("a log");
        Pipeline {
            warehouse,
            expected: Expected::loaded(orders, rows),
            folder: Folder::new(Arc::new(TransformSet::identity(&catalog(kind)))),
            reader: log.reader(Offset(0)).expect("a reader"),
            log,
            read: Transaction::default(),
            _dir: dir,
        }
    }

    /// Appends the transactions, makes them durable with one fsync, reads them back, folds them into one group,
    /// applies and publishes it.
    pub fn through_log(&mut self, transactions: &[Transaction]) {
        for transaction in transactions {
            self.log.append_transaction(transaction).expect("append");
        }
        self.log.sync().expect("sync");
        while self.reader.next_transaction_into(&mut self.read).expect("read").is_some() {
            self.folder.push(&self.read).expect("fold");
        }
        self.publish(transactions.last().map(|transaction| transaction.lsn));
    }

    /// The same on two threads, as tailer and consumer are: while a batch is applied, the next one is appended and made
    /// durable. Each batch is still published alone, and not before its fsync. `each` hears of each publish.
    pub fn overlapped(&mut self, batches: &[Vec<Transaction>], mut each: impl FnMut()) {
        let Pipeline { log, reader, folder, warehouse, read, .. } = self;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for transactions in batches {
                    for transaction in transactions {
                        log.append_transaction(transaction).expect("append");
                    }
                    log.sync().expect("sync");
                }
            });
            for transactions in batches {
                let last = transactions.last().map(|transaction| transaction.lsn).expect("a transaction");
                loop {
                    match reader.next_transaction_into(read).expect("read") {
                        Some(_) => folder.push(read).expect("fold"),
                        None => _ = reader.wait(Duration::from_secs(10)),
                    }
                    if read.lsn == last {
                        break;
                    }
                }
                let edits = folder.finish(warehouse).expect("finish");
                warehouse.apply(&edits).expect("apply");
                warehouse.publish(last).expect("publish");
                each();
            }
        });
    }

    /// The same without the log.
    pub fn without_log(&mut self, transactions: &[Transaction]) {
        for transaction in transactions {
            self.folder.push(transaction).expect("fold");
        }
        self.publish(transactions.last().map(|transaction| transaction.lsn));
    }

    fn publish(&mut self, through: Option<Lsn>) {
        let edits = self.folder.finish(&self.warehouse).expect("finish");
        self.warehouse.apply(&edits).expect("apply");
        self.warehouse.publish(through.expect("a transaction")).expect("publish");
    }

    /// Waits for merges beside the writer and lets go of the log that was read.
    pub fn settle(&mut self) {
        self.warehouse.settle().expect("settle");
        self.log.retain_from(self.reader.next_offset()).expect("retain");
    }

    /// Compares the newest version with what must be there.
    pub fn check(&mut self) {
        let version = self.warehouse.reader().version();
        self.expected.check(&version);
    }
}

/// A warehouse with the rows `0..rows`, as a bulk load leaves it: full chunks, no dead row.
fn loaded(dir: &Path, kind: KeyKind, orders: &mut Orders, rows: u64) -> Warehouse {
    let mut warehouse = Warehouse::create(dir, &catalog(kind), WarehouseOptions::default()).expect("a warehouse");
    let bulk = warehouse.bulk();
    orders.batches(rows, |batch| bulk.write(TABLE, batch).expect("write"));
    bulk.publish(&mut warehouse, Lsn(0)).expect("publish");
    warehouse
}
