//! Tables that others alter, partition, replace or republish while they are followed: what is kept equals what the server
//! itself copies, or the program says why it does not.

use crate::attach::{case, said};
use crate::server::PgServer;
use crate::support::{assert_same, copied, dumped, folder, load};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What has to come of it.
enum Then {
    /// Exit 0, and the rows are the server's.
    Equal,
    /// Exit 1 and one line with these words.
    Stops(&'static [&'static str]),
    /// Exit 5, and the first failures have these words.
    Flagged(&'static [&'static str]),
}

use Then::{Equal, Flagged, Stops};

const PLAIN: &str = "CREATE TABLE t(id int PRIMARY KEY, a bigint, b bigint, v text, updated_at timestamptz DEFAULT now()); \
    INSERT INTO t SELECT g, g * 1000, g, 'v' || g FROM generate_series(1, 200) g";
const PARTITIONED: &str = "CREATE TABLE t(id int, part int, v text, updated_at timestamptz DEFAULT now(), \
      PRIMARY KEY (id, part)) PARTITION BY LIST (part); \
    CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t2 PARTITION OF t FOR VALUES IN (2); \
    INSERT INTO t SELECT g, 1 + g % 2, 'v' || g FROM generate_series(1, 100) g; \
    CREATE TABLE loose(LIKE t INCLUDING ALL); INSERT INTO loose VALUES (900, 3, 'loose')";

fn attach(server: &PgServer, database: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.args([
        "-q",
        "attach",
        "--source",
        &server.url(database),
        "--tables",
        "public.t",
        "--batch-interval",
        "500ms",
    ]);
    command.arg("--warehouse").arg(folder.join("warehouse")).arg("--out").arg(folder.join("result")).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Follows `t`, has `altered` done once the rows are loaded, and waits for the end.
fn follow(server: &PgServer, database: &str, folder: &Path, arguments: &[&str], altered: &[&str]) -> Output {
    let mut child = attach(server, database, folder, arguments).spawn().unwrap();
    // The heartbeats begin when the rows are loaded.
    let loaded = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%emit_message%' AND application_name = 'freshbench' \
         AND datname = '{database}'"
    );
    let until = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() && server.psql("postgres", &loaded).trim() != "1" {
        assert!(Instant::now() < until, "{altered:?}: it does not begin");
        std::thread::sleep(Duration::from_millis(50));
    }
    altered.iter().for_each(|sql| drop(server.psql(database, sql)));
    child.wait_with_output().unwrap()
}

fn validation(folder: &Path) -> Value {
    case(folder)["validation"].take()
}

fn one(server: &PgServer, database: &str, (strategy, made, altered, then): &(&str, &str, &str, Then)) {
    server.psql("postgres", &format!("CREATE DATABASE {database}"));
    server.psql(database, made);
    let folder = folder();
    let ran = follow(server, database, folder.path(), &["--strategy", strategy, "--duration", "4s"], &[altered]);
    let said = said(&ran);
    let told = format!("{strategy}, {altered}: {said}");
    match then {
        Equal => {
            assert_eq!(ran.status.code(), Some(0), "{told}");
            assert_eq!(validation(folder.path())["equal"], true, "{told}");
            let rows = copied(server, database, "SELECT * FROM public.t ORDER BY 1, 2");
            assert_same(&dumped(&folder.path().join("warehouse"), "t"), &rows);
        }
        Stops(words) => {
            let line = String::from_utf8_lossy(&ran.stderr);
            assert_eq!(ran.status.code(), Some(1), "{told}");
            assert!(line.trim().lines().any(|line| words.iter().all(|word| line.contains(word))), "{told}");
            assert!(!folder.path().join("result/result.json").exists(), "a result of other rows is kept: {told}");
        }
        Flagged(words) => {
            assert_eq!(ran.status.code(), Some(5), "{told}");
            let found = validation(folder.path());
            let failures = found["failures"].as_array().unwrap().iter().filter_map(Value::as_str);
            let failures = failures.collect::<Vec<_>>().join("; ");
            assert!(words.iter().all(|word| failures.contains(word)), "{failures}\n{told}");
            assert_ne!(found["equal"], true, "{told}");
        }
    }
}

