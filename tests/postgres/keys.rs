//! Keys that change: into ones that the database calls equal, and through moments in which two rows have one key.

use crate::followed::{Attached, Ended, assert_rows};
use crate::server::PgServer;

/// See [`EQUAL`].
type Equal = (&'static str, &'static str, &'static str, &'static str);

/// A key's type, what it needs, a value, and another that a unique index takes for the same.
const EQUAL: &[Equal] = &[
    ("numeric", "", "1.0", "1.00"),
    ("numeric(20,4)", "", "1.0", "2"),
    ("float8", "", "-0", "0"),
    ("float4", "", "-0", "0"),
    ("interval", "", "1 day", "24:00:00"),
    ("text COLLATE ci", "", "größe", "GRÖSSE"),
    ("varchar(20) COLLATE ci", "", "a", "A"),
    ("text", "", "a", "A"),
    ("citext", "CREATE EXTENSION citext", "a", "A"),
    ("ltree", "CREATE EXTENSION ltree", "a.b", "a.c"),
    ("hstore", "CREATE EXTENSION hstore", "a=>1", "a=>2"),
    ("bpchar", "", "a", "a  "),
    ("char(5)", "", "a", "a  "),
    ("jsonb", "", "{\"a\": 1.0}", "{\"a\": 1.00}"),
    ("numrange", "", "[1.0,2)", "[1.00,2.0)"),
    ("nummultirange", "", "{[1.0,2)}", "{[1.00,2.0)}"),
    ("numeric[]", "", "{1.0}", "{1.00}"),
    ("interval[]", "", "{1 mon}", "{30 days}"),
    ("pair", "CREATE TYPE pair AS (n numeric, t text)", "(1.0,x)", "(1.00,x)"),
    ("amount", "CREATE DOMAIN amount AS numeric NOT NULL CHECK (VALUE IS NOT NULL)", "5", "5.000"),
    ("inet", "", "10.0.0.1", "10.0.0.1/32"),
    ("macaddr8", "", "08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:06"),
    ("timetz", "", "12:00+00", "13:00+01"),
    ("money", "", "1", "2"),
    ("varbit", "", "1", "10"),
    ("tsvector", "", "a:1", "a:2"),
    ("pg_lsn", "", "0/1", "0/2"),
    ("\"char\"", "", "a", "b"),
    ("name", "", "a", "b"),
    ("bytea", "", "\\x00", "\\x0000"),
    ("uuid", "", "00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001"),
];

/// Those whose extensions the server has, with their numbers.
fn equal(server: &PgServer) -> Vec<(usize, &'static Equal)> {
    let has = server.psql("postgres", "SELECT name FROM pg_available_extensions");
    let known =
        |setup: &str| setup.strip_prefix("CREATE EXTENSION ").is_none_or(|name| has.lines().any(|has| has == name));
    EQUAL.iter().enumerate().filter(|(_, (_, setup, _, _))| known(setup)).collect()
}

/// Four tables a type: the key alone, with a trigger of somebody else's before its updates, as the middle of a
/// composite key, and with a replica identity of whole rows.
const SHAPES: [&str; 4] = ["alone", "touched", "part", "whole"];

fn make_tables(server: &PgServer) -> Vec<String> {
    server.psql(
        "postgres",
        "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false); \
         CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.v := new.v || '!'; RETURN new; END $$",
    );
    let mut tables = Vec::new();
    for (n, (declared, setup, old, _)) in equal(server) {
        server.psql("postgres", setup);
        for shape in SHAPES {
            let table = format!("k{n}_{shape}");
            let key = if shape == "part" { "PRIMARY KEY (a, k, z)" } else { "PRIMARY KEY (k)" };
            server.psql(
                "postgres",
                &format!(
                    "CREATE TABLE {table} (a int NOT NULL, k {declared} NOT NULL, z text NOT NULL, v text, {key}); \
                     INSERT INTO {table} VALUES (1, '{old}', 'z', 'first')"
                ),
            );
            match shape {
                "touched" => server.psql(
                    "postgres",
                    &format!("CREATE TRIGGER touch BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION touch()"),
                ),
                "whole" => server.psql("postgres", &format!("ALTER TABLE {table} REPLICA IDENTITY FULL")),
                _ => String::new(),
            };
            tables.push(table);
        }
    }
    tables
}

