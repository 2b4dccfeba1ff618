//! Making, finding and removing slots and publications.

use super::options::{LogCaptureOptions, SLOT_PREFIX, check_name};
use super::publication::Publication;
use super::state::{SlotState, oid, shape};
use super::{CanGoOn, PgExported, slot_error};
use crate::capture::CaptureError;
use crate::model::Lsn;
use crate::source::postgres::{
    Mode, PgHold, PgKind, PgOptions, PgReplicaIdentity, PgTable, PgTableName, PgWatch, TextRow, Wire,
};
use crate::source::{SourceError, quote};
use ::postgres::Client;
use std::time::{Duration, Instant};

/// Making a slot waits for the transactions that are running, and the server says nothing meanwhile. The watch ends that sooner.
const SILENCE_BEYOND: Duration = Duration::from_secs(30);
/// How long a slot may be in use by a connection that has just ended.
const RELEASE_MAX: Duration = Duration::from_secs(15);
/// What is said of a publication that this program made, on the server, with the slot: the name alone could be anybody's, and
/// somebody may give it another one. Earlier versions left the slot away.
const MARK: &str = "made by freshbench, for the replication slot of this name";
const SERVER_VERSION_MIN: i32 = 140_000;

/// A slot that was made, with the snapshot that it begins at. The snapshot can be taken over until this is dropped.
#[derive(Debug)]
pub struct LogSetup {
    /// The snapshot at the slot's consistent point: it includes every commit up to it, and the stream every later one.
    pub exported: PgExported,
    /// The tables as the stream has them, in the order asked for: without generated columns, and with a key that the
    /// replica identity tells. Load these.
    pub tables: Vec<PgTable>,
    /// Keeps the exported snapshot.
    _holder: Wire,
}

/// What a server tells of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotHealth {
    /// Its name.
    pub slot: String,
    /// Whether a connection uses it.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
    /// Everything up to here is confirmed.
    pub confirmed: Lsn,
    /// Bytes of log that the server keeps for it.
    pub retained_bytes: u64,
}

/// What was left behind by a process that was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftovers {
    /// Slots of this database that were made here, each with whether somebody uses it.
    pub slots: Vec<(String, bool)>,
    /// Publications that were made here, each with the slot that it is for.
    pub publications: Vec<(String, String)>,
    /// Slots and publications with our prefix that nothing shows to be ours, in words. They stay.
    pub unproven: Vec<String>,
}

/// The tables of these names as the stream will have them, checked: see [`LogSetup::tables`].
///
/// # Errors
/// [`CaptureError::Unfit`] with the remedy for a table that the log can't follow.
pub fn log_tables(client: &mut Client, names: &[PgTableName]) -> Result<Vec<PgTable>, CaptureError> {
    names.iter().map(|name| fit(&PgTable::discover(client, name)?)).collect()
}

/// The table as the stream has it.
///
/// # Errors
/// As [`log_tables`].
pub fn fit(table: &PgTable) -> Result<PgTable, CaptureError> {
    let unfit = |reason: String| CaptureError::Unfit { table: table.schema.name.clone(), reason };
    let quoted = table.quoted();
    if !matches!(table.kind, PgKind::Table | PgKind::Partitioned) {
        let (kind, remedy) = (table.kind, table.kind.remedy());
        return Err(unfit(format!("it is a {kind}, and the log has changes of tables only; {remedy}")));
    }
    for leaf in &table.leaves {
        let who =
            if table.kind == PgKind::Partitioned { format!("its partition {}", leaf.quoted) } else { "it".to_owned() };
        if leaf.unlogged {
            let remedy = format!("run ALTER TABLE {} SET LOGGED", leaf.quoted);
            return Err(unfit(format!(
                "{who} is unlogged, so its changes are not in the log; {remedy}, or use cdc-trigger"
            )));
        }
        if leaf.kind != PgKind::Table {
            let kind = leaf.kind;
            return Err(unfit(format!("{who} is a {kind}, whose changes are not in the log; use full-refresh")));
        }
    }
    let stream = table.without_generated()?;
    let stream = match &stream.replica_identity {
        PgReplicaIdentity::Nothing if stream.settles_at_commit() => {
            return Err(unfit(format!(
                "its primary key is deferrable, which is no replica identity, so once it is published the server refuses every update \
                 and delete; run ALTER TABLE {quoted} REPLICA IDENTITY FULL, or use cdc-trigger"
            )));
        }
        PgReplicaIdentity::Nothing => {
            return Err(unfit(format!(
                "its replica identity tells nothing of old rows, so once it is published the server refuses every update \
                 and delete; run ALTER TABLE {quoted} ADD PRIMARY KEY (..), or REPLICA IDENTITY USING INDEX, or FULL"
            )));
        }
        PgReplicaIdentity::Index(places) if !stream.schema.key.iter().all(|place| places.contains(place)) => {
            // Only these columns of an old row are sent, so they have to be the key.
            let name = |place: &usize| stream.schema.columns.get(*place).map(|column| column.name.clone());
            stream.with_key(&places.iter().filter_map(name).collect::<Vec<_>>())?
        }
        PgReplicaIdentity::PrimaryKey | PgReplicaIdentity::Index(_) | PgReplicaIdentity::Full => stream,
    };
    stream.require_key()?;
    stream.schema.check().map_err(SourceError::from)?;
    Ok(stream)
}

