//! Big batches are split over a few threads.

use std::ops::Range;
use std::thread;

/// Below so many items a part is not worth a thread: starting one costs about as much as a hundred puts.
const PART_MIN: usize = 4_096;
/// More threads would only wait for memory, and the record system and the readers want processors as well.
const THREADS_MAX: usize = 4;

/// Ranges that together are `0..items`, in order: as many as threads are worth it, at least one.
pub(super) fn parts_of(items: usize) -> Vec<Range<usize>> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let parts = (items / PART_MIN).min(processors).clamp(1, THREADS_MAX);
    (0..parts).map(|part| items * part / parts..items * (part + 1) / parts).collect()
}

/// Calls `work` with each part, all at the same time, and gives the answers in their order. The first part is done by
/// the caller. The threads are named `app-cache-N`, so a meter knows whose processor time theirs is, and end before
/// this returns.
pub(super) fn each<P: Sync, T: Send>(parts: &[P], work: impl Fn(&P) -> T + Sync) -> Vec<T> {
    let Some((first, rest)) = parts.split_first() else { return Vec::new() };
    let work = &work;
    thread::scope(|scope| {
        let start = |(number, part)| {
            let builder = thread::Builder::new().name(format!("app-cache-{number}"));
            (part, builder.spawn_scoped(scope, move || work(part)))
        };
        let started: Vec<_> = rest.iter().enumerate().map(start).collect();
        let mut answers = vec![work(first)];
        for (part, thread) in started {
            answers.push(match thread.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(answer)) => answer,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                // The system has no thread to give: the work is done all the same.
                Err(_) => work(part),
            });
        }
        answers
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole_in_order() {
        for items in [0, 1, PART_MIN, 3 * PART_MIN + 1, 100_000] {
            let parts = each(&parts_of(items), Range::clone);
            let all: Vec<usize> = parts.into_iter().flatten().collect();
            assert_eq!(all, (0..items).collect::<Vec<_>>());
        }
    }
}
