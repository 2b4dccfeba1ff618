//! The fold against hand-written cases and against a naive replay.

use super::*;
use crate::model::{Catalog, ChangeBuf, Column, ColumnType, CommitTime, Key, KeyColumn, TableSchema, ValueRef};
use crate::transform::TransformSet;
use crate::workload::TransformSpec;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use proptest::prelude::*;
use std::collections::BTreeMap;

const T: TableId = TableId(0);
use ValueRef::{Int, Null, Text, Unchanged};

fn catalog() -> Catalog {
    let columns = vec![
        Column::required("id", ColumnType::Int64),
        Column::required("n", ColumnType::Int64),
        Column::nullable("big", ColumnType::Text),
    ];
    Catalog { tables: vec![TableSchema::new("t", columns, vec![0]).unwrap()] }
}

fn folder(spec: &str) -> Folder {
    let specs: Vec<TransformSpec> =
        if spec.is_empty() { vec![] } else { vec![toml::from_str(&format!("table = 't'\n{spec}")).unwrap()] };
    Folder::new(Arc::new(TransformSet::compile(&catalog(), &specs).unwrap()))
}

/// A sink of one table with the columns `id, n, big`, that edits are applied to.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sink(BTreeMap<i64, Vec<Value>>);

impl CurrentRows for Sink {
    fn current_row(&self, _: TableId, key: KeyRef<'_>) -> Result<Option<Vec<Value>>, CurrentRowError> {
        let KeyRef::Int(id) = key else { panic!("{key:?}") };
        Ok(self.0.get(&id).cloned())
    }
}

impl Sink {
    fn with(rows: &[(i64, i64, &str)]) -> Sink {
        Sink(rows.iter().map(|&(id, n, big)| (id, vec![id.into(), n.into(), big.into()])).collect())
    }

    fn apply(&mut self, edits: &EditSet) {
        for table in &edits.tables {
            if table.truncate {
                self.0.clear();
            }
            let (KeyColumn::Int(deletes), KeyColumn::Int(keys)) = (&table.deletes, &table.upsert_keys) else {
                panic!("integer keys")
            };
            assert_eq!(table.upserts.num_rows(), keys.len());
            assert!(deletes.iter().all(|key| !keys.contains(key)), "a key is deleted and upserted");
            deletes.iter().for_each(|key| drop(self.0.remove(key)));
            let (ids, ns) = (table.upserts.column(0), table.upserts.column(1));
            let bigs = table.upserts.column(2).as_string::<i32>();
            for (place, key) in keys.iter().enumerate() {
                assert_eq!(ids.as_primitive::<Int64Type>().value(place), *key);
                let n = ns.as_primitive::<Int64Type>().value(place);
                let big = bigs.iter().nth(place).unwrap().map_or(Value::Null, Value::from);
                self.0.insert(*key, vec![(*key).into(), n.into(), big]);
            }
        }
    }

    /// Applies one transaction as a group, twice: the second time must change nothing.
    fn run(&mut self, folder: &mut Folder, changes: impl FnOnce(&mut Build)) {
        let mut txn = Build(Transaction { lsn: Lsn(1), ..Transaction::default() });
        changes(&mut txn);
        folder.push(&txn.0).unwrap();
        let edits = folder.finish(&*self).unwrap();
        self.apply(&edits);
        let once = self.clone();
        self.apply(&edits);
        assert_eq!(*self, once, "applying edits again changed the sink");
    }
}

struct Build(Transaction);

impl Build {
    fn insert(&mut self, id: i64, n: i64, big: &str) -> &mut Self {
        self.0.changes.push_insert(T, [Int(id), Int(n), Text(big)]).unwrap();
        self
    }
    fn update(&mut self, old: Option<i64>, id: i64, n: i64, big: ValueRef<'_>) -> &mut Self {
        let old = old.map(|old| [Int(old)]);
        self.0.changes.push_update(T, old.as_ref().map(|k| &k[..]), [Int(id), Int(n), big]).unwrap();
        self
    }
    fn delete(&mut self, id: i64) -> &mut Self {
        self.0.changes.push_delete(T, [Int(id)]).unwrap();
        self
    }
    fn truncate(&mut self) -> &mut Self {
        self.0.changes.push_truncate(T);
        self
    }
}

#[test]
fn the_last_image_wins() {
    let (mut sink, mut f) = (Sink::with(&[(7, 0, "old"), (8, 0, "old")]), folder(""));
    sink.run(&mut f, |t| {
        t.insert(1, 1, "a").delete(1);
        t.delete(7).insert(7, 7, "new");
        t.update(None, 8, 1, Text("x")).update(None, 8, 2, Text("y")).delete(8).insert(8, 3, "z");
        t.update(None, 8, 4, Text("last")).delete(99);
    });
    assert_eq!(sink, Sink::with(&[(7, 7, "new"), (8, 4, "last")]));
}

