//! How a cache is built.

#[cfg(feature = "redis")]
use std::fmt;

/// Where the entries are.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(not(feature = "redis"), derive(Debug))]
pub enum CacheStore {
    /// In this process. Nothing of it survives the process.
    Memory,
    /// On a Redis server (not a Redis Cluster: one script touches keys of several slots).
    #[cfg(feature = "redis")]
    Redis {
        /// `redis://user:password@host:port/database`. Never shown with user and password.
        url: String,
    },
}

#[cfg(feature = "redis")]
impl fmt::Display for CacheStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheStore::Memory => f.write_str("memory"),
            CacheStore::Redis { url } => f.write_str(&without_secret(url)),
        }
    }
}

#[cfg(not(feature = "redis"))]
impl std::fmt::Display for CacheStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("memory")
    }
}

#[cfg(feature = "redis")]
impl fmt::Debug for CacheStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CacheStore::Memory => f.write_str("Memory"),
            CacheStore::Redis { url } => f.debug_struct("Redis").field("url", &without_secret(url)).finish(),
        }
    }
}

/// A URL's scheme, host and path, for messages and results. Everything up to the last `@` may be user or password (a
/// password may hold any character, also unescaped), and a query may hold secrets as well.
pub fn without_secret(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "(not a URL)".to_owned() };
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let place = place.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{place}")
}

/// Who puts entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheFill {
    /// The change stream puts the rows it carries.
    #[default]
    Stream,
    /// The stream only invalidates; a reader that misses loads the row from the source and fills it in.
    Aside,
}

/// Which of two writes to one key stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheConflict {
    /// The one of the newer position, in whatever order they arrive. The later to arrive when positions are equal.
    #[default]
    NewerWins,
    /// The one that arrives last: the naive dual write, which lets an older value win for good.
    LastWrite,
}

/// How a cache is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// Where the entries are.
    pub store: CacheStore,
    /// Who puts them.
    pub fill: CacheFill,
    /// Which of two writes stays.
    pub conflict: CacheConflict,
    /// The most entries a table may have, in process; `None` is no bound. On Redis the server's own `maxmemory` bounds it.
    pub entries_max: Option<u64>,
    /// What the names of all keys on a Redis server begin with. A cache whose prefix is given here is left on the server
    /// when it is dropped, and can be opened again; `None` takes a new random one, and removes the keys at the end.
    pub prefix: Option<String>,
}

impl Default for CacheOptions {
    fn default() -> CacheOptions {
        CacheOptions {
            store: CacheStore::Memory,
            fill: CacheFill::default(),
            conflict: CacheConflict::default(),
            entries_max: None,
            prefix: None,
        }
    }
}

#[cfg(all(test, feature = "redis"))]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "redis://me:se/cr@et@host:6379/0?password=secret",
            "redis://:secret@host:6379/0",
            "rediss://secret@host:6379/0#secret",
            "secret",
        ] {
            let store = CacheStore::Redis { url: url.to_owned() };
            for shown in [
                store.to_string(),
                format!("{store:?}"),
                format!("{:?}", CacheOptions { store, ..CacheOptions::default() }),
            ] {
                assert!(!shown.contains("se/cr") && !shown.contains("secret"), "{shown}");
                assert!(url == "secret" || shown.contains("host:6379/0"), "{shown}");
            }
        }
    }
}
