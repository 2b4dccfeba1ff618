//! Ways to say where a server is and what its sessions are to be: held against psql, which is given the same.

use crate::server::PgServer;
use crate::support::{dumped, folder};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What a view says of the session that reads it.
const VIEW: &str = "CREATE ROLE limited; CREATE ROLE other LOGIN PASSWORD 'oth:er'; \
    CREATE VIEW v AS SELECT 1 AS id, current_user::text AS who, current_database()::text AS place, \
        current_setting('my.tenant', true) AS tenant, current_setting('work_mem') AS mem, \
        current_setting('application_name') AS application, current_setting('geqo') AS geqo, \
        current_setting('default_transaction_read_only') AS read_only; \
    GRANT SELECT ON v TO limited, other";

/// What psql reads, or nothing when it can't.
fn by_psql(server: &PgServer, url: &str, variables: &[(&str, &str)]) -> Option<String> {
    let mut psql = server.program("psql");
    psql.args(["-X", "-A", "-t", "-d", url, "-c", "COPY (SELECT * FROM public.v) TO STDOUT (FORMAT csv)"]);
    psql.env_remove("PGHOST").env_remove("PGPORT").env_remove("PGUSER");
    psql.env("HOME", "/nonexistent").env("USER", "nobody").envs(variables.iter().copied());
    let ran = psql.output().unwrap();
    ran.status.success().then(|| String::from_utf8(ran.stdout).unwrap())
}

