//! The rows of a snapshot once more, for whoever judges a copy of them.
//!
//! The judge shares the snapshot's state with the reader that it judges, and nothing that the reader found out about it: it finds
//! the tables again in that state, and reads a partitioned table as anybody's SELECT does, through its root.

use super::PgSnapshot;
use crate::capture::CaptureError;
use crate::model::{TableId, ValueRef};
use crate::source::SourceError;
use crate::source::postgres::{PgCut, PgKept, PgScratch, PgTable};

/// Tables of a snapshot, found again.
#[derive(Debug)]
pub struct PgJudge<'a> {
    snapshot: &'a PgSnapshot,
    tables: Vec<PgTable>,
}

impl<'a> PgJudge<'a> {
    /// Finds what became of the tables of the start, and holds them against these.
    ///
    /// # Errors
    /// [`SourceError::Changed`] when rows of now do not fit where those of the start went.
    pub fn of(snapshot: &'a PgSnapshot, expected: &[PgTable], kept: PgKept) -> Result<PgJudge<'a>, CaptureError> {
        Ok(PgJudge { snapshot, tables: snapshot.find_again(expected, kept)? })
    }

    /// The tables as they are in the snapshot.
    pub fn tables(&self) -> &[PgTable] {
        &self.tables
    }

    /// Hands every row of a table to `each`, in column order; only those whose newest version is not of `since`, if that is
    /// given. Returns how many.
    ///
    /// # Errors
    /// When the server fails, a value does not fit, or `each` fails.
    pub fn scan<E: From<CaptureError>>(
        &self,
        table: TableId,
        since: Option<&PgCut>,
        each: &mut dyn FnMut(&[ValueRef<'_>]) -> Result<(), E>,
    ) -> Result<u64, E> {
        let of = self.tables.get(table.index()).ok_or_else(|| {
            let what = format!("there is no table number {} to judge", table.0);
            CaptureError::Source(SourceError::Table { what })
        })?;
        let condition = since.map(changed_since);
        let mut scratch = PgScratch::default();
        let sql = of.copy_whole_sql(None, None, condition.as_deref());
        self.snapshot.copy_rows(0, of, &sql, &mut |fields| {
            let row = of.decode(fields, &mut scratch).map_err(|error| E::from(CaptureError::Source(error)))?;
            each(&row)
        })
    }
}

/// Of the rows' 32 bits of a transaction's number the newest transaction is meant that has them and is in the snapshot. Numbers
/// below 3 are no transactions.
fn changed_since(cut: &PgCut) -> String {
    let top = "(SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint)";
    format!(
        "xmin::text::bigint >= 3 AND NOT pg_catalog.pg_visible_in_snapshot(({top} - ((({top} - xmin::text::bigint) \
         % 4294967296) + 4294967296) % 4294967296)::text::pg_catalog.xid8, '{}'::pg_catalog.pg_snapshot)",
        cut.text()
    )
}
