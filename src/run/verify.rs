//! Row by row: does the source equal the ledger, and does each sink equal the source?

use super::RunError;
use super::agreement::{Explained, disagreements};
use super::sink_rows::{CacheRows, SearchRows, cache_difference, search_difference, warehouse_rows};
use crate::model::{Key, Lsn, TableId, Value};
use crate::oracle::{
    ChangeEvent, ChangeHistory, ChangeKind, ExpectedTable, Replay, RowDifference, Shape, TableDiff, diff,
};
use crate::probe::{Divergence, Existence, RowChange};
use crate::report::{SinkValidation, Validation};
use crate::sink::{CacheReader, SearchView, SinkKind, WarehouseVersion};
use crate::source::{RecordSystem, SourceError};
use crate::strategy::StrategyKind;
use crate::transform::TransformSet;
use crate::workload::{Statement, TxnIndex, Workload};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Differing rows in words, as far as they are shown.
pub(super) type Examples = HashMap<(SinkKind, TableId, Key), String>;

/// What verification found, and what it learned on the way.
pub(super) struct Verified {
    pub(super) validation: Validation,
    pub(super) examples: Examples,
    /// Every change of a key, in commit order.
    pub(super) changes: Vec<RowChange>,
    /// Changes and bytes of changed rows by commit, in commit order.
    pub(super) sizes: Vec<(Lsn, u64, u64)>,
}

/// The sinks as they ended.
#[derive(Clone, Debug, Default)]
pub(super) struct SinkViews {
    pub(super) warehouse: Option<Arc<WarehouseVersion>>,
    pub(super) search: Option<Arc<SearchView>>,
    pub(super) cache: Option<CacheReader>,
}

/// What is compared, and what it was promised to be.
pub(super) struct Judged<'a> {
    pub(super) kind: StrategyKind,
    pub(super) workload: &'a Workload,
    pub(super) source: &'a RecordSystem,
    /// In commit order; all of them have been reached.
    pub(super) commits: &'a [(Lsn, TxnIndex)],
    pub(super) position: Lsn,
    pub(super) sinks: &'a SinkViews,
    pub(super) promises_equality: bool,
    /// Whether a row may be absent from the cache without being lost.
    pub(super) cache_may_miss: bool,
}

/// What a change did to its row's columns.
enum Touched {
    /// The row came or went, or moved to another key.
    Row,
    /// These columns of the source, perhaps more than once.
    Columns(Vec<usize>),
}

/// The ledger's commits, replayed to the end.
pub(super) struct History {
    pub(super) changes: Vec<RowChange>,
    /// What each of them touched.
    touched: Vec<Touched>,
    pub(super) sizes: Vec<(Lsn, u64, u64)>,
    last: ChangeHistory,
    replay: Replay<crate::workload::Stream>,
}

/// Replays the committed transactions with the oracle.
pub(super) fn replay(judged: &Judged<'_>) -> Result<History, RunError> {
    let mut replay = Replay::of_workload(judged.workload, judged.commits).map_err(RunError::measuring)?;
    let (mut last, mut changes, mut touched) = (ChangeHistory::new(), Vec::new(), Vec::new());
    let mut sizes: Vec<(Lsn, u64, u64)> = Vec::with_capacity(judged.commits.len());
    let widths = row_widths(judged.workload);
    replay
        .advance(judged.position, &mut |event| {
            let bytes = if event.kind.is_delete() { 9 } else { widths.get(&event.table).copied().unwrap_or(0) };
            match sizes.last_mut() {
                Some((lsn, count, sum)) if *lsn == event.lsn => {
                    *count += 1;
                    *sum += bytes;
                }
                _ => sizes.push((event.lsn, 1, bytes)),
            }
            let after = if event.kind == ChangeKind::Delete { Existence::Absent } else { Existence::Present };
            changes.push(RowChange { lsn: event.lsn, table: event.table, key: event.key.clone(), after });
            touched.push(touched_by(&event));
            last.record(event);
        })
        .map_err(RunError::measuring)?;
    Ok(History { changes, touched, sizes, last, replay })
}

