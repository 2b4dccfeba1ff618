//! The oracle's own interpreters against hand-computed values.

use super::civil::{day_of_text, microsecond_of_text, year_of_day};
use super::number::Number;
use super::*;
use crate::model::{Catalog, Column, ColumnType, Decimal, Key, Lsn, TableId, TableSchema, Value};
use crate::workload::{Assign, Overrides, PlannedTxn, Statement, TransformSpec, TxnIndex, Workload};
use std::time::Duration;

const T: TableId = TableId(0);

fn table(column_type: ColumnType) -> Catalog {
    let columns = vec![Column::required("id", ColumnType::Int64), Column::nullable("v", column_type)];
    Catalog { tables: vec![TableSchema::new("t", columns, vec![0]).unwrap()] }
}

fn decimal(unscaled: i128, scale: i8) -> Value {
    Value::Decimal(Box::new(Decimal { unscaled, scale }))
}

#[test]
fn the_calendar_is_right_where_it_is_known() {
    for (day, year) in [(0, 1970), (-1, 1969), (10_956, 1999), (10_957, 2000), (-719_163, 0), (-719_162, 1)] {
        assert_eq!(year_of_day(day), year, "day {day}");
    }
    assert_eq!(day_of_text("2000-02-29"), Some(11_016));
    assert_eq!(day_of_text("1969-12-31"), Some(-1));
    assert_eq!((day_of_text("1900-02-29"), day_of_text("2025-13-01"), day_of_text("25-01-01")), (None, None, None));
    assert_eq!(microsecond_of_text("2025-01-01T00:00:00Z"), Some(1_735_689_600_000_000));
    assert_eq!(microsecond_of_text("1969-12-31T23:59:59.5+00:00"), Some(-500_000));
    assert_eq!(microsecond_of_text("2025-01-01T24:00:00Z"), None);
}

#[test]
fn numbers_are_exact() {
    let number = |text: &str| Number::parse(text).unwrap();
    assert_eq!(number("007.50"), number("7.5"));
    assert_eq!(number("-0.00"), number("0"));
    assert!(number("-2").compare(&number("-1.99")).is_lt() && number("10").compare(&number("9.99")).is_gt());
    assert!(number("0.45").compare(&number("0.5")).is_lt());
    assert_eq!(number("-1.5").to_decimal(3, 2), Some(decimal(-150, 2)));
    assert_eq!((number("1.55").to_decimal(3, 1), number("100").to_decimal(2, 0)), (None, None));
    assert_eq!(Number::of_decimal(Decimal { unscaled: -5, scale: 3 }), Number::parse("-0.005"));
    assert_eq!(number(&i64::MIN.to_string()).to_int(), Some(i64::MIN));
}

#[test]
fn a_definition_is_read_as_it_is_written() {
    let shape = |column_type, spec: &str, value: Value| {
        let catalog = table(column_type);
        let spec: TransformSpec = toml::from_str(&format!("table = 't'\n{spec}")).unwrap();
        let mut state = ExpectedState::new(&catalog);
        state.load(T, [vec![Value::Int(1), value]]).unwrap();
        let shaped = Shape::new(&catalog, &[spec]).apply(T, state.table(T).unwrap());
        shaped.map(|t| t.rows.get(&Key::Int(1)).cloned())
    };
    let one = |column_type, spec: &str, value| shape(column_type, spec, value).unwrap().unwrap().pop().unwrap();
    let text = ColumnType::Text;
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(one(text, "columns = [{ column = 'v', hash = 'sha256' }]", "abc".into()), hash.into());
    let cents = "columns = [{ column = 'v', type = 'decimal(12,2)', scaled = true }]";
    assert_eq!(one(ColumnType::Int64, cents, Value::Int(-1999)), decimal(-1999, 2));
    let plain = "columns = [{ column = 'v', type = 'decimal(12,2)' }]";
    assert_eq!(one(ColumnType::Int64, plain, Value::Int(1999)), decimal(199_900, 2));
    let year = "columns = [{ as = 'y', derive = { year_of = 'v' } }]";
    assert_eq!(one(ColumnType::Date, year, Value::Date(-719_163)), Value::Int(-1), "1 BC");
    assert_eq!(one(ColumnType::Date, year, Value::Null), Value::Null);
    let length = "columns = [{ as = 'l', derive = { length = 'v' } }]";
    assert_eq!(one(text, length, "Zoë".into()), Value::Int(3));
    let product = "columns = [{ as = 'p', derive = { product = ['v', 'v'] } }]";
    assert_eq!(one(ColumnType::Int64, product, Value::Int(-3)), Value::Int(9));
    let error = shape(ColumnType::Int64, product, Value::Int(1 << 40)).unwrap_err().to_string();
    assert!(error.contains("overflows") && error.contains("key (1)"), "{error}");
    let at = "filter = { column = 'v', op = '<', value = '2025-01-01T00:00:00Z' }";
    assert_eq!(shape(ColumnType::Timestamp, at, Value::Timestamp(1_735_689_600_000_000)).unwrap(), None);
    assert!(shape(ColumnType::Timestamp, at, Value::Timestamp(0)).unwrap().is_some());
    assert_eq!(shape(ColumnType::Timestamp, at, Value::Null).unwrap(), None, "NULL is not less than anything");
}

