//! `freshbench load`: one table of any SQLite database into a new warehouse, as fast as it goes.

use super::args::LoadArgs;
use super::{Exit, Failure};
use crate::report::headline::{bytes, count, seconds};
use crate::sink::{Warehouse, WarehouseOptions};
use crate::source::DynSqlite;
use crate::strategy::{file_catalog, load_file};
use std::time::Instant;

pub(super) fn load(arguments: &LoadArgs) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let source = DynSqlite::open(&arguments.source).map_err(Failure::usage)?;
    let table = source.table(&arguments.table).map_err(Failure::usage)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let readers = arguments.readers.unwrap_or(cores).clamp(1, 64);
    let catalog = file_catalog(&table);
    let mut warehouse =
        Warehouse::create(&arguments.warehouse, &catalog, WarehouseOptions::default()).map_err(Failure::usage)?;
    let loaded = load_file(&source, &table, readers, &mut warehouse).map_err(Failure::error)?;
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{}: {} rows in {}, {} rows/s, {} of Parquet in {} segments",
        arguments.table,
        count(loaded.rows as f64),
        seconds(took),
        count((loaded.rows as f64 / took).round()),
        bytes(loaded.segment_bytes as f64),
        loaded.segments
    );
    Ok(Exit::Ok)
}
