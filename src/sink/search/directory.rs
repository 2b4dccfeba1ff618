//! The folder of a generation as tantivy sees it: files are synced at a checkpoint, not when they are closed.
//!
//! Tantivy's own directory syncs every file at once, and the folder *before* it renames `meta.json`, so its commits are
//! slow and not durable all the same. Here `meta.json` lives in memory between checkpoints. The files which the one on
//! disk names are *held*: asked to delete one, the directory waits until a checkpoint has replaced that `meta.json`.

use crate::storage::private;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tantivy::Directory;
use tantivy::directory::error::{DeleteError, LockError, OpenDirectoryError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, DirectoryLock, FileHandle, Lock, MmapDirectory, TerminatingWrite, WatchCallback, WatchHandle,
    WritePtr,
};

const META: &str = "meta.json";
/// The field of `meta.json` that says of which generation it is.
const GENERATION: &str = "freshbench_generation";
const MANAGED: &str = ".managed.json";

/// Counts what reached files. Writers on several threads add to it.
#[derive(Debug, Default)]
pub(super) struct Written {
    bytes: AtomicU64,
    bytes_merged: AtomicU64,
    files: AtomicU64,
    fsyncs: AtomicU64,
}

impl Written {
    /// One more file, of so many bytes so far.
    pub(super) fn file(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// One fsync.
    pub(super) fn synced(&self) {
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes, those of them that merges wrote, files, and fsyncs.
    pub(super) fn counts(&self) -> [u64; 4] {
        [&self.bytes, &self.bytes_merged, &self.files, &self.fsyncs].map(|count| count.load(Ordering::Relaxed))
    }
}

/// Makes a folder's entries durable.
pub(super) fn sync_folder(dir: &Path, written: &Written) -> io::Result<()> {
    File::open(dir)?.sync_all()?;
    written.synced();
    Ok(())
}

#[derive(Debug, Default)]
struct State {
    meta: Option<Vec<u8>>,
    managed: Option<Vec<u8>>,
    /// Files that tantivy wrote and did not ask to delete.
    live: BTreeSet<PathBuf>,
    /// Those that are closed and not synced.
    unsynced: BTreeSet<PathBuf>,
    /// Files that the `meta.json` on disk may name.
    held: BTreeSet<PathBuf>,
    /// Files to delete that are held.
    condemned: BTreeSet<PathBuf>,
}

/// See the module. Clones are the same directory.
#[derive(Clone, Debug)]
pub(super) struct SearchDirectory {
    dir: PathBuf,
    inner: MmapDirectory,
    state: Arc<Mutex<State>>,
    written: Arc<Written>,
}

impl SearchDirectory {
    /// The directory of a generation, as the last checkpoint left it. Nothing is held yet: first comes the collection
    /// of orphans, then [`SearchDirectory::hold`].
    pub(super) fn open(dir: &Path, written: Arc<Written>) -> io::Result<SearchDirectory> {
        let inner = MmapDirectory::open(dir).map_err(|error| match error {
            OpenDirectoryError::DoesNotExist(_) => io::Error::from(io::ErrorKind::NotFound),
            other => io::Error::other(other),
        })?;
        let mut state = State::default();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            if name == OsStr::new(META) {
                state.meta = Some(fs::read(dir.join(META))?);
            } else if !name.to_string_lossy().starts_with('.') {
                state.live.insert(PathBuf::from(name));
            }
        }
        // Tantivy collects only files of this list. Every file here is its own, the orphans of a crash among them.
        let files: BTreeSet<&Path> = state.live.iter().map(PathBuf::as_path).chain([Path::new(META)]).collect();
        state.managed = Some(serde_json::to_vec(&files)?);
        Ok(SearchDirectory { dir: dir.to_owned(), inner, state: Arc::new(Mutex::new(state)), written })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds every file there is, for the `meta.json` on disk.
    pub(super) fn hold(&self) {
        let mut state = self.state();
        state.held = state.live.clone();
    }

    /// The generation that `meta.json` says it is of.
    pub(super) fn generation(&self) -> io::Result<Option<u64>> {
        let state = self.state();
        state.meta.as_deref().map_or(Ok(None), generation_of)
    }

    /// The watermark in `meta.json`.
    pub(super) fn watermark(&self) -> io::Result<u64> {
        let state = self.state();
        watermark_of(state.meta.as_deref().unwrap_or_default())
    }

    /// Makes what `meta.json` names now durable, complete through `watermark`.
    ///
    /// # Errors
    /// It is then open what is durable.
    pub(super) fn checkpoint(&self, watermark: u64) -> io::Result<()> {
        let (meta, unsynced, named) = {
            let mut state = self.state();
            let meta = state.meta.clone().ok_or_else(|| io::Error::other("there is no meta.json"))?;
            // Merges go on meanwhile: what they drop may be what this meta.json names.
            let named = state.live.clone();
            state.held.extend(named.iter().cloned());
            (meta, std::mem::take(&mut state.unsynced), named)
        };
        let meta = with_watermark(&meta, watermark, generation_in_name(&self.dir))?;
        for path in &unsynced {
            File::open(self.dir.join(path))?.sync_all()?;
            self.written.synced();
        }
        let temporary = self.dir.join("meta.json.new");
        let mut file = private::create(&temporary)?;
        file.write_all(&meta)?;
        file.sync_all()?;
        self.written.file(meta.len() as u64);
        self.written.synced();
        sync_folder(&self.dir, &self.written)?;
        fs::rename(&temporary, self.dir.join(META))?;
        sync_folder(&self.dir, &self.written)?;
        let mut state = self.state();
        let (keep, gone) = std::mem::take(&mut state.condemned).into_iter().partition(|path| named.contains(path));
        state.condemned = keep;
        state.held = named;
        drop(state);
        let gone: BTreeSet<PathBuf> = gone;
        gone.iter().try_for_each(|path| remove(&self.dir.join(path)))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The watermark in a `meta.json`: its payload, in decimal digits.
pub(super) fn watermark_of(meta: &[u8]) -> io::Result<u64> {
    let meta: serde_json::Value = serde_json::from_slice(meta)?;
    let payload = meta.get("payload").and_then(|payload| payload.as_str());
    let watermark = payload.and_then(|payload| payload.parse().ok());
    watermark.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "meta.json names no watermark"))
}

/// The number in the name of a generation's folder.
pub(super) fn generation_in_name(dir: &Path) -> Option<u64> {
    dir.file_name()?.to_str()?.strip_prefix("generation-")?.parse().ok()
}

/// The generation that a `meta.json` is of; older builds did not write it, and tantivy passes over it.
pub(super) fn generation_of(meta: &[u8]) -> io::Result<Option<u64>> {
    let meta: serde_json::Value = serde_json::from_slice(meta)?;
    Ok(meta.get(GENERATION).and_then(serde_json::Value::as_u64))
}

fn with_watermark(meta: &[u8], watermark: u64, generation: Option<u64>) -> io::Result<Vec<u8>> {
    let mut meta: serde_json::Value = serde_json::from_slice(meta)?;
    let fields = meta.as_object_mut().ok_or_else(|| io::Error::other("meta.json is no object"))?;
    fields.insert("payload".to_owned(), watermark.to_string().into());
    if let Some(generation) = generation {
        fields.insert(GENERATION.to_owned(), generation.into());
    }
    Ok(serde_json::to_vec(&meta)?)
}

/// A file that tantivy writes.
struct Writer {
    file: File,
    path: PathBuf,
    directory: SearchDirectory,
    merge: bool,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        let written = &self.directory.written;
        written.bytes.fetch_add(count as u64, Ordering::Relaxed);
        if self.merge {
            written.bytes_merged.fetch_add(count as u64, Ordering::Relaxed);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl TerminatingWrite for Writer {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.file.flush()?;
        let mut state = self.directory.state();
        if state.live.contains(&self.path) {
            state.unsynced.insert(self.path.clone());
        }
        Ok(())
    }
}

impl Directory for SearchDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.inner.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        let mut state = self.state();
        state.live.remove(path);
        if state.held.contains(path) {
            state.condemned.insert(path.to_owned());
            return Ok(());
        }
        state.unsynced.remove(path);
        self.inner.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        if path == Path::new(META) { Ok(self.state().meta.is_some()) } else { self.inner.exists(path) }
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let file = private::create_new(&self.dir.join(path)).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => OpenWriteError::FileAlreadyExists(path.to_owned()),
            _ => OpenWriteError::wrap_io_error(error, path.to_owned()),
        })?;
        self.written.file(0);
        self.state().live.insert(path.to_owned());
        // Only merges run on threads of this name.
        let merge = std::thread::current().name().is_some_and(|name| name.starts_with("merge_thread"));
        let writer = Writer { file, path: path.to_owned(), directory: self.clone(), merge };
        Ok(BufWriter::new(Box::new(writer)))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let state = self.state();
        let content = match path.to_str() {
            Some(META) => state.meta.clone(),
            Some(MANAGED) => state.managed.clone(),
            _ => return self.inner.atomic_read(path),
        };
        content.ok_or_else(|| OpenReadError::FileDoesNotExist(path.to_owned()))
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        match path.to_str() {
            Some(META) => state.meta = Some(data.to_vec()),
            Some(MANAGED) => state.managed = Some(data.to_vec()),
            _ => return self.inner.atomic_write(path, data),
        }
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        // tantivy makes the file as the umask has it, and follows a link; it is here first.
        private::to_write()
            .create(true)
            .truncate(false)
            .open(self.dir.join(&lock.filepath))
            .map_err(|cause| LockError::IoError(Arc::new(cause)))?;
        self.inner.acquire_lock(lock)
    }

    fn watch(&self, watch_callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.inner.watch(watch_callback)
    }
}
