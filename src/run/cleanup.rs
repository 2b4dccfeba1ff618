//! What processes that were killed left behind: databases of runs, slots, publications and triggers of attaches, folders.
//!
//! Only what shows by itself that it was made here is ever removed, and nothing that a live process may still use:
//!
//! | what | is ours by | is in use while |
//! |---|---|---|
//! | database | the digits at its name's end, which follow from the rest | its process holds an advisory lock, or anybody is connected |
//! | slot | the marked publication of its name | it is active, or its attach holds an advisory lock |
//! | publication | its comment, whatever its name is | its slot is |
//! | changelog, triggers | the comments on schema `_freshbench` and on what is in it | a capture or an attach holds an advisory lock |
//! | folder | the file `run.lock` in a folder of our name | that file is locked, or a process has just left it to the next |

use super::fresh::is_beginning;
use super::owned::{FOLDERS, MARK, PREFIX, folder_of, looks_older, token_of};
use super::{RunError, StrategyError};
use crate::capture::CaptureError;
use crate::capture::postgres::{PgTriggerCapture, SLOT_PREFIX, drop_publication, drop_slot, find_leftovers};
use crate::source::postgres::{PgHold, PgOptions, PgSource};
use crate::source::{SourceError, quote};
use ::postgres::Client;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A server needs a moment to notice that a client was killed, more of it when it is copying a database for that client.
const NOTICE_PATIENCE: Duration = Duration::from_secs(10);
/// How deep below a folder of results the folders of runs are looked for.
const DEPTH_MAX: usize = 5;

/// A kind of thing that a process may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// A database that was made for a run.
    Database(String),
    /// A replication slot.
    Slot(String),
    /// A publication.
    Publication(String),
    /// The changelog of the database, with its triggers.
    Changelog,
    /// A folder of a run.
    Folder(PathBuf),
    /// Something that is no business of ours, though its name begins like ours.
    Foreign(String),
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leftover::Database(name) => write!(f, "database {name}"),
            Leftover::Slot(name) => write!(f, "slot {name}"),
            Leftover::Publication(name) => write!(f, "publication {name}"),
            Leftover::Changelog => f.write_str("the changelog and its triggers"),
            Leftover::Folder(path) => write!(f, "folder {}", path.display()),
            Leftover::Foreign(what) => f.write_str(what),
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub what: Leftover,
    /// Why it stays, if it does.
    pub stays: Option<String>,
}

fn left(what: Leftover) -> Found {
    Found { what, stays: None }
}

fn stays(what: Leftover, why: impl Into<String>) -> Found {
    Found { what, stays: Some(why.into()) }
}

fn capture_failed(cause: CaptureError) -> RunError {
    match cause {
        CaptureError::Source(cause) => RunError::Source(cause),
        cause => RunError::Strategy { strategy: "cleanup", cause: Box::new(StrategyError::from(cause)) },
    }
}

/// What is left at a server, in the order in which it is to be removed: databases of runs in all of it, and of attaches what is in the
/// database of the URL.
///
/// # Errors
/// When the server can't be asked.
pub fn find_at(server: &PgOptions) -> Result<Vec<Found>, RunError> {
    let mut client = server.connect()?;
    let mut found = databases(&mut client)?;
    found.extend(find_in_database(server, &mut client)?);
    found.extend(slots_elsewhere(&mut client)?);
    Ok(found)
}

/// What attaches left in the database that the client is connected to.
///
/// # Errors
/// When the server can't be asked.
pub fn find_in_database(server: &PgOptions, client: &mut Client) -> Result<Vec<Found>, RunError> {
    const USED: &str = "it is in use";
    let state = |what, used: bool| if used { stays(what, USED) } else { left(what) };
    let leftovers = find_leftovers(client).map_err(capture_failed)?;
    let mut found = Vec::new();
    for (slot, used) in &leftovers.slots {
        found.push(state(Leftover::Slot(slot.clone()), *used));
    }
    for (publication, of_slot) in leftovers.publications {
        let used =
            leftovers.slots.iter().any(|(slot, used)| *slot == of_slot && *used) || PgHold::is_taken(client, &of_slot)?;
        found.push(state(Leftover::Publication(publication), used));
    }
    if PgTriggerCapture::is_set_up(client).map_err(capture_failed)? {
        let used = PgTriggerCapture::is_in_use(client).map_err(capture_failed)?
            || PgHold::is_taken(client, &PgTriggerCapture::hold_name(&server.database))?;
        found.push(state(Leftover::Changelog, used));
    }
    let unproven = PgTriggerCapture::unproven(client).map_err(capture_failed)?;
    let why = "nothing shows that freshbench made it; remove it by hand if it did";
    found.extend(leftovers.unproven.into_iter().chain(unproven).map(|what| stays(Leftover::Foreign(what), why)));
    Ok(found)
}

