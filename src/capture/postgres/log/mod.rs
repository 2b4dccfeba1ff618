//! Change capture by the server's own log: logical replication with pgoutput, protocol version 2.
//!
//! # Positions
//!
//! A transaction's position is the LSN *behind* its commit record (`end_lsn` of pgoutput's Commit). So a position `p` means
//! the same everywhere: all that committed up to `p`, as in a slot's consistent point, its `confirmed_flush_lsn`, and
//! `pg_current_wal_lsn()` after a commit. A stream started at `p` begins with the first commit behind `p`.
//!
//! # What is delivered
//!
//! Every transaction that changed a followed table, or emitted a message whose prefix begins with `freshbench`, whole, in
//! commit order, once. Others only move [`LogCapture::through`]. The slot is confirmed up to what the caller
//! [acknowledges](LogCapture::acknowledge); when nothing delivered is unacknowledged, it follows the server, so that changes
//! of other tables do not make the server keep its log. That is written to `slot.json` first: so a slot that is further than
//! anybody here moved it is known to be another's work, and refused.
//!
//! # Large transactions
//!
//! The server sends a transaction that outgrows its `logical_decoding_work_mem` in pieces before it ends. They are decoded as
//! they come and wait in memory, beyond a limit in a file; a rolled back savepoint's part is left out at the commit. A
//! [`Transaction`] holds all of its changes in memory, as does a record of the log when it is read, so at its commit one has to
//! fit there: `transaction_bytes_max`, beyond which the capture stops with an error that names it, and nothing is acknowledged.
//!
//! # Tables
//!
//! | what | then |
//! |---|---|
//! | no replica identity (no primary key, NOTHING) | refused: published, the server would refuse its updates and deletes |
//! | FULL | unchanged large values come from the old row; a key is needed (primary, unique and NOT NULL, or named) |
//! | FULL, and its key becomes deferrable or goes | stops at the first change after it, by a look at the catalog |
//! | a deferrable primary key | whole old rows (FULL) are needed, and each transaction is summed up by them: `net` |
//! | unlogged, or a foreign table, itself or a partition | refused: its changes are not in the log |
//! | USING INDEX, without the primary key in it | the index's columns are the key |
//! | partitioned | published as its root; a new partition's rows come as all; TRUNCATE of one partition, ATTACH, DETACH are not in the log: a new snapshot |
//! | generated columns | left out of the schema; in the key they are refused |
//! | ADD, DROP, RENAME COLUMN, another type, another replica identity | stops at the first change after it; all before is delivered |
//! | table renamed, longer varchar(n) | goes on |
//! | DDL without a later change of the table | not seen, and changes no row but for DROP TABLE and ADD COLUMN's defaults |

mod assemble;
mod message;
mod options;
mod pause;
mod pgoutput;
mod publication;
mod relation;
mod setup;
mod state;
mod status;
mod streamed;
mod uniqueness;

use super::PgExported;
use crate::capture::{CaptureError, Polled};
use crate::model::{Lsn, Transaction};
use crate::source::postgres::{Mode, PgCut, PgTable, PgTableName, Wire};
use crate::source::{SourceError, quote};
use assemble::{Assembler, protocol};
use relation::Relations;
use state::{SlotState, shape};
use status::Link;
use std::time::{Duration, Instant};
use streamed::StreamedTransactions;

pub use message::{LogMessage, MESSAGE_PREFIX};
pub use options::{LogCaptureOptions, SLOT_PREFIX};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use pgoutput::read_pgoutput;
pub use setup::{
    Leftovers, LogSetup, SlotHealth, clean_up, drop_publication, drop_slot, find_leftovers, fit, log_tables, parse_lsn,
    show_lsn, slot_health,
};

/// A poll to which nothing is delivered comes back after this, though bytes keep coming: its caller has more to do.
const FILL_MAX: Duration = Duration::from_millis(20);
/// How often at most `slot.json` is written to follow an idle server.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Whether somebody can go on with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CanGoOn {
    /// Slot and tables are as they were.
    Yes,
    /// The slot is gone or lost, or a table is not what it was.
    Never,
    /// The server can't be asked, or is another one.
    Unknown,
}

