//! Kept versions: the last commits stay readable, each by a manifest of its own beside the folder's.
//!
//! A commit gives the manifest that it replaces a second name, `version-<commit>.manifest`, before it takes the first one away.
//! What a kept version names stays. An expired version first loses its manifest, durably, and then the files that
//! nobody else names; so a version that is listed is whole, after a power cut too.

use super::WarehouseError;
use super::counters::Written;
use super::manifest::{
    DeletedEntry, Manifest, SegmentEntry, deletions_path, manifest_path, sync_folder, temporary_path,
};
use super::open::with_manifest;
use super::segment::{Segment, segment_path};
use crate::model::Lsn;
use crate::storage::{Mistake, Storage};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// A version that can be read, as its manifest describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// Counts the commits of the folder.
    pub commit: u64,
    /// Complete through this commit of the record system.
    pub watermark: Lsn,
    /// When it was committed, in microseconds of Unix time; `None` if an older build wrote it.
    pub committed_at_us: Option<i64>,
    /// Live rows of all tables.
    pub rows: u64,
    /// Bytes of the files it consists of. Versions share files.
    pub bytes: u64,
    /// Whether it is the newest.
    pub is_current: bool,
}

/// Which version is wanted. As text: `12` is commit 12, `lsn:345` a watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionAt {
    /// The one that this commit of the folder made.
    Commit(u64),
    /// The newest that is complete through no more than this.
    Watermark(Lsn),
}

impl FromStr for VersionAt {
    type Err = String;

    fn from_str(text: &str) -> Result<VersionAt, String> {
        let parsed = match text.strip_prefix("lsn:") {
            Some(lsn) => lsn.parse().map(|lsn| VersionAt::Watermark(Lsn(lsn))),
            None => text.parse().map(VersionAt::Commit),
        };
        parsed.map_err(|_| format!("{text:?} is no version; give a commit such as 12, or a watermark such as lsn:345"))
    }
}

impl fmt::Display for VersionAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionAt::Commit(commit) => write!(f, "commit {commit}"),
            VersionAt::Watermark(lsn) => write!(f, "version at or before watermark {lsn}"),
        }
    }
}

/// A version that is not the newest and whose files stay.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) commit: u64,
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
    pub(super) vectors: BTreeSet<u64>,
}

pub(super) fn version_path(dir: &Path, commit: u64) -> PathBuf {
    dir.join(format!("version-{commit:010}.manifest"))
}

/// The commit in the name of a kept version's manifest, if [`version_path`] would give it this very name.
fn commit_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?;
    let commit = name.to_str()?.strip_prefix("version-")?.strip_suffix(".manifest")?.parse().ok()?;
    (version_path(Path::new(""), commit).as_os_str() == name).then_some(commit)
}

/// The manifest that a kept version's name promises: a file that was renamed or copied is no version of that number.
///
/// # Errors
/// [`WarehouseError::Misnamed`]; else as [`Manifest::read_file`].
pub(super) fn read_kept(storage: &dyn Storage, dir: &Path, commit: u64) -> Result<Manifest, WarehouseError> {
    let path = version_path(dir, commit);
    let manifest = Manifest::read_file(storage, &path)?;
    if manifest.commit == commit {
        return Ok(manifest);
    }
    Err(WarehouseError::Misnamed { path, named: commit, holds: manifest.commit })
}

/// Looks for a kept version that is newer than `current`, the folder's own commit. There is none, unless an older manifest
/// was put in the place of the newest, or a writer went on meanwhile. A file that is none by its content is named itself.
pub(super) fn check_newest(
    storage: &dyn Storage,
    dir: &Path,
    files: &[PathBuf],
    current: u64,
) -> Result<(), WarehouseError> {
    let later = |path: &&PathBuf| commit_of(path).is_some_and(|commit| commit > current);
    let Some((beyond, commit)) = files.iter().find(later).and_then(|path| Some((path, commit_of(path)?))) else {
        return Ok(());
    };
    read_kept(storage, dir, commit)?;
    let name = beyond.file_name().unwrap_or_default().display();
    let what =
        format!("it is of commit {current}, and {name} is of a later one: an older manifest was put in its place");
    Err(WarehouseError::corrupt(&manifest_path(dir), what))
}

pub(super) fn list(storage: &dyn Storage, dir: &Path) -> Result<Vec<PathBuf>, WarehouseError> {
    storage.list(dir).map_err(WarehouseError::io("list", dir))
}