/// Makes publication and slot, and exports the slot's snapshot.
pub(super) fn make(options: &LogCaptureOptions, names: &[PgTableName]) -> Result<LogSetup, CaptureError> {
    let mut client = options.server.connect()?;
    let tables = log_tables(&mut client, names)?;
    make_for(options, &mut client, tables)
}

pub(super) fn make_for(
    options: &LogCaptureOptions,
    client: &mut Client,
    tables: Vec<PgTable>,
) -> Result<LogSetup, CaptureError> {
    check_name(&options.slot)?;
    check_server(client, &options.server)?;
    crate::storage::private::create_folders(&options.folder)
        .map_err(SourceError::io("make the folder", &options.folder))?;
    let own_publication = options.own_publication();
    check_leaves(client, &tables)?;
    if own_publication {
        let only = |table: &PgTable| if table.kind == PgKind::Partitioned { "" } else { "ONLY " };
        let list: Vec<String> = tables.iter().map(|table| format!("{}{}", only(table), table.quoted())).collect();
        // One transaction: there is none of ours without its mark.
        let sql = format!(
            "CREATE PUBLICATION {0} FOR TABLE {1} WITH (publish = 'insert, update, delete, truncate', \
             publish_via_partition_root = true); COMMENT ON PUBLICATION {0} IS '{MARK}: {2}'",
            quote(&options.publication),
            list.join(", "),
            options.slot
        );
        let watch = PgWatch::begin(&options.server, "publishing the tables")?;
        watch.of_client(client)?;
        let made = client.batch_execute(&sql);
        watch
            .end(made.map_err(SourceError::postgres("make a publication of the tables at", options.server.place())))?;
    } else {
        check_publication(client, options, &tables)?;
    }
    let made = Publication::read(client, options, &tables)
        .and_then(|found| make_slot(options, &tables, found.map_or_else(String::new, |found| found.entries)));
    if made.is_err() && own_publication {
        // The first error tells more than another one would.
        let _ = drop_publication(client, &options.publication);
    }
    let (exported, holder) = made?;
    Ok(LogSetup { exported, tables, _holder: holder })
}

/// The server goes by each partition's own replica identity when somebody changes its rows.
fn check_leaves(client: &mut Client, tables: &[PgTable]) -> Result<(), CaptureError> {
    for table in tables.iter().filter(|table| table.kind == PgKind::Partitioned) {
        let oids: Vec<u32> = table.leaves.iter().map(|leaf| leaf.oid).collect();
        let sql = "SELECT c.oid::regclass::text FROM pg_class c WHERE c.oid = ANY($1) AND (c.relreplident = 'n' \
            OR (c.relreplident <> 'f' AND $2) \
            OR (c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_index i \
                WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate)) \
            OR (c.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident))) \
            LIMIT 1";
        let found = client
            .query_opt(sql, &[&oids, &table.settles_at_commit()])
            .map_err(SourceError::postgres("read partitions of", table.quoted()))?;
        if let Some(row) = found {
            let leaf: String = row.get(0);
            let reason = format!(
                "its partition {leaf} has no replica identity that tells of its old rows what the table's does; run \
                 ALTER TABLE {leaf} REPLICA IDENTITY FULL, or give it a primary key that is not deferrable"
            );
            return Err(CaptureError::Unfit { table: table.schema.name.clone(), reason });
        }
    }
    Ok(())
}

