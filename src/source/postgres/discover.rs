//! Tables of a PostgreSQL database, read from its catalogs.

use super::name::{PgTableName, model_name};
use super::table::{PgColumn, PgGenerated, PgKeyOrigin, PgKind, PgLeaf, PgReplicaIdentity, PgTable, qualified};
use super::types::PgCoding;
use crate::model::{Column, TableSchema};
use crate::source::{OWN_PREFIX, SourceError};
use ::postgres::{GenericClient, Row};

/// How many names of other tables a message about a missing one shows.
const NAMES_SHOWN_MAX: usize = 8;

/// Everything that can be read, but for the catalogs and what is another session's.
const RELATIONS: &str = "SELECT c.oid, n.nspname::text, c.relname::text \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname <> 'information_schema' \
    AND n.nspname !~ '^pg_(catalog|toast|temp)'";

const RELATION: &str = "SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relreplident::text, \
    coalesce(a.amname, '')::text, pg_catalog.pg_get_userbyid(c.relowner)::text, \
    pg_catalog.current_setting('server_version_num')::int4, r.oid, rn.nspname::text, r.relname::text \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam \
    LEFT JOIN pg_catalog.pg_class r ON c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid::regclass) \
    LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace WHERE c.oid = $1";

/// A domain is followed down to its base type.
const COLUMNS: &str = "WITH RECURSIVE base(attnum, typid, typmod) AS ( \
      SELECT attnum, atttypid, atttypmod FROM pg_catalog.pg_attribute \
      WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped \
      UNION ALL SELECT b.attnum, t.typbasetype, t.typtypmod FROM base b \
      JOIN pg_catalog.pg_type t ON t.oid = b.typid WHERE t.typtype = 'd') \
    SELECT a.attnum, a.attname::text, a.atttypid, a.atttypmod, \
    pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated::text, \
    b.typid, b.typmod, t.typtype::text \
    FROM pg_catalog.pg_attribute a JOIN base b ON b.attnum = a.attnum \
    JOIN pg_catalog.pg_type t ON t.oid = b.typid AND t.typtype <> 'd' \
    WHERE a.attrelid = $1 ORDER BY a.attnum";

/// Indexes that tell rows apart, the primary key first, then the one of the replica identity.
const INDEXES: &str = "SELECT i.indisprimary, i.indisreplident, i.indimmediate, i.indkey::text, i.indnkeyatts \
    FROM pg_catalog.pg_index i WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid \
    AND i.indpred IS NULL AND i.indexprs IS NULL AND (i.indimmediate OR i.indisprimary) \
    ORDER BY NOT i.indisprimary, NOT i.indisreplident, i.indexrelid";

/// The relations that hold the rows, as the snapshot has them: by the catalog's own rows, since the server's functions know
/// the present only. A partition that is being detached concurrently is none any more. Whether each may be read by itself:
/// who may read a partitioned table needs no right on its partitions, and their policies are not asked for then.
const LEAVES: &str = "WITH RECURSIVE tree(oid, attached) AS (SELECT $1::oid, '' UNION ALL \
      SELECT i.inhrelid, t.attached || ' ' || i.xmin::text FROM tree t \
      JOIN pg_catalog.pg_class p ON p.oid = t.oid AND p.relkind = 'p' \
      JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid \
      WHERE coalesce(pg_catalog.to_jsonb(i) ->> 'inhdetachpending', 'false') = 'false') \
    SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, coalesce(a.amname, '')::text, c.relfilenode, \
    coalesce(pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
      AND NOT pg_catalog.row_security_active(c.oid), false), pg_catalog.row_security_active($1::oid), tree.attached, \
    c.relpersistence <> 'p' \
    FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am a ON a.oid = c.relam \
    WHERE c.relkind <> 'p' ORDER BY c.oid";

