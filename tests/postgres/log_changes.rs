//! Changes that tell less than a whole row, and tables that are not like others.

use crate::follower::{Follower, options};
use crate::server::PgServer;
use freshbench::capture::CaptureError;
use freshbench::capture::postgres::LogCapture;
use std::sync::atomic::{AtomicBool, Ordering};

/// Text that TOAST can't compress below the threshold, the same for the same seed.
const LARGE: &str = "(SELECT string_agg(md5(s::text || g::text), '') FROM generate_series(1, 3200) g)";

fn large(seed: u32) -> String {
    LARGE.replace("s::text", &format!("{seed}::text"))
}

/// Sets up, runs each script, compares after each.
fn follow(definition: &str, tables: &str, scripts: &[&str]) {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql("postgres", definition);
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::begin(options(&server.url("postgres"), "f", folder.path()), tables);
    follower.assert_equal(&server);
    for script in scripts {
        server.psql("postgres", script);
        follower.catch_up(&server).unwrap_or_else(|error| panic!("{script}: {error}"));
        follower.assert_equal(&server);
    }
    assert!(!follower.tables.is_empty());
}

#[test]
fn unchanged_large_values_stay_in_every_replica_identity() {
    let big = large(1);
    for identity in ["DEFAULT", "FULL", "USING INDEX large_other"] {
        follow(
            &format!(
                "CREATE TABLE large (id int PRIMARY KEY, n int, t text, other int NOT NULL); \
                 ALTER TABLE large ALTER t SET STORAGE EXTERNAL; CREATE UNIQUE INDEX large_other ON large (other); \
                 ALTER TABLE large REPLICA IDENTITY {identity}; INSERT INTO large VALUES (1, 1, {big}, 1)"
            ),
            "large",
            &[
                "UPDATE large SET n = 2 WHERE id = 1",
                &format!(
                    "BEGIN; INSERT INTO large VALUES (2, 1, {big}, 2); UPDATE large SET n = 2 WHERE id = 2; COMMIT"
                ),
                "BEGIN; UPDATE large SET id = 3, n = 9 WHERE id = 2; UPDATE large SET n = 10 WHERE id = 3; COMMIT",
                "UPDATE large SET other = 77 WHERE id = 3",
                "UPDATE large SET t = 'small' WHERE id = 1",
                &format!("UPDATE large SET t = {}, n = 5", large(2)),
                "UPDATE large SET t = NULL WHERE id = 1; UPDATE large SET n = 6",
                "DELETE FROM large WHERE id = 3",
            ],
        );
    }
}

#[test]
fn a_full_identity_fills_unchanged_values_in() {
    let Some(server) = PgServer::start(&[]) else { return };
    let definition = format!(
        "CREATE TABLE large (id int PRIMARY KEY, n int, t text); ALTER TABLE large ALTER t SET STORAGE EXTERNAL; \
         ALTER TABLE large REPLICA IDENTITY FULL; INSERT INTO large VALUES (1, 1, {})",
        large(1)
    );
    server.psql("postgres", &definition);
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::begin(options(&server.url("postgres"), "f", folder.path()), "large");
    // Forgotten here, so that only the stream can tell it.
    for row in follower.tables[0].values_mut() {
        row[2] = "forgotten".to_owned();
    }
    server.psql("postgres", "UPDATE large SET n = 2");
    follower.catch_up(&server).unwrap();
    follower.assert_equal(&server);
}

#[test]
fn a_large_key_that_does_not_change_is_known() {
    follow(
        "CREATE TABLE k (id text PRIMARY KEY, n int); ALTER TABLE k ALTER id SET STORAGE EXTERNAL; \
         INSERT INTO k SELECT repeat(g::text, 2500), 1 FROM generate_series(1, 3) g",
        "k",
        &["UPDATE k SET n = 2", "UPDATE k SET id = id || 'x' WHERE id LIKE '1%'", "DELETE FROM k WHERE id LIKE '2%'"],
    );
}

#[test]
fn truncate_takes_every_table_that_it_cascades_to() {
    follow(
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent); \
         CREATE TABLE other (id int PRIMARY KEY); INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1, 1); \
         INSERT INTO other VALUES (1)",
        "parent, child, other",
        &[
            "BEGIN; TRUNCATE parent CASCADE; INSERT INTO parent VALUES (7); INSERT INTO child VALUES (7, 7); COMMIT",
            "TRUNCATE other, child RESTART IDENTITY",
            "BEGIN; TRUNCATE parent CASCADE; ROLLBACK",
        ],
    );
}

