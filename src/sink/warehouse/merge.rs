//! Which chunks are to become one, so that a scan after millions of small groups meets few of them and few dead rows.
//!
//! A chunk's *tier* is the power of eight its row count lies in. Eight or more of the youngest small chunks become one
//! when the oldest of them is not larger than the others together: so a copied row is in a chunk at least twice as
//! large (with groups of even size: eight times), and beside its full chunks a table has few others. Chunks of which a set
//! share is dead are rewritten without their dead rows. Only neighbours become one, since rows keep their addresses.

use super::chunk::{Chunk, Slot, place_of};
use super::merged::{Job, Sources};
use super::table::Table;
use super::version::TableVersion;
use std::sync::Arc;

const FANOUT: usize = 8;
/// How many of the youngest chunks are looked at for small ones at each publish.
const LOOK_BACK: usize = 256;
/// Chunks with fewer than this part of a full one's rows are left to the merges of small ones.
const PURGE_PART_MIN: usize = 16;
/// Chunks with fewer than this part of a full one's rows are small.
const SMALL_PART: usize = 4;
/// What a merge of small chunks joins may be dead to this part; more is left out.
const JOINED_DEAD_PART: usize = 4;

fn tier(rows: usize) -> u32 {
    rows.max(1).ilog2() / FANOUT.ilog2()
}

/// How many of the youngest chunks are worth merging, given their row counts from the youngest on: eight or more, the
/// oldest of them not larger than all the others together, with all that follow of no higher tier.
pub(super) fn run_length(rows: impl Iterator<Item = usize>) -> Option<usize> {
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

/// Cuts ascending places of `slots` into groups of neighbours with at most `rows_max` live rows that take about
/// `bytes_max` bytes of memory (or one slot).
fn grouped(slots: &[Slot], places: &[usize], rows_max: usize, bytes_max: usize) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let (mut rows, mut bytes) = (0usize, 0usize);
    for &place in places {
        let Some(slot) = slots.get(place) else { continue };
        let (more, more_bytes) = (slot.live(), slot.chunk.row_bytes_about());
        match groups.last_mut() {
            Some(group)
                if group.last().is_some_and(|last| last + 1 == place)
                    && rows + more <= rows_max
                    && bytes.saturating_add(more_bytes) <= bytes_max =>
            {
                group.push(place);
                rows += more;
                bytes = bytes.saturating_add(more_bytes);
            }
            _ => {
                groups.push(vec![place]);
                (rows, bytes) = (more, more_bytes);
            }
        }
    }
    groups
}

