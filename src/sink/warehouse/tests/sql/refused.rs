//! What a query may not do, and what is said of a wrong one.

use super::support::*;
use super::{SqlError, SqlOptions, SqlSession, ask, session};
use crate::model::{Lsn, TableId};
use crate::sink::Sink;

fn failure(session: &SqlSession, sql: &str) -> SqlError {
    ask(session, sql).err().unwrap_or_else(|| panic!("{sql} was let in"))
}

#[test]
fn whatever_writes_or_reaches_for_files_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let outside = tempfile::tempdir().expect("a folder");
    let path = |name: &str| outside.path().join(name).display().to_string();
    std::fs::write(path("secret.csv"), "a\n1\n").expect("a file");
    let warehouse = create(folder.path());
    let session = session(&warehouse.reader().version());
    let (secret, out) = (path("secret.csv"), path("out.csv"));
    for sql in [
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "CREATE SCHEMA x",
        &format!("CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '{secret}'"),
        "DROP TABLE two",
        "INSERT INTO two VALUES (1, 'x', 'y')",
        "UPDATE two SET a = 1",
        "DELETE FROM two",
        "TRUNCATE TABLE two",
        &format!("COPY (SELECT 1) TO '{out}'"),
        &format!("COPY (SELECT 1) TO '{out}' STORED AS CSV"),
        &format!("EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}' STORED AS CSV"),
        "EXPLAIN ANALYZE INSERT INTO two VALUES (1, 'x', 'y')",
        "SET datafusion.execution.batch_size = 1",
        "RESET datafusion.execution.batch_size",
        "PREPARE x AS SELECT 1",
        "BEGIN",
        "SELECT 1 INTO x",
        "ANALYZE two",
    ] {
        let error = failure(&session, sql);
        assert!(error.is_the_querys(), "{sql}: {error:?}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    assert!(matches!(failure(&session, "DROP TABLE two"), SqlError::Refused { what } if what == "DROP TABLE"));
    for sql in [
        format!("SELECT * FROM '{secret}'"),
        format!("SELECT * FROM \"{secret}\""),
        format!("SELECT * FROM \"file://{secret}\""),
        format!("SELECT * FROM read_csv('{secret}')"),
    ] {
        let error = failure(&session, &sql);
        assert!(error.is_the_querys(), "{sql}: {error:?}");
    }
    let left: Vec<_> =
        std::fs::read_dir(outside.path()).expect("a folder").map(|entry| entry.expect("").file_name()).collect();
    assert_eq!(left, ["secret.csv"]);
}

#[test]
fn a_wrong_query_is_told_what_is_wrong_and_where() {
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = create(folder.path());
    let session = session(&warehouse.reader().version());
    for (sql, words) in [
        ("SELEC 1", &["SELEC", "line 1, column 1"][..]),
        ("SELECT id FROM \"by/int\" WHERE", &["expression", "EOF"]),
        ("SELECT x FROM two", &["x", "two.a"]),
        ("SELECT 1 FROM nowhere", &["\"nowhere\"", "\"by/int\"", "freshbench.versions"]),
        ("SELECT nothing(1)", &["nothing"]),
        ("SELECT 1; SELECT 2", &["single SQL statement"]),
        ("", &["no SQL statement"]),
        ("SELECT 1/0", &["zero"]),
        ("SELECT CAST('x' AS bigint)", &["x"]),
    ] {
        let error = failure(&session, sql);
        assert!(error.is_the_querys(), "{sql}: {error:?}");
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        for word in words {
            assert!(text.to_lowercase().contains(&word.to_lowercase()), "{sql}: {word:?} is not in {text}");
        }
    }
}

#[test]
fn a_deep_query_is_no_crash_and_a_long_one_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let warehouse = create(folder.path());
    let session = session(&warehouse.reader().version());
    let deep = (0..150).map(|n| format!("a + {n} = b::bigint")).collect::<Vec<_>>().join(" OR ");
    assert_eq!(ask(&session, &format!("SELECT * FROM two WHERE {deep}")).expect("a long OR").len(), 0);
    let nested = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(failure(&session, &nested).is_the_querys());
    assert!(failure(&session, &format!("SELECT '{}'", "x".repeat(1 << 20))).to_string().contains("64 KiB"));
}

#[test]
fn too_much_memory_is_an_error_with_a_remedy() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog = catalog();
    let mut warehouse = create(folder.path());
    let rows = int_rows(0..20_000, 1);
    warehouse.apply(&edit_set(1, vec![edits(&catalog, TableId(0), false, &[], &rows)])).expect("apply");
    warehouse.publish(Lsn(1)).expect("publish");
    let options = SqlOptions { threads: 2, memory_bytes_max: 100 << 10 };
    let session = SqlSession::new(&warehouse.reader().version(), &[], options).expect("a session");
    let error = failure(&session, "SELECT s, count(*) FROM \"by/int\" GROUP BY s ORDER BY s");
    assert!(matches!(error, SqlError::Memory { .. }), "{error:?}");
    assert!(!error.is_the_querys() && error.to_string().contains("allow more"), "{error}");
}
