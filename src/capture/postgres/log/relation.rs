//! Tables as the stream describes them, held against what they were when the stream was set up.
//!
//! A changed definition is never guessed at: from its first change on the stream stops with an error, and everything
//! before it was delivered. See the table in [`super`]'s documentation.

use super::pgoutput::{Fields, RelationRef, Tuple};
use super::uniqueness;
use crate::capture::CaptureError;
use crate::capture::postgres::net::net;
use crate::model::{ChangeBuf, TableId};
use crate::source::postgres::{PgCoding, PgField, PgOptions, PgReplicaIdentity, PgScratch, PgTable};
use smallvec::SmallVec;

/// The tables that are followed, by the oid that the stream calls them.
#[derive(Debug)]
pub(super) struct Relations {
    tables: Vec<PgTable>,
    known: Vec<Known>,
    /// Whose catalog says what the stream does not.
    server: Option<PgOptions>,
    scratch: PgScratch,
    old_scratch: PgScratch,
}

#[derive(Debug)]
struct Known {
    oid: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not ours.
    Foreign,
    /// As it should be.
    Followed(usize),
    /// Ours, and not what it was.
    Changed { table: usize, reason: String },
}

/// The stream is at odds with itself or with the catalog.
#[derive(Debug)]
pub(super) enum Misread {
    /// A change of a table that was never described.
    Undescribed(u32),
    /// As it says.
    Capture(CaptureError),
}

impl From<CaptureError> for Misread {
    fn from(error: CaptureError) -> Self {
        Misread::Capture(error)
    }
}

impl Relations {
    pub(super) fn new(tables: Vec<PgTable>) -> Relations {
        Relations {
            tables,
            known: Vec::new(),
            server: None,
            scratch: PgScratch::default(),
            old_scratch: PgScratch::default(),
        }
    }

    /// The same, which look at this server's catalog where the stream does not say enough.
    pub(super) fn with_catalog(self, server: &PgOptions) -> Relations {
        Relations { server: Some(server.clone()), ..self }
    }

    pub(super) fn tables(&self) -> &[PgTable] {
        &self.tables
    }

    /// Forgets what the stream said: a new connection says it again.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// Takes a table's description.
    ///
    /// # Errors
    /// When the catalog has to be looked at and can't be.
    pub(super) fn describe(&mut self, relation: RelationRef<'_>) -> Result<(), CaptureError> {
        let oid = relation.oid;
        let state = match self.tables.iter().position(|table| table.oid == oid) {
            None => State::Foreign,
            Some(table) => match self.changed(table, relation)? {
                None => State::Followed(table),
                Some(reason) => State::Changed { table, reason },
            },
        };
        self.known.retain(|known| known.oid != oid);
        self.known.push(Known { oid, state });
        Ok(())
    }

    fn changed(&self, table: usize, relation: RelationRef<'_>) -> Result<Option<String>, CaptureError> {
        let Some(table) = self.tables.get(table) else { return Ok(None) };
        let found = difference(table, relation);
        match &self.server {
            Some(server) if found.is_none() && relation.identity == b'f' => uniqueness::lost(server, table),
            _ => Ok(found),
        }
    }

    /// The table's number; `None` for one that is not followed.
    #[inline]
    fn find(&self, oid: u32) -> Result<Option<usize>, Misread> {
        match self.known.iter().find(|known| known.oid == oid).map(|known| &known.state) {
            Some(State::Followed(table)) => Ok(Some(*table)),
            Some(State::Foreign) => Ok(None),
            Some(State::Changed { table, reason }) => {
                let table = self.tables.get(*table).map_or_else(String::new, |table| table.schema.name.clone());
                Err(CaptureError::Unfit { table, reason: reason.clone() }.into())
            }
            None => Err(Misread::Undescribed(oid)),
        }
    }

    /// Appends an insert.
    #[inline]
    pub(super) fn insert(&mut self, oid: u32, new: Tuple<'_>, out: &mut ChangeBuf) -> Result<(), Misread> {
        let Some((id, table)) = self.find(oid)?.and_then(|place| Some((id(place), self.tables.get(place)?))) else {
            return Ok(());
        };
        let row = table.decode(&new.fields(), &mut self.scratch).map_err(CaptureError::from)?;
        out.push_insert(id, row.iter().copied()).map_err(codec(table)).map_err(Misread::from)
    }