/// Slots are the server's, and each is of one database.
fn slots_elsewhere(client: &mut Client) -> Result<Vec<Found>, RunError> {
    let sql = "SELECT slot_name::text, database::text FROM pg_catalog.pg_replication_slots \
        WHERE starts_with(slot_name::text, $1) AND database <> current_database() ORDER BY 1";
    let failed = || SourceError::postgres("look for slots at", "the server");
    let mut found = Vec::new();
    for row in client.query(sql, &[&SLOT_PREFIX]).map_err(failed())? {
        let (slot, database): (String, String) = (row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?);
        // One of a run's database goes or stays with that.
        if token_of(&database).is_none() {
            let why = format!("it belongs to database {database}; give the URL of that one");
            found.push(stays(Leftover::Foreign(format!("slot {slot}")), why));
        }
    }
    Ok(found)
}

fn databases(client: &mut Client) -> Result<Vec<Found>, RunError> {
    wait_for_copies(client)?;
    let sql = "SELECT datname::text, coalesce(pg_catalog.shobj_description(oid, 'pg_database'), '') \
        FROM pg_catalog.pg_database WHERE starts_with(datname::text, $1) ORDER BY 1";
    let failed = || SourceError::postgres("look for databases at", "the server");
    let mut found = Vec::new();
    let mut folders = Vec::new();
    for row in client.query(sql, &[&PREFIX]).map_err(failed())? {
        let (name, comment): (String, String) = (row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?);
        if token_of(&name).is_some() {
            let used = used_by(client, &name)?;
            if used.is_none() {
                folders.extend(folder_of(&comment).filter(|folder| is_run_folder(folder)));
            }
            found.push(Found { what: Leftover::Database(name), stays: used });
        } else if looks_older(&name) {
            let why = "its name is of an earlier version, which does not prove whose it is; drop it by hand";
            found.push(stays(Leftover::Database(name), why));
        }
    }
    found.extend(folders.into_iter().map(of_folder));
    Ok(found)
}

