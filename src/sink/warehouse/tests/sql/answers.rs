//! Answers worked out by hand.

use super::super::super::{Warehouse, WarehouseOptions, WarehouseReader, versions};
use super::support::*;
use super::{SqlOptions, SqlSession, ask, lines, one, session};
use crate::model::{Catalog, Column, ColumnType, Decimal, Key, Lsn, TableId, TableSchema, Value};
use crate::sink::Sink;

const T: TableId = TableId(0);

fn filled(folder: &std::path::Path) -> Warehouse {
    let catalog = catalog();
    let mut warehouse = create(folder);
    let set =
        |at, rows: Vec<Vec<Value>>, deletes: &[Key]| edit_set(at, vec![edits(&catalog, T, false, deletes, &rows)]);
    warehouse.apply(&set(1, int_rows(1..=100, 10), &[])).expect("apply");
    warehouse.publish(Lsn(1)).expect("publish");
    warehouse.checkpoint().expect("checkpoint");
    warehouse.apply(&set(2, int_rows(91..=110, 1), &[Key::Int(1)])).expect("apply");
    warehouse.publish(Lsn(2)).expect("publish");
    warehouse
}

#[test]
fn counts_sums_and_names_that_need_quotes() {
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = filled(folder.path());
    let session = session(&warehouse.reader().version());
    assert_eq!(one(&session, "SELECT count(*) FROM \"by/int\""), "109");
    // 2..=90 have 10, 91..=110 have 1.
    assert_eq!(one(&session, "SELECT sum(n), min(id), max(id) FROM \"by/int\""), "910|2|110");
    assert_eq!(one(&session, "SELECT count(*), sum(id) FROM \"by/int\" WHERE n = 1"), "20|2010");
    assert_eq!(one(&session, "SELECT s FROM \"by/int\" WHERE id = 95 AND n < 5"), "row 95");
    assert_eq!(one(&session, "SELECT count(*) FROM two"), "0");
    assert!(lines(&session, "SELECT id FROM \"by/int\" LIMIT 5").len() == 5);
    assert!(lines(&session, "SELECT 1 FROM \"by/int\" WHERE id > 100").len() == 10);
    assert_eq!(lines(&session, "SELECT id, s FROM \"by/int\" GROUP BY id ORDER BY id DESC LIMIT 1"), ["110|row 110"]);
}

#[test]
fn a_dead_row_fails_no_query() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = catalog();
    let mut warehouse = filled(folder.path());
    for (at, n) in [(3, 0), (4, 5)] {
        warehouse.apply(&edit_set(at, vec![edits(&catalog, T, false, &[], &int_rows(40..=41, n))])).expect("apply");
        warehouse.publish(Lsn(at)).expect("publish");
    }
    let session = session(&warehouse.reader().version());
    assert_eq!(one(&session, "SELECT count(*) FROM \"by/int\" WHERE 20 / n = 4"), "2");
}

#[test]
fn a_session_stays_at_its_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = filled(folder.path());
    let before = session(&warehouse.reader().version());
    let catalog = catalog();
    warehouse.apply(&edit_set(3, vec![edits(&catalog, T, true, &[], &[])])).expect("apply");
    warehouse.publish(Lsn(3)).expect("publish");
    warehouse.checkpoint().expect("checkpoint");
    assert_eq!(one(&before, "SELECT count(*) FROM \"by/int\" a JOIN \"by/int\" b ON a.id = b.id"), "109");
    assert_eq!(one(&session(&warehouse.reader().version()), "SELECT count(*) FROM \"by/int\""), "0");
}

