//! A record system that is gone when nobody needs it any more.

use crate::output::say;
use crate::source::postgres::{PgOptions, PgSource};
use crate::source::{RecordSystem, SourceError, SqliteSource};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// A source of this run alone. Dropping it drops the database that was made for it on a server; a file goes with its folder.
#[derive(Debug)]
pub(super) struct Disposable {
    system: RecordSystem,
    server: Option<PgOptions>,
}

impl Drop for Disposable {
    fn drop(&mut self) {
        if let Err(cause) = self.system.remove(self.server.as_ref()) {
            // Nobody is left to hand it to, and the figures are what they are.
            say!("freshbench: {cause}; drop the database by hand");
        }
    }
}

impl Disposable {
    pub(super) fn file(source: &SqliteSource) -> Disposable {
        Disposable { system: source.into(), server: None }
    }

    pub(super) fn database(source: &PgSource, server: &PgOptions) -> Disposable {
        Disposable { system: source.into(), server: Some(server.clone()) }
    }

    pub(super) fn system(&self) -> &RecordSystem {
        &self.system
    }

    /// A copy with the same rows, for one case.
    pub(super) fn copy_for(&self, name: &str, folder: &Path) -> Result<Disposable, SourceError> {
        let system = self.system.copy_for(&database_name(name), folder, self.server.as_ref())?;
        Ok(Disposable { system, server: self.server.clone() })
    }
}

/// A name that no other run on the same server has.
pub(super) fn database_name(of: &str) -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let of = of.replace('-', "_");
    format!("freshbench_{:x}_{}_{number}_{of}", now.as_millis(), std::process::id()).chars().take(63).collect()
}