/// The files with deletion vectors that a manifest names.
pub(super) fn vectors_of(manifest: &Manifest) -> BTreeSet<u64> {
    manifest.tables.iter().flatten().filter_map(|entry| Some(entry.deleted.as_ref()?.file)).collect()
}

/// The commits before `current` that have a manifest of their own, ascending.
fn kept_commits(files: &[PathBuf], current: u64) -> Vec<u64> {
    let mut commits: Vec<u64> = files.iter().filter_map(|path| commit_of(path)).filter(|&at| at < current).collect();
    commits.sort_unstable();
    commits
}

impl Manifest {
    fn info(&self, is_current: bool) -> VersionInfo {
        let deleted = |of: fn(&DeletedEntry) -> u64| {
            let entries = self.tables.iter().flatten().filter_map(|entry| entry.deleted.as_ref());
            entries.map(of).fold(0, u64::saturating_add)
        };
        let sum = |of: fn(&SegmentEntry) -> u64| self.tables.iter().flatten().map(of).fold(0, u64::saturating_add);
        VersionInfo {
            commit: self.commit,
            watermark: Lsn(self.watermark),
            committed_at_us: (self.committed_at_us > 0).then_some(self.committed_at_us),
            rows: sum(|entry| entry.rows).saturating_sub(deleted(|entry| entry.rows)),
            bytes: sum(|entry| entry.bytes).saturating_add(deleted(|entry| entry.bytes)),
            is_current,
        }
    }
}

