//! Where the application's own writes to a sink left it, and why that is not where the source is.
//!
//! Each commit's rows reach a sink at most once, whole. A write that takes effect at the sink behind a newer one of the same key
//! has lost the *race*: unless the sink compares positions, it overwrites the newer row. A write that never
//! came is a *partial failure*: its client died between two writes. Either is *transient* when a later write of the key
//! puts the sink right, and *permanent* when none does. No call returned an error in any of these cases.
//!
//! What a sink put right within one publish was never there to be seen, and is no event.
//!
//! Computed after the run from the source's history (the changes of what the sink keeps) and the order of arrivals. It is a
//! prediction, since nothing here looks at rows: the sink must hold each key as of [`Divergence::held`].

use super::visibility::{Commit, RowChange};
use crate::model::{Key, Lsn, Moment, TableId};
use std::collections::HashMap;

/// One commit's rows took effect at a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The commit.
    pub lsn: Lsn,
    /// When a read at the sink would see them.
    pub at: Moment,
}

/// What a sink does with a write that is older than what it has for the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It takes it: the last to arrive wins.
    LastArrivalWins,
    /// It refuses it: the newest commit wins.
    NewestCommitWins,
}

/// Why a sink and the source were apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DivergenceCause {
    /// An older write overwrote a newer one.
    Race,
    /// A client died before it wrote to the sink.
    PartialFailure,
}

impl DivergenceCause {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            DivergenceCause::Race => "race",
            DivergenceCause::PartialFailure => "partial failure",
        }
    }
}

/// One key at one sink that was apart from the source for a while or for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverged {
    /// The table.
    pub table: TableId,
    /// The row.
    pub key: Key,
    /// Why.
    pub cause: DivergenceCause,
    /// The commit whose row the sink should have shown.
    pub lost: Lsn,
    /// The older commit whose row it showed instead, after a race.
    pub shown: Option<Lsn>,
    /// When it was put right; `None` if never.
    pub healed_at: Option<Moment>,
}

/// How one sink and the source were apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Divergence {
    /// Rows written: one for each key that a commit changed.
    pub writes: u64,
    /// Every time that a key was apart, by table and key, in the order of arrival.
    pub events: Vec<Diverged>,
    /// For each key with a permanent event, the place of the last of them.
    permanent: HashMap<(TableId, Key), usize>,
    /// For the same keys, the commit whose row the sink ended with; zero for the row that was there before the first.
    held: HashMap<(TableId, Key), Lsn>,
}

impl Divergence {
    /// Walks every key's arrivals. `history` holds the source's changes in commit order. `O(n log n)`.
    pub fn of(history: &[RowChange], arrivals: &[Arrival], conflict: Conflict) -> Divergence {
        let placed = placed(arrivals);
        let mut divergence = Divergence::default();
        for (table, key, commits) in keys(history) {
            divergence.writes += commits.len() as u64;
            let mut arrived: Vec<(usize, Arrival)> =
                commits.iter().filter_map(|lsn| placed.get(lsn).copied()).collect();
            arrived.sort_unstable_by_key(|(place, _)| *place);
            let event =
                |cause, lost, shown, healed_at| Diverged { table, key: key.clone(), cause, lost, shown, healed_at };
            if conflict == Conflict::LastArrivalWins {
                races(&arrived, |lost, shown, healed| {
                    divergence.events.push(event(DivergenceCause::Race, lost, Some(shown), healed));
                });
            }
            for &lsn in commits.iter().filter(|lsn| !placed.contains_key(lsn)) {
                let healed = arrived.iter().find(|(_, arrival)| arrival.lsn > lsn).map(|(_, arrival)| arrival.at);
                divergence.events.push(event(DivergenceCause::PartialFailure, lsn, None, healed));
            }
            let last = divergence.events.len().checked_sub(1);
            let permanent = |place: &usize| {
                let event = divergence.events.get(*place);
                event.is_some_and(|event| (event.table, &event.key) == (table, key) && event.healed_at.is_none())
            };
            if let Some(place) =
                last.into_iter().flat_map(|last| (0..=last).rev().take(commits.len() * 2)).find(permanent)
            {
                let mut arrivals = arrived.iter().map(|(_, arrival)| arrival.lsn);
                let held = match conflict {
                    Conflict::LastArrivalWins => arrivals.next_back(),
                    Conflict::NewestCommitWins => arrivals.max(),
                };
                divergence.permanent.insert((table, key.clone()), place);
                divergence.held.insert((table, key.clone()), held.unwrap_or(Lsn::ZERO));
            }
        }
        divergence
    }

    /// How many events of this cause were put right (or not).
    pub fn count(&self, cause: DivergenceCause, permanent: bool) -> u64 {
        self.events.iter().filter(|event| event.cause == cause && event.healed_at.is_none() == permanent).count() as u64
    }

    /// Events for each million of rows written; `None` without a write.
    pub fn per_million_writes(&self) -> Option<f64> {
        (self.writes > 0).then(|| self.events.len() as f64 * 1e6 / self.writes as f64)
    }