/// What freshbench reads, or its exit code and words.
fn by_freshbench(folder: &Path, url: &str, variables: &[(&str, &str)]) -> Result<String, (Option<i32>, String)> {
    let warehouse = folder.join(format!("warehouse-{}", std::fs::read_dir(folder).unwrap().count()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    command.args(["load", "--table", "v", "--key", "id", "--source", url, "--warehouse"]).arg(&warehouse);
    command.env("HOME", "/nonexistent").env("USER", "nobody").envs(variables.iter().copied());
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    if ran.status.success() { Ok(dumped(&warehouse, "v")) } else { Err((ran.status.code(), said)) }
}

/// psql names itself where nothing else does.
fn alike(ours: &str, theirs: &str) -> bool {
    ours.replace(",freshbench,", ",psql,").trim() == theirs.trim()
}

#[test]
fn each_parameter_does_what_it_does_in_psql_or_is_refused_by_its_name() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", VIEW);
    let folder = folder();
    // What is taken up; the parameter's name stands first.
    let taken = [
        "options=-c%20role%3Dlimited",
        "options=-crole%3Dlimited",
        "options=--role%3Dlimited",
        "options=",
        "options=-c%20my.tenant%3Dseven%20-c%20work_mem%3D777kB",
        "options=-c%20my.tenant%3Da%5C%20b%5C%5Cc",
        "options=%20%09--work-mem%3D2048kB%20",
        "options=-c%20work_mem%3D3MB%20-c%20work_mem%3D5MB",
        "options=-c%20my.tenant%3D",
        "options=-c%20my.tenant%3Dit's%20--geqo%3Doff",
        "options=-c%20timezone%3DUTC%20-cstatement_timeout%3D0",
        "options=-c%20default_transaction_read_only%3Don",
        "application_name=a+b%20c",
        "fallback_application_name=x",
        "target_session_attrs=any",
        "target_session_attrs=read-write",
        "target_session_attrs=primary",
        "target_session_attrs=prefer-standby",
        "channel_binding=prefer",
        "channel_binding=disable",
        "keepalives=0",
        "keepalives=1",
        "keepalives_idle=5",
        "keepalives_interval=5",
        "keepalives_count=3",
        "tcp_user_timeout=5000",
        "connect_timeout=5",
        "connect_timeout=0",
        "sslmode=disable",
        "sslmode=allow",
        "sslmode=prefer",
        "requiressl=0",
        "sslcompression=0",
        "sslsni=0",
        "ssl_min_protocol_version=TLSv1.2",
        "ssl_max_protocol_version=TLSv1.3",
        "gssencmode=prefer",
        "gssencmode=disable",
        "client_encoding=UTF8",
        "client_encoding=auto",
        "replication=false",
        "hostaddr=127.0.0.1",
        "passfile=/nonexistent",
        "user=other&password=oth:er",
        "dbname=postgres",
    ];
    for query in taken {
        let url = format!("postgresql://postgres@127.0.0.1:{}/postgres?{query}", server.port());
        let theirs = by_psql(&server, &url, &[]);
        let ours = by_freshbench(folder.path(), &url, &[]);
        // `requiressl` is no parameter of a URL since version 14; and what psql refuses need not be taken up.
        match (ours, theirs) {
            // psql has a fallback of its own.
            (Ok(ours), Some(_)) if query.starts_with("fallback") => assert!(ours.contains(",x,"), "{ours}"),
            (Ok(ours), Some(theirs)) => assert!(alike(&ours, &theirs), "{query}\n{ours}{theirs}"),
            (Ok(_), None) if query.starts_with("requiressl") => {}
            (ours, theirs) => panic!("{query}: {ours:?}, psql {theirs:?}"),
        }
    }
    // What is refused, by psql (as here the server is no standby, and has no TLS) or by us alone; the latter names it.
    let refused = [
        ("options=-c%20role%3Dnone_such", 1),
        ("options=-c%20no_such_setting%3D1", 1),
        ("options=-c", 2),
        ("options=-c%20role", 2),
        ("options=-e", 2),
        ("options=role%3Dlimited", 2),
        ("options=-c%20DateStyle%3DGerman", 2),
        ("options=-c%20search-path%3Dpublic", 2),
        ("options=--TimeZone%3DAsia/Tokyo", 2),
        ("options=-c%20statement_timeout%3D5s", 2),
        ("options=-c%20bytea_output%3Descape", 2),
        ("options=-c%20row_security%3Don", 2),
        ("options=-c%20log_connections%3Don", 1),
        ("target_session_attrs=read-only", 1),
        ("target_session_attrs=standby", 1),
        ("target_session_attrs=sometimes", 2),
        ("channel_binding=require", 1),
        ("channel_binding=maybe", 2),
        ("sslmode=require", 1),
        ("sslmode=verify-full", 1),
        ("sslmode=maybe", 2),
        ("ssl=true", 1),
        ("requiressl=1", 1),
        ("sslcompression=1", 2),
        ("sslpassword=x", 2),
        ("sslcrldir=/tmp", 2),
        ("ssl_max_protocol_version=TLSv1.1", 2),
        ("requirepeer=postgres", 2),
        ("replication=database", 2),
        ("gssencmode=require", 2),
        ("krbsrvname=x", 2),
        ("gsslib=gssapi", 2),
        ("client_encoding=LATIN1", 2),
        ("require_auth=scram-sha-256", 2),
        ("load_balance_hosts=random", 2),
        ("sslnegotiation=direct", 2),
        ("min_protocol_version=3.2", 2),
        ("unheard_of=1", 2),
        ("connect_timeout=soon", 2),
        ("port=0", 2),
        ("port=65536", 2),
        ("hostaddr=nowhere", 2),
        ("user=postgres&user", 2),
        ("user=a=b", 2),
        ("dbname=%zz", 2),
        ("dbname=%00", 2),
        ("keepalives=perhaps", 2),
        ("service=none_such", 2),
        ("sslcert=/nonexistent", 2),
        ("sslcrl=/nonexistent", 2),
    ];
    for (query, code) in refused {
        let url = format!("postgresql://postgres@127.0.0.1:{}/postgres?{query}", server.port());
        let (found, said) = by_freshbench(folder.path(), &url, &[]).expect_err(query);
        assert!(found == Some(code) && said.lines().count() == 1, "{query}: {found:?} {said}");
        let name = query.split(['=', '&']).next().unwrap();
        let named = said.contains(name) || query.contains('%') || by_psql(&server, &url, &[]).is_none();
        assert!(named, "{query}: {said}");
    }
    let standing = "SELECT rolname FROM pg_roles WHERE rolname = 'postgres' AND rolconfig IS NULL";
    assert_eq!(server.psql("postgres", standing), "postgres\n");
}

#[test]
fn variables_and_services_count_as_parameters_do() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql("postgres", VIEW);
    let folder = folder();
    let services = folder.path().join("services.conf");
    let text = format!(
        "# caf\u{e9}: a comment in Latin-1 follows\n# caf\u{0}\n[mine]\nhost=127.0.0.1\nport={0}\nuser=postgres\n\
         dbname=postgres\noptions=-c my.tenant=service\n\n[odd]\nhost=127.0.0.1\nport={0}\nuser=postgres\nunheard=1\n\
         [nested]\nservice=mine\n",
        server.port()
    );
    // The NUL stands for a byte that is no UTF-8.
    let bytes: Vec<u8> = text.bytes().map(|byte| if byte == 0 { 0xE9 } else { byte }).collect();
    std::fs::write(&services, bytes).unwrap();
    let services = services.to_str().unwrap();
    let url = format!("postgresql://postgres@127.0.0.1:{}/postgres", server.port());
    let port = server.port().to_string();
    let alone =
        [("PGHOST", "127.0.0.1"), ("PGPORT", port.as_str()), ("PGUSER", "postgres"), ("PGDATABASE", "postgres")];
    let both: [(&str, Vec<(&str, &str)>); 13] = [
        (&url, vec![("PGOPTIONS", "-c my.tenant=seven")]),
        ("postgresql://", alone.to_vec()),
        ("postgresql://", vec![("PGSERVICE", "mine"), ("PGSERVICEFILE", services)]),
        ("service=mine", vec![("PGSERVICEFILE", services), ("PGOPTIONS", "-c my.tenant=variable")]),
        ("postgresql://?service=mine&options=-cmy.tenant%3Durl", vec![("PGSERVICEFILE", services)]),
        (&url, vec![("PGAPPNAME", "somebody")]),
        (&url, vec![("PGGEQO", "off")]),
        (&url, vec![("PGTZ", "UTC"), ("PGDATESTYLE", "ISO"), ("PGCLIENTENCODING", "UTF8")]),
        (&url, vec![("PGHOSTADDR", "127.0.0.1"), ("PGREQUIRESSL", "0"), ("PGGSSENCMODE", "disable")]),
        (&url, vec![("PGTARGETSESSIONATTRS", "read-write"), ("PGCHANNELBINDING", "prefer")]),
        (&url, vec![("PGCONNECT_TIMEOUT", "5"), ("PGSSLMODE", "prefer"), ("PGSSLSNI", "1")]),
        (&url, vec![("PGPASSFILE", "/nonexistent"), ("PGSYSCONFDIR", "/nonexistent")]),
        (&url, vec![("PGSSLMINPROTOCOLVERSION", "TLSv1"), ("PGSSLCOMPRESSION", "0")]),
    ];
    for (url, variables) in both {
        let theirs = by_psql(&server, url, &variables).unwrap_or_else(|| panic!("psql: {variables:?}"));
        let ours = by_freshbench(folder.path(), url, &variables).unwrap();
        assert!(alike(&ours, &theirs), "{variables:?}\n{ours}{theirs}");
    }
    let refused = [
        ("PGOPTIONS", "-c timezone=Asia/Tokyo", 2),
        ("PGOPTIONS", "-c role=none_such", 1),
        ("PGTZ", "Asia/Tokyo", 2),
        ("PGDATESTYLE", "German", 2),
        ("PGCLIENTENCODING", "LATIN1", 2),
        ("PGTARGETSESSIONATTRS", "standby", 1),
        ("PGCHANNELBINDING", "require", 1),
        ("PGREQUIREAUTH", "none", 2),
        ("PGREQUIRESSL", "1", 1),
        ("PGSSLMODE", "require", 1),
        ("PGREQUIREPEER", "x", 2),
        ("PGKRBSRVNAME", "x", 2),
        ("PGGSSENCMODE", "require", 2),
        ("PGLOADBALANCEHOSTS", "random", 2),
        ("PGSSLCRLDIR", "/tmp", 2),
        ("PGCONNECT_TIMEOUT", "soon", 2),
    ];
    for (name, value, code) in refused {
        let (found, said) = by_freshbench(folder.path(), &url, &[(name, value)]).expect_err(name);
        assert!(found == Some(code) && said.lines().count() == 1, "{name}={value}: {found:?} {said}");
        assert!(code == 1 || said.contains(name), "{name}={value}: {said}");
    }
    for (url, word) in [("service=odd", "unheard"), ("service=nested", "another service"), ("service=absent", "absent")]
    {
        let (found, said) = by_freshbench(folder.path(), url, &[("PGSERVICEFILE", services)]).unwrap_err();
        assert!(found == Some(2) && said.contains(word), "{url}: {said}");
        assert_eq!(by_psql(&server, url, &[("PGSERVICEFILE", services)]), None);
    }
}

