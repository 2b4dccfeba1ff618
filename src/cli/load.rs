//! `freshbench load`: one table of any SQLite or PostgreSQL database into a new warehouse, as fast as it goes.

use super::args::LoadArgs;
use super::{Exit, Failure};
use crate::capture::CaptureError;
use crate::capture::postgres::PgSnapshot;
use crate::clock::Clock;
use crate::foreign::terminal;
use crate::model::Catalog;
use crate::output::answer;
use crate::report::headline::{bytes, count, seconds};
use crate::sink::warehouse::Loaded;
use crate::sink::{Warehouse, WarehouseError, WarehouseOptions};
use crate::source::postgres::{PgOptions, PgTable, PgTableName};
use crate::source::{DynSqlite, SourceError};
use crate::strategy::{StrategyError, file_catalog, load_file, load_postgres, postgres_catalog};
use crate::transform::{TransformError, ValueFault};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

pub(super) fn load(arguments: &LoadArgs) -> Result<Exit, Failure> {
    let source = arguments.source.to_str().unwrap_or_default();
    if PgOptions::is_url(source) {
        return load_from_postgres(arguments, source);
    }
    if source.contains("://") {
        // Not repeated: it may hold a password.
        return Err(Failure::usage("--source is a URL of another kind; give a SQLite file or postgres://..."));
    }
    load_from_file(arguments)
}

fn load_from_postgres(arguments: &LoadArgs, url: &str) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let options = PgOptions::parse(url).map_err(Failure::usage)?;
    let name = PgTableName::parse(&arguments.table).map_err(Failure::usage)?;
    let clock = Clock::monotonic();
    let mut snapshot =
        PgSnapshot::begin(&options, &[name], readers(arguments), &clock).map_err(|cause| match &cause {
            CaptureError::Source(SourceError::Table { .. }) => Failure::usage(cause),
            _ => Failure::error(cause),
        })?;
    let keyed = |table: &PgTable| match arguments.key.as_slice() {
        [] => table.require_key().map(|()| table.clone()),
        columns => table.with_key(columns),
    };
    snapshot.map_tables(keyed).map_err(Failure::usage)?;
    into_warehouse(arguments, begun, &postgres_catalog(snapshot.tables()), |warehouse| {
        load_postgres(&snapshot, warehouse)
    })
}

fn readers(arguments: &LoadArgs) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.readers.unwrap_or(cores).clamp(1, 64)
}

fn load_from_file(arguments: &LoadArgs) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let source = DynSqlite::open(&arguments.source).map_err(of_file)?;
    let table = source.table_by(&arguments.table, &arguments.key).map_err(of_file)?;
    into_warehouse(arguments, begun, &file_catalog(&table), |warehouse| {
        load_file(&source, &table, readers(arguments), warehouse)
    })
}

/// What can't be opened or is not there is bad input; a damaged file is an error.
fn of_file(cause: SourceError) -> Failure {
    if cause.is_of_damage() { Failure::error(cause) } else { Failure::usage(cause) }
}

fn into_warehouse(
    arguments: &LoadArgs,
    begun: Instant,
    catalog: &Catalog,
    load: impl FnOnce(&mut Warehouse) -> Result<Loaded, StrategyError>,
) -> Result<Exit, Failure> {
    let before = Before::of(&arguments.warehouse);
    let options = WarehouseOptions { versions_kept: arguments.keep_versions.into(), ..WarehouseOptions::default() };
    let mut warehouse = Warehouse::create(&arguments.warehouse, catalog, options).map_err(Failure::usage)?;
    let loaded = match load(&mut warehouse) {
        Ok(loaded) => loaded,
        Err(cause) => {
            drop(warehouse);
            before.restore(&arguments.warehouse);
            return Err(match &cause {
                StrategyError::Warehouse(WarehouseError::DuplicateKey { .. }) => {
                    Failure::usage(format!("{cause}; {}", other_key(arguments)))
                }
                _ if is_bad_input(&cause) => Failure::usage(cause),
                _ => Failure::error(cause),
            });
        }
    };
    let took = begun.elapsed().as_secs_f64();
    writeln!(
        answer(),
        "{}: {} rows in {}, {} rows/s, {} of Parquet in {} segments",
        terminal(&arguments.table),
        count(loaded.rows as f64),
        seconds(took),
        count((loaded.rows as f64 / took).round()),
        bytes(loaded.segment_bytes as f64),
        loaded.segments
    )?;
    Ok(Exit::Ok)
}

/// What to do where two rows have one key.
fn other_key(arguments: &LoadArgs) -> &'static str {
    let is_server = PgOptions::is_url(arguments.source.to_str().unwrap_or_default());
    match (is_server, arguments.key.is_empty()) {
        (true, true) => {
            "the columns of the primary key do not tell its rows apart: repair them, or add columns with --key"
        }
        (_, false) => "these columns do not tell its rows apart: give --key more of them",
        (false, true) => {
            "SQLite tells a number from its text (1 from '1') in a column without a type, and as text they are the same: \
             load by the rowid (--key rowid), by other columns, or convert the values"
        }
    }
}

/// Whether the remedy is a row of the user's database: a value that does not fit its column.
fn is_bad_input(cause: &StrategyError) -> bool {
    match cause {
        StrategyError::Source(cause) | StrategyError::Capture(CaptureError::Source(cause)) => {
            matches!(cause, SourceError::Value { .. })
        }
        StrategyError::Transform(cause) => {
            matches!(cause, TransformError::Row { fault, .. } if !matches!(fault, ValueFault::ChunkFull { .. }))
        }
        _ => false,
    }
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
