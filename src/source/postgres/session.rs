//! What every session of this program has, and the one function that every connection passes through: ordinary ones, those
//! of the raw protocol, and those that carry the replication stream, whose text depends on settings too.
//!
//! Settings are set by a statement, not asked for in the startup message, which poolers drop or refuse; and they are read
//! back by another statement, since a pooler may also give each statement another session of the server. What can't be
//! had is refused: values would silently come in another form.

use super::options::{PgOptions, TargetSession};
use super::wire::{Mode, TextRow};
use crate::source::SourceError;

/// Settings on which the text of values depends, which rows are seen, how our statements are read, or whether a session that
/// waits is ended. Not among them are those that say what a value means (`lc_monetary`: the database's own, as for
/// every other client), and what is to be measured (`synchronous_commit`).
const NEEDED: &[(&str, &str)] = &[
    // Of a database without an encoding: see `BYTES_AS_THEY_ARE`.
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("xmlbinary", "base64"),
    ("xmloption", "content"),
    // regclass and its like are quoted by it.
    ("quote_all_identifiers", "off"),
    // On it nobody can plant a function; and regclass and its like are printed by it.
    ("search_path", "pg_catalog"),
    ("standard_conforming_strings", "on"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    // Rows that a policy would hide are an error, not missing.
    ("row_security", "off"),
    // Above 0, it leaves out rows that an index finds.
    ("gin_fuzzy_search_limit", "0"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    // A reader waits for locks and reads as long as it takes, and the connection of somebody who waits is not idle.
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("tcp_user_timeout", "0"),
    // Of version 17 and later.
    ("transaction_timeout", "0"),
];

/// A database without an encoding may hold any bytes. They come as they are, so that a value that is not UTF-8 is refused where its
/// table, column and row are known; the server would refuse it without a word of where it is.
const BYTES_AS_THEY_ARE: &str = "pg_catalog.current_setting('server_encoding') = 'SQL_ASCII'";

/// The value that a setting has in every session; `None` where anybody may choose it.
pub(super) fn needed(name: &str) -> Option<&'static str> {
    // An old name of one of them.
    let name = if name.eq_ignore_ascii_case("time_zone") { "TimeZone" } else { name };
    NEEDED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

/// Runs a statement by the simple protocol.
pub(super) type Query<'a> = &'a mut dyn FnMut(&str) -> Result<Vec<TextRow>, SourceError>;

/// Sets what is needed and what the user asked for, and sees that it holds.
///
/// # Errors
/// When the server refuses a setting or does not keep it, is not of the kind that was asked for, or is none that can carry
/// the replication stream where that is wanted.
pub(super) fn prepare(query: Query<'_>, options: &PgOptions, mode: Mode) -> Result<(), SourceError> {
    let asked: Vec<String> = options.settings.iter().map(|(name, value)| set(name, value)).collect();
    let given = if asked.is_empty() { Vec::new() } else { row(query, &format!("SELECT {}", asked.join(", ")))? };
    let needed: Vec<String> = NEEDED.iter().map(|(name, value)| set_where_known(name, value)).collect();
    row(query, &format!("SELECT {}", needed.join(", ")))?;
    row(query, &format!("SELECT {} WHERE {BYTES_AS_THEY_ARE}", set("client_encoding", "SQL_ASCII")))?;
    verify(query, options)?;
    // What the server made of a value stands in its answer: 777kB, or 1MB for 1024kB.
    let names = options.settings.iter().map(|(name, _)| name.as_str());
    for (name, wanted) in names.clone().zip(given) {
        let kept = row(query, &format!("SELECT pg_catalog.current_setting({})", literal(name)))?;
        if kept.first() != Some(&wanted) {
            return Err(not_kept(options, name));
        }
    }
    kind(query, options, mode)
}

/// Sees that what is needed holds, as before rows are read in a transaction.
///
/// # Errors
/// When it does not.
pub(super) fn verify(query: Query<'_>, options: &PgOptions) -> Result<(), SourceError> {
    let read: Vec<String> = NEEDED.iter().map(|(name, wanted)| read(name, wanted)).collect();
    let found = row(query, &format!("SELECT {}", read.join(", ")))?;
    for ((name, wanted), found) in NEEDED.iter().zip(&found) {
        let holds = found.as_ref().is_none_or(|found| found.eq_ignore_ascii_case(wanted));
        if !holds {
            return Err(not_kept(options, name));
        }
    }
    match found.len() == NEEDED.len() {
        true => Ok(()),
        false => Err(not_kept(options, "any setting")),
    }
}

/// Whether the server is of the kind that was asked for.
fn kind(query: Query<'_>, options: &PgOptions, mode: Mode) -> Result<(), SourceError> {
    let target = match options.target {
        // A wish: what there was has been chosen.
        TargetSession::PreferStandby => TargetSession::Any,
        target => target,
    };
    if !fits(query, target)? {
        return Err(misfit(options));
    }
    if mode == Mode::Replication {
        let sql = "SELECT backend_type FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()";
        if row(query, sql)?.first().and_then(Option::as_deref) != Some("walsender") {
            let what = format!(
                "{}: what answers is a pooler that gave no replication connection; name the server itself",
                options.place()
            );
            return Err(SourceError::Options { what });
        }
    }
    Ok(())
}

/// The server is of another kind than was asked for.
pub(super) fn misfit(options: &PgOptions) -> SourceError {
    let what = format!(
        "{}: the server is not what target_session_attrs asks for; name another server, or leave it out",
        options.place()
    );
    SourceError::Options { what }
}

/// Whether a session is of the kind `target`, as libpq judges it.
pub(super) fn fits(query: Query<'_>, target: TargetSession) -> Result<bool, SourceError> {
    if target == TargetSession::Any {
        return Ok(true);
    }
    let sql = "SELECT pg_catalog.current_setting('transaction_read_only'), pg_catalog.pg_is_in_recovery()";
    let found = row(query, sql)?;
    let is = |place: usize, wanted: &str| found.get(place).and_then(Option::as_deref) == Some(wanted);
    let (read_only, standby) = (is(0, "on"), is(1, "t"));
    Ok(match target {
        TargetSession::Any => true,
        TargetSession::ReadWrite => !read_only && !standby,
        TargetSession::ReadOnly => read_only || standby,
        TargetSession::Primary => !standby,
        TargetSession::Standby | TargetSession::PreferStandby => standby,
    })
}

fn set(name: &str, value: &str) -> String {
    format!("pg_catalog.set_config({}, {}, false)", literal(name), literal(value))
}

/// A server that does not know a setting does not have what it would change.
fn set_where_known(name: &str, value: &str) -> String {
    let known = format!("pg_catalog.current_setting({}, true) IS NOT NULL", literal(name));
    format!("CASE WHEN {known} THEN {} END", set(name, value))
}

/// What a setting is; of the encoding what is wanted, where bytes come as they are.
fn read(name: &str, wanted: &str) -> String {
    let read = format!("pg_catalog.current_setting({}, true)", literal(name));
    match name {
        "client_encoding" => {
            format!("CASE WHEN {BYTES_AS_THEY_ARE} AND {read} = 'SQL_ASCII' THEN {} ELSE {read} END", literal(wanted))
        }
        _ => read,
    }
}

/// A text as a literal that reads the same whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

pub(super) fn row(query: Query<'_>, sql: &str) -> Result<TextRow, SourceError> {
    Ok(query(sql)?.into_iter().next().unwrap_or_default())
}

fn not_kept(options: &PgOptions, name: &str) -> SourceError {
    let what = format!(
        "{}: the session does not keep {name}, so values might silently come in another form; {POOLER_REMEDY}",
        options.place()
    );
    SourceError::Options { what }
}

pub(super) const POOLER_REMEDY: &str = "connect to the server itself, or by a pooler that gives each client a session of its own (in PgBouncer pool_mode = session)";
