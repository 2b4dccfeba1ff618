//! What a capture remembers of its slot, in a file beside the sinks.
//!
//! A slot has no birth certificate: one that was dropped and made again under its name looks like the old one, further on.
//! What was confirmed is known here, so a slot that is beyond that was moved by somebody else, and changes are lost.

use crate::bounded;
use crate::capture::CaptureError;
use crate::model::Lsn;
use crate::source::SourceError;
use crate::source::postgres::PgTable;
use crate::storage::private;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

const FILE: &str = "slot.json";
const NEW_FILE: &str = "slot.json.new";
/// A line for each table, and each may have 1,600 columns.
const STATE_BYTES_MAX: u64 = 256 << 20;

/// The contents of `slot.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SlotState {
    /// `IDENTIFY_SYSTEM`'s system identifier.
    pub(super) system: String,
    /// `IDENTIFY_SYSTEM`'s timeline: another one has other commits at the same positions.
    pub(super) timeline: String,
    pub(super) database: String,
    pub(super) slot: String,
    pub(super) publication: String,
    /// The tables, each with its columns and their types.
    pub(super) tables: Vec<String>,
    /// What the slot's first snapshot includes.
    pub(super) consistent_point: u64,
    /// Nothing that is followed committed behind `idle_from` and up to `idle_to`, so the slot may be anywhere between.
    pub(super) idle_from: u64,
    pub(super) idle_to: u64,
    /// What tells the publication's entries from those of one that was altered; empty where an earlier version wrote this.
    #[serde(default)]
    pub(super) publication_entries: String,
    /// The state after which a stream without an initial load began, as `pg_snapshot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) empty_since: Option<String>,
}

/// The shape of a table in one line, to be compared.
pub(super) fn shape(table: &PgTable) -> String {
    let columns = table.schema.columns.iter().zip(&table.columns);
    let columns: Vec<String> = columns.map(|(column, of)| format!("{:?} {}", column.name, of.type_name)).collect();
    let key: Vec<String> = table.schema.key_columns().map(|column| format!("{:?}", column.name)).collect();
    format!("{} ({}) key ({})", table.oid, columns.join(", "), key.join(", "))
}

/// Which table the shape is of.
pub(super) fn oid(shape: &str) -> Option<u32> {
    shape.split_once(' ').and_then(|(oid, _)| oid.parse().ok())
}

impl SlotState {
    pub(super) fn read(folder: &Path) -> Result<SlotState, CaptureError> {
        let path = folder.join(FILE);
        let text = match bounded::read(&path, STATE_BYTES_MAX) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                let reason = "there is no slot to go on with: none was left with --keep, or this is another folder; begin with a \
                    new snapshot";
                return Err(CaptureError::Slot { slot: path.display().to_string(), reason: reason.to_owned() });
            }
            text => text.map_err(SourceError::io("read", &path))?,
        };
        serde_json::from_slice(&text).map_err(|cause| CaptureError::Slot {
            slot: path.display().to_string(),
            reason: format!("is damaged ({cause}); begin with a new snapshot"),
        })
    }

    /// Durable when it returns.
    pub(super) fn write(&self, folder: &Path) -> Result<(), CaptureError> {
        let (path, new) = (folder.join(FILE), folder.join(NEW_FILE));
        let failed = || SourceError::io("write", &path);
        let text = serde_json::to_vec_pretty(self).map_err(std::io::Error::other).map_err(failed())?;
        let mut file = private::create(&new).map_err(failed())?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed())?;
        fs::rename(&new, &path).map_err(failed())?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed())?;
        Ok(())
    }

    pub(super) fn remove(folder: &Path) {
        // A file that stays is overwritten by the next setup.
        let _ = fs::remove_file(folder.join(FILE));
    }

    /// Whether a sink that is complete through `from` can go on with a slot that is at `confirmed`.
    pub(super) fn covers(&self, from: Lsn, confirmed: Lsn) -> bool {
        confirmed <= from || (from.0 >= self.idle_from && confirmed.0 <= self.idle_to)
    }
}
