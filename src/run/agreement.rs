//! Do the followers agree? What the application's own writes did to each sink, and where sinks differ from one another.

use super::RunError;
use super::verify::{Examples, Images, SinkDifference, place};
use crate::model::{Key, KeyRef, Lsn, TableId, Value};
use crate::oracle::{ACTUAL_MAX, ExpectedTable, Shape};
use crate::probe::{Diverged, Divergence, DivergenceCause};
use crate::report::SinkDivergence;
use crate::sink::SinkKind;
use crate::source::Ledger;
use crate::workload::Workload;
use std::collections::{BTreeMap, BTreeSet};

/// Examples of a sink's divergence in the result.
const EXAMPLES_MAX: usize = 5;

/// What the strategy's own events say of a key.
pub(super) struct Explained<'a> {
    /// The divergence of each sink that the application writes to itself; empty for every other strategy.
    pub(super) divergence: &'a BTreeMap<SinkKind, Divergence>,
    /// The rows that those sinks ended with, by what the order of their writes says.
    pub(super) images: &'a Images,
}

impl Explained<'_> {
    /// Whether events have to account for every difference.
    pub(super) fn by_events(&self) -> bool {
        !self.divergence.is_empty()
    }

    /// The rows that a sink should have ended with, given the order of its writes; `None` when no key of it stayed apart.
    pub(super) fn predicted(
        &self,
        sink: SinkKind,
        table: TableId,
        source: &ExpectedTable,
        shape: &Shape,
    ) -> Result<Option<ExpectedTable>, RunError> {
        let Some(divergence) = self.divergence.get(&sink) else { return Ok(None) };
        let mut predicted = source.clone();
        let mut apart = false;
        for ((_, key), lsn) in divergence.held().iter().filter(|((other, _), _)| *other == table) {
            apart = true;
            match self.images.get(&(table, key.clone(), *lsn)).cloned().flatten() {
                Some(row) => drop(predicted.rows.insert(key.clone(), row)),
                None => drop(predicted.rows.remove(key)),
            }
        }
        if apart { shape.apply(table, &predicted).map(Some).map_err(RunError::measuring) } else { Ok(None) }
    }

    pub(super) fn cause(&self, sink: SinkKind, table: TableId, key: &Key) -> Option<&'static str> {
        self.divergence.get(&sink)?.permanent(table, key).map(|event| event.cause.name())
    }
}

/// How many keys of a table are not the same in all sinks that keep it, looking only at columns that both of two sinks keep.
pub(super) fn disagreements(expected: &ExpectedTable, sinks: &[(SinkKind, SinkDifference)]) -> u64 {
    let keys: BTreeSet<&Key> = sinks.iter().flat_map(|(_, found)| found.diff.keys.iter().map(|(key, _)| key)).collect();
    let disagree = |key: &Key| {
        let views: Vec<View<'_>> = sinks.iter().map(|(_, found)| View::of(expected, found, key)).collect();
        views.iter().enumerate().any(|(place, a)| views.iter().skip(place + 1).any(|b| !a.agrees_with(b)))
    };
    keys.into_iter().filter(|key| disagree(key)).count() as u64
}

/// One key's row as one sink shows it.
struct View<'a> {
    columns: &'a [usize],
    /// In the order of `columns`.
    row: Option<Vec<&'a Value>>,
    /// Whether the row was kept for comparison.
    known: bool,
}

impl<'a> View<'a> {
    fn of(expected: &'a ExpectedTable, found: &'a SinkDifference, key: &Key) -> View<'a> {
        let columns = found.columns.as_slice();
        let differs = found.diff.keys.binary_search_by(|(other, _)| other.cmp(key)).is_ok();
        let kept = found.diff.actual.get(key);
        // Of very many differing rows not all are kept: of the others nothing is said.
        let known = !differs || kept.is_some() || found.diff.actual.len() < ACTUAL_MAX;
        let row = if differs {
            kept.map(|row| row.iter().collect())
        } else {
            let row = expected.rows.get(key);
            row.map(|row| columns.iter().filter_map(|&column| row.get(column)).collect())
        };
        View { columns, row, known }
    }

    fn agrees_with(&self, other: &View<'_>) -> bool {
        if !self.known || !other.known {
            return true;
        }
        let (Some(mine), Some(others)) = (&self.row, &other.row) else {
            return self.row.is_none() == other.row.is_none();
        };
        self.columns.iter().zip(mine).all(|(column, value)| {
            let place = other.columns.iter().position(|other| other == column);
            place.and_then(|place| others.get(place)).is_none_or(|other| value == other)
        })
    }
}

/// The divergence of a sink as the result tells it.
pub(super) fn told(
    sink: SinkKind,
    divergence: &Divergence,
    (workload, ledger, examples): (&Workload, &Ledger, &Examples),
) -> SinkDivergence {
    use DivergenceCause::{PartialFailure, Race};
    SinkDivergence {
        sink: sink.name().to_owned(),
        writes: divergence.writes,
        races_transient: divergence.count(Race, false),
        races_permanent: divergence.count(Race, true),
        partial_failures_transient: divergence.count(PartialFailure, false),
        partial_failures_permanent: divergence.count(PartialFailure, true),
        per_million_writes: divergence.per_million_writes(),
        examples: stories(sink, divergence, workload, ledger, examples),
    }
}

/// Permanent events first: they are what stays.
fn stories(
    sink: SinkKind,
    divergence: &Divergence,
    workload: &Workload,
    ledger: &Ledger,
    examples: &Examples,
) -> Vec<String> {
    let who = |lsn: Lsn| match ledger.commit(lsn) {
        Some(entry) => format!("commit {lsn} (transaction {}, client {})", entry.txn.0, entry.client.0),
        None => format!("commit {lsn}"),
    };
    let story = |event: &Diverged| {
        let what = match event.shown {
            Some(shown) => format!(
                "{} reached the {} first and was overwritten by the older {}",
                who(event.lost),
                place(sink),
                who(shown)
            ),
            None => format!("the client of {} died before it wrote to the {}", who(event.lost), place(sink)),
        };
        let table = workload.catalog().table(event.table).map_or("?", |table| &table.name);
        let named = format!("{table} key {}", key_in_words(event.key.as_ref()));
        match (event.healed_at, examples.get(&(sink, event.table, event.key.clone()))) {
            (Some(_), _) => format!("{named}: {what}; a later write put it right"),
            (None, Some(difference)) => format!("{difference}: {what}"),
            (None, None) => format!("{named}: {what}, for good"),
        }
    };
    let permanent = divergence.events.iter().filter(|event| event.healed_at.is_none());
    let transient = divergence.events.iter().filter(|event| event.healed_at.is_some());
    permanent.chain(transient).take(EXAMPLES_MAX).map(story).collect()
}

/// An encoded key is shown by its bytes, the unprintable ones escaped: it is only met where no row was at hand.
fn key_in_words(key: KeyRef<'_>) -> String {
    match key {
        KeyRef::Int(value) => value.to_string(),
        KeyRef::Encoded(bytes) => bytes.escape_ascii().to_string(),
    }
}