impl PgTable {
    /// Finds a table by its name and reads everything about it. Without a schema, `public` is looked in first; after it
    /// the table must be in one other schema only.
    ///
    /// # Errors
    /// [`SourceError::Table`] when there is no such table (with names that are near), or several;
    /// [`SourceError::Postgres`] when the catalogs can't be read.
    pub fn discover(client: &mut impl GenericClient, name: &PgTableName) -> Result<PgTable, SourceError> {
        let oid = find(client, name)?;
        PgTable::of_oid(client, oid)
    }

    /// Reads everything about the relation with this oid.
    ///
    /// # Errors
    /// [`SourceError::Table`] when there is none.
    pub fn of_oid(client: &mut impl GenericClient, oid: u32) -> Result<PgTable, SourceError> {
        let place = || format!("the relation with oid {oid}");
        let failed = || SourceError::postgres("read the definition of", place());
        let relation = client.query_opt(RELATION, &[&oid]).map_err(failed())?;
        let relation = relation.ok_or_else(|| SourceError::Table { what: format!("there is no {}", place()) })?;
        let columns = client.query(COLUMNS, &[&oid]).map_err(failed())?;
        let indexes = client.query(INDEXES, &[&oid]).map_err(failed())?;
        let leaves = client.query(LEAVES, &[&oid]).map_err(failed())?;
        assemble(oid, &relation, &columns, &indexes, &leaves).map_err(failed())
    }

    /// The names of all tables, views and the like, in order, without this program's own.
    ///
    /// # Errors
    /// [`SourceError::Postgres`] when the catalogs can't be read.
    pub fn names(client: &mut impl GenericClient) -> Result<Vec<String>, SourceError> {
        let mut names: Vec<String> = relations(client)?.into_iter().map(|(_, s, t)| model_name(&s, &t)).collect();
        names.sort();
        Ok(names)
    }
}

fn relations(client: &mut impl GenericClient) -> Result<Vec<(u32, String, String)>, SourceError> {
    let failed = || SourceError::postgres("read the tables of", "the database");
    let rows = client.query(RELATIONS, &[]).map_err(failed())?;
    let mut relations = Vec::with_capacity(rows.len());
    for row in rows {
        let relation: (u32, String, String) =
            (row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?, row.try_get(2).map_err(failed())?);
        if !relation.2.starts_with(OWN_PREFIX) {
            relations.push(relation);
        }
    }
    Ok(relations)
}

fn find(client: &mut impl GenericClient, name: &PgTableName) -> Result<u32, SourceError> {
    let known = relations(client)?;
    let folded = PgTableName {
        schema: name.schema.as_ref().map(|schema| schema.to_lowercase()),
        table: name.table.to_lowercase(),
        folds: false,
    };
    let tries = if name.folds { vec![name, &folded] } else { vec![name] };
    for name in tries {
        let fits = |schema: &str, table: &str| {
            table == name.table && name.schema.as_ref().is_none_or(|wanted| wanted == schema)
        };
        let found: Vec<_> = known.iter().filter(|(_, schema, table)| fits(schema, table)).collect();
        match found.as_slice() {
            [] => {}
            [(oid, ..)] => return Ok(*oid),
            several => {
                if let Some((oid, ..)) = several.iter().find(|(_, schema, _)| schema == "public") {
                    return Ok(*oid);
                }
                let places: Vec<String> = several.iter().map(|(_, schema, table)| model_name(schema, table)).collect();
                let what =
                    format!("several tables are called {:?}: {}; name one of them", name.table, places.join(", "));
                return Err(SourceError::Table { what });
            }
        }
    }
    match other_kind(client, name)? {
        Some(what) => Err(SourceError::Table { what }),
        None => Err(missing(name, &known)),
    }
}

