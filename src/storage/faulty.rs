//! A file system for tests that counts its steps, lets one of them fail, and knows what a power cut leaves.
//!
//! It works on a real folder. Beside it, it keeps what POSIX promises to be on the disk: of a file what was there at its
//! last fsync, of a folder the names that were there at its last fsync. A failed fsync loses for good what it was to save,
//! as Linux does: a later fsync of the same file says yes and saves nothing.

use super::{Disk, Mistake, ReadFile, SegmentFile, Storage};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// How a step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The device fails.
    Eio,
    /// The device fails, and later the power does.
    EioThenPowerCut,
    /// The disk is full.
    Enospc,
    /// A write gets half of its bytes to the file, and then the disk is full.
    ShortWrite,
    /// The process is killed: half of a write happens, and nothing more.
    Kill,
    /// The power is cut: what was not fsynced is lost.
    PowerCut,
    /// The power is cut: of what was not fsynced some is there and some is not, name by name.
    PowerCutPartly,
    /// The process is killed, the next one opens what it left, and then the power is cut as before.
    KillThenPowerCut,
}

impl Fault {
    pub(crate) const ALL: [Fault; 8] = [
        Fault::Eio,
        Fault::EioThenPowerCut,
        Fault::Enospc,
        Fault::ShortWrite,
        Fault::Kill,
        Fault::PowerCut,
        Fault::PowerCutPartly,
        Fault::KillThenPowerCut,
    ];

    /// Whether nothing happens any more after it.
    pub(crate) fn ends_all(self) -> bool {
        matches!(self, Fault::Kill | Fault::PowerCut | Fault::PowerCutPartly | Fault::KillThenPowerCut)
    }

    fn cuts_power(self) -> bool {
        matches!(self, Fault::EioThenPowerCut | Fault::PowerCut) || self.is_partly()
    }

    fn is_partly(self) -> bool {
        matches!(self, Fault::PowerCutPartly | Fault::KillThenPowerCut)
    }
}

/// A file's bytes, now and on the disk.
#[derive(Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    /// An fsync failed: what was not durable then never will be.
    lost: bool,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Each step so far, as "operation file".
    trace: Vec<String>,
    fault: Option<(usize, Fault)>,
    mistake: Option<Mistake>,
    is_dead: bool,
}

impl State {
    /// What an fsync of a file leaves. One that the end of everything cut off has failed nobody: the bytes are still on
    /// their way, and a power cut may keep some of them.
    fn synced(&mut self, inode: usize, is_done: bool) {
        let inode = &mut self.inodes[inode];
        if !is_done {
            inode.lost |= !self.is_dead;
        } else if !inode.lost {
            inode.durable.clone_from(&inode.content);
        }
    }
}

/// See the module. Clones share everything.
#[derive(Clone)]
pub(crate) struct FaultyDisk(Arc<Mutex<State>>);

struct FaultyFile {
    disk: FaultyDisk,
    file: Box<dyn SegmentFile>,
    inode: usize,
    path: PathBuf,
    appended: usize,
}

impl FaultyFile {
    /// How many bytes of a write get to the file.
    fn share(outcome: Result<(), Fault>, bytes: usize) -> usize {
        match outcome {
            Ok(()) => bytes,
            Err(Fault::ShortWrite | Fault::Kill | Fault::KillThenPowerCut) => bytes / 2,
            // How much of it came to the disk is settled later, as for all that was not fsynced.
            Err(Fault::PowerCutPartly) => bytes,
            Err(_) => 0,
        }
    }
}

struct FaultyRead {
    disk: FaultyDisk,
    file: Box<dyn ReadFile>,
    path: PathBuf,
}

fn error(fault: Fault) -> io::Error {
    io::Error::from_raw_os_error(if matches!(fault, Fault::Enospc | Fault::ShortWrite) { 28 } else { 5 })
}

