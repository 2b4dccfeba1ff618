//! The race of dual writes, step by step and then by the million: reproducible, since one thread does every step in an
//! order that is written down or drawn from a seed.

use super::RunError;
use super::agreement::Explained;
use super::verify::{Judged, SinkViews, images, place, replay, verify};
use crate::clock::Clock;
use crate::model::{Catalog, Column, ColumnType, Key, KeyRef, Lsn, TableId, TableSchema, Value, ValueRef};
use crate::plan::Plan;
use crate::probe::{Arrival, Conflict, Divergence, DivergenceCause};
use crate::sink::{Lookup, SinkKind};
use crate::source::{Client, Durability, Outcome, PointReader, RecordSystem, SourceOptions, SqliteSource};
use crate::strategy::{self, Interleaved, Schedule, Setting, SinkReaders, Step, StrategyKind, interleave, simulate};
use crate::transform::TransformSet;
use crate::workload::{Assign, ClientId, KeyDistribution, PlannedTxn, Statement, TxnIndex, Workload};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// How long the change stream may take to bring two commits to three sinks.
const PATIENCE: Duration = Duration::from_secs(30);
/// The mean virtual time of a transaction, from its start to its commit.
const COMMIT_TIME: Duration = Duration::from_micros(300);

/// What each system holds under the key `X` at the end of one way of writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ending {
    /// How it was written.
    pub way: String,
    /// The record system.
    pub source: String,
    /// Each sink.
    pub sinks: BTreeMap<String, String>,
    /// Keys that came apart for good, and the commits that raced, by sink.
    pub raced: BTreeMap<String, String>,
}

/// The textbook's case: one schedule, three ways of writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Textbook {
    /// The steps in words.
    pub steps: Vec<String>,
    /// How each way ended.
    pub endings: Vec<Ending>,
}

const TABLE: TableId = TableId(0);
const VALUE: usize = 1;

fn key() -> Vec<Value> {
    vec![Value::text("X")]
}

fn sets(index: u64, value: &str) -> PlannedTxn {
    let set = vec![(VALUE, Assign::Set(Value::text(value)))];
    PlannedTxn {
        index: TxnIndex(index),
        kind: "set",
        lane: None,
        intended: Duration::ZERO,
        statements: vec![Statement::Update { table: TABLE, key: key(), set }],
    }
}

/// A source with one row: `X` holds `0`.
fn one_row(folder: &Path) -> Result<SqliteSource, RunError> {
    crate::storage::private::create_folders(folder).map_err(|cause| RunError::Io { path: folder.to_owned(), cause })?;
    let columns = vec![Column::required("name", ColumnType::Text), Column::required("value", ColumnType::Text)];
    let schema = TableSchema::new("registers", columns, vec![0]).map_err(RunError::measuring)?;
    let source =
        SqliteSource::create(&folder.join("source.db"), &Catalog { tables: vec![schema] }, SourceOptions::default())?;
    let row = vec![Value::text("X"), Value::text("0")];
    let insert = PlannedTxn { statements: vec![Statement::Insert { table: TABLE, row }], ..sets(0, "0") };
    expect_commit(Client::connect(&source)?.execute(&insert))?;
    Ok(source)
}

fn expect_commit(outcome: Outcome) -> Result<Lsn, RunError> {
    match outcome {
        Outcome::Committed { lsn, .. } => Ok(lsn),
        other => Err(RunError::measuring(format!("a transaction of the textbook's case did not commit: {other:?}"))),
    }
}

fn setting(source: &SqliteSource, folder: &Path, clock: &Clock) -> Result<Setting, RunError> {
    let transforms = TransformSet::identity(source.catalog());
    Setting::new(source, transforms, folder, clock).map_err(RunError::measuring)
}

/// Client 1 sets X=A, client 2 sets X=B, and the writes to the sinks come in the other order: the record system ends with B
/// and, in a naive dual write, every sink with A. No call returns an error (one that did would be returned here).
///
/// # Errors
/// [`RunError`] when any stage fails, which is not what the race does.
pub fn textbook(folder: &Path) -> Result<Textbook, RunError> {
    let (first, second) = (ClientId(0), ClientId(1));
    let mut steps = vec![Step::Commit(first), Step::Commit(second)];
    steps.extend(SinkKind::ALL.map(|sink| Step::Write(second, sink)));
    steps.extend(SinkKind::ALL.map(|sink| Step::Write(first, sink)));
    let words = |step: &Step| match step {
        Step::Commit(client) => {
            format!("client {} commits X={}", client.0 + 1, if client.0 == 0 { "A" } else { "B" })
        }
        Step::Write(client, sink) => {
            format!(
                "client {} writes X={} to the {}",
                client.0 + 1,
                if client.0 == 0 { "A" } else { "B" },
                place(*sink)
            )
        }
    };
    let mut endings = Vec::new();
    for (way, versioned) in [("dual write", false), ("dual write with a version check", true)] {
        let folder = folder.join(if versioned { "versioned" } else { "naive" });
        let source = one_row(&folder)?;
        let setting = setting(&source, &folder, &Clock::by_hand())?;
        let failed = |cause| RunError::Strategy { strategy: "dual-write", cause: Box::new(cause) };
        let txns = [sets(1, "A"), sets(2, "B")];
        let ended = interleave(&setting, &txns, &steps, versioned).map_err(failed)?;
        let conflict = if versioned { Conflict::NewestCommitWins } else { Conflict::LastArrivalWins };
        endings.push(Ending {
            way: way.to_owned(),
            source: in_source(&source)?,
            sinks: in_sinks(&ended.readers)?,
            raced: raced(&ended, conflict),
        });
    }
    endings.push(by_change_stream(&folder.join("stream"))?);
    Ok(Textbook { steps: steps.iter().map(words).collect(), endings })
}

