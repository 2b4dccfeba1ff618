//! The process that is killed: opens log and warehouse, replays, then appends, acknowledges, applies and checkpoints.
//!
//! It tells its parent through a pipe, a line at a time: `recovering`, `recovered`, `synced N`, `acknowledged N` (the first N
//! transactions are safe), `checkpoint` and `checkpointed N` (the warehouse has the first N for good).

use crate::ledger::{ITEMS, Ledger, ORDERS, Row, catalog, kept};
use crate::planted::Plant;
use freshbench::apply::Folder;
use freshbench::log::{Log, LogOptions, LogReader, Offset};
use freshbench::model::{Lsn, TableId, Transaction};
use freshbench::sink::warehouse::row_values;
use freshbench::sink::{Sink, Warehouse, WarehouseOptions, WarehouseReader, WarehouseVersion};
use freshbench::stats::SplitMix64;
use freshbench::transform::TransformSet;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Small, so that segments begin and end all the time, and long records are split.
pub fn log_options() -> LogOptions {
    let (segment_bytes_max, record_bytes_max, prepared_bytes_max) = (64 << 10, 16 << 10, 8 << 10);
    LogOptions { segment_bytes_max, record_bytes_max, prepared_bytes_max, ..LogOptions::default() }
}

/// Small, so that merges, purges and deletion vectors happen all the time.
pub fn warehouse_options() -> WarehouseOptions {
    WarehouseOptions { chunk_rows_max: 64, ..WarehouseOptions::default() }
}

/// What a parent starts a child with.
#[derive(Clone, Debug)]
pub struct Life {
    pub folder: PathBuf,
    pub seed: u64,
    /// Which life of the folder it is: it decides at random otherwise than the one before.
    pub number: u64,
    pub plant: Option<Plant>,
}

struct Child {
    life: Life,
    log: Log,
    reader: LogReader,
    warehouse: Warehouse,
    folder: Folder,
    ledger: Ledger,
    place: u64,
    /// Whether it goes on while a thread writes its checkpoints, as a strategy does.
    goes_on: bool,
    /// Where the reader was when the checkpoint that is being written began: all before that is in it.
    begun: Option<Offset>,
}

fn say(line: &str) {
    // Behind the test's name there is no new line yet.
    let _ = std::io::stdout().write_all(format!("\n@{line}\n").as_bytes());
}

/// Lives until it is killed.
pub fn live(life: Life) -> Result<(), Box<dyn Error>> {
    say("recovering");
    let (log, recovery) = Log::open(life.folder.join("log"), log_options())?;
    say(&format!("synced {}", recovery.next));
    say(&format!("acknowledged {}", recovery.next));
    let place = life.folder.join("warehouse");
    let warehouse = if has_warehouse(&life.folder) {
        Warehouse::open(&place, warehouse_options())?
    } else {
        Warehouse::create(&place, &catalog(), warehouse_options())?
    };
    let behind = warehouse.visible().0 + u64::from(life.plant == Some(Plant::OffByOnePosition));
    let reader = log.reader(Offset(behind.min(log.next_offset().0)))?;
    let folder = Folder::new(Arc::new(TransformSet::identity(&catalog())));
    let mut ledger = Ledger::new(life.seed);
    while ledger.next < recovery.next.0 {
        ledger.step();
    }
    if life.plant.is_none() {
        let seen = warehouse.reader();
        std::thread::spawn(move || watch(&seen));
    }
    let mut child = Child { life, log, reader, warehouse, folder, ledger, place: 0, goes_on: false, begun: None };
    child.goes_on = child.draw(2) == 0;
    child.apply(3)?;
    say("recovered");
    loop {
        child.commit()?;
        if child.draw(10) < 7 {
            child.apply(0)?;
        }
        if child.draw(8) == 0 {
            child.checkpoint()?;
        }
        child.poll()?;
    }
}

/// Whether a warehouse's making came to its end here.
pub fn has_warehouse(folder: &Path) -> bool {
    folder.join("warehouse/MANIFEST").exists()
}

impl Child {
    fn draw(&mut self, below: u64) -> u64 {
        self.place += 1;
        SplitMix64::at(self.life.seed, (self.life.number << 32) | (1 << 63) | self.place) % below
    }

