//! Derived systems with one planted bug each. The checker must find every one, with table and key.

use super::*;
use crate::model::{Catalog, Column, ColumnType, Key, Lsn, TableId, TableSchema, Value};
use crate::workload::{Assign, PlannedTxn, Statement, TxnIndex};
use std::convert::Infallible;
use std::time::Duration;

const T: TableId = TableId(0);

fn catalog() -> Catalog {
    let columns = vec![
        Column::required("id", ColumnType::Int64),
        Column::required("n", ColumnType::Int64),
        Column::nullable("big", ColumnType::Text),
        Column::nullable("f", ColumnType::Float64),
    ];
    Catalog { tables: vec![TableSchema::new("things", columns, vec![0]).unwrap()] }
}

fn row(id: i64, n: i64, big: &str) -> Vec<Value> {
    vec![id.into(), n.into(), big.into(), Value::Float(0.0)]
}

fn txn(index: u64, statement: Statement) -> PlannedTxn {
    let intended = Duration::from_millis(index);
    PlannedTxn { index: TxnIndex(index), kind: "test", lane: None, intended, statements: vec![statement] }
}

/// Insert 5; set 1.n; set 1.n again; move 2 to 7; delete 3; add to 4.n; empty text in 4.big.
fn stream() -> Vec<PlannedTxn> {
    let update = |id: i64, set| Statement::Update { table: T, key: vec![id.into()], set };
    vec![
        txn(0, Statement::Insert { table: T, row: row(5, 50, "five") }),
        txn(1, update(1, vec![(1, Assign::Set(11.into()))])),
        txn(2, update(1, vec![(1, Assign::Set(12.into()))])),
        txn(3, update(2, vec![(0, Assign::Set(7.into()))])),
        txn(4, Statement::Delete { table: T, key: vec![3.into()] }),
        txn(5, update(4, vec![(1, Assign::Add(-2))])),
        txn(6, update(4, vec![(2, Assign::Set("".into()))])),
    ]
}

fn commits() -> Vec<(Lsn, TxnIndex)> {
    (0..7).map(|n| (Lsn(n + 1), TxnIndex(n))).collect()
}

fn state(stream: Vec<PlannedTxn>, commits: &[(Lsn, TxnIndex)], watermark: u64) -> (ExpectedTable, ChangeHistory) {
    let mut state = ExpectedState::new(&catalog());
    state.load(T, (1..=4).map(|id| row(id, 10 * id, "big"))).unwrap();
    let mut replay = Replay::new(state, stream.into_iter(), commits).unwrap();
    let mut history = ChangeHistory::new();
    replay.advance(Lsn(watermark), &mut |event| history.record(event)).unwrap();
    (replay.into_state().table(T).unwrap().clone(), history)
}

/// What should be there, as the statements say when done by hand.
#[test]
fn the_replay_gives_the_hand_computed_rows() {
    let (table, history) = state(stream(), &commits(), 7);
    let rows: Vec<_> = table.rows.values().cloned().collect();
    let wanted = [row(1, 12, "big"), row(4, 38, ""), row(5, 50, "five"), row(7, 20, "big")];
    assert_eq!(rows, wanted);
    let last = |id| history.last_change_of(T, &Key::Int(id)).map(|c| (c.lsn.0, c.txn.0, c.kind));
    assert_eq!(last(1), Some((3, 2, ChangeKind::Update)));
    assert_eq!(last(2), Some((4, 3, ChangeKind::Delete)));
    assert_eq!(last(3), Some((5, 4, ChangeKind::Delete)));
    assert_eq!(last(7), Some((4, 3, ChangeKind::Insert)));
    assert_eq!(last(9), None);
}

/// Compares with rows that a bug made, and gives what was found.
fn found(actual: &ExpectedTable) -> (TableDiff, Vec<(i64, Difference)>) {
    let (expected, _) = state(stream(), &commits(), 7);
    let rows = || actual.rows.values().cloned().map(Ok::<_, Infallible>);
    let diff = diff(&expected, rows).unwrap();
    assert_eq!(diff.table, "things");
    let keys = diff.keys.iter().map(|(key, difference)| {
        let Key::Int(id) = key else { panic!("{key:?}") };
        (*id, *difference)
    });
    let keys = keys.collect();
    (diff, keys)
}

fn set(table: &mut ExpectedTable, id: i64, column: usize, value: Value) {
    table.rows.get_mut(&Key::Int(id)).unwrap()[column] = value;
}

#[test]
fn no_bug_is_no_difference() {
    let (diff, keys) = found(&state(stream(), &commits(), 7).0);
    assert!(diff.is_equal() && keys.is_empty() && diff.digest == diff.expected_digest && diff.rows == 4);
}