#[test]
fn keys_change_and_swap() {
    let (mut sink, mut f) = (Sink::with(&[(1, 10, "one"), (2, 20, "two"), (5, 50, "five")]), folder(""));
    sink.run(&mut f, |t| {
        t.update(Some(1), 3, 10, Unchanged).update(Some(2), 1, 20, Unchanged).update(Some(3), 2, 10, Unchanged);
        t.update(Some(5), 6, 51, Text("six"));
    });
    assert_eq!(sink, Sink::with(&[(1, 20, "two"), (2, 10, "one"), (6, 51, "six")]));
}

#[test]
fn a_truncate_is_a_barrier() {
    let (mut sink, mut f) = (Sink::with(&[(1, 1, "a"), (2, 2, "b")]), folder(""));
    sink.run(&mut f, |t| {
        t.insert(3, 3, "gone").truncate().insert(4, 4, "stays").insert(5, 5, "x").delete(5);
    });
    assert_eq!(sink, Sink::with(&[(4, 4, "stays")]));
    let mut txn = Build(Transaction { lsn: Lsn(2), ..Transaction::default() });
    txn.truncate().update(None, 4, 5, Unchanged);
    assert!(matches!(f.push(&txn.0), Err(ApplyError::MissingBase { .. })), "nothing survives a truncate");
    assert!(matches!(f.finish(&sink), Err(ApplyError::Poisoned)));
    f.reset();
    assert_eq!(f.finish(&sink).unwrap().tables.len(), 0);
}

#[test]
fn unchanged_values_come_from_the_newest_image() {
    let (mut sink, mut f) = (Sink::with(&[(1, 1, "sink"), (2, 2, "sink two")]), folder(""));
    sink.run(&mut f, |t| {
        t.update(None, 1, 5, Unchanged).update(None, 1, 6, Unchanged);
        t.update(None, 2, 1, Text("group")).update(None, 2, 2, Unchanged);
        t.insert(3, 1, "inserted").update(None, 3, 2, Unchanged);
    });
    assert_eq!(sink, Sink::with(&[(1, 6, "sink"), (2, 2, "group"), (3, 2, "inserted")]));
    let mut txn = Build(Transaction { lsn: Lsn(2), ..Transaction::default() });
    txn.update(None, 77, 5, Unchanged);
    f.push(&txn.0).unwrap();
    let error = f.finish(&sink).unwrap_err().to_string();
    assert!(error.contains("\"t\"") && error.contains("77") && error.contains("\"big\""), "{error}");
}

#[test]
fn an_unchanged_value_keeps_what_was_computed_from_it() {
    let hashed = "columns = [{ column = 'big', hash = 'sha256' }]";
    let (mut sink, mut f) = (Sink::default(), folder(hashed));
    sink.run(&mut f, |t| {
        t.insert(1, 1, "abc");
    });
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sink, Sink::with(&[(1, 1, hash)]));
    sink.run(&mut f, |t| {
        t.update(None, 1, 2, Unchanged);
    });
    assert_eq!(sink, Sink::with(&[(1, 2, hash)]));
    sink.run(&mut f, |t| {
        t.update(Some(1), 9, 3, Unchanged);
    });
    assert_eq!(sink, Sink::with(&[(9, 3, hash)]));
}

#[test]
fn a_row_that_stops_passing_the_filter_is_deleted() {
    let (mut sink, mut f) = (Sink::default(), folder("filter = { column = 'n', op = '>', value = 10 }"));
    sink.run(&mut f, |t| {
        t.insert(1, 11, "a").insert(2, 10, "b").insert(3, 12, "c");
    });
    assert_eq!(sink, Sink::with(&[(1, 11, "a"), (3, 12, "c")]));
    sink.run(&mut f, |t| {
        t.update(None, 1, 9, Unchanged).update(None, 2, 20, Text("b"));
    });
    assert_eq!(sink, Sink::with(&[(2, 20, "b"), (3, 12, "c")]));
    let (mut sink, mut f) = (Sink::default(), folder("filter = { column = 'big', op = '=', value = 'keep' }"));
    sink.run(&mut f, |t| {
        t.insert(1, 1, "keep").insert(2, 2, "no");
    });
    sink.run(&mut f, |t| {
        t.update(None, 1, 5, Unchanged).update(None, 2, 5, Unchanged);
    });
    assert_eq!(sink, Sink::with(&[(1, 5, "keep")]));
}

