//! What can't be followed is called what it is, what is named oddly is followed, and what can't be decoded is named to the row.

use crate::followed::{Attached, assert_rows};
use crate::server::PgServer;
use crate::support::{folder, freshbench, load};

/// What `attach` says of one relation, which it must refuse in one line and leave nothing behind.
fn refused(server: &PgServer, strategy: &str, table: &str) -> String {
    let folder = folder();
    let (warehouse, out) = (folder.path().join("warehouse"), folder.path().join("result"));
    let url = server.url("postgres");
    let ran = freshbench(&[
        "-q",
        "attach",
        "--source",
        &url,
        "--tables",
        table,
        "--strategy",
        strategy,
        "--duration",
        "1s",
        "--warehouse",
        warehouse.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ]);
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!((ran.status.code(), said.trim().lines().count()), (Some(2), 1), "{strategy} {table}: {said}");
    assert!(!warehouse.exists() && !out.exists(), "{strategy} {table}: {said}");
    said
}

#[test]
fn every_kind_of_relation_is_called_what_it_is() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE base(id int PRIMARY KEY, v text, updated_at timestamptz DEFAULT now()); \
         CREATE UNLOGGED TABLE quick(id int PRIMARY KEY, v text); CREATE VIEW looks AS SELECT * FROM base; \
         CREATE MATERIALIZED VIEW kept AS SELECT * FROM base; CREATE UNIQUE INDEX kept_id ON kept(id); \
         CREATE FOREIGN DATA WRAPPER none; CREATE SERVER far FOREIGN DATA WRAPPER none; \
         CREATE FOREIGN TABLE away(id int NOT NULL) SERVER far; CREATE SEQUENCE numbers; CREATE INDEX by_v ON base(v); \
         CREATE TYPE pair AS (a int, b int); CREATE TABLE parts(id int PRIMARY KEY) PARTITION BY RANGE (id); \
         CREATE UNLOGGED TABLE part_quick PARTITION OF parts FOR VALUES FROM (0) TO (9); \
         CREATE TABLE mixed(id int) PARTITION BY RANGE (id); ALTER TABLE mixed REPLICA IDENTITY FULL; \
         CREATE FOREIGN TABLE part_away PARTITION OF mixed FOR VALUES FROM (0) TO (9) SERVER far",
    );
    let mut holder = server.options("postgres").connect().unwrap();
    holder.batch_execute("CREATE TEMP TABLE mine(id int PRIMARY KEY)").unwrap();
    let all = ["cdc-log", "cdc-trigger", "full-refresh", "incremental"];
    for (table, strategies, words) in [
        ("quick", &all[..1], ["it is unlogged", "SET LOGGED"]),
        ("parts", &all[..1], ["part_quick\" is unlogged", "SET LOGGED"]),
        ("looks", &all[..1], ["it is a view", "tables that it is made of"]),
        ("looks", &all[2..3], ["view \"looks\"", "tables that it is made of"]),
        ("kept", &all[..2], ["it is a materialized view", "tables that it is made of"]),
        ("kept", &all[3..], ["it is a materialized view", "tables that it is made of"]),
        ("away", &all[..2], ["it is a foreign table", "on the server"]),
        ("away", &all[2..3], ["foreign table \"away\"", "on the server"]),
        ("numbers", &all[..], ["\"numbers\" is a sequence", "name the table"]),
        ("by_v", &all[..], ["\"by_v\" is an index", "public.base"]),
        ("BY_V", &all[..1], ["\"by_v\" is an index", "public.base"]),
        ("pair", &all[..], ["\"pair\" is a composite type", "name a table"]),
        ("mine", &all[..], ["is a temporary table", "session"]),
        ("pg_catalog.pg_class", &all[..1], ["catalogs", "name a table"]),
        ("nowhere", &all[..1], ["there is no table \"nowhere\"", "base"]),
    ] {
        for strategy in strategies {
            let said = refused(&server, strategy, table);
            assert!(words.iter().all(|word| said.contains(word)), "{strategy} {table}: {said}");
        }
    }
    let folder = folder();
    let (code, said) = load(&server.url("postgres"), "numbers", folder.path(), &[]).unwrap_err();
    assert!(code == Some(2) && said.contains("is a sequence"), "{said}");
    // What a strategy can do with them, it does.
    server.psql("postgres", "INSERT INTO quick VALUES (1, 'a')");
    for (strategy, table) in [("cdc-trigger", "quick"), ("full-refresh", "quick")] {
        let attached = Attached::begin(&server, "postgres", table, strategy, &[]);
        server.psql("postgres", "UPDATE quick SET v = v || 'b', id = id + 1; INSERT INTO quick VALUES (1, 'c')");
        let ended = attached.end();
        assert_eq!(ended.code, Some(0), "{strategy}: {}", ended.said);
        assert_rows(&server, "postgres", &ended.warehouse(), table, strategy);
    }
}

