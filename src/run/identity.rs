//! What identifies a configuration: every setting that can change a figure, by name, and one digest over them.
//!
//! The structures are taken apart field by field here, so a new field does not compile until somebody says whether it counts.
//! What a *flag* does to the digest is checked in `cli/flags_and_hash.rs`, for every flag that there is.

use super::RunError;
use super::attach::{AttachPlan, Until};
use crate::log::Fsync;
use crate::plan::{Plan, SourceChoice};
use crate::sink::{CacheOptions, CacheStore, SearchOptions, WarehouseOptions};
use crate::source::postgres::{PgOptions, server_settings};
use crate::strategy::{Begin, DualWrite, Setting};
use std::collections::BTreeMap;
use std::time::Duration;

/// Settings by name. Names and values are plain words; no address, no path and no secret is among them.
pub type Settings = BTreeMap<String, String>;

/// Which list of settings [`config_hash`] is over. It rises when a setting is added, left out, or written another way, since
/// digests of two lists say nothing about each other. Version 1 lacked what makes a warehouse (its memory, threads, dead rows, kept
/// versions), checkpoints and the server, and is what a result without a version has.
pub const HASH_VERSION: u32 = 2;

/// 32 hexadecimal digits over [`HASH_VERSION`] and all settings.
pub fn config_hash(settings: &Settings) -> String {
    let mut text = format!("{HASH_VERSION}\n");
    for (name, value) in settings {
        // Lengths, so that no value can be read as two.
        text.push_str(&format!("{}:{name}={}:{value}\n", name.len(), value.len()));
    }
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
}

/// What counts of the record system itself: its kind, its major version, and of a server the settings that cost or save work.
///
/// # Errors
/// When the server can't be asked.
pub fn source_settings(source: &SourceChoice) -> Result<Settings, RunError> {
    match source {
        SourceChoice::Sqlite => Ok(sqlite()),
        SourceChoice::Postgres(options) => postgres(options),
    }
}

/// SQLite is part of this program.
fn sqlite() -> Settings {
    let major = rusqlite::version().split('.').next().unwrap_or_default().to_owned();
    [("source.kind".to_owned(), "sqlite".to_owned()), ("source.version".to_owned(), major)].into()
}

/// As [`source_settings`], of a PostgreSQL server.
///
/// # Errors
/// When the server can't be asked.
pub fn postgres(options: &PgOptions) -> Result<Settings, RunError> {
    let mut settings: Settings = [("source.kind".to_owned(), "postgres".to_owned())].into();
    for (name, value) in server_settings(options)? {
        settings.insert(format!("source.{name}"), value);
    }
    Ok(settings)
}

/// The settings of a run on a source of these settings.
pub fn run_settings(plan: &Plan, source: &Settings) -> Settings {
    let Plan {
        source: _, // its settings are given: the plan has its address alone
        strategies,
        workload,
        warmup,
        duration,
        batch_interval,
        sinks,
        search_interval,
        warehouse,
        cache,
        dual,
        reps,
        durability,
        log_fsync,
        out: _,  // where the result lies
        work: _, // where the files lie; the file system is the machine's, which has a key of its own
        checkpoint_interval,
        drain_patience: _, // follows from the batch interval; a strategy that exceeds it fails
        planted,
        command: _, // says the same in words
        fresh_processes,
    } = plan;
    let mut settings = source.clone();
    let mut put = |name: &str, value: String| drop(settings.insert(name.to_owned(), value));
    let names: Vec<&str> = strategies.iter().map(|kind| kind.name()).collect();
    put("strategies", names.join(","));
    let names: Vec<&str> = sinks.iter().map(|sink| sink.name()).collect();
    put("sinks", names.join(","));
    of_workload(workload, &mut put);
    put("warmup", span(*warmup));
    put("duration", span(*duration));
    put("batch_interval", span(*batch_interval));
    put("reps", reps.to_string());
    put("source.durability", format!("{durability:?}").to_lowercase());
    // Peak memory of cases that share a process is another figure.
    put("fresh_processes", fresh_processes.to_string());
    put("planted", planted.map_or("none".to_owned(), |fault| fault.name().to_owned()));
    of_pipeline(
        &Pipeline { log_fsync: *log_fsync, checkpoint_interval: *checkpoint_interval, warehouse },
        Some((*search_interval, cache, dual)),
        &mut put,
    );
    settings
}

/// The parts of a workload that people set have names; the rest of its definition is a digest.
fn of_workload(workload: &crate::workload::Workload, put: &mut dyn FnMut(&str, String)) {
    let of = workload.settings();
    put("workload", of.name.clone());
    put("workload.definition", workload.config_hash());
    put("rate", of.rate_per_s.to_string());
    put("arrivals", format!("{:?}", of.arrivals).to_lowercase());
    put("clients", of.clients.to_string());
    put("seed", of.seed.to_string());
    let rows: u64 = workload.catalog().iter().map(|(table, _)| workload.initial_row_count(table)).sum();
    put("rows", rows.to_string());
}

