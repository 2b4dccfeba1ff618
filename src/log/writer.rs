//! The writer: buffered appends, group commit, new segments, retention.

use super::active::{Active, begin_segment, create_folder};
use super::error::LogError;
use super::frame::{FRAME_HEADER_BYTES, FrameHead, flag, push_frame};
use super::options::{Fsync, LogCounters, LogOptions};
use super::reader::LogReader;
use super::recovery::{Recovery, recover};
use super::segment::{IndexEntry, Segment};
use super::shared::{LogHandle, Shared};
use super::storage::{Disk, LockFault, Storage, lock};
use super::{Offset, Record, RecordKind};
use crate::model::{Moment, Transaction};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The one writer of a log.
///
/// Guarantees:
/// * [`Log::append`] only buffers (and writes when the buffer is full): a record is acknowledged, and visible to
///   readers, by the [`Log::sync`] after it. With [`Fsync::Always`] it is durable by then.
/// * Records become visible and durable in order; a reader or a recovery sees whole records only.
/// * After a failed write or fsync nothing more becomes visible; every further call fails with
///   [`LogError::Poisoned`]. What was appended since the last sync has then an unknown outcome: opening the log again
///   finds some first part of it.
/// * Dropped without [`Log::close`], it forgets what was appended since the last sync, like a killed process.
pub struct Log {
    shared: Arc<Shared>,
    folder: PathBuf,
    options: LogOptions,
    storage: Box<dyn Storage>,
    epoch: u32,
    active: Active,
    /// Segments filled since the last sync.
    filled: Vec<Segment>,
    /// Segments that retention gave up and that are not yet deleted.
    doomed: VecDeque<PathBuf>,
    pending: Vec<u8>,
    /// The offset of the next record.
    next: u64,
    /// All records below this offset are durable.
    synced: u64,
    last_lsn: Option<u64>,
    synced_at: Moment,
    failure: Option<(&'static str, PathBuf, Arc<io::Error>)>,
    counters: LogCounters,
    _lock: File,
}

impl Log {
    /// Opens the log in `folder`, or begins one there, and checks all of it. A torn tail is cut off and reported.
    /// Begins a new segment with a new epoch: no frame of an earlier opening can be taken for one of this.
    ///
    /// # Errors
    /// [`LogError::Locked`] when another writer has it open; [`LogError::Damaged`] naming file and byte;
    /// [`LogError::BadOption`], [`LogError::UnknownVersion`], [`LogError::Io`].
    pub fn open(folder: impl AsRef<Path>, options: LogOptions) -> Result<(Log, Recovery), LogError> {
        Log::open_on(folder.as_ref(), options, Box::new(Disk))
    }

    pub(super) fn open_on(
        folder: &Path,
        options: LogOptions,
        storage: Box<dyn Storage>,
    ) -> Result<(Log, Recovery), LogError> {
        options.check()?;
        create_folder(folder, &*storage)?;
        let lock = lock(&folder.join("writer.lock")).map_err(|fault| match fault {
            LockFault::Held { path, holder } => LogError::Locked { path, holder },
            LockFault::Io { operation, path, cause } => LogError::io(operation, &path, None, cause),
        })?;
        let (mut segments, recovery) = recover(folder, &*storage)?;
        if segments.last().is_some_and(|last| last.next == last.header.base) {
            segments.pop(); // The new segment has its name and takes its place.
        }
        let next = recovery.next.0;
        let mut counters = LogCounters::default();
        let active = begin_segment(folder, &*storage, &options, (recovery.epoch, next), &mut counters)?;
        segments.push(active.segment.clone());
        let log = Log {
            shared: Arc::new(Shared::new(segments, options.transaction_bytes_max)),
            folder: folder.to_path_buf(),
            storage,
            epoch: recovery.epoch,
            active,
            filled: Vec::new(),
            doomed: VecDeque::new(),
            pending: Vec::with_capacity(options.buffer_bytes_max.min(1 << 20)),
            next,
            synced: next,
            last_lsn: recovery.last_lsn.map(|lsn| lsn.0),
            synced_at: options.clock.now(),
            failure: None,
            counters,
            options,
            _lock: lock,
        };
        Ok((log, recovery))
    }

