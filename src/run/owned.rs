//! How the databases and folders of a run are named and marked, so that a clean-up knows them from all others.

use super::RunError;
use crate::source::postgres::{PgHold, PgOptions};
use crate::storage::{LockFault, lock};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the names of the databases begin with.
pub(super) const PREFIX: &str = "freshbench_";
/// The server's limit for a name, in bytes.
const NAME_BYTES_MAX: usize = 63;
/// The digits that show that a name was made here.
const CHECK_DIGITS: usize = 8;
/// In a folder of a run, locked for as long as the run goes on.
pub(super) const MARK: &str = "run.lock";
/// What the names of such folders begin with.
pub(super) const FOLDERS: [&str; 2] = ["work-", "selftest-"];

/// This process, for the names of its databases: when it began, and its number.
pub(super) fn token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        format!("{:x}_{}", now.as_millis(), std::process::id())
    })
}

/// Says to the server, for as long as it is kept, that this process's databases are in use.
pub(super) fn hold(server: &PgOptions) -> Result<PgHold, RunError> {
    Ok(PgHold::take(server, token())?)
}

/// A name that no other run on the same server has: the process, a number, what for, and digits that follow from these.
pub(super) fn database_name(of: &str) -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let whole = format!("{PREFIX}{}_{number}_{}", token(), of.replace('-', "_"));
    let name: String = whole.chars().take(NAME_BYTES_MAX - CHECK_DIGITS - 1).collect();
    format!("{name}_{}", check(&name))
}

/// The token of the process that made a database of this name, if a run made it: nobody's own name ends in the digits that
/// follow from the rest of it.
pub(super) fn token_of(name: &str) -> Option<&str> {
    let (made, digits) = name.rsplit_once('_')?;
    if digits != check(made) {
        return None;
    }
    let rest = made.strip_prefix(PREFIX)?;
    let (second, _) = rest.match_indices('_').nth(1)?;
    rest.get(..second)
}

/// Whether a name has the form without the digits at its end, which earlier versions gave.
pub(super) fn looks_older(name: &str) -> bool {
    let mut parts = name.strip_prefix(PREFIX).unwrap_or_default().split('_');
    let is_hex = |part: &str| part.len() >= 10 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    parts.next().is_some_and(is_hex) && parts.next().is_some_and(is_number) && parts.next().is_some_and(is_number)
}

fn check(name: &str) -> String {
    format!("{:08x}", xxhash_rust::xxh3::xxh3_64(name.as_bytes()) & u64::from(u32::MAX))
}

/// What is said of a database on the server, for people and for a clean-up on this machine.
pub(super) fn comment(work: &Path) -> String {
    let work = std::path::absolute(work).unwrap_or_else(|_| work.to_owned());
    format!("{COMMENT}{}", work.display())
}

const COMMENT: &str = "made by freshbench run, working in ";

/// The folder that [`comment`] names.
pub(super) fn folder_of(comment: &str) -> Option<PathBuf> {
    comment.strip_prefix(COMMENT).map(PathBuf::from)
}

/// Marks a folder as this run's, until the file is closed.
pub(super) fn mark(folder: &Path) -> Result<File, RunError> {
    lock(&folder.join(MARK)).map_err(|fault| match fault {
        LockFault::Held { path, holder } => {
            RunError::Io { path, cause: std::io::Error::other(format!("is in use by {holder}")) }
        }
        LockFault::Io { path, cause, .. } => RunError::Io { path, cause },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_known_by_its_own_digits_alone() {
        for of in ["base", "cdc-trigger-0", "dual-write-versioned-17-and-much-more-than-a-name-may-have"] {
            let name = database_name(of);
            assert!(name.len() <= NAME_BYTES_MAX, "{name}");
            assert_eq!(token_of(&name), Some(token()), "{name}");
        }
        let name = database_name("base");
        let other = name.replace("_base_", "_basf_");
        for foreign in ["freshbench_prod", "freshbench_1_2_3_4", "postgres", "", "_", other.as_str()] {
            assert_eq!(token_of(foreign), None, "{foreign}");
            assert!(foreign == other || !looks_older(foreign), "{foreign}");
        }
        assert!(looks_older("freshbench_19acf0e1b2c_4711_0_base"));
        let made = comment(Path::new("/a b/work-x"));
        assert_eq!(folder_of(&made), Some(PathBuf::from("/a b/work-x")));
    }
}