#[test]
fn one_of_several_hosts_is_chosen_and_kept() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    let Some(standing) = PgServer::start(&["fsync=off", "default_transaction_read_only=on"]) else { return };
    server.psql("postgres", &format!("{VIEW}; ALTER DATABASE postgres SET my.tenant = 'first'"));
    // This one may not write, as a standby may not.
    let mut psql = standing.program("psql");
    psql.args(["-X", "-d", "postgres", "-c", VIEW, "-c", "ALTER DATABASE postgres SET my.tenant = 'second'"]);
    let made = psql.env("PGOPTIONS", "-c default_transaction_read_only=off").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let folder = folder();
    let (a, b) = (server.port(), standing.port());
    for url in [
        format!("postgresql://postgres@127.0.0.1:1,127.0.0.1:{a}/postgres"),
        format!("postgresql://postgres@127.0.0.1:{a},127.0.0.1:{b}/postgres"),
        format!("postgresql://postgres@127.0.0.1:{b},127.0.0.1:{a}/postgres"),
        format!("postgresql://postgres@127.0.0.1:{b},127.0.0.1:{a}/postgres?target_session_attrs=read-write"),
        format!("postgresql://postgres@127.0.0.1:{a},127.0.0.1:{b}/postgres?target_session_attrs=read-only"),
        format!("postgresql://postgres@127.0.0.1:{a},127.0.0.1:{b}/postgres?target_session_attrs=standby"),
        format!("postgresql://postgres@127.0.0.1:{a},127.0.0.1:{b}/postgres?target_session_attrs=prefer-standby"),
        format!("postgresql://postgres@nohost.invalid,x.invalid/postgres?hostaddr=127.0.0.1,127.0.0.1&port={b},{a}"),
        format!("postgresql://postgres@[::1]:1,[127.0.0.1]:{b}/postgres"),
        format!("host=127.0.0.1,127.0.0.1 port={a},{b} user='postgres' dbname = postgres"),
        format!("host=127.0.0.1,127.0.0.1 port={a} user=post\\gres dbname='postgres' target_session_attrs=primary"),
        format!("postgresql://no_such_role@127.0.0.1:{a},postgres@127.0.0.1:{b}/postgres"),
        format!("postgresql://no_such_role@127.0.0.1:{a},127.0.0.1:{b}/postgres"),
        format!("postgresql://postgres@127.0.0.1,127.0.0.1/postgres?hostaddr=127.0.0.1&port={a}"),
        format!("postgresql://postgres@127.0.0.1,127.0.0.1,127.0.0.1/postgres?port={a},{b}"),
    ] {
        match (by_freshbench(folder.path(), &url, &[]), by_psql(&server, &url, &[])) {
            (Ok(ours), Some(theirs)) => assert!(alike(&ours, &theirs), "{url}\n{ours}{theirs}"),
            (Err((_, said)), None) => assert_eq!(said.lines().count(), 1, "{url}: {said}"),
            (ours, theirs) => panic!("{url}: {ours:?}, psql {theirs:?}"),
        }
    }
}