#[test]
fn partitions_follow_their_root_and_generated_columns_are_left_out() {
    follow(
        "CREATE TABLE p (id int, at int, t text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); \
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10); \
         CREATE TABLE p2 (t text, at int NOT NULL, id int NOT NULL, PRIMARY KEY (id, at)); \
         ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20); INSERT INTO p VALUES (1, 1, 'a'), (2, 12, 'b'); \
         CREATE TABLE g (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, t text); \
         INSERT INTO g VALUES (1, DEFAULT, 'x')",
        "p, g",
        &[
            "INSERT INTO p VALUES (3, 3, 'c'), (4, 14, 'd'); INSERT INTO g (id, t) VALUES (2, 'y')",
            "UPDATE p SET at = 15 WHERE id = 1",
            "UPDATE g SET id = 5, t = 'z' WHERE id = 1; DELETE FROM g WHERE id = 2",
            "CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (20) TO (30); INSERT INTO p VALUES (5, 25, 'e')",
            "DELETE FROM p WHERE at > 14",
            "TRUNCATE p",
        ],
    );
}

#[test]
fn names_are_data() {
    let long = "ü".repeat(31) + "x";
    let definition = format!(
        "CREATE SCHEMA \"My \"\"schema\"\"; DROP\"; CREATE TABLE \"My \"\"schema\"\"; DROP\".\"t'; DROP TABLE x; --\" \
         (\"a \"\"b\"\"\" int PRIMARY KEY, \"select\" text, \"$1 'é'\" text); \
         CREATE TABLE \"{long}\" (\"{long}\" int PRIMARY KEY, t text)"
    );
    follow(
        &definition,
        &format!("\"My \"\"schema\"\"; DROP\".\"t'; DROP TABLE x; --\", \"{long}\""),
        &[
            "INSERT INTO \"My \"\"schema\"\"; DROP\".\"t'; DROP TABLE x; --\" VALUES (1, E'tab\\t, line\\n, \\\\', 'ß')",
            &format!("INSERT INTO \"{long}\" VALUES (1, 'x'); UPDATE \"{long}\" SET \"{long}\" = 2"),
        ],
    );
}

#[test]
fn tables_that_cannot_be_followed_are_refused_and_leave_nothing() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE nokey (a int); CREATE TABLE fullnokey (a int); ALTER TABLE fullnokey REPLICA IDENTITY FULL; \
         CREATE TABLE nothing (a int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING; \
         CREATE VIEW v AS SELECT 1 AS a; CREATE TABLE fine (a int PRIMARY KEY, b int NOT NULL); \
         CREATE UNLOGGED TABLE unlogged (a int PRIMARY KEY); CREATE ROLE weak LOGIN; \
         CREATE TABLE deferred (a int PRIMARY KEY DEFERRABLE)",
    );
    let folder = tempfile::tempdir().unwrap();
    let try_tables = |tables: &str, url: &str| {
        let options = options(url, "r", folder.path());
        Follower::set_up(options, tables).map(drop).map_err(|error| error.to_string())
    };
    let url = server.url("postgres");
    for (tables, word) in [
        ("nokey", "ADD PRIMARY KEY"),
        ("fine, fullnokey", "ADD PRIMARY KEY"),
        ("nothing", "REPLICA IDENTITY"),
        ("deferred", "REPLICA IDENTITY"),
        ("v", "tables only"),
        ("unlogged", "unlogged"),
        ("missing", "no table"),
    ] {
        let error = try_tables(tables, &url).unwrap_err();
        assert!(error.contains(word), "{tables}: {error}");
    }
    let weak = try_tables("fine", &url.replace("postgres@", "weak@")).unwrap_err();
    assert!(weak.contains("ALTER ROLE \"weak\" REPLICATION"), "{weak}");
    let mut bad = options(&url, "r", folder.path());
    bad.slot = "Freshbench R".to_owned();
    let error = Follower::set_up(bad, "fine").map(drop).unwrap_err().to_string();
    assert!(error.contains("small letters"), "{error}");
    for sql in ["SELECT count(*) FROM pg_replication_slots", "SELECT count(*) FROM pg_publication"] {
        assert_eq!(server.psql("postgres", sql).trim(), "0");
    }
    // A given key makes a table with FULL one that can be followed.
    let mut client = server.options("postgres").connect().unwrap();
    let name = freshbench::source::postgres::PgTableName::parse("fullnokey").unwrap();
    let table = freshbench::source::postgres::PgTable::discover(&mut client, &name).unwrap();
    let table = table.with_key(&["a".to_owned()]).unwrap();
    let options = options(&url, "r", folder.path());
    drop(LogCapture::setup_tables(&options, &[table]).unwrap());
    LogCapture::teardown(&options).unwrap();
}

