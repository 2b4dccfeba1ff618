//! The settings of a server that can change what is measured on it.

use super::options::{PgHost, PgOptions};
use crate::source::error::SourceError;
use std::collections::BTreeMap;

/// Those that cost or save work: durability, the log, memory, what runs in the background, how queries are planned. None names
/// a place.
const SETTINGS: &[&str] = &[
    "archive_mode",
    "autovacuum",
    "autovacuum_max_workers",
    "autovacuum_naptime",
    "autovacuum_vacuum_cost_delay",
    "autovacuum_vacuum_cost_limit",
    "autovacuum_vacuum_scale_factor",
    "bgwriter_delay",
    "bgwriter_lru_maxpages",
    "block_size",
    "checkpoint_completion_target",
    "checkpoint_timeout",
    "commit_delay",
    "commit_siblings",
    "data_checksums",
    "debug_assertions",
    "default_toast_compression",
    "default_transaction_isolation",
    "effective_cache_size",
    "effective_io_concurrency",
    "fsync",
    "full_page_writes",
    "huge_pages",
    "io_method",
    "io_workers",
    "jit",
    "log_min_duration_statement",
    "log_statement",
    "logical_decoding_work_mem",
    "maintenance_work_mem",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "max_wal_size",
    "max_worker_processes",
    "min_wal_size",
    "random_page_cost",
    "seq_page_cost",
    "shared_buffers",
    "shared_preload_libraries",
    "synchronous_commit",
    "temp_buffers",
    "track_commit_timestamp",
    "track_io_timing",
    "track_wal_io_timing",
    "wal_block_size",
    "wal_buffers",
    "wal_compression",
    "wal_keep_size",
    "wal_level",
    "wal_log_hints",
    "wal_segment_size",
    "wal_sync_method",
    "wal_writer_delay",
    "wal_writer_flush_after",
    "work_mem",
];

/// Major version, settings as a new session of this role has them, and how it is reached (never where). A setting that the
/// version lacks is left out; one that the role may not see is `unreadable`.
///
/// # Errors
/// When the server can't be reached or asked.
pub fn server_settings(options: &PgOptions) -> Result<BTreeMap<String, String>, SourceError> {
    let mut client = options.connect()?;
    let failed = || SourceError::postgres("read the settings of", options.place());
    let mut found = BTreeMap::new();
    let sql = "SELECT (current_setting('server_version_num')::int4 / 10000)::text,
        coalesce((SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()), false),
        coalesce(current_setting('synchronous_standby_names', true), '') <> ''";
    let row = client.query_one(sql, &[]).map_err(failed())?;
    let (version, tls, standbys): (String, bool, bool) =
        (row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?, row.try_get(2).map_err(failed())?);
    found.insert("version".to_owned(), version);
    let reached = match (options.host(), tls) {
        (PgHost::Socket(_), _) => "a socket",
        (PgHost::Tcp(_), false) => "TCP",
        (PgHost::Tcp(_), true) => "TLS",
    };
    found.insert("reached_by".to_owned(), reached.to_owned());
    found.insert("waits_for_standbys".to_owned(), standbys.to_string());
    // This one the server hides from a role without the right to see it.
    found.insert("shared_preload_libraries".to_owned(), "unreadable".to_owned());
    let sql = "SELECT name, setting || coalesce(' x ' || unit, '') FROM pg_catalog.pg_settings WHERE name = ANY($1)";
    for row in client.query(sql, &[&SETTINGS]).map_err(failed())? {
        found.insert(row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?);
    }
    Ok(found)
}