#[test]
fn a_dropped_delete_is_found_and_attributed() {
    let mut lossy = stream();
    lossy[4].statements.clear();
    let (diff, keys) = found(&state(lossy, &commits(), 7).0);
    assert_eq!(keys, [(3, Difference::Extra)]);
    assert_eq!(diff.examples[0].key, "3");
    let (_, history) = state(stream(), &commits(), 7);
    assert_eq!(history.causes(T, &diff), Causes { lost_deletes: 1, late_commits: 0, other: 0 });
}

#[test]
fn a_watermark_off_by_one_is_found() {
    let (diff, keys) = found(&state(stream(), &commits(), 6).0);
    assert_eq!(keys, [(4, Difference::Wrong)]);
    let column = &diff.examples[0].columns[0];
    assert_eq!((column.column.as_str(), column.expected.as_deref()), ("big", Some("\"\"")));
}

#[test]
fn a_key_change_as_an_upsert_is_found() {
    let (mut actual, _) = state(stream(), &commits(), 7);
    actual.rows.insert(Key::Int(2), row(2, 20, "big"));
    let (diff, keys) = found(&actual);
    assert_eq!(keys, [(2, Difference::Extra)]);
    let (_, history) = state(stream(), &commits(), 7);
    assert_eq!(history.causes(T, &diff).lost_deletes, 1, "the old key was deleted by the key change");
}

#[test]
fn two_swapped_updates_are_found() {
    let mut swapped = commits();
    swapped[1].1 = TxnIndex(2);
    swapped[2].1 = TxnIndex(1);
    let (diff, keys) = found(&state(stream(), &swapped, 7).0);
    assert_eq!(keys, [(1, Difference::Wrong)]);
    let column = &diff.examples[0].columns[0];
    assert_eq!((column.expected.as_deref(), column.actual.as_deref()), (Some("12"), Some("11")));
}

#[test]
fn values_that_only_look_alike_are_found() {
    for (id, column, value, shown) in [
        (1, 2, Value::Null, ("\"big\"", "NULL")),
        (4, 2, Value::Null, ("\"\"", "NULL")),
        (1, 3, Value::Float(-0.0), ("0", "-0")),
        (1, 3, Value::Int(0), ("float 0", "integer 0")),
        (5, 2, Value::text("fivE"), ("\"five\"", "\"fivE\"")),
    ] {
        let (mut actual, _) = state(stream(), &commits(), 7);
        set(&mut actual, id, column, value);
        let (diff, keys) = found(&actual);
        assert_eq!(keys, [(id, Difference::Wrong)]);
        let difference = &diff.examples[0].columns[0];
        assert_eq!((difference.expected.as_deref(), difference.actual.as_deref()), (Some(shown.0), Some(shown.1)));
        assert_eq!((diff.missing, diff.extra, diff.wrong), (0, 0, 1));
    }
}

#[test]
fn a_missing_row_and_a_row_twice_are_found() {
    let (mut actual, _) = state(stream(), &commits(), 7);
    actual.rows.remove(&Key::Int(5));
    assert_eq!(found(&actual).1, [(5, Difference::Missing)]);
    let (expected, _) = state(stream(), &commits(), 7);
    let twice = || expected.rows.values().chain(expected.rows.values().take(1)).cloned().map(Ok::<_, Infallible>);
    let diff = diff(&expected, twice).unwrap();
    assert_eq!((diff.rows, diff.extra, diff.wrong), (5, 1, 0));
    assert_eq!(diff.keys, [(Key::Int(1), Difference::Extra)]);
}

#[test]
fn a_pair_of_equal_wrong_rows_is_not_hidden() {
    // XOR of the two hashes would be zero.
    let (expected, _) = state(stream(), &commits(), 7);
    let stranger = || [row(9, 9, "x"), row(9, 9, "x")].into_iter();
    let rows = || expected.rows.values().cloned().chain(stranger()).map(Ok::<_, Infallible>);
    assert_eq!(diff(&expected, rows).unwrap().extra, 2);
}

#[test]
fn late_commits_are_told_from_other_losses() {
    // Transaction 1 (earlier application time) commits behind transaction 5: a cursor may have passed it.
    let commits = [(Lsn(1), TxnIndex(5)), (Lsn(2), TxnIndex(1)), (Lsn(3), TxnIndex(6))];
    let (expected, history) = state(stream(), &commits, 3);
    let mut actual = expected.clone();
    set(&mut actual, 1, 1, 10.into());
    set(&mut actual, 4, 1, 99.into());
    let diff = diff(&expected, || actual.rows.values().cloned().map(Ok::<_, Infallible>)).unwrap();
    assert_eq!(history.causes(T, &diff), Causes { lost_deletes: 0, late_commits: 1, other: 1 });
    assert_eq!(history.cause(T, &Key::Int(1), Difference::Wrong).as_str(), "late commit");
}

#[test]
fn an_unreadable_side_is_an_error_not_a_difference() {
    let (expected, _) = state(stream(), &commits(), 7);
    let error = diff(&expected, || [Err::<Vec<Value>, _>("disk gone")]).unwrap_err().to_string();
    assert!(error.contains("things") && error.contains("disk gone"), "{error}");
}
