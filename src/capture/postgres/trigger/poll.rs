//! Reading what one state of the server includes and the last one did not.

use super::setup::{CAME, DELETED, INSERTED, TRUNCATED, UPDATED, WENT, changelog, check_order, names};
use super::{Definitions, PgTriggerCapture};
use crate::capture::CaptureError;
use crate::capture::Polled;
use crate::capture::postgres::PgSnapshot;
use crate::capture::postgres::net::net;
use crate::clock::Clock;
use crate::model::{ChangeBuf, CommitTime, Lsn, TableId, Transaction};
use crate::source::postgres::{PgCut, PgKept, PgSource, PgTable, Scratch, TableReader};
use crate::source::wall_clock;
use ::postgres::fallible_iterator::FallibleIterator;
use ::postgres::types::ToSql;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How long positions stand still while only other tables change.
const EMPTY_EVERY: Duration = Duration::from_millis(50);

/// Names, columns, types and keys of tables in one text, and the triggers on them and on the tables that refer to them.
const DIGEST: &str = "SELECT pg_catalog.md5(coalesce(pg_catalog.string_agg(pg_catalog.concat_ws(' ', \
      c.oid, c.relname, c.relnamespace, (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', \
        a.attnum, a.attname, a.atttypid, a.atttypmod), ',' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a \
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
      (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', i.indexrelid, i.indkey), ',' ORDER BY i.indexrelid) \
        FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique), \
      (SELECT pg_catalog.string_agg(t.oid::text, ',' ORDER BY t.oid) FROM pg_catalog.pg_trigger t \
        WHERE t.tgrelid = c.oid), \
      (SELECT pg_catalog.string_agg(o.oid::text, ',' ORDER BY o.oid, t.oid) FROM pg_catalog.pg_trigger t \
        JOIN pg_catalog.pg_trigger o ON o.tgrelid = t.tgconstrrelid WHERE t.tgrelid = c.oid AND t.tgisinternal)), ';' ORDER BY c.oid), '')) \
    FROM pg_catalog.pg_class c WHERE c.oid = ANY($1)";

/// The changes of one transaction, each with its number: those of several tables are not yet in order.
#[derive(Default)]
struct Gathered {
    changes: Vec<(i64, ChangeBuf)>,
    /// Tables of which whole rows were logged.
    whole: BTreeSet<TableId>,
}

impl Gathered {
    /// Puts the changes in their order, and sums those up of which whole rows were logged.
    fn settle(&mut self, source: &PgSource) -> Result<(), CaptureError> {
        self.changes.sort_unstable_by_key(|&(number, _)| number);
        let Some(&(last, _)) = self.changes.last().filter(|_| !self.whole.is_empty()) else { return Ok(()) };
        let mut all = ChangeBuf::new();
        self.changes.iter().for_each(|(_, change)| all.append(change));
        let whole = |id: TableId| self.whole.contains(&id).then(|| source.catalog().tables.get(id.index())).flatten();
        self.changes = vec![(last, net(all, whole)?)];
        Ok(())
    }
}

impl PgTriggerCapture {
    /// Appends the transactions of one new state to `out`, whole. However many changes they have: a state is not to be
    /// had in parts.
    ///
    /// # Errors
    /// When the server refuses or a value can't be held. The next poll begins at the same place.
    pub fn poll(&mut self, out: &mut Vec<Transaction>) -> Result<Polled, CaptureError> {
        let place = self.source.place();
        let failed = || CaptureError::postgres("poll", &place);
        let (position, cut) = self.source.begin_state(&mut self.client, self.stuck)?;
        let read = self.read().and_then(|gathered| {
            // What the triggers took by another definition is not what the table holds.
            if !gathered.is_empty() {
                self.check_definitions()?;
            }
            Ok(gathered)
        });
        let ended = self.client.batch_execute("COMMIT").map_err(failed());
        let gathered = read?;
        ended?;
        // What was in the log at the last poll already, and is seen only now, needs a position of its own: the next state
        // gets one, if the log does not grow by itself.
        self.stuck = position == self.through && !gathered.is_empty();
        if position == self.through {
            return Ok(Polled { through: self.through, ..Polled::default() });
        }
        self.deliver((position, cut), gathered, out)
    }

    /// Delivers one more state, and keeps it to be read.
    ///
    /// # Errors
    /// As [`PgTriggerCapture::poll`].
    pub fn last_state(&mut self, clock: &Clock, out: &mut Vec<Transaction>) -> Result<PgSnapshot, CaptureError> {
        let snapshot = PgSnapshot::of_source(&self.source, PgKept::Copied, 1, clock, None)?;
        (self.client, self.prepared) = (snapshot.join(&self.source)?, HashMap::new());
        self.definitions = Definitions::default();
        let gathered = self.read()?;
        if !gathered.is_empty() {
            self.check_definitions()?;
        }
        self.client.batch_execute("COMMIT").map_err(CaptureError::postgres("poll", self.source.place()))?;
        let unknown = || CaptureError::NotSetUp { reason: "the snapshot's state is not known".to_owned() };
        let cut = snapshot.cut().ok_or_else(unknown)?.clone();
        self.deliver((snapshot.position(), cut), gathered, out)?;
        Ok(snapshot)
    }

    fn deliver(
        &mut self,
        (position, cut): (Lsn, PgCut),
        gathered: HashMap<i64, Gathered>,
        out: &mut Vec<Transaction>,
    ) -> Result<Polled, CaptureError> {
        let transactions = ordered(gathered, self.through, position);
        let idle = transactions.is_empty();
        if idle && self.last_delivery.elapsed() < EMPTY_EVERY {
            // The state is left for a later poll, so that positions have few gaps to bridge.
            return Ok(Polled { through: self.through, ..Polled::default() });
        }
        self.last_delivery = Instant::now();
        let changes = transactions.iter().map(|transaction| transaction.changes.len() as u64).sum();
        let polled = Polled { through: position, transactions: transactions.len() as u64, changes, more: false };
        out.extend(transactions);
        if idle {
            out.push(Transaction { lsn: position, committed_at: wall_clock(), ..Transaction::default() });
        }
        self.through = position;
        self.cuts.push((position, cut.clone()));
        self.cut = cut;
        Ok(polled)
    }

    /// Fails when a table, in the state that is being read, is not what its changelog was made for. One look-up as long as
    /// nothing changes.
    fn check_definitions(&mut self) -> Result<(), CaptureError> {
        let failed = || CaptureError::postgres("look at the definitions of tables at", self.source.place());
        let statement = match &self.definitions.digest_sql {
            Some(statement) => statement.clone(),
            None => self.client.prepare(DIGEST).map_err(failed())?,
        };
        let oids: Vec<u32> = self.source.tables().iter().map(|table| table.oid).collect();
        let row = self.client.query_one(&statement, &[&oids]);
        let digest: String = row.and_then(|row| row.try_get(0)).map_err(failed())?;
        if self.definitions.fitting.as_deref() != Some(digest.as_str()) {
            let source = self.source.clone();
            for (id, _) in source.catalog().iter() {
                let expected = source.table(id)?;
                let found = PgTable::find_again(&mut self.client, expected, PgKept::Copied)?;
                found.conformed(expected, PgKept::Copied)?;
                check_order(&mut self.client, id, expected)?;
            }
        }
        self.definitions = Definitions { digest_sql: Some(statement), fitting: Some(digest) };
        Ok(())
    }

    fn read(&mut self) -> Result<HashMap<i64, Gathered>, CaptureError> {
        let mut gathered = HashMap::new();
        let source = self.source.clone();
        for (id, _) in source.catalog().iter() {
            self.read_table(id, source.table(id)?, &mut gathered)?;
        }
        gathered.values_mut().try_for_each(|gathered: &mut Gathered| gathered.settle(&source))?;
        Ok(gathered)
    }

    fn read_table(
        &mut self,
        id: TableId,
        table: &PgTable,
        gathered: &mut HashMap<i64, Gathered>,
    ) -> Result<(), CaptureError> {
        let (reader, schema) = (TableReader::new(table), &table.schema);
        let (k, c) = (names('k', schema.key.len()), names('c', schema.columns.len()));
        let keys = schema.key.iter().zip(&k).map(|(&column, name)| reader.expression(column, name));
        let columns = c.iter().enumerate().map(|(column, name)| reader.expression(column, name));
        let list: Vec<String> = keys.chain(columns).collect();
        // The first condition is for the index, the second is the truth.
        let sql = format!(
            "SELECT xid::text::bigint, id, op::text, {} FROM {} WHERE xid >= $1::text::xid8 \
                AND NOT pg_catalog.pg_visible_in_snapshot(xid, $2::text::pg_catalog.pg_snapshot)",
            list.join(", "),
            changelog(id)
        );
        let failed = || CaptureError::postgres("read the changelog of table", &schema.name);
        let (from, last) = (self.cut.xmin().to_string(), self.cut.text());
        let parameters: [&dyn ToSql; 2] = [&from, &last];
        let statement = match self.prepared.get(&id) {
            Some(statement) => statement.clone(),
            None => {
                let statement = self.client.prepare(&sql).map_err(failed())?;
                self.prepared.insert(id, statement.clone());
                statement
            }
        };
        let mut rows = self.client.query_raw(&statement, parameters).map_err(failed())?;
        let mut scratch = Scratch::default();
        let key_first = 3;
        let row_first = key_first + schema.key.len();
        while let Some(row) = rows.next().map_err(failed())? {
            let (xid, number): (i64, i64) = (row.get(0), row.get(1));
            let mut change = ChangeBuf::new();
            let codec = |error| CaptureError::Codec { table: schema.name.clone(), source: error };
            let op: &str = row.get(2);
            match op {
                INSERTED => change.push_insert(id, reader.decode(&row, row_first, &mut scratch)?).map_err(codec)?,
                UPDATED => {
                    change.push_update(id, None, reader.decode(&row, row_first, &mut scratch)?).map_err(codec)?;
                }
                WENT => change.push_delete(id, reader.decode(&row, row_first, &mut scratch)?).map_err(codec)?,
                CAME => change.push_insert(id, reader.decode(&row, row_first, &mut scratch)?).map_err(codec)?,
                DELETED => change.push_delete(id, reader.decode_key(&row, key_first, &mut scratch)?).map_err(codec)?,
                TRUNCATED => change.push_truncate(id),
                op => {
                    let reason = format!("an unknown op {op:?} in change {number}");
                    return Err(CaptureError::Damaged { reason });
                }
            }
            let of_transaction = gathered.entry(xid).or_default();
            if matches!(op, WENT | CAME) {
                of_transaction.whole.insert(id);
            }
            of_transaction.changes.push((number, change));
        }
        Ok(())
    }

    /// Removes what was delivered; call it when all of that is durable. Returns how many changes.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn prune(&mut self) -> Result<u64, CaptureError> {
        let mut removed = 0;
        let last = self.cut.text();
        for (id, schema) in self.source.catalog().iter() {
            let sql = format!(
                "DELETE FROM {} WHERE pg_catalog.pg_visible_in_snapshot(xid, $1::text::pg_catalog.pg_snapshot)",
                changelog(id)
            );
            let failed = CaptureError::postgres("prune the changelog of table", &schema.name);
            removed += self.client.execute(&sql, &[&last]).map_err(failed)?;
        }
        Ok(removed)
    }
}