#[test]
fn a_key_that_becomes_an_equal_one_is_one_row() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    let tables = make_tables(&server);
    let change = |from: fn(&'static Equal) -> [&'static str; 2]| {
        let tables =
            equal(&server).into_iter().flat_map(|(n, row)| SHAPES.map(|shape| (format!("k{n}_{shape}"), from(row))));
        let updates = tables.map(|(table, [old, new])| {
            // There and back in one transaction, then there; an update that leaves the key; another row that comes and goes.
            format!(
                "UPDATE {table} SET k = '{new}', v = 'second'; \
                 BEGIN; UPDATE {table} SET k = '{old}', v = 'third'; UPDATE {table} SET k = '{new}', v = 'fourth'; COMMIT; \
                 UPDATE {table} SET v = 'fifth'; BEGIN; DELETE FROM {table}; INSERT INTO {table} VALUES (1, '{old}', 'z', 'sixth'); \
                 UPDATE {table} SET k = '{new}'; COMMIT;"
            )
        });
        updates.collect::<String>()
    };
    for strategy in ["cdc-log", "cdc-trigger"] {
        let attached = Attached::begin(&server, "postgres", &tables.join(","), strategy, &[]);
        server.psql(
            "postgres",
            &if strategy == "cdc-log" { change(|row| [row.2, row.3]) } else { change(|row| [row.3, row.2]) },
        );
        let ended = attached.end();
        assert_eq!(ended.code, Some(0), "{strategy}: {}", ended.said);
        for table in &tables {
            assert_rows(&server, "postgres", &ended.warehouse(), table, &format!("{strategy} {table}"));
        }
    }
}

/// Transactions during which two rows of a table may have one key.
const TRANSIENT: &[&str] = &[
    "UPDATE t SET id = id + 1",
    "UPDATE t SET id = id - 1",
    "UPDATE t SET id = -id",
    "UPDATE t SET id = 7 - id WHERE id < 0; UPDATE t SET id = id - 7",
    "UPDATE t SET id = id + 1; UPDATE t SET id = id + 1; UPDATE t SET id = id - 2",
    "UPDATE t SET id = 2 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2 AND rtrim(v, '+') = 'v2'",
    "UPDATE t SET id = CASE id WHEN 1 THEN 2 WHEN 2 THEN 3 WHEN 3 THEN 1 END WHERE id <= 3 AND id > 0",
    "UPDATE t SET id = 5 WHERE id = 4; UPDATE t SET id = 6 WHERE id = 5; UPDATE t SET id = 4 WHERE rtrim(v, '+') = 'v4'; \
     UPDATE t SET id = 5 WHERE rtrim(v, '+') = 'v5'",
    "INSERT INTO t VALUES (7, 'new', NULL); UPDATE t SET v = 'both' WHERE id = 7; DELETE FROM t WHERE id = 7 AND big IS NOT NULL",
    "UPDATE t SET id = 9 WHERE id = 8; DELETE FROM t WHERE rtrim(v, '+') = 'v9'; UPDATE t SET v = 'moved' WHERE id = 9",
    "SAVEPOINT a; UPDATE t SET id = id + 1; ROLLBACK TO a; UPDATE t SET id = id + 1 WHERE id > 20; RELEASE a",
    "INSERT INTO t SELECT id, v || 'x', big FROM t WHERE id BETWEEN 30 AND 40; DELETE FROM t WHERE id BETWEEN 30 AND 40 AND v NOT LIKE '%x%'",
    "INSERT INTO t SELECT * FROM t WHERE id = 41; DELETE FROM t WHERE ctid = (SELECT max(ctid) FROM t WHERE id = 41)",
    "DELETE FROM t WHERE id = 42; INSERT INTO t VALUES (42, 'again', NULL)",
    "TRUNCATE t; INSERT INTO t SELECT n, 'v' || n, repeat(md5(n::text), 200) FROM generate_series(1, 100) n; UPDATE t SET id = id + 1",
    "UPDATE t SET v = v",
    "DELETE FROM t WHERE id % 3 = 0; UPDATE t SET id = id + 3 WHERE id % 3 <> 0",
];

fn make_deferrable(server: &PgServer, rows: u32) {
    server.psql(
        "postgres",
        &format!(
            "CREATE TABLE t(id int, v text, big text, PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED); \
             ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t ALTER big SET STORAGE EXTERNAL; \
             INSERT INTO t SELECT n, 'v' || n, repeat(md5(n::text), 200) FROM generate_series(1, {rows}) n"
        ),
    );
}

/// Returns how many of them left other rows than they found.
fn run_each(server: &PgServer, transactions: &[&str]) -> usize {
    let rows = || server.psql("postgres", "SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM t");
    let changed = transactions.iter().filter(|transaction| {
        let before = rows();
        server.psql("postgres", &format!("BEGIN; {transaction}; COMMIT"));
        rows() != before
    });
    changed.count()
}

fn assert_equal(server: &PgServer, ended: &Ended, what: &str) {
    assert_eq!(ended.code, Some(0), "{what}: {}", ended.said);
    assert_rows(server, "postgres", &ended.warehouse(), "t", what);
    assert_eq!(ended.case()["validation"]["equal"], true, "{what}");
}