    /// Sums up what a transaction did to tables whose keys are checked at its commit only.
    ///
    /// # Errors
    /// As [`net`].
    pub(super) fn settle(&self, changes: ChangeBuf) -> Result<ChangeBuf, CaptureError> {
        if !self.tables.iter().any(PgTable::settles_at_commit) {
            return Ok(changes);
        }
        net(changes, |id| {
            self.tables.get(id.index()).filter(|table| table.settles_at_commit()).map(|table| &table.schema)
        })
    }

    /// Appends an update. Unchanged values that the old row tells are filled in; a key that changed goes along.
    #[inline]
    pub(super) fn update(
        &mut self,
        oid: u32,
        old: Option<Tuple<'_>>,
        new: Tuple<'_>,
        out: &mut ChangeBuf,
    ) -> Result<(), Misread> {
        let Some((id, table)) = self.find(oid)?.and_then(|place| Some((id(place), self.tables.get(place)?))) else {
            return Ok(());
        };
        let mut fields = new.fields();
        let Some(old) = old else {
            let open = |&place: &usize| fields.get(place) == Some(&PgField::Unchanged);
            if table.settles_at_commit() || table.schema.key.iter().any(open) {
                return Err(no_key(table));
            }
            let row = table.decode(&fields, &mut self.scratch).map_err(CaptureError::from)?;
            return out.push_update(id, None, row.iter().copied()).map_err(codec(table)).map_err(Misread::from);
        };
        let old = old.fields();
        for (field, &before) in fields.iter_mut().zip(&old) {
            // What is not in the replica identity comes as NULL; a value that is not sent is never NULL.
            if *field == PgField::Unchanged && before != PgField::Null {
                *field = before;
            }
        }
        let row = table.decode(&fields, &mut self.scratch).map_err(CaptureError::from)?;
        if table.settles_at_commit() {
            let old = table.decode(whole(table, &old)?, &mut self.old_scratch).map_err(CaptureError::from)?;
            out.push_delete(id, old.iter().copied()).map_err(codec(table))?;
            return out.push_insert(id, row.iter().copied()).map_err(codec(table)).map_err(Misread::from);
        }
        let key = key_of(table, old)?;
        let key_row = table.decode(&key, &mut self.old_scratch).map_err(CaptureError::from)?;
        let same = table.schema.key.iter().all(|&place| key_row.get(place) == row.get(place));
        let old_key: SmallVec<[_; 4]> =
            table.schema.key.iter().filter_map(|&place| key_row.get(place).copied()).collect();
        let old_key = (!same).then_some(old_key.as_slice());
        out.push_update(id, old_key, row.iter().copied()).map_err(codec(table)).map_err(Misread::from)
    }

    /// Appends a delete.
    #[inline]
    pub(super) fn delete(&mut self, oid: u32, old: Tuple<'_>, out: &mut ChangeBuf) -> Result<(), Misread> {
        let Some((id, table)) = self.find(oid)?.and_then(|place| Some((id(place), self.tables.get(place)?))) else {
            return Ok(());
        };
        let old = old.fields();
        if table.settles_at_commit() {
            let old = table.decode(whole(table, &old)?, &mut self.old_scratch).map_err(CaptureError::from)?;
            return out.push_delete(id, old.iter().copied()).map_err(codec(table)).map_err(Misread::from);
        }
        let key = key_of(table, old)?;
        let row = table.decode(&key, &mut self.old_scratch).map_err(CaptureError::from)?;
        let key = table.schema.key.iter().filter_map(|&place| row.get(place).copied());
        out.push_delete(id, key).map_err(codec(table)).map_err(Misread::from)
    }

    /// Appends a truncate.
    pub(super) fn truncate(&mut self, oid: u32, out: &mut ChangeBuf) -> Result<(), Misread> {
        if let Some(place) = self.find(oid)? {
            out.push_truncate(id(place));
        }
        Ok(())
    }
}

fn id(place: usize) -> TableId {
    TableId(place as u32)
}

/// The old row with everything but its key made NULL, so that no more than the key is decoded.
fn key_of<'a>(table: &PgTable, mut old: Fields<'a>) -> Result<Fields<'a>, Misread> {
    for (place, field) in old.iter_mut().enumerate() {
        if !table.schema.key.contains(&place) {
            *field = PgField::Null;
        } else if matches!(field, PgField::Null | PgField::Unchanged) {
            return Err(no_key(table));
        }
    }
    Ok(old)
}

