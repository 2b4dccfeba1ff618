//! The connection service file.

use super::lines;
use super::options::Environment;
use super::url::Given;
use crate::source::SourceError;
use std::path::{Path, PathBuf};

/// Where Debian's libpq looks unless it is told otherwise.
const SYSTEM_FOLDER: &str = "/etc/postgresql-common";

/// The parameters of the service called `name`: from `PGSERVICEFILE` or `~/.pg_service.conf`, else from `pg_service.conf` in
/// `PGSYSCONFDIR` or the system's folder.
pub(super) fn read(name: &str, environment: Environment<'_>) -> Result<Given, SourceError> {
    let own = environment("PGSERVICEFILE")
        .map(PathBuf::from)
        .or_else(|| environment("HOME").map(|home| PathBuf::from(home).join(".pg_service.conf")));
    let system = environment("PGSYSCONFDIR").unwrap_or_else(|| SYSTEM_FOLDER.to_owned());
    for path in own.into_iter().chain([PathBuf::from(system).join("pg_service.conf")]) {
        if let Some(lines) = lines::read(&path, "read the service file")?
            && let Some(parameters) = section(&lines, name, &path)?
        {
            return Ok(parameters);
        }
    }
    let what = format!("no service file defines the service {name:?}; define it in ~/.pg_service.conf");
    Err(SourceError::Options { what })
}

/// The lines `parameter=value` below `[name]`. Of two of one parameter the first counts.
fn section(lines: &[Vec<u8>], name: &str, path: &Path) -> Result<Option<Given>, SourceError> {
    let mut found: Option<Given> = None;
    for (number, line) in lines.iter().enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if let Some(title) = line.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
            if found.is_some() {
                break;
            }
            found = (title == name.as_bytes()).then(Given::new);
            continue;
        }
        let Some(found) = &mut found else { continue };
        let refused = |why: &str| {
            let what = format!("line {} of the service file {} {why}", number + 1, path.display());
            Err(SourceError::Options { what })
        };
        let Ok(line) = std::str::from_utf8(line) else { return refused("is no UTF-8; convert the file") };
        match line.split_once('=').map(|(parameter, value)| (parameter.trim(), value.trim())) {
            None => return refused("has no =; write parameter=value"),
            Some(("service", _)) => return refused("names another service, which is not allowed there"),
            Some((parameter, _)) if found.iter().any(|(known, _)| known == parameter) => {}
            Some((parameter, value)) => found.push((parameter.to_owned(), value.to_owned())),
        }
    }
    Ok(found)
}
