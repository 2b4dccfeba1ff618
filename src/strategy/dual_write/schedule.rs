//! Dual writes under a schedule that is decided beforehand: every step of every client on one thread, in one order.
//!
//! Real source, real sinks, no threads: the same steps give the same divergence each time. [`interleave`] runs steps that
//! somebody wrote down, [`simulate`] draws them from a seed, with clients that commit, think and write in virtual time.

use super::direct::DirectSink;
use super::writer::InHand;
use super::{Fate, Ready, ready};
use crate::clock::Clock;
use crate::model::{Lsn, Moment};
use crate::probe::{Arrival, Commit};
use crate::sink::SinkKind;
use crate::source::{Application, Client, Inside, Outcome, SourceError};
use crate::stats::SplitMix64;
use crate::strategy::sinks::SinkReaders;
use crate::strategy::{Setting, StrategyError};
use crate::workload::{ClientId, PlannedTxn, TxnIndex, Workload};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// One step of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It commits its transaction in the source.
    Commit(ClientId),
    /// It writes the transaction's rows to a sink.
    Write(ClientId, SinkKind),
}

/// What a schedule came to.
#[derive(Debug)]
pub struct Interleaved {
    /// The commits, in commit order, each with its transaction and client.
    pub commits: Vec<(Commit, TxnIndex, ClientId)>,
    /// The order in which the writes took effect at each sink.
    pub arrivals: BTreeMap<SinkKind, Vec<Arrival>>,
    /// The sinks as they ended, complete through [`Interleaved::goal`] as far as a dual write is ever complete.
    pub readers: SinkReaders,
    /// A commit behind all others.
    pub goal: Lsn,
}

/// One client: its connection, and the rows of its last commit until it has written them to every sink.
struct Actor {
    client: Client,
    in_hand: InHand,
}

impl Application for InHand {
    fn before_commit(&mut self, txn: &PlannedTxn, inside: &Inside<'_>) -> Result<(), SourceError> {
        self.collect(txn, inside)
    }

    fn ended(&mut self, _: &PlannedTxn, _: &Outcome) {}
}

/// The stage on which the steps are done.
struct Stage {
    setting: Setting,
    sinks: Vec<Arc<dyn DirectSink>>,
    readers: SinkReaders,
    actors: Vec<Actor>,
    commits: Vec<(Commit, TxnIndex, ClientId)>,
}

impl Stage {
    fn new(setting: &Setting, clients: u32, versioned: bool) -> Result<Stage, StrategyError> {
        let Ready { direct, readers, .. } = ready(setting, versioned)?;
        let actor = |_| Ok(Actor { client: Client::connect(&setting.source)?, in_hand: InHand::default() });
        let actors = (0..clients).map(actor).collect::<Result<_, SourceError>>()?;
        Ok(Stage { setting: setting.clone(), sinks: direct, readers, actors, commits: Vec::new() })
    }

    /// Whether the transaction committed.
    fn commit(&mut self, id: ClientId, txn: &PlannedTxn) -> Result<bool, StrategyError> {
        let Some(actor) = self.actors.get_mut(id.0 as usize) else { return Ok(false) };
        let outcome = actor.client.execute_as(txn, &mut actor.in_hand);
        match outcome {
            Outcome::Committed { lsn, .. } => {
                let committed = self.setting.clock.now();
                self.commits.push((Commit { lsn, committed, intended: committed }, txn.index, id));
                Ok(true)
            }
            Outcome::Read => Ok(false),
            Outcome::Failed { reason } | Outcome::Unknown { reason } => {
                let what = format!("transaction {} of a schedule failed: {reason}", txn.index.0);
                Err(SourceError::Unstorable { what }.into())
            }
        }
    }