/// The old row, if all of it was sent.
fn whole<'f, 'a>(table: &PgTable, old: &'f Fields<'a>) -> Result<&'f [PgField<'a>], Misread> {
    let open = old.iter().zip(&table.schema.columns).any(|(field, column)| match field {
        PgField::Unchanged => true,
        // What is not in a replica identity comes as NULL.
        PgField::Null => !column.nullable,
        _ => false,
    });
    if open { Err(no_key(table)) } else { Ok(old) }
}

fn no_key(table: &PgTable) -> Misread {
    let reason =
        "a change came without the key of its row: its replica identity was changed; begin with a new snapshot";
    CaptureError::Unfit { table: table.schema.name.clone(), reason: reason.to_owned() }.into()
}

fn codec(table: &PgTable) -> impl Fn(crate::model::CodecError) -> CaptureError + '_ {
    |source| CaptureError::Codec { table: table.schema.name.clone(), source }
}

/// What is different, in words; `None` if nothing that matters is.
fn difference(table: &PgTable, relation: RelationRef<'_>) -> Option<String> {
    let remedy = "everything before that was delivered; begin with a new snapshot";
    let changed = |what: String| Some(format!("{what}, so its rows look different from there on; {remedy}"));
    let described: Vec<_> = relation.columns().collect();
    let columns: Vec<_> = table.schema.columns.iter().zip(&table.columns).collect();
    let lost = columns.iter().find(|(column, _)| !described.iter().any(|other| other.name == column.name));
    let new = described.iter().find(|other| !columns.iter().any(|(column, _)| column.name == other.name));
    match (lost, new) {
        (Some((lost, _)), Some(new)) => {
            return changed(format!("its column {:?} was renamed or dropped, and there is {:?}", lost.name, new.name));
        }
        (Some((lost, _)), None) => return changed(format!("its column {:?} was dropped", lost.name)),
        (None, Some(new)) => return changed(format!("the column {:?} was added", new.name)),
        (None, None) => {}
    }
    if columns.iter().zip(&described).any(|((column, _), other)| column.name != other.name) {
        let was: Vec<&str> = columns.iter().map(|(column, _)| column.name.as_str()).collect();
        let is: Vec<&str> = described.iter().map(|column| column.name).collect();
        return changed(format!("its columns were ({}), and are ({})", was.join(", "), is.join(", ")));
    }
    for ((column, of), other) in columns.iter().zip(&described) {
        // A longer varchar(n) holds its values as before. A numeric's digits are part of the catalog's type.
        let digits = matches!(of.coding, PgCoding::Decimal { .. } | PgCoding::Numeric);
        if of.type_oid != other.type_oid || (digits && of.type_modifier != other.type_modifier) {
            let now = ::postgres::types::Type::from_oid(other.type_oid).filter(|_| of.type_oid != other.type_oid);
            let now = now.map_or_else(|| "another".to_owned(), |now| now.name().to_owned());
            return changed(format!("the type of its column {:?} was {}, and is {now}", column.name, of.type_name));
        }
    }
    if table.settles_at_commit() && relation.identity != b'f' {
        let what = "its primary key is deferrable, which takes whole old rows, and its replica identity is not FULL any more; \
                    begin with a new snapshot";
        return Some(what.to_owned());
    }
    let in_identity = |place: &usize| described.get(*place).is_some_and(|column| column.in_identity);
    if relation.identity == b'n' || !table.schema.key.iter().all(in_identity) {
        let what = "its replica identity was changed and does not have its key any more; begin with a new snapshot";
        return Some(what.to_owned());
    }
    // Where the identity is an index, more columns than before tell rows apart that the key takes for one.
    let more = (0..described.len()).any(|place| in_identity(&place) && !table.schema.key.contains(&place));
    let known = matches!(&table.replica_identity, PgReplicaIdentity::Index(places)
        if (0..described.len()).all(|place| in_identity(&place) == places.contains(&place)));
    if more && relation.identity != b'f' && !known {
        let now: Vec<&str> = described.iter().filter(|column| column.in_identity).map(|column| column.name).collect();
        let was: Vec<&str> = table.schema.key_columns().map(|column| column.name.as_str()).collect();
        return changed(format!("its key was ({}), and is ({})", was.join(", "), now.join(", ")));
    }
    None
}
