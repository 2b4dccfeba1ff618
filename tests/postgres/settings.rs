//! A server's settings are part of a run's configuration, and its address is not.

use crate::server::PgServer;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn run(url: &str, out: &Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.args(["-q", "run", "--no-control", "--strategies", "cdc-trigger", "--sinks", "warehouse", "--rows", "100"]);
    command.args(["--rate", "100", "--duration", "300ms", "--warmup", "100ms", "--source", url, "--out"]).arg(out);
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&std::fs::read(out.join("result.json")).unwrap()).unwrap()
}

#[test]
fn another_setting_is_another_configuration_and_another_address_is_not() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let first = run(&server.url("postgres"), &at("a"));
    let settings = &first["config"]["settings"];
    let shown = |name: &str| server.psql("postgres", &format!("SELECT setting FROM pg_settings WHERE name = '{name}'"));
    for (name, wanted) in [("source.kind", "postgres"), ("source.fsync", "off"), ("source.wal_level", "logical")] {
        assert_eq!(settings[name], wanted, "{name}");
    }
    assert_eq!(settings["source.synchronous_commit"], shown("synchronous_commit").trim());
    assert!(settings["source.shared_buffers"].as_str().unwrap().starts_with(shown("shared_buffers").trim()));
    let major = shown("server_version_num").trim().parse::<u32>().unwrap() / 10_000;
    assert_eq!(settings["source.version"], major.to_string());
    let text = settings.to_string();
    assert!(!text.contains("127.0.0.1") && !text.contains(&server.port().to_string()), "{text}");

    // Another database and another role of the same server.
    server.psql("postgres", "CREATE DATABASE other");
    server.psql("postgres", "CREATE ROLE maker LOGIN SUPERUSER");
    let url = format!("postgres://maker@localhost:{}/other", server.port());
    assert_eq!(run(&url, &at("b"))["config"]["hash"], first["config"]["hash"]);
    // A socket is no other address, but another way.
    let way = run(&server.socket_url("postgres"), &at("c"));
    assert_ne!(way["config"]["hash"], first["config"]["hash"]);

    server.psql("postgres", "ALTER SYSTEM SET synchronous_commit = off");
    server.psql("postgres", "SELECT pg_reload_conf()");
    let changed = run(&server.url("postgres"), &at("d"));
    assert_ne!(changed["config"]["hash"], first["config"]["hash"]);
    let compared =
        Command::new(env!("CARGO_BIN_EXE_freshbench")).arg("compare").args([at("a"), at("d")]).output().unwrap();
    let said = String::from_utf8_lossy(&compared.stderr).into_owned();
    assert_eq!(compared.status.code(), Some(2), "{said}");
    assert!(said.contains("different configurations: source.synchronous_commit on | off"), "{said}");
}
