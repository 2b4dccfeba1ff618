//! One table of a PostgreSQL database: its schema, how its values arrive, and the SQL that reads it.

use super::types::{Decoded, PgCoding, PgField, PgScratch};
use crate::model::{RowValues, TableSchema, ValueRef, text};
use crate::source::{SourceError, quote};
use smallvec::SmallVec;
use std::fmt;

/// What kind of relation it is, as `pg_class.relkind` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgKind {
    /// An ordinary table.
    Table,
    /// A partitioned table, whose rows lie in its partitions.
    Partitioned,
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A foreign table.
    Foreign,
}

impl fmt::Display for PgKind {
    /// What people call it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PgKind::Table => "table",
            PgKind::Partitioned => "partitioned table",
            PgKind::View => "view",
            PgKind::MaterializedView => "materialized view",
            PgKind::Foreign => "foreign table",
        })
    }
}

impl PgKind {
    /// What to follow where something that is no ordinary table can't be followed.
    pub fn remedy(self) -> &'static str {
        match self {
            PgKind::Table | PgKind::Partitioned => "follow it with another strategy",
            PgKind::View | PgKind::MaterializedView => "name the tables that it is made of",
            PgKind::Foreign => "follow the table where it lies, on the server that it points to",
        }
    }
}

/// Where the columns that make a row's key come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgKeyOrigin {
    /// The primary key, unique at every moment.
    Primary,
    /// A deferrable primary key: inside a transaction, or a statement, several rows may have one key.
    Deferrable,
    /// A unique index over columns that are all NOT NULL: that of the replica identity, else the oldest.
    UniqueIndex,
    /// [`PgTable::with_key`].
    Given,
    /// There is none; the schema's key is empty, and breaks its rules.
    None,
}

/// By what an update or delete in the replication stream says which row it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PgReplicaIdentity {
    /// The primary key (the default of a table that has one).
    PrimaryKey,
    /// The columns of an index, as places in the schema, in the index's order.
    Index(Vec<usize>),
    /// The whole old row.
    Full,
    /// By nothing: updates and deletes of such a table fail once it is published.
    Nothing,
}

/// How a column is generated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PgGenerated {
    /// Stored. Servers before version 18 leave it out of the replication stream, later ones unless the publication says
    /// `publish_generated_columns = stored`.
    Stored,
    /// Computed when read; never in the replication stream.
    Virtual,
}

/// One column, beside what the schema says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgColumn {
    /// `pg_attribute.attnum`: what a column keeps when others are dropped.
    pub number: i16,
    /// The declared type's oid; that of a domain is its own.
    pub type_oid: u32,
    /// The declared type's modifier, -1 for none.
    pub type_modifier: i32,
    /// The declared type as SQL writes it, such as `numeric(12,2)`.
    pub type_name: String,
    /// How its values are decoded.
    pub coding: PgCoding,
    /// Whether and how it is generated from other columns.
    pub generated: Option<PgGenerated>,
}

/// A relation that holds rows itself: the table, or one of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgLeaf {
    /// `pg_class.oid`
    pub oid: u32,
    /// Schema and name, quoted for SQL.
    pub quoted: String,
    /// What kind of relation it is.
    pub kind: PgKind,
    /// Whether its changes are in no log, since it is unlogged or temporary.
    pub unlogged: bool,
    /// Whether its rows can be read by ranges of ctid.
    pub by_ctid: bool,
    /// Whether the role may read it by itself, and sees what it would see through the table: not so where it has a right on
    /// the partitioned table alone, or row security hides rows of either.
    pub by_itself: bool,
    /// `pg_class.relfilenode`: another one after TRUNCATE and whatever else writes a table anew.
    pub storage: u32,
    /// The transactions that made it a partition, from the root down; empty for the table itself.
    pub attached: String,
}

