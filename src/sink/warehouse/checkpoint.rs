//! Checkpoints: a version is made durable while the writer goes on. The version never changes, so a thread may write it.
//!
//! What is written is the visible version with its small chunks merged. The merged chunks then take the place of the small
//! ones in the writer's tables too, as those of any compaction do; until they have, they take it in each later checkpoint.

use super::WarehouseError;
use super::chunk::Chunk;
use super::commit::{BytesByKind, Durable};
use super::merged::{Job, Merged, Sources};
use super::version::Version;
use super::writer::Warehouse;
use crate::model::{Lsn, TableId};
use crossbeam_channel::{Receiver, TryRecvError};
use rayon::prelude::*;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a thread needs to write a checkpoint.
struct Task {
    durable: Arc<Mutex<Durable>>,
    version: Arc<Version>,
    jobs: Vec<Job>,
    /// Merged earlier, and not in the version yet.
    pending: Vec<Arc<Merged>>,
}

/// The checkpoint that is under way, and what it took from the tables.
#[derive(Debug)]
pub(super) struct Begun {
    version: Arc<Version>,
    sources: Vec<(TableId, Sources)>,
    /// What it writes as it is.
    claimed: Vec<Arc<Chunk>>,
}

type Outcome = Result<Vec<Arc<Merged>>, WarehouseError>;

/// A checkpoint that a thread writes.
#[derive(Debug)]
pub(super) struct Running {
    /// `None` when it has ended.
    begun: Option<Begun>,
    outcome: Receiver<Outcome>,
}

impl Running {
    /// The chunks that it merges.
    pub(super) fn merging(&self) -> impl Iterator<Item = &Arc<Chunk>> {
        self.begun.iter().flat_map(|begun| &begun.sources).flat_map(|(_, sources)| sources.chunks())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.begun.is_some() {
            // The folder's lock may not go while somebody writes to it.
            let _ = self.outcome.recv();
        }
    }
}

/// What is durable, for those who can't wait while a checkpoint is written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DurableFacts {
    pub(super) watermark: Lsn,
    pub(super) bytes: BytesByKind,
    /// See [`Durable::poisoned`]; also that the writer's tables are of no use any more.
    pub(super) poisoned: bool,
}

fn lock(durable: &Mutex<Durable>) -> MutexGuard<'_, Durable> {
    durable.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Task {
    fn run(self) -> Outcome {
        let merged: Vec<Merged> = self.jobs.into_par_iter().map(Job::run).collect::<Result<_, _>>()?;
        let merged: Vec<Arc<Merged>> = merged.into_iter().map(Arc::new).collect();
        let version = with_merged(&self.version, self.pending.iter().chain(&merged));
        lock(&self.durable).commit(&version)?;
        Ok(merged)
    }
}

/// The version with merged chunks in place of those they came from. For writing alone: its index is not asked.
fn with_merged<'m>(version: &Version, merged: impl Iterator<Item = &'m Arc<Merged>>) -> Version {
    let mut tables = version.tables.clone();
    for merged in merged {
        let Some(table) = tables.get_mut(merged.table.index()) else { continue };
        if let Some((places, slot)) = merged.fits(&table.slots) {
            Arc::make_mut(table).slots.splice(places, [slot]);
        }
    }
    Version { watermark: version.watermark, catalog: version.catalog.clone(), tables }
}