    /// Appends one record to the buffer; it is copied once. Gives its offset.
    ///
    /// # Errors
    /// [`LogError::TooLong`] and [`LogError::OutOfOrder`], which leave the log as it was; [`LogError::Io`] from a full
    /// buffer's write; [`LogError::Poisoned`].
    #[inline]
    pub fn append(&mut self, record: &Record<'_>) -> Result<Offset, LogError> {
        if self.failure.is_some() {
            return Err(self.poisoned());
        }
        if let Some(last) = self.last_lsn
            && record.lsn.0 < last
        {
            return Err(LogError::OutOfOrder { last: crate::model::Lsn(last), refused: record.lsn });
        }
        let bytes = self.framed_bytes(record.payload.len())?;
        let at = self.active.written + self.pending.len() as u64;
        if at + bytes > self.options.segment_bytes_max && self.next > self.active.segment.header.base {
            self.roll()?;
        }
        let position = self.active.written + self.pending.len() as u64;
        let entry = IndexEntry { offset: self.next, lsn: record.lsn.0, position };
        Segment::note(&mut self.active.segment.index, &mut self.active.noted_at, entry);
        self.push_frames(record)?;
        let offset = Offset(self.next);
        self.next += 1;
        self.last_lsn = Some(record.lsn.0);
        self.counters.records += 1;
        Ok(offset)
    }

    /// Appends one transaction; see [`Log::append`].
    ///
    /// # Errors
    /// As for [`Log::append`].
    #[inline]
    pub fn append_transaction(&mut self, transaction: &Transaction) -> Result<Offset, LogError> {
        self.append(&Record {
            lsn: transaction.lsn,
            committed_at: transaction.committed_at,
            kind: RecordKind::Transaction,
            payload: transaction.changes.as_bytes(),
        })
    }

    /// Group commit: writes what was appended, fsyncs as the policy says, then lets readers see it. Gives the offset
    /// behind the last visible record. Free when nothing is new.
    ///
    /// # Errors
    /// [`LogError::Io`] the first time, [`LogError::Poisoned`] ever after; nothing new became visible.
    pub fn sync(&mut self) -> Result<Offset, LogError> {
        let is_due = match self.options.fsync {
            Fsync::Always => true,
            Fsync::None => false,
            Fsync::Interval(every) => self.options.clock.now().since(self.synced_at) >= every,
        };
        self.commit(is_due)
    }

    /// As [`Log::sync`], and fsyncs whatever the policy: what was appended is durable afterwards.
    ///
    /// # Errors
    /// As for [`Log::sync`].
    pub fn sync_durable(&mut self) -> Result<Offset, LogError> {
        self.commit(true)
    }

    /// Makes everything durable, cuts off what was prepared and lets go of the log.
    ///
    /// # Errors
    /// As for [`Log::sync`].
    pub fn close(mut self) -> Result<Offset, LogError> {
        self.options.prepared_bytes_max = 0;
        let next = self.sync_durable()?;
        self.cut_prepared()?;
        Ok(next)
    }

    /// A reader that begins with record `from`; see [`LogHandle::reader`].
    ///
    /// # Errors
    /// As for [`LogHandle::reader`].
    pub fn reader(&self, from: Offset) -> Result<LogReader, LogError> {
        self.handle().reader(from)
    }

    /// For other threads: opens readers, tells how far the log is.
    pub fn handle(&self) -> LogHandle {
        LogHandle { shared: Arc::clone(&self.shared) }
    }

    /// The offset of the next record to be appended.
    pub fn next_offset(&self) -> Offset {
        Offset(self.next)
    }