/// A table as it lies in PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgTable {
    /// The schema that it is in.
    pub schema_name: String,
    /// Its own name.
    pub table_name: String,
    /// `pg_class.oid`; what the replication stream calls the relation.
    pub oid: u32,
    /// What kind of relation it is.
    pub kind: PgKind,
    /// Columns, catalog types and key. The name is the bare one in the schema `public`, else `schema.table`, a part with
    /// a dot, comma or quote in it in double quotes. Dropped columns are left out.
    pub schema: TableSchema,
    /// What else is known of the columns, in the schema's order.
    pub columns: Vec<PgColumn>,
    /// Where the key comes from.
    pub key_origin: PgKeyOrigin,
    /// What the replication stream says about old rows.
    pub replica_identity: PgReplicaIdentity,
    /// Where the rows are.
    pub leaves: Vec<PgLeaf>,
    /// For a partition: oid, schema and name of the partitioned table at the top.
    pub partition_of: Option<(u32, String, String)>,
    /// The role that owns it, by whom alone it can be added to a publication.
    pub owner: String,
}

/// The numbers of a row's values inside a decode, without allocating for most tables.
type Places<'a> = SmallVec<[Decoded<'a>; 16]>;

impl PgTable {
    /// Schema and name, quoted for SQL.
    pub fn quoted(&self) -> String {
        qualified(&self.schema_name, &self.table_name)
    }

    /// Whether every column's binary form is decoded. Else a stream has to ask for text forms.
    pub fn is_native(&self) -> bool {
        self.columns.iter().all(|column| column.coding.is_native())
    }

    /// Whether the key tells rows apart at commits only: what a transaction did in between has to be
    /// summed up before it is applied by key.
    pub fn settles_at_commit(&self) -> bool {
        self.key_origin == PgKeyOrigin::Deferrable
    }

    /// Whether the database's equality of keys is that of the values that we compare: not so where it takes 1.0 and 1.00, 0 and
    /// -0, or 'a' and 'A' for one key.
    pub fn key_equality_is_identity(&self) -> bool {
        use PgCoding::{Bool, Bytea, Date, Decimal, Int2, Int4, Int8, Oid, Time, Timestamp, TimestampTz, Uuid};
        let exact = |of: &PgColumn| {
            matches!(
                of.coding,
                Bool | Int2 | Int4 | Int8 | Oid | Decimal { .. } | Bytea | Date | Time | Timestamp | TimestampTz | Uuid
            )
        };
        self.schema.key.iter().all(|&place| self.columns.get(place).is_some_and(exact))
    }

    /// Whether there are columns that the replication stream leaves out (see [`PgGenerated`]).
    pub fn has_generated(&self) -> bool {
        self.columns.iter().any(|column| column.generated.is_some())
    }

    /// The same table without generated columns, as the replication stream has it.
    ///
    /// # Errors
    /// When a generated column is in the key.
    pub fn without_generated(&self) -> Result<PgTable, SourceError> {
        let kept: Vec<usize> = (0..self.columns.len())
            .filter(|&place| self.columns.get(place).is_some_and(|column| column.generated.is_none()))
            .collect();
        let moved = |places: &[usize]| -> Option<Vec<usize>> {
            places.iter().map(|place| kept.iter().position(|other| other == place)).collect()
        };
        let in_key = || SourceError::Table {
            what: format!(
                "table {:?} has a generated column in its key, and the replication stream leaves it out; \
                 use another key",
                self.schema.name
            ),
        };
        let mut table = self.clone();
        table.schema.key = moved(&self.schema.key).ok_or_else(in_key)?;
        table.schema.columns = kept.iter().filter_map(|&place| self.schema.columns.get(place).cloned()).collect();
        table.columns = kept.iter().filter_map(|&place| self.columns.get(place).cloned()).collect();
        if let PgReplicaIdentity::Index(places) = &self.replica_identity {
            table.replica_identity = PgReplicaIdentity::Index(moved(places).ok_or_else(in_key)?);
        }
        Ok(table)
    }

