//! Every type by every strategy, against what the server's own COPY writes: one way of decoding, and nothing that is forgotten.

use crate::followed::{Attached, assert_rows};
use crate::server::PgServer;
use crate::support::{assert_same, copied, dumped, folder, load};
use crate::types::{SETUP, TYPES, literal};

/// Extensions whose types are in daily use, with literals. What is not installed is passed over.
const EXTENSIONS: &[(&str, &str, &[&str])] = &[
    ("hstore", "hstore", &["", "\"a\"=>\"1\", \"b, c\"=>NULL"]),
    ("ltree", "ltree", &["", "a.b.c"]),
    ("ltree", "lquery", &["a.*{1,2}.b"]),
    ("ltree", "ltxtquery", &["a & b"]),
    ("citext", "citext", &["", "Ab, c"]),
    ("citext", "citext[]", &["{A,NULL}"]),
    ("cube", "cube", &["(1, 2),(3, 4)", "(0.1)"]),
    ("seg", "seg", &["1.5 .. 2.50", "~1"]),
    ("isn", "isbn", &["978-0-393-04002-9"]),
    ("intarray", "query_int", &["1&2"]),
];

/// Types of the catalog that no column of a test can hold, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("gtsvector", "has no input"),
    ("pg_node_tree", "has no input"),
    ("pg_ndistinct", "has no input"),
    ("pg_dependencies", "has no input"),
    ("pg_mcv_list", "has no input"),
    ("pg_brin_bloom_summary", "has no input"),
    ("pg_brin_minmax_multi_summary", "has no input"),
];

/// Columns with their literals: the server's own types, and those of extensions that it has.
fn columns(server: &PgServer) -> Vec<(&'static str, &'static [&'static str])> {
    let has = server.psql("postgres", "SELECT name FROM pg_available_extensions");
    let mut columns = TYPES.to_vec();
    for (extension, declared, values) in EXTENSIONS {
        if has.lines().any(|name| name == *extension) {
            server.psql("postgres", &format!("CREATE EXTENSION IF NOT EXISTS {extension}"));
            columns.push((*declared, *values));
        }
    }
    columns
}

/// A table with a column a type, the first half of the literals in it, each in a row of its own; and the statements that
/// bring in the rest: inserts, updates of every value to the next one of its type, or to NULL, and deletes.
fn make(server: &PgServer) -> String {
    let columns = columns(server);
    let list: Vec<String> = columns.iter().enumerate().map(|(n, (declared, _))| format!("c{n} {declared}")).collect();
    server.psql(
        "postgres",
        &format!(
            "{SETUP} CREATE TABLE every (id int8 PRIMARY KEY, updated_at timestamptz NOT NULL DEFAULT clock_timestamp(), {})",
            list.join(", ")
        ),
    );
    let (mut before, mut after) = ("INSERT INTO every VALUES (-1);\n".to_owned(), String::new());
    let mut id = 0;
    for (n, (declared, values)) in columns.iter().enumerate() {
        let typed = |value: &str| format!("{}::{declared}", literal(value));
        for (place, value) in values.iter().enumerate() {
            let insert = format!("INSERT INTO every (id, c{n}) VALUES ({id}, {});\n", typed(value));
            let next = values.get(place + 1).map_or_else(|| "NULL".to_owned(), |next| typed(next));
            let update = format!("UPDATE every SET updated_at = clock_timestamp(), c{n} = {next} WHERE id = {id};\n");
            match id % 4 {
                0 => before.push_str(&insert),
                1 => {
                    before.push_str(&insert);
                    after.push_str(&update);
                }
                2 => after.push_str(&insert),
                _ => {
                    after.push_str(&insert);
                    // A column beside it: the value itself is as it was.
                    after.push_str(&format!("UPDATE every SET updated_at = clock_timestamp() WHERE id = {id};\n"));
                    after.push_str(&format!("BEGIN; {update} COMMIT;\n"));
                    after.push_str(&format!("UPDATE every SET c{n} = {} WHERE id = {id};\n", typed(value)));
                    after.push_str(&format!("UPDATE every SET updated_at = clock_timestamp() WHERE id = {id};\n"));
                }
            }
            id += 1;
        }
    }
    server.psql("postgres", &before);
    after
}

/// Every type of the catalog that a column can have is in the table, or left out for a reason.
fn assert_none_forgotten(server: &PgServer) {
    let sql = "SELECT t.typname FROM pg_type t WHERE t.typtype IN ('b', 'r', 'm') \
        AND t.typnamespace = 'pg_catalog'::regnamespace AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid) \
        AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = 'every'::regclass AND a.atttypid = t.oid) ORDER BY 1";
    let forgotten = server.psql("postgres", sql);
    let reason = |name: &&str| LEFT_OUT.iter().any(|(known, _)| known == name);
    let forgotten: Vec<&str> = forgotten.lines().filter(|name| !reason(name)).collect();
    assert!(forgotten.is_empty(), "types of the server that no test has: {}", forgotten.join(", "));
}

#[test]
fn every_type_arrives_by_every_strategy() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    for strategy in ["cdc-log", "cdc-trigger", "full-refresh", "incremental"] {
        server.psql("postgres", "DROP SCHEMA public CASCADE; CREATE SCHEMA public");
        let changes = make(&server);
        assert_none_forgotten(&server);
        let folder = folder();
        let loaded = load(&server.url("postgres"), "every", folder.path(), &[]).unwrap();
        assert_same(&dumped(&loaded, "every"), &copied(&server, "postgres", "SELECT * FROM public.every ORDER BY id"));
        let attached = Attached::begin(&server, "postgres", "every", strategy, &[]);
        server.psql("postgres", &changes);
        if strategy != "incremental" {
            server.psql(
                "postgres",
                "DELETE FROM every WHERE id % 5 = 0; UPDATE every SET id = id + 10000 WHERE id % 7 = 0",
            );
        }
        let ended = attached.end();
        assert_eq!(ended.code, Some(0), "{strategy}: {}", ended.said);
        assert_rows(&server, "postgres", &ended.warehouse(), "every", strategy);
        assert_eq!(ended.case()["validation"]["equal"], true, "{strategy}");
    }
}
