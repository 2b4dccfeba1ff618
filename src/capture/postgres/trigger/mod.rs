//! Change capture by triggers in PostgreSQL.
//!
//! `AFTER .. FOR EACH STATEMENT` triggers with transition tables append what each statement did to a changelog table for
//! each table, in the very transaction, so a rollback (also one to a savepoint) takes it back. One sequence numbers the
//! changes of all tables. The changelog's columns have the types of the table's own, so every value keeps its form.
//!
//! # In which order
//!
//! Numbers of the sequence commit out of order: change 1 may become visible after change 2 was read. So nothing is ever
//! skipped by number. Each poll reads one state of the server, and delivers **the transactions that this state includes
//! and the last one did not**, by `xid8` and `pg_snapshot`; a long transaction elsewhere holds nothing up. Every delivered state is one
//! that a reader of the database could have seen. Inside one poll transactions are ordered by their last change: one
//! that changed a row after another drew its number behind the other's commit, since the row's lock lasts that long.
//!
//! # Positions
//!
//! The last transaction of a poll has the position of the state (see [`PgSource`]), those before it the
//! positions right before that. A poll that finds nothing new in the tables, but a log that grew, delivers an empty
//! transaction now and then, so that positions downstream go on while only other tables change.
//!
//! # Triggers of others
//!
//! A trigger of somebody else's that changes *the same rows* again runs, with our triggers after its own statements, before
//! ours after the outer statement, whose transition tables are then out of date. Where a table has any trigger that is
//! not ours at the time of the setup, or a foreign key to itself, ours log whole rows that went and came, which come to the same
//! in any order, and the poller sums up what a transaction comes to (`net`). So do they where the primary key is
//! deferrable, since two rows may have one key inside a transaction.
//!
//! # Keys that are equal and not the same
//!
//! `1.0` and `1.00` are one key to a unique index over numeric, and two values to whoever reads them. So an update's old keys are
//! compared with its new ones by image (`*=`), not by the type's equality, unless the two are the same for the type.
//!
//! Partitioned tables, partitions, and tables that inherit or are inherited from are refused: a statement may name the one and
//! pass the other's triggers by. A definition of a followed table that changes makes the users' writes fail, until the triggers
//! are gone: that is in the nature of triggers that copy columns. Where they do not fail (int4 to float8: the changelog would take
//! the rounded number), the next poll stops, before it delivers anything of a state that has the new definition.
//!
//! While a capture runs it holds an advisory lock, so that a clean-up knows of it.

mod poll;
mod setup;

use crate::capture::CaptureError;
use crate::model::{Lsn, TableId, ValueRef};
use crate::source::postgres::{PgCut, PgSource, PgTable};
use crate::source::{Inside, SourceError};
use ::postgres::Client;
use setup::{DELETED, Filled, UPDATED, changelog, names};
use std::collections::HashMap;
use std::time::Instant;

/// The advisory lock of captures at work: the letters of "freshben".
const IN_USE: i64 = 0x6672_6573_6862_656e;

/// The tailer of the changelog: whole transactions, each once.
pub struct PgTriggerCapture {
    source: PgSource,
    client: Client,
    through: Lsn,
    cut: PgCut,
    cuts: Vec<(Lsn, PgCut)>,
    last_delivery: Instant,
    stuck: bool,
    /// The statements that read the changelogs, on this client.
    prepared: HashMap<TableId, ::postgres::Statement>,
    definitions: Definitions,
}

/// What the tables' definitions were when they were last found to fit.
#[derive(Default)]
struct Definitions {
    /// The statement that digests them, on the capture's client.
    digest_sql: Option<::postgres::Statement>,
    fitting: Option<String>,
}

impl std::fmt::Debug for PgTriggerCapture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgTriggerCapture").field("through", &self.through).finish_non_exhaustive()
    }
}

impl PgTriggerCapture {
    /// Whether the table is one that fires triggers.
    ///
    /// # Errors
    /// [`CaptureError::Unfit`] with the remedy, if it is not.
    pub fn fit(table: &PgTable) -> Result<(), CaptureError> {
        setup::fit(table)
    }

