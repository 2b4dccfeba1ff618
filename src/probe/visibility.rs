//! When each commit became visible at a sink.
//!
//! A sink publishes versions, each with a watermark. For a *complete* strategy a version with watermark `w` holds
//! every commit up to `w`, so a commit is visible at the first publish whose watermark reaches it. An *incomplete*
//! strategy (a cursor that misses deletes and late commits) moves its watermark past commits that it did not
//! bring; for those the keys that each batch delivered decide ([`visible_by_delivery`]).

use crate::model::{Key, KeyRef, Lsn, Moment, TableId};
use std::fmt;
use std::sync::Arc;

/// A commit of the ledger, as far as freshness needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its place in the commit order.
    pub lsn: Lsn,
    /// When its client had the acknowledgement.
    pub committed: Moment,
    /// When it was scheduled to begin.
    pub intended: Moment,
}

/// A version of a sink became visible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// When.
    pub at: Moment,
    /// The position that the version claims to be complete through.
    pub watermark: Lsn,
    /// The keys that the batch brought to their state as of the watermark; `None` for a version that really is
    /// complete through its watermark.
    pub delivered: Option<Vec<(TableId, Key)>>,
}

/// Records the publishes of one sink while a run is on: one push to a vector each, or where a meter reckons up itself, a call of it.
#[derive(Clone, Debug, Default)]
pub struct VisibilityRecorder {
    publishes: Vec<Publish>,
    told: Option<Told>,
}

/// Is told of a publish.
#[derive(Clone)]
struct Told(Arc<dyn Fn(Moment, Lsn) + Send + Sync>);

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

impl VisibilityRecorder {
    /// A recorder with memory for some thousand publishes.
    pub fn new() -> VisibilityRecorder {
        VisibilityRecorder { publishes: Vec::with_capacity(4096), told: None }
    }

    /// A recorder that keeps nothing and calls `hear` with the instant and the watermark of each publish.
    pub fn telling(hear: impl Fn(Moment, Lsn) + Send + Sync + 'static) -> VisibilityRecorder {
        VisibilityRecorder { publishes: Vec::new(), told: Some(Told(Arc::new(hear))) }
    }

    /// A version that is complete through `watermark` became visible. Call it right after the publish returned.
    pub fn published(&mut self, at: Moment, watermark: Lsn) {
        match &self.told {
            Some(told) => (told.0)(at, watermark),
            None => self.publishes.push(Publish { at, watermark, delivered: None }),
        }
    }

    /// A batch that brought exactly these keys became visible under `watermark`.
    pub fn delivered(&mut self, at: Moment, watermark: Lsn, keys: Vec<(TableId, Key)>) {
        match &self.told {
            Some(told) => (told.0)(at, watermark),
            None => self.publishes.push(Publish { at, watermark, delivered: Some(keys) }),
        }
    }

    /// What was recorded so far.
    pub fn publishes(&self) -> &[Publish] {
        &self.publishes
    }

    /// What was recorded.
    pub fn into_publishes(self) -> Vec<Publish> {
        self.publishes
    }
}

/// What a change did to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    /// Insert or update: the row exists afterwards.
    Present,
    /// Delete: it does not. (A truncate is one for every row that was there; a key change one for the old key.)
    Absent,
}

/// One change of the source's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// The commit.
    pub lsn: Lsn,
    /// The table.
    pub table: TableId,
    /// The row.
    pub key: Key,
    /// What became of it.
    pub after: Existence,
}

/// For each commit when it became visible, `None` if never: the first publish with a watermark at or above it.
///
/// What the batches delivered is ignored. A watermark that goes back takes nothing away. `O(n log n)`.
///
/// # Errors
/// [`VisibilityError`] when the commits are not in the order of their positions, or the publishes not in time's.
pub fn visible_by_watermark(commits: &[Commit], publishes: &[Publish]) -> Result<Vec<Option<Moment>>, VisibilityError> {
    check_commits(commits)?;
    check_publishes(publishes)?;
    let mut reached = publishes.iter().peekable();
    let mut visible = Vec::with_capacity(commits.len());
    for commit in commits {
        while reached.next_if(|publish| publish.watermark < commit.lsn).is_some() {}
        visible.push(reached.peek().map(|publish| publish.at));
    }
    Ok(visible)
}