/// An update's columns are those that any update of the transaction sets in the table: at most too many, never too few.
fn touched_by(event: &ChangeEvent<'_>) -> Touched {
    if event.kind != ChangeKind::Update {
        return Touched::Row;
    }
    let updates = event.txn.statements.iter().filter_map(|statement| match statement {
        Statement::Update { table, set, .. } if *table == event.table => Some(set),
        _ => None,
    });
    Touched::Columns(updates.flatten().map(|(column, _)| *column).collect())
}

impl History {
    /// The changes of what a sink keeps: all, but at the search index those that touch a column it has, of tables that it
    /// has. An output column that is not simply passed through may depend on any column of its row.
    pub(super) fn kept_at(&self, sink: SinkKind, sinks: &SinkViews, transforms: &TransformSet) -> Vec<RowChange> {
        let Some(view) = sinks.search.as_ref().filter(|_| sink == SinkKind::Search) else {
            return self.changes.clone();
        };
        let kept = |change: &RowChange, touched: &Touched| {
            let outputs = view.columns(change.table);
            let transform = transforms.table(change.table);
            match touched {
                Touched::Row => !outputs.is_empty(),
                Touched::Columns(columns) => outputs.iter().any(|&output| {
                    let from = transform.as_ref().ok().and_then(|transform| transform.passes_through(output));
                    from.is_none_or(|from| columns.contains(&from))
                }),
            }
        };
        let both = self.changes.iter().zip(&self.touched);
        both.filter(|(change, touched)| kept(change, touched)).map(|(change, _)| change.clone()).collect()
    }
}

/// The rows that keys had right after given commits (or before the first, for position zero), by table, key and commit.
pub(super) type Images = HashMap<(TableId, Key, Lsn), Option<Vec<Value>>>;

/// Replays the commits once more and keeps the rows that were asked for.
pub(super) fn images(judged: &Judged<'_>, divergence: &BTreeMap<SinkKind, Divergence>) -> Result<Images, RunError> {
    let mut wanted: Vec<(Lsn, TableId, Key)> = divergence
        .values()
        .flat_map(|divergence| divergence.held())
        .map(|((table, key), lsn)| (*lsn, *table, key.clone()))
        .collect();
    wanted.sort();
    wanted.dedup();
    let mut images = Images::new();
    if wanted.is_empty() {
        return Ok(images);
    }
    let mut replay = Replay::of_workload(judged.workload, judged.commits).map_err(RunError::measuring)?;
    for (lsn, table, key) in wanted {
        replay.advance(lsn, &mut |_| {}).map_err(RunError::measuring)?;
        let row = replay.state().table(table).and_then(|table| table.rows.get(&key)).cloned();
        images.insert((table, key, lsn), row);
    }
    Ok(images)
}

/// Compares source and sinks with the history. `explained` says which keys the strategy's own events account for.
pub(super) fn verify(judged: &Judged<'_>, history: History, explained: &Explained<'_>) -> Result<Verified, RunError> {
    let fed = judged.sinks.kinds();
    let mut validation = Validation {
        promise: if judged.promises_equality { "equality" } else { "none" }.to_owned(),
        position: judged.position.0,
        equal: !fed.is_empty(),
        source_equals_ledger: true,
        ..Validation::default()
    };
    let shape = Shape::new(judged.workload.catalog(), judged.workload.transforms());
    let (mut digests, mut examples) = (Vec::new(), Examples::new());
    for (table, schema) in judged.workload.catalog().iter() {
        let Some(source_rows) = history.replay.state().table(table) else { continue };
        let found = diff_source(judged.source, table, source_rows)?;
        digests.push(found.digest.to_string());
        if !found.is_equal() {
            validation.source_equals_ledger = false;
            validation.failures.push(failure("the source does not hold what the ledger acknowledged", &found));
        }
        let expected = shape.apply(table, source_rows).map_err(RunError::measuring)?;
        let mut compared = Vec::new();
        for &sink in &fed {
            let Some(difference) = difference(judged, sink, table, &expected)? else { continue };
            if let Some(predicted) = explained.predicted(sink, table, source_rows, &shape)? {
                foretold(judged, &mut validation, (sink, table), &predicted)?;
            }
            note(judged, &mut validation, (sink, &schema.name), &difference);
            explain(&mut validation, (sink, table), &difference.diff, &history.last, explained);
            let shown = difference.diff.examples.iter();
            examples.extend(shown.map(|row| ((sink, table, row.id.clone()), in_words(&difference.diff.table, row))));
            compared.push((sink, difference));
        }
        validation.disagreements += disagreements(&expected, &compared);
    }
    if validation.causes.contains_key("unexplained") && !judged.promises_equality {
        validation.failures.push("some differences have no explanation in the strategy's known flaws".to_owned());
    }
    validation.source_digest = digests.join(" ");
    validation.passed = validation.failures.is_empty();
    Ok(Verified { validation, examples, changes: history.changes, sizes: history.sizes })
}

