use super::*;
use crate::stats::SplitMix64;
use std::collections::BTreeMap;

const T: TableId = TableId(0);

fn at(n: u64) -> Moment {
    Moment::from_nanos(n * 1_000_000)
}

fn commits(n: u64) -> Vec<Commit> {
    (1..=n).map(|lsn| Commit { lsn: Lsn(lsn), committed: at(lsn), intended: at(lsn) }).collect()
}

fn publish(ms: u64, watermark: u64, keys: &[i64]) -> Publish {
    let keys = keys.iter().map(|&key| (T, Key::Int(key))).collect();
    Publish { at: at(ms), watermark: Lsn(watermark), delivered: Some(keys) }
}

fn complete(ms: u64, watermark: u64) -> Publish {
    Publish { at: at(ms), watermark: Lsn(watermark), delivered: None }
}

fn change(lsn: u64, key: i64, after: Existence) -> RowChange {
    RowChange { lsn: Lsn(lsn), table: T, key: Key::Int(key), after }
}

use Existence::{Absent, Present};

/// Keys 1 to 9 exist at first; the first publish is the initial load at 100 ms with watermark 0.
fn seen(mut publishes: Vec<Publish>, history: &[RowChange], n: u64) -> Vec<Option<Moment>> {
    publishes.insert(0, complete(0, 0));
    let initial = |_, key: KeyRef<'_>| matches!(key, KeyRef::Int(1..=9));
    visible_by_delivery(&commits(n), &publishes, history, &initial).unwrap()
}

#[test]
fn complete_sinks_show_a_commit_when_the_watermark_reaches_it() {
    let publishes = [complete(10, 2), complete(20, 2), complete(30, 3), complete(40, 5)];
    let visible = visible_by_watermark(&commits(6), &publishes).unwrap();
    assert_eq!(visible, [Some(at(10)), Some(at(10)), Some(at(30)), Some(at(40)), Some(at(40)), None]);
}

#[test]
fn a_lost_delete_is_never_visible() {
    // The cursor does not see deletes; the sink holds row 1 for good.
    assert_eq!(seen(vec![publish(10, 5, &[])], &[change(1, 1, Absent)], 1), [None]);
    // Until a full load rids the sink of it.
    assert_eq!(seen(vec![publish(10, 5, &[]), complete(90, 6)], &[change(1, 1, Absent)], 1), [Some(at(90))]);
    // Or until the row comes again and is delivered: what the delete did can't be seen any more.
    let history = [change(1, 1, Absent), change(2, 1, Present)];
    assert_eq!(seen(vec![publish(10, 1, &[]), publish(20, 2, &[1])], &history, 2), [Some(at(20)), Some(at(20))]);
}

#[test]
fn a_late_commit_is_lost_until_its_row_is_delivered() {
    // Commit 1 was stamped before the cursor, which passed it; commit 3 touches the row again.
    let history = [change(1, 2, Present), change(2, 3, Present), change(3, 2, Present)];
    let visible = seen(vec![publish(10, 2, &[3]), publish(20, 3, &[2])], &history, 3);
    assert_eq!(visible, [Some(at(20)), Some(at(10)), Some(at(20))]);
    let visible = seen(vec![publish(10, 2, &[3])], &history, 3);
    assert_eq!(visible, [None, Some(at(10)), None]);
}

#[test]
fn the_delete_of_a_row_that_was_never_delivered_is_moot() {
    // Row 50 came and went between two batches.
    let history = [change(1, 50, Present), change(2, 50, Absent)];
    assert_eq!(seen(vec![publish(10, 2, &[])], &history, 2), [Some(at(10)), Some(at(10))]);
    // Its insert was lost at first; once it is deleted at the source nothing is missing.
    assert_eq!(seen(vec![publish(10, 1, &[]), publish(20, 2, &[])], &history, 2), [Some(at(20)), Some(at(20))]);
    // But if the sink got it in between, the delete is lost.
    assert_eq!(seen(vec![publish(10, 1, &[50]), publish(20, 2, &[])], &history, 2), [Some(at(10)), None]);
}

#[test]
fn a_delivery_before_the_commit_does_not_show_it() {
    let history = [change(1, 1, Present), change(2, 1, Present)];
    assert_eq!(seen(vec![publish(10, 1, &[1]), publish(20, 2, &[])], &history, 2), [Some(at(10)), None]);
}

#[test]
fn a_commit_is_visible_with_its_last_change_and_without_any_at_the_watermark() {
    let history = [change(1, 1, Present), change(1, 2, Present)];
    let visible = seen(vec![publish(10, 2, &[1]), publish(20, 3, &[2])], &history, 2);
    assert_eq!(visible, [Some(at(20)), Some(at(10))]);
}

#[test]
fn rows_of_two_tables_are_two_rows() {
    let other = RowChange { lsn: Lsn(1), table: TableId(1), key: Key::Int(1), after: Present };
    assert_eq!(seen(vec![publish(10, 1, &[1])], &[other], 1), [None]);
}

