//! Values, words and keys that come back as they were, and edits that are refused.

use super::super::{SearchError, SearchIndex, SearchOptions};
use super::support::*;
use crate::apply::edits::CurrentRows;
use crate::model::{Catalog, Column, ColumnType, Decimal, Key, KeyRef, Lsn, TableId, TableSchema, Value};
use crate::sink::{Sink, SinkError};
use proptest::prelude::*;

fn search_error(outcome: Result<(), SinkError>) -> SearchError {
    match outcome {
        Err(SinkError::Search(error)) => error,
        other => panic!("a search error was to come, and not {other:?}"),
    }
}

#[test]
fn null_and_empty_text_are_two_values() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    let rows = [vec![Value::Null, Value::Int(1), Value::Null], vec![Value::Int(2), Value::Int(2), Value::text("")]];
    index.apply(&upsert(1, INT, &rows)).expect("accepted");
    index.publish(Lsn(1)).expect("published");
    let view = index.reader().view();
    assert_eq!(view.columns(INT), [1, 2]);
    assert_eq!(view.row(INT, KeyRef::Int(1)).expect("a row"), Some(vec![Value::Int(1), Value::Null]));
    assert_eq!(view.row(INT, KeyRef::Int(2)).expect("a row"), Some(vec![Value::Int(2), Value::text("")]));
    let current = index.current_row(INT, KeyRef::Int(2)).expect("a row");
    assert_eq!(current, Some(vec![Value::Null, Value::Int(2), Value::text("")]), "a column that is not kept is NULL");
}

#[test]
fn a_key_of_every_type_comes_back() {
    let types = [
        (ColumnType::Bool, Value::Bool(true)),
        (ColumnType::Int64, Value::Int(i64::MIN)),
        (ColumnType::Float64, Value::Float(-0.0)),
        (ColumnType::Decimal { precision: 38, scale: 3 }, Value::Decimal(Box::new(Decimal { unscaled: -7, scale: 3 }))),
        (ColumnType::Text, Value::text("a\0ß")),
        (ColumnType::Bytes, Value::Bytes([0, 255, 0].into())),
        (ColumnType::Date, Value::Date(-1)),
        (ColumnType::Timestamp, Value::Timestamp(i64::MAX)),
    ];
    let text = || Column::nullable("s", ColumnType::Text);
    let one = |(at, (column_type, _)): (usize, &(ColumnType, Value))| {
        TableSchema::new(&at.to_string(), vec![text(), Column::required("k", *column_type)], vec![1]).expect("a schema")
    };
    let mut catalog = Catalog { tables: types.iter().enumerate().map(one).collect() };
    let all = types.iter().enumerate().map(|(at, (of, _))| Column::required(&format!("k{at}"), *of));
    let all: Vec<Column> = all.chain([text()]).collect();
    catalog.tables.push(TableSchema::new("all", all, (0..types.len()).rev().collect()).expect("a schema"));
    let mut rows: Vec<Vec<Value>> = types.iter().map(|(_, value)| vec![Value::text("word"), value.clone()]).collect();
    rows.push(types.iter().map(|(_, value)| value.clone()).chain([Value::text("word")]).collect());

    let dir = tempfile::tempdir().expect("a folder");
    let mut index = SearchIndex::create(dir.path(), &catalog, SearchOptions::default()).expect("an index");
    let edit =
        |(at, row): (usize, &Vec<Value>)| edits(&catalog, TableId(at as u32), false, &[], std::slice::from_ref(row));
    index.apply(&edit_set(1, rows.iter().enumerate().map(edit).collect())).expect("accepted");
    index.publish(Lsn(1)).expect("published");
    let view = index.reader().view();
    for (at, row) in rows.iter().enumerate() {
        let key = key_of(&catalog.tables[at], row);
        assert_eq!(view.row(TableId(at as u32), key.as_ref()).expect("a row").as_ref(), Some(row), "table {at}");
        assert_eq!(view.hits(TableId(at as u32), key.as_ref()).expect("hits"), 1);
    }
    let mut found = view.search("WORD", 100).expect("a search");
    found.sort();
    let expected: Vec<(TableId, Key)> =
        rows.iter().enumerate().map(|(at, row)| (TableId(at as u32), key_of(&catalog.tables[at], row))).collect();
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_text_comes_back(texts in prop::collection::vec((any::<String>(), prop::option::of(any::<String>())), 1..8)) {
        let dir = tempfile::tempdir().expect("a folder");
        let mut index = create(dir.path());
        let rows: std::collections::BTreeMap<&String, Vec<Value>> = texts.iter().map(|(key, text)| {
            let text = text.as_ref().map_or(Value::Null, |text| Value::text(text.as_str()));
            (key, vec![Value::text(key.as_str()), Value::Null, text])
        }).collect();
        let rows: Vec<Vec<Value>> = rows.into_values().collect();
        index.apply(&upsert(1, TEXT, &rows)).expect("accepted");
        index.publish(Lsn(1)).expect("published");
        let view = index.reader().view();
        let by_key = rows.iter().map(|row| (key_of(&catalog().tables[2], row), row.clone())).collect();
        prop_assert_eq!(stored(&view, &catalog(), TEXT), kept(&view, TEXT, &by_key));
    }
}

