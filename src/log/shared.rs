//! What the writer and its readers share: which segments there are and how far they are visible.

use super::Offset;
use super::error::LogError;
use super::reader::LogReader;
use super::segment::{IndexEntry, Segment};
use crate::model::Lsn;
use std::collections::VecDeque;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// The offset behind the last visible record; never ahead of `state`.
    visible: AtomicU64,
    durable: AtomicU64,
    pub transaction_bytes_max: u64,
}

#[derive(Debug)]
pub(super) struct State {
    /// Never empty; base offsets rise without gaps.
    segments: VecDeque<Segment>,
    is_closed: bool,
}

impl State {
    pub fn lowest(&self) -> u64 {
        self.segments.front().map_or(0, |segment| segment.header.base)
    }

    pub fn visible(&self) -> u64 {
        self.segments.back().map_or(0, |segment| segment.next)
    }

    #[cfg(test)]
    pub fn last_end(&self) -> (std::path::PathBuf, u64) {
        self.segments.back().map(|segment| (segment.path.clone(), segment.bytes)).unwrap_or_default()
    }

    /// The segment that holds, or will hold, record `offset`.
    pub fn segment_of(&self, offset: u64) -> Option<&Segment> {
        let after = self.segments.partition_point(|segment| segment.header.base <= offset);
        self.segments.get(after.checked_sub(1)?)
    }

    /// The segment that holds, or will hold, the first record behind `lsn`.
    fn segment_behind(&self, lsn: u64) -> Option<&Segment> {
        let is_behind = |segment: &&Segment| segment.last_lsn.is_some_and(|last| last > lsn);
        self.segments.iter().find(is_behind).or_else(|| self.segments.back())
    }

    /// Takes over what the writer made visible. `fresh` is what was noted of the segment's index since the last time.
    pub fn publish(&mut self, segment: Segment) {
        match self.segments.back_mut() {
            Some(back) if back.header.base == segment.header.base => {
                (back.next, back.bytes, back.last_lsn) = (segment.next, segment.bytes, segment.last_lsn);
                back.index.extend(segment.index);
            }
            _ => self.segments.push_back(segment),
        }
    }

    /// Takes the first segment out if all its records are below `offset` and another follows.
    pub fn pop_below(&mut self, offset: u64) -> Option<Segment> {
        if self.segments.len() > 1 && self.segments.front()?.next <= offset { self.segments.pop_front() } else { None }
    }
}

impl Shared {
    pub fn new(segments: Vec<Segment>, transaction_bytes_max: u64) -> Shared {
        let state = State { segments: segments.into(), is_closed: false };
        let visible = state.visible();
        Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            visible: AtomicU64::new(visible),
            durable: AtomicU64::new(visible),
            transaction_bytes_max,
        }
    }

    /// The state; a thread that panicked with the lock held leaves it whole, since every change is a single step.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    pub fn visible(&self) -> u64 {
        self.visible.load(Ordering::Acquire)
    }

    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub fn set_durable(&self, offset: u64) {
        self.durable.store(offset, Ordering::Release);
    }

    /// Lets readers see what `change` adds.
    pub fn publish(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        self.visible.store(state.visible(), Ordering::Release);
        drop(state);
        self.changed.notify_all();
    }

    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Waits until a record at or behind `offset` is visible. False: the time is up, or the writer is gone.
    pub fn wait(&self, offset: u64, timeout: Duration) -> bool {
        if self.visible() > offset {
            return true;
        }
        let deadline = Instant::now().checked_add(timeout);
        let mut state = self.lock();
        while state.visible() <= offset && !state.is_closed {
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.visible() > offset
    }

    /// A copy of what a reader needs of the segment that holds `offset`, and its open file: it is opened under the
    /// lock, so that retention can't delete it in between.
    pub fn open_segment(&self, offset: u64) -> Result<Opened, LogError> {
        let state = self.lock();
        let found = state
            .segment_of(offset)
            .ok_or(LogError::BelowRetention { wanted: Offset(offset), lowest: Offset(state.lowest()) })?;
        Opened::open(found, |entry| entry.offset <= offset)
    }

    fn open_segment_behind(&self, lsn: u64) -> Result<Option<Opened>, LogError> {
        let state = self.lock();
        match state.segment_behind(lsn) {
            None => Ok(None),
            Some(found) => Opened::open(found, |entry| entry.lsn <= lsn).map(Some),
        }
    }
}

/// A segment opened for reading.
pub(super) struct Opened {
    pub file: File,
    /// Without its index.
    pub segment: Segment,
    /// `(offset, byte)` at which to begin.
    pub start: (u64, u64),
}

impl Opened {
    fn open(found: &Segment, before: impl Fn(&IndexEntry) -> bool) -> Result<Opened, LogError> {
        let file = crate::storage::private::open(&found.path)
            .map_err(|error| LogError::io("open", &found.path, None, error))?;
        let segment = Segment { index: Vec::new(), path: found.path.clone(), ..*found };
        Ok(Opened { file, segment, start: found.start_for(before) })
    }
}

/// Opens readers and tells how far the log is, from any thread, while the writer works in another.
#[derive(Clone, Debug)]
pub struct LogHandle {
    pub(super) shared: Arc<Shared>,
}

impl LogHandle {
    /// A reader that begins with record `from`.
    ///
    /// # Errors
    /// [`LogError::BelowRetention`] with the lowest offset there is; [`LogError::BeyondEnd`] when records between the
    /// visible end and `from` are missing; [`LogError::Io`].
    pub fn reader(&self, from: Offset) -> Result<LogReader, LogError> {
        let next = self.shared.visible();
        if from.0 > next {
            return Err(LogError::BeyondEnd { wanted: from, next: Offset(next) });
        }
        LogReader::open(Arc::clone(&self.shared), from)
    }

    /// A reader that begins with the first visible record behind `lsn` in the commit order: how a consumer goes on that
    /// keeps its watermark and no offset. If nothing is visible behind it, with the record to come.
    ///
    /// Whether retention deleted records behind `lsn` can't be told from LSNs alone, since they have gaps; a consumer
    /// whose watermark takes part in retention has nothing to fear.
    ///
    /// # Errors
    /// As for [`LogHandle::reader`], and [`LogError::Damaged`] from the records passed over.
    pub fn reader_after(&self, lsn: Lsn) -> Result<LogReader, LogError> {
        let start = match self.shared.open_segment_behind(lsn.0)? {
            Some(opened) => opened.start.0,
            None => self.shared.visible(),
        };
        let mut reader = self.reader(Offset(start))?;
        let mut from = reader.next_offset();
        while let Some(record) = reader.next()? {
            if record.lsn > lsn {
                break;
            }
            from = Offset(record.offset.0 + 1);
        }
        self.reader(from)
    }

    /// The offset behind the last visible record.
    pub fn visible_offset(&self) -> Offset {
        Offset(self.shared.visible())
    }

    /// The offset behind the last record that is known to be durable.
    pub fn durable_offset(&self) -> Offset {
        Offset(self.shared.durable())
    }

    /// The lowest offset that retention left.
    pub fn lowest_offset(&self) -> Offset {
        Offset(self.shared.lock().lowest())
    }

    /// Whether the writer is gone: nothing more will become visible.
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }
}