/// The tailer of the server's log: see the module.
#[derive(Debug)]
pub struct LogCapture {
    options: LogCaptureOptions,
    state: SlotState,
    link: Link,
    assembler: Assembler,
    acknowledged: Lsn,
    last_read: Instant,
    last_heard: Instant,
    asked: bool,
    backlog: bool,
    followed: Instant,
    /// What stopped the stream; every later poll says so.
    failure: Option<CaptureError>,
    broken: bool,
}

impl LogCapture {
    /// Makes publication and slot for these tables. Load from [`LogSetup::exported`] (`PgSnapshot::adopt`), drop the
    /// setup, then [`LogCapture::resume`] from its position.
    ///
    /// # Errors
    /// With the remedy, when the server is not set up for it, the role may not, or a table can't be followed. Nothing is
    /// left behind then.
    pub fn setup(options: &LogCaptureOptions, names: &[PgTableName]) -> Result<LogSetup, CaptureError> {
        setup::make(options, names)
    }

    /// As [`LogCapture::setup`], for tables that were read and [fitted](fit) before, perhaps with a key of their own.
    ///
    /// # Errors
    /// As [`LogCapture::setup`].
    pub fn setup_tables(options: &LogCaptureOptions, tables: &[PgTable]) -> Result<LogSetup, CaptureError> {
        let mut client = options.server.connect()?;
        let tables = tables.iter().map(fit).collect::<Result<Vec<_>, _>>()?;
        setup::make_for(options, &mut client, tables)
    }

    /// Takes down that nothing is loaded: the stream begins after the setup's state, and what is older never arrives.
    ///
    /// # Errors
    /// When the server refuses, or `slot.json` can't be written.
    pub fn begin_empty(options: &LogCaptureOptions, setup: &LogSetup) -> Result<(), CaptureError> {
        let mut client = options.server.connect()?;
        let failed = || SourceError::postgres("read the state of", options.server.place());
        let name = setup.exported.name.replace('\'', "''");
        let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT '{name}'");
        client.batch_execute(&begin).map_err(failed())?;
        let row = client.query_one("SELECT pg_catalog.pg_current_snapshot()::text", &[]).map_err(failed())?;
        let since: String = row.try_get(0).map_err(failed())?;
        let state = SlotState { empty_since: Some(since), ..SlotState::read(&options.folder)? };
        state.write(&options.folder)
    }

    /// The state after which a stream began without an initial load; `None` for one that had it.
    ///
    /// # Errors
    /// When `slot.json` can't be read.
    pub fn empty_since(options: &LogCaptureOptions) -> Result<Option<PgCut>, CaptureError> {
        let since = SlotState::read(&options.folder)?.empty_since;
        Ok(since.map(|text| PgCut::parse(&text)).transpose()?)
    }

