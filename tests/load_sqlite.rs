//! Loading somebody else's SQLite file from outside: every row or a refusal that says why, held against SQLite's own count.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use assert_cmd::Command;
use rusqlite::Connection;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

struct Case {
    folder: TempDir,
    database: PathBuf,
}

struct Outcome {
    code: Option<i32>,
    said: String,
    /// Rows of a dump, if anything was loaded.
    rows: Option<usize>,
}

impl Case {
    fn new(sql: &str) -> Case {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("theirs.db");
        Connection::open(&database).unwrap().execute_batch(sql).unwrap();
        Case { folder, database }
    }

    fn run(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
        command.current_dir(self.folder.path()).args(arguments).timeout(Duration::from_secs(60)).output().unwrap()
    }

    fn load(&self, more: &[&str]) -> Outcome {
        let name = self.database.to_str().unwrap();
        let loaded = self
            .run(&[&["load", "--source", name, "--table", "t", "--warehouse", "wh", "--readers", "3"], more].concat());
        let said = String::from_utf8(loaded.stderr).unwrap();
        let kept = self.folder.path().join("wh").exists();
        let rows = kept.then(|| {
            let dumped = self.run(&["warehouse", "dump", "--warehouse", "wh", "--table", "t", "--format", "json"]);
            assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
            dumped.stdout.iter().filter(|&&byte| byte == b'\n').count()
        });
        let _ = fs::remove_dir_all(self.folder.path().join("wh"));
        Outcome { code: loaded.status.code(), said, rows }
    }

    fn count(&self) -> usize {
        let connection = Connection::open(&self.database).unwrap();
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap() as usize
    }

    /// Exit `code`, one line with all of `words`, and nothing kept.
    fn refused(&self, more: &[&str], code: i32, words: &[&str]) {
        let outcome = self.load(more);
        assert_eq!((outcome.code, outcome.rows), (Some(code), None), "{}", outcome.said);
        assert_eq!(outcome.said.lines().count(), 1, "{}", outcome.said);
        for word in words {
            assert!(outcome.said.contains(word), "{word:?} is not in {}", outcome.said);
        }
    }

    fn loads_all(&self, more: &[&str]) {
        let outcome = self.load(more);
        assert_eq!((outcome.code, outcome.rows), (Some(0), Some(self.count())), "{}", outcome.said);
    }

    /// Overwrites bytes of the file behind SQLite's back; `change` gets the file and the size of its pages.
    fn damage(&self, change: impl FnOnce(&mut Vec<u8>, usize)) {
        let mut bytes = fs::read(&self.database).unwrap();
        let page = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        change(&mut bytes, page);
        fs::write(&self.database, bytes).unwrap();
    }
}

const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)";

#[test]
fn keys_that_may_be_null_lose_no_row() {
    for (declared, names_rowid) in [
        ("k TEXT PRIMARY KEY, v", true),
        ("k INT PRIMARY KEY, v", true),
        ("k INTEGER PRIMARY KEY DESC, v", true),
        ("k TEXT COLLATE NOCASE PRIMARY KEY, v", true),
        ("k, v, PRIMARY KEY(k, v)", true),
        ("k, v, PRIMARY KEY(v, k)", true),
        ("k INTEGER PRIMARY KEY DESC, v, rowid INT, _rowid_ INT, oid INT", false),
        ("rowid INT, v, k INT PRIMARY KEY, _rowid_ INT, oid INT", false),
    ] {
        let make = |nulls: &str| {
            Case::new(&format!("CREATE TABLE t({declared}); {MANY} INSERT INTO t(k, v) SELECT i, i FROM n; {nulls}"))
        };
        make("").loads_all(&[]);
        let case = make("INSERT INTO t(k, v) VALUES(NULL, -1), (NULL, -2)");
        let remedy = if names_rowid { "--key rowid" } else { "--key" };
        case.refused(&[], 2, &["\"t\"", "\"k\"", "NULL", remedy]);
        if names_rowid {
            case.loads_all(&["--key", "rowid"]);
        }
        case.loads_all(&["--key", "v"]);
    }
}

