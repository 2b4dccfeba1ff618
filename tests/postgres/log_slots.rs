//! Slots: what they keep, when they are gone, who may use them; and connections that break.

use crate::follower::{Follower, options};
use crate::server::PgServer;
use freshbench::capture::postgres::{LogCapture, clean_up, find_leftovers, slot_health};
use freshbench::model::Lsn;
use std::time::{Duration, Instant};

fn slot(server: &PgServer, name: &str) -> freshbench::capture::postgres::SlotHealth {
    let mut client = server.options("postgres").connect().unwrap();
    slot_health(&mut client, &format!("freshbench_{name}")).unwrap().unwrap()
}

#[test]
fn changes_of_other_tables_keep_no_log_and_what_is_unacknowledged_does() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql("postgres", "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE other (id int, t text)");
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::begin(options(&server.url("postgres"), "u", folder.path()), "a");
    let busy = "INSERT INTO other SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g; CHECKPOINT";
    let run = |follower: &mut Follower, for_ms: u64| {
        let until = Instant::now() + Duration::from_millis(for_ms);
        while Instant::now() < until {
            follower.poll(1_000).unwrap();
            follower.capture.as_mut().unwrap().wait(Duration::from_millis(5)).unwrap();
        }
    };
    let before = slot(&server, "u");
    server.psql("postgres", busy);
    run(&mut follower, 2_500);
    // The server gives log up at checkpoints, and a checkpoint or two late.
    for _ in 0..3 {
        server.psql("postgres", "CHECKPOINT");
        run(&mut follower, 1_300);
    }
    let after = slot(&server, "u");
    assert!(after.confirmed.0 > before.confirmed.0 + 10_000_000, "{before:?} {after:?}");
    assert!(after.active && after.wal_status == "reserved" && after.retained_bytes < 5_000_000, "{after:?}");
    // Something of ours that nobody acknowledges stays, whatever the others do.
    follower.never_acknowledge();
    server.psql("postgres", "INSERT INTO a VALUES (1)");
    follower.catch_up(&server).unwrap();
    let ours = follower.transactions[0].0;
    server.psql("postgres", busy);
    run(&mut follower, 2_500);
    let held = slot(&server, "u");
    assert!(held.confirmed < ours && held.retained_bytes > 10_000_000, "{held:?} {ours}");
    let watermark = follower.watermark;
    follower.capture.as_mut().unwrap().acknowledge(watermark).unwrap();
    run(&mut follower, 2_500);
    assert!(slot(&server, "u").confirmed >= ours);
    // What was acknowledged is not sent again.
    follower.transactions.clear();
    follower.resume().unwrap();
    server.psql("postgres", "INSERT INTO a VALUES (2)");
    follower.catch_up(&server).unwrap();
    follower.assert_equal(&server);
}

#[test]
fn a_slot_that_was_made_again_moved_or_lost_is_refused() {
    let Some(server) = PgServer::start(&["max_slot_wal_keep_size=1MB", "max_wal_size=32MB", "min_wal_size=32MB"])
    else {
        return;
    };
    server.psql("postgres", "CREATE TABLE a (id int PRIMARY KEY, t text); CREATE TABLE other (id int, t text)");
    let folder = tempfile::tempdir().unwrap();
    let options = options(&server.url("postgres"), "l", folder.path());
    let mut follower = Follower::begin(options.clone(), "a");
    follower.catch_up(&server).unwrap();
    let refused = |follower: &mut Follower, word: &str| {
        let error = follower.resume().unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("new snapshot"), "{error}");
    };
    follower.capture = None;
    server.psql("postgres", "INSERT INTO a VALUES (1, 'lost')");
    let name = "freshbench_l";
    for sql in [
        format!("SELECT pg_replication_slot_advance('{name}', pg_current_wal_lsn())"),
        format!(
            "SELECT pg_drop_replication_slot('{name}'); SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"
        ),
    ] {
        server.psql("postgres", &sql);
        refused(&mut follower, "made again or moved");
    }
    server.psql("postgres", &format!("SELECT pg_drop_replication_slot('{name}')"));
    refused(&mut follower, "not there any more");
    LogCapture::teardown(&options).unwrap();

    let mut follower = Follower::begin(options.clone(), "a");
    follower.catch_up(&server).unwrap();
    follower.capture = None;
    for _ in 0..4 {
        let fill = "INSERT INTO other SELECT g, repeat('x', 500) FROM generate_series(1, 60000) g; SELECT pg_switch_wal(); CHECKPOINT";
        server.psql("postgres", fill);
    }
    assert_eq!(slot(&server, "l").wal_status, "lost");
    refused(&mut follower, "thrown away");
    LogCapture::teardown(&options).unwrap();
}