fn make_slot(
    options: &LogCaptureOptions,
    tables: &[PgTable],
    publication_entries: String,
) -> Result<(PgExported, Wire), CaptureError> {
    let mut wire = Wire::connect(&options.server, Mode::Replication)?;
    let (system, timeline, _) = identify(&mut wire)?;
    let watch = PgWatch::begin(&options.server, "making a replication slot")?;
    watch.of_wire(&mut wire)?;
    wire.set_silence_max(options.server.patience.wait_max() + SILENCE_BEYOND);
    let sql = format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput EXPORT_SNAPSHOT", quote(&options.slot));
    let made = wire.query(&sql);
    let rows = watch.end(made)?;
    let unreadable = || slot_error(&options.slot, "the server does not say where it begins; report this");
    let (consistent_point, snapshot) = match rows.first().map(Vec::as_slice) {
        Some([_, Some(point), Some(snapshot), ..]) => (parse_lsn(point).ok_or_else(unreadable)?, snapshot.clone()),
        _ => return Err(unreadable()),
    };
    let state = SlotState {
        system,
        timeline,
        database: options.server.database.clone(),
        slot: options.slot.clone(),
        publication: options.publication.clone(),
        tables: tables.iter().map(shape).collect(),
        consistent_point: consistent_point.0,
        idle_from: consistent_point.0,
        idle_to: consistent_point.0,
        publication_entries,
        empty_since: None,
    };
    if let Err(error) = state.write(&options.folder) {
        let _ = wire.query(&format!("DROP_REPLICATION_SLOT {}", quote(&options.slot)));
        return Err(error);
    }
    Ok((PgExported { name: snapshot, position: consistent_point }, wire))
}

fn check_server(client: &mut Client, server: &PgOptions) -> Result<(), CaptureError> {
    let sql = "SELECT current_setting('server_version_num')::int4, current_setting('wal_level'), \
        (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user)";
    let failed = || SourceError::postgres("read the settings of", server.place());
    let row = client.query_one(sql, &[]).map_err(failed())?;
    let (version, level, may): (i32, String, Option<bool>) =
        (row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?, row.try_get(2).map_err(failed())?);
    let refused = |what: String| CaptureError::Source(SourceError::Options { what });
    if version < SERVER_VERSION_MIN {
        return Err(refused(format!("{}: following the log needs PostgreSQL 14 or newer", server.place())));
    }
    if level != "logical" {
        return Err(refused(format!(
            "{}: wal_level is {level}; run ALTER SYSTEM SET wal_level = logical and restart the server",
            server.place()
        )));
    }
    if may != Some(true) {
        return Err(refused(format!(
            "{}: the role may not read the log; run ALTER ROLE {} REPLICATION as a superuser",
            server.place(),
            quote(&server.user)
        )));
    }
    Ok(())
}

/// A publication that somebody else made must have every table, all of it, and every kind of change.
fn check_publication(client: &mut Client, options: &LogCaptureOptions, tables: &[PgTable]) -> Result<(), CaptureError> {
    let name = &options.publication;
    let refused = |reason: String| Err(CaptureError::Slot { slot: format!("publication {name}"), reason });
    match Publication::read(client, options, tables)? {
        None => refused("there is none of this name; make it, or leave the name away".to_owned()),
        Some(found) => found.lacks.into_iter().next().map_or(Ok(()), |lack| refused(lack.to_string())),
    }
}

/// System identifier, timeline and the end of the server's log.
pub(super) fn identify(wire: &mut Wire) -> Result<(String, String, Lsn), CaptureError> {
    let rows: Vec<TextRow> = wire.query("IDENTIFY_SYSTEM")?;
    match rows.first().map(Vec::as_slice) {
        Some([Some(system), Some(timeline), Some(end), ..]) if parse_lsn(end).is_some() => {
            Ok((system.clone(), timeline.clone(), parse_lsn(end).unwrap_or_default()))
        }
        _ => Err(slot_error("the server", "it does not identify itself; check that it is PostgreSQL 14 or newer")),
    }
}

/// `16/B374D848` as a position: two halves in hexadecimal.
pub fn parse_lsn(text: &str) -> Option<Lsn> {
    let (high, low) = text.split_once('/')?;
    let half = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
    Some(Lsn(half(high)? << 32 | half(low)?))
}

/// A position as PostgreSQL writes it.
pub fn show_lsn(lsn: Lsn) -> String {
    format!("{:X}/{:X}", lsn.0 >> 32, lsn.0 & u64::from(u32::MAX))
}