/// Holds a sink that the application writes to itself against what the order of its writes foretells, row by row.
fn foretold(
    judged: &Judged<'_>,
    validation: &mut Validation,
    (sink, table): (SinkKind, TableId),
    predicted: &ExpectedTable,
) -> Result<(), RunError> {
    if let Some(found) = difference(judged, sink, table, predicted)?.filter(|found| !found.diff.is_equal()) {
        let what = format!("the {} does not hold what the order of its writes makes of it", place(sink));
        validation.failures.push(failure(&what, &found.diff));
    }
    Ok(())
}

/// How one table of one sink differs.
pub(super) struct SinkDifference {
    pub(super) diff: TableDiff,
    /// The output columns that the sink keeps, in the order of the diff's rows.
    pub(super) columns: Vec<usize>,
    /// Rows that are not in a cache that may miss them.
    pub(super) absent: u64,
    /// Keys that a search for them does not find as it should.
    pub(super) unfindable: u64,
}

/// `None` when the sink keeps nothing of the table.
fn difference(
    judged: &Judged<'_>,
    sink: SinkKind,
    table: TableId,
    expected: &ExpectedTable,
) -> Result<Option<SinkDifference>, RunError> {
    let views = judged.sinks;
    match sink {
        SinkKind::Warehouse => {
            let Some(version) = &views.warehouse else { return Ok(None) };
            let diff = diff(expected, || warehouse_rows(version, table)).map_err(RunError::measuring)?;
            let columns = (0..expected.schema.columns.len()).collect();
            Ok(Some(SinkDifference { diff, columns, absent: 0, unfindable: 0 }))
        }
        SinkKind::Search => {
            let Some(view) = &views.search else { return Ok(None) };
            search_difference(&SearchRows { view, table }, expected)
        }
        SinkKind::Cache => {
            let Some(reader) = &views.cache else { return Ok(None) };
            let rows = CacheRows { reader, table, may_miss: judged.cache_may_miss };
            cache_difference(&rows, expected).map(Some)
        }
    }
}

impl SinkViews {
    pub(super) fn kinds(&self) -> Vec<SinkKind> {
        let fed = [
            (SinkKind::Warehouse, self.warehouse.is_some()),
            (SinkKind::Search, self.search.is_some()),
            (SinkKind::Cache, self.cache.is_some()),
        ];
        fed.into_iter().filter(|(_, fed)| *fed).map(|(kind, _)| kind).collect()
    }
}

/// Enters one comparison into the validation.
fn note(judged: &Judged<'_>, validation: &mut Validation, (sink, table): (SinkKind, &str), found: &SinkDifference) {
    let diff = &found.diff;
    if !diff.is_equal() {
        validation.equal = false;
        if judged.promises_equality {
            validation.failures.push(failure(&format!("the {} does not equal the source", place(sink)), diff));
        }
    }
    if found.unfindable > 0 {
        validation.equal = false;
        let count = found.unfindable;
        let why = format!("the {}: table {table}: {count} keys are not found by a search for them", place(sink));
        validation.failures.push(why);
    }
    validation.sinks.push(SinkValidation {
        sink: sink.name().to_owned(),
        table: table.to_owned(),
        rows: diff.rows + diff.missing - diff.extra + found.absent,
        missing: diff.missing,
        extra: diff.extra,
        wrong: diff.wrong,
        absent: found.absent,
        digest: diff.digest.to_string(),
        examples: diff.examples.iter().map(|row| in_words(&diff.table, row)).collect(),
    });
}

