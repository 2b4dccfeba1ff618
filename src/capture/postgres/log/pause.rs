//! How long bytes gather before the next read of a backlog.
//!
//! A reader that waits in the kernel for every message is woken by every message, which takes about half of the server's
//! time. A reader that stays away for too long lets the connection's buffers run full, and then the server waits. How much the
//! buffers hold differs: TCP on Linux joins small messages and has megabytes; a Unix socket keeps each message by itself and
//! counts its administration too, so that with the default of 208 KiB (`net.core.wmem_default`) it is full after about 270
//! messages, or half a millisecond.

use crate::source::postgres::Wire;
use std::time::{Duration, Instant};

/// How a reader of one connection pauses while there is a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    /// A read of this many bytes means a backlog.
    backlog_bytes: usize,
    /// The longest pause, from one read to the next.
    most: Duration,
    /// From one look at what is waiting to the next.
    step: Duration,
}

impl Pause {
    /// For TCP, with or without TLS.
    const TCP: Pause =
        Pause { backlog_bytes: 8 << 10, most: Duration::from_micros(1_500), step: Duration::from_micros(500) };
    /// For a socket in the file system.
    const UNIX: Pause =
        Pause { backlog_bytes: 2 << 10, most: Duration::from_micros(100), step: Duration::from_micros(100) };

    /// What suits the connection.
    pub(super) fn of(wire: &Wire) -> Pause {
        if wire.is_unix_socket() { Pause::UNIX } else { Pause::TCP }
    }

    /// Whether a read of `bytes` shows that more is to come.
    #[inline]
    pub(super) fn is_backlog(&self, bytes: usize) -> bool {
        bytes >= self.backlog_bytes
    }

    /// Waits while bytes gather: until the longest pause since `last_read` is over, or `waiting` no longer grows: then
    /// the server has nothing more, or no room to put it.
    pub(super) fn gather(&self, last_read: Instant, mut waiting: impl FnMut() -> u64) {
        let mut seen = 0;
        loop {
            let left = self.most.saturating_sub(last_read.elapsed());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(self.step));
            let now = waiting();
            if now <= seen {
                return;
            }
            seen = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(pause: Pause, counts: &[u64]) -> usize {
        let mut looks = 0;
        pause.gather(Instant::now(), || {
            looks += 1;
            counts[(looks - 1).min(counts.len() - 1)]
        });
        looks
    }

    #[test]
    fn a_pause_ends_when_nothing_more_gathers() {
        let long = Pause { most: Duration::from_secs(3_600), step: Duration::from_micros(1), backlog_bytes: 1 };
        assert_eq!(looks(long, &[0]), 1, "nothing came");
        assert_eq!(looks(long, &[10, 20, 30, 30, 40]), 4, "full after the third look");
        assert_eq!(looks(long, &[10, 20, 5]), 3, "another has read");
    }

    #[test]
    fn a_pause_that_is_over_takes_no_look() {
        let over = Pause { most: Duration::ZERO, step: Duration::from_micros(1), backlog_bytes: 1 };
        assert_eq!(looks(over, &[1]), 0);
    }

    #[test]
    fn a_backlog_is_a_matter_of_the_connection() {
        assert!(Pause::UNIX.is_backlog(2_048) && !Pause::UNIX.is_backlog(2_047));
        assert!(Pause::TCP.is_backlog(8_192) && !Pause::TCP.is_backlog(8_191));
    }
}
