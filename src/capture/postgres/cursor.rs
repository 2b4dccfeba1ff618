//! Rows whose cursor column moved, from PostgreSQL.
//!
//! As [`CursorCapture`](crate::capture::CursorCapture), with its flaws: deletes leave nothing behind, and a row whose stamp was
//! taken before, but committed after, a later stamp was read is missed. Each poll reads one state of the server.
//!
//! A definition belongs to a state, so each poll finds the tables again in its own. Where rows came or went without a statement
//! that names them (another partition, another table under the name), no stamp tells of it: the poll says so and delivers
//! nothing, and the tables are to be loaded again ([`PgCursorCapture::restart_after`]).

use super::snapshot::{BEGIN, NO_TABLE, PAUSE, PgSnapshot, REPLACED_ATTEMPTS, brief_lock_sql, is_lock_refused};
use crate::capture::CaptureError;
use crate::capture::{CursorBatch, EachRow};
use crate::clock::Clock;
use crate::model::{ChangeBuf, ColumnType, Lsn, TableId, ValueRef};
use crate::source::postgres::{Bound, PgCut, PgKept, PgKind, PgSource, PgTable, PgWatch, Scratch, TableReader};
use crate::source::{SourceError, quote};
use ::postgres::Client;
use ::postgres::fallible_iterator::FallibleIterator;
use ::postgres::types::ToSql;
use std::collections::HashSet;
use xxhash_rust::xxh3::xxh3_128;

/// The tailer of all tables' cursor columns.
pub struct PgCursorCapture {
    source: PgSource,
    client: Client,
    /// Kept from poll to poll: see [`PgSource::fix_state`].
    beside: Option<Client>,
    tables: Vec<Follow>,
    /// As they were in the state that was read last.
    definitions: Vec<PgTable>,
    clock: Clock,
    cuts: Vec<(Lsn, PgCut)>,
}

impl std::fmt::Debug for PgCursorCapture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgCursorCapture").field("tables", &self.tables).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
struct Follow {
    id: TableId,
    column: usize,
    last: Option<i64>,
    /// The rows of the greatest stamp that were delivered, as hashes of their contents.
    boundary: HashSet<u128>,
}

impl PgCursorCapture {
    /// Whether the table is one that can have an index, and rows that change one by one.
    ///
    /// # Errors
    /// [`CaptureError::Unfit`] with the remedy, if it is not.
    pub fn fit(table: &PgTable) -> Result<(), CaptureError> {
        if matches!(table.kind, PgKind::Table | PgKind::Partitioned) {
            return Ok(());
        }
        let reason = format!("it is a {}, which gets no index on a cursor; {}", table.kind, table.kind.remedy());
        Err(CaptureError::Unfit { table: table.schema.name.clone(), reason })
    }

    /// Makes an index on each table's cursor column.
    ///
    /// # Errors
    /// When a column is no timestamp and no integer, or the server refuses.
    pub fn setup(source: &PgSource, columns: &[usize]) -> Result<(), CaptureError> {
        let mut client = source.connect()?;
        for follow in follows(source, columns)? {
            let table = source.table(follow.id)?;
            let column = table.schema.columns.get(follow.column).map_or("", |column| &column.name);
            let name = format!("_freshbench_cursor_{}", follow.id.0);
            let target = TableReader::new(table).quoted();
            let sql = format!("CREATE INDEX IF NOT EXISTS {name} ON {target} ({})", quote(column));
            client.batch_execute(&sql).map_err(CaptureError::postgres("index table", &table.schema.name))?;
        }
        Ok(())
    }

    /// Begins behind a snapshot: delivers what moved since, and of the rows with a table's greatest stamp those that
    /// differ from the snapshot's.
    ///
    /// # Errors
    /// As [`PgCursorCapture::setup`].
    pub fn begin_after(
        source: &PgSource,
        snapshot: &PgSnapshot,
        columns: &[usize],
        clock: &Clock,
    ) -> Result<PgCursorCapture, CaptureError> {
        let mut capture = PgCursorCapture {
            source: source.clone(),
            client: snapshot.join(source)?,
            beside: None,
            tables: follows(source, columns)?,
            definitions: snapshot.tables().to_vec(),
            clock: clock.clone(),
            cuts: Vec::new(),
        };
        capture.catch_up(snapshot)?;
        Ok(capture)
    }

    /// Begins again behind a snapshot, as [`PgCursorCapture::begin_after`].
    ///
    /// # Errors
    /// When the server refuses.
    pub fn restart_after(&mut self, snapshot: &PgSnapshot) -> Result<(), CaptureError> {
        self.client = snapshot.join(&self.source)?;
        self.definitions = snapshot.tables().to_vec();
        for follow in &mut self.tables {
            *follow = Follow { last: None, boundary: HashSet::new(), ..follow.clone() };
        }
        self.catch_up(snapshot)
    }