#[test]
fn the_password_file_is_searched_as_psql_does() {
    let hba = |data: &Path| {
        let rules = "local all postgres trust\nhost all postgres all trust\nlocal all all scram-sha-256\n\
            host all all all scram-sha-256\n";
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    };
    let Some(server) = PgServer::prepare(&["fsync=off"], hba) else { return };
    server.psql("postgres", VIEW);
    let folder = folder();
    let file = folder.path().join("passwords");
    let port = server.port();
    let socket_url = server.socket_url("postgres");
    let socket = socket_url.split("host=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let urls = [
        format!("postgresql://other@127.0.0.1:{port}/postgres"),
        format!("postgresql://other@localhost:{port}/postgres"),
        format!("postgresql:///postgres?host={socket}&port={port}&user=other"),
        format!("postgresql://other@nohost.invalid:{port}/postgres?hostaddr=127.0.0.1"),
        format!("postgresql:///postgres?hostaddr=127.0.0.1&port={port}&user=other"),
        format!("postgresql://other@127.0.0.1:1,127.0.0.1:{port}/postgres"),
    ];
    let mut accepted = 0;
    for line in [
        "*:*:*:*:oth\\:er".to_owned(),
        format!("127.0.0.1:{port}:postgres:other:oth\\:er"),
        format!("localhost:{port}:*:other:oth\\:er"),
        format!("{}:*:*:other:oth\\:er", socket.replace(':', "\\:")),
        "nohost.invalid:*:*:*:oth\\:er".to_owned(),
        format!("127.0.0.1:1:*:other:wrong\n127.0.0.1:{port}:*:other:oth\\:er:more\r"),
        "*:*:*:*:wrong".to_owned(),
        // A colon that is meant needs its backslash.
        "*:*:*:*:oth:er".to_owned(),
    ] {
        let mut bytes = b"# caf\xE9, in Latin-1\n#*:*:*:*:wrong\ncaf\xE9:*:*:*:wrong\n".to_vec();
        bytes.extend(line.bytes());
        std::fs::write(&file, bytes).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        for url in &urls {
            let variables = [("PGPASSFILE", file.to_str().unwrap())];
            match (by_freshbench(folder.path(), url, &variables), by_psql(&server, url, &variables)) {
                (Ok(ours), Some(theirs)) => {
                    assert!(alike(&ours, &theirs), "{url} {line}\n{ours}{theirs}");
                    accepted += 1;
                }
                (Err((_, said)), None) => {
                    assert!(said.contains("password") && !said.contains("oth:er"), "{url}: {said}")
                }
                (ours, theirs) => panic!("{url} {line}: {ours:?}, psql {theirs:?}"),
            }
        }
    }
    assert!(accepted >= 12, "{accepted}");
}