/// The same two commits in the same order, and nobody but the change stream writes to the sinks.
fn by_change_stream(folder: &Path) -> Result<Ending, RunError> {
    let failed = |cause| RunError::Strategy { strategy: "cdc-trigger", cause: Box::new(cause) };
    let source = one_row(folder)?;
    let setting = setting(&source, folder, &Clock::monotonic())?;
    let running = strategy::start(StrategyKind::CdcTrigger, &setting).map_err(failed)?;
    let running = running.ok_or_else(|| RunError::measuring("the change stream did not start"))?;
    let (mut one, mut two) = (Client::connect(&source)?, Client::connect(&source)?);
    expect_commit(one.execute(&sets(1, "A")))?;
    expect_commit(two.execute(&sets(2, "B")))?;
    let goal = source.write_marker()?;
    let reached = running.drain(goal, &setting.clock, PATIENCE);
    let readers = running.readers().clone();
    running.finish().map_err(failed)?;
    if !reached {
        return Err(RunError::measuring(format!("the change stream did not reach commit {goal}")));
    }
    let (way, raced) = ("change stream (cdc-trigger)".to_owned(), BTreeMap::new());
    Ok(Ending { way, source: in_source(&source)?, sinks: in_sinks(&readers)?, raced })
}

fn in_source(source: &SqliteSource) -> Result<String, RunError> {
    let reader = PointReader::connect(source)?;
    let shown =
        reader.read(TABLE, &key(), |row, _| row.and_then(|row| row.get(VALUE).and_then(|value| value.to_value())))?;
    Ok(shown.map_or("nothing".to_owned(), text))
}

fn text(value: Value) -> String {
    match value {
        Value::Text(text) => text.into(),
        other => format!("{other:?}"),
    }
}

fn in_sinks(readers: &SinkReaders) -> Result<BTreeMap<String, String>, RunError> {
    let key = Key::from_values(&[ValueRef::Text("X")]).map_err(RunError::measuring)?;
    let key: KeyRef<'_> = key.as_ref();
    let mut found = BTreeMap::new();
    let mut note = |sink: SinkKind, row: Option<Vec<Value>>| {
        // In every sink the value is the last of the columns that it keeps.
        let value = row.and_then(|row| row.into_iter().last());
        found.insert(sink.name().to_owned(), value.map_or("nothing".to_owned(), text));
    };
    if let Some(reader) = &readers.warehouse {
        note(SinkKind::Warehouse, reader.version().get(TABLE, key).map_err(RunError::measuring)?);
    }
    if let Some(reader) = &readers.search {
        note(SinkKind::Search, reader.view().row(TABLE, key).map_err(RunError::measuring)?);
    }
    if let Some(reader) = &readers.cache {
        let row = match reader.get(TABLE, key).map_err(RunError::measuring)? {
            Lookup::Hit { row, .. } => row,
            Lookup::Miss => None,
        };
        note(SinkKind::Cache, row);
    }
    Ok(found)
}

fn raced(ended: &Interleaved, conflict: Conflict) -> BTreeMap<String, String> {
    let history: Vec<crate::probe::RowChange> = ended
        .commits
        .iter()
        .map(|(commit, _, _)| crate::probe::RowChange {
            lsn: commit.lsn,
            table: TABLE,
            key: Key::Encoded(Box::new([])),
            after: crate::probe::Existence::Present,
        })
        .collect();
    let client = |lsn: Lsn| ended.commits.iter().find(|(commit, _, _)| commit.lsn == lsn).map_or(0, |c| c.2.0 + 1);
    let mut raced = BTreeMap::new();
    for (sink, arrivals) in &ended.arrivals {
        let divergence = Divergence::of(&history, arrivals, conflict);
        for event in divergence.events.iter().filter(|event| event.healed_at.is_none()) {
            let shown = event.shown.unwrap_or_default();
            let words = format!(
                "commit {} of client {} was overwritten by the older commit {shown} of client {}",
                event.lost,
                client(event.lost),
                client(shown)
            );
            raced.insert(sink.name().to_owned(), words);
        }
    }
    raced
}

