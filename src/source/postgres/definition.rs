//! A table's definition in one state, held against what it was when following began.
//!
//! A definition belongs to the state that it was read in. Whoever reads rows of a later state has to find the table in that
//! state again: other partitions, another table under the same name, or a column of another type may be there by then.

use super::table::{PgKeyOrigin, PgKind, PgReplicaIdentity, PgTable};
use crate::source::SourceError;
use ::postgres::GenericClient;

/// What a table has to have kept, so that its rows go where those of the earlier one went. In each case: the same columns in
/// the same order, each with a type that the same column of a warehouse holds, and the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgKept {
    /// Its name. Whatever bears it is read again as a whole, so it may be another table.
    Name,
    /// Itself, as the server's log has it: under whatever name, and without generated columns.
    Logged,
    /// Itself, and its columns' very types, since a changelog is made of them.
    Copied,
}

impl PgTable {
    /// Finds in the client's state what `expected` has become, as it is there: columns and key are not compared yet.
    ///
    /// # Errors
    /// [`SourceError::Changed`] when it is not there any more, or another table is; [`SourceError::Postgres`].
    pub fn find_again(
        client: &mut impl GenericClient,
        expected: &PgTable,
        kept: PgKept,
    ) -> Result<PgTable, SourceError> {
        let sql = "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";
        let there = "SELECT oid FROM pg_catalog.pg_class WHERE oid = $1";
        let failed = || SourceError::postgres("look for table", &expected.schema.name);
        let named = client.query_opt(sql, &[&expected.schema_name, &expected.table_name]).map_err(failed())?;
        let named: Option<u32> = named.map(|row| row.try_get(0)).transpose().map_err(failed())?;
        match (kept, named) {
            (PgKept::Name, Some(oid)) => PgTable::of_oid(client, oid),
            (PgKept::Name, None) => Err(changed(expected, "it is not there any more under this name")),
            (_, Some(oid)) if oid != expected.oid => Err(changed(expected, "another table has its name now")),
            _ if client.query_opt(there, &[&expected.oid]).map_err(failed())?.is_none() => {
                Err(changed(expected, "it was dropped"))
            }
            _ => PgTable::of_oid(client, expected.oid),
        }
    }

    /// This table, as it is in a later state, with the columns and the key of `expected`.
    ///
    /// # Errors
    /// [`SourceError::Changed`], saying what was and what is, when its rows do not fit any more.
    pub fn conformed(&self, expected: &PgTable, kept: PgKept) -> Result<PgTable, SourceError> {
        let found = if kept == PgKept::Logged { self.without_generated()? } else { self.clone() };
        if let Some(what) = columns_differ(expected, &found, kept).or_else(|| key_differs(expected, self, &found, kept))
        {
            return Err(changed(expected, &what));
        }
        // Whether NULL may come is what the target was made for; a NULL that comes all the same is refused by it.
        Ok(PgTable { schema: expected.schema.clone(), key_origin: expected.key_origin, ..found })
    }

    /// How this table, as it is in a later state, differs from what `earlier` says, though its rows look the same: in words,
    /// each of which means that rows may have come, gone or changed without a statement that names them.
    pub fn moved(&self, earlier: &PgTable) -> Vec<String> {
        if self.oid != earlier.oid {
            return vec!["another table has its name now".to_owned()];
        }
        let mut found = Vec::new();
        for leaf in &self.leaves {
            match earlier.leaves.iter().find(|before| before.oid == leaf.oid) {
                None => found.push(format!("partition {} was added", leaf.quoted)),
                Some(before) if before.attached != leaf.attached => {
                    found.push(format!("partition {} was detached and attached again", leaf.quoted));
                }
                Some(before) if before.storage != leaf.storage => {
                    found.push(format!("{} was emptied or written anew", leaf.quoted));
                }
                Some(_) => {}
            }
        }
        let gone = earlier.leaves.iter().filter(|before| !self.leaves.iter().any(|leaf| leaf.oid == before.oid));
        found.extend(gone.map(|leaf| format!("partition {} was detached or dropped", leaf.quoted)));
        for ((column, now), before) in self.schema.columns.iter().zip(&self.columns).zip(&earlier.columns) {
            if now.number != before.number {
                found.push(format!("column {:?} was dropped, and another one has its name", column.name));
            } else if (now.type_oid, now.type_modifier) != (before.type_oid, before.type_modifier) {
                let (was, is) = (&before.type_name, &now.type_name);
                found.push(format!("column {:?} was {was}, and is {is}", column.name));
            }
        }
        found
    }