    /// Makes changelog and triggers.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn setup(source: &PgSource) -> Result<(), CaptureError> {
        setup::set_up(source, Filled::ByTriggers)
    }

    /// Makes a changelog that the application fills itself; see [`PgOutboxWriter`].
    ///
    /// # Errors
    /// When the server refuses.
    pub fn setup_outbox(source: &PgSource) -> Result<(), CaptureError> {
        setup::set_up(source, Filled::ByTheApplication)
    }

    /// Whether some capture is at work on the database's changelog.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn is_in_use(client: &mut Client) -> Result<bool, CaptureError> {
        let sql = "SELECT CASE WHEN pg_catalog.pg_try_advisory_lock($1) THEN pg_catalog.pg_advisory_unlock($1) ELSE false END";
        let free: bool =
            client.query_one(sql, &[&IN_USE]).map_err(CaptureError::postgres("look for", "captures"))?.get(0);
        Ok(!free)
    }

    /// By which name [`crate::source::postgres::PgHold`] tells that the changelog of a database is in use, also while the rows
    /// are loaded, when nobody reads it yet.
    pub fn hold_name(database: &str) -> String {
        format!("changelog of {database}")
    }

    /// Whether there is a changelog in the database.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn is_set_up(client: &mut Client) -> Result<bool, CaptureError> {
        // Any of it: what is removed only in part is removed again.
        let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = '_freshbench' AND pg_catalog.obj_description(c.oid, 'pg_class') = $1)";
        let row =
            client.query_one(sql, &[&setup::MARK]).map_err(CaptureError::postgres("look for", "the changelog"))?;
        Ok(row.get(0))
    }

    /// What has one of the changelog's names, and nothing shows that it was made here, in words. It stays.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn unproven(client: &mut Client) -> Result<Vec<String>, CaptureError> {
        setup::unproven(client)
    }

    /// Removes changelog and triggers.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn teardown(source: &PgSource) -> Result<(), CaptureError> {
        setup::tear_down(source)
    }

    /// Goes on behind a state that was read: delivers exactly what it does not include.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn resume(source: &PgSource, position: Lsn, cut: PgCut) -> Result<PgTriggerCapture, CaptureError> {
        let mut client = source.connect()?;
        client
            .execute("SELECT pg_catalog.pg_advisory_lock_shared($1)", &[&IN_USE])
            .map_err(CaptureError::postgres("say that it is in use to", source.place()))?;
        let cuts = vec![(position, cut.clone())];
        Ok(PgTriggerCapture {
            source: source.clone(),
            client,
            through: position,
            cut,
            cuts,
            last_delivery: Instant::now(),
            stuck: false,
            prepared: HashMap::new(),
            definitions: Definitions::default(),
        })
    }

    /// The state that was delivered last.
    pub fn through(&self) -> Lsn {
        self.through
    }

    /// Every state that was delivered since the last call, in order.
    pub fn take_cuts(&mut self) -> Vec<(Lsn, PgCut)> {
        std::mem::take(&mut self.cuts)
    }
}

/// Appends to the changelog from inside an application's transaction.
#[derive(Clone, Debug)]
pub struct PgOutboxWriter {
    tables: Vec<(Vec<usize>, String, String)>,
}

impl PgOutboxWriter {
    /// A writer for the tables of `source`.
    pub fn new(source: &PgSource) -> PgOutboxWriter {
        let tables = source.catalog().iter().map(|(id, schema)| {
            let sql = |op: &str, names: Vec<String>| {
                let marks: Vec<String> = (1..=names.len()).map(|place| format!("${place}")).collect();
                let (log, names, marks) = (changelog(id), names.join(", "), marks.join(", "));
                format!("INSERT INTO {log}(op, {names}) VALUES('{op}', {marks})")
            };
            let present = sql(UPDATED, names('c', schema.columns.len()));
            (schema.key.clone(), present, sql(DELETED, names('k', schema.key.len())))
        });
        PgOutboxWriter { tables: tables.collect() }
    }

    /// The row is there, with these values.
    ///
    /// # Errors
    /// When the server refuses the insert.
    pub fn present(&self, inside: &Inside<'_>, table: TableId, row: &[ValueRef<'_>]) -> Result<(), SourceError> {
        let Some((_, present, _)) = self.tables.get(table.index()) else { return inside.schema(table).map(drop) };
        inside.execute(present, row.iter().copied())
    }

    /// There is no row with this key any more.
    ///
    /// # Errors
    /// When the server refuses the insert.
    pub fn absent<'v>(
        &self,
        inside: &Inside<'_>,
        table: TableId,
        key: impl Iterator<Item = ValueRef<'v>>,
    ) -> Result<(), SourceError> {
        let Some((_, _, absent)) = self.tables.get(table.index()) else { return inside.schema(table).map(drop) };
        inside.execute(absent, key)
    }
}
