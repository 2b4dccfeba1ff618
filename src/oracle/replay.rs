//! Committed transactions, run in commit order on rows in memory.

use super::error::OracleError;
use super::table::{ExpectedState, ExpectedTable};
use crate::model::{Key, Lsn, TableId, Value, ValueRef, text};
use crate::workload::{Assign, PlannedTxn, Statement, Stream, TxnIndex, Workload};
use std::collections::{BTreeMap, HashMap};

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A row came. The new key of a key change counts as this.
    Insert,
    /// A row became another under the same key, or was set to what it was.
    Update,
    /// The row went. The old key of a key change counts as this.
    Delete,
}

/// One row changed by a committed transaction.
#[derive(Clone, Copy, Debug)]
pub struct ChangeEvent<'a> {
    /// The commit.
    pub lsn: Lsn,
    /// The transaction.
    pub txn: &'a PlannedTxn,
    /// The table.
    pub table: TableId,
    /// The key.
    pub key: &'a Key,
    /// What happened to it.
    pub kind: ChangeKind,
}

impl ChangeKind {
    /// Whether the key has no row afterwards.
    pub fn is_delete(self) -> bool {
        self == ChangeKind::Delete
    }
}

/// Runs the committed transactions of a workload in commit order, watermark by watermark.
///
/// Guarantees: after [`Replay::advance`] to a watermark the state is that of the record system right after the last
/// commit at or below it. Statements mean what they mean in SQL: all assignments of an update see the row as it was
/// before it; an update or delete of a missing row changes nothing; `Add` to NULL is NULL; assigning to a key column
/// moves the row. What a database would have refused (a key that is there already, an integer overflow) is an
/// error, because the ledger says that it committed.
///
/// The stream is read once, in its own order; transactions that committed later than others behind them wait in
/// memory until it is their turn.
pub struct Replay<S> {
    state: ExpectedState,
    stream: S,
    commits: Vec<(Lsn, TxnIndex)>,
    /// Transaction -> place in `commits`, for those not read from the stream yet.
    places: HashMap<TxnIndex, usize>,
    waiting: BTreeMap<usize, PlannedTxn>,
    next: usize,
}

impl Replay<Stream> {
    /// A replay of a workload from its initial rows; `commits` are the committed write transactions, by rising
    /// position.
    ///
    /// # Errors
    /// As [`Replay::new`] and [`ExpectedState::load`].
    pub fn of_workload(workload: &Workload, commits: &[(Lsn, TxnIndex)]) -> Result<Replay<Stream>, OracleError> {
        let mut state = ExpectedState::new(workload.catalog());
        for (id, _) in workload.catalog().iter() {
            state.load(id, workload.initial_rows(id))?;
        }
        Replay::new(state, workload.stream(), commits)
    }
}

impl<S: Iterator<Item = PlannedTxn>> Replay<S> {
    /// A replay that starts at `state` (the rows before the first commit). `stream` is the workload's stream from its
    /// beginning; `commits` are the committed write transactions, by rising position.
    ///
    /// # Errors
    /// [`OracleError::CommitsOutOfOrder`], [`OracleError::CommittedTwice`].
    pub fn new(state: ExpectedState, stream: S, commits: &[(Lsn, TxnIndex)]) -> Result<Replay<S>, OracleError> {
        let mut places = HashMap::with_capacity(commits.len());
        let mut before = None;
        for (place, &(lsn, txn)) in commits.iter().enumerate() {
            if before.is_some_and(|before| before >= lsn) {
                return Err(OracleError::CommitsOutOfOrder { lsn });
            }
            before = Some(lsn);
            if places.insert(txn, place).is_some() {
                return Err(OracleError::CommittedTwice { txn });
            }
        }
        Ok(Replay { state, stream, commits: commits.to_vec(), places, waiting: BTreeMap::new(), next: 0 })
    }

