//! Transactions that the server sends in pieces before they end.

use crate::follower::{Follower, options};
use crate::server::PgServer;

const SMALL_MEMORY: &[&str] = &["logical_decoding_work_mem=64kB", "max_wal_size=2GB"];

fn begin(server: &PgServer, folder: &std::path::Path, memory_bytes_max: usize) -> Follower {
    server.psql("postgres", "CREATE TABLE a (id bigint PRIMARY KEY, n int, t text)");
    let mut options = options(&server.url("postgres"), "g", folder);
    options.memory_bytes_max = memory_bytes_max;
    Follower::begin(options, "a")
}

fn fill(from: u32, rows: u32, text: &str) -> String {
    format!(
        "INSERT INTO public.a SELECT g, 0, '{text}' || md5(g::text) FROM generate_series({from}, {}) g;",
        from + rows - 1
    )
}

#[test]
fn savepoints_of_a_streamed_transaction_take_back_exactly_their_part() {
    let Some(server) = PgServer::start(SMALL_MEMORY) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut follower = begin(&server, folder.path(), 100_000);
    let script = [
        "BEGIN;".to_owned(),
        fill(1, 5_000, "kept"),
        "SAVEPOINT s1;".to_owned(),
        fill(10_001, 5_000, "gone"),
        "UPDATE a SET n = 1 WHERE id < 2000; SAVEPOINT s2;".to_owned(),
        fill(20_001, 5_000, "gone too"),
        "ROLLBACK TO SAVEPOINT s1;".to_owned(),
        fill(30_001, 5_000, "kept"),
        "SAVEPOINT s3; UPDATE a SET n = 3 WHERE id % 2 = 0; DELETE FROM a WHERE id % 3 = 0; RELEASE SAVEPOINT s3;"
            .to_owned(),
        "SELECT pg_logical_emit_message(true, 'freshbench', 'kept'); SAVEPOINT s4;".to_owned(),
        "SELECT pg_logical_emit_message(true, 'freshbench', 'gone'); ROLLBACK TO SAVEPOINT s4; COMMIT".to_owned(),
    ];
    server.psql("postgres", &script.concat());
    follower.catch_up(&server).unwrap();
    follower.assert_equal(&server);
    assert!(follower.capture.as_ref().unwrap().spilled_bytes() > 100_000);
    let payloads: Vec<&[u8]> = follower.messages.iter().map(|message| message.payload.as_slice()).collect();
    assert_eq!(payloads[..1], [b"kept"]);
    assert_eq!(follower.messages.iter().filter(|message| &*message.payload == b"gone").count(), 0);
    server.psql("postgres", &format!("BEGIN; {} ROLLBACK", fill(50_001, 20_000, "never")));
    follower.catch_up(&server).unwrap();
    follower.assert_equal(&server);
}

#[test]
fn streamed_transactions_interleave_and_a_definition_that_is_rolled_back_stops_nothing() {
    let Some(server) = PgServer::start(SMALL_MEMORY) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut follower = begin(&server, folder.path(), 50_000);
    let mut clients = [(); 3].map(|()| server.options("postgres").connect().unwrap());
    clients.iter_mut().for_each(|client| client.batch_execute("BEGIN").unwrap());
    for round in 0..10_u32 {
        for (number, client) in clients.iter_mut().enumerate() {
            let sql = fill(1 + 1_000_000 * number as u32 + 1_000 * round, 1_000, "x");
            client.batch_execute(&sql).unwrap();
        }
        follower.poll(1_000).unwrap();
        server.psql("postgres", &fill(9_000_000 + round, 1, "between"));
        follower.poll(1_000).unwrap();
    }
    follower.catch_up(&server).unwrap();
    follower.assert_equal(&server);
    let [one, two, three] = &mut clients;
    two.batch_execute("COMMIT").unwrap();
    three.batch_execute("ROLLBACK").unwrap();
    follower.catch_up(&server).unwrap();
    follower.assert_equal(&server);
    one.batch_execute("COMMIT").unwrap();
    follower.catch_up(&server).unwrap();
    follower.assert_equal(&server);
    let altered = format!(
        "BEGIN; ALTER TABLE a ADD COLUMN extra int DEFAULT 7; {} ROLLBACK",
        fill(20_000_000, 5_000, "x").replace("public.a", "public.a (id, n, t)")
    );
    server.psql("postgres", &altered);
    server.psql("postgres", "UPDATE a SET n = 42 WHERE id < 100");
    follower.catch_up(&server).unwrap();
    follower.assert_equal(&server);
}

#[test]
fn a_killed_stream_begins_its_pieces_again() {
    let Some(server) = PgServer::start(SMALL_MEMORY) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut follower = begin(&server, folder.path(), 50_000);
    let mut client = server.options("postgres").connect().unwrap();
    client.batch_execute(&format!("BEGIN; {}", fill(1, 20_000, "x"))).unwrap();
    follower.catch_up(&server).unwrap();
    assert!(follower.tables[0].is_empty());
    server.psql("postgres", "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active");
    while follower.poll(10).is_ok() {}
    follower.capture.as_mut().unwrap().reconnect().unwrap();
    client.batch_execute(&format!("{} COMMIT", fill(100_001, 1_000, "x"))).unwrap();
    follower.catch_up(&server).unwrap();
    assert_eq!(follower.tables[0].len(), 21_000);
    follower.assert_equal(&server);
}

#[test]
fn a_transaction_beyond_the_limit_stops_with_the_settings_name_and_can_be_resumed() {
    let Some(server) = PgServer::start(SMALL_MEMORY) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut follower = begin(&server, folder.path(), 50_000);
    follower.options.transaction_bytes_max = 1_000_000;
    follower.resume().unwrap();
    server.psql("postgres", &fill(500_000, 10, "before"));
    server.psql("postgres", &fill(1, 50_000, "x"));
    let error = follower.catch_up(&server).unwrap_err().to_string();
    assert!(error.contains("transaction_bytes_max"), "{error}");
    assert_eq!(follower.tables[0].len(), 10);
    follower.options.transaction_bytes_max = 100_000_000;
    follower.resume().unwrap();
    follower.catch_up(&server).unwrap();
    follower.assert_equal(&server);
}
