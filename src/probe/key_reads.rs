//! Reads of single keys, as of a cache: which share is stale, and how old is what they see?
//!
//! Computed after the run: a hit that shows the state as of position `p` is stale when a commit behind `p` had changed the key and
//! was acknowledged before the read began; its *key age* is then the time since the first such commit, else 0.

use super::ProbeError;
use super::Worker;
use super::freshness::Window;
use super::visibility::{Commit, RowChange};
use crate::clock::Clock;
use crate::model::{Key, Lsn, Moment, TableId};
use crate::stats::{Samples, SplitMix64};
use crossbeam_channel::RecvTimeoutError;
use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

/// Something that is read key by key.
pub trait KeyTarget: Send {
    /// Reads the next key; the reader decides which.
    ///
    /// # Errors
    /// Whatever kept the read from being made; it is counted.
    fn read(&mut self) -> Result<KeyRead, Box<dyn Error + Send + Sync>>;
}

/// What one read saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRead {
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: Key,
    /// The position of what was found, `None` for a miss.
    pub found: Option<Lsn>,
}

/// One read with its times.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeySample {
    started: Moment,
    finished: Moment,
    read: KeyRead,
}

/// Everything a reader recorded.
#[derive(Clone, Debug, Default)]
pub struct KeyReadRecord {
    samples: Vec<KeySample>,
    /// Reads that failed.
    pub failed: u64,
    /// The first error.
    pub first_error: Option<String>,
}

/// Reads on a thread of its own, `prb-keys`, on a Poisson schedule.
#[derive(Debug)]
pub struct KeyReader {
    worker: Worker<KeyReadRecord>,
}

impl KeyReader {
    /// Starts reading, so many times a second in the mean.
    ///
    /// # Errors
    /// [`ProbeError::Spawn`].
    pub fn start(
        mut target: Box<dyn KeyTarget>,
        clock: &Clock,
        (reads_per_s, seed): (f64, u64),
    ) -> Result<KeyReader, ProbeError> {
        let clock = clock.clone();
        let body = move |stopped: &crossbeam_channel::Receiver<()>| {
            let gap = Duration::try_from_secs_f64(1.0 / reads_per_s).unwrap_or(Duration::MAX);
            let mut random = SplitMix64::new(seed);
            let mut record = KeyReadRecord::default();
            let mut due = clock.now().after(random.exponential(gap));
            while stopped.recv_timeout(due.since(clock.now())) == Err(RecvTimeoutError::Timeout) {
                let started = clock.now();
                match target.read() {
                    Ok(read) => record.samples.push(KeySample { started, finished: clock.now(), read }),
                    Err(error) => {
                        record.failed += 1;
                        record.first_error.get_or_insert_with(|| error.to_string());
                    }
                }
                due = due.after(random.exponential(gap));
            }
            record
        };
        Ok(KeyReader { worker: Worker::start("prb-keys", body)? })
    }

    /// Ends, and hands over what was recorded.
    ///
    /// # Errors
    /// [`ProbeError::Died`] when the target panicked.
    pub fn stop(self) -> Result<KeyReadRecord, ProbeError> {
        self.worker.finish()
    }
}

/// What the reads of a window saw.
#[derive(Clone, Debug, Default)]
pub struct KeyReadFigures {
    /// Reads that did not fail.
    pub reads: u64,
    /// Those that found something.
    pub hits: u64,
    /// Hits that showed less than what had been committed when they began.
    pub stale: u64,
    /// The age of what each hit showed.
    pub age: Samples,
    /// How long a read took.
    pub latency: Samples,
}

impl KeyReadFigures {
    /// The figures of the reads that began in `window`. `commits` and `history` in commit order.
    pub fn of(record: &KeyReadRecord, commits: &[Commit], history: &[RowChange], window: Window) -> KeyReadFigures {
        let committed: HashMap<Lsn, Moment> = commits.iter().map(|commit| (commit.lsn, commit.committed)).collect();
        let mut changed: HashMap<(TableId, &Key), Vec<(Lsn, Moment)>> = HashMap::new();
        for change in history {
            if let Some(&at) = committed.get(&change.lsn) {
                changed.entry((change.table, &change.key)).or_default().push((change.lsn, at));
            }
        }
        let mut figures = KeyReadFigures::default();
        let (mut ages, mut latencies) = (Vec::new(), Vec::new());
        for sample in record.samples.iter().filter(|sample| window.contains(sample.started)) {
            figures.reads += 1;
            latencies.push((sample.finished.since(sample.started), false));
            let Some(position) = sample.read.found else { continue };
            figures.hits += 1;
            let changes = changed.get(&(sample.read.table, &sample.read.key)).map_or(&[][..], Vec::as_slice);
            let behind = changes.get(changes.partition_point(|(lsn, _)| *lsn <= position)..).unwrap_or_default();
            // Acknowledgements come in almost, but not quite, the order of commits.
            let oldest = behind.iter().map(|(_, at)| *at).filter(|at| *at <= sample.started).min();
            figures.stale += u64::from(oldest.is_some());
            ages.push((oldest.map_or(Duration::ZERO, |oldest| sample.started.since(oldest)), false));
        }
        figures.age = Samples::new(ages);
        figures.latency = Samples::new(latencies);
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Existence;

    #[test]
    fn a_hit_is_stale_by_the_oldest_commit_that_it_lacks() {
        let at = |ms: u64| Moment::from_nanos(ms * 1_000_000);
        let commit = |lsn: u64, ms: u64| Commit { lsn: Lsn(lsn), committed: at(ms), intended: at(ms) };
        let change =
            |lsn: u64| RowChange { lsn: Lsn(lsn), table: TableId(0), key: Key::Int(7), after: Existence::Present };
        let read = |key: i64, ms: u64, found: Option<u64>| KeySample {
            started: at(ms),
            finished: at(ms + 1),
            read: KeyRead { table: TableId(0), key: Key::Int(key), found: found.map(Lsn) },
        };
        // Key 7 changes at 10 ms (commit 1) and 20 ms (commit 2); key 8 never.
        let samples = vec![
            read(7, 15, Some(1)),
            read(7, 25, Some(1)),
            read(7, 25, Some(0)),
            read(7, 25, Some(2)),
            read(7, 30, None),
            read(8, 30, Some(0)),
            read(7, 500, Some(0)),
        ];
        let record = KeyReadRecord { samples, ..KeyReadRecord::default() };
        let window = Window { start: at(0), end: at(100) };
        let figures = KeyReadFigures::of(&record, &[commit(1, 10), commit(2, 20)], &[change(1), change(2)], window);
        assert_eq!((figures.reads, figures.hits, figures.stale), (6, 5, 2));
        // Ages: 0, 5 ms (since commit 2), 15 ms (since commit 1), 0, 0.
        let quantile = |q| figures.age.quantile(q).map(|quantile| quantile.value);
        assert_eq!(quantile(1.0), Some(Duration::from_millis(15)));
        assert_eq!(quantile(0.8), Some(Duration::from_millis(5)));
        assert_eq!(quantile(0.5), Some(Duration::ZERO));
    }
}