    /// Runs every commit up to and including `watermark`, and tells each changed row. Going back is not possible:
    /// a lower watermark than before does nothing.
    ///
    /// # Errors
    /// [`OracleError::StreamEnded`], [`OracleError::Contradiction`], [`OracleError::NoKey`]; the state is then of no use.
    pub fn advance(
        &mut self,
        watermark: Lsn,
        each: &mut dyn FnMut(ChangeEvent<'_>),
    ) -> Result<&ExpectedState, OracleError> {
        while let Some(&(lsn, index)) = self.commits.get(self.next)
            && lsn <= watermark
        {
            let txn = self.take(self.next, index)?;
            for statement in &txn.statements {
                Step { lsn, txn: &txn, each }.run(&mut self.state, statement)?;
            }
            self.next += 1;
        }
        Ok(&self.state)
    }

    /// The state so far.
    pub fn state(&self) -> &ExpectedState {
        &self.state
    }

    /// The state so far, without the rest of the replay.
    pub fn into_state(self) -> ExpectedState {
        self.state
    }

    fn take(&mut self, place: usize, index: TxnIndex) -> Result<PlannedTxn, OracleError> {
        loop {
            if let Some(txn) = self.waiting.remove(&place) {
                return Ok(txn);
            }
            let txn = self.stream.next().ok_or(OracleError::StreamEnded { txn: index })?;
            if let Some(place) = self.places.remove(&txn.index) {
                self.waiting.insert(place, txn);
            }
        }
    }
}

/// One statement's run.
struct Step<'a> {
    lsn: Lsn,
    txn: &'a PlannedTxn,
    each: &'a mut dyn FnMut(ChangeEvent<'_>),
}

impl Step<'_> {
    fn run(&mut self, state: &mut ExpectedState, statement: &Statement) -> Result<(), OracleError> {
        let id = statement.table();
        let Some(table) = state.table_mut(id) else {
            return Err(self.contradiction("", String::new(), "there is no such table"));
        };
        match statement {
            Statement::Insert { row, .. } => {
                let key = table.key_of(row)?;
                self.put(id, table, key, row.clone(), ChangeKind::Insert)
            }
            Statement::Update { key, set, .. } => self.update(id, table, key, set),
            Statement::Delete { key, .. } => {
                let key = self.key(table, key)?;
                if table.rows.remove(&key).is_some() {
                    self.tell(id, &key, ChangeKind::Delete);
                }
                Ok(())
            }
            Statement::Read { .. } | Statement::Scan { .. } => Ok(()),
        }
    }

    fn update(
        &mut self,
        id: TableId,
        table: &mut ExpectedTable,
        key: &[Value],
        set: &[(usize, Assign)],
    ) -> Result<(), OracleError> {
        let old_key = self.key(table, key)?;
        let Some(old) = table.rows.get(&old_key) else { return Ok(()) };
        let mut row = old.clone();
        for (column, assign) in set {
            let new = match (assign, old.get(*column)) {
                (_, None) => Err("an update sets a column that the table does not have"),
                (Assign::Set(value), _) => Ok(value.clone()),
                (Assign::Add(_), Some(Value::Null)) => Ok(Value::Null),
                (Assign::Add(n), Some(Value::Int(v))) => {
                    v.checked_add(*n).map(Value::Int).ok_or("an addition overflows")
                }
                (Assign::Add(_), _) => Err("an addition to something that is not an integer"),
            };
            let new = new.map_err(|reason| self.contradiction(&table.schema.name, describe(key), reason))?;
            if let Some(place) = row.get_mut(*column) {
                *place = new;
            }
        }
        let new_key = table.key_of(&row)?;
        if new_key == old_key {
            table.rows.insert(old_key.clone(), row);
            self.tell(id, &old_key, ChangeKind::Update);
            return Ok(());
        }
        table.rows.remove(&old_key);
        self.tell(id, &old_key, ChangeKind::Delete);
        self.put(id, table, new_key, row, ChangeKind::Insert)
    }

    fn put(
        &mut self,
        id: TableId,
        table: &mut ExpectedTable,
        key: Key,
        row: Vec<Value>,
        kind: ChangeKind,
    ) -> Result<(), OracleError> {
        if table.rows.contains_key(&key) {
            let shown = super::table::key_text(&table.schema, &row);
            return Err(self.contradiction(&table.schema.name, shown, "it adds a row whose key is there already"));
        }
        self.tell(id, &key, kind);
        table.rows.insert(key, row);
        Ok(())
    }

    fn key(&self, table: &ExpectedTable, key: &[Value]) -> Result<Key, OracleError> {
        let values: Vec<ValueRef<'_>> = key.iter().map(Value::as_ref).collect();
        let no_key = |_| OracleError::NoKey { table: table.schema.name.clone(), key: describe(key) };
        Key::from_values(&values).map_err(no_key)
    }

    fn tell(&mut self, table: TableId, key: &Key, kind: ChangeKind) {
        (self.each)(ChangeEvent { lsn: self.lsn, txn: self.txn, table, key, kind });
    }

    fn contradiction(&self, table: &str, key: String, reason: &'static str) -> OracleError {
        OracleError::Contradiction { lsn: self.lsn, txn: self.txn.index, table: table.to_owned(), key, reason }
    }
}

fn describe(key: &[Value]) -> String {
    text::describe_values(key.iter().map(Value::as_ref))
}