/// One simulated run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RaceRow {
    /// How keys are drawn.
    pub keys: KeyDistribution,
    /// Concurrent clients.
    pub clients: u32,
    /// Commits.
    pub commits: u64,
    /// By sink.
    pub sinks: BTreeMap<String, RaceCount>,
    /// Keys that sinks show differently at the end.
    pub disagreements: u64,
}

/// What came apart at one sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct RaceCount {
    /// Rows written.
    pub writes: u64,
    /// Times that a key came apart, for a million writes.
    pub per_million_writes: f64,
    /// Of those, races that were put right, and that were not.
    pub races: [u64; 2],
    /// Writes lost by a client's death that were covered later, and that were not.
    pub partial_failures: [u64; 2],
    /// Rows that differ from the record system at the end, by content.
    pub rows_differing: u64,
}

/// Simulates a dual write of the plan's workload with so many clients. The same for a seed.
///
/// # Errors
/// [`RunError`] when a stage fails, or when a row differs that no event accounts for.
pub fn simulated(plan: &Plan, workload: &Workload, folder: &Path, versioned: bool) -> Result<RaceRow, RunError> {
    crate::storage::private::create_folders(folder).map_err(|cause| RunError::Io { path: folder.to_owned(), cause })?;
    let (settings, kind) = (workload.settings(), StrategyKind::DualWrite);
    // Nothing is timed, so nothing need be durable.
    let options = SourceOptions { durability: Durability::Off, ..SourceOptions::default() };
    let source = SqliteSource::create(&folder.join("source.db"), workload.catalog(), options)?;
    source.load(workload, &mut |_| {})?;
    let transforms = TransformSet::compile(workload.catalog(), workload.transforms()).map_err(RunError::measuring)?;
    let setting = Setting::new(&source, transforms, folder, &Clock::by_hand()).map_err(RunError::measuring)?;
    let (sinks, dual, search_interval) = (plan.sinks.clone(), plan.dual.clone(), plan.search_interval);
    let setting = Setting { sinks, dual, search_interval, ..setting };
    let schedule = Schedule { clients: settings.clients, until: settings.duration, commit: COMMIT_TIME };
    let failed = |cause| RunError::Strategy { strategy: kind.name(), cause: Box::new(cause) };
    let ended = simulate(&setting, workload, schedule, versioned).map_err(failed)?;
    let commits: Vec<(Lsn, TxnIndex)> = ended.commits.iter().map(|(commit, txn, _)| (commit.lsn, *txn)).collect();
    let sinks = SinkViews {
        warehouse: ended.readers.warehouse.as_ref().map(|reader| reader.version()),
        search: ended.readers.search.as_ref().map(|reader| reader.view()),
        cache: ended.readers.cache.clone(),
    };
    let judged = Judged {
        kind,
        workload,
        source: &RecordSystem::from(&source),
        commits: &commits,
        position: ended.goal,
        sinks: &sinks,
        promises_equality: versioned && plan.dual.crash_rate <= 0.0,
        cache_may_miss: false,
    };
    let history = replay(&judged)?;
    let conflict = if versioned { Conflict::NewestCommitWins } else { Conflict::LastArrivalWins };
    let of = |(&sink, arrivals): (&SinkKind, &Vec<Arrival>)| {
        let kept = history.kept_at(sink, &sinks, &setting.transforms);
        (sink, Divergence::of(&kept, arrivals, conflict))
    };
    let divergence: BTreeMap<SinkKind, Divergence> = ended.arrivals.iter().map(of).collect();
    let images = images(&judged, &divergence)?;
    let verified = verify(&judged, history, &Explained { divergence: &divergence, images: &images })?;
    if let Some(failure) = verified.validation.failures.first() {
        return Err(RunError::measuring(format!("the simulated race: {failure}")));
    }
    let counts = divergence.iter().map(|(&sink, events)| {
        let differing = verified.validation.sinks.iter().filter(|entry| entry.sink == sink.name());
        let differing = differing.map(|entry| entry.missing + entry.extra + entry.wrong).sum();
        (sink.name().to_owned(), counted(events, differing))
    });
    Ok(RaceRow {
        keys: settings.keys,
        clients: settings.clients,
        commits: commits.len() as u64,
        sinks: counts.collect(),
        disagreements: verified.validation.disagreements,
    })
}

fn counted(divergence: &Divergence, rows_differing: u64) -> RaceCount {
    let both = |cause| [divergence.count(cause, false), divergence.count(cause, true)];
    RaceCount {
        writes: divergence.writes,
        per_million_writes: divergence.per_million_writes().unwrap_or(0.0),
        races: both(DivergenceCause::Race),
        partial_failures: both(DivergenceCause::PartialFailure),
        rows_differing,
    }
}
