//! Where commits lie in what a strategy calls its positions.

use super::cut::PgCut;
use super::record::PgSource;
use crate::model::Lsn;
use crate::source::error::SourceError;
use ::postgres::Client;
use std::collections::HashMap;

/// The publication that holds the commit order, and how the slot's name begins in which the log of a run is kept until then.
const ORDER: &str = "freshbench_order";

/// Numbers of commits to positions.
pub type Places = HashMap<Lsn, Lsn>;

impl PgSource {
    /// Makes the server keep its log from here on, so that [`PgSource::places_in_log`] can read the commit order
    /// afterwards. Nothing reads it meanwhile: the run pays for the log that is kept and for nothing else.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn keep_order(&self) -> Result<(), SourceError> {
        let failed = || SourceError::postgres("keep the commit order of", self.place());
        let mut client = self.connect()?;
        let sql = format!("CREATE PUBLICATION {ORDER} FOR TABLE _freshbench.commit");
        client.batch_execute(&sql).map_err(failed())?;
        let sql = "SELECT pg_catalog.pg_create_logical_replication_slot($1::text::name, 'pgoutput')";
        client.execute(sql, &[&self.order_slot()]).map(drop).map_err(failed())
    }

    /// A name for slots that no other database of the server has, nearly always: slots are the server's.
    pub fn slot_name(&self) -> String {
        let hash = xxhash_rust::xxh3::xxh3_64(self.options().database.as_bytes()) & u64::from(u32::MAX);
        let fits = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_';
        let name: String = self.options().database.chars().filter(fits).take(32).collect();
        format!("{hash:08x}_{name}")
    }

    fn order_slot(&self) -> String {
        format!("{ORDER}_{}", self.slot_name())
    }

    /// The end of each numbered commit in the server's log, read from the log itself: the truth about the commit order.
    ///
    /// # Errors
    /// When the server refuses, or the log holds something else than expected.
    pub fn places_in_log(&self) -> Result<Places, SourceError> {
        let failed = || SourceError::postgres("read the commit order of", self.place());
        let mut client = self.connect()?;
        let sql = "SELECT data FROM pg_catalog.pg_logical_slot_get_binary_changes($1::text::name, NULL, NULL, \
            'proto_version', '1', 'publication_names', $2)";
        let rows = client.query(sql, &[&self.order_slot(), &ORDER]).map_err(failed())?;
        let (mut places, mut number) = (Places::new(), None);
        for row in rows {
            let data: &[u8] = row.get(0);
            match data.first() {
                Some(b'I') => number = inserted_number(data),
                Some(b'C') => {
                    // 'C', flags, the commit's position, its end, its time.
                    let end = data.get(10..18).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
                    if let Some((number, end)) = number.take().zip(end) {
                        places.insert(Lsn(number), Lsn(end));
                    }
                }
                _ => {}
            }
        }
        let sql = "SELECT pg_catalog.pg_drop_replication_slot($1::text::name)";
        client.execute(sql, &[&self.order_slot()]).map_err(failed())?;
        Ok(places)
    }

    /// For states of the server that a strategy brought to its sinks: the first state that includes each numbered commit,
    /// with a position for each commit of its own, in the order of their numbers, that ends at the state's.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn places_in_cuts(&self, cuts: &[(Lsn, PgCut)]) -> Result<Places, SourceError> {
        let commits =
            numbered(&mut self.connect()?).map_err(SourceError::postgres("read the commits of", self.place()))?;
        Ok(place_in_cuts(&commits, cuts))
    }
}

/// The first column, a bigint in text form, of an insert into `_freshbench.commit`: 'I', the relation, 'N', the number of
/// columns, 't', a length, the digits. Source: "Logical Replication Message Formats" in PostgreSQL's documentation.
fn inserted_number(data: &[u8]) -> Option<u64> {
    let length = usize::try_from(u32::from_be_bytes(data.get(9..13)?.try_into().ok()?)).ok()?;
    std::str::from_utf8(data.get(13..13 + length)?).ok()?.parse().ok()
}

/// Number and transaction id of each commit, by number.
fn numbered(client: &mut Client) -> Result<Vec<(Lsn, u64)>, ::postgres::Error> {
    let sql = "SELECT number, xid::text::bigint FROM _freshbench.commit ORDER BY number";
    let rows = client.query(sql, &[])?;
    let pair = |row: &::postgres::Row| (Lsn(row.get::<_, i64>(0).unsigned_abs()), row.get::<_, i64>(1).unsigned_abs());
    Ok(rows.iter().map(pair).collect())
}

fn place_in_cuts(commits: &[(Lsn, u64)], cuts: &[(Lsn, PgCut)]) -> Places {
    // Transaction ids grow roughly with the cuts, so the search for each begins near where the last one ended.
    let first = |xid: u64| {
        // A cut includes all that an earlier one includes.
        cuts.partition_point(|(_, cut)| !cut.includes(xid))
    };
    let mut by_cut: Vec<(usize, Lsn)> = commits.iter().map(|&(number, xid)| (first(xid), number)).collect();
    by_cut.sort_unstable();
    let mut places = Places::with_capacity(by_cut.len());
    let mut newest = Lsn::ZERO;
    for group in by_cut.chunk_by(|a, b| a.0 == b.0) {
        let end = group.first().and_then(|&(cut, _)| cuts.get(cut)).map(|&(position, _)| position);
        for (place, &(_, number)) in group.iter().enumerate() {
            let behind = (group.len() - 1 - place) as u64;
            // What no state includes lies behind all of them.
            let wanted = end.map_or(newest.0 + 1, |end| end.0.saturating_sub(behind));
            newest = Lsn(wanted.max(newest.0 + 1));
            places.insert(number, newest);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_lies_in_the_first_state_that_includes_it() {
        let cut = |position, text| (Lsn(position), PgCut::parse(text).unwrap());
        let cuts = [cut(100, "10:10:"), cut(200, "11:14:11,13"), cut(300, "13:15:13"), cut(400, "15:15:")];
        let commits: Vec<(Lsn, u64)> =
            [(1, 9), (2, 12), (3, 11), (4, 10), (5, 13), (6, 99), (7, 14)].map(|(n, x)| (Lsn(n), x)).into();
        let places = place_in_cuts(&commits, &cuts);
        let found: Vec<u64> = (1..=7).map(|number| places[&Lsn(number)].0).collect();
        assert_eq!(found, [100, 199, 299, 200, 400, 401, 300]);
    }

    #[test]
    fn an_inserts_number_is_read_from_its_bytes() {
        let mut data = vec![b'I', 0, 0, 0, 7, b'N', 0, 3, b't', 0, 0, 0, 2];
        data.extend_from_slice(b"42t\0\0\0\x011");
        assert_eq!(inserted_number(&data), Some(42));
        assert_eq!(inserted_number(&data[..14]), None);
    }
}