#[test]
fn keys_at_the_edges_of_ranges_come_once() {
    let extremes = "(-9223372036854775808), (9223372036854775807), (0), (-1)";
    for sql in [
        format!("CREATE TABLE t(k INTEGER PRIMARY KEY); INSERT INTO t VALUES {extremes}"),
        format!("CREATE TABLE t(k INTEGER PRIMARY KEY) WITHOUT ROWID; INSERT INTO t VALUES {extremes}"),
        format!(
            "CREATE TABLE t(k, PRIMARY KEY(k DESC)) WITHOUT ROWID; {MANY} INSERT INTO t SELECT i FROM n UNION ALL SELECT i + 0.5 FROM n"
        ),
        format!(
            "CREATE TABLE t(k PRIMARY KEY) WITHOUT ROWID; {MANY} INSERT INTO t SELECT i FROM n UNION ALL SELECT 'x' || i FROM n"
        ),
        format!(
            "PRAGMA encoding = 'UTF-16be'; CREATE TABLE t(k TEXT COLLATE RTRIM PRIMARY KEY) WITHOUT ROWID; {MANY} INSERT INTO t SELECT i || ' ' FROM n"
        ),
        format!(
            "CREATE TABLE t(k TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID; {MANY} INSERT INTO t SELECT 'A' || i FROM n"
        ),
        format!("CREATE TABLE t(a INT, k AS (a * 2) STORED, b AS (a + 1)); {MANY} INSERT INTO t SELECT i FROM n"),
    ] {
        Case::new(&sql).loads_all(&[]);
    }
}

#[test]
fn two_rows_of_one_key_are_named_by_it_with_the_remedy_that_helps() {
    let case = Case::new("CREATE TABLE t(k PRIMARY KEY, v); INSERT INTO t VALUES(1, 'a'), ('1', 'b')");
    case.refused(&[], 2, &["\"t\"", "key \"1\"", "--key rowid"]);
    case.loads_all(&["--key", "ROWID"]);
    case.loads_all(&["--key", "k,v"]);
    case.refused(&["--key", "k,nope"], 2, &["no column \"nope\"", "k, v"]);
    let case = Case::new("CREATE TABLE t(a INT, b TEXT); INSERT INTO t VALUES(1, 'x'), (1, 'x')");
    case.refused(&["--key", "b,a"], 2, &["key \"x\", 1", "--key more"]);
    case.loads_all(&[]);
}

#[test]
fn a_tree_out_of_order_is_refused_and_nothing_is_kept() {
    let sql = format!(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); {MANY} INSERT INTO t SELECT i, printf('%050d', i) FROM n"
    );
    // Two leaves change places in their parent: SQLite still counts all rows, and finds fewer by range.
    let swapped = Case::new(&sql);
    swapped.damage(|bytes, page| {
        let root = page;
        assert_eq!(bytes[root], 5, "page 2 is the table's inner root");
        let cell = |bytes: &[u8], at: usize| {
            root + usize::from(u16::from_be_bytes([bytes[root + 12 + 2 * at], bytes[root + 13 + 2 * at]]))
        };
        let (one, other) = (cell(bytes, 3), cell(bytes, 20));
        for at in 0..4 {
            bytes.swap(one + at, other + at);
        }
    });
    assert_eq!(swapped.count(), 5_000);
    swapped.refused(&[], 1, &["\"t\"", "5000", "damaged"]);
    // A leaf is there twice, and another one not at all.
    let twice = Case::new(&sql);
    twice.damage(|bytes, page| bytes.copy_within(10 * page..11 * page, 9 * page));
    twice.refused(&[], 1, &["\"t\""]);
    let zeroed = Case::new(&sql);
    zeroed.damage(|bytes, page| bytes[9 * page..10 * page].fill(0));
    zeroed.refused(&[], 1, &["damaged"]);
    let cut = Case::new(&sql);
    cut.damage(|bytes, page| bytes.truncate(bytes.len() - 3 * page));
    cut.refused(&[], 1, &["damaged"]);
}

#[test]
fn an_index_that_differs_from_its_table_is_named() {
    let case = Case::new(&format!(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); CREATE INDEX of_v ON t(v); {MANY} INSERT INTO t SELECT i, i FROM n; \
         CREATE TABLE other(v TEXT); CREATE INDEX of_other ON other(v); INSERT INTO other VALUES('a'); \
         PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = \
         (SELECT rootpage FROM sqlite_schema WHERE name = 'of_other') WHERE name = 'of_v'"
    ));
    case.refused(&[], 1, &["\"t\"", "of_v", "REINDEX"]);
}

#[test]
fn values_that_break_a_constraint_are_no_damage() {
    let case = Case::new(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v INT CHECK(v < 10)); PRAGMA ignore_check_constraints = ON; \
         INSERT INTO t VALUES(1, 50)",
    );
    case.loads_all(&[]);
}

