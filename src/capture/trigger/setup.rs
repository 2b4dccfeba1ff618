//! Making and removing the changelog and its triggers.

use super::TriggerCapture;
use crate::capture::error::CaptureError;
use crate::model::{Lsn, TableId};
use crate::source::{SourceTable, SqliteSource, last_lsn, quote};
use rusqlite::{Connection, OptionalExtension};
use std::fmt::Write as _;

/// `op` in the changelog.
pub(super) mod op {
    pub const INSERT: i64 = 1;
    pub const UPDATE: i64 = 2;
    pub const DELETE: i64 = 3;
}

/// The widest table that the changelog's fixed columns and a key leave room for, of SQLite's 2,000 columns a table.
const COLUMNS_MAX: usize = 1_900;
/// Minus the wall clock in microseconds, to the millisecond, in words that any SQLite understands.
const OPENED_NOW: &str = "-1000 * CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)";
const COMPLETE_AFTER: &str = "changelog_complete_after";

impl TriggerCapture {
    /// Makes the changelog and the triggers on every table of the source, in one transaction. Returns the position
    /// after which every change is captured: take a snapshot after this, and resume from the snapshot's position.
    ///
    /// Done again on a source that has them, it makes the triggers anew and keeps the changelog and its position.
    ///
    /// # Errors
    /// When SQLite fails or a table has too many columns.
    pub fn setup(source: &SqliteSource) -> Result<Lsn, CaptureError> {
        TriggerCapture::set_up(source, &script(source)?)
    }

    /// Makes the changelog without triggers: the application appends to it itself, with an
    /// [`OutboxWriter`](super::OutboxWriter). What others write is then not captured.
    ///
    /// # Errors
    /// As [`TriggerCapture::setup`].
    pub fn setup_outbox(source: &SqliteSource) -> Result<Lsn, CaptureError> {
        check_widths(source)?;
        TriggerCapture::set_up(source, "")
    }

    fn set_up(source: &SqliteSource, triggers: &str) -> Result<Lsn, CaptureError> {
        let connection = source.connect()?;
        let failed = |operation| CaptureError::sqlite(operation, source.path().display());
        let _turn = source.queue().take();
        connection.execute_batch("BEGIN IMMEDIATE").map_err(failed("begin to set up triggers in"))?;
        // Dropping the connection rolls back what an error leaves.
        let kept = shape(&connection).map_err(failed("read the changelog of"))? == expected_shape(source);
        if !kept {
            let position = last_lsn(&connection).map_err(failed("read the position of"))?;
            connection
                .execute_batch(&format!("DROP TABLE IF EXISTS _freshbench_changelog; {}", create_changelog(source)))
                .map_err(failed("make the changelog in"))?;
            keep_complete_after(&connection, position).map_err(failed("keep the position in"))?;
        }
        drop_triggers(&connection).map_err(failed("remove the old triggers from"))?;
        connection.execute_batch(triggers).map_err(failed("make triggers in"))?;
        connection.execute_batch("COMMIT").map_err(failed("set up triggers in"))?;
        complete_after(&connection, source)
    }

    /// Removes the triggers and the changelog; what was not consumed is lost.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn teardown(source: &SqliteSource) -> Result<(), CaptureError> {
        let connection = source.connect()?;
        let _turn = source.queue().take();
        let remove = || {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            drop_triggers(&connection)?;
            connection.execute_batch("DROP TABLE IF EXISTS _freshbench_changelog")?;
            connection.execute("DELETE FROM _freshbench_meta WHERE name = ?1", [COMPLETE_AFTER])?;
            connection.execute_batch("COMMIT")
        };
        remove().map_err(CaptureError::sqlite("remove the triggers from", source.path().display()))
    }
}

/// The position after which the changelog holds every change.
pub(super) fn complete_after(connection: &Connection, source: &SqliteSource) -> Result<Lsn, CaptureError> {
    let failed = |operation| CaptureError::sqlite(operation, source.path().display());
    if shape(connection).map_err(failed("read the changelog of"))? != expected_shape(source) {
        let reason = format!("{} has no changelog for these tables", source.path().display());
        return Err(CaptureError::NotSetUp { reason });
    }
    let position: Option<i64> = connection
        .query_row("SELECT value FROM _freshbench_meta WHERE name = ?1", [COMPLETE_AFTER], |row| row.get(0))
        .optional()
        .map_err(failed("read the position of"))?;
    let missing = || CaptureError::Damaged { reason: "its position is missing".to_owned() };
    position.map(|position| Lsn(position.unsigned_abs())).ok_or_else(missing)
}