    /// The offset behind the last record that is durable.
    pub fn durable_offset(&self) -> Offset {
        Offset(self.shared.durable())
    }

    /// What was done since the log was opened.
    pub fn counters(&self) -> LogCounters {
        self.counters
    }

    /// Retention: deletes the segments whose records are all below `offset`, the lowest watermark of all consumers.
    /// The segment being written stays, always. Gives the lowest offset left.
    ///
    /// # Errors
    /// [`LogError::Io`]; readers are refused what was given up, and the next call deletes what this one could not.
    pub fn retain_from(&mut self, offset: Offset) -> Result<Offset, LogError> {
        let lowest = {
            // Out of the readers' sight first; they open files under this lock.
            let mut state = self.shared.lock();
            while let Some(segment) = state.pop_below(offset.0) {
                self.doomed.push_back(segment.path);
            }
            state.lowest()
        };
        while let Some(path) = self.doomed.front() {
            // One by one, in order and each durable, so that neither a power cut nor an error leaves a gap.
            match self.storage.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(LogError::io("delete", path, None, error));
                }
                _ => {}
            }
            self.storage.sync_folder(&self.folder).map_err(|error| LogError::io("fsync", &self.folder, None, error))?;
            self.counters.segments_deleted += 1;
            self.doomed.pop_front();
        }
        Ok(Offset(lowest))
    }

    /// The file that holds the last visible record and the byte behind it.
    #[cfg(test)]
    pub(super) fn visible_end(&self) -> (PathBuf, u64) {
        self.shared.lock().last_end()
    }

    /// What a payload takes in the file, or why it is refused.
    #[inline]
    fn framed_bytes(&self, payload: usize) -> Result<u64, LogError> {
        let (bytes, bytes_max) = (payload as u64, self.options.payload_bytes_max());
        if bytes > bytes_max {
            return Err(LogError::TooLong { bytes, bytes_max, option: "transaction_bytes_max" });
        }
        let frames =
            if payload <= self.options.chunk_bytes() { 1 } else { payload.div_ceil(self.options.chunk_bytes()) as u64 };
        Ok(bytes + frames * FRAME_HEADER_BYTES as u64)
    }

    #[inline]
    fn push_frames(&mut self, record: &Record<'_>) -> Result<(), LogError> {
        let mut head = FrameHead {
            length: 0,
            offset: self.next,
            lsn: record.lsn.0,
            committed_at: record.committed_at.0,
            epoch: self.epoch,
            unsynced: u32::try_from(self.next - self.synced).unwrap_or(u32::MAX),
            flags: if record.kind == RecordKind::Note { flag::NOTE } else { 0 },
            part: 0,
        };
        let mut rest = record.payload;
        loop {
            let (chunk, tail) = rest.split_at_checked(self.options.chunk_bytes()).unwrap_or((rest, &[]));
            let is_last = tail.is_empty();
            let continued = if is_last { 0 } else { flag::CONTINUED };
            let part = FrameHead { length: chunk.len() as u32, flags: head.flags | continued, ..head };
            push_frame(&mut self.pending, part, chunk);
            if self.pending.len() >= self.options.buffer_bytes_max {
                self.write()?;
            }
            if is_last {
                return Ok(());
            }
            rest = tail;
            head.part += 1;
        }
    }

    fn commit(&mut self, fsync: bool) -> Result<Offset, LogError> {
        if self.failure.is_some() {
            return Err(self.poisoned());
        }
        self.write()?;
        if fsync {
            self.prepare();
            self.fsync()?;
        }
        if self.shared.visible() < self.next {
            self.note_active();
            let index = std::mem::take(&mut self.active.segment.index);
            let active = Segment { index, path: self.active.segment.path.clone(), ..self.active.segment };
            let filled = std::mem::take(&mut self.filled);
            self.shared.publish(|state| filled.into_iter().chain([active]).for_each(|segment| state.publish(segment)));
        }
        self.shared.set_durable(self.synced);
        Ok(Offset(self.next))
    }

    /// Brings the description of the active segment up to what is written.
    fn note_active(&mut self) {
        let segment = &mut self.active.segment;
        (segment.next, segment.bytes) = (self.next, self.active.written);
        segment.last_lsn = if self.next > segment.header.base { self.last_lsn } else { None };
    }

    fn write(&mut self) -> Result<(), LogError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.active.file.append(&self.pending) {
            return Err(self.fail("write to", Some(self.active.written), error));
        }
        self.active.written += self.pending.len() as u64;
        self.counters.bytes_written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Prepares space behind what was written, once all that was prepared is used. The fsync that follows has to save the
    /// file's new length anyway, and those after it don't. Zeros that can't be written are no fault: the log then grows.
    fn prepare(&mut self) {
        let Active { file, written, durable, prepared, .. } = &mut self.active;
        if self.synced == self.next || *written <= *prepared {
            return;
        }
        let bytes = self.options.bytes_to_prepare(*written, *written - *durable);
        if bytes == 0 {
            return;
        }
        *prepared = *written + bytes as u64;
        match file.prepare(bytes) {
            Ok(()) => self.counters.bytes_prepared += bytes as u64,
            Err(_) => self.options.prepared_bytes_max = 0,
        }
    }

    /// Cuts off what was prepared and not used: a segment that is done ends with its last record.
    fn cut_prepared(&mut self) -> Result<(), LogError> {
        let Active { segment, written, prepared, .. } = &self.active;
        if prepared <= written {
            return Ok(());
        }
        match self.storage.truncate(&segment.path, *written) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail("truncate", Some(*written), error)),
        }
    }

    fn fsync(&mut self) -> Result<(), LogError> {
        let started = self.options.clock.now();
        if self.synced < self.next {
            if let Err(error) = self.active.file.sync() {
                return Err(self.fail("fsync", None, error));
            }
            let took = self.options.clock.now().since(started);
            self.counters.fsyncs += 1;
            self.counters.fsync_total += took;
            self.counters.fsync_max = self.counters.fsync_max.max(took);
            self.synced = self.next;
            self.active.durable = self.active.written;
        }
        self.synced_at = started;
        Ok(())
    }

    /// Closes the active segment, durable whatever the policy, and begins the next one.
    #[cold]
    fn roll(&mut self) -> Result<(), LogError> {
        self.write()?;
        self.fsync()?;
        self.cut_prepared()?;
        self.note_active();
        let place = (self.epoch, self.next);
        match begin_segment(&self.folder, &*self.storage, &self.options, place, &mut self.counters) {
            Ok(active) => {
                let filled = std::mem::replace(&mut self.active, active);
                self.filled.push(filled.segment);
                Ok(())
            }
            Err(LogError::Io { operation, path, position, source }) => {
                self.failure = Some((operation, path.clone(), Arc::clone(&source)));
                Err(LogError::Io { operation, path, position, source })
            }
            Err(error) => Err(error),
        }
    }

    fn fail(&mut self, operation: &'static str, position: Option<u64>, error: io::Error) -> LogError {
        let (path, source) = (self.active.segment.path.clone(), Arc::new(error));
        self.failure = Some((operation, path.clone(), Arc::clone(&source)));
        LogError::Io { operation, path, position, source }
    }

    #[cold]
    fn poisoned(&self) -> LogError {
        match &self.failure {
            Some((operation, path, source)) => {
                LogError::Poisoned { operation, path: path.clone(), source: Arc::clone(source) }
            }
            None => LogError::io("write to", &self.folder, None, io::Error::other("the log is closed")),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Log { folder, next, synced, epoch, failure, counters, .. } = self;
        f.debug_struct("Log")
            .field("folder", folder)
            .field("next", next)
            .field("synced", synced)
            .field("epoch", epoch)
            .field("failure", failure)
            .field("counters", counters)
            .finish_non_exhaustive()
    }
}