#[test]
fn what_is_no_ordinary_table_is_named_for_what_it_is() {
    let case = Case::new(
        "CREATE TABLE base(x); CREATE VIEW t AS SELECT x FROM base; CREATE VIRTUAL TABLE words USING fts5(body); \
         CREATE VIRTUAL TABLE boxes USING rtree(id, low, high)",
    );
    case.refused(&[], 2, &["\"t\" is a view", "CREATE TABLE"]);
    for (name, words) in [
        ("words", ["virtual table of fts5", "ordinary"]),
        ("boxes", ["virtual table of rtree", "ordinary"]),
        ("words_content", ["shadow table", "ordinary"]),
        ("sqlite_schema", ["SQLite's own", "choose another"]),
    ] {
        let loaded = case.run(&["load", "--source", "theirs.db", "--table", name, "--warehouse", "wh"]);
        let said = String::from_utf8(loaded.stderr).unwrap();
        assert_eq!(loaded.status.code(), Some(2), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", database.display()))
}

#[test]
fn a_hot_journal_is_named_and_rolled_back_as_the_message_says() {
    let case = Case::new(&format!(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT); {MANY} INSERT INTO t SELECT i, 'old' FROM n"
    ));
    // A journal as an application leaves it that dies in the middle: copied away while the transaction is open.
    let (died, journal) = (case.folder.path().join("died.db"), beside(&case.database, "-journal"));
    let writer = Connection::open(&case.database).unwrap();
    writer
        .execute_batch(
            "PRAGMA cache_size = 5; PRAGMA cache_spill = 5; BEGIN; UPDATE t SET v = 'half' || hex(zeroblob(100))",
        )
        .unwrap();
    fs::copy(&case.database, &died).unwrap();
    fs::copy(&journal, beside(&died, "-journal")).unwrap();
    drop(writer);
    let half = fs::read(&died).unwrap().windows(4).any(|bytes| bytes == b"half");
    assert!(half, "the file is half-written");
    let case = Case { database: died, ..case };
    case.refused(&[], 2, &["died.db-journal", "rolled back", "for writing"]);
    let said = case.load(&[]).said;
    assert!(!said.contains("immutable") && !said.contains("copy"), "{said}");
    // What it says to do.
    let rolled_back = Connection::open(&case.database).unwrap();
    rolled_back.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).unwrap();
    drop(rolled_back);
    case.loads_all(&[]);
    let connection = Connection::open(&case.database).unwrap();
    let old: i64 = connection.query_row("SELECT count(*) FROM t WHERE v = 'old'", [], |row| row.get(0)).unwrap();
    assert_eq!(old, 5_000);
}

#[test]
fn a_wal_that_a_crash_left_is_read() {
    let case = Case::new("PRAGMA journal_mode = WAL; CREATE TABLE t(id INTEGER PRIMARY KEY)");
    let writer = Connection::open(&case.database).unwrap();
    writer.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES(1), (2), (3)").unwrap();
    let died = case.folder.path().join("died.db");
    fs::copy(&case.database, &died).unwrap();
    fs::copy(beside(&case.database, "-wal"), beside(&died, "-wal")).unwrap();
    let case = Case { database: died, ..case };
    let outcome = case.load(&[]);
    assert_eq!((outcome.code, outcome.rows), (Some(0), Some(3)), "{}", outcome.said);
}

#[test]
fn a_pipe_is_no_database_and_is_not_waited_for() {
    let case = Case::new("CREATE TABLE t(x)");
    let pipe = case.folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let case = Case { database: pipe, ..case };
    case.refused(&[], 2, &["it is no file"]);
}

/// SQLite takes a path that begins with `file:` for a URI whose switches leave a journal unread.
#[test]
fn a_path_is_a_path_and_no_uri() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, value: i64| {
        let db = rusqlite::Connection::open(folder.path().join("made.db")).unwrap();
        db.execute_batch(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES ({value})")).unwrap();
        drop(db);
        std::fs::rename(folder.path().join("made.db"), folder.path().join(name)).unwrap();
    };
    make("two.db", 2);
    make("file:two.db", 20);
    make(":memory:", 200);
    for (number, (source, want)) in
        [("two.db", "2\n"), ("file:two.db", "20\n"), (":memory:", "200\n")].into_iter().enumerate()
    {
        let run = |arguments: &[&str]| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_freshbench"));
            let output = command.current_dir(folder.path()).args(arguments).output().unwrap();
            assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let warehouse = format!("w{number}");
        run(&["-q", "load", "--source", source, "--table", "t", "--warehouse", &warehouse]);
        assert_eq!(run(&["warehouse", "dump", "--warehouse", &warehouse, "--table", "t"]), want);
    }
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_freshbench"));
    let arguments = ["load", "--source", "file:two.db?immutable=1", "--table", "t", "--warehouse", "w"];
    let output = command.current_dir(folder.path()).args(arguments).output().unwrap();
    assert!(!output.status.success() && !folder.path().join("w").exists());
}
