//! When the writer merges: at each publish, with a budget. Large merges go to threads; what they bring comes in at a publish.

use super::WarehouseError;
use super::background::Outcome;
use super::checkpoint::Running;
use super::chunk::Chunk;
use super::merged::Job;
use super::writer::Warehouse;
use std::collections::HashSet;
use std::sync::Arc;

/// The writer makes merges of so few rows itself; less than handing them over would cost.
const INLINE_ROWS_MAX: usize = 16_384;
/// Changed rows after which the writer looks for dead chunks and at the memory, as a part of a full chunk.
const LOOK_PART: usize = 64;
/// Unused budget that is kept for later, in full chunks.
const CREDIT_CHUNKS_MAX: usize = 8;

/// What the writer counts to know when to compact, and how much of it at once.
#[derive(Debug)]
pub(super) struct Budget {
    /// See [`INLINE_ROWS_MAX`]; tests have a smaller one.
    pub(super) inline_rows_max: usize,
    /// Rows changed since the last look.
    unlooked: usize,
    /// Rows that may be rewritten.
    credit: usize,
    /// Rows merged, of every kind, and of these those rewritten to be rid of dead rows.
    pub(super) merged: u64,
    pub(super) purged: u64,
    /// Bytes of rows that the next checkpoint would write, at the last look.
    pub(super) unwritten_bytes: u64,
    /// Bytes of rows without a segment, at the last look: also those that are being written.
    pub(super) kept_bytes: u64,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            inline_rows_max: INLINE_ROWS_MAX,
            unlooked: 0,
            credit: 0,
            merged: 0,
            purged: 0,
            unwritten_bytes: 0,
            kept_bytes: 0,
        }
    }
}

impl Budget {
    pub(super) fn changed(&mut self, rows: usize) {
        self.unlooked += rows;
    }
}

impl Warehouse {
    /// Compacts as far as this publish may. Everything that can fail comes before anything changes for readers.
    pub(super) fn compact(&mut self) -> Result<(), WarehouseError> {
        self.take_merged()?;
        self.merge_small()?;
        let rows_max = self.options.chunk_rows_max;
        if self.budget.unlooked > rows_max / LOOK_PART {
            let earned = self.budget.unlooked.saturating_mul(self.options.compaction_rows_per_change);
            self.budget.credit = (self.budget.credit + earned).min(rows_max * CREDIT_CHUNKS_MAX);
            self.budget.unlooked = 0;
            self.tables.iter_mut().for_each(super::table::Table::drop_dead_chunks);
            self.purge()?;
            self.look_at_memory();
        }
        self.install_waiting();
        Ok(())
    }

    /// Takes over what threads have merged.
    pub(super) fn take_merged(&mut self) -> Result<(), WarehouseError> {
        while let Some(outcome) = self.background.ended() {
            self.take_outcome(outcome)?;
        }
        Ok(())
    }

    /// Takes over what threads merge, and waits for it.
    pub(super) fn wait_for_merged(&mut self) -> Result<(), WarehouseError> {
        while let Some(outcome) = self.background.wait() {
            self.take_outcome(outcome)?;
        }
        Ok(())
    }

    fn take_outcome(&mut self, outcome: Outcome) -> Result<(), WarehouseError> {
        let id = outcome.as_ref().map_or_else(|(table, _, _)| *table, |merged| merged.table);
        let Some(table) = self.tables.get_mut(id.index()) else { return Ok(()) };
        match outcome {
            Ok(mut merged) => {
                merged.count_rewritten();
                table.waiting.push(Arc::new(merged));
                Ok(())
            }
            Err((_, sources, error)) => {
                table.give_back(&sources);
                Err(error)
            }
        }
    }

    fn merge_small(&mut self) -> Result<(), WarehouseError> {
        for place in 0..self.tables.len() {
            let table = &mut self.tables[place];
            let jobs = if table.changed { table.small_jobs(self.options.chunk_rows_max) } else { Vec::new() };
            let mut jobs = jobs.into_iter();
            while let Some(job) = jobs.next() {
                self.budget.merged += job.rows() as u64;
                if let Err(error) = self.give(job, self.budget.inline_rows_max) {
                    jobs.for_each(|job| self.tables[place].give_back(&job.sources));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn purge(&mut self) -> Result<(), WarehouseError> {
        let (percent, chunk_rows_max) = (self.options.dead_percent_max, self.options.chunk_rows_max);
        for place in 0..self.tables.len() {
            while self.background.may_take_more()
                && !self.wanted
                && let Some(job) = self.tables[place].purge_job(percent, chunk_rows_max, self.budget.credit)
            {
                self.budget.credit -= job.rows().min(self.budget.credit);
                self.budget.merged += job.rows() as u64;
                self.budget.purged += job.rows() as u64;
                self.give(job, 0)?;
            }
        }
        Ok(())
    }

    /// Has the job done: here, if it is for at most `inline_rows_max` rows or there are no threads, or by a thread.
    fn give(&mut self, job: Job, inline_rows_max: usize) -> Result<(), WarehouseError> {
        let Some(table) = self.tables.get_mut(job.shape.id.index()) else { return Ok(()) };
        let inline = self.background.is_inline() || job.rows() <= inline_rows_max;
        // A checkpoint that is to begin waits for what is under way, or it would write chunks that are being merged.
        let sources = job.sources.clone();
        if !inline && !self.wanted && self.background.may_take_more() {
            return self.background.start(job).inspect_err(|_| table.give_back(&sources));
        }
        if !inline {
            // There is enough to do already. It is found again.
            table.give_back(&sources);
            return Ok(());
        }
        match job.run() {
            Ok(merged) => {
                table.waiting.push(Arc::new(merged));
                Ok(())
            }
            Err(error) => {
                table.give_back(&sources);
                Err(error)
            }
        }
    }

    /// Puts merged chunks in the places of their sources, in the writer's tables. True if anything changed.
    pub(super) fn install_waiting(&mut self) -> bool {
        let mut any = false;
        for table in &mut self.tables {
            any |= table.install_waiting();
        }
        any
    }

    /// Keeps the memory of rows within its limit, as far as they are in segments.
    pub(super) fn look_at_memory(&mut self) {
        if self.options.memory_bytes_max.is_none() {
            return;
        }
        let chunks = || self.tables.iter().flat_map(super::table::Table::chunks);
        self.memory.make_room(chunks());
        let bytes = |chunk: &Arc<Chunk>| chunk.row_bytes() as u64;
        self.budget.kept_bytes = chunks().filter(|chunk| chunk.segment().is_none()).map(bytes).sum();
        // What a checkpoint has merged, or is merging, it does not write again, however long it waits to be let go.
        let in_place = self.tables.iter().flat_map(|table| &table.waiting).filter(|merged| merged.chunk.is_written());
        let merging = self.running.iter().flat_map(Running::merging);
        let covered: HashSet<*const Chunk> =
            in_place.flat_map(|merged| merged.sources.chunks()).chain(merging).map(Arc::as_ptr).collect();
        let unwritten = chunks().filter(|chunk| !chunk.is_written() && !covered.contains(&Arc::as_ptr(chunk)));
        self.budget.unwritten_bytes = unwritten.map(bytes).sum();
    }
}