/// A sink as a sentence names it.
pub(super) fn place(sink: SinkKind) -> &'static str {
    match sink {
        SinkKind::Warehouse => "warehouse",
        SinkKind::Search => "search index",
        SinkKind::Cache => "cache",
    }
}

/// Counts why keys differ: what the strategy's own events account for, else what the history of the key suggests.
fn explain(
    validation: &mut Validation,
    (sink, table): (SinkKind, TableId),
    diff: &TableDiff,
    history: &ChangeHistory,
    explained: &Explained<'_>,
) {
    let mut count = |cause: &str| *validation.causes.entry(cause.to_owned()).or_default() += 1;
    for (key, difference) in &diff.keys {
        match explained.cause(sink, table, key) {
            Some(cause) => count(cause),
            None if explained.by_events() => count("unexplained"),
            None => match history.cause(table, key, *difference) {
                crate::oracle::Cause::Other => count("unexplained"),
                cause => count(cause.as_str()),
            },
        }
    }
}

/// The mean width of a row of each table, in bytes of its values, by its first thousand rows.
fn row_widths(workload: &Workload) -> HashMap<TableId, u64> {
    let mean = |table| {
        let (mut rows, mut bytes) = (0u64, 0);
        for row in workload.initial_rows(table).take(1000) {
            rows += 1;
            bytes += row.iter().map(|value| value.as_ref().width_bytes()).sum::<u64>();
        }
        bytes.checked_div(rows).unwrap_or(0)
    };
    workload.catalog().iter().map(|(table, _)| (table, mean(table))).collect()
}

fn diff_source(source: &RecordSystem, table: TableId, expected: &ExpectedTable) -> Result<TableDiff, RunError> {
    let mut rows: Vec<Vec<Value>> = Vec::with_capacity(expected.rows.len());
    source.rows::<SourceError>(table, &mut |row| {
        rows.push(row.iter().filter_map(|value| value.to_value()).collect());
        Ok(())
    })?;
    diff(expected, || rows.iter().cloned().map(Ok::<_, SourceError>)).map_err(RunError::measuring)
}

fn failure(what: &str, diff: &TableDiff) -> String {
    let counts = format!("{} missing, {} extra, {} wrong", diff.missing, diff.extra, diff.wrong);
    let example = diff.examples.first().map_or(String::new(), |row| format!("; {}", in_words(&diff.table, row)));
    format!("{what}: table {}: {counts}{example}", diff.table)
}

/// One difference as a person reads it.
pub(super) fn in_words(table: &str, row: &RowDifference) -> String {
    let columns: Vec<String> = row
        .columns
        .iter()
        .take(3)
        .map(|column| {
            let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
            format!("{} should be {} and is {}", column.column, said(&column.expected), said(&column.actual))
        })
        .collect();
    format!("{table} key {} is {:?}: {}", row.key, row.difference, columns.join(", "))
        .replace("is Missing", "is missing")
        .replace("is Extra", "is extra")
        .replace("is Wrong", "is wrong")
}

/// Whether a key of `table` was there before the first transaction: asked by the visibility analysis.
pub(super) fn initial_keys(workload: &Workload) -> Result<HashMap<TableId, std::collections::HashSet<Key>>, RunError> {
    let mut all = HashMap::new();
    for (table, schema) in workload.catalog().iter() {
        let mut keys = std::collections::HashSet::new();
        for row in workload.initial_rows(table) {
            let row: Vec<_> = row.iter().map(Value::as_ref).collect();
            keys.insert(Key::of_row(schema, &row).map_err(RunError::measuring)?);
        }
        all.insert(table, keys);
    }
    Ok(all)
}
