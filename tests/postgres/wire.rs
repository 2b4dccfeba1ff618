//! The raw protocol, against real servers.

use crate::server::PgServer;
use freshbench::source::SourceError;
use freshbench::source::postgres::{Mode, PgOptions, Wire};
use std::path::Path;
use std::time::{Duration, Instant};

fn open(url: &str) -> Result<Wire, SourceError> {
    Wire::connect(&PgOptions::parse_in(url, &|_| None).unwrap(), Mode::Query)
}

#[test]
fn every_kind_of_password_logs_in_and_a_wrong_one_is_not_shown() {
    let hba = |data: &Path| {
        let rules = "local all all trust\nhost all postgres 127.0.0.1/32 trust\n\
            host all scram 127.0.0.1/32 scram-sha-256\nhost all md5 127.0.0.1/32 md5\n\
            host all clear 127.0.0.1/32 password\n";
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    };
    let Some(server) = PgServer::prepare(&[], hba) else { return };
    let roles = "SET password_encryption = 'md5'; CREATE ROLE md5 LOGIN PASSWORD 'top secret'; \
        SET password_encryption = 'scram-sha-256'; CREATE ROLE scram LOGIN PASSWORD 'top secret'; \
        CREATE ROLE clear LOGIN PASSWORD 'top secret'";
    server.psql("postgres", roles);
    for role in ["scram", "md5", "clear"] {
        let url = |password: &str| format!("postgres://{role}{password}@127.0.0.1:{}/postgres", server.port());
        let mut wire = open(&url(":top%20secret")).unwrap();
        assert_eq!(wire.query("SELECT current_user").unwrap(), [[Some(role.to_owned())]]);
        assert!(!format!("{wire:?}").contains("secret"), "{wire:?}");
        let refused = open(&url(":top%20secrets")).unwrap_err().to_string();
        assert!(refused.contains("password authentication failed") && !refused.contains("secret"), "{refused}");
        let missing = open(&url("")).unwrap_err().to_string();
        assert!(missing.contains("PGPASSWORD"), "{missing}");
    }
}

#[test]
fn statements_errors_and_copies_share_a_connection() {
    let Some(server) = PgServer::start(&[]) else { return };
    for url in [server.url("postgres"), server.socket_url("postgres")] {
        let mut wire = open(&url).unwrap();
        let rows = wire.query("SELECT 1, NULL, ''; SELECT 'é', '2020-01-01'::date, '\\x00'::bytea").unwrap();
        let text = |value: &str| Some(value.to_owned());
        assert_eq!(rows, [[text("1"), None, text("")], [text("é"), text("2020-01-01"), text("\\x00")]]);
        let error = wire.query("SELECT 1/0").unwrap_err().to_string();
        assert!(error.contains("division by zero"), "{error}");
        let mut text = Vec::new();
        let mut each = |row: &[u8]| -> Result<(), SourceError> {
            text.extend_from_slice(row);
            Ok(())
        };
        let bytes = wire.copy_out("COPY (SELECT * FROM generate_series(1, 100000)) TO STDOUT", &mut each).unwrap();
        let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
        assert!(bytes == expected.len() as u64 && text == expected.as_bytes());
        let wide = "COPY (SELECT repeat('x', 5000000) FROM generate_series(1, 3)) TO STDOUT (FORMAT binary)";
        let mut longest = 0;
        let mut each = |row: &[u8]| -> Result<(), SourceError> {
            longest = longest.max(row.len());
            Ok(())
        };
        wire.copy_out(wide, &mut each).unwrap();
        assert_eq!(longest, 19 + 2 + 4 + 5_000_000, "the signature comes with the first row");
        let failed = wire.copy_out("COPY (SELECT 1/(3-g) FROM generate_series(1, 9) g) TO STDOUT", &mut |_| {
            Ok::<_, SourceError>(())
        });
        assert!(failed.unwrap_err().to_string().contains("division by zero"));
        assert_eq!(wire.query("SELECT 2").unwrap()[0][0].as_deref(), Some("2"));
    }
}

#[test]
fn an_unfinished_answer_is_cancelled_and_silence_is_an_error() {
    let Some(server) = PgServer::start(&[]) else { return };
    let mut wire = open(&server.url("postgres")).unwrap();
    let stopped = wire.copy_out("COPY (SELECT generate_series(1, 1000000000)) TO STDOUT", &mut |_| {
        Err(SourceError::Options { what: "enough".to_owned() })
    });
    assert_eq!(stopped.unwrap_err().to_string(), "enough");
    assert!(wire.query("SELECT 1").is_err());
    let mut wire = open(&server.url("postgres")).unwrap();
    wire.set_silence_max(Duration::from_millis(200));
    let began = Instant::now();
    let silent = wire.query("SELECT pg_sleep(600)").unwrap_err().to_string();
    assert!(silent.contains("said nothing") && began.elapsed() < Duration::from_secs(20), "{silent}");
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() \
        AND backend_type = 'client backend'";
    let until = Instant::now() + Duration::from_secs(10);
    while server.psql("postgres", busy).trim() != "0" {
        assert!(Instant::now() < until, "a statement goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}