/// What the server tells of the slot; `None` if it has none of this name.
///
/// # Errors
/// When the server refuses.
pub fn slot_health(client: &mut Client, slot: &str) -> Result<Option<SlotHealth>, CaptureError> {
    let sql = "SELECT active, coalesce(wal_status, 'lost'), (coalesce(confirmed_flush_lsn, '0/0') - '0/0'::pg_lsn)::int8, \
        coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::int8 \
        FROM pg_replication_slots WHERE slot_name = $1";
    let failed = || SourceError::postgres("read the state of replication slot", slot);
    let Some(row) = client.query_opt(sql, &[&slot]).map_err(failed())? else { return Ok(None) };
    let (confirmed, retained): (i64, i64) = (row.try_get(2).map_err(failed())?, row.try_get(3).map_err(failed())?);
    Ok(Some(SlotHealth {
        slot: slot.to_owned(),
        active: row.try_get(0).map_err(failed())?,
        wal_status: row.try_get(1).map_err(failed())?,
        confirmed: Lsn(confirmed.unsigned_abs()),
        retained_bytes: u64::try_from(retained).unwrap_or(0),
    }))
}

/// Slots and publications with our prefix in the client's database. A publication is ours by its mark, and a slot by the publication
/// of its name, since a slot has no place for a mark.
///
/// # Errors
/// When the server refuses.
pub fn find_leftovers(client: &mut Client) -> Result<Leftovers, CaptureError> {
    let failed = || SourceError::postgres("look for leftovers in", "the database");
    let slots = "SELECT s.slot_name::text, s.active, s.plugin = 'pgoutput' AND EXISTS (SELECT FROM pg_publication p \
        WHERE p.pubname = s.slot_name AND obj_description(p.oid, 'pg_publication') = $2 \
            OR obj_description(p.oid, 'pg_publication') = $2 || ': ' || s.slot_name::text) FROM pg_replication_slots s \
        WHERE starts_with(s.slot_name::text, $1) AND s.database = current_database() ORDER BY 1";
    let publications = "SELECT name, CASE WHEN said = $2 THEN name \
            WHEN starts_with(said, $2 || ': ') THEN substr(said, length($2) + 3) END \
        FROM (SELECT pubname::text AS name, obj_description(oid, 'pg_publication') AS said FROM pg_publication) AS found \
        WHERE starts_with(name, $1) OR starts_with(said, $2 || ': ' || $1) ORDER BY 1";
    let mut found = Leftovers { slots: Vec::new(), publications: Vec::new(), unproven: Vec::new() };
    for row in client.query(slots, &[&SLOT_PREFIX, &MARK]).map_err(failed())? {
        let (name, active): (String, bool) = (row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?);
        match row.try_get(2).map_err(failed())? {
            // Whoever uses one uses it, by whatever publication.
            _ if active => found.slots.push((name, true)),
            Some(true) => {
                let used = PgHold::is_taken(client, &name)?;
                found.slots.push((name, used));
            }
            _ => found.unproven.push(format!("replication slot {name}")),
        }
    }
    for row in client.query(publications, &[&SLOT_PREFIX, &MARK]).map_err(failed())? {
        let (name, slot): (String, Option<String>) =
            (row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?);
        match slot {
            Some(slot) => found.publications.push((name, slot)),
            None => found.unproven.push(format!("publication {name}")),
        }
    }
    Ok(found)
}

/// Drops the slots that nobody uses, and the publications but those whose slot somebody uses. Returns what was dropped.
///
/// # Errors
/// When the server refuses.
pub fn clean_up(client: &mut Client) -> Result<Leftovers, CaptureError> {
    let mut dropped = find_leftovers(client)?;
    let used: Vec<String> = dropped.slots.iter().filter(|(_, used)| *used).map(|(name, _)| name.clone()).collect();
    dropped.slots.retain(|(_, used)| !used);
    for (slot, _) in &dropped.slots {
        drop_slot(client, slot)?;
    }
    let mut publications = Vec::new();
    for (publication, slot) in std::mem::take(&mut dropped.publications) {
        // Whoever uses the slot needs its publication as well, also one who is about to make the slot.
        if !used.contains(&slot) && !PgHold::is_taken(client, &slot)? {
            drop_publication(client, &publication)?;
            publications.push((publication, slot));
        }
    }
    dropped.publications = publications;
    Ok(dropped)
}