    /// In words, with the remedy, what somebody did to the publication since the setup; `None` if nobody did anything.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn altered(options: &LogCaptureOptions, tables: &[PgTable]) -> Result<Option<String>, CaptureError> {
        publication::altered(options, tables)
    }

    /// Drops slot and publication, if they are there, and `slot.json`.
    ///
    /// # Errors
    /// When the server refuses, or somebody else uses the slot.
    pub fn teardown(options: &LogCaptureOptions) -> Result<(), CaptureError> {
        setup::remove(options)
    }

    /// Goes on after `from`, through which every sink is durably complete: delivers exactly the transactions behind it.
    /// `tables` are those of the setup.
    ///
    /// # Errors
    /// [`CaptureError::Slot`] with the remedy when the slot is lost, was made again, or belongs to another server;
    /// [`CaptureError::Source`] when the server can't be reached or refuses.
    pub fn resume(options: &LogCaptureOptions, tables: Vec<PgTable>, from: Lsn) -> Result<LogCapture, CaptureError> {
        let state = SlotState::read(&options.folder)?;
        let shapes: Vec<String> = tables.iter().map(shape).collect();
        if state.tables != shapes || state.slot != options.slot || state.publication != options.publication {
            let of_same = state.tables.iter().map(|of| state::oid(of)).eq(shapes.iter().map(|shape| state::oid(shape)));
            let reason = match of_same {
                true => "its tables were changed since; begin with a new snapshot",
                false => {
                    "it was set up for other tables, or in another order; name the same, or begin with a new snapshot"
                }
            };
            return Err(slot_error(&options.slot, reason));
        }
        let streamed =
            StreamedTransactions::new(&options.folder, options.memory_bytes_max, options.transaction_bytes_max);
        let relations = Relations::new(tables).with_catalog(&options.server);
        let assembler = Assembler::new(relations, streamed, from, options.transaction_bytes_max);
        let link = connect(options, &assembler, &state, from)?;
        let now = Instant::now();
        Ok(LogCapture {
            options: options.clone(),
            state,
            link,
            assembler,
            acknowledged: from,
            last_read: now,
            last_heard: now,
            asked: false,
            backlog: false,
            followed: now,
            failure: None,
            broken: false,
        })
    }

    /// Whether somebody can go on with the slot: looks at the server, at the slot and at the tables that it was made for.
    pub fn can_go_on(options: &LogCaptureOptions) -> CanGoOn {
        setup::can_go_on(options).unwrap_or(CanGoOn::Unknown)
    }

    /// Opens the stream again after an error of the connection, behind what was delivered. Nothing is lost or repeated.
    ///
    /// # Errors
    /// As [`LogCapture::resume`].
    pub fn reconnect(&mut self) -> Result<(), CaptureError> {
        self.assembler.restart();
        let position = self.assembler.through;
        // The old connection has to be gone before the slot is free.
        self.broken = true;
        self.link.wire().close();
        self.link = connect(&self.options, &self.assembler, &self.state, position)?;
        self.link.set(position, self.acknowledged);
        (self.last_heard, self.asked, self.backlog, self.broken) = (Instant::now(), false, false, false);
        self.failure = None;
        Ok(())
    }

    /// Every commit up to here was delivered, or changed nothing that is followed.
    pub fn through(&self) -> Lsn {
        self.assembler.through
    }

    /// The newest transaction that was delivered.
    pub fn delivered(&self) -> Lsn {
        self.assembler.delivered
    }

    /// What the server is told as confirmed.
    pub fn confirmed(&self) -> Lsn {
        self.link.confirmed()
    }

    /// Bytes of unfinished transactions that were written to files.
    pub fn spilled_bytes(&self) -> u64 {
        self.assembler.streamed.spilled_bytes()
    }

    /// The tables, by their numbers.
    pub fn tables(&self) -> &[PgTable] {
        self.assembler.relations.tables()
    }

    /// Moves the messages that arrived since the last call to `out`, in the order of their arrival. A transactional one
    /// arrives with its transaction.
    pub fn take_messages(&mut self, out: &mut Vec<LogMessage>) {
        out.append(&mut self.assembler.messages);
    }

    /// Says that every transaction up to `lsn` is durable in every sink. The server may forget it then.
    ///
    /// # Errors
    /// When `slot.json` can't be written.
    pub fn acknowledge(&mut self, lsn: Lsn) -> Result<(), CaptureError> {
        self.acknowledged = self.acknowledged.max(lsn.min(self.assembler.through));
        self.follow()
    }

    /// Appends transactions that have arrived to `out`, whole and in commit order, and ends with the one that reaches
    /// `max_changes` (an empty one counts as one change). Does not wait for more, but for the moment after a large read in which
    /// more gathers: 1.5 ms at most.
    ///
    /// # Errors
    /// When the connection broke ([`LogCapture::reconnect`]), the stream can't be read, or a value or a changed table can't
    /// be taken. Everything before was delivered, by this poll's predecessors; every later poll fails alike.
    pub fn poll(&mut self, max_changes: u64, out: &mut Vec<Transaction>) -> Result<Polled, CaptureError> {
        if let Some(error) = self.failure.take() {
            return Err(self.stopped(error));
        }
        if self.broken {
            let reason = "the stream stopped with an error before; see to its cause, then resume";
            return Err(slot_error(&self.options.slot, reason));
        }
        let before = out.len();
        let polled = self.fill(max_changes, out);
        let (transactions, changes) = count(out.get(before..).unwrap_or_default());
        match polled {
            Ok(more) => Ok(Polled { through: self.assembler.through, transactions, changes, more }),
            // What came before it goes first.
            Err(error) if transactions > 0 => {
                self.failure = Some(error);
                Ok(Polled { through: self.assembler.through, transactions, changes, more: true })
            }
            Err(error) => Err(self.stopped(error)),
        }
    }

    /// Waits until something arrives, at most `wait`. The next poll takes it.
    ///
    /// # Errors
    /// As [`LogCapture::poll`].
    pub fn wait(&mut self, wait: Duration) -> Result<(), CaptureError> {
        if self.failure.is_some() || self.broken || self.backlog {
            return Ok(());
        }
        let read = self.link.wire().read(wait);
        match read {
            Ok(bytes) => self.heard(bytes),
            Err(error) => self.failure = Some(error.into()),
        }
        Ok(())
    }

    fn stopped(&mut self, error: CaptureError) -> CaptureError {
        self.broken = true;
        // A list of columns in the publication looks like columns that were dropped.
        if matches!(error, CaptureError::Unfit { .. })
            && let Ok(Some(reason)) = publication::altered(&self.options, self.tables())
        {
            return CaptureError::Parted { slot: self.options.slot.clone(), reason };
        }
        error
    }

    fn heard(&mut self, bytes: usize) {
        if bytes > 0 {
            self.last_read = Instant::now();
            (self.last_heard, self.asked) = (self.last_read, false);
            self.assembler.now = self.options.clock.now();
        }
        self.backlog = self.link.pause().is_backlog(bytes);
    }

    /// Takes what is buffered, then what can be read, until something is delivered. Returns whether there is more.
    fn fill(&mut self, max_changes: u64, out: &mut Vec<Transaction>) -> Result<bool, CaptureError> {
        let (before, until) = (out.len(), Instant::now() + FILL_MAX);
        let mut budget = Budget { changes: max_changes, bytes: self.options.poll_bytes_max, seen: before };
        loop {
            let drained = self.take_buffered(&mut budget, out)?;
            self.follow()?;
            if !drained {
                return Ok(true);
            }
            if out.len() > before {
                return Ok(self.backlog);
            }
            if Instant::now() > until {
                return Ok(true);
            }
            if self.backlog {
                self.link.pause().gather(self.last_read, || self.link.wire().waiting_bytes());
            }
            let bytes = self.link.wire().read(Duration::ZERO)?;
            self.heard(bytes);
            if bytes == 0 {
                self.check_silence()?;
                return Ok(false);
            }
        }
    }

    /// Takes whole messages from the buffer; `false` if the budget was used up first.
    fn take_buffered(&mut self, budget: &mut Budget, out: &mut Vec<Transaction>) -> Result<bool, CaptureError> {
        let mut wire = self.link.wire();
        let mut answer = false;
        let drained = loop {
            if budget.is_spent(out) {
                break false;
            }
            let Some(payload) = wire.next_buffered()? else { break true };
            match payload.split_first() {
                // XLogData: start, end and clock of the server, then the plugin's message.
                Some((b'w', rest)) => match rest.get(24..) {
                    Some(message) => self.assembler.take(message, out)?,
                    None => return Err(protocol("a short message")),
                },
                // Keepalive: end, clock, whether an answer is wanted.
                Some((b'k', rest)) => match rest.split_first_chunk::<8>() {
                    Some((end, rest)) => {
                        self.assembler.server_at(u64::from_be_bytes(*end));
                        answer |= rest.get(8) == Some(&1);
                    }
                    None => return Err(protocol("a short keepalive")),
                },
                _ => return Err(protocol("an unknown message")),
            }
        };
        if answer {
            self.link.set(self.assembler.through, self.acknowledged);
            self.link.send(&mut wire, false)?;
        }
        Ok(drained)
    }

    /// Brings what is confirmed up to what may be.
    fn follow(&mut self) -> Result<(), CaptureError> {
        let (through, delivered) = (self.assembler.through, self.assembler.delivered);
        let mut confirmed = self.acknowledged;
        if self.acknowledged >= delivered && through > self.acknowledged {
            let is_due = self.followed.elapsed() >= FOLLOW_INTERVAL;
            if is_due && through.0 > self.state.idle_to {
                // First in the file, so that no slot is ever further than the file says.
                let state = SlotState { idle_from: self.acknowledged.0, idle_to: through.0, ..self.state.clone() };
                state.write(&self.options.folder)?;
                (self.state, self.followed) = (state, Instant::now());
            }
            if self.state.idle_from <= self.acknowledged.0 {
                confirmed = confirmed.max(Lsn(self.state.idle_to.min(through.0)));
            }
        }
        self.link.set(through, confirmed);
        Ok(())
    }

    /// Asks a server that says nothing for a sign of life, and gives it up in the end.
    fn check_silence(&mut self) -> Result<(), CaptureError> {
        let silent = self.last_heard.elapsed();
        if silent > self.options.silence_max {
            let reason = format!(
                "the server said nothing for {} s; look at what it does, then resume",
                self.options.silence_max.as_secs_f64()
            );
            return Err(slot_error(&self.options.slot, &reason));
        }
        if !self.asked && silent > self.options.silence_max / 4 {
            self.link.send(&mut self.link.wire(), true)?;
            self.asked = true;
        }
        Ok(())
    }
}

