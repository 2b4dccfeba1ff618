//! A state of the source at one position of its log.

use super::{PgExported, parse_lsn};
use crate::capture::CaptureError;
use crate::source::postgres::{Mode, PgOptions, PgWatch, Wire};
use std::time::Duration;

/// A slot waits for the transactions that are running, and says nothing meanwhile. The watch ends that sooner.
const SILENCE_BEYOND: Duration = Duration::from_secs(30);

/// A snapshot that includes exactly the commits up to a position. A snapshot of an ordinary transaction is at no position: a
/// commit is in the log before it is seen. The server makes one that is, when it makes a replication slot. The snapshot can
/// be taken over until this is dropped, and the slot goes then.
#[derive(Debug)]
pub struct PgFence {
    /// The snapshot and its position.
    pub exported: PgExported,
    _holder: Wire,
}

impl PgFence {
    /// Makes a temporary slot, and with it the snapshot. Waits for the transactions that are running, as long as the
    /// server's patience lasts.
    ///
    /// # Errors
    /// When the server refuses, as when it has no slot left; [`SourceError::Waited`](crate::source::SourceError::Waited) and
    /// [`SourceError::Stopped`](crate::source::SourceError::Stopped) when patience ends. Nothing is left behind then.
    pub fn make(server: &PgOptions) -> Result<PgFence, CaptureError> {
        let mut wire = Wire::connect(server, Mode::Replication)?;
        let watch = PgWatch::begin(server, "fixing the state to compare")?;
        watch.of_wire(&mut wire)?;
        wire.set_silence_max(server.patience.wait_max() + SILENCE_BEYOND);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let name = format!("freshbench_fence_{}_{:x}", std::process::id(), now.as_nanos() & u128::from(u64::MAX));
        let made = wire.query(&format!("CREATE_REPLICATION_SLOT {name} TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT"));
        let rows = watch.end(made)?;
        let exported = match rows.first().map(Vec::as_slice) {
            Some([_, Some(point), Some(snapshot), ..]) => {
                parse_lsn(point).map(|position| PgExported { name: snapshot.clone(), position })
            }
            _ => None,
        };
        let reason = "the server does not say where it begins; report this".to_owned();
        let exported = exported.ok_or(CaptureError::Slot { slot: name, reason })?;
        Ok(PgFence { exported, _holder: wire })
    }
}
