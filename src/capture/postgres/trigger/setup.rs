//! The changelog tables, their triggers, and their removal.

use super::PgTriggerCapture;
use crate::capture::CaptureError;
use crate::model::TableId;
use crate::source::postgres::{OWN_SCHEMA, PgHold, PgKind, PgSource, PgTable, PgWatch, TableReader};
use crate::source::{SourceError, quote};
use ::postgres::Client;
use std::collections::HashMap;
use std::fmt::Write as _;

pub(super) const INSERTED: &str = "I";
pub(super) const UPDATED: &str = "U";
pub(super) const DELETED: &str = "D";
pub(super) const TRUNCATED: &str = "T";
/// A whole row as it was before, and one as it is after.
pub(super) const WENT: &str = "O";
pub(super) const CAME: &str = "N";

/// What is said on the server of everything that is made here: the name alone could be anybody's.
pub(super) const MARK: &str = "made by freshbench, to capture changes";
/// The mark of functions that log keys that went and rows that came, which takes a statement's changes to be one for each row.
const IN_ORDER: &str = "made by freshbench, to capture changes; each row once in a statement";

/// Who fills the changelog.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    ByTriggers,
    ByTheApplication,
}

/// Makes the changelog anew. Fails, and changes nothing, when there is one.
pub(super) fn set_up(source: &PgSource, filled: Filled) -> Result<(), CaptureError> {
    let mut client = source.connect()?;
    let watch = PgWatch::begin(source.options(), "setting triggers up")?;
    watch.of_client(&mut client)?;
    let made = make(source, filled, &mut client, &watch);
    watch.end(made)
}