/// Drops slot and publication, if they are there; a publication that was given stays. Waits until the server has noticed
/// that its user is gone.
///
/// # Errors
/// When the server refuses, or somebody else uses the slot.
pub(super) fn remove(options: &LogCaptureOptions) -> Result<(), CaptureError> {
    let mut client = options.server.connect()?;
    let until = Instant::now() + RELEASE_MAX;
    while let Some(health) = slot_health(&mut client, &options.slot)? {
        if !health.active {
            drop_slot(&mut client, &options.slot)?;
        } else if Instant::now() > until {
            return Err(slot_error(&options.slot, "somebody is using it; end that first"));
        } else {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    if options.own_publication() {
        drop_own_publication(&mut client, options)?;
    }
    SlotState::remove(&options.folder);
    Ok(())
}

/// Drops the publication that was made for the slot, whatever its name is by now.
fn drop_own_publication(client: &mut Client, options: &LogCaptureOptions) -> Result<(), CaptureError> {
    let sql = "SELECT pubname::text, coalesce(said = $1 || ': ' || $2 OR said = $1, false) \
        FROM (SELECT pubname, obj_description(oid, 'pg_publication') AS said FROM pg_publication) AS found \
        WHERE pubname::text = $3 OR said = $1 || ': ' || $2";
    let failed = || SourceError::postgres("look for the publication", &options.publication);
    let mut foreign = None;
    for row in client.query(sql, &[&MARK, &options.slot, &options.publication]).map_err(failed())? {
        let (name, ours): (String, bool) = (row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?);
        if ours {
            drop_publication(client, &name)?;
        } else {
            foreign = Some(name);
        }
    }
    foreign.map_or(Ok(()), |name| {
        let reason = "its comment does not say any more that freshbench made it, so it stays; drop it by hand if nobody needs it";
        Err(slot_error(&format!("publication {name}"), reason))
    })
}

/// Drops a slot that nobody uses.
///
/// # Errors
/// When the server refuses.
pub fn drop_slot(client: &mut Client, slot: &str) -> Result<(), CaptureError> {
    let dropped = client.execute("SELECT pg_drop_replication_slot($1)", &[&slot]);
    dropped.map(drop).map_err(SourceError::postgres("drop the replication slot", slot)).map_err(CaptureError::from)
}

/// Drops a publication, if it is there.
///
/// # Errors
/// When the server refuses.
pub fn drop_publication(client: &mut Client, publication: &str) -> Result<(), CaptureError> {
    let dropped = client.batch_execute(&format!("DROP PUBLICATION IF EXISTS {}", quote(publication)));
    dropped.map_err(SourceError::postgres("drop the publication", publication)).map_err(CaptureError::from)
}

/// See [`LogCapture::can_go_on`](super::LogCapture::can_go_on).
pub(super) fn can_go_on(options: &LogCaptureOptions) -> Result<CanGoOn, CaptureError> {
    let state = SlotState::read(&options.folder)?;
    let mut client = options.server.connect()?;
    let sql = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
    let failed = || SourceError::postgres("identify", options.server.place());
    let system: String = client.query_one(sql, &[]).and_then(|row| row.try_get(0)).map_err(failed())?;
    if system != state.system || options.server.database != state.database {
        return Ok(CanGoOn::Unknown);
    }
    match slot_health(&mut client, &state.slot)? {
        Some(health) if health.wal_status != "lost" => {}
        _ => return Ok(CanGoOn::Never),
    }
    for was in &state.tables {
        let Some(oid) = oid(was) else { return Ok(CanGoOn::Unknown) };
        let is = match PgTable::of_oid(&mut client, oid).map_err(CaptureError::from).and_then(|table| fit(&table)) {
            Ok(table) => shape(&table),
            Err(CaptureError::Unfit { .. } | CaptureError::Source(SourceError::Table { .. })) => {
                return Ok(CanGoOn::Never);
            }
            Err(error) => return Err(error),
        };
        if is != *was {
            return Ok(CanGoOn::Never);
        }
    }
    Ok(CanGoOn::Yes)
}

/// Waits until nobody uses the slot, then checks that it can be gone on with after `from`.
pub(super) fn check_slot(
    options: &LogCaptureOptions,
    client: &mut Client,
    state: &SlotState,
    from: Lsn,
) -> Result<(), CaptureError> {
    let until = Instant::now() + RELEASE_MAX;
    let gone = "begin with a new snapshot";
    loop {
        let Some(health) = slot_health(client, &options.slot)? else {
            return Err(slot_error(&options.slot, &format!("it is not there any more; {gone}")));
        };
        if health.wal_status == "lost" {
            let reason = format!(
                "the server has thrown away log that it needs; raise max_slot_wal_keep_size (or confirm sooner), and {gone}"
            );
            return Err(slot_error(&options.slot, &reason));
        }
        if !state.covers(from, health.confirmed) {
            let reason = format!(
                "it is at {}, and the changes since {} are gone: it was made again or moved by somebody else; {gone}, and \
                 remove it with freshbench attach --cleanup if nobody else uses it",
                show_lsn(health.confirmed),
                show_lsn(from)
            );
            return Err(slot_error(&options.slot, &reason));
        }
        if !health.active {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(slot_error(&options.slot, "somebody else is using it; end that first"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
