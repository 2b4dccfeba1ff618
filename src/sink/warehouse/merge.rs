//! Which chunks are to become one, so that a scan after millions of small groups meets few of them and few dead rows.
//!
//! A chunk's *tier* is the power of eight its row count lies in. Eight or more of the youngest small chunks become one
//! when the oldest of them is not larger than the others together: so a copied row is in a chunk at least twice as
//! large (with groups of even size: eight times), and beside its full chunks a table has few others. A chunk of which a set
//! share is dead is rewritten without its dead rows.

use super::chunk::{Chunk, Slot, place_of};
use super::columns::TableShape;
use super::index::Address;
use super::merged::{Job, Way};
use super::table::Table;
use super::version::TableVersion;
use std::sync::Arc;

const FANOUT: usize = 8;
/// How many of the youngest chunks are looked at for small ones at each publish.
const LOOK_BACK: usize = 256;
/// Rows of one job take about so much memory at the most: a column of text holds 2 GiB.
const JOB_BYTES_MAX: usize = 256 << 20;
/// A chunk with fewer than this part of a full one's rows is left to the merges of small ones.
const PURGE_PART_MIN: usize = 16;

fn tier(rows: usize) -> u32 {
    rows.max(1).ilog2() / FANOUT.ilog2()
}

/// How many of the youngest chunks are worth merging, given their row counts from the youngest on: eight or more, the
/// oldest of them not larger than all the others together, with all that follow of no higher tier.
fn run_length(rows: impl Iterator<Item = usize>) -> Option<usize> {
    let (mut run, mut younger_rows, mut highest, mut found) = (0, 0, 0, None);
    for rows in rows {
        let tier = tier(rows);
        if found.is_some() && tier > highest {
            break;
        }
        run += 1;
        highest = highest.max(tier);
        if run >= FANOUT && (found.is_some() || rows <= younger_rows) {
            found = Some(run);
        }
        younger_rows += rows;
    }
    found
}

/// Cuts places of `slots` into groups of at most `rows_max` live rows (or one slot).
fn grouped(slots: &[Slot], places: &[usize], rows_max: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let (mut rows, mut bytes) = (0, 0);
    for &place in places {
        let Some(slot) = slots.get(place) else { continue };
        let (more, more_bytes) = (slot.live(), slot.chunk.row_bytes_about());
        match groups.last_mut() {
            Some(group) if rows + more <= rows_max && bytes + more_bytes <= JOB_BYTES_MAX => {
                group.push(place);
                rows += more;
                bytes += more_bytes;
            }
            _ => {
                groups.push(vec![place]);
                (rows, bytes) = (more, more_bytes);
            }
        }
    }
    groups
}

/// Sources are joined if at most one row in `dead_part_min` is dead and that can be done.
fn job_of(shape: &Arc<TableShape>, sources: Vec<Slot>, dead_part_min: usize) -> Job {
    let in_one_piece = sources.windows(2).all(|pair| matches!(pair, [a, b] if a.chunk.end() == b.chunk.start));
    let written = sources.iter().any(|slot| slot.chunk.is_written());
    let rows: usize = sources.iter().map(|slot| slot.chunk.rows).sum();
    let dead: usize = sources.iter().map(|slot| slot.deleted.count()).sum();
    let join = in_one_piece && !written && dead.saturating_mul(dead_part_min) <= rows;
    Job { shape: shape.clone(), sources, way: if join { Way::Join } else { Way::Rewrite }, start: None }
}

impl Table {
    /// Lets go of chunks without a live row.
    pub(super) fn drop_dead_chunks(&mut self) {
        if self.slots.iter().any(|slot| slot.live() == 0 && !slot.taken) {
            self.slots.retain(|slot| slot.live() > 0 || slot.taken);
            self.changed = true;
        }
    }

    /// What has become too many small chunks, as jobs. Only of rows that are not durable yet: nothing is written again.
    pub(super) fn small_jobs(&mut self, rows_max: usize) -> Vec<Job> {
        let full = rows_max / 4;
        let small = |slot: &Slot| slot.chunk.rows < full && !slot.taken && !slot.chunk.is_written();
        let back = self.slots.iter().enumerate().rev().take(LOOK_BACK).filter(|(_, slot)| small(slot));
        let Some(count) = run_length(back.clone().map(|(_, slot)| slot.chunk.rows)) else { return Vec::new() };
        let mut places: Vec<usize> = back.take(count).map(|(place, _)| place).collect();
        places.reverse();
        let groups = grouped(&self.slots, &places, rows_max);
        groups
            .iter()
            .filter(|group| group.len() > 1 && self.live_in(group) > 0)
            .collect::<Vec<_>>()
            .into_iter()
            .map(|group| self.take(group, 4))
            .collect()
    }