    /// Takes the rows of the greatest stamps as delivered.
    fn catch_up(&mut self, snapshot: &PgSnapshot) -> Result<(), CaptureError> {
        for (follow, table) in self.tables.iter_mut().zip(&self.definitions) {
            let mut read = 0;
            follow.read::<CaptureError>(&mut self.client, table, &mut read, &mut |_, _| Ok(()), true)?;
        }
        self.client.batch_execute("COMMIT").map_err(CaptureError::postgres("read", self.source.place()))?;
        self.cuts.extend(snapshot.cut().map(|cut| (snapshot.position(), cut.clone())));
        Ok(())
    }

    /// Every state that was read since the last call, in order.
    pub fn take_cuts(&mut self) -> Vec<(Lsn, PgCut)> {
        std::mem::take(&mut self.cuts)
    }

    /// Hands every row that moved to `each`, table by table in order of the stamp, all from one state.
    ///
    /// # Errors
    /// When the server refuses, a value can't be held, or `each` fails. The cursor then stays where it was.
    pub fn poll<E: From<CaptureError>>(&mut self, each: &mut EachRow<'_, E>) -> Result<CursorBatch, E> {
        let (position, cut, found) = self.begin_patiently()?;
        self.read_state(position, Some(cut), found, each)
    }

    /// Begins a poll, as soon as others' locks on the tables let it.
    fn begin_patiently(&mut self) -> Result<(Lsn, PgCut, Vec<PgTable>), CaptureError> {
        let watch = PgWatch::begin(self.source.options(), "locking the tables for reading")?;
        watch.of_client(&mut self.client)?;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let begun = self.begin_poll();
            let Err(error) = &begun else { return watch.end(begun) };
            // That failure is what the user must hear of.
            let _ = self.client.batch_execute("ROLLBACK");
            // Whoever puts another table in its place may take two transactions to it.
            let replaced = matches!(error, CaptureError::Source(SourceError::Changed { .. }));
            if !(is_lock_refused(error) || replaced && attempts < REPLACED_ATTEMPTS) {
                return watch.end(begun);
            }
            watch.check()?;
            std::thread::sleep(PAUSE);
        }
    }

    /// Locks the tables, fixes a state, and finds the tables in it.
    fn begin_poll(&mut self) -> Result<(Lsn, PgCut, Vec<PgTable>), CaptureError> {
        // Locked first: what is altered between a state and its statements would be read by the wrong definition.
        let lock = format!("{BEGIN}; {}", brief_lock_sql(&self.definitions));
        if let Err(error) = self.client.batch_execute(&lock) {
            if error.code().is_some_and(|code| code.code() == NO_TABLE) {
                // Which one, by a look at the catalogs outside of the transaction that failed.
                let mut other = self.source.connect()?;
                for table in &self.definitions {
                    PgTable::find_again(&mut other, table, PgKept::Name)?;
                }
            }
            return Err(CaptureError::postgres("lock the tables for reading at", self.source.place())(error));
        }
        let (position, cut) = self.source.fix_state(&mut self.client, &mut self.beside)?;
        let mut found = Vec::with_capacity(self.definitions.len());
        for expected in self.source.tables() {
            let table = PgTable::find_again(&mut self.client, expected, PgKept::Name)?;
            found.push(table.conformed(expected, PgKept::Name)?);
        }
        Ok((position, cut, found))
    }

    /// As [`PgCursorCapture::poll`], of the state that `snapshot` reads.
    ///
    /// # Errors
    /// As [`PgCursorCapture::poll`].
    pub fn poll_state<E: From<CaptureError>>(
        &mut self,
        snapshot: &PgSnapshot,
        each: &mut EachRow<'_, E>,
    ) -> Result<CursorBatch, E> {
        self.client = snapshot.join(&self.source)?;
        self.read_state(snapshot.position(), snapshot.cut().cloned(), snapshot.tables().to_vec(), each)
    }

    fn read_state<E: From<CaptureError>>(
        &mut self,
        position: Lsn,
        cut: Option<PgCut>,
        found: Vec<PgTable>,
        each: &mut EachRow<'_, E>,
    ) -> Result<CursorBatch, E> {
        let place = self.source.place();
        let failed = || CaptureError::postgres("poll", &place);
        let mut batch = CursorBatch { position, taken_at: self.clock.now(), rows: 0, moved: None };
        let differ = found.iter().zip(&self.definitions).find_map(|(now, before)| {
            now.moved(before).first().map(|what| format!("table {:?}: {what}", now.schema.name))
        });
        if differ.is_some() {
            self.client.batch_execute("COMMIT").map_err(failed())?;
            return Ok(CursorBatch { moved: differ, ..batch });
        }
        self.definitions = found;
        let watch =
            PgWatch::of_work(self.source.options(), "reading the rows that moved").map_err(CaptureError::from)?;
        watch.of_client(&mut self.client).map_err(CaptureError::from)?;
        let mut moved = self.tables.clone();
        let mut read = Ok(());
        for (follow, table) in moved.iter_mut().zip(&self.definitions) {
            read = follow.read(&mut self.client, table, &mut batch.rows, each, false);
            if read.is_err() {
                break;
            }
        }
        let ended = self.client.batch_execute("COMMIT").map_err(failed());
        let read = read.and(ended.map_err(E::from));
        watch.end(read.map_err(Refused)).map_err(|Refused(error)| error)?;
        self.tables = moved;
        self.cuts.extend(cut.map(|cut| (position, cut)));
        Ok(batch)
    }
}