impl Warehouse {
    /// What is durable. Waits for a checkpoint that is being written.
    pub(super) fn lock_durable(&self) -> MutexGuard<'_, Durable> {
        lock(&self.durable)
    }

    pub(super) fn check(&self) -> Result<(), WarehouseError> {
        if self.facts.poisoned { Err(WarehouseError::Poisoned { path: self.dir.clone() }) } else { Ok(()) }
    }

    /// Makes what is visible durable, and waits for it.
    pub(super) fn checkpoint_visible(&mut self) -> Result<Lsn, WarehouseError> {
        self.finish_running()?;
        self.check()?;
        self.wait_for_merged()?;
        self.wanted = false;
        if self.ahead {
            let (begun, task) = self.prepare();
            let outcome = task.run();
            self.finish(begun, outcome)?;
            self.show_merged();
            self.look_at_memory();
        }
        Ok(self.facts.watermark)
    }

    /// Begins to make what is visible durable, unless that goes on already; as soon as merges that are under way have ended.
    pub(super) fn begin_checkpoint_visible(&mut self) -> Result<(), WarehouseError> {
        if self.background.is_inline() {
            return self.checkpoint_visible().map(drop);
        }
        self.check()?;
        self.wanted |= self.running.is_none() && self.ahead;
        self.begin_wanted()
    }

    fn begin_wanted(&mut self) -> Result<(), WarehouseError> {
        self.take_merged()?;
        if !self.wanted || self.running.is_some() || !self.background.is_idle() {
            return Ok(());
        }
        self.wanted = false;
        let (begun, task) = self.prepare();
        match self.background.run(move || task.run()) {
            Ok(outcome) => {
                self.running = Some(Running { begun: Some(begun), outcome });
                self.look_at_memory();
            }
            Err(error) => self.finish(begun, Err(error))?,
        }
        Ok(())
    }

    /// The durable watermark, `None` while a checkpoint is being written.
    pub(super) fn poll_checkpoint_visible(&mut self) -> Result<Option<Lsn>, WarehouseError> {
        if let Some(running) = &mut self.running {
            match running.outcome.try_recv() {
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => self.end_running(Err(died()))?,
                Ok(outcome) => self.end_running(outcome)?,
            }
        }
        self.begin_wanted()?;
        if self.running.is_some() || self.wanted {
            return Ok(None);
        }
        // What has been merged meanwhile comes in, also while nobody publishes.
        self.show_merged();
        // Else what is read stays out of memory until something is written.
        if self.memory.has_refused() {
            self.look_at_memory();
        }
        Ok(Some(self.facts.watermark))
    }

    /// Waits for a checkpoint that is being written.
    fn finish_running(&mut self) -> Result<(), WarehouseError> {
        match &self.running {
            Some(running) => {
                let outcome = running.outcome.recv().unwrap_or_else(|_| Err(died()));
                self.end_running(outcome)
            }
            None => Ok(()),
        }
    }

    fn end_running(&mut self, outcome: Outcome) -> Result<(), WarehouseError> {
        match self.running.take().and_then(|mut running| running.begun.take()) {
            Some(begun) => {
                let ended = self.finish(begun, outcome);
                self.look_at_memory();
                ended
            }
            None => Ok(()),
        }
    }

    fn prepare(&mut self) -> (Begun, Task) {
        self.ahead = false;
        self.show_merged();
        let version = self.reader.version();
        let rows_max = self.options.chunk_rows_max;
        let mut jobs = Vec::new();
        let mut pending: Vec<Arc<Merged>> = Vec::new();
        let mut claimed = Vec::new();
        for (table, visible) in self.tables.iter_mut().zip(&version.tables) {
            let fits = |merged: &&Arc<Merged>| merged.fits(&visible.slots).is_some();
            let merged: Vec<Arc<Merged>> = table.waiting.iter().filter(fits).cloned().collect();
            let new = table.checkpoint_jobs(visible, rows_max);
            // In whose place a merged chunk is written, is not written itself.
            let merging = new.iter().flat_map(|job| job.sources.chunks());
            let merging = merging.chain(merged.iter().flat_map(|merged| merged.sources.chunks()));
            let replaced: HashSet<*const Chunk> = merging.map(Arc::as_ptr).collect();
            let written = visible.slots.iter().filter(|slot| slot.live() > 0).map(|slot| &slot.chunk);
            let written = written.filter(|chunk| !replaced.contains(&Arc::as_ptr(chunk)));
            for chunk in written.chain(merged.iter().map(|merged| &merged.chunk)).filter(|chunk| !chunk.is_written()) {
                chunk.claim();
                claimed.push(chunk.clone());
            }
            jobs.extend(new);
            pending.extend(merged);
        }
        self.budget.merged += jobs.iter().map(|job| job.rows() as u64).sum::<u64>();
        let sources = jobs.iter().map(|job| (job.shape.id, job.sources.clone())).collect();
        (
            Begun { version: version.clone(), sources, claimed },
            Task { durable: self.durable.clone(), version, jobs, pending },
        )
    }

    fn finish(&mut self, begun: Begun, outcome: Outcome) -> Result<(), WarehouseError> {
        let durable = lock(&self.durable);
        self.facts.bytes = durable.bytes;
        self.facts.poisoned |= durable.poisoned;
        drop(durable);
        match outcome {
            Ok(merged) => {
                self.facts.watermark = self.facts.watermark.max(begun.version.watermark);
                self.counters.checkpoints += 1;
                for merged in merged {
                    if let Some(table) = self.tables.get_mut(merged.table.index()) {
                        table.waiting.push(merged);
                    }
                }
                Ok(())
            }
            Err(error) => {
                self.ahead = true;
                begun.claimed.iter().for_each(|chunk| chunk.disclaim());
                for (table, sources) in &begun.sources {
                    if let Some(table) = self.tables.get_mut(table.index()) {
                        table.give_back(sources);
                    }
                }
                self.facts.poisoned |= matches!(error, WarehouseError::ThreadDied { .. });
                Err(error)
            }
        }
    }

    /// Shows the same rows in merged chunks, unless edits are staged, which nobody may see yet. That is no reason for a
    /// checkpoint.
    pub(super) fn show_merged(&mut self) {
        if !self.has_staged() && self.install_waiting() {
            self.show(self.reader.version().watermark);
        }
    }

    /// Waits for all that is being merged and written, and brings in all that was merged. Readers see the same rows before and after.
    ///
    /// # Errors
    /// What the work beside the writer ended with.
    pub fn settle(&mut self) -> Result<(), WarehouseError> {
        self.finish_running()?;
        self.wait_for_merged()?;
        self.show_merged();
        self.check()
    }

    /// Makes a version with newly loaded tables durable, whose segments of `segment_bytes` are written already.
    pub(super) fn commit_loaded(&mut self, version: &Version, segment_bytes: u64) -> Result<(), WarehouseError> {
        let mut durable = lock(&self.durable);
        let outcome = durable.commit(version);
        if outcome.is_ok() {
            durable.bytes.segments += segment_bytes;
            self.facts.watermark = version.watermark;
        }
        self.facts.bytes = durable.bytes;
        self.facts.poisoned |= durable.poisoned;
        outcome
    }
}

fn died() -> WarehouseError {
    WarehouseError::ThreadDied { work: "checkpoints" }
}