/// Who uses a run's database, in words.
fn used_by(client: &mut Client, name: &str) -> Result<Option<String>, RunError> {
    let Some(token) = token_of(name) else { return Ok(Some("it is no run's".to_owned())) };
    let sql = "SELECT (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = $1 \
        AND backend_type IN ('client backend', 'walsender')) + \
        (SELECT count(*) FROM pg_catalog.pg_replication_slots WHERE database = $1 AND active)";
    let until = Instant::now() + NOTICE_PATIENCE;
    loop {
        if PgHold::is_taken(client, token)? {
            return Ok(Some("a run is using it".to_owned()));
        }
        let failed = || SourceError::postgres("look for users of database", name);
        let users: i64 = client.query_one(sql, &[&name]).and_then(|row| row.try_get(0)).map_err(failed())?;
        match users {
            0 => return Ok(None),
            _ if Instant::now() > until => return Ok(Some(format!("{users} connections use it"))),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// A server goes on copying a database for a client that is gone, and nobody sees the database until it has done so.
fn wait_for_copies(client: &mut Client) -> Result<(), RunError> {
    let sql = "SELECT query FROM pg_catalog.pg_stat_activity WHERE state = 'active' AND query LIKE $1";
    let pattern = format!("CREATE DATABASE \"{}%", PREFIX.replace('_', "\\_"));
    let failed = || SourceError::postgres("look for copies at", "the server");
    let until = Instant::now() + NOTICE_PATIENCE;
    while Instant::now() < until {
        let mut under_way = false;
        for row in client.query(sql, &[&pattern]).map_err(failed())? {
            let query: String = row.try_get(0).map_err(failed())?;
            let token = query.split('"').nth(1).and_then(token_of);
            under_way |= token.map_or(Ok(false), |token| PgHold::is_taken(client, token).map(|taken| !taken))?;
        }
        if !under_way {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Folders of runs below `root`. A link is not followed.
pub fn find_below(root: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            if is_run_folder(&path) {
                found.push(of_folder(path));
            } else if depth < DEPTH_MAX {
                folders.push((path, depth + 1));
            }
        }
    }
    found.sort_by_key(|found| found.what.to_string());
    found
}

fn is_run_folder(path: &Path) -> bool {
    let named = path.file_name().and_then(|name| name.to_str());
    let named = named.is_some_and(|name| FOLDERS.iter().any(|prefix| name.starts_with(prefix)));
    let is = |path: &Path, what: fn(&fs::Metadata) -> bool| fs::symlink_metadata(path).is_ok_and(|found| what(&found));
    named && is(path, fs::Metadata::is_dir) && is(&path.join(MARK), fs::Metadata::is_file)
}

fn of_folder(path: PathBuf) -> Found {
    let used = in_use(&path);
    Found { what: Leftover::Folder(path), stays: used }
}

/// Why a folder is not free, if so. Changes nothing.
fn in_use(folder: &Path) -> Option<String> {
    let mark = folder.join(MARK);
    let file = match File::open(&mark) {
        Ok(file) => file,
        Err(cause) => return Some(format!("its {MARK} can't be opened: {cause}")),
    };
    match file.try_lock() {
        Ok(()) => is_beginning(folder).then(|| "a run is about to go on in it".to_owned()),
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&mark).unwrap_or_default();
            Some(format!("a run is using it ({})", holder.trim()))
        }
        Err(TryLockError::Error(cause)) => Some(format!("its {MARK} can't be locked: {cause}")),
    }
}

/// Removes what was found, unless somebody has begun to use it meanwhile. What stays is left alone.
///
/// # Errors
/// When the server or the file system refuses.
pub fn remove(server: Option<&PgOptions>, found: &Found) -> Result<(), RunError> {
    if found.stays.is_some() {
        return Ok(());
    }
    let connect = || match server {
        Some(server) => Ok((server, server.connect()?)),
        None => Err(RunError::measuring("a server is needed for that; give --source")),
    };
    match &found.what {
        Leftover::Database(name) => drop_database(&mut connect()?.1, name),
        Leftover::Slot(name) => drop_slot(&mut connect()?.1, name).map_err(capture_failed),
        Leftover::Publication(name) => drop_publication(&mut connect()?.1, name).map_err(capture_failed),
        Leftover::Changelog => {
            PgTriggerCapture::teardown(&PgSource::adopt(connect()?.0, Vec::new())).map_err(capture_failed)
        }
        Leftover::Folder(path) => match in_use(path) {
            Some(why) => Err(RunError::measuring(format!("{}: {why}", path.display()))),
            None => fs::remove_dir_all(path).map_err(|cause| RunError::Io { path: path.clone(), cause }),
        },
        Leftover::Foreign(_) => Ok(()),
    }
}

/// Without force: who is connected would be thrown out.
fn drop_database(client: &mut Client, name: &str) -> Result<(), RunError> {
    if let Some(why) = used_by(client, name)? {
        return Err(RunError::measuring(format!("database {name}: {why}")));
    }
    let slots = "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots \
        WHERE database = $1 AND NOT active";
    let failed = || SourceError::postgres("remove the database", name);
    client.execute(slots, &[&name]).map_err(failed())?;
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {}", quote(name))).map_err(failed())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::owned;

    #[test]
    fn a_folder_that_is_in_use_or_not_ours_stays() {
        let base = tempfile::tempdir().unwrap();
        let make = |name: &str, marked: bool| {
            let path = base.path().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("data"), "x").unwrap();
            marked.then(|| owned::mark(&path).unwrap())
        };
        drop(make("reports/r/work-dead", true));
        let live = make("reports/s/work-live", true);
        make("reports/t/work-unmarked", false);
        drop(make("reports/t/mine", true));
        std::os::unix::fs::symlink(base.path().join("reports/r/work-dead"), base.path().join("reports/work-link"))
            .unwrap();
        let found = find_below(base.path());
        let names: Vec<(String, bool)> = found
            .iter()
            .map(|found| {
                (found.what.to_string().rsplit('/').next().unwrap_or_default().to_owned(), found.stays.is_some())
            })
            .collect();
        assert_eq!(names, [("work-dead".to_owned(), false), ("work-live".to_owned(), true)]);
        found.iter().for_each(|found| remove(None, found).unwrap());
        // One that was free when it was found, and is in use by now.
        remove(None, &left(Leftover::Folder(base.path().join("reports/s/work-live")))).unwrap_err();
        drop(live);
        assert!(!base.path().join("reports/r/work-dead").exists());
        for kept in ["reports/s/work-live/data", "reports/t/work-unmarked/data", "reports/t/mine/data"] {
            assert!(base.path().join(kept).exists(), "{kept}");
        }
    }
}