/// Rows that are written again go without the dead ones; others with them, if at most one in `dead_part_min` is dead.
fn sources_of(slots: Vec<Slot>, dead_part_min: usize) -> Sources {
    let written = slots.iter().any(|slot| slot.chunk.is_written());
    let rows: usize = slots.iter().map(|slot| slot.chunk.rows).sum();
    let dead: usize = slots.iter().map(|slot| slot.deleted.count()).sum();
    Sources { slots, with_dead: !written && dead.saturating_mul(dead_part_min) <= rows }
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
        let small = |slot: &Slot| slot.chunk.rows < rows_max / SMALL_PART && !slot.taken && !slot.chunk.is_written();
        let back = self.slots.iter().enumerate().rev().take(LOOK_BACK);
        // Neighbours alone: what can't be merged may not make others look older than they are.
        let back = back.skip_while(|(_, slot)| !small(slot)).take_while(|(_, slot)| small(slot));
        let Some(count) = run_length(back.clone().map(|(_, slot)| slot.chunk.rows)) else { return Vec::new() };
        let mut places: Vec<usize> = back.take(count).map(|(place, _)| place).collect();
        places.reverse();
        let groups = grouped(&self.slots, &places, rows_max, self.chunk_bytes_max);
        groups
            .iter()
            .filter(|group| group.len() > 1 && self.live_in(group) > 0)
            .collect::<Vec<_>>()
            .into_iter()
            .map(|group| self.take(group, JOINED_DEAD_PART))
            .collect()
    }

    /// A job that rewrites neighbours of which at least `dead_percent_min` in a hundred rows are dead, the deadest, if it
    /// costs no more than `rows_max` rows. Small chunks beside them join them, as far as they are not the larger part.
    pub(super) fn purge_job(&mut self, dead_percent_min: usize, chunk_rows_max: usize, rows_max: usize) -> Option<Job> {
        let rows_min = chunk_rows_max / PURGE_PART_MIN;
        let dead_enough = |slot: &Slot| {
            let (dead, rows) = (slot.deleted.count(), slot.chunk.rows);
            !slot.taken && dead * 100 >= rows * dead_percent_min && dead > 0
        };
        let found = self.slots.iter().enumerate().filter(|(_, slot)| dead_enough(slot));
        let found: Vec<usize> = found.map(|(place, _)| place).collect();
        let rows_in = |group: &[usize]| group.iter().map(|&place| self.slots[place].chunk.rows).sum::<usize>();
        let worth = |group: &Vec<usize>| {
            let (rows, live) = (rows_in(group), self.live_in(group));
            (rows >= rows_min && live > 0).then_some((rows - live) * 1_000 / rows)
        };
        let groups = grouped(&self.slots, &found, chunk_rows_max, self.chunk_bytes_max).into_iter();
        let (_, mut group) = groups.filter_map(|group| Some((worth(&group)?, group))).max_by_key(|(dead, _)| *dead)?;
        let live = self.live_in(&group);
        if live > rows_max {
            return None;
        }
        self.join_small_neighbours(&mut group, chunk_rows_max, rows_max - live);
        Some(self.take(&group, usize::MAX))
    }

    /// Adds small chunks before and behind neighbours: at most `rows_max` rows, and no more than those have.
    fn join_small_neighbours(&self, group: &mut Vec<usize>, chunk_rows_max: usize, rows_max: usize) {
        let own = self.live_in(group);
        let mut rows_left = rows_max.min(own).min(chunk_rows_max.saturating_sub(own));
        let bytes: usize = group.iter().map(|&place| self.slots[place].chunk.row_bytes_about()).sum();
        let mut bytes_left = self.chunk_bytes_max.saturating_sub(bytes);
        let mut joins = |place: usize| {
            let slot = self.slots.get(place)?;
            let (rows, bytes) = (slot.live(), slot.chunk.row_bytes_about());
            let small = !slot.taken && slot.chunk.rows < chunk_rows_max / SMALL_PART;
            (small && rows <= rows_left && bytes <= bytes_left).then(|| {
                rows_left -= rows;
                bytes_left -= bytes;
                place
            })
        };
        while let Some(place) = group.first().and_then(|first| first.checked_sub(1)).and_then(&mut joins) {
            group.insert(0, place);
        }
        while let Some(place) = group.last().map(|last| last + 1).and_then(&mut joins) {
            group.push(place);
        }
    }

    /// A merge of dead rows alone would be a chunk of no rows; dead chunks are dropped instead.
    fn live_in(&self, places: &[usize]) -> usize {
        places.iter().filter_map(|&place| self.slots.get(place)).map(Slot::live).sum()
    }

    fn take(&mut self, places: &[usize], dead_part_min: usize) -> Job {
        for &place in places {
            self.slots[place].taken = true;
        }
        let slots = places.iter().map(|&place| self.slots[place].clone()).collect();
        Job { shape: self.shape.clone(), sources: sources_of(slots, dead_part_min) }
    }

    /// What has to be merged for `visible`, a version of this table, to be written as few segments: rows that no segment
    /// has, without the dead ones, and small segments of which there are too many.
    pub(super) fn checkpoint_jobs(&mut self, visible: &TableVersion, rows_max: usize) -> Vec<Job> {
        let free = |slot: &Slot| place_of(&self.slots, &slot.chunk).is_none_or(|place| !self.slots[place].taken);
        let dying = |slot: &Slot| slot.deleted.count() * FANOUT >= slot.chunk.rows;
        let is_new = |slot: &Slot| !slot.chunk.is_written() && free(slot);
        let slots = &visible.slots;
        let small_new = |slot: &Slot| is_new(slot) && (dying(slot) || slot.chunk.rows < rows_max / 2);
        // The youngest rows have no segment; older neighbours of theirs are small segments, perhaps.
        let old_end = slots.len() - slots.iter().rev().take_while(|slot| is_new(slot)).count();
        let unwritten: usize = slots[old_end..].iter().map(Slot::live).sum();
        let small_old = |slot: &&Slot| slot.chunk.is_written() && free(slot) && slot.chunk.rows < rows_max / SMALL_PART;
        let rows = slots[..old_end].iter().rev().take_while(small_old).map(|slot| slot.chunk.rows);
        let whole = unwritten > 0 && unwritten < rows_max / SMALL_PART;
        let run = if whole { run_length(std::iter::once(unwritten).chain(rows)).map_or(0, |run| run - 1) } else { 0 };
        // Chunks without a live row cost nothing, and let their neighbours be neighbours.
        let goes = |place: usize, slot: &Slot| {
            small_new(slot) || (slot.live() == 0 && free(slot)) || (place < old_end && place >= old_end - run)
        };
        let places: Vec<usize> = (0..slots.len()).filter(|&place| goes(place, &slots[place])).collect();
        let groups = grouped(slots, &places, rows_max, self.chunk_bytes_max);
        let worth = |group: &&Vec<usize>| {
            let mut live = group.iter().map(|&place| &slots[place]).filter(|slot| slot.live() > 0);
            match (live.next(), live.next()) {
                (Some(one), None) => !one.chunk.is_written() && dying(one),
                (live, _) => live.is_some(),
            }
        };
        let taken = |group: &Vec<usize>| group.iter().map(|&place| slots[place].clone()).collect();
        let sources: Vec<Sources> = groups.iter().filter(worth).map(|group| sources_of(taken(group), FANOUT)).collect();
        for chunk in sources.iter().flat_map(Sources::chunks) {
            self.set_taken(chunk, true);
        }
        sources.into_iter().map(|sources| Job { shape: self.shape.clone(), sources }).collect()
    }

    fn set_taken(&mut self, chunk: &Arc<Chunk>, taken: bool) {
        if let Some(place) = place_of(&self.slots, chunk) {
            self.slots[place].taken = taken;
        }
    }

    /// Gives sources back of which nothing came.
    pub(super) fn give_back(&mut self, sources: &Sources) {
        sources.chunks().for_each(|chunk| self.set_taken(chunk, false));
    }

    /// Puts merged chunks in the places of their sources. True if anything changed.
    pub(super) fn install_waiting(&mut self) -> bool {
        let mut any = false;
        for merged in std::mem::take(&mut self.waiting) {
            match merged.fits(&self.slots) {
                Some((places, slot)) => {
                    self.slots.splice(places, [slot]);
                    any = true;
                }
                // Truncated or loaded anew meanwhile.
                None => self.give_back(&merged.sources),
            }
        }
        self.changed |= any;
        any
    }
}