#[test]
fn broken_orders_are_errors() {
    let swapped = [commits(2)[1], commits(2)[0]];
    assert_eq!(visible_by_watermark(&swapped, &[]), Err(VisibilityError::CommitOrder { index: 1 }));
    let publishes = [complete(20, 1), complete(10, 2)];
    assert_eq!(visible_by_watermark(&[], &publishes), Err(VisibilityError::PublishOrder { index: 1 }));
    let publishes = [complete(10, 5), complete(20, 4)];
    let none = |_, _: KeyRef<'_>| false;
    let back = VisibilityError::WatermarkWentBack { index: 1, from: Lsn(5), to: Lsn(4) };
    assert_eq!(visible_by_delivery(&[], &publishes, &[], &none), Err(back));
    let history = [change(2, 1, Present), change(1, 1, Present)];
    let order = Err(VisibilityError::HistoryOrder { index: 1 });
    assert_eq!(visible_by_delivery(&[], &[], &history, &none), order);
}

/// The definition, evaluated publish by publish with the whole state of source and sink.
fn brute_force(commits: &[Commit], publishes: &[Publish], history: &[RowChange]) -> Vec<Option<Moment>> {
    let initial: BTreeMap<Key, bool> = (1..=9).map(|key| (Key::Int(key), true)).collect();
    let source_at = |watermark: Lsn| {
        let mut rows = initial.clone();
        for change in history.iter().filter(|change| change.lsn <= watermark) {
            rows.insert(change.key.clone(), change.after == Present);
        }
        rows
    };
    let mut sink: BTreeMap<Key, bool> = BTreeMap::new();
    let mut shown: Vec<Option<Moment>> = vec![None; history.len()];
    for publish in publishes {
        let source = source_at(publish.watermark);
        let has = |rows: &BTreeMap<Key, bool>, key: &Key| rows.get(key).copied().unwrap_or(false);
        match &publish.delivered {
            None => sink = source.clone(),
            Some(keys) => keys.iter().for_each(|(_, key)| {
                sink.insert(key.clone(), has(&source, key));
            }),
        }
        for (change, slot) in history.iter().zip(&mut shown) {
            let brought = publish.delivered.as_ref().is_none_or(|keys| keys.contains(&(T, change.key.clone())));
            let moot = !has(&source, &change.key) && !has(&sink, &change.key);
            if slot.is_none() && publish.watermark >= change.lsn && (brought || moot) {
                *slot = Some(publish.at);
            }
        }
    }
    let all = |commit: &Commit| {
        let reached = publishes.iter().find(|publish| publish.watermark >= commit.lsn)?.at;
        let changes = history.iter().zip(&shown).filter(|(change, _)| change.lsn == commit.lsn);
        changes.map(|(_, at)| *at).try_fold(reached, |latest, at| Some(latest.max(at?)))
    };
    commits.iter().map(all).collect()
}

#[test]
fn any_history_agrees_with_the_definition() {
    for seed in 0..2000 {
        let mut random = SplitMix64::new(seed);
        let n = 1 + random.below(12);
        let mut history = Vec::new();
        for lsn in 1..=n {
            for _ in 0..random.below(4) {
                let after = if random.below(3) == 0 { Absent } else { Present };
                history.push(change(lsn, random.below(14) as i64, after));
            }
        }
        let (mut publishes, mut watermark) = (Vec::new(), 0);
        for k in 0..random.below(9) {
            watermark += random.below(4);
            let keys: Vec<i64> = (0..random.below(6)).map(|_| random.below(14) as i64).collect();
            let is_complete = random.below(6) == 0;
            publishes.push(if is_complete { complete(k, watermark) } else { publish(k, watermark, &keys) });
        }
        let initial = |_, key: KeyRef<'_>| matches!(key, KeyRef::Int(1..=9));
        let seen = visible_by_delivery(&commits(n), &publishes, &history, &initial).unwrap();
        assert_eq!(seen, brute_force(&commits(n), &publishes, &history), "seed {seed}");
    }
}

#[test]
fn what_becomes_visible_is_readable_from_the_next_checkpoint_on() {
    let moment = |ms: u64| Moment::ORIGIN.after(std::time::Duration::from_millis(ms));
    let durable = |ms: u64| Publish { at: moment(ms), watermark: Lsn(9), delivered: None };
    // Three checkpoints; the watermark says nothing here, as a cursor moves it past what it did not bring.
    let durable = [durable(100), durable(200), durable(300)];
    let visible = [Some(moment(50)), Some(moment(100)), Some(moment(101)), None, Some(moment(301))];
    let readable = readable_after(&visible, &durable);
    assert_eq!(readable, [Some(moment(100)), Some(moment(100)), Some(moment(200)), None, None]);
}
