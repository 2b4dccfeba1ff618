//! Through PgBouncer: sessions that are what values depend on, or a refusal.

use crate::server::PgServer;
use crate::support::{assert_same, dumped, folder, freshbench, load};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A pooler in front of a server, ended with the value.
struct Pooler {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pooler {
    /// `None`, said loudly, when it is not installed and not required.
    fn start(server: &PgServer, mode: &str, more: &str) -> Option<Pooler> {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| std::fs::exists(path).unwrap());
        let Some(program) = program else {
            let required = std::env::var_os("FRESHBENCH_REQUIRE_SERVICES").is_some();
            assert!(!required, "PgBouncer is required and not installed: apt-get install pgbouncer");
            eprintln!("SKIPPED: PgBouncer is not installed; apt-get install pgbouncer");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap().port();
        let path = |name: &str| folder.path().join(name);
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {mode}\nlogfile = {}\n{more}\n",
            server.port(),
            path("log").display()
        );
        // With auth_type = any the server sees the one role that is named.
        let text =
            text.replace(&format!("port={}\n", server.port()), &format!("port={} user=postgres\n", server.port()));
        std::fs::write(path("ini"), text).unwrap();
        let mut command = Command::new(program);
        command.arg("-q").arg(path("ini")).stdout(Stdio::null()).stderr(Stdio::null());
        // Like the server, it refuses to run as root.
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            const NOBODY: u32 = 65_534;
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command.spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(child.try_wait().unwrap().is_none() && Instant::now() < until, "PgBouncer does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Pooler { child, port, _folder: folder })
    }

    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

/// A server whose role sees all that depends on settings otherwise than this program needs it.
fn odd_server() -> Option<PgServer> {
    let server = PgServer::start(&["fsync=off"])?;
    server.psql(
        "postgres",
        "CREATE TABLE t (id int PRIMARY KEY, i interval[], b bytea[], f float8[], z timestamptz[], d date[], \
            c regclass, x text); \
         INSERT INTO t VALUES (1, array['1 day 02:03:04'::interval], array['\\x00ff'::bytea], \
            array[0.1::float8 + 0.2::float8], array['2020-01-01 00:00:00+00'::timestamptz], array['2020-02-01'::date], \
            't'::regclass, 'ü'); \
         ALTER ROLE postgres SET intervalstyle = 'iso_8601'; ALTER ROLE postgres SET bytea_output = 'escape'; \
         ALTER ROLE postgres SET extra_float_digits = -10; ALTER ROLE postgres SET timezone = 'Asia/Kathmandu'; \
         ALTER ROLE postgres SET datestyle = 'German, DMY'; ALTER ROLE postgres SET quote_all_identifiers = on; \
         ALTER DATABASE postgres SET xmloption = 'document'; ALTER ROLE postgres SET standard_conforming_strings = off; \
         ALTER ROLE postgres SET search_path = 'public'; ALTER ROLE postgres SET client_encoding = 'LATIN1'",
    );
    Some(server)
}

/// The row as the server's own COPY has it in a session with every setting at its default.
fn truth(server: &PgServer) -> String {
    let defaults = ["datestyle", "intervalstyle", "bytea_output", "extra_float_digits", "quote_all_identifiers"];
    let reset: Vec<String> = defaults
        .iter()
        .map(|name| {
            format!("SELECT set_config('{name}', boot_val, false) FROM pg_settings WHERE lower(name) = '{name}'")
        })
        .collect();
    let sql = format!(
        "SET client_encoding = 'UTF8'; {}; SET datestyle = 'ISO'; SET timezone = 'UTC'; SET search_path = pg_catalog; \
         COPY (SELECT * FROM public.t) TO STDOUT (FORMAT csv)",
        reset.join("; ")
    );
    server.psql("postgres", &sql).lines().last().unwrap_or_default().to_owned() + "\n"
}

#[test]
fn a_role_or_a_pooler_that_changes_or_drops_settings_changes_no_value() {
    let Some(server) = odd_server() else { return };
    let wanted = truth(&server);
    assert!(wanted.contains("0.30000000000000004") && wanted.contains("public.t") && wanted.contains('ü'), "{wanted}");
    let folder = folder();
    let mut urls = vec![server.url("postgres"), server.socket_url("postgres")];
    let ignored = "ignore_startup_parameters = extra_float_digits,IntervalStyle,bytea_output,search_path,options";
    // Without the list, a pooler refuses every startup parameter that it does not know.
    let poolers = ["", ignored].map(|more| Pooler::start(&server, "session", more));
    urls.extend(poolers.iter().flatten().map(Pooler::url));
    for url in urls {
        let warehouse = load(&url, "t", folder.path(), &["--readers", "2"]).unwrap();
        assert_same(&dumped(&warehouse, "t"), &wanted);
        // A setting that the user asks for comes through as well.
        let by_role = format!("{url}{}options=-c%20role%3Dnobody", if url.contains('?') { '&' } else { '?' });
        let (code, said) = load(&by_role, "t", folder.path(), &[]).unwrap_err();
        assert!(code == Some(1) && said.contains("nobody"), "{said}");
    }
}

#[test]
fn the_replication_stream_has_the_text_of_a_load() {
    let Some(server) = odd_server() else { return };
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut attach = Command::new(env!("CARGO_BIN_EXE_freshbench"));
    attach.args(["-q", "attach", "--source", &server.url("postgres"), "--tables", "t", "--strategy", "cdc-log"]);
    attach.args(["--warehouse", &path("warehouse"), "--out", &path("out"), "--duration", "4s"]);
    let attach = attach.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    let follows = "SELECT count(*) FROM pg_replication_slots WHERE active AND NOT temporary";
    while server.psql("postgres", follows) != "1\n" {
        assert!(Instant::now() < until, "it does not follow");
        std::thread::sleep(Duration::from_millis(50));
    }
    // The row that was loaded is replaced by the same one, from the log.
    server.psql(
        "postgres",
        "DELETE FROM t; INSERT INTO t VALUES (1, \
        array['1 day 02:03:04'::interval], array[E'\\\\x00ff'::bytea], array[0.1::float8 + 0.2::float8], \
        array['2020-01-01 00:00:00+00'::timestamptz], array['2020-02-01'::date], 't'::regclass, 'changed')",
    );
    let ran = attach.wait_with_output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    let wanted = truth(&server);
    assert!(wanted.contains("changed"), "{wanted}");
    assert_same(&dumped(std::path::Path::new(&path("warehouse")), "t"), &wanted);
}

#[test]
fn a_pooler_that_shares_sessions_is_refused_and_its_sessions_are_left_as_they_were() {
    let Some(server) = odd_server() else { return };
    let folder = folder();
    for (mode, more) in
        [("transaction", ""), ("transaction", "server_round_robin = 1\nmin_pool_size = 3"), ("statement", "")]
    {
        let Some(pooler) = Pooler::start(&server, mode, more) else { return };
        for arguments in [&["--readers", "1"], &["--readers", "3"]] {
            let (code, said) = load(&pooler.url(), "t", folder.path(), arguments).unwrap_err();
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains("pool_mode = session") && said.lines().count() == 1, "{said}");
        }
        // Whoever shares them finds the settings of their own.
        let mut psql = server.program("psql");
        psql.args(["-X", "-A", "-t", "-d", &pooler.url(), "-c", "SHOW search_path"]);
        let shown = psql.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&shown.stdout), "public\n", "{}", String::from_utf8_lossy(&shown.stderr));
    }
}