/// All manifests of a folder, the oldest version first, the newest last. Right while a writer works: what it takes away
/// meanwhile is left out, and so is an older version whose manifest is damaged.
pub(super) fn manifests(storage: &dyn Storage, dir: &Path) -> Result<Vec<Manifest>, WarehouseError> {
    let current = with_manifest(storage, dir, None, |manifest| Ok(manifest.clone()))?;
    let mut all = Vec::new();
    for (commit, _) in kept_manifests(storage, dir, current.commit)? {
        match read_kept(storage, dir, commit) {
            Ok(manifest) => all.push(manifest),
            Err(WarehouseError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => {}
            Err(WarehouseError::Corrupt { .. } | WarehouseError::Columnar { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    all.push(current);
    Ok(all)
}

/// The commits before `current` that are kept and their manifests' files, ascending.
pub(super) fn kept_manifests(
    storage: &dyn Storage,
    dir: &Path,
    current: u64,
) -> Result<Vec<(u64, PathBuf)>, WarehouseError> {
    let files = list(storage, dir)?;
    Ok(kept_commits(&files, current).into_iter().map(|commit| (commit, version_path(dir, commit))).collect())
}

/// The versions that can be read, the oldest first, also while a writer works. One that is kept and whose manifest is
/// damaged is left out; [`super::verify()`] names it.
///
/// # Errors
/// When there is no warehouse, its manifest can't be read or is damaged, or a kept version goes by another's number.
pub fn versions(dir: &Path) -> Result<Vec<VersionInfo>, WarehouseError> {
    let all = manifests(&crate::storage::Disk, dir)?;
    let last = all.len().saturating_sub(1);
    Ok(all.iter().enumerate().map(|(place, manifest)| manifest.info(place == last)).collect())
}

/// The manifest of the version wanted.
pub(super) fn find(storage: &dyn Storage, dir: &Path, at: VersionAt) -> Result<Manifest, WarehouseError> {
    if let VersionAt::Commit(commit) = at {
        match read_kept(storage, dir, commit) {
            Err(WarehouseError::Io { cause, .. }) if cause.kind() == ErrorKind::NotFound => {}
            found => return found,
        }
    }
    let all = manifests(storage, dir)?;
    let fits = |manifest: &&Manifest| match at {
        VersionAt::Commit(commit) => manifest.commit == commit,
        VersionAt::Watermark(lsn) => manifest.watermark <= lsn.0,
    };
    match all.iter().rev().find(fits) {
        Some(manifest) => Ok(manifest.clone()),
        None => {
            let kept = all.iter().map(|manifest| manifest.commit).collect();
            Err(WarehouseError::NoVersion { path: dir.to_owned(), asked: at.to_string(), kept })
        }
    }
}

/// What the writer does first: reads the manifest, makes sure of it, and removes what no version to be kept needs.
///
/// Whether the last rename reached the disk may be unknown: the one who did it may have died before the folder's fsync,
/// or that fsync failed. So what was found is made durable before anything goes that another outcome would need.
pub(super) fn settle(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    versions_kept: usize,
    written: &Written,
) -> Result<(Manifest, Vec<Kept>), WarehouseError> {
    let mut manifest = Manifest::read(&**storage, dir)?;
    if !storage.plants(Mistake::GuessedAtOpening) {
        sync_folder(&**storage, dir, written)?;
    }
    let files = list(&**storage, dir)?;
    // What a later version names would be taken for leftovers of a crash.
    check_newest(&**storage, dir, &files, manifest.commit)?;
    let mut commits = kept_commits(&files, manifest.commit);
    let kept_commits = commits.split_off(commits.len().saturating_sub(versions_kept.saturating_sub(1)));
    let is_expired = |path: &&PathBuf| commit_of(path).is_some_and(|commit| !kept_commits.contains(&commit));
    let mut expired = 0;
    for path in files.iter().filter(is_expired) {
        remove(&**storage, path)?;
        expired += 1;
    }
    if expired > 0 {
        sync_folder(&**storage, dir, written)?;
    }
    let (mut kept, mut all_known) = (Vec::with_capacity(kept_commits.len()), true);
    for commit in kept_commits {
        match read_kept(&**storage, dir, commit).and_then(|old| kept_of(storage, dir, &old)) {
            Ok(version) => kept.push(version),
            Err(error @ (WarehouseError::Io { .. } | WarehouseError::Misnamed { .. })) => return Err(error),
            // What a damaged manifest names is not known, so nothing is removed on a guess.
            Err(_) => all_known = false,
        }
    }
    if all_known {
        remove_orphans(&**storage, dir, &files, &manifest, &kept)?;
    }
    // Where orphans had to stay, their numbers are taken.
    manifest.next_file = files
        .iter()
        .filter_map(|path| file_number(path))
        .map(|number| number.saturating_add(1))
        .fold(manifest.next_file, u64::max);
    Ok((manifest, kept))
}

/// The number in the name of a segment or a file of deletion vectors.
fn file_number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let number = |prefix, suffix| name.strip_prefix(prefix)?.strip_suffix(suffix);
    number("segment-", ".parquet").or_else(|| number("deleted-", ".bin"))?.parse().ok()
}

fn kept_of(storage: &Arc<dyn Storage>, dir: &Path, manifest: &Manifest) -> Result<Kept, WarehouseError> {
    let mut segments = BTreeMap::new();
    for entry in manifest.tables.iter().flatten() {
        segments.insert(entry.file, Arc::new(Segment::of_entry(storage, dir, entry)?));
    }
    Ok(Kept { commit: manifest.commit, segments, vectors: vectors_of(manifest) })
}

/// Removes every file of the warehouse's kind that no version names: what a crash left behind.
pub(super) fn remove_orphans(
    storage: &dyn Storage,
    dir: &Path,
    files: &[PathBuf],
    manifest: &Manifest,
    kept: &[Kept],
) -> Result<(), WarehouseError> {
    let mut named: BTreeSet<PathBuf> =
        manifest.tables.iter().flatten().map(|entry| segment_path(dir, entry.file)).collect();
    named.extend(vectors_of(manifest).iter().map(|&file| deletions_path(dir, file)));
    for version in kept {
        named.extend(version.segments.keys().map(|&id| segment_path(dir, id)));
        named.extend(version.vectors.iter().map(|&file| deletions_path(dir, file)));
    }
    for path in files {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let ours = (name.starts_with("segment-") && name.ends_with(".parquet"))
            || (name.starts_with("deleted-") && name.ends_with(".bin"))
            || *path == temporary_path(dir);
        if ours && !named.contains(path) {
            remove(storage, path)?;
        }
    }
    Ok(())
}

fn remove(storage: &dyn Storage, path: &Path) -> Result<(), WarehouseError> {
    match storage.remove(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(WarehouseError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Gives the folder's manifest the name of its version, so that it outlives its replacement.
pub(super) fn keep_manifest(storage: &dyn Storage, dir: &Path, commit: u64) -> Result<(), WarehouseError> {
    let path = version_path(dir, commit);
    match storage.link(&manifest_path(dir), &path) {
        // Left by an attempt at this very commit that failed later.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome.map_err(WarehouseError::io("link", &path)),
    }
}

/// Takes expired versions' manifests away, durably. `false`: they may still be there, and so must their files be.
pub(super) fn forget(storage: &dyn Storage, dir: &Path, expired: &[Kept], written: &Written) -> bool {
    let removed = expired.iter().all(|version| remove(storage, &version_path(dir, version.commit)).is_ok());
    removed && sync_folder(storage, dir, written).is_ok()
}