#[test]
fn every_type_answers_as_it_is() {
    let decimal = |unscaled| Value::Decimal(Box::new(Decimal { unscaled, scale: 3 }));
    let columns = vec![
        Column::required("id", ColumnType::Int64),
        Column::nullable("b", ColumnType::Bool),
        Column::nullable("f64", ColumnType::Float64),
        Column::nullable("f32", ColumnType::Float32),
        Column::nullable("d", ColumnType::Decimal { precision: 38, scale: 3 }),
        Column::nullable("t", ColumnType::Text),
        Column::nullable("x", ColumnType::Bytes),
        Column::nullable("date", ColumnType::Date),
        Column::nullable("Ts", ColumnType::Timestamp),
        Column::nullable("local", ColumnType::LocalTimestamp),
    ];
    let catalog = Catalog { tables: vec![TableSchema::new("Every \"type\".", columns, vec![0]).expect("a schema")] };
    let noon = 19_700 * 86_400_000_000 + 43_200_000_000 + 123_456;
    let row = vec![
        Value::Int(i64::MAX),
        Value::Bool(true),
        Value::Float(0.1),
        Value::Float32(0.1),
        decimal(12_345_678_901_234_567_890_123_456_789_012_345),
        Value::text("é\n"),
        Value::Bytes([0, 255].into()),
        Value::Date(19_700),
        Value::Timestamp(noon),
        Value::LocalTimestamp(noon),
    ];
    let nulls: Vec<Value> = std::iter::once(Value::Int(1)).chain(vec![Value::Null; 9]).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let mut warehouse = Warehouse::create(folder.path(), &catalog, WarehouseOptions::default()).expect("a warehouse");
    let set = edit_set(1, vec![edits(&catalog, T, false, &[], &[row.clone(), nulls.clone()])]);
    warehouse.apply(&set).expect("apply");
    warehouse.publish(Lsn(1)).expect("publish");
    let table = "\"Every \"\"type\"\".\"";
    let hold = |session: &SqlSession, when: &str| {
        assert_eq!(
            ask(session, &format!("SELECT * FROM {table} ORDER BY id")).expect(when),
            [nulls.clone(), row.clone()]
        );
        for filter in [
            "b",
            "b = true",
            "f64 = CAST('0.1' AS double)",
            "f64 = 0.1",
            "f64 IN (0.5, 0.1) AND f64 BETWEEN 0.1 AND 0.1",
            "f32 > 0.1 AND 0.11 > f32",
            "f32 = CAST('0.1' AS real)",
            "d = 12345678901234567890123456789012.345",
            "d > 1.5",
            "t = 'é\n'",
            "x = X'00ff'",
            "date = DATE '2023-12-09'",
            "date > '2023-12-08' AND date < '2023-12-10'",
            "\"Ts\" = TIMESTAMP '2023-12-09T12:00:00.123456Z'",
            "\"Ts\" > '2023-12-09T11:59:59Z'",
            "local = TIMESTAMP '2023-12-09 12:00:00.123456'",
            "id = 9223372036854775807",
            "date_part('year', date) = 2023",
            "date_trunc('day', local) = TIMESTAMP '2023-12-09'",
        ] {
            let sql = format!("SELECT id FROM {table} WHERE {filter}");
            assert_eq!(lines(session, &sql), [i64::MAX.to_string()], "{when}: {filter}");
            let sql = format!("SELECT count(*) FROM {table} WHERE ({filter}) IS NULL");
            let nulls = if filter.starts_with("id") { "0" } else { "1" };
            assert_eq!(one(session, &sql), nulls, "{when}: {filter}");
        }
    };
    hold(&session(&warehouse.reader().version()), "in memory");
    warehouse.checkpoint().expect("checkpoint");
    let reader = WarehouseReader::open(folder.path()).expect("a reader");
    hold(&session(&reader.version()), "from the folder");
}

/// DataFusion alone would make these floats `decimal(30,15)`, and fail at the first.
#[test]
fn floats_beside_decimals_stay_floats() {
    let folder = tempfile::tempdir().expect("a folder");
    let columns = vec![Column::required("id", ColumnType::Int64), Column::nullable("f", ColumnType::Float64)];
    let catalog = Catalog { tables: vec![TableSchema::new("t", columns, vec![0]).expect("a schema")] };
    let mut warehouse = Warehouse::create(folder.path(), &catalog, small()).expect("a warehouse");
    let values = [1e300, 1e-20, f64::NAN, -0.5, 0.30000000000000004];
    let rows: Vec<_> =
        values.into_iter().enumerate().map(|(id, f)| vec![Value::Int(id as i64), Value::Float(f)]).collect();
    warehouse.apply(&edit_set(1, vec![edits(&catalog, T, false, &[], &rows)])).expect("apply");
    warehouse.publish(Lsn(1)).expect("publish");
    let session = session(&warehouse.reader().version());
    let ids = |filter: &str| lines(&session, &format!("SELECT id FROM t WHERE {filter} ORDER BY id")).join(" ");
    assert_eq!(ids("f > 0.5"), "0 2", "NaN is above all, as in PostgreSQL");
    assert_eq!(ids("f > 0.0 AND f < 0.1"), "1");
    assert_eq!(ids("-0.5 >= f"), "3");
    assert_eq!(ids("f = 0.3"), "");
    assert_eq!(ids("f BETWEEN 0.3 AND 0.31"), "4");
}

