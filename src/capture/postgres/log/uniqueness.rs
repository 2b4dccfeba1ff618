//! Whether the key of a table whose whole old rows are sent still tells its rows apart at every moment.
//!
//! With REPLICA IDENTITY FULL the stream says nothing of a key: not that it is gone, nor that it is deferrable now, so that
//! two rows may have it until the commit. The catalog says it. The stream describes a table again after each change of its
//! definition, and that is when to look.

use crate::capture::CaptureError;
use crate::source::SourceError;
use crate::source::postgres::{PgKeyOrigin, PgOptions, PgTable};

/// Catalogs only: a lock that somebody holds on the table is not waited for.
const UNIQUE: &str = "SELECT i.indimmediate, ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a \
      WHERE a.attrelid = i.indrelid AND a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1])) \
    FROM pg_catalog.pg_index i WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL \
      AND i.indexprs IS NULL ORDER BY i.indisprimary DESC, i.indexrelid";

/// In words, what the key was and is, if it does not do any more; `None` also for a table that is gone, of which no more changes
/// come than those from before.
///
/// # Errors
/// When the server can't be reached or refuses.
pub(super) fn lost(server: &PgOptions, table: &PgTable) -> Result<Option<String>, CaptureError> {
    if matches!(table.key_origin, PgKeyOrigin::Given | PgKeyOrigin::None) {
        return Ok(None);
    }
    let failed = || SourceError::postgres("look at the key of table", &table.schema.name);
    let mut client = server.connect()?;
    let there = client.query_opt("SELECT FROM pg_catalog.pg_class WHERE oid = $1", &[&table.oid]).map_err(failed())?;
    let rows = client.query(UNIQUE, &[&table.oid]).map_err(failed())?;
    let mut indexes: Vec<(bool, Vec<String>)> = Vec::with_capacity(rows.len());
    for row in rows {
        indexes.push((row.try_get(0).map_err(failed())?, row.try_get(1).map_err(failed())?));
    }
    if there.is_none() {
        return Ok(None);
    }
    let key: Vec<&str> = table.schema.key_columns().map(|column| column.name.as_str()).collect();
    let is_key = |names: &[String]| names.len() == key.len() && key.iter().all(|name| names.iter().any(|n| n == name));
    let of_key: Vec<bool> = indexes.iter().filter(|(_, names)| is_key(names)).map(|(at_once, _)| *at_once).collect();
    if of_key.iter().any(|at_once| *at_once || table.settles_at_commit()) {
        return Ok(None);
    }
    let was = format!("its key ({}) was unique at every moment", key.join(", "));
    let is = match (of_key.is_empty(), indexes.first()) {
        (false, _) => "and is deferrable, so that two rows may have it until a commit".to_owned(),
        (true, Some((_, names))) => format!("and its key is ({})", names.join(", ")),
        (true, None) => "and it has none".to_owned(),
    };
    Ok(Some(format!("{was}, {is}; everything before that was delivered; begin with a new snapshot")))
}