/// For each commit when another process could read it, at a sink whose watermark does not say which commits it shows: at the
/// first of `durable` that is not before the instant at which the commit became visible, since a checkpoint there takes all that
/// is visible and nothing becomes visible while it is made. `O(n log n)`.
///
/// A commit that was shown, overwritten and shown again counts from the last time, as it does in `visible`.
pub fn readable_after(visible: &[Option<Moment>], durable: &[Publish]) -> Vec<Option<Moment>> {
    let after = |at: &Option<Moment>| {
        let at = (*at)?;
        durable.get(durable.partition_point(|version| version.at < at)).map(|version| version.at)
    };
    visible.iter().map(after).collect()
}

/// For each commit when it became visible, `None` if never, at a sink whose batches deliver single keys.
///
/// `history` holds the source's changes in commit order (also those before the first publish that are not part of
/// the initial data), `initial` says which rows there were before the first of them.
///
/// A change by commit `c` is visible at the first publish `k` with `watermark_k >= c` at which
///
/// 1. `k` delivered the row's key (in its state as of `watermark_k`, which has `c` in it), or `k` is complete; or
/// 2. the change is moot: as of `watermark_k` the row is absent at the source, and the sink does not hold it.
///
/// So the delete of a row that the sink holds is never visible until the sink loses the row, and an update that no
/// batch brought is not visible until a later batch brings the row. A commit is visible when all its changes are;
/// one without changes when a watermark reaches it.
///
/// `O((n + d) log (n + d))` for `n` changes and `d` delivered keys, and `O(n c)` for `c` complete publishes.
///
/// # Errors
/// [`VisibilityError`] when an order is broken or a watermark goes back.
pub fn visible_by_delivery(
    commits: &[Commit],
    publishes: &[Publish],
    history: &[RowChange],
    initial: &dyn Fn(TableId, KeyRef<'_>) -> bool,
) -> Result<Vec<Option<Moment>>, VisibilityError> {
    check_commits(commits)?;
    check_publishes(publishes)?;
    check_watermarks(publishes)?;
    if let Some(index) = history.windows(2).position(|pair| matches!(pair, [a, b] if a.lsn > b.lsn)) {
        return Err(VisibilityError::HistoryOrder { index: index + 1 });
    }
    let mut latest: Vec<Option<usize>> = commits.iter().map(|commit| first_reaching(publishes, commit.lsn)).collect();
    let complete: Vec<usize> = (0..publishes.len()).filter(|&k| is_complete(publishes, k)).collect();
    for row in rows(publishes, history) {
        let held = initial(row.table, row.key);
        follow_row(&row, held, publishes, &complete, |lsn, visible| {
            if let Ok(at) = commits.binary_search_by_key(&lsn, |commit| commit.lsn)
                && let Some(slot) = latest.get_mut(at)
            {
                *slot = slot.zip(visible).map(|(before, now)| before.max(now));
            }
        });
    }
    Ok(latest.into_iter().map(|k| publishes.get(k?).map(|publish| publish.at)).collect())
}

fn is_complete(publishes: &[Publish], k: usize) -> bool {
    publishes.get(k).is_some_and(|publish| publish.delivered.is_none())
}

/// The number of the first publish whose watermark reaches `lsn`.
fn first_reaching(publishes: &[Publish], lsn: Lsn) -> Option<usize> {
    let k = publishes.partition_point(|publish| publish.watermark < lsn);
    (k < publishes.len()).then_some(k)
}

/// One row that the source changed: its changes in commit order, and the publishes that delivered it.
struct Row<'a> {
    table: TableId,
    key: KeyRef<'a>,
    changes: Vec<(Lsn, Existence)>,
    deliveries: Vec<usize>,
}

/// Brings changes and deliveries together by row. Sorted rather than hashed: the order is then the same in
/// every run, and integer keys sort fast.
fn rows<'a>(publishes: &'a [Publish], history: &'a [RowChange]) -> impl Iterator<Item = Row<'a>> {
    let mut changes: Vec<&RowChange> = history.iter().collect();
    // Stable: a row's changes stay in commit order.
    changes.sort_by(|a, b| (a.table, &a.key).cmp(&(b.table, &b.key)));
    let mut delivered: Vec<(TableId, &Key, usize)> = publishes
        .iter()
        .enumerate()
        .flat_map(|(k, publish)| publish.delivered.iter().flatten().map(move |(table, key)| (*table, key, k)))
        .collect();
    delivered.sort_unstable();
    let mut changes = changes.into_iter().peekable();
    let mut delivered = delivered.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = changes.next()?;
        let row = (first.table, &first.key);
        let mut found = Row {
            table: first.table,
            key: first.key.as_ref(),
            changes: vec![(first.lsn, first.after)],
            deliveries: Vec::new(),
        };
        while let Some(next) = changes.next_if(|next| (next.table, &next.key) == row) {
            found.changes.push((next.lsn, next.after));
        }
        while delivered.next_if(|&(table, key, _)| (table, key) < row).is_some() {}
        while let Some((_, _, k)) = delivered.next_if(|&(table, key, _)| (table, key) == row) {
            found.deliveries.push(k);
        }
        Some(found)
    })
}