fn make(source: &PgSource, filled: Filled, client: &mut Client, watch: &PgWatch) -> Result<(), CaptureError> {
    let failed = || CaptureError::postgres("set the changelog up in", source.place());
    refuse_another(client, source)?;
    // A schema that was there before is not ours, and stays.
    let schema = format!(
        "BEGIN;
        DO $$ BEGIN
            IF pg_catalog.to_regnamespace('{OWN_SCHEMA}') IS NULL THEN
                CREATE SCHEMA {OWN_SCHEMA};
                COMMENT ON SCHEMA {OWN_SCHEMA} IS '{MARK}';
            END IF;
        END $$;
        CREATE SEQUENCE _freshbench.change_number;
        COMMENT ON SEQUENCE _freshbench.change_number IS '{MARK}'"
    );
    client.batch_execute(&schema).map_err(failed())?;
    let mut triggers = Vec::new();
    for (id, _) in source.catalog().iter() {
        let table = source.table(id)?;
        let name = &table.schema.name;
        let sql = changelog_sql(id, table, &base_types(client, table)?);
        client.batch_execute(&sql).map_err(CaptureError::postgres("make the changelog of table", name))?;
        if filled == Filled::ByTriggers {
            check_whole(client, table)?;
            let in_order = !table.settles_at_commit() && !is_changed_behind(client, table)?;
            let (functions, on_table) = triggers_sql(id, table, in_order);
            let made = client.batch_execute(&functions);
            made.map_err(CaptureError::postgres("make the functions that log table", name))?;
            triggers.push((name, on_table));
        }
    }
    client.batch_execute("COMMIT").map_err(failed())?;
    for (name, sql) in triggers {
        if let Err(error) = with_locks(client, &sql, ("put triggers on table", name), watch) {
            if let Err(cause) = tear_down(source) {
                source.options().patience.say(&format!("{cause}; run freshbench attach --cleanup"));
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Two attaches can't share a changelog.
fn refuse_another(client: &mut Client, source: &PgSource) -> Result<(), CaptureError> {
    if !PgTriggerCapture::is_set_up(client)? {
        return refuse_foreign(client, source);
    }
    let name = PgTriggerCapture::hold_name(&source.options().database);
    // The one who asks holds it as well.
    let used = PgTriggerCapture::is_in_use(client)? || PgHold::holders(client, &name)? > 1;
    let why = if used {
        "another attach is using it; end that first"
    } else {
        "an earlier attach has left it; run freshbench cleanup --source URL"
    };
    Err(CaptureError::Slot {
        slot: format!("changelog in schema {OWN_SCHEMA} of {}", source.place()),
        reason: why.to_owned(),
    })
}

/// What is not ours keeps its name.
fn refuse_foreign(client: &mut Client, source: &PgSource) -> Result<(), CaptureError> {
    let Some(what) = unproven(client)?.into_iter().next() else { return Ok(()) };
    let reason = format!("nothing shows that freshbench made {what}; remove or rename it by hand");
    Err(CaptureError::Slot { slot: format!("changelog in schema {OWN_SCHEMA} of {}", source.place()), reason })
}

/// What has one of our names in our schema without our mark, in words.
pub(super) fn unproven(client: &mut Client) -> Result<Vec<String>, CaptureError> {
    let sql = "SELECT CASE c.relkind WHEN 'S' THEN 'sequence ' ELSE 'table or view ' END || '_freshbench.' || c.relname
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = '_freshbench' AND c.relname ~ '^(change_number|changelog_[0-9]+)$'
            AND pg_catalog.obj_description(c.oid, 'pg_class') IS DISTINCT FROM $1
        UNION ALL SELECT 'function ' || p.oid::pg_catalog.regprocedure::text
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = '_freshbench' AND p.proname ~ '^capture_[0-9]+_[a-z]+$'
            AND NOT pg_catalog.starts_with(coalesce(pg_catalog.obj_description(p.oid, 'pg_proc'), ''), $1) ORDER BY 1";
    let failed = || CaptureError::postgres("look for", "what is not freshbench's");
    let rows = client.query(sql, &[&MARK]).map_err(failed())?;
    rows.iter().map(|row| row.try_get(0)).collect::<Result<_, ::postgres::Error>>().map_err(failed())
}

/// Runs statements that lock one table against its writers, in a transaction of their own that does not wait for long: while
/// it waits, everybody behind it waits as well.
fn with_locks(
    client: &mut Client,
    sql: &str,
    (operation, place): (&'static str, &str),
    watch: &PgWatch,
) -> Result<(), CaptureError> {
    let failed = || CaptureError::postgres(operation, place);
    loop {
        match client.batch_execute(&format!("BEGIN; SET LOCAL lock_timeout = '500ms'; {sql}; COMMIT")) {
            Ok(()) => return Ok(()),
            Err(error) => {
                client.batch_execute("ROLLBACK").map_err(failed())?;
                let state = error.code().map(::postgres::error::SqlState::code);
                if !matches!(state, Some("55P03" | "40P01")) {
                    return Err(failed()(error));
                }
                watch.check()?;
                std::thread::sleep(std::time::Duration::from_millis(200));
            }
        }
    }
}

/// Removes changelog and triggers, table by table, and with them the schema if nothing else of this program is in it.
pub(super) fn tear_down(source: &PgSource) -> Result<(), CaptureError> {
    let options = source.options();
    let options = options.with_patience(options.patience.for_farewell());
    let mut client = source.connect()?;
    let watch = PgWatch::begin(&options, "removing triggers")?;
    watch.of_client(&mut client)?;
    let removed = unmake(source, &mut client, &watch);
    watch.end(removed)
}

fn unmake(source: &PgSource, client: &mut Client, watch: &PgWatch) -> Result<(), CaptureError> {
    let what = ("remove the changelog from", source.place());
    let failed = || CaptureError::postgres(what.0, &what.1);
    // First what needs no lock on a table: users' writes are logged no more, whenever the triggers can go.
    let disarm = "SELECT pg_catalog.string_agg('CREATE OR REPLACE FUNCTION ' || p.oid::pg_catalog.regprocedure::text
            || ' RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN NULL; END $f$', '; ')
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = '_freshbench' AND p.proname ~ '^capture_[0-9]+_[a-z]+$'
            AND pg_catalog.starts_with(coalesce(pg_catalog.obj_description(p.oid, 'pg_proc'), ''), $1)";
    let disarm: Option<String> = client.query_one(disarm, &[&MARK]).and_then(|row| row.try_get(0)).map_err(failed())?;
    client.batch_execute(&disarm.unwrap_or_default()).map_err(failed())?;
    // Whatever depends on a function that is gone, as a trigger does, goes with it.
    let sql = "SELECT pg_catalog.split_part(p.proname, '_', 2), pg_catalog.string_agg(
            'DROP FUNCTION ' || p.oid::pg_catalog.regprocedure::text || ' CASCADE', '; ')
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = '_freshbench' AND p.proname ~ '^capture_[0-9]+_[a-z]+$'
            AND pg_catalog.starts_with(coalesce(pg_catalog.obj_description(p.oid, 'pg_proc'), ''), $1) GROUP BY 1";
    for row in client.query(sql, &[&MARK]).map_err(failed())? {
        with_locks(client, row.get(1), (what.0, &what.1), watch)?;
    }
    let rest = client.batch_execute(&format!(
        "DO $$ DECLARE statement text; BEGIN
            FOR statement IN SELECT CASE c.relkind WHEN 'S' THEN 'DROP SEQUENCE ' ELSE 'DROP TABLE ' END
                    || c.oid::pg_catalog.regclass::text FROM pg_catalog.pg_class c
                JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = '_freshbench' AND pg_catalog.obj_description(c.oid, 'pg_class') = '{MARK}'
                    AND (c.relkind = 'r' AND c.relname ~ '^changelog_[0-9]+$'
                        OR c.relkind = 'S' AND c.relname = 'change_number')
                ORDER BY c.relkind DESC LOOP
                EXECUTE statement;
            END LOOP;
            IF pg_catalog.obj_description(pg_catalog.to_regnamespace('_freshbench')::oid, 'pg_namespace') = '{MARK}'
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c
                    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '_freshbench')
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc p
                    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = '_freshbench') THEN
                DROP SCHEMA _freshbench;
            END IF;
        END $$"
    ));
    rest.map_err(failed())
}

pub(super) fn changelog(id: TableId) -> String {
    format!("{OWN_SCHEMA}.changelog_{}", id.0)
}

/// As a string constant that holds any text, names with `$body$` in them too, whatever the session's settings.
fn dollar_quoted(text: &str) -> String {
    let mark = (0u32..).map(|number| format!("$f{number}$")).find(|mark| !text.contains(mark.as_str()));
    // There are more numbers than a text has places for them.
    let mark = mark.unwrap_or_default();
    format!("{mark}{text}{mark}")
}

pub(super) fn names(letter: char, count: usize) -> Vec<String> {
    (0..count).map(|place| format!("{letter}{place}")).collect()
}

/// The columns that are of a domain, by their numbers, each with the type at the domain's base.
fn base_types(client: &mut Client, table: &PgTable) -> Result<HashMap<i16, String>, CaptureError> {
    let sql = "WITH RECURSIVE base(attnum, typid, typmod) AS (
          SELECT attnum, atttypid, atttypmod FROM pg_catalog.pg_attribute
          WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
          UNION ALL SELECT b.attnum, t.typbasetype, t.typtypmod FROM base b
          JOIN pg_catalog.pg_type t ON t.oid = b.typid WHERE t.typtype = 'd')
        SELECT b.attnum, pg_catalog.format_type(b.typid, b.typmod) FROM base b
        JOIN pg_catalog.pg_type t ON t.oid = b.typid AND t.typtype <> 'd'
        JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = b.attnum AND a.atttypid <> b.typid";
    let failed = || CaptureError::postgres("read the types of table", &table.schema.name);
    let rows = client.query(sql, &[&table.oid]).map_err(failed())?;
    let pair = |row: &::postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(pair).collect::<Result<_, ::postgres::Error>>().map_err(failed())
}