/// Transactions, each with its changes in order, in the order of their last changes, with positions up to `position`. Those for which there is no room
/// become one, which is no other state: all of them come from one.
fn ordered(gathered: HashMap<i64, Gathered>, through: Lsn, position: Lsn) -> Vec<Transaction> {
    let mut all: Vec<Vec<(i64, ChangeBuf)>> = gathered.into_values().map(|gathered| gathered.changes).collect();
    all.sort_unstable_by_key(|changes| changes.last().map(|&(number, _)| number));
    let now: CommitTime = wall_clock();
    let (count, room) = (all.len() as u64, position.0.saturating_sub(through.0));
    let mut transactions: Vec<Transaction> = Vec::with_capacity(all.len());
    for (place, changes) in all.into_iter().enumerate() {
        let behind = count - 1 - place as u64;
        let lsn = if behind < room { Lsn(position.0 - behind) } else { Lsn(position.0 - room.saturating_sub(1)) };
        if transactions.last().is_none_or(|last| last.lsn != lsn) {
            transactions.push(Transaction { lsn, committed_at: now, ..Transaction::default() });
        }
        if let Some(transaction) = transactions.last_mut() {
            changes.iter().for_each(|(_, change)| transaction.changes.append(change));
        }
    }
    transactions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(numbers: &[&[i64]]) -> HashMap<i64, Gathered> {
        let change = |&number: &i64| {
            let mut change = ChangeBuf::new();
            change.push_truncate(TableId(u32::try_from(number).unwrap()));
            (number, change)
        };
        let all = numbers.iter().enumerate();
        let sorted = |numbers: &[i64]| {
            let mut numbers = numbers.to_vec();
            numbers.sort_unstable();
            Gathered { changes: numbers.iter().map(change).collect(), ..Gathered::default() }
        };
        all.map(|(xid, numbers)| (xid as i64, sorted(numbers))).collect()
    }

    fn told(transactions: &[Transaction]) -> Vec<(u64, Vec<u32>)> {
        let tables = |t: &Transaction| t.changes.iter().map(|change| change.unwrap().table().0).collect();
        transactions.iter().map(|t| (t.lsn.0, tables(t))).collect()
    }

    #[test]
    fn the_last_change_decides_the_order() {
        let found = ordered(gathered(&[&[9, 1], &[5, 2], &[7]]), Lsn(10), Lsn(100));
        assert_eq!(told(&found), [(98, vec![2, 5]), (99, vec![7]), (100, vec![1, 9])]);
    }

    #[test]
    fn without_room_some_become_one() {
        let found = ordered(gathered(&[&[1], &[2], &[3], &[4]]), Lsn(98), Lsn(100));
        assert_eq!(told(&found), [(99, vec![1, 2, 3]), (100, vec![4])]);
    }
}
