//! The line in which this process's writers wait for SQLite's one write lock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

/// First come, first served: a writer takes its turn before `BEGIN IMMEDIATE` and gives it up after the commit.
///
/// SQLite's own busy handler sleeps for milliseconds and serves at random; a queue measures the
/// database rather than that sleep. Writers of other processes still meet at SQLite's lock. Clones share the line.
#[derive(Clone, Debug, Default)]
pub struct WriterQueue {
    line: Arc<Mutex<Line>>,
}

#[derive(Debug, Default)]
struct Line {
    taken: bool,
    waiting: VecDeque<Arc<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    thread: Thread,
    called: AtomicBool,
}

/// The right to write, until it is dropped.
#[derive(Debug)]
#[must_use = "the turn ends when it is dropped"]
pub struct WriterTurn<'a> {
    queue: &'a WriterQueue,
}

impl WriterQueue {
    /// Waits for the turn. Must not be called by a thread that already has it: it would wait for itself.
    pub fn take(&self) -> WriterTurn<'_> {
        let waiter = {
            let mut line = self.lock();
            if !line.taken {
                line.taken = true;
                return WriterTurn { queue: self };
            }
            let waiter = Arc::new(Waiter { thread: std::thread::current(), called: AtomicBool::new(false) });
            line.waiting.push_back(Arc::clone(&waiter));
            waiter
        };
        while !waiter.called.load(Ordering::Acquire) {
            std::thread::park();
        }
        WriterTurn { queue: self }
    }

    /// How many writers wait at this instant, without the one whose turn it is.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    // A panic can't leave the line half changed: nothing in the critical sections panics between two writes.
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WriterTurn<'_> {
    fn drop(&mut self) {
        let mut line = self.queue.lock();
        match line.waiting.pop_front() {
            Some(next) => {
                drop(line);
                next.called.store(true, Ordering::Release);
                next.thread.unpark();
            }
            None => line.taken = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn one_writer_at_a_time_and_none_is_forgotten() {
        let queue = WriterQueue::default();
        let inside = AtomicU64::new(0);
        let total = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let _turn = queue.take();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        total.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                    }
                });
            }
        });
        assert_eq!(total.load(Ordering::SeqCst), 2000);
        assert_eq!(queue.waiting(), 0);
    }
}
