//! Whole tables: names, partitions, views, keys, writes that go on, and what is refused.

use crate::server::PgServer;
use crate::support::{assert_same, copied, dumped, folder, freshbench, load};
use freshbench::capture::CaptureError;
use freshbench::capture::postgres::{PgExported, PgSnapshot};
use freshbench::clock::Clock;
use freshbench::model::{Lsn, TableId, Value};
use freshbench::source::postgres::{Mode, PgGenerated, PgKeyOrigin, PgReplicaIdentity, PgTable, PgTableName, Wire};
use std::sync::atomic::{AtomicBool, Ordering};

fn discover(server: &PgServer, name: &str) -> Result<PgTable, String> {
    let mut client = server.options("postgres").connect().unwrap();
    let name = PgTableName::parse(name).map_err(|error| error.to_string())?;
    PgTable::discover(&mut client, &name).map_err(|error| error.to_string())
}

#[test]
fn names_of_every_kind_are_found_and_loaded() {
    let Some(server) = PgServer::start(&[]) else { return };
    // 63 bytes, the most that a name has.
    let long = format!("{}é", "ü".repeat(30) + "x");
    assert_eq!(long.len(), 63);
    let names = ["Mixed Case", "quote\"d", "semi;colon --", "a.b", "größe", "select", &long, "it's %s $1", "x,y"];
    let folder = folder();
    for name in names {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        server.psql(
            "postgres",
            &format!(
                "CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted} ({quoted} int PRIMARY KEY, tags text[]); \
                 INSERT INTO {quoted}.{quoted} VALUES (1, '{{a}}'), (2, NULL)"
            ),
        );
        let full = format!("{quoted}.{quoted}");
        let table = discover(&server, &full).unwrap();
        let warehouse = load(&server.url("postgres"), &full, folder.path(), &[]).unwrap();
        assert_same(&dumped(&warehouse, &table.schema.name), "1,{a}\n2,\n");
    }
    server.psql("postgres", "CREATE TABLE orders (id int PRIMARY KEY); CREATE SCHEMA s; CREATE TABLE s.orders (id int PRIMARY KEY); CREATE TABLE s.only (id int PRIMARY KEY)");
    assert_eq!(discover(&server, "ORDERS").unwrap().schema.name, "orders");
    assert_eq!(discover(&server, "only").unwrap().schema.name, "s.only");
    assert_eq!(discover(&server, "s.orders").unwrap().schema.name, "s.orders");
    let missing = discover(&server, "ordrs").unwrap_err();
    assert!(missing.contains("\"ordrs\"") && missing.contains("orders, s.orders"), "{missing}");
    let quoted = discover(&server, "\"ORDERS\"").unwrap_err();
    assert!(quoted.contains("there is no table"), "{quoted}");
}

#[test]
fn a_definition_is_read_as_it_is() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE t (gone int, b text, a int NOT NULL, g int GENERATED ALWAYS AS (a * 2) STORED, u uuid NOT NULL, \
         c int NOT NULL, arr int[], PRIMARY KEY (c, a)); ALTER TABLE t DROP COLUMN gone; CREATE UNIQUE INDEX ti ON t (u) INCLUDE (b); \
         CREATE TABLE none (a int); CREATE TABLE late (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)",
    );
    let table = discover(&server, "t").unwrap();
    let names: Vec<&str> = table.schema.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["b", "a", "g", "u", "c", "arr"]);
    assert_eq!((table.schema.key.as_slice(), table.key_origin), ([4, 1].as_slice(), PgKeyOrigin::Primary));
    assert_eq!(table.replica_identity, PgReplicaIdentity::PrimaryKey);
    assert_eq!((table.columns[2].generated, table.columns[0].number), (Some(PgGenerated::Stored), 2));
    assert!(table.has_generated() && !table.is_native());
    let stream = table.without_generated().unwrap();
    assert_eq!((stream.schema.key.as_slice(), stream.schema.columns.len()), ([3, 1].as_slice(), 5));
    for (sql, identity) in [
        ("ALTER TABLE t REPLICA IDENTITY FULL", PgReplicaIdentity::Full),
        ("ALTER TABLE t REPLICA IDENTITY USING INDEX ti", PgReplicaIdentity::Index(vec![3])),
        ("ALTER TABLE t REPLICA IDENTITY NOTHING", PgReplicaIdentity::Nothing),
    ] {
        server.psql("postgres", sql);
        assert_eq!(discover(&server, "t").unwrap().replica_identity, identity);
    }
    assert_eq!(discover(&server, "late").unwrap().replica_identity, PgReplicaIdentity::Nothing);
    let none = discover(&server, "none").unwrap();
    assert!(none.require_key().unwrap_err().to_string().contains("ADD PRIMARY KEY"));
}