/// Several at a time, each in a database of its own.
fn all(name: &str, cases: &[(&str, &str, &str, Then)]) {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((place, case)) = {
                    let place = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    cases.get(place).map(|case| (place, case))
                } {
                    one(&server, &format!("{name}_{place}"), case);
                }
            });
        }
    });
}

const NEW: &str = "CREATE TABLE t3 PARTITION OF t FOR VALUES IN (3); INSERT INTO t VALUES (600, 3, 'new')";
const SUB: &str = "CREATE TABLE t4 PARTITION OF t FOR VALUES IN (4) PARTITION BY RANGE (id); \
    CREATE TABLE t41 PARTITION OF t4 FOR VALUES FROM (0) TO (10000); INSERT INTO t VALUES (700, 4, 'x'); \
    UPDATE t SET v = 'y', updated_at = now() WHERE id = 700";
const ATTACH: &str = "ALTER TABLE t ATTACH PARTITION loose FOR VALUES IN (3)";
const DETACH: &str = "ALTER TABLE t DETACH PARTITION t2";
const REATTACHED: &str = "BEGIN; ALTER TABLE t DETACH PARTITION t2; DELETE FROM t2 WHERE id < 20; \
    ALTER TABLE t ATTACH PARTITION t2 FOR VALUES IN (2); COMMIT";
const EMPTIED: &str = "TRUNCATE t1";

#[test]
fn partitions_come_and_go() {
    all(
        "parts",
        &[
            ("full-refresh", PARTITIONED, NEW, Equal),
            ("full-refresh", PARTITIONED, ATTACH, Equal),
            ("full-refresh", PARTITIONED, "DROP TABLE t2", Equal),
            ("incremental", PARTITIONED, NEW, Equal),
            ("incremental", PARTITIONED, ATTACH, Equal),
            ("incremental", PARTITIONED, DETACH, Equal),
            ("incremental", PARTITIONED, EMPTIED, Equal),
            ("incremental", PARTITIONED, REATTACHED, Equal),
            ("cdc-log", PARTITIONED, NEW, Equal),
            ("cdc-log", PARTITIONED, SUB, Equal),
            ("cdc-log", PARTITIONED, ATTACH, Flagged(&["1 missing", "loose", "was added"])),
            ("cdc-log", PARTITIONED, DETACH, Flagged(&["50 extra", "t2", "detached"])),
            ("cdc-log", PARTITIONED, EMPTIED, Flagged(&["50 extra", "t1", "emptied"])),
        ],
    );
}

const INSTANT: &str = "ALTER TABLE t ALTER a TYPE timestamptz USING to_timestamp(a)";
const SWAPPED: &str = "ALTER TABLE t RENAME a TO z; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME z TO b";
const ADDED: &str = "ALTER TABLE t ADD n int DEFAULT 7";
const WIDER: &str = "ALTER TABLE t ALTER id TYPE bigint; INSERT INTO t VALUES (5000000000, 1, 2, 'wide', now())";
const ANOTHER: &str = "CREATE TABLE n(LIKE t INCLUDING ALL); INSERT INTO n SELECT * FROM t WHERE id < 50; \
    ALTER TABLE t RENAME TO t_old; ALTER TABLE n RENAME TO t";
const KEY: &str = "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (id, b); \
    UPDATE t SET v = 'u', updated_at = now() WHERE id < 5; INSERT INTO t VALUES (1, 7, 700, 'second')";
const TYPES: &[&str] = &["\"a\"", "bigint", "timestamp with time zone", "begin again"];

