//! Reading stored results back.

use crate::report::{Environment, RunResult, result};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The largest result that is read, in bytes.
const RESULT_BYTES_MAX: u64 = 256 << 20;

/// Why a file is of no use.
#[derive(Debug)]
pub struct StoredError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what would be right.
    pub remedy: String,
}

impl fmt::Display for StoredError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.remedy)
    }
}

impl std::error::Error for StoredError {}

impl StoredError {
    /// An error about `path`.
    pub fn new(path: &Path, remedy: impl fmt::Display) -> StoredError {
        StoredError { path: path.to_owned(), remedy: remedy.to_string() }
    }
}

/// The text of a file of at most `bytes_max` bytes.
///
/// # Errors
/// [`StoredError`] when it can't be read, or is larger.
pub fn read_text(path: &Path, bytes_max: u64) -> Result<String, StoredError> {
    let size = fs::metadata(path).map_err(|cause| StoredError::new(path, format!("can't be read: {cause}")))?;
    if size.is_dir() {
        return Err(StoredError::new(path, "is a folder; name the file in it"));
    }
    if size.len() > bytes_max {
        let why = format!("{} bytes are more than the limit of {bytes_max}; is it the right file?", size.len());
        return Err(StoredError::new(path, why));
    }
    fs::read_to_string(path).map_err(|cause| StoredError::new(path, format!("can't be read: {cause}")))
}

/// Reads a `result.json`; of a folder, the one in it.
///
/// # Errors
/// [`StoredError`] when it can't be read, is no result, or is of a later major version.
pub fn read_result(path: &Path) -> Result<RunResult, StoredError> {
    let file = if path.is_dir() { path.join("result.json") } else { path.to_owned() };
    let text = read_text(&file, RESULT_BYTES_MAX)?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|cause| {
        StoredError::new(&file, format!("is no JSON: {cause}; give a result.json of freshbench run"))
    })?;
    let schema = value.get("schema").and_then(|schema| schema.as_str());
    if schema != Some(result::SCHEMA) {
        let found = schema.map_or("no schema".to_owned(), |schema| format!("the schema {schema}"));
        return Err(StoredError::new(&file, format!("has {found}, not {}; give a result.json", result::SCHEMA)));
    }
    let version = value.get("schema_version").and_then(|version| version.as_str()).unwrap_or_default();
    let major = |text: &str| text.split('.').next().and_then(|first| first.parse::<u32>().ok());
    if major(version).is_none() || major(version) > major(result::SCHEMA_VERSION) {
        let why = format!("has version {version:?} of the schema, this program reads {}", result::SCHEMA_VERSION);
        return Err(StoredError::new(&file, why));
    }
    serde_json::from_value(value).map_err(|cause| StoredError::new(&file, format!("is no result: {cause}")))
}

/// Writes a file so that a reader sees it whole or not at all.
///
/// # Errors
/// [`StoredError`] with the cause.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StoredError> {
    let write = || -> std::io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.as_file().sync_all()?;
        // A temporary file is the owner's alone; what is published is as readable as any other file.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))?;
        }
        file.persist(path).map_err(|failed| failed.error)?;
        Ok(())
    };
    write().map_err(|cause| {
        StoredError::new(path, format!("can't be written: {cause}; free some space or choose another place"))
    })
}

/// What two machines must share before their figures compare, as text: processor, cores, memory in GiB, file system, build profile.
pub fn machine_in_words(env: &Environment) -> String {
    let gib = (env.mem_bytes as f64 / f64::from(1_u32 << 30)).round();
    format!("{}, {} cores, {gib} GiB, {}, {}", env.cpu_model, env.cores, env.fs, env.profile)
}

/// [`machine_in_words`] as a short key.
pub fn machine_key(env: &Environment) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(machine_in_words(env).as_bytes()))
}
