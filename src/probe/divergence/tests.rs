use super::*;
use crate::probe::visibility::Existence;

const TABLE: TableId = TableId(0);

fn at(ms: u64) -> Moment {
    Moment::from_nanos(ms * 1_000_000)
}

fn change(lsn: u64, key: i64) -> RowChange {
    RowChange { lsn: Lsn(lsn), table: TABLE, key: Key::Int(key), after: Existence::Present }
}

fn arrivals(arrived: &[(u64, u64)]) -> Vec<Arrival> {
    arrived.iter().map(|&(lsn, ms)| Arrival { lsn: Lsn(lsn), at: at(ms) }).collect()
}

fn commit(lsn: u64, ms: u64) -> Commit {
    Commit { lsn: Lsn(lsn), committed: at(ms), intended: at(ms) }
}

fn counts(divergence: &Divergence) -> [u64; 4] {
    use DivergenceCause::{PartialFailure, Race};
    [(Race, false), (Race, true), (PartialFailure, false), (PartialFailure, true)]
        .map(|(cause, permanent)| divergence.count(cause, permanent))
}

#[test]
fn the_textbooks_race_is_permanent_and_needs_the_last_arrival_to_win() {
    // Client 1 commits A (1), client 2 commits B (2); the index hears of B and then of A.
    let history = [change(1, 7), change(2, 7)];
    let arrived = arrivals(&[(2, 10), (1, 11)]);
    let naive = Divergence::of(&history, &arrived, Conflict::LastArrivalWins);
    assert_eq!((naive.writes, counts(&naive)), (2, [0, 1, 0, 0]));
    let event = naive.permanent(TABLE, &Key::Int(7)).unwrap();
    assert_eq!((event.lost, event.shown, event.healed_at), (Lsn(2), Some(Lsn(1)), None));
    assert_eq!(naive.per_million_writes(), Some(500_000.0));
    let checked = Divergence::of(&history, &arrived, Conflict::NewestCommitWins);
    assert_eq!(counts(&checked), [0; 4]);
    let in_order = Divergence::of(&history, &arrivals(&[(1, 10), (2, 11)]), Conflict::LastArrivalWins);
    assert_eq!(counts(&in_order), [0; 4]);
}

#[test]
fn a_newer_write_heals_a_race_and_several_late_ones_are_one_event() {
    let history = [change(1, 7), change(2, 7), change(3, 7), change(4, 7), change(4, 8)];
    let arrived = arrivals(&[(3, 10), (1, 11), (2, 12), (4, 20)]);
    let naive = Divergence::of(&history, &arrived, Conflict::LastArrivalWins);
    assert_eq!((naive.writes, counts(&naive)), (5, [1, 0, 0, 0]));
    let event = naive.events.first().unwrap();
    assert_eq!((event.lost, event.shown, event.healed_at), (Lsn(3), Some(Lsn(2)), Some(at(20))));
}

#[test]
fn a_write_that_never_came_is_a_partial_failure_until_a_newer_one_covers_it() {
    let history = [change(1, 7), change(1, 8), change(2, 7)];
    // Commit 1 died before this sink: key 7 is covered by commit 2, key 8 by nothing.
    let naive = Divergence::of(&history, &arrivals(&[(2, 10)]), Conflict::LastArrivalWins);
    assert_eq!(counts(&naive), [0, 0, 1, 1]);
    let checked = Divergence::of(&history, &arrivals(&[(2, 10)]), Conflict::NewestCommitWins);
    assert_eq!(counts(&checked), [0, 0, 1, 1]);
}

#[test]
fn a_commit_is_visible_when_each_key_shows_it_or_a_newer_one_for_good() {
    let (last, newest) = (Conflict::LastArrivalWins, Conflict::NewestCommitWins);
    let commits = [commit(1, 1), commit(2, 2), commit(3, 3), commit(4, 4)];
    // 1 writes 7 and 8, 2 writes 7, 3 writes nothing, 4 writes 9 and its client dies.
    let history = [change(1, 7), change(1, 8), change(2, 7), change(4, 9)];
    let raced = arrivals(&[(2, 10), (1, 15)]);
    // The older write overwrote commit 2 for good; a sink that compares positions keeps it.
    assert_eq!(visible_by_arrival(&commits, &history, &raced, last), [Some(at(15)), None, Some(at(3)), None]);
    assert_eq!(visible_by_arrival(&commits, &history, &raced, newest), [Some(at(15)), Some(at(10)), Some(at(3)), None]);
    // Commit 1 never arrived: key 8 is missing for good.
    let lost = arrivals(&[(2, 10)]);
    assert_eq!(visible_by_arrival(&commits, &history, &lost, last), [None, Some(at(10)), Some(at(3)), None]);
    // With only key 7 it is there through commit 2.
    let only = [change(1, 7), change(2, 7)];
    assert_eq!(visible_by_arrival(&commits[..2], &only, &lost, last), [Some(at(10)), Some(at(10))]);
}

#[test]
fn a_race_that_was_put_right_hides_the_commit_until_then() {
    let commits = [commit(1, 1), commit(2, 2), commit(3, 3)];
    let history = [change(1, 7), change(2, 7), change(3, 7)];
    // B is seen at 10, overwritten by A at 11, and put right by C at 20.
    let raced = arrivals(&[(2, 10), (1, 11), (3, 20)]);
    let visible = visible_by_arrival(&commits, &history, &raced, Conflict::LastArrivalWins);
    assert_eq!(visible, [Some(at(10)), Some(at(20)), Some(at(20))]);
}

#[test]
fn what_ends_within_its_own_publish_is_no_event_and_what_stays_says_what_is_held() {
    let history = [change(1, 7), change(2, 7), change(3, 7), change(4, 8)];
    let one_publish = arrivals(&[(2, 10), (1, 10), (3, 10)]);
    let divergence = Divergence::of(&history[..3], &one_publish, Conflict::LastArrivalWins);
    assert_eq!(counts(&divergence), [0; 4]);
    let stays = Divergence::of(&history, &arrivals(&[(3, 10), (1, 11), (2, 12)]), Conflict::LastArrivalWins);
    assert_eq!(stays.held().get(&(TABLE, Key::Int(7))), Some(&Lsn(2)));
    assert_eq!(stays.held().get(&(TABLE, Key::Int(8))), Some(&Lsn::ZERO), "commit 4 never came");
    assert_eq!(stays.held().len(), 2);
}