    fn write(&self, id: ClientId, place: usize) -> Result<(), StrategyError> {
        match (self.sinks.get(place), self.actors.get(id.0 as usize)) {
            (Some(sink), Some(actor)) => sink.write(&actor.in_hand.rows),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<Interleaved, StrategyError> {
        let goal = self.setting.source.write_marker()?;
        let mut arrivals = BTreeMap::new();
        for sink in &self.sinks {
            sink.flush()?;
            sink.complete(goal.number)?;
            arrivals.insert(sink.kind(), sink.finish()?.arrivals);
        }
        Ok(Interleaved { commits: self.commits, arrivals, readers: self.readers, goal: goal.number })
    }
}

/// Runs `steps` in their order; `txns` holds one transaction a client.
///
/// # Errors
/// When a stage fails.
pub fn interleave(
    setting: &Setting,
    txns: &[PlannedTxn],
    steps: &[Step],
    versioned: bool,
) -> Result<Interleaved, StrategyError> {
    let mut stage = Stage::new(setting, u32::try_from(txns.len()).unwrap_or(u32::MAX), versioned)?;
    for step in steps {
        match *step {
            Step::Commit(id) => {
                if let Some(txn) = txns.get(id.0 as usize) {
                    stage.commit(id, txn)?;
                }
            }
            Step::Write(id, kind) => {
                if let Some(place) = stage.sinks.iter().position(|sink| sink.kind() == kind) {
                    stage.write(id, place)?;
                }
            }
        }
    }
    stage.finish()
}

/// How a simulation is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Concurrent clients.
    pub clients: u32,
    /// Transactions intended before this are run.
    pub until: Duration,
    /// The mean time of a transaction up to its commit, in virtual time; exponentially distributed.
    pub commit: Duration,
}

/// Where a client is in its work.
#[derive(Default)]
struct Turn {
    coming: VecDeque<PlannedTxn>,
    /// The transaction it has committed, and the place of the next sink that it writes to.
    writing: Option<(TxnIndex, usize)>,
}

/// Runs the workload's transactions on as many clients as the schedule says, in virtual time.
///
/// `setting.clock` must be one that is moved by hand. The outcome depends on the workload, the seed of [`super::DualWrite`] and the
/// schedule alone.
///
/// # Errors
/// When a stage fails.
pub fn simulate(
    setting: &Setting,
    workload: &Workload,
    schedule: Schedule,
    versioned: bool,
) -> Result<Interleaved, StrategyError> {
    let clients = schedule.clients.max(1);
    let mut stage = Stage::new(setting, clients, versioned)?;
    let mut turns: Vec<Turn> = (0..clients).map(|_| Turn::default()).collect();
    let offered = workload.stream().take_while(|txn| txn.intended < schedule.until).filter(PlannedTxn::is_write);
    for txn in offered {
        if let Some(turn) = turns.get_mut(txn.client(clients).0 as usize) {
            turn.coming.push_back(txn);
        }
    }
    let begun = setting.clock.now();
    let mut random = SplitMix64::new(setting.dual.seed);
    // The place in the queue breaks ties, so that equal instants have one order.
    let mut events: BinaryHeap<Reverse<(Moment, u64, u32)>> = BinaryHeap::new();
    let mut queued = 0;
    for (id, turn) in turns.iter().enumerate() {
        if let Some(first) = turn.coming.front() {
            events.push(Reverse((begun.after(first.intended), queued, id as u32)));
            queued += 1;
        }
    }
    let mut flush_due = begun.after(setting.search_interval);
    while let Some(Reverse((now, _, id))) = events.pop() {
        // A sink that collects shows what it has at its interval, and nothing of what happened in between.
        while flush_due <= now {
            move_to(&setting.clock, flush_due);
            stage.sinks.iter().try_for_each(|sink| sink.flush())?;
            flush_due = flush_due.after(setting.search_interval);
        }
        move_to(&setting.clock, now);
        let Some(turn) = turns.get_mut(id as usize) else { continue };
        let next = step(&mut stage, turn, ClientId(id), (now, begun), &mut random, schedule.commit)?;
        if let Some(next) = next {
            events.push(Reverse((next, queued, id)));
            queued += 1;
        }
    }
    stage.finish()
}

fn move_to(clock: &Clock, moment: Moment) {
    clock.advance(moment.since(clock.now()));
}

/// Does a client's next step at `now` and says when the one after it is due; `None` when it has done everything.
fn step(
    stage: &mut Stage,
    turn: &mut Turn,
    id: ClientId,
    (now, begun): (Moment, Moment),
    random: &mut SplitMix64,
    commit: Duration,
) -> Result<Option<Moment>, StrategyError> {
    match turn.writing.take() {
        Some((txn, place)) => {
            stage.write(id, place)?;
            turn.writing = Some((txn, place + 1));
        }
        None => {
            let Some(txn) = turn.coming.pop_front() else { return Ok(None) };
            if stage.commit(id, &txn)? {
                turn.writing = Some((txn.index, 0));
            }
        }
    }
    if let Some((txn, place)) = turn.writing {
        match stage.setting.dual.fate(txn, place) {
            Fate::Think(pause) if place < stage.sinks.len() => return Ok(Some(now.after(pause))),
            _ => turn.writing = None,
        }
    }
    // The next transaction: at its intended start or when the client is free, and then its commit takes its time.
    Ok(turn.coming.front().map(|next| now.max(begun.after(next.intended)).after(random.exponential(commit))))
}