    /// The last event of this key that nothing put right.
    pub fn permanent(&self, table: TableId, key: &Key) -> Option<&Diverged> {
        self.events.get(*self.permanent.get(&(table, key.clone()))?)
    }

    /// The keys that ended apart, each with the commit whose row the sink must hold; zero for the row before the first commit.
    pub fn held(&self) -> &HashMap<(TableId, Key), Lsn> {
        &self.held
    }
}

fn placed(arrivals: &[Arrival]) -> HashMap<Lsn, (usize, Arrival)> {
    arrivals.iter().enumerate().map(|(place, &arrival)| (arrival.lsn, (place, arrival))).collect()
}

/// Each key with the commits that changed it, in commit order.
fn keys(history: &[RowChange]) -> impl Iterator<Item = (TableId, &Key, Vec<Lsn>)> {
    let mut changes: Vec<&RowChange> = history.iter().collect();
    changes.sort_by(|a, b| (a.table, &a.key).cmp(&(b.table, &b.key)));
    let mut changes = changes.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = changes.next()?;
        let mut commits = vec![first.lsn];
        while let Some(next) = changes.next_if(|next| (next.table, &next.key) == (first.table, &first.key)) {
            if commits.last() != Some(&next.lsn) {
                commits.push(next.lsn);
            }
        }
        Some((first.table, &first.key, commits))
    })
}

/// Tells each stretch in which an older row stood over a newer one: the newer, the older that was there at its end, and when
/// a newer one still ended it. One that began and ended within one publish is none.
fn races(arrived: &[(usize, Arrival)], mut found: impl FnMut(Lsn, Lsn, Option<Moment>)) {
    let (mut newest, mut shown): (Lsn, Option<(Moment, Lsn)>) = (Lsn::ZERO, None);
    for (_, arrival) in arrived {
        if arrival.lsn > newest {
            if let Some((_, shown)) = shown.take().filter(|(began, _)| *began < arrival.at) {
                found(newest, shown, Some(arrival.at));
            }
            newest = arrival.lsn;
        } else {
            shown = Some((shown.map_or(arrival.at, |(began, _)| began), arrival.lsn));
        }
    }
    if let Some((_, shown)) = shown {
        found(newest, shown, None);
    }
}

/// For each commit when it became visible for good at a sink that the application writes to itself, `None` if it never did:
/// from when on the sink showed each of the commit's keys as that commit left it or a newer one, without ever going back behind it.
/// So a commit that was seen and then overwritten by an older one is missing until a newer write puts that right.
///
/// A commit that changed nothing that the sink keeps (by `history`) has nothing to miss: it is visible when its own write
/// arrived, or at once if that never came. `commits` and `history` in commit order. `O(n log n)`.
pub fn visible_by_arrival(
    commits: &[Commit],
    history: &[RowChange],
    arrivals: &[Arrival],
    conflict: Conflict,
) -> Vec<Option<Moment>> {
    let placed = placed(arrivals);
    let own = |commit: &Commit| placed.get(&commit.lsn).map_or(commit.committed, |(_, arrival)| arrival.at);
    let mut visible: Vec<Option<Moment>> = commits.iter().map(|commit| Some(own(commit))).collect();
    let mut touched = vec![false; commits.len()];
    for (_, _, lsns) in keys(history) {
        let mut arrived: Vec<(usize, Arrival)> = lsns.iter().filter_map(|lsn| placed.get(lsn).copied()).collect();
        arrived.sort_unstable_by_key(|(place, _)| *place);
        let lasting = lasting(&arrived, conflict);
        for lsn in &lsns {
            let from = lasting.partition_point(|shown| shown < lsn);
            let from = arrived.get(from).map(|(_, arrival)| arrival.at);
            let Ok(place) = commits.binary_search_by_key(lsn, |commit| commit.lsn) else { continue };
            if let (Some(slot), Some(touched)) = (visible.get_mut(place), touched.get_mut(place)) {
                let before = if std::mem::replace(touched, true) { *slot } else { Some(Moment::ORIGIN) };
                *slot = before.zip(from).map(|(before, now)| before.max(now));
            }
        }
    }
    visible
}

/// For each arrival of a key the oldest commit that the sink shows from then on. Never decreases.
fn lasting(arrived: &[(usize, Arrival)], conflict: Conflict) -> Vec<Lsn> {
    let mut shown: Vec<Lsn> = arrived.iter().map(|(_, arrival)| arrival.lsn).collect();
    match conflict {
        Conflict::NewestCommitWins => {
            let mut newest = Lsn::ZERO;
            shown.iter_mut().for_each(|lsn| {
                newest = newest.max(*lsn);
                *lsn = newest;
            });
        }
        Conflict::LastArrivalWins => {
            let mut oldest = Lsn(u64::MAX);
            shown.iter_mut().rev().for_each(|lsn| {
                oldest = oldest.min(*lsn);
                *lsn = oldest;
            });
        }
    }
    shown
}

#[cfg(test)]
mod tests;
