//! What a server and its tables lack for each way of following them, and how to mend it.
//!
//! Sources: the chapters "Logical Replication" (sections "Publication", "Security" and "Configuration Settings") and
//! "Logical Decoding" of PostgreSQL's documentation.

use super::name::PgTableName;
use super::options::{PgHost, PgOptions};
use super::room::{PgNeeds, limits, read_only};
use super::table::{PgKeyOrigin, PgKind, PgReplicaIdentity, PgTable};
use crate::source::{OWN_PREFIX, SourceError};
use ::postgres::{Client, Row};

/// The oldest version that is supported, as `server_version_num` has it.
const VERSION_MIN: i32 = 140_000;
/// What the names of slots and publications of this program begin with.
const OWN_OBJECTS: &str = "freshbench_";

/// Readers of a load, on a machine with many cores.
const READERS_MAX: usize = 16;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgVerdict {
    /// As it should be.
    Ok,
    /// Works, but should be known.
    Note,
    /// Something will fail, or was left behind.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgFinding {
    /// What was looked at, as in `wal_level`.
    pub check: &'static str,
    /// The table, where it is about one.
    pub table: Option<String>,
    /// How bad it is.
    pub verdict: PgVerdict,
    /// What was found.
    pub found: String,
    /// What to do about it; for [`PgVerdict::Ok`] nothing.
    pub remedy: Option<String>,
}

impl PgFinding {
    fn ok(check: &'static str, found: impl Into<String>) -> PgFinding {
        PgFinding { check, table: None, verdict: PgVerdict::Ok, found: found.into(), remedy: None }
    }

    fn worse(check: &'static str, verdict: PgVerdict, found: String, remedy: impl Into<String>) -> PgFinding {
        PgFinding { check, table: None, verdict, found, remedy: Some(remedy.into()) }
    }