#[test]
fn another_server_another_database_and_an_older_watermark_are_refused() {
    let (Some(one), Some(two)) = (PgServer::start(&[]), PgServer::start(&[])) else { return };
    let folder = tempfile::tempdir().unwrap();
    let spare = tempfile::tempdir().unwrap();
    for server in [&one, &two] {
        server.psql("postgres", "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE other (id int)");
    }
    let mut follower = Follower::begin(options(&one.url("postgres"), "s", folder.path()), "a");
    let old = follower.watermark;
    one.psql("postgres", "INSERT INTO a VALUES (1)");
    follower.catch_up(&one).unwrap();
    let copy = Follower::begin(options(&two.url("postgres"), "s", spare.path()), "a");
    drop(copy);
    let right = follower.options.server.clone();
    follower.options.server = two.options("postgres");
    let error = follower.resume().unwrap_err().to_string();
    assert!(error.contains("another server"), "{error}");
    follower.options.server = right;
    // Sinks that were put back to before what they had acknowledged.
    let watermark = follower.watermark;
    follower.watermark = old;
    let error = follower.resume().unwrap_err().to_string();
    assert!(error.contains("gone"), "{error}");
    follower.watermark = Lsn(watermark.0 + (1 << 40));
    let error = follower.resume().unwrap_err().to_string();
    assert!(error.contains("ends before"), "{error}");
    follower.watermark = watermark;
    follower.resume().unwrap();
    one.psql("postgres", "ALTER TABLE a ADD COLUMN x int");
    let mut client = one.options("postgres").connect().unwrap();
    let name = freshbench::source::postgres::PgTableName::parse("a").unwrap();
    let tables = freshbench::capture::postgres::log_tables(&mut client, &[name]).unwrap();
    let error = LogCapture::resume(&follower.options, tables, watermark).unwrap_err().to_string();
    assert!(error.contains("changed since"), "{error}");
}

#[test]
fn a_killed_connection_and_a_restarted_server_lose_and_repeat_nothing() {
    let Some(mut server) = PgServer::start(&[]) else { return };
    server.psql("postgres", "CREATE TABLE a (id bigint PRIMARY KEY, n int, t text)");
    let folder = tempfile::tempdir().unwrap();
    let mut follower = Follower::begin(options(&server.url("postgres"), "k", folder.path()), "a");
    for round in 0..6 {
        let first = round * 10_000;
        server.psql(
            "postgres",
            &format!("COPY a FROM PROGRAM 'seq {first} {} | sed s/$/,{round},x/' (FORMAT csv)", first + 4_999),
        );
        server.psql("postgres", &format!("DO $$ BEGIN FOR g IN 1..500 LOOP INSERT INTO a VALUES ({first} + 5000 + g, 1, 'y'); COMMIT; END LOOP; END $$"));
        for _ in 0..round {
            follower.poll(100).unwrap();
        }
        let mut poll_until_it_breaks = || {
            let until = Instant::now() + Duration::from_secs(40);
            loop {
                match follower.poll(10) {
                    Err(error) => break error.to_string(),
                    Ok(_) => assert!(Instant::now() < until, "the end of the connection is noticed"),
                }
                follower.capture.as_mut().unwrap().wait(Duration::from_millis(5)).unwrap();
            }
        };
        let error = if round % 3 == 0 {
            server.psql("postgres", "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active");
            poll_until_it_breaks()
        } else {
            // A server that stops in order waits until its log is confirmed, so somebody has to go on reading.
            let mode = if round % 3 == 1 { "fast" } else { "immediate" };
            let error = std::thread::scope(|scope| {
                scope.spawn(|| server.stop(mode));
                poll_until_it_breaks()
            });
            server.start_again();
            error
        };
        assert!(error.contains("can't"), "{error}");
        if round % 2 == 0 {
            follower.capture.as_mut().unwrap().reconnect().unwrap();
        } else {
            follower.resume().unwrap();
        }
        follower.catch_up(&server).unwrap();
        follower.assert_equal(&server);
    }
}

#[test]
fn a_consumer_that_sleeps_is_not_thrown_out() {
    let Some(server) = PgServer::start(&["wal_sender_timeout=1500ms"]) else { return };
    server.psql("postgres", "CREATE TABLE a (id int PRIMARY KEY, t text)");
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&server.url("postgres"), "z", folder.path());
    options.status_interval = Duration::from_millis(300);
    let mut follower = Follower::begin(options, "a");
    // More than all buffers between hold, so that the server waits in the middle of it.
    server.psql("postgres", "INSERT INTO a SELECT g, repeat(md5(g::text), 30) FROM generate_series(1, 40000) g");
    follower.poll(1).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    follower.catch_up(&server).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    server.psql("postgres", "INSERT INTO a VALUES (0, 'after')");
    follower.catch_up(&server).unwrap();
    follower.assert_equal(&server);
    assert_eq!(
        server.psql("postgres", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'").trim(),
        "1"
    );
}

#[test]
fn leftovers_are_found_and_removed_and_a_given_publication_stays() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); \
        CREATE PUBLICATION theirs FOR TABLE b; CREATE PUBLICATION half FOR TABLE a WITH (publish = 'insert')",
    );
    let folder = tempfile::tempdir().unwrap();
    let options = options(&server.url("postgres"), "x", folder.path());
    let mut given = options.clone();
    for (publication, word) in [("none", "make it"), ("half", "kind of change"), ("theirs", "add it")] {
        given.publication = publication.to_owned();
        let error = Follower::set_up(given.clone(), "a").map(drop).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
    given.publication = "theirs".to_owned();
    let mut follower = Follower::begin(given.clone(), "b");
    server.psql("postgres", "INSERT INTO b VALUES (1)");
    follower.catch_up(&server).unwrap();
    follower.assert_equal(&server);
    let mut client = server.options("postgres").connect().unwrap();
    assert_eq!(find_leftovers(&mut client).unwrap().slots, [("freshbench_x".to_owned(), true)]);
    assert!(clean_up(&mut client).unwrap().slots.is_empty(), "what is in use stays");
    drop(follower);
    LogCapture::teardown(&given).unwrap();
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_publication WHERE pubname = 'theirs'").trim(), "1");
    drop(Follower::begin(options, "a"));
    let until = Instant::now() + Duration::from_secs(10);
    while clean_up(&mut client).unwrap().slots.is_empty() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(50));
    }
    let left = find_leftovers(&mut client).unwrap();
    assert!(left.slots.is_empty() && left.publications.is_empty(), "{left:?}");
}
