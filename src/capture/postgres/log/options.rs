//! What a capture of the log is told.

use super::slot_error;
use super::state::SlotState;
use crate::capture::CaptureError;
use crate::clock::Clock;
use crate::source::postgres::PgOptions;
use std::path::PathBuf;
use std::time::Duration;

/// What the slots and publications that this program makes are called at the front.
pub const SLOT_PREFIX: &str = "freshbench_";
/// The server's limit for a name.
const NAME_BYTES_MAX: usize = 63;

/// Which slot of which server, and the limits.
#[derive(Clone, Debug)]
pub struct LogCaptureOptions {
    /// The server and the database.
    pub server: PgOptions,
    /// The slot: small letters, digits and underscores.
    pub slot: String,
    /// The publication. One whose name begins with [`SLOT_PREFIX`] is made and removed; another one has to be there.
    pub publication: String,
    /// A folder of this capture's own, beside the sinks': `slot.json`, and unfinished transactions beyond the memory.
    pub folder: PathBuf,
    /// What unfinished transactions may take in memory together; beyond it they go to files.
    pub memory_bytes_max: usize,
    /// The longest transaction, encoded. A whole one is held in memory at its commit, by the capture and by whoever reads
    /// the log, so this should be no more than `log::LogOptions::transaction_bytes_max`.
    pub transaction_bytes_max: u64,
    /// Changes of one poll are not many more bytes than this.
    pub poll_bytes_max: usize,
    /// How often the server is told what is confirmed. Must be well below its `wal_sender_timeout`.
    pub status_interval: Duration,
    /// How long the server may say nothing, asked for a sign of life.
    pub silence_max: Duration,
    /// The clock of arrivals.
    pub clock: Clock,
}

impl LogCaptureOptions {
    /// 64 MiB of memory for unfinished transactions, transactions of 1 GiB, polls of 32 MiB, a status every second, two
    /// minutes of silence. Slot and publication are both called `freshbench_{name}`.
    pub fn new(server: PgOptions, name: &str, folder: PathBuf, clock: Clock) -> LogCaptureOptions {
        LogCaptureOptions {
            server,
            slot: format!("{SLOT_PREFIX}{name}"),
            publication: format!("{SLOT_PREFIX}{name}"),
            folder,
            memory_bytes_max: 64 << 20,
            transaction_bytes_max: 1 << 30,
            poll_bytes_max: 32 << 20,
            status_interval: Duration::from_secs(1),
            silence_max: Duration::from_secs(120),
            clock,
        }
    }

    /// The same for the slot that the folder remembers, whatever its name.
    ///
    /// # Errors
    /// [`CaptureError::Slot`] when it remembers none.
    pub fn of_folder(self) -> Result<LogCaptureOptions, CaptureError> {
        let SlotState { slot, publication, .. } = SlotState::read(&self.folder)?;
        Ok(LogCaptureOptions { slot, publication, ..self })
    }

    pub(super) fn own_publication(&self) -> bool {
        self.publication.starts_with(SLOT_PREFIX)
    }
}

/// Slots have narrower rules than other names; the server's own message would come after the publication was made.
pub(super) fn check_name(slot: &str) -> Result<(), CaptureError> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if slot.is_empty() || slot.len() > NAME_BYTES_MAX || !slot.chars().all(fits) {
        let rule =
            format!("a slot's name has 1 to {NAME_BYTES_MAX} small letters, digits and underscores; choose another");
        return Err(slot_error(slot, &rule));
    }
    Ok(())
}
