//! A record system that is gone when nobody needs it any more.

use super::owned::{comment, database_name};
use crate::output::say;
use crate::source::postgres::{PgOptions, PgSource};
use crate::source::{RecordSystem, SourceError, SqliteSource};
use std::path::Path;

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
            say!("freshbench: {cause}; run freshbench cleanup");
        }
    }
}

impl Disposable {
    pub(super) fn file(source: &SqliteSource) -> Disposable {
        Disposable { system: source.into(), server: None }
    }

    /// `work` is the folder of the run, which the database is to name.
    pub(super) fn database(source: &PgSource, server: &PgOptions, work: &Path) -> Disposable {
        // A server that lacks the comment is no worse a source.
        let _ = source.say_of_it(&comment(work));
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