/// What the name belongs to instead of a table that can be read, with the remedy.
fn other_kind(client: &mut impl GenericClient, name: &PgTableName) -> Result<Option<String>, SourceError> {
    let sql = "SELECT c.relkind::text, c.relpersistence = 't', n.nspname::text, c.relname::text, i.indrelid::regclass::text \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid \
        WHERE (c.relname = $1::text AND ($2::text IS NULL OR n.nspname = $2::text)) \
        OR ($3 AND c.relname = lower($1::text) AND ($2::text IS NULL OR n.nspname = lower($2::text))) \
        ORDER BY n.nspname <> 'public', c.relpersistence <> 't', c.oid LIMIT 1";
    let failed = || SourceError::postgres("look for table", name);
    let found = client.query_opt(sql, &[&name.table, &name.schema, &name.folds]).map_err(failed())?;
    let Some(found) = found else { return Ok(None) };
    let (kind, temporary): (String, bool) = (found.try_get(0).map_err(failed())?, found.try_get(1).map_err(failed())?);
    let (schema, table): (String, String) = (found.try_get(2).map_err(failed())?, found.try_get(3).map_err(failed())?);
    let of: Option<String> = found.try_get(4).map_err(failed())?;
    let full = model_name(&schema, &table);
    let why = match (kind.as_str(), temporary) {
        ("S", _) => "a sequence, which has no rows; name the table whose column it numbers".to_owned(),
        ("i" | "I", _) => format!("an index; name its table, {}", of.unwrap_or_default()),
        ("c", _) => "a composite type, which has no rows; name a table".to_owned(),
        ("t", _) => "where the server keeps large values of a table (TOAST); name the table itself".to_owned(),
        (_, true) => "a temporary table, which only its own session can read; name a table that lasts".to_owned(),
        ("r" | "p" | "v" | "m" | "f", _) => {
            "of the server's own catalogs, which are not followed; name a table".to_owned()
        }
        _ => "nothing that has rows; name a table".to_owned(),
    };
    Ok(Some(format!("{full:?} is {why}")))
}

fn missing(name: &PgTableName, known: &[(u32, String, String)]) -> SourceError {
    let wanted = name.to_string();
    let bare = &name.table;
    let mut near: Vec<(usize, String)> = known
        .iter()
        .map(|(_, schema, table)| (model_name(schema, table), table))
        .map(|(full, table)| {
            let apart = strsim::damerau_levenshtein(&full, &wanted);
            (apart.min(strsim::damerau_levenshtein(table, bare)), full)
        })
        .collect();
    near.sort();
    let more = near.len().saturating_sub(NAMES_SHOWN_MAX);
    let names: Vec<String> = near.into_iter().take(NAMES_SHOWN_MAX).map(|(_, name)| name).collect();
    let what = match (names.is_empty(), more) {
        (true, _) => format!("there is no table {wanted:?}; the database has none that this role may see"),
        (false, 0) => format!("there is no table {wanted:?}; there are: {}", names.join(", ")),
        (false, more) => format!("there is no table {wanted:?}; the nearest are: {} and {more} more", names.join(", ")),
    };
    SourceError::Table { what }
}

fn kind_of(relkind: &str) -> PgKind {
    match relkind {
        "p" => PgKind::Partitioned,
        "v" => PgKind::View,
        "m" => PgKind::MaterializedView,
        "f" => PgKind::Foreign,
        _ => PgKind::Table,
    }
}

/// Ranges of ctid are what the heap has; other access methods may give rows ctids without an order.
fn by_ctid(kind: PgKind, access_method: &str) -> bool {
    matches!(kind, PgKind::Table | PgKind::MaterializedView) && access_method == "heap"
}