/// Walks one row through the publishes and tells for each change the number of the publish that made it visible.
///
/// Nothing can change for the row but at a publish that is the first to reach one of its changes, or that
/// delivered it, or that is complete; so only those are looked at.
fn follow_row(
    row: &Row<'_>,
    initially: bool,
    publishes: &[Publish],
    complete: &[usize],
    mut found: impl FnMut(Lsn, Option<usize>),
) {
    let mut stops: Vec<usize> = row.deliveries.iter().chain(complete).copied().collect();
    stops.extend(row.changes.iter().filter_map(|&(lsn, _)| first_reaching(publishes, lsn)));
    stops.sort_unstable();
    stops.dedup();
    let (mut at_source, mut at_sink) = (initially, false);
    let mut coming = row.changes.iter().peekable();
    let mut pending: Vec<Lsn> = Vec::new();
    let mut deliveries = row.deliveries.iter().peekable();
    for k in stops {
        let Some(publish) = publishes.get(k) else { continue };
        while let Some(&(lsn, after)) = coming.next_if(|(lsn, _)| *lsn <= publish.watermark) {
            at_source = after == Existence::Present;
            pending.push(lsn);
        }
        let mut brought = publish.delivered.is_none();
        while deliveries.next_if(|&&delivered| delivered == k).is_some() {
            brought = true;
        }
        if brought {
            at_sink = at_source;
        }
        if brought || (!at_source && !at_sink) {
            pending.drain(..).for_each(|lsn| found(lsn, Some(k)));
        }
    }
    pending.into_iter().chain(coming.map(|&(lsn, _)| lsn)).for_each(|lsn| found(lsn, None));
}

fn check_commits(commits: &[Commit]) -> Result<(), VisibilityError> {
    match commits.windows(2).position(|pair| matches!(pair, [a, b] if a.lsn >= b.lsn)) {
        Some(index) => Err(VisibilityError::CommitOrder { index: index + 1 }),
        None => Ok(()),
    }
}

fn check_publishes(publishes: &[Publish]) -> Result<(), VisibilityError> {
    match publishes.windows(2).position(|pair| matches!(pair, [a, b] if a.at > b.at)) {
        Some(index) => Err(VisibilityError::PublishOrder { index: index + 1 }),
        None => Ok(()),
    }
}

fn check_watermarks(publishes: &[Publish]) -> Result<(), VisibilityError> {
    for (index, pair) in publishes.windows(2).enumerate() {
        if let [before, after] = pair
            && before.watermark > after.watermark
        {
            return Err(VisibilityError::WatermarkWentBack {
                index: index + 1,
                from: before.watermark,
                to: after.watermark,
            });
        }
    }
    Ok(())
}

/// Why visibility can't be computed from these records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VisibilityError {
    /// The commits are not in ascending order of position, or one is there twice.
    CommitOrder {
        /// The first one out of order.
        index: usize,
    },
    /// The publishes are not in order of time.
    PublishOrder {
        /// The first one out of order.
        index: usize,
    },
    /// The history is not in commit order.
    HistoryOrder {
        /// The first change out of order.
        index: usize,
    },
    /// A publish took the watermark back.
    WatermarkWentBack {
        /// The publish.
        index: usize,
        /// The watermark before.
        from: Lsn,
        /// Its own.
        to: Lsn,
    },
}

impl fmt::Display for VisibilityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("computing visibility: ")?;
        match self {
            VisibilityError::CommitOrder { index } => {
                write!(f, "commit {index} is not after the one before it; sort the ledger's commits by position")
            }
            VisibilityError::PublishOrder { index } => write!(
                f,
                "publish {index} is earlier than the one before it; record the publishes of a sink on one thread"
            ),
            VisibilityError::HistoryOrder { index } => {
                write!(f, "change {index} is before its predecessor; give the history in commit order")
            }
            VisibilityError::WatermarkWentBack { index, from, to } => write!(
                f,
                "publish {index} took the watermark back from {from} to {to}; a sink must never do that: look into it"
            ),
        }
    }
}

impl std::error::Error for VisibilityError {}

#[cfg(test)]
mod tests;