/// What log and warehouse are given, by a run or by an attach.
#[derive(Debug)]
pub struct Pipeline<'a> {
    /// When the log is made durable.
    pub log_fsync: Fsync,
    /// From checkpoint to checkpoint.
    pub checkpoint_interval: Duration,
    /// How the warehouse is built.
    pub warehouse: &'a WarehouseOptions,
}

impl<'a> Pipeline<'a> {
    pub(super) fn of(setting: &'a Setting) -> Pipeline<'a> {
        let Setting { log_fsync, checkpoint_interval, warehouse, .. } = setting;
        Pipeline { log_fsync: *log_fsync, checkpoint_interval: *checkpoint_interval, warehouse }
    }
}

fn of_pipeline(
    pipeline: &Pipeline<'_>,
    others: Option<(Duration, &CacheOptions, &DualWrite)>,
    put: &mut dyn FnMut(&str, String),
) {
    let Pipeline { log_fsync, checkpoint_interval, warehouse } = pipeline;
    let fsync = match log_fsync {
        Fsync::Always => "always".to_owned(),
        Fsync::None => "none".to_owned(),
        Fsync::Interval(length) => span(*length),
    };
    put("log.fsync", fsync);
    put("warehouse.checkpoint_interval", span(*checkpoint_interval));
    let WarehouseOptions {
        chunk_rows_max,
        chunk_bytes_max,
        zstd_level,
        versions_kept,
        compaction_threads,
        dead_percent_max,
        compaction_rows_per_change,
        memory_bytes_max,
    } = warehouse;
    put("warehouse.chunk_rows", chunk_rows_max.to_string());
    put("warehouse.chunk_bytes", chunk_bytes_max.to_string());
    put("warehouse.zstd_level", zstd_level.to_string());
    put("warehouse.versions_kept", versions_kept.to_string());
    put("warehouse.compaction_threads", compaction_threads.to_string());
    put("warehouse.dead_percent", dead_percent_max.to_string());
    put("warehouse.compaction_rows_per_change", compaction_rows_per_change.to_string());
    put("warehouse.memory_bytes", memory_bytes_max.map_or("no limit".to_owned(), |bytes| bytes.to_string()));
    let Some((search_interval, cache, dual)) = others else { return };
    let SearchOptions { memory_bytes, threads } = SearchOptions::default();
    put("search.interval", span(search_interval));
    put("search.memory_bytes", memory_bytes.to_string());
    put("search.threads", threads.to_string());
    // The prefix of the keys is a name; how conflicts end belongs to the strategy.
    let CacheOptions { store, fill, conflict: _, entries_max, prefix: _ } = cache;
    let store = match store {
        CacheStore::Memory => "memory",
        #[cfg(feature = "redis")]
        CacheStore::Redis { url } if url.starts_with("unix:") => "redis over a socket",
        #[cfg(feature = "redis")]
        CacheStore::Redis { .. } => "redis",
    };
    put("cache.store", store.to_owned());
    put("cache.fill", format!("{fill:?}").to_lowercase());
    put("cache.entries", entries_max.map_or("no limit".to_owned(), |entries| entries.to_string()));
    let DualWrite { think, crash_rate, seed: _ } = dual; // the workload's seed
    put("dual_write.think", span(*think));
    put("dual_write.crash_rate", crash_rate.to_string());
}

/// The settings of an attach on a source of these settings, of tables of these names.
pub fn attach_settings(plan: &AttachPlan, tables: &[String], pipeline: &Pipeline<'_>, source: &Settings) -> Settings {
    let AttachPlan {
        server: _, // its settings are given: the plan has its address alone
        tables: _, // their names as they were found are given
        strategy,
        warehouse: _, // where it lies
        until,
        begin,
        batch_interval,
        cursor,
        keep: _, // what stays after the end
        invariant,
        out: _,      // where the result lies
        patience: _, // a strategy that exceeds it fails
        command: _,  // says the same in words
    } = plan;
    let mut settings = source.clone();
    let mut put = |name: &str, value: String| drop(settings.insert(name.to_owned(), value));
    put("strategies", strategy.name().to_owned());
    put("tables", tables.join(","));
    let ends = match until {
        Until::Duration(length) => format!("after {}", span(*length)),
        Until::Idle(length) => format!("when idle for {}", span(*length)),
        // Each run of such a command has another position.
        Until::Position(_) => "at a position of the log".to_owned(),
    };
    put("ends", ends);
    let begins = match begin {
        Begin::Loaded => "loaded",
        Begin::Empty => "empty",
        Begin::Resumed => "resumed",
    };
    put("begins", begins.to_owned());
    put("batch_interval", span(*batch_interval));
    put("cursor", cursor.clone());
    put("invariant", invariant.as_ref().map_or("none".to_owned(), |sums| sums.in_words()));
    of_pipeline(pipeline, None, &mut put);
    settings
}

fn span(length: Duration) -> String {
    format!("{}s", length.as_secs_f64())
}