/// Names that would end a quotation of the statements around them.
#[test]
fn any_name_can_be_followed_by_triggers() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    let odd = [
        "$body$",
        "$f0$",
        "$f0$ $f1$ $sql$ $$",
        "'; --",
        "a\\'b",
        "%s",
        "n",
        "op",
        "new_rows",
        "tg_op",
        "\u{1F980} größe",
    ];
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let columns: Vec<String> = odd.iter().map(|name| format!("{} text", quoted(name))).collect();
    for (n, table) in odd.iter().enumerate() {
        let key = quoted(odd[n]);
        server.psql(
            "postgres",
            &format!(
                "CREATE TABLE {0} ({1}, PRIMARY KEY ({key})); INSERT INTO {0} ({key}) VALUES ('a'), ('b'); {2}",
                quoted(table),
                columns.join(", "),
                // Some with a trigger of somebody else's, for which other functions are made.
                if n % 2 == 0 {
                    String::new()
                } else {
                    format!("CREATE TRIGGER same BEFORE UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()", quoted(table))
                }
            ),
        );
    }
    let tables: Vec<String> = odd.iter().map(|table| quoted(table)).collect();
    for strategy in ["cdc-trigger", "cdc-log"] {
        let attached = Attached::begin(&server, "postgres", &tables.join(","), strategy, &[]);
        for (n, table) in tables.iter().enumerate() {
            let (key, other) = (quoted(odd[n]), quoted(odd[(n + 1) % odd.len()]));
            server.psql(
                "postgres",
                &format!(
                    "INSERT INTO {table} ({key}) VALUES ('c'); UPDATE {table} SET {key} = {key} || '{strategy}', {other} = '$f0$'; \
                     DELETE FROM {table} WHERE {key} LIKE 'a%'; INSERT INTO {table} ({key}) VALUES ('a'), ('b')"
                ),
            );
        }
        let ended = attached.end();
        assert_eq!(ended.code, Some(0), "{strategy}: {}", ended.said);
        for (table, quoted) in odd.iter().zip(&tables) {
            let found = freshbench(&[
                "warehouse",
                "dump",
                "--format",
                "csv",
                "--table",
                table,
                "--warehouse",
                ended.warehouse().to_str().unwrap(),
            ]);
            let wanted = crate::support::copied(&server, "postgres", &format!("SELECT * FROM public.{quoted}"));
            let found = String::from_utf8_lossy(&found.stdout).into_owned();
            assert_eq!(crate::followed::sorted(&found), crate::followed::sorted(&wanted), "{strategy} {table}");
        }
    }
}