    /// A job that rewrites chunks of which at least `dead_percent_min` in a hundred rows are dead, the deadest first, if
    /// it costs no more than `rows_max` rows.
    pub(super) fn purge_job(&mut self, dead_percent_min: usize, chunk_rows_max: usize, rows_max: usize) -> Option<Job> {
        let rows_min = chunk_rows_max / PURGE_PART_MIN;
        let rows_max = rows_max.min(chunk_rows_max);
        let dead_enough = |slot: &Slot| {
            let (dead, rows) = (slot.deleted.count(), slot.chunk.rows);
            !slot.taken && rows >= rows_min && dead * 100 >= rows * dead_percent_min && dead > 0
        };
        let found = self.slots.iter().enumerate().filter(|(_, slot)| dead_enough(slot));
        let mut found: Vec<usize> = found.map(|(place, _)| place).collect();
        found.sort_by_key(|&place| {
            let slot = &self.slots[place];
            std::cmp::Reverse(slot.deleted.count() * 1_000 / slot.chunk.rows.max(1))
        });
        let mut group = grouped(&self.slots, &found, rows_max).into_iter().next()?;
        group.sort_unstable();
        let live = self.live_in(&group);
        (live > 0 && live <= rows_max).then(|| self.take(&group, usize::MAX))
    }

    /// A merge of dead rows alone would be a chunk without an address of its own; dead chunks are dropped instead.
    fn live_in(&self, places: &[usize]) -> usize {
        places.iter().filter_map(|&place| self.slots.get(place)).map(Slot::live).sum()
    }

    fn take(&mut self, places: &[usize], dead_part_min: usize) -> Job {
        for &place in places {
            self.slots[place].taken = true;
        }
        let sources = places.iter().map(|&place| self.slots[place].clone()).collect();
        job_of(&self.shape, sources, dead_part_min)
    }

    /// What has to be merged for `visible`, a version of this table, to be written as few segments: rows that no segment
    /// has, without the dead ones, and small segments of which there are too many. Their new places are settled.
    pub(super) fn checkpoint_jobs(&mut self, visible: &TableVersion, rows_max: usize) -> Vec<Job> {
        let taken = |slot: &Slot| place_of(&self.slots, &slot.chunk).is_some_and(|place| self.slots[place].taken);
        let free = visible.slots.iter().enumerate().filter(|(_, slot)| slot.live() > 0 && !taken(slot));
        let (old, new): (Vec<_>, Vec<_>) = free.partition(|(_, slot)| slot.chunk.is_written());
        let dying = |slot: &Slot| slot.deleted.count() * FANOUT >= slot.chunk.rows;
        let small = |slot: &Slot| slot.chunk.rows < rows_max / 2;
        let mut places: Vec<usize> =
            new.iter().filter(|(_, slot)| dying(slot) || small(slot)).map(|(place, _)| *place).collect();
        let unwritten: usize = new.iter().map(|(_, slot)| slot.live()).sum();
        let old = || old.iter().rev().filter(|(_, slot)| slot.chunk.rows < rows_max / 4);
        let rows = old().map(|(_, slot)| slot.chunk.rows);
        let whole = if unwritten < rows_max / 4 { run_length(std::iter::once(unwritten).chain(rows)) } else { None };
        if let Some(run) = whole {
            places.extend(old().take(run - 1).map(|(place, _)| *place));
            places.sort_unstable();
        }
        let groups = grouped(&visible.slots, &places, rows_max);
        let worth = |group: &&Vec<usize>| group.len() > 1 || group.iter().any(|&place| dying(&visible.slots[place]));
        let sources = |group: &Vec<usize>| group.iter().map(|&place| visible.slots[place].clone()).collect();
        let mut jobs: Vec<Job> =
            groups.iter().filter(worth).map(|group| job_of(&self.shape, sources(group), FANOUT)).collect();
        jobs.iter_mut().for_each(|job| self.settle(job));
        jobs
    }

    /// Takes the sources of a job made from a version, and gives its rows their new places.
    fn settle(&mut self, job: &mut Job) {
        for slot in &job.sources {
            if let Some(place) = place_of(&self.slots, &slot.chunk) {
                self.slots[place].taken = true;
            }
        }
        if job.way == Way::Rewrite {
            job.start = Some(self.next);
            self.next += job.rows() as Address;
        }
    }

    /// Gives sources back of which nothing came.
    pub(super) fn give_back(&mut self, sources: &[Arc<Chunk>]) {
        for chunk in sources {
            if let Some(place) = place_of(&self.slots, chunk) {
                self.slots[place].taken = false;
            }
        }
    }
}
