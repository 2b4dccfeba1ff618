//! The connection service file.

use super::options::Environment;
use crate::bounded;
use crate::source::SourceError;
use std::path::PathBuf;

/// The parameters of the service called `name`: from `PGSERVICEFILE` or `~/.pg_service.conf`, else from
/// `PGSYSCONFDIR/pg_service.conf`.
pub(super) fn read(name: &str, environment: Environment<'_>) -> Result<Vec<(String, String)>, SourceError> {
    let own = environment("PGSERVICEFILE")
        .map(PathBuf::from)
        .or_else(|| environment("HOME").map(|home| PathBuf::from(home).join(".pg_service.conf")));
    let system = environment("PGSYSCONFDIR").map(|folder| PathBuf::from(folder).join("pg_service.conf"));
    for path in [own, system].into_iter().flatten() {
        match bounded::read_text(&path, bounded::SETTINGS_BYTES_MAX) {
            Ok(text) => {
                if let Some(parameters) = section(&text, name) {
                    return Ok(parameters);
                }
            }
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => return Err(SourceError::io("read the service file", &path)(cause)),
        }
    }
    let what = format!("no service file defines the service {name:?}; define it in ~/.pg_service.conf");
    Err(SourceError::Options { what })
}

/// The lines `parameter=value` below `[name]`.
fn section(text: &str, name: &str) -> Option<Vec<(String, String)>> {
    let mut found: Option<Vec<(String, String)>> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(title) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if found.is_some() {
                break;
            }
            if title == name {
                found = Some(Vec::new());
            }
        } else if let (Some(found), Some((parameter, value))) = (&mut found, line.split_once('=')) {
            found.push((parameter.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}
