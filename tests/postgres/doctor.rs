//! What `freshbench doctor` finds, and what it says to do.

use crate::server::PgServer;
use crate::support::freshbench;
use serde_json::Value;

/// The findings on a server, and the exit code.
fn findings(url: &str, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let mut arguments = vec!["doctor", "--format", "json", "--source", url];
    arguments.extend(more);
    let output = freshbench(&arguments);
    let said = String::from_utf8(output.stdout).unwrap();
    let whole: Value =
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(whole["ok"], output.status.code() == Some(0));
    (output.status.code(), whole["findings"].as_array().unwrap().clone())
}

fn missing(findings: &[Value]) -> Vec<(String, String)> {
    let missing = findings.iter().filter(|finding| finding["verdict"] == "missing");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    missing.map(|finding| (text(&finding["check"]), text(&finding["remedy"]))).collect()
}

#[test]
fn a_server_that_is_ready_is_all_fine() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE a (id int PRIMARY KEY, g int GENERATED ALWAYS AS (1) STORED); \
        CREATE TABLE \"B b\" (id int PRIMARY KEY) PARTITION BY HASH (id)",
    );
    let (code, found) = findings(&server.url("postgres"), &[]);
    assert_eq!((code, missing(&found)), (Some(0), vec![]));
    let tables: Vec<&str> = found.iter().filter(|f| f["check"] == "key").filter_map(|f| f["table"].as_str()).collect();
    assert_eq!(tables, ["B b", "a"]);
    assert!(found.iter().any(|finding| finding["check"] == "generated" && finding["verdict"] == "note"));
    let human = freshbench(&["doctor", "--source", &server.socket_url("postgres"), "--tables", "a,\"B b\""]);
    let said = String::from_utf8(human.stdout).unwrap();
    assert!(said.ends_with("all is fine\n") && said.contains("wal_level          logical"), "{said}");
}

#[test]
fn what_is_missing_is_told_with_its_remedy() {
    let Some(server) = PgServer::start(&["wal_level=replica", "max_replication_slots=1"]) else { return };
    server.psql(
        "postgres",
        "CREATE ROLE weak LOGIN PASSWORD 'topsecret'; CREATE SCHEMA s; CREATE TABLE s.t (a int); \
         CREATE UNLOGGED TABLE u (id int PRIMARY KEY); ALTER TABLE u REPLICA IDENTITY NOTHING; \
         CREATE TABLE p (id int PRIMARY KEY); GRANT SELECT ON p TO weak; ALTER TABLE p ENABLE ROW LEVEL SECURITY; \
         CREATE PUBLICATION freshbench_left FOR TABLE p; CREATE VIEW v AS SELECT 1 AS a; \
         SELECT pg_create_physical_replication_slot('taken')",
    );
    let url = server.url("postgres").replace("postgres@", "weak:topsecret@");
    let (code, found) = findings(&url, &["--tables", "s.t,u,p,v,absent"]);
    assert_eq!(code, Some(1));
    let missing = missing(&found);
    for (check, remedy) in [
        ("wal_level", "SET wal_level = logical"),
        ("replication_slots", "max_replication_slots = 13"),
        ("replication", "ALTER ROLE \"weak\" REPLICATION"),
        ("create", "GRANT CREATE ON DATABASE \"postgres\" TO \"weak\""),
        ("leftover", "--cleanup"),
        ("select", "GRANT USAGE ON SCHEMA \"s\" TO \"weak\""),
        ("select", "GRANT SELECT ON \"public\".\"u\" TO \"weak\""),
        ("owner", "GRANT \"postgres\" TO \"weak\""),
        ("key", "ALTER TABLE \"s\".\"t\" ADD PRIMARY KEY"),
        ("replica_identity", "REPLICA IDENTITY FULL"),
        ("replica_identity", "ALTER TABLE \"public\".\"u\" REPLICA IDENTITY DEFAULT"),
        ("persistence", "SET LOGGED"),
        ("row_security", "BYPASSRLS"),
        ("kind", "tables that it is made of"),
        ("table", "check --tables"),
    ] {
        let told = missing.iter().any(|(name, told)| name == check && told.contains(remedy));
        assert!(told, "{check} {remedy} is not in {missing:#?}");
    }
    let human = freshbench(&["doctor", "--source", &url]);
    let said = format!("{}{}", String::from_utf8_lossy(&human.stdout), String::from_utf8_lossy(&human.stderr));
    assert!(human.status.code() == Some(1) && said.contains("MISSING") && !said.contains("topsecret"), "{said}");
}

#[test]
fn a_slot_that_was_left_over_is_told() {
    let Some(server) = PgServer::start(&[]) else { return };
    server.psql("postgres", "SELECT pg_create_logical_replication_slot('freshbench_1', 'pgoutput')");
    let (code, found) = findings(&server.url("postgres"), &[]);
    let missing = missing(&found);
    assert!(code == Some(1) && missing.len() == 1 && missing[0].1.contains("freshbench_1"), "{missing:?}");
}

#[test]
fn an_unreachable_server_and_the_machine_alone() {
    let (code, found) = findings("postgres://u:topsecret@127.0.0.1:1/d", &[]);
    assert_eq!((code, found[0]["check"].as_str()), (Some(1), Some("reachable")));
    assert!(!found[0].to_string().contains("topsecret"));
    for arguments in [&["doctor", "--source", "u:topsecret@h"][..], &["doctor", "--tables", "a"]] {
        let refused = freshbench(arguments);
        assert_eq!(refused.status.code(), Some(2));
        assert!(!String::from_utf8_lossy(&refused.stderr).contains("topsecret"));
    }
    let machine = freshbench(&["doctor", "--format", "json"]);
    let machine: Value = serde_json::from_slice(&machine.stdout).unwrap();
    assert!(machine["environment"]["cores"].as_u64() > Some(0) && machine["services"].is_array(), "{machine}");
    let human = freshbench(&["doctor"]);
    assert!(human.status.success() && String::from_utf8_lossy(&human.stdout).contains("fsync takes"));
}