#[test]
fn commits_must_come_in_order_and_of_known_tables() {
    let mut f = folder("");
    f.push(&Transaction { lsn: Lsn(5), ..Transaction::default() }).unwrap();
    let error = f.push(&Transaction { lsn: Lsn(4), ..Transaction::default() }).unwrap_err();
    assert!(matches!(error, ApplyError::OutOfOrder { after: Lsn(5), lsn: Lsn(4) }));
    f.reset();
    let mut txn = Transaction { lsn: Lsn(4), ..Transaction::default() };
    txn.changes.push_truncate(TableId(9));
    assert!(matches!(f.push(&txn), Err(ApplyError::Transform(TransformError::UnknownTable { table: 9 }))));
    f.reset();
    let mut txn = Transaction { lsn: Lsn(4), ..Transaction::default() };
    txn.changes.push_insert(T, [Text("seven"), Int(1), Null]).unwrap();
    let error = f.push(&txn).unwrap_err().to_string();
    assert!(error.contains("\"t\"") && error.contains("seven"), "{error}");
}

#[test]
fn text_that_is_not_utf8_is_told_with_table_and_key() {
    // A row that goes straight to the builders, one that is transformed, and one that is merged with the sink's row.
    let cases = [("", Int(70)), ("filter = { column = 'n', op = '>', value = 0 }", Int(70)), ("", Unchanged)];
    for (spec, n) in cases {
        let mut folder = folder(spec);
        let mut broken = ChangeBuf::new();
        broken.push_update(T, None, [Int(7), n, Text("brok")]).unwrap();
        let mut bytes = broken.into_bytes();
        let at = bytes.windows(4).position(|four| four == b"brok").unwrap();
        bytes[at] = 0xFF;
        let mut sound = ChangeBuf::new();
        sound.push_insert(T, [Int(8), Int(80), Text("sound")]).unwrap();
        let changes = [ChangeBuf::from_bytes(bytes).unwrap(), sound];
        let pushed: Result<(), ApplyError> = changes.into_iter().zip(1..).try_for_each(|(changes, lsn)| {
            folder.push(&Transaction { lsn: Lsn(lsn), committed_at: CommitTime(0), changes })
        });
        // A row with values that were not sent is read when it is folded, and its commit is known.
        let (error, wanted) = match pushed {
            Ok(()) => (folder.finish(&Sink::with(&[(7, 1, "old")])).unwrap_err(), ["table \"t\"", "(7)", "UTF-8"]),
            Err(error) => (error, ["commit", "1", "UTF-8"]),
        };
        let said = error.to_string();
        assert!(wanted.iter().all(|word| said.contains(word)), "{spec}: {said}");
        assert_eq!(matches!(error, ApplyError::Row { .. }), n == Int(70), "{spec}: {said}");
        assert!(matches!(folder.finish(&NoCurrentRows), Err(ApplyError::Poisoned)));
    }
}

#[test]
fn keys_of_several_columns_are_folded_too() {
    let columns = vec![
        Column::nullable("v", ColumnType::Int64),
        Column::required("b", ColumnType::Int64),
        Column::required("a", ColumnType::Text),
    ];
    let schema = TableSchema::new("pairs", columns, vec![2, 1]).unwrap();
    let mut f = Folder::new(Arc::new(TransformSet::identity(&Catalog { tables: vec![schema] })));
    let mut txn = Transaction { lsn: Lsn(1), ..Transaction::default() };
    txn.changes.push_insert(T, [Int(1), Int(7), Text("x")]).unwrap();
    txn.changes.push_update(T, Some(&[Text("x"), Int(7)]), [Int(2), Int(8), Unchanged]).unwrap();
    txn.changes.push_insert(T, [Null, Int(9), Text("y")]).unwrap();
    f.push(&txn).unwrap();
    let edits = f.finish(&NoCurrentRows).unwrap();
    let key = |a: &str, b: i64| Key::from_values(&[Text(a), Int(b)]).unwrap();
    let [table] = edits.tables.as_slice() else { panic!("{edits:?}") };
    assert_eq!(table.deletes.iter().map(KeyRef::to_key).collect::<Vec<_>>(), [key("x", 7)]);
    assert_eq!(table.upsert_keys.iter().map(KeyRef::to_key).collect::<Vec<_>>(), [key("x", 8), key("y", 9)]);
    assert_eq!(table.upserts.column(0).as_primitive::<Int64Type>().value(0), 2);
    assert_eq!(edits.changes, 3);
}

/// One statement on the naive table; what it does depends on what is there.
#[derive(Clone, Debug)]
enum Step {
    Put(i64, i64, Option<String>),
    Delete(i64),
    Move(i64, i64, Option<String>),
    Truncate,
    EndOfGroup,
}