/// A subscription's changes fire triggers of rows alone.
#[test]
fn what_a_subscription_writes_is_refused_to_triggers() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", "CREATE DATABASE up");
    server.psql("up", "CREATE TABLE t(id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t");
    server.psql("up", "SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    server.psql(
        "postgres",
        &format!(
            "CREATE TABLE t(id int PRIMARY KEY); CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port={} user=postgres dbname=up' \
             PUBLICATION p WITH (create_slot = false)",
            server.port()
        ),
    );
    let attached = Attached::begin(&server, "postgres", "t", "cdc-trigger", &[]);
    let ended = attached.end();
    assert_eq!(ended.code, Some(2), "{}", ended.said);
    assert!(ended.said.contains("subscription") && ended.said.contains("cdc-log"), "{}", ended.said);
    let attached = Attached::begin(&server, "postgres", "t", "cdc-log", &[]);
    server.psql("up", "INSERT INTO t SELECT generate_series(1, 10); UPDATE t SET id = id + 100");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while server.psql("postgres", "SELECT count(*) FROM t WHERE id > 100").trim() != "10" {
        assert!(std::time::Instant::now() < until, "the subscription brings nothing");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let ended = attached.end();
    assert_eq!(ended.code, Some(0), "{}", ended.said);
    assert_rows(&server, "postgres", &ended.warehouse(), "t", "cdc-log");
}

/// A database without an encoding holds any bytes. The one that is not UTF-8 is named, wherever it is met.
#[test]
fn what_is_not_utf8_is_named_by_table_column_and_row() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", "CREATE DATABASE raw TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'");
    let make = |bytes: &str| {
        format!(
            "DROP TABLE IF EXISTS names; CREATE TABLE names(id int, part text, name text, tags text[], \
             updated_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (part, id)); \
             INSERT INTO names SELECT n, 'p', 'fine', '{{a}}' FROM generate_series(1, 20) n; {bytes}"
        )
    };
    // Latin-1 for "größe", in a value, in an array, and in the key itself.
    let (column, array, key) = (
        "UPDATE names SET name = E'gr\\xf6\\xdfe', updated_at = clock_timestamp() WHERE id = 7",
        "UPDATE names SET tags = ARRAY[E'gr\\xf6\\xdfe'], updated_at = clock_timestamp() WHERE id = 7",
        "UPDATE names SET part = E'gr\\xf6\\xdfe', updated_at = clock_timestamp() WHERE id = 7",
    );
    let cases = [(column, "name", "part=\"p\", id=7"), (array, "tags", "part=\"p\", id=7"), (key, "part", "id=7")];
    for (bytes, named, row) in cases {
        let check = |what: &str, code: Option<i32>, said: &str| {
            let words = ["names", named, row, "UTF-8", "f6df65"];
            assert!(words.iter().all(|word| said.contains(word)), "{what} of {named}: {code:?} {said}");
            assert!(matches!(code, Some(1 | 2)), "{what} of {named}: {code:?} {said}");
        };
        server.psql("raw", &make(bytes));
        let folder = folder();
        let (code, said) = load(&server.url("raw"), "names", folder.path(), &[]).unwrap_err();
        check("load", code, &said);
        for strategy in ["cdc-log", "cdc-trigger", "full-refresh", "incremental"] {
            server.psql("raw", &make(""));
            let attached = Attached::begin(&server, "raw", "names", strategy, &[]);
            server.psql("raw", bytes);
            let ended = attached.end();
            check(strategy, ended.code, &ended.said);
            freshbench(&["attach", "--cleanup", "--source", &server.url("raw")]);
        }
    }
    // Where the server itself can't put a value into UTF-8, it does not say where; then the table is named.
    server
        .psql("postgres", "CREATE DATABASE western TEMPLATE template0 ENCODING 'WIN1252' LC_COLLATE 'C' LC_CTYPE 'C'");
    server.psql("western", "SET client_encoding = 'WIN1252'; CREATE TABLE names(id int PRIMARY KEY, name text); INSERT INTO names VALUES (7, E'\\x81')");
    let folder = folder();
    let (code, said) = load(&server.url("western"), "names", folder.path(), &[]).unwrap_err();
    assert!(code == Some(1) && said.contains("table \"names\"") && said.contains("0x81"), "{code:?} {said}");
}
