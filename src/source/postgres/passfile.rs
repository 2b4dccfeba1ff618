//! The password file: `host:port:database:role:password` in each line, `*` for any, `\` before a `:` or `\` that is meant so.

use super::lines;
use super::options::Environment;
use super::secret::Secret;
use crate::source::SourceError;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The first password that fits host, port, database and role. A file that others may read is refused: libpq ignores it
/// with a warning, and then fails for want of a password.
pub(super) fn look_up(
    file: Option<PathBuf>,
    wanted: &[String; 4],
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
    for (number, line) in lines::read(&path, "read the password file")?.unwrap_or_default().iter().enumerate() {
        // A letter of another encoding becomes one that fits no name.
        let readable = String::from_utf8_lossy(line);
        if let Some(password) = password(&readable, wanted) {
            if std::str::from_utf8(line).is_err() {
                let what = format!("line {} of the password file {} is no UTF-8", number + 1, path.display());
                return Err(SourceError::Options { what });
            }
            return Ok(Some(password));
        }
    }
    Ok(None)
}

fn password(line: &str, wanted: &[String; 4]) -> Option<Secret> {
    if line.starts_with('#') {
        return None;
    }
    let fields = fields(line);
    let [place @ .., password] = fields.get(..5)? else { return None };
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
            // The password too ends at one, as in libpq.
            ':' => {
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