#[test]
fn columns_and_keys_change() {
    const REST: &str = "; UPDATE t SET v = 'u', updated_at = now() WHERE id < 5";
    let (instant, swapped) = (format!("{INSTANT}{REST}"), format!("{SWAPPED}{REST}"));
    let rounded = "ALTER TABLE t ALTER a TYPE float8; UPDATE t SET a = a + 0.25, updated_at = now() WHERE id < 5";
    all(
        "columns",
        &[
            ("full-refresh", PLAIN, INSTANT, Stops(TYPES)),
            ("incremental", PLAIN, INSTANT, Stops(TYPES)),
            ("incremental", PLAIN, &instant, Stops(TYPES)),
            ("cdc-log", PLAIN, &instant, Stops(&["\"a\"", "bigint"])),
            ("cdc-log", PLAIN, INSTANT, Flagged(TYPES)),
            ("cdc-trigger", PLAIN, rounded, Stops(&["\"a\"", "bigint", "double precision"])),
            ("full-refresh", PLAIN, SWAPPED, Stops(&["(id, b, a, v, updated_at)"])),
            ("incremental", PLAIN, &swapped, Stops(&["(id, b, a, v, updated_at)"])),
            ("cdc-trigger", PLAIN, SWAPPED, Stops(&["(id, b, a, v, updated_at)"])),
            ("cdc-log", PLAIN, &swapped, Stops(&["(id, b, a, v, updated_at)"])),
            ("cdc-log", PLAIN, SWAPPED, Flagged(&["(id, b, a, v, updated_at)"])),
            ("full-refresh", PLAIN, ADDED, Stops(&["\"n\""])),
            ("incremental", PLAIN, ADDED, Stops(&["\"n\""])),
            ("cdc-log", PLAIN, ADDED, Flagged(&["\"n\""])),
            ("full-refresh", PLAIN, WIDER, Equal),
            ("incremental", PLAIN, WIDER, Equal),
            ("full-refresh", PLAIN, ANOTHER, Equal),
            ("incremental", PLAIN, ANOTHER, Equal),
            ("cdc-trigger", PLAIN, ANOTHER, Stops(&["another table"])),
            ("cdc-log", PLAIN, ANOTHER, Flagged(&["another table"])),
            ("full-refresh", PLAIN, KEY, Stops(&["(id)", "(id, b)"])),
            ("incremental", PLAIN, KEY, Stops(&["(id)", "(id, b)"])),
            ("cdc-trigger", PLAIN, KEY, Stops(&["(id)", "(id, b)"])),
            ("cdc-log", PLAIN, KEY, Stops(&["(id)", "(id, b)"])),
            (
                "cdc-log",
                PLAIN,
                "ALTER TABLE t ALTER a TYPE bigint USING a * 2",
                Flagged(&["200 wrong", "written anew"]),
            ),
        ],
    );
}

/// What a role that may read `t` alone is refused, or gets.
#[test]
fn a_partitioned_tables_rights_and_policies_are_its_own() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    // Partitions of several ranges of blocks, of different lengths.
    server.psql(
        "postgres",
        "CREATE SCHEMA s; CREATE SCHEMA inner_s; CREATE TABLE s.t(id int PRIMARY KEY, v text) PARTITION BY RANGE (id); \
         CREATE TABLE inner_s.t1 PARTITION OF s.t FOR VALUES FROM (0) TO (30000); \
         CREATE TABLE inner_s.t2 PARTITION OF s.t FOR VALUES FROM (30000) TO (40000); \
         INSERT INTO s.t SELECT g, repeat(md5(g::text), 20) FROM generate_series(0, 39999) g; DELETE FROM s.t WHERE id % 7 = 0; \
         CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA s TO reader; GRANT SELECT ON s.t TO reader",
    );
    let folder = folder();
    let url = server.url("postgres").replace("postgres@", "reader@");
    let rows = copied(&server, "postgres", "SELECT * FROM s.t ORDER BY id");
    let same = |url: &str| {
        for readers in ["1", "3"] {
            let warehouse = load(url, "s.t", folder.path(), &["--readers", readers]).unwrap();
            assert_same(&dumped(&warehouse, "s.t"), &rows);
        }
    };
    same(&url);
    // Who reads the root is not asked for a partition's policy.
    server.psql(
        "postgres",
        "GRANT USAGE ON SCHEMA inner_s TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA inner_s TO reader; \
         ALTER TABLE inner_s.t1 ENABLE ROW LEVEL SECURITY",
    );
    same(&url);
    server.psql("postgres", "ALTER TABLE inner_s.t1 DISABLE ROW LEVEL SECURITY");
    same(&url);
    server.psql("postgres", "ALTER TABLE s.t ENABLE ROW LEVEL SECURITY; CREATE POLICY few ON s.t USING (id < 50)");
    let (code, why) = load(&url, "s.t", folder.path(), &[]).unwrap_err();
    assert!(code == Some(1) && why.contains("row-level security"), "{why}");
    // A superuser passes policies over.
    same(&server.url("postgres"));
}