    /// Whether a statement that was made for this definition reads the same from `other`, of the same moment or a later one.
    pub fn reads_as(&self, other: &PgTable) -> bool {
        let columns = |table: &PgTable| -> Vec<(String, i16, u32, i32)> {
            let both = table.schema.columns.iter().zip(&table.columns);
            both.map(|(column, of)| (column.name.clone(), of.number, of.type_oid, of.type_modifier)).collect()
        };
        self.oid == other.oid && self.quoted() == other.quoted() && columns(self) == columns(other)
    }
}

fn changed(table: &PgTable, what: &str) -> SourceError {
    SourceError::Changed { table: table.schema.name.clone(), what: what.to_owned() }
}

fn names(table: &PgTable) -> Vec<&str> {
    table.schema.columns.iter().map(|column| column.name.as_str()).collect()
}

fn columns_differ(expected: &PgTable, found: &PgTable, kept: PgKept) -> Option<String> {
    let (before, now) = (names(expected), names(found));
    let lost = before.iter().find(|name| !now.contains(name));
    let new = now.iter().find(|name| !before.contains(name));
    match (lost, new) {
        (Some(lost), Some(new)) => return Some(format!("it had a column {lost:?}, and has {new:?}")),
        (Some(lost), None) => return Some(format!("it had a column {lost:?}, which it has no more")),
        (None, Some(new)) => return Some(format!("it has a column {new:?}, which it had not")),
        (None, None) => {}
    }
    if before != now {
        return Some(format!("its columns were ({}), and are ({})", before.join(", "), now.join(", ")));
    }
    let before = expected.schema.columns.iter().zip(&expected.columns);
    let now = found.schema.columns.iter().zip(&found.columns);
    before.zip(now).find_map(|((column, was), (other, is))| {
        let held = column.column_type == other.column_type;
        let same = (was.type_oid, was.type_modifier) == (is.type_oid, is.type_modifier);
        let fits = if kept == PgKept::Copied { held && same } else { held };
        let words = || format!("its column {:?} was {}, and is {}", column.name, was.type_name, is.type_name);
        (!fits).then(words)
    })
}

/// Rows that the key of the start tells apart may be several by the key of now.
fn key_differs(expected: &PgTable, whole: &PgTable, found: &PgTable, kept: PgKept) -> Option<String> {
    let key = |table: &PgTable, places: &[usize]| -> Vec<String> {
        places.iter().filter_map(|&place| Some(table.schema.columns.get(place)?.name.clone())).collect()
    };
    let before = key(expected, &expected.schema.key);
    if expected.key_origin == PgKeyOrigin::None || (expected.key_origin == PgKeyOrigin::Given && kept != PgKept::Logged)
    {
        return None;
    }
    // The log may go by the columns of another index than the first one.
    let identity = match &found.replica_identity {
        PgReplicaIdentity::Index(places) if kept == PgKept::Logged => Some(key(found, places)),
        _ => None,
    };
    let now = key(found, &found.schema.key);
    let same = |now: &[String]| now.len() == before.len() && before.iter().all(|name| now.contains(name));
    if same(&now) || identity.as_deref().is_some_and(same) {
        return None;
    }
    if matches!(whole.kind, PgKind::View | PgKind::MaterializedView | PgKind::Foreign) {
        return None;
    }
    let is = if now.is_empty() { "it has none".to_owned() } else { format!("is ({})", now.join(", ")) };
    Some(format!("its key was ({}), and {is}", before.join(", ")))
}

/// A statement that keeps others from altering or emptying the tables until the transaction ends; empty for none. A partitioned
/// table is locked with its partitions and a view with the tables that it is made of, which asks for no right on them.
pub fn lock_sql<'a>(tables: impl IntoIterator<Item = &'a PgTable>) -> String {
    let lockable = |table: &&PgTable| matches!(table.kind, PgKind::Table | PgKind::Partitioned | PgKind::View);
    let names: Vec<String> = tables.into_iter().filter(lockable).map(PgTable::quoted).collect();
    if names.is_empty() { String::new() } else { format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", ")) }
}

/// The same for what LOCK TABLE does not take: reading locks a materialized view against being made again. It fixes the state of a
/// transaction that has none.
pub fn touch_sql<'a>(tables: impl IntoIterator<Item = &'a PgTable>) -> String {
    let untaken = tables.into_iter().filter(|table| table.kind == PgKind::MaterializedView);
    untaken.map(|table| format!("SELECT FROM {} LIMIT 0;", table.quoted())).collect()
}
