//! Idle is who changes no row of the tables, however the server counts.

use crate::server::PgServer;
use crate::waits::{Attach, Session, left_behind};

/// Changes and commits in one statement, which reports to the server's counters when it ends.
const LOOP: &str = "DO $$ BEGIN FOR i IN 1..70 LOOP UPDATE {table} SET n = n + 1; COMMIT; PERFORM pg_sleep(0.1); \
    END LOOP; UPDATE {table} SET n = -1; COMMIT; END $$;";

/// An attach that ends when it is idle; the last change of the loop must be in what it compared.
fn ends_after(server: &PgServer, strategy: &str, session: &mut Session, table: &str) -> bool {
    let arguments = ["--idle-exit", "2s", "--strategy", strategy, "--cursor", "n", "--batch-interval", "500ms"];
    let mut attach = Attach::begin(&server.url("postgres"), "a", &arguments);
    attach.follows(server);
    session.begin(&format!("{} SELECT 'over';", LOOP.replace("{table}", table)));
    let (code, said) = attach.end();
    assert_eq!(code, Some(0), "{strategy} {table}: {said}");
    let is_over = server.psql("postgres", &format!("SELECT n FROM {table} LIMIT 1")).trim() == "-1";
    session.heard("over");
    assert_eq!(left_behind(server), "");
    is_over
}

#[test]
fn a_session_that_goes_on_is_not_idle_and_others_tables_and_open_transactions_are() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE a (id int PRIMARY KEY, n int); INSERT INTO a VALUES (1, 0); \
         CREATE TABLE other (id int PRIMARY KEY, n int); INSERT INTO other VALUES (1, 0)",
    );
    let mut session = Session::open(&server);
    for strategy in ["cdc-log", "cdc-trigger", "full-refresh"] {
        assert!(ends_after(&server, strategy, &mut session, "a"), "{strategy} ended while the table was changed");
        server.psql("postgres", "UPDATE a SET n = 0");
        assert!(!ends_after(&server, strategy, &mut session, "other"), "{strategy} took another table's for its own");
        server.psql("postgres", "UPDATE other SET n = 0");
    }
    // The cursor moves with each change, as it has to, and jumps at the end.
    let upward = |sql: &str| sql.replace("n = -1", "n = 1000");
    for (table, waits) in [("a", true), ("other", false)] {
        let arguments =
            ["--idle-exit", "2s", "--strategy", "incremental", "--cursor", "n", "--batch-interval", "500ms"];
        let mut attach = Attach::begin(&server.url("postgres"), "a", &arguments);
        attach.follows(&server);
        session.begin(&format!("{} SELECT 'over';", upward(&LOOP.replace("{table}", table))));
        let (code, said) = attach.end();
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(server.psql("postgres", &format!("SELECT n = 1000 FROM {table}")).trim() == "t", waits, "{table}");
        session.heard("over");
    }
    // A transaction that stays open has committed nothing.
    for strategy in ["cdc-trigger", "full-refresh", "incremental"] {
        let arguments = ["--idle-exit", "2s", "--strategy", strategy, "--cursor", "n", "--batch-interval", "500ms"];
        let mut attach = Attach::begin(&server.url("postgres"), "a", &arguments);
        attach.follows(&server);
        session.run("BEGIN; UPDATE a SET n = n + 1");
        if strategy == "cdc-trigger" {
            // Its triggers go when the transaction is over.
            attach.says(&session.pid);
            session.run("ROLLBACK");
        }
        let (code, said) = attach.end();
        assert_eq!(code, Some(0), "{strategy}: {said}");
        session.run("ROLLBACK");
        assert_eq!(left_behind(&server), "");
    }
}