fn txn(index: u64, statements: Vec<Statement>) -> PlannedTxn {
    PlannedTxn { index: TxnIndex(index), kind: "test", lane: None, intended: Duration::from_millis(index), statements }
}

type Told = Vec<(Lsn, i64, ChangeKind)>;

fn replay(statements: Vec<Statement>) -> (Result<ExpectedState, OracleError>, Told) {
    let mut state = ExpectedState::new(&table(ColumnType::Int64));
    state.load(T, [vec![1.into(), 10.into()], vec![2.into(), Value::Null]]).unwrap();
    let stream = [txn(0, vec![]), txn(1, statements)];
    let mut replay = Replay::new(state, stream.into_iter(), &[(Lsn(7), TxnIndex(1))]).unwrap();
    let mut events = Vec::new();
    let result = replay.advance(Lsn(7), &mut |event| {
        let Key::Int(id) = event.key else { panic!("{event:?}") };
        events.push((event.lsn, *id, event.kind));
    });
    (result.cloned(), events)
}

#[test]
fn statements_mean_what_sql_says() {
    let key = |id: i64| vec![Value::Int(id)];
    let update = |id: i64, set| Statement::Update { table: T, key: key(id), set };
    let (state, events) = replay(vec![
        update(9, vec![(1, Assign::Add(1))]),
        Statement::Delete { table: T, key: key(9) },
        update(2, vec![(1, Assign::Add(1))]),
        update(1, vec![(1, Assign::Add(5)), (0, Assign::Add(2))]),
        Statement::Insert { table: T, row: vec![1.into(), 0.into()] },
        Statement::Read { table: T, key: key(1) },
    ]);
    let state = state.unwrap();
    let rows: Vec<_> = state.table(T).unwrap().rows.values().cloned().collect();
    let wanted: [Vec<Value>; 3] = [vec![1.into(), 0.into()], vec![2.into(), Value::Null], vec![3.into(), 15.into()]];
    assert_eq!(rows, wanted);
    use ChangeKind::{Delete, Insert, Update};
    assert_eq!(events, [(2, Update), (1, Delete), (3, Insert), (1, Insert)].map(|(id, kind)| (Lsn(7), id, kind)));
}

#[test]
fn what_a_database_would_have_refused_is_a_contradiction() {
    let overflow = Statement::Update { table: T, key: vec![1.into()], set: vec![(1, Assign::Add(i64::MAX))] };
    let twice = Statement::Insert { table: T, row: vec![1.into(), 1.into()] };
    let onto = Statement::Update { table: T, key: vec![1.into()], set: vec![(0, Assign::Set(2.into()))] };
    for statement in [overflow, twice, onto] {
        let error = replay(vec![statement.clone()]).0.unwrap_err();
        assert!(matches!(error, OracleError::Contradiction { .. }), "{statement:?}: {error}");
    }
}

#[test]
fn ledgers_that_can_not_be_are_refused() {
    let replay = |commits: &[(u64, u64)]| {
        let commits: Vec<_> = commits.iter().map(|&(lsn, txn)| (Lsn(lsn), TxnIndex(txn))).collect();
        let state = ExpectedState::new(&table(ColumnType::Int64));
        let mut replay = Replay::new(state, [txn(0, vec![]), txn(1, vec![])].into_iter(), &commits)?;
        replay.advance(Lsn(99), &mut |_| {}).map(|_| ())
    };
    assert!(replay(&[(1, 1), (2, 0)]).is_ok());
    assert!(matches!(replay(&[(2, 1), (2, 0)]), Err(OracleError::CommitsOutOfOrder { lsn: Lsn(2) })));
    assert!(matches!(replay(&[(1, 1), (2, 1)]), Err(OracleError::CommittedTwice { txn: TxnIndex(1) })));
    assert!(matches!(replay(&[(1, 5)]), Err(OracleError::StreamEnded { txn: TxnIndex(5) })));
}

#[test]
fn watermarks_reached_in_steps_give_the_state_reached_at_once() {
    let workload = Workload::load("orders", &Overrides { rows: Some(200), ..Overrides::default() }).unwrap();
    let commits: Vec<_> = workload.stream().take(500).filter(PlannedTxn::is_write).collect();
    let commits: Vec<_> = commits.iter().zip(1..).map(|(txn, lsn)| (Lsn(lsn), txn.index)).collect();
    let mut steps = Replay::of_workload(&workload, &commits).unwrap();
    let mut once = Replay::of_workload(&workload, &commits).unwrap();
    let (mut by_steps, mut by_one) = (0, 0);
    for watermark in [0, 1, 7, 7, 3, 100, 600] {
        steps.advance(Lsn(watermark), &mut |_| by_steps += 1).unwrap();
    }
    once.advance(Lsn(600), &mut |_| by_one += 1).unwrap();
    assert!(by_one > 1000 && by_steps == by_one, "{by_one} {by_steps}");
    for ((_, a), (_, b)) in steps.state().iter().zip(once.state().iter()) {
        assert_eq!(a.rows, b.rows);
    }
}