/// Columns with the very types of the table's: `k` for the key before, `c` for the row after. A domain's base takes its place:
/// a change fills only some of the columns, and a domain may refuse the NULL in the others.
fn changelog_sql(id: TableId, table: &PgTable, base_types: &HashMap<i16, String>) -> String {
    let (name, schema) = (changelog(id), &table.schema);
    let column = |place: usize| match (schema.columns.get(place), table.columns.get(place)) {
        (Some(column), Some(of)) => {
            let cast = base_types.get(&of.number).map_or_else(String::new, |base| format!("::{base}"));
            format!("t.{}{cast}", quote(&column.name))
        }
        _ => String::new(),
    };
    let keys = schema.key.iter().enumerate().map(|(place, &key)| format!("{} AS k{place}", column(key)));
    let columns = (0..schema.columns.len()).map(|place| format!("{} AS c{place}", column(place)));
    let parts: Vec<String> = keys.chain(columns).collect();
    format!(
        "CREATE TABLE {name} AS SELECT {} FROM {} AS t WHERE false;
        ALTER TABLE {name}
            ADD COLUMN id bigint NOT NULL DEFAULT pg_catalog.nextval('_freshbench.change_number'),
            ADD COLUMN xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
            ADD COLUMN op \"char\" NOT NULL;
        CREATE INDEX ON {name} (xid);
        COMMENT ON TABLE {name} IS '{MARK}';",
        parts.join(", "),
        TableReader::new(table).quoted(),
    )
}