    /// The same table with these columns as its key, for a relation that declares none. A row that repeats a key or has
    /// NULL in it is refused when it is read.
    ///
    /// # Errors
    /// When there is no such column.
    pub fn with_key(&self, columns: &[String]) -> Result<PgTable, SourceError> {
        let mut table = self.clone();
        table.schema.key.clear();
        for name in columns {
            let known: Vec<&str> = self.schema.columns.iter().map(|column| column.name.as_str()).collect();
            let place = self.schema.column_index(name).ok_or_else(|| SourceError::Table {
                what: format!("table {:?} has no column {name:?}; it has: {}", self.schema.name, known.join(", ")),
            })?;
            table.schema.key.push(place);
            if let Some(column) = table.schema.columns.get_mut(place) {
                column.nullable = false;
            }
        }
        table.key_origin = PgKeyOrigin::Given;
        table.schema.check()?;
        Ok(table)
    }

    /// Fails, with the remedy, when there is no key.
    ///
    /// # Errors
    /// [`SourceError::Table`].
    pub fn require_key(&self) -> Result<(), SourceError> {
        if self.key_origin != PgKeyOrigin::None {
            return Ok(());
        }
        let (name, kind) = (&self.schema.name, self.kind);
        let remedy = match kind {
            PgKind::Table | PgKind::Partitioned => format!("run ALTER TABLE {} ADD PRIMARY KEY (..)", self.quoted()),
            PgKind::View | PgKind::MaterializedView | PgKind::Foreign => kind.remedy().to_owned(),
        };
        let what = format!(
            "{kind} {name:?} has neither a primary key nor a unique index over NOT NULL columns, so its rows can't be told \
             apart; {remedy}, or name the columns of a key where the command takes them"
        );
        Err(SourceError::Table { what })
    }

    /// The columns in schema order for a SELECT list, those whose binary form is not decoded as their output function
    /// writes them.
    pub fn select_list(&self) -> String {
        let columns = self.schema.columns.iter().zip(&self.columns);
        let list: Vec<String> = columns.map(|(column, of)| select_item(&quote(&column.name), of.coding)).collect();
        list.join(", ")
    }

    /// `COPY (SELECT .. FROM ONLY leaf ..) TO STDOUT (FORMAT binary)`, for the rows of `leaf` whose block is at least
    /// `low` and below `high`.
    pub fn copy_sql(&self, leaf: &PgLeaf, low: Option<u32>, high: Option<u32>) -> String {
        let only = if leaf.by_ctid { "ONLY " } else { "" };
        self.copy_from(&format!("{only}{}", leaf.quoted), within(low, high))
    }

    /// The same through the table itself, as anybody's SELECT: those blocks of all its partitions, and no partition that is
    /// not among the leaves. `condition` is one more, in SQL.
    pub fn copy_whole_sql(&self, low: Option<u32>, high: Option<u32>, condition: Option<&str>) -> String {
        let mut conditions = within(low, high);
        if self.kind == PgKind::Partitioned {
            // One that was attached after the snapshot shows its rows in it.
            let oids: Vec<String> = self.leaves.iter().map(|leaf| leaf.oid.to_string()).collect();
            conditions.push(format!("tableoid = ANY ('{{{}}}'::pg_catalog.oid[])", oids.join(",")));
        }
        conditions.extend(condition.map(str::to_owned));
        let only = if self.kind == PgKind::Table { "ONLY " } else { "" };
        self.copy_from(&format!("{only}{}", self.quoted()), conditions)
    }

    fn copy_from(&self, relation: &str, conditions: Vec<String>) -> String {
        let list = self.select_list();
        let condition =
            if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        format!("COPY (SELECT {list} FROM {relation}{condition}) TO STDOUT (FORMAT binary)")
    }

