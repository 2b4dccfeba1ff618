//! The password file: `host:port:database:role:password` a line, `*` for any, `\` before a `:` or `\` that is meant so.

use super::options::{Environment, PgHost, PgOptions};
use super::secret::Secret;
use crate::bounded;
use crate::source::SourceError;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The first password that fits. A file that others may read is refused: libpq ignores it with a warning, and then
/// fails for want of a password.
pub(super) fn look_up(
    file: Option<PathBuf>,
    options: &PgOptions,
    environment: Environment<'_>,
) -> Result<Option<Secret>, SourceError> {
    let named = file.or_else(|| environment("HOME").map(|home| PathBuf::from(home).join(".pgpass")));
    let Some(path) = named else { return Ok(None) };
    let Ok(metadata) = std::fs::metadata(&path) else { return Ok(None) };
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        let what = format!("the password file {0} is open to others; run: chmod 600 {0}", path.display());
        return Err(SourceError::Options { what });
    }
    let text = bounded::read_text(&path, bounded::SETTINGS_BYTES_MAX)
        .map_err(SourceError::io("read the password file", &path))?;
    let host = match &options.host {
        PgHost::Tcp(host) => host.clone(),
        // The default folder goes by the name of the host that it stands for.
        PgHost::Socket(folder) if folder.starts_with("/var/run/postgresql") || folder.starts_with("/tmp") => {
            "localhost".to_owned()
        }
        PgHost::Socket(folder) => folder.display().to_string(),
    };
    let wanted = [host, options.port.to_string(), options.database.clone(), options.user.clone()];
    Ok(text.lines().find_map(|line| password(line, &wanted)))
}

fn password(line: &str, wanted: &[String; 4]) -> Option<Secret> {
    if line.starts_with('#') {
        return None;
    }
    let fields = fields(line);
    let (password, place) = fields.split_last()?;
    let fits =
        place.len() == wanted.len() && place.iter().zip(wanted).all(|(field, want)| field == "*" || field == want);
    fits.then(|| Secret::new(password.as_str()))
}

fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let added = match letter {
            '\\' => letters.next(),
            // Behind the fourth, a colon belongs to the password.
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                None
            }
            other => Some(other),
        };
        if let (Some(added), Some(last)) = (added, fields.last_mut()) {
            last.push(added);
        }
    }
    fields
}