#[test]
fn rows_that_share_a_key_inside_a_transaction_end_apart() {
    // Transactions of more than 64 kB are streamed while they run.
    for settings in [vec!["fsync=off"], vec!["fsync=off", "logical_decoding_work_mem=64kB"]] {
        let Some(server) = PgServer::start(&settings) else { return };
        for (strategy, prepare) in [
            ("cdc-log", ""),
            ("cdc-trigger", ""),
            // With a trigger of somebody else's that changes the same rows again.
            (
                "cdc-trigger",
                "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                    IF pg_trigger_depth() = 1 THEN UPDATE t SET v = v || '+' WHERE id = NEW.id AND v = NEW.v; END IF; \
                    RETURN NULL; END $$; CREATE TRIGGER again AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION again()",
            ),
        ] {
            server.psql("postgres", "DROP SCHEMA public CASCADE; CREATE SCHEMA public");
            make_deferrable(&server, 1000);
            server.psql("postgres", prepare);
            let attached = Attached::begin(&server, "postgres", "t", strategy, &[]);
            let changed = run_each(&server, TRANSIENT);
            // All but those that end where they began.
            assert!(changed >= TRANSIENT.len() - 4, "only {changed} of the transactions do anything");
            assert_equal(&server, &attached.end(), &format!("{strategy} {settings:?} {prepare:.20}"));
        }
    }
}

/// A key that is unique at every moment needs no sum: statements that pass through equal keys fail, and the others arrive in
/// their order, with either replica identity.
#[test]
fn keys_move_in_order_with_either_replica_identity() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    for strategy in ["cdc-log", "cdc-trigger"] {
        for identity in ["DEFAULT", "FULL", "USING INDEX by_v"] {
            server.psql("postgres", "DROP SCHEMA public CASCADE; CREATE SCHEMA public");
            server.psql(
                "postgres",
                &format!(
                    "CREATE TABLE t(id int PRIMARY KEY, v text NOT NULL, big text); CREATE UNIQUE INDEX by_v ON t(v); \
                     INSERT INTO t SELECT n, 'v' || n, repeat(md5(n::text), 200) FROM generate_series(1, 1000) n; \
                     ALTER TABLE t REPLICA IDENTITY {identity}"
                ),
            );
            let attached = Attached::begin(&server, "postgres", "t", strategy, &[]);
            run_each(
                &server,
                &[
                    "UPDATE t SET id = id + 2000",
                    "UPDATE t SET id = -id",
                    "UPDATE t SET id = 0 WHERE id = -2001; UPDATE t SET id = -2001 WHERE id = -2002; UPDATE t SET id = -2002 WHERE id = 0",
                    "UPDATE t SET id = 1 WHERE id = -2003; UPDATE t SET id = 2, v = 'a' WHERE id = 1; UPDATE t SET id = 3 WHERE id = 2",
                    "UPDATE t SET id = 4 WHERE id = 3; DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (3, 'again', NULL)",
                ],
            );
            assert_equal(&server, &attached.end(), &format!("{strategy} {identity}"));
        }
    }
}

/// Partitions have a replica identity of their own.
#[test]
fn a_partition_that_tells_less_than_its_table_is_refused() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    let make = "CREATE TABLE t(id int, v text, big text, PRIMARY KEY (id) DEFERRABLE) PARTITION BY RANGE (id); \
        CREATE TABLE low PARTITION OF t FOR VALUES FROM (MINVALUE) TO (500); \
        CREATE TABLE high PARTITION OF t FOR VALUES FROM (500) TO (MAXVALUE); \
        ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE low REPLICA IDENTITY FULL; \
        INSERT INTO t SELECT n, 'v' || n, NULL FROM generate_series(1, 1000) n";
    server.psql("postgres", make);
    let refused = Attached::begin(&server, "postgres", "t", "cdc-log", &[]).end();
    assert_eq!(refused.code, Some(2), "{}", refused.said);
    assert!(refused.said.contains("high") && refused.said.contains("REPLICA IDENTITY FULL"), "{}", refused.said);
    server.psql("postgres", "ALTER TABLE high REPLICA IDENTITY FULL");
    let attached = Attached::begin(&server, "postgres", "t", "cdc-log", &[]);
    // Rows move from one partition into the other.
    run_each(
        &server,
        &[
            "UPDATE t SET id = id + 1",
            "SET CONSTRAINTS ALL DEFERRED; UPDATE t SET id = 501 - id WHERE id BETWEEN 1 AND 500",
        ],
    );
    assert_equal(&server, &attached.end(), "partitions");
}

/// A cursor does not see the old key go: the row stays, and is counted.
#[test]
fn a_cursor_counts_the_rows_under_old_keys() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE t(id numeric PRIMARY KEY, v text, updated_at timestamptz NOT NULL DEFAULT clock_timestamp()); \
         INSERT INTO t SELECT n, 'v' FROM generate_series(1, 10) n",
    );
    let attached = Attached::begin(&server, "postgres", "t", "incremental", &[]);
    server.psql(
        "postgres",
        "UPDATE t SET id = 1.00, updated_at = clock_timestamp() WHERE id = 1; \
         UPDATE t SET id = 20, updated_at = clock_timestamp() WHERE id = 2",
    );
    let ended = attached.end();
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    let case = ended.case();
    let sink = &case["validation"]["sinks"][0];
    assert_eq!((&sink["missing"], &sink["extra"], &sink["wrong"]), (&0.into(), &2.into(), &0.into()));
    assert_eq!(case["validation"]["equal"], false);
}