    /// A group of transactions; only when it is durable does anybody hear of it.
    fn commit(&mut self) -> Result<(), Box<dyn Error>> {
        for _ in 0..1 + self.draw(6) {
            self.log.append_transaction(&self.ledger.step())?;
        }
        let acknowledged = format!("acknowledged {}", self.ledger.next);
        if self.life.plant == Some(Plant::AcknowledgeBeforeFsync) {
            say(&acknowledged);
        }
        let synced = self.log.sync()?;
        say(&format!("synced {synced}"));
        say(&acknowledged);
        Ok(())
    }

    /// Brings the warehouse to the log's end, in groups; with a checkpoint behind one of so many, if not 0.
    fn apply(&mut self, checkpoint_every: u64) -> Result<(), Box<dyn Error>> {
        loop {
            let group = 1 + self.draw(12);
            let Some(last) = self.fold(group)? else { return Ok(()) };
            let edits = self.folder.finish(&self.warehouse)?;
            if !(self.life.plant == Some(Plant::SwallowedError) && self.draw(6) == 0) {
                self.warehouse.apply(&edits)?;
            }
            self.warehouse.publish(last)?;
            if checkpoint_every > 0 && self.draw(checkpoint_every) == 0 {
                self.checkpoint()?;
            }
            self.poll()?;
        }
    }

    fn fold(&mut self, group: u64) -> Result<Option<Lsn>, Box<dyn Error>> {
        let (mut last, mut transaction) = (None, Transaction::default());
        for _ in 0..group {
            if self.reader.next_transaction_into(&mut transaction)?.is_none() {
                break;
            }
            if let Some(plant) = self.life.plant {
                transaction.changes = plant.spoil(&transaction.changes)?;
            }
            self.folder.push(&transaction)?;
            last = Some(transaction.lsn);
        }
        Ok(last)
    }

    fn checkpoint(&mut self) -> Result<(), Box<dyn Error>> {
        if self.begun.is_some() {
            return Ok(());
        }
        say("checkpoint");
        if self.goes_on {
            self.warehouse.begin_checkpoint()?;
            self.begun = Some(self.reader.next_offset());
            return Ok(());
        }
        let durable = self.warehouse.checkpoint()?;
        // Record n has LSN n + 1: what the warehouse still needs begins with the record of its watermark's number.
        self.checkpointed(durable, Offset(durable.0))
    }

    /// Asks for the checkpoint that is being written, if there is one.
    fn poll(&mut self) -> Result<(), Box<dyn Error>> {
        let Some(needed) = self.begun else { return Ok(()) };
        let Some(durable) = self.warehouse.poll_checkpoint()? else { return Ok(()) };
        self.begun = None;
        self.checkpointed(durable, needed)
    }

    /// Tells it, and lets the log delete what is before `needed`.
    fn checkpointed(&mut self, durable: Lsn, needed: Offset) -> Result<(), Box<dyn Error>> {
        say(&format!("checkpointed {}", durable.0));
        self.log.retain_from(needed)?;
        Ok(())
    }
}

/// Looks at every version that it can get: a total that is not the sum of its items is a torn transaction.
fn watch(reader: &WarehouseReader) {
    let mut before = Lsn::ZERO;
    loop {
        let version = reader.version();
        if version.watermark() < before {
            fail(&format!("the watermark went back from {before} to {}", version.watermark()));
        }
        before = version.watermark();
        if let Err(what) = totals(&version) {
            fail(&format!("torn at {before}: {what}"));
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

fn fail(what: &str) -> ! {
    eprintln!("{what}");
    std::process::exit(9);
}

/// Whether each order's total is the sum of its items' amounts.
pub fn totals(version: &WarehouseVersion) -> Result<(), String> {
    let mut sums = std::collections::BTreeMap::new();
    for (key, (amount, _)) in rows(version, ITEMS)? {
        *sums.entry(key[0]).or_insert(0) += amount;
    }
    for (key, (total, _)) in rows(version, ORDERS)? {
        let sum = sums.remove(&key[0]).unwrap_or(0);
        if sum != total {
            return Err(format!("order {}: total {total}, and its items come to {sum}", key[0]));
        }
    }
    sums.keys().next().map_or(Ok(()), |id| Err(format!("items of order {id}, which is not there")))
}

/// All rows of a table, as the scan gives them.
pub fn rows(version: &WarehouseVersion, table: TableId) -> Result<Vec<(Vec<i64>, Row)>, String> {
    let mut rows = Vec::new();
    for batch in version.scan(table, None, None) {
        let batch = batch.map_err(|error| error.to_string())?;
        for row in 0..batch.num_rows() {
            rows.push(kept(table, &row_values(&batch, row))?);
        }
    }
    Ok(rows)
}
