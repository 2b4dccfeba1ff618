//! `freshbench load`: one table of any SQLite database into a new warehouse, as fast as it goes.

use super::args::LoadArgs;
use super::{Exit, Failure};
use crate::apply::BatchStream;
use crate::model::{Catalog, Lsn, TableId};
use crate::report::headline::{bytes, count, seconds};
use crate::sink::{Warehouse, WarehouseOptions};
use crate::source::{DynSqlite, Readers, SourceError, SourceTable};
use crate::strategy::StrategyError;
use crate::transform::TableTransform;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Instant;

/// Rows of one Arrow batch on its way into a segment.
const BATCH_ROWS: usize = 16_384;
/// Ranges a reader gets one after the other, so that uneven ones even out.
const RANGES_A_READER: usize = 4;

pub(super) fn load(arguments: &LoadArgs) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let source = DynSqlite::open(&arguments.source).map_err(Failure::usage)?;
    let table = source.table(&arguments.table).map_err(Failure::usage)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = arguments.readers.unwrap_or(cores).clamp(1, 64);
    let readers = source.read(wanted).map_err(Failure::error)?;
    let before = Before::of(&arguments.warehouse);
    fill(arguments, &table, &readers, begun).inspect_err(|failure| {
        if failure.exit != Exit::Usage {
            before.restore(&arguments.warehouse);
        }
    })
}

/// What a folder held before, so that a load that fails leaves nothing of its own.
struct Before(Option<BTreeSet<OsString>>);

impl Before {
    fn of(folder: &Path) -> Before {
        let entries = fs::read_dir(folder).ok();
        Before(entries.map(|entries| entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name())).collect()))
    }

    /// Best effort: the failure that led here is what the user must hear of.
    fn restore(&self, folder: &Path) {
        let Some(before) = &self.0 else {
            let _ = fs::remove_dir_all(folder);
            return;
        };
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !before.contains(&entry.file_name()) {
                let path = entry.path();
                let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
        }
    }
}

fn fill(arguments: &LoadArgs, table: &SourceTable, readers: &Readers, begun: Instant) -> Result<Exit, Failure> {
    let id = TableId(0);
    let transform = TableTransform::identity(id, table.schema());
    let catalog = Catalog { tables: vec![transform.output().clone()] };
    let mut warehouse =
        Warehouse::create(&arguments.warehouse, &catalog, WarehouseOptions::default()).map_err(Failure::usage)?;
    let bulk = warehouse.bulk();
    bulk.include(id).map_err(Failure::error)?;
    let ranges = readers.ranges(table, readers.count() * RANGES_A_READER).map_err(Failure::error)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(readers.count())
        .thread_name(|place| format!("app-pool-{place}"))
        .build()
        .map_err(Failure::error)?;
    let rows = pool.install(|| -> Result<u64, StrategyError> {
        let read = |range| -> Result<u64, StrategyError> {
            let mut stream = BatchStream::new(&transform, BATCH_ROWS);
            // Each thread of the pool has a reader of its own.
            let reader = rayon::current_thread_index().unwrap_or(0);
            let wrap = |cause: SourceError| StrategyError::from(cause);
            let rows = readers.scan(
                reader,
                table,
                range,
                &mut |row| {
                    if let Some(batch) = stream.push(row)? {
                        bulk.write(id, batch)?;
                    }
                    Ok(())
                },
                wrap,
            )?;
            if let Some(batch) = stream.finish()? {
                bulk.write(id, batch)?;
            }
            Ok(rows)
        };
        ranges.par_iter().map(read).sum()
    });
    let rows = rows.map_err(Failure::error)?;
    let loaded = pool.install(|| bulk.publish(&mut warehouse, Lsn(1))).map_err(Failure::error)?;
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{}: {} rows in {}, {} rows/s, {} of Parquet in {} segments",
        arguments.table,
        count(rows as f64),
        seconds(took),
        count((rows as f64 / took).round()),
        bytes(loaded.segment_bytes as f64),
        loaded.segments
    );
    Ok(Exit::Ok)
}
