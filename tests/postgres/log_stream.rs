//! `cdc-log`'s capture: what the record system did, and what the follower has.

use crate::follower::{Follower, options};
use crate::server::PgServer;
use freshbench::model::Lsn;

const TABLES: &str = "CREATE TABLE a (id bigint PRIMARY KEY, n int, t text); \
    CREATE TABLE b (x text, y int, amount numeric(12,2), PRIMARY KEY (y, x)); \
    INSERT INTO a SELECT g, g, 'before ' || g FROM generate_series(1, 100) g";

/// Runs each script as one psql session, and compares after each.
fn check(scripts: &[&str]) {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql("postgres", TABLES);
    for (number, url) in [server.url("postgres"), server.socket_url("postgres")].iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(url, &format!("t{number}"), folder.path());
        let mut follower = Follower::begin(options.clone(), "a, b");
        for script in scripts {
            server.psql("postgres", script);
            follower.catch_up(&server).unwrap();
            follower.assert_equal(&server);
        }
        drop(follower);
        freshbench::capture::postgres::LogCapture::teardown(&options).unwrap();
        assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_replication_slots").trim(), "0");
        assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_publication").trim(), "0");
        server.psql("postgres", "TRUNCATE a, b; INSERT INTO a SELECT g, g, 'before' FROM generate_series(1, 100) g");
    }
}

#[test]
fn examples_1_to_4_6_and_7_of_one_key() {
    check(&[
        "BEGIN; INSERT INTO a VALUES (1000, 1, 'x'); DELETE FROM a WHERE id = 1000; COMMIT",
        "INSERT INTO a VALUES (1000, 1, 'x')",
        "DELETE FROM a WHERE id = 1000",
        "BEGIN; DELETE FROM a WHERE id = 5; INSERT INTO a VALUES (5, 55, 'again'); COMMIT",
        "INSERT INTO a VALUES (7, 1, '') ON CONFLICT (id) DO UPDATE SET t = NULL; UPDATE a SET n = 70 WHERE id = 7; \
         DELETE FROM a WHERE id = 7; INSERT INTO a VALUES (7, 77, NULL); UPDATE a SET t = 'last' WHERE id = 7",
        "UPDATE a SET id = 2000 WHERE id = 1",
        "BEGIN; UPDATE a SET id = -1 WHERE id = 2; UPDATE a SET id = 2 WHERE id = 3; UPDATE a SET id = 3 WHERE id = -1; COMMIT",
        "INSERT INTO b VALUES ('p', 1, 1.50), ('q', 1, -0.05); UPDATE b SET x = 'r' WHERE x = 'q'; DELETE FROM b WHERE x = 'p'",
        "BEGIN; TRUNCATE a, b; INSERT INTO a VALUES (1, 1, 'only'); INSERT INTO b VALUES ('', 0, NULL); COMMIT",
        "BEGIN; INSERT INTO a VALUES (9000, 1, 'never'); ROLLBACK",
        "BEGIN; INSERT INTO a VALUES (9001, 1, 'yes'); SAVEPOINT s; INSERT INTO a VALUES (9002, 1, 'no'); \
         ROLLBACK TO SAVEPOINT s; INSERT INTO a VALUES (9003, 1, 'yes'); COMMIT",
        "COPY a FROM PROGRAM 'seq 20000 29999 | sed s/$/,1,x/' (FORMAT csv)",
    ]);
}

#[test]
fn messages_come_with_their_transaction() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql("postgres", TABLES);
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::begin(options(&server.url("postgres"), "m", folder.path()), "a");
    server.psql("postgres", "SELECT pg_logical_emit_message(false, 'freshbench_beat', 'now')");
    server.psql("postgres", "SELECT pg_logical_emit_message(true, 'other', 'x')");
    server.psql(
        "postgres",
        "BEGIN; SELECT pg_logical_emit_message(true, 'freshbench', '17'); UPDATE a SET n = n + 1 WHERE id < 4; COMMIT",
    );
    server.psql("postgres", "BEGIN; SELECT pg_logical_emit_message(true, 'freshbench', '18'); ROLLBACK");
    server.psql("postgres", "SELECT pg_logical_emit_message(true, 'freshbench', 'a marker')");
    follower.catch_up(&server).unwrap();
    follower.assert_equal(&server);
    let seen: Vec<(&str, &[u8], Option<Lsn>)> =
        follower.messages.iter().map(|m| (&*m.prefix, m.payload.as_slice(), m.transaction)).collect();
    let at = |place: usize| follower.transactions[place].0;
    assert_eq!(
        seen[..3],
        [
            ("freshbench_beat", &b"now"[..], None),
            ("freshbench", b"17", Some(at(0))),
            ("freshbench", b"a marker", Some(at(1))),
        ]
    );
    assert_eq!((follower.transactions[0].2, follower.transactions[1].2), (3, 0));
    let stamped = follower.transactions[0].1;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    assert!((now - stamped).abs() < 60_000_000, "{stamped} is now");
}