    /// Decodes a row of as many fields as the table has columns, in its order. What `scratch` held is lost.
    ///
    /// # Errors
    /// [`SourceError::Value`] naming table, column and key when a value does not fit.
    #[inline]
    pub fn decode<'a>(&self, fields: &[PgField<'a>], scratch: &'a mut PgScratch) -> Result<RowValues<'a>, SourceError> {
        scratch.clear();
        let mut places = Places::new();
        if fields.len() != self.columns.len() {
            return Err(self.width_error(fields.len()));
        }
        for (column, (of, &field)) in self.columns.iter().zip(fields).enumerate() {
            match of.coding.decode(field, scratch) {
                Ok(decoded) => places.push(decoded),
                Err(misfit) => return Err(self.misfit(column, fields, misfit)),
            }
        }
        let scratch: &'a PgScratch = scratch;
        Ok(places.into_iter().map(|place| place.resolve(scratch)).collect())
    }

    /// Decodes the values of the key columns, in key order. What `scratch` held is lost.
    ///
    /// # Errors
    /// As [`PgTable::decode`].
    pub fn decode_key<'a>(
        &self,
        fields: &[PgField<'a>],
        scratch: &'a mut PgScratch,
    ) -> Result<RowValues<'a>, SourceError> {
        scratch.clear();
        let mut places = Places::new();
        for (&column, &field) in self.schema.key.iter().zip(fields) {
            let Some(of) = self.columns.get(column) else { return Err(self.width_error(fields.len())) };
            match of.coding.decode(field, scratch) {
                Ok(decoded) => places.push(decoded),
                Err(misfit) => return Err(self.key_misfit(column, fields, misfit)),
            }
        }
        let scratch: &'a PgScratch = scratch;
        Ok(places.into_iter().map(|place| place.resolve(scratch)).collect())
    }

    /// About the value of one key column, where the values of the key alone are known.
    #[cold]
    fn key_misfit(&self, column: usize, key: &[PgField<'_>], misfit: super::PgMisfit) -> SourceError {
        let mut fields = vec![PgField::Null; self.columns.len()];
        for (&place, &value) in self.schema.key.iter().zip(key) {
            if let Some(field) = fields.get_mut(place) {
                *field = value;
            }
        }
        self.misfit(column, &fields, misfit)
    }

    #[cold]
    fn width_error(&self, found: usize) -> SourceError {
        let what = format!(
            "table {:?}: a row of {found} values came where it has {} columns; its columns were changed, begin again",
            self.schema.name,
            self.columns.len()
        );
        SourceError::Table { what }
    }

    /// The key of a row for a message, as `column=value`.
    pub fn key_text(&self, fields: &[PgField<'_>]) -> String {
        let mut shown = Vec::with_capacity(self.schema.key.len());
        for &place in &self.schema.key {
            let mut scratch = PgScratch::default();
            let name = self.schema.columns.get(place).map_or("", |c| c.name.as_str());
            let value = match (self.columns.get(place), fields.get(place)) {
                (Some(of), Some(&field)) => match of.coding.value(field, &mut scratch) {
                    Ok(value) => described(value),
                    Err(misfit) => misfit.found,
                },
                _ => "?".to_owned(),
            };
            shown.push(format!("{name}={value}"));
        }
        shown.join(", ")
    }

    /// About the value of one column of a row.
    #[cold]
    pub fn misfit(&self, column: usize, fields: &[PgField<'_>], misfit: super::PgMisfit) -> SourceError {
        SourceError::Value {
            table: self.schema.name.clone(),
            column: self.schema.columns.get(column).map_or_else(String::new, |c| c.name.clone()),
            key: self.key_text(fields),
            found: misfit.found,
            wanted: format!("{}; correct the row, or declare the column with a type that holds it", misfit.wanted),
        }
    }
}

/// The blocks from `low` on and below `high`, as conditions.
fn within(low: Option<u32>, high: Option<u32>) -> Vec<String> {
    let bounds = [(low, ">="), (high, "<")].into_iter();
    bounds
        .filter_map(|(block, operator)| block.map(|block| format!("ctid {operator} '({block},0)'::pg_catalog.tid")))
        .collect()
}

fn described(value: ValueRef<'_>) -> String {
    text::describe_values([value])
}

pub(super) fn select_item(quoted: &str, coding: PgCoding) -> String {
    if coding.is_native() {
        return quoted.to_owned();
    }
    // A cast to text is another function for some types. IS NULL is also true of a composite value all of whose fields
    // are NULL.
    format!("CASE WHEN {quoted} IS NOT DISTINCT FROM NULL THEN NULL ELSE pg_catalog.format('%s', {quoted}) END")
}

/// A schema and a name in it, quoted for SQL.
pub(super) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote(schema), quote(name))
}