/// (what is done to the publication, what happens to the rows then, how many are lost, what is said)
const ALTERED: [(&str, &str, u64, &str); 5] = [
    ("SET (publish = 'insert')", "UPDATE t SET v = 'lost' WHERE id IN (10, 11)", 2, "leaves some kind of change out"),
    ("DROP TABLE ONLY t", "INSERT INTO t VALUES (5000, 1, 1, 'lost')", 1, "no table"),
    ("SET TABLE ONLY t WHERE (id < 100)", "UPDATE t SET b = 0 WHERE id = 150", 1, "row filter"),
    ("SET TABLE ONLY t (id, b)", "SELECT", 0, "list of columns"),
    ("DROP TABLE ONLY t; ALTER PUBLICATION this ADD TABLE ONLY t", "SELECT", 0, "again"),
];

/// Done to the one publication that there is.
fn to_the_publication(what: &str) -> String {
    format!(
        "DO $$ BEGIN EXECUTE replace($q$ALTER PUBLICATION this {what}$q$, 'PUBLICATION this', \
         'PUBLICATION ' || (SELECT quote_ident(pubname) FROM pg_publication)); END $$"
    )
}

#[test]
fn an_altered_publication_is_the_cause_that_is_named() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    let one = &|place: usize, (altered, then, lost, words): &(&str, &str, u64, &str)| {
        for more in [&["--duration", "4s"][..], &["--duration", "4s", "--no-snapshot"]] {
            let database = format!("pub_{place}_{}", more.len());
            server.psql("postgres", &format!("CREATE DATABASE {database}"));
            server.psql(&database, PLAIN);
            let folder = folder();
            let sql = ["UPDATE t SET v = 'seen' WHERE id <= 3", &to_the_publication(altered), then];
            let ran = follow(&server, &database, folder.path(), more, &sql);
            assert_eq!(ran.status.code(), Some(5), "{altered}: {}", said(&ran));
            let found = validation(folder.path());
            assert!(found["failures"][0].as_str().unwrap().contains(words), "{altered}: {}", found["failures"]);
            assert_eq!((&found["equal"], &found["passed"]), (&false.into(), &false.into()), "{altered}");
            let sink = &found["sinks"][0];
            let counted = sink["missing"].as_u64().unwrap() + sink["wrong"].as_u64().unwrap();
            assert_eq!(counted, *lost, "{altered}: {found}");
            assert!(!said(&ran).contains("Equals the source"), "{}", said(&ran));
        }
    };
    std::thread::scope(|scope| {
        for (place, case) in ALTERED.iter().enumerate() {
            scope.spawn(move || one(place, case));
        }
    });
}

#[test]
fn a_list_of_columns_is_not_taken_for_dropped_columns() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", PLAIN);
    let folder = folder();
    let sql = [&to_the_publication("SET TABLE ONLY t (id, b)"), "UPDATE t SET v = 'lost' WHERE id = 10"];
    let ran = follow(&server, "postgres", folder.path(), &["--duration", "4s"], &sql);
    assert_eq!(ran.status.code(), Some(1), "{}", said(&ran));
    assert!(said(&ran).contains("list of columns") && !said(&ran).contains("dropped"), "{}", said(&ran));
}

/// One row of 201 was compared, so nothing is said of 201; also by an attach that goes on with the first one's warehouse.
#[test]
fn rows_that_changed_are_not_all_rows() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", &format!("{PLAIN}; UPDATE t SET b = 0 WHERE id = 7; DELETE FROM t WHERE id = 8"));
    let folder = folder();
    let arguments = ["--no-snapshot", "--duration", "3s", "--keep"];
    let first = follow(
        &server,
        "postgres",
        folder.path(),
        &arguments,
        &[
            "INSERT INTO t VALUES (1001, 1, 1, 'x'); BEGIN; SAVEPOINT s; UPDATE t SET v = 'y' WHERE id = 9; RELEASE s; COMMIT; \
         DELETE FROM t WHERE id = 10",
        ],
    );
    let check = |ran: &Output, changed: u64, absent: u64| {
        assert_eq!(ran.status.code(), Some(0), "{}", said(ran));
        let found = validation(folder.path());
        assert_eq!((&found["promise"], &found["passed"]), (&"changed rows".into(), &true.into()));
        assert_eq!((&found["equal"], &found["changed_rows"]), (&false.into(), &changed.into()), "{found}");
        assert_eq!((&found["sinks"][0]["rows"], &found["sinks"][0]["absent"]), (&changed.into(), &absent.into()));
        let said = said(ran);
        assert!(!said.contains("Equals") && said.contains(&format!("the {changed} rows")), "{said}");
    };
    check(&first, 2, 197);
    let arguments = ["--resume", "--duration", "3s"];
    let second = follow(&server, "postgres", folder.path(), &arguments, &["UPDATE t SET v = 'z' WHERE id = 11"]);
    check(&second, 3, 196);
}