/// Whether others' triggers run before ours after a statement and may change the same rows again: any, also those before a
/// row, which may change a row that the statement changed already; foreign keys of the table to itself; and those to it that
/// pass a change on to a table from where it may come back, by a trigger or by another foreign key.
fn is_changed_behind(client: &mut Client, table: &PgTable) -> Result<bool, CaptureError> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger t
        LEFT JOIN pg_catalog.pg_constraint c ON c.oid = t.tgconstraint
        WHERE t.tgrelid = $1 AND t.tgname NOT LIKE '\\_freshbench\\_%'
            AND (NOT t.tgisinternal OR c.conrelid = c.confrelid
                OR (c.confrelid = $1 AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd'))
                    AND EXISTS (SELECT FROM pg_catalog.pg_trigger o
                        LEFT JOIN pg_catalog.pg_constraint f ON f.oid = o.tgconstraint
                        WHERE o.tgrelid = c.conrelid AND o.tgname NOT LIKE '\\_freshbench\\_%'
                            AND (NOT o.tgisinternal OR (f.confrelid = o.tgrelid
                                AND (f.confdeltype IN ('c', 'n', 'd') OR f.confupdtype IN ('c', 'n', 'd'))))))))";
    let row = client.query_one(sql, &[&table.oid]);
    Ok(row.map_err(CaptureError::postgres("look at the triggers of table", &table.schema.name))?.get(0))
}

/// Fails when the table's triggers were made to log changes in their order, and somebody's may now disturb that.
pub(super) fn check_order(client: &mut Client, id: TableId, table: &PgTable) -> Result<(), CaptureError> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = '_freshbench' AND p.proname = $1
            AND pg_catalog.obj_description(p.oid, 'pg_proc') = $2)";
    let row = client.query_one(sql, &[&format!("capture_{}_update", id.0), &IN_ORDER]);
    let in_order: bool =
        row.map_err(CaptureError::postgres("look at the functions that log table", &table.schema.name))?.get(0);
    if !in_order || !is_changed_behind(client, table)? {
        return Ok(());
    }
    let what = "it has a trigger, or a foreign key passes changes on to it, which it had not when the changelog was made, so that a \
                row may be changed twice in one statement";
    Err(SourceError::Changed { table: table.schema.name.clone(), what: what.to_owned() }.into())
}

/// Fails for what fires no triggers.
pub(super) fn fit(table: &PgTable) -> Result<(), CaptureError> {
    if matches!(table.kind, PgKind::Table | PgKind::Partitioned) {
        return Ok(());
    }
    let reason = format!("it is a {}, which fires no triggers for its changes; {}", table.kind, table.kind.remedy());
    Err(CaptureError::Unfit { table: table.schema.name.clone(), reason })
}

/// Statement triggers fire for the table that a statement names, with the rows of all that belong to it.
fn check_whole(client: &mut Client, table: &PgTable) -> Result<(), CaptureError> {
    fit(table)?;
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE $1 IN (inhparent, inhrelid)), \
        EXISTS (SELECT FROM pg_catalog.pg_subscription_rel WHERE srrelid = $1)";
    let row = client.query_one(sql, &[&table.oid]);
    let row = row.map_err(CaptureError::postgres("look at what writes to table", &table.schema.name))?;
    let (related, subscribed): (bool, bool) = (row.get(0), row.get(1));
    let reason = if related || table.kind == PgKind::Partitioned {
        "statements that name its parent, or a table that inherits from it or is a partition of it, would pass its \
            triggers by; use cdc-log"
    } else if subscribed {
        "a subscription writes to it, and its changes fire no triggers of statements; use cdc-log"
    } else {
        return Ok(());
    };
    Err(CaptureError::Unfit { table: table.schema.name.clone(), reason: reason.to_owned() })
}

/// What is to be logged after each event.
struct Bodies {
    insert: String,
    update: String,
    delete: String,
}