#[test]
fn partitions_views_and_tables_without_a_key() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE p (id int, kind text, v int, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind); \
         CREATE TABLE pa PARTITION OF p FOR VALUES IN ('a'); \
         CREATE TABLE pb (v int, gone int, kind text NOT NULL, id int NOT NULL); ALTER TABLE pb DROP COLUMN gone; \
         ALTER TABLE p ATTACH PARTITION pb FOR VALUES IN ('b'); \
         CREATE TABLE pc PARTITION OF p FOR VALUES IN ('c', 'd') PARTITION BY RANGE (id); \
         CREATE TABLE pc1 PARTITION OF pc DEFAULT; \
         INSERT INTO p SELECT g, substr('abcd', 1 + g % 4, 1), -g FROM generate_series(1, 1000) g; \
         CREATE VIEW v AS SELECT id, kind FROM p WHERE id < 10; CREATE MATERIALIZED VIEW m AS SELECT * FROM p; \
         CREATE UNIQUE INDEX ON m (id); \
         CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent); \
         INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2)",
    );
    let folder = folder();
    let url = server.url("postgres");
    let all = "SELECT * FROM public.p ORDER BY id, kind";
    assert_same(&dumped(&load(&url, "p", folder.path(), &[]).unwrap(), "p"), &copied(&server, "postgres", all));
    let view = load(&url, "v", folder.path(), &["--key", "id"]).unwrap();
    assert_same(&dumped(&view, "v"), &copied(&server, "postgres", "SELECT * FROM public.v ORDER BY id"));
    let materialized = load(&url, "m", folder.path(), &["--key", "id,kind"]).unwrap();
    assert_same(&dumped(&materialized, "m"), &copied(&server, "postgres", all));
    // What a child holds is the child's, as in the replication stream.
    assert_same(&dumped(&load(&url, "parent", folder.path(), &[]).unwrap(), "parent"), "1\n");
    let (code, said) = load(&url, "v", folder.path(), &[]).unwrap_err();
    assert!(code == Some(2) && said.contains("--key") || said.contains("name the columns of a key"), "{said}");
    let (code, said) = load(&url, "v", folder.path(), &["--key", "kind"]).unwrap_err();
    assert!(code == Some(2) && said.contains("\"v\""), "{said}");
    let (code, said) = load(&url, "v", folder.path(), &["--key", "nothing"]).unwrap_err();
    assert!(code == Some(2) && said.contains("\"nothing\""), "{said}");
}

#[test]
fn what_cannot_be_held_is_refused_by_table_column_and_key() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE n (\"k,1\" int, k2 text, amount numeric(10,2), PRIMARY KEY (k2, \"k,1\")); \
         INSERT INTO n SELECT g, 'x', g FROM generate_series(1, 50000) g; INSERT INTO n VALUES (-7, 'the one', 'NaN'); \
         CREATE TABLE i (id int PRIMARY KEY, amount numeric(10,2)[]); INSERT INTO i VALUES (1, '{NaN}'); \
         CREATE TABLE t (id int PRIMARY KEY, at timestamptz); INSERT INTO t VALUES (3, '294270-01-01 00:00:00+00')",
    );
    let folder = folder();
    for (table, words) in
        [("n", ["\"n\"", "\"amount\"", "k2=\"the one\", k,1=-7", "NaN"]), ("t", ["\"t\"", "\"at\"", "id=3", "294247"])]
    {
        let (code, said) = load(&server.url("postgres"), table, folder.path(), &[]).unwrap_err();
        assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said}");
        }
    }
    // An array is text, and text holds it.
    load(&server.url("postgres"), "i", folder.path(), &[]).unwrap();
    let (code, said) = load(&server.url("postgres"), "absent", folder.path(), &[]).unwrap_err();
    assert!(code == Some(2) && said.contains("there is no table \"absent\""), "{said}");
    let (code, said) = load("mysql://u:topsecret@h/d", "x", folder.path(), &[]).unwrap_err();
    assert!(code == Some(2) && !said.contains("topsecret"), "{said}");
    let (code, said) = load("postgres://u:topsecret@127.0.0.1:1/d", "x", folder.path(), &[]).unwrap_err();
    assert!(code == Some(1) && !said.contains("topsecret"), "{said}");
}

#[test]
fn rows_that_a_policy_or_a_missing_right_hides_are_an_error() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql(
        "postgres",
        "CREATE ROLE reader LOGIN; CREATE TABLE secret (id int PRIMARY KEY, owner text); \
         INSERT INTO secret VALUES (1, 'reader'), (2, 'other'); \
         CREATE TABLE closed (id int PRIMARY KEY); GRANT SELECT ON secret TO reader; \
         ALTER TABLE secret ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON secret USING (owner = current_user)",
    );
    let folder = folder();
    let url = server.url("postgres").replace("postgres@", "reader@");
    for (table, word) in [("secret", "row-level security"), ("closed", "permission denied")] {
        let (code, said) = load(&url, table, folder.path(), &[]).unwrap_err();
        assert!(code == Some(1) && said.contains(word), "{said}");
    }
}