impl FaultyDisk {
    /// Step `fault.0`, counted from 0, ends as `fault.1` says.
    pub(crate) fn new(fault: Option<(usize, Fault)>, mistake: Option<Mistake>) -> FaultyDisk {
        FaultyDisk(Arc::new(Mutex::new(State { fault, mistake, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The steps so far.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// Whether nothing happens any more.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    /// The next process begins, on the same system.
    pub(crate) fn revive(&self) {
        self.state().is_dead = false;
    }

    /// The step that the fault hit, if it came to that.
    pub(crate) fn hit(&self) -> Option<String> {
        let state = self.state();
        state.fault.and_then(|(step, _)| state.trace.get(step).cloned())
    }

    /// Counts a step and says how it ends.
    fn step(&self, operation: &str, path: &Path) -> Result<(), Fault> {
        let mut state = self.state();
        if state.is_dead {
            return Err(Fault::Eio);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        state.trace.push(format!("{operation} {name}"));
        match state.fault {
            Some((step, fault)) if step + 1 == state.trace.len() => {
                state.is_dead = fault.ends_all();
                Err(fault)
            }
            _ => Ok(()),
        }
    }

    fn simple(&self, operation: &str, path: &Path) -> io::Result<()> {
        self.step(operation, path).map_err(error)
    }

    fn created(&self, path: &Path, file: Box<dyn SegmentFile>) -> Box<dyn SegmentFile> {
        let mut state = self.state();
        state.inodes.push(Inode::default());
        let inode = state.inodes.len() - 1;
        state.names.insert(path.to_owned(), inode);
        drop(state);
        Box::new(FaultyFile { disk: self.clone(), file, inode, path: path.to_owned(), appended: 0 })
    }

    /// After the fault: makes `folder` what is found when the machine runs again. `random` decides what a power cut keeps.
    pub(crate) fn settle(&self, folder: &Path, mut random: impl FnMut() -> u64) {
        let state = self.state();
        let Some((_, fault)) = state.fault else { return };
        if !fault.cuts_power() {
            return;
        }
        let partly = fault.is_partly();
        let is_here = |path: &&PathBuf| path.parent() == Some(folder);
        let mut after = BTreeMap::new();
        for path in state.names.keys().chain(state.durable_names.keys()).filter(is_here) {
            let (now, durable) = (state.names.get(path), state.durable_names.get(path));
            let inode = if partly && random().is_multiple_of(2) { now } else { durable };
            inode.map(|inode| after.insert(path.clone(), *inode));
        }
        for path in state.names.keys().filter(is_here) {
            let _ = fs::remove_file(path);
        }
        for (path, inode) in after {
            let Inode { content, durable, lost } = &state.inodes[inode];
            let mut kept = durable.clone();
            if partly && !lost && content != durable {
                // Of what was written since the last fsync a first part may be there, or any blocks.
                let same = content.iter().zip(durable).take_while(|(now, then)| now == then).count();
                let first = same + (random() as usize) % (content.len() - same + 1);
                let mut keep = |from: usize, to: usize| {
                    kept.resize(kept.len().max(to), 0);
                    kept[from..to].copy_from_slice(&content[from..to]);
                };
                if random().is_multiple_of(2) {
                    keep(0, first);
                } else {
                    let blocks = (0..content.len()).step_by(512).filter(|_| random().is_multiple_of(2));
                    blocks.for_each(|from| keep(from, content.len().min(from + 512)));
                }
            }
            fs::write(path, kept).unwrap();
        }
    }
}

impl SegmentFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let outcome = self.disk.step("write", &self.path);
        let count = FaultyFile::share(outcome, bytes.len());
        self.file.append(&bytes[..count])?;
        let end = self.appended + count;
        let content = &mut self.disk.state().inodes[self.inode].content;
        content.resize(content.len().max(end), 0);
        content[self.appended..end].copy_from_slice(&bytes[..count]);
        self.appended = end;
        outcome.map_err(error)
    }

    fn prepare(&mut self, bytes: usize) -> io::Result<()> {
        let outcome = self.disk.step("prepare", &self.path);
        let count = FaultyFile::share(outcome, bytes);
        self.file.prepare(count)?;
        let content = &mut self.disk.state().inodes[self.inode].content;
        content.resize(content.len().max(self.appended + count), 0);
        outcome.map_err(error)
    }

    fn sync(&mut self) -> io::Result<()> {
        let outcome = self.disk.step("fsync", &self.path);
        self.disk.state().synced(self.inode, outcome.is_ok());
        outcome.map_err(error)
    }
}

impl ReadFile for FaultyRead {
    fn bytes(&self) -> io::Result<u64> {
        self.disk.simple("length of", &self.path)?;
        self.file.bytes()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.simple("read", &self.path)?;
        self.file.read_exact_at(buffer, offset)
    }
}

impl Storage for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        self.simple("create", path)?;
        Ok(self.created(path, Disk.create(path)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        self.simple("create", path)?;
        Ok(self.created(path, Disk.create_new(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.simple("rename", from)?;
        Disk.rename(from, to)?;
        let mut state = self.state();
        if let Some(inode) = state.names.remove(from) {
            state.names.insert(to.to_owned(), inode);
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.simple("link", to)?;
        Disk.link(from, to)?;
        let mut state = self.state();
        if let Some(inode) = state.names.get(from).copied() {
            state.names.insert(to.to_owned(), inode);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.simple("remove", path)?;
        Disk.remove(path)?;
        self.state().names.remove(path);
        Ok(())
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.simple("truncate", path)?;
        Disk.truncate(path, bytes)?;
        let mut state = self.state();
        if let Some(inode) = state.names.get(path).copied() {
            let inode = &mut state.inodes[inode];
            inode.content.truncate(bytes as usize);
            inode.durable.truncate(bytes as usize);
            if !inode.lost {
                inode.durable.clone_from(&inode.content);
            }
        }
        Ok(())
    }

    fn rewrite(&self, path: &Path, from: u64) -> io::Result<()> {
        self.simple(&format!("rewrite from {from}"), path)?;
        Disk.rewrite(path, from)?;
        let mut state = self.state();
        if let Some(inode) = state.names.get(path).copied() {
            let inode = &mut state.inodes[inode];
            // What is missing before `from` stays missing.
            inode.lost &= inode.durable.get(..from as usize) != inode.content.get(..from as usize);
        }
        Ok(())
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let outcome = self.step("fsync", path);
        let mut state = self.state();
        if let Some(inode) = state.names.get(path).copied() {
            state.synced(inode, outcome.is_ok());
        }
        outcome.map_err(error)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.simple("fsync folder", folder)?;
        let mut state = self.state();
        let State { names, durable_names, .. } = &mut *state;
        durable_names.retain(|path, _| path.parent() != Some(folder));
        let here = names.iter().filter(|(path, _)| path.parent() == Some(folder));
        durable_names.extend(here.map(|(path, inode)| (path.clone(), *inode)));
        Ok(())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.simple("create folder", path)?;
        Disk.create_folder(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        self.simple("open", path)?;
        let file = Disk.open(path)?;
        Ok(Box::new(FaultyRead { disk: self.clone(), file, path: path.to_owned() }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.simple("list", folder)?;
        Disk.list(folder)
    }

    fn plants(&self, mistake: Mistake) -> bool {
        self.state().mistake == Some(mistake)
    }
}
