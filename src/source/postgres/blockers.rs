//! Whose transactions others wait for, in words for a person.
//!
//! Everybody may read `pg_locks`, so the process is always known; what it does is hidden from a role that is neither its
//! own nor a member of `pg_read_all_stats`. Source: the chapters "System Views" and "Monitoring Database Activity" of
//! PostgreSQL's documentation.

use crate::foreign::terminal;
use ::postgres::{Client, Row};
use std::collections::{BTreeMap, BTreeSet};

/// Letters of a statement that are shown; what is behind the first literal never is.
const STATEMENT_CHARS_MAX: usize = 60;
/// So many are named, of others the number is said.
const NAMED_MAX: usize = 3;

/// Transactions that have a number and have not ended, in whatever database of the server, each with its process; a prepared
/// one has none.
pub(super) type OpenTransactions = BTreeMap<u64, Option<i32>>;

/// Those whom somebody waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Blockers {
    processes: BTreeSet<i32>,
    /// The numbers of prepared transactions, which have no process.
    prepared: BTreeSet<u64>,
}

impl Blockers {
    pub(super) fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.prepared.is_empty()
    }

    /// Those of a process that waits for a lock.
    pub(super) fn of_process(client: &mut Client, process: i32) -> Result<Blockers, ::postgres::Error> {
        let pids: Vec<i32> = client.query_one("SELECT pg_catalog.pg_blocking_pids($1)", &[&process])?.get(0);
        let mut found = Blockers::default();
        found.processes.extend(pids.iter().copied().filter(|&pid| pid > 0));
        if pids.contains(&0) {
            // A prepared transaction has no process, and one more lock: on its own number.
            let sql = "SELECT DISTINCT own.transactionid::text::int8 \
                FROM pg_catalog.pg_locks mine JOIN pg_catalog.pg_locks theirs ON theirs.pid IS NULL AND theirs.granted \
                AND theirs.locktype = mine.locktype AND theirs.database IS NOT DISTINCT FROM mine.database \
                AND theirs.relation IS NOT DISTINCT FROM mine.relation \
                AND theirs.transactionid IS NOT DISTINCT FROM mine.transactionid \
                JOIN pg_catalog.pg_locks own ON own.pid IS NULL AND own.locktype = 'transactionid' AND own.granted \
                AND own.mode = 'ExclusiveLock' AND own.virtualtransaction = theirs.virtualtransaction \
                WHERE mine.pid = $1 AND NOT mine.granted";
            for row in client.query(sql, &[&process])? {
                found.prepared.insert(row.get::<_, i64>(0).unsigned_abs());
            }
        }
        Ok(found)
    }

    /// Those who have these transactions open.
    pub(super) fn of_transactions(open: &OpenTransactions) -> Blockers {
        let mut found = Blockers::default();
        for (&number, process) in open {
            match process {
                Some(process) => drop(found.processes.insert(*process)),
                None => drop(found.prepared.insert(number)),
            }
        }
        found
    }

    /// Who they are, what they do and how to end them. Empty when they have ended meanwhile.
    pub(super) fn in_words(&self, client: &mut Client) -> Result<String, ::postgres::Error> {
        let mut all = Vec::new();
        let pids: Vec<i32> = self.processes.iter().copied().collect();
        let sql = "SELECT pid, usename::text, datname::text, state, query, current_user::text, \
            extract(epoch FROM pg_catalog.clock_timestamp() - xact_start)::float8, \
            extract(epoch FROM pg_catalog.clock_timestamp() - query_start)::float8, pg_catalog.pg_blocking_pids(pid) \
            FROM pg_catalog.pg_stat_activity WHERE pid = ANY($1) ORDER BY xact_start NULLS LAST, pid";
        for row in client.query(sql, &[&pids])? {
            all.push(session(&row)?);
        }
        let numbers: Vec<String> = self.prepared.iter().map(u64::to_string).collect();
        let sql = "SELECT gid, owner::text, database::text, \
            extract(epoch FROM pg_catalog.clock_timestamp() - prepared)::float8 \
            FROM pg_catalog.pg_prepared_xacts WHERE transaction::text = ANY($1) ORDER BY prepared";
        for row in client.query(sql, &[&numbers])? {
            let (gid, owner, database): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let literal = gid.replace('\'', "''");
            all.push(format!(
                "the prepared transaction {gid:?} of role {owner} in database {database}, prepared {} ago (end it there with \
                 COMMIT PREPARED '{}' or ROLLBACK PREPARED)",
                lasting(row.try_get(3)?),
                terminal(&literal)
            ));
        }
        let others = all.len().saturating_sub(NAMED_MAX);
        all.truncate(NAMED_MAX);
        if others > 0 {
            all.push(format!("{others} more"));
        }
        Ok(all.join("; and for "))
    }
}

