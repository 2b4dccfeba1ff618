//! Whether a server has room for all that following takes at once: slots, senders of the log, connections.
//!
//! A second slot and a second sender are needed at the end, when the first are still in use: the state to compare is one where
//! a slot begins. Sources: the sections "Replication" and "Connections and Authentication" of the chapter "Server
//! Configuration", `CREATE ROLE` and `CREATE DATABASE` of PostgreSQL's documentation. Processes that others run are counted by
//! views that everybody may read; a few of the server's own may be counted with them.

use super::options::PgOptions;
use crate::source::{SourceError, quote};
use ::postgres::{Client, Row};

/// What following takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PgNeeds {
    slots: i64,
    senders: i64,
    /// Ordinary connections.
    connections: i64,
    /// Whether something is made in the database.
    makes: bool,
}

/// Beside the readers of a load that a stream goes on behind: who says that it is in use, who holds the snapshot, one that
/// fixes its state, one that looks whether a table was altered, one that watches, the stream's own, and one to spare.
const OF_LOAD: i64 = 7;
/// Beside the readers of one that is read while following: heartbeat and counts too, or a cursor that changes its connection.
const OF_REFRESH: i64 = 9;
/// While a stream is followed: who says that it is in use, heartbeat, counts, a look at the slot, the log's end, and a watch;
/// at the end a snapshot of one reader and a look at its tables.
const FOLLOWING: i64 = 9;

impl PgNeeds {
    /// To load with so many readers and to follow the log: one slot all the time, one more at the end.
    pub fn to_follow_the_log(readers: usize) -> PgNeeds {
        PgNeeds { slots: 2, senders: 2, ..PgNeeds::of_triggers(readers) }
    }

    /// To go on with a slot that is there.
    pub fn to_resume_the_log() -> PgNeeds {
        PgNeeds { slots: 1, senders: 2, connections: FOLLOWING, makes: false }
    }

    /// To load and to follow by triggers.
    pub fn of_triggers(readers: usize) -> PgNeeds {
        PgNeeds { makes: true, ..PgNeeds::beside(OF_LOAD, readers) }
    }

    /// To read all rows again and again.
    pub fn to_read(readers: usize) -> PgNeeds {
        PgNeeds::beside(OF_REFRESH, readers)
    }

    fn beside(others: i64, readers: usize) -> PgNeeds {
        let loading = others.saturating_add(i64::try_from(readers).unwrap_or(i64::MAX));
        PgNeeds { slots: 0, senders: 0, connections: loading.max(FOLLOWING), makes: false }
    }
}

/// One limit of the server's, and what is left of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// As in `replication_slots`.
    pub(super) check: &'static str,
    /// What sets it, as in `max_replication_slots`.
    setting: String,
    most: i64,
    used: i64,
    needed: i64,
    why: &'static str,
    remedy: String,
}

impl Limit {
    pub(super) fn suffices(&self) -> bool {
        self.most - self.used >= self.needed
    }

    /// What there is, as in "1 of 4 in use".
    pub(super) fn found(&self) -> String {
        let Limit { most, used, needed, setting, why, .. } = self;
        match self.suffices() {
            true => format!("{used} of {most} in use"),
            false => format!("{used} of {most} in use ({setting}), and {needed} free ones are needed: {why}"),
        }
    }

    pub(super) fn remedy(&self) -> String {
        format!("end what is not needed, or {}", self.remedy)
    }
}

const LIMITS: &str = "WITH others AS MATERIALIZED (SELECT a.pid, a.usename, a.datname, a.datid, a.backend_type, s.pid AS sender \
      FROM pg_catalog.pg_stat_activity a LEFT JOIN pg_catalog.pg_stat_replication s USING (pid) \
      WHERE a.pid <> pg_catalog.pg_backend_pid() \
      AND coalesce(a.backend_type, 'client backend') IN ('client backend', 'walsender')) \
    SELECT current_setting('max_replication_slots')::int8, (SELECT count(*) FROM pg_catalog.pg_replication_slots), \
      current_setting('max_wal_senders')::int8, (SELECT count(*) FROM pg_catalog.pg_stat_replication), \
      current_setting('max_connections')::int8, \
      CASE WHEN r.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::int8 \
        + coalesce(nullif(current_setting('reserved_connections', true), '')::int8, 0) END, \
      (SELECT count(*) FROM others WHERE datid IS NOT NULL AND sender IS NULL), \
      CASE WHEN r.rolsuper OR r.rolconnlimit < 0 THEN NULL ELSE r.rolconnlimit::int8 END, \
      (SELECT count(*) FROM others WHERE usename = r.rolname), \
      CASE WHEN r.rolsuper OR d.datconnlimit < 0 THEN NULL ELSE d.datconnlimit::int8 END, \
      (SELECT count(*) FROM others WHERE datname = d.datname), r.rolname::text, d.datname::text \
    FROM pg_catalog.pg_roles r, pg_catalog.pg_database d WHERE r.rolname = current_user AND d.datname = current_database()";