impl Bodies {
    /// Old keys that are gone, and new rows. A key has one row at every moment, so what came last for a key counts.
    fn of_keys(log: &str, table: &PgTable, columns: &Columns) -> Bodies {
        let Columns { k, c, .. } = columns;
        let (old, new) = (columns.key("o"), columns.key("n"));
        // A statement changes each row once, so its old keys that are no new keys are gone, whatever was swapped. Keys that the
        // database calls equal may be different values to whoever reads them, so images are compared where that can be.
        let gone = if table.key_equality_is_identity() {
            // EXCEPT, since a session plans this once, and a join planned for one row would take a large update's square.
            format!("SELECT {old} FROM old_rows AS o EXCEPT SELECT {new} FROM new_rows AS n")
        } else {
            format!(
                "SELECT {old} FROM old_rows AS o WHERE NOT EXISTS (SELECT FROM new_rows AS n
                    WHERE ROW({new})::record OPERATOR(pg_catalog.*=) ROW({old})::record)"
            )
        };
        Bodies {
            insert: format!("INSERT INTO {log}(op, {c}) SELECT '{INSERTED}', {} FROM new_rows AS n;", columns.row("n")),
            update: format!(
                "INSERT INTO {log}(op, {k}) SELECT '{DELETED}', gone.* FROM ({gone}) AS gone;
                INSERT INTO {log}(op, {c}) SELECT '{UPDATED}', {} FROM new_rows AS n;",
                columns.row("n")
            ),
            delete: format!("INSERT INTO {log}(op, {k}) SELECT '{DELETED}', {old} FROM old_rows AS o;"),
        }
    }

    /// Whole rows that went and came, which are summed up at the commit: see [`net`](crate::capture::postgres::net).
    fn of_whole_rows(log: &str, columns: &Columns) -> Bodies {
        let c = &columns.c;
        let went = format!("INSERT INTO {log}(op, {c}) SELECT '{WENT}', {} FROM old_rows AS o;", columns.row("o"));
        let came = format!("INSERT INTO {log}(op, {c}) SELECT '{CAME}', {} FROM new_rows AS n;", columns.row("n"));
        Bodies { insert: came.clone(), update: format!("{went} {came}"), delete: went }
    }
}

/// Lists of columns for SQL.
struct Columns<'a> {
    table: &'a PgTable,
    k: String,
    c: String,
}

impl Columns<'_> {
    fn list(&self, alias: &str, places: impl Iterator<Item = usize>) -> String {
        let named = places.filter_map(|place| self.table.schema.columns.get(place));
        named.map(|column| format!("{alias}.{}", quote(&column.name))).collect::<Vec<_>>().join(", ")
    }

    fn key(&self, alias: &str) -> String {
        self.list(alias, self.table.schema.key.iter().copied())
    }

    fn row(&self, alias: &str) -> String {
        self.list(alias, 0..self.table.schema.columns.len())
    }
}

/// The functions, and the triggers that call them.
fn triggers_sql(id: TableId, table: &PgTable, in_order: bool) -> (String, String) {
    let (log, schema, target) = (changelog(id), &table.schema, TableReader::new(table).quoted());
    let k = names('k', schema.key.len()).join(", ");
    let c = names('c', schema.columns.len()).join(", ");
    let columns = Columns { table, k, c };
    let bodies = if in_order { Bodies::of_keys(&log, table, &columns) } else { Bodies::of_whole_rows(&log, &columns) };
    // Without it, a join of images that was planned for one row would take a large update's square.
    let join = if in_order && !table.key_equality_is_identity() { " SET enable_nestloop = off" } else { "" };
    let truncate = format!("INSERT INTO {log}(op) VALUES('{TRUNCATED}');");
    let (mut functions, mut triggers) = (String::new(), String::new());
    let mark = if in_order { IN_ORDER } else { MARK };
    for (event, body, transition) in [
        ("insert", bodies.insert, "REFERENCING NEW TABLE AS new_rows"),
        ("update", bodies.update, "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows"),
        ("delete", bodies.delete, "REFERENCING OLD TABLE AS old_rows"),
        ("truncate", truncate, ""),
    ] {
        let function = format!("{OWN_SCHEMA}.capture_{}_{event}", id.0);
        // Writers need no right on the changelog: the function has its owner's, who sees every row. Writing to a String can't
        // fail.
        let _ = write!(
            functions,
            "CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
                SET search_path = pg_catalog, pg_temp SET row_security = off{join}
                AS {};
            COMMENT ON FUNCTION {function}() IS '{mark}';",
            dollar_quoted(&format!(" BEGIN {body} RETURN NULL; END "))
        );
        // Also where `session_replication_role` says that ordinary triggers rest, as a restore may.
        let _ = write!(
            triggers,
            "CREATE TRIGGER _freshbench_{event} AFTER {event} ON {target} {transition}
                FOR EACH STATEMENT EXECUTE FUNCTION {function}();
            ALTER TABLE {target} ENABLE ALWAYS TRIGGER _freshbench_{event};"
        );
    }
    (functions, triggers)
}