fn any_step() -> impl Strategy<Value = Step> {
    let big = || prop::option::of("[a-c]{0,2}");
    prop_oneof![
        8 => (0..6i64, 0..100i64, big()).prop_map(|(id, n, big)| Step::Put(id, n, big)),
        3 => (0..6i64).prop_map(Step::Delete),
        4 => (0..6i64, 0..6i64, big()).prop_map(|(from, to, big)| Step::Move(from, to, big)),
        1 => Just(Step::Truncate),
        3 => Just(Step::EndOfGroup),
    ]
}

proptest! {
    /// Whatever the grouping, the sink ends as the naive table does. `None` for the text means: not sent.
    #[test]
    fn folded_groups_equal_a_naive_replay(steps in prop::collection::vec(any_step(), 0..60)) {
        let (mut sink, mut naive, mut f) = (Sink::default(), Sink::default(), folder(""));
        let mut txn = Build(Transaction { lsn: Lsn(1), ..Transaction::default() });
        for step in steps.into_iter().chain([Step::EndOfGroup]) {
            match step {
                Step::Put(id, n, big) => {
                    let old = naive.0.get(&id).map(|row| row[2].clone());
                    let sent = big.as_deref().map_or(Unchanged, Text);
                    match &old {
                        Some(_) => { txn.update(None, id, n, sent); }
                        None => { txn.insert(id, n, big.as_deref().unwrap_or("")); }
                    }
                    let now = big.map(Value::text).or(old).unwrap_or(Value::text(""));
                    naive.0.insert(id, vec![id.into(), n.into(), now]);
                }
                Step::Delete(id) => { naive.0.remove(&id); txn.delete(id); }
                Step::Move(from, to, big) if from != to && !naive.0.contains_key(&to) => {
                    let Some(old) = naive.0.remove(&from) else { continue };
                    txn.update(Some(from), to, 5, big.as_deref().map_or(Unchanged, Text));
                    let now = big.map_or(old[2].clone(), Value::text);
                    naive.0.insert(to, vec![to.into(), 5.into(), now]);
                }
                Step::Move(..) => {}
                Step::Truncate => { naive.0.clear(); txn.truncate(); }
                Step::EndOfGroup => {
                    f.push(&txn.0).unwrap();
                    let edits = f.finish(&sink).unwrap();
                    sink.apply(&edits);
                    prop_assert_eq!(&sink, &naive);
                    txn = Build(Transaction { lsn: Lsn(txn.0.lsn.0 + 1), ..Transaction::default() });
                }
            }
        }
    }
}

#[test]
fn a_group_that_is_too_wide_for_one_batch_comes_in_parts() {
    let text = "x".repeat(100);
    let mut changes = ChangeBuf::default();
    changes.push_truncate(T);
    for id in 0..10 {
        changes.push_insert(T, [Int(id), Int(id), Text(&text)]).unwrap();
    }
    changes.push_delete(T, [Int(20)]).unwrap();
    let txn = Transaction { lsn: Lsn(1), committed_at: CommitTime(0), changes };
    let old = Sink::with(&[(1, 0, "old"), (30, 0, "old")]);
    let edits_of = |bytes: usize| {
        let mut folder = folder("").with_part_bytes(bytes);
        folder.push(&txn).unwrap();
        folder.finish(&old).unwrap()
    };
    let (whole, parts) = (edits_of(usize::MAX), edits_of(300));
    assert_eq!(whole.tables.len(), 1);
    let rows: Vec<usize> = parts.tables.iter().map(|part| part.upserts.num_rows()).collect();
    assert_eq!(rows, [3, 3, 3, 1], "three encoded rows of 125 bytes reach 300");
    let truncates: Vec<bool> = parts.tables.iter().map(|part| part.truncate).collect();
    assert_eq!(truncates, [true, false, false, false]);
    let (mut one, mut other) = (old.clone(), old.clone());
    one.apply(&whole);
    other.apply(&parts);
    assert_eq!(one, other);
    assert_eq!(one.0.len(), 10);
}

#[test]
fn a_stream_of_wide_rows_ends_its_batches_early() {
    let set = TransformSet::compile(&catalog(), &[]).unwrap();
    let mut stream = crate::apply::BatchStream::new(set.table(T).unwrap(), 100).with_batch_bytes(250);
    let text = "x".repeat(100);
    let mut rows = Vec::new();
    for id in 0..10 {
        rows.extend(stream.push(&[Int(id), Int(id), Text(&text)]).unwrap().map(|batch| batch.num_rows()));
    }
    rows.extend(stream.finish().unwrap().map(|batch| batch.num_rows()));
    assert_eq!(rows, [3, 3, 3, 1]);
}