#[test]
fn writes_that_go_on_do_not_tear_a_load() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL, filler text) WITH (fillfactor = 70); \
         INSERT INTO account SELECT g, 100, repeat('x', 500) FROM generate_series(1, 40000) g",
    );
    let stop = AtomicBool::new(false);
    let folder = folder();
    std::thread::scope(|scope| {
        for writer in 0..2i32 {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                let mut client = server.options("postgres").connect().unwrap();
                let mut n = writer;
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                    let (from, to) = (1 + (n >> 8 & 0x7fff), 1 + (n >> 3 & 0x7fff));
                    let moved = client.batch_execute(&format!(
                        "BEGIN; UPDATE public.account SET balance = balance - 7 WHERE id = {from}; \
                         UPDATE public.account SET balance = balance + 7 WHERE id = {to}; COMMIT"
                    ));
                    if moved.is_err() {
                        client.batch_execute("ROLLBACK").unwrap();
                    }
                }
            });
        }
        for _ in 0..3 {
            let warehouse = load(&server.url("postgres"), "account", folder.path(), &["--readers", "3"]).unwrap();
            let rows = dumped(&warehouse, "account");
            let sum: i64 = rows.lines().map(|row| row.split(',').nth(1).unwrap().parse::<i64>().unwrap()).sum();
            assert_eq!((rows.lines().count(), sum), (40_000, 4_000_000));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_slots_snapshot_is_taken_over_exactly() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE t (id int PRIMARY KEY, v text[]); INSERT INTO t SELECT g, '{a}' FROM generate_series(1, 100) g",
    );
    let options = server.options("postgres");
    let mut slot = Wire::connect(&options, Mode::Replication).unwrap();
    let made = slot.query("CREATE_REPLICATION_SLOT copy_test TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')").unwrap();
    let (point, name) = (made[0][1].clone().unwrap(), made[0][2].clone().unwrap());
    let (high, low) = point.split_once('/').unwrap();
    let lsn = u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap();
    server.psql("postgres", "DELETE FROM t WHERE id <= 50; INSERT INTO t VALUES (1000, NULL)");
    let names = PgTableName::parse_list("public.t").unwrap();
    let exported = PgExported { name, position: Lsn(lsn) };
    let snapshot = PgSnapshot::adopt(&options, &names, 2, &Clock::monotonic(), &exported).unwrap();
    assert_eq!((snapshot.position(), snapshot.readers()), (Lsn(lsn), 2));
    let mut ids = Vec::new();
    for (place, range) in snapshot.ranges(TableId(0), 8).unwrap().iter().enumerate() {
        let mut each = |row: &[freshbench::model::ValueRef<'_>]| -> Result<(), CaptureError> {
            ids.extend(row[0].to_value());
            assert_eq!(row[1].to_value(), Some(Value::text("{a}")));
            Ok(())
        };
        snapshot.scan(place, TableId(0), range, &mut each).unwrap();
    }
    ids.sort();
    assert_eq!(ids, (1..=100).map(Value::Int).collect::<Vec<_>>());
    drop(slot);
    let gone = PgExported { name: "00000003-00000001-1".to_owned(), position: Lsn(lsn) };
    let error = PgSnapshot::adopt(&options, &names, 1, &Clock::monotonic(), &gone).unwrap_err();
    assert!(error.to_string().contains("snapshot"), "{error}");
}

#[test]
fn an_empty_table_and_one_of_many_blocks() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE empty (id int PRIMARY KEY); CREATE TABLE wide (id int PRIMARY KEY, a text, b text); \
         INSERT INTO wide SELECT g, repeat(md5(g::text), 20), md5(g::text) FROM generate_series(1, 60000) g; \
         DELETE FROM wide WHERE id % 3 = 0",
    );
    let folder = folder();
    let url = server.url("postgres");
    assert_eq!(dumped(&load(&url, "empty", folder.path(), &[]).unwrap(), "empty"), "");
    let wide = copied(&server, "postgres", "SELECT * FROM public.wide ORDER BY id");
    for readers in ["1", "4"] {
        let warehouse = load(&server.socket_url("postgres"), "wide", folder.path(), &["--readers", readers]).unwrap();
        assert_same(&dumped(&warehouse, "wide"), &wide);
    }
    let help = freshbench(&["load", "--help"]);
    assert!(String::from_utf8_lossy(&help.stdout).contains("postgres://"));
}

#[test]
fn a_server_that_goes_away_leaves_nothing_half_loaded() {
    let Some(mut server) = PgServer::start(&[]) else { return };
    server.psql(
        "postgres",
        "CREATE FUNCTION slow(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.001); RETURN i; END $$; \
         CREATE VIEW trickle AS SELECT slow(g) AS id, repeat('x', 1000) AS filler FROM generate_series(1, 20000) g",
    );
    let folder = folder();
    let url = server.url("postgres");
    let (code, said) = std::thread::scope(|scope| {
        let loading = scope.spawn(|| load(&url, "trickle", folder.path(), &["--key", "id"]));
        std::thread::sleep(std::time::Duration::from_secs(2));
        server.stop("immediate");
        loading.join().unwrap().unwrap_err()
    });
    assert!(code == Some(1) && said.lines().count() == 1, "{said}");
    server.start_again();
    server.psql("postgres", "CREATE TABLE after (id int PRIMARY KEY); INSERT INTO after VALUES (1)");
    assert_same(&dumped(&load(&url, "after", folder.path(), &[]).unwrap(), "after"), "1\n");
}