    fn missing(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> PgFinding {
        PgFinding::worse(check, PgVerdict::Missing, found.into(), remedy)
    }

    fn note(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> PgFinding {
        PgFinding::worse(check, PgVerdict::Note, found.into(), remedy)
    }

    fn of(mut self, table: &PgTable) -> PgFinding {
        self.table = Some(table.schema.name.clone());
        self
    }
}

const SERVER: &str = "SELECT current_setting('server_version_num')::int4, current_setting('server_version'), \
    current_setting('wal_level'), pg_catalog.pg_is_in_recovery(), current_setting('synchronous_commit'), \
    (SELECT version FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid() AND ssl), \
    current_database()::text, pg_catalog.has_database_privilege(current_database(), 'CREATE'), \
    r.rolname::text, r.rolsuper OR r.rolreplication, r.rolsuper, pg_catalog.pg_encoding_to_char( \
      (SELECT encoding FROM pg_catalog.pg_database WHERE datname = current_database()))::text \
    FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

/// Looks over a server, and its tables: those named, else all that are tables.
///
/// # Errors
/// When the server can't be reached, or its catalogs can't be read.
pub fn examine(options: &PgOptions, names: Option<&[PgTableName]>) -> Result<Vec<PgFinding>, SourceError> {
    let mut client = options.connect()?;
    let place = options.place();
    let failed = || SourceError::postgres("look over", &place);
    let row = client.query_one(SERVER, &[]).map_err(failed())?;
    let mut findings = vec![PgFinding::ok("reachable", &place)];
    if options.reached.pooled() == Some(true) {
        findings.push(PgFinding::note(
            "pooler",
            "a pooler answers, and keeps a session for each client",
            "for cdc-log name the server itself: most poolers have no replication connections",
        ));
    }
    let role: String = row.try_get(8).map_err(failed())?;
    server(&row, options, &mut findings).map_err(failed())?;
    room(&mut client, &mut findings).map_err(failed())?;
    leftovers(&mut client, &mut findings).map_err(failed())?;
    let known;
    let names = match names {
        Some(names) => names,
        None => {
            known = all_tables(&mut client, &place)?;
            &known
        }
    };
    for name in names {
        match PgTable::discover(&mut client, name) {
            Ok(found) => table(&mut client, &found, &role, &mut findings).map_err(failed())?,
            Err(error @ SourceError::Table { .. }) => {
                findings.push(PgFinding::missing("table", error.to_string(), "check --tables"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(findings)
}

fn all_tables(client: &mut Client, place: &str) -> Result<Vec<PgTableName>, SourceError> {
    let sql = "SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition \
        AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_(catalog|toast|temp)' ORDER BY 1, 2";
    let failed = || SourceError::postgres("read the tables of", place);
    let mut names = Vec::new();
    for row in client.query(sql, &[]).map_err(failed())? {
        let (schema, table): (String, String) = (row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?);
        if !table.starts_with(OWN_PREFIX) {
            names.push(PgTableName { schema: Some(schema), table, folds: false });
        }
    }
    Ok(names)
}

fn server(row: &Row, options: &PgOptions, findings: &mut Vec<PgFinding>) -> Result<(), ::postgres::Error> {
    let (number, version): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    findings.push(if number >= VERSION_MIN {
        PgFinding::ok("version", version)
    } else {
        PgFinding::missing("version", version, "use PostgreSQL 14 or newer")
    });
    let wal_level: String = row.try_get(2)?;
    findings.push(if wal_level == "logical" {
        PgFinding::ok("wal_level", wal_level)
    } else {
        let remedy = "ALTER SYSTEM SET wal_level = logical; then restart the server (needed by cdc-log alone)";
        PgFinding::missing("wal_level", wal_level, remedy)
    });
    if row.try_get(3)? {
        let remedy = "name the primary server: a publication can't be made here";
        findings.push(PgFinding::missing("primary", "the server is a standby in recovery", remedy));
    }
    let synchronous: String = row.try_get(4)?;
    findings.push(match synchronous.as_str() {
        "off" => PgFinding::note(
            "synchronous_commit",
            "off: a crash of the server may take back commits that were acknowledged",
            "ALTER SYSTEM SET synchronous_commit = on, unless that is what is to be measured",
        ),
        _ => PgFinding::ok("synchronous_commit", synchronous),
    });
    let tls: Option<String> = row.try_get(5)?;
    let local = match options.host() {
        PgHost::Socket(_) => true,
        PgHost::Tcp(host) => host == "localhost" || host == "::1" || host.starts_with("127."),
    };
    findings.push(match tls {
        Some(version) => PgFinding::ok("tls", version),
        None if local => PgFinding::ok("tls", "none, and the connection stays on this machine"),
        None => PgFinding::note("tls", "none", "set ssl = on at the server and sslmode=verify-full in the URL"),
    });
    let encoding: String = row.try_get(11)?;
    if encoding == "SQL_ASCII" {
        let remedy =
            "values that are not UTF-8 will be refused, by table, column and row; convert the database to UTF8";
        findings.push(PgFinding::note("encoding", encoding, remedy));
    }
    rights(row, findings)
}

/// What is left of slots, senders and connections, and whether anything may be made.
fn room(client: &mut Client, findings: &mut Vec<PgFinding>) -> Result<(), ::postgres::Error> {
    let readers = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, READERS_MAX);
    for limit in limits(client, &PgNeeds::to_follow_the_log(readers))? {
        findings.push(match limit.suffices() {
            true => PgFinding::ok(limit.check, limit.found()),
            false => PgFinding::missing(limit.check, limit.found(), limit.remedy()),
        });
    }
    if let Some((found, remedy)) = read_only(client)? {
        findings.push(PgFinding::missing("read_only", found, format!("{remedy} (needed by cdc-log and cdc-trigger)")));
    }
    Ok(())
}

fn rights(row: &Row, findings: &mut Vec<PgFinding>) -> Result<(), ::postgres::Error> {
    let (database, role): (String, String) = (row.try_get(6)?, row.try_get(8)?);
    let (database, quoted) = (crate::source::quote(&database), crate::source::quote(&role));
    findings.push(if row.try_get(9)? {
        PgFinding::ok("replication", format!("role {role} may replicate"))
    } else {
        let remedy = format!("ALTER ROLE {quoted} REPLICATION (needed by cdc-log alone)");
        PgFinding::missing("replication", format!("role {role} may not replicate"), remedy)
    });
    findings.push(if row.try_get(7)? {
        PgFinding::ok("create", format!("role {role} may create a publication"))
    } else {
        let remedy = format!("GRANT CREATE ON DATABASE {database} TO {quoted}, or make the publication yourself");
        PgFinding::missing("create", format!("role {role} may not create a publication in {database}"), remedy)
    });
    Ok(())
}

/// Slots, publications and triggers of this program that nobody uses any more.
fn leftovers(client: &mut Client, findings: &mut Vec<PgFinding>) -> Result<(), ::postgres::Error> {
    // In a LIKE pattern _ stands for any letter.
    let pattern = format!("{}%", OWN_OBJECTS.replace('_', "\\_"));
    let own = format!("{}%", OWN_PREFIX.replace('_', "\\_"));
    let slots = client.query(
        "SELECT slot_name::text, active, coalesce(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() \
         THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn), 0)::int8 \
         FROM pg_catalog.pg_replication_slots WHERE slot_name LIKE $1 AND database = current_database() ORDER BY 1",
        &[&pattern],
    )?;
    for slot in slots {
        let (name, active, kept): (String, bool, i64) = (slot.try_get(0)?, slot.try_get(1)?, slot.try_get(2)?);
        findings.push(if active {
            PgFinding::ok("slot", format!("{name} is in use"))
        } else {
            let found = format!("slot {name} is left over and keeps {kept} bytes of log");
            let remedy = format!("freshbench attach --cleanup, or SELECT pg_drop_replication_slot('{name}')");
            PgFinding::missing("slot", found, remedy)
        });
    }
    let objects = client.query(
        "SELECT 'publication', pubname::text FROM pg_catalog.pg_publication WHERE pubname LIKE $1 \
         UNION ALL SELECT 'trigger', t.tgname::text || ' on ' || c.oid::regclass::text FROM pg_catalog.pg_trigger t \
         JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
         WHERE NOT t.tgisinternal AND (t.tgname LIKE $1 OR t.tgname LIKE $2) \
         UNION ALL SELECT 'table', c.oid::regclass::text FROM pg_catalog.pg_class c \
         WHERE c.relkind = 'r' AND c.relname LIKE $2 ORDER BY 1, 2",
        &[&pattern, &own],
    )?;
    for object in objects {
        let (kind, name): (String, String) = (object.try_get(0)?, object.try_get(1)?);
        let remedy = "unless a freshbench is running now: freshbench attach --cleanup";
        findings.push(PgFinding::missing("leftover", format!("{kind} {name}"), remedy));
    }
    Ok(())
}

fn table(
    client: &mut Client,
    table: &PgTable,
    role: &str,
    findings: &mut Vec<PgFinding>,
) -> Result<(), ::postgres::Error> {
    let row = client.query_one(
        "SELECT pg_catalog.has_table_privilege($1::oid, 'SELECT'), pg_catalog.pg_has_role(c.relowner, 'USAGE'), \
         c.relpersistence::text, pg_catalog.row_security_active(c.oid), \
         pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') FROM pg_catalog.pg_class c WHERE c.oid = $1",
        &[&table.oid],
    )?;
    let (quoted, role) = (table.quoted(), crate::source::quote(role));
    let mut add = |finding: PgFinding| findings.push(finding.of(table));
    if !matches!(table.kind, PgKind::Table | PgKind::Partitioned) {
        add(PgFinding::missing("kind", format!("a {}: it has no log", table.kind), table.kind.remedy()));
        return Ok(());
    }
    add(match (row.try_get(4)?, row.try_get(0)?) {
        (true, true) => PgFinding::ok("select", "may be read"),
        (false, _) => {
            let remedy = format!("GRANT USAGE ON SCHEMA {} TO {role}", crate::source::quote(&table.schema_name));
            PgFinding::missing("select", "its schema may not be used", remedy)
        }
        (_, false) => PgFinding::missing("select", "may not be read", format!("GRANT SELECT ON {quoted} TO {role}")),
    });
    if row.try_get(3)? {
        let remedy = format!("ALTER ROLE {role} BYPASSRLS");
        add(PgFinding::missing("row_security", "a policy hides rows from this role", remedy));
    }
    add(if row.try_get(1)? {
        PgFinding::ok("owner", "may be added to a publication")
    } else {
        let owner = crate::source::quote(&table.owner);
        let remedy = format!("GRANT {owner} TO {role}, or let its owner make the publication");
        PgFinding::missing("owner", format!("belongs to {}, who alone may publish it", table.owner), remedy)
    });
    if row.try_get::<_, &str>(2)? == "u" {
        let remedy = format!("ALTER TABLE {quoted} SET LOGGED");
        add(PgFinding::missing("persistence", "unlogged: its changes are not in the log", remedy));
    }
    for finding in identity(table) {
        add(finding);
    }
    Ok(())
}

fn identity(table: &PgTable) -> Vec<PgFinding> {
    let quoted = table.quoted();
    let columns = |places: &[usize]| -> String {
        let names = places.iter().filter_map(|&place| table.schema.columns.get(place));
        names.map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let mut found = vec![match table.key_origin {
        PgKeyOrigin::None => PgFinding::missing("key", "no key", format!("ALTER TABLE {quoted} ADD PRIMARY KEY (..)")),
        _ => PgFinding::ok("key", columns(&table.schema.key)),
    }];
    found.push(match &table.replica_identity {
        PgReplicaIdentity::PrimaryKey => PgFinding::ok("replica_identity", "the primary key"),
        PgReplicaIdentity::Index(places) => {
            PgFinding::ok("replica_identity", format!("an index on {}", columns(places)))
        }
        PgReplicaIdentity::Full if table.settles_at_commit() => {
            PgFinding::ok("replica_identity", "full, as a deferrable primary key needs it")
        }
        PgReplicaIdentity::Full => PgFinding::note(
            "replica_identity",
            "full: each update and delete writes the whole old row to the log",
            format!("ALTER TABLE {quoted} REPLICA IDENTITY DEFAULT, where it has a primary key"),
        ),
        PgReplicaIdentity::Nothing => PgFinding::missing(
            "replica_identity",
            "none: updates and deletes fail once the table is published",
            match table.key_origin {
                PgKeyOrigin::Deferrable => {
                    format!("ALTER TABLE {quoted} REPLICA IDENTITY FULL, since its primary key is deferrable")
                }
                PgKeyOrigin::Primary => format!("ALTER TABLE {quoted} REPLICA IDENTITY DEFAULT"),
                PgKeyOrigin::UniqueIndex => format!("ALTER TABLE {quoted} REPLICA IDENTITY USING INDEX .."),
                _ => format!("ALTER TABLE {quoted} ADD PRIMARY KEY (..), or REPLICA IDENTITY FULL"),
            },
        ),
    });
    if table.has_generated() {
        let names: Vec<usize> =
            (0..table.columns.len()).filter(|&n| table.columns.get(n).is_some_and(|c| c.generated.is_some())).collect();
        found.push(PgFinding::note(
            "generated",
            format!("generated columns: {}", columns(&names)),
            "the replication stream leaves them out; load has them",
        ));
    }
    if table.kind == PgKind::Partitioned {
        let what = format!("{} partitions", table.leaves.len());
        found.push(PgFinding::ok("partitions", what));
    }
    if let Some((_, schema, name)) = &table.partition_of {
        let root = super::name::model_name(schema, name);
        found.push(PgFinding::note("partition", format!("a partition of {root}"), format!("follow {root} instead")));
    }
    found
}