#[test]
fn a_changed_definition_stops_the_stream_behind_all_that_came_before() {
    for (change, word) in [
        ("ALTER TABLE d ADD COLUMN extra int DEFAULT 5", "\"extra\" was added"),
        ("ALTER TABLE d DROP COLUMN n", "\"n\" was dropped"),
        ("ALTER TABLE d RENAME COLUMN n TO m", "\"n\" was renamed or dropped, and there is \"m\""),
        ("ALTER TABLE d ALTER COLUMN n TYPE text", "the type of its column \"n\""),
        ("ALTER TABLE d ALTER COLUMN amount TYPE numeric(14,3)", "the type of its column \"amount\""),
        ("ALTER TABLE d REPLICA IDENTITY NOTHING", "replica identity"),
    ] {
        let Some(server) = PgServer::start(&[]) else { return };
        server.psql("postgres", "CREATE TABLE d (id int PRIMARY KEY, n int, amount numeric(12,2), v varchar(5))");
        let folder = tempfile::tempdir().unwrap();
        let mut follower = Follower::begin(options(&server.url("postgres"), "d", folder.path()), "d");
        server.psql("postgres", "INSERT INTO d VALUES (1, 1, 1.00, 'x')");
        server.psql("postgres", "BEGIN; ALTER TABLE d ADD COLUMN never int; INSERT INTO d (id) VALUES (99); ROLLBACK");
        server.psql("postgres", &format!("{change}; INSERT INTO d (id) VALUES (2)"));
        let error = follower.catch_up(&server).unwrap_err();
        assert!(matches!(&error, CaptureError::Unfit { table, .. } if table == "d"), "{error}");
        assert!(error.to_string().contains(word), "{change}: {error}");
        assert_eq!(follower.tables[0].len(), 1, "what came before was delivered");
        let again = follower.poll(10).unwrap_err().to_string();
        assert!(again.contains("stopped"), "{again}");
    }
    follow(
        "CREATE TABLE d (id int PRIMARY KEY, n int, v varchar(5))",
        "d",
        &["ALTER TABLE d ALTER COLUMN v TYPE varchar(50); INSERT INTO d VALUES (1, 1, 'longer than five')"],
    );
}

#[test]
fn example_8_the_order_is_that_of_commits() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql("postgres", "CREATE TABLE o (id int PRIMARY KEY, t text)");
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::begin(options(&server.url("postgres"), "o", folder.path()), "o");
    let mut first = server.options("postgres").connect().unwrap();
    let mut second = server.options("postgres").connect().unwrap();
    first.batch_execute("BEGIN; INSERT INTO public.o VALUES (1, 'wrote first')").unwrap();
    second.batch_execute("BEGIN; INSERT INTO public.o VALUES (2, 'committed first'); COMMIT").unwrap();
    follower.catch_up(&server).unwrap();
    assert_eq!(follower.tables[0].len(), 1);
    first.batch_execute("COMMIT").unwrap();
    follower.catch_up(&server).unwrap();
    follower.assert_equal(&server);
}

#[test]
fn example_12_a_snapshot_under_writes_has_no_gap_and_no_double() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE w (id int PRIMARY KEY, n int); INSERT INTO w SELECT g, 0 FROM generate_series(1, 500) g",
    );
    let folder = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                let mut client = server.options("postgres").connect().unwrap();
                let mut id = 1_000 + writer * 1_000_000;
                while !stop.load(Ordering::Relaxed) {
                    id += 1;
                    // The wait makes transactions span the snapshot's beginning.
                    let sql = format!(
                        "BEGIN; INSERT INTO public.w VALUES ({id}, 1); UPDATE public.w SET n = n + 1 WHERE id = {0}; \
                         SELECT pg_sleep(0.003); DELETE FROM public.w WHERE id = {1}; COMMIT",
                        1 + id % 160 + writer * 160,
                        id - 3
                    );
                    client.batch_execute(&sql).unwrap();
                }
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        let mut follower = Follower::set_up(options(&server.url("postgres"), "w", folder.path()), "w").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        follower.load();
        std::thread::sleep(std::time::Duration::from_millis(200));
        follower.resume().unwrap();
        stop.store(true, Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(100));
        follower.catch_up(&server).unwrap();
        assert!(follower.transactions.len() > 20, "{}", follower.transactions.len());
        follower.assert_equal(&server);
    });
}
