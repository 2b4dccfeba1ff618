//! Sinks against the replayed ledger.

use freshbench::model::{Lsn, TableSchema, Value};
use freshbench::oracle::{ExpectedTable, Replay, Shape, diff};
use freshbench::sink::SinkKind;
use freshbench::sink::warehouse::row_values;
use freshbench::strategy::SinkReaders;
use freshbench::workload::{TxnIndex, Workload};

fn project(expected: &ExpectedTable, columns: &[usize]) -> ExpectedTable {
    let schema = &expected.schema;
    let kept = columns.iter().map(|&column| schema.columns[column].clone()).collect();
    let key = schema.key.iter().map(|key| columns.iter().position(|column| column == key).unwrap()).collect();
    let mut table = ExpectedTable::new(&TableSchema { name: schema.name.clone(), columns: kept, key });
    let pick = |row: &Vec<Value>| columns.iter().map(|&column| row[column].clone()).collect();
    table.rows = expected.rows.iter().map(|(key, row)| (key.clone(), pick(row))).collect();
    table
}

/// Every sink against the replayed ledger as of its own position, by content; the search index also by a query for each
/// key. The position of a sink that is not there is not asked for.
pub fn assert_equal(
    workload: &Workload,
    commits: &[(Lsn, TxnIndex)],
    at: impl Fn(SinkKind) -> Lsn,
    readers: &SinkReaders,
    what: &str,
) {
    let fed = [
        (SinkKind::Warehouse, readers.warehouse.is_some()),
        (SinkKind::Search, readers.search.is_some()),
        (SinkKind::Cache, readers.cache.is_some()),
    ];
    for (sink, _) in fed.into_iter().filter(|(_, fed)| *fed) {
        assert_sink_equal(workload, commits, (sink, at(sink)), readers, what);
    }
}

fn assert_sink_equal(
    workload: &Workload,
    commits: &[(Lsn, TxnIndex)],
    (sink, at): (SinkKind, Lsn),
    readers: &SinkReaders,
    what: &str,
) {
    let mut replay = Replay::of_workload(workload, commits).unwrap();
    replay.advance(at, &mut |_| {}).unwrap();
    let shape = Shape::new(workload.catalog(), workload.transforms());
    for (table, schema) in workload.catalog().iter() {
        let expected = shape.apply(table, replay.state().table(table).unwrap()).unwrap();
        if let Some(reader) = readers.warehouse.as_ref().filter(|_| sink == SinkKind::Warehouse) {
            let version = reader.version();
            let rows: Vec<_> = version
                .scan(table, None, None)
                .map(Result::unwrap)
                .flat_map(|batch| (0..batch.num_rows()).map(|row| row_values(&batch, row)).collect::<Vec<_>>())
                .collect();
            let found = diff(&expected, || rows.iter().cloned().map(Ok::<_, std::io::Error>)).unwrap();
            assert!(found.is_equal(), "{what}: warehouse, {} at {at}: {found:?}", schema.name);
        }
        if let Some(reader) = readers.search.as_ref().filter(|_| sink == SinkKind::Search) {
            let view = reader.view();
            let columns = view.columns(table);
            if !columns.is_empty() {
                let expected = project(&expected, columns);
                let found = diff(&expected, || view.rows(table)).unwrap();
                assert!(found.is_equal(), "{what}: search, {} at {at}: {found:?}", schema.name);
                for key in expected.rows.keys() {
                    assert_eq!(view.hits(table, key.as_ref()).unwrap(), 1, "{what}: search, {}: {key:?}", schema.name);
                }
            }
        }
        if let Some(reader) = readers.cache.as_ref().filter(|_| sink == SinkKind::Cache) {
            let rows = || reader.entries(table).unwrap().filter_map(|entry| entry.map(|(_, _, row)| row).transpose());
            let found = diff(&expected, rows).unwrap();
            assert!(found.is_equal(), "{what}: cache, {} at {at}: {found:?}", schema.name);
        }
    }
}