#[test]
fn words_are_found_in_all_text_columns_and_text_has_no_operators() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    let two = vec![Value::Int(1), Value::text("alpha"), Value::text("k"), Value::Null, Value::text("beta")];
    let edits = vec![
        edits(&catalog(), INT, false, &[], &[int_row(1, "Alpha Beta gamma"), int_row(2, "alpha -beta AND (")]),
        edits(&catalog(), TWO, false, &[], &[two]),
    ];
    index.apply(&edit_set(1, edits)).expect("accepted");
    index.publish(Lsn(1)).expect("published");
    let view = index.reader().view();
    assert_eq!(view.count_matches("beta alpha").expect("a count"), 3);
    assert_eq!(view.search("gamma!", 9).expect("a search"), [(INT, Key::Int(1))]);
    assert_eq!(view.search("-beta AND (alpha", 9).expect("a search"), [(INT, Key::Int(2))]);
    assert_eq!(view.search("alpha", 0).expect("a search"), []);
    assert_eq!(view.search("alpha", 2).expect("a search").len(), 2);
    assert_eq!(view.search(" -- ", usize::MAX).expect("a search"), []);
    assert_eq!(view.search("alpha", usize::MAX).expect("a search").len(), 3);
    assert_eq!(view.count_matches("delta").expect("a count"), 0);
}

#[test]
fn edits_that_do_not_fit_are_refused_and_nothing_of_them_is_accepted() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    let good = || edits(&catalog(), INT, false, &[], &[int_row(1, "good")]);
    let mut other = edits(&catalog(), TEXT, false, &[], &[]);
    other.table = TWO;
    let error = search_error(index.apply(&edit_set(1, vec![good(), other])));
    assert!(error.to_string().contains("columns does not fit"), "{error}");
    let mut nowhere = good();
    nowhere.table = TableId(9);
    let error = search_error(index.apply(&edit_set(1, vec![good(), nowhere])));
    assert!(matches!(error, SearchError::NoTable { table: 9 }), "{error}");
    let long = vec![Value::text("x".repeat(70_000)), Value::Null, Value::text("s")];
    let long = edits(&catalog(), TEXT, false, &[], &[long]);
    let error = search_error(index.apply(&edit_set(1, vec![good(), long])));
    assert!(error.to_string().contains("\"text\": a key of 70003 bytes is too long"), "{error}");
    let longest = vec![Value::text("x".repeat(64_990)), Value::Null, Value::text("y".repeat(200_000))];
    index.apply(&upsert(1, TEXT, std::slice::from_ref(&longest))).expect("accepted");
    index.publish(Lsn(1)).expect("published");
    let view = index.reader().view();
    assert_eq!(view.doc_count(), 1, "the good rows of refused edit sets are not there");
    let key = key_of(&catalog().tables[2], &longest);
    assert_eq!(view.hits(TEXT, key.as_ref()).expect("hits"), 1);
    assert_eq!(view.row(TEXT, key.as_ref()).expect("a row"), Some(vec![longest[0].clone(), longest[2].clone()]));
}

#[test]
fn an_update_after_a_delete_in_one_group_is_there_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut index = create(dir.path());
    for (at, text) in ["a", "b", "c"].into_iter().enumerate() {
        index.apply(&upsert(at as u64 + 1, INT, &[int_row(1, text), int_row(2, text)])).expect("accepted");
    }
    index.apply(&edit_set(4, vec![edits(&catalog(), INT, false, &[Key::Int(1)], &[])])).expect("accepted");
    index.apply(&upsert(5, INT, &[int_row(1, "d")])).expect("accepted");
    index.publish(Lsn(5)).expect("published");
    let truncated = edits(&catalog(), INT, true, &[], &[int_row(2, "e")]);
    index.apply(&edit_set(6, vec![truncated])).expect("accepted");
    let before = index.reader().view();
    index.publish(Lsn(6)).expect("published");
    assert_eq!(before.row(INT, KeyRef::Int(1)).expect("a row"), Some(vec![Value::Int(1), Value::text("d")]));
    assert_eq!(before.doc_count(), 2);
    let view = index.reader().view();
    assert_eq!((view.doc_count(), view.hits(INT, KeyRef::Int(1)).expect("hits")), (1, 0));
    assert_eq!(view.row(INT, KeyRef::Int(2)).expect("a row"), Some(vec![Value::Int(2), Value::text("e")]));
}
