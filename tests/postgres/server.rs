//! A real PostgreSQL server, started for the test alone and ended with the value.

use freshbench::source::postgres::PgOptions;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Debian's `nobody`: a server refuses to run as root.
const NOBODY: u32 = 65_534;

/// A server on a free port of 127.0.0.1 and on a socket in a folder of its own. The superuser is `postgres`.
#[derive(Debug)]
pub struct PgServer {
    child: Child,
    bin: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    settings: Vec<String>,
}

impl Drop for PgServer {
    fn drop(&mut self) {
        self.stop("immediate");
    }
}

impl PgServer {
    /// `None`, said loudly, when no server is installed and none is required.
    pub fn start(settings: &[&str]) -> Option<PgServer> {
        PgServer::prepare(settings, |_| {})
    }

    /// As [`PgServer::start`]; `prepare` may put files (certificates, `pg_hba.conf`) into the data folder first.
    pub fn prepare(settings: &[&str], prepare: impl Fn(&Path)) -> Option<PgServer> {
        let Some(bin) = bin_folder() else {
            assert!(
                std::env::var_os("FRESHBENCH_REQUIRE_SERVICES").is_none(),
                "PostgreSQL is required and not installed: apt-get install postgresql"
            );
            eprintln!("SKIPPED: PostgreSQL is not installed; apt-get install postgresql");
            return None;
        };
        let mut dir = tempfile::tempdir().expect("a folder");
        let data = dir.path().join("data");
        own(dir.path());
        let mut initdb = as_user(&bin.join("initdb"));
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let made = initdb.current_dir(dir.path()).output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        prepare(&data);
        for entry in fs::read_dir(&data).expect("the data folder").flatten() {
            own(&entry.path());
        }
        // Another process may take the port between here and the server's start; then another one is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
            let settings: Vec<String> = settings.iter().map(|setting| (*setting).to_owned()).collect();
            let child = spawn(&bin, dir.path(), port, &settings);
            let mut server = PgServer { child, bin: bin.clone(), dir, port, settings };
            if server.answers() {
                return Some(server);
            }
            server.stop("immediate");
            dir = std::mem::replace(&mut server.dir, tempfile::tempdir().expect("a folder"));
        }
        panic!("PostgreSQL does not answer");
    }

    fn answers(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if self.child.try_wait().expect("its state").is_some() {
                return false;
            }
            if self.options("postgres").connect().is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Stops the server in a mode of `pg_ctl` (smart, fast, immediate) and waits for its end.
    pub fn stop(&mut self, mode: &str) {
        let mut stop = as_user(&self.bin.join("pg_ctl"));
        stop.arg("-D").arg(self.dir.path().join("data")).args(["-s", "-w", "-m", mode, "stop"]);
        let _ = stop.current_dir(self.dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts a stopped server again, on the same data and port.
    pub fn start_again(&mut self) {
        // Its port, or its shared memory, may be in use for a moment yet.
        for _ in 0..20 {
            self.child = spawn(&self.bin, self.dir.path(), self.port, &self.settings);
            if self.answers() {
                return;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        let log = fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(10).collect();
        panic!("PostgreSQL does not answer again:\n{}", tail.join("\n"));
    }

    /// A URL for the superuser and this database, over TCP.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A URL over the socket.
    pub fn socket_url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&port={}&user=postgres", self.dir.path().display(), self.port)
    }

    /// What [`PgServer::url`] says.
    pub fn options(&self, database: &str) -> PgOptions {
        PgOptions::parse_in(&self.url(database), &|_| None).expect("a URL")
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// One of the server's programs, as psql or pgbench, aimed at the server as the superuser.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGUSER", "postgres");
        command
    }

    /// Runs SQL by psql, stopping at the first error, and gives its output unaligned.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        let mut psql = self.program("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]);
        let ran = psql.output().expect("psql runs");
        assert!(ran.status.success(), "psql: {}\n{sql}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("UTF-8")
    }
}

fn spawn(bin: &Path, dir: &Path, port: u16, settings: &[String]) -> Child {
    let mut command = as_user(&bin.join("postgres"));
    command.arg("-D").arg(dir.join("data")).args(["-p", &port.to_string(), "-k"]).arg(dir);
    let defaults = [
        "listen_addresses=127.0.0.1",
        "wal_level=logical",
        "max_replication_slots=32",
        "max_wal_senders=32",
        "max_connections=200",
    ];
    for setting in defaults.into_iter().chain(settings.iter().map(String::as_str)) {
        command.args(["-c", setting]);
    }
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("server.log")).expect("a log");
    command.current_dir(dir).stdout(Stdio::null()).stderr(log).spawn().expect("postgres runs")
}

/// A command that runs as a normal user, also when the test runs as root.
fn as_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn own(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("the server's own file");
    }
}

/// `FRESHBENCH_PG_BIN`, else Debian's newest, else where PATH has `initdb`.
fn bin_folder() -> Option<PathBuf> {
    let has = |folder: &PathBuf| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    if let Some(folder) = std::env::var_os("FRESHBENCH_PG_BIN").map(PathBuf::from) {
        return Some(folder).filter(has);
    }
    let version = |folder: &PathBuf| -> u32 {
        let name = folder.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        name.and_then(|name| name.parse().ok()).unwrap_or(0)
    };
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = debian.map(|entry| entry.path().join("bin")).filter(has).max_by_key(version);
    let path = std::env::var_os("PATH").unwrap_or_default();
    newest.or_else(|| std::env::split_paths(&path).find(has))
}
