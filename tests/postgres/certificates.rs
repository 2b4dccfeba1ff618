//! Certificates of our own, certificates that were taken back, channel binding and versions of TLS, against a real server.

use crate::connect::certificates;
use crate::server::PgServer;
use freshbench::source::postgres::{Mode, PgOptions, Wire};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Both kinds of connection; what each says when it fails, which has to be about the same.
fn connect(url: &str) -> Result<String, String> {
    let options = PgOptions::parse_in(url, &|_| None).map_err(|error| error.to_string())?;
    let sql = "SELECT version FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()";
    let ordinary = options.connect().map_err(|error| error.to_string()).map(|mut client| {
        let row = client.query_one(sql, &[]).unwrap();
        row.get::<_, Option<String>>(0).unwrap_or_default()
    });
    let raw = Wire::connect(&options, Mode::Query).map_err(|error| error.to_string()).map(|mut wire| {
        let rows = wire.query(sql).unwrap();
        rows.into_iter().flatten().next().flatten().unwrap_or_default()
    });
    assert_eq!(ordinary.is_ok(), raw.is_ok(), "{ordinary:?} {raw:?}");
    if let (Ok(ordinary), Ok(raw)) = (&ordinary, &raw) {
        assert_eq!(ordinary, raw);
    }
    ordinary
}

/// A client's certificate for the role `certified`, and the authority's list that takes the server's back.
fn more_certificates(folder: &Path) {
    let run = |line: &str| {
        let ran = Command::new("openssl").args(line.split(' ')).current_dir(folder).output().expect("openssl runs");
        assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
    };
    run(
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout client.key -out client.csr -subj /CN=certified",
    );
    run("x509 -req -in client.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile leaf.ext -out client.crt");
    let authority = "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\ncrlnumber=number.txt\ndefault_md=sha256\n\
        default_crl_days=2\n";
    std::fs::write(folder.join("ca.cnf"), authority).unwrap();
    std::fs::write(folder.join("index.txt"), "").unwrap();
    std::fs::write(folder.join("number.txt"), "01\n").unwrap();
    run("ca -config ca.cnf -keyfile ca.key -cert ca.crt -gencrl -out none.crl");
    run("ca -config ca.cnf -keyfile ca.key -cert ca.crt -revoke server.crt");
    run("ca -config ca.cnf -keyfile ca.key -cert ca.crt -gencrl -out server.crl");
    let mode = |name: &str, mode| {
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("client.key", 0o600);
    std::fs::copy(folder.join("client.key"), folder.join("open.key")).unwrap();
    mode("open.key", 0o644);
}

#[test]
fn every_parameter_of_tls_is_heeded() {
    if Command::new("openssl").arg("version").output().is_err() {
        assert!(std::env::var_os("FRESHBENCH_REQUIRE_SERVICES").is_none(), "openssl is required");
        eprintln!("SKIPPED: openssl is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    more_certificates(folder.path());
    let prepare = |data: &Path| {
        for name in ["server.key", "server.crt", "ca.crt"] {
            std::fs::copy(folder.path().join(name), data.join(name)).unwrap();
        }
        let rules = "local all all trust\nhostssl all certified all cert\nhostssl all scram all scram-sha-256\n\
            hostssl all md5 all md5\nhost all all all trust\n";
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    };
    let Some(server) =
        PgServer::prepare(&["ssl=on", "ssl_ca_file=ca.crt", "ssl_min_protocol_version=TLSv1.2"], prepare)
    else {
        return;
    };
    server.psql(
        "postgres",
        "CREATE ROLE certified LOGIN; CREATE ROLE scram LOGIN PASSWORD 'secret'; SET password_encryption = 'md5'; \
         CREATE ROLE md5 LOGIN PASSWORD 'secret'",
    );
    let path = |name: &str| folder.path().join(name).display().to_string();
    let url = |who: &str, more: &str| {
        let more = ["ca.crt", "client.crt", "client.key", "open.key", "none.crl", "server.crl", "absent"]
            .iter()
            .fold(more.to_owned(), |more, name| more.replace(&format!("@{name}"), &path(name)));
        format!("postgres://{who}@localhost:{}/postgres?{more}", server.port())
    };
    let full = "sslmode=verify-full&sslrootcert=@ca.crt";
    for (who, more, version) in [
        ("certified", "sslmode=require&sslcert=@client.crt&sslkey=@client.key", "TLSv1.3"),
        ("postgres", "sslmode=require&ssl_max_protocol_version=TLSv1.2", "TLSv1.2"),
        ("postgres", "sslmode=require&ssl_min_protocol_version=TLSv1.3", "TLSv1.3"),
        ("postgres", "sslmode=require&sslsni=0", "TLSv1.3"),
        ("postgres", &format!("{full}&sslcrl=@none.crl"), "TLSv1.3"),
        ("scram:secret", "sslmode=require&channel_binding=require", "TLSv1.3"),
        ("scram:secret", "sslmode=require&channel_binding=disable", "TLSv1.3"),
        ("md5:secret", "sslmode=require&channel_binding=prefer", "TLSv1.3"),
        ("postgres", "ssl=true", "TLSv1.3"),
        ("postgres", "sslmode=disable&requiressl=1", "TLSv1.3"),
        ("postgres", "requiressl=1&sslmode=disable", ""),
    ] {
        assert_eq!(connect(&url(who, more)).as_deref(), Ok(version), "{who} {more}");
    }
    for (who, more, word) in [
        ("certified", "sslmode=require", "certificate"),
        ("certified", "sslmode=require&sslcert=@client.crt", "sslkey"),
        ("certified", "sslmode=require&sslkey=@client.key", "sslcert"),
        ("certified", "sslmode=require&sslcert=@client.crt&sslkey=@open.key", "chmod 600"),
        ("certified", "sslmode=require&sslcert=@absent&sslkey=@client.key", "sslcert"),
        ("postgres", &format!("{full}&sslcrl=@server.crl"), "Revoked"),
        ("postgres", &format!("{full}&sslcrl=@absent"), "sslcrl"),
        ("postgres", "sslmode=require&sslcrl=@server.crl", "sslcrl"),
        ("postgres", "sslmode=require&channel_binding=require", "channel"),
        ("md5:secret", "sslmode=require&channel_binding=require", "channel"),
        ("scram:secret", "sslmode=require&channel_binding=require&ssl_max_protocol_version=TLSv1.1", "TLSv1.2"),
        ("scram:secret", "sslmode=disable&channel_binding=require", "channel"),
        ("postgres", "ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2", "ssl_min"),
    ] {
        let said = connect(&url(who, more)).unwrap_err();
        assert!(said.contains(word) && !said.contains("secret"), "{who} {more}: {said}");
    }
}
