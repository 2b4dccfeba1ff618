//! The folder: its lock, and `CURRENT`, the file that names the generation in use.
//!
//! Format: a header line, `freshbench.search <version> <xxh3-128 of the body, hex>`, then the body in JSON. The
//! version stands in front so that a build can refuse a newer format before it reads anything else.

use super::SearchError;
use super::directory::{Written, generation_in_name, sync_folder};
use crate::model::Catalog;
use crate::storage::private;
use crate::storage::{self, LockFault};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_128;

const MAGIC: &str = "freshbench.search";
/// The oldest and the newest format this build reads; it writes the newest.
const READABLE: (u64, u64) = (1, 1);
const CURRENT_BYTES_MAX: u64 = 64 << 20;

/// What the folder holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Current {
    /// The generation in use.
    pub(super) generation: u64,
    /// The tables, in the columns that the sinks get.
    pub(super) catalog: Catalog,
}

pub(super) fn current_path(dir: &Path) -> PathBuf {
    dir.join("CURRENT")
}

fn temporary_path(dir: &Path) -> PathBuf {
    dir.join("CURRENT.new")
}

/// The folder of a generation.
pub(super) fn generation_path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("generation-{generation:010}"))
}

/// A generation's folder must be the one that its name says: `says` is the number inside, which older builds did not write.
pub(super) fn check_generation(dir: &Path, says: Option<u64>) -> Result<(), SearchError> {
    match (generation_in_name(dir), says) {
        (Some(named), Some(says)) if named != says => {
            let what =
                format!("its name says generation {named}, and it holds generation {says}: it was renamed or copied");
            Err(SearchError::corrupt(dir, what))
        }
        _ => Ok(()),
    }
}

impl Current {
    pub(super) fn read(dir: &Path) -> Result<Current, SearchError> {
        let path = current_path(dir);
        let file = File::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => SearchError::Missing { path: dir.to_owned() },
            _ => SearchError::io("open", &path)(error),
        })?;
        let length = file.metadata().map_err(SearchError::io("read", &path))?.len();
        if length > CURRENT_BYTES_MAX {
            return Err(SearchError::corrupt(&path, format!("it has {length} bytes, and 64 MiB is the limit")));
        }
        let mut bytes = Vec::new();
        file.take(CURRENT_BYTES_MAX).read_to_end(&mut bytes).map_err(SearchError::io("read", &path))?;
        Current::parse(&bytes, &path)
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Current, SearchError> {
        let corrupt = |what: &str| SearchError::corrupt(path, what);
        let end = bytes.iter().position(|&byte| byte == b'\n').ok_or_else(|| corrupt("it has no header line"))?;
        let (header, body) = bytes.split_at(end);
        let body = body.get(1..).unwrap_or_default();
        let header = std::str::from_utf8(header).map_err(|_| corrupt("its header is not text"))?;
        let mut words = header.split(' ');
        if words.next() != Some(MAGIC) {
            return Err(corrupt("it does not belong to a freshbench search index"));
        }
        let version = words.next().and_then(|word| word.parse::<u64>().ok());
        let found = version.ok_or_else(|| corrupt("its header has no version"))?;
        if !(READABLE.0..=READABLE.1).contains(&found) {
            return Err(SearchError::UnsupportedVersion { path: path.to_owned(), found, readable: READABLE });
        }
        if words.next() != Some(format!("{:032x}", xxh3_128(body)).as_str()) {
            return Err(corrupt("its checksum does not fit its content"));
        }
        serde_json::from_slice(body).map_err(|error| corrupt(&error.to_string()))
    }

    /// Makes this the folder's state: atomic, and durable when it returns. The generation must be durable already; its
    /// folder's entry is made so here.
    pub(super) fn commit(&self, dir: &Path, written: &Written) -> Result<(), SearchError> {
        let (path, temporary) = (current_path(dir), temporary_path(dir));
        let body = serde_json::to_vec(self).map_err(|error| SearchError::corrupt(&path, error.to_string()))?;
        let header = format!("{MAGIC} {} {:032x}\n", READABLE.1, xxh3_128(&body));
        let mut file = private::create(&temporary).map_err(SearchError::io("create", &temporary))?;
        file.write_all(header.as_bytes()).map_err(SearchError::io("write", &temporary))?;
        file.write_all(&body).map_err(SearchError::io("write", &temporary))?;
        file.sync_all().map_err(SearchError::io("make durable", &temporary))?;
        written.file((header.len() + body.len()) as u64);
        written.synced();
        sync_folder(dir, written).map_err(SearchError::io("make durable", dir))?;
        fs::rename(&temporary, &path).map_err(SearchError::io("rename", &temporary))?;
        sync_folder(dir, written).map_err(SearchError::io("make durable", dir))
    }
}

/// Removes every generation but the one in use, and a `CURRENT` that was not finished: what a crash left behind.
pub(super) fn remove_orphans(dir: &Path, in_use: Option<u64>) -> Result<(), SearchError> {
    for entry in fs::read_dir(dir).map_err(SearchError::io("list", dir))? {
        let path = entry.map_err(SearchError::io("list", dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("generation-").and_then(|number| number.parse::<u64>().ok());
        let removed = match number {
            Some(number) if in_use != Some(number) => fs::remove_dir_all(&path),
            None if path == temporary_path(dir) => fs::remove_file(&path),
            _ => Ok(()),
        };
        removed.map_err(SearchError::io("remove", &path))?;
    }
    Ok(())
}

/// Takes the folder's write lock; see [`storage::lock`].
pub(super) fn lock(dir: &Path) -> Result<File, SearchError> {
    storage::lock(&dir.join("LOCK")).map_err(|fault| match fault {
        LockFault::Held { path, holder } => SearchError::Locked { path, holder },
        LockFault::Io { operation, path, cause } => SearchError::io(operation, &path)(cause),
    })
}
