//! What a scan leaves out: chunks that the filter rules out, by the plan's own counters.

use super::support::*;
use super::{lines, session};
use crate::model::{Key, Lsn, TableId};
use crate::sink::Sink;
use crate::sink::warehouse::sql::SqlSession;

const T: TableId = TableId(0);

/// The figure behind `name=` in the line of the scan, of EXPLAIN ANALYZE.
fn counted(session: &SqlSession, sql: &str, name: &str) -> u64 {
    let explained = lines(session, &format!("EXPLAIN ANALYZE {sql}")).join("\n");
    let scan = explained.lines().find(|line| line.contains("WarehouseScan")).expect("a scan");
    let figure = scan.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("no {name} in {scan}"));
    figure.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a figure")
}

#[test]
fn a_filter_reads_the_chunks_that_may_hold_an_answer_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = catalog();
    let mut warehouse = create(folder.path());
    // Ten segments of 64 ascending keys.
    for part in 0..10i64 {
        let rows = int_rows(part * 64..(part + 1) * 64, part);
        warehouse.apply(&edit_set(part as u64 + 1, vec![edits(&catalog, T, false, &[], &rows)])).expect("apply");
        warehouse.publish(Lsn(part as u64 + 1)).expect("publish");
        warehouse.checkpoint().expect("checkpoint");
    }
    assert_eq!(warehouse.reader().version().chunk_count(T), 10);
    let opened = crate::sink::WarehouseReader::open(folder.path()).expect("a reader");
    for version in [warehouse.reader().version(), opened.version()] {
        let session = session(&version);
        for (filter, chunks, rows) in [
            ("id = 100", 1, 1),
            ("id < 128", 2, 128),
            ("id >= 600", 1, 40),
            ("id = 5 OR id = 639", 2, 2),
            ("id IN (1, 65, 129)", 3, 3),
            ("id BETWEEN 60 AND 70", 2, 11),
            ("n = 4", 1, 64),
            ("n > 3 AND id < 300", 1, 44),
            ("id > 1000", 0, 0),
            ("id < 64 AND s LIKE 'row 1%'", 1, 11),
            ("s = 'row 9'", 10, 1),
        ] {
            let sql = format!("SELECT id, s FROM \"by/int\" WHERE {filter}");
            assert_eq!(lines(&session, &sql).len(), rows, "{filter}");
            let count = format!("SELECT count(s) FROM \"by/int\" WHERE {filter}");
            if chunks > 0 {
                assert_eq!(counted(&session, &count, "chunks_read"), chunks, "{filter}");
                assert_eq!(counted(&session, &count, "chunks_ruled_out"), 10 - chunks, "{filter}");
            }
        }
    }
    // The greatest key of a chunk whose greatest row is dead still bounds it, and is no answer.
    let set = edit_set(11, vec![edits(&catalog, T, false, &[Key::Int(639)], &[])]);
    warehouse.apply(&set).expect("apply");
    warehouse.publish(Lsn(11)).expect("publish");
    let session = session(&warehouse.reader().version());
    assert_eq!(lines(&session, "SELECT max(id), count(*) FROM \"by/int\""), ["638|639"]);
    assert_eq!(counted(&session, "SELECT sum(n) FROM \"by/int\" WHERE id > 570", "dead_rows"), 1);
}

#[test]
fn rows_and_ranges_that_are_known_need_no_scan() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = catalog();
    let mut warehouse = create(folder.path());
    warehouse.apply(&edit_set(1, vec![edits(&catalog, T, false, &[], &int_rows(7..50, 1))])).expect("apply");
    warehouse.publish(Lsn(1)).expect("publish");
    warehouse.checkpoint().expect("checkpoint");
    let session = session(&warehouse.reader().version());
    let sql = "SELECT count(*), min(id), max(id) FROM \"by/int\"";
    assert_eq!(lines(&session, sql), ["43|7|49"]);
    let plan = lines(&session, &format!("EXPLAIN {sql}")).join("\n");
    assert!(!plan.contains("WarehouseScan"), "{plan}");
}
