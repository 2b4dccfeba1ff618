//! Positions: the total order of commits, and of the changes inside one.

use std::fmt;

/// The place of a commit in the record system's commit order. `Lsn(0)` is before every commit.
///
/// On PostgreSQL it is the commit LSN; on SQLite, which shows no log position, the number of the
/// commit as the clients keep it in the database itself (see `source::sqlite`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before every commit.
    pub const ZERO: Lsn = Lsn(0);
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A total order of changes: the commit's [`Lsn`], then the ordinal of the change inside the commit.
///
/// An LSN alone does not order changes: all the changes of one commit share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The commit.
    pub lsn: Lsn,
    /// The change inside the commit, from 0.
    pub ordinal: u32,
}

impl Position {
    /// The position behind the last change of commit `lsn`: a watermark that says "complete through `lsn`".
    pub const fn end_of(lsn: Lsn) -> Position {
        Position { lsn, ordinal: u32::MAX }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ordinal == u32::MAX {
            write!(f, "{}/end", self.lsn)
        } else {
            write!(f, "{}/{}", self.lsn, self.ordinal)
        }
    }
}

/// When the record system says that a commit happened: microseconds since 1970-01-01 00:00 UTC.
///
/// This is the source's wall clock, carried for people and for foreign sources. No figure of a
/// run is computed from it: those come from the ledger's monotonic [`super::Moment`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitTime(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_order_by_commit_then_ordinal() {
        let first = Position { lsn: Lsn(1), ordinal: 9 };
        let second = Position { lsn: Lsn(2), ordinal: 0 };
        assert!(first < second);
        assert!(first < Position::end_of(Lsn(1)));
        assert!(Position::end_of(Lsn(1)) < second);
        assert_eq!(Position::end_of(Lsn(3)).to_string(), "3/end");
    }
}
