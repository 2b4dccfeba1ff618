//! The connection that the capture and its status sender share.
//!
//! The server ends a connection that says nothing for `wal_sender_timeout`. So the status is sent by a thread of its own,
//! whatever the consumer does: a consumer that is slow, or has stopped polling, holds up the stream and nothing else.

use super::pause::Pause;
use crate::model::Lsn;
use crate::source::SourceError;
use crate::source::postgres::Wire;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds from 1970-01-01 to 2000-01-01.
const EPOCH_US: u64 = 946_684_800_000_000;

#[derive(Debug)]
struct Shared {
    wire: Mutex<Wire>,
    received: AtomicU64,
    confirmed: AtomicU64,
    stopped: Mutex<bool>,
    stop: Condvar,
}

/// A connection whose server is told in time that we live, and what is confirmed.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    pause: Pause,
    sender: Option<JoinHandle<()>>,
}

impl Link {
    /// Takes over a stream that was started.
    pub(super) fn new(wire: Wire, from: Lsn, confirmed: Lsn, interval: Duration) -> Result<Link, SourceError> {
        let pause = Pause::of(&wire);
        let shared = Arc::new(Shared {
            wire: Mutex::new(wire),
            received: AtomicU64::new(from.0),
            confirmed: AtomicU64::new(confirmed.0),
            stopped: Mutex::new(false),
            stop: Condvar::new(),
        });
        let of_sender = Arc::clone(&shared);
        let spawned = std::thread::Builder::new().name("pg-status".to_owned()).spawn(move || {
            send_until_stopped(&of_sender, interval);
        });
        let sender = spawned.map_err(|_| SourceError::Thread { name: "pg-status".to_owned() })?;
        Ok(Link { shared, pause, sender: Some(sender) })
    }

    /// The connection. Hold it for as long as a poll takes, no longer.
    pub(super) fn wire(&self) -> MutexGuard<'_, Wire> {
        self.shared.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How its reader pauses while there is a backlog.
    pub(super) fn pause(&self) -> Pause {
        self.pause
    }

    /// Says what the next status is to tell.
    pub(super) fn set(&self, received: Lsn, confirmed: Lsn) {
        self.shared.received.fetch_max(received.0, Ordering::AcqRel);
        self.shared.confirmed.fetch_max(confirmed.0, Ordering::AcqRel);
    }

    /// What the status tells as confirmed.
    pub(super) fn confirmed(&self) -> Lsn {
        Lsn(self.shared.confirmed.load(Ordering::Acquire))
    }

    /// Sends the status now.
    pub(super) fn send(&self, wire: &mut Wire, ask_for_answer: bool) -> Result<(), SourceError> {
        send(&self.shared, wire, ask_for_answer)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        *self.shared.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.stop.notify_all();
        // What is confirmed should not wait for the next connection.
        let sent = send(&self.shared, &mut self.wire(), false);
        if let Some(sender) = self.sender.take() {
            let _ = sender.join();
        }
        drop(sent);
    }
}

fn send_until_stopped(shared: &Shared, interval: Duration) {
    let mut stopped = shared.stopped.lock().unwrap_or_else(PoisonError::into_inner);
    while !*stopped {
        let waited = shared.stop.wait_timeout(stopped, interval);
        stopped = waited.unwrap_or_else(PoisonError::into_inner).0;
        if *stopped {
            return;
        }
        let mut wire = shared.wire.lock().unwrap_or_else(PoisonError::into_inner);
        // A broken connection is the next poll's to report.
        if send(shared, &mut wire, false).is_err() {
            return;
        }
    }
}

/// "Standby status update" of the streaming replication protocol.
fn send(shared: &Shared, wire: &mut Wire, ask_for_answer: bool) -> Result<(), SourceError> {
    let confirmed = shared.confirmed.load(Ordering::Acquire);
    let received = shared.received.load(Ordering::Acquire).max(confirmed);
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX).saturating_sub(EPOCH_US);
    let mut message = [0; 34];
    message[0] = b'r';
    for (place, number) in [received, confirmed, confirmed, now].into_iter().enumerate() {
        message[1 + 8 * place..9 + 8 * place].copy_from_slice(&number.to_be_bytes());
    }
    message[33] = u8::from(ask_for_answer);
    wire.send(&message)
}