/// An error of the caller's, on its way past a watch.
struct Refused<E>(E);

impl<E: From<CaptureError>> From<SourceError> for Refused<E> {
    fn from(error: SourceError) -> Self {
        Refused(E::from(CaptureError::Source(error)))
    }
}

impl Follow {
    /// Reads the rows with the last stamp or a later one, and hands those on that were not delivered. With `newest_only` it
    /// begins at the table's greatest stamp.
    fn read<E: From<CaptureError>>(
        &mut self,
        client: &mut Client,
        table: &PgTable,
        rows_read: &mut u64,
        each: &mut EachRow<'_, E>,
        newest_only: bool,
    ) -> Result<(), E> {
        let (reader, schema) = (TableReader::new(table), &table.schema);
        let failed = || CaptureError::postgres("read table", &schema.name);
        let column = schema.columns.get(self.column).map_or("", |column| &column.name);
        let stamp = format!("t.{}", quote(column));
        let is_time = schema.columns.get(self.column).is_some_and(|c| c.column_type == ColumnType::Timestamp);
        // Rows of a table that inherits from it are not its own.
        let only = if table.kind == PgKind::Table { "ONLY " } else { "" };
        let relation = format!("{only}{}", reader.quoted());
        let from = if newest_only { format!("(SELECT max({stamp}) FROM {relation} AS t)") } else { "$1".to_owned() };
        let sql = format!("SELECT {} FROM {relation} AS t WHERE {stamp} >= {from} ORDER BY {stamp}", reader.columns());
        let last = Bound(match (self.last, is_time) {
            (Some(last), true) => ValueRef::Timestamp(last),
            (Some(last), false) => ValueRef::Int(last),
            (None, true) => ValueRef::Timestamp(i64::MIN),
            (None, false) => ValueRef::Int(i64::MIN),
        });
        let parameters: Vec<&dyn ToSql> = if newest_only { Vec::new() } else { vec![&last] };
        let mut rows = client.query_raw(&sql, parameters).map_err(failed())?;
        let mut scratch = Scratch::default();
        while let Some(row) = rows.next().map_err(failed())? {
            let values = reader.decode(&row, 0, &mut scratch).map_err(CaptureError::from)?;
            let stamp = match values.get(self.column) {
                Some(ValueRef::Timestamp(stamp) | ValueRef::Int(stamp)) => *stamp,
                _ => continue,
            };
            if self.last != Some(stamp) {
                self.last = Some(stamp);
                self.boundary.clear();
            }
            let mut encoded = ChangeBuf::new();
            let codec = |error| CaptureError::Codec { table: schema.name.clone(), source: error };
            encoded.push_insert(self.id, values.iter().copied()).map_err(codec)?;
            if self.boundary.insert(xxh3_128(encoded.as_bytes())) {
                each(self.id, &values)?;
                *rows_read += 1;
            }
        }
        Ok(())
    }
}

fn follows(source: &PgSource, columns: &[usize]) -> Result<Vec<Follow>, CaptureError> {
    let unfit = |table: &str, reason: &str| CaptureError::Unfit { table: table.to_owned(), reason: reason.to_owned() };
    let mut follows = Vec::with_capacity(columns.len());
    for (id, schema) in source.catalog().iter() {
        let column = columns.get(id.index()).and_then(|&place| Some((place, schema.columns.get(place)?)));
        let Some((column, named)) = column else { return Err(unfit(&schema.name, "it has no cursor column")) };
        if !matches!(named.column_type, ColumnType::Timestamp | ColumnType::Int64) {
            return Err(unfit(&schema.name, "its cursor column is no timestamp and no integer"));
        }
        follows.push(Follow { id, column, last: None, boundary: HashSet::new() });
    }
    Ok(follows)
}