/// What a poll may still take.
struct Budget {
    changes: u64,
    bytes: usize,
    /// Transactions that were counted.
    seen: usize,
}

impl Budget {
    #[inline]
    fn is_spent(&mut self, out: &[Transaction]) -> bool {
        for transaction in out.get(self.seen..).unwrap_or_default() {
            self.changes = self.changes.saturating_sub((transaction.changes.len() as u64).max(1));
            self.bytes = self.bytes.saturating_sub(transaction.changes.as_bytes().len());
        }
        let spent = (self.changes == 0 || self.bytes == 0) && out.len() > self.seen;
        self.seen = out.len();
        spent
    }
}

fn count(transactions: &[Transaction]) -> (u64, u64) {
    (transactions.len() as u64, transactions.iter().map(|transaction| transaction.changes.len() as u64).sum())
}

/// Checks server and slot, and starts the stream behind `from`.
fn connect(
    options: &LogCaptureOptions,
    assembler: &Assembler,
    state: &SlotState,
    from: Lsn,
) -> Result<Link, CaptureError> {
    let mut wire = Wire::connect(&options.server, Mode::Replication)?;
    let (system, timeline, end) = setup::identify(&mut wire)?;
    let mismatch = |what: &str| Err(slot_error(&options.slot, &format!("{what}; begin with a new snapshot")));
    if system != state.system || options.server.database != state.database {
        return mismatch("this is another server or database than the one that was followed");
    }
    if timeline != state.timeline {
        return mismatch("the server was promoted or restored since, so positions have another meaning");
    }
    if end < from {
        return mismatch("the server's log ends before what was followed: it lost commits that it had acknowledged");
    }
    let mut client = options.server.connect()?;
    setup::check_slot(options, &mut client, state, from)?;
    drop(client);
    let binary = if assembler.relations.tables().iter().all(PgTable::is_native) { ", binary 'true'" } else { "" };
    let publication = quote(&options.publication).replace('\'', "''");
    wire.start_replication(&format!(
        "START_REPLICATION SLOT {} LOGICAL {} (proto_version '2', publication_names '{publication}', streaming 'true', \
         messages 'true'{binary})",
        quote(&options.slot),
        show_lsn(from)
    ))?;
    Ok(Link::new(wire, from, Lsn(0), options.status_interval)?)
}

fn slot_error(slot: &str, reason: &str) -> CaptureError {
    CaptureError::Slot { slot: slot.to_owned(), reason: reason.to_owned() }
}