/// DataFusion's own sum of these would be -2.
#[test]
fn sums_do_not_wrap_around() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = catalog();
    let mut warehouse = create(folder.path());
    let rows = [(1, i64::MAX), (2, i64::MAX), (3, i64::MIN), (4, i64::MAX)];
    let rows: Vec<_> = rows.into_iter().flat_map(|(id, n)| int_rows([id], n)).collect();
    warehouse.apply(&edit_set(1, vec![edits(&catalog, T, false, &[], &rows)])).expect("apply");
    warehouse.publish(Lsn(1)).expect("publish");
    let session = session(&warehouse.reader().version());
    let t = "\"by/int\"";
    assert_eq!(one(&session, &format!("SELECT sum(n) FROM {t} WHERE id < 3")), "18446744073709551614");
    assert_eq!(one(&session, &format!("SELECT sum(n) FROM {t}")), "18446744073709551613");
    assert_eq!(one(&session, &format!("SELECT sum(n) FROM {t} WHERE id > 9")), "NULL");
    assert_eq!(one(&session, &format!("SELECT sum(DISTINCT n), count(*) FROM {t}")), "-1|4");
    let grouped = format!("SELECT id < 3, sum(n) FROM {t} GROUP BY 1 ORDER BY 1");
    assert_eq!(lines(&session, &grouped), ["0|-1", "1|18446744073709551614"]);
    let sliding = format!("SELECT sum(n) OVER (ORDER BY id ROWS 1 PRECEDING) FROM {t} ORDER BY id");
    assert_eq!(lines(&session, &sliding), ["9223372036854775807", "18446744073709551614", "-1", "-1"]);
    // Of decimals and floats it is DataFusion's.
    assert_eq!(one(&session, "SELECT sum(v) FROM (VALUES (1.25), (2.5)) AS t(v)"), "3.75");
}

#[test]
fn the_warehouse_tells_of_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = catalog();
    let options = WarehouseOptions { versions_kept: 3, ..small() };
    let mut warehouse = Warehouse::create(folder.path(), &catalog, options).expect("a warehouse");
    for round in 1..=2u64 {
        let rows = int_rows((round as i64 * 10)..(round as i64 * 10 + 10), 1);
        let deletes = if round == 2 { vec![Key::Int(10), Key::Int(11)] } else { Vec::new() };
        warehouse.apply(&edit_set(round, vec![edits(&catalog, T, false, &deletes, &rows)])).expect("apply");
        warehouse.publish(Lsn(round)).expect("publish");
        warehouse.checkpoint().expect("checkpoint");
    }
    let reader = WarehouseReader::open(folder.path()).expect("a reader");
    let known = versions(folder.path()).expect("versions");
    let session = SqlSession::new(&reader.version(), &known, SqlOptions::default()).expect("a session");
    let segments =
        "SELECT \"table\", rows, dead_rows, key_min, key_max FROM freshbench.segments ORDER BY key_min::bigint";
    assert_eq!(lines(&session, segments), ["by/int|10|2|10|19", "by/int|10|0|20|29"]);
    assert_eq!(
        one(&session, "SELECT count(*) FROM freshbench.segments WHERE file LIKE 'segment-%' AND bytes > 0"),
        "2"
    );
    let listed =
        "SELECT watermark, rows, is_current, committed_at > '2020-01-01' FROM freshbench.versions ORDER BY commit DESC";
    assert_eq!(lines(&session, listed)[..2], ["2|18|1|1", "1|10|0|1"]);
    let shown = lines(&session, "SHOW TABLES");
    for name in ["public|by/int", "freshbench|versions", "freshbench|segments"] {
        assert!(shown.iter().any(|line| line.contains(name)), "{name}: {shown:?}");
    }
    assert!(lines(&session, "DESCRIBE \"by/int\"").len() == 3);
}
