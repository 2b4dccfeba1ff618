//! A Redis server, and the keys of one cache on it.

use super::CacheError;
use super::redis_scripts::Scripts;
use crate::model::{KeyRef, Lsn};
use redis::{Connection, FromRedisValue, RedisResult, Script, ScriptInvocation};
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A server that is asked to put a thousand entries answers within milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_MAX: usize = 16;
/// Keys looked at in one step of a walk through all keys.
const SCAN_COUNT: u32 = 1_000;

/// A server, the connections to it, and the prefix of the cache's keys.
pub(super) struct Server {
    client: redis::Client,
    pub(super) scripts: Scripts,
    pub(super) place: String,
    pub(super) prefix: String,
    pub(super) meta: String,
    idle: Mutex<Vec<Connection>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Server {
    /// Connects, so that a server that is not there is noticed now. Without a prefix a random one is taken.
    pub(super) fn connect(url: &str, prefix: Option<&str>) -> Result<Server, CacheError> {
        let setting = |what: &str| CacheError::Setting { what: what.to_owned() };
        if prefix.is_some_and(str::is_empty) {
            return Err(setting("the prefix of a cache's keys is empty; give it a name of its own"));
        }
        let client = redis::Client::open(url).map_err(|error| {
            // Not with the URL in it: a password may be what is wrong with it.
            setting(&format!("the URL of the Redis server is of no use ({error}); write redis://host:port/database"))
        })?;
        let prefix = prefix.map_or_else(random_prefix, str::to_owned);
        let info = client.get_connection_info();
        let place = format!("Redis at {}, database {}, prefix {prefix:?}", info.addr(), info.redis_settings().db());
        let (meta, idle) = (format!("{prefix}:meta"), Mutex::default());
        let server = Server { client, scripts: Scripts::new(), place, prefix, meta, idle };
        server.with("reach", |connection| redis::cmd("PING").exec(connection))?;
        Ok(server)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_connection(&self) -> RedisResult<Connection> {
        let connection = self.client.get_connection_with_timeout(CONNECT_TIMEOUT)?;
        connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(connection)
    }

    /// Does something with a connection of its own. One that failed is not used again: an answer may still be under way.
    pub(super) fn with<T>(
        &self,
        operation: &'static str,
        ask: impl FnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, CacheError> {
        let failed = |error: redis::RedisError| match error.code() {
            Some("GONE") => CacheError::Missing { place: self.place.clone() },
            _ => CacheError::Server { operation, place: self.place.clone(), cause: error.into() },
        };
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.open_connection().map_err(failed)?,
        };
        let answer = ask(&mut connection).map_err(failed)?;
        let mut idle = self.idle();
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
        Ok(answer)
    }

    /// Runs a script on the cache's `meta` key.
    pub(super) fn run<T: FromRedisValue>(
        &self,
        operation: &'static str,
        script: &Script,
        arguments: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, CacheError> {
        let mut call = script.key(self.meta.as_str());
        arguments(&mut call);
        self.with(operation, |connection| call.invoke(connection))
    }

    /// A field of the cache's `meta` hash.
    pub(super) fn meta_field<T: FromRedisValue>(&self, field: &str) -> Result<T, CacheError> {
        self.with("read", |connection| redis::cmd("HGET").arg(&self.meta).arg(field).query(connection))
    }

    /// A generation number that no other has.
    pub(super) fn new_generation(&self) -> Result<u64, CacheError> {
        let field = "next";
        self.with("write to", |connection| redis::cmd("HINCRBY").arg(&self.meta).arg(field).arg(1).query(connection))
    }

    /// What the keys of a generation of a table begin with.
    pub(super) fn base(&self, generation: u64, table: u32) -> String {
        format!("{}:{generation}:{table}:", self.prefix)
    }

    /// Calls `each` with batches of all keys that begin with `base`. A key may come twice.
    pub(super) fn scan(
        &self,
        base: &str,
        mut each: impl FnMut(Vec<Vec<u8>>) -> Result<(), CacheError>,
    ) -> Result<(), CacheError> {
        let pattern = format!("{}*", escaped(base));
        let mut cursor = 0u64;
        loop {
            let (next, keys): (u64, Vec<Vec<u8>>) = self.with("read", |connection| {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN_COUNT).query(connection)
            })?;
            if !keys.is_empty() {
                each(keys)?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// All keys that begin with `base`, each once.
    pub(super) fn keys(&self, base: &str) -> Result<HashSet<Vec<u8>>, CacheError> {
        let mut all = HashSet::new();
        self.scan(base, |keys| {
            all.extend(keys);
            Ok(())
        })?;
        Ok(all)
    }

    /// Removes all keys that begin with `base`, in batches.
    pub(super) fn remove(&self, base: &str) -> Result<(), CacheError> {
        self.scan(base, |keys| {
            self.with("remove keys from", |connection| redis::cmd("UNLINK").arg(keys).exec(connection))
        })
    }
}

fn random_prefix() -> String {
    // Each `RandomState` has keys of its own, seeded by the system.
    format!("freshbench:{:016x}", RandomState::new().build_hasher().finish())
}

/// Special characters of Redis' patterns, taken literally.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// The last part of an entry's key.
pub(super) fn suffix_of(key: KeyRef<'_>) -> Vec<u8> {
    match key {
        KeyRef::Int(key) => format!("i{key}").into_bytes(),
        KeyRef::Encoded(bytes) => [b"e", bytes].concat(),
    }
}

/// A position as the server has it.
pub(super) fn position_bytes(position: Lsn) -> [u8; 8] {
    position.0.to_be_bytes()
}

/// The reverse of [`position_bytes`]; zero for what is no position.
pub(super) fn position_of(bytes: Option<Vec<u8>>) -> Lsn {
    Lsn(bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes))
}