#[test]
fn a_pooler_without_replication_is_named_before_anything_is_made() {
    let Some(server) = odd_server() else { return };
    for more in ["", "ignore_startup_parameters = replication"] {
        let folder = folder();
        let Some(pooler) = Pooler::start(&server, "session", more) else { return };
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (warehouse, out) = (path("warehouse"), path("out"));
        let ran = freshbench(&[
            "attach",
            "--source",
            &pooler.url(),
            "--tables",
            "t",
            "--strategy",
            "cdc-log",
            "--warehouse",
            &warehouse,
            "--out",
            &out,
            "--duration",
            "1s",
        ]);
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(matches!(ran.status.code(), Some(1 | 2)) && said.contains("name the server itself"), "{said}");
        let left = "SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_replication_slots)";
        assert_eq!(server.psql("postgres", left), "0\n");
        // The doctor says so beforehand.
        let ran = freshbench(&["doctor", "--source", &pooler.url(), "--tables", "t"]);
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(said.contains("pooler") && said.contains("name the server itself"), "{said}");
    }
}

#[test]
fn timeouts_of_the_role_end_no_session() {
    let Some(server) = PgServer::start(&["fsync=off"]) else { return };
    server.psql(
        "postgres",
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000); \
         CREATE ROLE hasty LOGIN SUPERUSER; ALTER ROLE hasty SET idle_session_timeout = '150ms'; \
         ALTER ROLE hasty SET idle_in_transaction_session_timeout = '150ms'; \
         ALTER ROLE hasty SET statement_timeout = '150ms'; ALTER ROLE hasty SET lock_timeout = '150ms'; \
         ALTER DATABASE postgres SET tcp_user_timeout = '150ms'",
    );
    // They do end others.
    let url = server.url("postgres").replace("postgres@", "hasty@");
    let mut psql = server.program("psql");
    psql.args(["-X", "-d", &url, "-c", "SELECT pg_sleep(3)"]);
    assert!(!psql.output().unwrap().status.success());
    for strategy in ["cdc-log", "cdc-trigger", "full-refresh"] {
        let folder = folder();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (warehouse, out) = (path("warehouse"), path("out"));
        let ran = freshbench(&[
            "-q",
            "attach",
            "--source",
            &url,
            "--tables",
            "t",
            "--strategy",
            strategy,
            "--warehouse",
            &warehouse,
            "--out",
            &out,
            "--duration",
            "1500ms",
        ]);
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert_eq!(ran.status.code(), Some(0), "{strategy}: {said}");
        let ended = "SELECT sessions_fatal + sessions_killed FROM pg_stat_database WHERE datname = 'postgres'";
        assert_eq!(server.psql("postgres", ended), "0\n", "{strategy}: {said}");
    }
}
