//! That a process of this program is at work, as an advisory lock that a clean-up can see from any database of the server.
//!
//! A run has databases that nobody is connected to between two cases, and an attach has a slot that nobody uses while its rows
//! are loaded. To a clean-up both look like what a killed process left behind. The lock is gone when its process is, at once.

use super::connect::RECONNECT_PAUSE;
use super::options::PgOptions;
use crate::source::error::SourceError;
use ::postgres::Client;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The class of these locks: the letters of "fres".
const CLASS: i32 = 0x6672_6573;
/// How often the connection is looked at: a server that restarts has forgotten the lock.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Held until it is dropped.
#[derive(Debug)]
pub struct PgHold {
    end: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl PgHold {
    /// Says to the server that the user of `name` is at work.
    ///
    /// # Errors
    /// When the server can't be reached, or refuses.
    pub fn take(options: &PgOptions, name: &str) -> Result<PgHold, SourceError> {
        let (mut client, key, options) = (take(options, key(name))?, key(name), options.clone());
        let (end, ended) = channel();
        let keep = move || {
            let mut wait = LOOK_EVERY;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = LOOK_EVERY;
                if client.is_valid(LOOK_EVERY).is_err() {
                    match take(&options, key) {
                        Ok(again) => client = again,
                        Err(_) => wait = RECONNECT_PAUSE,
                    }
                }
            }
        };
        let keeper = std::thread::Builder::new().name("app-hold".to_owned()).spawn(keep);
        let keeper = keeper.map_err(SourceError::broken("start a thread for", "the lock of a process at work"))?;
        Ok(PgHold { end: Some(end), keeper: Some(keeper) })
    }

    /// Whether somebody holds it, in any database of the server.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn is_taken(client: &mut Client, name: &str) -> Result<bool, SourceError> {
        PgHold::holders(client, name).map(|count| count > 0)
    }

    /// How many hold it, in all databases of the server.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn holders(client: &mut Client, name: &str) -> Result<i64, SourceError> {
        let sql = "SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted
            AND classid::int8 = $1 AND objid::int8 = $2 AND objsubid = 2";
        let (class, key) = (i64::from(CLASS.cast_unsigned()), i64::from(key(name).cast_unsigned()));
        let failed = || SourceError::postgres("look for processes at work, for", name);
        client.query_one(sql, &[&class, &key]).and_then(|row| row.try_get(0)).map_err(failed())
    }
}

impl Drop for PgHold {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

fn take(options: &PgOptions, key: i32) -> Result<Client, SourceError> {
    let mut client = options.connect()?;
    let failed = || SourceError::postgres("say that a process is at work to", options.place());
    client.execute("SELECT pg_catalog.pg_advisory_lock_shared($1, $2)", &[&CLASS, &key]).map_err(failed())?;
    Ok(client)
}

fn key(name: &str) -> i32 {
    let hash = xxhash_rust::xxh3::xxh3_64(name.as_bytes()) & u64::from(u32::MAX);
    u32::try_from(hash).unwrap_or_default().cast_signed()
}
