//! Which of several servers is meant, and whether a pooler stands in front of it: found out once, before the first
//! connection that does any work. All connections lead to the same server, or a snapshot of one would be followed by the log
//! of another.

use super::hosts::PgPlace;
use super::options::{PgOptions, TargetSession};
use super::session::{self, POOLER_REMEDY};
use super::wire::{Mode, Wire};
use crate::source::SourceError;
use std::sync::{Arc, OnceLock};

/// SQLSTATE of a server that is starting, or stopping.
const CANNOT_CONNECT_NOW: &str = "57P03";
/// How often a pooler is tried. Once is enough unless others use it at that instant.
const ROUNDS: usize = 3;

/// What was found out. All copies of one [`PgOptions`] share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached {
    place: Arc<OnceLock<usize>>,
    pooled: Arc<OnceLock<bool>>,
}

impl PartialEq for Reached {
    /// What was found out is no part of what was asked for.
    fn eq(&self, _: &Reached) -> bool {
        true
    }
}

impl Eq for Reached {}

impl Reached {
    /// For another database: on the same server, and perhaps behind another pool.
    pub(super) fn of_server(&self) -> Reached {
        Reached { place: Arc::clone(&self.place), pooled: Arc::default() }
    }

    /// The number of the place, once it is chosen.
    pub(super) fn place(&self) -> Option<usize> {
        self.place.get().copied()
    }

    /// Whether a pooler answers, once that is known.
    pub(super) fn pooled(&self) -> Option<bool> {
        self.pooled.get().copied()
    }
}

impl PgOptions {
    /// The place that was chosen, else the first.
    pub(super) fn here(&self) -> &PgPlace {
        let chosen = self.reached.place().unwrap_or(0);
        self.places().nth(chosen).unwrap_or(&self.first)
    }

    /// Chooses the server, and looks for a pooler in front of it; at once when that is known already.
    ///
    /// # Errors
    /// When none can be reached or is of the kind asked for; and when a pooler gives each transaction or statement another
    /// session of the server, in which no setting would hold.
    pub(super) fn settle(&self) -> Result<(), SourceError> {
        if self.reached.pooled().is_some() {
            return Ok(());
        }
        let targets = match self.target {
            TargetSession::PreferStandby => vec![TargetSession::Standby, TargetSession::Any],
            target => vec![target],
        };
        let places = match self.reached.place() {
            Some(chosen) => chosen..chosen + 1,
            None => 0..1 + self.others.len(),
        };
        let mut failure = None;
        for target in targets {
            for place in places.clone() {
                let only = self.only(place);
                match only.look(target) {
                    Ok(Some(pooled)) => {
                        // Whoever looked at the same time found the same, or is followed.
                        let chosen = *self.reached.place.get_or_init(|| place);
                        if chosen == place {
                            let _ = self.reached.pooled.set(pooled);
                        }
                        return Ok(());
                    }
                    Ok(None) => failure = Some(session::misfit(&only)),
                    Err(error) if is_away(&error) => failure = Some(error),
                    Err(error) => return Err(error),
                }
            }
        }
        Err(failure.unwrap_or_else(|| session::misfit(self)))
    }

    /// The same with one of its places alone.
    fn only(&self, place: usize) -> PgOptions {
        let first = self.places().nth(place).unwrap_or(&self.first).clone();
        let reached = Reached::default();
        let _ = reached.place.set(0);
        PgOptions { first, others: Vec::new(), reached, ..self.clone() }
    }

    /// Whether a pooler answers; `None` when the server is of another kind than `target`.
    fn look(&self, target: TargetSession) -> Result<Option<bool>, SourceError> {
        let mut wire = Wire::log_in(self, Mode::Query)?;
        if !session::fits(&mut |sql| wire.query(sql), target)? {
            return Ok(None);
        }
        self.look_for_pooler(&mut wire).map(Some)
    }

    /// A server tells each client which of its processes serves it, for cancelling; a pooler tells a number of its own. One
    /// that shares sessions then shows the same process to two clients at once, or two processes to one.
    fn look_for_pooler(&self, wire: &mut Wire) -> Result<bool, SourceError> {
        let first = process(wire)?;
        if first.is_some() && first == wire.process_id() {
            return Ok(false);
        }
        for _ in 0..ROUNDS {
            let mut other = Wire::log_in(self, Mode::Query)?;
            let shared = match other.query("BEGIN") {
                // Pooling by statement forbids transactions.
                Err(SourceError::Postgres { sqlstate: Some(state), .. }) if state == "08P01" => true,
                begun => {
                    begun?;
                    process(&mut other)? == first || process(wire)? != first
                }
            };
            if shared {
                let what = format!(
                    "{}: a pooler answers that does not keep a session for each client, so no setting holds and values \
                     might silently come in another form; {POOLER_REMEDY}",
                    self.place()
                );
                return Err(SourceError::Options { what });
            }
            other.query("ROLLBACK")?;
        }
        Ok(true)
    }
}

fn process(wire: &mut Wire) -> Result<Option<i32>, SourceError> {
    let row = session::row(&mut |sql| wire.query(sql), "SELECT pg_catalog.pg_backend_pid()")?;
    Ok(row.into_iter().flatten().next().and_then(|text| text.parse().ok()))
}

/// Whether another place may be tried: not after a server has refused the role.
fn is_away(error: &SourceError) -> bool {
    match error {
        SourceError::Postgres { sqlstate: None, .. } => true,
        SourceError::Postgres { sqlstate: Some(state), .. } => state == CANNOT_CONNECT_NOW,
        _ => false,
    }
}