/// Every limit, those of connections with the narrowest only.
pub(super) fn limits(client: &mut Client, needs: &PgNeeds) -> Result<Vec<Limit>, ::postgres::Error> {
    let row = client.query_one(LIMITS, &[])?;
    let of_server = |check, setting: &str, place: usize, needed: i64, why| -> Result<Limit, ::postgres::Error> {
        let (most, used): (i64, i64) = (row.try_get(place)?, row.try_get(place + 1)?);
        // Somewhat more, or the next one who needs one will be short of it.
        let remedy = format!("ALTER SYSTEM SET {setting} = {}; then restart the server", most.max(used + needed) + 10);
        Ok(Limit { check, setting: setting.to_owned(), most, used, needed, why, remedy })
    };
    let why = "one to follow, and one at the end to compare";
    let slots = of_server("replication_slots", "max_replication_slots", 0, needs.slots, why)?;
    let senders = of_server("wal_senders", "max_wal_senders", 2, needs.senders, why)?;
    let connections = connections(&row, needs)?;
    let narrowest = connections.into_iter().min_by_key(|limit| limit.most - limit.used - limit.needed);
    Ok([slots, senders].into_iter().chain(narrowest).collect())
}

fn connections(row: &Row, needs: &PgNeeds) -> Result<Vec<Limit>, ::postgres::Error> {
    let (most, kept, used): (i64, i64, i64) = (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?);
    let (of_role, by_role): (Option<i64>, i64) = (row.try_get(7)?, row.try_get(8)?);
    let (of_database, in_database): (Option<i64>, i64) = (row.try_get(9)?, row.try_get(10)?);
    let (role, database): (String, String) = (row.try_get(11)?, row.try_get(12)?);
    let why = "to load by several readers, to follow and to watch";
    let limit = |setting: &str, most, used, needed, remedy| Limit {
        check: "connections",
        setting: setting.to_owned(),
        most,
        used,
        needed,
        why,
        remedy,
    };
    let needed = needs.connections;
    let setting = if kept > 0 { "max_connections without those reserved for superusers" } else { "max_connections" };
    let more = format!("ALTER SYSTEM SET max_connections = {}; then restart the server", used + needed + kept + 10);
    let mut found = vec![limit(setting, most - kept, used, needed, more)];
    // Unlike the server's, these count the senders of the log as well.
    let needed = needed + needs.senders;
    if let Some(most) = of_role {
        let more = format!("ALTER ROLE {} CONNECTION LIMIT {}", quote(&role), by_role + needed);
        found.push(limit("the role's CONNECTION LIMIT", most, by_role, needed, more));
    }
    if let Some(most) = of_database {
        let more = format!("ALTER DATABASE {} CONNECTION LIMIT {}", quote(&database), in_database + needed);
        found.push(limit("the database's CONNECTION LIMIT", most, in_database, needed, more));
    }
    Ok(found)
}

/// Why nothing can be made in the database, and what to do; `None` when it can.
pub(super) fn read_only(client: &mut Client) -> Result<Option<(String, String)>, ::postgres::Error> {
    let sql = "SELECT pg_catalog.pg_is_in_recovery(), s.setting = 'on', s.source, current_user::text, current_database()::text \
        FROM pg_catalog.pg_settings s WHERE s.name = 'default_transaction_read_only'";
    let row = client.query_one(sql, &[])?;
    let (standby, on, source): (bool, bool, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if standby || !on {
        return Ok(None);
    }
    let (role, database): (String, String) = (row.try_get(3)?, row.try_get(4)?);
    let (role, database) = (quote(&role), quote(&database));
    let remedy = match source.as_str() {
        "user" => format!("ALTER ROLE {role} RESET default_transaction_read_only"),
        "database" => format!("ALTER DATABASE {database} RESET default_transaction_read_only"),
        "database user" => format!("ALTER ROLE {role} IN DATABASE {database} RESET default_transaction_read_only"),
        "client" => "leave it out of the connection's options".to_owned(),
        _ => format!("ALTER ROLE {role} SET default_transaction_read_only = off, or turn it off for the server"),
    };
    let found =
        format!("default_transaction_read_only is on (set by: {source}), so publication and triggers can't be made");
    Ok(Some((found, remedy)))
}

/// Refuses a server that has no room for what is needed, is a standby, or lets nothing be made that has to be made.
///
/// # Errors
/// [`SourceError::Options`] with setting, number, and remedy; [`SourceError::Postgres`] when the server can't be asked.
pub fn require_room(options: &PgOptions, needs: &PgNeeds) -> Result<(), SourceError> {
    let place = options.place();
    let failed = || SourceError::postgres("look for room at", &place);
    let mut client = options.connect()?;
    let refused = |found: &str, remedy: &str| SourceError::Options { what: format!("{place}: {found}; {remedy}") };
    let standby =
        client.query_one("SELECT pg_catalog.pg_is_in_recovery()", &[]).and_then(|row| row.try_get::<_, bool>(0));
    if standby.map_err(failed())? {
        return Err(refused(
            "the server is a standby in recovery, where nothing can be made",
            "name the primary server",
        ));
    }
    if let Some((found, remedy)) = read_only(&mut client).map_err(failed())?.filter(|_| needs.makes) {
        return Err(refused(&found, &remedy));
    }
    match limits(&mut client, needs).map_err(failed())?.iter().find(|limit| !limit.suffices()) {
        Some(limit) => Err(refused(&format!("{}: {}", limit.check.replace('_', " "), limit.found()), &limit.remedy())),
        None => Ok(()),
    }
}
