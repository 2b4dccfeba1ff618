//! One entry in process: a place that stays while what is known of its key changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::CacheConflict;
use crate::model::Lsn;

/// What is known of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing: a slot nobody has put anything in yet, or an invalidation.
    #[default]
    Unknown,
    /// There is no row.
    Gone,
    /// The row, as `model::row` encodes it.
    Row(Arc<[u8]>),
}

/// A place for one key's entry.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<State>);

/// Position zero stands for the floor of the table: a bulk load does not know its position before it ends.
#[derive(Debug, Default)]
struct State {
    position: Lsn,
    content: Content,
}

impl Slot {
    /// A slot that a bulk load puts a row in.
    pub(super) fn loaded(row: Arc<[u8]>) -> Slot {
        Slot(Mutex::new(State { position: Lsn::ZERO, content: Content::Row(row) }))
    }

    // A state is replaced field by field without a call that could panic between them.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares and puts in one step. `false` when what is there is newer.
    pub(super) fn put(&self, position: Lsn, content: Content, conflict: CacheConflict, floor: Lsn) -> bool {
        let mut state = self.lock();
        if conflict == CacheConflict::NewerWins && position < state.position.max(floor) {
            return false;
        }
        state.position = position;
        let before = std::mem::replace(&mut state.content, content);
        // The old row's memory goes back after readers may look again.
        drop(state);
        drop(before);
        true
    }

    /// What is known, and as of which position.
    pub(super) fn get(&self, floor: Lsn) -> (Lsn, Content) {
        let state = self.lock();
        let position = if state.position == Lsn::ZERO { floor } else { state.position };
        (position, state.content.clone())
    }

    /// As [`Slot::get`], without the row: its position, when anything is known.
    pub(super) fn position(&self, floor: Lsn) -> Option<Lsn> {
        let state = self.lock();
        let position = if state.position == Lsn::ZERO { floor } else { state.position };
        (state.content != Content::Unknown).then_some(position)
    }
}