/// Says that changes up to `position` may be missing from now on.
pub(super) fn keep_complete_after(connection: &Connection, position: Lsn) -> rusqlite::Result<()> {
    let position = i64::try_from(position.0).unwrap_or(i64::MAX);
    let sql = "INSERT OR REPLACE INTO _freshbench_meta VALUES(?1, ?2)";
    connection.prepare_cached(sql)?.execute((COMPLETE_AFTER, position)).map(drop)
}

/// How many `k` and how many `c` columns the changelog has.
fn shape(connection: &Connection) -> rusqlite::Result<(usize, usize)> {
    let count = |pattern: &str| {
        let sql = "SELECT count(*) FROM pragma_table_info('_freshbench_changelog') WHERE name GLOB ?1";
        connection.query_row(sql, [pattern], |row| row.get::<_, i64>(0)).map(|n| usize::try_from(n).unwrap_or(0))
    };
    Ok((count("k[0-9]*")?, count("c[0-9]*")?))
}

pub(super) fn expected_shape(source: &SqliteSource) -> (usize, usize) {
    let tables = source.tables().iter().map(SourceTable::schema);
    let keys = tables.clone().map(|schema| schema.key.len()).max().unwrap_or(0);
    (keys, tables.map(|schema| schema.columns.len()).max().unwrap_or(0))
}

fn create_changelog(source: &SqliteSource) -> String {
    let (keys, columns) = expected_shape(source);
    let names: Vec<String> = names('k', keys).chain(names('c', columns)).collect();
    // AUTOINCREMENT: an id must not come back after a prune that emptied the table.
    format!(
        "CREATE TABLE _freshbench_changelog(id INTEGER PRIMARY KEY AUTOINCREMENT, \
         lsn INTEGER NOT NULL, tbl INTEGER NOT NULL, op INTEGER NOT NULL, {})",
        names.join(", ")
    )
}

fn drop_triggers(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name GLOB '_freshbench_*'";
    let names: Vec<String> = connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    names.iter().try_for_each(|name| connection.execute_batch(&format!("DROP TRIGGER {}", quote(name))))
}

fn script(source: &SqliteSource) -> Result<String, CaptureError> {
    check_widths(source)?;
    let mut sql = String::new();
    for (id, _) in source.catalog().iter() {
        triggers(&mut sql, id, source.table(id)?);
    }
    Ok(sql)
}

fn check_widths(source: &SqliteSource) -> Result<(), CaptureError> {
    match source.tables().iter().map(SourceTable::schema).find(|schema| schema.columns.len() > COLUMNS_MAX) {
        Some(schema) => {
            let reason = format!("it has more than {COLUMNS_MAX} columns; capture it another way");
            Err(CaptureError::Unfit { table: schema.name.clone(), reason })
        }
        None => Ok(()),
    }
}

fn triggers(sql: &mut String, id: TableId, table: &SourceTable) {
    let schema = table.schema();
    let name = |index: usize| quote(schema.columns.get(index).map_or("", |column| &column.name));
    let old_key: Vec<String> = schema.key.iter().map(|&index| format!("OLD.{}", name(index))).collect();
    let new_row: Vec<String> = (0..schema.columns.len()).map(|index| format!("NEW.{}", name(index))).collect();
    let table_name = quote(&schema.name);
    let cases = [
        ("INSERT", op::INSERT, &[][..], &new_row[..]),
        ("UPDATE", op::UPDATE, &old_key[..], &new_row[..]),
        ("DELETE", op::DELETE, &old_key[..], &[][..]),
    ];
    for (event, code, keys, columns) in cases {
        let targets: Vec<String> = names('k', keys.len()).chain(names('c', columns.len())).collect();
        let values: Vec<&str> = keys.iter().chain(columns).map(String::as_str).collect();
        // Writing to a String can't fail.
        let _ = writeln!(
            sql,
            "CREATE TRIGGER _freshbench_{number}_{event} AFTER {event} ON {table_name} BEGIN \
             INSERT INTO _freshbench_commit(txn, committed_at) SELECT -1, {OPENED_NOW} WHERE \
             coalesce((SELECT committed_at FROM _freshbench_commit ORDER BY lsn DESC LIMIT 1), 1) > 0; \
             INSERT INTO _freshbench_changelog(lsn, tbl, op, {targets}) \
             VALUES((SELECT max(lsn) FROM _freshbench_commit), {number}, {code}, {values}); END;",
            number = id.0,
            targets = targets.join(", "),
            values = values.join(", "),
        );
    }
}

/// `k0, k1, ...`
pub(super) fn names(letter: char, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |place| format!("{letter}{place}"))
}
