//! Whether a publication still has all that is followed.
//!
//! The server applies a publication to each change as it decodes it, and says nothing of what it leaves out.

use super::options::LogCaptureOptions;
use super::state::SlotState;
use crate::capture::CaptureError;
use crate::source::SourceError;
use crate::source::postgres::{PgKind, PgTable};
use ::postgres::Client;

/// What a server says of a publication, as far as some tables go.
#[derive(Debug)]
pub(super) struct Publication {
    /// What it leaves out of the changes, each in words with the remedy.
    pub(super) lacks: Vec<Lack>,
    /// Its catalog entries, each with the transaction that wrote it.
    pub(super) entries: String,
    /// Whether a table was dropped, and its entry with it: no fault of whoever sees to the publication.
    pub(super) dropped: bool,
}

/// One thing that a publication leaves out.
#[derive(Debug)]
pub(super) struct Lack {
    what: String,
    remedy: &'static str,
}

impl Lack {
    fn new(what: impl Into<String>, remedy: &'static str) -> Lack {
        Lack { what: what.into(), remedy }
    }
}

impl std::fmt::Display for Lack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

impl Publication {
    /// `None` if there is none of this name.
    pub(super) fn read(
        client: &mut Client,
        options: &LogCaptureOptions,
        tables: &[PgTable],
    ) -> Result<Option<Publication>, CaptureError> {
        let failed = || SourceError::postgres("read the publication at", options.server.place());
        let sql = "SELECT pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot, oid::text || ' ' || xmin::text \
            FROM pg_catalog.pg_publication WHERE pubname = $1";
        let Some(row) = client.query_opt(sql, &[&options.publication]).map_err(failed())? else { return Ok(None) };
        let (all, via_root, mut entries): (bool, bool, String) =
            (row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?, row.try_get(2).map_err(failed())?);
        let (mut lacks, mut dropped) = (Vec::new(), false);
        if !all {
            let remedy = "set publish = 'insert, update, delete, truncate'";
            lacks.push(Lack::new("it leaves some kind of change out", remedy));
        }
        // Filters and lists of columns are there from version 15 on.
        let sql = "SELECT r.prrelid IS NOT NULL OR EXISTS (SELECT FROM pg_catalog.pg_publication_tables t \
              JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname \
              JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
              WHERE t.pubname = p.pubname AND c.oid = $2), \
            pg_catalog.to_jsonb(r) ->> 'prqual' IS NOT NULL, pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL, \
            coalesce(r.oid::text || ' ' || r.xmin::text, ''), \
            EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = $2) \
            FROM pg_catalog.pg_publication p \
            LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = $2 WHERE p.pubname = $1";
        for table in tables {
            let name = table.quoted();
            if table.kind == PgKind::Partitioned && !via_root {
                lacks.push(Lack::new("it has a partitioned table", "set publish_via_partition_root = true"));
            }
            let Some(row) = client.query_opt(sql, &[&options.publication, &table.oid]).map_err(failed())? else {
                return Ok(None);
            };
            let (there, filtered, listed): (bool, bool, bool) = (
                row.try_get(0).map_err(failed())?,
                row.try_get(1).map_err(failed())?,
                row.try_get(2).map_err(failed())?,
            );
            if !row.try_get::<_, bool>(4).map_err(failed())? {
                dropped = true;
                continue;
            }
            if !there {
                lacks.push(Lack::new(format!("it has no table {name}"), "add it"));
            }
            if filtered {
                lacks.push(Lack::new(format!("it has a row filter for table {name}"), "remove its WHERE"));
            }
            if listed {
                lacks.push(Lack::new(format!("it has a list of columns for table {name}"), "remove that"));
            }
            entries.push_str(", ");
            entries.push_str(&row.try_get::<_, String>(3).map_err(failed())?);
        }
        Ok(Some(Publication { lacks, entries, dropped }))
    }
}

/// In words, with the remedy, what somebody did to the publication since the stream was set up; `None` if nobody did anything.
pub(super) fn altered(options: &LogCaptureOptions, tables: &[PgTable]) -> Result<Option<String>, CaptureError> {
    let begun = SlotState::read(&options.folder)?.publication_entries;
    let mut client = options.server.connect()?;
    let what = match Publication::read(&mut client, options, tables)? {
        None => "it is not there any more".to_owned(),
        // One that this program made goes with the stream: nobody has to mend it.
        Some(now) if !now.lacks.is_empty() => {
            let own = options.own_publication();
            let lacks = now.lacks.into_iter().map(|lack| if own { lack.what } else { lack.to_string() });
            lacks.collect::<Vec<_>>().join("; ")
        }
        Some(now) if !begun.is_empty() && !now.dropped && now.entries != begun => {
            "it has all that is followed again".to_owned()
        }
        Some(_) => return Ok(None),
    };
    Ok(Some(format!(
        "publication {:?} was altered while it was followed, and the server sent no change that it left out: {what}; then begin \
         again in an empty folder",
        options.publication
    )))
}
