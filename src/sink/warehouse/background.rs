//! Merges beside the writer: a few threads, and what they were given.

use super::merged::{Job, Merged, Sources};
use super::{WarehouseError, WarehouseOptions};
use crate::model::TableId;
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::VecDeque;

/// Jobs that may be under way at once.
const UNDER_WAY_MAX: usize = 4;

/// Threads that are started when the first work comes. All work ends before this is gone.
#[derive(Debug)]
pub(super) struct Background {
    threads: usize,
    pool: Option<ThreadPool>,
    under_way: VecDeque<UnderWay>,
    /// Tests hold jobs and let them go by hand.
    #[cfg(test)]
    held: Option<Held>,
}

#[cfg(test)]
#[derive(Default)]
struct Held(VecDeque<Box<dyn FnOnce() + Send>>);

#[cfg(test)]
impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} held", self.0.len())
    }
}

/// A merge that was given away.
#[derive(Debug)]
struct UnderWay {
    table: TableId,
    sources: Sources,
    outcome: Receiver<Result<Merged, WarehouseError>>,
}

/// What came of a merge, or the sources that it had, with the reason.
pub(super) type Outcome = Result<Merged, (TableId, Sources, WarehouseError)>;

impl Background {
    pub(super) fn new(options: &WarehouseOptions) -> Background {
        Background {
            threads: options.compaction_threads,
            pool: None,
            under_way: VecDeque::new(),
            #[cfg(test)]
            held: None,
        }
    }

    /// Whether the writer does all work itself.
    pub(super) fn is_inline(&self) -> bool {
        self.threads == 0
    }

    /// Whether nothing was given away that has not come back.
    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(super) fn may_take_more(&self) -> bool {
        self.under_way.len() < UNDER_WAY_MAX
    }

    /// Runs `work` on a thread. What it returns comes through the channel, which breaks if it panics.
    ///
    /// # Errors
    /// When threads can't be started.
    pub(super) fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Receiver<T>, WarehouseError> {
        let (send, receive) = bounded(1);
        let work = move || {
            let _ = send.send(work());
        };
        #[cfg(test)]
        if let Some(held) = &mut self.held {
            held.0.push_back(Box::new(work));
            return Ok(receive);
        }
        let pool = match &mut self.pool {
            Some(pool) => pool,
            vacant => {
                let pool = ThreadPoolBuilder::new()
                    .num_threads(self.threads)
                    .thread_name(|place| format!("app-compact-{place}"))
                    .panic_handler(|_| ())
                    .build();
                vacant.insert(pool.map_err(WarehouseError::columnar("start the threads", "for compaction"))?)
            }
        };
        pool.spawn_fifo(work);
        Ok(receive)
    }

    pub(super) fn start(&mut self, job: Job) -> Result<(), WarehouseError> {
        let (table, sources) = (job.shape.id, job.sources.clone());
        let work = move || {
            let merged = job.run()?;
            // Here it costs no pause, and scans can pass over the chunk before it is written.
            merged.chunk.ranges()?;
            Ok(merged)
        };
        let outcome = self.run(work)?;
        self.under_way.push_back(UnderWay { table, sources, outcome });
        Ok(())
    }

    /// The next merge that has ended.
    pub(super) fn ended(&mut self) -> Option<Outcome> {
        let outcome = match self.under_way.front()?.outcome.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(WarehouseError::ThreadDied { work: "compaction" }),
            Ok(outcome) => outcome,
        };
        let UnderWay { table, sources, .. } = self.under_way.pop_front()?;
        Some(outcome.map_err(|error| (table, sources, error)))
    }

    /// The next merge, when it has ended; `None` if none is under way.
    pub(super) fn wait(&mut self) -> Option<Outcome> {
        #[cfg(test)]
        while self.let_one_go() {}
        let UnderWay { table, sources, outcome } = self.under_way.pop_front()?;
        let outcome = outcome.recv().unwrap_or(Err(WarehouseError::ThreadDied { work: "compaction" }));
        Some(outcome.map_err(|error| (table, sources, error)))
    }

    /// Holds all work from now on.
    #[cfg(test)]
    pub(super) fn hold(&mut self) {
        self.threads = 1;
        self.held = Some(Held::default());
    }

    /// Does the work that was held longest; false if there is none.
    #[cfg(test)]
    pub(super) fn let_one_go(&mut self) -> bool {
        let work = self.held.as_mut().and_then(|held| held.0.pop_front());
        work.map(|work| work()).is_some()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        #[cfg(test)]
        drop(self.held.take());
        for UnderWay { outcome, .. } in self.under_way.drain(..) {
            // What it comes to is of no use any more; only that it ends.
            let _ = outcome.recv();
        }
    }
}
