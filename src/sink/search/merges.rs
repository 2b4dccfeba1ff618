//! Which segments are merged, and the merges under way.
//!
//! Tantivy can start merges by itself, but then nobody hears of one that failed, and nothing makes a publish wait when
//! merges fall behind. So they are started here.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tantivy::index::{SegmentId, SegmentMeta};
use tantivy::{FutureResult, IndexWriter, TantivyError};

/// With more segments than this a publish waits for a merge.
pub const SEGMENTS_MAX: usize = 64;
/// How many segments of a level become one.
const FAN: usize = 8;
/// Segments of up to so many documents are of the lowest level.
const LEVEL_DOCS: u64 = 8192;
/// Segments beyond this are merged no more. (Tantivy's limit is 2^31.)
const MERGED_DOCS_MAX: u64 = 1 << 28;
/// A long merge must not keep the small segments of the meantime from being merged.
const UNDER_WAY_MAX: usize = 2;

/// While a publish waits for a merge.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A segment as the choice sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size<T> {
    id: T,
    live: u64,
    dead: u64,
}

fn level(docs: u64) -> u32 {
    (docs / LEVEL_DOCS).checked_ilog(FAN as u64).map_or(0, |level| level + 1)
}

/// The segments to merge next, if any: the lowest level that is full, else one that is mostly dead.
fn choose<T: Copy>(sizes: &[Size<T>]) -> Option<Vec<T>> {
    let levels = sizes.iter().map(|size| level(size.live)).max()?;
    for at in 0..=levels {
        let mut full: Vec<&Size<T>> =
            sizes.iter().filter(|size| level(size.live) == at && size.live < MERGED_DOCS_MAX / FAN as u64).collect();
        if full.len() >= FAN {
            full.sort_by_key(|size| size.live);
            return Some(full.iter().take(2 * FAN).map(|size| size.id).collect());
        }
    }
    sizes.iter().find(|size| size.dead > size.live && size.live > 0).map(|size| vec![size.id])
}

/// What the end of a merge means. Tantivy drops a segment the moment a commit deletes its last document, also while it
/// is being merged, and then refuses the merge because it misses a segment. The others are as they were, nothing is lost,
/// and they are chosen again.
fn judge<T>(ended: Result<T, TantivyError>) -> Result<(), TantivyError> {
    match ended {
        Ok(_) | Err(TantivyError::InvalidArgument(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

struct Merge {
    segments: Vec<SegmentId>,
    done: FutureResult<Option<SegmentMeta>>,
}

impl Merge {
    /// Whether it has ended, and how.
    fn look(&mut self) -> Poll<Result<Option<SegmentMeta>, TantivyError>> {
        Pin::new(&mut self.done).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Waits for its end. By looking again and again: the result refuses a blocking wait once it was looked at.
    fn wait(mut self) -> Result<Option<SegmentMeta>, TantivyError> {
        loop {
            match self.look() {
                Poll::Ready(ended) => return ended,
                Poll::Pending => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }
}

/// The merges under way.
#[derive(Default)]
pub(super) struct Merges {
    /// Never waited for: every use has the only reference. It makes this `Sync`, which the results themselves are not.
    under_way: Mutex<Vec<Merge>>,
}

impl Merges {
    fn under_way(&mut self) -> &mut Vec<Merge> {
        self.under_way.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the merges that have ended.
    ///
    /// # Errors
    /// The first that failed. Its segments are as they were.
    fn reap(&mut self) -> Result<(), TantivyError> {
        let mut outcome = Ok(());
        self.under_way().retain_mut(|merge| match merge.look() {
            Poll::Pending => true,
            Poll::Ready(ended) => {
                outcome = std::mem::replace(&mut outcome, Ok(())).and(judge(ended));
                false
            }
        });
        outcome
    }

    /// Starts the merges that are due, and waits for some while there are too many segments.
    ///
    /// # Errors
    /// A merge failed.
    pub(super) fn advance(&mut self, writer: &mut IndexWriter) -> Result<(), TantivyError> {
        // Each wait brings down the number by several, so this is more rounds than there can be.
        for _ in 0..SEGMENTS_MAX {
            self.reap()?;
            let segments = writer.index().searchable_segment_metas()?;
            self.start(writer, &segments);
            if segments.len() <= SEGMENTS_MAX || self.under_way().is_empty() {
                break;
            }
            judge(self.under_way().remove(0).wait())?;
        }
        Ok(())
    }

    fn start(&mut self, writer: &mut IndexWriter, segments: &[SegmentMeta]) {
        let under_way = self.under_way();
        while under_way.len() < UNDER_WAY_MAX {
            let busy: HashSet<SegmentId> = under_way.iter().flat_map(|merge| merge.segments.iter().copied()).collect();
            let free = segments.iter().filter(|segment| !busy.contains(&segment.id())).map(|segment| Size {
                id: segment.id(),
                live: u64::from(segment.num_docs()),
                dead: u64::from(segment.num_deleted_docs()),
            });
            let Some(chosen) = choose(&free.collect::<Vec<_>>()) else { return };
            let done = writer.merge(&chosen);
            under_way.push(Merge { segments: chosen, done });
        }
    }

    /// Waits for all that are under way. What became of them matters no more.
    pub(super) fn wait(&mut self) {
        for merge in self.under_way().drain(..) {
            let _ = merge.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(sizes: &[(u64, u64)]) -> Vec<Size<usize>> {
        sizes.iter().enumerate().map(|(id, &(live, dead))| Size { id, live, dead }).collect()
    }

    #[test]
    fn levels_grow_by_the_fan() {
        assert_eq!([0, 8191, 8192, 65_535, 65_536, 524_288].map(level), [0, 0, 1, 1, 2, 3]);
    }

    #[test]
    fn a_full_level_is_merged_smallest_first_and_a_mostly_dead_segment_alone() {
        assert_eq!(choose::<usize>(&[]), None);
        assert_eq!(choose(&sizes(&[(5, 5); 7])), None);
        let mut eight = vec![(100_000, 0)];
        eight.extend([(9, 0), (8, 0), (7, 0), (6, 0), (5, 0), (4, 0), (3, 0), (2, 0)]);
        assert_eq!(choose(&sizes(&eight)), Some(vec![8, 7, 6, 5, 4, 3, 2, 1]));
        assert_eq!(choose(&sizes(&[(10, 10), (10, 11)])), Some(vec![1]));
    }

    #[test]
    fn what_is_left_when_no_merge_is_due_is_below_the_limit() {
        // Documents come in segments of 1 to 50,000; every merge that is due is done at once.
        let mut random = 7_u64;
        let mut live: Vec<u64> = Vec::new();
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            live.push(1 + (random >> 33) % 50_000);
            loop {
                let of: Vec<(u64, u64)> = live.iter().map(|&docs| (docs, 0)).collect();
                let Some(chosen) = choose(&sizes(&of)) else { break };
                let merged = chosen.iter().map(|&place| live[place]).sum();
                live = (0..live.len()).filter(|place| !chosen.contains(place)).map(|place| live[place]).collect();
                live.push(merged);
            }
            assert!(live.len() < SEGMENTS_MAX, "{} segments", live.len());
        }
    }
}