fn assemble(
    oid: u32,
    relation: &Row,
    columns: &[Row],
    indexes: &[Row],
    leaves: &[Row],
) -> Result<PgTable, ::postgres::Error> {
    let (schema_name, table_name): (String, String) = (relation.try_get(0)?, relation.try_get(1)?);
    let kind = kind_of(relation.try_get(2)?);
    let server_version: i32 = relation.try_get(6)?;
    let root: Option<u32> = relation.try_get(7)?;
    let partition_of = match root {
        Some(root) => Some((root, relation.try_get(8)?, relation.try_get(9)?)),
        None => None,
    };
    let mut table = PgTable {
        oid,
        kind,
        schema: TableSchema { name: model_name(&schema_name, &table_name), columns: Vec::new(), key: Vec::new() },
        columns: Vec::new(),
        key_origin: PgKeyOrigin::None,
        replica_identity: PgReplicaIdentity::Nothing,
        leaves: Vec::new(),
        partition_of,
        owner: relation.try_get(5)?,
        schema_name,
        table_name,
    };
    for row in columns {
        add_column(&mut table, row, server_version)?;
    }
    let partitioned = kind == PgKind::Partitioned;
    for leaf in leaves {
        let (schema, name): (String, String) = (leaf.try_get(1)?, leaf.try_get(2)?);
        let (may, hidden): (bool, bool) = (leaf.try_get(6)?, leaf.try_get(7)?);
        let kind = kind_of(leaf.try_get(3)?);
        table.leaves.push(PgLeaf {
            oid: leaf.try_get(0)?,
            quoted: qualified(&schema, &name),
            kind,
            unlogged: leaf.try_get(9)?,
            by_ctid: by_ctid(kind, leaf.try_get(4)?),
            // A policy on the root would be passed over.
            by_itself: !partitioned || (may && !hidden),
            storage: leaf.try_get(5)?,
            attached: leaf.try_get(8)?,
        });
    }
    add_key(&mut table, relation.try_get(3)?, indexes)?;
    Ok(table)
}

fn add_column(table: &mut PgTable, row: &Row, server_version: i32) -> Result<(), ::postgres::Error> {
    let kind: String = row.try_get(9)?;
    let coding = PgCoding::of(row.try_get(7)?, row.try_get(8)?, kind.chars().next().unwrap_or('b'), server_version);
    let not_null: bool = row.try_get(5)?;
    table.schema.columns.push(Column { name: row.try_get(1)?, column_type: coding.column_type(), nullable: !not_null });
    table.columns.push(PgColumn {
        number: row.try_get(0)?,
        type_oid: row.try_get(2)?,
        type_modifier: row.try_get(3)?,
        type_name: row.try_get(4)?,
        coding,
        generated: match row.try_get(6)? {
            "s" => Some(PgGenerated::Stored),
            "v" => Some(PgGenerated::Virtual),
            _ => None,
        },
    });
    Ok(())
}

fn add_key(table: &mut PgTable, identity: &str, indexes: &[Row]) -> Result<(), ::postgres::Error> {
    let mut identity_index = None;
    let mut primary_is_immediate = false;
    for index in indexes {
        let (primary, replica, immediate): (bool, bool, bool) =
            (index.try_get(0)?, index.try_get(1)?, index.try_get(2)?);
        let (numbers, count): (String, i16) = (index.try_get(3)?, index.try_get(4)?);
        // Behind the first ones come columns that the index only carries.
        let numbers = numbers.split(' ').take(usize::try_from(count).unwrap_or(0));
        let place = |number: &str| table.columns.iter().position(|column| Ok(column.number) == number.parse());
        let Some(places) = numbers.map(place).collect::<Option<Vec<usize>>>() else { continue };
        let not_null = places.iter().all(|&place| table.schema.columns.get(place).is_some_and(|c| !c.nullable));
        if !not_null {
            continue;
        }
        primary_is_immediate |= primary && immediate;
        if replica {
            identity_index = Some(places.clone());
        }
        if table.key_origin == PgKeyOrigin::None {
            table.key_origin = match (primary, immediate) {
                (true, true) => PgKeyOrigin::Primary,
                (true, false) => PgKeyOrigin::Deferrable,
                (false, _) => PgKeyOrigin::UniqueIndex,
            };
            table.schema.key = places;
        }
    }
    table.replica_identity = match (identity, identity_index) {
        ("f", _) => PgReplicaIdentity::Full,
        ("i", Some(places)) => PgReplicaIdentity::Index(places),
        // The stream has no use for a primary key that is checked at the commit only.
        ("d", _) if primary_is_immediate => PgReplicaIdentity::PrimaryKey,
        _ => PgReplicaIdentity::Nothing,
    };
    Ok(())
}