/// A slot's snapshot is older than the lock under which its rows are read. What was altered in between is not read by the wrong
/// definition, nor taken for empty; a partition that came later is not in it.
#[test]
fn what_is_altered_after_a_given_snapshot_is_not_misread() {
    use freshbench::capture::CaptureError;
    use freshbench::capture::postgres::{PgFence, PgJudge, PgSnapshot};
    use freshbench::clock::Clock;
    use freshbench::model::TableId;
    use freshbench::source::postgres::{PgKept, PgSource, PgTable, PgTableName};
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql(
        "postgres",
        &PARTITIONED
            .replace("TABLE t(", "TABLE p(")
            .replace("OF t ", "OF p ")
            .replace("INTO t ", "INTO p ")
            .replace("LIKE t ", "LIKE p "),
    );
    server.psql("postgres", PLAIN.replace("TABLE t(", "TABLE plain(").replace("INTO t ", "INTO plain ").as_str());
    let options = server.options("postgres");
    let names = PgTableName::parse_list("public.plain,public.p").unwrap();
    let tables = || -> Vec<PgTable> {
        let mut client = options.connect().unwrap();
        names.iter().map(|name| PgTable::discover(&mut client, name).unwrap()).collect()
    };
    let clock = Clock::monotonic();
    for altered in [
        "TRUNCATE plain; INSERT INTO plain VALUES (1, 1, 1, 'x', now())",
        "ALTER TABLE plain RENAME a TO z; ALTER TABLE plain RENAME b TO a; ALTER TABLE plain RENAME z TO b",
        "ALTER TABLE plain ALTER a TYPE timestamptz USING to_timestamp(a)",
        "TRUNCATE t1",
        "ALTER TABLE plain RENAME TO elsewhere",
    ] {
        let source = PgSource::adopt(&options, tables());
        let fence = PgFence::make(&options).unwrap();
        server.psql("postgres", altered);
        let error = PgSnapshot::of_source(&source, PgKept::Logged, 1, &clock, Some(&fence.exported)).unwrap_err();
        assert!(matches!(error, CaptureError::Altered { .. }), "{altered}: {error}");
        // The next fence sees it as it is: fits, or is refused by name.
        let fence = PgFence::make(&options).unwrap();
        match PgSnapshot::of_source(&source, PgKept::Logged, 1, &clock, Some(&fence.exported)) {
            Ok(_) => {}
            Err(error) => assert!(error.to_string().contains("was changed while"), "{altered}: {error}"),
        }
    }
    server.psql("postgres", "ALTER TABLE elsewhere RENAME TO plain");
    let source = PgSource::adopt(&options, tables());
    let fence = PgFence::make(&options).unwrap();
    let rows =
        |table: &str| server.psql("postgres", &format!("SELECT count(*) FROM {table}")).trim().parse::<u64>().unwrap();
    let before = rows("p");
    server.psql("postgres", "ALTER TABLE p ATTACH PARTITION loose FOR VALUES IN (3)");
    let snapshot = PgSnapshot::of_source(&source, PgKept::Logged, 1, &clock, Some(&fence.exported)).unwrap();
    let judge = PgJudge::of(&snapshot, source.tables(), PgKept::Logged).unwrap();
    let mut each = |_: &[freshbench::model::ValueRef<'_>]| -> Result<(), CaptureError> { Ok(()) };
    let judged = judge.scan(TableId(1), None, &mut each).unwrap();
    let ranges = snapshot.ranges(TableId(1), 4).unwrap();
    let read: u64 = ranges.iter().map(|range| snapshot.scan(0, TableId(1), range, &mut each).unwrap()).sum();
    assert_eq!((judged, read, rows("p")), (before, before, before + 1));
}