/// Every transaction of the server that has a number: its lock on that number lasts as long as it does.
pub(super) fn open_transactions(client: &mut Client) -> Result<OpenTransactions, ::postgres::Error> {
    let sql = "SELECT transactionid::text::int8, pid FROM pg_catalog.pg_locks \
        WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted AND pid IS DISTINCT FROM \
        pg_catalog.pg_backend_pid()";
    let rows = client.query(sql, &[])?;
    rows.iter().map(|row| Ok((row.try_get::<_, i64>(0)?.unsigned_abs(), row.try_get(1)?))).collect()
}

fn session(row: &Row) -> Result<String, ::postgres::Error> {
    let pid: i32 = row.try_get(0)?;
    let text = |place| row.try_get::<_, Option<String>>(place).map(Option::unwrap_or_default);
    let (user, database, state, query, role) = (text(1)?, text(2)?, text(3)?, text(4)?, text(5)?);
    let (open, asked): (Option<f64>, Option<f64>) = (row.try_get(6)?, row.try_get(7)?);
    let waits: Vec<i32> = row.try_get(8)?;
    let place = match (user.as_str(), database.as_str()) {
        ("", _) => String::new(),
        (user, "") => format!(", role {user}"),
        (user, database) => format!(", role {user}, database {database}"),
    };
    let what = if state.is_empty() {
        format!(
            "what it does is hidden from role {role}: GRANT pg_read_all_stats TO {} shows it",
            crate::source::quote(&role)
        )
    } else {
        let open = open.map(|open| format!(", its transaction open for {}", lasting(open))).unwrap_or_default();
        let asked = asked.map(|asked| format!(", its statement begun {} ago", lasting(asked))).unwrap_or_default();
        format!("{state}{open}{asked}: {}", opening(&query))
    };
    let waits = match waits.iter().find(|&&other| other != 0) {
        Some(other) => format!(", and waits itself for pid {other}"),
        None => String::new(),
    };
    Ok(format!("pid {pid}{place} ({what}{waits}; end its transaction, or SELECT pg_terminate_backend({pid}))"))
}

/// The first letters of a statement, and nothing of its literals, which may be secret.
fn opening(statement: &str) -> String {
    let statement = statement.trim().trim_end_matches(';');
    let shown = statement.find(['\'', '$']).and_then(|literal| statement.get(..literal));
    let mut letters = shown.unwrap_or(statement).split_whitespace().collect::<Vec<_>>().join(" ");
    let whole = shown.is_none() && letters.chars().count() <= STATEMENT_CHARS_MAX;
    letters = terminal(&letters).chars().take(STATEMENT_CHARS_MAX).collect();
    if whole { letters } else { format!("{letters}..") }
}

fn lasting(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..120 => format!("{whole} s"),
        120..7_200 => format!("{} min", whole / 60),
        _ => format!("{} h", whole / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_shows_how_it_begins_and_no_literal() {
        assert_eq!(opening("update  t\n set a = 1;"), "update t set a = 1");
        assert_eq!(opening("ALTER ROLE r PASSWORD 'secret'"), "ALTER ROLE r PASSWORD..");
        assert_eq!(opening("SELECT $$secret$$"), "SELECT..");
        assert_eq!(opening(&"x".repeat(100)), format!("{}..", "x".repeat(60)));
        assert_eq!(opening("SELECT \u{1b}[31m"), "SELECT \\u{1b}[31m");
        assert_eq!([0.4, 119.9, 120.0, 7_200.0].map(lasting), ["0 s", "119 s", "2 min", "2 h"]);
    }
}
