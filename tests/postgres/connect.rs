//! Passwords and TLS, against real servers.

use crate::server::PgServer;
use freshbench::source::SourceError;
use freshbench::source::postgres::{Mode, PgOptions, Wire};
use std::path::Path;
use std::process::Command;

fn connect(url: &str) -> Result<(), String> {
    let options = PgOptions::parse_in(url, &|_| None).map_err(|error| error.to_string())?;
    let mut client = options.connect().map_err(|error| format!("{error} {error:?}"))?;
    client.simple_query("SELECT 1").map_err(|error| error.to_string())?;
    // The raw protocol accepts and refuses the same.
    let mut wire = Wire::connect(&options, Mode::Replication).map_err(|error| format!("{error} {error:?}"))?;
    wire.query("IDENTIFY_SYSTEM").map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_wrong_password_is_refused_and_not_shown() {
    let hba = |data: &Path| {
        let rules =
            "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    };
    let Some(server) = PgServer::prepare(&[], hba) else { return };
    server.psql("postgres", "CREATE ROLE reader LOGIN REPLICATION PASSWORD 'topsecret'");
    let url = |password: &str| format!("postgres://reader{password}@127.0.0.1:{}/postgres", server.port());
    connect(&url(":topsecret")).unwrap();
    let refused = connect(&url(":topsecrets")).unwrap_err();
    assert!(refused.contains("password authentication failed") && !refused.contains("topsecret"), "{refused}");
    let missing = connect(&url("")).unwrap_err();
    assert!(missing.contains("password"), "{missing}");
}

/// An authority of its own, and a certificate that it signed for `localhost`.
pub fn certificates(folder: &Path) {
    let run = |arguments: &[&str]| {
        let ran = Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl runs");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    std::fs::write(folder.join("leaf.ext"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
    for name in ["ca", "stranger"] {
        let (key, certificate, subject) =
            (format!("{name}.key"), format!("{name}.crt"), format!("/CN=freshbench {name}"));
        run(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-subj",
            &subject,
        ]);
    }
    run(&[
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
        "-subj",
        "/CN=localhost",
    ]);
    run(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "leaf.ext",
        "-out",
        "server.crt",
    ]);
}

#[test]
fn tls_verifies_what_its_mode_says() {
    if Command::new("openssl").arg("version").output().is_err() {
        assert!(std::env::var_os("FRESHBENCH_REQUIRE_SERVICES").is_none(), "openssl is required");
        eprintln!("SKIPPED: openssl is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let prepare = |data: &Path| {
        for name in ["server.key", "server.crt"] {
            std::fs::copy(folder.path().join(name), data.join(name)).unwrap();
        }
        std::fs::write(
            data.join("pg_hba.conf"),
            "local all all trust\nhostssl all scram 127.0.0.1/32 scram-sha-256\nhostssl all all 127.0.0.1/32 trust\n",
        )
        .unwrap();
    };
    let Some(server) = PgServer::prepare(&["ssl=on"], prepare) else { return };
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (ca, stranger) = (path("ca.crt"), path("stranger.crt"));
    let url = |host: &str, mode: &str, root: &str| {
        let root = if root.is_empty() { String::new() } else { format!("&sslrootcert={root}") };
        format!("postgres://postgres@{host}:{}/postgres?sslmode={mode}{root}", server.port())
    };
    for accepted in [
        url("127.0.0.1", "prefer", ""),
        url("127.0.0.1", "require", ""),
        url("127.0.0.1", "verify-ca", &ca),
        url("localhost", "verify-ca", &ca),
        url("localhost", "verify-full", &ca),
    ] {
        assert_eq!(connect(&accepted), Ok(()), "{accepted}");
    }
    // Over TLS the password's proof is bound to the server's certificate.
    server.psql("postgres", "CREATE ROLE scram LOGIN REPLICATION PASSWORD 'top secret'");
    let scram =
        |password: &str| url("localhost", "verify-full", &ca).replace("postgres@", &format!("scram:{password}@"));
    assert_eq!(connect(&scram("top%20secret")), Ok(()));
    assert!(connect(&scram("wrong")).is_err());
    let options = PgOptions::parse_in(&url("localhost", "verify-full", &ca), &|_| None).unwrap();
    let mut wire = Wire::connect(&options, Mode::Query).unwrap();
    let bytes =
        wire.copy_out("COPY (SELECT generate_series(100001, 400000)) TO STDOUT", &mut |_| Ok::<_, SourceError>(()));
    assert_eq!(bytes.unwrap(), 2_100_000);
    for (refused, word) in [
        (url("127.0.0.1", "disable", ""), "pg_hba.conf"),
        (url("127.0.0.1", "require", &stranger), "certificate"),
        (url("127.0.0.1", "verify-ca", &stranger), "certificate"),
        (url("localhost", "verify-full", &stranger), "certificate"),
        (url("127.0.0.1", "verify-full", &ca), "certificate"),
        (url("localhost", "verify-full", &path("absent.crt")), "absent.crt"),
    ] {
        let error = connect(&refused).unwrap_err();
        assert!(error.contains(word), "{refused}: {error}");
    }
}
